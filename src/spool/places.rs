//! Which lane of the store holds a batch.
//!
//! A lane of the store only takes batches in rising order. Now and then a shard spills what is older than what it has on
//! the disk already: batches that a broken connection gave back. Those go to one of the shard's *elder* lanes, and are
//! read before what is younger. To the next run they are lanes like any other.

use std::collections::HashMap;

use crate::batch::Seq;

use super::block::LaneName;
use super::store::Store;

/// Shards there can be (`cores`), and so the distance between a lane and its elders.
pub(super) const APART: u16 = 1024;

/// Lanes for one shard's route, elders included: as many times in a row may a connection break and give back older
/// batches while younger ones wait on the disk, or a disk hang or fail with the same batch in hand. Beyond that they stay
/// in memory.
const LANES: u16 = 16;

/// What is where, of one run.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// By lane number and batch: the store's lane, where it is not that of the shard that sealed it.
    strays: HashMap<(usize, Seq), u16>,
    /// By lane number and shard: elders that were used.
    elders: HashMap<(usize, usize), u16>,
}

impl Places {
    /// The lane that takes `seq` behind all that it has; `None` where none does.
    pub(super) fn for_append(
        &mut self,
        route: &str,
        lane: usize,
        shard: usize,
        seq: Seq,
        store: &Store,
    ) -> Option<LaneName> {
        for elder in 0..LANES {
            let name = LaneName { route: route.to_owned(), shard: shard as u16 + elder * APART };
            if store.last_seq(&name) >= seq {
                continue;
            }
            if elder > 0 {
                let used = self.elders.entry((lane, shard)).or_default();
                *used = elder.max(*used);
                self.strays.insert((lane, seq), name.shard);
            }
            return Some(name);
        }
        None
    }

    /// The lanes of the store that hold what `shard` has stored of `route`.
    pub(super) fn of(&self, route: &str, lane: usize, shard: usize) -> impl Iterator<Item = LaneName> {
        let elders = self.elders.get(&(lane, shard)).copied().unwrap_or(0);
        let route = route.to_owned();
        (0..=elders).map(move |elder| LaneName { route: route.clone(), shard: shard as u16 + elder * APART })
    }

    /// `seq` was read out of `name`.
    pub(super) fn read(&mut self, lane: usize, seq: Seq, name: &LaneName) {
        if usize::from(name.shard) != seq.shard() {
            self.strays.insert((lane, seq), name.shard);
        }
    }

    /// Which lane holds `seq`.
    pub(super) fn holder(&self, route: &str, lane: usize, seq: Seq) -> LaneName {
        let shard = self.strays.get(&(lane, seq)).copied().unwrap_or(seq.shard() as u16);
        LaneName { route: route.to_owned(), shard }
    }

    /// `seq` has left the store.
    pub(super) fn gone(&mut self, lane: usize, seq: Seq) {
        if !self.strays.is_empty() {
            self.strays.remove(&(lane, seq));
        }
    }
}
