//! `proxy_protocol`: who is behind a load balancer, in whatever pieces its header comes, and who is not believed.
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

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use rustls::{ClientConnection, StreamOwned};

use support::certificates::Certificates;
use support::relay::{Relay, count};
use support::senders::{assert_closed, connect, finish, finish_tls, send_tcp};
use support::waiting::eventually;
use support::{Bench, ROUTE_ALL};

/// `PROXY` of version 2 from 192.0.2.9, with a TLV behind the addresses.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\xc0\0\x02\x09\xc6\x33\x64\x01\x9c\x40\x02\x02\x04\0\x02ab";

/// `LOCAL` of version 2: the balancer itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

const LINE: &[u8] = b"PROXY TCP4 192.0.2.8 198.51.100.1 40000 514\r\n";

/// A template that shows the sender.
const ROUTE: &str = "routes: [{name: all, intake_key: key-of-all, template: '<%pri%>1 - %fromhost-ip% x - - \
                     [SEKOIA@53288 intake_key=\"%intake_key%\"] %msg%\\n'}]\n";

/// Each of these octets in a packet of its own, as far as the kernel keeps them apart.
fn write_slowly(stream: &mut TcpStream, octets: &[u8]) {
    for octet in octets {
        stream.write_all(&[*octet]).unwrap();
        std::thread::yield_now();
    }
}

fn message(text: &str) -> String {
    format!("<134>1 - gate x - - - {text}\n")
}

/// Sender and text of each frame, sorted.
#[track_caller]
fn arrived(bench: &Bench, frames: usize) -> Vec<(String, String)> {
    let of = |frame: &String| {
        let sender = frame.split(' ').nth(2).unwrap().to_owned();
        (sender, support::collector::message_of(frame).to_owned())
    };
    let mut all: Vec<_> = bench.collector.wait_for(frames).iter().map(of).collect();
    all.sort();
    all
}

#[test]
fn a_header_in_any_pieces_names_the_sender_over_tcp_and_tls() {
    let certificates = Certificates::new();
    let inputs = format!(
        "inputs: {{lan: {{listen: ['tcp://127.0.0.1:0', 'tls://127.0.0.1:0'], tls: {{{}}}, proxy_protocol: 127.0.0.1}}}}\n{ROUTE}",
        certificates.input_tls()
    );
    let bench = Bench::with(certificates, &inputs, "");
    let (plain, secure) = (bench.relay.address("lan", "tcp"), bench.relay.address("lan", "tls"));
    let mut expected = Vec::new();
    for (sender, header) in
        [("192.0.2.8", LINE), ("192.0.2.9", BINARY), ("127.0.0.1", LOCAL), ("127.0.0.1", b"PROXY UNKNOWN\r\n")]
    {
        let text = format!("over tcp {}", expected.len());
        let mut slow = connect(plain);
        write_slowly(&mut slow, header);
        write_slowly(&mut slow, message(&text).as_bytes());
        finish(slow);
        expected.push((sender.to_owned(), text));
        let text = format!("at once {}", expected.len());
        send_tcp(plain, &[header, message(&text).as_bytes()].concat());
        expected.push((sender.to_owned(), text));
        let text = format!("over tls {}", expected.len());
        let mut stream = connect(secure);
        write_slowly(&mut stream, header);
        let client = ClientConnection::new(bench.certificates.client_config(None), secure.ip().into()).unwrap();
        let mut sender_tls = StreamOwned::new(client, stream);
        sender_tls.write_all(message(&text).as_bytes()).unwrap();
        finish_tls(sender_tls);
        expected.push((sender.to_owned(), text));
    }
    expected.sort();
    assert_eq!(arrived(&bench, expected.len()), expected);
    assert_eq!(refused(&bench.relay, "lan", "proxy_header"), 0);
}

#[test]
fn a_balancer_that_says_nothing_of_the_sender_is_refused_and_one_that_only_looks_is_not() {
    let bench =
        Bench::start(&format!("inputs: {{lan: {{listen: 'tcp://127.0.0.1:0', proxy_protocol: 127.0.0.1}}}}\n{ROUTE}"));
    let lan = bench.relay.address("lan", "tcp");
    for octets in [message("one").as_bytes(), b"PROXY TCP5 x\r\n", b"\r\n\r\n\0\r\nQUIT\n\x23\x11\0\x0c"] {
        let mut stream = connect(lan);
        stream.write_all(octets).unwrap();
        assert_closed(stream);
    }
    assert_eq!(refused(&bench.relay, "lan", "proxy_header"), 3);
    bench.relay.wait_for_log("connection of a balancer (proxy_protocol) refused");
    // As a load balancer asks whether somebody listens.
    drop(connect(lan));
    send_tcp(lan, &[LINE, message("two").as_bytes()].concat());
    assert_eq!(arrived(&bench, 1), [("192.0.2.8".to_owned(), "two".to_owned())]);
    assert_eq!(refused(&bench.relay, "lan", "proxy_header"), 3);
    assert_eq!(count(bench.relay.status().input("lan"), "received"), 1);
}

#[test]
fn a_header_of_somebody_else_is_no_header() {
    let bench =
        Bench::start(&format!("inputs: {{lan: {{listen: 'tcp://127.0.0.1:0', proxy_protocol: 192.0.2.1}}}}\n{ROUTE}"));
    send_tcp(bench.relay.address("lan", "tcp"), &[LINE, message("two").as_bytes()].concat());
    let senders: Vec<String> = arrived(&bench, 2).into_iter().map(|(sender, _)| sender).collect();
    assert_eq!(senders, ["127.0.0.1", "127.0.0.1"]);
}

#[test]
fn what_is_allowed_and_counted_is_the_sender_behind_the_balancer() {
    let bench = Bench::start(&format!(
        "inputs: {{lan: {{listen: 'tcp://127.0.0.1:0', proxy_protocol: 127.0.0.1, allow: 192.0.2.8, \
         max_connections_per_peer: 2}}}}\n{ROUTE_ALL}"
    ));
    let lan = bench.relay.address("lan", "tcp");
    let open = |header: &[u8]| begin(lan, header);
    assert_closed(open(BINARY));
    assert_eq!(refused(&bench.relay, "lan", "peer_not_allowed"), 1);
    assert_closed(open(LOCAL));
    assert_eq!(refused(&bench.relay, "lan", "peer_not_allowed"), 2);
    let two = [open(LINE), open(LINE)];
    eventually("two to be open", || match count(bench.relay.status().input("lan"), "connections") {
        2 => Ok(()),
        open => Err(format!("{open}")),
    });
    assert_closed(open(LINE));
    assert_eq!(refused(&bench.relay, "lan", "max_connections_per_peer"), 1);
    two.into_iter().for_each(finish);
    eventually("both to be closed", || match count(bench.relay.status().input("lan"), "connections") {
        0 => Ok(()),
        open => Err(format!("{open}")),
    });
    send_tcp(lan, &[LINE, message("three").as_bytes()].concat());
    bench.collector.wait_for(1);
}

fn begin(to: SocketAddr, header: &[u8]) -> TcpStream {
    let mut stream = connect(to);
    stream.write_all(header).unwrap();
    stream
}

fn refused(relay: &Relay, input: &str, reason: &str) -> u64 {
    relay.metric("forebay_input_refused_connections_total", &format!("input=\"{input}\",reason=\"{reason}\""))
}
