//! The spool: batches that memory does not hold, or must not hold alone, on disk and back in order.
//!
//! Shards talk to the spool's one thread through a [`Port`] each: bounded channels, never waited for. What a dying disk
//! blocks is that thread, and nothing else. The lane that sends a batch keeps its memory charged until the answer.

pub mod block;
mod cipher;
pub mod control;
mod index;
mod inherit;
mod places;
pub mod records;
mod report;
mod segment;
pub mod store;
mod thread;
mod worker;

pub use thread::{Spool, StartError, start, wait_until_free};

use std::cell::Cell;
use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel as channel;
use tokio::sync::Notify;

use crate::batch::{Batch, Seq};
use crate::config::Share;

/// What a shard asks for. The spool handles what one shard asks in the order it was asked.
#[derive(Debug)]
pub enum Command {
    /// Store a batch. Answered by [`Reply::Stored`], [`Reply::Refused`] or [`Reply::Dropped`], for one lane in order.
    Append {
        /// Lane of the shard: its route's number among those that forward.
        lane: usize,
        /// Sealed, and not stored yet.
        batch: Batch,
        /// It is given back once it is stored: the lane goes on to send it from memory, as it has nothing older on disk.
        keep: bool,
        /// It counts as stored when it is safe from a power cut, whatever `sync` says: somebody waits for that.
        durable: bool,
        /// Nothing else of the lane is on its way. Behind a batch that was refused, others that were on their way are
        /// refused as well, until one comes that is the first.
        first: bool,
    },
    /// Give the lane's oldest blocks of those that were neither given, nor kept, nor released. Answered by
    /// [`Reply::Read`]. One at a time per lane.
    Read {
        /// Lane of the shard.
        lane: usize,
        /// Memory that the batches may take, at least one batch whatever it takes.
        bytes: usize,
    },
    /// The lane has forgotten its memory copy of a stored batch that is not released: it is to be given again. One for
    /// each such batch (they may be of several shards of an earlier run, so that no order tells them all).
    Forget {
        /// Lane of the shard.
        lane: usize,
        /// The batch.
        seq: Seq,
    },
    /// A batch that is [inherited](Batch::inherited) was acknowledged by the far end's kernel: what comes after it may go
    /// through other shards' connections.
    Acknowledge {
        /// Lane of the shard.
        lane: usize,
        /// The batch.
        seq: Seq,
    },
    /// Lanes have come, or have other shares. Each shard tells it for itself, before it uses them.
    Roster(Box<Roster>),
    /// A stored batch is released: delivered and out of the replay window.
    Release {
        /// Lane of the shard that read or kept it.
        lane: usize,
        /// The batch.
        seq: Seq,
    },
}

/// All lanes of a shard, which all shards number alike.
#[derive(Debug, Clone)]
pub struct Roster {
    /// Names of inputs, by index.
    pub inputs: Vec<String>,
    /// By lane; `None`: one that the spool has nothing to do with.
    pub lanes: Vec<Option<RosterLane>>,
}

/// A lane as the spool knows it.
#[derive(Debug, Clone)]
pub struct RosterLane {
    /// Its route's number.
    pub route: usize,
    /// Its route's name.
    pub name: String,
    /// What the route may have of the disk.
    pub share: Share,
}

/// What the spool answers.
#[derive(Debug)]
pub enum Reply {
    /// Written (with `sync: every_batch`, or where that was asked for, and safe from a power cut).
    Stored {
        /// Lane of the shard.
        lane: usize,
        /// The batch itself, whether it is kept or not: memory is best freed by the thread that took it. What other
        /// threads free stays with the allocator, and made tens of megabytes in a long outage.
        batch: Batch,
        /// It was to be kept: the spool counts on its being in memory.
        kept: bool,
    },
    /// Not written; the batch comes back. Try again on [`Reply::Resume`], or go on without the spool where it failed.
    Refused {
        /// Lane of the shard.
        lane: usize,
        /// As it was.
        batch: Batch,
        /// Why.
        why: Refusal,
    },
    /// Dropped, as `when_full: drop_newest` says. The spool has counted its records under the route.
    Dropped {
        /// Lane of the shard.
        lane: usize,
        /// The batch.
        seq: Seq,
        /// Records in it.
        records: usize,
        /// Memory that it was charged for.
        charge: usize,
    },
    /// Blocks, oldest first, marked as stored.
    Read {
        /// Lane of the shard.
        lane: usize,
        /// May be empty.
        batches: Vec<Batch>,
        /// What is behind them.
        rest: Rest,
    },
    /// A lane that was refused, or told [`Rest::Later`], may ask again.
    Resume {
        /// Lane of the shard.
        lane: usize,
    },
}

/// Why a batch was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `max_size`, the route's share or `min_free` is reached, and `when_full` is `block`.
    Full,
    /// The disk does not take it: full, read-only, broken or gone.
    Failing,
}

/// What lies behind blocks that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// More blocks.
    More,
    /// Nothing that had been appended when the read was handled.
    End,
    /// Something that this shard must not send yet (what earlier runs left of the route goes first, through one shard).
    /// [`Reply::Resume`] says when to ask again.
    Later,
    /// Nobody knows: the disk does not answer. Go on without the spool; [`Reply::Resume`] says when there is something.
    Unknown,
}

/// How the spool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not known yet.
    Opening = 0,
    /// Takes and gives.
    Ready = 1,
    /// Takes nothing more until something is released.
    Full = 2,
    /// The disk is full, read-only, broken or gone: tried again all the time.
    Failing = 3,
}

impl State {
    /// As metrics and `/status` name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Ready => "ready",
            Self::Full => "full",
            Self::Failing => "failing",
        }
    }
}

/// What the spool's thread and all others see.
#[derive(Debug, Default)]
pub struct Shared {
    state: AtomicU8,
    floor: AtomicU64,
    orphans: Mutex<Vec<Orphan>>,
}

/// What is kept of a route that is not in the configuration any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The route's name.
    pub route: String,
    /// Messages.
    pub messages: u64,
    /// Octets of blocks.
    pub bytes: u64,
}

impl Shared {
    /// How the spool is.
    pub fn state(&self) -> State {
        match self.state.load(Relaxed) {
            1 => State::Ready,
            2 => State::Full,
            3 => State::Failing,
            _ => State::Opening,
        }
    }

    /// Says how the spool is.
    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u8, Relaxed);
    }

    /// Every batch that is sealed from now on must come after this one: earlier runs may have had a clock ahead of ours.
    pub fn floor(&self) -> Seq {
        Seq(self.floor.load(Relaxed))
    }

    fn raise_floor(&self, seq: Seq) {
        self.floor.fetch_max(seq.0, Relaxed);
    }

    /// Routes that left the configuration, and what the spool keeps of them.
    pub fn orphans(&self) -> Vec<Orphan> {
        self.orphans.lock().map(|orphans| orphans.clone()).unwrap_or_default()
    }

    fn set_orphans(&self, found: Vec<Orphan>) {
        if let Ok(mut orphans) = self.orphans.lock() {
            *orphans = found;
        }
    }
}

/// Commands of all shards that wait for the spool's thread: a few tens of megabytes at the most, and charged to lanes.
const COMMANDS_MAX: usize = 1024;

/// Answers that one shard may be waiting for. As many fit into its channel: the spool's thread never waits for a shard.
pub const OUTSTANDING_MAX: usize = 256;

/// What one shard has asked for, and the thread has not answered. Locks, where channels would do, so that the shard can take
/// batches back from a thread that hangs; the shard waits for the first one only, which is held for a push or a pop.
#[derive(Debug, Default)]
struct Inbox {
    commands: Mutex<VecDeque<Command>>,
    /// Batches that are being written, by lane.
    held: Mutex<Vec<(usize, Batch)>>,
}

impl Inbox {
    // Nothing that is done under the locks leaves what they guard half done.

    fn commands(&self) -> MutexGuard<'_, VecDeque<Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Vec<(usize, Batch)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One shard's end.
#[derive(Debug)]
pub struct Port {
    shard: usize,
    inbox: Arc<Inbox>,
    calls: channel::Sender<usize>,
    replies: channel::Receiver<Reply>,
    wake: Arc<Notify>,
    shared: Arc<Shared>,
    outstanding: Cell<usize>,
    gone: Cell<bool>,
}

/// The thread's end.
#[derive(Debug)]
pub struct Desk {
    /// A shard's number for each command that it sent: see [`Self::command`].
    pub calls: channel::Receiver<usize>,
    /// How the spool is.
    pub shared: Arc<Shared>,
    inboxes: Vec<Arc<Inbox>>,
    shards: Vec<(channel::Sender<Reply>, Arc<Notify>)>,
}

/// Ports for `shards` shards, and the desk that serves them.
pub fn ports(shards: usize) -> (Vec<Port>, Desk) {
    let (calls_tx, calls_rx) = channel::bounded(COMMANDS_MAX);
    let shared = Arc::new(Shared::default());
    let inboxes: Vec<Arc<Inbox>> = (0..shards).map(|_| Arc::default()).collect();
    let mut desks = Vec::new();
    let ports = inboxes.iter().enumerate().map(|(shard, inbox)| {
        // Besides answers, one `Resume` a lane: those find room or are sent again.
        let (replies_tx, replies_rx) = channel::bounded(2 * OUTSTANDING_MAX);
        let wake = Arc::new(Notify::new());
        desks.push((replies_tx, Arc::clone(&wake)));
        Port {
            shard,
            inbox: Arc::clone(inbox),
            calls: calls_tx.clone(),
            replies: replies_rx,
            wake,
            shared: Arc::clone(&shared),
            outstanding: Cell::new(0),
            gone: Cell::new(false),
        }
    });
    let ports = ports.collect();
    (ports, Desk { calls: calls_rx, shared, inboxes, shards: desks })
}

impl Port {
    /// Sends; never waits.
    ///
    /// # Errors
    /// The command comes back when too many are waiting, or the spool's thread has ended. Try again after the next
    /// [`Self::answered`], or a moment later.
    pub fn send(&self, command: Command) -> Result<(), Command> {
        let answered = matches!(command, Command::Append { .. } | Command::Read { .. });
        if answered && self.outstanding.get() >= OUTSTANDING_MAX {
            return Err(command);
        }
        // The call is made under the lock: it must not be answered before the command is there.
        let mut inbox = self.inbox.commands();
        if self.calls.try_send(self.shard).is_err() {
            return Err(command);
        }
        inbox.push_back(command);
        self.outstanding.set(self.outstanding.get() + usize::from(answered));
        Ok(())
    }

    /// Takes back the batches that the thread has not answered for: it hangs. In the order they were sent. What it has
    /// written of them it takes back as well, once it can.
    pub fn take_back(&self) -> Vec<(usize, Batch)> {
        let mut taken = mem::take(&mut *self.inbox.held());
        let mut commands = self.inbox.commands();
        for command in mem::take(&mut *commands) {
            match command {
                Command::Append { lane, batch, .. } => taken.push((lane, batch)),
                other => commands.push_back(other),
            }
        }
        self.outstanding.set(self.outstanding.get().saturating_sub(taken.len()));
        taken
    }

    /// The next answer, if there is one.
    pub fn reply(&self) -> Option<Reply> {
        let reply = match self.replies.try_recv() {
            Ok(reply) => reply,
            Err(error) => {
                self.gone.set(error == channel::TryRecvError::Disconnected);
                return None;
            }
        };
        if !matches!(reply, Reply::Resume { .. }) {
            self.outstanding.set(self.outstanding.get().saturating_sub(1));
        }
        Some(reply)
    }

    /// Completes when there may be an answer. Cancel-safe. One waiter at a time.
    pub async fn answered(&self) {
        self.wake.notified().await;
    }

    /// Answers that are still to come.
    pub fn outstanding(&self) -> usize {
        self.outstanding.get()
    }

    /// See [`Shared::floor`].
    pub fn floor(&self) -> Seq {
        self.shared.floor()
    }

    /// Whether the spool's thread has ended, as of the last [`Self::reply`] that gave none: no answer will come.
    pub fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// Which shard's it is.
    pub fn shard(&self) -> usize {
        self.shard
    }
}

impl Desk {
    /// The next command of a shard that has called; none where it took it back.
    pub fn command(&self, shard: usize) -> Option<Command> {
        self.inboxes.get(shard)?.commands().pop_front()
    }

    /// A batch of `shard` is about to be written; its shard may take it back until [`Self::let_go`].
    pub fn hold(&self, shard: usize, lane: usize, batch: Batch) {
        if let Some(inbox) = self.inboxes.get(shard) {
            inbox.held().push((lane, batch));
        }
    }

    /// Looks at a batch that is held; `None` where its shard took it back.
    pub fn with_held<R>(&self, shard: usize, lane: usize, seq: Seq, look: impl FnOnce(&Batch) -> R) -> Option<R> {
        let held = self.inboxes.get(shard)?.held();
        held.iter().find(|(of, batch)| *of == lane && batch.seq == seq).map(|(_, batch)| look(batch))
    }

    /// Ends holding a batch, to answer for it; `None` where its shard took it back: it wants no answer.
    pub fn let_go(&self, shard: usize, lane: usize, seq: Seq) -> Option<Batch> {
        let mut held = self.inboxes.get(shard)?.held();
        let at = held.iter().position(|(of, batch)| *of == lane && batch.seq == seq)?;
        Some(held.remove(at).1)
    }

    /// Answers `shard`. Whether there was room: always for what was asked for.
    pub fn answer(&self, shard: usize, reply: Reply) -> bool {
        let Some((replies, wake)) = self.shards.get(shard) else { return true };
        // Those must not take the room of what is owed.
        if matches!(reply, Reply::Resume { .. }) && replies.len() >= OUTSTANDING_MAX {
            return false;
        }
        // A shard that has ended needs no answers.
        let sent = !matches!(replies.try_send(reply), Err(channel::TrySendError::Full(_)));
        wake.notify_one();
        sent
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }
}
