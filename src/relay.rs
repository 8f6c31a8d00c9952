//! A running relay: binds, starts a thread a shard and one for the admin server, stops them in the order of the flow.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crossbeam_channel as channel;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::admin::{self, Admin};
use crate::config::{Config, Output, Protocol};
use crate::forward::{FileWriter, Web};
use crate::metrics::{Expiries, Meters};
use crate::names::Names;
use crate::receive::{self, BindError, Bound, Gate, Socket};
use crate::road::Targets;
use crate::shard::{self, Common};
use crate::spool::{self, Port, Spool};
use crate::stop::{self, Stop, Stopper};
use crate::systemd::Inherited;
use crate::time::since_epoch;
use crate::tls::{self, TlsError};

/// How long a shard may take beyond the stop's deadline to tear itself down.
const TEARDOWN: Duration = Duration::from_secs(1);

/// How often certificates' files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a relay does not start. Nothing listens then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Certificates cannot be used; all of them are listed. A mistake of the configuration.
    #[error("{}", .0.join("\n"))]
    Tls(Vec<String>),
    /// Sockets of the service manager that no input asks for; all of them are listed. A mistake of the configuration, or of
    /// the socket unit.
    #[error("{}", .0.join("\n"))]
    Inherited(Vec<String>),
    /// Sockets cannot be bound; all of them are listed.
    #[error("{}", list(.0))]
    Bind(Vec<BindError>),
    /// The admin server's address cannot be bound.
    #[error("admin: cannot listen on {address}: {source} (set admin.listen to a free address, or to off)")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process has the spool, or a newer version has written it.
    #[error("{0}")]
    Spool(spool::StartError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

fn list(errors: &[BindError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A shard's thread has ended.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub shard: usize,
    /// How many messages it could not deliver; `None` when it failed.
    pub left: Option<u64>,
}

/// A running relay. [`Relay::stop`] and [`Relay::wait`] stop it in order; dropping it stops it at once, and what was not
/// delivered is lost.
pub struct Relay {
    common: Arc<Common>,
    stopper: Stopper,
    ended: channel::Receiver<Ended>,
    spool: Option<Spool>,
    /// Files of the unix sockets that we have bound.
    unix: Vec<PathBuf>,
    /// Dropped with the relay: certificates are looked at no more.
    _certificates: channel::Sender<Infallible>,
    /// What listens: input and URL, the ports that the kernel chose included.
    pub listening: Vec<(usize, String)>,
    /// Where the admin server listens.
    pub admin: Option<SocketAddr>,
}

impl Relay {
    /// Loads certificates, claims the spool, binds every socket, starts every thread. Ready when it returns.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, Vec::new())
    }

    /// The same, with sockets that are bound already: an address that one of them has is not bound again.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start_with(config: Config, inherited: Vec<Inherited>) -> Result<Self, StartError> {
        let claims = receive::claim(&config, inherited).map_err(StartError::Inherited)?;
        let common = Arc::new(common(config)?);
        // Before any socket: two relays on one spool is a mistake to be told of at once.
        let spool = spool::start(&common.config, &common.meters).map_err(StartError::Spool)?;
        let (ports, spool) = spool.unzip();
        let ports = ports.unwrap_or_default();
        let admin_bound = match common.config.admin {
            Some(address) => Some(admin::bind(address).map_err(|source| StartError::Admin { address, source })?),
            None => None,
        };
        let bound = receive::bind_all(&common.config, claims).map_err(StartError::Bind)?;
        let mut listening: Vec<_> = bound.iter().map(|bound| (bound.input, bound.url.clone())).collect();
        listening.dedup();
        let unix = unix_files(&bound);
        for (input, url) in &listening {
            let name = common.config.inputs.get(*input).map(|input| input.name.as_str()).unwrap_or_default();
            info!(input = %name, address = %url, "listening");
        }
        let (admin_listener, admin_address) = admin_bound.unzip();
        // Before the first connection: a crowd of senders may take every open file there is.
        let server = admin_listener.map(admin::Server::new).transpose().map_err(StartError::Thread)?;
        let (stopper, stop) = stop::channel();
        let ended = start_shards(&common, bound, ports, &stop).map_err(StartError::Thread)?;
        if let Some(address) = admin_address {
            info!(address = %format_args!("http://{address}"), "admin server listening");
        }
        if let Some(server) = server {
            let admin = Arc::new(Admin {
                common: Arc::clone(&common),
                listening: listening.clone(),
                spool: spool.as_ref().map(|spool| Arc::clone(spool.shared())),
            });
            let serve = move || server.serve(admin);
            thread::Builder::new().name("admin".into()).spawn(serve).map_err(StartError::Thread)?;
        }
        let certificates = watch_certificates(&common).map_err(StartError::Thread)?;
        common.meters.ready.store(true, Relaxed);
        Ok(Self { common, stopper, ended, spool, unix, _certificates: certificates, listening, admin: admin_address })
    }

    /// Shards whose threads end; while the relay runs, none does unless it fails.
    pub fn ended(&self) -> &channel::Receiver<Ended> {
        &self.ended
    }

    /// Shards that are stuck: which, and seconds since they last turned.
    pub fn late(&self) -> impl Iterator<Item = (usize, u64)> {
        self.common.late()
    }

    /// All counts.
    pub fn meters(&self) -> &Arc<Meters> {
        &self.common.meters
    }

    /// Messages that are on the disk, and not in memory.
    pub fn spooled(&self) -> u64 {
        self.common.meters.routes.iter().map(|route| route.spooled.value()).sum()
    }

    /// What it runs with.
    pub fn config(&self) -> &Config {
        &self.common.config
    }

    /// Orders the stop: receivers end, what waits is forwarded, connections are closed, all within `timeout`.
    /// [`Self::wait`] says when it is done.
    pub fn stop(&self, timeout: Duration) {
        self.common.meters.ready.store(false, Relaxed);
        self.stopper.stop(Instant::now() + timeout);
    }

    /// Waits for all shards to end, for `timeout` and a moment at most. Returns how many messages were not delivered,
    /// or `None` when a shard did not end.
    pub fn wait(&self, timeout: Duration) -> Option<u64> {
        let deadline = std::time::Instant::now() + timeout + TEARDOWN;
        let mut left = Some(0);
        for _ in 0..self.common.config.cores {
            // One that has failed is no reason to cut the others short.
            let ended = self.ended.recv_deadline(deadline).ok().and_then(|ended| ended.left);
            left = left.zip(ended).map(|(left, more)| left + more);
        }
        // Its thread ends when the last shard has: what shards gave it is then on the disk.
        if self.spool.as_ref().is_some_and(|spool| !spool.wait(deadline + TEARDOWN)) {
            error!("the spool's disk did not answer in time: what was written last may not survive a power cut");
        }
        remove_unix_sockets(&self.unix);
        left
    }
}

/// TLS of every input and output that has it, by index.
struct Certificates {
    acceptors: Vec<Option<Arc<tls::Server>>>,
    connectors: Vec<Option<Arc<tls::Client>>>,
}

/// Reads all certificates that `config` names.
///
/// # Errors
/// All that cannot be used, not only the first.
fn certificates(config: &Config, expiries: &Expiries) -> Result<Certificates, Vec<String>> {
    tls::install_provider();
    let mut mistakes = Vec::new();
    let mut acceptors = Vec::new();
    for (input, expiry) in config.inputs.iter().zip(&expiries.inputs) {
        let server = input.tls.as_ref().map(|tls| tls::Server::new(&input.name, tls, expiry)).transpose();
        acceptors.push(or_mistake(server, "inputs", &input.name, &mut mistakes).map(Arc::new));
    }
    let mut connectors = Vec::new();
    for (output, expiries) in config.outputs.iter().zip(&expiries.outputs) {
        let client = output.tls.as_ref().map(|tls| tls::Client::new(&output.name, tls, expiries)).transpose();
        connectors.push(or_mistake(client, "outputs", &output.name, &mut mistakes).map(Arc::new));
    }
    if mistakes.is_empty() { Ok(Certificates { acceptors, connectors }) } else { Err(mistakes) }
}

fn or_mistake<T>(of: Result<Option<T>, TlsError>, kind: &str, name: &str, mistakes: &mut Vec<String>) -> Option<T> {
    of.unwrap_or_else(|error| {
        mistakes.push(format!("{kind}.{name}.tls: {error}"));
        None
    })
}

/// Looks at the certificates that `config` names: what [`Relay::start`] would refuse, without binding anything.
///
/// # Errors
/// [`StartError::Tls`].
pub fn check_certificates(config: &Config) -> Result<(), StartError> {
    certificates(config, &Meters::new(config).expiries).map(drop).map_err(StartError::Tls)
}

/// Starts the thread that looks at certificates' files, where there are any: one that hangs on a dead mount holds up the
/// others' news, and no connection. It ends when what is returned is dropped.
fn watch_certificates(common: &Arc<Common>) -> std::io::Result<channel::Sender<Infallible>> {
    let (alive, ended) = channel::bounded(0);
    let acceptors: Vec<_> = common.acceptors.iter().flatten().cloned().collect();
    let connectors: Vec<_> = common.connectors.iter().flatten().cloned().collect();
    if !acceptors.is_empty() || !connectors.is_empty() {
        let watch = move || {
            while let Err(channel::RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK_EVERY) {
                acceptors.iter().for_each(|server| server.refresh());
                connectors.iter().for_each(|client| client.refresh());
            }
        };
        thread::Builder::new().name("certificates".into()).spawn(watch)?;
    }
    Ok(alive)
}

/// Starts the thread of each file output.
fn start_files(config: &Config) -> std::io::Result<Vec<Option<FileWriter>>> {
    let file_of = |output: &Output| match &output.protocol {
        Protocol::File(file) => FileWriter::start(&output.name, file).map(Some),
        _ => Ok(None),
    };
    config.outputs.iter().map(file_of).collect()
}

fn common(config: Config) -> Result<Common, StartError> {
    let meters = Arc::new(Meters::new(&config));
    let Certificates { acceptors, connectors } = certificates(&config, &meters.expiries).map_err(StartError::Tls)?;
    let shares = shard::shares(&config);
    if config.outputs.iter().any(|output| output.replay_window > shares.window_max) {
        warn!(
            replay_window = shares.window_max,
            "memory.max does not hold the configured replay windows: they are smaller; raise memory.max"
        );
    }
    // The folder is the spool's, which is claimed before anybody asks for a name.
    let folder = config.spool.as_ref().map(|spool| spool.dir.clone());
    Ok(Common {
        names: Names::start(folder).map_err(StartError::Thread)?,
        web: Arc::new(Web::new(&config, &meters)),
        files: start_files(&config).map_err(StartError::Thread)?,
        targets: config.outputs.iter().map(|output| Arc::new(Targets::of(output))).collect(),
        acceptors,
        connectors,
        inputs: config.inputs.iter().cloned().map(Arc::new).collect(),
        gates: config.inputs.iter().map(|_| Arc::default()).collect::<Vec<Arc<Gate>>>(),
        outputs: config.outputs.iter().cloned().map(Arc::new).collect(),
        said: config.outputs.iter().map(|_| Arc::default()).collect(),
        meters,
        heartbeats: (0..config.cores).map(|_| AtomicU64::new(since_epoch().as_secs())).collect(),
        config,
    })
}

/// Starts a thread a shard; returns once each of them reads its sockets. Each tells when it ends, whatever ends it.
fn start_shards(
    common: &Arc<Common>,
    bound: Vec<Bound>,
    ports: Vec<Port>,
    stop: &Stop,
) -> std::io::Result<channel::Receiver<Ended>> {
    let shards = common.config.cores;
    let mut by_shard: Vec<Vec<Bound>> = (0..shards).map(|_| Vec::new()).collect();
    for socket in bound {
        if let Some(sockets) = by_shard.get_mut(socket.shard) {
            sockets.push(socket);
        }
    }
    let (ended_tx, ended_rx) = channel::bounded(shards);
    let (started_tx, started_rx) = channel::bounded(shards);
    let mut ports = ports.into_iter();
    for (shard, sockets) in by_shard.into_iter().enumerate() {
        let (common, stop, ended_tx, started_tx) =
            (Arc::clone(common), stop.clone(), ended_tx.clone(), started_tx.clone());
        let port = ports.next();
        let run = move || {
            // There is room for all of them; nobody listens any more where another shard has failed.
            let started = || _ = started_tx.send(());
            let run = std::panic::AssertUnwindSafe(|| shard::run(&common, shard, sockets, port, stop, started));
            let left = match std::panic::catch_unwind(run) {
                Ok(Ok(left)) => Some(left),
                Ok(Err(error)) => {
                    error!(shard, "shard failed: {error}");
                    None
                }
                Err(_) => None,
            };
            // Room for all of them; the receiver lives as long as the relay.
            drop(ended_tx.send(Ended { shard, left }));
        };
        thread::Builder::new().name(format!("shard-{shard}")).spawn(run)?;
    }
    for _ in 0..shards {
        channel::select_biased! {
            recv(ended_rx) -> _ => return Err(std::io::Error::other("a shard failed, see above")),
            recv(started_rx) -> _ => {}
        }
    }
    Ok(ended_rx)
}

/// Those that are ours to remove.
fn unix_files(bound: &[Bound]) -> Vec<PathBuf> {
    let own = bound.iter().filter(|bound| !bound.inherited);
    let path = |socket: &Socket| match socket {
        Socket::Unix(listener) => listener.local_addr().ok()?.as_pathname().map(PathBuf::from),
        Socket::UnixDatagram(socket) => socket.local_addr().ok()?.as_pathname().map(PathBuf::from),
        _ => None,
    };
    own.filter_map(|bound| path(&bound.socket)).collect()
}

fn remove_unix_sockets(paths: &[PathBuf]) {
    for path in paths {
        if let Err(error) = std::fs::remove_file(path) {
            warn!(path = %path.display(), "cannot remove the socket file: {error}");
        }
    }
}
