//! What a reload wants of a forwarder: other settings, another set of routes, or an end once its queue is drained.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::config::Output;
use crate::road::Targets;
use crate::tls;

use super::{FileWriter, Forwarder};

/// How often a forwarder that is to end looks whether its queue is drained.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a forwarder goes on with, once its connection is closed in order.
#[derive(Clone)]
pub struct Settings {
    /// The `outputs:` entry.
    pub output: Arc<Output>,
    /// TLS towards the destination, `None` for plain TCP.
    pub tls: Option<Arc<tls::Client>>,
    /// How the output's targets are: what all shards' forwarders know together.
    pub targets: Arc<Targets>,
    /// Who writes the file, where the output is one.
    pub file: Option<FileWriter>,
    /// Bytes of the replay window: the output's, or less where the memory does not allow it.
    pub replay_window: usize,
}

/// One forwarder's orders: the shard gives them, the forwarder looks for them where it waits.
#[derive(Default)]
pub struct Orders {
    next: RefCell<Option<Settings>>,
    is_retired: Cell<bool>,
    wake: Notify,
}

impl Orders {
    /// Goes on with these settings.
    pub fn change(&self, settings: Settings) {
        self.next.replace(Some(settings));
        self.wake.notify_waiters();
    }

    /// Ends once its queue is drained, or not after all.
    pub fn retire(&self, is_retired: bool) {
        self.is_retired.set(is_retired);
        self.wake.notify_waiters();
    }

    fn has_settings(&self) -> bool {
        self.next.borrow().is_some()
    }

    /// The settings to go on with, once.
    pub(super) fn take(&self) -> Option<Settings> {
        self.next.take()
    }
}

impl Forwarder {
    /// Whether it is time to follow an order.
    pub(super) fn has_orders(&self) -> bool {
        self.orders.has_settings() || (self.orders.is_retired.get() && self.pipeline.is_drained(self.queue))
    }

    /// Completes when a connection is to be closed for an order. Cancel-safe.
    pub(super) async fn ordered(&self) {
        loop {
            let woken = self.orders.wake.notified();
            let is_idle =
                || self.pipeline.queue(self.queue).is_none_or(|queue| queue.waiting() == 0 && !queue.has_backlog());
            // What is in flight is acknowledged by closing in order.
            if self.orders.has_settings() || (self.orders.is_retired.get() && is_idle()) {
                return;
            }
            if self.orders.is_retired.get() {
                sleep(LOOK_EVERY).await;
            } else {
                woken.await;
            }
        }
    }

    /// Completes when there is an order to follow without a connection. Cancel-safe.
    pub(super) async fn ordered_idle(&self) {
        while !self.has_orders() {
            let woken = self.orders.wake.notified();
            if self.orders.is_retired.get() {
                sleep(LOOK_EVERY).await;
            } else {
                woken.await;
            }
        }
    }

    /// Goes on with other settings.
    pub(super) fn follow(&mut self, settings: Settings) {
        let Settings { output, tls, targets, file, replay_window } = settings;
        self.output = output;
        self.tls = tls;
        self.targets = targets;
        self.file = file;
        self.replay_window = replay_window;
        self.close_unanswered.set(false);
        self.unwell_address.set(None);
    }
}
