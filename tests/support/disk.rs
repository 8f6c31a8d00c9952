//! Disks that can be taken away: ext4 on a loop device, and tmpfs. All of it needs root; what cannot be had here is said.
//!
//! Everything is undone when the value is dropped. Loop devices clear themselves with their last mount, so that a test
//! that is killed leaves a mount behind at worst.
#![expect(unsafe_code, reason = "the ioctl that cuts a file system off has no safe wrapper")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::waiting::within;

/// `EXT4_IOC_SHUTDOWN` of the kernel's fs/ext4/ext4.h: `_IOR('X', 125, __u32)`.
const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: what the journal holds in memory is gone, as when the power fails.
static NOLOGFLUSH: u32 = 2;
/// Somebody else (an indexer, a backup) may look at a mount at the wrong moment.
const UNMOUNT_MAX: Duration = Duration::from_secs(10);

/// A file system in a file, or in memory.
pub struct Disk {
    folder: TempDir,
    kind: Kind,
}

enum Kind {
    Ext4,
    Tmpfs,
}

/// Runs a program to its end; what it said when it failed.
pub fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// Whether this process may mount at all.
fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    // Real, effective, saved, file system's.
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"))
}

/// What `made` gives, or `None`, said, where the machine cannot do such a thing.
pub fn or_skip<T>(made: Result<T, String>) -> Option<T> {
    made.inspect_err(|why| println!("skipped: {why}")).ok()
}

impl Disk {
    /// An empty ext4 of so many bytes (the file is sparse), mounted. The error says why this machine has none to give.
    pub fn ext4(bytes: u64) -> Result<Self, String> {
        Self::ext4_with(tempfile::tempdir().unwrap(), bytes, &[])
    }

    /// As [`Self::ext4`], with more options of mkfs.ext4; `folder` holds its file.
    pub fn ext4_with(folder: TempDir, bytes: u64, options: &[&str]) -> Result<Self, String> {
        if !is_root() {
            return Err("only root mounts file systems".to_owned());
        }
        let disk = Self { folder, kind: Kind::Ext4 };
        File::create(disk.file()).and_then(|file| file.set_len(bytes)).map_err(|error| error.to_string())?;
        std::fs::create_dir(disk.path()).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &[&["-q", "-F", "-m", "0"], options, &[text(&disk.file())]].concat())?;
        disk.mount()?;
        Ok(disk)
    }

    /// A tmpfs of so many bytes. The error says why this machine has none to give.
    pub fn tmpfs(bytes: u64) -> Result<Self, String> {
        if !is_root() {
            return Err("only root mounts file systems".to_owned());
        }
        let disk = Self { folder: tempfile::tempdir().unwrap(), kind: Kind::Tmpfs };
        std::fs::create_dir(disk.path()).map_err(|error| error.to_string())?;
        run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "forebay-test", text(&disk.path())])?;
        Ok(disk)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Mounts it (again); an ext4 replays its journal.
    pub fn mount(&self) -> Result<(), String> {
        match self.kind {
            Kind::Ext4 => run("mount", &["-o", "loop", text(&self.file()), text(&self.path())]),
            Kind::Tmpfs => Ok(()),
        }
    }

    /// Has the kernel ask the loop device under it for a page at a time. A loop device calls a write that was taken in
    /// part, because what is below it was full then, a success; a page is taken whole or not at all.
    #[track_caller]
    pub fn write_by_pages(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let path = self.path();
        let device = mounts.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>().as_slice() {
            [device, on, ..] if *on == text(&path) => device.strip_prefix("/dev/"),
            _ => None,
        });
        let limit = format!("/sys/block/{}/queue/max_sectors_kb", device.expect("it is mounted"));
        std::fs::write(limit, "4").unwrap();
    }

    /// Changes how it is mounted: `ro`, `rw`, `size=…`.
    #[track_caller]
    pub fn remount(&self, options: &str) {
        run("mount", &["-o", &format!("remount,{options}"), text(&self.path())]).unwrap();
    }

    /// Unmounts it. Nobody may use it any more.
    #[track_caller]
    pub fn unmount(&self) {
        within(UNMOUNT_MAX, || run("umount", &[text(&self.path())])).unwrap();
    }

    /// Takes it away from under whoever uses it: their open files stay, its path is an empty folder.
    #[track_caller]
    pub fn detach(&self) {
        run("umount", &["-l", text(&self.path())]).unwrap();
    }

    /// Cuts the power: from now on everything fails, and what was not synced is gone after the next mount (what a drive's
    /// own cache would lose is not).
    #[track_caller]
    pub fn cut(&self) {
        let root = File::open(self.path()).unwrap();
        // SAFETY: the request reads one u32, which lives through the call; `root` is an open file.
        let code = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN as _, &raw const NOLOGFLUSH) };
        assert_eq!(code, 0, "EXT4_IOC_SHUTDOWN: {}", std::io::Error::last_os_error());
    }

    /// Makes every write and sync wait until the returned value is dropped.
    #[track_caller]
    pub fn freeze(&self) -> Frozen {
        run("fsfreeze", &["--freeze", text(&self.path())]).unwrap();
        Frozen(self.path())
    }

    /// Makes a folder read-only for whoever opens something in it from now on, until the returned value is dropped.
    #[track_caller]
    pub fn protect(&self, folder: &Path) -> Protected {
        run("mount", &["--bind", text(folder), text(folder)]).unwrap();
        let protected = Protected(folder.to_owned());
        run("mount", &["-o", "remount,bind,ro", text(folder)]).unwrap();
        protected
    }

    /// Bytes that whoever is no root may still write.
    pub fn free(&self) -> u64 {
        let output = Command::new("df").args(["--output=avail", "-B1", text(&self.path())]).output().unwrap();
        let avail = String::from_utf8(output.stdout).unwrap();
        avail.split_whitespace().last().unwrap().parse().unwrap()
    }

    /// Fills it to the last block with a file of that name; removing the file makes room again.
    pub fn fill(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        let mut file = File::create(&path).unwrap();
        for len in [1 << 20, 4096, 512] {
            let block = vec![0xaa_u8; len];
            while std::io::Write::write_all(&mut file, &block).and_then(|()| file.sync_data()).is_ok() {}
        }
        path
    }
}

/// A file system that makes writers wait.
pub struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(run("fsfreeze", &["--unfreeze", text(&self.0)]));
    }
}

/// A folder in which nothing can be opened for writing.
pub struct Protected(PathBuf);

impl Drop for Protected {
    fn drop(&mut self) {
        drop(run("umount", &["-l", text(&self.0)]));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // More than one mount where a test failed between two. Lazy: who still uses it may be what failed.
        while run("umount", &["-l", text(&self.path())]).is_ok() {}
    }
}
