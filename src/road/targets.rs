//! Which of an output's targets a connection goes to, and when it goes to another. Only decides: told what happened, and
//! what time it is.
//!
//! Each connection has an order of preference: with failover the configured one, when balanced one that begins with a
//! target of its own, so that connections spread, also those of a target that is down over the others. It goes
//! to the first that is well. A target is unwell once it could not be connected to, or a connection broke early; well
//! again when a connection to it has lasted, or when it has answered probes for a while.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Mode, Output, Target};

/// How often a connection looks whether it may go back, and how often a target is probed: within these bounds, whatever
/// `prefer_after` says.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
const PROBE_EVERY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// For how long an unwell target is left alone: at first, and at most; doubled with each failure.
const LEFT_ALONE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// An output's targets. Shared by all its connections; touched when one is made, breaks, or looks around.
#[derive(Debug)]
pub struct Targets {
    list: Vec<Target>,
    fallback: Vec<IpAddr>,
    is_balanced: bool,
    prefer_after: Duration,
    enrolled: AtomicUsize,
    state: Mutex<Vec<Health>>,
}

/// How a target is; nothing is wrong with it by default.
#[derive(Debug, Default)]
struct Health {
    failures: u32,
    unwell: Option<Unwell>,
}

#[derive(Debug)]
struct Unwell {
    /// Not to be tried before.
    retry_at: Instant,
    /// Since when all probes succeed.
    answers_since: Option<Instant>,
    probed_at: Option<Instant>,
}

/// How much a target asks to be tried, the least first: what has been left alone for long is as good as well, because
/// nobody may be connected who could probe it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Well,
    Maybe,
    Unwell(Instant),
}

impl Targets {
    /// All taken to be well. Balanced, or in the order of their preference. Connections go to `fallback` while the name of
    /// their target has no address, old or new.
    pub fn new(list: Vec<Target>, fallback: Vec<IpAddr>, mode: Mode, prefer_after: Duration) -> Self {
        let state = list.iter().map(|_| Health::default()).collect();
        let (is_balanced, enrolled) = (mode == Mode::Balance, AtomicUsize::new(0));
        Self { list, fallback, is_balanced, prefer_after, enrolled, state: Mutex::new(state) }
    }

    /// What the configuration says of `output`.
    pub fn of(output: &Output) -> Self {
        Self::new(output.targets.clone(), output.fallback_addresses.clone(), output.mode, output.prefer_after)
    }

    /// The `index`th.
    pub fn get(&self, index: usize) -> Option<&Target> {
        self.list.get(index)
    }

    /// Addresses for a name that has none.
    pub fn fallback(&self) -> &[IpAddr] {
        &self.fallback
    }

    /// A number for one more connection: the next one's when balanced.
    pub fn enroll(&self) -> usize {
        self.enrolled.fetch_add(1, Relaxed)
    }

    /// How often a connection that is not to its preferred target looks around.
    pub fn look_every(&self) -> Duration {
        (self.prefer_after / 15).clamp(LOOK_EVERY.0, LOOK_EVERY.1)
    }

    fn state(&self) -> MutexGuard<'_, Vec<Health>> {
        // Each change is one assignment: what a panic left is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `place`th target in the order of connection `number`.
    fn at(&self, number: usize, place: usize, count: usize) -> usize {
        if !self.is_balanced {
            return place;
        }
        let (first, others) = (number % count, count - 1);
        // The others begin with a different one each round, so that they share what the first leaves.
        let step = if place == 0 { 0 } else { 1 + (place - 1 + number / count) % others };
        (first + step) % count
    }

    /// Where connection `number` goes now: the first of its order that is well, or else that one which has waited
    /// longest.
    pub fn pick(&self, number: usize, now: Instant) -> usize {
        let state = self.state();
        let order = (0..state.len()).map(|place| self.at(number, place, state.len()));
        let best = order.min_by_key(|target| state.get(*target).map(|health| self.rank(health, now)));
        best.unwrap_or(0)
    }

    fn rank(&self, health: &Health, now: Instant) -> Rank {
        match &health.unwell {
            None => Rank::Well,
            Some(unwell) if unwell.retry_at + self.prefer_after <= now => Rank::Well,
            Some(unwell) if unwell.retry_at <= now => Rank::Maybe,
            Some(unwell) => Rank::Unwell(unwell.retry_at),
        }
    }

    /// Whether there is a choice at all.
    pub fn are_several(&self) -> bool {
        self.list.len() > 1
    }

    /// Whether there is a target that need not be left alone now.
    pub fn is_any_ready(&self, now: Instant) -> bool {
        self.state().iter().any(|health| self.rank(health, now) < Rank::Unwell(now))
    }

    /// It could not be connected to, or the connection broke early.
    pub fn failed(&self, target: usize, now: Instant) {
        if let Some(health) = self.state().get_mut(target) {
            let doubled = LEFT_ALONE.0 * 2_u32.pow(health.failures.min(10));
            health.failures = health.failures.saturating_add(1);
            let retry_at = now + doubled.min(LEFT_ALONE.1);
            health.unwell = Some(Unwell { retry_at, answers_since: None, probed_at: None });
        }
    }

    /// A connection to it has lasted.
    pub fn works(&self, target: usize) {
        if let Some(health) = self.state().get_mut(target) {
            *health = Health::default();
        }
    }

    /// Whether connection `number`, to `current`, has a better place to be.
    pub fn has_better(&self, number: usize, current: usize) -> bool {
        let state = self.state();
        let mut before = self.before(number, current, state.len());
        before.any(|target| state.get(target).is_some_and(|health| health.unwell.is_none()))
    }

    /// The target that connection `number`, to `current`, is to probe now. Whoever asks first does it for all.
    pub fn probe(&self, number: usize, current: usize, now: Instant) -> Option<usize> {
        let mut state = self.state();
        let every = (self.prefer_after / 3).clamp(PROBE_EVERY.0, PROBE_EVERY.1);
        for target in self.before(number, current, state.len()) {
            if let Some(unwell) = state.get_mut(target).and_then(|health| health.unwell.as_mut())
                && unwell.retry_at <= now
                && unwell.probed_at.is_none_or(|at| at + every <= now)
            {
                unwell.probed_at = Some(now);
                return Some(target);
            }
        }
        None
    }

    /// What came of a probe.
    pub fn probed(&self, target: usize, answers: bool, now: Instant) {
        if !answers {
            self.failed(target, now);
            return;
        }
        let mut state = self.state();
        let Some(health) = state.get_mut(target) else { return };
        let Some(unwell) = &mut health.unwell else { return };
        let since = *unwell.answers_since.get_or_insert(now);
        if since + self.prefer_after <= now {
            // Well, but on probation: one that answers and then takes nothing is left alone for longer each time.
            health.unwell = None;
        }
    }

    /// What connection `number` prefers to `current`, the best first.
    fn before(&self, number: usize, current: usize, count: usize) -> impl Iterator<Item = usize> {
        (0..count).map(move |place| self.at(number, place, count)).take_while(move |target| *target != current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(count: usize, is_balanced: bool) -> Targets {
        let target = Target { host: "a.example".into(), port: 514, path: String::new() };
        let mode = if is_balanced { Mode::Balance } else { Mode::Failover };
        Targets::new(vec![target; count], Vec::new(), mode, SECOND * 30)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn failover_goes_to_the_first_that_is_well() {
        let (targets, now) = (targets(3, false), Instant::now());
        for number in 0..4 {
            assert_eq!(targets.pick(number, now), 0);
        }
        targets.failed(0, now);
        assert_eq!(targets.pick(0, now), 1);
        targets.failed(1, now);
        assert_eq!(targets.pick(0, now), 2);
        assert!(targets.is_any_ready(now));
        targets.failed(2, now + SECOND / 2);
        assert!(!targets.is_any_ready(now + SECOND / 2));
        // The one that waits longest, and of equals the preferred.
        assert_eq!(targets.pick(0, now + SECOND / 2), 0);
        targets.failed(0, now + SECOND / 2);
        assert_eq!(targets.pick(0, now + SECOND / 2), 1);
        assert!(targets.is_any_ready(now + SECOND));
        targets.works(2);
        assert_eq!(targets.pick(0, now + SECOND), 2);
    }

    #[test]
    fn a_target_is_left_alone_longer_each_time_and_a_minute_at_most() {
        let (targets, mut now) = (targets(1, false), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..40 {
            targets.failed(0, now);
            let wait = (0..).find(|second| targets.is_any_ready(now + SECOND * *second)).unwrap();
            waits.push(wait);
            now += SECOND * wait;
        }
        assert_eq!(waits[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(waits[8..].iter().all(|wait| *wait == 60));
        targets.works(0);
        targets.failed(0, now);
        assert!(targets.is_any_ready(now + SECOND));
    }

    #[test]
    fn connections_return_after_probes_have_succeeded_for_a_while() {
        let (targets, begin) = (targets(2, false), Instant::now());
        targets.failed(0, begin);
        assert_eq!((targets.pick(0, begin), targets.probe(0, 1, begin)), (1, None));
        let mut now = begin;
        let mut probes = Vec::new();
        while !targets.has_better(0, 1) {
            now += SECOND;
            assert!(now < begin + SECOND * 100);
            // Two connections look around: one of them probes.
            let asked = [targets.probe(0, 1, now), targets.probe(1, 1, now)];
            assert_eq!(asked[1], None);
            if asked[0] == Some(0) {
                probes.push((now - begin).as_secs());
                targets.probed(0, true, now);
                if probes.len() < 4 {
                    // For the time being those that have to connect stay with what works.
                    assert_eq!(targets.pick(2, now), 1);
                }
            }
        }
        assert_eq!(probes, [1, 11, 21, 31]);
        assert_eq!(targets.pick(0, now), 0);
        assert!(!targets.has_better(0, 0));
        assert_eq!(targets.probe(0, 0, now), None);
    }

    #[test]
    fn a_probe_that_fails_begins_the_wait_anew() {
        let (targets, now) = (targets(2, false), Instant::now());
        targets.failed(0, now);
        let mut at = now + SECOND;
        for answers in [true, true, true, false] {
            assert_eq!(targets.probe(0, 1, at), Some(0));
            targets.probed(0, answers, at);
            at += SECOND * 10;
        }
        for _ in 0..3 {
            assert_eq!(targets.probe(0, 1, at), Some(0));
            targets.probed(0, true, at);
            assert!(!targets.has_better(0, 1));
            at += SECOND * 10;
        }
        targets.probed(0, true, at);
        assert!(targets.has_better(0, 1));
    }

    #[test]
    fn a_target_that_answers_probes_and_carries_nothing_is_left_alone_for_longer_each_time() {
        let (targets, mut now) = (targets(2, false), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..4 {
            targets.failed(0, now);
            let wait = (0..).find(|second| targets.probe(0, 1, now + SECOND * *second).is_some()).unwrap();
            waits.push(wait);
            now += SECOND * wait;
            targets.probed(0, true, now);
            now += SECOND * 30;
            targets.probed(0, true, now);
            assert!(targets.has_better(0, 1));
        }
        assert_eq!(waits, [1, 2, 4, 8]);
        // A connection that has lasted ends that.
        targets.works(0);
        targets.failed(0, now);
        assert_eq!(targets.probe(0, 1, now + SECOND), Some(0));
    }

    #[test]
    fn a_target_that_nobody_could_probe_is_tried_again_all_the_same() {
        let (targets, now) = (targets(2, false), Instant::now());
        targets.failed(0, now);
        assert_eq!(targets.pick(0, now + SECOND * 30), 1);
        assert_eq!(targets.pick(0, now + SECOND * 31), 0);
    }

    #[test]
    fn balanced_connections_spread_and_share_what_a_dead_target_leaves() {
        let (targets, now) = (targets(3, true), Instant::now());
        let spread = |now| {
            let mut counts = [0; 3];
            for number in 0..12 {
                counts[targets.pick(number, now)] += 1;
            }
            counts
        };
        assert_eq!([targets.enroll(), targets.enroll()], [0, 1]);
        assert_eq!(spread(now), [4, 4, 4]);
        targets.failed(1, now);
        assert_eq!(spread(now), [6, 0, 6]);
        // Only those that are not at home want to go back.
        targets.works(1);
        assert!(targets.has_better(1, 2) && !targets.has_better(0, 0) && !targets.has_better(2, 2));
        assert_eq!(spread(now), [4, 4, 4]);
    }

    #[test]
    fn every_order_names_every_target_once() {
        for count in 1..6 {
            let targets = targets(count, true);
            for number in 0..40 {
                let mut order: Vec<_> = (0..count).map(|place| targets.at(number, place, count)).collect();
                order.sort_unstable();
                assert_eq!(order, (0..count).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_single_target_is_always_picked() {
        let (targets, now) = (targets(1, true), Instant::now());
        targets.failed(0, now);
        assert_eq!(targets.pick(7, now), 0);
        assert!(!targets.has_better(7, 0));
        assert_eq!(targets.probe(7, 0, now + SECOND * 60), None);
    }
}
