//! What the process gives up, and whom the admin server answers, as the configuration has it.

use std::path::PathBuf;

use super::secret::AdminToken;

/// `user` and `group`: whom the process becomes once everything that takes privileges is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// As the configuration has it: a name or a number.
    pub name: String,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// All of its groups, `gid` among them.
    pub groups: Vec<u32>,
}

/// Which files may hold keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFiles {
    /// Those that their owner and group alone may read, and their owner alone may change.
    Private,
    /// All; the others are warned of.
    Any,
}

/// `hardening`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hardening {
    /// No program that the process could start gets more rights than it has. The other two need it.
    pub no_new_privs: bool,
    /// System calls that a relay never makes are refused.
    pub seccomp: bool,
    /// Files outside of what the configuration names are refused.
    pub landlock: bool,
}

impl Default for Hardening {
    fn default() -> Self {
        Self { no_new_privs: true, seccomp: true, landlock: true }
    }
}

impl Hardening {
    /// `hardening: off`
    pub const OFF: Self = Self { no_new_privs: false, seccomp: false, landlock: false };
}

/// Whom the admin server answers, and what. Over a unix socket its mode decides.
#[derive(Debug, Clone, Default)]
pub struct AdminAccess {
    /// Who has it may ask for everything.
    pub token: Option<AdminToken>,
    /// HTTPS over TCP. Who presents a certificate that `client_ca` signed may ask for everything.
    pub tls: Option<super::InputTls>,
    /// What anybody may ask for, who reaches it.
    pub open: AdminOpen,
    /// Messages are shown (`/tap`, `/top`).
    pub taps: bool,
    /// Names by which it may be asked, besides addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Where `token` was read from.
    pub token_file: Option<PathBuf>,
}

/// `admin.open`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminOpen {
    /// `/metrics`
    pub metrics: bool,
    /// `/livez` and `/readyz`
    pub probes: bool,
}

impl Default for AdminOpen {
    fn default() -> Self {
        Self { metrics: true, probes: true }
    }
}

impl AdminAccess {
    /// Whether something decides who may ask for everything, besides the way that a question came.
    pub fn is_guarded(&self) -> bool {
        self.token.is_some() || self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
    }
}

impl super::AdminListen {
    /// Where it is asked.
    pub fn url(&self, by_tls: bool) -> String {
        match self {
            Self::Tcp(address) if by_tls => format!("https://{address}"),
            other => other.to_string(),
        }
    }
}
