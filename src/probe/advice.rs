//! What went wrong on the way, and what to do about it.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::config::Target;
use crate::road::ConnectError;

use super::report::Failure;

/// For a failure to connect to `target`.
pub(super) fn of_connect(error: &ConnectError, target: &Target) -> Failure {
    let what = error.to_string();
    let (step, next) = match error {
        ConnectError::Resolve { host, .. } => (
            "resolve",
            format!(
                "compare with `getent ahosts {host}`; look at the name's spelling, at /etc/resolv.conf, and whether the firewall \
                 lets DNS out; fallback_addresses of the output are used while a name has no address"
            ),
        ),
        ConnectError::Connect { peer, source } => ("connect", of_tcp(*peer, source, target)),
        ConnectError::Proxy { peer, .. } => (
            "proxy",
            format!(
                "look at the output's proxy (or HTTPS_PROXY of the environment, user and password included), and have the \
                 proxy at {peer} let CONNECT to {} through",
                target.address()
            ),
        ),
        ConnectError::Handshake { peer, server_name, source } => ("tls", of_tls(*peer, server_name, source, target)),
    };
    Failure { step, what, next }
}

fn of_tcp(peer: SocketAddr, error: &io::Error, target: &Target) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nobody listens there: look at the port and whether the collector runs; some firewalls answer so as well"
                .to_owned()
        }
        io::ErrorKind::TimedOut => {
            let name = match target.host.parse::<IpAddr>() {
                Ok(_) => String::new(),
                Err(_) => format!(" (it is one of {}, whose addresses may change)", target.host),
            };
            let (ip, port) = (peer.ip(), peer.port());
            format!("nothing came back: open the firewall for TCP from this machine to {ip} port {port}{name}")
        }
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => format!(
            "this machine has no way there: compare with `ip route get {}`; other addresses of the name are used meanwhile",
            peer.ip()
        ),
        io::ErrorKind::PermissionDenied => {
            "this machine's own firewall refuses it: look at its outgoing rules".to_owned()
        }
        _ => format!("look at what lies between this machine and {peer}"),
    }
}

fn of_tls(peer: SocketAddr, server_name: &str, error: &io::Error, target: &Target) -> String {
    let words = error.to_string();
    // These are our own words (`tls::Client::explain`).
    let says = |part: &str| words.contains(part);
    if error.kind() == io::ErrorKind::TimedOut {
        return format!(
            "TCP is answered and TLS is not: whoever listens does not speak TLS, or something on the way swallows it (a firewall \
             that inspects TLS): have {} let through untouched",
            target.address()
        );
    }
    if says("expired on") || says("is valid from") {
        return "compare `date -u` with a clock that is right; where ours is, the far end's owner must renew the certificate"
            .to_owned();
    }
    if says("not trusted") {
        return format!(
            "where that authority is your own, give its file as tls.ca; where it is that of a proxy or firewall which opens TLS, \
             have {} exempted from it",
            target.address()
        );
    }
    if says("expected one for") {
        return format!("look at the output's host and tls.server_name (now {server_name}), and who answers at {peer}");
    }
    format!("compare with `openssl s_client -connect {peer} -servername {server_name}`")
}

/// For a session that did not open on a connection that works.
pub(super) fn of_session(what: String, step: &'static str, target: &Target) -> Failure {
    let next = match step {
        "relp" => format!("look whether RELP is spoken at {} (Sekoia's port for it is 11514)", target.address()),
        // The words say which.
        "tls" => "give the output a client certificate that the far end takes (tls.client_cert and tls.client_key)"
            .to_owned(),
        _ => format!("look whether HTTP is spoken at {}, and at the proxy where there is one", target.address()),
    };
    Failure { step, what, next }
}
