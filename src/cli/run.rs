//! `forebay run`: start, wait for a signal, stop in the order of the flow.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel as channel;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{debug, error, info, warn};

use crate::config::{Loaded, Reading};
use crate::harden::{self, Standing};
use crate::relay::{Ended, Prepared, Relay, StartError};
use crate::sys;
use crate::systemd::{self, Inherited, Manager};

use super::{Run, log, say};
use again::Again;

mod again;
mod watched;

/// Something is wrong that is not the configuration.
pub(super) const EXIT_RUNTIME: u8 = 1;

/// The signal that reads the configuration again.
const HANGUP: &str = "SIGHUP";

/// How often the state in words is told to a service manager, at most.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// Runs until the first SIGTERM or SIGINT, then stops within `shutdown_timeout`, after `shutdown_delay`.
pub(super) fn run(options: &Run) -> ExitCode {
    // Before any file is opened.
    let inherited = systemd::inherited();
    let mut loaded = match options.configuration.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    options.override_log(&mut loaded);
    let log = match log::start(&loaded.config.log) {
        Ok(log) => log,
        Err(mistake) => {
            say(&format!("{mistake}\n"));
            return ExitCode::from(super::EXIT_CONFIG);
        }
    };
    tell_of(&loaded);
    match sys::raise_open_files() {
        Ok(files) => debug!(files, "open files"),
        Err(error) => warn!("cannot raise the limit of open files: {error}"),
    }
    let (files, level) = (loaded.read_again.clone(), loaded.config.log.level.clone());
    // Before the first socket: a signal during the start must not be lost.
    let signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => return cannot_wait(&error),
    };
    // No thread before this is done: what a thread keeps, the process keeps.
    let (prepared, standing) = match prepare(loaded, inherited) {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    // Lives until the end: dropping it writes what is still to be written.
    let (_log, log) = log.in_background();
    let signals = match signals.listen(true) {
        Ok(signals) => signals,
        Err(error) => return cannot_wait(&error),
    };
    let relay = match Relay::start_prepared(prepared, standing) {
        Ok(relay) => relay,
        Err(error) => return cannot_start(&error),
    };
    let again = Again::new(options, log, files, level);
    info!(version = env!("CARGO_PKG_VERSION"), shards = relay.config().cores, "ready");
    let manager = Manager::find().unwrap_or_else(|error| {
        warn!("NOTIFY_SOCKET cannot be used, and the service manager is told nothing: {error}");
        Manager::default()
    });
    let (relay, manager) = (Arc::new(relay), Arc::new(manager));
    manager.ready(&state(&relay));
    match again.start(&relay, &manager) {
        Ok(hangups) => watch(&relay, &signals, &manager, hangups),
        Err(error) => {
            error!("cannot start a thread: {error}");
            ExitCode::from(EXIT_RUNTIME)
        }
    }
}

/// What is odd about a configuration.
fn tell_of(loaded: &Loaded) {
    for note in &loaded.notes {
        match note.reading {
            Reading::Unsupported => warn!("{note}"),
            Reading::Meaningless | Reading::Mapped => debug!("{note}"),
        }
    }
    for left_out in &loaded.config.left_out {
        error!("{left_out}");
    }
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
}

/// Binds, and gives up what the relay needs no more. What is wrong has been said where there is an exit code.
fn prepare(loaded: Loaded, inherited: Result<Vec<Inherited>, Vec<String>>) -> Result<(Prepared, Standing), ExitCode> {
    let prepared = inherited.map_err(StartError::Inherited).and_then(|sockets| Prepared::new(loaded.config, sockets));
    let prepared = prepared.map_err(|error| cannot_start(&error))?;
    match harden::confine(prepared.config(), &loaded.files, prepared.unix_sockets()) {
        Ok(standing) => Ok((prepared, standing)),
        Err(error) => {
            error.to_string().lines().for_each(|line| error!("cannot start: {line}"));
            Err(ExitCode::from(EXIT_RUNTIME))
        }
    }
}

fn cannot_start(error: &StartError) -> ExitCode {
    match error {
        StartError::Tls(mistakes) | StartError::Inherited(mistakes) => {
            mistakes.iter().for_each(|mistake| error!("{mistake}"));
            ExitCode::from(super::EXIT_CONFIG)
        }
        error => {
            error!("cannot start: {error}");
            ExitCode::from(EXIT_RUNTIME)
        }
    }
}

fn cannot_wait(error: &std::io::Error) -> ExitCode {
    error!("cannot wait for signals: {error}");
    ExitCode::from(EXIT_RUNTIME)
}

fn watch(
    relay: &Relay,
    signals: &channel::Receiver<&'static str>,
    manager: &Manager,
    hangups: channel::Sender<()>,
) -> ExitCode {
    let looks = manager.interval(STATUS_EVERY).map_or_else(channel::never, channel::tick);
    let timeout = || relay.config().shutdown_timeout;
    loop {
        channel::select! {
            recv(signals) -> name => match name {
                // Where one waits already, this one asks for nothing more.
                Ok(HANGUP) => drop(hangups.try_send(())),
                name => {
                    info!(signal = name.unwrap_or("?"), timeout = ?timeout(), "stopping; a second signal ends it at once");
                    break;
                }
            },
            recv(relay.ended()) -> ended => return shard_ended(relay, manager, timeout(), ended.ok()),
            recv(looks) -> _ => tell(relay, manager),
        }
    }
    // Nothing is reloaded any more.
    drop(hangups);
    let (timeout, delay) = (timeout(), relay.config().shutdown_delay);
    manager.stopping(delay + stop_takes(timeout));
    relay.retire();
    if !delay.is_zero() {
        info!(?delay, "not ready any more; goes on receiving until load balancers have seen it");
        let over = channel::after(delay);
        loop {
            channel::select! {
                recv(over) -> _ => break,
                recv(signals) -> name => if name != Ok(HANGUP) { second_signal() },
                recv(relay.ended()) -> ended => return shard_ended(relay, manager, timeout, ended.ok()),
            }
        }
    }
    relay.stop(timeout);
    let (done_tx, done_rx) = channel::bounded(1);
    thread::scope(|scope| {
        scope.spawn(|| done_tx.send(relay.wait(timeout)));
        loop {
            channel::select! {
                recv(done_rx) -> left => break finished(left.ok().flatten(), relay.spooled()),
                recv(signals) -> name => if name != Ok(HANGUP) { second_signal() },
            }
        }
    })
}

fn second_signal() -> ! {
    warn!("second signal: ending at once; what was not delivered is lost");
    std::process::exit(i32::from(EXIT_RUNTIME));
}

/// A relay with a core missing would lose that core's share in silence: whoever supervises us restarts us.
fn shard_ended(relay: &Relay, manager: &Manager, timeout: Duration, ended: Option<Ended>) -> ExitCode {
    error!(shard = ?ended.map(|ended| ended.shard), "a shard ended by itself: stopping");
    manager.stopping(stop_takes(timeout));
    relay.stop(timeout);
    relay.wait(timeout);
    ExitCode::from(EXIT_RUNTIME)
}

/// What a stop may take altogether: beyond `timeout`, threads end and the spool's disk answers.
fn stop_takes(timeout: Duration) -> Duration {
    timeout + Duration::from_secs(5)
}

/// A sign of life, where every shard turns.
fn tell(relay: &Relay, manager: &Manager) {
    match relay.late().first() {
        None => manager.alive(&state(relay)),
        Some((shard, age)) => {
            error!(shard, seconds = age, "a shard does not turn: the watchdog is not told that all is well");
            manager.troubled(&format!("shard {shard} has not turned for {age} s"));
        }
    }
}

/// For `systemctl status`.
fn state(relay: &Relay) -> String {
    let meters = relay.meters();
    let received: u64 = meters.inputs.iter().map(|input| input.received.value()).sum();
    let (mut released, mut waiting, mut dropped) = (0, 0, 0);
    for route in meters.routes.iter() {
        released += route.released.value();
        waiting += route.waiting.value() + route.in_flight.value();
        dropped += route.dropped();
    }
    format!(
        "received {received}, released {released}, in memory {waiting}, on the disk {}, dropped {dropped}",
        relay.spooled()
    )
}

fn finished(left: Option<u64>, spooled: u64) -> ExitCode {
    match left {
        Some(0) if spooled > 0 => {
            info!(messages = spooled, "stopped; what was not delivered is in the spool, the next run sends it first");
            ExitCode::SUCCESS
        }
        Some(0) => {
            info!("stopped; everything that was received is delivered");
            ExitCode::SUCCESS
        }
        Some(left) => {
            error!(lost = left, "stopped; not everything could be delivered in time");
            ExitCode::from(EXIT_RUNTIME)
        }
        None => {
            error!("stopped; a shard did not end in time");
            ExitCode::from(EXIT_RUNTIME)
        }
    }
}

/// Signals that are caught, and that nobody has heard of yet.
struct Signals {
    runtime: tokio::runtime::Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches them from now on: they wait until somebody [listens](Self::listen).
    fn catch() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let within = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        drop(within);
        Ok(Self { runtime, terminate, interrupt, hangup })
    }

    /// Starts a thread that turns them into messages; SIGHUP into none, unless it is asked for: a terminal that closes must
    /// not end anything.
    fn listen(self, with_hangup: bool) -> std::io::Result<channel::Receiver<&'static str>> {
        /// The first, the second, and none that matters after them.
        const SIGNALS: usize = 4;
        let (signal_tx, signal_rx) = channel::bounded(SIGNALS);
        let Self { runtime, mut terminate, mut interrupt, mut hangup } = self;
        let wait = move || {
            runtime.block_on(async {
                loop {
                    let name = tokio::select! {
                        _ = terminate.recv() => "SIGTERM",
                        _ = interrupt.recv() => "SIGINT",
                        _ = hangup.recv() => if with_hangup { HANGUP } else { continue },
                    };
                    if signal_tx.send(name).is_err() {
                        return;
                    }
                }
            });
        };
        thread::Builder::new().name("signals".into()).spawn(wait)?;
        Ok(signal_rx)
    }
}

/// A thread that turns signals into messages.
pub(super) fn signals(with_hangup: bool) -> std::io::Result<channel::Receiver<&'static str>> {
    Signals::catch()?.listen(with_hangup)
}
