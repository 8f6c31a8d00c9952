//! Finds the spool, and who answers for it: nobody (then we do, with its lock), or the relay that holds it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};

use crate::config::{self, Action, Compression, Config, Durability, Share, SpoolFull, SpoolKey, SpoolSync};
use crate::spool::block::Coder;
use crate::spool::control::{self, Answer, Op, Stat};
use crate::spool::store::{Event, OpenError, Options, Store};

use super::progress::{Progress, Unit};
use super::{EXIT_CONFIG, End, Where, say, show};

/// Where the spool is, and what is known of it.
pub(super) struct Place {
    spool: config::Spool,
    /// The configuration's routes, where there is one.
    routes: Option<Vec<Route>>,
}

/// What is known of a route.
struct Route {
    name: String,
    share: Share,
    forwards: bool,
}

fn routes(config: &Config) -> Vec<Route> {
    let route = |route: &config::Route| Route {
        name: route.name.clone(),
        share: route.spool,
        forwards: matches!(route.action, Action::Forward { .. }),
    };
    config.routes.iter().map(route).collect()
}

/// A spool that answers.
pub(super) enum Spool {
    /// No relay holds it; we do, as long as this lives.
    Stopped(Box<Store>),
    /// The relay that holds it is asked.
    Running {
        /// The spool's folder.
        dir: PathBuf,
        /// Who holds it, for people.
        by: String,
    },
}

impl Where {
    /// Finds the folder. Nothing is opened yet.
    pub(super) fn find(&self) -> Result<Place, End> {
        if let Some(dir) = &self.dir {
            let encryption_key = self.encryption_key_file.as_deref().map(key).transpose()?;
            return Ok(Place { spool: alone(dir, encryption_key), routes: None });
        }
        let loaded = self.configuration.load().map_err(|code| {
            say("the spool's folder is all that is needed: name it with --dir DIR, and no configuration is read\n");
            End::Config(code)
        })?;
        match loaded.config.spool.clone() {
            Some(spool) => Ok(Place { spool, routes: Some(routes(&loaded.config)) }),
            None => {
                say("the configuration has no spool: add spool: {dir: …} to it, or name a folder with --dir DIR\n");
                Err(End::Config(ExitCode::from(EXIT_CONFIG)))
            }
        }
    }

    /// Finds the folder where a configuration is needed besides: `--dir` in place of the one that it names. What it says of
    /// its own spool holds for that one too.
    pub(super) fn with(&self, config: &Config) -> Result<Place, End> {
        let mut spool = match (&self.dir, config.spool.clone()) {
            (None, None) => {
                say("the configuration has no spool: name a folder with --dir DIR\n");
                return Err(End::Config(ExitCode::from(EXIT_CONFIG)));
            }
            (None, Some(spool)) => spool,
            (Some(dir), Some(spool)) => config::Spool { dir: dir.clone(), ..spool },
            (Some(dir), None) => alone(dir, None),
        };
        if let Some(file) = &self.encryption_key_file {
            spool.encryption_key = Some(key(file)?);
        }
        Ok(Place { spool, routes: Some(routes(config)) })
    }
}

/// A spool of which only the folder is known. What is appended to it by hand has no bound but the disk.
fn alone(dir: &Path, encryption_key: Option<SpoolKey>) -> config::Spool {
    config::Spool {
        dir: dir.to_path_buf(),
        max_size: u64::MAX,
        when_full: SpoolFull::Block,
        durability: Durability::Overflow,
        sync: SpoolSync::EveryBatch,
        min_free: 0,
        compression: Compression::Lz4,
        spill_after: std::time::Duration::ZERO,
        encryption_key,
    }
}

/// Reads a key as the configuration does.
fn key(path: &Path) -> anyhow::Result<SpoolKey> {
    config::read_spool_key(path).map_err(|why| anyhow!("--encryption-key-file {}: {why}", path.display()))
}

impl Place {
    /// The spool's folder.
    pub(super) fn dir(&self) -> &Path {
        &self.spool.dir
    }

    /// Routes of the configuration that forward; `None` where there is no configuration.
    pub(super) fn forwarding(&self) -> Option<BTreeSet<&str>> {
        let forwarding = self.routes.as_ref()?.iter().filter(|route| route.forwards);
        Some(forwarding.map(|route| route.name.as_str()).collect())
    }

    /// Bytes that the spool may take; `None` where there is no configuration.
    pub(super) fn max_size(&self) -> Option<u64> {
        self.routes.as_ref().map(|_| self.spool.max_size)
    }

    /// What the configuration says of the spool, or of one like it.
    pub(super) fn spool(&self) -> &config::Spool {
        &self.spool
    }

    /// Opens blocks.
    pub(super) fn coder(&self) -> Coder {
        Coder::new(self.spool.compression, self.spool.encryption_key.as_ref())
    }

    /// Refuses a folder that is no spool.
    ///
    /// # Errors
    /// What is there instead, and what to do.
    pub(super) fn exists(&self) -> anyhow::Result<()> {
        let dir = self.dir();
        let found = |name: &str| match fs::symlink_metadata(dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(denied(error, dir)),
            Ok(_) => Ok(true),
        };
        if found("format")? || found("segments")? {
            return Ok(());
        }
        bail!(
            "no spool is in {}: a relay makes it when it starts with spool: {{dir: {0}}}; is another folder meant?",
            dir.display()
        )
    }

    /// Opens the spool, or finds the relay that has.
    ///
    /// # Errors
    /// It is held by somebody who does not listen, it may not be opened, or its disk fails.
    pub(super) fn open(&self) -> anyhow::Result<Spool> {
        let dir = self.dir();
        self.is_ours()?;
        let routes = self.routes.iter().flatten();
        let shares = routes.map(|route| (route.name.clone(), route.share)).collect();
        match Store::open(Options::new(&self.spool, shares)) {
            Ok(store) => {
                let mut store = Box::new(store);
                complete(&mut store);
                Ok(Spool::Stopped(store))
            }
            Err(OpenError::Held { by }) => {
                let mut spool = Spool::Running { dir: dir.to_path_buf(), by };
                if spool.stat()?.rebuilding {
                    say("the relay makes its index again: until it has, it does not know of all blocks\n");
                }
                Ok(spool)
            }
            Err(OpenError::Io(error)) => Err(denied(error, dir)),
            Err(error) => Err(anyhow!(error).context(format!("cannot open the spool in {}", dir.display()))),
        }
    }

    /// Files that root makes in another user's spool would keep that user's relay from opening it.
    fn is_ours(&self) -> anyhow::Result<()> {
        let owner = |path: &Path| fs::metadata(path).map(|metadata| metadata.uid());
        let (Ok(ours), Ok(theirs)) = (owner(Path::new("/proc/self")), owner(self.dir())) else { return Ok(()) };
        if ours == 0 && theirs != 0 && !is_held(self.dir()) {
            bail!(
                "{} belongs to user {theirs}: files that root makes there would lock its relay out. \
                 Run this as that user: sudo -u '#{theirs}' forebay spool …",
                self.dir().display()
            );
        }
        Ok(())
    }
}

/// Whether somebody holds the lock. Asks with a shared lock, which is given back at once.
fn is_held(dir: &Path) -> bool {
    match fs::File::open(dir.join("lock")) {
        Ok(lock) => matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)),
        Err(_) => false,
    }
}

fn denied(error: io::Error, dir: &Path) -> anyhow::Error {
    let what = match error.kind() {
        io::ErrorKind::PermissionDenied => format!("{}: run this as the relay's user, or as root", dir.display()),
        _ => dir.display().to_string(),
    };
    anyhow!(error).context(what)
}

/// An index that is being made again knows a part only: nobody but us is waiting, so that we can.
fn complete(store: &mut Store) {
    if !store.is_rebuilding() {
        return;
    }
    let progress = Progress::new("reading the segments", Unit::Steps, 0);
    while store.is_rebuilding() && store.work() {
        progress.turn();
    }
    drop(progress);
    if store.is_rebuilding() {
        say("the index cannot be made again now: not all blocks are known\n");
    }
}

impl Spool {
    /// Asks; whoever holds the spool does it.
    ///
    /// # Errors
    /// It could not be done, or nobody answers.
    pub(super) fn ask(&mut self, op: Op) -> anyhow::Result<Answer> {
        let answer = match self {
            Self::Stopped(store) => control::handle(op, store),
            Self::Running { dir, by } => control::ask(dir, op).with_context(|| {
                format!(
                    "the spool in {} is held by {by}, which does not answer on its socket \"{}\": \
                     if it is another forebay spool command, wait for it; if it is a relay, look at its log",
                    dir.display(),
                    control::SOCKET
                )
            })?,
        };
        match answer {
            Answer::Failed(why) => Err(anyhow!(why)),
            answer => Ok(answer),
        }
    }

    /// How much of what there is.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(super) fn stat(&mut self) -> anyhow::Result<Stat> {
        match self.ask(Op::Stat)? {
            Answer::Stat(stat) => Ok(stat),
            _ => bail!("the relay did not answer with its state"),
        }
    }

    /// Gives the spool back, and says what was found on the way.
    ///
    /// # Errors
    /// What was done may not survive a power cut.
    pub(super) fn close(self) -> anyhow::Result<()> {
        let Self::Stopped(mut store) = self else { return Ok(()) };
        // That a new spool has an index now is no news.
        for event in store.events().into_iter().filter(|event| *event != Event::Rebuilt { blocks: 0 }) {
            say(&format!("{}\n", told(&event)));
        }
        store.close().context("the spool could not be closed: what was done last may not survive a power cut")
    }
}

/// What happened while we held the spool, for the operator.
fn told(event: &Event) -> String {
    let name = |route: &str| show::safe(route.as_bytes()).into_owned();
    match event {
        Event::Evicted { route, blocks, records } => {
            format!("{}: {records} messages in {blocks} blocks were dropped to make room", name(route))
        }
        Event::Damaged { route, records, bytes } => {
            let whose = route.as_deref().map(|route| format!(" of {}", name(route))).unwrap_or_default();
            let lost = records.map_or("an unknown count of".to_owned(), |records| records.to_string());
            format!("{bytes} octets are damaged: {lost} messages{whose} are lost")
        }
        Event::Locked { route, records } => {
            format!("{}: {records} messages do not decrypt with this key: they stay, and are skipped", name(route))
        }
        Event::Recovered { route, records } => {
            format!("{}: {records} messages that the index had lost were found again", name(route))
        }
        Event::Quarantined { path } => format!("put aside as damaged: {}", path.display()),
        Event::Rebuilding { why } => format!("the index is made again: {why}"),
        Event::Rebuilt { blocks } => format!("the index is made again, of {blocks} blocks"),
        Event::SyncBehind => "the index is synced behind its library".to_owned(),
    }
}
