//! Log lines, on standard error: readable on a terminal, JSON for machines.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, OnceLock};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, registry, reload};

use crate::config::{Log, LogFormat};

/// Lines that may wait to be written, about 200 octets each: 1.6 MB.
const LINES_MAX: usize = 8_192;

/// Where lines go: to standard error, and from some moment on by way of a thread.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<OnceLock<NonBlocking>>);

/// Started, without a thread yet.
pub(super) struct Started {
    lines: Lines,
    level: Level,
}

impl Started {
    /// Goes on in a thread of its own: a terminal or a container's log driver that does not read must not stop the shards
    /// that write. What does not fit the buffer then is left out. Lines are written as long as the guard lives.
    pub(super) fn in_background(self) -> (WorkerGuard, Level) {
        let writer = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX);
        let (writer, guard) = writer.thread_name("log").finish(std::io::stderr());
        // It is set here alone.
        drop(self.lines.0.set(writer));
        (guard, self.level)
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Box<dyn Write>;

    fn make_writer(&'a self) -> Self::Writer {
        match self.0.get() {
            Some(behind) => Box::new(behind.clone()),
            None => Box::new(std::io::stderr()),
        }
    }
}

/// Changes what is logged.
pub(super) struct Level(reload::Handle<Targets, Registry>);

impl Level {
    /// Logs as `level` says from now on. `Err` says why it cannot be used.
    pub(super) fn set_level(&self, level: &str) -> Result<(), String> {
        self.0.reload(filter(level)?).map_err(|error| error.to_string())
    }
}

/// What `level` asks for. `Err` says why it cannot be used.
pub(super) fn filter(level: &str) -> Result<Targets, String> {
    level.parse::<Targets>().map_err(|error| format!("log.level: {error}"))
}

/// Starts logging, at first line by line without a thread: the process must not have one before it has given up what it
/// needs no more.
///
/// Control characters in what a peer sent are escaped by the formatter, so that they never reach a
/// terminal. `Err` says why the level cannot be used.
pub(super) fn start(log: &Log) -> Result<Started, String> {
    let (filter, level) = reload::Layer::new(filter(&log.level)?);
    let lines = Lines::default();
    let layer = fmt::layer().with_writer(lines.clone());
    let layer = match log.format {
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).with_target(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
    };
    registry().with(filter).with(layer).init();
    std::panic::set_hook(Box::new(|panic| {
        // The message may hold what a peer sent; the place alone tells us what to mend.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(%place, "a task panicked: this is a bug in forebay, please report it");
    }));
    Ok(Started { lines, level: Level(level) })
}
