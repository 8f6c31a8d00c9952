//! Addresses: where an input listens, where an output connects to.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::leaf::{Leaf, Wrong};
use super::report::did_you_mean;
use super::{Listen, limits};

const LISTEN_SCHEMES: [&str; 7] = ["udp", "tcp", "tls", "relp+tcp", "relp+tls", "unix", "unixgram"];

/// `sun_path` has 108 octets, the last of which is NUL.
const UNIX_PATH_MAX: usize = 107;

/// Where an output's messages go: one URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct To {
    pub(crate) scheme: Scheme,
    /// Empty for a file.
    pub(crate) host: String,
    /// 0 for a file.
    pub(crate) port: u16,
    /// The file's path; with HTTP what stands before the intake's paths, without a slash at the end; empty otherwise.
    pub(crate) path: String,
}

/// What stands before `://` in an output's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Tls,
    Tcp,
    Udp,
    RelpTls,
    RelpTcp,
    Https,
    Http,
    File,
}

impl Scheme {
    const ALL: [(&str, Self); 8] = [
        ("tls", Self::Tls),
        ("tcp", Self::Tcp),
        ("udp", Self::Udp),
        ("relp+tls", Self::RelpTls),
        ("relp+tcp", Self::RelpTcp),
        ("https", Self::Https),
        ("http", Self::Http),
        ("file", Self::File),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, scheme)| *scheme == self).map(|(name, _)| *name).unwrap_or_default()
    }

    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::RelpTls | Self::Https)
    }

    /// The port that need not be written.
    fn default_port(self) -> Option<u16> {
        match self {
            Self::Https => Some(limits::HTTPS_PORT),
            Self::Http => Some(limits::HTTP_PORT),
            _ => None,
        }
    }
}

/// An HTTP proxy: host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProxyUrl(pub(crate) String, pub(crate) u16);

impl Leaf for Listen {
    fn expected() -> String {
        "expected udp://, tcp://, tls://, relp+tcp:// or relp+tls:// with ADDRESS:PORT, or unix:// or unixgram:// with \
         /PATH"
            .to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = |why: &str| Wrong::from(format!("found \"{text}\"{why}, {}", Self::expected()));
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong(""))?;
        match scheme {
            "udp" => socket_address(text, rest).map(Self::Udp),
            "tcp" => socket_address(text, rest).map(Self::Tcp),
            "tls" => socket_address(text, rest).map(Self::Tls),
            "relp+tcp" => socket_address(text, rest).map(Self::Relp),
            "relp+tls" => socket_address(text, rest).map(Self::RelpTls),
            "unix" => unix_path(text, rest).map(Self::Unix),
            "unixgram" => unix_path(text, rest).map(Self::UnixDatagram),
            scheme => Err(wrong(&near(scheme, LISTEN_SCHEMES))),
        }
    }
}

impl Leaf for To {
    fn expected() -> String {
        "expected tls://, tcp://, udp://, relp+tls:// or relp+tcp:// with HOST:PORT, https:// or http:// with HOST, or \
         file:// with /PATH"
            .to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = |why: &str| Wrong::from(format!("found \"{text}\"{why}, {}", Self::expected()));
        let (scheme, rest) = match text.split_once("://") {
            Some((name, rest)) => (Scheme::ALL.iter().find(|(known, _)| *known == name).ok_or(name), rest),
            None => (Err(""), text),
        };
        if let Ok((_, Scheme::File)) = scheme {
            let path = file_path(text, rest)?;
            return Ok(Self { scheme: Scheme::File, host: String::new(), port: 0, path });
        }
        refuse_user(rest, &Self::expected())?;
        let (_, scheme) = *scheme.map_err(|name| wrong(&near(name, Scheme::ALL.map(|(name, _)| name))))?;
        let (authority, path) = match scheme {
            Scheme::Https | Scheme::Http => {
                let (authority, path) =
                    rest.split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len())).unwrap_or((rest, ""));
                (authority, http_path(path).ok_or_else(|| wrong(" with more than a path after the host"))?)
            }
            _ => (rest, ""),
        };
        let (host, port) = host_and_port(text, authority, scheme.default_port(), &Self::expected())?;
        Ok(Self { scheme, host, port, path: path.to_owned() })
    }
}

impl Leaf for ProxyUrl {
    fn expected() -> String {
        "expected http://HOST:PORT".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        refuse_user(text, &Self::expected())?;
        let rest = text.strip_prefix("http://").ok_or_else(|| format!("found \"{text}\", {}", Self::expected()))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = host_and_port(text, rest, None, &Self::expected())?;
        Ok(Self(host, port))
    }
}

/// A name before the host may come with a password: the text is not shown.
fn refuse_user(rest: &str, expected: &str) -> Result<(), Wrong> {
    match rest.contains('@') {
        true => Err(format!("found a URL with a user (\"@\"), {expected}").into()),
        false => Ok(()),
    }
}

/// The scheme that may have been meant.
fn near<const COUNT: usize>(scheme: &str, known: [&'static str; COUNT]) -> String {
    match scheme {
        "relp" => did_you_mean("relp+tls", known),
        scheme => did_you_mean(scheme, known),
    }
}

fn host_and_port(text: &str, authority: &str, port: Option<u16>, expected: &str) -> Result<(String, u16), Wrong> {
    let wrong = |why: &str| Wrong::from(format!("found \"{text}\"{why}, {expected}"));
    let (host, port) = match authority.rsplit_once(':') {
        // The last colon of `[::1]` is no port's.
        Some((host, port)) if !port.contains(']') => (host, port_number(text, port)?),
        _ => (authority, port.ok_or_else(|| wrong(" without a port"))?),
    };
    if port == 0 {
        return Err(wrong(" with port 0"));
    }
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => Ok((address.to_owned(), port)),
        None if is_host(host) => Ok((host.to_owned(), port)),
        _ => Err(wrong("")),
    }
}

/// What stands before the intake's own paths. `None`: a query, a fragment, or what stands in no path (RFC 3986 section
/// 3.3).
fn http_path(path: &str) -> Option<&str> {
    let allowed = |each: char| each.is_ascii_alphanumeric() || "/-._~!$&'()*+,;=:%".contains(each);
    path.chars().all(allowed).then(|| path.trim_end_matches('/'))
}

fn file_path(text: &str, rest: &str) -> Result<String, Wrong> {
    if !rest.starts_with('/') || rest.ends_with('/') || rest.contains('\0') {
        return Err(format!("found \"{text}\", expected the absolute path of a file after file://").into());
    }
    Ok(rest.to_owned())
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
        for text in [
            "udp://0.0.0.0:514",
            "tcp://[::]:514",
            "tls://127.0.0.1:0",
            "relp+tcp://0.0.0.0:2514",
            "relp+tls://[::]:2515",
            "unix:///run/a.sock",
            "unixgram:///dev/log",
        ] {
            assert_eq!(Listen::parse(text).expect(text).to_string(), text);
        }
        let rows = [
            ("0.0.0.0:514", "expected udp://"),
            ("upd://0.0.0.0:514", "did you mean \"udp\"?"),
            ("relp://0.0.0.0:514", "did you mean \"relp+tls\"?"),
            ("relp+tcp://0.0.0.0", "without a port"),
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
        let to =
            |scheme, host: &str, port, path: &str| To { scheme, host: host.to_owned(), port, path: path.to_owned() };
        let rows = [
            ("tls://intake.sekoia.io:10514", to(Scheme::Tls, "intake.sekoia.io", 10514, "")),
            ("tcp://[::1]:601", to(Scheme::Tcp, "::1", 601, "")),
            ("udp://relay.example:514", to(Scheme::Udp, "relay.example", 514, "")),
            ("relp+tls://relp.example:11514", to(Scheme::RelpTls, "relp.example", 11514, "")),
            ("relp+tcp://10.0.0.1:2514", to(Scheme::RelpTcp, "10.0.0.1", 2514, "")),
            ("https://intake.sekoia.io", to(Scheme::Https, "intake.sekoia.io", 443, "")),
            ("https://intake.sekoia.io/", to(Scheme::Https, "intake.sekoia.io", 443, "")),
            ("https://[::1]/api/v1/intake-http/", to(Scheme::Https, "::1", 443, "/api/v1/intake-http")),
            ("https://[::1]:8443", to(Scheme::Https, "::1", 8443, "")),
            ("http://127.0.0.1/a", to(Scheme::Http, "127.0.0.1", 80, "/a")),
            ("file:///var/log/a@b.log", to(Scheme::File, "", 0, "/var/log/a@b.log")),
        ];
        for (text, expected) in rows {
            assert_eq!(To::parse(text), Ok(expected.clone()), "{text}");
            assert!(text.starts_with(&format!("{}://", expected.scheme.name())));
        }
    }

    #[test]
    fn what_is_no_destination_is_told_with_what_would_be_one() {
        let rows = [
            ("intake.sekoia.io:10514", "expected tls://"),
            ("tsl://intake.sekoia.io:10514", "did you mean \"tls\"?"),
            ("relp://intake.sekoia.io:10514", "did you mean \"relp+tls\"?"),
            ("htps://intake.sekoia.io", "did you mean \"https\"?"),
            ("tls://intake.sekoia.io", "without a port"),
            ("udp://10.0.0.1", "without a port"),
            ("upd://10.0.0.1:514", "did you mean \"udp\"?"),
            ("relp+tcp://intake.sekoia.io", "without a port"),
            ("tls://[::1]", "without a port"),
            ("tls://intake.sekoia.io:0", "with port 0"),
            ("tls://intake.sekoia.io:70000", "a port from 1 to 65535"),
            ("tls://intake..io:1", "expected tls://"),
            ("tls://host:1/path", "a port from 1 to 65535"),
            ("tls://:1", "expected tls://"),
            ("https://", "expected tls://"),
            ("https://::1", "expected tls://"),
            ("https://host/?key=1", "with more than a path"),
            ("https://host?key=1", "with more than a path"),
            ("https://host/#here", "with more than a path"),
            ("https://host/a b", "with more than a path"),
            ("file://var/log/out.log", "the absolute path of a file"),
            ("file:///var/log/", "the absolute path of a file"),
        ];
        for (text, part) in rows {
            let wrong = To::parse(text).expect_err(text);
            assert!(wrong.message.contains(part), "{text}: {}", wrong.message);
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_shown() {
        for text in ["tls://me:secret@host:1", "https://me:secret@host", "htps://me:secret@host", "me:secret@host:1"] {
            let wrong = To::parse(text).expect_err(text);
            assert!(wrong.message.starts_with("found a URL with a user (\"@\"), expected tls://"), "{}", wrong.message);
        }
        let wrong = ProxyUrl::parse("http://me:secret@proxy:3128").expect_err("a password");
        assert_eq!(wrong.message, "found a URL with a user (\"@\"), expected http://HOST:PORT");
    }

    #[test]
    fn a_proxy_is_a_host_and_a_port() {
        for text in ["http://proxy.example:3128", "http://proxy.example:3128/"] {
            assert_eq!(ProxyUrl::parse(text), Ok(ProxyUrl("proxy.example".to_owned(), 3128)));
        }
        for text in ["proxy:3128", "https://proxy:3128", "http://proxy", "http://proxy:0", "http://proxy:1/path", ""] {
            assert!(ProxyUrl::parse(text).is_err(), "{text}");
        }
    }
}
