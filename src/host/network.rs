//! What sockets need: buffers, queues, ports, the firewall's table; and what the kernel has lost already.

use std::fmt::Display;

use crate::config::units::about_size;
use crate::config::{AdminListen, Config, Input, Listen};
use crate::receive::{BACKLOG, DATAGRAM_BUFFER_BYTES};

use super::facts::{Conntrack, Facts};
use super::report::{Finding, Verdict};

/// Below it a burst of some thousand datagrams is more than a socket holds.
const CRAMPED_BYTES: u64 = 4 << 20;

/// What systemd sets; the kernel's own 10 makes programs wait that log to a busy socket.
const DATAGRAM_QUEUE: u64 = 512;

/// What a table of connections is full at, in percent: to be looked at, and to be changed now.
const CONNTRACK_PERCENT: (u64, u64) = (50, 90);

/// Those that concern `config`.
pub(super) fn judge(config: &Config, facts: &Facts) -> Vec<Finding> {
    let judged = [
        ports(config, facts),
        buffers(config, facts),
        udp(config, facts),
        interrupts(config, facts),
        datagram_queue(config, facts),
        accept_queue(config, facts),
        conntrack(config, facts),
    ];
    judged.into_iter().flatten().collect()
}

/// The largest receive buffer that an input asks for.
pub(super) fn receive_buffer_wanted(config: &Config) -> Option<u64> {
    config.inputs.iter().filter_map(buffer_of).max()
}

/// What each UDP socket of an input asks for.
fn buffer_of(input: &Input) -> Option<u64> {
    let has_udp = input.listen.iter().any(|listen| matches!(listen, Listen::Udp(_)));
    has_udp.then(|| input.receive_buffer.unwrap_or(DATAGRAM_BUFFER_BYTES) as u64)
}

/// Lines that set a number of /proc/sys. `is_own`: a container may have one of its own.
fn set(facts: &Facts, name: &str, value: impl Display, is_own: bool) -> Vec<String> {
    match (facts.is_sysctl_read_only, is_own) {
        (false, _) => vec![
            format!("sudo sysctl -w {name}={value}"),
            format!("to keep it: a line `{name} = {value}` in /etc/sysctl.d/60-forebay.conf"),
        ],
        (true, true) => vec![format!(
            "/proc/sys is read-only here: `docker run --sysctl {name}={value}`, or securityContext.sysctls of the pod"
        )],
        (true, false) => vec![format!(
            "/proc/sys is read-only here: on the machine that runs this container, `sudo sysctl -w {name}={value}`"
        )],
    }
}

fn names(listens: &[String]) -> String {
    listens.join(", ")
}

/// Ports that take a privilege.
fn ports(config: &Config, facts: &Facts) -> Option<Finding> {
    const SUBJECT: &str = "low_ports";
    let of_inputs = config.inputs.iter().flat_map(|input| &input.listen).filter_map(|listen| match listen {
        Listen::Udp(address)
        | Listen::Tcp(address)
        | Listen::Tls(address)
        | Listen::Relp(address)
        | Listen::RelpTls(address) => Some((address.port(), listen.to_string())),
        Listen::Unix(_) | Listen::UnixDatagram(_) => None,
    });
    let of_admin = config.admin.iter().filter_map(|listen| match listen {
        AdminListen::Tcp(address) => Some((address.port(), format!("admin at {address}"))),
        AdminListen::Unix(_) => None,
    });
    let first = facts.sysctl("net.ipv4.ip_unprivileged_port_start");
    let low = of_inputs.chain(of_admin).filter(|(port, _)| *port != 0 && u64::from(*port) < first.unwrap_or(1024));
    let low: Vec<(u16, String)> = low.collect();
    let lowest = low.iter().map(|(port, _)| *port).min()?;
    let wanted = format!("{}: ports below {} take a privilege", names_of(&low), first.unwrap_or(1024));
    let first = first.map_or("net.ipv4.ip_unprivileged_port_start is not readable here".to_owned(), |first| {
        format!("net.ipv4.ip_unprivileged_port_start is {first}")
    });
    let has = match facts.may_bind_low_ports() {
        None => return Some(Finding::unreadable(SUBJECT, "this user's capabilities", wanted)),
        Some(true) => return Some(Finding::ok(SUBJECT, format!("{first}; CAP_NET_BIND_SERVICE is there"), wanted)),
        Some(false) => format!("{first}; CAP_NET_BIND_SERVICE is not there"),
    };
    let mut next = vec![
        "by systemd: `AmbientCapabilities=CAP_NET_BIND_SERVICE` in the unit's [Service], or sockets of its own (forebay.socket)"
            .to_owned(),
        "or by the file: `sudo setcap cap_net_bind_service=+ep \"$(command -v forebay)\"`".to_owned(),
    ];
    let mut by_sysctl = set(facts, "net.ipv4.ip_unprivileged_port_start", lowest, true);
    if let Some(line) = by_sysctl.first_mut() {
        line.insert_str(0, "or for every program: ");
    }
    next.append(&mut by_sysctl);
    Some(Finding::ok(SUBJECT, has, wanted).but(Verdict::Problem, next))
}

fn names_of(low: &[(u16, String)]) -> String {
    names(&low.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>())
}

/// How large the kernel lets receive buffers be.
fn buffers(config: &Config, facts: &Facts) -> Option<Finding> {
    const SUBJECT: &str = "receive_buffer";
    let size = receive_buffer_wanted(config)?;
    let asking: Vec<String> =
        config.inputs.iter().filter(|input| buffer_of(input) == Some(size)).map(|input| input.name.clone()).collect();
    let wanted = format!(
        "{} for each UDP socket of {}: what arrives while the relay is busy waits there, and the kernel drops what finds it full",
        about_size(size),
        names(&asking)
    );
    let max = facts.sysctl("net.core.rmem_max");
    // What it is given is twice what it asks for, as far as it may.
    let given = facts.receive_buffer.or_else(|| max.map(|max| max.min(size).saturating_mul(2)));
    let Some(given) = given else {
        return Some(Finding::unreadable(SUBJECT, "net.core.rmem_max", wanted));
    };
    let is_raised_by_right = max.is_some_and(|max| max.saturating_mul(2) < given);
    let max = max.map_or("net.core.rmem_max is not readable here".to_owned(), |max| {
        format!("net.core.rmem_max is {max} ({})", about_size(max))
    });
    let mut read = format!("{max}; a socket that asks for {} holds {}", about_size(size), about_size(given));
    if is_raised_by_right {
        read.push_str(", by CAP_NET_ADMIN: a relay without it is held to net.core.rmem_max");
    }
    let finding = Finding::ok(SUBJECT, read, wanted);
    if given >= size {
        return Some(finding);
    }
    let is_asked_for =
        config.inputs.iter().any(|input| input.receive_buffer.is_some() && buffer_of(input) == Some(size));
    let verdict = if is_asked_for || given < CRAMPED_BYTES { Verdict::Problem } else { Verdict::Advice };
    let mut next = set(facts, "net.core.rmem_max", size, false);
    next.push("then restart the relay: a socket keeps the buffer that it was opened with".to_owned());
    Some(finding.but(verdict, next))
}

/// What UDP has lost already.
fn udp(config: &Config, facts: &Facts) -> Option<Finding> {
    const SUBJECT: &str = "udp_counters";
    receive_buffer_wanted(config)?;
    let wanted = "no datagram of any socket here met a full buffer since the machine (or this container) started";
    let Some(udp) = facts.udp else { return Some(Finding::unreadable(SUBJECT, "/proc/net/snmp", wanted)) };
    let read = format!(
        "of {} datagrams and {} that were not delivered, {} met a full receive buffer, {} the bound of all UDP memory, {} had a \
         wrong checksum",
        udp.received,
        udp.buffer_errors + udp.memory_errors + udp.checksum_errors,
        udp.buffer_errors,
        udp.memory_errors,
        udp.checksum_errors
    );
    let finding = Finding::ok(SUBJECT, read, wanted);
    let mut next = Vec::new();
    if udp.buffer_errors > 0 {
        next.push(
            "see whether it grows: `nstat -az UdpRcvbufErrors Udp6RcvbufErrors`; \
             forebay_input_kernel_dropped_datagrams_total says which input it was, where it was one of the relay's"
                .to_owned(),
        );
        next.push(
            "if it grows: larger buffers (above), more senders over TCP, or the loudest to a port of its own"
                .to_owned(),
        );
    }
    if udp.memory_errors > 0 {
        next.push(
            "raise all three numbers of net.ipv4.udp_mem (pages, for all sockets): `sysctl net.ipv4.udp_mem` shows them"
                .to_owned(),
        );
    }
    if udp.checksum_errors > 0 {
        next.push("datagrams are damaged on the way: look at cables, cards and what translates addresses".to_owned());
    }
    Some(if next.is_empty() { finding } else { finding.but(Verdict::Advice, next) })
}

/// The queue before any socket.
fn interrupts(config: &Config, facts: &Facts) -> Option<Finding> {
    const SUBJECT: &str = "packet_queue";
    receive_buffer_wanted(config)?;
    let wanted =
        "no packet found the queue of its processor full (net.core.netdev_max_backlog) since the machine started";
    let Some(dropped) = facts.softnet_dropped else {
        return Some(Finding::unreadable(SUBJECT, "/proc/net/softnet_stat", wanted));
    };
    let backlog = facts.sysctl("net.core.netdev_max_backlog");
    let shown = backlog.map_or("not readable here".to_owned(), |backlog| backlog.to_string());
    let finding = Finding::ok(SUBJECT, format!("{dropped} packets found it full; it holds {shown}"), wanted);
    if dropped == 0 {
        return Some(finding);
    }
    /// What the kernel begins with.
    const USUAL: u64 = 1_000;
    let more = backlog.unwrap_or(USUAL).saturating_mul(4);
    Some(finding.but(Verdict::Advice, set(facts, "net.core.netdev_max_backlog", more, false)))
}

/// How many datagrams may wait at a unix socket.
fn datagram_queue(config: &Config, facts: &Facts) -> Option<Finding> {
    const SUBJECT: &str = "unix_datagram_queue";
    const NAME: &str = "net.unix.max_dgram_qlen";
    let listens = config.inputs.iter().flat_map(|input| &input.listen);
    let listens: Vec<String> =
        listens.filter(|listen| matches!(listen, Listen::UnixDatagram(_))).map(ToString::to_string).collect();
    if listens.is_empty() {
        return None;
    }
    let wanted =
        format!("{DATAGRAM_QUEUE} at {}: programs that log there wait once so many datagrams do", names(&listens));
    let Some(queue) = facts.sysctl(NAME) else { return Some(Finding::unreadable(SUBJECT, NAME, wanted)) };
    let finding = Finding::ok(SUBJECT, format!("{NAME} is {queue}"), wanted);
    if queue >= DATAGRAM_QUEUE {
        return Some(finding);
    }
    let mut next = set(facts, NAME, DATAGRAM_QUEUE, true);
    next.push("then restart the relay: a socket keeps what held when it was opened".to_owned());
    Some(finding.but(Verdict::Advice, next))
}

/// How many connections may wait to be accepted.
fn accept_queue(config: &Config, facts: &Facts) -> Option<Finding> {
    const SUBJECT: &str = "accept_queue";
    const NAME: &str = "net.core.somaxconn";
    let is_stream = |listen: &Listen| !matches!(listen, Listen::Udp(_) | Listen::UnixDatagram(_));
    if !config.inputs.iter().flat_map(|input| &input.listen).any(is_stream) {
        return None;
    }
    let wanted = format!("{BACKLOG}: when the relay restarts, all its senders connect at once");
    let Some(queue) = facts.sysctl(NAME) else { return Some(Finding::unreadable(SUBJECT, NAME, wanted)) };
    let finding = Finding::ok(SUBJECT, format!("{NAME} is {queue}"), wanted);
    let is_enough = queue >= u64::try_from(BACKLOG).unwrap_or(0);
    Some(if is_enough { finding } else { finding.but(Verdict::Advice, set(facts, NAME, BACKLOG, true)) })
}

/// The firewall's table of connections.
fn conntrack(config: &Config, facts: &Facts) -> Option<Finding> {
    const SUBJECT: &str = "conntrack";
    let inet = config.inputs.iter().flat_map(|input| &input.listen).filter_map(|listen| match listen {
        Listen::Udp(address) => Some(("udp", address.port())),
        Listen::Tcp(address) | Listen::Tls(address) | Listen::Relp(address) | Listen::RelpTls(address) => {
            Some(("tcp", address.port()))
        }
        Listen::Unix(_) | Listen::UnixDatagram(_) => None,
    });
    let inet: Vec<(&str, u16)> = inet.collect();
    if inet.is_empty() {
        return None;
    }
    let wanted = "room in the table of connections: when it is full the kernel drops packets, whatever sockets hold; each sender's \
                  address and port takes an entry, UDP's too";
    let Some(table) = facts.conntrack else {
        if facts.sysctls.is_empty() {
            return Some(Finding::unreadable(SUBJECT, "net.netfilter.nf_conntrack_count", wanted));
        }
        return Some(Finding::ok(
            SUBJECT,
            "no such table here (nf_conntrack is not loaded, or not for this network)",
            wanted,
        ));
    };
    let Conntrack { count, max, dropped } = table;
    let percent = count.saturating_mul(100) / max.max(1);
    let mut read = format!("{count} of {max} entries are taken ({percent} %)");
    match dropped {
        Some(dropped) => read.push_str(&format!("; {dropped} packets found none")),
        None => read.push_str("; how many packets found none is not readable here"),
    }
    let finding = Finding::ok(SUBJECT, read, wanted);
    let has_dropped = dropped.is_some_and(|dropped| dropped > 0);
    let verdict = match percent {
        _ if percent >= CONNTRACK_PERCENT.1 => Verdict::Problem,
        _ if percent >= CONNTRACK_PERCENT.0 || has_dropped => Verdict::Advice,
        _ => return Some(finding),
    };
    Some(finding.but(verdict, out_of_the_table(facts, &inet, max)))
}

/// A larger table, or syslog out of it.
fn out_of_the_table(facts: &Facts, inet: &[(&str, u16)], max: u64) -> Vec<String> {
    let mut next = set(facts, "net.netfilter.nf_conntrack_max", max.saturating_mul(4), false);
    let ports = |of: &str| {
        let mut ports: Vec<u16> =
            inet.iter().filter(|(protocol, port)| *protocol == of && *port != 0).map(|(_, port)| *port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let udp = ports("udp");
    if !udp.is_empty() {
        next.push("or keep the senders' datagrams out of it, which is less work as well:".to_owned());
        next.push("sudo nft add table inet forebay".to_owned());
        next.push("sudo nft add chain inet forebay raw '{ type filter hook prerouting priority raw; }'".to_owned());
        next.push(format!("sudo nft add rule inet forebay raw udp dport '{{ {udp} }}' notrack"));
        next.push(
            "a firewall that lets in what belongs to known connections only must then let these ports in by themselves"
                .to_owned(),
        );
    }
    next
}
