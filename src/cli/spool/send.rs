//! `forebay spool send`: sends what waits in a spool, and ends: the spool of a relay that is gone, by any machine that has
//! its configuration.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use crossbeam_channel as channel;
use tracing::warn;

use crate::config::{Config, Loaded};
use crate::relay::Relay;

use super::place::{Place, Spool};
use super::progress::{Progress, Unit};
use super::run::{EXIT_RUNTIME, signals};
use super::{End, Send as Options, log, print, say, show};

/// How often the relay's counts are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Nothing waits when so many looks in a row have found nothing: what is on its way from the disk is counted nowhere for
/// a moment.
const LOOKS_IN_VAIN: u32 = 5;

/// Runs a relay without inputs on that spool until nothing is left, or a signal ends it.
pub(super) fn send(options: &Options) -> Result<ExitCode, End> {
    let loaded = options.place.configuration.load().map_err(End::Config)?;
    let place = options.place.with(&loaded.config)?;
    place.exists()?;
    // Opened by us first: an index that is damaged is made again before anybody counts.
    let all = messages(&place)?.0;
    let config = without_inputs(loaded, &place);
    let timeout = config.shutdown_timeout;
    let _log = log::start(&config.log).map(log::Started::in_background).map_err(|mistake| anyhow!("{mistake}"))?;
    let signals = signals(false).map_err(|error| anyhow!(error).context("cannot wait for signals"))?;
    let relay = Relay::start(config).map_err(|error| anyhow!("cannot start: {error}"))?;
    let ended_by = wait_until_sent(&relay, &signals, all);
    relay.stop(timeout);
    let lost = relay.wait(timeout);
    drop(relay);
    report(&place, lost, ended_by)
}

/// How many messages wait for routes that the configuration forwards, and for others, by their name.
fn messages(place: &Place) -> Result<(u64, BTreeMap<String, u64>), End> {
    let mut spool = place.open()?;
    if let Spool::Running { by, .. } = &spool {
        return Err(End::Wrong(anyhow!("the spool in {} is held by {by}: its relay sends it", place.dir().display())));
    }
    let stat = spool.stat()?;
    spool.close()?;
    let forwarding = place.forwarding().unwrap_or_default();
    let (mut ours, mut others) = (0, BTreeMap::new());
    for lane in stat.lanes.into_iter().filter(|lane| lane.records > 0) {
        if forwarding.contains(lane.route.as_str()) {
            ours += lane.records;
        } else {
            *others.entry(lane.route).or_default() += lane.records;
        }
    }
    Ok((ours, others))
}

/// The configuration's outputs and routes, on `place`. Neither its listeners nor its admin server: those are another
/// relay's on this machine, as a rule.
fn without_inputs(loaded: Loaded, place: &Place) -> Config {
    let mut config = loaded.config;
    for input in &mut config.inputs {
        // The inputs themselves stay: templates print their names.
        input.listen.clear();
        input.impstats = None;
        input.tls = None;
    }
    config.admin.clear();
    config.spool = Some(place.spool().clone());
    config
}

/// Returns the signal that has ended the wait before everything was sent.
fn wait_until_sent(relay: &Relay, signals: &channel::Receiver<&'static str>, all: u64) -> Option<&'static str> {
    let waiting =
        || relay.meters().routes.iter().map(|route| route.spooled.value() + route.waiting.value()).sum::<u64>();
    let progress = Progress::new("sending", Unit::Messages, all);
    let (mut done, mut in_vain) = (0, 0);
    while in_vain < LOOKS_IN_VAIN {
        match signals.recv_timeout(LOOK_EVERY) {
            Ok(name) => return Some(name),
            Err(channel::RecvTimeoutError::Timeout) => {}
            Err(channel::RecvTimeoutError::Disconnected) => return Some("the end of the signals' thread"),
        }
        if !relay.ended().is_empty() {
            warn!("a shard ended by itself: stopping");
            return Some("the end of a shard");
        }
        let left = waiting();
        in_vain = if left == 0 { in_vain + 1 } else { 0 };
        let now_done = all.saturating_sub(left);
        progress.advance(now_done.saturating_sub(done));
        done = done.max(now_done);
    }
    None
}

/// Says what is left.
fn report(place: &Place, lost: Option<u64>, ended_by: Option<&str>) -> Result<ExitCode, End> {
    let (left, others) = messages(place)?;
    for (route, count) in &others {
        let route = show::safe(route.as_bytes());
        say(&format!("{route}: {count} messages stay: no route of the configuration has that name and forwards\n"));
    }
    if let Some(name) = ended_by {
        say(&format!("ended by {name}\n"));
    }
    match lost {
        Some(0) => {}
        Some(lost) => say(&format!("{lost} messages could neither be delivered nor be put back: they are lost\n")),
        None => say("it did not end in time\n"),
    }
    let dir = place.dir().display();
    if left == 0 && others.is_empty() && lost == Some(0) {
        print(&format!("{dir}: everything is sent\n"));
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("{dir}: {left} messages are left to be sent\n"));
    Ok(ExitCode::from(EXIT_RUNTIME))
}
