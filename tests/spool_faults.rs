//! What disks do to the store: full, read-only, gone, lying. It refuses and never panics or hangs, keeps what it had synced,
//! and takes more once the disk does. What the whole relay makes of it is in `spool_outages.rs`.
//!
//! Most of it needs root (mounts), and says so where it is not.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
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

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use forebay::batch::Seq;
use forebay::spool::store::{AppendError, Options, Store};

use support::blocks::{self, LANES, lane, read_all};
use support::disk::{Disk, or_skip};
use support::power::Block;
use support::waiting::within;

/// Far beyond what any of this takes: a test that runs longer hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);
/// How long the store may take until it works again once its disk does.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
const SEGMENT: u64 = 1 << 20;
/// Blocks between two syncs.
const GROUP: u64 = 8;
/// More blocks than any disk here holds.
const TOO_MANY: u64 = 10_000;

/// Runs a test that must not hang.
#[track_caller]
fn bounded(test: impl FnOnce() + Send + 'static) {
    let (ended_tx, ended) = mpsc::sync_channel(1);
    let running = thread::spawn(move || {
        test();
        ended_tx.send(()).expect("somebody waits");
    });
    match ended.recv_timeout(HANGS_AFTER) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => {
            if let Err(panic) = running.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// A store, and what it must hold.
struct Subject {
    store: Store,
    options: Options,
    next: u64,
    /// Synced.
    safe: BTreeSet<Block>,
    /// Written, not synced yet.
    loose: BTreeSet<Block>,
    /// Refused: not there, or there whole.
    refused: BTreeSet<Block>,
    plain: Vec<u8>,
}

impl Subject {
    #[track_caller]
    fn open(dir: &Path) -> Self {
        Self::open_with(blocks::options(dir, 1 << 30, SEGMENT))
    }

    #[track_caller]
    fn open_with(options: Options) -> Self {
        Self {
            store: Store::open(options.clone()).unwrap(),
            options,
            next: 1,
            safe: BTreeSet::new(),
            loose: BTreeSet::new(),
            refused: BTreeSet::new(),
            plain: Vec::new(),
        }
    }

    fn append(&mut self) -> Result<(), AppendError> {
        let block = blocks::block(self.next);
        self.next += 1;
        blocks::octets(block, &mut self.plain);
        let result = self.store.append(&lane(block.0), blocks::meta(block), &self.plain);
        if result.is_ok() { &mut self.loose } else { &mut self.refused }.insert(block);
        self.store.work();
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        let synced = self.store.sync();
        // Where it fails, what was not safe before may be damaged, and no later sync makes it good.
        if synced.is_ok() { &mut self.safe } else { &mut self.refused }.append(&mut self.loose);
        synced
    }

    /// One group, synced.
    fn write_group(&mut self) -> Result<(), String> {
        for _ in 0..GROUP {
            self.append().map_err(|error| error.to_string())?;
        }
        self.sync().map_err(|error| error.to_string())
    }

    #[track_caller]
    fn write(&mut self, groups: u64) {
        for group in 0..groups {
            self.write_group().unwrap_or_else(|why| panic!("group {group} of {groups}: {why}"));
        }
    }

    /// Writes until the store refuses, and says why it does.
    #[track_caller]
    fn write_until_refused(&mut self) -> String {
        let why = (0..TOO_MANY / GROUP).find_map(|_| self.write_group().err());
        let why = why.unwrap_or_else(|| panic!("{TOO_MANY} blocks were taken by a disk that has no room for them"));
        println!("refused after {} blocks: {why}", self.safe.len());
        why
    }

    /// Holds it to working again by itself: what its thread does all the time is `retry`, and to append.
    #[track_caller]
    fn assert_recovers(&mut self) {
        let works = |subject: &mut Self| {
            subject.store.retry().map_err(|error| format!("retry: {error}"))?;
            subject.write_group()
        };
        within(RECOVERY_MAX, || works(self))
            .unwrap_or_else(|why| panic!("the disk is well again, the store is not: {why}"));
        self.write(4);
    }

    /// Releases the older half of each lane. Works on a full disk too.
    #[track_caller]
    fn release_half(&mut self) -> usize {
        let mut released = 0;
        for number in 0..LANES {
            let of_lane: Vec<Block> = self.safe.iter().copied().filter(|block| block.0 == number).collect();
            for block in of_lane.iter().take(of_lane.len() / 2) {
                self.store.release(&lane(number), Seq(block.1));
                self.safe.remove(block);
                self.refused.insert(*block);
                released += 1;
            }
        }
        released
    }

    /// What the open store gives.
    #[track_caller]
    fn assert_reads_what_is_safe(&mut self) {
        let found = read_all(&mut self.store).unwrap();
        self.assert_holds(&found);
    }

    #[track_caller]
    fn assert_holds(&self, found: &[Block]) {
        let set: BTreeSet<Block> = found.iter().copied().collect();
        assert!(found.is_sorted() && set.len() == found.len(), "lanes are out of order");
        let missing: Vec<&Block> = self.safe.difference(&set).take(5).collect();
        assert!(missing.is_empty(), "of {} that were synced are missing: {missing:?} …", self.safe.len());
        let known =
            |block: &&Block| self.safe.contains(block) || self.loose.contains(block) || self.refused.contains(block);
        assert!(set.iter().all(|block| known(&block)), "a block that nobody wrote");
    }

    /// Closes it, whatever that says, and holds a new one to all that was synced.
    #[track_caller]
    fn assert_survives(mut self, prepare: impl FnOnce()) {
        let Self { store, options, .. } = self;
        if let Err(error) = store.close() {
            println!("closed: {error}");
        }
        prepare();
        self.store = Store::open(options.clone()).unwrap();
        self.options = options;
        while self.store.is_rebuilding() {
            self.store.work();
        }
        self.assert_reads_what_is_safe();
        while self.store.work() {}
        self.assert_reads_what_is_safe();
    }
}

fn spool_of(disk: &Disk) -> PathBuf {
    disk.path().join("spool")
}

/// Fills `disk` with the spool alone.
fn fills_and_is_emptied(disk: &Disk) {
    let mut subject = Subject::open(&spool_of(disk));
    for _ in 0..3 {
        subject.write_until_refused();
        subject.write_until_refused();
        subject.assert_reads_what_is_safe();
        // Its own releasing must make room: nobody else does.
        let released = subject.release_half();
        assert!(released > 20, "{released} blocks were there to be released");
        subject.assert_recovers();
    }
    subject.assert_survives(|| {});
}

#[test]
fn a_small_memory_disk_that_is_full_takes_more_after_a_release() {
    bounded(|| {
        let Some(disk) = or_skip(Disk::tmpfs(24 << 20)) else { return };
        fills_and_is_emptied(&disk);
    });
}

#[test]
fn a_small_disk_that_is_full_takes_more_after_a_release() {
    bounded(|| {
        let Some(disk) = or_skip(Disk::ext4(48 << 20)) else { return };
        fills_and_is_emptied(&disk);
    });
}

/// Lets somebody else fill `disk`, and clean up again.
fn is_filled_by_somebody_else(disk: &Disk) {
    let mut subject = Subject::open(&spool_of(disk));
    for _ in 0..3 {
        subject.write(8);
        let file = disk.fill("core");
        subject.write_until_refused();
        subject.assert_reads_what_is_safe();
        std::fs::remove_file(file).unwrap();
        subject.assert_recovers();
    }
    subject.assert_survives(|| {});
}

#[test]
fn a_memory_disk_that_somebody_else_fills_costs_nothing_that_was_synced() {
    bounded(|| {
        let Some(disk) = or_skip(Disk::tmpfs(64 << 20)) else { return };
        is_filled_by_somebody_else(&disk);
    });
}

#[test]
fn a_disk_that_somebody_else_fills_costs_nothing_that_was_synced() {
    bounded(|| {
        let Some(disk) = or_skip(Disk::ext4(64 << 20)) else { return };
        is_filled_by_somebody_else(&disk);
    });
}

#[test]
fn a_store_that_found_no_room_takes_more_once_somebody_else_has_made_some() {
    bounded(|| {
        let Some(disk) = or_skip(Disk::tmpfs(64 << 20)) else { return };
        let file = disk.path().join("core");
        std::fs::write(&file, vec![0xaa; 40 << 20]).unwrap();
        let options = Options { min_free: 32 << 20, ..blocks::options(&spool_of(&disk), 1 << 30, SEGMENT) };
        let mut subject = Subject::open_with(options);
        for _ in 0..3 {
            assert!(matches!(subject.append(), Err(AppendError::Full)), "there is less free than it leaves to others");
        }
        std::fs::remove_file(file).unwrap();
        // Nobody tells it to look again.
        subject.write(4);
        subject.assert_survives(|| {});
    });
}

#[test]
fn a_store_starts_on_a_disk_that_it_has_filled_and_empties_it() {
    bounded(|| {
        let Some(disk) = or_skip(Disk::ext4(64 << 20)) else { return };
        let mut subject = Subject::open(&spool_of(&disk));
        subject.write_until_refused();
        // No more room than the spool itself has left.
        let rest = disk.fill("core");
        let Subject { store, options, .. } = subject;
        println!("closed: {:?}", store.close());
        subject.store = Store::open(options.clone()).unwrap();
        subject.options = options;
        while subject.store.is_rebuilding() && subject.store.work() {}
        assert!(!subject.store.is_rebuilding());
        subject.assert_reads_what_is_safe();
        subject.release_half();
        subject.assert_recovers();
        subject.assert_survives(|| {});
        drop(rest);
    });
}

#[test]
fn a_store_that_cannot_start_on_a_full_disk_starts_once_there_is_room() {
    bounded(|| {
        let Some(disk) = or_skip(Disk::ext4(64 << 20)) else { return };
        let mut subject = Subject::open(&spool_of(&disk));
        subject.write(8);
        subject.assert_survives(|| {
            let file = disk.fill("core");
            match Store::open(blocks::options(&spool_of(&disk), 1 << 30, SEGMENT)) {
                Ok(store) => println!("started all the same; closed: {:?}", store.close()),
                Err(error) => println!("did not start: {error}"),
            }
            std::fs::remove_file(file).unwrap();
        });
    });
}

#[test]
fn a_folder_that_becomes_read_only_and_writable_again_costs_nothing() {
    bounded(|| {
        let Some(disk) = or_skip(Disk::ext4(128 << 20)) else { return };
        let mut subject = Subject::open(&spool_of(&disk));
        for _ in 0..3 {
            subject.write(4);
            let protected = disk.protect(&spool_of(&disk));
            // Files that are open go on; the next segment cannot be made.
            subject.write_until_refused();
            drop(protected);
            subject.assert_recovers();
        }
        subject.assert_survives(|| {});
    });
}

#[test]
fn a_file_system_that_the_kernel_makes_read_only_keeps_what_was_synced() {
    bounded(|| {
        let Some(disk) = or_skip(Disk::ext4(128 << 20)) else { return };
        let mut subject = Subject::open(&spool_of(&disk));
        subject.write(16);
        // As after an error of the journal's: from here on even open files cannot be written.
        disk.remount("abort");
        subject.write_until_refused();
        subject.store.retry().expect_err("nothing can be written");
        // What it gives is right, but it may give nothing: its index needs a disk that can be written.
        println!("read: {:?}", read_all(&mut subject.store).map(|all| all.len()));
        subject.assert_survives(|| {
            disk.unmount();
            disk.mount().unwrap();
        });
    });
}

#[test]
fn a_disk_that_is_gone_keeps_what_was_synced() {
    bounded(|| {
        let Some(disk) = or_skip(Disk::ext4(128 << 20)) else { return };
        let mut subject = Subject::open(&spool_of(&disk));
        subject.write(16);
        disk.cut();
        subject.write_until_refused();
        for _ in 0..3 {
            subject.store.retry().expect_err("everything fails");
            subject.append().expect_err("everything fails");
        }
        subject.release_half();
        subject.sync().expect_err("everything fails");
        subject.assert_survives(|| {
            disk.unmount();
            disk.mount().unwrap();
        });
    });
}

#[test]
fn a_disk_that_takes_writes_and_loses_them_is_not_believed() {
    bounded(|| {
        // A file system larger than what is under it: the kernel takes the octets, and fails to write them when it is asked
        // to sync. It calls its copy clean then, and the next sync succeeds. Without a journal, whose failing ends it all.
        let Some(below) = or_skip(Disk::tmpfs(24 << 20)) else { return };
        let folder = tempfile::tempdir_in(below.path()).unwrap();
        let made = Disk::ext4_with(folder, 256 << 20, &["-O", "^has_journal", "-E", "lazy_itable_init=1"]);
        let Some(disk) = or_skip(made) else { return };
        disk.write_by_pages();
        let mut subject = Subject::open(&spool_of(&disk));
        let started = Instant::now();
        subject.write_until_refused();
        below.remount(&format!("size={}", 256 << 20));
        // After five seconds the kernel begins to write by itself (dirty_writeback_centisecs), directories and inodes as
        // well; without a journal those are lost like anything else, and all that was synced with them.
        if started.elapsed() > Duration::from_secs(4) {
            println!("skipped: the machine is too busy, the kernel may have lost what no sync of ours was asked for");
            return;
        }
        subject.assert_recovers();
        // Nothing of it from the kernel's memory.
        subject.assert_survives(|| {
            disk.unmount();
            disk.mount().unwrap();
        });
    });
}

#[test]
fn a_folder_that_is_deleted_is_missed_and_made_anew() {
    bounded(|| {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("spool");
        let mut subject = Subject::open(&dir);
        subject.write(8);
        std::fs::remove_dir_all(&dir).unwrap();
        // What was there is gone. What is said to be safe from here on has to be.
        subject.refused.append(&mut subject.safe);
        for _ in 0..20 {
            if let Err(why) = subject.write_group() {
                println!("after the deletion: {why}");
                break;
            }
        }
        subject.refused.append(&mut subject.safe);
        subject.refused.append(&mut subject.loose);
        subject.assert_recovers();
        assert!(dir.join("segments").is_dir());
        subject.assert_survives(|| {});
    });
}
