//! Where rsyslog listens, as `inputs:` has it.

use super::globals::{Globals, is_on, size};
use super::notes::Notes;
use super::outputs::name as clean_name;
use super::syntax::Object;
use crate::config::limits;
use crate::config::report::Position;
use crate::config::tree::Node;
use crate::config::units::show_size;

/// Where this machine logs, and where systemd's journal hands on what is logged there; rsyslog looks the same way.
const SYSTEM_SOCKET: &str = "/dev/log";
const JOURNAL_SOCKET: &str = "/run/systemd/journal/syslog";

/// An input, before its name is settled.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) at: Position,
    /// The construct, for notes.
    pub(super) construct: String,
    /// The module, which is rsyslog's name for inputs that have none.
    pub(super) kind: String,
    /// `name="…"`
    pub(super) is_named: bool,
    /// The name that it would have if nobody else had it.
    pub(super) name: String,
    /// `None`: the default one.
    pub(super) ruleset: Option<String>,
    pub(super) node: Node,
    /// `udp` or `tcp`, for `$AllowedSender`.
    pub(super) protocol: &'static str,
}

/// What sockets of all kinds can be told and forebay need not be.
const MEANINGLESS: [(&str, &str); 22] = [
    ("address.reuse", "ports are shared by the shards"),
    ("batchsize", "as many as are there are read at a time"),
    ("createpath", "the socket's folder must be there"),
    ("defaulttz", "\"timezone\" is the zone of stamps without one"),
    ("filecreatemode", "anyone on the machine may log"),
    ("filegroup", "anyone on the machine may log"),
    ("fileowner", "anyone on the machine may log"),
    ("flowcontrol", "senders that can wait are made to wait when memory is full"),
    ("ipfreebind", "an address must be there"),
    ("keepalive", "a silent connection costs nothing; \"idle_timeout\" closes it"),
    ("keepalive.interval", "a silent connection costs nothing"),
    ("keepalive.probes", "a silent connection costs nothing"),
    ("keepalive.time", "a silent connection costs nothing"),
    ("maxlisteners", "as many as are named"),
    ("notifyonconnectionclose", "/metrics counts connections"),
    ("notifyonconnectionopen", "/metrics counts connections"),
    ("processongoingmessages", "messages are taken as they come"),
    ("schedulingpolicy", "shards run as the system schedules them"),
    ("schedulingpriority", "shards run as the system schedules them"),
    ("socketbacklog", "1024"),
    ("threads", "a shard for each core"),
    ("timerequery", "one look at the clock for each read"),
];

/// `input(…)`. `None`: there is no such input here.
pub(super) fn of_object(at: &Position, object: &Object, globals: &Globals, notes: &mut Notes) -> Option<Input> {
    let kind = object.text("type").unwrap_or_default().to_lowercase();
    let construct = format!("input(type=\"{kind}\")");
    let mut reader =
        Reader { at, kind: &kind, object, globals, notes, node: Node::map(at), used: vec!["type", "name", "ruleset"] };
    let (default_name, protocol) = match kind.as_str() {
        "imudp" => (reader.datagrams(), "udp"),
        "imtcp" | "imptcp" => (reader.streams(), "tcp"),
        "imrelp" => (reader.relp(), "tcp"),
        "imuxsock" => (reader.unix_socket(), ""),
        _ => {
            let why = match kind.as_str() {
                "imfile" => "files are not read",
                "imjournal" => "the journal is not read; let it forward to a socket",
                _ => "there is no such input here: what it reads does not arrive",
            };
            notes.unsupported(at, &construct, why);
            return None;
        }
    };
    reader.leftover(&construct);
    let node = reader.node;
    let given = object.text("name").filter(|name| !name.is_empty());
    let is_named = given.is_some();
    let name = given.unwrap_or(default_name);
    let ruleset = object.text("ruleset").or_else(|| globals.of_module(&kind, "ruleset"));
    Some(Input { at: at.clone(), construct, kind, is_named, name: clean_name(&[&name]), ruleset, node, protocol })
}

/// A listener of a directive of old (`$UDPServerRun 514`).
pub(super) fn of_directive(
    at: &Position,
    construct: &str,
    kind: &str,
    scheme: &'static str,
    address: Option<&str>,
    port: &str,
) -> Input {
    let mut node = Node::map(at);
    node.set("listen", Node::list(at, urls(at, scheme, address, port)));
    let protocol = if scheme == "udp" { "udp" } else { "tcp" };
    Input {
        at: at.clone(),
        construct: construct.to_owned(),
        kind: kind.to_owned(),
        is_named: false,
        name: clean_name(&[kind, port]),
        ruleset: None,
        node,
        protocol,
    }
}

impl Input {
    /// Gives it a name that the configuration has for it.
    pub(super) fn rename(&mut self, name: &str) {
        self.name = clean_name(&[name]);
        self.is_named = true;
    }
}

/// The certificates of the whole configuration, for a listener that speaks TLS.
pub(super) fn set_certificates(input: &mut Input, globals: &Globals, of_clients: bool) {
    let mut tls = Node::map(&input.at);
    let ca = globals.ca.as_ref().filter(|_| of_clients);
    for (name, value) in [("cert", globals.cert.as_ref()), ("key", globals.key.as_ref()), ("client_ca", ca)] {
        if let Some((at, value)) = value {
            tls.set(name, Node::text(at, value));
        }
    }
    input.node.set("tls", tls);
}

/// A unix datagram socket.
pub(super) fn socket(at: &Position, construct: &str, path: &str) -> Input {
    let mut node = Node::map(at);
    node.set("listen", Node::text(at, format!("unixgram://{path}")));
    Input {
        at: at.clone(),
        construct: construct.to_owned(),
        kind: "imuxsock".to_owned(),
        is_named: false,
        name: clean_name(&["imuxsock", path.trim_start_matches('/')]),
        ruleset: None,
        node,
        protocol: "",
    }
}

/// What `module(load="imuxsock")` opens without being asked.
pub(super) fn system_socket(globals: &Globals, notes: &mut Notes) -> Option<Input> {
    let (at, module) = globals.modules.get("imuxsock")?;
    if module.text("syssock.use").is_some_and(|value| !is_on(&value)) {
        return None;
    }
    let booted_by_systemd = std::path::Path::new("/run/systemd/system").is_dir();
    let default = if booted_by_systemd { JOURNAL_SOCKET } else { SYSTEM_SOCKET };
    let path = module.text("syssock.name").unwrap_or_else(|| default.to_owned());
    for param in module.params.iter().filter(|param| param.name.starts_with("syssock.ratelimit")) {
        notes.unsupported(&param.at, &format!("module(imuxsock {})", param.name), "no sender is limited");
    }
    Some(socket(at, "the system's log socket", &path))
}

/// The URLs of a listener; without an address both families, IPv6 where this machine has it, as rsyslog does.
fn urls(at: &Position, scheme: &str, address: Option<&str>, port: &str) -> Vec<Node> {
    let port = if port == "syslog" { "514" } else { port };
    let has_v6 = std::path::Path::new("/proc/net/if_inet6").exists();
    let addresses = match address.map(|address| address.trim_matches(['[', ']'])) {
        None | Some("" | "*") if has_v6 => vec!["0.0.0.0".to_owned(), "[::]".to_owned()],
        None | Some("" | "*") => vec!["0.0.0.0".to_owned()],
        Some("localhost") => vec!["127.0.0.1".to_owned()],
        Some(v6) if v6.contains(':') => vec![format!("[{v6}]")],
        Some(other) => vec![other.to_owned()],
    };
    addresses.iter().map(|address| Node::text(at, format!("{scheme}://{address}:{port}"))).collect()
}

struct Reader<'a> {
    at: &'a Position,
    kind: &'a str,
    object: &'a Object,
    globals: &'a Globals,
    notes: &'a mut Notes,
    node: Node,
    /// Parameters that have been looked at.
    used: Vec<&'static str>,
}

impl Reader<'_> {
    /// The input's parameter, or the module's.
    fn text(&mut self, name: &'static str) -> Option<String> {
        self.used.push(name);
        self.object.text(name).or_else(|| self.globals.of_module(self.kind, name))
    }

    fn datagrams(&mut self) -> String {
        self.listen("udp");
        if let Some(octets) = self.text("rcvbufsize").as_deref().and_then(size) {
            let octets = octets.clamp(limits::RECEIVE_BUFFER_MIN, limits::RECEIVE_BUFFER_MAX);
            self.node.set("receive_buffer", Node::text(self.at, show_size(octets)));
        }
        self.named_after_port()
    }

    fn streams(&mut self) -> String {
        if let Some(path) = self.text("path") {
            self.node.set("listen", Node::text(self.at, format!("unix://{path}")));
            return "imptcp".to_owned();
        }
        let driver = self.text("streamdriver.name");
        let is_tls = self.text("streamdriver.mode").is_some_and(|mode| mode == "1")
            && (driver.is_some() || self.globals.driver.is_some());
        self.listen(if is_tls { "tls" } else { "tcp" });
        if is_tls {
            let [cert, key, ca] =
                ["streamdriver.certfile", "streamdriver.keyfile", "streamdriver.cafile"].map(|name| self.text(name));
            let default = |value: &Option<(Position, String)>| value.as_ref().map(|(_, text)| text.clone());
            let cert = cert.or_else(|| default(&self.globals.cert));
            let key = key.or_else(|| default(&self.globals.key));
            let ca = ca.or_else(|| default(&self.globals.ca));
            let auth = self.text("streamdriver.authmode").unwrap_or_default();
            self.tls(cert, key, ca.filter(|_| auth.starts_with("x509/")));
        }
        if self.text("supportoctetcountedframing").is_some_and(|value| !is_on(&value)) {
            self.node.set("framing", Node::text(self.at, "lf"));
        }
        self.max_connections("maxsessions");
        self.named_after_port()
    }

    fn relp(&mut self) -> String {
        let is_tls = self.text("tls").is_some_and(|value| is_on(&value));
        self.listen(if is_tls { "relp+tls" } else { "relp+tcp" });
        if is_tls {
            let [cert, key, ca, auth] =
                ["tls.mycert", "tls.myprivkey", "tls.cacert", "tls.authmode"].map(|name| self.text(name));
            self.tls(cert, key, ca.filter(|_| auth.is_some()));
        }
        if let Some(octets) = self.text("maxdatasize").as_deref().and_then(size) {
            self.node.set("max_message_size", Node::text(self.at, message_size(octets)));
        }
        self.named_after_port()
    }

    fn unix_socket(&mut self) -> String {
        let path = self.text("socket").unwrap_or_else(|| SYSTEM_SOCKET.to_owned());
        self.node.set("listen", Node::text(self.at, format!("unixgram://{path}")));
        if self.text("ratelimit.interval").is_none_or(|interval| interval == "0") {
            self.used.push("ratelimit.burst");
        } else {
            self.used.retain(|name| *name != "ratelimit.interval");
        }
        let construct = "input(type=\"imuxsock\")";
        if self.text("ignoretimestamp").is_none_or(|value| is_on(&value)) {
            self.notes.mapped(
                self.at,
                construct,
                "the message's own stamp is used; rsyslog takes the time of reception",
            );
        }
        "imuxsock".to_owned()
    }

    fn listen(&mut self, scheme: &str) {
        let address = self.text("address");
        self.used.push("port");
        let ports = self.object.param("port").map(super::syntax::Param::texts).unwrap_or_default();
        let urls: Vec<Node> = ports.iter().flat_map(|port| urls(self.at, scheme, address.as_deref(), port)).collect();
        self.node.set("listen", Node::list(self.at, urls));
    }

    fn named_after_port(&self) -> String {
        format!("{}-{}", self.kind, self.object.text("port").unwrap_or_default())
    }

    fn tls(&mut self, cert: Option<String>, key: Option<String>, client_ca: Option<String>) {
        let mut tls = Node::map(self.at);
        for (name, value) in [("cert", cert), ("key", key), ("client_ca", client_ca)] {
            if let Some(value) = value {
                tls.set(name, Node::text(self.at, value));
            }
        }
        self.node.set("tls", tls);
    }

    fn max_connections(&mut self, name: &'static str) {
        if let Some(count) = self.text(name).and_then(|count| count.parse::<u64>().ok()) {
            let count = count.clamp(1, limits::CONNECTIONS_MAX);
            self.node.set("max_connections", Node::text(self.at, count.to_string()));
        }
    }

    /// What has not been looked at.
    fn leftover(&mut self, construct: &str) {
        for param in self.object.params.iter().filter(|param| !self.used.contains(&param.name.as_str())) {
            let construct = format!("{construct} {}", param.name);
            match MEANINGLESS.iter().find(|(name, _)| *name == param.name) {
                Some((_, why)) => self.notes.meaningless(&param.at, &construct, *why),
                None if param.name.starts_with("ratelimit") => {
                    self.notes.unsupported(&param.at, &construct, "no sender is limited");
                }
                None if param.name.contains("permittedpeer") => {
                    let why = "whoever shows a certificate that \"client_ca\" signed may send, whatever its name";
                    self.notes.unsupported(&param.at, &construct, why);
                }
                None => self.notes.unsupported(&param.at, &construct, "there is no such setting here"),
            }
        }
    }
}

/// What a module's own parameters say that no input of it asks for.
pub(super) fn module_leftover(module: &str, object: &Object, notes: &mut Notes) {
    const READ: [&str; 16] = [
        "load",
        "ruleset",
        "maxsessions",
        "rcvbufsize",
        "streamdriver.authmode",
        "streamdriver.cafile",
        "streamdriver.certfile",
        "streamdriver.keyfile",
        "streamdriver.mode",
        "streamdriver.name",
        "supportoctetcountedframing",
        "syssock.name",
        "syssock.ratelimit.burst",
        "syssock.ratelimit.interval",
        "syssock.use",
        "template",
    ];
    for param in object.params.iter().filter(|param| !READ.contains(&param.name.as_str())) {
        let construct = format!("module(load=\"{module}\") {}", param.name);
        match MEANINGLESS.iter().find(|(name, _)| *name == param.name) {
            Some((_, why)) => notes.meaningless(&param.at, &construct, *why),
            None if param.name == "tls.tlslib" => notes.meaningless(&param.at, &construct, "TLS is built in"),
            None => notes.unsupported(&param.at, &construct, "there is no such setting here"),
        }
    }
}

/// A size that `max_message_size` may have.
pub(super) fn message_size(octets: u64) -> String {
    show_size(octets.clamp(limits::MESSAGE_SIZE_MIN, limits::MESSAGE_SIZE_MAX))
}
