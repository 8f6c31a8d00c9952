//! The books: every message ends in exactly one counter, and the admin server shows them.
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

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::time::Duration;

use support::load::numbered;
use support::relay::{Relay, Status, count};
use support::senders::*;
use support::waiting::{eventually, pause};
use support::{Bench, ROUTE_ALL};

/// Two inputs, four kinds of ends, one route that continues.
const MIXED: &str = "
inputs:
  lan: {listen: 'tcp://127.0.0.1:0', max_message_size: 480, oversize: reject}
  edge: {listen: ['udp://127.0.0.1:0', 'tcp://127.0.0.1:0']}
routes:
  - {name: noise, program: noise, discard: true}
  - {name: audit, program: 'audit*', intake_key: key-of-audit, continue: true}
  - {name: apps, program: [app, auditd], intake_key: key-of-apps}
";

/// A program's message; `number` makes it unique.
fn of(program: &str, number: usize) -> String {
    format!("<13>Nov 22 10:00:00 gate {program}[{number}]: the water stands at {number}")
}

fn lines(program: &str, messages: usize) -> String {
    (0..messages).map(|number| format!("{}\n", of(program, number))).collect()
}

/// An account's counts by name, as far as they are not zero.
fn counts(account: &serde_json::Value, names: &[&str]) -> BTreeMap<String, u64> {
    let all = names.iter().map(|name| ((*name).to_owned(), count(account, name)));
    all.filter(|(_, value)| *value != 0).collect()
}

const ENDS: [&str; 5] = ["received", "rejected", "discarded", "unmatched", "routed"];

#[test]
fn mixed_traffic_leaves_every_account_exact() {
    let mut bench = Bench::start(MIXED);
    let lan = bench.relay.address("lan", "tcp");
    let edge = (bench.relay.address("edge", "tcp"), bench.relay.address("edge", "udp"));
    let oversize = format!("{}\n", of("app", 0) + &"~".repeat(500));
    let mixed = [lines("noise", 300), lines("auditd", 200), lines("audit-b", 100), lines("app", 400)].concat();
    send_tcp(lan, format!("{mixed}{}{oversize}{oversize}", lines("stranger", 50)).as_bytes());
    send_tcp(edge.0, format!("{mixed}{}", lines("other", 70)).as_bytes());
    send_udp(edge.1, &[&of("app", 1), &of("noise", 1), &of("other", 1), "\n", ""]);

    let status = bench.relay.status_when("everything to be counted", |status| {
        count(status.input("lan"), "received") == 1_052 && count(status.input("edge"), "received") == 1_073
    });
    let expect = |pairs: &[(&str, u64)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    let lan: BTreeMap<_, _> =
        expect(&[("received", 1_052), ("rejected", 2), ("discarded", 300), ("unmatched", 50), ("routed", 700)]);
    let edge: BTreeMap<_, _> = expect(&[("received", 1_073), ("discarded", 301), ("unmatched", 71), ("routed", 701)]);
    assert_eq!(counts(status.input("lan"), &ENDS), lan);
    assert_eq!(counts(status.input("edge"), &ENDS), edge);
    assert_eq!(count(status.route("noise"), "discarded"), 601);
    assert_eq!(count(status.route("audit"), "routed"), 600);
    assert_eq!(count(status.route("apps"), "routed"), 1_201);
    assert_eq!(
        status.0["unmatched_programs"],
        serde_json::json!([{"program": "other", "messages": 71}, {"program": "stranger", "messages": 50}])
    );

    let frames = bench.collector.wait_for(1_801);
    assert_eq!(frames.iter().filter(|frame| frame.contains("key-of-audit")).count(), 600);
    assert_eq!(frames.iter().filter(|frame| frame.contains("key-of-apps")).count(), 1_201);
    let status = bench.relay.status_when("nothing to wait", |status| {
        ["audit", "apps"].iter().all(|route| count(status.route(route), "waiting") == 0)
    });
    status.assert_balanced();
    assert_metrics_agree(&bench.relay, &status);
    bench.relay.stop_clean();
}

/// What `/metrics` says is what `/status` says.
fn assert_metrics_agree(relay: &Relay, status: &Status) {
    for input in ["lan", "edge"] {
        for end in ["received", "discarded", "unmatched", "routed"] {
            let metric = relay.metric(&format!("forebay_input_{end}_messages_total"), &format!("input=\"{input}\""));
            assert_eq!(metric, count(status.input(input), end), "{input} {end}");
        }
        let rejected = ["oversize", "peer_not_allowed"].map(|reason| {
            let labels = format!("input=\"{input}\",reason=\"{reason}\"");
            relay.metric("forebay_input_rejected_messages_total", &labels)
        });
        assert_eq!(rejected.iter().sum::<u64>(), count(status.input(input), "rejected"));
    }
    for route in ["audit", "apps"] {
        let of = |name: &str| relay.metric(&format!("forebay_route_{name}"), &format!("route=\"{route}\""));
        assert_eq!(of("routed_messages_total"), count(status.route(route), "routed"));
        assert_eq!(of("released_messages_total"), count(status.route(route), "released"));
        assert_eq!(of("waiting_messages"), count(status.route(route), "waiting"));
        assert_eq!(of("in_flight_messages"), count(status.route(route), "in_flight"));
        eventually("all to be acknowledged", || match of("acknowledge_seconds_count") {
            all if all == count(status.route(route), "routed") => Ok(()),
            some => Err(some.to_string()),
        });
    }
}

/// An address of this machine where nobody listens.
fn nobody() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn datagrams_that_find_no_memory_are_dropped_on_their_routes_account() {
    let relay = Relay::start(&format!(
        "memory: {{max: 24MiB}}\noutputs: {{down: {{to: 'tcp://{}'}}}}\n\
         inputs: {{edge: {{listen: 'udp://127.0.0.1:0'}}}}\n\
         routes: [{{name: app, program: app, intake_key: k1}}, {{name: rest, intake_key: k2}}]\n",
        nobody()
    ));
    let to = relay.address("edge", "udp");
    let messages: Vec<String> = (0..100).map(|number| of("app", number) + &"~".repeat(800)).collect();
    let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
    relay.status_when("datagrams to be dropped", |status| {
        send_udp(to, &messages);
        count(status.route("app"), "dropped") > 100
    });
    send_udp(to, &[&of("kernel", 1)]);
    // Its own share of the memory is still free, whatever the other route took.
    let status = relay.status_when("all to be taken", |status| {
        pause(Duration::from_millis(50));
        count(status.route("rest"), "waiting") == 1 && *status == relay.status()
    });
    status.assert_balanced();
    assert_eq!(count(status.route("rest"), "dropped"), 0);
    let dropped = relay.metric("forebay_route_dropped_messages_total", "route=\"app\",reason=\"queue_full\"");
    assert_eq!(dropped, count(status.route("app"), "dropped"));
}

#[test]
fn the_age_of_what_waits_in_memory_grows_and_ends_with_its_delivery() {
    let mut bench = Bench::start(&format!("inputs: {{lan: {{listen: 'tcp://127.0.0.1:0'}}}}\n{ROUTE_ALL}"));
    let age = |bench: &Bench| bench.relay.metric("forebay_route_waiting_oldest_seconds", "route=\"all\"");
    assert_eq!(age(&bench), 0);
    bench.collector.stop();
    send_tcp(bench.relay.address("lan", "tcp"), numbered(1).as_bytes());
    eventually("its age to be two seconds", || match age(&bench) {
        seconds if seconds >= 2 => Ok(()),
        seconds => Err(seconds.to_string()),
    });
    bench.collector.restart();
    bench.collector.wait_for(1);
    eventually("nothing to wait", || match age(&bench) {
        0 => Ok(()),
        seconds => Err(seconds.to_string()),
    });
    bench.relay.stop_clean();
}

#[test]
fn unmatched_programs_are_listed_by_frequency_a_hundred_at_most() {
    let bench = Bench::start("inputs: {lan: {listen: 'tcp://127.0.0.1:0'}}\nroutes: [{program: app, intake_key: k}]\n");
    let octets: String = (1..=150).map(|number| lines(&format!("program-{number}"), number)).collect();
    send_tcp(bench.relay.address("lan", "tcp"), octets.as_bytes());
    let status = bench
        .relay
        .status_when("all to be counted", |status| count(status.input("lan"), "unmatched") == (1..=150).sum::<u64>());
    let listed = status.0["unmatched_programs"].as_array().unwrap();
    assert_eq!(listed.len(), 100);
    let expected: Vec<(String, u64)> = (51..=150).rev().map(|number| (format!("program-{number}"), number)).collect();
    let listed: Vec<(String, u64)> =
        listed.iter().map(|one| (one["program"].as_str().unwrap().to_owned(), count(one, "messages"))).collect();
    assert_eq!(listed, expected);
}

#[test]
fn every_exported_metric_says_what_it_is() {
    let bench = Bench::start(&format!("inputs: {{lan: {{listen: 'tcp://127.0.0.1:0'}}}}\n{ROUTE_ALL}"));
    send_tcp(bench.relay.address("lan", "tcp"), numbered(1).as_bytes());
    bench.collector.wait_for(1);
    let metrics = bench.relay.metrics();
    let described = |keyword: &str| -> BTreeSet<&str> {
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(keyword));
        lines.map(|line| line.split_once(' ').expect("a name and a text").0).collect()
    };
    let (helps, types) = (described("# HELP "), described("# TYPE "));
    assert_eq!(helps, types);
    let mut found = 0;
    for series in metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let name = series.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        assert!(name.starts_with("forebay_"), "{series}");
        assert!(helps.contains(name) || helps.contains(family), "no HELP for {series}");
        found += 1;
    }
    assert!(found > 30, "{found} series:\n{metrics}");
}

#[test]
fn the_admin_server_answers_what_it_should_and_nothing_else() {
    let bench = Bench::start(&format!("inputs: {{lan: {{listen: 'tcp://127.0.0.1:0'}}}}\n{ROUTE_ALL}"));
    let code = |method, path| bench.relay.request(method, path).0;
    assert_eq!(code("GET", "/livez"), 200);
    assert_eq!(code("GET", "/readyz"), 200);
    assert_eq!(code("HEAD", "/readyz"), 200);
    assert_eq!(code("GET", "/"), 200);
    assert_eq!(code("GET", "/page.html"), 404);
    assert_eq!(code("GET", "/metrics/more"), 404);
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(code(method, "/metrics"), 405, "{method}");
    }
}

#[test]
fn a_relay_that_stops_is_alive_and_not_ready() {
    let mut relay = Relay::start(&format!(
        "shutdown_timeout: 1500ms\noutputs: {{down: {{to: 'tcp://{}'}}}}\n\
         inputs: {{lan: {{listen: 'tcp://127.0.0.1:0'}}}}\n{ROUTE_ALL}",
        nobody()
    ));
    send_tcp(relay.address("lan", "tcp"), numbered(1).as_bytes());
    assert_eq!(relay.request("GET", "/readyz").0, 200);
    let admin = relay.admin();
    relay.terminate();
    relay.wait_for_log("stopping");
    eventually("the relay not to be ready", || match relay.request("GET", "/readyz").0 {
        503 => Ok(()),
        code => Err(code.to_string()),
    });
    assert_eq!(relay.request("GET", "/livez").0, 200);
    let status = relay.status();
    assert_eq!((status.0["ready"].as_bool(), count(status.route("all"), "waiting")), (Some(false), 1));
    assert_eq!(relay.wait().code(), Some(1));
    assert!(support::relay::request(admin, "GET", "/livez").is_err());
}
