//! What is made of files, made again when they change.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tracing::{error, info, warn};

use crate::time::since_epoch;

use super::TlsError;
use super::files::{Stamp, stamps};
use super::presented::Presented;

/// A configuration of rustls, and what it presents.
pub(super) struct Loaded<C> {
    pub(super) config: Arc<C>,
    /// Our own certificate, where we have one.
    pub(super) ours: Option<Presented>,
}

/// Makes a configuration of the files.
type Load<C> = Box<dyn Fn() -> Result<Loaded<C>, TlsError> + Send + Sync>;

/// A configuration made of files. One that cannot be made leaves the last one in its place.
pub(super) struct Reloaded<C> {
    /// Where it stands in the configuration: `outputs.NAME.tls`.
    of: String,
    files: Vec<PathBuf>,
    load: Load<C>,
    now: RwLock<Arc<Loaded<C>>>,
    seen: Mutex<Seen>,
}

/// The files as they were when last read.
struct Seen {
    stamps: Vec<Option<Stamp>>,
    /// Why nothing could be made of them, as the log was told.
    mistake: Option<String>,
}

impl<C> Reloaded<C> {
    /// Reads `files` by `load`, which may read no others.
    ///
    /// # Errors
    /// Those of `load`.
    pub(super) fn new(
        of: String,
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<Loaded<C>, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        // Before they are read: what changes meanwhile is seen at the next look.
        let stamps = stamps(&files);
        let first = load()?;
        warn_of_end(&of, first.ours.as_ref());
        let now = RwLock::new(Arc::new(first));
        Ok(Self { of, files, load: Box::new(load), now, seen: Mutex::new(Seen { stamps, mistake: None }) })
    }

    /// The last one that could be made. Waits for nothing but its exchange.
    pub(super) fn now(&self) -> Arc<Loaded<C>> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the files, and reads them where they have changed, or could not be used the last time: a certificate and
    /// its key are written one after the other. Says once what became of it. May wait for a disk.
    pub(super) fn refresh(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.files);
        let has_changed = stamps != seen.stamps;
        if !has_changed && seen.mistake.is_none() {
            return;
        }
        let loaded = (self.load)();
        seen.stamps = stamps;
        match loaded {
            Ok(new) => {
                let ours = new.ours.as_ref().map(|ours| format!("; ours is {ours}")).unwrap_or_default();
                info!("{}: certificates have changed and are used from the next connection on{ours}", self.of);
                warn_of_end(&self.of, new.ours.as_ref());
                *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                seen.mistake = None;
            }
            Err(mistake) => {
                let mistake = mistake.to_string();
                if has_changed || seen.mistake.as_ref() != Some(&mistake) {
                    error!(
                        "{}: certificates have changed and cannot be used: {mistake}; the last ones stay in use, and the \
                         files are looked at again by themselves",
                        self.of
                    );
                }
                seen.mistake = Some(mistake);
            }
        }
    }
}

/// Nobody trusts one that has ended, and its owner is the last to hear of it.
fn warn_of_end(of: &str, ours: Option<&Presented>) {
    let now = i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX);
    if let Some(ours) = ours.filter(|ours| ours.not_after <= now) {
        warn!("{of}: our certificate has expired: it is {ours}; renew it, the file is read again by itself");
    }
}
