//! When a new file is begun, and what becomes of the old ones: `path` to `path.1`, that to `path.2`, up to the number that
//! are kept; compressed in the background, by a thread that looks for old files that are not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

use crossbeam_channel as channel;
use flate2::Compression;
use flate2::write::GzEncoder;
use tracing::warn;

use crate::config::Rotate;

/// The ending of compressed files.
const GZ: &str = ".gz";

/// The ending of a file that is being compressed: of an interrupted run at most one is left, and written over by the next.
const UNFINISHED: &str = ".gz.tmp";

/// One file's rotation.
#[derive(Debug)]
pub(super) struct Rotation {
    rotate: Rotate,
    old: Arc<Old>,
    /// Wakes who compresses; none where nobody does.
    compress: Option<channel::Sender<()>>,
}

/// The old files.
#[derive(Debug)]
struct Old {
    path: PathBuf,
    keep: usize,
    /// Held while names change.
    names: Mutex<()>,
}

impl Rotation {
    /// Of `path`. Old files that an earlier run left uncompressed are compressed with the first rotation.
    pub(super) fn new(path: PathBuf, rotate: Rotate) -> Self {
        Self { rotate, old: Arc::new(Old { path, keep: rotate.keep, names: Mutex::new(()) }), compress: None }
    }

    /// The file that is written.
    pub(super) fn path(&self) -> &Path {
        &self.old.path
    }

    /// How many octets of `lines` go into a file of `length`: whole lines; the first of them always where it is empty.
    pub(super) fn room(&self, length: u64, lines: &[u8]) -> usize {
        let Some(size) = self.rotate.size else { return lines.len() };
        let left = usize::try_from(size.saturating_sub(length)).unwrap_or(usize::MAX);
        if lines.len() <= left {
            return lines.len();
        }
        let fitting = lines.get(..left).and_then(|fitting| memchr::memrchr(b'\n', fitting)).map(|at| at + 1);
        match fitting {
            Some(count) => count,
            None if length == 0 => memchr::memchr(b'\n', lines).map_or(lines.len(), |at| at + 1),
            None => 0,
        }
    }

    /// Whether a file that was begun then is to be followed by a new one.
    pub(super) fn is_old(&self, began: SystemTime) -> bool {
        // A clock that went back makes nothing old.
        let age = began.elapsed().unwrap_or_default();
        self.rotate.age.is_some_and(|limit| age >= limit)
    }

    /// Moves the file away, and each old one by one place; the last goes.
    ///
    /// # Errors
    /// When a file cannot be renamed or removed; the file itself is then where it was.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        self.old.shift()?;
        if self.rotate.compress && self.rotate.keep > 0 {
            self.wake_compressor();
        }
        Ok(())
    }

    fn wake_compressor(&mut self) {
        if self.compress.is_none() {
            let (wake, woken) = channel::bounded(1);
            let old = Arc::clone(&self.old);
            let compress = move || {
                while woken.recv().is_ok() {
                    if let Err(error) = old.compress_all() {
                        warn!(path = %old.path.display(), "cannot compress an old file: {error}; it stays as it is");
                    }
                }
            };
            match thread::Builder::new().name("compress".into()).spawn(compress) {
                Ok(_) => self.compress = Some(wake),
                Err(error) => warn!("cannot start a thread to compress old files: {error}"),
            }
        }
        if let Some(wake) = &self.compress {
            // One that is woken already will look at all of them.
            _ = wake.try_send(());
        }
    }
}

impl Old {
    /// The `number`th, with an ending.
    fn name(&self, number: usize, ending: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}{ending}"));
        name.into()
    }

    fn shift(&self) -> io::Result<()> {
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if self.keep == 0 {
            return fs::remove_file(&self.path);
        }
        for ending in ["", GZ] {
            missing_is_fine(fs::remove_file(self.name(self.keep, ending)))?;
        }
        for number in (1..self.keep).rev() {
            for ending in ["", GZ] {
                missing_is_fine(fs::rename(self.name(number, ending), self.name(number + 1, ending)))?;
            }
        }
        fs::rename(&self.path, self.name(1, ""))
    }

    /// Compresses what is not, the oldest first: that is how they came.
    fn compress_all(&self) -> io::Result<()> {
        while let Some(plain) = self.plain()? {
            self.compress(plain)?;
        }
        Ok(())
    }

    /// The oldest that is not compressed, open.
    fn plain(&self) -> io::Result<Option<File>> {
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        for number in (1..=self.keep).rev() {
            match File::open(self.name(number, "")) {
                Ok(file) => return Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn compress(&self, mut plain: File) -> io::Result<()> {
        let metadata = plain.metadata()?;
        let mut unfinished = self.path.clone().into_os_string();
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
        missing_is_fine(fs::remove_file(&unfinished))?;
        let out = OpenOptions::new().write(true).create_new(true).mode(metadata.mode() & 0o777).open(&unfinished)?;
        let compressed = write_compressed(&mut plain, out);
        let placed = compressed.and_then(|()| self.place(&unfinished, metadata.ino()));
        if !matches!(placed, Ok(true)) {
            missing_is_fine(fs::remove_file(&unfinished))?;
        }
        placed.map(drop)
    }

    /// Puts the compressed file in the place of the plain one, which may have another number by now: false where it is no
    /// longer kept.
    fn place(&self, unfinished: &Path, inode: u64) -> io::Result<bool> {
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        for number in 1..=self.keep {
            let plain = self.name(number, "");
            if fs::metadata(&plain).is_ok_and(|found| found.ino() == inode) {
                fs::rename(unfinished, self.name(number, GZ))?;
                fs::remove_file(plain)?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What is in the compressed file is on the disk before the plain one goes.
fn write_compressed(plain: &mut File, out: File) -> io::Result<()> {
    let mut encoder = GzEncoder::new(io::BufWriter::new(out), Compression::default());
    io::copy(plain, &mut encoder)?;
    let mut out = encoder.finish()?;
    out.flush()?;
    out.get_ref().sync_data()
}

fn missing_is_fine(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
