//! The spool's one thread: what shards ask for, done on the store; the disk's bad days; the counts.
//!
//! Everything that may block on a disk happens here. A panic below (sled's, or ours) is caught: the store is opened
//! anew, at the price of some duplicates.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel as channel;
use tracing::{debug, info, warn};

use crate::batch::Seq;
use crate::config::{Action, Config, SpoolSync};
use crate::metrics::Meters;
use crate::time::since_epoch;

use super::block::LaneName;
use super::control::{self, Server};
use super::inherit::{Inherited, Part};
use super::places::{self, Places};
use super::report::{Reporter, Written};
use super::store::{Event, OpenError, Options, Store, Taken};
use super::{Command, Desk, Refusal, Reply, Rest, State};

mod operators;
mod reading;
mod roster;
#[cfg(test)]
mod tests;
mod writing;

/// Commands that are handled before the disk is synced and others get their turn: one `fdatasync` for all of them. As many
/// as a shard may wait for; with `durability: always` that is some 4 MB, as most of its batches are small.
const BURST: usize = 256;

/// How often counts are brought up to date; and how often the index is flushed where each batch's octets are synced.
const HOUSEKEEPING: Duration = Duration::from_millis(200);

/// Requests of operators that wait.
const CONTROLS_MAX: usize = 4;

/// What the buffer for a block's octets keeps: one huge message must not cost its memory for ever.
const PLAIN_KEPT: usize = 512 * 1024;

/// How often a disk that fails is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often a lock is tried that another process holds.
const HELD_PAUSE: Duration = Duration::from_millis(50);

/// What the start learns.
#[derive(Debug)]
pub(super) enum Opened {
    /// Another process has the spool: it is waited for.
    Held,
    /// It is open, or its disk fails; or it must not be used.
    Done(Result<(), OpenError>),
}

/// The spool's thread, before and while it runs.
pub(super) struct Worker {
    desk: Desk,
    controls: channel::Receiver<control::Request>,
    controls_tx: channel::Sender<control::Request>,
    /// Where nobody waits for long, they are asked every other time.
    is_operators_turn: bool,
    /// The operators' socket, once there is a folder for it.
    server: Option<Server>,
    options: Options,
    sync: SpoolSync,
    inputs: Vec<String>,
    /// Routes by lane number: those that forward; empty where the number is not for us.
    lanes: Vec<String>,
    /// Lanes of which it is not known yet what earlier runs left of them.
    newcomers: Vec<usize>,
    store: Option<Store>,
    inherited: Inherited,
    knows_inheritance: bool,
    /// Whatever is older was left by earlier runs.
    started: Seq,
    places: Places,
    /// By shard and lane: the batch that was refused. What was on its way behind it is refused as well.
    refused: Vec<Vec<Option<Seq>>>,
    /// Lanes by shard that are to be told to ask again.
    resumes: Vec<(usize, usize)>,
    /// Answers that wait for the next `fdatasync`.
    commits: Vec<Commit>,
    /// What they stand for.
    written: Written,
    /// [`Store::failed_syncs`] before the first of them.
    failed_syncs: u64,
    /// Blocks on the disk whose batches were given back: to be taken from it.
    retracts: Vec<(LaneName, Seq)>,
    /// What is being done, and must be answered even where that panics.
    in_hand: Option<InHand>,
    /// What the read in hand has given so far.
    given: Vec<(LaneName, Seq)>,
    /// What is out of a store that is to be opened anew.
    taken: Vec<(LaneName, Taken)>,
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
            is_operators_turn: false,
            server: None,
            options,
            sync,
            inputs: config.inputs.iter().map(|input| input.name.clone()).collect(),
            newcomers: Vec::new(),
            store: None,
            inherited: Inherited::new(lanes.len(), desk.shards()),
            knows_inheritance: false,
            started: Seq::default().next(i64::try_from(since_epoch().as_micros()).unwrap_or_default(), 0),
            places: Places::default(),
            refused: vec![vec![None; lanes.len()]; desk.shards()],
            resumes: Vec::new(),
            commits: Vec::new(),
            written: Written::default(),
            failed_syncs: 0,
            retracts: Vec::new(),
            in_hand: None,
            given: Vec::new(),
            taken: Vec::new(),
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
    /// `opened`, which takes two, learns why this process must not use it: another holds it, and does so for longer than
    /// `patience`, or its format is newer.
    pub(super) fn run(mut self, opened: channel::Sender<Opened>, patience: Duration) {
        let result = self.open_patiently(&opened, patience);
        let refused = result.is_err();
        // Nobody waits any more where the disk took too long.
        drop(opened.try_send(Opened::Done(result)));
        if refused {
            return;
        }
        let mut more = true;
        while let Some(command) = self.wait(more) {
            let step = catch_unwind(AssertUnwindSafe(|| self.step(command)));
            more = step.unwrap_or_else(|_| {
                self.panicked();
                false
            });
        }
        if catch_unwind(AssertUnwindSafe(|| self.close())).is_err() {
            self.panicked();
        }
    }

    fn open_patiently(&mut self, opened: &channel::Sender<Opened>, patience: Duration) -> Result<(), OpenError> {
        let until = Instant::now() + patience;
        let mut is_told = false;
        loop {
            let result = catch_unwind(AssertUnwindSafe(|| self.open()));
            match result {
                Ok(Err(OpenError::Held { by })) if Instant::now() < until => {
                    if !is_told {
                        is_told = true;
                        warn!(%by, ?patience, "the spool is in use: the start waits for it");
                        drop(opened.try_send(Opened::Held));
                    }
                }
                Ok(result) => return result,
                Err(_) => {
                    self.panicked();
                    return Ok(());
                }
            }
            let (Ok(_) | Err(_)) = channel::after(HELD_PAUSE).recv();
        }
    }

    /// What the panic left behind is not to be trusted; what is on the disk is, and what was given of it.
    fn panicked(&mut self) {
        if let Some(mut store) = self.store.take() {
            self.reporter.report(store.events());
            self.taken = store.taken();
            if catch_unwind(AssertUnwindSafe(|| drop(store))).is_err() {
                debug!("the spool that is left behind does not close in order");
            }
        }
        self.answer_in_hand();
        self.fail("a bug in the spool: it is opened anew", &std::io::Error::other("panic, see above"));
    }

    fn open(&mut self) -> Result<(), OpenError> {
        match Store::open(self.options.clone()) {
            Ok(mut store) => {
                store.take_back(std::mem::take(&mut self.taken));
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
            self.newcomers.clear();
            self.inherit(Seq(u64::MAX));
        } else {
            // It may have found something before it was opened anew.
            self.inherit(self.started);
        }
        self.welcome();
        self.recovered();
        self.settle_all();
    }

    /// What is in the store was left by earlier runs, up to `last`.
    fn inherit(&mut self, last: Seq) {
        let Some(store) = self.store.as_mut() else { return };
        for state in store.lanes() {
            let Some(lane) = self.lanes.iter().position(|route| *route == state.name.route) else { continue };
            self.desk.shared.raise_floor(state.last);
            if state.blocks > 0 {
                // Others are no lanes of this run, whenever their clocks say that they were written.
                let is_ours = usize::from(state.name.shard % places::APART) < self.desk.shards();
                let last = if is_ours { state.last.min(last) } else { state.last };
                self.inherited.add(lane, Part::new(state.name, last));
            }
        }
    }

    /// The disk works: lanes may ask again.
    fn recovered(&mut self) {
        self.retract();
        self.serve_operators();
        self.reporter.works();
        self.resume_all();
    }

    fn resume_all(&mut self) {
        (0..self.lanes.len()).for_each(|lane| self.resume(lane));
    }

    /// Every shard may ask again for `lane`.
    fn resume(&mut self, lane: usize) {
        self.resumes.extend((0..self.desk.shards()).map(|shard| (shard, lane)));
    }

    /// Waits for the next command, or until there is something else to do: `Some(None)`. `None`: all shards have ended.
    #[expect(clippy::option_option, reason = "three outcomes, told apart once, in the caller's loop")]
    fn wait(&mut self, more: bool) -> Option<Option<Work>> {
        if more {
            // Shards that keep it busy must not keep operators waiting, nor they shards.
            self.is_operators_turn = !self.is_operators_turn;
            if self.is_operators_turn
                && let Ok(request) = self.controls.try_recv()
            {
                return Some(Some(Work::Control(request)));
            }
            return match self.desk.calls.try_recv() {
                Ok(shard) => Some(Some(Work::Call(shard))),
                Err(channel::TryRecvError::Empty) => Some(self.controls.try_recv().ok().map(Work::Control)),
                Err(channel::TryRecvError::Disconnected) => None,
            };
        }
        let limit = match self.sync {
            SpoolSync::Interval(interval) if self.is_dirty => interval.min(HOUSEKEEPING),
            _ => HOUSEKEEPING,
        };
        channel::select! {
            recv(self.desk.calls) -> shard => shard.ok().map(|shard| Some(Work::Call(shard))),
            recv(self.controls) -> request => Some(request.ok().map(Work::Control)),
            default(limit) => Some(None),
        }
    }

    /// Handles what has come, syncs, tidies up. Whether there is more to do without waiting.
    fn step(&mut self, work: Option<Work>) -> bool {
        match work {
            Some(Work::Call(shard)) => {
                self.handle_next(shard);
                for _ in 1..BURST {
                    let Ok(shard) = self.desk.calls.try_recv() else { break };
                    self.handle_next(shard);
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

    fn handle_next(&mut self, shard: usize) {
        let Some(command) = self.desk.command(shard) else { return };
        match command {
            Command::Append { lane, batch, keep, durable, first } => {
                self.append((shard, lane), batch, (keep, durable), first);
            }
            Command::Read { lane, bytes } => {
                // What is not safe yet may still be given back: it is not to be read before.
                if self.commits.iter().any(|commit| (commit.shard, commit.lane) == (shard, lane)) {
                    self.commit();
                }
                self.in_hand = Some(InHand::Read { shard, lane });
                self.given.clear();
                let (batches, rest) = self.read(shard, lane, bytes);
                self.in_hand = None;
                self.desk.answer(shard, Reply::Read { lane, batches, rest });
            }
            Command::Forget { lane, seq } => self.forget(shard, lane, seq),
            Command::Acknowledge { lane, seq } => self.acknowledge(lane, seq),
            Command::Release { lane, seq } => self.release(lane, seq),
            Command::Roster(roster) => self.take_roster(*roster),
        }
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

    /// What was asked for has panicked.
    fn answer_in_hand(&mut self) {
        match self.in_hand.take() {
            Some(InHand::Append { shard, lane, seq }) => {
                // It may be on the disk.
                self.unwrite(lane, seq);
                self.refuse(shard, lane, seq, Refusal::Failing);
            }
            Some(InHand::Read { shard, lane }) => {
                for (name, seq) in std::mem::take(&mut self.given) {
                    if let Some((_, taken)) = self.taken.iter_mut().find(|(known, _)| *known == name) {
                        taken.undo(seq);
                    }
                    self.inherited.took_back(lane, &name, seq);
                }
                self.desk.answer(shard, Reply::Read { lane, batches: Vec::new(), rest: Rest::Unknown });
            }
            None => {}
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
        // One that fails already is tried again when it was to be.
        if self.desk.shared.state() != State::Failing {
            self.retried_at = Instant::now();
        }
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

    fn close(&mut self) {
        self.server = None;
        self.commit();
        let Some(store) = self.store.as_mut() else { return };
        // Before it is closed, so that what it finds and does in that is counted.
        let synced = store.sync();
        self.take_events();
        let closed = self.store.take().map_or(Ok(()), Store::close);
        match synced.and(closed) {
            Err(error) => self.fail("the spool cannot be closed in order", &error),
            Ok(()) => info!("spool closed"),
        }
    }
}

/// What a shard waits for.
enum InHand {
    Append { shard: usize, lane: usize, seq: Seq },
    Read { shard: usize, lane: usize },
}

/// A batch that was written, and is stored with the next `fdatasync`.
struct Commit {
    shard: usize,
    lane: usize,
    seq: Seq,
    kept: bool,
}

/// What woke the thread.
enum Work {
    /// A shard has sent a command.
    Call(usize),
    Control(control::Request),
}
