//! The files that a configuration was read from, and whether they have changed. Looked at, and not watched: what the kernel tells
//! of a folder it tells not of a file that a symbolic link is led to, and not of a network's.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::PathBuf;

/// What a change of a file changes: who it is, how long, and when it was written. Links are followed: what an atomic rename, or
/// the symbolic links of a Kubernetes volume, put in its place is another file. `None`: it is not there.
type Look = Option<[i64; 7]>;

/// Files and folders, and how they looked.
#[derive(Debug)]
pub(super) struct Watched {
    paths: Vec<PathBuf>,
    /// When the configuration was read last.
    read: Vec<Look>,
    /// Later.
    last: Vec<Look>,
}

impl Watched {
    /// These, as they are now.
    pub(super) fn of(paths: Vec<PathBuf>) -> Self {
        let read = looks(&paths);
        Self { paths, last: read.clone(), read }
    }

    /// The configuration is read now.
    pub(super) fn look(&mut self) {
        self.read = looks(&self.paths);
        self.last.clone_from(&self.read);
    }

    /// It was read from these: those that were not known were looked at a moment too late, which a further look tells.
    pub(super) fn be_of(&mut self, paths: Vec<PathBuf>) {
        let known = |path: &PathBuf| self.paths.iter().position(|known| known == path);
        let read = paths.iter().map(|path| match known(path) {
            Some(at) => self.read.get(at).copied().flatten(),
            None => look(path),
        });
        self.read = read.collect();
        self.last.clone_from(&self.read);
        self.paths = paths;
    }

    /// Whether one is another than when it was read, and all are as they were at the last look.
    pub(super) fn has_changed(&mut self) -> bool {
        let now = looks(&self.paths);
        let is_settled = now == self.last;
        self.last = now;
        is_settled && self.last != self.read
    }
}

fn looks(paths: &[PathBuf]) -> Vec<Look> {
    paths.iter().map(look).collect()
}

fn look(path: &PathBuf) -> Look {
    let found = fs::metadata(path).ok()?;
    // As numbers that are only compared.
    Some([
        found.st_dev() as i64,
        found.st_ino() as i64,
        found.st_size() as i64,
        found.st_mtime(),
        found.st_mtime_nsec(),
        found.st_ctime(),
        found.st_ctime_nsec(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_changed_once_it_is_another_and_stays_so() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
        fs::write(&file, "one").unwrap();
        let mut watched = Watched::of(vec![file.clone()]);
        assert!(!watched.has_changed() && !watched.has_changed());
        fs::write(&other, "two").unwrap();
        fs::rename(&other, &file).unwrap();
        assert!(!watched.has_changed(), "it may be written on");
        assert!(watched.has_changed() && watched.has_changed(), "until it is read");
        watched.look();
        assert!(!watched.has_changed());
        fs::remove_file(&file).unwrap();
        assert!(!watched.has_changed() && watched.has_changed());
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for version in ["v1", "v2"] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("key"), "same").unwrap();
        }
        std::os::unix::fs::symlink("v1", path("..data")).unwrap();
        std::os::unix::fs::symlink("..data/key", path("key")).unwrap();
        let mut watched = Watched::of(vec![path("key")]);
        std::os::unix::fs::symlink("v2", path("..tmp")).unwrap();
        fs::rename(path("..tmp"), path("..data")).unwrap();
        assert!(!watched.has_changed() && watched.has_changed());
    }
}
