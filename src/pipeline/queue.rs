//! What one forwarder takes from, and how it is woken.

use std::cell::{Cell, Ref, RefCell};

use tokio::sync::Notify;

/// The batches of one forwarder: which lanes it serves, and how it wants to be woken.
#[derive(Debug)]
pub struct Queue {
    /// All of them.
    lanes: RefCell<Vec<usize>>,
    /// Those that are sent first.
    pub(super) first: Ring,
    /// With `order: newest_first`, the lanes that hold what is on the disk.
    pub(super) second: Ring,
    /// What the second may take at least while the first have something, in percent.
    pub(super) second_share: Cell<usize>,
    /// Bytes by which they are behind that; below zero: ahead of it.
    pub(super) owed: Cell<isize>,
    /// Once more bytes wait its senders are slowed down, see [`PLENTY_BYTES`](super::PLENTY_BYTES).
    pub(super) plenty: usize,
    waiting: Cell<usize>,
    /// Lanes that have something on the disk which may be read.
    backlog: Cell<usize>,
    wake_above: Cell<usize>,
    wake: Notify,
    /// Whose turn it is to be read.
    pub(super) next_read: Cell<usize>,
    /// A connection is up and takes what it is given.
    flowing: Cell<bool>,
    pub(super) thinned: Notify,
}

/// Lanes that are sent in turn.
#[derive(Debug, Default)]
pub(super) struct Ring {
    lanes: RefCell<Vec<usize>>,
    next: Cell<usize>,
}

impl Ring {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lanes.borrow().len()
    }

    /// Whose turn it is.
    pub(super) fn turn(&self) -> Option<usize> {
        let lanes = self.lanes.borrow();
        let turn = self.next.get();
        self.next.set((turn + 1) % lanes.len().max(1));
        lanes.get(turn).copied()
    }
}

impl Queue {
    pub(super) fn new(plenty: usize) -> Self {
        Self {
            plenty,
            lanes: RefCell::default(),
            first: Ring::default(),
            second: Ring::default(),
            second_share: Cell::new(0),
            owed: Cell::new(0),
            waiting: Cell::new(0),
            backlog: Cell::new(0),
            wake_above: Cell::new(usize::MAX),
            wake: Notify::new(),
            next_read: Cell::new(0),
            flowing: Cell::new(false),
            thinned: Notify::new(),
        }
    }

    /// Whether a connection is up.
    pub fn is_flowing(&self) -> bool {
        self.flowing.get()
    }

    /// One of its lanes: with HTTPS all are of one route.
    pub fn any_lane(&self) -> Option<usize> {
        self.lanes().first().copied()
    }

    /// All of its lanes. Not to be held across an await.
    pub(super) fn lanes(&self) -> Ref<'_, Vec<usize>> {
        self.lanes.borrow()
    }

    /// Serves these from now on: all of them, those that are sent first, and those that have this share.
    pub(super) fn serve(&self, all: Vec<usize>, first: Vec<usize>, second: Vec<usize>, second_share: usize) {
        self.lanes.replace(all);
        for (ring, lanes) in [(&self.first, first), (&self.second, second)] {
            ring.next.set(ring.next.get() % lanes.len().max(1));
            ring.lanes.replace(lanes);
        }
        self.second_share.set(second_share);
        self.next_read.set(0);
    }

    pub(super) fn set_flowing(&self, flowing: bool) {
        self.flowing.set(flowing);
        self.thinned.notify_waiters();
    }

    /// Bytes of memory that wait to be sent. What is on the disk, or must go there first, does not count.
    pub fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// Whether something on the disk waits for a connection.
    pub fn has_backlog(&self) -> bool {
        self.backlog.get() > 0
    }

    /// Completes once more than `bytes` wait.
    ///
    /// Cancel-safe. One waiter at a time, with [`Self::work`].
    pub async fn more_than(&self, bytes: usize) {
        while self.waiting.get() <= bytes {
            self.wake_above.set(bytes);
            self.wake.notified().await;
        }
        self.wake_above.set(usize::MAX);
    }

    /// Completes once there is a reason to have a connection: something waits, in memory or on the disk.
    ///
    /// Cancel-safe. One waiter at a time, with [`Self::more_than`].
    pub async fn work(&self) {
        while self.waiting.get() == 0 && !self.has_backlog() {
            self.wake_above.set(0);
            self.wake.notified().await;
        }
        self.wake_above.set(usize::MAX);
    }

    pub(super) fn grow(&self, bytes: usize) {
        let waiting = self.waiting.get() + bytes;
        self.waiting.set(waiting);
        if waiting > self.wake_above.get() {
            self.wake_above.set(usize::MAX);
            self.wake.notify_one();
        }
    }

    pub(super) fn shrink(&self, bytes: usize) {
        self.waiting.set(self.waiting.get().saturating_sub(bytes));
    }

    /// One lane more, or less, has a backlog.
    pub(super) fn count_backlog(&self, before: bool, after: bool) {
        self.backlog.set((self.backlog.get() + usize::from(after)).saturating_sub(usize::from(before)));
        if after && !before {
            self.wake.notify_one();
        }
    }
}
