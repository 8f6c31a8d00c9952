//! A backlog of a hundred gigabytes, most of it holes: opening must not look at it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::batch::Seq;
use crate::config::Compression;
use crate::spool::block::{Coder, LaneName};
use crate::spool::segment;
use crate::spool::store::tests::{append, drain, lane, meta, options, plain, scratch, work};
use crate::spool::store::{Options, Store};

const SEGMENTS: u64 = 1600;
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

fn large_options(dir: &std::path::Path) -> Options {
    Options { max_size: 200 << 30, segment_bytes: SEGMENT_BYTES, ..options(dir) }
}

fn block(name: &LaneName, seq: u64) -> Vec<u8> {
    let mut block = Vec::new();
    Coder::new(Compression::None, None).seal(name, meta(seq), &plain(seq, 500), &mut block).unwrap();
    block
}

/// A block at each segment's start, one in its middle, one at its end; holes between.
fn write_segments(dir: &std::path::Path) {
    fs::create_dir_all(dir).unwrap();
    for number in 1..=SEGMENTS {
        let mut file = File::create(segment::path(dir, number)).unwrap();
        let first = block(&lane("a"), number * 3);
        file.write_all(&first).unwrap();
        file.write_all_at(&block(&lane("a"), number * 3 + 1), SEGMENT_BYTES / 2 + number * 7).unwrap();
        let last = block(&lane("a"), number * 3 + 2);
        file.write_all_at(&last, SEGMENT_BYTES - last.len() as u64).unwrap();
    }
}

#[test]
fn a_hundred_gigabytes_open_at_once_with_and_without_an_index() {
    let dir = scratch();
    let spool = dir.path().join("spool");
    write_segments(&spool.join("segments"));
    let due: Vec<u64> = (3..3 + 3 * SEGMENTS).collect();

    let started = Instant::now();
    let mut store = Store::open(large_options(dir.path())).unwrap();
    assert!(started.elapsed() < Duration::from_secs(1), "{:?} without an index", started.elapsed());
    assert!(store.is_rebuilding());
    // Others go on meanwhile.
    append(&mut store, &lane("b"), 1_000_000, 100);
    assert!(store.work());
    assert!(store.is_rebuilding());
    assert_eq!(drain(&mut store, &lane("b")), [1_000_000]);
    store.release(&lane("b"), Seq(1_000_000));
    append(&mut store, &lane("b"), 1_000_001, 100);
    store.sync().unwrap();
    work(&mut store);
    assert!(!store.is_rebuilding());
    assert_eq!(store.lanes()[0].blocks, 3 * SEGMENTS);
    store.close().unwrap();

    let started = Instant::now();
    let mut store = Store::open(large_options(dir.path())).unwrap();
    assert!(started.elapsed() < Duration::from_secs(1), "{:?} with an index", started.elapsed());
    assert!(!store.is_rebuilding());
    assert_eq!(drain(&mut store, &lane("b")), [1_000_001]);
    assert_eq!(drain(&mut store, &lane("a")), due);
}
