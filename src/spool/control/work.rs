//! What is done for an operator, on the spool itself.

use std::collections::BTreeSet;

use tracing::warn;

use crate::batch::Seq;
use crate::spool::block::{LaneName, Meta};
use crate::spool::store::{AppendError, BlockInfo, LaneState, Selection, Store};
use crate::time;

use super::{Answer, Block, DROPS_MAX, Dropped, IMPORT_SHARD, Lane, Op, PAGE_MAX, Place, Select, Stat};

/// Does what an operator asks. Takes as long as a page of the index, a block, or one `fdatasync` does; a drop, as long as
/// its blocks take.
pub fn handle(op: Op, store: &mut Store) -> Answer {
    match op {
        Op::Stat => Answer::Stat(stat(store)),
        Op::List { select, after, max } => list(store, &select, after, max),
        Op::Drop { select } => drop_blocks(store, &select),
        Op::Rebuild => done(store.rebuild(), "the index cannot be made again"),
        Op::Import { route, records, oldest_us, newest_us, plain } => {
            let lane = LaneName { route, shard: IMPORT_SHARD };
            import(store, &lane, (records, oldest_us, newest_us), &plain)
        }
        Op::Sync => done(store.sync(), "what was done may not survive a power cut"),
    }
}

fn done<E: std::fmt::Display>(result: Result<(), E>, what: &str) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Failed(format!("{what}: {error}")),
    }
}

impl Select {
    /// What is selected of one route.
    fn of(&self, route: &str) -> Selection {
        Selection { route: Some(route.to_owned()), shard: None, from_us: self.since_us, to_us: self.until_us }
    }

    /// The routes that are selected, of those that have lanes, in order.
    fn routes(&self, store: &mut Store) -> BTreeSet<String> {
        let held = store.lanes().into_iter().map(|state| state.name.route);
        held.filter(|route| self.routes.is_empty() || self.routes.contains(route)).collect()
    }
}

fn stat(store: &mut Store) -> Stat {
    let usage = store.usage();
    Stat {
        state: None,
        rebuilding: store.is_rebuilding(),
        bytes: usage.bytes,
        quarantine_bytes: usage.quarantine_bytes,
        segments: usage.segments,
        disk_free: usage.disk_free,
        lanes: store.lanes().into_iter().map(lane).collect(),
    }
}

fn lane(state: LaneState) -> Lane {
    Lane {
        route: state.name.route,
        shard: state.name.shard,
        blocks: state.blocks,
        records: state.records,
        bytes: state.bytes,
        oldest_us: state.oldest_us,
        newest_us: (state.blocks > 0).then(|| state.last.sealed_at_us()),
    }
}

fn list(store: &mut Store, select: &Select, after: Option<Place>, max: usize) -> Answer {
    let after = after.map(|place| (LaneName { route: place.route, shard: place.shard }, Seq(place.seq)));
    let max = max.clamp(1, PAGE_MAX);
    let mut page = Vec::new();
    for route in select.routes(store) {
        let after = match &after {
            Some((lane, _)) if route < lane.route => continue,
            after => after.clone(),
        };
        match store.blocks(&select.of(&route), after, max - page.len()) {
            Ok(blocks) => page.extend(blocks.into_iter().map(block)),
            Err(error) => return Answer::Failed(format!("the index cannot be read: {error}; ask again")),
        }
        if page.len() >= max {
            break;
        }
    }
    Answer::Blocks(page)
}

fn block(info: BlockInfo) -> Block {
    Block {
        route: info.lane.route,
        shard: info.lane.shard,
        seq: info.meta.seq.0,
        records: info.meta.records,
        oldest_us: info.meta.oldest_us,
        newest_us: info.meta.newest_us,
        segment: info.segment,
        offset: info.offset,
        length: info.bytes,
    }
}

/// Route by route, so that each is told what it lost.
fn drop_blocks(store: &mut Store, select: &Select) -> Answer {
    let mut dropped = Vec::new();
    let mut left = DROPS_MAX;
    for route in select.routes(store) {
        match store.drop_blocks(&select.of(&route), left) {
            Ok(done) if done.blocks == 0 && done.out == 0 => {}
            Ok(done) => {
                left = left.saturating_sub(done.blocks);
                dropped.push(Dropped { route, blocks: done.blocks, records: done.records, out: done.out });
            }
            // What is dropped already is told first; whoever asks again hears of this.
            Err(_) if !dropped.is_empty() => return Answer::Dropped(dropped),
            Err(error) => return Answer::Failed(format!("the index cannot be read: {error}; ask again")),
        }
        if left == 0 {
            break;
        }
    }
    if let Err(error) = store.sync() {
        warn!("what was dropped from the spool may be back after a power cut: {error}");
    }
    Answer::Dropped(dropped)
}

fn import(
    store: &mut Store,
    lane: &LaneName,
    (records, oldest_us, newest_us): (u32, i64, i64),
    plain: &[u8],
) -> Answer {
    let now_us = i64::try_from(time::since_epoch().as_micros()).unwrap_or(i64::MAX);
    let seq = store.last_seq(lane).next(now_us, usize::from(lane.shard));
    match store.append(lane, Meta { seq, records, oldest_us, newest_us }, plain) {
        Ok(()) => Answer::Done,
        Err(AppendError::Full | AppendError::Dropped) => {
            Answer::Failed("the spool is full: raise spool.max_size, or wait until something is released".to_owned())
        }
        Err(error) => Answer::Failed(format!("a block cannot be written: {error}")),
    }
}
