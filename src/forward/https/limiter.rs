//! When a request may go: one limiter for the process, so that all routes together keep to what Sekoia's FAQ asks of an
//! address (docs/CONFIGURATION.md, `http.requests_per_second`).
//!
//! Requests are spaced evenly, first come first served. Two errors (4xx, 5xx) within ten seconds stop all of them for half a
//! minute: its firewall shuts an address out whose errors go on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::metrics::{HttpMeters, Meters};

/// Errors count together when they come within this.
const ERROR_WINDOW: Duration = Duration::from_secs(10);

/// How long everything pauses then; up to a quarter more, so that many relays do not come back in step.
const PAUSE: Duration = Duration::from_secs(30);

/// Requests are apart by so much more than their share of a second, in percent: on the way some come closer to each other.
const SLACK_PERCENT: u32 = 2;

/// Gives permits, in the order in which they were asked for.
#[derive(Debug)]
pub(super) struct Limiter {
    /// Who waits for the next permit. Fair, and at home in all shards' runtimes.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    meters: Arc<Meters>,
}

/// Only decides: told what happened, and what time it is.
#[derive(Debug)]
struct State {
    interval: Duration,
    /// The next permit.
    next_at: Option<Instant>,
    /// The next departure: what was permitted in order may be built in another.
    departs_at: Option<Instant>,
    failed_at: Option<Instant>,
    paused_until: Option<Instant>,
}

impl Limiter {
    /// At most so many requests a second.
    pub(super) fn new(per_second: u32, meters: Arc<Meters>) -> Self {
        Self { turn: tokio::sync::Mutex::new(()), state: Mutex::new(State::new(per_second)), meters }
    }

    /// At most so many requests a second, from the next one on.
    pub(super) fn pace(&self, per_second: u32) {
        self.state().interval = State::new(per_second).interval;
    }

    /// Waits for a permit: what is to be sent may be gathered. Cancel-safe.
    pub(super) async fn permit(&self) {
        let _queued = Queued::enter(self.meters.http.get());
        let _turn = self.turn.lock().await;
        let mut waited = false;
        while let Some(until) = self.permit_at(Instant::now()) {
            if !waited {
                self.count(|meters| meters.held_up.add(1));
                waited = true;
            }
            sleep_until(until).await;
        }
    }

    fn permit_at(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        let until = state.permit(now);
        if until.is_none() {
            drop(state);
            self.count(|meters| meters.paused.set(0));
        }
        until
    }

    /// Waits, behind a permit, for the moment to send. Cancel-safe.
    pub(super) async fn departure(&self) {
        let at = self.state().depart(Instant::now());
        sleep_until(at).await;
    }

    /// A request was answered, or failed. Says for how long everything pauses, where that begins now.
    pub(super) fn answered(&self, is_error: bool) -> Option<Duration> {
        let pause = self.state().answered(Instant::now(), is_error, fastrand::f64());
        if pause.is_some() {
            self.count(|meters| {
                meters.pauses.add(1);
                meters.paused.set(1);
            });
        }
        pause
    }

    /// Seconds until the pause ends, where there is one.
    pub(super) fn paused_for(&self) -> Option<u64> {
        let left = self.state().paused_until?.checked_duration_since(Instant::now())?;
        Some(left.as_secs())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, update: impl FnOnce(&HttpMeters)) {
        if let Some(meters) = self.meters.http.get() {
            update(meters);
        }
    }
}

/// Counts who waits, for as long as it waits.
struct Queued<'a>(Option<&'a HttpMeters>);

impl<'a> Queued<'a> {
    fn enter(meters: Option<&'a HttpMeters>) -> Self {
        if let Some(meters) = meters {
            meters.queued.add(1);
        }
        Self(meters)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        if let Some(meters) = self.0 {
            meters.queued.add(-1);
        }
    }
}

impl State {
    fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1) * (100 + SLACK_PERCENT) / 100 / per_second.max(1);
        Self { interval, next_at: None, departs_at: None, failed_at: None, paused_until: None }
    }

    /// Takes a permit now, or says when to ask again.
    fn permit(&mut self, now: Instant) -> Option<Instant> {
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Some(until);
        }
        self.paused_until = None;
        if let Some(at) = self.next_at.filter(|at| *at > now) {
            return Some(at);
        }
        self.next_at = Some(now + self.interval);
        None
    }

    fn depart(&mut self, now: Instant) -> Instant {
        let at = self.departs_at.map_or(now, |at| at.max(now));
        self.departs_at = Some(at + self.interval);
        at
    }

    /// `chance` is in 0..1.
    fn answered(&mut self, now: Instant, is_error: bool, chance: f64) -> Option<Duration> {
        if !is_error {
            return None;
        }
        let is_second = self.failed_at.is_some_and(|at| now.saturating_duration_since(at) < ERROR_WINDOW);
        self.failed_at = Some(now);
        if !is_second || self.paused_until.is_some_and(|until| until > now) {
            return None;
        }
        let pause = PAUSE + PAUSE.mul_f64(chance / 4.0);
        self.paused_until = Some(now + pause);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn no_second_sees_more_permits_or_departures_than_the_limit() {
        for limit in [1, 5, 100] {
            let (mut state, begin) = (State::new(limit), Instant::now());
            let mut now = begin;
            let (mut permits, mut departures) = (Vec::new(), Vec::new());
            while now < begin + 5 * SECOND {
                match state.permit(now) {
                    Some(at) => now = at,
                    None => {
                        permits.push(now);
                        // Building takes up to three intervals: later ones overtake.
                        let built = now + state.interval.mul_f64(fastrand::f64() * 3.0);
                        departures.push(state.depart(built));
                    }
                }
            }
            assert!(permits.len() as u32 > limit * 4, "{} at {limit}", permits.len());
            departures.sort_unstable();
            for times in [permits, departures] {
                for window in times.windows(limit as usize + 1) {
                    assert!(*window.last().unwrap() - window[0] > SECOND, "{window:?} at {limit}");
                }
            }
        }
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let (mut state, now) = (State::new(5), Instant::now());
        assert_eq!(state.permit(now), None);
        let later = now + 60 * SECOND;
        assert_eq!(state.permit(later), None);
        assert_eq!(state.permit(later), Some(later + state.interval));
    }

    #[test]
    fn two_errors_within_ten_seconds_pause_everything_for_half_a_minute() {
        let (mut state, now) = (State::new(5), Instant::now());
        assert_eq!(state.answered(now, true, 0.5), None);
        assert_eq!(state.answered(now + 11 * SECOND, true, 0.5), None, "too far apart");
        assert_eq!(state.answered(now + 12 * SECOND, false, 0.5), None);
        let pause = state.answered(now + 20 * SECOND, true, 0.5).unwrap();
        assert!(pause >= PAUSE && pause < PAUSE * 2, "{pause:?}");
        let until = now + 20 * SECOND + pause;
        assert_eq!(state.permit(now + 21 * SECOND), Some(until));
        assert_eq!(state.answered(now + 22 * SECOND, true, 0.5), None, "a straggler begins no second pause");
        assert_eq!(state.permit(until), None);
    }

    #[test]
    fn where_all_is_refused_errors_stay_under_a_fifth_of_what_would_be_sent() {
        let (mut state, begin) = (State::new(5), Instant::now());
        let mut now = begin;
        let mut errors = Vec::new();
        while now < begin + 600 * SECOND {
            match state.permit(now) {
                Some(at) => now = at,
                None => {
                    errors.push(now);
                    state.answered(now, true, 0.0);
                }
            }
        }
        assert!(errors.len() > 10, "it is tried again");
        for (index, error) in errors.iter().enumerate() {
            let within = errors.iter().skip(index).take_while(|later| **later - *error < ERROR_WINDOW).count();
            assert!(within <= 2, "{within} errors in ten seconds, of at most 50 requests");
        }
    }
}
