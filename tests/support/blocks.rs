//! Blocks for a store whose every octet is known from their lane and number, so that whatever is read can be checked.

use std::collections::HashMap;
use std::path::Path;

use forebay::batch::Seq;
use forebay::config::{Compression, SpoolFull};
use forebay::spool::block::{LaneName, Meta};
use forebay::spool::store::{Options, Store};

use super::power::{Block, content};

/// Lanes that tests write to.
pub const LANES: usize = 4;

/// A store of so many bytes that does not compress, and takes no more when it is full.
pub fn options(dir: &Path, max_size: u64, segment_bytes: u64) -> Options {
    Options {
        dir: dir.to_owned(),
        max_size,
        when_full: SpoolFull::Block,
        min_free: 0,
        compression: Compression::None,
        encryption_key: None,
        shares: HashMap::new(),
        segment_bytes,
        reserve_bytes: 1 << 20,
    }
}

/// Two shards of two routes.
pub fn lane(number: usize) -> LaneName {
    LaneName { route: format!("route{}", number / 2), shard: (number % 2) as u16 }
}

fn number_of(lane: &LaneName) -> usize {
    lane.route.strip_prefix("route").unwrap().parse::<usize>().unwrap() * 2 + usize::from(lane.shard)
}

/// The block of that number: they go to all lanes in turn.
pub fn block(number: u64) -> Block {
    let lane = number as usize % LANES;
    (lane, (number << 12) | (lane as u64 % 2))
}

/// What is known of it without reading.
pub fn meta((_, seq): Block) -> Meta {
    let at_us = (seq >> 12) as i64;
    Meta { seq: Seq(seq), records: 1 + (seq >> 12) as u32 % 9, oldest_us: at_us, newest_us: at_us }
}

/// Its octets: from a record's worth to a whole batch's.
pub fn octets(block: Block, out: &mut Vec<u8>) {
    content(block, len_of(block), out);
}

/// How many those are.
pub fn len_of((lane, seq): Block) -> usize {
    let mixed = (seq ^ lane as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    60 + mixed as usize % 64_000
}

/// All that a store holds, lane by lane, in its order. The error names a block that is not what was written.
pub fn read_all(store: &mut Store) -> Result<Vec<Block>, String> {
    let (mut all, mut plain, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    for state in store.lanes() {
        let number = number_of(&state.name);
        let mut after = Seq::default();
        while let Some(found) = store.next(&state.name, after, &mut plain).map_err(|error| error.to_string())? {
            let block = (number, found.seq.0);
            octets(block, &mut expected);
            if plain != expected || found != meta(block) {
                return Err(format!(
                    "{block:?}: {} octets, not those {} that were written",
                    plain.len(),
                    expected.len()
                ));
            }
            after = found.seq;
            all.push(block);
        }
    }
    Ok(all)
}
