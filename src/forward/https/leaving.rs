//! Whether a connection is to be closed in order, busy or not.

use std::cell::Cell;

use tokio::sync::Notify;

/// Begins once, and is not taken back.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    has_begun: Cell<bool>,
    wake: Notify,
}

impl Leaving {
    /// From now on.
    pub(super) fn begin(&self) {
        self.has_begun.set(true);
        self.wake.notify_one();
    }

    /// Whether it is.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.get()
    }

    /// Completes once it is. Cancel-safe.
    pub(super) async fn begun(&self) {
        while !self.has_begun.get() {
            self.wake.notified().await;
        }
    }
}
