//! The configuration, read again while the relay runs: when somebody asks, or when a file has changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel as channel;
use tracing::{error, info};

use crate::admin::Verdict;
use crate::config::Loaded;
use crate::relay::Relay;
use crate::systemd::Manager;

use super::super::{Run, log};
use super::watched::Watched;

/// How the configuration is read, and what of it is not the relay's.
pub(super) struct Again {
    options: Run,
    log: log::Level,
    level: String,
    watched: Watched,
}

impl Again {
    /// How often files are looked at.
    const LOOK_EVERY: Duration = Duration::from_secs(1);

    /// `files` and `level` are those that the relay starts with.
    pub(super) fn new(options: &Run, log: log::Level, files: Vec<PathBuf>, level: String) -> Self {
        Self { options: options.clone(), log, level, watched: Watched::of(files) }
    }

    /// Starts a thread that reloads when somebody sends, when the admin server is asked, and when a file has changed; it ends
    /// when the sender is dropped. Files may lie on a mount that hangs: neither signals nor a watchdog wait for them.
    pub(super) fn start(mut self, relay: &Arc<Relay>, manager: &Arc<Manager>) -> std::io::Result<channel::Sender<()>> {
        let (hangups_tx, hangups) = channel::bounded(1);
        let (relay, manager) = (Arc::clone(relay), Arc::clone(manager));
        let requests = relay.reloads().serve();
        let serve = move || loop {
            channel::select! {
                recv(hangups) -> hangup => match hangup {
                    Ok(()) => drop(self.reload(&relay, &manager, "SIGHUP")),
                    Err(_) => return,
                },
                recv(requests) -> request => if let Ok(request) = request {
                    // Who asked may have gone.
                    drop(request.reply.send(self.reload(&relay, &manager, "POST /reload")));
                },
                default(Self::LOOK_EVERY) => if relay.config().watch && self.watched.has_changed() {
                    drop(self.reload(&relay, &manager, "a changed file"));
                },
            }
        };
        thread::Builder::new().name("reload".into()).spawn(serve)?;
        Ok(hangups_tx)
    }

    /// Reads the configuration and gives it to the relay; says what came of it.
    fn reload(&mut self, relay: &Relay, manager: &Manager, why: &str) -> Verdict {
        info!("reading the configuration again: {why}");
        manager.reloading();
        // What is written from here on is another change.
        self.watched.look();
        let verdict = match self.read() {
            Ok(loaded) => self.apply(relay, loaded),
            Err(report) => relay.refuse(report),
        };
        if let Err(report) = &verdict {
            report.iter().for_each(|mistake| error!("{mistake}"));
            error!(mistakes = report.len(), "the new configuration is refused: the old one goes on");
        }
        manager.ready(&super::state(relay));
        verdict
    }

    fn read(&self) -> Result<Loaded, Vec<String>> {
        let lines = |report: String| report.lines().map(str::to_owned).collect::<Vec<_>>();
        let mut loaded = self.options.configuration.read(&|name| std::env::var(name).ok()).map_err(lines)?;
        self.options.override_log(&mut loaded);
        log::filter(&loaded.config.log.level).map_err(|mistake| vec![mistake])?;
        Ok(loaded)
    }

    fn apply(&mut self, relay: &Relay, loaded: Loaded) -> Verdict {
        super::tell_of(&loaded);
        let (files, level) = (loaded.read_again.clone(), loaded.config.log.level.clone());
        let changes = relay.reload(loaded)?;
        self.watched.be_of(files);
        if level != self.level {
            match self.log.set_level(&level) {
                Ok(()) => self.level = level,
                Err(why) => error!("the log's level stays as it was: {why}"),
            }
        }
        Ok(changes)
    }
}
