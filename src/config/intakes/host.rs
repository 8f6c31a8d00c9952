//! What there is around the file: the machine, the container, what the forwarder has left behind. Looks, and changes nothing.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path as FilePath, PathBuf};

use crate::config::limits;
use crate::config::report::{Mistakes, Position};

/// Ours, beside the forwarder's.
const SPOOL: &str = "/var/spool/forebay";

/// The forwarder's: left as it is.
const RSYSLOG_SPOOL: &str = "/var/spool/rsyslog";

/// Where the forwarder takes rsyslog configurations of its user's from.
const EXTENDED: &str = "/extended_conf";

/// Where a disk queue can be kept: the system's folder, or the user's own.
pub(super) fn spool_folder(state_home: Option<PathBuf>, notes: &mut Mistakes) -> Option<PathBuf> {
    let system = FilePath::new(SPOOL);
    if may_write(system) {
        return Some(system.to_owned());
    }
    let own = state_home.map(|home| home.join("forebay"));
    let message = match &own {
        Some(own) => {
            format!("cannot be made by this user: the disk queue is in {} (or in FOREBAY_SPOOL)", own.display())
        }
        None => "cannot be made by this user: there is no disk queue; set FOREBAY_SPOOL".to_owned(),
    };
    notes.add(&place(system), &"", message);
    own
}

/// Whether this user may write in a folder, or make it. The bits decide: a file system that is mounted read-only is found
/// out when it is used, and told then.
fn may_write(folder: &FilePath) -> bool {
    let Ok(user) = fs::metadata("/proc/self").map(|own| own.st_uid()) else { return false };
    let existing = folder.ancestors().find_map(|folder| fs::metadata(folder).ok());
    existing.is_some_and(|found| {
        let is_owner = found.st_uid() == user && found.st_mode() & 0o200 != 0;
        user == 0 || is_owner || found.st_mode() & 0o002 != 0
    })
}

/// Whether this machine speaks IPv6 at all.
pub(super) fn has_ipv6() -> bool {
    FilePath::new("/proc/net/if_inet6").exists()
}

/// Octets that this process may come to have: the container's limit, or the machine's memory.
pub(super) fn memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text));
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    machine.into_iter().chain(limit).min()
}

/// `MemTotal` of proc(5), in octets.
fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * limits::KIB)
}

/// What whoever changes the image's name should know.
pub(super) fn look(spool: Option<&FilePath>, notes: &mut Mistakes) {
    if let Some(spool) = spool
        && fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| is_in_container_layer(spool, &mounts))
    {
        let message = "lies in the container itself and goes with it: mount a volume there, so that what waits survives \
                       another container";
        notes.add(&place(spool), &"", message);
    }
    if let Some(name) = names_in(RSYSLOG_SPOOL).into_iter().find(|name| is_queue_of_rsyslog(name)) {
        let message =
            format!("holds messages that rsyslog has not sent ({name}): start the forwarder once more to send them");
        notes.add(&place(FilePath::new(RSYSLOG_SPOOL)), &"", message);
    }
    for name in names_in(EXTENDED).into_iter().filter(|name| name.ends_with(".conf")) {
        let message = "an rsyslog configuration, not read here: docs/MIGRATION.md says what to do with it";
        notes.add(&place(&FilePath::new(EXTENDED).join(name)), &"", message);
    }
}

fn names_in(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// `sekoia_NAME_queue.00000001`; beside it `….qi`, which stays when all is sent.
fn is_queue_of_rsyslog(name: &str) -> bool {
    let parts = name.strip_prefix("sekoia_").and_then(|rest| rest.rsplit_once("queue."));
    parts.is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|each| each.is_ascii_digit()))
}

/// Whether a folder lies on the root of an overlay, which is what a container's own files are. `mounts` is a
/// `/proc/self/mountinfo`: proc_pid_mountinfo(5).
fn is_in_container_layer(folder: &FilePath, mounts: &str) -> bool {
    let mut best: Option<(usize, bool)> = None;
    for line in mounts.lines() {
        let Some((head, tail)) = line.split_once(" - ") else { continue };
        let Some(point) = head.split(' ').nth(4).map(FilePath::new) else { continue };
        if folder.starts_with(point) {
            let depth = point.components().count();
            if best.is_none_or(|(deepest, _)| depth >= deepest) {
                best = Some((depth, depth == 1 && tail.starts_with("overlay ")));
            }
        }
    }
    best.is_some_and(|(_, is_layer)| is_layer)
}

fn place(path: &FilePath) -> Position {
    Position { rank: usize::MAX, file: path.display().to_string().into(), line: 0, column: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTAINER: &str = "611 610 0:54 / / rw,relatime master:301 - overlay overlay rw,lowerdir=/a\n\
                             612 611 0:57 / /proc rw,nosuid - proc proc rw\n\
                             630 611 8:1 /srv/queue /var/spool/rsyslog rw,relatime - ext4 /dev/sda1 rw\n";

    #[test]
    fn a_folder_without_a_volume_goes_with_its_container() {
        let volume = "631 611 8:1 /srv/own /var/spool/forebay rw - ext4 /dev/sda1 rw\n";
        let machine = "20 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n";
        let spool = FilePath::new(SPOOL);
        assert!(is_in_container_layer(spool, CONTAINER));
        assert!(!is_in_container_layer(spool, &format!("{CONTAINER}{volume}")));
        assert!(!is_in_container_layer(FilePath::new("/var/spool/rsyslog/forebay"), CONTAINER));
        assert!(!is_in_container_layer(spool, machine));
        assert!(!is_in_container_layer(spool, "nonsense\n"));
    }

    #[test]
    fn queues_of_rsyslog_are_known_by_their_files() {
        for (name, is_one) in [
            ("sekoia_techno1_queue.00000001", true),
            ("sekoia_queue.00000001", true),
            ("sekoia_techno1_queue.qi", false),
            ("sekoia_techno1_queue.", false),
            ("imfile-state", false),
        ] {
            assert_eq!(is_queue_of_rsyslog(name), is_one, "{name}");
        }
    }

    #[test]
    fn the_memory_of_the_machine_is_known() {
        assert_eq!(total_of("MemTotal:        4024960 kB\nMemFree: 1 kB\n"), Some(4_024_960 * 1_024));
        assert_eq!(total_of("MemFree: 1 kB\n"), None);
        assert!(memory().is_some_and(|memory| memory > 64 << 20));
    }
}
