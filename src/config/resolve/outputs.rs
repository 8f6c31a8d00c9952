//! `outputs:`: where they go, what they speak, and which keys belong to that.

use super::*;
use crate::config::leaf::{FirstInLine, Region, Spoken};
use crate::config::url::{ProxyUrl, Scheme, To};
use crate::config::{FileOutput, Http, Mode, Order, OutputFraming, OutputTls, Protocol, Proxy, Rotate, Target};

/// Keys of what has connections: not for a file.
const OF_CONNECTIONS: [&str; 11] = [
    "mode",
    "prefer_after",
    "fallback_addresses",
    "tls",
    "connections",
    "connect_timeout",
    "handshake_timeout",
    "stall_timeout",
    "idle_timeout",
    "keepalive",
    "user_timeout",
];

/// Those of them that datagrams have no use for.
const OF_STREAMS: [&str; 5] = ["connections", "handshake_timeout", "idle_timeout", "keepalive", "user_timeout"];

/// Keys of one protocol only.
const OF_SYSLOG: [&str; 3] = ["framing", "replay_window", "replay_quiet"];
const OF_RELP: [&str; 1] = ["relp_window"];
const OF_HTTPS: [&str; 3] = ["proxy", "max_body", "request_timeout"];
const OF_FILES: [&str; 2] = ["rotate", "reveal_keys"];

impl Resolver<'_> {
    pub(super) fn output(&mut self, name: &str, mut raw: raw::Output, cores: usize, may_spool: bool) -> Output {
        let path = Path::root().key("outputs").key(name);
        self.check_name(name, &path);
        // Where there is none, a mistake was reported and nobody sees this output.
        let to = self.destination(&mut raw, &path).unwrap_or_default();
        let scheme = to.first().map(|to| to.scheme);
        if let Some(scheme) = scheme {
            self.foreign_keys(scheme, &path);
        }
        let (mode, prefer_after) = self.mode(&raw, &to, &path);
        let order = self.order(&raw, may_spool, &path);
        let tls = self.output_tls(raw.tls.take(), &to, &path.key("tls"));
        let protocol = protocol(&raw, &to);
        let replay_window = match protocol {
            Protocol::Syslog(_) => raw.replay_window.map_or(limits::REPLAY_WINDOW, |size| size.0.0),
            _ => 0,
        };
        let connections_per_shard = match protocol {
            // HTTPS has as many as there are routes to it, which are not known yet.
            Protocol::File(_) | Protocol::Https(_) => 1,
            _ => raw.connections.map_or(1, |count| count.0.0.div_ceil(cores.max(1))),
        };
        let idle_default = matches!(protocol, Protocol::Https(_)).then_some(limits::HTTPS_IDLE);
        let idle_timeout = raw.idle_timeout.map_or(idle_default, |idle| value(idle.0).map(|Span(time)| time));
        let targets = to.into_iter().filter(|to| to.scheme != Scheme::File);
        Output {
            name: name.to_owned(),
            protocol,
            targets: targets.map(|To { host, port, path, .. }| Target { host, port, path }).collect(),
            mode,
            prefer_after,
            fallback_addresses: raw.fallback_addresses.into_iter().map(|Is(address)| address).collect(),
            tls,
            connections_per_shard,
            connect_timeout: raw.connect_timeout.map_or(limits::CONNECT_TIMEOUT, |time| time.0.0),
            handshake_timeout: raw.handshake_timeout.map_or(limits::HANDSHAKE_TIMEOUT, |time| time.0.0),
            stall_timeout: raw.stall_timeout.map_or(limits::STALL_TIMEOUT, |time| time.0.0),
            idle_timeout,
            keepalive: or_default(raw.keepalive, Span(limits::KEEPALIVE)).map(|Span(time)| time),
            user_timeout: or_default(raw.user_timeout, Span(limits::USER_TIMEOUT)).map(|Span(time)| time),
            replay_window,
            replay_quiet: raw.replay_quiet.map_or(limits::REPLAY_QUIET, |time| time.0.0),
            order,
            retired: false,
        }
    }

    /// Where it goes: at least one URL, all of one scheme. `None`: a mistake was reported.
    fn destination(&mut self, raw: &mut raw::Output, path: &Path) -> Option<Vec<To>> {
        let to_path = path.key("to");
        let to: Vec<To> = std::mem::take(&mut raw.to).into_iter().map(|Is(to)| to).collect();
        if self.node(&to_path).is_some() && raw.protocol.is_some() && raw.region.is_none() {
            self.mistake(&path.key("protocol"), "given, but \"to\" names it by its scheme; it belongs to \"region\"");
        }
        match (raw.region.take(), to.is_empty()) {
            (Some(_), false) => {
                self.mistake(&to_path, "given besides \"region\", expected one of the two");
                None
            }
            (Some(_), true) if self.is_refused(&path.key("protocol")) || self.is_refused(&to_path) => None,
            (Some(Is(region)), true) => {
                Some(vec![of_region(region, raw.protocol.as_ref().map_or(Spoken::Syslog, |protocol| protocol.0))])
            }
            (None, false) => self.of_one_scheme(to, &to_path),
            (None, true) => {
                if !self.is_refused(&path.key("region")) && !self.is_refused(&to_path) {
                    self.missing(path, "neither \"region\" nor \"to\", expected one of the two");
                }
                None
            }
        }
    }

    fn of_one_scheme(&mut self, to: Vec<To>, path: &Path) -> Option<Vec<To>> {
        let first = to.first()?.scheme;
        let mut good = true;
        for (index, each) in to.iter().enumerate().skip(1) {
            let path = self.item(path, index);
            if each.scheme != first {
                let (found, first) = (each.scheme.name(), first.name());
                self.mistake(&path, format!("found a {found}:// URL, expected {first}:// as the first one has"));
            } else if first == Scheme::File {
                self.mistake(&path, "found a second file, expected one (another file is another output)");
            } else if to.iter().take(index).any(|earlier| earlier == each) {
                self.mistake(&path, "found a target a second time");
            } else {
                continue;
            }
            good = false;
        }
        good.then_some(to)
    }

    /// Keys that belong to another protocol than the output's.
    fn foreign_keys(&mut self, scheme: Scheme, path: &Path) {
        let groups: [(&[&str], &[Scheme], &str, &str); 4] = [
            (&OF_SYSLOG, &[Scheme::Tls, Scheme::Tcp], "no tls:// or tcp:// URL", "syslog"),
            (&OF_RELP, &[Scheme::RelpTls, Scheme::RelpTcp], "no relp+tls:// or relp+tcp:// URL", "relp"),
            (&OF_HTTPS, &[Scheme::Https, Scheme::Http], "no https:// or http:// URL", "https"),
            (&OF_FILES, &[Scheme::File], "no file:// URL", ""),
        ];
        let by_region = self.node(&path.key("region")).is_some();
        for (keys, schemes, needed, protocol) in groups {
            if schemes.contains(&scheme) {
                continue;
            }
            let message = match (by_region, protocol) {
                (true, "") => "given, but \"region\" is no file:// URL".to_owned(),
                (true, protocol) => format!("given, but \"protocol\" is not {protocol}"),
                (false, _) => format!("given, but \"to\" is {needed}"),
            };
            self.refuse_keys(keys, &message, path);
        }
        if matches!(scheme, Scheme::Https | Scheme::Http) {
            let message = "given, but with HTTPS each route has a connection of its own, a shard";
            self.refuse_keys(&["connections"], message, path);
        }
        if scheme == Scheme::Udp {
            self.refuse_keys(&OF_STREAMS, "given, but \"to\" is a udp:// URL, which has no connections", path);
        }
        if scheme == Scheme::File {
            let message = "given, but \"to\" is a file:// URL, which has no connections";
            self.refuse_keys(&OF_CONNECTIONS, message, path);
        }
    }

    fn refuse_keys(&mut self, keys: &[&str], message: &str, path: &Path) {
        for key in keys {
            if self.node(&path.key(key)).is_some() {
                self.mistake(&path.key(key), message);
            }
        }
    }

    fn mode(&mut self, raw: &raw::Output, to: &[To], path: &Path) -> (Mode, std::time::Duration) {
        let mode = raw.mode.as_ref().map_or(Mode::Failover, |mode| mode.0);
        let prefer_after = raw.prefer_after.as_ref().map_or(limits::PREFER_AFTER, |time| time.0.0);
        if let [only] = to
            && only.scheme != Scheme::File
        {
            self.refuse_keys(&["mode", "prefer_after"], "given, but there is one target only", path);
        }
        if mode == Mode::Balance && to.len() > 1 {
            self.refuse_keys(&["prefer_after"], "given, but \"mode\" is balance, which prefers none", path);
        }
        (mode, prefer_after)
    }

    fn order(&mut self, raw: &raw::Output, may_spool: bool, path: &Path) -> Order {
        let share = raw.backlog_share.as_ref().and_then(|share| u8::try_from(share.0.0).ok());
        if let Some(Is(FirstInLine::Newest)) = raw.order {
            if !may_spool {
                let message = "found \"newest_first\", but there is no \"spool\" for the backlog to wait in";
                self.mistake(&path.key("order"), message);
            }
            return Order::NewestFirst { backlog_share: share.unwrap_or(limits::BACKLOG_SHARE) };
        }
        if !self.is_refused(&path.key("order")) {
            self.refuse_keys(&["backlog_share"], "given, but \"order\" is not newest_first", path);
        }
        Order::OldestFirst
    }

    fn output_tls(&mut self, raw: Option<raw::OutputTls>, to: &[To], path: &Path) -> Option<OutputTls> {
        let given = raw.is_some();
        let raw = raw.unwrap_or_default();
        let ca = self.file(raw.ca, &path.key("ca"));
        let client_cert = self.file(raw.client_cert, &path.key("client_cert"));
        let client_key = self.key_file(raw.client_key, &path.key("client_key"));
        let client = match (client_cert, client_key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (Some(_), None) => {
                self.missing(&path.key("client_key"), "missing, expected the key of \"client_cert\"");
                None
            }
            (None, Some(_)) => {
                self.missing(&path.key("client_cert"), "missing, expected the certificate of \"client_key\"");
                None
            }
            (None, None) => None,
        };
        // What was refused, and a file, are told of already.
        let scheme = to.first().map(|to| to.scheme).filter(|scheme| *scheme != Scheme::File)?;
        if !scheme.is_tls() {
            if given {
                self.mistake(path, "given, but \"to\" is no tls://, relp+tls:// or https:// URL");
            }
            return None;
        }
        let server_name = raw.server_name.map(|name| name.0.0);
        let is_name = |name: &str| rustls::pki_types::ServerName::try_from(name).is_ok();
        let all_good = match &server_name {
            Some(name) => is_name(name),
            None => to.iter().all(|to| is_name(&to.host)),
        };
        if !all_good {
            let path = path.key("server_name");
            self.wrong(&path, "expected a host name or an address", "not the name of a server");
        }
        Some(OutputTls { ca, server_name, client })
    }

    /// Sekoia drops what is over its limit and tells nobody.
    pub(super) fn warn_of_large_messages(&mut self, inputs: &[Input], outputs: &[Output]) {
        let to_sekoia = outputs.iter().any(sekoias);
        for input in inputs.iter().filter(|input| to_sekoia && input.max_message_size > limits::MESSAGE_SIZE) {
            let path = Path::root().key("inputs").key(&input.name).key("max_message_size");
            let limit = crate::config::units::show_size(limits::MESSAGE_SIZE as u64);
            self.warning(&path, format!("Sekoia drops events over {limit} without a word"));
        }
    }

    /// What is lost of datagrams nobody knows, and who is on the way reads them.
    pub(super) fn warn_of_datagrams(&mut self, outputs: &[Output]) {
        for output in outputs.iter().filter(|output| output.protocol == Protocol::Udp) {
            let Some(target) = output.targets.iter().find(|target| !may_be_private(&target.host)) else { continue };
            let path = Path::root().key("outputs").key(&output.name).key("to");
            let message = "is outside of private networks: datagrams are neither encrypted nor acknowledged";
            self.warning(&path, format!("udp://{} {message}", target.address()));
        }
    }

    /// Two outputs in one file would rotate it under each other's feet.
    pub(super) fn distinct_files(&mut self, outputs: &[Output]) {
        let mut places: HashMap<&FilePath, &str> = HashMap::new();
        for output in outputs {
            let Protocol::File(file) = &output.protocol else { continue };
            if let Some(first) = places.get(file.path.as_path()) {
                let path = Path::root().key("outputs").key(&output.name).key("to");
                self.mistake(&path, format!("found the file that outputs.{first} writes already"));
                continue;
            }
            places.insert(&file.path, &output.name);
        }
    }
}

/// Over HTTPS they are cut, and that is counted.
fn sekoias(output: &Output) -> bool {
    !matches!(output.protocol, Protocol::Https(_))
        && output.targets.iter().any(|target| target.host.ends_with(".sekoia.io"))
}

/// Whether a host is in a network of one's own, as far as its name tells.
fn may_be_private(host: &str) -> bool {
    match host.parse() {
        Ok(std::net::IpAddr::V4(address)) => address.is_private() || address.is_loopback() || address.is_link_local(),
        Ok(std::net::IpAddr::V6(address)) => {
            address.is_unique_local() || address.is_loopback() || address.is_unicast_link_local()
        }
        Err(_) => !host.ends_with(".sekoia.io"),
    }
}

fn of_region(region: Region, spoken: Spoken) -> To {
    let (scheme, port, path) = match spoken {
        Spoken::Syslog => (Scheme::Tls, limits::REGION_PORT, ""),
        Spoken::Relp => (Scheme::RelpTls, limits::REGION_RELP_PORT, ""),
        Spoken::Https => (Scheme::Https, limits::HTTPS_PORT, region.https_path()),
    };
    To { scheme, host: region.0.to_owned(), port, path: path.to_owned() }
}

fn protocol(raw: &raw::Output, to: &[To]) -> Protocol {
    match to {
        [To { scheme: Scheme::RelpTls | Scheme::RelpTcp, .. }, ..] => {
            Protocol::Relp { window: raw.relp_window.as_ref().map_or(limits::RELP_WINDOW, |count| count.0.0) }
        }
        [To { scheme: Scheme::Https | Scheme::Http, .. }, ..] => Protocol::Https(Http {
            proxy: match &raw.proxy {
                None => Proxy::FromEnvironment,
                Some(Is(Or::Word(_))) => Proxy::Off,
                Some(Is(Or::Value(ProxyUrl(host, port)))) => Proxy::Url(host.clone(), *port),
            },
            max_body: raw.max_body.as_ref().map_or(limits::BODY, |size| size.0.0),
            request_timeout: raw.request_timeout.as_ref().map_or(limits::REQUEST_TIMEOUT, |time| time.0.0),
        }),
        [To { scheme: Scheme::File, path, .. }, ..] => Protocol::File(FileOutput {
            path: PathBuf::from(path),
            rotate: rotate(&raw.rotate),
            reveal_keys: raw.reveal_keys.as_ref().is_some_and(|reveal| reveal.0),
        }),
        [To { scheme: Scheme::Udp, .. }, ..] => Protocol::Udp,
        _ => Protocol::Syslog(raw.framing.as_ref().map_or(OutputFraming::Octet, |framing| framing.0)),
    }
}

fn rotate(raw: &raw::Rotate) -> Rotate {
    Rotate {
        size: match &raw.size {
            None => Some(limits::ROTATE_SIZE),
            Some(Is(Or::Word(_))) => None,
            Some(Is(Or::Value(size))) => Some(size.0 as u64),
        },
        age: match &raw.age {
            Some(Is(Or::Value(Span(age)))) => Some(*age),
            Some(Is(Or::Word(_))) | None => None,
        },
        keep: raw.keep.as_ref().map_or(limits::ROTATE_KEEP, |keep| keep.0.0),
        compress: raw.compress.as_ref().is_none_or(|compress| compress.0),
    }
}
