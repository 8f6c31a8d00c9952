//! A running relay: binds, starts a thread a shard and one for the admin server, stops them in the order of the flow.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel as channel;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::admin::{self, Admin, Reloads, Running};
use crate::config::{AdminListen, Config, Output, Protocol};
use crate::forward::{FileWriter, Web};
use crate::harden::Standing;
use crate::metrics::{Expiries, Meters};
use crate::names::Names;
use crate::receive::{self, BindError, Bound, Gate};
use crate::road::Targets;
use crate::shard::{self, Change, Common};
use crate::spool::{self, Port, Spool};
use crate::stop::{self, Stop, Stopper};
use crate::systemd::Inherited;
use crate::time::since_epoch;
use crate::tls::{self, TlsError};

use sockets::Listening;

mod reload;
mod sockets;

/// How long a shard may take beyond the stop's deadline to tear itself down.
const TEARDOWN: Duration = Duration::from_secs(1);

/// How long taps may take to tell those who look that the relay stops.
const LAST_WORDS: Duration = Duration::from_millis(250);

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
        address: AdminListen,
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
    /// What runs, and what the admin server tells of it.
    running: Arc<Running>,
    stopper: Stopper,
    ended: channel::Receiver<Ended>,
    spool: Option<Spool>,
    /// What is bound for inputs; held by a reload for as long as it takes.
    sockets: Mutex<Vec<Listening>>,
    /// By shard: the way of reloads to it.
    changes: Vec<mpsc::Sender<Change>>,
    /// The admin server's unix sockets.
    unix: Vec<PathBuf>,
    /// Dropped with the relay: certificates are looked at no more.
    _certificates: channel::Sender<Infallible>,
    standing: Arc<Standing>,
    /// What listens: input and URL, the ports that the kernel chose included.
    pub listening: Vec<(usize, String)>,
    /// Where the admin server listens: the first of its TCP addresses.
    pub admin: Option<SocketAddr>,
}

/// A relay that has done all that takes privileges, and that has no thread yet: certificates are read, sockets are bound. In
/// this state the process gives up what it needs no more.
pub struct Prepared {
    config: Config,
    meters: Arc<Meters>,
    certificates: Certificates,
    admin_bound: Vec<admin::Bound>,
    admin: Vec<AdminListen>,
    bound: Vec<Bound>,
    /// Sockets that are left out.
    errors: Vec<BindError>,
    listening: Vec<(usize, String)>,
    unix: Vec<PathBuf>,
}

impl Prepared {
    /// Reads certificates and binds every socket but those that are `inherited`: an address that one of them has is not bound
    /// again. Starts no thread.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn new(config: Config, inherited: Vec<Inherited>) -> Result<Self, StartError> {
        let claims = receive::claim(&config, inherited).map_err(StartError::Inherited)?;
        let meters = Arc::new(Meters::new(&config));
        let certificates = certificates(&config, &meters.expiries).map_err(StartError::Tls)?;
        // Before any socket: two relays on one spool is a mistake to be told of at once, and nothing must come to the second.
        spool::wait_until_free(&config).map_err(StartError::Spool)?;
        let (admin_bound, admin) = bind_admin(&config)?;
        let without: Vec<usize> = certificates.dark.iter().map(|(input, _)| *input).collect();
        let (bound, errors) = receive::bind_all(&config, claims, &without);
        let has_url = |bound: &&Bound| !bound.url.is_empty();
        let mut listening: Vec<_> =
            bound.iter().filter(has_url).map(|bound| (bound.input, bound.url.clone())).collect();
        listening.dedup();
        let goes_on_without = config.lenient && !listening.is_empty();
        if !errors.is_empty() && !goes_on_without {
            return Err(StartError::Bind(errors));
        }
        let of_inputs = Listening::all(&bound).into_iter().filter_map(|socket| socket.file);
        let unix = of_inputs.chain(admin_files(&admin)).collect();
        Ok(Self { config, meters, certificates, admin_bound, admin, bound, errors, listening, unix })
    }

    /// What it is to run with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Files of the unix sockets that it has made.
    pub fn unix_sockets(&self) -> &[PathBuf] {
        &self.unix
    }
}

impl Relay {
    /// Loads certificates, claims the spool, binds every socket, starts every thread. Ready when it returns.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_prepared(Prepared::new(config, Vec::new())?, Standing::default())
    }

    /// Starts what is [prepared](Prepared). `standing` is what was given up in between.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start_prepared(prepared: Prepared, standing: Standing) -> Result<Self, StartError> {
        let Prepared { config, meters, certificates, admin_bound, admin, bound, errors, listening, .. } = prepared;
        let (dark, admin_tls) = (certificates.dark.clone(), certificates.admin.clone());
        let common = Arc::new(common(config, meters, certificates)?);
        let spool = spool::start(&common.config, &common.meters).map_err(StartError::Spool)?;
        let (ports, spool) = spool.unzip();
        let ports = ports.unwrap_or_default();
        let left_out = left_out(&common, dark, &errors);
        let sockets = Listening::all(&bound);
        // Those of inputs are theirs, which a reload may take away.
        let unix = admin_files(&admin).collect();
        let standing = Arc::new(standing);
        for (input, url) in &listening {
            let name = common.config.inputs.get(*input).map(|input| input.name.as_str()).unwrap_or_default();
            info!(input = %name, address = %url, "listening");
        }
        // Before the first connection: a crowd of senders may take every open file there is.
        let server = admin::Server::new(admin_bound).map_err(StartError::Thread)?;
        let (stopper, stop) = stop::channel();
        let (ended, changes) = start_shards(&common, bound, ports, &stop).map_err(StartError::Thread)?;
        for address in &admin {
            info!(address = %address.url(admin_tls.is_some()), "admin server listening");
        }
        let running = Arc::new(Running::new(Admin {
            common: Arc::clone(&common),
            listening: listening.clone(),
            left_out,
            spool: spool.as_ref().map(|spool| Arc::clone(spool.shared())),
            tls: admin_tls,
            standing: Arc::clone(&standing),
            started: std::time::Instant::now(),
            reloads: Arc::default(),
        }));
        if !admin.is_empty() {
            let running = Arc::clone(&running);
            let serve = move || server.serve(&running);
            thread::Builder::new().name("admin".into()).spawn(serve).map_err(StartError::Thread)?;
        }
        let certificates = watch_certificates(&running).map_err(StartError::Thread)?;
        common.meters.ready.store(true, Relaxed);
        let admin = admin.into_iter().find_map(|address| match address {
            AdminListen::Tcp(address) => Some(address),
            AdminListen::Unix(_) => None,
        });
        let sockets = Mutex::new(sockets);
        Ok(Self {
            running,
            stopper,
            ended,
            spool,
            sockets,
            changes,
            unix,
            _certificates: certificates,
            standing,
            listening,
            admin,
        })
    }

    /// What the process has given up, and what is beyond its reach since.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Shards whose threads end; while the relay runs, none does unless it fails.
    pub fn ended(&self) -> &channel::Receiver<Ended> {
        &self.ended
    }

    /// Shards that are stuck: which, and seconds since they last turned.
    pub fn late(&self) -> Vec<(usize, u64)> {
        self.common().late().collect()
    }

    /// All counts.
    pub fn meters(&self) -> Arc<Meters> {
        Arc::clone(&self.common().meters)
    }

    fn common(&self) -> Arc<Common> {
        Arc::clone(&self.running.now().common)
    }

    /// How reloads are asked for.
    pub fn reloads(&self) -> Arc<Reloads> {
        Arc::clone(&self.running.now().reloads)
    }

    /// Messages that are on the disk, and not in memory.
    pub fn spooled(&self) -> u64 {
        self.meters().routes.iter().map(|route| route.spooled.value()).sum()
    }

    /// What it runs with.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.common().config)
    }

    /// Says that it is not ready, and goes on as before: load balancers are to look elsewhere before [`Self::stop`].
    pub fn retire(&self) {
        self.common().meters.ready.store(false, Relaxed);
    }

    /// Orders the stop: receivers end, what waits is forwarded, connections are closed, all within `timeout`.
    /// [`Self::wait`] says when it is done.
    pub fn stop(&self, timeout: Duration) {
        self.retire();
        self.common().taps.close();
        self.stopper.stop(Instant::now() + timeout);
    }

    /// Waits for all shards to end, for `timeout` and a moment at most. Returns how many messages were not delivered,
    /// or `None` when a shard did not end.
    pub fn wait(&self, timeout: Duration) -> Option<u64> {
        let deadline = std::time::Instant::now() + timeout + TEARDOWN;
        let mut left = Some(0);
        let common = self.common();
        for _ in 0..common.config.cores {
            // One that has failed is no reason to cut the others short.
            let ended = self.ended.recv_deadline(deadline).ok().and_then(|ended| ended.left);
            left = left.zip(ended).map(|(left, more)| left + more);
        }
        // Its thread ends when the last shard has: what shards gave it is then on the disk.
        if self.spool.as_ref().is_some_and(|spool| !spool.wait(deadline + TEARDOWN)) {
            error!("the spool's disk did not answer in time: what was written last may not survive a power cut");
        }
        common.taps.wait_until_told(LAST_WORDS);
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        remove_unix_sockets(self.unix.iter().chain(sockets.iter().filter_map(|socket| socket.file.as_ref())));
        left
    }
}

/// Counts and tells what is left out, and lists it with what the configuration has left out already.
fn left_out(common: &Common, dark: Vec<(usize, String)>, errors: &[BindError]) -> Vec<String> {
    let more = dark.into_iter().map(|(_, why)| why).chain(errors.iter().map(ToString::to_string));
    let more: Vec<String> = more.inspect(|why| error!("left out: {why}")).collect();
    let left_out: Vec<String> = common.config.left_out.iter().map(ToString::to_string).chain(more).collect();
    common.meters.left_out.set(left_out.len() as u64);
    left_out
}

/// Binds the admin server's addresses; none where it is off. Ports are those that the kernel chose.
fn bind_admin(config: &Config) -> Result<(Vec<admin::Bound>, Vec<AdminListen>), StartError> {
    let bind = |listen: &AdminListen| {
        admin::bind(listen).map_err(|source| StartError::Admin { address: listen.clone(), source })
    };
    let bound = config.admin.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
    Ok(bound.into_iter().unzip())
}

/// TLS of every input and output that has it, by index.
struct Certificates {
    acceptors: Vec<Option<Arc<tls::Server>>>,
    connectors: Vec<Option<Arc<tls::Client>>>,
    /// The admin server's.
    admin: Option<Arc<tls::Server>>,
    /// Inputs that are left out, and why: their certificates cannot be used.
    dark: Vec<(usize, String)>,
}

/// Reads all certificates that `config` names.
///
/// # Errors
/// All that cannot be used, not only the first; those of an input only where the configuration is not
/// [lenient](Config::lenient), or where no other input is left.
fn certificates(config: &Config, expiries: &Expiries) -> Result<Certificates, Vec<String>> {
    tls::install_provider();
    let (mut mistakes, mut dark) = (Vec::new(), Vec::new());
    let mut acceptors = Vec::new();
    for (index, (input, expiry)) in config.inputs.iter().zip(expiries.inputs.iter()).enumerate() {
        let server = input
            .tls
            .as_ref()
            .filter(|_| !input.retired)
            .map(|tls| tls::Server::new(&input.name, tls, expiry))
            .transpose();
        let mut wrong = Vec::new();
        acceptors.push(or_mistake(server, "inputs", &input.name, &mut wrong).map(Arc::new));
        dark.extend(wrong.into_iter().map(|mistake| (index, mistake)));
    }
    let listeners = config.inputs.iter().filter(|input| !input.retired && !input.listen.is_empty()).count();
    if !config.lenient || dark.len() == listeners {
        mistakes.extend(dark.drain(..).map(|(_, mistake)| mistake));
    }
    let mut connectors = Vec::new();
    for (output, expiries) in config.outputs.iter().zip(expiries.outputs.iter()) {
        let client = output
            .tls
            .as_ref()
            .filter(|_| !output.retired)
            .map(|tls| tls::Client::new(&output.name, tls, expiries))
            .transpose();
        connectors.push(or_mistake(client, "outputs", &output.name, &mut mistakes).map(Arc::new));
    }
    let admin = config.admin_access.tls.as_ref().map(tls::Server::for_admin).transpose();
    let admin = admin.unwrap_or_else(|error| {
        mistakes.push(format!("admin.tls: {error}"));
        None
    });
    let admin = admin.map(Arc::new);
    if mistakes.is_empty() { Ok(Certificates { acceptors, connectors, admin, dark }) } else { Err(mistakes) }
}

fn or_mistake<T>(of: Result<Option<T>, TlsError>, kind: &str, name: &str, mistakes: &mut Vec<String>) -> Option<T> {
    of.unwrap_or_else(|error| {
        mistakes.push(format!("{kind}.{name}.tls: {error}"));
        None
    })
}

/// TLS towards each output that has it, by index.
///
/// # Errors
/// [`StartError::Tls`], which also tells of the inputs' certificates.
pub fn clients(config: &Config) -> Result<Vec<Option<Arc<tls::Client>>>, StartError> {
    let certificates = certificates(config, &Meters::new(config).expiries).map_err(StartError::Tls)?;
    Ok(certificates.connectors)
}

/// What became of one message.
#[derive(Debug, Default)]
pub struct Delivered {
    /// The far end has it, as a relay's counters have it.
    pub released: bool,
    /// It was refused for good.
    pub refused: bool,
    /// It rendered to nothing.
    pub empty: bool,
    /// A connection broke meanwhile.
    pub broken: bool,
    /// The intake does not take the key: why, and for how many seconds more a relay would wait.
    pub parked: Option<(String, u64)>,
    /// Status and body of the last answer over HTTPS.
    pub answer: Option<(u16, Vec<u8>)>,
}

/// Sends `frame` as a relay of this configuration sends what arrives by its first route, without listening anywhere. Returns
/// once it is released or given up, after `limit` at the latest. `config` has one shard and no spool; where `kept` is the
/// folder of one, the last good addresses in it are used as a relay would, and nothing is written there.
///
/// # Errors
/// See [`StartError`].
pub fn deliver(config: Config, kept: Option<PathBuf>, frame: &[u8], limit: Duration) -> Result<Delivered, StartError> {
    let names = Names::start_reading(kept).map_err(StartError::Thread)?;
    let meters = Arc::new(Meters::new(&config));
    let certificates = certificates(&config, &meters.expiries).map_err(StartError::Tls)?;
    let common = Arc::new(Common { names, ..common(config, meters, certificates)? });
    common.web.keep_answers();
    shard::deliver(&common, frame, limit).map_err(StartError::Thread)?;
    let Some(route) = common.meters.routes.first() else { return Ok(Delivered::default()) };
    Ok(Delivered {
        released: route.released.value() > 0,
        refused: route.dropped_refused.value() > 0,
        empty: route.dropped_empty.value() > 0,
        broken: common.meters.outputs.iter().any(|output| output.broken.value() > 0),
        parked: common.web.parked(0),
        answer: common.web.last_answer(),
    })
}

/// Looks at the certificates that `config` names: what [`Relay::start`] would refuse, or leave out (that is returned),
/// without binding anything.
///
/// # Errors
/// [`StartError::Tls`].
pub fn check_certificates(config: &Config) -> Result<Vec<String>, StartError> {
    let read = certificates(config, &Meters::new(config).expiries).map_err(StartError::Tls)?;
    Ok(read.dark.into_iter().map(|(_, why)| why).collect())
}

/// Starts the thread that looks at certificates' files, where there are any: one that hangs on a dead mount holds up the
/// others' news, and no connection. It ends when what is returned is dropped.
fn watch_certificates(running: &Arc<Running>) -> std::io::Result<channel::Sender<Infallible>> {
    let (alive, ended) = channel::bounded(0);
    let running = Arc::clone(running);
    let watch = move || {
        while let Err(channel::RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK_EVERY) {
            let admin = running.now();
            admin.common.acceptors.iter().flatten().chain(&admin.tls).for_each(|server| server.refresh());
            admin.common.connectors.iter().flatten().for_each(|client| client.refresh());
        }
    };
    thread::Builder::new().name("certificates".into()).spawn(watch)?;
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

/// What all shards share.
fn common(config: Config, meters: Arc<Meters>, certificates: Certificates) -> Result<Common, StartError> {
    let Certificates { acceptors, connectors, .. } = certificates;
    let shares = shard::shares(&config);
    if config.outputs.iter().any(|output| output.replay_window > shares.window_max) {
        warn!(
            replay_window = shares.window_max,
            "memory.max does not hold the configured replay windows: they are smaller; raise memory.max"
        );
    }
    // The folder is the spool's.
    let folder = config.spool.as_ref().map(|spool| spool.dir.clone());
    let common = Common {
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
        taps: Arc::default(),
        heartbeats: (0..config.cores).map(|_| AtomicU64::new(since_epoch().as_secs())).collect(),
        config: Arc::new(config),
    };
    Ok(common)
}

/// Starts a thread a shard; returns once each of them reads its sockets. Each tells when it ends, whatever ends it.
fn start_shards(
    common: &Arc<Common>,
    bound: Vec<Bound>,
    ports: Vec<Port>,
    stop: &Stop,
) -> std::io::Result<(channel::Receiver<Ended>, Vec<mpsc::Sender<Change>>)> {
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
    let mut changes = Vec::with_capacity(shards);
    for (shard, sockets) in by_shard.into_iter().enumerate() {
        let (common, stop, ended_tx, started_tx) =
            (Arc::clone(common), stop.clone(), ended_tx.clone(), started_tx.clone());
        let port = ports.next();
        let (changes_tx, changes_rx) = mpsc::channel(1);
        changes.push(changes_tx);
        let run = move || {
            // There is room for all of them; nobody listens any more where another shard has failed.
            let started = || _ = started_tx.send(());
            let run =
                std::panic::AssertUnwindSafe(|| shard::run(&common, shard, sockets, port, changes_rx, stop, started));
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
    Ok((ended_rx, changes))
}

/// The admin server's unix sockets.
fn admin_files(admin: &[AdminListen]) -> impl Iterator<Item = PathBuf> {
    admin.iter().filter_map(|listen| match listen {
        AdminListen::Unix(path) => Some(path.clone()),
        AdminListen::Tcp(_) => None,
    })
}

fn remove_unix_sockets<'a>(paths: impl Iterator<Item = &'a PathBuf>) {
    for path in paths {
        match std::fs::remove_file(path) {
            Ok(()) => {}
            // Made as root, who this process is no more. The next start does it.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                info!(path = %path.display(), "the socket file stays: {error}");
            }
            Err(error) => warn!(path = %path.display(), "cannot remove the socket file: {error}"),
        }
    }
}
