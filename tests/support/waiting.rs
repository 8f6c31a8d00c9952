//! The one way to wait: look, a short pause, look again, up to a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// Far beyond what anything here takes, so that a busy machine fails no test.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks until `look` gives something; fails with what it last said when [`PATIENCE`] is over.
#[track_caller]
pub fn eventually<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    match within(PATIENCE, look) {
        Ok(found) => found,
        Err(last) => panic!("waited {PATIENCE:?} in vain for {what}: {last}"),
    }
}

/// Looks until `look` gives something or `limit` is over; then what it last said.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(last) if Instant::now() >= deadline => return Err(last),
            Err(_) => pause(PAUSE),
        }
    }
}

/// Lets time pass. For outages that must last, idle times that must run out and the pace of a sender; never to wait
/// for something to have happened.
pub fn pause(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}
