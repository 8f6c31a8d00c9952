//! Ceasing to be root, for good and in every thread.

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, geteuid, getresgid, getresuid, setgid, setgroups, setuid};

use crate::config::Account;

/// Why this process is not whom it is to be. Nothing is received then.
#[derive(Debug, thiserror::Error)]
pub enum BecomeError {
    /// The kernel refuses.
    #[error(
        "user: cannot become {} (uid {}, gid {}): {call}: {source}; start as root, or as that user without \"user\" and \"group\"",
        account.name, account.uid, account.gid
    )]
    Refused {
        /// Whom.
        account: Account,
        /// What was refused.
        call: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The way back is open, or capabilities are left: the kernel was told to leave them (securebits).
    #[error("user: became {name}, and {what}: is it started with securebits set?")]
    NotForGood {
        /// Whom.
        name: String,
        /// What is left.
        what: &'static str,
    },
}

/// Whether this process is root.
pub(super) fn is_root() -> bool {
    geteuid().is_root()
}

/// Becomes `account`: real, effective and saved, with its groups alone and without capabilities. The C library does it for
/// all threads of the process, where there are others.
pub(super) fn become_account(account: &Account) -> Result<(), BecomeError> {
    if is_already(account) {
        return Ok(());
    }
    let refused = |call: &'static str| {
        move |errno: Errno| BecomeError::Refused { account: account.clone(), call, source: errno.into() }
    };
    let groups: Vec<Gid> = account.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(refused("setgroups"))?;
    setgid(Gid::from_raw(account.gid)).map_err(refused("setgid"))?;
    setuid(Uid::from_raw(account.uid)).map_err(refused("setuid"))?;
    if account.uid == 0 {
        return Ok(());
    }
    let left = |what| BecomeError::NotForGood { name: account.name.clone(), what };
    if setuid(Uid::from_raw(0)).is_ok() {
        return Err(left("can become root again"));
    }
    if has_capabilities() { Err(left("has capabilities still")) } else { Ok(()) }
}

/// A service manager may have started it as that user, with capabilities that it is to keep.
fn is_already(account: &Account) -> bool {
    let uid = Uid::from_raw(account.uid);
    let gid = Gid::from_raw(account.gid);
    let users = getresuid().is_ok_and(|ids| (ids.real, ids.effective, ids.saved) == (uid, uid, uid));
    let groups = getresgid().is_ok_and(|ids| (ids.real, ids.effective, ids.saved) == (gid, gid, gid));
    users && groups && account.uid != 0
}

/// Whether any capability can be used, as /proc has it; not known where there is none.
fn has_capabilities() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut sets = status.lines().filter_map(|line| {
        let (name, set) = line.split_once(':')?;
        matches!(name, "CapPrm" | "CapEff" | "CapAmb").then(|| set.trim())
    });
    sets.any(|set| set.contains(|digit: char| digit != '0'))
}
