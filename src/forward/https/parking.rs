//! Routes whose key an intake does not take: they send nothing for minutes, then one request tries again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How long a route is parked; a tenth more or less, so that several do not come back together.
const PARKED: Duration = Duration::from_secs(300);

/// How long the one that tries again may take; then another may.
const TRIAL: Duration = Duration::from_secs(120);

/// One route's, on all shards.
#[derive(Debug, Default)]
pub(super) struct Parking {
    state: Mutex<Option<Parked>>,
    changed: Notify,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parked {
    why: String,
    until: Instant,
}

/// Whether a route may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It may.
    Open,
    /// It was parked and may try one request.
    Trial,
    /// Not before this.
    Parked(Instant),
}

impl Parking {
    /// Whether the route may send now. A trial is given to one that asks, the others wait for its outcome.
    pub(super) fn look(&self, now: Instant) -> Look {
        match &mut *self.state() {
            None => Look::Open,
            Some(parked) if parked.until > now => Look::Parked(parked.until),
            Some(parked) => {
                parked.until = now + TRIAL;
                Look::Trial
            }
        }
    }

    /// Where it is parked, it may try at once.
    pub(super) fn try_now(&self) {
        if let Some(parked) = &mut *self.state() {
            parked.until = Instant::now();
        }
        self.changed.notify_waiters();
    }

    /// Whether it is parked, and not to be tried now.
    pub(super) fn is_closed(&self, now: Instant) -> bool {
        self.state().as_ref().is_some_and(|parked| parked.until > now)
    }

    /// Waits until `until`, or until the route is free again. Cancel-safe.
    pub(super) async fn wait(&self, until: Instant) {
        let changed = self.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if self.state().is_none() {
            return;
        }
        tokio::select! {
            () = changed => {}
            () = sleep_until(until) => {}
        }
    }

    /// The key was refused. `chance` is in 0..1. Says whether that is news.
    pub(super) fn park(&self, why: String, now: Instant, chance: f64) -> bool {
        let until = now + PARKED.mul_f64(0.9 + chance / 5.0);
        self.state().replace(Parked { why, until }).is_none()
    }

    /// The key was taken. Says whether it was parked.
    pub(super) fn free(&self) -> bool {
        let was_parked = self.state().take().is_some();
        if was_parked {
            self.changed.notify_waiters();
        }
        was_parked
    }

    /// Why it is parked, and for how many seconds more.
    pub(super) fn why(&self) -> Option<(String, u64)> {
        let left = |parked: &Parked| parked.until.saturating_duration_since(Instant::now()).as_secs();
        self.state().as_ref().map(|parked| (parked.why.clone(), left(parked)))
    }

    fn state(&self) -> MutexGuard<'_, Option<Parked>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_route_is_tried_by_one_after_minutes_and_by_all_once_that_works() {
        let (parking, now) = (Parking::default(), Instant::now());
        assert_eq!(parking.look(now), Look::Open);
        assert!(parking.park("422".to_owned(), now, 0.0));
        assert!(!parking.park("422".to_owned(), now, 0.5), "the other shard's is no news");
        assert!(matches!(parking.look(now), Look::Parked(until) if until - now == PARKED));
        let later = now + PARKED;
        assert_eq!(parking.look(later), Look::Trial);
        assert!(parking.is_closed(later));
        assert_eq!(parking.look(later), Look::Parked(later + TRIAL), "one tries at a time");
        assert_eq!(parking.look(later + TRIAL), Look::Trial, "the first came to nothing");
        assert!(parking.free());
        assert!(!parking.free());
        assert_eq!(parking.look(later), Look::Open);
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_the_route_is_free() {
        let (parking, now) = (Parking::default(), Instant::now());
        parking.park("422".to_owned(), now, 0.0);
        let far = now + Duration::from_secs(3_600);
        let free = async { parking.free() };
        let (_, was_parked) = tokio::join!(parking.wait(far), free);
        assert!(was_parked);
        parking.wait(far).await;
    }
}
