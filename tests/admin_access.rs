//! Whom the admin server answers: tokens, certificates, names, and what is open to the network.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may panic, and says what it skips"
)]

#[path = "support/harness.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Output};

use support::ROUTE_ALL;
use support::certificates::{Certificates, write_private};
use support::relay::{Relay, remove_own_variables};
use tempfile::TempDir;

const TOKEN: &str = "a-token-that-nobody-guesses-7f3a";

/// A relay whose admin server listens there; `keys` are more keys of `admin`, in flow style.
fn relay(listen: &str, keys: &str) -> Relay {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("forebay.yaml");
    let configuration = format!(
        "admin: {{listen: {listen}, {keys}}}\ncores: 1\ninputs: {{lan: {{listen: 'tcp://127.0.0.1:0'}}}}\n\
         outputs: {{sekoia: {{to: 'tcp://127.0.0.1:9'}}}}\n{ROUTE_ALL}"
    );
    std::fs::write(&file, configuration).unwrap();
    let relay = Relay::start_of(&file);
    drop(directory);
    relay
}

/// Status code and whole answer.
fn ask(to: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(to).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

fn forebay(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    remove_own_variables(&mut command);
    command.args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

fn token_file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    write_private(&file, format!("{TOKEN}\n"));
    (folder, file)
}

/// An address of this machine that is not loopback's. Nothing is sent to find it.
fn other_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let address = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()).ok();
    let address =
        address.map(|address| address.ip()).filter(|address| !address.is_loopback() && !address.is_unspecified());
    if address.is_none() {
        println!("skipped in part: this machine has no address but loopback's");
    }
    address
}

#[test]
fn from_elsewhere_only_metrics_and_probes_are_served_without_a_token() {
    let relay = relay("'0.0.0.0:0'", "open: [metrics, probes]");
    let port = relay.admin().port();
    let local = SocketAddr::from(([127, 0, 0, 1], port));
    for path in ["/", "/status", "/metrics", "/top?seconds=1"] {
        assert_eq!(ask(local, path, "Host: localhost\r\n").0, 200, "{path}");
    }
    let Some(address) = other_address() else { return };
    let from_elsewhere = SocketAddr::new(address, port);
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(ask(from_elsewhere, path, "Host: any.name\r\n").0, 200, "{path}");
    }
    for path in ["/", "/status", "/tap", "/top", "/anything"] {
        let (code, answer) = ask(from_elsewhere, path, "Host: any.name\r\n");
        assert_eq!(code, 403, "{path}");
        assert!(answer.contains("set admin.token_file"), "{answer}");
    }
}

#[test]
fn a_token_is_asked_for_over_tcp_and_is_shown_nowhere() {
    let (_folder, file) = token_file();
    let relay = relay("'127.0.0.1:0'", &format!("token_file: {}", file.display()));
    let host = "Host: localhost\r\n";
    let (code, answer) = ask(relay.admin(), "/status", host);
    assert_eq!(code, 401);
    assert!(answer.to_ascii_lowercase().contains("www-authenticate: bearer realm"), "{answer}");
    assert_eq!(ask(relay.admin(), "/metrics", host).0, 200);
    let bearer = format!("{host}Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(ask(relay.admin(), "/status", &bearer).0, 200);
    assert_eq!(ask(relay.admin(), "/status", &bearer.replace("7f3a", "7f3b")).0, 401);
    let admin = relay.admin().to_string();
    let output = forebay(&["top", "--once", "--admin", &admin]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("--token-file"), "{}", said(&output));
    let output = forebay(&["top", "--once", "--admin", &admin, "--token-file", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let output = forebay(&["health", "--admin", &admin]);
    assert_eq!(output.status.code(), Some(0), "probes are open: {}", said(&output));
    let seen = [relay.log_text(), relay.metrics(), ask(relay.admin(), "/status", &bearer).1].concat();
    assert!(!seen.contains(TOKEN), "{seen}");
}

#[test]
fn over_tls_a_certificate_is_as_good_as_a_token_and_probes_take_none() {
    let certificates = Certificates::new();
    let (_folder, file) = token_file();
    let tls = format!("tls: {{{}, client_ca: {}}}", certificates.input_tls(), certificates.ca.display());
    let relay = relay("'127.0.0.1:0'", &format!("{tls}, token_file: {}", file.display()));
    let url = relay.logged("admin server listening").unwrap()["address"].as_str().unwrap().to_owned();
    let url = url.replace("127.0.0.1", "localhost");
    assert!(url.starts_with("https://"), "{url}");
    let (ca, pair) = (certificates.ca.to_str().unwrap(), certificates.issue("operator", &["operator"], |_| {}));
    let presented = ["--client-cert", pair.cert.to_str().unwrap(), "--client-key", pair.key.to_str().unwrap()];
    let run =
        |command: &[&str], more: &[&str]| forebay(&[command, &["--admin", url.as_str(), "--ca", ca], more].concat());
    assert_eq!(run(&["health"], &[]).status.code(), Some(0), "{}", said(&run(&["health"], &[])));
    let without = run(&["top", "--once"], &[]);
    assert_eq!(without.status.code(), Some(1), "{}", said(&without));
    assert!(said(&without).contains("admin.tls.client_ca"), "{}", said(&without));
    for more in [presented.as_slice(), &["--token-file", file.to_str().unwrap()]] {
        let output = run(&["top", "--once"], more);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    let untrusted = forebay(&["health", "--admin", &url]);
    assert_eq!(untrusted.status.code(), Some(1));
    assert!(said(&untrusted).contains("Mozilla's roots"), "{}", said(&untrusted));
    let strange = certificates.issue_strange("stranger", &["stranger"]);
    let more = ["--client-cert", strange.cert.to_str().unwrap(), "--client-key", strange.key.to_str().unwrap()];
    assert_eq!(run(&["health"], &more).status.code(), Some(1), "a bad certificate is worse than none");
}

#[test]
fn a_name_that_a_web_page_could_have_made_up_is_refused_over_loopback() {
    let relay = relay("'127.0.0.1:0'", "hosts: [relay.example.org], taps: off");
    let code = |host: &str| ask(relay.admin(), "/status", &format!("Host: {host}\r\n")).0;
    for host in ["localhost", "127.0.0.1:1", "[::1]:1", "Relay.Example.Org:1"] {
        assert_eq!(code(host), 200, "{host}");
    }
    for host in ["evil.example", "relay.example.org.evil.example"] {
        assert_eq!(code(host), 421, "{host}");
    }
    let (code, answer) = ask(relay.admin(), "/tap", "Host: localhost\r\n");
    assert_eq!(code, 403);
    assert!(answer.contains("admin.taps is off"), "{answer}");
}
