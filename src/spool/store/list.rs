//! What is in a store: for operators and metrics.

use std::io;

use super::Store;
use crate::batch::Seq;
use crate::spool::block::{LaneName, Meta};
use crate::spool::index::Place;

/// A lane's backlog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneState {
    /// Which.
    pub name: LaneName,
    /// Blocks that are not released.
    pub blocks: u64,
    /// Their octets on the disk.
    pub bytes: u64,
    /// Records in them.
    pub records: u64,
    /// Arrival of the oldest record, microseconds since the Unix epoch.
    pub oldest_us: Option<i64>,
    /// The oldest block.
    pub first: Option<Seq>,
    /// The highest seq that it ever had, released or not.
    pub last: Seq,
}

/// What the folder takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on the disk, of everything.
    pub bytes: u64,
    /// How many segments there are.
    pub segments: u64,
    /// Bytes of these that segments take.
    pub segment_bytes: u64,
    /// Bytes of these that the index takes.
    pub index_bytes: u64,
    /// Bytes of these that lie in quarantine.
    pub quarantine_bytes: u64,
    /// Bytes free on the disk.
    pub disk_free: u64,
}

/// Some of the blocks. What is not said matches all.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Of this route.
    pub route: Option<String>,
    /// Of this shard.
    pub shard: Option<u16>,
    /// With records received at or after it, microseconds since the Unix epoch.
    pub from_us: Option<i64>,
    /// With records received before it, microseconds since the Unix epoch.
    pub to_us: Option<i64>,
}

/// What [`Store::drop_blocks`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many blocks.
    pub blocks: u64,
    /// Their records.
    pub records: u64,
    /// Their octets on the disk.
    pub bytes: u64,
    /// Blocks that were chosen and stay, as they are out.
    pub out: u64,
}

/// Where a block is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockInfo {
    /// Whose.
    pub lane: LaneName,
    /// Which, and of when.
    pub meta: Meta,
    /// Number of its segment.
    pub segment: u64,
    /// Where it begins in it.
    pub offset: u64,
    /// Its octets, header and all.
    pub bytes: u64,
}

impl Selection {
    /// Whether the lane's blocks may be among them.
    pub fn names(&self, lane: &LaneName) -> bool {
        self.route.as_ref().is_none_or(|route| *route == lane.route)
            && self.shard.is_none_or(|shard| shard == lane.shard)
    }

    pub(super) fn covers(&self, place: &Place) -> bool {
        self.from_us.is_none_or(|from| place.newest_us >= from) && self.to_us.is_none_or(|to| place.oldest_us < to)
    }

    /// Whether none of its records is outside the range.
    pub(super) fn encloses(&self, place: &Place) -> bool {
        self.from_us.is_none_or(|from| place.oldest_us >= from) && self.to_us.is_none_or(|to| place.newest_us < to)
    }
}

impl Store {
    /// All lanes that ever had blocks since the spool was empty.
    pub fn lanes(&mut self) -> Vec<LaneState> {
        let names: Vec<LaneName> = self.lanes.keys().cloned().collect();
        let states = names.into_iter().filter_map(|name| {
            // An index that does not answer shows elsewhere.
            let first = self.live_after(&name, 0).ok().flatten();
            let lane = self.lanes.get(&name)?;
            let totals = lane.totals;
            Some(LaneState {
                blocks: totals.blocks,
                bytes: totals.bytes,
                records: totals.records,
                oldest_us: first.map(|first| first.oldest_us),
                first: first.map(|first| Seq(first.seq)),
                last: Seq(lane.last),
                name,
            })
        });
        states.collect()
    }

    /// What the folder takes, as of the last sync or block.
    pub fn usage(&self) -> Usage {
        Usage {
            bytes: self.room.total(),
            segments: self.segments.len() as u64,
            segment_bytes: self.room.segment_bytes,
            index_bytes: self.room.index_bytes,
            quarantine_bytes: self.room.quarantine_bytes,
            disk_free: self.room.disk_free,
        }
    }

    /// Up to `max` of the chosen blocks, lane by lane, oldest first, behind `after`.
    ///
    /// # Errors
    /// What the index says.
    pub fn blocks(
        &mut self,
        select: &Selection,
        after: Option<(LaneName, Seq)>,
        max: usize,
    ) -> io::Result<Vec<BlockInfo>> {
        let mut blocks = Vec::new();
        for name in self.selected(select) {
            let mut seq = match &after {
                Some((lane, _)) if name < *lane => continue,
                Some((lane, seq)) if name == *lane => seq.0,
                _ => 0,
            };
            while let Some(place) = self.live_after(&name, seq)? {
                if blocks.len() >= max {
                    return Ok(blocks);
                }
                seq = place.seq;
                if select.covers(&place) {
                    blocks.push(BlockInfo {
                        lane: name.clone(),
                        meta: place.meta(),
                        segment: place.segment,
                        offset: u64::from(place.offset),
                        bytes: u64::from(place.bytes),
                    });
                }
            }
        }
        Ok(blocks)
    }

    pub(super) fn selected(&self, select: &Selection) -> Vec<LaneName> {
        self.lanes.keys().filter(|name| select.names(name)).cloned().collect()
    }
}
