//! Random histories against a plain model: what must come out, what may, and what the folder may take.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tempfile::TempDir;

use crate::batch::Seq;
use crate::config::SpoolFull;
use crate::spool::block::LaneName;
use crate::spool::store::fault::tests::{arm, disarm};
use crate::spool::store::folder::disk_use;
use crate::spool::store::tests::{lane, meta, options, plain, scratch};
use crate::spool::store::{AppendError, Event, Options, Selection, Store, Unread};

/// What may happen.
#[derive(Debug, Clone)]
enum Op {
    Append {
        lane: usize,
        bytes: usize,
    },
    /// Reads on in a lane.
    Read {
        lane: usize,
        blocks: usize,
    },
    /// Releases the nth of those that are out.
    Release {
        lane: usize,
        nth: usize,
    },
    /// Releases all that are out.
    ReleaseAll {
        lane: usize,
    },
    /// Forgets the nth of those that are out.
    Forget {
        lane: usize,
        nth: usize,
    },
    ForgetAll {
        lane: usize,
    },
    Drop {
        lane: usize,
    },
    Sync,
    SyncData,
    Work,
    Step,
    /// The index turns out to be damaged while it is in use.
    LoseIndex,
    /// The index fails before it has flushed.
    FailFlush,
    Close,
    Kill,
    Damage {
        file: usize,
        how: Damage,
        at: usize,
        bytes: usize,
    },
}

/// What may happen to a file, from one octet to another.
#[derive(Debug, Clone, Copy)]
pub(in crate::spool::store) enum Damage {
    Flip,
    Zero,
    Cut,
    Insert,
    Remove,
    Delete,
}

const LANES: [&str; 3] = ["a", "b", "c"];

fn op() -> impl Strategy<Value = Op> {
    let lane = 0..LANES.len();
    let how = prop_oneof![
        Just(Damage::Flip),
        Just(Damage::Zero),
        Just(Damage::Cut),
        Just(Damage::Insert),
        Just(Damage::Remove),
        Just(Damage::Delete)
    ];
    prop_oneof![
        30 => (lane.clone(), prop_oneof![0..200usize, 200..9000usize, Just(30_000)])
            .prop_map(|(lane, bytes)| Op::Append { lane, bytes }),
        12 => (lane.clone(), 1..20usize).prop_map(|(lane, blocks)| Op::Read { lane, blocks }),
        12 => (lane.clone(), 0..8usize).prop_map(|(lane, nth)| Op::Release { lane, nth }),
        4 => lane.clone().prop_map(|lane| Op::ReleaseAll { lane }),
        6 => (lane.clone(), 0..8usize).prop_map(|(lane, nth)| Op::Forget { lane, nth }),
        2 => lane.clone().prop_map(|lane| Op::ForgetAll { lane }),
        1 => lane.prop_map(|lane| Op::Drop { lane }),
        6 => Just(Op::Sync),
        2 => Just(Op::SyncData),
        4 => Just(Op::Work),
        2 => Just(Op::Step),
        1 => Just(Op::LoseIndex),
        2 => Just(Op::FailFlush),
        2 => Just(Op::Close),
        3 => Just(Op::Kill),
        2 => (any::<usize>(), how, any::<usize>(), 1..3000usize)
            .prop_map(|(file, how, at, bytes)| Op::Damage { file, how, at, bytes }),
    ]
}

#[derive(Debug, Default)]
struct LaneModel {
    /// Must come out.
    live: BTreeSet<u64>,
    /// Were hit by damage: may come out.
    hit: BTreeSet<u64>,
    /// Released, and may come out again.
    ghosts: BTreeSet<u64>,
    /// Released since the last sync.
    fresh: BTreeSet<u64>,
    /// Released before it.
    gone: BTreeSet<u64>,
    /// Read and not released.
    out: BTreeSet<u64>,
}

impl LaneModel {
    fn release(&mut self, seq: u64) {
        self.out.remove(&seq);
        self.live.remove(&seq);
        self.hit.remove(&seq);
        self.ghosts.remove(&seq);
        self.fresh.insert(seq);
    }
}

struct Rig {
    _dir: TempDir,
    options: Options,
    store: Option<Store>,
    lanes: Vec<LaneModel>,
    seq: u64,
    bytes: BTreeMap<u64, usize>,
}

impl Rig {
    fn new(max_size: u64, when_full: SpoolFull) -> Self {
        let dir = scratch();
        let options = Options { max_size, when_full, ..options(dir.path()) };
        let store = Some(Store::open(options.clone()).unwrap());
        let lanes = LANES.iter().map(|_| LaneModel::default()).collect();
        Self { _dir: dir, options, store, lanes, seq: 0, bytes: BTreeMap::new() }
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Append { lane, bytes } => self.append(lane, bytes),
            Op::Read { lane, blocks } => self.read(lane, blocks),
            Op::Release { lane, nth } => {
                let seq = self.lanes[lane].out.iter().nth(nth).copied();
                if let Some(seq) = seq {
                    self.store().release(&name(lane), Seq(seq));
                    self.lanes[lane].release(seq);
                }
            }
            Op::ReleaseAll { lane } => {
                for seq in self.lanes[lane].out.clone() {
                    self.store().release(&name(lane), Seq(seq));
                    self.lanes[lane].release(seq);
                }
            }
            Op::Forget { lane, nth } => {
                if let Some(seq) = self.lanes[lane].out.iter().nth(nth).copied() {
                    self.store().forget(&name(lane), Seq(seq));
                    self.lanes[lane].out.remove(&seq);
                }
            }
            Op::ForgetAll { lane } => {
                for seq in std::mem::take(&mut self.lanes[lane].out) {
                    self.store().forget(&name(lane), Seq(seq));
                }
            }
            Op::Drop { lane } => self.drop_blocks(lane),
            Op::Sync => {
                self.store().sync().unwrap();
                for lane in &mut self.lanes {
                    let fresh = std::mem::take(&mut lane.fresh);
                    lane.gone.extend(fresh);
                }
            }
            Op::SyncData => self.store().sync_data().unwrap(),
            Op::Work => while self.store().work() {},
            Op::Step => drop(self.store().work()),
            Op::LoseIndex => self.store().lose_index("the test says so").unwrap(),
            Op::FailFlush => {
                arm("index.flush", 1, 5);
                // It may be the audit that writes first.
                let more = self.store().work();
                if self.store().sync().is_err() {
                    self.store().retry().unwrap();
                }
                disarm();
                if more {
                    self.store().work();
                }
            }
            Op::Close => {
                self.store.take().unwrap().close().unwrap();
                self.reopen(false);
            }
            Op::Kill => {
                self.store = None;
                for lane in &mut self.lanes {
                    lane.ghosts.extend(std::mem::take(&mut lane.fresh));
                }
                self.reopen(false);
            }
            Op::Damage { file, how, at, bytes } => self.damage(file, how, at, bytes),
        }
        let taken = disk_use(&self.options.dir);
        assert!(taken <= self.options.max_size, "{taken} octets after {op:?}");
    }

    fn append(&mut self, lane: usize, bytes: usize) {
        self.seq += 1;
        let seq = self.seq;
        match self.store.as_mut().unwrap().append(&name(lane), meta(seq), &plain(seq, bytes)) {
            Ok(()) => {
                self.lanes[lane].live.insert(seq);
                self.bytes.insert(seq, bytes);
            }
            Err(AppendError::Full) => assert_eq!(self.options.when_full, SpoolFull::Block),
            Err(AppendError::Dropped) => assert_ne!(self.options.when_full, SpoolFull::Block),
            Err(AppendError::Io(error)) => panic!("{error}"),
        }
        self.note_evicted();
    }

    /// What was evicted must be the oldest of what was not out.
    fn note_evicted(&mut self) {
        let evicted = self.store().events().iter().any(|event| matches!(event, Event::Evicted { .. }));
        if !evicted {
            return;
        }
        let was_complete = !self.store().is_rebuilding();
        self.complete();
        for at in 0..LANES.len() {
            let listed: BTreeSet<u64> = self.listed(at);
            let lane = &mut self.lanes[at];
            let missing: Vec<u64> = lane.live.difference(&listed).copied().collect();
            let newest = missing.last().copied().unwrap_or(0);
            for seq in missing {
                assert!(!lane.out.contains(&seq), "{seq} was out");
                lane.live.remove(&seq);
            }
            let kept: Vec<&u64> = lane.live.difference(&lane.out).filter(|seq| **seq < newest).collect();
            assert!(kept.is_empty() || !was_complete, "{kept:?} are older than {newest}");
            lane.hit.retain(|seq| listed.contains(seq));
            lane.ghosts.retain(|seq| listed.contains(seq));
        }
    }

    fn listed(&mut self, lane: usize) -> BTreeSet<u64> {
        let select = Selection { route: Some(LANES[lane].to_owned()), ..Selection::default() };
        let blocks = self.store().blocks(&select, None, usize::MAX).unwrap();
        blocks.iter().map(|block| block.meta.seq.0).collect()
    }

    /// Lets the index be made again, if it is being made.
    fn complete(&mut self) {
        while self.store().is_rebuilding() {
            self.store().work();
        }
    }

    fn read(&mut self, at: usize, blocks: usize) {
        self.complete();
        for _ in 0..blocks {
            let mut out = Vec::new();
            let lane = &mut self.lanes[at];
            let due = lane.live.difference(&lane.out).next().copied();
            let found = match self.store.as_mut().unwrap().next_unread(&name(at), &mut out).unwrap() {
                Unread::Block(found) => found,
                Unread::End => {
                    assert_eq!(due, None, "lane {at}");
                    return;
                }
                Unread::Gone | Unread::Locked => continue,
            };
            let seq = found.seq.0;
            assert!(!lane.out.contains(&seq) && due.is_none_or(|due| seq <= due), "{seq} instead of {due:?}");
            assert!(Some(seq) == due || lane.hit.contains(&seq) || lane.ghosts.contains(&seq), "{seq} was released");
            assert_eq!((found, &out), (meta(seq), &plain(seq, self.bytes[&seq])));
            lane.out.insert(seq);
        }
    }

    fn drop_blocks(&mut self, at: usize) {
        self.complete();
        let select = Selection { route: Some(LANES[at].to_owned()), ..Selection::default() };
        self.store().drop_blocks(&select, u64::MAX).unwrap();
        let listed = self.listed(at);
        let lane = &mut self.lanes[at];
        // What was hit may be whole all the same, and come out again where its drop is forgotten.
        let dropped: Vec<u64> = lane.live.union(&lane.hit).filter(|seq| !listed.contains(seq)).copied().collect();
        assert!(dropped.iter().all(|seq| !lane.out.contains(seq)));
        assert!(listed.is_subset(&lane.out), "{listed:?}");
        for seq in dropped {
            lane.release(seq);
        }
    }

    /// As after a restart: nothing is out.
    fn reopen(&mut self, is_damaged: bool) {
        self.store = Some(Store::open(self.options.clone()).unwrap());
        if is_damaged || self.store().is_rebuilding() {
            while self.store().work() {}
        }
        for lane in &mut self.lanes {
            lane.out.clear();
        }
        self.store().events();
    }

    fn damage(&mut self, file: usize, how: Damage, at: usize, bytes: usize) {
        self.complete();
        let blocks = self.store().blocks(&Selection::default(), None, usize::MAX).unwrap();
        self.store.take().unwrap().close().unwrap();
        let files = files(&self.options.dir);
        let path = &files[file % files.len()];
        let content = fs::read(path).unwrap();
        let at = at % (content.len() + 1);
        let end = (at + bytes).min(content.len());
        harm(path, content, how, at, end);
        let number = path.file_name().unwrap().to_str().and_then(crate::spool::segment::number);
        for block in blocks.iter().filter(|block| Some(block.segment) == number) {
            let (from, to) = (block.offset as usize, (block.offset + block.bytes) as usize);
            let is_hit = how.hits(from, to, at, end);
            let lane = LANES.iter().position(|name| *name == block.lane.route).unwrap();
            if is_hit && self.lanes[lane].live.remove(&block.meta.seq.0) {
                self.lanes[lane].hit.insert(block.meta.seq.0);
            }
        }
        for lane in &mut self.lanes {
            // The index may be lost, and with it what was released.
            let (fresh, gone) = (std::mem::take(&mut lane.fresh), std::mem::take(&mut lane.gone));
            lane.ghosts.extend(fresh.into_iter().chain(gone));
        }
        self.reopen(true);
    }
}

impl Damage {
    /// Whether octets `from` to `to` are not what they were after it happened to those from `at` to `end`.
    pub(in crate::spool::store) fn hits(self, from: usize, to: usize, at: usize, end: usize) -> bool {
        match self {
            Self::Flip | Self::Zero | Self::Remove => from < end && to > at,
            Self::Cut => to > at,
            Self::Insert => from < at && to > at,
            Self::Delete => true,
        }
    }
}

/// Does it.
pub(in crate::spool::store) fn harm(path: &Path, mut content: Vec<u8>, how: Damage, at: usize, end: usize) {
    match how {
        Damage::Flip => content[at..end].iter_mut().for_each(|octet| *octet ^= 0x55),
        Damage::Zero => content[at..end].fill(0),
        Damage::Cut => content.truncate(at),
        Damage::Insert => drop(content.splice(at..at, vec![0xa5; end - at])),
        Damage::Remove => drop(content.drain(at..end)),
        Damage::Delete => return fs::remove_file(path).unwrap(),
    }
    fs::write(path, content).unwrap();
}

/// All files below a folder, but those in quarantine.
pub(in crate::spool::store) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("quarantine") {
            files.extend(self::files(&path));
        } else if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn name(at: usize) -> LaneName {
    lane(LANES[at])
}

/// As many, or as the environment says.
const CASES: u32 = 800;

fn histories(when_full: SpoolFull) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let config = ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 2000, ..Default::default() };
    let history = (prop::collection::vec(op(), 1..120), any::<bool>());
    let tried = TestRunner::new(config).run(&history, |(ops, is_small)| {
        let mut rig = Rig::new(if is_small { 2 * 1024 * 1024 } else { 16 * 1024 * 1024 }, when_full);
        for op in &ops {
            rig.run(op);
        }
        // All that must come out, from the start.
        for lane in 0..LANES.len() {
            rig.run(&Op::ForgetAll { lane });
            rig.read(lane, usize::MAX);
        }
        Ok(())
    });
    if let Err(failure) = tried {
        panic!("{failure}");
    }
}

// Three tests, because each waits for the disk and for sled's threads most of its time.

#[test]
fn whatever_happens_what_was_not_hit_comes_out_in_order() {
    histories(SpoolFull::Block);
}

#[test]
fn whatever_happens_only_the_oldest_give_way() {
    histories(SpoolFull::DropOldest);
}

#[test]
fn whatever_happens_only_the_newest_are_refused() {
    histories(SpoolFull::DropNewest);
}
