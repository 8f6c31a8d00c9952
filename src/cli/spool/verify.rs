//! `forebay spool verify`: every octet of every segment, read and checked, whatever the index says.
//!
//! Needs no lock and writes nothing. What a relay appends meanwhile is not looked at: a file is read as far as it went
//! when its turn came.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use memchr::memmem;

use crate::config::units;
use crate::spool::block::{BlockFault, Coder, HEADER_MAX, Header, HeaderFault, MAGIC};
use crate::spool::control;
use crate::sys;

use super::blocks::{self, Opening};
use super::progress::{Progress, Unit};

use super::{EXIT_RUNTIME, End, Verify, print, say, show};

/// Octets that are searched at a time where no block begins.
const WINDOW: usize = 1 << 20;

/// What was found.
#[derive(Debug, Default)]
struct Found {
    segments: u64,
    blocks: u64,
    records: u64,
    bytes: u64,
    dropped: u64,
    /// Encrypted, without their key: as far as checksums go.
    locked: u64,
    damaged: u64,
    damaged_bytes: u64,
}

/// Checks all segments.
pub(super) fn verify(options: &Verify) -> Result<ExitCode, End> {
    let place = options.place.find()?;
    place.exists()?;
    let paths = segments(place.dir())?;
    let octets = |path: &PathBuf| fs::metadata(path).map(|metadata| metadata.len()).unwrap_or(0);
    let progress = Progress::new("verifying", Unit::Octets, paths.iter().map(octets).sum());
    let mut found = Found::default();
    let mut coder = place.coder();
    for (at, path) in paths.iter().enumerate() {
        let mut tell = |fault: &str| {
            print(&format!("{}: {fault}\n", path.display()));
        };
        let file = match File::open(path) {
            Ok(file) => file,
            // All of it was released meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let what = format!("{}: run this as the relay's user, or as root", path.display());
                return Err(anyhow::Error::new(error).context(what).into());
            }
            Err(error) => {
                found.damaged += 1;
                tell(&format!("cannot be read: {error}"));
                continue;
            }
        };
        let len = file.metadata().map_err(anyhow::Error::from)?.len();
        found.segments += 1;
        let mut scan =
            Scan { file: &file, len, is_last: at + 1 == paths.len(), found: &mut found, progress: &progress };
        scan.run(&mut coder, &mut tell);
    }
    drop(progress);
    print(&format!(
        "{} segments, {} blocks with {} messages ({}), {} dropped blocks, {} places damaged ({})\n",
        found.segments,
        found.blocks,
        found.records,
        units::about_size(found.bytes),
        found.dropped,
        found.damaged,
        units::about_size(found.damaged_bytes)
    ));
    if found.locked > 0 {
        say(&format!(
            "of {} blocks only the checksums were looked at: they are encrypted, and their key is given with -c CONFIG or \
             --encryption-key-file\n",
            found.locked
        ));
    }
    if found.damaged == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    print(
        "A relay steps over damage and sends all other blocks; a damaged file goes to quarantine/ when those are sent.\n",
    );
    Ok(ExitCode::from(EXIT_RUNTIME))
}

/// The segment files, oldest first.
fn segments(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let folder = dir.join(control::SEGMENTS);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot read {}: run this as the relay's user", folder.display()));
        }
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    Ok(paths)
}

/// One file.
struct Scan<'a> {
    file: &'a File,
    len: u64,
    is_last: bool,
    found: &'a mut Found,
    progress: &'a Progress,
}

/// What lies at an offset.
enum Next {
    /// A block of so many octets.
    Block(u64),
    /// None that can be read; why.
    Damage(String),
    /// Zeros: a hole where blocks were released.
    Hole,
    /// The file ends inside it.
    Unfinished,
}

impl Scan<'_> {
    fn run(&mut self, coder: &mut Coder, tell: &mut impl FnMut(&str)) {
        let mut at = 0;
        while at < self.len {
            // A block that is released while it is read looks damaged once.
            let next = self.next(at, coder).or_else(|_| self.next(at, coder)).unwrap_or_else(Next::Damage);
            let end = match next {
                Next::Block(len) => at + len,
                Next::Hole => self.search(at, &|window| window.iter().position(|octet| *octet != 0), 0),
                // A relay is writing it now.
                Next::Unfinished if self.is_last => self.len,
                Next::Unfinished => {
                    tell(&format!("at {at}: the file ends inside a block, as it does when a relay is killed"));
                    self.len
                }
                Next::Damage(why) => self.damage(at, &why, tell),
            };
            self.progress.advance(end - at);
            at = end;
        }
    }

    fn next(&mut self, at: u64, coder: &mut Coder) -> Result<Next, String> {
        let head = self.read(at, HEADER_MAX)?;
        let header = match Header::parse(&head) {
            Ok((header, _)) => header,
            Err(HeaderFault::Short) => return Ok(Next::Unfinished),
            Err(HeaderFault::NotAHeader) if head.iter().take(MAGIC.len()).all(|octet| *octet == 0) => {
                return Ok(Next::Hole);
            }
            Err(fault) => return Ok(Next::Damage(fault.to_string())),
        };
        let len = header.block_len();
        if at + len > self.len {
            return Ok(Next::Unfinished);
        }
        if header.tombstone {
            self.found.dropped += 1;
            return Ok(Next::Block(len));
        }
        let octets = self.read(at, len as usize)?;
        let (header, payload) = blocks::header_of(&octets).map_err(|fault| fault.to_string())?;
        let route = show::safe(header.lane.route.as_bytes());
        let about = |why: String| format!("{why}; {} messages of {route}", header.meta.records);
        match blocks::open(coder, &header, payload) {
            Ok(batch) if batch.len() != header.meta.records as usize => {
                return Err(about(format!("the block holds {} messages and not as many as it says", batch.len())));
            }
            Ok(_) => {}
            Err(Opening::NoKey | Opening::OtherKey) if header.is_payload(payload) => self.found.locked += 1,
            Err(Opening::NoKey | Opening::OtherKey) => return Err(about(BlockFault::Checksum.to_string())),
            Err(Opening::Damaged(why)) => return Err(about(why)),
        }
        self.found.blocks += 1;
        self.found.records += u64::from(header.meta.records);
        self.found.bytes += len;
        Ok(Next::Block(len))
    }

    /// At most so many octets from there; fewer at the end of the file.
    fn read(&self, at: u64, octets: usize) -> Result<Vec<u8>, String> {
        let room = self.len.saturating_sub(at).min(octets as u64);
        let mut read = vec![0; room as usize];
        self.file.read_exact_at(&mut read, at).map_err(|error| error.to_string())?;
        Ok(read)
    }

    /// Tells of damage; gives where the next block may begin.
    fn damage(&mut self, at: u64, why: &str, tell: &mut impl FnMut(&str)) -> u64 {
        let end = self.search(at + 1, &|window| memmem::find(window, &MAGIC), MAGIC.len() - 1);
        tell(&format!("at {at}: {why}; the next block is {} octets on", end - at));
        self.found.damaged += 1;
        self.found.damaged_bytes += end - at;
        end
    }

    /// Where `finds` finds something from `at` on, or the end of the file. Windows overlap by `overlap` octets.
    fn search(&self, mut at: u64, finds: &dyn Fn(&[u8]) -> Option<usize>, overlap: usize) -> u64 {
        while at < self.len {
            // Where the file system knows no holes, all is data.
            at = match sys::seek_data(self.file.as_fd(), at) {
                Ok(data) => data.unwrap_or(self.len),
                Err(_) => at,
            };
            // What cannot be read is stepped over: it is damage that has been told.
            let window = self.read(at, WINDOW).unwrap_or_default();
            if let Some(found) = finds(&window) {
                return at + found as u64;
            }
            let step = if window.is_empty() { WINDOW } else { window.len().saturating_sub(overlap).max(1) };
            at += step as u64;
        }
        self.len
    }
}
