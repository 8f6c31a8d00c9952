//! The process dies at each place where order matters; what it had promised must be there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::batch::Seq;
use crate::config::{Share, SpoolFull};
use crate::spool::store::fault::tests::all_came_by;
use crate::spool::store::tests::{append, drain, lane, options, scratch, work};
use crate::spool::store::{Options, Store};

const DIR: &str = "FOREBAY_TEST_SPOOL";

/// The oldest of this route are evicted: nothing of it must come out.
const EVICTED: &str = "evicted";

fn crash_options(dir: &Path) -> Options {
    let share = Share { max_size: None, when_full: Some(SpoolFull::DropOldest) };
    Options { max_size: 3 * 1024 * 1024, shares: [(EVICTED.to_owned(), share)].into(), ..options(dir) }
}

/// Says what was done, where the parent reads it.
fn say(what: &str) {
    std::io::stdout().write_all(format!("\n#{what}\n").as_bytes()).unwrap();
}

fn add(store: &mut Store, route: &str, seq: u64, bytes: usize) {
    append(store, &lane(route), seq, bytes);
    say(&format!("append {route} {seq}"));
}

fn release(store: &mut Store, route: &str, seqs: impl Iterator<Item = u64>) {
    for seq in seqs {
        say(&format!("release {route} {seq}"));
        store.release(&lane(route), Seq(seq));
    }
}

fn sync(store: &mut Store) {
    store.sync().unwrap();
    say("synced");
}

/// Comes by all places.
fn live_through(dir: &Path) {
    let mut store = Store::open(crash_options(dir)).unwrap();
    for seq in 1..=60 {
        add(&mut store, if seq % 2 == 0 { "a" } else { "b" }, seq, 4000);
    }
    sync(&mut store);
    // Holes: all of one lane goes, the other pins the segments.
    drain(&mut store, &lane("b"));
    release(&mut store, "b", (1..=60).step_by(2));
    sync(&mut store);
    store.punch(1).unwrap();
    for seq in 61..=800 {
        add(&mut store, EVICTED, seq, 6000);
    }
    drain(&mut store, &lane("a"));
    release(&mut store, "a", (2..=60).step_by(2));
    add(&mut store, "a", 801, 100);
    sync(&mut store);
    store.close().unwrap();

    let mut store = Store::open(crash_options(dir)).unwrap();
    add(&mut store, "b", 802, 5000);
    work(&mut store);
    store.compact_index().unwrap();
    add(&mut store, "b", 803, 5000);
    sync(&mut store);
    store.renew_index().unwrap();
    // What was renewed has lost what a spool with blocks needs: the next opening makes it again.
    say("lost");
    drop(store);

    let spool = dir.join("spool");
    fs::write(spool.join("format"), "?").unwrap();
    fs::write(spool.join("index/db"), [7; 9000]).unwrap();
    let mut store = Store::open(crash_options(dir)).unwrap();
    add(&mut store, "b", 804, 5000);
    work(&mut store);
    sync(&mut store);
    store.close().unwrap();
}

#[test]
fn the_child_lives_through_it_all() {
    match std::env::var_os(DIR) {
        Some(dir) => live_through(Path::new(&dir)),
        None => {
            let dir = scratch();
            live_through(dir.path());
            let mut store = Store::open(crash_options(dir.path())).unwrap();
            work(&mut store);
            assert_eq!(drain(&mut store, &lane("a")).last(), Some(&801));
        }
    }
}

/// What the child had said when it died.
#[derive(Debug, Default)]
struct Said {
    appended: BTreeMap<String, BTreeSet<u64>>,
    released: BTreeMap<String, BTreeSet<u64>>,
    safely: BTreeMap<String, BTreeSet<u64>>,
    lost: bool,
}

impl Said {
    fn read(text: &str) -> Self {
        let mut said = Self::default();
        for line in text.lines().filter_map(|line| line.strip_prefix('#')) {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["append", route, seq] => {
                    said.appended.entry((*route).to_owned()).or_default().insert(seq.parse().unwrap());
                }
                ["release", route, seq] => {
                    said.released.entry((*route).to_owned()).or_default().insert(seq.parse().unwrap());
                }
                ["synced"] => said.safely = said.released.clone(),
                ["lost"] => said.lost = true,
                other => panic!("{other:?}"),
            }
        }
        said
    }
}

fn die_at(name: &str) -> u64 {
    let dir = scratch();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "spool::store::crashes::tests::the_child_lives_through_it_all", "--nocapture"])
        .env(DIR, dir.path())
        .env("FOREBAY_CRASH_AT", name)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert_eq!(child.status.signal(), Some(6), "at {name}: {:?}\n{text}", child.status);
    let said = Said::read(&text);
    // Twice: what the first opening leaves must do for the second.
    for round in 0..2 {
        let mut store = Store::open(crash_options(dir.path())).unwrap();
        work(&mut store);
        for route in ["a", "b", EVICTED] {
            let empty = BTreeSet::new();
            let of = |map: &BTreeMap<String, BTreeSet<u64>>| map.get(route).unwrap_or(&empty).clone();
            let (appended, released, safely) = (of(&said.appended), of(&said.released), of(&said.safely));
            let found = drain(&mut store, &lane(route));
            assert!(found.is_sorted_by(|a, b| a < b), "at {name}: {found:?}");
            let found: BTreeSet<u64> = found.into_iter().collect();
            let missing: Vec<&u64> =
                appended.iter().filter(|seq| !released.contains(*seq) && !found.contains(seq)).collect();
            let allowed = if route == EVICTED { missing.len() } else { 0 };
            assert_eq!(missing.len(), allowed, "at {name}, opened {round} times before, of {route}: {missing:?}");
            let again: Vec<&u64> = safely.iter().filter(|seq| found.contains(*seq)).collect();
            assert!(again.is_empty() || said.lost, "at {name}: {again:?} of {route} came again");
        }
        if round == 0 {
            // What is out is not evicted.
            store.taken();
            append(&mut store, &lane("a"), 10_000, 100);
            store.close().unwrap();
        } else {
            let lasts = drain(&mut store, &lane("a"));
            assert_eq!(lasts.last(), Some(&10_000));
        }
    }
    said.appended.values().map(|seqs| seqs.len() as u64).sum()
}

#[test]
fn a_process_that_dies_anywhere_loses_nothing() {
    live_through(scratch().path());
    let names = all_came_by();
    assert!(names.len() >= 25, "{names:?}");
    let appended: Vec<u64> = names.iter().map(|name| die_at(name)).collect();
    assert!(appended.iter().max() > Some(&500), "{appended:?}");
}
