//! `spool:` and each route's share of it.

use std::io::Read;

use zeroize::Zeroizing;

use super::*;
use crate::config::{Compression, Durability, Share, Spool, SpoolFull, SpoolKey, SpoolSync, units};

/// A key as text: two hex digits an octet.
const HEX_DIGITS: usize = 2 * SpoolKey::OCTETS;

/// What a file that holds a key may have: its text and a line's end; one octet more shows that it has more.
const KEY_FILE_MAX: usize = HEX_DIGITS + 2;

impl Resolver<'_> {
    /// Makes no folder: the relay does when it runs.
    pub(super) fn spool(&mut self, raw: raw::Spool) -> Option<Spool> {
        let path = Path::root().key("spool");
        let dir = raw.dir.map(|Is(dir)| self.folders.own.join(dir));
        match &dir {
            None => self.missing(&path.key("dir"), "missing, expected the path of a folder"),
            Some(dir) if std::fs::metadata(dir).is_ok_and(|found| !found.is_dir()) => {
                self.no_file(&path.key("dir"), dir, "is there and is not a folder");
            }
            Some(_) => {}
        }
        let sync = match raw.sync {
            None => SpoolSync::Interval(limits::SPOOL_SYNC),
            Some(raw::Syncing::EveryBatch(_)) => SpoolSync::EveryBatch,
            Some(raw::Syncing::Interval { interval: Some(Is(Span(interval))) }) => SpoolSync::Interval(interval),
            Some(raw::Syncing::Interval { interval: None }) => {
                let path = path.key("sync");
                self.missing_below(&path, "found a map without \"interval\", expected {interval: 200ms}");
                SpoolSync::EveryBatch
            }
        };
        let encryption_key = raw.encryption_key_file.and_then(|file| {
            let path = path.key("encryption_key_file");
            let file = self.key_file(Some(file), &path)?;
            self.spool_key(&file, &path)
        });
        Some(Spool {
            dir: dir?,
            max_size: raw.max_size.map_or(limits::SPOOL_SIZE, |size| size.0.0 as u64),
            when_full: raw.when_full.map_or(SpoolFull::Block, |full| full.0),
            durability: raw.durability.map_or(Durability::Overflow, |durability| durability.0),
            sync,
            min_free: raw.min_free.map_or(limits::SPOOL_MIN_FREE, |size| size.0.0 as u64),
            compression: raw.compression.map_or(Compression::Lz4, |compression| compression.0),
            spill_after: raw.spill_after.map_or(limits::SPILL_AFTER, |time| time.0.0),
            encryption_key,
        })
    }

    /// A route's part. Without a spool there is none to take a part of.
    pub(super) fn share(&mut self, raw: Option<raw::Share>, spool: Option<&Spool>, path: &Path) -> Share {
        let Some(raw) = raw else { return Share::default() };
        let path = path.key("spool");
        // Where it stands and was refused, that is told already.
        if spool.is_none() && self.node(&Path::root().key("spool")).is_none() {
            self.missing(&path, "given, but there is no \"spool\" to have a share of");
        }
        let max_size = raw.max_size.map(|size| size.0.0 as u64);
        if let (Some(share), Some(spool)) = (max_size, spool)
            && share > spool.max_size
            && !self.is_refused(&Path::root().key("spool").key("max_size"))
        {
            let expected = format!("expected at most the {} of \"spool.max_size\"", units::show_size(spool.max_size));
            self.wrong(&path.key("max_size"), &expected, "more than there is");
        }
        Share { max_size, when_full: raw.when_full.map(|full| full.0) }
    }

    /// The key in a file. No message shows any of it.
    fn spool_key(&mut self, file: &FilePath, path: &Path) -> Option<SpoolKey> {
        let content = match read_key_file(file) {
            Ok(content) => content,
            Err(error) => {
                self.no_file(path, file, &format!("cannot be read: {error}"));
                return None;
            }
        };
        match key_of(&content) {
            Ok(key) => Some(SpoolKey::new(*key)),
            Err(found) => {
                self.mistake(path, expected_key(found));
                None
            }
        }
    }
}

/// Reads the key in a file. The error shows none of it.
pub(crate) fn read_spool_key(file: &FilePath) -> Result<SpoolKey, String> {
    let content = read_key_file(file).map_err(|error| format!("cannot be read: {error}"))?;
    key_of(&content).map(|key| SpoolKey::new(*key)).map_err(expected_key)
}

fn expected_key(found: String) -> String {
    format!("the file holds {found}, expected {} octets, or {HEX_DIGITS} hex digits", SpoolKey::OCTETS)
}

/// The file's first octets.
fn read_key_file(file: &FilePath) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let file = std::fs::File::open(file)?;
    // Made at once: what grows leaves copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(2 * KEY_FILE_MAX));
    file.take(KEY_FILE_MAX as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// The key that a file's octets are. The error says what they are, and shows none of them.
fn key_of(content: &[u8]) -> Result<Zeroizing<[u8; SpoolKey::OCTETS]>, String> {
    if let Ok(key) = <[u8; SpoolKey::OCTETS]>::try_from(content) {
        return Ok(Zeroizing::new(key));
    }
    if content.len() > KEY_FILE_MAX {
        return Err(format!("more than {KEY_FILE_MAX} octets"));
    }
    let line = content.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line)).unwrap_or(content);
    if line.len() != HEX_DIGITS {
        return Err(format!("{} octets", content.len()));
    }
    let mut key = Zeroizing::new([0; SpoolKey::OCTETS]);
    let digit = |octet: u8| char::from(octet).to_digit(16).map(|digit| digit as u8);
    for (octet, pair) in key.iter_mut().zip(line.chunks_exact(2)) {
        let digits = match *pair {
            [high, low] => digit(high).zip(digit(low)),
            _ => None,
        };
        let (high, low) = digits.ok_or_else(|| format!("{HEX_DIGITS} characters that are not all hex digits"))?;
        *octet = high << 4 | low;
    }
    Ok(key)
}
