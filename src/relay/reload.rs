//! Another configuration for a running relay: checked whole, then applied to what it changes and to nothing else.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel as channel;
use tracing::{error, info, warn};

use crate::admin::{Admin, Verdict};
use crate::config::{Config, Listen, Loaded, Output, Protocol};
use crate::forward::FileWriter;
use crate::receive::{self, Bound};
use crate::road::Targets;
use crate::shard::{Change, Common};
use crate::time::since_epoch;

use super::sockets::Listening;
use super::{Certificates, Relay, certificates, remove_unix_sockets};

mod reach;
mod report;

/// How long the shards may take to apply it: they do it between two turns.
const APPLY_WITHIN: Duration = Duration::from_secs(10);

impl Relay {
    /// Runs as `loaded` says from now on: what has changed, in words. Or goes on as before: why, all of it. One call at a time.
    ///
    /// # Errors
    /// All that is wrong with it, also what only a restart can change.
    pub fn reload(&self, loaded: Loaded) -> Verdict {
        let verdict = self.try_reload(loaded);
        self.told(verdict)
    }

    /// The same where there is no configuration to apply: `report` says why.
    ///
    /// # Errors
    /// `report`.
    pub fn refuse(&self, report: Vec<String>) -> Verdict {
        self.told(Err(report))
    }

    fn told(&self, mut verdict: Verdict) -> Verdict {
        let now = self.running.now();
        if let Err(report) = &mut verdict {
            report.extend(now.standing.explanation(report));
        }
        let meters = &now.common.meters.reloads;
        match &verdict {
            Ok(_) => meters.applied.add(1),
            Err(_) => meters.refused.add(1),
        }
        meters.last_succeeded.set(u64::from(verdict.is_ok()));
        now.reloads.told(&verdict);
        verdict
    }

    fn try_reload(&self, loaded: Loaded) -> Verdict {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.running.now();
        let before = &now.common;
        let config = possible(&now, &sockets, loaded)?;
        let expiries = before.meters.expiries_for(&config);
        let certificates = certificates(&config, &expiries)?;
        let stay: Vec<Listening> = sockets.iter().filter_map(|socket| socket.under(&config)).collect();
        let wanted = missing(&config, &stay, &certificates.dark);
        let urls: Vec<_> = stay.iter().map(|socket| (socket.input, socket.url.clone())).collect();
        let (bound, errors) = receive::bind_more(&config, &wanted, &urls);
        if !errors.is_empty() && !config.lenient {
            return Err(errors.iter().map(ToString::to_string).collect());
        }
        let files = files(before, &config).map_err(|error| vec![format!("cannot start a thread: {error}")])?;
        // Nothing is refused from here on.
        before.meters.grow(&config, &expiries);
        before.web.grow(&before.config, &config);
        let dark = certificates.dark.iter().map(|(_, why)| why.clone());
        let left_out: Vec<String> = config
            .left_out
            .iter()
            .map(ToString::to_string)
            .chain(dark)
            .chain(errors.iter().map(ToString::to_string))
            .collect();
        left_out.iter().for_each(|why| error!("left out: {why}"));
        let common = Arc::new(successor(before, config, certificates, files));
        common.meters.left_out.set(left_out.len() as u64);
        let mut changes = report::changes(&before.config, &common.config);
        let new = Listening::all(&bound);
        let gone: Vec<Listening> =
            sockets.iter().filter(|socket| socket.under(&common.config).is_none()).cloned().collect();
        for Listening { input, url, .. } in &new {
            let name = common.config.inputs.get(*input).map(|input| input.name.as_str()).unwrap_or_default();
            info!(input = %name, address = %url, "listening");
            changes.push(format!("listens on {url}"));
        }
        changes.extend(gone.iter().map(|socket| format!("listens no more on {}", socket.url)));
        self.give(&common, bound);
        *sockets = stay.into_iter().chain(new).collect();
        let listening = sockets.iter().map(|socket| (socket.input, socket.url.clone())).collect();
        // Shards have closed them.
        remove_unix_sockets(gone.iter().filter_map(|socket| socket.file.as_ref()));
        let meters = &common.meters.reloads;
        meters.generation.add(1);
        meters.applied_at.set(since_epoch().as_secs());
        let generation = meters.generation.value();
        if changes.is_empty() {
            changes.push("nothing has changed".to_owned());
        }
        changes.insert(0, format!("configuration {generation} runs"));
        self.running.replace(Admin {
            common,
            listening,
            left_out,
            spool: now.spool.clone(),
            tls: now.tls.clone(),
            standing: Arc::clone(&now.standing),
            started: now.started,
            reloads: Arc::clone(&now.reloads),
        });
        info!(generation, changes = %changes.get(1..).unwrap_or_default().join("; "), "the configuration was read again, and runs");
        Ok(changes)
    }

    /// Gives it to all shards, and waits until they run with it.
    fn give(&self, common: &Arc<Common>, bound: Vec<Bound>) {
        let shards = self.changes.len();
        let mut by_shard: Vec<Vec<Bound>> = (0..shards).map(|_| Vec::new()).collect();
        for socket in bound {
            if let Some(sockets) = by_shard.get_mut(socket.shard) {
                sockets.push(socket);
            }
        }
        let (done_tx, done) = channel::bounded(shards);
        let mut asked = 0;
        for (shard, (changes, bound)) in self.changes.iter().zip(by_shard).enumerate() {
            let change = Change { common: Arc::clone(common), bound, done: done_tx.clone() };
            match changes.try_send(change) {
                Ok(()) => asked += 1,
                Err(_) => error!(shard, "a shard does not take another configuration: it goes on with the old one"),
            }
        }
        let deadline = Instant::now() + APPLY_WITHIN;
        for _ in 0..asked {
            match done.recv_deadline(deadline) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => error!("a new listener cannot be read: {error}"),
                Err(_) => warn!("a shard is busy: it will run with the new configuration as soon as it turns"),
            }
        }
    }
}

/// The configuration, with the numbers that its entries have in this process; or what keeps this process from it.
fn possible(now: &Admin, sockets: &[Listening], loaded: Loaded) -> Result<Config, Vec<String>> {
    let before = &now.common.config;
    let mut mistakes = report::unchangeable(before, &loaded);
    mistakes.extend(reach::refused(&now.standing, before, &loaded));
    mistakes.sort();
    if !mistakes.is_empty() {
        return Err(mistakes.iter().map(ToString::to_string).collect());
    }
    let config = loaded.config.after(before);
    match sockets.iter().find(|socket| socket.inherited && socket.under(&config).is_none()) {
        Some(listening) => Err(vec![format!(
            "{}: the service manager has bound this socket, and no input listens there any more: take it out of the socket \
             unit, and restart the relay",
            listening.url
        )]),
        None => Ok(config),
    }
}

/// Addresses that are to be bound.
fn missing(config: &Config, stay: &[Listening], dark: &[(usize, String)]) -> Vec<(usize, Listen)> {
    let inputs = config
        .inputs
        .iter()
        .enumerate()
        .filter(|(index, input)| !input.retired && !dark.iter().any(|(dark, _)| dark == index));
    let all = inputs.flat_map(|(index, input)| input.listen.iter().map(move |listen| (index, listen.clone())));
    let is_there = |(index, listen): &(usize, Listen)| {
        stay.iter().any(|socket| socket.input == *index && socket.listen == *listen)
    };
    all.filter(|wanted| !is_there(wanted)).collect()
}

/// Whether connections of both are alike: how many there are, and whether they are still wanted, is another matter.
fn are_alike(one: &Output, other: &Output) -> bool {
    let plain = |output: &Output| Output { retired: false, connections_per_shard: 1, ..output.clone() };
    plain(one) == plain(other)
}

/// Who writes the files: those that there are, for outputs that do not change.
fn files(before: &Common, config: &Config) -> std::io::Result<Vec<Option<FileWriter>>> {
    let file_of = |(index, output): (usize, &Output)| match (&output.protocol, before.outputs.get(index)) {
        (_, Some(known)) if output.retired || are_alike(known, output) => {
            Ok(before.files.get(index).cloned().flatten())
        }
        (Protocol::File(file), _) => FileWriter::start(&output.name, file).map(Some),
        _ => Ok(None),
    };
    config.outputs.iter().enumerate().map(file_of).collect()
}

/// What all shards share from now on: of what did not change, the same.
fn successor(before: &Common, config: Config, certificates: Certificates, files: Vec<Option<FileWriter>>) -> Common {
    let Certificates { acceptors, connectors, .. } = certificates;
    let mut common = Common {
        inputs: Vec::new(),
        acceptors: Vec::new(),
        gates: Vec::new(),
        outputs: Vec::new(),
        connectors: Vec::new(),
        said: Vec::new(),
        web: Arc::clone(&before.web),
        files,
        targets: Vec::new(),
        names: before.names.clone(),
        meters: Arc::clone(&before.meters),
        taps: Arc::clone(&before.taps),
        heartbeats: Arc::clone(&before.heartbeats),
        config: Arc::new(config),
    };
    for ((index, input), acceptor) in common.config.inputs.iter().enumerate().zip(acceptors) {
        let known = before.inputs.get(index);
        let same = known.filter(|known| ***known == *input).map_or_else(|| Arc::new(input.clone()), Arc::clone);
        let has_same_files = known.is_some_and(|known| known.tls == input.tls);
        let old = before.acceptors.get(index).cloned().flatten();
        // The one that is there follows its files by itself.
        if let Some(old) = old.as_ref().filter(|_| has_same_files && !input.retired) {
            old.refresh();
        }
        common.acceptors.push(if has_same_files || acceptor.is_none() { old.or(acceptor) } else { acceptor });
        common.inputs.push(same);
        common.gates.push(before.gates.get(index).cloned().unwrap_or_default());
    }
    for ((index, output), connector) in common.config.outputs.iter().enumerate().zip(connectors) {
        let old = before.connectors.get(index).cloned().flatten();
        let known = before.outputs.get(index);
        match known.filter(|known| output.retired || are_alike(known, output)) {
            Some(known) => {
                if let Some(old) = old.as_ref().filter(|_| !output.retired) {
                    old.refresh();
                }
                common.outputs.push(Arc::clone(known));
                common.connectors.push(old);
                common.targets.extend(before.targets.get(index).cloned());
            }
            None => {
                common.outputs.push(Arc::new(output.clone()));
                common.connectors.push(connector);
                common.targets.push(Arc::new(Targets::of(output)));
            }
        }
        common.said.push(before.said.get(index).cloned().unwrap_or_default());
    }
    if common.meters.ready.load(Relaxed) {
        common.connectors.iter().flatten().for_each(|client| client.warm_up());
    }
    common
}
