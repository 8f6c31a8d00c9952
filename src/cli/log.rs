//! Log lines, on standard error: readable on a terminal, JSON for machines.

use std::io::IsTerminal;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Lines that may wait to be written, about 200 octets each: 1.6 MB.
const LINES_MAX: usize = 8_192;

/// Changes what is logged.
pub(super) struct Level {
    set: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send>,
}

impl Level {
    /// Logs as `level` says from now on. `Err` says why it cannot be used.
    pub(super) fn set_level(&self, level: &str) -> Result<(), String> {
        (self.set)(filter(level)?)
    }
}

/// What `level` asks for. `Err` says why it cannot be used.
pub(super) fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(level).map_err(|error| format!("log.level: {error}"))
}

/// Starts logging, in a thread of its own: a terminal or a container's log driver that does not read must not stop the
/// shards that write. What does not fit the buffer then is left out. Lines are written as long as the guard lives.
///
/// Control characters in what a peer sent are escaped by the formatter, so that they never reach a
/// terminal. `Err` says why the level cannot be used.
pub(super) fn start(log: &Log) -> Result<(WorkerGuard, Level), String> {
    let filter = filter(&log.level)?;
    let writer = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX);
    let (writer, guard) = writer.thread_name("log").finish(std::io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let set: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send> = match log.format {
        LogFormat::Text => {
            let builder = builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.finish().init();
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.finish().init();
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }
    };
    std::panic::set_hook(Box::new(|panic| {
        // The message may hold what a peer sent; the place alone tells us what to mend.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(%place, "a task panicked: this is a bug in forebay, please report it");
    }));
    Ok((guard, Level { set }))
}
