//! Anything in any order: nothing is lost, nothing comes twice but after a break, order holds, and senders
//! are told the truth.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    Offer { lane: usize, count: usize, octets: usize },
    Take(usize),
    Acknowledge(usize),
    Release(usize),
    Flow,
    Break,
    Serve(usize),
    Answers,
    Linger,
    Pass(u64),
    Become(Condition),
    Resume(usize),
    Evict(usize),
    Clog,
}

fn step(conditions: Vec<Condition>) -> impl Strategy<Value = Step> {
    let lane = 0..3_usize;
    prop_oneof![
        6 => (lane.clone(), 1..120_usize, prop_oneof![Just(200), Just(2000), Just(20_000)])
            .prop_map(|(lane, count, octets)| Step::Offer { lane, count, octets }),
        5 => (1..600_usize).prop_map(|kib| Step::Take(kib * KIB)),
        4 => (1..9_usize).prop_map(Step::Acknowledge),
        3 => (1..9_usize).prop_map(Step::Release),
        2 => Just(Step::Flow),
        1 => Just(Step::Break),
        6 => (1..30_usize).prop_map(Step::Serve),
        6 => Just(Step::Answers),
        2 => Just(Step::Linger),
        4 => (1..20_u64).prop_map(Step::Pass),
        1 => proptest::sample::select(conditions).prop_map(Step::Become),
        1 => lane.clone().prop_map(Step::Resume),
        1 => lane.prop_map(Step::Evict),
        1 => Just(Step::Clog),
    ]
}

fn run(durability: Durability, is_strict: bool, steps: &[Step]) {
    let mut rig = Rig::new(durability, 3);
    rig.is_strict = is_strict;
    play(rig, steps);
}

fn play(mut rig: Rig, steps: &[Step]) {
    for step in steps {
        match *step {
            Step::Offer { lane, count, octets } => {
                rig.offer(lane, count, octets);
            }
            // Nobody takes anything without a connection.
            Step::Take(bytes) if rig.is_flowing() => {
                rig.take(bytes);
            }
            Step::Take(_) => {}
            Step::Acknowledge(count) => rig.acknowledge(count),
            Step::Release(count) => rig.release(count),
            Step::Flow => rig.flow(true),
            Step::Break => rig.break_connection(),
            Step::Serve(count) => rig.fake.serve(count),
            Step::Answers => rig.pipeline.spool_answers(),
            Step::Linger => rig.pipeline.seal_lingering(),
            Step::Pass(ticks) => {
                // One answer in all that time: without any, the lanes would go on without the spool, and out of order.
                rig.fake.serve(1);
                rig.tick(ticks);
            }
            Step::Become(condition) => rig.fake.condition = condition,
            Step::Resume(lane) => rig.fake.resume(lane),
            Step::Evict(lane) => rig.fake.evict(lane),
            Step::Clog => {
                rig.fake.clog(&rig.pipeline);
            }
        }
        rig.check_counts();
        rig.check_receipts();
    }
    rig.fake.condition = Condition::Works;
    rig.exchange();
    (0..rig.lanes()).for_each(|lane| rig.fake.resume(lane));
    rig.flow(true);
    rig.drain();
    rig.assert_all_delivered();
    rig.assert_all_told();
    assert_eq!(rig.fake.on_disk(), 0, "all of it was released");
    for lane in 0..rig.lanes() {
        assert!(!rig.is_behind(lane), "lane {lane} is still behind the disk");
    }
    let places = rig.pipeline.spooling.as_ref().unwrap().places.borrow();
    assert!(places.lanes.iter().all(|place| place.transit.is_empty() && place.reading.is_none()), "{:?}", places.lanes);
}

fn strict() -> Vec<Condition> {
    vec![Condition::Works, Condition::Works, Condition::Full, Condition::Newest]
}

fn loose() -> Vec<Condition> {
    vec![
        Condition::Works,
        Condition::Works,
        Condition::Full,
        Condition::Failing,
        Condition::Unreadable,
        Condition::Silent,
        Condition::Later,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn overflow_keeps_order_whatever_comes(steps in vec(step(strict()), 1..250)) {
        run(Durability::Overflow, true, &steps);
    }

    #[test]
    fn always_keeps_order_whatever_comes(steps in vec(step(strict()), 1..250)) {
        run(Durability::Always, true, &steps);
    }

    #[test]
    fn overflow_loses_nothing_to_a_failing_spool(steps in vec(step(loose()), 1..250)) {
        run(Durability::Overflow, false, &steps);
    }

    #[test]
    fn newest_first_loses_nothing_whatever_comes(steps in vec(step(loose()), 1..250)) {
        let mut rig = Rig::in_order(Durability::Overflow, 3, NEWEST_FIRST);
        rig.is_strict = false;
        play(rig, &steps);
    }

    #[test]
    fn always_loses_nothing_to_a_failing_spool(steps in vec(step(loose()), 1..250)) {
        run(Durability::Always, false, &steps);
    }
}

/// The spool passed them over, as they were in memory when it looked.
#[test]
fn what_was_kept_and_forgotten_while_a_read_was_under_way_goes_first() {
    let offer = |lane, count, octets| Step::Offer { lane, count, octets };
    let mut steps = vec![offer(2, 11, 20_000), offer(0, 6, 200), offer(0, 45, 2000), Step::Flow];
    steps.extend([offer(0, 11, 20_000), offer(0, 1, 200), Step::Serve(26)]);
    steps.extend([Step::Pass(3), Step::Pass(8), Step::Pass(17)]);
    steps.extend([offer(0, 61, 20_000), Step::Pass(17), Step::Serve(9), Step::Answers, Step::Serve(29)]);
    run(Durability::Always, true, &steps);
}

/// The spool said that nothing was left, as what was kept and then forgotten was in memory when it looked.
#[test]
fn what_was_forgotten_while_a_read_was_under_way_that_found_nothing_goes_first() {
    let offer = |lane, count, octets| Step::Offer { lane, count, octets };
    let mut steps = vec![Step::Serve(1), Step::Resume(0), offer(0, 1, 200), Step::Break, offer(0, 15, 20_000)];
    steps.extend([Step::Pass(10), Step::Serve(2), Step::Answers, Step::Resume(0), offer(1, 67, 20_000)]);
    steps.extend([Step::Pass(1), Step::Serve(20), Step::Pass(1), offer(0, 31, 2000)]);
    run(Durability::Always, true, &steps);
}
