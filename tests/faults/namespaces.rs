//! Network namespaces of our own, and what makes a thread live in one.
#![expect(unsafe_code, reason = "setns(2) and the ioctl that makes a TUN device have no safe wrapper")]

use std::fs::{File, OpenOptions};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{io, thread};

use tokio::io::unix::AsyncFd;

use crate::support::disk::run;

/// What every name begins with; the process's id follows, so that runs beside each other do not meet.
const PREFIX: &str = "forebay-road-";
/// Where `ip netns` keeps them.
const NAMED: &str = "/run/netns";
/// What `ip netns exec` puts in place of the files of the same name in `/etc`.
const ETC: &str = "/etc/netns";
/// The device's name inside.
const DEVICE: &str = "road";

/// A network namespace with a name; it and its files in `/etc/netns` go when this is dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new one, its loopback up. The error says why this machine has none to give.
    pub fn new(role: &str) -> Result<Self, String> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{PREFIX}{}-{}-{role}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        run("ip", &["netns", "add", &name])?;
        let made = Self { name };
        made.ip(&["link", "set", "lo", "up"])?;
        Ok(made)
    }

    /// What `ip netns exec` is to be told.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` inside.
    pub fn ip(&self, arguments: &[&str]) -> Result<(), String> {
        run("ip", &[&["-n", &self.name], arguments].concat())
    }

    /// Runs `work` on a thread of its own inside. Threads and processes that it starts are inside as well, and so are
    /// sockets that it opens, whoever uses them.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter().unwrap();
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into it.
    fn enter(&self) -> io::Result<()> {
        let namespace = File::open(Path::new(NAMED).join(&self.name))?;
        // SAFETY: setns takes a descriptor, which is open here, and a constant; it touches no memory of ours.
        match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Gives it a TUN device with these addresses of a /24, and returns the device's other end: what the kernel sends is
    /// read from it a packet at a time, what is written to it the kernel receives. Checksums are whole and no packet is
    /// larger than the MTU, as no offload was asked for.
    pub fn device(&self, addresses: &[Ipv4Addr]) -> Result<File, String> {
        let device = self.inside(open_tun).map_err(|error| format!("/dev/net/tun: {error}"))?;
        for address in addresses {
            self.ip(&["addr", "add", &format!("{address}/24"), "dev", DEVICE])?;
        }
        self.ip(&["link", "set", DEVICE, "up"])?;
        Ok(device)
    }

    /// Sets `net.ipv4.NAME` inside.
    pub fn set(&self, name: &str, value: &str) -> Result<(), String> {
        let file = format!("/proc/sys/net/ipv4/{name}");
        self.inside(|| std::fs::write(&file, value)).map_err(|error| format!("{file}: {error}"))
    }

    /// Programs that `ip netns exec` starts inside find this in place of `/etc/NAME`.
    pub fn etc(&self, name: &str, text: &str) -> Result<(), String> {
        let folder = self.etc_folder();
        let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join(name), text));
        written.map_err(|error| format!("{}: {error}", folder.display()))
    }

    fn etc_folder(&self) -> PathBuf {
        Path::new(ETC).join(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(self.etc_folder()));
        if let Err(error) = run("ip", &["netns", "del", &self.name]) {
            println!("left behind: {error}");
        }
    }
}

/// Removes what test processes left behind that were killed.
pub fn remove_left_behind() {
    for folder in [NAMED, ETC] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
            if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
                // Another test process may do the same now.
                drop(Namespace { name });
            }
        }
    }
}

fn open_tun() -> io::Result<File> {
    let options = libc::O_NONBLOCK | libc::O_CLOEXEC;
    let device = OpenOptions::new().read(true).write(true).custom_flags(options).open("/dev/net/tun")?;
    // SAFETY: ifreq is plain old data, for which zeros are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(DEVICE.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open, and TUNSETIFF reads and writes one ifreq, which lives until it returns.
    match unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(device),
    }
}

/// Registers a device with the runtime's reactor.
pub fn watch(device: File) -> AsyncFd<File> {
    // SAFETY: a File stays open, and its descriptor the same, for as long as it lives, and AsyncFd keeps it.
    unsafe { AsyncFd::register(device) }.unwrap()
}
