//! The spool's folder: who owns it, which format it has, what is put aside in it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::fault::crash;

/// The format that this version writes; it reads none but this yet.
const FORMAT: u64 = 1;

/// What the file `format` holds, with the number behind it.
const FORMAT_WORDS: &str = "forebay spool ";

/// Octets of `format` and `lock` that are read: a damaged one may be long.
const TEXT_MAX: u64 = 512;

/// Its quarantine takes at most this part of `max_size`.
const QUARANTINE_PART: u64 = 16;

/// A spool's folder that this process owns until it is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    lock: File,
    /// Octets that quarantine may take.
    quarantine_max: u64,
}

/// Why a folder cannot be had.
#[derive(Debug)]
pub(super) enum FolderFault {
    Held(String),
    Newer(u64),
    Io(io::Error),
}

impl From<io::Error> for FolderFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing would do, if no child that is about to run another program had the file open as well. A lock that
        // cannot be given up goes with the process.
        let (Ok(()) | Err(_)) = self.lock.unlock();
    }
}

impl Folder {
    /// Makes it where it is missing, and takes it. Returns with it what was put aside.
    pub(super) fn open(dir: &Path, max_size: u64) -> Result<(Self, Vec<PathBuf>), FolderFault> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // Not those of a folder that has been something else until now.
        if dir.join("format").exists() || fs::read_dir(dir)?.next().is_none() {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        }
        let lock = lock(&dir.join("lock"))?;
        let folder = Self { dir: dir.to_owned(), lock, quarantine_max: max_size / QUARANTINE_PART };
        crash("open.locked");
        let mut aside = Vec::new();
        for made in [folder.segments(), folder.quarantine()] {
            if fs::symlink_metadata(&made).is_ok_and(|metadata| !metadata.is_dir()) {
                // Not into quarantine, which may be what is wrong.
                let other = made.with_extension("odd");
                fs::rename(&made, &other)?;
                aside.push(other);
            }
            DirBuilder::new().recursive(true).mode(0o700).create(made)?;
        }
        aside.extend(folder.check_format()?);
        // Their names must survive a power cut as what is in them does.
        File::open(dir)?.sync_all()?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok((folder, aside))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn segments(&self) -> PathBuf {
        self.dir.join("segments")
    }

    pub(super) fn index(&self) -> PathBuf {
        self.dir.join("index")
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.dir.join("quarantine")
    }

    pub(super) fn reserve(&self) -> PathBuf {
        self.dir.join("reserve")
    }

    /// Whether the folder that its path names is still the one that was taken.
    pub(super) fn is_there(&self) -> bool {
        let named = fs::metadata(self.dir.join("lock"));
        let taken = self.lock.metadata();
        named.is_ok_and(|named| taken.is_ok_and(|taken| (named.dev(), named.ino()) == (taken.dev(), taken.ino())))
            && self.segments().is_dir()
    }

    /// Gives the lock up: the folder is to be taken again.
    pub(super) fn let_go(&self) -> io::Result<()> {
        self.lock.unlock()
    }

    /// Syncs the names in the folder of segments.
    pub(super) fn sync_segments(&self) -> io::Result<()> {
        File::open(self.segments())?.sync_all()
    }

    /// Moves a file or folder to quarantine; tells its new path. Older ones go where they would be too many.
    pub(super) fn put_aside(&self, path: &Path) -> io::Result<PathBuf> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.quarantine())?;
        crash("quarantine.before");
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let number = self.aside()?.last().map_or(0, |(number, _)| *number) + 1;
        let to = self.quarantine().join(format!("{number:06}-{name}"));
        fs::rename(path, &to)?;
        crash("quarantine.renamed");
        self.bound_quarantine(self.quarantine_max)?;
        Ok(to)
    }

    /// Deletes what lies in quarantine, oldest first, until it takes no more than `bytes`.
    pub(super) fn bound_quarantine(&self, bytes: u64) -> io::Result<()> {
        let mut taken = disk_use(&self.quarantine());
        for (_, path) in self.aside()? {
            if taken <= bytes {
                break;
            }
            taken = taken.saturating_sub(disk_use(&path));
            remove(&path)?;
        }
        Ok(())
    }

    /// What lies in quarantine, oldest first.
    fn aside(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut aside = Vec::new();
        for entry in fs::read_dir(self.quarantine())? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.split('-').next()?.parse().ok()).unwrap_or(0);
            aside.push((number, entry.path()));
        }
        aside.sort();
        Ok(aside)
    }

    fn check_format(&self) -> Result<Option<PathBuf>, FolderFault> {
        let path = self.dir.join("format");
        let text = match File::open(&path) {
            Ok(mut file) => read_text(&mut file).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.write_format(&path)?;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let version = text.strip_prefix(FORMAT_WORDS).and_then(|rest| rest.strip_suffix('\n')?.parse::<u64>().ok());
        match version {
            Some(version) if version > FORMAT => Err(FolderFault::Newer(version)),
            Some(FORMAT) => Ok(None),
            _ => {
                let aside = self.put_aside(&path)?;
                self.write_format(&path)?;
                Ok(Some(aside))
            }
        }
    }

    fn write_format(&self, path: &Path) -> io::Result<()> {
        let text = format!("{FORMAT_WORDS}{FORMAT}\n");
        let part = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        crash("open.format");
        fs::rename(part, path)
    }
}

/// Who has the folder `dir`, as that says of itself; `None` where nobody has it, or where that cannot be told. Takes nothing.
pub(in crate::spool) fn holder(dir: &Path) -> Option<String> {
    let mut file = File::open(dir.join("lock")).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(read_text(&mut file).unwrap_or_default().trim_end().to_owned()),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

fn lock(path: &Path) -> Result<File, FolderFault> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let by = read_text(&mut file).unwrap_or_default();
            return Err(FolderFault::Held(by.trim_end().to_owned()));
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let since = jiff::Timestamp::now();
    let text = format!("process {} on {}, since {since:.0}\n", std::process::id(), host.trim_end());
    // It only says who holds the lock: a full disk must not keep the spool from being opened.
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
    if let Err(error) = written {
        tracing::debug!(%error, "the spool's lock does not say who holds it");
    }
    Ok(file)
}

fn read_text(file: &mut File) -> io::Result<String> {
    let mut octets = Vec::new();
    file.take(TEXT_MAX).read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

/// Octets that a file or folder takes on the disk, as `du` counts them. What cannot be looked at counts as nothing.
pub(super) fn disk_use(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let below = if metadata.is_dir() { fs::read_dir(path).ok() } else { None };
    let below = below.into_iter().flatten().flatten().map(|entry| disk_use(&entry.path()));
    allocated(&metadata) + below.sum::<u64>()
}

/// Octets that a file takes on the disk.
pub(super) fn allocated(metadata: &fs::Metadata) -> u64 {
    metadata.blocks() * 512
}

/// Removes a file, or a folder with all in it. That it is not there is no error.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
