//! The relay's RELP output, against a real imrelp and against a server that behaves as it should not.
//!
//! Where rsyslogd or its module is not installed, a test says so and checks nothing.
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

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use support::certificates::Certificates;
use support::collector::number_of;
use support::load::{Load, missing_and_duplicates, numbered};
use support::relay::{Relay, count};
use support::relp::{Message, RelpServer};
use support::rsyslogd::{Rsyslogd, has_module};
use support::senders::{connect, finish, send_tcp};
use support::waiting::{eventually, pause};
use support::{ROUTE_ALL, installed};

const INPUT: &str = "inputs: {lan: {listen: 'tcp://127.0.0.1:0'}}\n";

/// A relay with one RELP output, which has these keys.
fn relay_to(output: &str) -> Relay {
    Relay::start(&format!("{INPUT}outputs: {{out: {{{output}}}}}\n{ROUTE_ALL}"))
}

/// The same to this server.
fn relay_with(server: &RelpServer, more: &str) -> Relay {
    relay_to(&format!("to: 'relp+tcp://{}'{more}", server.address))
}

fn send(relay: &Relay, numbers: std::ops::Range<u64>) {
    send_tcp(relay.address("lan", "tcp"), numbers.map(numbered).collect::<String>().as_bytes());
}

/// Waits until everything has found its end, and holds the ledger to it; returns how many were released.
#[track_caller]
fn settled(relay: &Relay, received: u64) -> u64 {
    let status = relay.status_when("everything to find its end", |status| {
        let route = status.route("all");
        count(route, "routed") == received && count(route, "waiting") + count(route, "in_flight") == 0
    });
    status.assert_balanced();
    count(status.route("all"), "released")
}

fn failures(relay: &Relay, reason: &str) -> u64 {
    relay.metric("forebay_output_connect_failures_total", &format!("output=\"out\",reason=\"{reason}\""))
}

fn refused(relay: &Relay) -> u64 {
    relay.metric("forebay_route_dropped_messages_total", "route=\"all\",reason=\"refused\"")
}

/// rsyslogd, where it has imrelp.
fn rsyslogd() -> Option<PathBuf> {
    installed("rsyslogd").filter(|_| has_module("imrelp"))
}

/// imrelp writes what it takes to `out` before it answers: nothing lies in a queue that a crash would lose.
fn imrelp(executable: &std::path::Path, module: &str, more: &str) -> Rsyslogd {
    Rsyslogd::start(
        executable,
        &format!(
            "main_queue(queue.type=\"Direct\")\nmodule(load=\"imrelp\"{module})\n\
             template(name=\"as_received\" type=\"string\" string=\"%rawmsg%\\n\")\n\
             input(type=\"imrelp\" port=\"0\" address=\"127.0.0.1\" {more})\n\
             action(type=\"omfile\" file=\"DIRECTORY/out\" template=\"as_received\")\n"
        ),
    )
}

/// Numbers of what it wrote, in order.
fn written(rsyslogd: &Rsyslogd) -> Vec<u64> {
    // A crash may leave half a line, which the next one is then written behind.
    rsyslogd.lines("out").iter().filter_map(|line| number_of(line.as_bytes())).collect()
}

const MESSAGES: u64 = 20_000;

#[track_caller]
fn assert_all_arrive_in_order(relay: &mut Relay, rsyslogd: &Rsyslogd) {
    send(relay, 0..MESSAGES);
    assert_eq!(settled(relay, MESSAGES), MESSAGES);
    let order = written(rsyslogd);
    assert_eq!(order.len() as u64, MESSAGES);
    assert!(order.iter().copied().eq(0..MESSAGES), "in order");
    let status = relay.status();
    assert_eq!(count(status.output("out"), "written_messages"), MESSAGES);
    relay.stop_clean();
}

#[test]
fn a_real_imrelp_gets_every_message_once_and_in_order() {
    let Some(executable) = rsyslogd() else { return };
    let rsyslogd = imrelp(&executable, "", "");
    let port = rsyslogd.listening_port();
    let mut relay = relay_to(&format!("to: 'relp+tcp://127.0.0.1:{port}'"));
    assert_all_arrive_in_order(&mut relay, &rsyslogd);
}

/// imrelp over TLS, whose certificate is for `intake.test`.
fn imrelp_with_tls(executable: &std::path::Path, certificates: &Certificates) -> Rsyslogd {
    let own = certificates.issue("intake", &["intake.test"], |_| {});
    let more = format!(
        "tls=\"on\" tls.caCert=\"{}\" tls.myCert=\"{}\" tls.myPrivKey=\"{}\"",
        certificates.ca.display(),
        own.cert.display(),
        own.key.display()
    );
    imrelp(executable, " tls.tlslib=\"openssl\"", &more)
}

#[test]
fn a_real_imrelp_over_tls_is_known_by_the_name_that_is_expected_of_it() {
    let Some(executable) = rsyslogd() else { return };
    let certificates = Certificates::new();
    let rsyslogd = imrelp_with_tls(&executable, &certificates);
    let (port, ca) = (rsyslogd.listening_port(), certificates.ca.display());
    let to = format!("to: 'relp+tls://127.0.0.1:{port}'");

    let wrong = relay_to(&format!("{to}, tls: {{ca: {ca}, server_name: other.test}}"));
    send(&wrong, 0..1);
    let line = wrong.wait_for_log("cannot connect");
    let said = line["message"].as_str().unwrap();
    assert!(said.contains("other.test") && said.contains("intake.test"), "{said}");
    assert!(failures(&wrong, "tls_handshake") > 0);
    assert_eq!(count(wrong.status().route("all"), "released"), 0);
    drop(wrong);

    let mut relay = relay_to(&format!("{to}, tls: {{ca: {ca}, server_name: intake.test}}"));
    assert_all_arrive_in_order(&mut relay, &rsyslogd);
}

#[test]
fn a_real_imrelp_that_crashes_again_and_again_loses_nothing() {
    const WINDOW: u64 = 500;
    const CRASHES: u64 = 4;
    let Some(executable) = rsyslogd() else { return };
    let mut rsyslogd = imrelp(&executable, "", "");
    let port = rsyslogd.listening_port();
    let mut relay = relay_to(&format!("to: 'relp+tcp://127.0.0.1:{port}', relp_window: {WINDOW}"));
    let load = Load::start(relay.address("lan", "tcp"));
    for _ in 0..CRASHES {
        let before = written(&rsyslogd).len();
        eventually("messages to arrive", || {
            let lines = written(&rsyslogd).len();
            if lines > before + 1_000 { Ok(()) } else { Err(format!("{lines} behind {before}")) }
        });
        rsyslogd.crash_and_start("port=\"0\"", &format!("port=\"{port}\""));
    }
    let sent = load.finish();
    assert_eq!(settled(&relay, sent), sent);
    let mut numbers = BTreeMap::new();
    for number in written(&rsyslogd) {
        *numbers.entry(number).or_default() += 1;
    }
    let (missing, duplicates) = missing_and_duplicates(&numbers, sent);
    assert!(missing.is_empty(), "{missing:?} of {sent}");
    let resent = count(relay.status().route("all"), "resent");
    println!("{sent} messages, {CRASHES} crashes: {resent} sent again, {duplicates} of them arrived twice");
    assert!(duplicates <= resent && resent <= CRASHES * WINDOW, "{duplicates} of {resent}");
    relay.stop_clean();
}

#[test]
fn refused_messages_are_dropped_on_their_routes_account_and_the_rest_goes_on() {
    let server = RelpServer::start(|_, mut session| {
        while let Some(message) = session.next() {
            if message.number % 100 == 7 {
                session.refuse(message, "500 the wheel does not turn that way");
            } else {
                session.take(message);
            }
        }
    });
    let mut relay = relay_with(&server, "");
    send(&relay, 0..1_000);
    assert_eq!(settled(&relay, 1_000), 990);
    assert_eq!((refused(&relay), count(relay.status().route("all"), "dropped")), (10, 10));
    assert!(server.wait_for(990).is_sorted());
    let line = relay.wait_for_log("refuses messages");
    assert!(line["message"].as_str().unwrap().contains("500 the wheel does not turn that way"), "{line}");
    let status = relay.status();
    assert_eq!(count(status.output("out"), "broken_connections"), 0);
    assert_eq!(count(status.route("all"), "resent"), 0);
    relay.stop_clean();
}

#[test]
fn a_server_that_refuses_everything_gets_nothing_dropped() {
    let is_well = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&is_well);
    let server = RelpServer::start(move |_, mut session| {
        while let Some(message) = session.next() {
            if well.load(Relaxed) {
                session.take(message);
            } else {
                session.refuse(message, "500 the disk is full");
            }
        }
    });
    let mut relay = relay_with(&server, ", stall_timeout: 1s");
    send(&relay, 0..1_000);
    let line = relay.wait_for_log("connection broke");
    assert!(line["message"].as_str().unwrap().contains("500 the disk is full"), "{line}");
    relay.status_when("it to be tried again", |status| count(status.output("out"), "connects") > 2);
    assert_eq!(refused(&relay), 0);
    is_well.store(true, Relaxed);
    assert_eq!(settled(&relay, 1_000), 1_000);
    assert!(server.wait_for(1_000).into_iter().eq(0..1_000));
    assert_eq!(refused(&relay), 0);
    relay.stop_clean();
}

#[test]
fn a_server_that_closes_gets_again_what_it_did_not_answer() {
    let server = RelpServer::start(|number, mut session| {
        if number > 0 {
            return session.take_all();
        }
        let first: Vec<Message> = (0..300).map(|_| session.next().unwrap()).collect();
        first[..150].iter().for_each(|message| session.take(*message));
        session.announce_close();
        // What it says last is still heard.
        first[150..200].iter().for_each(|message| session.take(*message));
        session.finish();
    });
    let mut relay = relay_with(&server, "");
    send(&relay, 0..1_000);
    assert_eq!(settled(&relay, 1_000), 1_000);
    assert!(server.wait_for(1_000).into_iter().eq(0..1_000), "each once");
    let status = relay.status();
    assert_eq!(count(status.output("out"), "broken_connections"), 0);
    assert_eq!(count(status.output("out"), "connects"), 2);
    relay.stop_clean();
}

#[test]
fn a_server_that_acknowledges_nothing_any_more_is_left() {
    let server = RelpServer::start(|number, mut session| {
        for message in (0..10).map_while(|_| session.next()).collect::<Vec<_>>() {
            session.take(message);
        }
        if number > 1 {
            session.take_all();
        } else {
            // Reads on.
            while session.next().is_some() {}
        }
    });
    let mut relay = relay_with(&server, ", stall_timeout: 300ms");
    send(&relay, 0..100);
    let line = relay.wait_for_log("connection broke");
    assert!(line["message"].as_str().unwrap().contains("acknowledges nothing any more (stall_timeout)"), "{line}");
    assert_eq!(settled(&relay, 100), 100);
    assert!(server.wait_for(100).into_iter().eq(0..100));
    assert_eq!(count(relay.status().output("out"), "broken_connections"), 2);
    relay.stop_clean();
}

#[test]
fn answers_may_come_in_any_order() {
    let server = RelpServer::start(|_, mut session| {
        loop {
            let some: Vec<Message> = (0..50).map_while(|_| session.next()).collect();
            some.iter().rev().for_each(|message| session.take(*message));
            if some.is_empty() {
                return;
            }
        }
    });
    let mut relay = relay_with(&server, "");
    send(&relay, 0..1_000);
    assert_eq!(settled(&relay, 1_000), 1_000);
    let mut numbers = server.wait_for(1_000);
    assert!(!numbers.is_sorted());
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..1_000));
    relay.stop_clean();
}

#[test]
fn what_keeps_a_session_from_opening_is_told_and_tried_again() {
    let server = RelpServer::start(|number, mut session| match number {
        0 => session.answer_open(b"500 not in this house"),
        1 => session.answer_open(b"200 OK\nrelp_version=7\ncommands=syslog"),
        2 => session.answer_open(b"200 OK\nrelp_version=0\ncommands=eventlog"),
        3 => session.say(b"220 mail.example ESMTP\r\n"),
        4 => {}
        _ => session.take_all(),
    });
    let mut relay = relay_with(&server, ", handshake_timeout: 500ms");
    send(&relay, 0..10);
    assert!(server.wait_for(10).into_iter().eq(0..10));
    assert_eq!(settled(&relay, 10), 10);
    assert_eq!(failures(&relay, "relp_open"), 5);
    assert_eq!(count(relay.status().output("out"), "connects"), 1);
    let said = |words: &str| assert!(relay.log_text().contains(words), "{words}: {}", relay.log_text());
    said("the server refuses the connection: 500 not in this house");
    said("the server speaks RELP of version");
    // The third attempt is not told of; the fourth is.
    said("the server does not speak RELP");
    relay.stop_clean();
}

#[test]
fn no_more_is_outstanding_than_the_window_allows_and_what_was_answered_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let spool = format!("spool: {{dir: {}, durability: always}}\n", folder.path().display());
    for spool in ["", &spool] {
        keeps_to_its_window(spool);
    }
}

fn keeps_to_its_window(spool: &str) {
    const WINDOW: u64 = 3;
    let may_answer = Arc::new(AtomicBool::new(false));
    let may = Arc::clone(&may_answer);
    let server = RelpServer::start(move |number, mut session| {
        if number > 0 {
            return session.take_all();
        }
        let first: Vec<Message> = (0..WINDOW).map(|_| session.next().unwrap()).collect();
        eventually("the relay to have been looked at", || if may.load(Relaxed) { Ok(()) } else { Err(String::new()) });
        assert!(session.is_silent(Duration::from_millis(200)), "the window is full");
        session.take(first[0]);
        session.take(first[1]);
        let more: Vec<u64> = (0..2).map(|_| session.next().unwrap().number).collect();
        assert_eq!(more, [3, 4]);
        // Closed with a batch in flight of which two messages are answered.
    });
    let to = format!("to: 'relp+tcp://{}', relp_window: {WINDOW}", server.address);
    let mut relay = Relay::start(&format!("{INPUT}{spool}outputs: {{out: {{{to}}}}}\n{ROUTE_ALL}"));
    send(&relay, 0..100);
    relay.status_when("the window to be full", |status| count(status.output("out"), "written_messages") == WINDOW);
    relay.assert_idles(Duration::from_millis(300));
    may_answer.store(true, Relaxed);
    assert_eq!(settled(&relay, 100), 100);
    assert!(server.wait_for(100).into_iter().eq(0..100), "none twice");
    let status = relay.status();
    assert_eq!((count(status.output("out"), "broken_connections"), count(status.route("all"), "resent")), (1, WINDOW));
    relay.stop_clean();
}

#[test]
fn a_target_that_opens_no_session_is_left_for_the_next_one() {
    let surly = RelpServer::start(|_, mut session| session.answer_open(b"500 not today"));
    let server = RelpServer::start(|_, mut session| session.take_all());
    let to = format!("to: ['relp+tcp://{}', 'relp+tcp://{}'], prefer_after: 100ms", surly.address, server.address);
    let mut relay = relay_to(&to);
    send(&relay, 0..10);
    assert_eq!(settled(&relay, 10), 10);
    // The preferred one is probed with an open: that it accepts connections is not enough.
    let before = count(relay.status().output("out"), "connects");
    pause(Duration::from_millis(500));
    assert_eq!(count(relay.status().output("out"), "connects"), before);
    assert!(server.wait_for(10).into_iter().eq(0..10));
    relay.stop_clean();
}

#[test]
fn a_server_that_talks_before_it_reads_blocks_nobody() {
    const HINTS: usize = 400_000;
    let server = RelpServer::start(|_, mut session| {
        let first = session.next().unwrap();
        // Far more than the kernel's buffers hold, in both directions.
        session.say(&b"0 hint 20 xxxxxxxxxxxxxxxxxxxx\n".repeat(HINTS));
        session.take(first);
        session.take_all();
    });
    let mut relay = relay_with(&server, ", relp_window: 1000000");
    send(&relay, 0..100_000);
    assert_eq!(settled(&relay, 100_000), 100_000);
    assert_eq!(count(relay.status().output("out"), "broken_connections"), 0);
    relay.stop_clean();
}

#[test]
fn an_idle_session_is_closed_in_order_and_so_is_one_at_the_stop() {
    let closes = Arc::new(Mutex::new(Vec::new()));
    let closed = Arc::clone(&closes);
    let server = RelpServer::start(move |_, mut session| {
        session.take_all();
        closed.lock().unwrap().push(session.is_closed);
    });
    let mut relay = relay_with(&server, ", idle_timeout: 1s");
    let mut stream = connect(relay.address("lan", "tcp"));
    std::io::Write::write_all(&mut stream, numbered(0).as_bytes()).unwrap();
    server.wait_for(1);
    relay.status_when("it to be closed", |status| count(status.output("out"), "connections") == 0);
    std::io::Write::write_all(&mut stream, numbered(1).as_bytes()).unwrap();
    finish(stream);
    server.wait_for(2);
    assert_eq!(settled(&relay, 2), 2);
    assert_eq!(count(relay.status().output("out"), "broken_connections"), 0);
    relay.stop_clean();
    eventually("both ends to be seen", || {
        let closes = closes.lock().unwrap().clone();
        if closes == [true, true] { Ok(()) } else { Err(format!("{closes:?}")) }
    });
}

#[test]
fn what_the_server_did_not_take_by_the_end_of_the_stop_is_counted_message_by_message() {
    let server = RelpServer::start(|_, mut session| {
        for message in (0..40).map_while(|_| session.next()).collect::<Vec<_>>() {
            if message.number % 10 == 9 {
                session.refuse(message, "500 no");
            } else {
                session.take(message);
            }
        }
        while session.next().is_some() {}
    });
    let outputs = format!("outputs: {{out: {{to: 'relp+tcp://{}'}}}}\nshutdown_timeout: 1s\n", server.address);
    let mut relay = Relay::start(&format!("{INPUT}{outputs}{ROUTE_ALL}"));
    send(&relay, 0..100);
    server.wait_for(36);
    relay.terminate();
    assert_eq!(relay.wait().code(), Some(1));
    let line = relay.wait_for_log("they are lost");
    assert_eq!(line["messages"], 60, "{line}");
}
