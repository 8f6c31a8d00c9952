//! Power cuts under the store: nothing that was synced is lost, nothing that was released and synced comes back, lanes stay
//! in order, it always opens. Fifty cuts, of one spool that lives through all of them: while it appends and rolls, releases
//! and punches, evicts, commits each batch, and while it opens after the last cut.
//!
//! That the harness sees a loss is shown by `spool_power_sled.rs`. Needs root, and loop devices.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "a test may panic, and says what it skips; it uses its part of the harness"
)]

#[path = "support"]
mod support {
    pub mod blocks;
    pub mod disk;
    pub mod power;
    pub mod waiting;
}

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use forebay::batch::Seq;
use forebay::config::SpoolFull;
use forebay::spool::store::{AppendError, Event, Options, Store};

use support::blocks::{self, LANES, lane, len_of, read_all};
use support::disk::{Disk, or_skip};
use support::power::{Block, Books, Cut, FOLDER, ORDER, REFUSED, cut_under_load, look, say};
use support::waiting::pause;

const CUTS: u64 = 50;
const CHILD: &str = "the_child_writes_or_looks";
/// Segments roll several times a second.
const SEGMENT: u64 = 1 << 20;
/// So little that it is full most of the time.
const MAX_SIZE: u64 = 48 << 20;
/// The one lane that releases nothing while the others do, so that it pins segments whose dead runs are punched.
const PINNING: usize = 0;
/// Blocks that a releasing lane keeps.
const LIVE: usize = 40;

/// What the writing child does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Append,
    Release,
    Evict,
    EveryBatch,
}

impl Mode {
    const ALL: [(Self, &str); 4] = [
        (Self::Append, "append"),
        (Self::Release, "release"),
        (Self::EveryBatch, "every-batch"),
        (Self::Evict, "evict"),
    ];
}

fn options(mode: Mode) -> Options {
    let dir = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    Options {
        when_full: if mode == Mode::Evict { SpoolFull::DropOldest } else { SpoolFull::Block },
        ..blocks::options(&dir, MAX_SIZE, SEGMENT)
    }
}

/// The disk refuses: as it must after a cut. Nothing may hang or panic now.
fn refused(mut store: Store, why: &dyn std::fmt::Display) -> ! {
    eprintln!("refused: {why}");
    let again = store.retry().is_ok();
    let closed = store.close().is_ok();
    eprintln!("tried again: {again}; closed: {closed}");
    std::process::exit(REFUSED)
}

/// Appends to all lanes until the disk refuses. `first` is the first number to give to a block.
fn write(mode: Mode, first: u64) {
    if mode == Mode::Evict {
        say(format_args!("e"));
    }
    let mut store = match Store::open(options(mode)) {
        Ok(store) => store,
        Err(error) => {
            eprintln!("cannot open: {error}");
            std::process::exit(REFUSED)
        }
    };
    say(format_args!("o"));
    let mut live: Vec<Vec<Seq>> = (0..LANES).map(|lane| blocks_of(&mut store, lane)).collect();
    let (mut plain, mut synced, mut written) = (Vec::new(), Instant::now(), Instant::now());
    for number in first.. {
        let block = blocks::block(number);
        let (at, seq) = (block.0, Seq(block.1));
        blocks::octets(block, &mut plain);
        match store.append(&lane(at), blocks::meta(block), &plain) {
            Ok(()) => {
                say(format_args!("a {at} {}", seq.0));
                live[at].push(seq);
                written = Instant::now();
            }
            // On a fast machine; or it has just become much smaller, and gets there step by step. It goes on until it is cut.
            Err(error @ (AppendError::Full | AppendError::Dropped)) => {
                if written.elapsed() > Duration::from_secs(2) {
                    refused(store, &error);
                }
                pause(Duration::from_millis(5));
            }
            Err(error) => refused(store, &error),
        }
        if mode == Mode::Release && at != PINNING && live[at].len() > LIVE {
            for seq in live[at].drain(..LIVE / 4) {
                say(format_args!("r {at} {}", seq.0));
                store.release(&lane(at), seq);
            }
        }
        store.work();
        drop(store.events());
        if mode == Mode::EveryBatch {
            if let Err(error) = store.sync_data() {
                refused(store, &error);
            }
            say(format_args!("w"));
        } else if synced.elapsed() > Duration::from_millis(20) {
            if let Err(error) = store.sync() {
                refused(store, &error);
            }
            say(format_args!("s"));
            synced = Instant::now();
        }
    }
}

/// What a lane holds, oldest first. Not read: reading protects from eviction.
fn blocks_of(store: &mut Store, number: usize) -> Vec<Seq> {
    let (name, mut after, mut all) = (lane(number), Seq::default(), Vec::new());
    while let Ok(Some(entry)) = store.peek(&name, after) {
        after = entry.seq;
        all.push(after);
    }
    all
}

/// Reads all that there is, and again once the store has looked through its segments: it must be the same.
fn list() {
    let mut store = Store::open(options(Mode::Append)).unwrap();
    say(format_args!("o"));
    if store.is_rebuilding() {
        say(format_args!("i"));
    }
    while store.is_rebuilding() {
        store.work();
    }
    let first = read_all(&mut store);
    while store.work() {}
    for event in store.events() {
        match event {
            Event::Rebuilding { .. } => say(format_args!("i")),
            other => eprintln!("{other:?}"),
        }
    }
    assert_eq!(first, read_all(&mut store), "what a second look finds");
    match first {
        Ok(found) => found.iter().for_each(|(lane, seq)| say(format_args!("f {lane} {seq}"))),
        Err(why) => say(format_args!("x {why}")),
    }
    eprintln!("{:?}", store.usage());
    store.close().unwrap();
    say(format_args!("."));
}

#[test]
fn the_child_writes_or_looks() {
    // Run by its own name only: see `support/power.rs`.
    let Ok(order) = std::env::var(ORDER) else { return };
    match order.split_once(' ') {
        Some((mode, first)) => {
            let mode = Mode::ALL.iter().find(|(_, name)| *name == mode).unwrap().0;
            write(mode, first.parse().unwrap());
        }
        None => list(),
    }
}

/// What must be left of a spool that evicts: whatever is gone was among the oldest of its route, and what is newer takes the
/// room. A cut may bring some of those back, so that there are gaps.
fn assert_evicts_the_oldest(before: &Books, after: &Books, what: &str) {
    let found: BTreeSet<Block> = after.found.iter().copied().collect();
    for route in 0..LANES / 2 {
        let of_route = |block: &&Block| block.0 / 2 == route;
        let octets = |blocks: &mut dyn Iterator<Item = &Block>| blocks.map(|block| len_of(*block) as u64).sum::<u64>();
        let newest_gone = before.safe.difference(&found).filter(of_route).map(|block| block.1).max();
        let Some(newest_gone) = newest_gone else { continue };
        let newer = octets(&mut found.iter().filter(of_route).filter(|block| block.1 > newest_gone));
        let (had, has) = (octets(&mut before.safe.iter().filter(of_route)), octets(&mut found.iter().filter(of_route)));
        assert!(
            newer >= MAX_SIZE / 8,
            "{what}: route {route} had {had} octets safe, has {has} of {} in all, and only {newer} are newer than the newest that is gone; it said {}",
            octets(&mut found.iter()),
            after.said
        );
    }
}

#[test]
fn no_power_cut_loses_what_was_synced() {
    let Some(disk) = or_skip(Disk::ext4(128 << 20)) else { return };
    disk.unmount();
    let (mut books, mut totals) = (Books::default(), BTreeMap::<&str, u64>::new());
    for round in 0..CUTS {
        let (mode, name) = Mode::ALL[round as usize % Mode::ALL.len()];
        let after = Duration::from_millis(5 + round * 97 % 300);
        let cut = Cut { after, while_opening: round % 5 == 0, still: true };
        let what = format!("cut {round}, while it {name}s, after {after:?}");
        disk.mount().unwrap();
        cut_under_load(&disk, CHILD, &format!("{name} {}", (round + 1) << 32), cut, &mut books)
            .unwrap_or_else(|why| panic!("{what}: {why}"));
        let found = look(&disk, CHILD, "look").unwrap_or_else(|why| panic!("{what}: {why}"));
        disk.unmount();
        books.compare(&found).unwrap_or_else(|why| panic!("{what}: {why}"));
        if mode == Mode::Evict {
            assert_evicts_the_oldest(&books, &found, &what);
        }
        for (what, count) in [
            ("safe blocks found", books.safe.len() as u64),
            ("syncs", books.syncs),
            ("releases synced", books.gone.len() as u64),
            ("writers cut before they had opened", u64::from(!books.opened)),
            ("indexes made anew", u64::from(found.rebuilt)),
        ] {
            *totals.entry(what).or_default() += count;
        }
        books = Books::next(&found);
    }
    println!("{CUTS} cuts: {totals:?}");
    assert!(
        totals["syncs"] > CUTS / 2 && totals["safe blocks found"] > CUTS * 20,
        "hardly anything was written: {totals:?}"
    );
    assert!(totals["releases synced"] > CUTS, "hardly anything was released: {totals:?}");
}
