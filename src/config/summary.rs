//! What a configuration will do, in words: `forebay check` prints it.

use std::fmt::{self, Write};

use super::units::{show_duration, show_size};
use super::{
    Account, Acknowledge, Action, AdminListen, Compression, Config, Durability, FileOutput, Hardening, Input, Listen,
    Mode, Order, Output, OutputFraming, Oversize, Protocol, Proxy, Rotate, Route, Spool, SpoolFull, SpoolSync,
    host_and_port,
};
use crate::route::{Conditions, TextTest};
use crate::syslog::{Facility, Framing, Severity};

impl Config {
    /// What would listen and where each route goes, a line each. Keys are masked.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        self.write_summary(&mut out).unwrap_or(());
        out
    }

    fn write_summary(&self, out: &mut String) -> fmt::Result {
        out.push_str("inputs\n");
        for input in &self.inputs {
            write_input(out, input)?;
        }
        out.push_str("outputs\n");
        for output in &self.outputs {
            write_output(out, output)?;
        }
        out.push_str("routes, the first that holds takes the message\n");
        for (index, route) in self.routes.iter().enumerate() {
            self.write_route(out, index, route)?;
        }
        let takes_all = |route: &Route| !route.continues && in_words(&route.conditions).is_empty();
        if !self.routes.iter().any(takes_all) {
            out.push_str("  what no route takes is counted as unmatched\n");
        }
        out.push_str("spool\n");
        match &self.spool {
            Some(spool) => write_spool(out, spool)?,
            None => out.push_str("  none: what waits is in memory only\n"),
        }
        out.push_str("process\n");
        writeln!(
            out,
            "  {} of at most {} resident, {} to stop",
            plural(self.cores, "shard"),
            show_size(self.memory_max as u64),
            show_duration(self.shutdown_timeout)
        )?;
        if !self.shutdown_delay.is_zero() {
            writeln!(out, "  {} between the order to stop and the stop", show_duration(self.shutdown_delay))?;
        }
        if self.outputs.iter().any(|output| matches!(output.protocol, Protocol::Https(_))) {
            writeln!(
                out,
                "  at most {}",
                plural(self.http.requests_per_second as usize, "HTTPS request") + " a second"
            )?;
        }
        self.write_admin(out)?;
        if let Some(Account { name, uid, gid, .. }) = &self.user {
            writeln!(out, "  becomes {name} (uid {uid}, gid {gid}) once it has bound its sockets")?;
        }
        let Hardening { no_new_privs, seccomp, landlock } = self.hardening;
        let all = [("no_new_privs", no_new_privs), ("seccomp", seccomp), ("landlock", landlock)];
        let on: Vec<&str> = all.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| *name).collect();
        match on.as_slice() {
            [] => writeln!(out, "  hardening off"),
            on => writeln!(out, "  hardened by {}, where the kernel can", on.join(", ")),
        }
    }

    fn write_admin(&self, out: &mut String) -> fmt::Result {
        if self.admin.is_empty() {
            return writeln!(out, "  no admin server");
        }
        let access = &self.admin_access;
        let listen: Vec<String> = self.admin.iter().map(|listen| listen.url(access.tls.is_some())).collect();
        write!(out, "  admin server on {}", listen.join(", "))?;
        let takes_certificates = access.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        match (access.token.is_some(), takes_certificates) {
            (true, true) => out.push_str(", with a token or a certificate"),
            (true, false) => out.push_str(", with a token"),
            (false, true) => out.push_str(", with a certificate"),
            (false, false) => {}
        }
        out.push_str(if access.taps { "\n" } else { ", no messages shown\n" });
        Ok(())
    }

    fn write_route(&self, out: &mut String, index: usize, route: &Route) -> fmt::Result {
        let conditions = match in_words(&route.conditions) {
            words if words.is_empty() => "every message".to_owned(),
            words => words,
        };
        write!(out, "  {}. {}: {conditions}", index + 1, route.name)?;
        match &route.action {
            Action::Discard => out.push_str(" → discarded"),
            Action::Forward { output, intake_key, .. } => {
                if let Some(output) = self.outputs.get(*output) {
                    write!(out, " → {}", output.name)?;
                }
                out.push_str(if intake_key.is_some() { ", intake key ****" } else { ", no intake key" });
            }
        }
        if let Some(size) = route.spool.max_size {
            write!(out, ", at most {} of the spool", show_size(size))?;
        }
        if let Some(when_full) = route.spool.when_full {
            write!(out, ", when it is full {}", in_full(when_full))?;
        }
        out.push_str(if route.continues { ", and on\n" } else { "\n" });
        Ok(())
    }
}

fn write_spool(out: &mut String, spool: &Spool) -> fmt::Result {
    let (size, free) = (show_size(spool.max_size), show_size(spool.min_free));
    write!(out, "  {}: at most {size}, {free} of the disk left free", spool.dir.display())?;
    write!(out, "; when it is full {}", in_full(spool.when_full))?;
    match spool.durability {
        Durability::Overflow => {
            let after = show_duration(spool.spill_after);
            write!(out, "; takes what memory does not hold or what waits for {after}")?;
        }
        Durability::Always => out.push_str("; takes every message before it is sent"),
    }
    match spool.sync {
        SpoolSync::Interval(interval) => write!(out, ", synced every {}", show_duration(interval))?,
        SpoolSync::EveryBatch => out.push_str(", synced with every batch"),
    }
    out.push_str(match spool.compression {
        Compression::None => "; not compressed",
        Compression::Lz4 => "; lz4",
        Compression::Zstd => "; zstd",
    });
    out.push_str(if spool.encryption_key.is_some() { ", encrypted\n" } else { "\n" });
    Ok(())
}

fn in_full(when_full: SpoolFull) -> &'static str {
    match when_full {
        SpoolFull::Block => "senders wait",
        SpoolFull::DropOldest => "the oldest are dropped",
        SpoolFull::DropNewest => "the newest are dropped",
    }
}

fn write_input(out: &mut String, input: &Input) -> fmt::Result {
    if let Some(interval) = input.impstats {
        let every = show_duration(interval);
        return writeln!(out, "  {}: the relay's own counts as rsyslog's impstats has them, every {every}", input.name);
    }
    let urls: Vec<String> = input.listen.iter().map(Listen::to_string).collect();
    write!(out, "  {}: {}", input.name, urls.join(", "))?;
    let framing = match input.framing {
        Framing::Auto => "auto",
        Framing::Octet => "octet",
        Framing::Lf => "lf",
        Framing::Nul => "nul",
    };
    let beyond = match input.oversize {
        Oversize::Truncate => "truncated",
        Oversize::Reject => "rejected",
    };
    let size = show_size(input.max_message_size as u64);
    write!(out, "; framing {framing}; messages over {size} {beyond}")?;
    let (all, peer) = (input.max_connections, input.max_connections_per_peer);
    write!(out, "; at most {} ({} a peer)", plural(all, "connection"), peer.min(all))?;
    if let Some(idle) = input.idle_timeout {
        write!(out, ", closed after {} of silence", show_duration(idle))?;
    }
    if !input.allow.is_empty() {
        let networks: Vec<String> = input.allow.iter().map(ToString::to_string).collect();
        write!(out, "; only from {}", networks.join(", "))?;
    }
    if !input.proxy_protocol.is_empty() {
        let networks: Vec<String> = input.proxy_protocol.iter().map(ToString::to_string).collect();
        write!(out, "; PROXY protocol from {}", networks.join(", "))?;
    }
    if input.listen.iter().any(|listen| matches!(listen, Listen::Relp(_) | Listen::RelpTls(_))) {
        out.push_str(match input.acknowledge {
            Acknowledge::Received => "; acknowledged when received",
            Acknowledge::Spooled => "; acknowledged when spooled or released",
            Acknowledge::Released => "; acknowledged when released",
        });
    }
    if input.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()) {
        out.push_str("; client certificates required");
    }
    out.push('\n');
    Ok(())
}

fn write_output(out: &mut String, output: &Output) -> fmt::Result {
    write!(out, "  {}: {}", output.name, url(output))?;
    if output.targets.len() > 1 {
        match output.mode {
            Mode::Balance => out.push_str("; spread over all that are well"),
            Mode::Failover => {
                let after = show_duration(output.prefer_after);
                write!(out, "; the first that is well, back to an earlier one after {after}")?;
            }
        }
    }
    if !output.fallback_addresses.is_empty() {
        let addresses: Vec<String> = output.fallback_addresses.iter().map(ToString::to_string).collect();
        write!(out, "; {} where no name resolves", addresses.join(", "))?;
    }
    match &output.protocol {
        Protocol::Syslog(OutputFraming::Octet) => {}
        Protocol::Syslog(OutputFraming::Lf) => out.push_str("; a line each"),
        Protocol::Udp => out.push_str("; a datagram each, which nobody acknowledges"),
        Protocol::Relp { window } => write!(out, "; at most {} unacknowledged", plural(*window, "message"))?,
        Protocol::Https(http) => {
            match &http.proxy {
                Proxy::FromEnvironment => out.push_str("; the environment's proxy, if any"),
                Proxy::Off => out.push_str("; no proxy"),
                Proxy::Url(host, port) => write!(out, "; proxy {}", host_and_port(host, *port))?,
            }
            write!(out, "; bodies of at most {}", show_size(http.max_body as u64))?;
        }
        Protocol::File(file) => write_rotation(out, file)?,
    }
    if let Order::NewestFirst { backlog_share } = output.order {
        write!(out, "; the newest first, {backlog_share}% kept for the backlog")?;
    }
    out.push('\n');
    Ok(())
}

fn write_rotation(out: &mut String, file: &FileOutput) -> fmt::Result {
    let Rotate { size, age, keep, compress } = file.rotate;
    let limits: Vec<String> = size
        .map(|size| format!("at {}", show_size(size)))
        .into_iter()
        .chain(age.map(|age| format!("after {}", show_duration(age))))
        .collect();
    match limits.is_empty() {
        true => out.push_str("; one file that grows"),
        false => {
            write!(out, "; a new file {}, {keep} old ones kept", limits.join(" or "))?;
            out.push_str(if compress { " and compressed" } else { "" });
        }
    }
    out.push_str(if file.reveal_keys { "; intake keys as they are" } else { "; intake keys as ***" });
    Ok(())
}

impl fmt::Display for Listen {
    /// As the configuration writes it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(formatter, "udp://{address}"),
            Self::Tcp(address) => write!(formatter, "tcp://{address}"),
            Self::Tls(address) => write!(formatter, "tls://{address}"),
            Self::Relp(address) => write!(formatter, "relp+tcp://{address}"),
            Self::RelpTls(address) => write!(formatter, "relp+tls://{address}"),
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::UnixDatagram(path) => write!(formatter, "unixgram://{}", path.display()),
        }
    }
}

impl fmt::Display for AdminListen {
    /// As a URL.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "http://{address}"),
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
        }
    }
}

/// Where an output goes, as the configuration writes it.
fn url(output: &Output) -> String {
    let tls = output.tls.is_some();
    let scheme = match (&output.protocol, tls) {
        (Protocol::Syslog(_), true) => "tls",
        (Protocol::Syslog(_), false) => "tcp",
        (Protocol::Udp, _) => "udp",
        (Protocol::Relp { .. }, true) => "relp+tls",
        (Protocol::Relp { .. }, false) => "relp+tcp",
        (Protocol::Https(_), true) => "https",
        (Protocol::Https(_), false) => "http",
        (Protocol::File(file), _) => return format!("file://{}", file.path.display()),
    };
    let urls: Vec<String> =
        output.targets.iter().map(|target| format!("{scheme}://{}{}", target.address(), target.path)).collect();
    urls.join(", ")
}

/// `program unbound* or nsd, and severity err, crit, alert or emerg`; nothing where there are no conditions.
fn in_words(conditions: &Conditions) -> String {
    let Conditions { program, hostname, peer, input, facility, severity, message, when, not } = conditions;
    let facilities =
        Facility::names().iter().filter(|name| Facility::parse(name).is_some_and(|code| facility.contains(code)));
    let severities =
        Severity::names().iter().filter(|name| Severity::parse(name).is_some_and(|code| severity.contains(code)));
    let test = |test: &TextTest| match test {
        TextTest::Contains(finder) => format!("with {:?}", String::from_utf8_lossy(finder.needle())),
        TextTest::Regex(regex) => format!("matching /{}/", regex.as_str()),
    };
    let mut parts = vec![
        any("program", program.iter().map(|name| name.as_str().to_owned())),
        any("hostname", hostname.iter().map(|name| name.as_str().to_owned())),
        any("peer", peer.iter().map(ToString::to_string)),
        any("input", input.iter().cloned()),
        any("facility", facilities.map(|name| (*name).to_owned())),
        any("severity", severities.map(|name| (*name).to_owned())),
        any("message", message.iter().map(test)),
    ];
    parts.retain(|part| !part.is_empty());
    if let Some(when) = when {
        // One line, however many it was written on.
        parts.push(format!("when {}", when.text().lines().map(str::trim).collect::<Vec<_>>().join(" ")));
    }
    if let Some(not) = not {
        parts.push(format!("not ({})", in_words(not)));
    }
    parts.join(" and ")
}

/// `noun a, b or c`; nothing where there is none.
fn any(noun: &str, values: impl Iterator<Item = String>) -> String {
    let values: Vec<String> = values.collect();
    match values.split_last() {
        None => String::new(),
        Some((only, [])) => format!("{noun} {only}"),
        Some((last, rest)) => format!("{noun} {} or {last}", rest.join(", ")),
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
