use std::path::Path;

use tempfile::TempDir;

use super::folder::disk_use;
use super::*;
use crate::spool::block::Meta;

/// Where the environment says, or in memory where the system has such a folder: syncing costs nothing there.
pub(super) fn scratch() -> TempDir {
    let dir = std::env::var_os("FOREBAY_SCRATCH").unwrap_or_else(|| "/dev/shm".into());
    TempDir::new_in(dir).or_else(|_| TempDir::new()).unwrap()
}

/// A lane of shard 0.
pub(super) fn lane(route: &str) -> LaneName {
    LaneName { route: route.to_owned(), shard: 0 }
}

/// A block of two records.
pub(super) fn meta(seq: u64) -> Meta {
    Meta { seq: Seq(seq), records: 2, oldest_us: seq as i64 * 10, newest_us: seq as i64 * 10 + 5 }
}

/// Octets that do not compress, and differ from block to block.
pub(super) fn plain(seq: u64, bytes: usize) -> Vec<u8> {
    let mut plain = vec![0; bytes];
    fastrand::Rng::with_seed(seq).fill(&mut plain);
    plain
}

/// Small enough that segments roll all the time.
pub(super) fn options(dir: &Path) -> Options {
    Options {
        dir: dir.join("spool"),
        max_size: 16 * 1024 * 1024,
        when_full: SpoolFull::Block,
        min_free: 0,
        compression: Compression::None,
        encryption_key: None,
        shares: HashMap::new(),
        segment_bytes: 64 * 1024,
        reserve_bytes: 64 * 1024,
    }
}

pub(super) fn open(dir: &TempDir) -> Store {
    Store::open(options(dir.path())).unwrap()
}

pub(super) fn append(store: &mut Store, name: &LaneName, seq: u64, bytes: usize) {
    let appended = store.append(name, meta(seq), &plain(seq, bytes));
    assert!(appended.is_ok(), "{seq}: {appended:?} {store:#?}");
}

/// All seqs that come out, each checked against what was appended.
pub(super) fn drain(store: &mut Store, name: &LaneName) -> Vec<u64> {
    let (mut seqs, mut out, mut after) = (Vec::new(), Vec::new(), Seq(0));
    while let Some(found) = store.next(name, after, &mut out).unwrap() {
        assert_eq!(found, meta(found.seq.0));
        assert_eq!(out, plain(found.seq.0, out.len()));
        seqs.push(found.seq.0);
        after = found.seq;
    }
    seqs
}

pub(super) fn work(store: &mut Store) {
    while store.work() {}
}

#[test]
fn blocks_come_back_in_order_and_leave_when_they_are_released() {
    let dir = scratch();
    let (a, b) = (lane("a"), lane("b"));
    let mut store = open(&dir);
    for seq in 1..=100 {
        append(&mut store, if seq % 3 == 0 { &b } else { &a }, seq, 3000);
    }
    store.sync().unwrap();
    assert!(store.usage().segments > 4);
    let of_b: Vec<u64> = (1..=100).filter(|seq| seq % 3 == 0).collect();
    assert_eq!(drain(&mut store, &b), of_b);
    for seq in &of_b[..20] {
        store.release(&b, Seq(*seq));
    }
    store.close().unwrap();

    let mut store = open(&dir);
    assert_eq!(drain(&mut store, &b), of_b[20..]);
    work(&mut store);
    assert_eq!(drain(&mut store, &b), of_b[20..]);
    let of_a = drain(&mut store, &a);
    assert_eq!(of_a.len(), 67);
    assert_eq!(store.lanes()[0].blocks, 67);
    assert_eq!(store.lanes()[1].records, 26);
    for seq in of_a {
        store.release(&a, Seq(seq));
    }
    for seq in &of_b[20..] {
        store.release(&b, Seq(*seq));
    }
    store.sync().unwrap();
    assert_eq!(store.usage().segments, 0);
    assert_eq!(store.events(), []);
    assert_eq!(store.last_seq(&b), Seq(99));
    append(&mut store, &b, 101, 10);
    drop(store);
    let mut store = open(&dir);
    assert_eq!(drain(&mut store, &b), [101]);
    assert!(drain(&mut store, &a).is_empty());
    assert_eq!(store.last_seq(&a), Seq(100));
}

#[test]
fn blocks_without_a_key_stay_until_there_is_one() {
    let dir = scratch();
    let a = lane("a");
    let key = |octet| Some(SpoolKey::new([octet; 32]));
    let with = |key| Options { encryption_key: key, ..options(dir.path()) };
    let mut store = Store::open(with(None)).unwrap();
    append(&mut store, &a, 1, 100);
    store.close().unwrap();
    let mut store = Store::open(with(key(1))).unwrap();
    append(&mut store, &a, 2, 100);
    append(&mut store, &a, 3, 100);
    store.close().unwrap();
    for other in [None, key(2)] {
        let mut store = Store::open(with(other)).unwrap();
        work(&mut store);
        assert_eq!(drain(&mut store, &a), [1]);
        assert_eq!(store.events(), [Event::Locked { route: "a".to_owned(), records: 4 }]);
        assert_eq!(store.read(&a, Seq(2), &mut Vec::new()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        store.close().unwrap();
    }
    let mut store = Store::open(with(key(1))).unwrap();
    assert_eq!(drain(&mut store, &a), [1, 2, 3]);
    let text = std::fs::read(dir.path().join("spool/segments/0000000000000002.seg")).unwrap();
    assert!(!text.windows(20).any(|window| plain(2, 100).starts_with(window)));
}

#[test]
fn what_was_written_is_found_again_without_a_sync_and_without_an_index() {
    let dir = scratch();
    let a = lane("a");
    let mut store = open(&dir);
    for seq in 1..=300 {
        append(&mut store, &a, seq, 1000);
    }
    store.sync().unwrap();
    for seq in 301..=400 {
        append(&mut store, &a, seq, 1000);
    }
    drop(store);
    let mut store = open(&dir);
    assert_eq!(drain(&mut store, &a), (1..=400).collect::<Vec<_>>());
    drop(store);
    std::fs::remove_dir_all(dir.path().join("spool/index")).unwrap();
    let mut store = open(&dir);
    assert!(store.is_rebuilding());
    append(&mut store, &a, 401, 1000);
    work(&mut store);
    assert!(!store.is_rebuilding());
    assert_eq!(drain(&mut store, &a), (1..=401).collect::<Vec<_>>());
    assert_eq!(store.events().last(), Some(&Event::Rebuilt { blocks: 400 }));
    assert_eq!(store.lanes()[0].blocks, 401);
    assert!(disk_use(&dir.path().join("spool")) < 2 * 1024 * 1024);
}

#[test]
fn an_index_that_an_operator_has_made_again_is_not_put_aside() {
    let dir = scratch();
    let a = lane("a");
    let mut store = open(&dir);
    for seq in 1..=50 {
        append(&mut store, &a, seq, 1000);
    }
    store.sync().unwrap();
    store.rebuild().unwrap();
    assert!(store.is_rebuilding());
    work(&mut store);
    let why = "an operator asked for it".to_owned();
    assert_eq!(store.events(), [Event::Rebuilding { why }, Event::Rebuilt { blocks: 50 }]);
    assert_eq!(drain(&mut store, &a), (1..=50).collect::<Vec<_>>());
}
