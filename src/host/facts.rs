//! What was read of a machine. Whatever could not be read is `None`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What was read, by whom.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Effective user.
    pub user: Option<u32>,
    /// Effective capabilities, a bit each (`capabilities(7)`).
    pub capabilities: Option<u64>,
    /// The hard limit of open files: the relay raises its soft one to it.
    pub open_files: Option<u64>,
    /// Numbers of /proc/sys, by the names that sysctl(8) has for them.
    pub sysctls: BTreeMap<&'static str, u64>,
    /// /proc/sys is mounted read-only, as in most containers.
    pub is_sysctl_read_only: bool,
    /// What a socket of this process was given that asked for the largest receive buffer that the configuration asks for; in
    /// the kernel's own accounting, which doubles.
    pub receive_buffer: Option<u64>,
    /// UDP's counters.
    pub udp: Option<Udp>,
    /// Packets that found the queue between the network's interrupt and its processing full.
    pub softnet_dropped: Option<u64>,
    /// The firewall's table of connections.
    pub conntrack: Option<Conntrack>,
    /// The clock.
    pub clock: Option<Clock>,
    /// Where the spool lies, or would.
    pub disk: Option<Disk>,
    /// Memory.
    pub memory: Memory,
    /// Processors.
    pub processors: Processors,
}

/// UDP over IPv4 and IPv6, all sockets of this network namespace, since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Udp {
    /// Datagrams that were delivered.
    pub received: u64,
    /// Met a full receive buffer.
    pub buffer_errors: u64,
    /// Met `net.ipv4.udp_mem`.
    pub memory_errors: u64,
    /// Had a wrong checksum.
    pub checksum_errors: u64,
}

/// `nf_conntrack`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conntrack {
    /// Entries.
    pub count: u64,
    /// Entries at most.
    pub max: u64,
    /// Packets dropped because there was no entry for them, since the start; `None` where only root may read that.
    pub dropped: Option<u64>,
}

/// The clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// What it says: time since 1970.
    pub now: Duration,
    /// Whether something keeps it in step, and by how much it may be wrong at most then.
    pub kept: Option<(bool, Duration)>,
}

/// The spool's file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The spool's folder, or the nearest one above it that exists.
    pub folder: PathBuf,
    /// Octets that an ordinary user may still write.
    pub free: u64,
    /// Octets that the spool takes already.
    pub used: u64,
    /// Kind of file system, as mount(8) has it.
    pub kind: Option<String>,
    /// Why this user may not write there.
    pub refused: Option<String>,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Octets of the machine.
    pub machine: Option<u64>,
    /// Octets of the control group, and the file that says so; `None`: no limit was found.
    pub limit: Option<(u64, PathBuf)>,
}

/// Processors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Processors {
    /// Those that this process may run on.
    pub usable: Option<usize>,
    /// Processors' worth of time that the control group has, and the file that says so; `None`: no limit was found.
    pub limit: Option<(f64, PathBuf)>,
}

/// `CAP_NET_BIND_SERVICE`: ports below `net.ipv4.ip_unprivileged_port_start`.
const CAP_NET_BIND_SERVICE: u32 = 10;
/// `CAP_NET_ADMIN`: receive buffers beyond `net.core.rmem_max`, among other things.
const CAP_NET_ADMIN: u32 = 12;

impl Facts {
    /// A number of /proc/sys.
    pub fn sysctl(&self, name: &str) -> Option<u64> {
        self.sysctls.get(name).copied()
    }

    /// Whether low ports may be bound by privilege; `None` where capabilities could not be read.
    pub fn may_bind_low_ports(&self) -> Option<bool> {
        self.has_capability(CAP_NET_BIND_SERVICE)
    }

    /// Whether `CAP_NET_ADMIN` is there.
    pub fn is_network_admin(&self) -> Option<bool> {
        self.has_capability(CAP_NET_ADMIN)
    }

    fn has_capability(&self, number: u32) -> Option<bool> {
        self.capabilities.map(|set| set & (1 << number) != 0)
    }
}
