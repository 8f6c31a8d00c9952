//! Addresses: where an input listens, where an output connects to.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Listen;
use super::leaf::{Leaf, Wrong};

const LISTEN_SCHEMES: [&str; 5] = ["udp", "tcp", "tls", "unix", "unixgram"];

/// `sun_path` has 108 octets, the last of which is NUL.
const UNIX_PATH_MAX: usize = 107;

/// Where an output connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct To {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Leaf for Listen {
    fn expected() -> String {
        "expected udp://, tcp:// or tls:// with ADDRESS:PORT, or unix:// or unixgram:// with /PATH".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = |why: &str| Wrong::from(format!("found \"{text}\"{why}, {}", Self::expected()));
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong(""))?;
        match scheme {
            "udp" => socket_address(text, rest).map(Self::Udp),
            "tcp" => socket_address(text, rest).map(Self::Tcp),
            "tls" => socket_address(text, rest).map(Self::Tls),
            "unix" => unix_path(text, rest).map(Self::Unix),
            "unixgram" => unix_path(text, rest).map(Self::UnixDatagram),
            scheme => Err(wrong(&super::report::did_you_mean(scheme, LISTEN_SCHEMES))),
        }
    }
}

impl Leaf for To {
    fn expected() -> String {
        "expected tls://HOST:PORT or tcp://HOST:PORT".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = |why: &str| Wrong::from(format!("found \"{text}\"{why}, {}", Self::expected()));
        let (tls, rest) = match text.split_once("://") {
            Some(("tls", rest)) => (true, rest),
            Some(("tcp", rest)) => (false, rest),
            Some((scheme, _)) => return Err(wrong(&super::report::did_you_mean(scheme, ["tls", "tcp"]))),
            None => return Err(wrong("")),
        };
        let (host, port) = match rest.rsplit_once(':') {
            // The last colon of `[::1]` is no port's.
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => return Err(wrong(" without a port")),
        };
        let port = port_number(text, port)?;
        if port == 0 {
            return Err(wrong(" with port 0"));
        }
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => address,
            None if is_host(host) => host,
            _ => return Err(wrong("")),
        };
        Ok(Self { tls, host: host.to_owned(), port })
    }
}

impl Leaf for SocketAddr {
    fn expected() -> String {
        "expected ADDRESS:PORT".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        socket_address(text, text)
    }
}

fn socket_address(text: &str, rest: &str) -> Result<SocketAddr, Wrong> {
    if let Ok(address) = rest.parse() {
        return Ok(address);
    }
    let Some((host, port)) = rest.rsplit_once(':').filter(|(_, port)| !port.contains(']')) else {
        return Err(format!("found \"{text}\" without a port, expected ADDRESS:PORT such as 0.0.0.0:514").into());
    };
    port_number(text, port)?;
    let hint = match host {
        "localhost" => " (did you mean 127.0.0.1?)",
        "" | "*" => " (did you mean 0.0.0.0?)",
        host if host.parse::<std::net::Ipv6Addr>().is_ok() => " (IPv6 addresses stand in brackets)",
        _ => "",
    };
    Err(format!("found \"{text}\", expected an IPv4 address or an IPv6 address in brackets before the port{hint}")
        .into())
}

fn port_number(text: &str, port: &str) -> Result<u16, Wrong> {
    port.parse().map_err(|_| format!("found \"{text}\", expected a port from 1 to 65535 after the last colon").into())
}

fn unix_path(text: &str, rest: &str) -> Result<PathBuf, Wrong> {
    if !rest.starts_with('/') || rest.ends_with('/') {
        return Err(format!("found \"{text}\", expected an absolute path after ://").into());
    }
    if rest.len() > UNIX_PATH_MAX || rest.contains('\0') {
        return Err(format!("found \"{text}\", expected a path of at most {UNIX_PATH_MAX} octets").into());
    }
    Ok(PathBuf::from(rest))
}

/// A host name (RFC 1123 section 2.1, underscores tolerated) or an IPv4 address.
fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|each| each.is_ascii_alphanumeric() || matches!(each, '-' | '_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_urls_name_a_scheme_an_address_and_a_port() {
        for text in
            ["udp://0.0.0.0:514", "tcp://[::]:514", "tls://127.0.0.1:0", "unix:///run/a.sock", "unixgram:///dev/log"]
        {
            assert!(Listen::parse(text).is_ok(), "{text}");
        }
        let rows = [
            ("0.0.0.0:514", "expected udp://"),
            ("upd://0.0.0.0:514", "did you mean \"udp\"?"),
            ("udp://0.0.0.0", "without a port"),
            ("udp://0.0.0.0:99999", "a port from 1 to 65535"),
            ("udp://localhost:514", "did you mean 127.0.0.1?"),
            ("udp://*:514", "did you mean 0.0.0.0?"),
            ("udp://::1:514", "in brackets"),
            ("udp://[::1]", "without a port"),
            ("unix://dev/log", "an absolute path"),
            ("unix:///run/", "an absolute path"),
        ];
        for (text, part) in rows {
            let wrong = Listen::parse(text).expect_err(text);
            assert!(wrong.message.contains(part), "{text}: {}", wrong.message);
        }
    }

    #[test]
    fn destinations_name_a_host_and_a_port() {
        let to = |tls, host: &str, port| To { tls, host: host.to_owned(), port };
        assert_eq!(To::parse("tls://intake.sekoia.io:10514"), Ok(to(true, "intake.sekoia.io", 10514)));
        assert_eq!(To::parse("tcp://[::1]:601"), Ok(to(false, "::1", 601)));
        let rows = [
            ("intake.sekoia.io:10514", "expected tls://"),
            ("tsl://intake.sekoia.io:10514", "did you mean \"tls\"?"),
            ("tls://intake.sekoia.io", "without a port"),
            ("tls://[::1]", "without a port"),
            ("tls://intake.sekoia.io:0", "with port 0"),
            ("tls://intake.sekoia.io:70000", "a port from 1 to 65535"),
            ("tls://intake..io:1", "expected tls://"),
            ("tls://user@host:1", "expected tls://"),
            ("tls://host:1/path", "a port from 1 to 65535"),
            ("tls://:1", "expected tls://"),
        ];
        for (text, part) in rows {
            let wrong = To::parse(text).expect_err(text);
            assert!(wrong.message.contains(part), "{text}: {}", wrong.message);
        }
    }
}
