//! What the process needs besides the network: files, time, disk, memory, processors.

use std::path::Path;
use std::time::Duration;

use crate::config::units::about_size;
use crate::config::{Config, Listen, SpoolFull};

use super::facts::{Clock, Disk, Facts};
use super::network::receive_buffer_wanted;
use super::report::{Finding, Verdict};

/// Open files of everything but sockets of inputs and outputs: the log, the spool's segments and index, the resolver,
/// runtimes, certificates as they are read, the admin server's own.
const FILES_BESIDES: u64 = 256;

/// With fewer it does not get by, whoever connects.
const FILES_LEAST: u64 = 512;

/// By more than that a clock that is kept in step should not be wrong.
const CLOCK_ERROR: Duration = Duration::from_secs(1);

/// No clock that is right is before this version was made: 2026-01-01.
const CLOCK_FIRST: Duration = Duration::from_secs(1_767_225_600);

/// Kinds of file systems that are gone with the container, or with the power.
const FLEETING: [(&str, &str); 3] = [
    ("overlay", "the container's own layer, which is gone with it"),
    ("tmpfs", "memory, which is gone with the machine's power and counts against its limit"),
    ("ramfs", "memory, which is gone with the machine's power"),
];

/// Kinds that lie on other machines.
const REMOTE: [&str; 6] = ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p"];

/// Those that concern `config`.
pub(super) fn judge(config: &Config, facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![open_files(config, facts), clock(config, facts)];
    findings.extend(disk(config, facts));
    findings.extend([memory(config, facts), processors(config, facts)]);
    findings
}

/// What `config` may open at the same time.
fn files_wanted(config: &Config) -> u64 {
    let shards = config.cores as u64;
    let is_stream = |listen: &Listen| !matches!(listen, Listen::Udp(_) | Listen::UnixDatagram(_));
    let of_inputs = config.inputs.iter().map(|input| {
        let takes_connections = input.listen.iter().any(is_stream);
        // A datagram socket is registered with the reactor by a second descriptor.
        input.listen.len() as u64 * shards * 2 + if takes_connections { input.max_connections as u64 } else { 0 }
    });
    // A connection that is tried beside another, and one that looks whether a better target is back.
    let of_outputs = config.outputs.iter().map(|output| output.connections_per_shard as u64 * shards * 3);
    of_inputs.chain(of_outputs).sum::<u64>() + FILES_BESIDES
}

fn open_files(config: &Config, facts: &Facts) -> Finding {
    const SUBJECT: &str = "open_files";
    let files = files_wanted(config);
    let wanted = format!(
        "{files}: max_connections of all inputs together, sockets of {} shard(s), outputs, the spool; a sender that finds none left \
         is not served",
        config.cores
    );
    let Some(limit) = facts.open_files else { return Finding::unreadable(SUBJECT, "the limit of open files", wanted) };
    let mut read = format!("the hard limit is {limit}; the relay raises its soft one to it");
    if let Some(ceiling) = facts.sysctl("fs.nr_open") {
        read.push_str(&format!("; fs.nr_open is {ceiling}"));
    }
    let finding = Finding::ok(SUBJECT, read, wanted);
    if limit >= files {
        return finding;
    }
    let mut next = vec![
        format!("by systemd: `LimitNOFILE={files}` in the unit's [Service]"),
        format!("in a container: `docker run --ulimit nofile={files}`; by hand: `ulimit -Hn {files}` as root"),
        "or lower max_connections to what there are senders".to_owned(),
    ];
    if facts.sysctl("fs.nr_open").is_some_and(|ceiling| ceiling < files) {
        next.insert(0, format!("first, because no limit goes beyond it: `sudo sysctl -w fs.nr_open={files}`"));
    }
    finding.but(if limit < FILES_LEAST { Verdict::Problem } else { Verdict::Advice }, next)
}

fn clock(config: &Config, facts: &Facts) -> Finding {
    const SUBJECT: &str = "clock";
    let has_tls = config.outputs.iter().any(|output| output.tls.is_some());
    let wanted = format!(
        "kept in step: messages that carry no time, or no year, get this one{}",
        if has_tls { ", and certificates are judged by it" } else { "" }
    );
    let Some(Clock { now, kept }) = facts.clock else { return Finding::unreadable(SUBJECT, "the clock", wanted) };
    if now < CLOCK_FIRST {
        let read = format!("it says {} s since 1970, which is before this program was made", now.as_secs());
        let next = vec![
            "set it (`sudo date -s …`), and have it kept: `sudo timedatectl set-ntp true`, or install chrony"
                .to_owned(),
        ];
        return Finding::ok(SUBJECT, read, wanted).but(Verdict::Problem, next);
    }
    let Some((is_kept, error_max)) = kept else {
        return Finding::unreadable(SUBJECT, "whether it is kept in step (adjtimex)", wanted);
    };
    let next = |line: &str| vec![line.to_owned(), "then look: `timedatectl`, `chronyc tracking`".to_owned()];
    let error = error_max.as_secs_f64();
    match (is_kept, error_max <= CLOCK_ERROR) {
        (true, true) => Finding::ok(SUBJECT, format!("the kernel has it kept, to {error:.3} s at most"), wanted),
        (true, false) => Finding::ok(SUBJECT, format!("the kernel has it kept, but it may be wrong by {error:.1} s"), wanted)
            .but(Verdict::Advice, next("look at the time servers and the way to them (UDP port 123)")),
        (false, _) => Finding::ok(SUBJECT, "the kernel says that nothing keeps it in step", wanted).but(
            Verdict::Advice,
            next(
                "`sudo timedatectl set-ntp true`, or install chrony (in a container: on the machine that runs it); a virtual \
                 machine whose clock is its host's says the same and is well if the host's is kept",
            ),
        ),
    }
}

fn disk(config: &Config, facts: &Facts) -> Vec<Finding> {
    const SUBJECT: &str = "spool_disk";
    let Some(spool) = &config.spool else { return Vec::new() };
    let when_full = match spool.when_full {
        SpoolFull::Block => "senders wait and datagrams are lost",
        SpoolFull::DropOldest | SpoolFull::DropNewest => "messages are dropped",
    };
    let wanted = format!(
        "{} for {} (max_size) and {} left to others (min_free): where the disk is full before the spool is, {when_full} earlier than \
         the configuration says",
        about_size(spool.max_size),
        spool.dir.display(),
        about_size(spool.min_free)
    );
    let Some(disk) = &facts.disk else {
        return vec![Finding::unreadable(SUBJECT, &spool.dir.display().to_string(), wanted)];
    };
    let Disk { folder, free, used, kind, .. } = disk;
    let mut read = format!("{} free at {}", about_size(*free), folder.display());
    if *used > 0 {
        read.push_str(&format!(", {} in the spool already", about_size(*used)));
    }
    let missing = spool.max_size.saturating_sub(*used).saturating_add(spool.min_free).saturating_sub(*free);
    let finding = Finding::ok(SUBJECT, read, wanted);
    let room = if missing == 0 {
        finding
    } else {
        // What it can hold as the disk is.
        let holds = used.saturating_add(free.saturating_sub(spool.min_free)) / (1 << 20);
        let next = vec![
            format!("a larger disk, best one of its own for {}: {} more", spool.dir.display(), about_size(missing)),
            format!("or a budget that it covers: `spool: {{max_size: {holds}MiB}}`"),
        ];
        finding.but(if *free <= spool.min_free { Verdict::Problem } else { Verdict::Advice }, next)
    };
    let mut findings = vec![room];
    findings.extend(kind.as_ref().and_then(|kind| lasting(kind, folder.display().to_string())));
    findings.push(writable(&spool.dir, disk));
    findings
}

/// Whether what is written there is there tomorrow.
fn lasting(kind: &str, folder: String) -> Option<Finding> {
    const SUBJECT: &str = "spool_file_system";
    let wanted = "a disk of this machine: what waits there is to outlive the process";
    let read = format!("{folder} is on {kind}");
    if let Some((_, why)) = FLEETING.iter().find(|(fleeting, _)| *fleeting == kind) {
        let next = vec![
            "mount a disk there (`docker run -v forebay-spool:…`, a PersistentVolumeClaim), or point spool.dir at one"
                .to_owned(),
        ];
        return Some(Finding::ok(SUBJECT, format!("{read}: {why}"), wanted).but(Verdict::Problem, next));
    }
    if REMOTE.contains(&kind) {
        let next = vec![
            "point spool.dir at a local disk: locks and syncs of network file systems are not to be relied on"
                .to_owned(),
        ];
        return Some(Finding::ok(SUBJECT, read, wanted).but(Verdict::Advice, next));
    }
    Some(Finding::ok(SUBJECT, read, wanted))
}

fn writable(dir: &Path, disk: &Disk) -> Finding {
    const SUBJECT: &str = "spool_folder";
    let folder = disk.folder.display();
    let wanted = "the user that the relay runs as writes there, and nobody else reads there";
    match &disk.refused {
        None => Finding::ok(SUBJECT, format!("{folder} can be written by the user of this check"), wanted),
        Some(error) => {
            Finding::ok(SUBJECT, format!("{folder} cannot be written by the user of this check: {error}"), wanted).but(
                Verdict::Problem,
                vec![
                    "by systemd: `StateDirectory=forebay` in the unit's [Service], and spool.dir in /var/lib/forebay"
                        .to_owned(),
                    format!(
                        "or `sudo install -d -m 0700 -o forebay {}`; or run this check as the relay's user",
                        dir.display()
                    ),
                ],
            )
        }
    }
}

fn memory(config: &Config, facts: &Facts) -> Finding {
    const SUBJECT: &str = "memory";
    let own = config.memory_max as u64;
    let udp =
        config.inputs.iter().flat_map(|input| &input.listen).filter(|listen| matches!(listen, Listen::Udp(_))).count();
    let each = facts.receive_buffer.or_else(|| receive_buffer_wanted(config)).unwrap_or(0);
    let sockets = each.saturating_mul((udp * config.cores) as u64);
    let all = own.saturating_add(sockets);
    let wanted = format!(
        "{} for the relay (memory.max){}",
        about_size(own),
        if sockets > 0 {
            format!(", and {} for the kernel's UDP buffers when all are full", about_size(sockets))
        } else {
            String::new()
        }
    );
    let limit = facts.memory.limit.as_ref().filter(|(limit, _)| facts.memory.machine.is_none_or(|all| *limit < all));
    let (limit, read) = match (limit, facts.memory.machine) {
        (Some((limit, file)), _) => (*limit, format!("{} ({})", about_size(*limit), file.display())),
        (None, Some(machine)) => {
            (machine, format!("the machine has {}, and no control group limits that", about_size(machine)))
        }
        (None, None) => return Finding::unreadable(SUBJECT, "/proc/meminfo and the control group's limit", wanted),
    };
    let finding = Finding::ok(SUBJECT, read, wanted);
    let next = |octets: u64| {
        let mib = octets.div_ceil(1 << 20);
        vec![format!(
            "by systemd: `MemoryMax={mib}M`; in a container: `docker run --memory {mib}m`, resources.limits.memory: {mib}Mi"
        )]
    };
    if limit < own {
        let mut next = next(all);
        next.push(format!(
            "or `memory: {{max: {}MiB}}`: beyond its limit the kernel kills the relay",
            limit / 2 / (1 << 20)
        ));
        return finding.but(Verdict::Problem, next);
    }
    if limit < all { finding.but(Verdict::Advice, next(all)) } else { finding }
}

fn processors(config: &Config, facts: &Facts) -> Finding {
    const SUBJECT: &str = "processors";
    let wanted = format!(
        "{} shard(s), a thread each: more than there is time for are paused in turns, and sockets overflow meanwhile",
        config.cores
    );
    let limit = facts
        .processors
        .limit
        .as_ref()
        .map(|(limit, file)| (*limit, format!("{limit:.2} processors' worth of time ({})", file.display())));
    let usable = facts.processors.usable.map(|usable| (usable as f64, format!("{usable} processors")));
    let lowest = [limit, usable].into_iter().flatten().min_by(|(a, _), (b, _)| a.total_cmp(b));
    let Some((time, read)) = lowest else { return Finding::unreadable(SUBJECT, "the number of processors", wanted) };
    let finding = Finding::ok(SUBJECT, read, wanted);
    if config.cores as f64 <= time.ceil() {
        return finding;
    }
    let whole = time.ceil().max(1.0);
    finding.but(
        Verdict::Advice,
        vec![format!("`cores: {whole}` (or no `cores:` at all, which counts them), or a larger limit")],
    )
}
