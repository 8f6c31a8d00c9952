//! Spools that earlier versions have written are read: `fixtures/spool-1` is kept as format 1's first version wrote it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use forebay::batch::{Batch, Seq};
use forebay::config::{Compression, SpoolFull, SpoolKey};
use forebay::spool::block::{LaneName, Meta};
use forebay::spool::records;
use forebay::spool::store::{Event, Options, Store};
use forebay::syslog::{self, Clock, Message};
use serde_json::Value;
use tempfile::TempDir;

/// Noon of 2020-11-22.
const NOON_US: i64 = 1_606_046_400_000_000;
const KEY: [u8; SpoolKey::OCTETS] = [7; SpoolKey::OCTETS];
const PER_BLOCK: usize = 10;

/// A message's octets, and when it was received.
type Received = (Vec<u8>, i64);

/// What a lane of the fixture got.
struct Written {
    route: &'static str,
    shard: u16,
    compression: Compression,
    encrypted: bool,
    blocks: usize,
    /// Of these, by number, the ones that were released.
    released: &'static [usize],
}

/// In the order in which they were written. Released are: the oldest of a lane (a segment of theirs is deleted), and
/// some between others.
const LANES: [Written; 4] = [
    lane("firewall", 0, Compression::Lz4, false, 8, &[0, 1, 2, 3, 5]),
    lane("web", 0, Compression::Lz4, false, 8, &[0, 4]),
    lane("web", 1, Compression::Zstd, false, 6, &[]),
    lane("web", 2, Compression::Lz4, true, 4, &[1]),
];

const fn lane(
    route: &'static str,
    shard: u16,
    compression: Compression,
    encrypted: bool,
    blocks: usize,
    released: &'static [usize],
) -> Written {
    Written { route, shard, compression, encrypted, blocks, released }
}

impl Written {
    fn name(&self) -> LaneName {
        LaneName { route: self.route.to_owned(), shard: self.shard }
    }

    /// Message `index` of block `block`, and when it was received.
    fn message(&self, block: usize, index: usize) -> Received {
        let (number, shard) = (block * PER_BLOCK + index, self.shard);
        let mut raw = match index % 3 {
            0 => format!("<30>Nov 22 12:00:00 {}-{shard} nginx[{number}]: request {number}", self.route),
            1 => format!("<165>1 2020-11-22T12:00:00.5+01:00 h{shard} app {number} ID [a@1 b=\"{number}\"] done"),
            _ => format!("{}: no header at all, {number}, gr", self.route),
        };
        raw.push_str(&"x".repeat(number % 50));
        let mut raw = raw.into_bytes();
        // Octets that are no UTF-8.
        if index % 3 == 2 {
            raw.extend_from_slice(b"\xfcn");
        }
        (raw, NOON_US + (number * 4 + usize::from(shard)) as i64)
    }

    fn messages(&self, block: usize) -> Vec<Received> {
        (0..PER_BLOCK).map(|index| self.message(block, index)).collect()
    }

    /// What must come out.
    fn live(&self) -> Vec<Received> {
        let blocks = (0..self.blocks).filter(|block| !self.released.contains(block));
        blocks.flat_map(|block| self.messages(block)).collect()
    }
}

fn options(dir: &Path) -> Options {
    Options {
        dir: dir.to_owned(),
        max_size: 1 << 30,
        when_full: SpoolFull::Block,
        min_free: 0,
        compression: Compression::Lz4,
        encryption_key: Some(SpoolKey::new(KEY)),
        shares: Default::default(),
        segment_bytes: 1024,
        reserve_bytes: 0,
    }
}

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/spool-1")
}

/// Files and folders, with the modes that a spool has: git does not keep them.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).expect("a mode");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::write(&target, fs::read(&path).expect("octets")).expect("written");
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).expect("a mode");
        }
    }
}

/// The kept spool, in a folder of its own.
fn spool() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("spool");
    copy(&kept(), &path);
    (dir, path)
}

/// All that a lane gives, in order: octets and time of reception.
fn drain(store: &mut Store, name: &LaneName) -> Vec<Received> {
    let (mut messages, mut plain, mut after) = (Vec::new(), Vec::new(), Seq(0));
    while let Some(meta) = store.next(name, after, &mut plain).expect("a read") {
        assert!(meta.seq > after);
        after = meta.seq;
        let batch = records::decode(&plain, &["lan".to_owned()]).expect("records");
        assert_eq!(batch.len(), meta.records as usize);
        for message in batch.messages(&["lan".to_owned()]) {
            assert_eq!((message.input, message.peer), ("lan", Some("192.0.2.7".parse().unwrap())));
            messages.push((message.raw.to_vec(), message.received_at_us));
        }
    }
    messages
}

/// Everything that must not happen to a spool that is whole.
fn complaints(store: &mut Store) -> Vec<Event> {
    let mut events = store.events();
    events.retain(|event| !matches!(event, Event::Recovered { .. } | Event::Rebuilt { .. } | Event::Rebuilding { .. }));
    events
}

#[test]
fn what_the_first_version_left_comes_out_in_order_and_what_it_released_does_not() {
    let (_dir, path) = spool();
    let mut store = Store::open(options(&path)).expect("it opens");
    while store.work() {}
    assert_eq!(format!("{:?}", store.events()), "[]", "neither damage nor a new index");
    assert_eq!(store.lanes().iter().filter(|lane| lane.blocks > 0).count(), LANES.len());
    for lane in &LANES {
        assert_eq!(drain(&mut store, &lane.name()), lane.live(), "{} {}", lane.route, lane.shard);
    }
    // It goes on: new blocks go behind the old ones, and all can be released.
    append(&mut store, &LANES[0], 0);
    assert_eq!(drain(&mut store, &LANES[0].name()), [LANES[0].live(), LANES[0].messages(0)].concat());
    let mut plain = Vec::new();
    for lane in &LANES {
        while let Some(meta) = store.next(&lane.name(), Seq(0), &mut plain).expect("a read") {
            store.release(&lane.name(), meta.seq);
        }
    }
    store.close().expect("it closes");
    let mut store = Store::open(options(&path)).expect("it opens again");
    while store.work() {}
    assert!(store.lanes().iter().all(|lane| lane.blocks == 0), "{:?}", store.lanes());
}

#[test]
fn the_binary_exports_what_the_first_version_left() {
    let (dir, path) = spool();
    let key = dir.path().join("key");
    fs::write(&key, KEY).expect("written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a mode");
    let ran = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["spool", "export", "--format", "json", "--dir"])
        .arg(&path)
        .arg("--encryption-key-file")
        .arg(&key)
        .env_remove("FOREBAY_CONFIG")
        .output()
        .expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut left: Vec<(&str, Vec<Received>)> = Vec::new();
    for lane in &LANES {
        match left.last_mut().filter(|(route, _)| *route == lane.route) {
            Some((_, messages)) => messages.extend(lane.live()),
            None => left.push((lane.route, lane.live())),
        }
    }
    let out = String::from_utf8(ran.stdout).expect("UTF-8");
    let exported: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for (route, messages) in left {
        let of: Vec<&Value> = exported.iter().filter(|message| message["route"] == route).collect();
        assert_eq!(of.len(), messages.len(), "{route}");
        // The others are in base64, which is the export's own test.
        let text = messages.iter().filter_map(|(raw, _)| std::str::from_utf8(raw).ok());
        let found = of.iter().filter_map(|message| message["raw"].as_str());
        assert_eq!(found.collect::<Vec<_>>(), text.collect::<Vec<_>>(), "{route}");
        assert!(of.iter().all(|message| message["peer"] == "192.0.2.7" && message["input"] == "lan"), "{of:?}");
    }
}

#[test]
fn without_its_index_what_the_first_version_left_is_found_again() {
    let (_dir, path) = spool();
    fs::remove_dir_all(path.join("index")).expect("removed");
    let mut store = Store::open(options(&path)).expect("it opens");
    while store.work() {}
    assert!(!store.is_rebuilding());
    assert_eq!(format!("{:?}", complaints(&mut store)), "[]");
    for lane in &LANES {
        let found = drain(&mut store, &lane.name());
        let live = lane.live();
        let (known, again): (Vec<_>, Vec<_>) = found.into_iter().partition(|message| live.contains(message));
        assert_eq!(known, live, "{} {}", lane.route, lane.shard);
        // Only the index knew that these were released: they may be sent again.
        let released: Vec<_> = lane.released.iter().flat_map(|block| lane.messages(*block)).collect();
        assert!(again.iter().all(|message| released.contains(message)), "{again:?}");
    }
}

fn append(store: &mut Store, lane: &Written, block: usize) -> Seq {
    let mut batch = Batch::default();
    let messages = lane.messages(block);
    for (frame, received_at_us) in &messages {
        let mut scratch = Vec::new();
        let raw = syslog::sanitize(frame, &mut scratch);
        let clock = Clock { now_us: NOON_US, year: 2020, month: 11, day: 22, offset_minutes: 0 };
        let fields = syslog::parse(raw, &clock);
        let peer = Some("192.0.2.7".parse().unwrap());
        batch.push(&Message { fields: &fields, raw, received_at_us: *received_at_us, peer, input: "lan" }, 0);
    }
    let mut plain = Vec::new();
    records::encode(&batch, &["lan".to_owned()], &mut plain);
    let (oldest_us, newest_us) = (messages[0].1, messages[messages.len() - 1].1);
    let seq = store.last_seq(&lane.name()).next(newest_us, usize::from(lane.shard));
    let meta = Meta { seq, records: batch.len() as u32, oldest_us, newest_us };
    store.append(&lane.name(), meta, &plain).expect("appended");
    seq
}

/// How the fixture was made. Only a version whose format is 1 may make it again; a later format gets one of its own.
#[test]
#[ignore = "writes tests/fixtures/spool-1, which is kept as it is: remove it first"]
fn write_the_fixture() {
    assert!(!kept().exists(), "an earlier version's spool is not written over");
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("spool");
    for lane in &LANES {
        let encryption_key = lane.encrypted.then(|| SpoolKey::new(KEY));
        let options = Options { compression: lane.compression, encryption_key, ..options(&path) };
        let mut store = Store::open(options).expect("it opens");
        let seqs: Vec<Seq> = (0..lane.blocks).map(|block| append(&mut store, lane, block)).collect();
        store.sync().expect("synced");
        for block in lane.released {
            store.release(&lane.name(), seqs[*block]);
        }
        store.close().expect("it closes");
    }
    assert_eq!(fs::read_to_string(path.join("format")).expect("text"), "forebay spool 1\n");
    copy(&path, &kept());
    // It says which process held the spool last, and on which host.
    fs::remove_file(kept().join("lock")).expect("removed");
}
