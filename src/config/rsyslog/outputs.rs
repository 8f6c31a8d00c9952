//! Where actions send: TCP, UDP, TLS, RELP and files, as `outputs:` has them.

use super::globals::Globals;
use super::notes::Notes;
use crate::config::report::Position;
use crate::config::tree::Node;

/// rsyslog's port where none is named.
const PORT: &str = "514";

/// Sekoia's hosts: their certificates are signed by a public authority.
const SEKOIA: &str = ".sekoia.io";

/// What `omfwd` and its forms of old were told.
#[derive(Debug, Default, Clone)]
pub(super) struct Forward {
    pub(super) host: String,
    pub(super) port: Option<String>,
    pub(super) tcp: bool,
    pub(super) octet_counted: bool,
    pub(super) tls: Tls,
    /// Seconds of silence before the first probe.
    pub(super) keepalive: Option<String>,
}

/// How an action trusts and is trusted.
#[derive(Debug, Default, Clone)]
pub(super) struct Tls {
    /// The mode is 1, or `tls="on"`.
    pub(super) on: bool,
    /// `x509/name`, `name`, …
    pub(super) auth: String,
    pub(super) peers: Vec<String>,
    pub(super) ca: Option<String>,
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
}

/// `omrelp`.
#[derive(Debug, Default, Clone)]
pub(super) struct Relp {
    pub(super) host: String,
    pub(super) port: Option<String>,
    pub(super) tls: Tls,
    pub(super) window: Option<String>,
}

/// An output, and the name that it would have if nobody else had it.
pub(super) struct Made {
    pub(super) name: String,
    pub(super) node: Node,
}

/// `omfwd`.
pub(super) fn forward(at: &Position, forward: &Forward, globals: &Globals, construct: &str, notes: &mut Notes) -> Made {
    let port = forward.port.clone().unwrap_or_else(|| PORT.to_owned());
    let scheme = match forward.tcp {
        false => "udp",
        true if is_over_tls(at, &forward.tls, &forward.host, construct, notes) => "tls",
        true => "tcp",
    };
    let mut node = to(at, scheme, &forward.host, &port);
    if forward.tcp {
        if !forward.octet_counted {
            node.set("framing", Node::text(at, "lf"));
        }
        if let Some(seconds) = forward.keepalive.as_deref().filter(|seconds| seconds.parse::<u32>().is_ok()) {
            node.set("keepalive", Node::text(at, format!("{seconds}s")));
        }
    }
    if scheme == "tls" {
        let mut tls = forward.tls.clone();
        let default = |value: &Option<(Position, String)>| value.as_ref().map(|(_, text)| text.clone());
        tls.ca = tls.ca.or_else(|| default(&globals.ca));
        tls.cert = tls.cert.or_else(|| default(&globals.cert));
        tls.key = tls.key.or_else(|| default(&globals.key));
        trust(at, &mut node, &tls, &forward.host, construct, notes);
    }
    Made { name: name(&[&forward.host, scheme]), node }
}

/// `omrelp`.
pub(super) fn relp(at: &Position, relp: &Relp, construct: &str, notes: &mut Notes) -> Made {
    let port = relp.port.clone().unwrap_or_else(|| PORT.to_owned());
    let is_over_tls = is_over_tls(at, &relp.tls, &relp.host, construct, notes);
    let scheme = if is_over_tls { "relp+tls" } else { "relp+tcp" };
    let mut node = to(at, scheme, &relp.host, &port);
    if let Some(window) = &relp.window {
        node.set("relp_window", Node::text(at, window));
    }
    if is_over_tls {
        trust(at, &mut node, &relp.tls, &relp.host, construct, notes);
    }
    Made { name: name(&[&relp.host, "relp"]), node }
}

/// `omfile`. `None`: no file that we could write.
pub(super) fn file(at: &Position, path: &str, construct: &str, notes: &mut Notes) -> Option<Made> {
    if !path.starts_with('/') || path.starts_with("/dev/") {
        let message = "a file's absolute path is expected, and no device; /status shows what goes where";
        notes.unsupported(at, construct, message);
        return None;
    }
    let mut node = Node::map(at);
    node.set("to", Node::text(at, format!("file://{path}")));
    // rsyslog leaves it to logrotate, which goes on.
    let mut rotate = Node::map(at);
    rotate.set("size", Node::text(at, "off"));
    node.set("rotate", rotate);
    notes.mapped(
        at,
        construct,
        "an output with to: file://; intake keys are written as *** unless it has reveal_keys: true",
    );
    Some(Made { name: name(&[path.trim_start_matches('/')]), node })
}

/// Sekoia's own lines (`@@(o)intake.sekoia.io:10514;…`) leave TLS to a directive that stands elsewhere, and is often missing.
fn is_over_tls(at: &Position, tls: &Tls, host: &str, construct: &str, notes: &mut Notes) -> bool {
    if !tls.on && is_sekoias(host) {
        let message = "over TLS, though the line does not ask for it: Sekoia's intake takes nothing else, and no intake \
                       key travels in the clear";
        notes.mapped(at, construct, message);
    }
    tls.on || is_sekoias(host)
}

fn is_sekoias(host: &str) -> bool {
    host.to_lowercase().ends_with(SEKOIA)
}

fn to(at: &Position, scheme: &str, host: &str, port: &str) -> Node {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let host = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
    let mut node = Node::map(at);
    node.set("to", Node::text(at, format!("{scheme}://{host}:{port}")));
    node
}

/// `tls:`, where it differs from what is done without it.
fn trust(at: &Position, node: &mut Node, tls: &Tls, host: &str, construct: &str, notes: &mut Notes) {
    let mut keys = Node::map(at);
    match &tls.ca {
        Some(ca) if is_sekoias(host) => {
            let message =
                format!("{ca} is not needed: public authorities sign Sekoia's certificates, their roots are built in");
            notes.mapped(at, construct, message);
        }
        Some(ca) => keys.set("ca", Node::text(at, ca)),
        None => {}
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        keys.set("client_cert", Node::text(at, cert));
        keys.set("client_key", Node::text(at, key));
    }
    if let Some(name) = server_name(at, tls, host, construct, notes) {
        keys.set("server_name", Node::text(at, name));
    }
    let by = tls.auth.trim_start_matches("x509/").to_lowercase();
    match by.as_str() {
        "name" => {}
        "fingerprint" => {
            notes.unsupported(at, construct, "the certificate is verified by its chain and name, not by a fingerprint")
        }
        "certvalid" => notes.mapped(at, construct, "the certificate's name is verified as well"),
        "" | "anon" => notes.mapped(at, construct, "the certificate is verified: nothing is sent to whoever answers"),
        other => notes.unsupported(at, construct, format!("no way of verifying called \"{other}\"")),
    }
    if !matches!(&keys.value, crate::config::tree::Value::Map(entries) if entries.is_empty()) {
        node.set("tls", keys);
    }
}

/// The name that the certificate must be for, where it is not the host.
fn server_name(at: &Position, tls: &Tls, host: &str, construct: &str, notes: &mut Notes) -> Option<String> {
    let covers = |peer: &&String| match peer.strip_prefix("*.") {
        Some(domain) => host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
        None => peer.eq_ignore_ascii_case(host),
    };
    if tls.peers.is_empty() || tls.peers.iter().any(|peer| covers(&peer)) {
        return None;
    }
    let name = tls.peers.iter().find(|peer| !peer.contains('*') && !peer.contains(':'));
    if tls.peers.len() > 1 || name.is_none() {
        let taken = name.map_or("the target's own name", String::as_str);
        notes.unsupported(at, construct, format!("one name is verified: {taken}"));
    }
    name.cloned()
}

/// Letters, digits, `-`, `_` and `.`, not too many.
pub(super) fn name(parts: &[&str]) -> String {
    let joined = parts.join("-");
    let good = |each: char| if each.is_ascii_alphanumeric() || "-_.".contains(each) { each } else { '-' };
    let name: String = joined.chars().map(good).collect();
    // Room for a number behind it.
    let name: String = name.trim_matches('-').chars().take(56).collect();
    if name.is_empty() { "output".to_owned() } else { name }
}
