//! What earlier runs left of a route goes out first, through one shard.
//!
//! A source that sent through shard 1 before a restart may send through shard 0 after it. So that its messages keep their
//! order, all that earlier runs left of a route is sent in the order of [`Seq`] by one shard, and the others hold back
//! what they have of that route until it is acknowledged.

use std::collections::BTreeSet;

use crate::batch::Seq;

use super::block::LaneName;

/// A lane of an earlier run: everything of it up to this batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) lane: LaneName,
    pub(super) last: Seq,
    /// Blocks of it that a shard has, and the far end's kernel has not acknowledged.
    pub(super) out: BTreeSet<Seq>,
}

impl Part {
    pub(super) fn new(lane: LaneName, last: Seq) -> Self {
        Self { lane, last, out: BTreeSet::new() }
    }
}

/// Whose turn it is to read a route.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn<'a> {
    /// Nothing is left: every shard reads what is its own.
    Own,
    /// This shard reads these, and then its own.
    These(&'a [Part]),
    /// Another shard reads first.
    Another,
}

/// By lane number, what earlier runs left and is not released.
#[derive(Debug)]
pub(super) struct Inherited {
    parts: Vec<Vec<Part>>,
    shards: usize,
}

impl Inherited {
    /// Nothing, for `lanes` lanes on each of `shards` shards.
    pub(super) fn new(lanes: usize, shards: usize) -> Self {
        Self { parts: vec![Vec::new(); lanes], shards: shards.max(1) }
    }

    /// There are so many lanes now.
    pub(super) fn grow(&mut self, lanes: usize) {
        self.parts.resize(lanes.max(self.parts.len()), Vec::new());
    }

    /// `part` goes out before anything that shards have of `lane`.
    pub(super) fn add(&mut self, lane: usize, part: Part) {
        let Some(parts) = self.parts.get_mut(lane) else { return };
        match parts.iter_mut().find(|known| known.lane == part.lane) {
            Some(known) => known.last = known.last.max(part.last),
            None => parts.push(part),
        }
    }

    /// Whether `shard` may read `lane`. The work is spread: each route has its own shard for it.
    pub(super) fn turn(&self, lane: usize, shard: usize) -> Turn<'_> {
        match self.parts.get(lane).map(Vec::as_slice) {
            None | Some([]) => Turn::Own,
            Some(parts) if lane % self.shards == shard => Turn::These(parts),
            Some(_) => Turn::Another,
        }
    }

    /// Forgets the parts of `lane` of which nothing is left, as `is_left` says. Whether that ends what was inherited.
    pub(super) fn settle(&mut self, lane: usize, mut is_left: impl FnMut(&Part) -> bool) -> bool {
        let Some(parts) = self.parts.get_mut(lane).filter(|parts| !parts.is_empty()) else { return false };
        parts.retain(|part| is_left(part));
        parts.is_empty()
    }

    /// A shard was given a block of `name`. Whether that was inherited.
    pub(super) fn gave(&mut self, lane: usize, name: &LaneName, seq: Seq) -> bool {
        self.part(lane, name).is_some_and(|part| part.out.insert(seq))
    }

    /// A block of `name` is acknowledged, or is to be given again. Whether it was inherited, and given.
    pub(super) fn took_back(&mut self, lane: usize, name: &LaneName, seq: Seq) -> bool {
        self.part(lane, name).is_some_and(|part| part.out.remove(&seq))
    }

    fn part(&mut self, lane: usize, name: &LaneName) -> Option<&mut Part> {
        self.parts.get_mut(lane)?.iter_mut().find(|part| part.lane == *name)
    }

    /// Whether something of `lane` is left.
    pub(super) fn has(&self, lane: usize) -> bool {
        self.parts.get(lane).is_some_and(|parts| !parts.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(shard: u16, last: u64) -> Part {
        Part::new(LaneName { route: "web".to_owned(), shard }, Seq(last))
    }

    #[test]
    fn one_shard_reads_what_was_left_and_the_others_wait_until_it_is_acknowledged() {
        let mut inherited = Inherited::new(3, 2);
        assert_eq!(inherited.turn(1, 0), Turn::Own);
        inherited.add(1, part(0, 5));
        inherited.add(1, part(7, 9));
        inherited.add(1, part(0, 6));
        assert_eq!(inherited.turn(1, 1), Turn::These(&[part(0, 6), part(7, 9)]));
        assert_eq!(inherited.turn(1, 0), Turn::Another);
        assert_eq!(inherited.turn(2, 0), Turn::Own);
        assert!(!inherited.settle(1, |part| part.lane.shard == 7) && inherited.has(1));
        assert!(inherited.settle(1, |_| false) && !inherited.has(1));
        assert_eq!(inherited.turn(1, 0), Turn::Own);
        assert!(!inherited.settle(1, |_| true));
    }
}
