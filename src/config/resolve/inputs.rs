//! `inputs:`: listeners, their certificates, what is acknowledged.

use std::collections::HashSet;
use std::time::Duration;

use ipnet::IpNet;

use super::*;
use crate::config::{Acknowledge, AdminListen, InputTls, Oversize};

impl Resolver<'_> {
    pub(super) fn input(&mut self, name: &str, raw: raw::Input, may_spool: bool) -> Input {
        let path = Path::root().key("inputs").key(name);
        self.check_name(name, &path);
        let listen: Vec<Listen> = raw.listen.into_iter().map(|Is(listen)| listen).collect();
        let impstats = raw.impstats.map(|raw| self.impstats(&raw, &path));
        if listen.is_empty() && impstats.is_none() && !self.is_refused(&path.key("impstats")) {
            self.missing(&path.key("listen"), "missing, expected a URL or a list of them");
        }
        let tls = self.input_tls_for(raw.tls, &listen, &path.key("tls"));
        let acknowledge = self.acknowledge(raw.acknowledge, &listen, may_spool, &path.key("acknowledge"));
        let proxy_protocol = self.proxy_protocol(raw.proxy_protocol, &listen, &path.key("proxy_protocol"));
        Input {
            name: name.to_owned(),
            listen,
            framing: raw.framing.map(|framing| framing.0).unwrap_or_default(),
            max_message_size: raw.max_message_size.map_or(limits::MESSAGE_SIZE, |size| size.0.0),
            oversize: raw.oversize.map_or(Oversize::Truncate, |oversize| oversize.0),
            timezone: raw.timezone.map_or_else(TimeZone::system, |zone| zone.0),
            allow: raw.allow.into_iter().map(|Is(network)| network).collect(),
            proxy_protocol,
            max_connections: raw.max_connections.map_or(limits::CONNECTIONS, |count| count.0.0),
            max_connections_per_peer: raw
                .max_connections_per_peer
                .map_or(limits::CONNECTIONS_PER_PEER, |count| count.0.0),
            idle_timeout: raw.idle_timeout.and_then(|idle| value(idle.0)).map(|Span(time)| time),
            receive_buffer: raw.receive_buffer.map(|size| size.0.0),
            tls,
            acknowledge,
            impstats,
            retired: false,
        }
    }

    /// An input whose messages are our own has nothing of what says how others' are taken.
    fn impstats(&mut self, raw: &raw::Impstats, path: &Path) -> Duration {
        for name in self.names(path).iter().filter(|name| *name != "impstats") {
            let path = path.key(name);
            if !self.is_refused(&path) {
                self.mistake(&path, "given besides \"impstats\", which takes nothing from outside");
            }
        }
        raw.interval.as_ref().map_or(limits::IMPSTATS_INTERVAL, |interval| interval.0.0)
    }

    fn input_tls_for(&mut self, raw: Option<raw::InputTls>, listen: &[Listen], path: &Path) -> Option<InputTls> {
        let scheme = listen.iter().find_map(|listen| match listen {
            Listen::Tls(_) => Some("tls"),
            Listen::RelpTls(_) => Some("relp+tls"),
            _ => None,
        });
        match (raw, scheme) {
            (Some(tls), scheme) => {
                if scheme.is_none() && !listen.is_empty() {
                    self.mistake(path, "given, but none of \"listen\" is a tls:// or relp+tls:// URL");
                }
                self.input_tls(tls, path)
            }
            (None, Some(scheme)) => {
                self.missing(path, &format!("missing, expected \"cert\" and \"key\" for the {scheme}:// URL"));
                None
            }
            (None, None) => None,
        }
    }

    /// Datagrams and unix sockets have no such header.
    fn proxy_protocol(&mut self, given: Vec<Is<IpNet>>, listen: &[Listen], path: &Path) -> Vec<IpNet> {
        let is_tcp = |listen: &Listen| !matches!(listen, Listen::Udp(_) | Listen::Unix(_) | Listen::UnixDatagram(_));
        if !given.is_empty() && !listen.is_empty() && !listen.iter().any(is_tcp) {
            self.mistake(path, "given, but none of \"listen\" is a tcp://, tls://, relp+tcp:// or relp+tls:// URL");
        }
        given.into_iter().map(|Is(network)| network).collect()
    }

    fn acknowledge(
        &mut self,
        given: Option<Is<Acknowledge>>,
        listen: &[Listen],
        may_spool: bool,
        path: &Path,
    ) -> Acknowledge {
        let default = if may_spool { Acknowledge::Spooled } else { Acknowledge::Released };
        let Some(Is(given)) = given else { return default };
        if !listen.is_empty() && !listen.iter().any(|listen| matches!(listen, Listen::Relp(_) | Listen::RelpTls(_))) {
            self.mistake(path, "given, but none of \"listen\" is a relp+tcp:// or relp+tls:// URL");
        }
        if given == Acknowledge::Spooled && !may_spool {
            self.mistake(path, "found \"spooled\", but there is no \"spool\", expected received or released");
        }
        given
    }

    /// Syslog is released long after it was sent: whoever waits for that with a small window is slow.
    pub(super) fn warn_of_late_answers(&mut self, inputs: &[Input], outputs: &[Output]) {
        let is_late = |output: &&Output| output.replay_window > 0;
        let Some(output) = outputs.iter().find(is_late) else { return };
        for input in inputs.iter().filter(|input| input.acknowledge == Acknowledge::Released) {
            if !input.listen.iter().any(|listen| matches!(listen, Listen::Relp(_) | Listen::RelpTls(_))) {
                continue;
            }
            let message = format!(
                "is released: what goes to output \"{}\" is so once it has left the replay window, up to {} s after it was \
                 sent, and its RELP sender waits as long; a \"spool\" answers at once and as safely",
                output.name,
                output.replay_quiet.as_secs()
            );
            self.warning(&Path::root().key("inputs").key(&input.name).key("acknowledge"), message);
        }
    }

    pub(super) fn input_tls(&mut self, raw: raw::InputTls, path: &Path) -> Option<InputTls> {
        let cert = self.file(raw.cert, &path.key("cert"));
        let key = self.key_file(raw.key, &path.key("key"));
        let client_ca = self.file(raw.client_ca, &path.key("client_ca"));
        if cert.is_none() {
            self.missing(&path.key("cert"), "missing, expected the path of a PEM file");
        }
        if key.is_none() {
            self.missing(&path.key("key"), "missing, expected the path of a PEM file");
        }
        Some(InputTls { cert: cert?, key: key?, client_ca })
    }

    /// Two listeners on one address would share its messages between them, kernel's choice.
    pub(super) fn distinct_addresses(&mut self, inputs: &[Input], admin: &[AdminListen]) {
        let mut places: HashMap<String, Path> = HashMap::new();
        let mut repeated = Vec::new();
        let root = Path::root();
        for input in inputs {
            let path = root.key("inputs").key(&input.name).key("listen");
            for (index, listen) in input.listen.iter().enumerate() {
                let Some(address) = exclusive(listen) else { continue };
                let path = self.item(&path, index);
                match places.get(&address) {
                    Some(first) => repeated.push((path, first.clone())),
                    None => _ = places.insert(address, path),
                }
            }
        }
        let mut admin_places = HashSet::new();
        for admin in admin {
            let place = exclusive(&match admin {
                AdminListen::Tcp(address) => Listen::Tcp(*address),
                AdminListen::Unix(path) => Listen::Unix(path.clone()),
            });
            let Some(place) = place else { continue };
            if let Some(path) = places.get(&place) {
                self.mistake(path, "found the address of the admin server (\"admin.listen\")");
            }
            if !admin_places.insert(place) {
                self.mistake(&root.key("admin").key("listen"), "found the same address twice");
            }
        }
        for (path, first) in repeated {
            let message = format!("found an address that {first} ({}) has already", self.position(&first));
            self.mistake(&path, message);
        }
    }
}

/// What may be bound once only; `None` for port 0, which the kernel replaces by a free one.
fn exclusive(listen: &Listen) -> Option<String> {
    match listen {
        Listen::Udp(address) => (address.port() > 0).then(|| format!("udp {address}")),
        Listen::Tcp(address) | Listen::Tls(address) | Listen::Relp(address) | Listen::RelpTls(address) => {
            (address.port() > 0).then(|| format!("tcp {address}"))
        }
        Listen::Unix(path) | Listen::UnixDatagram(path) => Some(format!("unix {}", path.display())),
    }
}
