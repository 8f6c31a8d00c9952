//! Out: what an output can be told, through real sockets.
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
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use support::certificates::{Certificates, chain, key};
use support::collector::Collector;
use support::load::numbered;
use support::relay::{Relay, count};
use support::senders::{connect, finish, send_tcp};
use support::waiting::{PATIENCE, eventually};
use support::{Bench, ROUTE_ALL};

const INPUT: &str = "inputs: {lan: {listen: 'tcp://127.0.0.1:0'}}\n";

#[test]
fn plain_tcp_carries_the_same_frames() {
    let collector = Collector::start_plain();
    let mut relay =
        Relay::start(&format!("{INPUT}outputs: {{sekoia: {{to: 'tcp://{}'}}}}\n{ROUTE_ALL}", collector.address));
    send_tcp(relay.address("lan", "tcp"), (0..500).map(numbered).collect::<String>().as_bytes());
    let frames = collector.wait_for(500);
    assert!(frames.iter().all(|frame| frame.contains("[SEKOIA@53288 intake_key=\"key-of-all\"]")));
    relay.stop_clean();
    collector.look(|seen| assert_eq!(seen.closed_in_order, seen.accepted));
}

#[test]
fn an_output_presents_its_certificate_to_a_collector_that_asks() {
    let certificates = Certificates::new();
    let mut roots = RootCertStore::empty();
    roots.add(chain(&certificates.ca).remove(0)).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let server = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(&certificates.server.cert), key(&certificates.server.key))
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = Relay::start(&format!(
        "{INPUT}outputs: {{sekoia: {{to: 'tls://{}', tls: {{ca: {}, client_cert: {}, client_key: {}}}}}}}\n{ROUTE_ALL}",
        listener.local_addr().unwrap(),
        certificates.ca.display(),
        certificates.client.cert.display(),
        certificates.client.key.display()
    ));
    let accepted = thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(server)).unwrap(), tcp);
        let mut octets = [0; 1024];
        let count = stream.read(&mut octets).unwrap();
        (octets[..count].to_vec(), stream.conn.peer_certificates().map(|chain| chain[0].to_vec()))
    });
    send_tcp(relay.address("lan", "tcp"), numbered(7).as_bytes());
    let (octets, presented) = accepted.join().unwrap();
    assert!(memchr::memmem::find(&octets, b" n=7 ").is_some());
    assert_eq!(presented, Some(chain(&certificates.client.cert)[0].to_vec()));
}

#[test]
fn a_collector_must_carry_the_name_that_is_expected_of_it() {
    let certificates = Certificates::new();
    let collector = Collector::start(&certificates);
    let output = |name: &str, server_name: &str| {
        format!(
            "  {name}: {{to: 'tls://{}', tls: {{ca: {}, server_name: {server_name}}}}}\n",
            collector.address,
            certificates.ca.display()
        )
    };
    let relay = Relay::start(&format!(
        "{INPUT}outputs:\n{}{}routes: [{{name: a, intake_key: key-of-a, output: right, continue: true}}, {{name: b, intake_key: key-of-b, output: wrong}}]\n",
        output("right", "localhost"),
        output("wrong", "intake.example")
    ));
    send_tcp(relay.address("lan", "tcp"), numbered(1).as_bytes());
    assert!(collector.wait_for(1)[0].contains("key-of-a"));
    let line = relay.wait_for_log("as intake.example failed");
    assert_eq!(line["output"], "wrong");
    let status = relay.status();
    assert_eq!(count(status.route("b"), "waiting"), 1);
    status.assert_balanced();
}

#[test]
fn an_idle_connection_is_closed_in_order_and_opened_again_on_demand() {
    let mut bench = Bench::with_output(&format!("{INPUT}{ROUTE_ALL}"), "idle_timeout: 1s");
    let mut stream = connect(bench.relay.address("lan", "tcp"));
    for number in 0..2 {
        stream.write_all(numbered(number).as_bytes()).unwrap();
        bench.collector.wait_for(number as usize + 1);
        // Closed in order the collector has read everything: nothing stays in the replay window.
        let released = number + 1;
        let status = bench.relay.status_when("it to be closed", |status| {
            count(status.output("sekoia"), "connections") == 0 && count(status.route("all"), "released") == released
        });
        assert_eq!(count(status.output("sekoia"), "connects"), released);
        assert_eq!(count(status.output("sekoia"), "broken_connections"), 0);
    }
    finish(stream);
    bench.collector.look(|seen| assert_eq!((seen.accepted, seen.closed_in_order), (2, 2)));
    bench.relay.stop_clean();
}

#[test]
fn messages_leave_the_replay_window_after_its_quiet_time() {
    let mut bench = Bench::with_output(&format!("{INPUT}{ROUTE_ALL}"), "replay_quiet: 300ms");
    send_tcp(bench.relay.address("lan", "tcp"), (0..100).map(numbered).collect::<String>().as_bytes());
    let status = bench.relay.status_when("all to be released", |status| count(status.route("all"), "released") == 100);
    status.assert_balanced();
    assert_eq!(count(status.output("sekoia"), "connections"), 1);
    // A break after that has nothing to send again.
    bench.collector.reset();
    bench.relay.status_when("it to be noticed", |status| count(status.output("sekoia"), "broken_connections") == 1);
    bench.relay.stop_clean();
    assert_eq!(bench.collector.look(|seen| seen.frames.len()), 100);
}

#[test]
fn a_connection_that_breaks_while_nothing_is_sent_is_noticed_and_what_it_may_have_lost_is_sent_again() {
    let bench = Bench::start(&format!("{INPUT}{ROUTE_ALL}"));
    send_tcp(bench.relay.address("lan", "tcp"), (0..100).map(numbered).collect::<String>().as_bytes());
    bench.collector.wait_for(100);
    eventually("all to be acknowledged", || {
        match bench.relay.metric("forebay_route_acknowledge_seconds_count", "route=\"all\"") {
            100 => Ok(()),
            some => Err(some.to_string()),
        }
    });
    bench.collector.reset();
    // All of it was in the replay window: it arrives once more, without anything new to push it.
    bench.collector.wait_for(200);
    let status = bench.relay.status_when("nothing to wait", |status| count(status.route("all"), "waiting") == 0);
    assert_eq!(count(status.route("all"), "resent"), 100);
    status.assert_balanced();
}

#[test]
fn a_source_keeps_its_order_and_every_connection_its_place() {
    const SOURCES: u64 = 6;
    const EACH: u64 = 2_000;
    let bench = Bench::with_output(&format!("{INPUT}{ROUTE_ALL}"), "connections: 4");
    let to = bench.relay.address("lan", "tcp");
    let senders: Vec<_> = (0..SOURCES)
        .map(|source| {
            let octets: String = (0..EACH).map(|number| numbered(source * EACH + number)).collect();
            thread::spawn(move || send_tcp(to, octets.as_bytes()))
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    bench.collector.wait_for((SOURCES * EACH) as usize);
    let order = bench.collector.in_order();
    for source in 0..SOURCES {
        let own: Vec<u64> = order.iter().copied().filter(|number| number / EACH == source).collect();
        assert!(own.is_sorted() && own.len() == EACH as usize, "source {source}");
    }
}

#[test]
fn what_a_collector_says_is_ignored() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let mut relay = Relay::start(&format!("{INPUT}outputs: {{sekoia: {{to: 'tcp://{to}'}}}}\n{ROUTE_ALL}"));
    let collector = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&[b'!'; 10_000]).unwrap();
        let mut octets = Vec::new();
        stream.read_to_end(&mut octets).unwrap();
        octets
    });
    send_tcp(relay.address("lan", "tcp"), (0..100).map(numbered).collect::<String>().as_bytes());
    relay.status_when("all to be sent", |status| count(status.route("all"), "in_flight") == 100);
    relay.assert_idles(Duration::from_millis(300));
    relay.stop_clean();
    let octets = collector.join().unwrap();
    assert_eq!(memchr::memmem::find_iter(&octets, " n=").count(), 100);
}
