//! Random damage, ten thousand times, to any file of a spool that was really written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::batch::Seq;
use crate::spool::segment;
use crate::spool::store::model::tests::{Damage, files, harm};
use crate::spool::store::tests::{append, drain, lane, options, scratch, work};
use crate::spool::store::{BlockInfo, Selection, Store};

const ROUNDS: u64 = 10_000;

/// Rounds run in as many threads: most of their time they wait for threads of sled.
const THREADS: u64 = 8;

/// Opening, looking through and reading back: a spool of a hundred blocks, on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(20);

const LANES: [&str; 3] = ["a", "b", "c"];

/// A spool as it lies on the disk, and the blocks in it.
struct Sample {
    files: Vec<(PathBuf, Vec<u8>)>,
    blocks: Vec<BlockInfo>,
    released: BTreeSet<u64>,
}

fn sample() -> Sample {
    let dir = scratch();
    let mut store = Store::open(options(dir.path())).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    for seq in 1..=90 {
        append(&mut store, &lane(LANES[random.usize(..3)]), seq, random.usize(0..6000));
        if seq % 30 == 0 {
            store.sync().unwrap();
        }
    }
    let mut released = BTreeSet::new();
    for seq in drain(&mut store, &lane("a")).into_iter().take(10) {
        store.release(&lane("a"), Seq(seq));
        released.insert(seq);
    }
    store.sync().unwrap();
    let blocks = store.blocks(&Selection::default(), None, usize::MAX).unwrap();
    store.close().unwrap();
    let spool = dir.path().join("spool");
    let files = files(&spool).into_iter().map(|path| {
        let content = fs::read(&path).unwrap();
        (path.strip_prefix(&spool).unwrap().to_owned(), content)
    });
    Sample { files: files.collect(), blocks, released }
}

/// One or a few places of one or a few files.
fn damage(spool: &Path, sample: &Sample, random: &mut fastrand::Rng) -> (BTreeSet<u64>, Vec<String>) {
    let (mut hit, mut done, mut harmed) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    for _ in 0..random.usize(1..4) {
        let (name, content) = &sample.files[random.usize(..sample.files.len())];
        if !harmed.insert(name) {
            continue;
        }
        let kinds = [Damage::Flip, Damage::Zero, Damage::Cut, Damage::Insert, Damage::Remove, Damage::Delete];
        let how = kinds[random.usize(..kinds.len())];
        let at = random.usize(..=content.len());
        let bytes = [1, 16, 5000, 70_000][random.usize(..4)];
        let end = (at + random.usize(1..=bytes)).min(content.len());
        harm(&spool.join(name), content.clone(), how, at, end);
        done.push(format!("{how:?} {at}..{end} of {}", name.display()));
        let number = name.file_name().and_then(|name| segment::number(name.to_str()?));
        for block in sample.blocks.iter().filter(|block| Some(block.segment) == number) {
            if how.hits(block.offset as usize, (block.offset + block.bytes) as usize, at, end) {
                hit.insert(block.meta.seq.0);
            }
        }
    }
    (hit, done)
}

fn round(sample: &Sample, seed: u64) -> bool {
    let dir = scratch();
    let spool = dir.path().join("spool");
    for (name, content) in &sample.files {
        let path = spool.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let (hit, done) = damage(&spool, sample, &mut random);
    let started = Instant::now();
    let mut store = Store::open(options(dir.path())).unwrap();
    work(&mut store);
    let mut due: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for block in sample.blocks.iter().filter(|block| !hit.contains(&block.meta.seq.0)) {
        due.entry(&block.lane.route).or_default().push(block.meta.seq.0);
    }
    for (route, due) in due {
        let found = drain(&mut store, &lane(route));
        let left: Vec<u64> =
            found.into_iter().filter(|seq| !hit.contains(seq) && !sample.released.contains(seq)).collect();
        assert_eq!(left, due, "{route} with seed {seed}: {done:?}");
    }
    assert!(started.elapsed() < TIME_MAX, "{:?} with seed {seed}: {done:?}", started.elapsed());
    store.close().unwrap();
    !hit.is_empty()
}

#[test]
fn whatever_octets_are_damaged_all_other_blocks_come_out_in_order() {
    let rounds = std::env::var("DAMAGE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let sample = sample();
    assert!(sample.blocks.len() == 80 && sample.files.len() >= 8, "{} files", sample.files.len());
    // sled's panics are caught, and there are many.
    std::panic::set_hook(Box::new(|info| {
        if !info.location().is_some_and(|at| at.file().contains("sled")) {
            println!("{info}");
        }
    }));
    let hits: u64 = std::thread::scope(|scope| {
        let threads = (0..THREADS).map(|thread| {
            let sample = &sample;
            scope.spawn(move || {
                (thread..rounds).step_by(THREADS as usize).filter(|seed| round(sample, *seed)).count() as u64
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    drop(std::panic::take_hook());
    assert!(hits > rounds / 4, "{hits} rounds hit a block");
}

/// The headers of such a segment lead from one to the next and exactly to its end.
#[test]
fn blocks_that_headers_lead_past_as_octets_are_missing_within_a_dead_one_are_found() {
    let dir = scratch();
    let mut store = Store::open(options(dir.path())).unwrap();
    append(&mut store, &lane("a"), 1, 20_000);
    append(&mut store, &lane("a"), 2, 20);
    append(&mut store, &lane("b"), 3, 20);
    let blocks = store.blocks(&Selection::default(), None, usize::MAX).unwrap();
    let behind: u64 = blocks[1..].iter().map(|block| block.bytes).sum();
    for seq in [1, 2] {
        store.release(&lane("a"), Seq(seq));
    }
    store.close().unwrap();
    let segment = dir.path().join("spool/segments").join(segment::file_name(blocks[0].segment));
    let content = fs::read(&segment).unwrap();
    harm(&segment, content, Damage::Remove, 10_000, 10_000 + usize::try_from(behind).unwrap());
    // Not only by the first who looks.
    for _ in 0..2 {
        let mut store = Store::open(options(dir.path())).unwrap();
        work(&mut store);
        store.close().unwrap();
    }
    let mut store = Store::open(options(dir.path())).unwrap();
    assert_eq!(drain(&mut store, &lane("b")), [3]);
}
