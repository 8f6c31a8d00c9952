//! The terminal: taken, and given back as it was, whatever ends us.

use std::io;
use std::thread;

use crossbeam_channel as channel;
use crossterm::event::{self, Event};
use ratatui::DefaultTerminal;
use tokio::signal::unix::{SignalKind, signal};

/// Keys and sizes that wait to be looked at.
const EVENTS_MAX: usize = 64;

/// The screen. Dropping it gives the terminal back; so does a panic.
pub(super) struct Screen {
    pub(super) terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn take() -> io::Result<Self> {
        // Also has a panic give it back before it says what it has to say.
        Ok(Self { terminal: ratatui::try_init()? })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        drop(ratatui::try_restore());
    }
}

/// A thread that reads keys. It ends with the process.
///
/// # Errors
/// When the process is out of threads.
pub(super) fn events() -> io::Result<channel::Receiver<io::Result<Event>>> {
    let (events_tx, events) = channel::bounded(EVENTS_MAX);
    let read = move || {
        loop {
            let event = event::read();
            let has_failed = event.is_err();
            if events_tx.send(event).is_err() || has_failed {
                return;
            }
        }
    };
    thread::Builder::new().name("keys".into()).spawn(read)?;
    Ok(events)
}

/// A thread that waits for a signal that ends us: once.
///
/// # Errors
/// When the process is out of threads.
pub(super) fn signals() -> io::Result<channel::Receiver<()>> {
    let (signal_tx, signals) = channel::bounded(1);
    let wait = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut hangup = signal(SignalKind::hangup())?;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
            signal_tx.send(()).map_err(io::Error::other)
        })
    };
    thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(signals)
}
