//! What a store tells of.

use std::path::PathBuf;

use super::Store;

/// Events that wait to be taken. Those of one kind and route are added up, so that there are hardly ever as many.
const EVENTS_MAX: usize = 1024;

/// Something that an operator may have to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Blocks were dropped to make room.
    Evicted {
        /// Whose.
        route: String,
        /// How many.
        blocks: u64,
        /// Records in them: lost.
        records: u64,
    },
    /// Octets that are no blocks any more, or blocks that cannot be read.
    Damaged {
        /// Whose, where that is known.
        route: Option<String>,
        /// Records lost, where that is known.
        records: Option<u64>,
        /// How much.
        bytes: u64,
    },
    /// Blocks that do not decrypt with the key, or need one. They stay, and are skipped.
    Locked {
        /// Whose.
        route: String,
        /// Records in them.
        records: u64,
    },
    /// Blocks that the index had lost were found again. Such as lie before what was read already are next.
    Recovered {
        /// Whose.
        route: String,
        /// Records in them.
        records: u64,
    },
    /// A damaged file or folder was put aside.
    Quarantined {
        /// Where it is now.
        path: PathBuf,
    },
    /// The index is made again from the segments.
    Rebuilding {
        /// What was wrong with it.
        why: String,
    },
    /// The index is complete again.
    Rebuilt {
        /// Blocks found.
        blocks: u64,
    },
    /// sled's flush does not reach us: its files are synced after it, which is nearly as safe.
    SyncBehind,
}

#[derive(Debug, Default)]
pub(super) struct Events(Vec<Event>);

impl Events {
    pub(super) fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.0)
    }

    /// Adds it to one that waits, or behind them.
    pub(super) fn tell(&mut self, event: Event) {
        if self.0.iter_mut().rev().any(|known| known.absorb(&event)) || self.0.len() >= EVENTS_MAX {
            return;
        }
        self.0.push(event);
    }
}

impl Event {
    /// Whether `other` is of the same kind and route; it is counted in then.
    fn absorb(&mut self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Evicted { route, blocks, records },
                Self::Evicted { route: other, blocks: more_blocks, records: more },
            ) if route == other => {
                *blocks += more_blocks;
                *records += more;
            }
            (Self::Locked { route, records }, Self::Locked { route: other, records: more }) if route == other => {
                *records += more;
            }
            (Self::Recovered { route, records }, Self::Recovered { route: other, records: more }) if route == other => {
                *records += more;
            }
            (
                Self::Damaged { route, records, bytes },
                Self::Damaged { route: other, records: more, bytes: more_bytes },
            ) if route == other && records.is_some() == more.is_some() => {
                *bytes += more_bytes;
                if let (Some(records), Some(more)) = (records, more) {
                    *records += more;
                }
            }
            _ => return false,
        }
        true
    }
}

impl Store {
    pub(super) fn tell(&mut self, event: Event) {
        self.events.tell(event);
    }
}
