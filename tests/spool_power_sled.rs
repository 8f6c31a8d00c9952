//! What the harness of power cuts is worth: sled as it comes, which keeps the queue in a file of its own and believes
//! `sync_file_range`, is seen to lose what it had flushed, or not to open any more.
//!
//! A program apart from `spool_power.rs`, and it never names our library: that one redefines the call for whatever it is
//! linked into.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "a test may panic, and says what it skips; it uses its part of the harness"
)]

#[path = "support"]
mod support {
    pub mod disk;
    pub mod power;
    pub mod waiting;
}

use std::time::{Duration, Instant};

use support::disk::{Disk, or_skip};
use support::power::{Books, Cut, FOLDER, ORDER, content, cut_under_load, look, say};

/// The largest values that it keeps inside of its own file, and the segments that go with them.
const VALUE: usize = 28 * 1024;
const SEGMENT: usize = 2 << 20;
/// Blocks that are kept; older ones are removed.
const LIVE: u64 = 500;
const FLUSH: Duration = Duration::from_millis(100);
/// It failed in 14 of 16 when that was measured.
const CUTS_MAX: u64 = 16;
const CHILD: &str = "the_child_writes_or_looks";

fn open() -> sled::Db {
    let folder = std::env::var_os(FOLDER).unwrap();
    // `segment_size` is public, and left out of the documentation.
    let config = sled::Config::new().path(folder).flush_every_ms(None).cache_capacity(32 << 20);
    config.segment_size(SEGMENT).open().unwrap()
}

/// Appends, removes what is old, flushes at its interval, until the disk refuses.
fn write() {
    let db = open();
    say(format_args!("o"));
    let mut value = Vec::new();
    let (mut seq, mut removed, mut flushed) = (0_u64, 0, Instant::now());
    loop {
        content((0, seq), VALUE, &mut value);
        db.insert(seq.to_be_bytes(), value.as_slice()).unwrap();
        say(format_args!("a 0 {seq}"));
        seq += 1;
        while seq - removed > LIVE {
            say(format_args!("r 0 {removed}"));
            db.remove(removed.to_be_bytes()).unwrap();
            removed += 1;
        }
        if flushed.elapsed() >= FLUSH {
            db.flush().unwrap();
            say(format_args!("s"));
            flushed = Instant::now();
        }
    }
}

fn list() {
    let db = open();
    say(format_args!("o"));
    let mut expected = Vec::new();
    for pair in db.iter() {
        let (key, value) = pair.unwrap();
        let seq = u64::from_be_bytes(key.as_ref().try_into().unwrap());
        content((0, seq), VALUE, &mut expected);
        let kind = if *value == *expected { "f" } else { "x" };
        say(format_args!("{kind} 0 {seq}"));
    }
    say(format_args!("."));
}

#[test]
fn the_child_writes_or_looks() {
    match std::env::var(ORDER).as_deref() {
        Ok("write") => write(),
        Ok(_) => list(),
        // Run by its own name only: see `support/power.rs`.
        Err(_) => {}
    }
}

fn cut_once(round: u64) -> Option<Result<u64, String>> {
    let disk = or_skip(Disk::ext4(192 << 20))?;
    let mut books = Books::default();
    let cut = Cut { after: Duration::from_millis(700 + round * 61 % 400), while_opening: false, still: true };
    let result = cut_under_load(&disk, CHILD, "write", cut, &mut books)
        .and_then(|()| look(&disk, CHILD, "look"))
        .and_then(|after| books.compare(&after));
    Some(result.map(|()| books.syncs))
}

#[test]
fn sled_alone_loses_what_it_flushed_when_the_power_is_cut() {
    for round in 0..CUTS_MAX {
        let Some(result) = cut_once(round) else { return };
        match result {
            Ok(syncs) => println!("cut {round}: held, after {syncs} flushes"),
            Err(why) => {
                println!("cut {round}: {why}");
                return;
            }
        }
    }
    panic!("{CUTS_MAX} cuts, and sled has lost nothing: this harness would not see a loss of ours either");
}
