//! Which files the process reaches from now on (Landlock), whatever their owners and modes would let it.
//!
//! A rule is about a folder that is there now and all below it, by whatever name: what is put in its place later is outside.
//! Folders are named rather than files, because tools that change a file put another one in its place.

use std::path::{Component, Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, path_beneath_rules,
};

use crate::config::{AdminListen, Config, Listen, Protocol};

/// What is asked of the kernel: all that this version (Linux 6.10) can refuse and the running one knows. Later ones can
/// refuse connections to unix sockets, and service managers and name services are reached by these.
const KNOWN: ABI = ABI::V5;

/// What the C library, the resolver, the clock's zones and the allocator read.
const OF_THE_SYSTEM: [&str; 17] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/var/lib/sss",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/run/nscd",
    "/var/run/nscd",
    // Of other processes it shows what all may see: the kernel lets nobody behind a fence look into them.
    "/proc",
    "/sys",
    "/dev/urandom",
    "/dev/random",
    "/dev/null",
];

/// Folders that many programs share: what is right for a folder within them is too much for them.
const SHARED: [&str; 10] = [
    "/var/lib",
    "/var/spool",
    "/var/log",
    "/var/cache",
    "/var/tmp",
    "/var/db",
    "/var/opt",
    "/run/user",
    "/usr/local",
    "/etc",
];

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It is read.
    Read,
    /// It is made, written, renamed, removed.
    Write,
}

/// The rules, as paths.
#[derive(Debug, Default)]
pub struct Fence {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    /// Unix sockets are made and removed there.
    sockets: Vec<PathBuf>,
    /// Names can be listed there, and synced.
    list: Vec<PathBuf>,
}

impl Fence {
    /// What a relay of this configuration needs, which was read from these files and those that it names. Folders that are not
    /// there are left out.
    pub fn around(config: &Config, read: &[PathBuf]) -> Self {
        let mut fence = Self::default();
        fence.read.extend(OF_THE_SYSTEM.map(PathBuf::from));
        // Symbolised backtraces.
        fence.read.extend(std::env::current_exe().ok());
        // Each of them may be a link to somewhere else, which is read again when it changes.
        for file in ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime"] {
            fence.read_around(Path::new(file));
        }
        read.iter().for_each(|file| fence.read_around(file));
        for folder in config.spool.iter().map(|spool| spool.dir.as_path()) {
            fence.write_around(folder);
        }
        for output in &config.outputs {
            match &output.protocol {
                Protocol::File(file) if folder_of(&file.path).exists() => fence.write.push(folder_of(&file.path)),
                // It is made later.
                Protocol::File(file) => fence.write_around(&folder_of(&file.path)),
                _ => {}
            }
        }
        fence.sockets.extend(unix_sockets(config).map(folder_of));
        for paths in [&mut fence.read, &mut fence.write, &mut fence.sockets, &mut fence.list] {
            paths.retain(|path| path.exists());
            paths.iter_mut().for_each(|path| *path = path.canonicalize().unwrap_or_else(|_| path.clone()));
            paths.sort();
            paths.dedup();
        }
        fence
    }

    /// Whether a relay within this fence may do that with a file, as far as the fence has a say. What is not there yet is
    /// judged by the folder that it would be in.
    pub fn covers(&self, path: &Path, access: Access) -> bool {
        let place = nearest(&absolute(path));
        let within = |paths: &[PathBuf]| paths.iter().any(|root| place.starts_with(root));
        within(&self.write) || access == Access::Read && within(&self.read)
    }

    /// Whether a unix socket can be made at that path.
    pub fn covers_socket(&self, path: &Path) -> bool {
        let place = path.parent().map(|folder| nearest(&absolute(folder))).unwrap_or_default();
        [&self.sockets, &self.write].into_iter().flatten().any(|root| place.starts_with(root))
    }

    /// Puts it up around this thread, and those that it starts. There is no way back.
    ///
    /// # Errors
    /// What the kernel says; that it knows no fences is none.
    pub(super) fn put_up(&self) -> Result<RestrictionStatus, RulesetError> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let write = read | AccessFs::from_write(KNOWN) & !(AccessFs::MakeChar | AccessFs::MakeBlock);
        let sockets = AccessFs::ReadDir | AccessFs::MakeSock | AccessFs::RemoveFile;
        Ruleset::default()
            .handle_access(AccessFs::from_all(KNOWN))?
            .create()?
            .add_rules(path_beneath_rules(&self.read, read))?
            .add_rules(path_beneath_rules(&self.write, write))?
            .add_rules(path_beneath_rules(&self.sockets, sockets))?
            .add_rules(path_beneath_rules(&self.list, BitFlags::from(AccessFs::ReadDir)))?
            .restrict_self()
    }

    /// The folder of a file, and that of what it is a link to. Where that is the root of all, the file alone.
    fn read_around(&mut self, file: &Path) {
        let file = absolute(file);
        for file in [file.canonicalize().ok(), Some(file)].into_iter().flatten() {
            match file.parent() {
                Some(folder) if folder.parent().is_some() => self.read.push(folder.to_owned()),
                _ => self.read.push(file),
            }
        }
    }

    /// A folder, and the one that it is in, so that it can be made anew, or mounted again, while the relay runs: unless
    /// others share that. Where a file system begins there, also the one around.
    fn write_around(&mut self, folder: &Path) {
        let folder = absolute(folder);
        let mut outer = folder.parent();
        self.list.extend(outer.map(Path::to_owned));
        while let Some(around) = outer.filter(|around| is_our_own(around)) {
            self.write.push(around.to_owned());
            outer = if begins_file_system(around) { around.parent() } else { None };
        }
        self.write.push(folder);
    }
}

/// The version of the kernel's fences that is in force.
pub(super) fn version(status: LandlockStatus) -> Result<u8, &'static str> {
    match status {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            let known = u8::try_from(effective_abi as i32).unwrap_or_default();
            Ok(kernel_abi.and_then(|abi| u8::try_from(abi).ok()).unwrap_or(known))
        }
        LandlockStatus::NotEnabled => Err("this kernel has it and does not use it: add landlock to its lsm= list"),
        _ => Err("this kernel does not have it"),
    }
}

/// Unix sockets that are bound.
pub(super) fn unix_sockets(config: &Config) -> impl Iterator<Item = &Path> {
    let of_inputs = config.inputs.iter().flat_map(|input| &input.listen).filter_map(|listen| match listen {
        Listen::Unix(path) | Listen::UnixDatagram(path) => Some(path.as_path()),
        _ => None,
    });
    let of_admin = config.admin.iter().filter_map(|listen| match listen {
        AdminListen::Unix(path) => Some(path.as_path()),
        AdminListen::Tcp(_) => None,
    });
    of_inputs.chain(of_admin)
}

fn is_our_own(folder: &Path) -> bool {
    let depth = folder.components().filter(|component| matches!(component, Component::Normal(_))).count();
    depth >= 2 && !SHARED.iter().any(|shared| folder == Path::new(shared))
}

fn begins_file_system(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| path.metadata().map(|metadata| metadata.dev()).ok();
    folder.parent().is_some_and(|parent| device(parent) != device(folder))
}

fn folder_of(file: &Path) -> PathBuf {
    let file = absolute(file);
    file.parent().map(Path::to_owned).unwrap_or(file)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The path without links, as far as it leads somewhere.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors().find_map(|ancestor| ancestor.canonicalize().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_a_rule_is_covered_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, beside) = (folder.path().join("in"), folder.path().join("beside"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::create_dir(&beside).unwrap();
        std::os::unix::fs::symlink(&beside, inside.join("link")).unwrap();
        let inside = inside.canonicalize().unwrap();
        let fence = Fence { read: vec![inside.clone()], ..Fence::default() };
        assert!(fence.covers(&inside.join("a/b/c"), Access::Read));
        assert!(!fence.covers(&inside.join("a"), Access::Write));
        assert!(!fence.covers(&beside.join("a"), Access::Read));
        assert!(!fence.covers(&inside.join("link/a"), Access::Read), "a link leads out");
        assert!(!fence.covers_socket(&inside.join("socket")));
        let fence = Fence { write: vec![inside.clone()], ..Fence::default() };
        assert!(fence.covers(&inside.join("a"), Access::Read) && fence.covers(&inside.join("a"), Access::Write));
        assert!(fence.covers_socket(&inside.join("socket")));
    }

    #[test]
    fn folders_that_others_share_are_not_our_own() {
        for shared in ["/", "/tmp", "/data", "/var/lib", "/var/spool", "/etc"] {
            assert!(!is_our_own(Path::new(shared)), "{shared}");
        }
        for own in ["/var/lib/forebay", "/srv/forebay", "/tmp/forebay.1"] {
            assert!(is_our_own(Path::new(own)), "{own}");
        }
    }
}
