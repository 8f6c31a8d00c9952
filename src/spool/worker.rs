//! The spool's one thread: what shards ask for, done on the store; the disk's bad days; the counts.
//!
//! Everything that may block on a disk happens here. A panic below (sled's, or ours) is caught: the store is opened
//! anew, at the price of some duplicates.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel as channel;
use tracing::{info, warn};

use crate::batch::{Batch, Seq};
use crate::config::{Action, Config, SpoolSync};
use crate::metrics::Meters;
use crate::time::since_epoch;

use super::block::{LaneName, Meta};
use super::control::{self, Answer, Dropped, Op, Server};
use super::inherit::{Inherited, Part, Turn};
use super::places::Places;
use super::records;
use super::report::{Reporter, Written};
use super::store::{AppendError, Event, OpenError, Options, Store};
use super::{Command, Desk, Refusal, Reply, Rest, State};

/// Commands that are handled before the disk is synced and others get their turn: one `fdatasync` for all of them.
const BURST: usize = 64;

/// How often counts are brought up to date; and how often the index is flushed where each batch's octets are synced.
const HOUSEKEEPING: Duration = Duration::from_millis(200);

/// Requests of operators that wait.
const CONTROLS_MAX: usize = 4;

/// What the buffer for a block's octets keeps: one huge message must not cost its memory for ever.
const PLAIN_KEPT: usize = 512 * 1024;

/// How often a disk that fails is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The spool's thread, before and while it runs.
pub(super) struct Worker {
    desk: Desk,
    controls: channel::Receiver<control::Request>,
    controls_tx: channel::Sender<control::Request>,
    /// The operators' socket, once there is a folder for it.
    server: Option<Server>,
    options: Options,
    sync: SpoolSync,
    inputs: Vec<String>,
    /// Routes by lane number: those that forward.
    lanes: Vec<String>,
    store: Option<Store>,
    inherited: Inherited,
    knows_inheritance: bool,
    /// Whatever is older was left by earlier runs.
    started: Seq,
    places: Places,
    /// By shard and lane: the batch that was refused. Nothing behind it is taken before it has come again.
    refused: Vec<Vec<Option<Seq>>>,
    /// Lanes by shard that are to be told to ask again.
    resumes: Vec<(usize, usize)>,
    /// Answers that wait for the next `fdatasync`.
    commits: Vec<(usize, Reply)>,
    /// What they stand for.
    written: Written,
    plain: Vec<u8>,
    synced_at: Instant,
    is_dirty: bool,
    retried_at: Instant,
    reporter: Reporter,
}

impl Worker {
    /// A thread's work for `config`, which has a spool.
    pub(super) fn new(config: &Config, options: Options, sync: SpoolSync, desk: Desk, meters: Arc<Meters>) -> Self {
        let forwarding = config.routes.iter().enumerate();
        let forwarding = forwarding.filter(|(_, route)| matches!(route.action, Action::Forward { .. }));
        let lanes: Vec<(usize, String)> = forwarding.map(|(index, route)| (index, route.name.clone())).collect();
        let now = Instant::now();
        let (controls_tx, controls) = channel::bounded(CONTROLS_MAX);
        Self {
            controls,
            controls_tx,
            server: None,
            options,
            sync,
            inputs: config.inputs.iter().map(|input| input.name.clone()).collect(),
            store: None,
            inherited: Inherited::new(lanes.len(), desk.shards()),
            knows_inheritance: false,
            started: Seq::default().next(i64::try_from(since_epoch().as_micros()).unwrap_or_default(), 0),
            places: Places::default(),
            refused: vec![vec![None; lanes.len()]; desk.shards()],
            resumes: Vec::new(),
            commits: Vec::new(),
            written: Written::default(),
            plain: Vec::new(),
            synced_at: now,
            is_dirty: false,
            retried_at: now,
            reporter: Reporter::new(&lanes, meters, Arc::clone(&desk.shared)),
            lanes: lanes.into_iter().map(|(_, name)| name).collect(),
            desk,
        }
    }

    /// Opens the spool, says what came of it, and serves until all shards have ended; then everything is on the disk.
    /// `opened` learns why this process must not use it: another holds it, or its format is newer.
    pub(super) fn run(mut self, opened: channel::Sender<Result<(), OpenError>>) {
        let result = self.open();
        let refused = result.is_err();
        // Nobody waits any more where the disk took too long.
        drop(opened.try_send(result));
        if refused {
            return;
        }
        let mut more = true;
        while let Some(command) = self.wait(more) {
            let step = catch_unwind(AssertUnwindSafe(|| self.step(command)));
            more = step.unwrap_or_else(|_| {
                // What the panic left behind is not to be trusted; what is on the disk is.
                self.store = None;
                self.fail("a bug in the spool: it is opened anew", &std::io::Error::other("panic, see above"));
                false
            });
        }
        self.close();
    }

    fn open(&mut self) -> Result<(), OpenError> {
        match Store::open(self.options.clone()) {
            Ok(store) => {
                self.store = Some(store);
                self.opened();
                Ok(())
            }
            Err(OpenError::Io(error)) => {
                self.fail("the spool cannot be opened", &error);
                Ok(())
            }
            Err(refused) => Err(refused),
        }
    }

    /// The store is there: what earlier runs left of each route is to be sent first.
    fn opened(&mut self) {
        let Some(store) = self.store.as_mut() else { return };
        self.reporter.opened(store);
        if !self.knows_inheritance {
            self.knows_inheritance = true;
            for state in store.lanes() {
                self.reporter.recovered(&state.name.route, state.records);
            }
            self.inherit(Seq(u64::MAX));
        }
        self.recovered();
    }

    /// What is in the store was left by earlier runs, up to `last`.
    fn inherit(&mut self, last: Seq) {
        let Some(store) = self.store.as_mut() else { return };
        for state in store.lanes() {
            let Some(lane) = self.lanes.iter().position(|route| *route == state.name.route) else { continue };
            self.desk.shared.raise_floor(state.last);
            if state.blocks > 0 {
                self.inherited.add(lane, Part::new(state.name, state.last.min(last)));
            }
        }
    }

    /// The disk works: lanes may ask again.
    fn recovered(&mut self) {
        self.serve_operators();
        self.reporter.works();
        self.resume_all();
    }

    /// The socket, where it is not there: at the start, and when the folder was made again.
    fn serve_operators(&mut self) {
        if self.store.is_none() || (self.server.is_some() && self.options.dir.join(control::SOCKET).exists()) {
            return;
        }
        self.server = match control::serve(&self.options.dir, self.controls_tx.clone()) {
            Ok(server) => Some(server),
            Err(error) => {
                warn!("`forebay spool` cannot reach this relay: no socket in the spool's folder: {error}");
                None
            }
        };
    }

    fn resume_all(&mut self) {
        for shard in 0..self.desk.shards() {
            self.resumes.extend((0..self.lanes.len()).map(|lane| (shard, lane)));
        }
    }

    /// Waits for the next command, or until there is something else to do: `Some(None)`. `None`: all shards have ended.
    #[expect(clippy::option_option, reason = "three outcomes, told apart once, in the caller's loop")]
    fn wait(&mut self, more: bool) -> Option<Option<Work>> {
        if more {
            return match self.desk.commands.try_recv() {
                Ok((shard, command)) => Some(Some(Work::Command(shard, command))),
                Err(channel::TryRecvError::Empty) => Some(self.controls.try_recv().ok().map(Work::Control)),
                Err(channel::TryRecvError::Disconnected) => None,
            };
        }
        let limit = match self.sync {
            SpoolSync::Interval(interval) if self.is_dirty => interval.min(HOUSEKEEPING),
            _ => HOUSEKEEPING,
        };
        channel::select! {
            recv(self.desk.commands) -> command => {
                command.ok().map(|(shard, command)| Some(Work::Command(shard, command)))
            }
            recv(self.controls) -> request => Some(request.ok().map(Work::Control)),
            default(limit) => Some(None),
        }
    }

    /// Handles what has come, syncs, tidies up. Whether there is more to do without waiting.
    fn step(&mut self, work: Option<Work>) -> bool {
        match work {
            Some(Work::Command(shard, command)) => {
                self.handle(shard, command);
                for _ in 1..BURST {
                    let Ok((shard, command)) = self.desk.commands.try_recv() else { break };
                    self.handle(shard, command);
                }
            }
            Some(Work::Control(request)) => self.control(request),
            None => {}
        }
        self.commit();
        self.sync_if_due();
        self.retry_if_due();
        let more = self.store.as_mut().is_some_and(Store::work);
        self.take_events();
        self.send_resumes();
        self.reporter.housekeeping(self.store.as_mut());
        self.plain.shrink_to(PLAIN_KEPT);
        more
    }

    fn handle(&mut self, shard: usize, command: Command) {
        match command {
            Command::Append { lane, batch, keep } => self.append(shard, lane, batch, keep),
            Command::Read { lane, bytes } => {
                let (batches, rest) = self.read(shard, lane, bytes);
                self.desk.answer(shard, Reply::Read { lane, batches, rest });
            }
            Command::Forget { lane, seq } => self.forget(lane, seq),
            Command::Release { lane, seq } => self.release(lane, seq),
        }
    }

    fn holder(&self, lane: usize, seq: Seq) -> LaneName {
        self.places.holder(self.lanes.get(lane).map(String::as_str).unwrap_or_default(), lane, seq)
    }

    fn append(&mut self, shard: usize, lane: usize, batch: Batch, keep: bool) {
        let place = self.refused.get_mut(shard).and_then(|lanes| lanes.get_mut(lane));
        // Behind a batch that was refused nothing is taken, or it would be overtaken.
        if let Some(refused) = place
            && let Some(seq) = *refused
        {
            if batch.seq > seq {
                self.desk.answer(shard, Reply::Refused { lane, batch, why: self.refusal() });
                return;
            }
            *refused = None;
        }
        let route = self.lanes.get(lane).map(String::as_str).unwrap_or_default();
        let Some(store) = self.store.as_mut().filter(|_| self.desk.shared.state() != State::Failing) else {
            self.refuse(shard, lane, batch, Refusal::Failing);
            return;
        };
        let Some(name) = self.places.for_append(route, lane, shard, batch.seq, store) else {
            self.refuse(shard, lane, batch, Refusal::Full);
            return;
        };
        self.plain.clear();
        records::encode(&batch, &self.inputs, &mut self.plain);
        let meta = Meta {
            seq: batch.seq,
            records: batch.len() as u32,
            oldest_us: batch.received_at_us().unwrap_or_default(),
            newest_us: batch.last_received_at_us().unwrap_or_default(),
        };
        match store.append(&name, meta, &self.plain) {
            Ok(()) => {
                if keep {
                    store.protect(&name, batch.seq);
                }
                self.is_dirty = true;
                self.stored(shard, lane, batch, keep);
            }
            Err(AppendError::Dropped) => {
                self.reporter.dropped_newest(lane, batch.len());
                let (records, charge) = (batch.len(), batch.charge());
                self.desk.answer(shard, Reply::Dropped { lane, records, charge });
            }
            Err(AppendError::Full) => {
                self.reporter.full();
                self.refuse(shard, lane, batch, Refusal::Full);
            }
            Err(AppendError::Io(error)) => {
                self.fail("the spool cannot be written", &error);
                self.refuse(shard, lane, batch, Refusal::Failing);
            }
        }
    }

    fn refusal(&self) -> Refusal {
        if self.desk.shared.state() == State::Failing { Refusal::Failing } else { Refusal::Full }
    }

    fn refuse(&mut self, shard: usize, lane: usize, batch: Batch, why: Refusal) {
        if let Some(refused) = self.refused.get_mut(shard).and_then(|lanes| lanes.get_mut(lane)) {
            *refused = Some(batch.seq);
        }
        self.desk.answer(shard, Reply::Refused { lane, batch, why });
    }

    fn stored(&mut self, shard: usize, lane: usize, mut batch: Batch, keep: bool) {
        let (seq, records, charge) = (batch.seq, batch.len(), batch.charge());
        self.written.add(records, self.plain.len());
        batch.stored = true;
        let reply = Reply::Stored { lane, seq, records, charge, batch: keep.then_some(batch) };
        match self.sync {
            SpoolSync::EveryBatch => self.commits.push((shard, reply)),
            SpoolSync::Interval(_) => {
                self.reporter.written(&mut self.written);
                self.desk.answer(shard, reply);
            }
        }
    }

    /// One `fdatasync` for all that has come meanwhile, then the answers.
    fn commit(&mut self) {
        if self.commits.is_empty() {
            return;
        }
        let started = Instant::now();
        let synced = self.store.as_mut().map_or_else(|| Err(std::io::Error::other("no store")), Store::sync_data);
        match synced {
            Ok(()) => self.reporter.synced(started.elapsed()),
            // They are written, and may be lost by a power cut: no reason to write them once more on a disk that fails.
            Err(error) => self.fail("the spool cannot be synced", &error),
        }
        self.reporter.written(&mut self.written);
        for (shard, reply) in self.commits.drain(..) {
            self.desk.answer(shard, reply);
        }
    }

    fn sync_if_due(&mut self) {
        let interval = match self.sync {
            SpoolSync::Interval(interval) => interval,
            SpoolSync::EveryBatch => HOUSEKEEPING,
        };
        if !self.is_dirty || self.synced_at.elapsed() < interval {
            return;
        }
        let Some(store) = self.store.as_mut() else { return };
        let started = Instant::now();
        let synced = store.sync();
        self.synced_at = Instant::now();
        match synced {
            Ok(()) => {
                self.is_dirty = false;
                self.reporter.synced(started.elapsed());
            }
            Err(error) => self.fail("the spool cannot be synced", &error),
        }
    }

    /// The next blocks of `lane`, as many as `bytes` of memory take.
    fn read(&mut self, shard: usize, lane: usize, bytes: usize) -> (Vec<Batch>, Rest) {
        let Some(store) = self.store.as_ref() else { return (Vec::new(), Rest::Unknown) };
        if store.is_rebuilding() || self.inherited.turn(lane, shard) == Turn::Another {
            return (Vec::new(), Rest::Later);
        }
        let mut batches: Vec<Batch> = Vec::new();
        let mut taken = 0;
        let rest = loop {
            match self.next_of(shard, lane) {
                Ok(None) => break Rest::End,
                Ok(Some(_)) if taken >= bytes => break Rest::More,
                Ok(Some(name)) => match self.read_one(lane, &name) {
                    Ok(batch) => {
                        taken += batch.as_ref().map_or(0, Batch::charge);
                        batches.extend(batch);
                    }
                    Err(error) => {
                        self.fail("the spool cannot be read", &error);
                        break Rest::Unknown;
                    }
                },
                Err(error) => {
                    self.fail("the spool cannot be read", &error);
                    break Rest::Unknown;
                }
            }
        };
        (batches, rest)
    }

    /// Where the next block is that `shard` is to send of `lane`: what was inherited first, by age.
    fn next_of(&mut self, shard: usize, lane: usize) -> std::io::Result<Option<LaneName>> {
        let route = self.lanes.get(lane).map(String::as_str).unwrap_or_default();
        let Some(store) = self.store.as_mut() else { return Ok(None) };
        if let Turn::These(parts) = self.inherited.turn(lane, shard) {
            let parts = parts.iter().map(|part| (part.lane.clone(), part.last));
            if let Some(name) = oldest_of(store, parts)? {
                return Ok(Some(name));
            }
        }
        oldest_of(store, self.places.of(route, lane, shard).map(|name| (name, Seq(u64::MAX))))
    }

    /// The next block of `name`; `None` where none of those that are left can be read.
    fn read_one(&mut self, lane: usize, name: &LaneName) -> std::io::Result<Option<Batch>> {
        let Some(store) = self.store.as_mut() else { return Ok(None) };
        let Some(meta) = store.next(name, store.mark(name), &mut self.plain)? else {
            // They are kept, and were told of; this run leaves them behind.
            store.protect(name, store.last_seq(name));
            return Ok(None);
        };
        let Ok(mut batch) = records::decode(&self.plain, &self.inputs) else {
            store.discard(name, meta.seq)?;
            return Ok(None);
        };
        batch.seq = meta.seq;
        batch.stored = true;
        self.places.read(lane, meta.seq, name);
        self.inherited.gave(lane, name);
        self.reporter.read();
        Ok(Some(batch))
    }

    /// A memory copy is gone: the block may be evicted again, and will be read again.
    fn forget(&mut self, lane: usize, seq: Seq) {
        let name = self.holder(lane, seq);
        if let Some(store) = self.store.as_mut() {
            store.forget(&name, Seq(seq.0.saturating_sub(1)));
            self.inherited.took_back(lane, &name);
        }
    }

    fn release(&mut self, lane: usize, seq: Seq) {
        let name = self.holder(lane, seq);
        let Some(store) = self.store.as_mut() else { return };
        store.release(&name, seq);
        self.places.gone(lane, seq);
        self.inherited.took_back(lane, &name);
        self.is_dirty = true;
        self.reporter.released();
        self.settle(lane);
    }

    /// Where all that was inherited of `lane` is released, every shard goes on with its own.
    fn settle(&mut self, lane: usize) {
        let Some(store) = self.store.as_mut() else { return };
        let is_left = |part: &Part| match store.peek(&part.lane, store.mark(&part.lane)) {
            Ok(next) => part.out > 0 || next.is_some_and(|meta| meta.seq <= part.last),
            Err(_) => true,
        };
        if self.inherited.settle(lane, is_left) {
            self.resumes.extend((0..self.desk.shards()).map(|shard| (shard, lane)));
        }
    }

    fn control(&mut self, control::Request { op, reply }: control::Request) {
        let imported = match &op {
            Op::Import { route, records, .. } => Some((route.clone(), *records)),
            _ => None,
        };
        let answer = match self.store.as_mut() {
            Some(store) => control::handle(op, store),
            None => Answer::Failed("the spool's disk does not work at the moment: see the relay's log".to_owned()),
        };
        match &answer {
            Answer::Done => {
                if let Some((route, records)) = imported {
                    self.imported(&route, records);
                }
            }
            Answer::Dropped(dropped) => {
                for Dropped { route, records, .. } in dropped {
                    self.reporter.dropped_by_operator(route, *records);
                }
                self.settle_all();
            }
            _ => {}
        }
        self.is_dirty = true;
        // It has room for the one answer; who asked may have gone.
        drop(reply.try_send(answer));
    }

    /// A block was put behind what earlier runs left of its route, and is sent as such.
    fn imported(&mut self, route: &str, records: u32) {
        self.reporter.recovered(route, u64::from(records));
        let lane = self.lanes.iter().position(|known| known == route);
        let Some((store, lane)) = self.store.as_ref().zip(lane) else { return };
        let name = LaneName { route: route.to_owned(), shard: control::IMPORT_SHARD };
        self.inherited.add(lane, Part::new(name.clone(), store.last_seq(&name)));
        self.resumes.extend((0..self.desk.shards()).map(|shard| (shard, lane)));
    }

    /// What the store found and did: counted, said, and given to the lanes it concerns.
    fn take_events(&mut self) {
        let Some(store) = self.store.as_mut() else { return };
        let events = store.events();
        if events.iter().any(|event| matches!(event, Event::Recovered { .. } | Event::Rebuilt { .. })) {
            self.inherit(self.started);
            self.resume_all();
        }
        if events.is_empty() {
            return;
        }
        self.reporter.report(events);
        self.settle_all();
    }

    /// What was inherited may have been evicted, dropped, or found damaged.
    fn settle_all(&mut self) {
        for lane in 0..self.lanes.len() {
            if self.inherited.has(lane) {
                self.settle(lane);
            }
        }
    }

    fn send_resumes(&mut self) {
        let desk = &self.desk;
        self.resumes.sort_unstable();
        self.resumes.dedup();
        // Where there is no room they are sent in the next step.
        self.resumes.retain(|(shard, lane)| !desk.answer(*shard, Reply::Resume { lane: *lane }));
    }

    fn fail(&mut self, what: &str, error: &std::io::Error) {
        self.retried_at = Instant::now();
        self.reporter.fails(what, error);
    }

    fn retry_if_due(&mut self) {
        if self.desk.shared.state() != State::Failing || self.retried_at.elapsed() < RETRY {
            return;
        }
        self.retried_at = Instant::now();
        let result = match self.store.as_mut() {
            Some(store) => store.retry(),
            None => match self.open() {
                // It has opened, or said why not.
                Ok(()) => return,
                Err(refused) => Err(std::io::Error::other(refused)),
            },
        };
        match result {
            Ok(()) => self.recovered(),
            Err(error) => self.fail("the spool's disk still does not work", &error),
        }
    }

    fn close(mut self) {
        self.server = None;
        self.commit();
        self.take_events();
        match self.store.take().map(Store::close) {
            Some(Err(error)) => self.fail("the spool cannot be closed in order", &error),
            Some(Ok(())) => info!("spool closed"),
            None => {}
        }
    }
}

/// The lane whose next block is the oldest of those that come before a lane's limit.
fn oldest_of(store: &mut Store, lanes: impl Iterator<Item = (LaneName, Seq)>) -> std::io::Result<Option<LaneName>> {
    let mut oldest: Option<(Seq, LaneName)> = None;
    for (name, last) in lanes {
        let next = store.peek(&name, store.mark(&name))?.map(|meta| meta.seq).filter(|seq| *seq <= last);
        if let Some(seq) = next
            && oldest.as_ref().is_none_or(|(oldest, _)| seq < *oldest)
        {
            oldest = Some((seq, name));
        }
    }
    Ok(oldest.map(|(_, name)| name))
}

/// What woke the thread.
enum Work {
    Command(usize, Command),
    Control(control::Request),
}
