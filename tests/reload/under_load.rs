//! A hundred reloads while messages come: nothing is lost, nothing sent twice, and the books are exact.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::support::collector::Collector;
use crate::support::relay::{Relay, Status, count};
use crate::support::senders::*;
use crate::support::waiting::{eventually, pause};
use crate::{PREAMBLE, reload};

const RELOADS: usize = 100;
const SENDERS: u64 = 4;

/// Numbers of one sender are apart from another's by so many.
const APART: u64 = 10_000_000;

/// One of four configurations in turn: routes come, go, and change their templates and keys; one output changes, another comes
/// and goes; an input's settings change, and a listener comes and goes.
fn configuration(turn: usize, one: &Collector, other: &Collector) -> String {
    let (one, other) = (one.address, other.address);
    let keepalive = ["30s", "40s"][turn % 2];
    let mut outputs = format!("outputs:\n  sink: {{to: 'tcp://{one}', keepalive: {keepalive}, replay_quiet: 200ms}}\n");
    let mut routes = "routes:\n".to_owned();
    if turn % 4 < 2 {
        outputs.push_str(&format!("  more: {{to: 'tcp://{other}', replay_quiet: 200ms}}\n"));
        routes.push_str("  - {name: even, program: p0, template: '<1>%msg%\\n', output: more}\n");
    }
    if turn.is_multiple_of(3) {
        routes.push_str("  - {name: third, program: [p1, p2], template: '<1>third%msg%\\n', output: sink}\n");
    }
    routes.push_str(&format!("  - {{name: all, intake_key: keyofturn{:07}, output: sink}}\n", turn));
    let idle = if turn.is_multiple_of(2) { "" } else { ", idle_timeout: 10m" };
    let mut inputs =
        format!("inputs:\n  lan: {{listen: 'tcp://127.0.0.1:0'{idle}}}\n  edge: {{listen: 'udp://127.0.0.1:0'}}\n");
    if turn.is_multiple_of(5) {
        inputs.push_str("  guest: {listen: 'tcp://127.0.0.1:0'}\n");
    }
    format!("{outputs}{inputs}{routes}")
}

fn numbered(sender: u64, number: u64) -> String {
    format!("<134>Nov 22 10:00:00 gate p{sender}: n={}\n", sender * APART + number)
}

/// Sends until it is told to stop; how many.
fn send(to: SocketAddr, sender: u64, stop: &AtomicBool) -> u64 {
    let mut stream = connect(to);
    let mut number = 0;
    while !stop.load(Relaxed) {
        let burst: String = (number..number + 20).map(|number| numbered(sender, number)).collect();
        number += 20;
        stream.write_all(burst.as_bytes()).unwrap();
        pause(Duration::from_millis(4));
    }
    finish(stream);
    number
}

/// The same in datagrams: a few at a time, and the next once the relay has those, so that no buffer overflows.
fn send_datagrams(to: SocketAddr, relay: &Relay, sender: u64, stop: &AtomicBool, sent: &AtomicU64) {
    while !stop.load(Relaxed) {
        let first = sent.load(Relaxed);
        let burst: Vec<String> = (first..first + 10).map(|number| numbered(sender, number)).collect();
        send_udp(to, &burst.iter().map(|message| message.trim_end()).collect::<Vec<_>>());
        sent.store(first + 10, Relaxed);
        eventually("the datagrams to be read", || match count(relay.status().input("edge"), "received") {
            received if received == first + 10 => Ok(()),
            received => Err(format!("{received} of {}", first + 10)),
        });
    }
}

#[test]
fn a_hundred_reloads_under_load_lose_nothing_and_the_books_are_exact() {
    assert!(PREAMBLE.contains("cores: 2"), "several shards");
    let (one, other) = (Collector::start_plain(), Collector::start_plain());
    let mut relay = Relay::start(&configuration(0, &one, &other));
    let (lan, edge) = (relay.address("lan", "tcp"), relay.address("edge", "udp"));
    let (stop, datagrams) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut sent = thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                scope.spawn({
                    let stop = &stop;
                    move || send(lan, sender, stop)
                })
            })
            .collect();
        let of_datagrams = scope.spawn(|| send_datagrams(edge, &relay, SENDERS, &stop, &datagrams));
        for turn in 1..=RELOADS {
            reload(&relay, &configuration(turn, &one, &other));
        }
        stop.store(true, Relaxed);
        of_datagrams.join().unwrap();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect::<Vec<u64>>()
    });
    sent.push(datagrams.load(Relaxed));
    let total: u64 = sent.iter().sum();
    assert!(total > 5_000, "{sent:?} messages are no load");
    let status = relay.status_when("all to be received, and nothing to wait", |status| {
        let received = count(status.input("lan"), "received") + count(status.input("edge"), "received");
        let waits = |route: &serde_json::Value| count(route, "waiting") + count(route, "in_flight");
        received == total && status.0["routes"].as_array().unwrap().iter().map(waits).sum::<u64>() == 0
    });
    assert_eq!(status.0["configuration"]["generation"], RELOADS as u64 + 1);
    assert_exact(&status, total);
    assert_eq!(relay.metric("forebay_configuration_reloads_total", "result=\"applied\""), RELOADS as u64);
    let mut arrived = BTreeSet::new();
    let (mut frames, mut of_keys) = (0, BTreeSet::new());
    for collector in [&one, &other] {
        for frame in collector.texts() {
            frames += 1;
            let number = frame.split("n=").nth(1).expect(&frame).trim_end();
            arrived.insert(number.parse::<u64>().expect(&frame));
            of_keys.extend(frame.split_once("keyofturn").map(|(_, rest)| rest[..7].to_owned()));
        }
        assert_eq!(collector.look(|seen| seen.faults.clone()), Vec::<String>::new());
    }
    let expected =
        sent.iter().zip(0..).flat_map(|(count, sender)| (0..*count).map(move |number| sender * APART + number));
    let missing: Vec<u64> = expected.filter(|number| !arrived.contains(number)).collect();
    assert!(missing.is_empty(), "{} of {total} are missing: {:?}", missing.len(), missing.first());
    let resent: u64 = status.0["routes"].as_array().unwrap().iter().map(|route| count(route, "resent")).sum();
    assert!(frames - arrived.len() as u64 <= resent, "{frames} frames, {resent} resent");
    assert!(of_keys.len() > 20, "keys changed on the way: {of_keys:?}");
    relay.stop_clean();
}

/// Each account has its sum, and all of them together hold each message once.
fn assert_exact(status: &Status, total: u64) {
    status.assert_balanced();
    let sum =
        |kind: &str, name: &str| -> u64 { status.0[kind].as_array().unwrap().iter().map(|one| count(one, name)).sum() };
    assert_eq!((sum("inputs", "received"), sum("inputs", "routed")), (total, total));
    assert_eq!((sum("routes", "routed"), sum("routes", "released"), sum("routes", "dropped")), (total, total, 0));
}
