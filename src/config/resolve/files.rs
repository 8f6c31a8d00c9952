//! Files that the configuration names; and who may read those that hold keys.

use std::os::linux::fs::MetadataExt;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::*;

/// Others may read it.
const OTHERS_READ: u32 = 0o004;

/// Somebody besides its owner may change it.
const OTHERS_WRITE: u32 = 0o022;

impl Resolver<'_> {
    /// A file's path, see [`Folders`]. Reports what is not there.
    pub(super) fn file(&mut self, raw: Option<Is<PathBuf>>, path: &Path) -> Option<PathBuf> {
        let Is(file) = raw?;
        let file = self.folders.locate(&file);
        let file = match std::fs::metadata(&file) {
            // Opened only where that does not wait for a writer.
            Ok(metadata) if metadata.is_file() => match std::fs::File::open(&file) {
                Ok(_) => Some(file),
                Err(error) => self.no_file(path, &file, &format!("cannot be read: {error}")),
            },
            Ok(_) => self.no_file(path, &file, "is not a file"),
            Err(error) => self.no_file(path, &file, &format!("cannot be read: {error}")),
        }?;
        self.files.push(file.clone());
        Some(file)
    }

    /// The same of a file that holds a key: one that others may read, or that somebody besides its owner may change, is
    /// refused, or told of where [`KeyFiles`] says so.
    pub(super) fn key_file(&mut self, raw: Option<Is<PathBuf>>, path: &Path) -> Option<PathBuf> {
        let file = self.file(raw, path)?;
        let Some(why) = too_open(&file) else { return Some(file) };
        let shown = self.masked(path).unwrap_or_else(|| file.display().to_string());
        if self.key_files == KeyFiles::Any {
            self.warning(path, format!("{shown} holds a key and {why}"));
            return Some(file);
        }
        let advice =
            "expected mode 0600, or 0640 with the relay's group (chmod 0600; or run with --insecure-permissions)";
        self.mistake(path, format!("{shown} holds a key and {why}, {advice}"));
        self.refused.push(path.clone());
        None
    }

    pub(super) fn no_file(&mut self, path: &Path, file: &FilePath, why: &str) -> Option<PathBuf> {
        let shown = match self.masked(path) {
            Some(masked) => masked,
            None => format!("{}", file.display()),
        };
        self.mistake(path, format!("{shown} {why}"));
        self.refused.push(path.clone());
        None
    }

    /// Files that the configuration names, and that it stands in.
    pub(super) fn all_files(&mut self) -> Vec<PathBuf> {
        let mut files = std::mem::take(&mut self.files);
        self.tree.for_each_place(&mut |at| {
            let own = PathBuf::from(&*at.file);
            if files.last() != Some(&own) {
                files.push(own);
            }
        });
        files.sort();
        files.dedup();
        files.retain(|file| file.is_file());
        files
    }

    /// Keys that stand in the configuration itself, where everybody may read that: told once for each file.
    pub(super) fn warn_of_open_keys(&mut self, raw: &[raw::Route]) {
        let mut told = Vec::new();
        for (index, _) in raw.iter().enumerate().filter(|(_, route)| route.intake_key.is_some()) {
            let path = Path::root().key("routes").index(index).key("intake_key");
            let Some(Node { at, value: Value::Scalar(scalar) }) = self.node(&path) else { continue };
            let file = std::sync::Arc::clone(&at.file);
            if !scalar.variables.is_empty() || told.contains(&file) {
                continue;
            }
            if let Some(mode) = mode_of(FilePath::new(&*file)).filter(|mode| mode & OTHERS_READ != 0) {
                let message = format!(
                    "stands in a file that everybody on this machine may read (mode {mode:03o}): chmod 0640 and the relay's \
                     group, or \"intake_key_file\""
                );
                self.warning(&path, message);
            }
            told.push(file);
        }
    }
}

/// Why a file is no place for a key; `None` where it is one.
fn too_open(file: &FilePath) -> Option<String> {
    let mode = mode_of(file)?;
    match (mode & OTHERS_READ != 0, mode & OTHERS_WRITE != 0) {
        (true, _) => Some(format!("is readable by everybody on this machine (mode {mode:03o})")),
        (_, true) => Some(format!("can be changed by others than its owner (mode {mode:03o})")),
        (false, false) => None,
    }
}

/// Who may what, as far as that counts: what a container's runtime mounts from memory, to be read only (secrets of Kubernetes
/// and Docker), is there for this container alone, whatever its files' modes are. `None` there, and where nothing is.
fn mode_of(file: &FilePath) -> Option<u32> {
    let metadata = std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file)?;
    let in_memory = statfs(file).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC);
    let read_only = statvfs(file).is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY));
    (!(in_memory && read_only)).then_some(metadata.st_mode() & 0o7777)
}
