//! What the process must be able to use as the user that it becomes: handed over while it is root, looked at afterwards.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, fchown, lchown};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use tracing::{info, warn};

use crate::config::{Account, Config, Protocol};

use super::HardenError;

/// Levels of folders below the spool's: `index`, `segments`, `quarantine`, and what an index that was put aside holds.
const DEPTH_MAX: usize = 4;

/// Makes the spool's folder where it is missing: a fence is put around what is there.
pub(super) fn make(config: &Config) {
    let Some(spool) = &config.spool else { return };
    if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(&spool.dir) {
        // The spool says so itself, and tries again.
        info!(dir = %spool.dir.display(), "the spool's folder cannot be made yet: {error}");
    }
}

/// Gives what is root's to `account`: the spool's folder and what is in it, files that outputs append to, and the sockets
/// `made`. What belongs to somebody else stays theirs.
pub(super) fn hand_over(config: &Config, made: &[PathBuf], account: &Account) {
    let told = |path: &Path, given: io::Result<bool>| match given {
        Ok(true) => info!(path = %path.display(), user = %account.name, "handed over"),
        Ok(false) => {}
        Err(error) => warn!(path = %path.display(), user = %account.name, "cannot be handed over: {error}"),
    };
    if let Some(spool) = &config.spool {
        told(&spool.dir, give_folder(&spool.dir, account, DEPTH_MAX));
    }
    for output in &config.outputs {
        if let Protocol::File(file) = &output.protocol {
            told(&file.path, give(&file.path, account));
        }
    }
    for socket in made {
        told(socket, give(socket, account));
    }
}

/// What is root's of a folder and all below it: commands that looked into the spool may have left files in a folder that is
/// the user's already. A folder that others can write to is left alone.
fn give_folder(folder: &Path, account: &Account, depth: usize) -> io::Result<bool> {
    let metadata = match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        metadata => metadata?,
    };
    let is_roots = metadata.uid() == 0;
    let is_ours = is_roots || metadata.uid() == account.uid;
    if !metadata.is_dir() || !is_ours || metadata.mode() & 0o022 != 0 || depth == 0 {
        return Ok(false);
    }
    let mut given = false;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        given |= if path.is_dir() { give_folder(&path, account, depth - 1)? } else { give(&path, account)? };
    }
    if is_roots {
        lchown(folder, Some(account.uid), Some(account.gid))?;
    }
    Ok(given || is_roots)
}

/// A file or socket that is root's and has no second name. A file is looked at once it is open: in a folder of the user's
/// another one may take its place meanwhile.
fn give(file: &Path, account: &Account) -> io::Result<bool> {
    let metadata = match fs::symlink_metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        metadata => metadata?,
    };
    let to_give = |metadata: &fs::Metadata| metadata.uid() == 0 && metadata.nlink() == 1;
    if !to_give(&metadata) {
        return Ok(false);
    }
    let (uid, gid) = (Some(account.uid), Some(account.gid));
    if metadata.file_type().is_socket() {
        return lchown(file, uid, gid).map(|()| true);
    }
    if !metadata.is_file() {
        return Ok(false);
    }
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(file)?;
    let metadata = open.metadata()?;
    if metadata.is_file() && to_give(&metadata) {
        return fchown(open, uid, gid).map(|()| true);
    }
    Ok(false)
}

/// Looks, as that user, whether it can write what it must write; what it cannot read again is only told: it has been read.
pub(super) fn check(config: &Config, read: &[PathBuf], account: &Account) -> Result<(), HardenError> {
    let name = &account.name;
    let mut out_of_reach = Vec::new();
    if let Some(spool) = &config.spool {
        let dir = spool.dir.display();
        if spool.dir.exists() && !may(&spool.dir, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK) {
            out_of_reach.push(format!(
                "spool.dir: user \"{name}\" cannot write to {dir}: chown -R {name} {dir}, and let it pass the folders above"
            ));
        }
    }
    for output in &config.outputs {
        let Protocol::File(file) = &output.protocol else { continue };
        let (path, folder) = (&file.path, file.path.parent().unwrap_or(&file.path));
        let may_make = may(folder, AccessFlags::W_OK | AccessFlags::X_OK);
        let is_there = fs::symlink_metadata(path).is_ok();
        if is_there && !may(path, AccessFlags::R_OK | AccessFlags::W_OK) || !is_there && !may_make {
            out_of_reach.push(format!(
                "outputs.{}: user \"{name}\" cannot write {}: give it a folder of its own (chown {name} FOLDER), or use an ACL \
                 (setfacl -m u:{name}:rwx FOLDER)",
                output.name,
                path.display()
            ));
        } else if !may_make {
            warn!(
                "outputs.{}: user \"{name}\" cannot make files in {}: no new file can be begun there (rotate); chown {name} that \
                 folder, or use another",
                output.name,
                folder.display()
            );
        }
    }
    for file in read.iter().filter(|file| !may(file, AccessFlags::R_OK)) {
        warn!(
            "user \"{name}\" cannot read {}: it is in use as it was when the relay started, and changes of it need a restart; \
             chgrp it to a group of that user and chmod 0640",
            file.display()
        );
    }
    if out_of_reach.is_empty() { Ok(()) } else { Err(HardenError::OutOfReach(out_of_reach)) }
}

fn may(path: &Path, flags: AccessFlags) -> bool {
    access(path, flags).is_ok()
}
