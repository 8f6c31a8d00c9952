//! How fast a connection may send after a long outage. Only decides: told what was written, and what time it is.
//!
//! After a minute or more every relay of a site has a backlog, and the far end has just started. So each connection
//! begins with 1 MiB/s and doubles that each second, for ten doublings, after which nothing that it could bind is left.
//! The second is a little longer or shorter by chance, so that relays which found the far end at the same moment part.

use std::time::Duration;

use tokio::time::Instant;

/// Octets a second at first.
const FIRST_RATE: f64 = 1024.0 * 1024.0;

/// How often the rate is doubled before there is none: 1 GiB/s.
const DOUBLINGS: f64 = 10.0;

/// What was not used is not saved for longer: seconds.
const CREDIT_S: f64 = 0.25;

/// The time without a connection that works.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Option<Instant>,
}

impl Outage {
    /// A shorter outage is none: restarts, failovers.
    const LONG: Duration = Duration::from_secs(60);

    /// An attempt failed at `now`, or a connection was of no use.
    pub(super) fn goes_on(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// A connection has worked.
    pub(super) fn ended(&mut self) {
        self.since = None;
    }

    /// How to send over a connection that was made at `now`; `None`: as fast as it takes.
    pub(super) fn ramp(&self, now: Instant) -> Option<Ramp> {
        let is_long = now.duration_since(self.since?) >= Self::LONG;
        is_long.then(|| Ramp::new(now, 0.75 + fastrand::f64() / 2.0))
    }
}

/// One connection's growing rate.
#[derive(Debug)]
pub(super) struct Ramp {
    began: Instant,
    /// Seconds in which the rate doubles.
    doubling_s: f64,
    /// Octets written, and what was not used in time.
    spent: f64,
}

impl Ramp {
    /// When the next write may begin; `None` where it may at once, as always in a stop, whose time is short. A ramp that is
    /// over goes.
    pub(super) fn held_until(ramp: &mut Option<Self>, now: Instant, is_stopping: bool) -> Option<Instant> {
        ramp.take_if(|ramp| ramp.is_over(now));
        let until = ramp.as_ref()?.next_write();
        (until > now && !is_stopping).then_some(until)
    }

    /// Octets of one write: small, so that lanes without a backlog are not far behind one that has one.
    pub(super) const WRITE_BYTES: usize = 64 * 1024;

    fn new(began: Instant, doubling_s: f64) -> Self {
        Self { began, doubling_s, spent: 0.0 }
    }

    /// In doublings.
    fn age(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.began).as_secs_f64() / self.doubling_s
    }

    /// Octets that may have been written by then: the rate's integral.
    fn allowed(&self, age: f64) -> f64 {
        FIRST_RATE * self.doubling_s / std::f64::consts::LN_2 * (age.exp2() - 1.0)
    }

    /// Whether it binds no more.
    fn is_over(&self, now: Instant) -> bool {
        self.age(now) >= DOUBLINGS
    }

    /// So many octets were written.
    pub(super) fn wrote(&mut self, octets: usize, now: Instant) {
        let age = self.age(now);
        let saved_max = FIRST_RATE * age.exp2() * CREDIT_S;
        self.spent = self.spent.max(self.allowed(age) - saved_max) + octets as f64;
    }

    /// When the next write may begin; in the past where it may at once.
    fn next_write(&self) -> Instant {
        let part = self.spent / (FIRST_RATE * self.doubling_s / std::f64::consts::LN_2);
        let age = (1.0 + part).log2().min(DOUBLINGS);
        self.began + Duration::from_secs_f64(age * self.doubling_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octets written in each second, by one that always has something to write and a far end that takes it at once.
    fn written_by_second(ramp: &mut Ramp, began: Instant, seconds: usize) -> Vec<usize> {
        let mut written = vec![0; seconds];
        let mut now = began;
        loop {
            now = now.max(ramp.next_write());
            let second = now.duration_since(began).as_secs() as usize;
            if second >= seconds {
                return written;
            }
            ramp.wrote(Ramp::WRITE_BYTES, now);
            written[second] += Ramp::WRITE_BYTES;
        }
    }

    #[test]
    fn the_rate_doubles_each_second_and_is_gone_after_ten() {
        let began = Instant::now();
        let mut ramp = Ramp::new(began, 1.0);
        let written = written_by_second(&mut ramp, began, 9);
        for (second, octets) in written.iter().enumerate() {
            let expected = FIRST_RATE * 2.0_f64.powi(second as i32) / std::f64::consts::LN_2;
            let missed = (*octets as f64 - expected).abs();
            assert!(missed <= 2.0 * Ramp::WRITE_BYTES as f64, "second {second}: {octets} octets, not {expected}");
        }
        assert!(!ramp.is_over(began + Duration::from_millis(9_990)));
        assert!(ramp.is_over(began + Duration::from_secs(10)));
        // However much was written.
        ramp.wrote(usize::MAX, began);
        assert_eq!(ramp.next_write(), began + Duration::from_secs(10));
    }

    #[test]
    fn one_that_writes_less_is_never_held_up_and_saves_little() {
        let began = Instant::now();
        let mut ramp = Ramp::new(began, 1.0);
        for tick in 0..50 {
            let now = began + Duration::from_millis(100 * tick);
            assert!(ramp.next_write() <= now, "tick {tick}");
            ramp.wrote(50_000, now);
        }
        // At 32 MiB/s a quarter of a second is 8 MiB, not the 40 MiB that were not used.
        let now = began + Duration::from_secs(5);
        let mut burst = 0;
        while ramp.next_write() <= now {
            ramp.wrote(Ramp::WRITE_BYTES, now);
            burst += Ramp::WRITE_BYTES;
        }
        assert!((8 << 20..9 << 20).contains(&burst), "{burst}");
    }

    #[test]
    fn only_a_long_outage_ends_in_a_ramp() {
        let now = Instant::now();
        let mut outage = Outage::default();
        assert!(outage.ramp(now).is_none());
        outage.goes_on(now);
        outage.goes_on(now + Duration::from_secs(59));
        assert!(outage.ramp(now + Duration::from_secs(59)).is_none());
        let ramps: Vec<f64> =
            (0..20).map(|_| outage.ramp(now + Duration::from_secs(60)).expect("a ramp").doubling_s).collect();
        assert!(ramps.iter().all(|doubling_s| (0.75..1.25).contains(doubling_s)), "{ramps:?}");
        assert!(ramps.iter().any(|doubling_s| *doubling_s != ramps[0]), "all in step");
        outage.ended();
        assert!(outage.ramp(now + Duration::from_secs(600)).is_none());
    }
}
