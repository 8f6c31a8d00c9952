//! What the file's thread does: opens, appends whole lines, notices a file that was taken away, begins a new one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::{Duration, Instant, SystemTime};

use tracing::{debug, warn};

use super::FileError;
use super::rotation::Rotation;
use crate::forward::is_worth_a_line;

/// Access of a file that is made: it holds what people log.
const MODE: u32 = 0o600;

/// How often the path is looked at, whether it still leads to the open file; and how often a rotation that failed is tried
/// again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The file, and what is known of it.
#[derive(Debug)]
pub(super) struct Writer {
    output: String,
    rotation: Rotation,
    open: Option<Open>,
    /// Not before this is a rotation tried again.
    rotate_after: Option<Instant>,
    rotations_failed: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    looked_at: Instant,
    /// When it was begun.
    began: SystemTime,
    /// Its length before a write that failed, where it could not be cut back to that at once.
    torn_at: Option<u64>,
}

impl Writer {
    /// Opens nothing yet.
    pub(super) fn new(output: String, rotation: Rotation) -> Self {
        Self { output, rotation, open: None, rotate_after: None, rotations_failed: 0 }
    }

    /// Appends lines, each of which ends with LF. Returns how many octets are in the file now, whole lines, also where not
    /// all are.
    pub(super) fn write(&mut self, octets: &[u8]) -> (usize, Result<(), FileError>) {
        let mut rest = octets;
        let outcome = loop {
            if rest.is_empty() {
                break Ok(());
            }
            match self.write_some(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) => break Err(error),
            }
        };
        (octets.len() - rest.len(), outcome)
    }

    /// Appends as many of the lines as belong into this file; at least one.
    fn write_some(&mut self, octets: &[u8]) -> Result<usize, FileError> {
        let path = self.rotation.path().to_owned();
        let failed = |source| FileError::Write { path: path.clone(), source };
        let length = self.ready().and_then(|open| open.length().map_err(failed))?;
        let count = self.rotation.room(length, octets);
        if length > 0 && (count == 0 || self.is_old()) && self.rotate() {
            return Ok(0);
        }
        // Where a new file cannot be begun, this one grows.
        let count = if count == 0 { octets.len() } else { count };
        let Some(open) = &mut self.open else { return Ok(0) };
        open.append(octets.get(..count).unwrap_or(octets), length).map_err(failed)?;
        Ok(count)
    }

    /// The open file, at its place, without a half line.
    fn ready(&mut self) -> Result<&mut Open, FileError> {
        let path = self.rotation.path();
        if let Some(open) = &mut self.open {
            if let Some(length) = open.torn_at {
                open.cut_to(length).map_err(|source| FileError::Write { path: path.to_owned(), source })?;
                open.torn_at = None;
            }
            if open.looked_at.elapsed() >= LOOK_EVERY {
                open.looked_at = Instant::now();
                let is_there = std::fs::metadata(path).is_ok_and(|found| identity(&found) == open.identity);
                if !is_there {
                    debug!(output = %self.output, path = %path.display(), "the file was moved away: a new one is begun");
                    self.open = None;
                }
            }
        }
        match &mut self.open {
            Some(open) => Ok(open),
            closed => Ok(closed.insert(Open::new(&self.rotation)?)),
        }
    }

    /// As if a write had failed behind `length`, and the cut as well.
    #[cfg(test)]
    pub(super) fn tear(&mut self, length: u64) {
        if let Some(open) = &mut self.open {
            open.torn_at = Some(length);
        }
    }

    fn is_old(&self) -> bool {
        self.open.as_ref().is_some_and(|open| self.rotation.is_old(open.began))
    }

    /// Begins a new file: false where the old one cannot be moved away now.
    fn rotate(&mut self) -> bool {
        if self.rotate_after.is_some_and(|after| Instant::now() < after) {
            return false;
        }
        if let Err(error) = self.rotation.rotate() {
            self.rotations_failed += 1;
            if is_worth_a_line(self.rotations_failed) {
                let path = self.rotation.path().display();
                warn!(output = %self.output, path = %path, "cannot rotate the file: {error}; it grows meanwhile");
            }
            self.rotate_after = Some(Instant::now() + LOOK_EVERY);
            return false;
        }
        self.rotations_failed = 0;
        self.rotate_after = None;
        self.open = None;
        true
    }
}

impl Open {
    fn new(rotation: &Rotation) -> Result<Self, FileError> {
        let path = rotation.path().to_owned();
        let opened = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(&path);
        let mut file = match opened {
            Ok(file) => file,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Err(FileError::NoFolder { path }),
            Err(source) if source.kind() == io::ErrorKind::IsADirectory => return Err(FileError::NotAFile { path }),
            Err(source) => return Err(FileError::Open { path, source }),
        };
        let cannot = |source| FileError::Open { path: path.clone(), source };
        let metadata = file.metadata().map_err(cannot)?;
        if !metadata.is_file() {
            return Err(FileError::NotAFile { path });
        }
        // File systems without locks have other ways to be shared.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(FileError::Locked { path });
        }
        // A process that died in the middle of a line: the next one stands on its own.
        if metadata.len() > 0 && last_octet(&mut file).map_err(cannot)? != Some(b'\n') {
            file.write_all(b"\n").map_err(cannot)?;
        }
        let began = if metadata.len() == 0 { SystemTime::now() } else { born(&metadata) };
        Ok(Self { file, identity: identity(&metadata), looked_at: Instant::now(), began, torn_at: None })
    }

    /// Asked each time: others may cut the file (logrotate's `copytruncate`).
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// All of it, or none: what a failed write left behind `length` is cut off.
    fn append(&mut self, octets: &[u8], length: u64) -> io::Result<()> {
        let written = self.file.write_all(octets);
        if written.is_err() {
            self.torn_at = self.cut_to(length).is_err().then_some(length);
        }
        written
    }

    /// Cuts off what lies behind `length`. Never makes it longer.
    fn cut_to(&self, length: u64) -> io::Result<()> {
        if self.length()? > length { self.file.set_len(length) } else { Ok(()) }
    }
}

/// Device and inode.
fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// When the file was made; on file systems that do not know, when it was last written.
fn born(metadata: &std::fs::Metadata) -> SystemTime {
    metadata.created().or_else(|_| metadata.modified()).unwrap_or_else(|_| SystemTime::now())
}

fn last_octet(file: &mut File) -> io::Result<Option<u8>> {
    file.seek(SeekFrom::End(-1))?;
    let mut octet = [0];
    let count = file.read(&mut octet)?;
    Ok(octet.first().copied().filter(|_| count > 0))
}
