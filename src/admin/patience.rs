//! How long a conversation may last: whoever asks and never reads must not keep others out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// An answer of one piece is closed after this, whatever it is doing.
const CONVERSATION_MAX: Duration = Duration::from_secs(60);

/// A tap whose client takes nothing for so long is closed.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// Ends a conversation, unless it is renewed.
#[derive(Debug, Clone)]
pub(super) struct Patience(Arc<Mutex<Instant>>);

impl Patience {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now() + CONVERSATION_MAX)))
    }

    /// The client of a tap has taken what there was.
    pub(super) fn renew(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + UNREAD_MAX;
    }

    /// Completes when there is no more. Cancel-safe.
    pub(super) async fn ended(&self) {
        loop {
            let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}
