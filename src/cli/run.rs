//! `forebay run`: start, wait for a signal, stop in the order of the flow.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel as channel;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, error, info, warn};

use crate::config::{Loaded, Reading};
use crate::relay::{Ended, Relay, StartError};
use crate::sys;
use crate::systemd::{self, Manager};

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
    // Lives until the end: dropping it writes what is still to be written.
    let (_log, level) = match log::start(&loaded.config.log) {
        Ok(guard) => guard,
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
    let again = Again::new(options, level, &loaded);
    // Before the first socket: a signal during the start must not be lost.
    let signals = match signals(true) {
        Ok(signals) => signals,
        Err(error) => {
            error!("cannot wait for signals: {error}");
            return ExitCode::from(EXIT_RUNTIME);
        }
    };
    let relay =
        match inherited.map_err(StartError::Inherited).and_then(|sockets| Relay::start_with(loaded.config, sockets)) {
            Ok(relay) => relay,
            Err(StartError::Tls(mistakes) | StartError::Inherited(mistakes)) => {
                mistakes.iter().for_each(|mistake| error!("{mistake}"));
                return ExitCode::from(super::EXIT_CONFIG);
            }
            Err(error) => {
                error!("cannot start: {error}");
                return ExitCode::from(EXIT_RUNTIME);
            }
        };
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

/// A thread that turns signals into messages; SIGHUP into none, unless it is asked for.
pub(super) fn signals(with_hangup: bool) -> std::io::Result<channel::Receiver<&'static str>> {
    /// The first, the second, and none that matters after them.
    const SIGNALS: usize = 4;
    let (signal_tx, signal_rx) = channel::bounded(SIGNALS);
    let (started_tx, started_rx) = channel::bounded(1);
    let wait = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            // Reads the configuration again; a terminal that closes must not end anything else either.
            let mut hangup = signal(SignalKind::hangup())?;
            started_tx.send(()).map_err(std::io::Error::other)?;
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                    _ = hangup.recv() => if with_hangup { HANGUP } else { continue },
                };
                if signal_tx.send(name).is_err() {
                    return Ok::<(), std::io::Error>(());
                }
            }
        })
    };
    let thread = thread::Builder::new().name("signals".into()).spawn(wait)?;
    match started_rx.recv() {
        Ok(()) => Ok(signal_rx),
        Err(_) => Err(match thread.join() {
            Ok(Err(error)) => error,
            _ => std::io::Error::other("the signal thread ended"),
        }),
    }
}
