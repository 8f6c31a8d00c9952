//! Log lines, on standard error: readable on a terminal, JSON for machines.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, OnceLock};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogFormat};

/// Lines that may wait to be written, about 200 octets each: 1.6 MB.
const LINES_MAX: usize = 8_192;

/// Where lines go: to standard error, and from some moment on by way of a thread.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<OnceLock<NonBlocking>>);

/// Started, without a thread yet.
pub(super) struct Started(Lines);

impl Started {
    /// Goes on in a thread of its own: a terminal or a container's log driver that does not read must not stop the shards
    /// that write. What does not fit the buffer then is left out. Lines are written as long as the guard lives.
    pub(super) fn in_background(self) -> WorkerGuard {
        let writer = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX);
        let (writer, guard) = writer.thread_name("log").finish(std::io::stderr());
        // It is set here alone.
        drop(self.0.0.set(writer));
        guard
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

/// Starts logging, at first line by line without a thread: the process must not have one before it has given up what it
/// needs no more.
///
/// Control characters in what a peer sent are escaped by the formatter, so that they never reach a
/// terminal. `Err` says why the level cannot be used.
pub(super) fn start(log: &Log) -> Result<Started, String> {
    let filter = EnvFilter::try_new(&log.level).map_err(|error| format!("log.level: {error}"))?;
    let lines = Lines::default();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines.clone());
    match log.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        // The message may hold what a peer sent; the place alone tells us what to mend.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(%place, "a task panicked: this is a bug in forebay, please report it");
    }));
    Ok(Started(lines))
}
