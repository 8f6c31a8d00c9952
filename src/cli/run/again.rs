//! The configuration, read again while the relay runs: when somebody asks, or when a file has changed.

use std::time::Duration;

use tracing::{error, info};

use crate::admin::Verdict;
use crate::config::Loaded;
use crate::relay::Relay;
use crate::systemd::Manager;

use super::super::{Run, log};
use super::watched::Watched;

/// How the configuration is read, and what of it is not the relay's.
pub(super) struct Again<'a> {
    options: &'a Run,
    log: log::Started,
    level: String,
    watched: Watched,
}

impl<'a> Again<'a> {
    /// How often files are looked at.
    pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

    /// `loaded` is what the relay starts with.
    pub(super) fn new(options: &'a Run, log: log::Started, loaded: &Loaded) -> Self {
        let level = loaded.config.log.level.clone();
        Self { options, log, level, watched: Watched::of(loaded.files.clone()) }
    }

    /// Whether a file that the configuration was read from is another than it was, and has been the same for a look: it is not
    /// being written.
    pub(super) fn has_changed(&mut self) -> bool {
        self.watched.has_changed()
    }

    /// Reads the configuration and gives it to the relay; says what came of it.
    pub(super) fn reload(&mut self, relay: &Relay, manager: &Manager, why: &str) -> Verdict {
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
        let (files, level) = (loaded.files.clone(), loaded.config.log.level.clone());
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
