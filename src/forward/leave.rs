//! Why a connection that works is given up in order: its name has moved, a target that is preferred is well again, or a reload
//! wants it.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;

use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};

use crate::road::{Connector, Targets};

use super::Forwarder;
use super::backoff::Backoff;

/// One connection among those of its output.
pub(super) struct Place<'a> {
    /// Its forwarder's number among them.
    pub(super) number: usize,
    /// The target that it goes to.
    pub(super) target: usize,
    /// The address that answered.
    pub(super) peer: SocketAddr,
    /// What it was made with.
    pub(super) connector: &'a Connector<'a>,
}

/// Completes when the connection is to be closed in order and another to be made. Tells meanwhile that its target works,
/// and probes those that are preferred. Cancel-safe.
pub(super) async fn reason(forwarder: &Forwarder, place: &Place<'_>) {
    let why = tokio::select! {
        () = place.connector.moved(place.target, place.peer) => "its name has moved",
        () = better(forwarder, place) => "a preferred target is well again",
        () = forwarder.ordered() => "the configuration has changed",
        never = proven(&forwarder.targets, place) => match never {},
    };
    info!(output = %forwarder.output.name, peer = %place.peer, "the connection is replaced: {why}");
}

/// Once the connection has lasted, its target works. Never completes.
async fn proven(targets: &Targets, place: &Place<'_>) -> Infallible {
    sleep(Backoff::PROVEN_AFTER).await;
    targets.works(place.target);
    pending().await
}

/// Completes when there is a better target. Probes those that would be, when nobody else does.
async fn better(forwarder: &Forwarder, place: &Place<'_>) {
    let targets = &forwarder.targets;
    loop {
        sleep(targets.look_every()).await;
        if targets.has_better(place.number, place.target) {
            return;
        }
        if let Some(target) = targets.probe(place.number, place.target, Instant::now()) {
            let answers = probe(forwarder, place.connector, target).await;
            targets.probed(target, answers, Instant::now());
        }
    }
}

/// Connects, TLS and offers included, and closes.
async fn probe(forwarder: &Forwarder, connector: &Connector<'_>, target: usize) -> bool {
    let established = match forwarder.establish(connector, target).await {
        Ok(established) => established,
        Err(error) => {
            debug!(%error, "a preferred target is not well yet");
            return false;
        }
    };
    let peer = established.peer();
    // Politely, where that is possible at once.
    let closed = timeout(Backoff::FIRST, established.close()).await;
    debug!(%peer, ?closed, "a preferred target answers");
    true
}
