//! The order to stop, as every task sees it: given once, with a deadline.

use tokio::sync::watch;
use tokio::time::Instant;

/// One task's view of the order.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Option<Instant>>);

/// Gives the order.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<Option<Instant>>);

/// A pair of both ends.
pub fn channel() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(None);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Orders to stop, and to be done by `deadline`.
    pub fn stop(&self, deadline: Instant) {
        self.0.send_replace(Some(deadline));
    }
}

impl Stop {
    /// The deadline, once the order is given.
    pub fn deadline(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// Completes with the deadline once the order is given. Cancel-safe.
    pub async fn ordered(&mut self) -> Instant {
        match self.0.wait_for(Option::is_some).await {
            Ok(deadline) => deadline.unwrap_or_else(Instant::now),
            // Nobody can give the order any more: the process is being torn down.
            Err(_) => Instant::now(),
        }
    }

    /// Completes when the order is given and its deadline has passed. Cancel-safe.
    pub async fn expired(&mut self) {
        let deadline = self.ordered().await;
        tokio::time::sleep_until(deadline).await;
    }
}
