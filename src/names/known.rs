//! What is remembered of names for the time when nobody answers: their last good addresses, and what the log was told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

use super::{LookupError, NAMES_MAX, Source, file};

/// By name, the last good addresses.
pub(super) type LastGood = BTreeMap<String, Vec<IpAddr>>;

/// Shared by the thread, which writes, and who asks. Locked for moments only, and for connects only.
#[derive(Debug, Default)]
pub(super) struct Known {
    state: Mutex<State>,
    restarts: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    last_good: LastGood,
    /// Names that are not answered: with which addresses the log was told that we go on.
    said: BTreeMap<String, Source>,
}

impl Known {
    /// With what an earlier run left in the file at `path`.
    pub(super) fn new(path: Option<&Path>) -> Self {
        let last_good = path.map(file::read).unwrap_or_default();
        Self { state: Mutex::new(State { last_good, said: BTreeMap::new() }), restarts: AtomicU64::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one insertion: what a panic left is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the thread has begun anew, after a panic.
    pub(super) fn restarts(&self) -> u64 {
        self.restarts.load(Relaxed)
    }

    /// Counts another one; all of them.
    pub(super) fn restarted(&self) -> u64 {
        self.restarts.fetch_add(1, Relaxed) + 1
    }

    /// The addresses of the last good answer; none where there was none.
    pub(super) fn last_good(&self, host: &str) -> Vec<IpAddr> {
        self.state().last_good.get(host).cloned().unwrap_or_default()
    }

    /// All of them.
    pub(super) fn all(&self) -> LastGood {
        self.state().last_good.clone()
    }

    /// A good answer. Whether it is another set than the last.
    pub(super) fn learn(&self, host: &str, addresses: &[IpAddr]) -> bool {
        let mut sorted = addresses.to_vec();
        sorted.sort_unstable();
        let mut state = self.state();
        let before = state.last_good.get(host).map(|before| {
            let mut before = before.clone();
            before.sort_unstable();
            before
        });
        if before.as_ref() == Some(&sorted) {
            return false;
        }
        if before.is_none() && state.last_good.len() >= NAMES_MAX {
            state.last_good.pop_first();
        }
        state.last_good.insert(host.to_owned(), addresses.to_vec());
        true
    }

    /// Tells the log where the addresses of a name come from, when that has changed.
    pub(super) fn say(&self, host: &str, source: Source, error: Option<&LookupError>) {
        let mut state = self.state();
        let before = state.said.get(host).copied().unwrap_or(Source::Dns);
        if before == source {
            return;
        }
        if source == Source::Dns {
            state.said.remove(host);
        } else {
            if state.said.len() >= NAMES_MAX {
                state.said.pop_first();
            }
            state.said.insert(host.to_owned(), source);
        }
        drop(state);
        let error = error.map(ToString::to_string).unwrap_or_default();
        match source {
            Source::Dns => info!(%host, "the name resolves again"),
            Source::LastGood => warn!(%host, "cannot resolve the name: {error}; its last good addresses are used"),
            Source::Fallback => warn!(%host, "cannot resolve the name: {error}; fallback_addresses are used"),
        }
    }
}
