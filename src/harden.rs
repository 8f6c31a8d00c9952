//! What the process gives up between binding its sockets and reading the first message: root, new privileges, system calls
//! that it never makes, files that it has no business with.
//!
//! All of this is to be done before the process has a second thread: a fence (Landlock) is put around one thread and those
//! that it starts. What the kernel does not have is told and done without; what `user` asks for is done or nothing runs.

use std::fmt;
use std::path::{Path, PathBuf};

use tracing::{debug, info, warn};

use crate::config::{Account, Config, Hardening, Protocol};

pub use account::BecomeError;
pub use fence::{Access, Fence};

mod account;
mod belongings;
mod fence;
mod syscalls;

/// Why nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum HardenError {
    /// The process does not become whom it is to be.
    #[error("{0}")]
    Become(#[from] BecomeError),
    /// As that user it could not do what the configuration asks for; all of it is listed.
    #[error("{}", .0.join("\n"))]
    OutOfReach(Vec<String>),
}

/// Whether one kind of protection is in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Held {
    /// The configuration turns it off, or nobody asked for it.
    #[default]
    Off,
    /// It is; with the version of the kernel's interface, where that says something.
    On(Option<u8>),
    /// The kernel does not have it, or refuses it: why.
    Unavailable(String),
}

/// What holds for the rest of the process's life.
#[derive(Debug, Default)]
pub struct Standing {
    /// Name or number of the user that it has become, where it was told to.
    pub account: Option<Account>,
    /// It is root, and stays so.
    pub is_root: bool,
    gave_up_root: bool,
    /// No program that it could start would get more rights than it has.
    pub no_new_privs: Held,
    /// System calls that a relay never makes are refused.
    pub seccomp: Held,
    /// Files that it has no business with are refused.
    pub landlock: Held,
    fence: Option<Fence>,
}

impl Held {
    /// Whether it is in force.
    pub fn is_on(&self) -> bool {
        matches!(self, Self::On(_))
    }
}

impl fmt::Display for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => formatter.write_str("off"),
            Self::On(None) => formatter.write_str("on"),
            Self::On(Some(version)) => write!(formatter, "on (ABI {version})"),
            Self::Unavailable(why) => write!(formatter, "not supported: {why}"),
        }
    }
}

impl Standing {
    /// Why `access` to a file that was not in the configuration when the process started cannot work any more; `None` where
    /// nothing stands against it here (owners and modes still may).
    pub fn refusal(&self, path: &Path, access: Access) -> Option<String> {
        let fence = self.fence.as_ref().filter(|fence| !fence.covers(path, access))?;
        debug!(?fence, path = %path.display(), "outside of the fence");
        Some(format!(
            "{} is outside of the folders that this process may use (hardening.landlock): needs a restart",
            path.display()
        ))
    }

    /// The same of a unix socket that is to be made at `path`.
    pub fn socket_refusal(&self, path: &Path) -> Option<String> {
        self.fence.as_ref().filter(|fence| !fence.covers_socket(path))?;
        Some(format!(
            "{} is outside of the folders that this process may make sockets in (hardening.landlock): needs a restart",
            path.display()
        ))
    }

    /// A line more for a report that says of a file that it cannot be read, where that may be because of what this process
    /// gave up.
    pub fn explanation(&self, report: &[String]) -> Option<String> {
        let denied = std::io::Error::from_raw_os_error(libc::EACCES).to_string();
        let may_be = (self.gave_up_root || self.fence.is_some()) && report.iter().any(|line| line.contains(&denied));
        may_be.then(|| {
            "the running process keeps to the files and folders that it started with (hardening.landlock, user): where a file \
             itself may be read, restart the relay"
                .to_owned()
        })
    }

    /// Why a port below 1024 cannot be bound any more; `None` where it can, as far as this process knows.
    pub fn port_refusal(&self, port: u16) -> Option<String> {
        let account = self.account.as_ref().filter(|_| (1..1024).contains(&port) && self.gave_up_root)?;
        Some(format!(
            "port {port} takes root, which this process gave up (it runs as {}): needs a restart",
            account.name
        ))
    }

    fn log(&self) {
        let user = match (&self.account, self.is_root) {
            (Some(account), _) => format!("{} (uid {}, gid {})", account.name, account.uid, account.gid),
            (None, true) => "root".to_owned(),
            (None, false) => "as started".to_owned(),
        };
        let (no_new_privs, seccomp, landlock) = (&self.no_new_privs, &self.seccomp, &self.landlock);
        info!(%user, %no_new_privs, %seccomp, %landlock, "hardened");
        if self.is_root && self.account.is_none() {
            warn!(
                "the relay runs as root, which it needs for nothing once its ports are bound: name a user for it (user: forebay), or \
                 start it as one; \"user: root\" says that it is meant"
            );
        }
    }
}

/// Gives up what `config` says, for good. The calling thread is to be the process's only one; `read` are the files that
/// the configuration was read from and those that it names, `sockets` those of the unix sockets that were made.
///
/// # Errors
/// See [`HardenError`]. The process may be another user by then; nothing else was given up.
pub fn confine(config: &Config, read: &[PathBuf], sockets: &[PathBuf]) -> Result<Standing, HardenError> {
    let was_root = account::is_root();
    let mut standing = Standing { account: config.user.clone(), ..Standing::default() };
    belongings::make(config);
    if let Some(account) = &config.user {
        if was_root {
            belongings::hand_over(config, sockets, account);
        }
        account::become_account(account)?;
        belongings::check(config, read, account)?;
    }
    standing.is_root = account::is_root();
    standing.gave_up_root = was_root && !standing.is_root;
    let Hardening { no_new_privs, seccomp, landlock } = config.hardening;
    if no_new_privs {
        standing.no_new_privs = held(nix::sys::prctl::set_no_new_privs(), "no_new_privs");
    }
    if landlock {
        (standing.landlock, standing.fence) = fence_in(config, read);
    }
    if seccomp {
        standing.seccomp = held(refuse_calls(), "seccomp");
    }
    standing.log();
    Ok(standing)
}

fn held<E: fmt::Display>(done: Result<(), E>, what: &str) -> Held {
    match done {
        Ok(()) => Held::On(None),
        Err(error) => {
            warn!("hardening.{what} is not in force: {error}");
            Held::Unavailable(error.to_string())
        }
    }
}

fn fence_in(config: &Config, read: &[PathBuf]) -> (Held, Option<Fence>) {
    let fence = Fence::around(config, read);
    debug!(?fence, "files");
    // Not known where there is no /proc.
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        warn!(
            others = threads - 1,
            "threads were there before the fence, and stay outside of it: this is a bug in forebay"
        );
    }
    match fence.put_up() {
        Ok(status) => match fence::version(status.landlock) {
            Ok(version) => {
                warn_of_what_is_outside(config, &fence);
                (Held::On(Some(version)), Some(fence))
            }
            Err(why) => (Held::Unavailable(why.to_owned()), None),
        },
        Err(error) => {
            warn!("hardening.landlock is not in force: {error}");
            (Held::Unavailable(error.to_string()), None)
        }
    }
}

/// A folder that is not there cannot be named to the kernel.
fn warn_of_what_is_outside(config: &Config, fence: &Fence) {
    for output in &config.outputs {
        if let Protocol::File(file) = &output.protocol
            && !fence.covers(&file.path, Access::Write)
        {
            warn!(
                "outputs.{}: the folder of {} is not there: once it is, the relay cannot write there before it is started again \
                 (hardening.landlock)",
                output.name,
                file.path.display()
            );
        }
    }
}

fn refuse_calls() -> Result<(), seccompiler::Error> {
    for filter in syscalls::filters()? {
        seccompiler::apply_filter_all_threads(&filter)?;
    }
    Ok(())
}
