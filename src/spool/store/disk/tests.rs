//! Disks that are full, broken, or gone.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::batch::Seq;
use crate::spool::index::SLED_SEGMENT;
use crate::spool::store::fault::tests::{arm, disarm};
use crate::spool::store::folder::disk_use;
use crate::spool::store::tests::{append, drain, lane, meta, open, options, plain, scratch, work};
use crate::spool::store::{AppendError, Event, OpenError, Options, Selection, Store, Unread};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EROFS: i32 = 30;

#[test]
fn a_write_that_fails_changes_nothing_and_the_next_one_works() {
    let dir = scratch();
    let a = lane("a");
    let mut store = open(&dir);
    append(&mut store, &a, 1, 3000);
    for (seq, errno) in [(2, ENOSPC), (3, EIO), (4, EROFS)] {
        arm("segment.write", 1, errno);
        let error = store.append(&a, meta(seq), &plain(seq, 3000)).unwrap_err();
        assert!(matches!(&error, AppendError::Io(error) if error.raw_os_error() == Some(errno)), "{error}");
        assert_eq!(store.lanes()[0].blocks, seq - 1);
        store.retry().unwrap();
        append(&mut store, &a, seq, 3000);
    }
    arm("segment.create", 1, EROFS);
    store.roll();
    assert!(store.append(&a, meta(5), &plain(5, 3000)).is_err());
    append(&mut store, &a, 5, 3000);
    assert_eq!(drain(&mut store, &a), [1, 2, 3, 4, 5]);
    drop(store);
    assert_eq!(drain(&mut open(&dir), &a), [1, 2, 3, 4, 5]);
}

#[test]
fn a_sync_that_fails_begins_another_file() {
    let dir = scratch();
    let a = lane("a");
    let mut store = open(&dir);
    append(&mut store, &a, 1, 3000);
    arm("segment.sync", 1, EIO);
    assert_eq!(store.sync().unwrap_err().raw_os_error(), Some(EIO));
    store.retry().unwrap();
    append(&mut store, &a, 2, 3000);
    store.sync().unwrap();
    assert_eq!(store.usage().segments, 2);
    assert_eq!(drain(&mut store, &a), [1, 2]);
}

#[test]
fn an_index_without_room_takes_the_reserve_and_releasing_goes_on() {
    let dir = scratch();
    let a = lane("a");
    let reserve = dir.path().join("spool/reserve");
    let mut store = open(&dir);
    for seq in 1..=50 {
        append(&mut store, &a, seq, 3000);
    }
    store.sync().unwrap();
    work(&mut store);
    assert_eq!(fs::metadata(&reserve).unwrap().len(), 64 * 1024);
    drain(&mut store, &a);
    for seq in 1..=40 {
        store.release(&a, Seq(seq));
    }
    let before = store.usage().segments;
    arm("index.flush", 1, ENOSPC);
    store.sync().unwrap();
    assert!(!reserve.exists());
    assert!(store.usage().segments < before);
    // Twice, and nothing is left to be given up.
    store.release(&a, Seq(41));
    arm("index.write", 1, ENOSPC);
    assert_eq!(store.sync().unwrap_err().raw_os_error(), Some(ENOSPC));
    assert!(store.append(&a, meta(51), &plain(51, 10)).is_ok());
    assert!(store.next(&a, Seq(0), &mut Vec::new()).is_err());
    arm("index.open", 1, ENOSPC);
    assert!(store.retry().is_err());
    store.retry().unwrap();
    assert_eq!(drain(&mut store, &a), (42..=51).collect::<Vec<_>>());
    store.sync().unwrap();
    work(&mut store);
    assert!(reserve.exists());
    drop(store);
    assert_eq!(drain(&mut open(&dir), &a), (42..=51).collect::<Vec<_>>());
    disarm();
}

#[test]
fn an_index_that_dies_before_its_flush_is_told_all_again() {
    let dir = scratch();
    let a = lane("a");
    let mut store = open(&dir);
    for seq in 1..=200 {
        append(&mut store, &a, seq, 1000);
        if seq % 20 == 0 {
            arm("index.flush", 1, EIO);
            assert!(store.sync().is_err());
            store.retry().unwrap();
        }
    }
    store.sync().unwrap();
    drop(store);
    let mut store = open(&dir);
    work(&mut store);
    assert_eq!(store.events(), []);
    assert_eq!(drain(&mut store, &a), (1..=200).collect::<Vec<_>>());
}

#[test]
fn an_index_that_does_not_answer_or_close_is_left_behind_and_made_again() {
    let dir = scratch();
    let a = lane("a");
    let mut store = open(&dir);
    let mut live = Vec::new();
    for (point, from) in [("index.flush.hang", 1), ("index.close.hang", 101)] {
        for seq in from..from + 90 {
            append(&mut store, &a, seq, 1000);
        }
        store.sync().unwrap();
        work(&mut store);
        for seq in from..from + 50 {
            store.release(&a, Seq(seq));
        }
        store.events();
        arm(point, 1, EIO);
        if point == "index.close.hang" {
            arm("index.flush", 1, EIO);
            assert_eq!(store.sync().unwrap_err().raw_os_error(), Some(EIO));
            store.retry().unwrap();
        }
        store.sync().unwrap();
        let events = store.events();
        assert!(matches!(&events[..], [Event::Quarantined { .. }, Event::Rebuilding { .. }]), "{events:?}");
        append(&mut store, &a, from + 90, 1000);
        live.extend(from + 50..=from + 90);
        work(&mut store);
        assert_eq!(store.events().last(), Some(&Event::Rebuilt { blocks: live.len() as u64 - 1 }));
        assert_eq!(drain(&mut store, &a), live);
    }
    store.close().unwrap();
    let mut store = open(&dir);
    work(&mut store);
    assert_eq!((drain(&mut store, &a), store.events()), (live, vec![]));
}

#[test]
fn a_sector_that_cannot_be_read_costs_its_block_only() {
    let dir = scratch();
    let a = lane("a");
    let mut store = open(&dir);
    for seq in 1..=3 {
        append(&mut store, &a, seq, 1000);
    }
    let mut out = Vec::new();
    arm("segment.read", 2, EIO);
    assert_eq!(store.next(&a, Seq(0), &mut out).unwrap_err().raw_os_error(), Some(EIO));
    // Its segment is looked through: the block is there after all.
    assert_eq!(store.next(&a, Seq(0), &mut out).unwrap().unwrap().seq, Seq(1));
    arm("segment.read", 2, EIO);
    assert!(store.next(&a, Seq(1), &mut out).is_err());
    assert_eq!(store.next(&a, Seq(1), &mut out).unwrap().unwrap().seq, Seq(3));
    assert_eq!(store.events(), [Event::Damaged { route: Some("a".to_owned()), records: Some(2), bytes: 1061 }]);
}

#[test]
fn a_folder_that_is_deleted_is_made_again_with_what_can_still_be_read() {
    let dir = scratch();
    let (a, spool) = (lane("a"), dir.path().join("spool"));
    let mut store = open(&dir);
    for seq in 1..=100 {
        append(&mut store, &a, seq, 3000);
    }
    store.sync().unwrap();
    fs::remove_dir_all(&spool).unwrap();
    let error = store.append(&a, meta(101), &plain(101, 10)).unwrap_err();
    assert!(matches!(error, AppendError::Io(_)), "{error}");
    store.retry().unwrap();
    append(&mut store, &a, 101, 10);
    let found = drain(&mut store, &a);
    assert!(found.len() > 1 && found.ends_with(&[99, 100, 101]), "{found:?}");
    let lost = 100 - (found.len() as u64 - 1);
    let events = store.events();
    let is_told =
        |event: &Event| matches!(event, Event::Damaged { records: Some(records), .. } if *records == 2 * lost);
    assert!(events.iter().any(is_told), "{lost} lost: {events:?}");
    store.close().unwrap();
    assert_eq!(drain(&mut open(&dir), &a), found);

    let mut store = open(&dir);
    fs::remove_dir_all(spool.join("segments")).unwrap();
    assert!(store.append(&a, meta(102), &plain(102, 10)).is_err());
    store.retry().unwrap();
    append(&mut store, &a, 102, 10);
    assert_eq!(drain(&mut store, &a).last(), Some(&102));
}

#[test]
fn what_is_in_memory_is_not_lost_with_its_folder_but_when_memory_forgets_it() {
    let dir = scratch();
    let a = lane("a");
    // Files that are not kept open: theirs are lost.
    let options = Options { segment_bytes: 4096, ..options(dir.path()) };
    let mut store = Store::open(options).unwrap();
    for seq in 1..=20 {
        append(&mut store, &a, seq, 3000);
    }
    store.sync().unwrap();
    let mut out = Vec::new();
    for seq in 1..=10 {
        assert!(matches!(store.next_unread(&a, &mut out), Ok(Unread::Block(meta)) if meta.seq == Seq(seq)));
    }
    // The rest is what the disk has alone.
    fs::remove_dir_all(dir.path().join("spool")).unwrap();
    store.retry().unwrap();
    let kept: Vec<u64> = store.blocks(&Selection::default(), None, 100).unwrap().iter().map(|b| b.meta.seq.0).collect();
    let lost = (11..=20).filter(|seq| !kept.contains(seq)).count() as u64;
    let damaged = |store: &mut Store| {
        let records = store.events().into_iter().map(|event| match event {
            Event::Damaged { records, .. } => records.unwrap_or(0),
            _ => 0,
        });
        records.sum::<u64>()
    };
    assert!(lost > 5 && !kept.contains(&1), "{kept:?}");
    assert_eq!(damaged(&mut store), 2 * lost);
    // Delivered, and gone.
    store.release(&a, Seq(2));
    assert_eq!(damaged(&mut store), 0);
    // Gone from memory before it was delivered.
    store.forget(&a, Seq(1));
    assert_eq!(damaged(&mut store), 2);
}

#[test]
fn a_release_that_cannot_be_noted_gives_no_block_twice_in_this_run() {
    let dir = scratch();
    let a = lane("a");
    let mut store = open(&dir);
    append(&mut store, &a, 1, 100);
    append(&mut store, &a, 2, 100);
    let mut out = Vec::new();
    assert!(matches!(store.next_unread(&a, &mut out), Ok(Unread::Block(meta)) if meta.seq == Seq(1)));
    store.drop_index();
    store.release(&a, Seq(1));
    store.retry().unwrap();
    assert!(matches!(store.next_unread(&a, &mut out), Ok(Unread::Block(meta)) if meta.seq == Seq(2)));
}

#[test]
fn a_disk_that_is_full_when_it_is_opened_is_opened_with_the_reserve() {
    let dir = scratch();
    let mut store = open(&dir);
    append(&mut store, &lane("a"), 1, 10);
    work(&mut store);
    store.close().unwrap();
    arm("index.open", 1, ENOSPC);
    let mut store = open(&dir);
    assert_eq!(drain(&mut store, &lane("a")), [1]);
    assert!(!dir.path().join("spool/reserve").exists());
    drop(store);
    arm("index.open", 1, ENOSPC);
    assert!(matches!(Store::open(options(dir.path())), Err(OpenError::Io(_))));
    disarm();
}

#[test]
fn nobody_else_reads_what_is_in_it() {
    let dir = scratch();
    let mut store = open(&dir);
    append(&mut store, &lane("a"), 1, 10);
    store.sync().unwrap();
    work(&mut store);
    let mut folders = vec![dir.path().join("spool")];
    let mut looked = 0;
    while let Some(folder) = folders.pop() {
        let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            looked += 1;
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
            }
        }
    }
    assert!(looked >= 8);
}

#[test]
fn a_second_process_is_told_who_has_it_and_a_later_format_is_refused() {
    let dir = scratch();
    let store = open(&dir);
    match Store::open(options(dir.path())) {
        Err(OpenError::Held { by }) => assert!(by.starts_with(&format!("process {} on ", std::process::id())), "{by}"),
        other => panic!("{other:?}"),
    }
    drop(store);
    let format = dir.path().join("spool/format");
    fs::write(&format, "forebay spool 7\n").unwrap();
    assert!(matches!(Store::open(options(dir.path())), Err(OpenError::Newer { version: 7 })));
    fs::write(&format, [0xff; 900]).unwrap();
    let mut store = open(&dir);
    assert!(matches!(store.events().as_slice(), [Event::Quarantined { .. }]));
    assert_eq!(fs::read(&format).unwrap(), b"forebay spool 1\n");
}

#[test]
fn a_full_disk_is_left_to_others() {
    let dir = scratch();
    let free = crate::sys::disk_free(dir.path()).unwrap();
    let mut store = Store::open(Options { min_free: free + (1 << 40), ..options(dir.path()) }).unwrap();
    let refused = store.append(&lane("a"), meta(1), &plain(1, 10));
    assert!(matches!(refused, Err(AppendError::Full)), "{refused:?}");
    assert!(disk_use(&dir.path().join("spool")) < 1024 * 1024);
}

/// Nothing leaves a spool whose index has no room.
#[test]
fn the_last_octets_of_a_disk_are_the_index_s_and_a_spent_reserve_is_kept_free_as_well() {
    let dir = scratch();
    let mut store = open(&dir);
    work(&mut store);
    let wanted = |store: &mut Store| {
        let frees = (0..1024 * 1024).step_by(4096);
        let mut enough = frees.filter(|free| {
            store.room.disk_free = *free;
            store.has_room(4096)
        });
        enough.next().unwrap()
    };
    let with_reserve = wanted(&mut store);
    assert!(with_reserve >= 3 * SLED_SEGMENT as u64, "{with_reserve}");
    assert!(store.give_up_reserve());
    assert_eq!(wanted(&mut store) - with_reserve, store.options.reserve_bytes);
}
