//! Segment files: blocks one after the other, appended to only. Finding the blocks again, whatever happened to the file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memchr::memmem;

use super::block::{HEADER_MAX, Header, MAGIC};
use crate::sys;

/// Octets that a walk reads at a time to see headers: small blocks share a read, large ones cost a page.
const WINDOW: usize = 4096;

/// Octets that a search for the next header reads at a time.
const SEARCH: usize = 64 * 1024;

/// A page of the disk: what cannot be read is skipped in such steps.
pub(super) const PAGE: u64 = 4096;

/// The highest number: half of what the index can tell, so that there are always more. A spool of as many segments would
/// have seen two petabytes.
const NUMBER_MAX: u64 = u32::MAX as u64 / 2;

/// Octets of a file that are looked at: as far as the index can tell.
const LEN_MAX: u64 = u32::MAX as u64;

/// Name of a segment's file.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:016}.seg")
}

/// Where segment `number` is in the folder of segments.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(file_name(number))
}

/// The number in a segment's file name.
pub(super) fn number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".seg")?.parse().ok()?;
    (number <= NUMBER_MAX && file_name(number) == name).then_some(number)
}

/// Makes a new one.
pub(super) fn create(dir: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path(dir, number))
}

/// Opens one for reading, and for tombstones.
pub(super) fn open(dir: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path(dir, number))
}

/// Reads exactly `bytes` octets at `offset`: all that is in `out` then.
pub(super) fn read(file: &File, offset: u64, bytes: usize, out: &mut Vec<u8>) -> io::Result<()> {
    out.resize(bytes, 0);
    file.read_exact_at(out, offset)
}

/// What a walk finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A header that is whole, with as much behind it as it says.
    Block { offset: u64, header: Header },
    /// A header that is whole, with less behind it.
    Torn { offset: u64, header: Header },
    /// No header.
    Gap { offset: u64, bytes: u64, is_zero: bool },
}

/// Walks over the blocks of a segment. Where there is no header it looks for the next one.
#[derive(Debug)]
pub(super) struct Walk {
    file: File,
    end: u64,
    at: u64,
    /// Checks payloads as well: a block that lost octets hides those behind it.
    deep: bool,
    /// The block that ends at `at`.
    before: Option<(u64, Header, usize)>,
    window: Vec<u8>,
    window_at: u64,
}

impl Walk {
    /// From `from` to where the file ends now.
    pub(super) fn new(file: File, from: u64, deep: bool) -> io::Result<Self> {
        let end = file.metadata()?.len().min(LEN_MAX);
        Ok(Self { file, end, at: from, deep, before: None, window: Vec::new(), window_at: 0 })
    }

    /// How far it is.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The next find; `None` at the end. After an error, [`Self::skip`] goes on behind it.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        while self.at < self.end {
            let Some((header, header_len)) = self.header(self.at)? else {
                if let Some(found) = self.resync()? {
                    return Ok(Some(found));
                }
                continue;
            };
            let offset = self.at;
            let block_end = offset + header.block_len();
            if block_end > self.end {
                self.at = self.search(offset + 1)?.0;
                self.before = None;
                return Ok(Some(Found::Torn { offset, header }));
            }
            if self.deep && !self.is_payload(offset, &header, header_len)? {
                self.at = self.search(offset + 1)?.0;
                self.before = None;
                return Ok(Some(Found::Gap { offset, bytes: self.at - offset, is_zero: false }));
            }
            self.before = Some((offset, header.clone(), header_len));
            self.at = block_end;
            return Ok(Some(Found::Block { offset, header }));
        }
        Ok(None)
    }

    /// Goes on behind a page that cannot be read.
    pub(super) fn skip(&mut self) {
        self.before = None;
        self.window.clear();
        self.at = (self.at / PAGE + 1) * PAGE;
    }

    /// Goes to the next header. `None` where that lies in the block before, which had lost octets.
    fn resync(&mut self) -> io::Result<Option<Found>> {
        let offset = self.at;
        if let Some((before, header, header_len)) = self.before.take()
            && !self.is_payload(before, &header, header_len)?
        {
            let (found, _) = self.search(before + 1)?;
            if found < offset {
                self.at = found;
                return Ok(None);
            }
        }
        let (found, is_zero) = self.search(offset)?;
        self.at = found;
        Ok(Some(Found::Gap { offset, bytes: found - offset, is_zero }))
    }

    fn is_payload(&self, offset: u64, header: &Header, header_len: usize) -> io::Result<bool> {
        let mut payload = Vec::new();
        read(&self.file, offset + header_len as u64, header.stored_len as usize, &mut payload)?;
        Ok(header.is_payload(&payload))
    }

    fn header(&mut self, offset: u64) -> io::Result<Option<(Header, usize)>> {
        let wanted = (HEADER_MAX as u64).min(self.end - offset);
        let window_end = self.window_at + self.window.len() as u64;
        if offset < self.window_at || offset + wanted > window_end {
            let bytes = (WINDOW as u64).min(self.end - offset) as usize;
            self.window_at = offset;
            read(&self.file, offset, bytes, &mut self.window).inspect_err(|_| self.window.clear())?;
        }
        let bytes = self.window.get((offset - self.window_at) as usize..).unwrap_or_default();
        Ok(Header::parse(bytes).ok())
    }

    /// Where the next header begins at or after `from`, or the end; and whether all before it is zero.
    fn search(&mut self, from: u64) -> io::Result<(u64, bool)> {
        let (mut at, mut is_zero) = (from, true);
        let mut chunk = Vec::new();
        while at < self.end {
            // Where the file system knows no holes, all is data.
            at = match sys::seek_data(self.file.as_fd(), at) {
                Ok(Some(data)) => data.min(self.end),
                Ok(None) => self.end,
                Err(_) => at,
            };
            let bytes = (SEARCH as u64).min(self.end - at) as usize;
            read(&self.file, at, bytes, &mut chunk)?;
            for candidate in memmem::find_iter(&chunk, &MAGIC) {
                let place = at + candidate as u64;
                if self.header(place)?.is_some() {
                    return Ok((place, is_zero && zeroes(chunk.get(..candidate))));
                }
            }
            is_zero &= zeroes(Some(&chunk));
            if at + bytes as u64 >= self.end {
                return Ok((self.end, is_zero));
            }
            // A header may begin at this chunk's end.
            at += (bytes - (MAGIC.len() - 1)) as u64;
        }
        Ok((self.end, is_zero))
    }
}

fn zeroes(octets: Option<&[u8]>) -> bool {
    octets.is_some_and(|octets| octets.iter().all(|octet| *octet == 0))
}

#[cfg(test)]
mod tests;
