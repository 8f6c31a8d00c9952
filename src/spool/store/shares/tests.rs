//! `max_size`, of the spool and of routes: what it bounds, and who gives way.

use std::collections::HashMap;

use tempfile::TempDir;

use crate::batch::Seq;
use crate::config::{Share, SpoolFull};
use crate::spool::store::folder::disk_use;
use crate::spool::store::tests::{append, drain, lane, meta, options, plain, scratch, work};
use crate::spool::store::{AppendError, Event, Options, Store, Usage};

fn open(dir: &TempDir, max_size: u64, shares: &[(&str, Option<u64>, SpoolFull)]) -> Store {
    let shares: HashMap<String, Share> = shares
        .iter()
        .map(|(route, max_size, when_full)| {
            ((*route).to_owned(), Share { max_size: *max_size, when_full: Some(*when_full) })
        })
        .collect();
    Store::open(Options { max_size, shares, ..options(dir.path()) }).unwrap()
}

/// Appends until it is refused, or `max` times; the last seq that went in, and what the refusal said.
fn fill(store: &mut Store, route: &str, from: u64, max: u64) -> (u64, Option<AppendError>) {
    for seq in from..from + max {
        if let Err(error) = store.append(&lane(route), meta(seq), &plain(seq, 5000)) {
            return (seq - 1, Some(error));
        }
    }
    (from + max - 1, None)
}

#[test]
fn a_route_over_its_share_gives_way_as_it_says_and_others_go_on() {
    let dir = scratch();
    let share = Some(200_000);
    let shares = [
        ("old", share, SpoolFull::DropOldest),
        ("new", share, SpoolFull::DropNewest),
        ("block", share, SpoolFull::Block),
    ];
    let mut store = open(&dir, 16 << 20, &shares);
    let (last, refused) = fill(&mut store, "block", 1, 100);
    assert!(matches!(refused, Some(AppendError::Full)) && last == 39, "{last} {refused:?}");
    let (last, refused) = fill(&mut store, "new", 101, 100);
    assert!(matches!(refused, Some(AppendError::Dropped)) && last == 139, "{last} {refused:?}");
    let (last, refused) = fill(&mut store, "old", 201, 100);
    assert!(refused.is_none() && last == 300, "{last} {refused:?}");
    let found = drain(&mut store, &lane("old"));
    assert!(found.len() > 30 && found.last() == Some(&300), "{found:?}");
    let gone = 100 - found.len() as u64;
    let evicted = Event::Evicted { route: "old".to_owned(), blocks: gone, records: 2 * gone };
    assert_eq!(store.events(), [evicted]);
    assert!(fill(&mut store, "other", 301, 100).1.is_none());
    // What is out stays, and the oldest of the others goes.
    assert!(fill(&mut store, "old", 401, 10).1.is_none());
    let (out, behind) = (found.len(), drain(&mut store, &lane("old")));
    assert!(behind.starts_with(&found) && behind.len() <= out + 2 && behind.last() == Some(&410), "{behind:?}");
    // All is out: nothing may be evicted, so the new one goes.
    let (last, refused) = fill(&mut store, "old", 501, 10);
    assert!(matches!(refused, Some(AppendError::Dropped)) && last < 502, "{last} {refused:?}");
    store.release(&lane("block"), Seq(1));
    assert_eq!(fill(&mut store, "block", 40, 10).0, 40);
}

#[test]
fn the_route_that_has_most_makes_room_for_the_others() {
    let dir = scratch();
    let mut store = open(&dir, 3 << 20, &[("large", None, SpoolFull::DropOldest), ("small", None, SpoolFull::Block)]);
    assert!(fill(&mut store, "small", 1, 20).1.is_none());
    assert!(fill(&mut store, "large", 101, 1000).1.is_none());
    assert!(fill(&mut store, "small", 1201, 20).1.is_none());
    assert_eq!(drain(&mut store, &lane("small")).len(), 40);
    let large = drain(&mut store, &lane("large"));
    assert!(large.len() > 200 && large.is_sorted() && large.last() == Some(&1100), "{}", large.len());
    assert!(disk_use(&dir.path().join("spool")) <= 3 << 20);
    let events = store.events();
    assert!(matches!(events.as_slice(), [Event::Evicted { route, .. }] if route == "large"), "{events:?}");
}

#[test]
fn a_full_spool_takes_again_once_something_is_released() {
    let dir = scratch();
    let mut store = open(&dir, 3 << 20, &[]);
    let (last, refused) = fill(&mut store, "a", 1, 10_000);
    assert!(matches!(refused, Some(AppendError::Full)), "{refused:?}");
    let taken = disk_use(&dir.path().join("spool"));
    assert!((2 << 20..=3 << 20).contains(&taken), "{taken}");
    assert_eq!(store.usage().bytes.abs_diff(taken) / 4096, 0);
    let found = drain(&mut store, &lane("a"));
    assert_eq!(found.len() as u64, last);
    for seq in 1..=100 {
        store.release(&lane("a"), Seq(seq));
    }
    assert!(fill(&mut store, "a", last + 1, 80).1.is_none());
    store.close().unwrap();
    let mut store = open(&dir, 3 << 20, &[]);
    assert_eq!(drain(&mut store, &lane("a")).len() as u64, last - 20);
}

#[test]
fn one_block_does_not_keep_a_whole_segment() {
    let dir = scratch();
    let mut store = Store::open(Options { segment_bytes: 4 << 20, ..options(dir.path()) }).unwrap();
    for seq in 1..=600 {
        append(&mut store, &lane(if seq == 77 { "pin" } else { "a" }), seq, 5000);
    }
    append(&mut store, &lane("a"), 601, 3 << 20);
    store.sync().unwrap();
    work(&mut store);
    drain(&mut store, &lane("a"));
    for seq in 1..=600 {
        store.release(&lane("a"), Seq(seq));
    }
    store.sync().unwrap();
    let before = disk_use(&dir.path().join("spool"));
    work(&mut store);
    let after = disk_use(&dir.path().join("spool"));
    assert!(before > after + 2_900_000, "{before} {after}");
    store.close().unwrap();
    let mut store = Store::open(options(dir.path())).unwrap();
    work(&mut store);
    assert_eq!(drain(&mut store, &lane("pin")), [77]);
    assert_eq!(store.events(), []);
}

#[test]
fn a_limit_that_was_lowered_drops_what_is_too_much_and_not_before_all_is_known() {
    let dir = scratch();
    let shares = [("a", None, SpoolFull::DropOldest)];
    let mut store = open(&dir, 16 << 20, &shares);
    assert!(fill(&mut store, "a", 1, 2500).1.is_none());
    // Dead, and given back only when the audit has looked at it: no need to drop as much.
    for seq in 501..=700 {
        store.release(&lane("a"), Seq(seq));
    }
    store.close().unwrap();
    let mut store = open(&dir, 6 << 20, &shares);
    for _ in 0..50 {
        let (last, refused) = fill(&mut store, "a", 2501, 1);
        assert!(matches!(refused, Some(AppendError::Full)) && last == 2500, "{last} {refused:?}");
    }
    assert_eq!((store.events(), store.lanes()[0].blocks), (vec![], 2300));
    work(&mut store);
    assert_eq!(store.events(), []);
    assert!(fill(&mut store, "a", 2501, 1).1.is_none());
    let Usage { bytes, segment_bytes, .. } = store.usage();
    assert!(disk_use(&dir.path().join("spool")) <= 6 << 20);
    // What a commit may add to the index is kept free, and eviction takes some more than it must.
    assert!(bytes + (3 << 17) + (6 << 20) / 32 + (2 << 14) >= 6 << 20, "{bytes}");
    let found = drain(&mut store, &lane("a"));
    let evicted = 2301 - found.len() as u64;
    assert_eq!(found, (2502 - found.len() as u64..=2501).collect::<Vec<_>>());
    assert!(found.len() as u64 * 5050 + (128 << 10) >= segment_bytes, "{} in {segment_bytes}", found.len());
    assert_eq!(store.events(), [Event::Evicted { route: "a".to_owned(), blocks: evicted, records: 2 * evicted }]);
}
