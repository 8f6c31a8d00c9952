//! Starting the spool's thread, and waiting for it to end.

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use crossbeam_channel as channel;
use tracing::warn;

use crate::config::Config;
use crate::metrics::Meters;

use super::store::{OpenError, Options, holder};
use super::worker::{Opened, Worker};
use super::{Port, Shared, ports};

/// How long the start waits to learn whether another process holds the spool. A disk that takes longer opens it later.
const OPEN_WAIT: Duration = Duration::from_millis(500);

/// How long the start waits for another process that has the spool: a command that looks into it, or a relay that is about
/// to end.
const HELD_WAIT: Duration = Duration::from_secs(5);

/// How often it looks meanwhile.
const HELD_LOOK: Duration = Duration::from_millis(50);

/// A running spool.
pub struct Spool {
    ended: channel::Receiver<()>,
    shared: Arc<Shared>,
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

/// Waits, up to 5 s, until no other process has the spool. To be asked before sockets are bound, which is before this process
/// has a thread: what comes to a relay that is going to be refused its spool is lost with it.
///
/// # Errors
/// Another process has it still.
pub fn wait_until_free(config: &Config) -> Result<(), StartError> {
    let Some(spool) = &config.spool else { return Ok(()) };
    let deadline = Instant::now() + HELD_WAIT;
    while let Some(by) = holder(&spool.dir) {
        if Instant::now() >= deadline {
            return Err(StartError::Refused(OpenError::Held { by }));
        }
        // Nobody sends.
        _ = channel::never::<()>().recv_timeout(HELD_LOOK);
    }
    Ok(())
}

/// Starts the thread. Returns a port for each shard, or nothing where no spool is configured.
///
/// A disk that does not work is no reason not to start: the relay goes on in memory, and the thread tries again. Another
/// process that has the spool is waited for, up to 5 s.
///
/// # Errors
/// See [`StartError`].
pub fn start(config: &Config, meters: &Arc<Meters>) -> Result<Option<(Vec<Port>, Spool)>, StartError> {
    let Some(spool) = &config.spool else { return Ok(None) };
    let (ports, desk) = ports(config.cores);
    let shared = Arc::clone(&desk.shared);
    let shares = config.routes.iter().map(|route| (route.name.clone(), route.spool)).collect();
    let options = Options::new(spool, shares);
    let worker = Worker::new(config, options, spool.sync, desk, Arc::clone(meters));
    let (opened_tx, opened_rx) = channel::bounded(2);
    let (ended_tx, ended_rx) = channel::bounded(1);
    let run = move || {
        worker.run(opened_tx, HELD_WAIT);
        // Nobody waits where the relay was dropped.
        let _gone = ended_tx.send(());
    };
    thread::Builder::new().name("spool".into()).spawn(run).map_err(StartError::Thread)?;
    let mut opened = opened_rx.recv_timeout(OPEN_WAIT);
    if let Ok(Opened::Held) = opened {
        opened = opened_rx.recv_timeout(HELD_WAIT + OPEN_WAIT);
    }
    match opened {
        Ok(Opened::Done(Err(refused))) => return Err(StartError::Refused(refused)),
        Ok(Opened::Done(Ok(()))) => {}
        Ok(Opened::Held) | Err(_) => {
            warn!(dir = %spool.dir.display(), "the spool's disk is slow: the relay starts without waiting for it")
        }
    }
    Ok(Some((ports, Spool { ended: ended_rx, shared })))
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
