use std::fs;

use tempfile::TempDir;

use super::*;
use crate::batch::Seq;
use crate::config::Compression;
use crate::spool::block::{Coder, LaneName, Meta};

fn block(seq: u64, bytes: usize) -> Vec<u8> {
    let lane = LaneName { route: "a".to_owned(), shard: 0 };
    let meta = Meta { seq: Seq(seq), records: 1, oldest_us: 0, newest_us: 0 };
    let plain: Vec<u8> = (0..bytes).map(|at| (at as u64 * seq) as u8 | 1).collect();
    let mut out = Vec::new();
    Coder::new(Compression::None, None).seal(&lane, meta, &plain, &mut out).unwrap();
    out
}

/// What a walk finds: seqs of blocks, `T` and seq of torn ones, lengths of gaps.
fn walk(octets: &[u8], deep: bool) -> Vec<String> {
    let dir = TempDir::new().unwrap();
    let file = create(dir.path(), 1).unwrap();
    fs::write(path(dir.path(), 1), octets).unwrap();
    let mut walk = Walk::new(file, 0, deep).unwrap();
    let mut found = Vec::new();
    while let Some(next) = walk.next().unwrap() {
        found.push(match next {
            Found::Block { header, .. } => header.meta.seq.0.to_string(),
            Found::Torn { header, .. } => format!("T{}", header.meta.seq.0),
            Found::Gap { bytes, is_zero, .. } => format!("{}{bytes}", if is_zero { "zero " } else { "gap " }),
        });
    }
    found
}

fn blocks() -> [Vec<u8>; 3] {
    [block(1, 300), block(2, 70_000), block(3, 5000)]
}

#[test]
fn a_walk_finds_all_blocks_and_nothing_else() {
    assert_eq!(walk(&blocks().concat(), false), ["1", "2", "3"]);
    assert_eq!(walk(&blocks().concat(), true), ["1", "2", "3"]);
    assert!(walk(&[], false).is_empty());
    assert_eq!(walk(&[0; 9000], false), ["zero 9000"]);
    assert_eq!(walk(&[7; 3], false), ["gap 3"]);
}

#[test]
fn what_is_no_block_is_stepped_over() {
    let [a, b, c] = blocks();
    assert_eq!(walk(&[&a[..], &[0; 70_000], &b, &[9; 5], &c].concat(), false), ["1", "zero 70000", "2", "gap 5", "3"]);
    let mut harmed = b.clone();
    harmed[20] ^= 1;
    assert_eq!(walk(&[&a[..], &harmed, &c].concat(), false), ["1", &format!("gap {}", b.len()), "3"]);
    assert_eq!(walk(&[&a[..], &b, &c[..4000]].concat(), false), ["1", "2", "T3"]);
    assert_eq!(walk(&[&a[..], &b, &c[..20]].concat(), false), ["1", "2", "gap 20"]);
}

#[test]
fn a_block_that_lost_octets_hides_none_behind_it() {
    let [a, b, c] = blocks();
    let d = block(4, 3000);
    let short = [&b[..10_000], &b[12_000..]].concat();
    assert_eq!(walk(&[&a[..], &short, &c, &d].concat(), false)[..2], ["1", "2"]);
    assert!(walk(&[&a[..], &short, &c, &d].concat(), false).ends_with(&["3".to_owned(), "4".to_owned()]));
    // At the end, it looks torn.
    assert_eq!(walk(&[&a[..], &short, &block(5, 1000)].concat(), false), ["1", "T2", "5"]);
    // One block's octets exactly: only payloads tell.
    let shorter = [&b[..1000], &b[1000 + c.len()..]].concat();
    let octets = [&a[..], &shorter, &c, &d].concat();
    assert_eq!(walk(&octets, false), ["1", "2", "4"]);
    assert_eq!(walk(&octets, true), ["1", &format!("gap {}", shorter.len()), "3", "4"]);
    // And one that won some.
    let longer = [&b[..1000], &[1; 333], &b[1000..]].concat();
    assert_eq!(walk(&[&a[..], &longer, &c].concat(), false), ["1", "2", "gap 333", "3"]);
}

#[test]
fn names_are_numbers() {
    assert_eq!(number(&file_name(77)), Some(77));
    assert_eq!(number(&file_name(NUMBER_MAX + 1)), None);
    for name in ["77.seg", "0000000000000077.seg~", "+000000000000077.seg", "probe", ""] {
        assert_eq!(number(name), None, "{name}");
    }
}
