//! Starting the spool's thread, and waiting for it to end.

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use crossbeam_channel as channel;
use tracing::{error, warn};

use crate::config::Config;
use crate::metrics::Meters;

use super::control::{self, Server};
use super::store::{OpenError, Options};
use super::worker::Worker;
use super::{Port, Shared, ports};

/// How long the start waits to learn whether another process holds the spool. A disk that takes longer opens it later.
const OPEN_WAIT: Duration = Duration::from_millis(500);

/// Requests of operators that wait for the thread.
const CONTROLS_MAX: usize = 4;

/// A running spool.
pub struct Spool {
    ended: channel::Receiver<()>,
    shared: Arc<Shared>,
    /// Ends with it.
    _control: Option<Server>,
}

/// Why a relay does not start because of its spool.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has it, or a newer version has written it.
    #[error("spool: {0}")]
    Refused(#[source] OpenError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// Starts the thread, and the operators' socket. Returns a port for each shard, or nothing where no spool is configured.
///
/// A disk that does not work is no reason not to start: the relay goes on in memory, and the thread tries again.
///
/// # Errors
/// See [`StartError`].
pub fn start(config: &Config, meters: &Arc<Meters>) -> Result<Option<(Vec<Port>, Spool)>, StartError> {
    let Some(spool) = &config.spool else { return Ok(None) };
    let (ports, desk) = ports(config.cores);
    let shared = Arc::clone(&desk.shared);
    let (controls_tx, controls_rx) = channel::bounded(CONTROLS_MAX);
    let shares = config.routes.iter().map(|route| (route.name.clone(), route.spool)).collect();
    let options = Options::new(spool, shares);
    let worker = Worker::new(config, options, spool.sync, desk, controls_rx, Arc::clone(meters));
    let (opened_tx, opened_rx) = channel::bounded(1);
    let (ended_tx, ended_rx) = channel::bounded(1);
    let run = move || {
        worker.run(opened_tx);
        // Nobody waits where the relay was dropped.
        drop(ended_tx.send(()));
    };
    thread::Builder::new().name("spool".into()).spawn(run).map_err(StartError::Thread)?;
    match opened_rx.recv_timeout(OPEN_WAIT) {
        Ok(Err(refused)) => return Err(StartError::Refused(refused)),
        Ok(Ok(())) => {}
        Err(_) => warn!(dir = %spool.dir.display(), "the spool's disk is slow: the relay starts without waiting for it"),
    }
    let control = match control::serve(&spool.dir, controls_tx) {
        Ok(server) => Some(server),
        Err(error) => {
            error!(dir = %spool.dir.display(), "`forebay spool` cannot reach this relay: no socket in its folder: {error}");
            None
        }
    };
    Ok(Some((ports, Spool { ended: ended_rx, shared, _control: control })))
}

impl Spool {
    /// How the spool is.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Waits until everything is on the disk, after all shards have ended; false when that did not happen by `deadline`.
    pub fn wait(&self, deadline: Instant) -> bool {
        self.ended.recv_deadline(deadline).is_ok()
    }
}
