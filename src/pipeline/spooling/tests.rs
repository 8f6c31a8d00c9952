//! A pipeline between a made-up spool and a made-up forwarder.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::{self, Acknowledge, Compression, Durability, Source, SpoolFull, SpoolSync};
use crate::spool;

use super::super::{Pipeline, WhenFull};
use super::*;
use fake::{Condition, Fake};
use rig::Rig;

mod fake;
mod random;
mod rig;

const KIB: usize = 1024;

const NEWEST_FIRST: config::Order = config::Order::NewestFirst { backlog_share: 25 };

/// Everything that was offered went through memory: the disk was only looked at.
#[test]
fn a_lane_with_nothing_on_the_disk_goes_direct_and_stays_so() {
    let mut rig = Rig::new(Durability::Overflow, 1);
    rig.flow(true);
    rig.offer(0, 3, KIB);
    assert_eq!(rig.sendable(), 0, "it may have something older on the disk");
    rig.exchange();
    assert_eq!(rig.take(usize::MAX), 3);
    rig.offer(0, 300, KIB);
    assert_eq!(rig.take(usize::MAX), 300);
    rig.release_all();
    rig.exchange();
    assert_eq!(rig.fake.commands.appends, 0);
    rig.check_ledger();
}

#[test]
fn order_holds_from_memory_to_the_disk_and_back() {
    let mut rig = Rig::new(Durability::Overflow, 1);
    rig.exchange();
    // Nobody takes anything: memory fills, the disk takes the rest.
    rig.fill(0, 6000, KIB);
    rig.exchange();
    assert!(rig.fake.on_disk() > 4000, "{}", rig.fake.on_disk());
    assert!(rig.pipeline.queues[0].has_backlog());
    rig.check_ledger();
    rig.flow(true);
    rig.drain();
    rig.assert_all_delivered();
    assert_eq!(rig.fake.on_disk(), 0, "all of it was released");
    // Live again: nothing goes to the disk any more.
    let appends = rig.fake.commands.appends;
    rig.offer(0, 100, KIB);
    assert_eq!(rig.take(usize::MAX), 100);
    assert_eq!(rig.fake.commands.appends, appends);
}

#[test]
fn what_waits_for_too_long_goes_to_the_disk() {
    let mut rig = Rig::new(Durability::Overflow, 2);
    rig.exchange();
    rig.offer(0, 3, KIB);
    rig.pass(Duration::from_secs(4));
    assert_eq!(rig.fake.on_disk(), 0);
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.fake.on_disk(), 3);
    // What follows goes behind it, a second later.
    rig.offer(0, 2, KIB);
    rig.exchange();
    assert_eq!(rig.fake.on_disk(), 3);
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.fake.on_disk(), 5);
    rig.check_ledger();
    rig.flow(true);
    rig.drain();
    rig.assert_all_delivered();
}

#[test]
fn a_lane_catches_up_with_a_steady_sender_and_leaves_the_disk() {
    let mut rig = Rig::new(Durability::Overflow, 1);
    rig.exchange();
    rig.fill(0, 4000, KIB);
    rig.flow(true);
    let mut rounds = 0;
    while rig.is_behind(0) {
        rig.offer(0, 100, KIB);
        rig.exchange();
        rig.take(300 * KIB);
        rig.release_all();
        rounds += 1;
        assert!(rounds < 1000, "it goes round the disk for ever");
    }
    rig.check_ledger();
    rig.drain();
    rig.assert_all_delivered();
}

#[test]
fn a_broken_connection_gives_back_what_was_read_and_order_holds() {
    let mut rig = Rig::new(Durability::Overflow, 1);
    rig.exchange();
    rig.fill(0, 5000, KIB);
    rig.flow(true);
    for _ in 0..20 {
        rig.exchange();
        rig.take(200 * KIB);
        rig.offer(0, 30, KIB);
    }
    rig.break_connection();
    rig.pass(Duration::from_secs(6));
    rig.check_ledger();
    assert!(rig.fake.on_disk() > 5000);
    rig.flow(true);
    rig.drain();
    rig.assert_all_delivered();
    assert_eq!(rig.fake.on_disk(), 0);
}

/// What is acknowledged once it is stored must not wait in memory for a reason to be.
#[test]
fn a_lane_is_stored_always_where_a_sender_may_wait_for_that() {
    let yaml = "inputs:\n  lan: {listen: 'tcp://127.0.0.1:1'}\n  relay: {listen: 'relp+tcp://127.0.0.1:2'}\n\
                outputs: {o: {to: 'tcp://127.0.0.1:3'}}\nspool: {dir: /nonexistent}\nroutes:\n\
                - {name: lan, input: lan, template: '%msg%', output: o}\n\
                - {name: both, input: [lan, relay], program: a, template: '%msg%', output: o}\n\
                - {name: all, template: '%msg%', output: o}\n";
    let source = Source::Text { name: "test".into(), text: yaml.to_owned() };
    let mut config = config::load(&source, &|_| None).unwrap().config;
    let of_each = |config: &config::Config| -> Vec<Durability> {
        (0..3).map(|route| super::super::layout::durability_of(config, route)).collect()
    };
    assert_eq!(of_each(&config), [Durability::Overflow, Durability::Always, Durability::Always]);
    config.inputs[1].acknowledge = Acknowledge::Released;
    assert_eq!(of_each(&config), [Durability::Overflow; 3]);
}

#[test]
fn always_means_that_nothing_is_sent_before_it_is_stored() {
    let mut rig = Rig::new(Durability::Always, 1);
    rig.flow(true);
    rig.exchange();
    rig.offer(0, 200, KIB);
    assert_eq!(rig.take(usize::MAX), 0);
    rig.fake.serve(usize::MAX);
    rig.pipeline.spool_answers();
    let whole = rig.take(usize::MAX);
    assert!((64..200).contains(&whole), "{whole}: whole batches only");
    rig.pipeline.seal_lingering();
    rig.exchange();
    assert_eq!(whole + rig.take(usize::MAX), 200);
    assert_eq!((rig.fake.on_disk(), rig.fake.commands.reads), (200, 1), "sent from memory");
    rig.check_ledger();
    rig.release_all();
    rig.exchange();
    assert_eq!(rig.fake.on_disk(), 0);
    rig.assert_all_delivered();
}

#[test]
fn always_goes_behind_the_disk_when_memory_is_short() {
    let mut rig = Rig::new(Durability::Always, 1);
    rig.exchange();
    rig.fill(0, 6000, KIB);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.fake.on_disk(), 6000);
    rig.check_ledger();
    rig.flow(true);
    rig.drain();
    rig.assert_all_delivered();
    assert!(!rig.is_behind(0));
}

#[test]
fn a_full_spool_makes_senders_wait_and_goes_on_when_there_is_room() {
    for durability in [Durability::Overflow, Durability::Always] {
        let mut rig = Rig::new(durability, 1);
        rig.exchange();
        rig.fill(0, 3000, KIB);
        rig.fake.condition = Condition::Full;
        let taken = rig.fill(0, 5000, KIB);
        assert!((500..5000).contains(&taken), "{taken}");
        rig.pass(Duration::from_secs(7));
        rig.check_ledger();
        rig.fake.condition = Condition::Works;
        rig.pass(Duration::from_millis(200));
        assert_eq!(rig.fill(0, 500, KIB), 500);
        rig.flow(true);
        rig.drain();
        rig.assert_all_delivered();
    }
}

#[test]
fn a_failing_spool_is_gone_round_and_used_again_when_it_is_back() {
    for durability in [Durability::Overflow, Durability::Always] {
        let mut rig = Rig::new(durability, 1);
        rig.is_strict = false;
        rig.exchange();
        rig.fake.condition = Condition::Failing;
        rig.flow(true);
        for _ in 0..50 {
            rig.offer(0, 50, KIB);
            rig.pass(Duration::from_millis(100));
            rig.take(usize::MAX);
            rig.release_all();
        }
        rig.pass(Duration::from_secs(1));
        rig.take(usize::MAX);
        rig.assert_all_delivered();
        assert_eq!(rig.fake.on_disk(), 0);
        rig.check_ledger();
        rig.flow(false);
        rig.fake.condition = Condition::Works;
        rig.fill(0, 5000, KIB);
        rig.pass(Duration::from_secs(2));
        rig.fill(0, 3000, KIB);
        rig.pass(Duration::from_secs(2));
        assert!(rig.fake.on_disk() > 1000, "{}", rig.fake.on_disk());
        rig.flow(true);
        rig.drain();
        rig.assert_all_delivered();
    }
}

#[test]
fn a_spool_that_never_answers_holds_nobody_up() {
    for durability in [Durability::Overflow, Durability::Always] {
        let mut rig = Rig::new(durability, 1);
        rig.is_strict = false;
        rig.fake.condition = Condition::Silent;
        rig.flow(true);
        rig.offer(0, 100, KIB);
        rig.pass(Duration::from_secs(4));
        assert_eq!(rig.take(usize::MAX), 0);
        rig.pass(Duration::from_secs(2));
        assert_eq!(rig.take(usize::MAX), 100);
        rig.offer(0, 100, KIB);
        assert_eq!(rig.take(usize::MAX), 100);
        rig.check_ledger();
        // Late answers are taken as they are.
        rig.fake.condition = Condition::Works;
        rig.drain();
        rig.assert_all_delivered();
        assert!(!rig.is_behind(0));
    }
}

#[test]
fn what_a_spool_that_hangs_has_not_begun_with_is_sent_from_memory() {
    let mut rig = Rig::new(Durability::Overflow, 1);
    rig.is_strict = false;
    rig.exchange();
    rig.fake.condition = Condition::Silent;
    // More than memory holds: a part is on its way when the connection is back.
    let taken = rig.offer(0, 2_000, KIB);
    assert!(rig.pipeline.spooling.as_ref().unwrap().port.outstanding() > 0);
    rig.flow(true);
    rig.pass(Duration::from_secs(6));
    assert_eq!(rig.take(usize::MAX), taken);
    rig.check_ledger();
    rig.fake.condition = Condition::Works;
    rig.pass(Duration::from_secs(2));
    assert!(!rig.is_behind(0), "it uses the spool again");
    rig.offer(0, 2_000, KIB);
    rig.drain();
    rig.assert_all_delivered();
}

#[test]
fn new_messages_go_before_the_backlog_where_they_are_to_and_leave_it_its_share() {
    // By writes of any size: smaller than a batch, and larger.
    for bytes in [1, 64 * KIB, 256 * KIB, 600 * KIB] {
        let mut rig = Rig::in_order(Durability::Overflow, 1, NEWEST_FIRST);
        rig.is_strict = false;
        rig.exchange();
        let before = rig.fill(0, 5000, KIB) as u64;
        rig.exchange();
        assert!(before == 5000 && rig.fake.on_disk() > 4000, "{before}, {}", rig.fake.on_disk());
        rig.flow(true);
        rig.exchange();
        // More new ones than leave: three quarters of what does are such.
        while rig.delivered[0].len() < 3_000 {
            rig.offer(0, 200.max(2 * bytes / KIB), KIB);
            rig.take(bytes);
            rig.release_all();
            rig.exchange();
        }
        let (sent, new) = (rig.delivered[0].len(), rig.delivered[0].iter().filter(|id| **id >= before).count());
        let share = new * 100 / sent;
        assert!((60..=90).contains(&share), "{share}% of {sent} by {bytes}");
        rig.check_ledger();
        rig.drain();
        rig.assert_all_delivered();
        assert_eq!(rig.fake.on_disk(), 0);
    }
}

#[test]
fn new_messages_wait_for_memory_when_the_disk_takes_no_more_though_they_would_go_first() {
    let mut rig = Rig::in_order(Durability::Overflow, 1, NEWEST_FIRST);
    rig.is_strict = false;
    rig.exchange();
    rig.fake.condition = Condition::Full;
    let taken = rig.fill(0, 100_000, KIB);
    assert!(taken < 5_000, "{taken} of 2 MiB of memory");
    rig.fake.condition = Condition::Works;
    rig.flow(true);
    rig.drain();
    rig.assert_all_delivered();
}

#[test]
fn what_is_to_be_read_again_while_the_disk_hangs_is_read_when_it_is_back() {
    let mut rig = Rig::new(Durability::Overflow, 1);
    rig.is_strict = false;
    rig.exchange();
    rig.fill(0, 5000, KIB);
    rig.flow(true);
    for _ in 0..200 {
        rig.take(256 * KIB);
        rig.acknowledge(usize::MAX);
        rig.pass(SPOOL_TICK);
        rig.exchange();
    }
    assert!(!rig.is_behind(0));
    // All of it was sent, and its window is on the disk. The disk hangs, with something to answer for, and the connection
    // breaks.
    rig.fake.condition = Condition::Silent;
    rig.flow(false);
    rig.offer(0, 3_000, KIB);
    rig.pass(Duration::from_secs(6));
    rig.break_connection();
    rig.fake.condition = Condition::Works;
    rig.flow(true);
    rig.drain();
    rig.assert_all_delivered();
    assert_eq!(rig.fake.on_disk(), 0);
}

#[test]
fn a_disk_that_cannot_be_read_is_asked_again() {
    let mut rig = Rig::new(Durability::Overflow, 1);
    rig.is_strict = false;
    rig.fake.leave(0, 5);
    rig.fake.condition = Condition::Unreadable;
    rig.flow(true);
    rig.offer(0, 10, KIB);
    rig.exchange();
    assert_eq!(rig.take(usize::MAX), 10);
    rig.fake.condition = Condition::Works;
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.take(usize::MAX), 5);
    rig.check_ledger();
}

#[test]
fn what_earlier_runs_left_goes_first_even_when_it_must_wait() {
    let mut rig = Rig::new(Durability::Overflow, 1);
    rig.fake.leave(0, 5);
    rig.fake.condition = Condition::Later;
    rig.flow(true);
    rig.offer(0, 10, KIB);
    rig.pass(Duration::from_secs(3));
    assert_eq!((rig.take(usize::MAX), rig.fake.on_disk()), (0, 15));
    assert!(!rig.pipeline.queues[0].has_backlog(), "a connection would bring nothing");
    rig.fake.condition = Condition::Works;
    rig.fake.resume(0);
    rig.drain();
    assert_eq!(rig.delivered[0].first(), Some(&fake::LEFT));
    rig.check_ledger();
    assert_eq!(rig.fake.on_disk(), 0);
}

#[test]
fn a_lane_without_connection_reads_one_batch_and_no_more() {
    let mut rig = Rig::new(Durability::Overflow, 3);
    for lane in 0..3 {
        rig.fake.leave(lane, 50);
    }
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.fake.commands.reads, 3);
    assert!(rig.pipeline.queues[0].has_backlog());
    rig.flow(true);
    rig.exchange();
    assert!(rig.fake.commands.reads <= 3 + READS_MAX, "{}", rig.fake.commands.reads);
}

#[test]
fn a_stop_puts_all_that_memory_holds_onto_the_disk() {
    for durability in [Durability::Overflow, Durability::Always] {
        let mut rig = Rig::new(durability, 2);
        rig.exchange();
        rig.fill(0, 2500, KIB);
        rig.flow(true);
        rig.exchange();
        rig.take(500 * KIB);
        rig.offer(1, 10, KIB);
        rig.pipeline.close_spool();
        rig.leave_flight();
        rig.flow(false);
        rig.pipeline.empty_into_spool();
        let mut rounds = 0;
        while !rig.pipeline.is_spooled() {
            rig.exchange();
            rounds += 1;
            assert!(rounds < 100);
        }
        assert_eq!(rig.pipeline.drop_all_waiting(), 0);
        assert_eq!(rig.fake.on_disk(), 2510);
        rig.check_ledger();
        let meters = &rig.pipeline.meters().routes;
        assert_eq!(meters.iter().map(|route| route.spooled.value()).sum::<u64>(), 2510);
    }
}

#[test]
fn a_stop_counts_what_the_spool_does_not_take_as_dropped() {
    let mut rig = Rig::new(Durability::Overflow, 1);
    rig.exchange();
    rig.fake.condition = Condition::Full;
    rig.offer(0, 300, KIB);
    rig.pipeline.close_spool();
    rig.pipeline.empty_into_spool();
    for _ in 0..5 {
        rig.pass(Duration::from_millis(100));
    }
    assert!(!rig.pipeline.is_spooled());
    assert_eq!(rig.pipeline.drop_all_waiting(), 300);
    assert_eq!(rig.pipeline.meters().routes[0].dropped_shutdown.value(), 300);
    rig.check_ledger();
}

#[test]
fn a_spool_that_ends_leaves_its_lanes_in_memory() {
    let mut rig = Rig::new(Durability::Always, 1);
    rig.is_strict = false;
    rig.flow(true);
    rig.exchange();
    rig.offer(0, 200, KIB);
    let lost = rig.pipeline.meters().routes[0].waiting.value();
    rig.fake = Fake::new(spool::ports(1).1);
    rig.pass(Duration::from_millis(100));
    let taken = rig.take(usize::MAX);
    let dropped = rig.pipeline.meters().routes[0].dropped_spool_damaged.value();
    assert_eq!(taken as u64 + dropped, lost);
    assert!(taken > 0 && dropped > 0);
    rig.check_ledger();
    assert!(!rig.pipeline.can_spool() && rig.pipeline.is_spooled());
}

#[test]
fn releases_wait_for_room_and_are_never_lost() {
    let mut rig = Rig::new(Durability::Always, 1);
    rig.flow(true);
    rig.exchange();
    rig.offer(0, 200, KIB);
    rig.pipeline.seal_lingering();
    rig.exchange();
    assert_eq!(rig.take(usize::MAX), 200);
    let clogged = rig.fake.clog(&rig.pipeline);
    rig.release_all();
    assert_eq!(rig.fake.on_disk(), 200);
    assert!(clogged > 0);
    rig.exchange();
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.fake.on_disk(), 0);
}
