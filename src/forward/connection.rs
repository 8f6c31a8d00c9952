//! What connections of every protocol have in common: how much they write at a time, and how they end.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::Output;
use crate::stop::Stop;

use super::Forwarder;
use super::leave::{self, Place};

/// Records gathered for one write, bytes of memory: about a dozen full TLS records, so that the cost of the system calls
/// is spread over hundreds of messages, and still within a core's cache from parsing to encryption.
pub(super) const WRITE_BYTES: usize = 256 * 1024;

/// Once so much waits it is written without lingering for more.
pub(super) const ENOUGH_BYTES: usize = 64 * 1024;

/// How long a message may wait for company. At a thousand messages a second a write then carries a few, and nobody
/// notices the delay.
pub(super) const LINGER: Duration = Duration::from_millis(2);

/// How long a peer may take to close its side after we closed ours for idleness.
pub(super) const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// How long to look for a peer's last words on a connection that is broken: they are here, or they never come.
pub(super) const LAST_WORD_WAIT: Duration = Duration::from_millis(100);

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// We closed it and the peer has read everything.
    Orderly,
    /// The peer has announced that it closes it, and did: what it has not acknowledged is sent again.
    ByPeer,
    /// Anything else: what was in flight is sent again.
    Broken(io::Error),
    /// The stop's deadline passed.
    Deadline,
}

/// Whether the connection is to be closed in order, busy or not.
#[derive(Default)]
pub(super) struct Leaving {
    has_begun: Cell<bool>,
    wake: Notify,
}

impl Leaving {
    /// It is, from now on.
    pub(super) fn begin(&self) {
        self.has_begun.set(true);
        self.wake.notify_one();
    }

    /// Whether it is.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.get()
    }

    /// Completes when it is to be closed. Cancel-safe.
    pub(super) async fn begun(&self) {
        if !self.has_begun() {
            self.wake.notified().await;
        }
    }

    /// Runs `session` to its end, or to the stop's deadline, and looks meanwhile for a reason to leave its `place`.
    pub(super) async fn beside(
        &self,
        forwarder: &Forwarder,
        place: &Place<'_>,
        session: impl Future<Output = io::Result<End>>,
    ) -> End {
        let mut stop = forwarder.stop.clone();
        let look_around = async {
            leave::reason(forwarder, place).await;
            self.begin();
            pending::<Infallible>().await
        };
        tokio::select! {
            biased;
            () = stop.expired() => End::Deadline,
            end = session => end.unwrap_or_else(End::Broken),
            never = look_around => match never {},
        }
    }
}

/// How long the peer may take to answer our close: the whole rest of a stop, otherwise a few seconds.
pub(super) fn closing_time(stop: &Stop, output: &Output) -> Duration {
    match stop.deadline() {
        Some(deadline) => deadline.saturating_duration_since(Instant::now()),
        None => CLOSE_WAIT.min(output.stall_timeout),
    }
}
