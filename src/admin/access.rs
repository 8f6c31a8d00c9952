//! Whom the server answers: what anybody may ask for who reaches it, what takes a token or a certificate, and which pages of a
//! browser are none of ours.

use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request, StatusCode};

use crate::base64;
use crate::config::AdminAccess;

/// How a client came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Over a unix socket, whose mode has decided.
    Unix,
    /// Over TCP, from this machine.
    Loopback,
    /// Over TCP, from elsewhere.
    Network,
}

/// A client, as far as its connection says who it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) way: Way,
    /// It has presented a certificate that `admin.tls.client_ca` signed.
    pub(super) is_certified: bool,
}

/// Why a client gets no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) words: &'static str,
}

const fn refusal(status: StatusCode, words: &'static str) -> Refusal {
    Refusal { status, words }
}

const OTHER_NAME: Refusal = refusal(
    StatusCode::MISDIRECTED_REQUEST,
    "not asked by an address or as localhost: a web page may be behind it; add the name to admin.hosts if it is yours\n",
);
const NO_TOKEN: Refusal = refusal(
    StatusCode::UNAUTHORIZED,
    "this takes the token of admin.token_file, or a certificate that admin.tls.client_ca signed\n",
);
const FROM_ELSEWHERE: Refusal = refusal(
    StatusCode::FORBIDDEN,
    "over the network only /metrics, /livez and /readyz are served (admin.open): for more set admin.token_file, or admin.tls with \
     client_ca, or ask over loopback or a unix socket\n",
);
const NO_TAPS: Refusal = refusal(StatusCode::FORBIDDEN, "messages are not shown by this relay (admin.taps is off)\n");
const TO_A_PAGE: Refusal = refusal(StatusCode::FORBIDDEN, "messages are not shown to web pages\n");

/// Whether `peer` gets an answer.
pub(super) fn admit<B>(request: &Request<B>, peer: Peer, access: &AdminAccess) -> Result<(), Refusal> {
    let path = request.uri().path();
    let shows_messages = matches!(path, "/tap" | "/top");
    if peer.way != Way::Unix && !is_asked_by_its_name(request, peer.way, access) {
        return Err(OTHER_NAME);
    }
    let is_open = match path {
        "/metrics" => access.open.metrics,
        "/livez" | "/readyz" => access.open.probes,
        _ => false,
    } && is_read(request);
    let is_known = peer.way == Way::Unix || peer.is_certified || has_token(request, access);
    if !is_known && !is_open {
        match (access.is_guarded(), peer.way) {
            (true, _) => return Err(NO_TOKEN),
            (false, Way::Network) => return Err(FROM_ELSEWHERE),
            (false, _) => {}
        }
    }
    if shows_messages && !access.taps {
        return Err(NO_TAPS);
    }
    // A page's own questions have one of these; what shows messages, or changes something, is for none.
    let is_page = ["origin", "sec-fetch-site"].iter().any(|name| request.headers().contains_key(*name));
    if is_page && (shows_messages || !is_read(request)) { Err(TO_A_PAGE) } else { Ok(()) }
}

fn is_read<B>(request: &Request<B>) -> bool {
    request.method() == Method::GET || request.method() == Method::HEAD
}

/// A web page can give its own name this machine's address (DNS rebinding) and read what a browser here gets; the browser
/// then asks by that name. An address, or `localhost`, is nobody's but ours.
fn is_asked_by_its_name<B>(request: &Request<B>, way: Way, access: &AdminAccess) -> bool {
    if way == Way::Network && access.hosts.is_empty() {
        return true;
    }
    let Some(host) = request.headers().get(HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = host_of(host).to_ascii_lowercase();
    name.parse::<std::net::IpAddr>().is_ok() || name == "localhost" || access.hosts.contains(&name)
}

/// `NAME`, `NAME:PORT`, `[ADDRESS]:PORT`: without port and brackets.
fn host_of(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

/// `Bearer TOKEN`; or `Basic`, which browsers ask people for, with any user and the token for a password.
fn has_token<B>(request: &Request<B>, access: &AdminAccess) -> bool {
    let Some(token) = &access.token else { return false };
    let Some(given) = request.headers().get(AUTHORIZATION).and_then(|given| given.to_str().ok()) else { return false };
    let Some((scheme, given)) = given.split_once(' ') else { return false };
    let given = given.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return token.is(given.as_bytes());
    }
    let decoded = zeroize::Zeroizing::new(base64::decode(given).unwrap_or_default());
    let password = decoded.iter().position(|octet| *octet == b':').and_then(|colon| decoded.get(colon + 1..));
    scheme.eq_ignore_ascii_case("basic") && password.is_some_and(|password| token.is(password))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AdminOpen, AdminToken, InputTls};

    const TOKEN: &str = "a-token-of-more-than-16";

    fn access(token: Option<&str>) -> AdminAccess {
        AdminAccess { token: token.map(|token| AdminToken::new(token).unwrap()), taps: true, ..AdminAccess::default() }
    }

    fn ask(access: &AdminAccess, way: Way, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let peer = Peer { way, is_certified: false };
        admit(&request.body(()).unwrap(), peer, access).map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn from_elsewhere_nothing_is_shown_without_a_token_but_metrics_and_probes() {
        let access = access(None);
        for (path, expected) in
            [("/metrics", 200), ("/livez", 200), ("/readyz", 200), ("/", 403), ("/status", 403), ("/tap", 403)]
        {
            assert_eq!(ask(&access, Way::Network, path, &[]), expected, "{path}");
            assert_eq!(ask(&access, Way::Loopback, path, &[]), 200, "{path}");
            assert_eq!(ask(&access, Way::Unix, path, &[]), 200, "{path}");
        }
        let closed = AdminAccess { open: AdminOpen { metrics: false, probes: true }, ..access };
        assert_eq!(ask(&closed, Way::Network, "/metrics", &[]), 403);
        assert_eq!(ask(&closed, Way::Network, "/livez", &[]), 200);
    }

    #[test]
    fn with_a_token_everything_over_tcp_takes_it_and_nothing_else_will_do() {
        let access = access(Some(TOKEN));
        let bearer = format!("Bearer {TOKEN}");
        let basic = format!("Basic {}", base64::encode(format!("anybody:{TOKEN}").as_bytes()));
        for way in [Way::Loopback, Way::Network] {
            assert_eq!(ask(&access, way, "/metrics", &[]), 200);
            assert_eq!(ask(&access, way, "/status", &[]), 401);
            for good in [&bearer, &basic, &bearer.replace("Bearer", "bEARER")] {
                assert_eq!(ask(&access, way, "/tap", &[("authorization", good)]), 200, "{good}");
            }
            for bad in [
                "",
                "Bearer",
                "Bearer ",
                bearer.strip_suffix('6').unwrap(),
                &format!("{bearer}x"),
                TOKEN,
                "Basic ####",
                "Basic Zg==",
            ] {
                assert_eq!(ask(&access, way, "/status", &[("authorization", bad)]), 401, "{bad}");
            }
        }
        assert_eq!(ask(&access, Way::Unix, "/status", &[]), 200);
    }

    #[test]
    fn a_certificate_opens_what_a_token_does() {
        let tls = InputTls { cert: "c".into(), key: "k".into(), client_ca: Some("ca".into()) };
        let access = AdminAccess { tls: Some(tls), taps: true, ..AdminAccess::default() };
        let request = Request::get("/status").body(()).unwrap();
        let peer = |is_certified| Peer { way: Way::Network, is_certified };
        assert_eq!(admit(&request, peer(true), &access), Ok(()));
        assert_eq!(admit(&request, peer(false), &access), Err(NO_TOKEN));
    }

    #[test]
    fn a_name_that_is_not_ours_is_refused_over_loopback_and_where_names_are_given() {
        let mut access = access(None);
        let rows = [
            ("localhost", 200),
            ("LOCALHOST:9514", 200),
            ("127.0.0.1:9514", 200),
            ("[::1]:9514", 200),
            ("10.0.0.5", 200),
            ("evil.example", 421),
            ("localhost.evil.example:9514", 421),
            ("relay.lan:9514", 421),
            ("", 421),
        ];
        for (host, expected) in rows {
            assert_eq!(ask(&access, Way::Loopback, "/status", &[("host", host)]), expected, "{host}");
            assert_eq!(ask(&access, Way::Network, "/metrics", &[("host", host)]), 200, "{host}");
        }
        access.hosts = vec!["relay.lan".to_owned()];
        assert_eq!(ask(&access, Way::Loopback, "/status", &[("host", "relay.LAN:9514")]), 200);
        assert_eq!(ask(&access, Way::Network, "/metrics", &[("host", "evil.example")]), 421);
    }

    #[test]
    fn messages_are_for_no_web_page_and_for_nobody_where_taps_are_off() {
        let page = [("sec-fetch-site", "same-origin")];
        let mut access = access(None);
        assert_eq!(ask(&access, Way::Loopback, "/tap", &page), 403);
        assert_eq!(ask(&access, Way::Loopback, "/status", &page), 200);
        access.taps = false;
        assert_eq!(ask(&access, Way::Unix, "/top", &[]), 403);
        assert_eq!(ask(&access, Way::Unix, "/status", &[]), 200);
        let request = Request::post("/anything").header("origin", "http://evil.example").body(()).unwrap();
        let peer = Peer { way: Way::Unix, is_certified: false };
        assert_eq!(admit(&request, peer, &access), Err(TO_A_PAGE));
    }
}
