//! Reads what a machine says of itself: /proc, /sys, and a few system calls. Changes nothing; a socket is made, and goes
//! nowhere.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Config;
use crate::sys;
use crate::time::since_epoch;

use super::facts::{Clock, Conntrack, Disk, Facts, Memory, Processors, Udp};
use super::network;

/// What is judged of /proc/sys.
const SYSCTLS: [&str; 9] = [
    "fs.nr_open",
    "net.core.netdev_max_backlog",
    "net.core.rmem_max",
    "net.core.somaxconn",
    "net.ipv4.ip_unprivileged_port_start",
    "net.netfilter.nf_conntrack_buckets",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
    "net.unix.max_dgram_qlen",
];

/// Folders of a spool are a few deep.
const FOLDERS_MAX: usize = 64;

/// Reads what `config` needs to be judged by. `root` is where proc and sys are: `/` but in tests.
pub fn read(config: &Config, root: &Path) -> Facts {
    let status = text(root, "proc/self/status");
    let sysctl = |name: &&'static str| {
        let file = format!("proc/sys/{}", name.replace('.', "/"));
        Some((*name, number(&text(root, &file)?)?))
    };
    let sysctls: BTreeMap<&'static str, u64> = SYSCTLS.iter().filter_map(sysctl).collect();
    let mounts = text(root, "proc/self/mountinfo");
    Facts {
        user: status.as_deref().and_then(user),
        capabilities: status.as_deref().and_then(capabilities),
        open_files: sys::open_files_max().ok(),
        is_sysctl_read_only: mounts.as_deref().is_some_and(|mounts| is_read_only(mounts, Path::new("/proc/sys/net"))),
        receive_buffer: network::receive_buffer_wanted(config).and_then(receive_buffer),
        udp: udp(root),
        softnet_dropped: text(root, "proc/net/softnet_stat").and_then(|text| softnet_dropped(&text)),
        conntrack: conntrack(&sysctls, text(root, "proc/net/stat/nf_conntrack").as_deref()),
        clock: Some(Clock {
            now: since_epoch(),
            kept: sys::clock_state()
                .ok()
                .map(|state| (state.is_synchronised, Duration::from_micros(state.error_max_us))),
        }),
        disk: config.spool.as_ref().and_then(|spool| disk(&spool.dir, mounts.as_deref())),
        memory: Memory {
            machine: text(root, "proc/meminfo").as_deref().and_then(memory_total),
            limit: lowest(root, "memory", &["memory.max", "memory.limit_in_bytes"], |folder, file| {
                number(&fs::read_to_string(folder.join(file)).ok()?)
            }),
        },
        processors: Processors {
            usable: std::thread::available_parallelism().ok().map(usize::from),
            limit: lowest(root, "cpu", &["cpu.max", "cpu.cfs_quota_us"], processor_time),
        },
        sysctls,
    }
}

fn text(root: &Path, path: &str) -> Option<String> {
    fs::read_to_string(root.join(path)).ok()
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A line `NAME: …` of /proc/self/status.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The effective one of real, effective, saved and file system's.
fn user(status: &str) -> Option<u32> {
    field(status, "Uid")?.split_whitespace().nth(1)?.parse().ok()
}

fn capabilities(status: &str) -> Option<u64> {
    u64::from_str_radix(field(status, "CapEff")?, 16).ok()
}

/// What a socket gets that asks for `bytes`. Of a unix socket: all kinds have the same bounds, and this one needs no network.
fn receive_buffer(bytes: u64) -> Option<u64> {
    let socket = UnixDatagram::unbound().ok()?;
    let given = sys::grow_receive_buffer(socket.as_fd(), usize::try_from(bytes).ok()?).ok()?;
    Some(given as u64)
}

/// A table of two lines a protocol, names and numbers (`snmp`), and one of a line a name (`snmp6`), added up.
fn udp(root: &Path) -> Option<Udp> {
    let old = text(root, "proc/net/snmp").unwrap_or_default();
    let new = text(root, "proc/net/snmp6").unwrap_or_default();
    let mut rows = old.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, numbers) = (rows.next().unwrap_or_default(), rows.next().unwrap_or_default());
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for (name, count) in names.split_whitespace().zip(numbers.split_whitespace()) {
        *counts.entry(name.to_owned()).or_default() += count.parse().unwrap_or(0);
    }
    for line in new.lines().filter_map(|line| line.strip_prefix("Udp6")) {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(count)) = (words.next(), words.next()) {
            *counts.entry(name.to_owned()).or_default() += count.parse().unwrap_or(0);
        }
    }
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    (!counts.is_empty()).then(|| Udp {
        received: count("InDatagrams"),
        buffer_errors: count("RcvbufErrors"),
        memory_errors: count("MemErrors"),
        checksum_errors: count("InCsumErrors"),
    })
}

/// The second column of each processor's line, in hex.
fn softnet_dropped(text: &str) -> Option<u64> {
    let dropped = text.lines().map(|line| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok());
    dropped.sum()
}

fn conntrack(sysctls: &BTreeMap<&'static str, u64>, stat: Option<&str>) -> Option<Conntrack> {
    let of = |name| sysctls.get(name).copied();
    Some(Conntrack {
        count: of("net.netfilter.nf_conntrack_count")?,
        max: of("net.netfilter.nf_conntrack_max")?,
        dropped: stat.and_then(conntrack_dropped),
    })
}

/// The column `drop` of a table of a line a processor, in hex. (`early_drop` gave way to others, and nothing was lost.)
fn conntrack_dropped(stat: &str) -> Option<u64> {
    let mut lines = stat.lines();
    let column = lines.next()?.split_whitespace().position(|name| name == "drop")?;
    lines.map(|line| u64::from_str_radix(line.split_whitespace().nth(column)?, 16).ok()).sum()
}

fn memory_total(meminfo: &str) -> Option<u64> {
    let kib = number(field(meminfo, "MemTotal")?.strip_suffix("kB")?)?;
    kib.checked_mul(1024)
}

/// Mount points with their options and kinds, from mountinfo: `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS … - KIND SOURCE …`.
fn mounts(mountinfo: &str) -> impl Iterator<Item = (PathBuf, &str, &str)> {
    mountinfo.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut words = mount.split(' ').skip(4);
        // A blank in a path is written in octal.
        let point = words.next()?.replace("\\040", " ");
        Some((PathBuf::from(point), words.next()?, file_system.split(' ').next()?))
    })
}

/// The mount that `path` lies in: the deepest, and of those at one place the last.
fn mount_of<'a>(mountinfo: &'a str, path: &Path) -> Option<(&'a str, &'a str)> {
    let around = mounts(mountinfo).filter(|(point, _, _)| path.starts_with(point));
    around.max_by_key(|(point, _, _)| point.components().count()).map(|(_, options, kind)| (options, kind))
}

fn is_read_only(mountinfo: &str, path: &Path) -> bool {
    mount_of(mountinfo, path).is_some_and(|(options, _)| options.split(',').any(|option| option == "ro"))
}

fn disk(dir: &Path, mountinfo: Option<&str>) -> Option<Disk> {
    let folder = dir.ancestors().find(|folder| folder.is_dir())?;
    let real = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    Some(Disk {
        free: sys::disk_free(folder).ok()?,
        used: if folder == dir { used(dir) } else { 0 },
        kind: mountinfo.and_then(|mounts| mount_of(mounts, &real)).map(|(_, kind)| kind.to_owned()),
        refused: sys::may_write(folder).err().map(|error| error.to_string()),
        folder: folder.to_owned(),
    })
}

/// Octets that everything in a folder takes on the disk, as `du` counts them; what may not be read counts as nothing.
fn used(dir: &Path) -> u64 {
    let (mut folders, mut octets, mut seen) = (vec![dir.to_owned()], 0, 0);
    while let Some(folder) = folders.pop().filter(|_| seen < FOLDERS_MAX) {
        seen += 1;
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => octets += metadata.blocks() * 512,
                Err(_) => {}
            }
        }
    }
    octets
}

/// The lowest limit of this process's control group of a controller and of those above it, by whichever of `files` is there
/// (version 2's, version 1's), and the file that has it.
fn lowest<T: PartialOrd>(
    root: &Path,
    controller: &str,
    files: &[&str],
    value: impl Fn(&Path, &str) -> Option<T>,
) -> Option<(T, PathBuf)> {
    let groups = text(root, "proc/self/cgroup")?;
    let mut lowest: Option<(T, PathBuf)> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        if !controllers.is_empty() && !controllers.split(',').any(|each| each == controller) {
            continue;
        }
        // Version 2 has no name, and lies at the top where it is alone; in a container the path is often another one's.
        let top = root.join("sys/fs/cgroup");
        let top = if controllers.is_empty() { top } else { top.join(controllers) };
        let own = top.join(path.trim_start_matches('/'));
        for folder in own.ancestors().take_while(|folder| folder.starts_with(&top)) {
            for file in files {
                if let Some(value) = value(folder, file)
                    && lowest.as_ref().is_none_or(|(least, _)| value < *least)
                {
                    lowest = Some((value, folder.join(file)));
                }
            }
        }
    }
    lowest
}

/// Processors' worth of time: `QUOTA PERIOD` in one file, or in two. `max` and -1 are no limit.
fn processor_time(folder: &Path, file: &str) -> Option<f64> {
    let text = fs::read_to_string(folder.join(file)).ok()?;
    let (quota, period) = match text.trim().split_once(' ') {
        Some((quota, period)) => (quota.to_owned(), period.to_owned()),
        None => (text.trim().to_owned(), fs::read_to_string(folder.join("cpu.cfs_period_us")).ok()?),
    };
    let (quota, period) = (quota.parse::<u32>().ok()?, period.trim().parse::<u32>().ok().filter(|period| *period > 0)?);
    Some(f64::from(quota) / f64::from(period))
}

#[cfg(test)]
mod tests;
