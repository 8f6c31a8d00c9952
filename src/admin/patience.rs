//! How long a conversation may last: whoever asks and never reads must not keep others out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::tap::Guest;

/// An answer of one piece is closed after this, whatever it is doing.
const CONVERSATION_MAX: Duration = Duration::from_secs(60);

/// A tap whose client takes nothing for so long is closed.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// Ends a conversation, unless it is renewed.
#[derive(Debug, Clone)]
pub(super) struct Patience(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    until: Mutex<Instant>,
    /// Of a tap: until its last words are written.
    guest: Mutex<Option<Guest>>,
}

impl Patience {
    pub(super) fn new() -> Self {
        let until = Mutex::new(Instant::now() + CONVERSATION_MAX);
        Self(Arc::new(Inner { until, guest: Mutex::new(None) }))
    }

    /// The client of a tap has taken what there was.
    pub(super) fn renew(&self) {
        *self.0.until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + UNREAD_MAX;
    }

    /// A tap is shown, until the conversation ends.
    pub(super) fn hold(&self, guest: Guest) {
        *self.0.guest.lock().unwrap_or_else(PoisonError::into_inner) = Some(guest);
    }

    /// Completes when there is no more. Cancel-safe.
    pub(super) async fn ended(&self) {
        loop {
            let until = *self.0.until.lock().unwrap_or_else(PoisonError::into_inner);
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}
