//! What the spool's thread tells: counts, states, and a log that says each thing once and then once a minute.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::metrics::{Count, Meters, RouteMeters, SpoolMeters};
use crate::time::since_epoch;

use super::store::{Event, Store};
use super::{Orphan, Shared, State};

/// How often the log says the same again.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// How often sizes and ages are measured.
const MEASURE: Duration = Duration::from_secs(1);

pub(super) struct Reporter {
    meters: Arc<Meters>,
    shared: Arc<Shared>,
    /// By lane number: the route's number in the configuration, and its name.
    lanes: Vec<(usize, String)>,
    measured_at: Option<Instant>,
    failure_told_at: Option<Instant>,
    /// By route: messages lost since the log last told of them, evicted and refused.
    lost: BTreeMap<String, u64>,
    lost_told_at: Option<Instant>,
    /// By route: messages without their key, since the log last told of them.
    locked: BTreeMap<String, u64>,
    locked_told_at: Option<Instant>,
}

/// What was written and not counted yet.
#[derive(Debug, Default)]
pub(super) struct Written {
    blocks: u64,
    messages: u64,
    octets: u64,
}

impl Written {
    /// One more block.
    pub(super) fn add(&mut self, messages: usize, octets: usize) {
        self.blocks += 1;
        self.messages += messages as u64;
        self.octets += octets as u64;
    }
}

impl Reporter {
    pub(super) fn new(lanes: &[(usize, String)], meters: Arc<Meters>, shared: Arc<Shared>) -> Self {
        let reporter = Self {
            meters,
            shared,
            lanes: lanes.to_vec(),
            measured_at: None,
            failure_told_at: None,
            lost: BTreeMap::new(),
            lost_told_at: None,
            locked: BTreeMap::new(),
            locked_told_at: None,
        };
        reporter.set_state(State::Opening);
        reporter
    }

    /// One more lane: its route's number and name.
    pub(super) fn lane_came(&mut self, route: usize, name: &str) {
        self.lanes.push((route, name.to_owned()));
    }

    fn set_state(&self, state: State) {
        self.shared.set_state(state);
        self.spool(|meters| {
            meters.opening.set(u64::from(state == State::Opening));
            meters.ready.set(u64::from(state == State::Ready));
            meters.full.set(u64::from(state == State::Full));
            meters.failing.set(u64::from(state == State::Failing));
        });
    }

    fn spool(&self, update: impl FnOnce(&SpoolMeters)) {
        if let Some(meters) = &self.meters.spool {
            update(meters);
        }
    }

    fn route(&self, name: &str, update: impl FnOnce(&RouteMeters)) {
        let route = self.lanes.iter().find(|(_, lane)| lane == name);
        if let Some(meters) = route.and_then(|(index, _)| self.meters.routes.get(*index)) {
            update(meters);
        }
    }

    /// What the disk holds at the start is what earlier runs left.
    pub(super) fn opened(&mut self, store: &mut Store) {
        let (mut messages, mut bytes) = (0, 0);
        for lane in store.lanes() {
            messages += lane.records;
            bytes += lane.bytes;
        }
        if messages > 0 {
            info!(messages, bytes, "the spool holds messages of an earlier run: they are sent first");
        }
        self.measure(store);
        for Orphan { route, messages, bytes } in self.shared.orphans() {
            warn!(
                %route, messages, bytes,
                "the spool holds messages of a route that is not in the configuration: they are kept; give the route back, \
                 or see `forebay spool export` and `forebay spool drop`"
            );
        }
    }

    /// `records` messages of earlier runs are known now.
    pub(super) fn recovered(&self, route: &str, records: u64) {
        self.route(route, |meters| {
            meters.recovered.add(records);
            meters.spooled.add(records as i64);
        });
    }

    /// Reading and writing work.
    pub(super) fn works(&mut self) {
        if self.failure_told_at.take().is_some() {
            info!("the spool works again");
        }
        self.set_state(State::Ready);
    }

    /// The disk does not do what it should: counted, and said once a minute.
    pub(super) fn fails(&mut self, what: &str, error: &io::Error) {
        self.set_state(State::Failing);
        self.spool(|meters| meters.errors.add(1));
        if self.failure_told_at.is_none_or(|told_at| told_at.elapsed() >= SAY_AGAIN) {
            self.failure_told_at = Some(Instant::now());
            error!("{what}: {error}; messages wait in memory only until it works again, it is tried every second");
        }
    }

    pub(super) fn full(&self) {
        if self.shared.state() == State::Ready {
            self.set_state(State::Full);
            warn!(
                "the spool is full (max_size, a route's share, or min_free): messages wait in memory; \
                 senders are made to wait when that is full, datagrams are lost"
            );
        }
    }

    /// It is not full any more.
    fn has_room(&self) {
        if self.shared.state() == State::Full {
            self.set_state(State::Ready);
        }
    }

    /// Blocks were written, and are safe where each is to be.
    pub(super) fn written(&self, written: &mut Written) {
        self.has_room();
        let Written { blocks, messages, octets } = std::mem::take(written);
        self.spool(|meters| {
            meters.written_blocks.add(blocks);
            meters.written_messages.add(messages);
            meters.written_bytes.add(octets);
        });
    }

    pub(super) fn read(&self) {
        self.spool(|meters| meters.read_blocks.add(1));
    }

    pub(super) fn released(&self) {
        // Whether it is enough, the next block tells.
        self.has_room();
        self.spool(|meters| meters.released_blocks.add(1));
    }

    pub(super) fn synced(&self, took: Duration) {
        self.meters.spool_synced(took.as_secs_f64());
    }

    /// New messages were refused, as the route's `when_full` says.
    pub(super) fn dropped_newest(&mut self, lane: usize, records: usize) {
        let Some((route, name)) = self.lanes.get(lane).cloned() else { return };
        if let Some(meters) = self.meters.routes.get(route) {
            meters.dropped_spool_full.add(records as u64);
        }
        *self.lost.entry(name).or_default() += records as u64;
    }

    /// Counts what the store did and found, and says what an operator should know.
    pub(super) fn report(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Evicted { route, records, blocks } => {
                    self.spool(|meters| meters.evicted_blocks.add(blocks));
                    self.lose(&route, records, |meters| &meters.dropped_spool_full);
                    *self.lost.entry(route).or_default() += records;
                }
                Event::Damaged { route, records, bytes } => {
                    self.spool(|meters| {
                        meters.damaged_blocks.add(1);
                        meters.damaged_bytes.add(bytes);
                    });
                    let (route, messages) = (route.unwrap_or_default(), records.unwrap_or(0));
                    self.lose(&route, messages, |meters| &meters.dropped_spool_damaged);
                    error!(%route, messages, bytes, "a block of the spool is damaged: what it held is lost");
                }
                Event::Recovered { route, records } => self.recovered(&route, records),
                Event::Locked { route, records } => *self.locked.entry(route).or_default() += records,
                Event::Quarantined { path } => {
                    self.spool(|meters| meters.quarantined_files.add(1));
                    warn!(path = %path.display(), "a damaged file of the spool was moved to quarantine");
                }
                Event::Rebuilding { why } => {
                    self.spool(|meters| meters.index_rebuilds.add(1));
                    warn!("the spool's index is made again from its segments: some messages may be sent twice; {why}");
                }
                // A new spool has none.
                Event::Rebuilt { blocks: 0 } => {}
                Event::Rebuilt { blocks } => info!(blocks, "the spool's index is complete again"),
                Event::SyncBehind => {
                    warn!("the spool's index is not synced as it should be: a power cut may send some messages twice")
                }
            }
        }
    }

    /// An operator dropped messages.
    pub(super) fn dropped_by_operator(&self, route: &str, records: u64) {
        self.lose(route, records, |meters| &meters.dropped_operator);
        warn!(%route, messages = records, "messages were dropped from the spool by an operator");
    }

    fn lose(&self, route: &str, records: u64, count: impl FnOnce(&RouteMeters) -> &Count) {
        self.route(route, |meters| {
            meters.spooled.add(-(records as i64));
            count(meters).add(records);
        });
    }

    /// Sizes and ages, once a second; what was lost, once a minute.
    pub(super) fn housekeeping(&mut self, store: Option<&mut Store>) {
        if let Some(store) = store
            && self.measured_at.is_none_or(|measured_at| measured_at.elapsed() >= MEASURE)
        {
            self.measure(store);
        }
        if !self.locked.is_empty() && self.locked_told_at.is_none_or(|told_at| told_at.elapsed() >= SAY_AGAIN) {
            self.locked_told_at = Some(Instant::now());
            for (route, messages) in std::mem::take(&mut self.locked) {
                error!(
                    %route, messages,
                    "blocks of the spool do not decrypt with this encryption_key_file: they are kept and not sent"
                );
            }
        }
        if !self.lost.is_empty() && self.lost_told_at.is_none_or(|told_at| told_at.elapsed() >= SAY_AGAIN) {
            self.lost_told_at = Some(Instant::now());
            for (route, messages) in std::mem::take(&mut self.lost) {
                error!(
                    %route, messages,
                    "the spool is full: messages were dropped as when_full says; raise max_size or see why the output is slow"
                );
            }
        }
    }

    fn measure(&mut self, store: &mut Store) {
        self.measured_at = Some(Instant::now());
        let usage = store.usage();
        let mut held: BTreeMap<String, (u64, u64, i64)> = BTreeMap::new();
        for lane in store.lanes().into_iter().filter(|lane| lane.blocks > 0) {
            let (messages, bytes, oldest_us) = held.entry(lane.name.route).or_insert((0, 0, i64::MAX));
            *messages += lane.records;
            *bytes += lane.bytes;
            *oldest_us = lane.oldest_us.unwrap_or(i64::MAX).min(*oldest_us);
        }
        let now_us = i64::try_from(since_epoch().as_micros()).unwrap_or(i64::MAX);
        for (route, name) in self.lanes.iter().filter(|(_, name)| !name.is_empty()) {
            let (messages, bytes, oldest_us) = held.remove(name).unwrap_or((0, 0, i64::MAX));
            if let Some(meters) = self.meters.routes.get(*route) {
                meters.spool_messages.set(messages);
                meters.spool_bytes.set(bytes);
                meters.spool_oldest_seconds.set((now_us.saturating_sub(oldest_us).max(0) / 1_000_000) as u64);
            }
        }
        let orphans = held.into_iter().map(|(route, (messages, bytes, _))| Orphan { route, messages, bytes });
        let orphans: Vec<Orphan> = orphans.collect();
        self.spool(|meters| {
            meters.disk_bytes.set(usage.bytes);
            meters.disk_free_bytes.set(usage.disk_free);
            meters.orphan_messages.set(orphans.iter().map(|orphan| orphan.messages).sum());
        });
        self.shared.set_orphans(orphans);
    }
}
