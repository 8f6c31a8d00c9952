//! Faults of the far end, under load over TCP: nothing is lost, the ledger balances, the relay does not spin, and it
//! is back within five seconds of the collector's return.
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

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use support::certificates::Certificates;
use support::collector::{Collector, Manner};
use support::load::{Load, missing_and_duplicates, numbered};
use support::relay::{Relay, count};
use support::senders::*;
use support::waiting::{PATIENCE, eventually, pause, within};
use support::{Bench, ROUTE_ALL};

/// What the issue allows from the collector's return to the first message.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

/// A SYN that loopback has not answered within this was dropped.
const BLACK_HOLE_AFTER: Duration = Duration::from_millis(300);

const INPUT: &str = "inputs: {lan: {listen: 'tcp://127.0.0.1:0'}}\n";

/// A relay under load with messages flowing.
struct UnderLoad {
    bench: Bench,
    load: Load,
}

impl UnderLoad {
    fn start(output: &str) -> Self {
        let bench = Bench::with_output(&format!("{INPUT}{ROUTE_ALL}"), output);
        let load = Load::start(bench.relay.address("lan", "tcp"));
        let mut started = Self { bench, load };
        started.flows_on(200);
        started
    }

    /// Waits until so many more frames have arrived.
    #[track_caller]
    fn flows_on(&mut self, frames: usize) {
        let so_far = || self.bench.collector.look(|seen| seen.frames.len());
        let goal = so_far() + frames;
        eventually("messages to flow", || if so_far() >= goal { Ok(()) } else { Err(so_far().to_string()) });
    }

    /// Lets the outage last, with nothing sent meanwhile, and holds the relay to taking hardly any processor time.
    #[track_caller]
    fn assert_idles(&self, time: Duration) {
        self.load.pause();
        self.bench.relay.assert_idles(time);
        self.load.resume();
    }

    /// The collector is back: measures until messages arrive again.
    #[track_caller]
    fn assert_recovers(&self, what: &str) {
        let before = self.bench.collector.look(|seen| seen.frames.len());
        let returned = Instant::now();
        let again = || self.bench.collector.look(|seen| seen.frames.len()) > before;
        within(PATIENCE, || if again() { Ok(()) } else { Err("nothing arrives".to_owned()) }).unwrap();
        let passed = returned.elapsed();
        println!("{what}: messages arrive again after {passed:?}");
        assert!(passed < RECOVERY_MAX, "{what}: messages arrive again after {passed:?}");
    }

    /// Ends the load and holds the relay to its promises. Returns how many messages were sent again.
    #[track_caller]
    fn assert_nothing_is_lost(self) -> u64 {
        let Self { mut bench, load } = self;
        let sent = load.finish();
        eventually("every message to arrive", || {
            let (missing, _) = missing_and_duplicates(&bench.collector.numbers(), sent);
            if missing.is_empty() { Ok(()) } else { Err(format!("missing of {sent}: {missing:?} …")) }
        });
        let status = bench.relay.status_when("the queue to be empty", |status| {
            count(status.route("all"), "waiting") == 0 && count(status.input("lan"), "received") == sent
        });
        status.assert_balanced();
        assert_eq!(count(status.route("all"), "routed"), sent);
        assert_eq!(count(status.route("all"), "dropped"), 0);
        let resent = count(status.route("all"), "resent");
        let duplicates = missing_and_duplicates(&bench.collector.numbers(), sent).1;
        println!("{sent} sent, {resent} sent again, {duplicates} arrived twice");
        assert!(duplicates <= resent, "{duplicates} duplicates, {resent} resent");
        let mut arrived = BTreeSet::new();
        let firsts: Vec<u64> =
            bench.collector.in_order().into_iter().filter(|number| arrived.insert(*number)).collect();
        assert!(firsts.is_sorted(), "one source's messages arrive in its order");
        bench.relay.stop_clean();
        resent
    }
}

#[test]
fn a_collector_that_restarts_again_and_again_costs_nothing() {
    let mut run = UnderLoad::start("");
    for restart in 0..4 {
        run.flows_on(200);
        run.bench.collector.stop();
        if restart == 0 {
            run.assert_idles(Duration::from_millis(500));
        }
        pause(Duration::from_millis(200));
        run.bench.collector.restart();
        run.assert_recovers("restart");
    }
    run.assert_nothing_is_lost();
}

#[test]
fn a_collector_that_is_gone_for_a_while_finds_everything_on_its_return() {
    let run = UnderLoad::start("");
    run.bench.collector.stop();
    pause(Duration::from_secs(2));
    run.assert_idles(Duration::from_secs(1));
    let reason = "output=\"sekoia\",reason=\"connect\"";
    let attempts = run.bench.relay.metric("forebay_output_connect_failures_total", reason);
    assert!((3..30).contains(&attempts), "{attempts} attempts in three seconds");
    run.bench.collector.restart();
    run.assert_recovers("outage");
    run.assert_nothing_is_lost();
}

#[test]
fn resets_in_the_middle_of_the_stream_lose_nothing() {
    let mut run = UnderLoad::start("");
    let mut resets = 0;
    while resets < 9 {
        run.flows_on(100);
        // For a moment its kernel acknowledges what its process does not read any more.
        run.bench.collector.behave(Manner::Stalls);
        pause(Duration::from_millis(50));
        let open = run.bench.collector.reset();
        run.bench.collector.behave(Manner::Reads);
        if open > 0 {
            resets += 1;
            run.assert_recovers("reset");
        }
    }
    let resent = run.assert_nothing_is_lost();
    assert!(resent > 0, "a reset while messages are in flight makes some to be sent again");
}

#[test]
fn what_a_stalled_collector_had_acknowledged_but_not_read_survives_its_death() {
    let mut run = UnderLoad::start("");
    run.bench.collector.behave(Manner::Stalls);
    pause(Duration::from_millis(500));
    run.assert_idles(Duration::from_millis(500));
    // Its kernel has acknowledged all of this, and forgets it now.
    run.bench.collector.reset();
    run.bench.collector.behave(Manner::Reads);
    run.assert_recovers("stall");
    run.flows_on(200);
    let resent = run.assert_nothing_is_lost();
    assert!(resent > 500, "{resent} were sent again; half a second of them had been acknowledged and not read");
}

#[test]
fn a_collector_that_reads_nothing_is_left_after_the_stall_timeout() {
    let certificates = Certificates::new();
    let collector = Collector::start(&certificates);
    let output = collector.output(&certificates, "stall_timeout: 500ms");
    let relay = Relay::start(&format!("outputs: {{sekoia: {{{output}}}}}\n{INPUT}{ROUTE_ALL}"));
    collector.behave(Manner::Stalls);
    let to = relay.address("lan", "tcp");
    // More than both kernels' buffers hold.
    let sender = thread::spawn(move || send_tcp(to, &long_messages(LONG_COUNT)));
    relay.wait_for_log("connection broke: stall_timeout: ");
    collector.reset();
    collector.behave(Manner::Reads);
    sender.join().unwrap();
    assert_all_long_ones_arrive(&collector);
    relay.status_when("the queue to be empty", |status| count(status.route("all"), "waiting") == 0).assert_balanced();
}

/// A listener whose connections take so many octets and no more, until they are read.
fn narrow_listener(octets: usize) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&listener).set_recv_buffer_size(octets).unwrap();
    listener
}

#[test]
fn octets_that_no_kernel_acknowledges_are_sent_again_over_a_new_connection() {
    const MESSAGES: u64 = 3_000;
    let listener = narrow_listener(4 * 1024);
    let to = listener.local_addr().unwrap();
    // Less than our kernel's buffer holds: the write itself succeeds, and nothing follows it.
    let output = format!("to: 'tcp://{to}', stall_timeout: 500ms, user_timeout: off, keepalive: off");
    let mut relay = Relay::start(&format!("outputs: {{sekoia: {{{output}}}}}\n{INPUT}{ROUTE_ALL}"));
    let octets: String = (0..MESSAGES).map(numbered).collect();
    send_tcp(relay.address("lan", "tcp"), octets.as_bytes());
    let (_silent, _) = listener.accept().unwrap();
    relay.wait_for_log("connection broke: stall_timeout: ");
    let (mut stream, _) = listener.accept().unwrap();
    let reader = thread::spawn(move || {
        let mut octets = Vec::new();
        stream.read_to_end(&mut octets).unwrap();
        octets
    });
    let status = relay.status_when("all to be sent again", |status| count(status.route("all"), "resent") == MESSAGES);
    assert_eq!(count(status.output("sekoia"), "broken_connections"), 1);
    relay.stop_clean();
    let octets = reader.join().unwrap();
    assert_eq!(memchr::memmem::find_iter(&octets, " n=").count() as u64, MESSAGES);
}

#[test]
fn a_road_that_is_slow_and_moves_is_not_given_up() {
    let listener = narrow_listener(64 * 1024);
    let to = listener.local_addr().unwrap();
    // A large send buffer takes longer than that to make room for more: meanwhile octets are acknowledged.
    let output = format!("to: 'tcp://{to}', stall_timeout: 400ms, user_timeout: off");
    let mut relay = Relay::start(&format!("outputs: {{sekoia: {{{output}}}}}\n{INPUT}{ROUTE_ALL}"));
    let sender = {
        let to = relay.address("lan", "tcp");
        thread::spawn(move || send_tcp(to, &long_messages(LONG_COUNT / 3)))
    };
    let (mut stream, _) = listener.accept().unwrap();
    let (mut octets, mut buffer) = (Vec::new(), vec![0; 32 * 1024]);
    // Slowly, until more has passed than the send buffer holds at first; then as fast as it comes.
    let ended = thread::spawn(move || {
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => return octets,
                count => octets.extend_from_slice(&buffer[..count]),
            }
            if octets.len() < 4 << 20 {
                pause(Duration::from_millis(20));
            }
        }
    });
    sender.join().unwrap();
    relay.status_when("all to be written", |status| count(status.route("all"), "waiting") == 0);
    assert_eq!(count(relay.status().output("sekoia"), "broken_connections"), 0);
    relay.stop_clean();
    let octets = ended.join().unwrap();
    assert_eq!(memchr::memmem::find_iter(&octets, " n=").count() as u64, LONG_COUNT / 3);
}

#[test]
fn a_connect_that_nobody_answers_is_given_up_and_tried_again() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let listener = TcpListener::from(socket);
    let to = listener.local_addr().unwrap();
    // Who waits to be accepted takes all the room there is: a SYN is then dropped, as a black hole does.
    let crowd: Vec<_> =
        std::iter::from_fn(|| std::net::TcpStream::connect_timeout(&to, BLACK_HOLE_AFTER).ok()).collect();
    let relay =
        Relay::start(&format!("outputs: {{sekoia: {{to: 'tcp://{to}', connect_timeout: 300ms}}}}\n{INPUT}{ROUTE_ALL}"));
    send_tcp(relay.address("lan", "tcp"), numbered(1).as_bytes());
    relay.status_when("several attempts", |status| count(status.output("sekoia"), "failed_connects") >= 2);
    drop(crowd);
    let began = Instant::now();
    let frame = loop {
        let mut frame = vec![0; 16];
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The crowd's connections end without a word.
        if stream.read(&mut frame).unwrap_or(0) > 0 {
            break frame;
        }
    };
    assert!(began.elapsed() < RECOVERY_MAX, "{:?}", began.elapsed());
    assert!(String::from_utf8_lossy(&frame).contains("<134>1"));
}

#[test]
fn a_close_that_nobody_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = format!("to: 'tcp://{}', stall_timeout: 300ms, idle_timeout: 1s", listener.local_addr().unwrap());
    let relay = Relay::start(&format!("outputs: {{sekoia: {{{output}}}}}\n{INPUT}{ROUTE_ALL}"));
    send_tcp(relay.address("lan", "tcp"), numbered(1).as_bytes());
    // Reads, and never closes.
    let (mut silent, _) = listener.accept().unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut octets = Vec::new();
    silent.read_to_end(&mut octets).unwrap();
    relay.wait_for_log("connection broke: ");
    // Nobody knows whether it was read.
    let (mut stream, _) = listener.accept().unwrap();
    let mut again = vec![0; octets.len()];
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_exact(&mut again).unwrap();
    assert_eq!(again, octets);
}

#[test]
fn a_wrong_certificate_gets_nothing_and_the_right_one_everything() {
    let run = UnderLoad::start("");
    run.bench.collector.behave(Manner::PresentsAStrangersCertificate);
    run.bench.collector.reset();
    run.bench.relay.wait_for_log("TLS handshake with");
    let before = run.bench.collector.look(|seen| seen.frames.len());
    run.assert_idles(Duration::from_millis(700));
    assert_eq!(run.bench.collector.look(|seen| seen.frames.len()), before);
    run.bench.collector.behave(Manner::Reads);
    run.assert_recovers("certificate");
    let reason = "output=\"sekoia\",reason=\"tls_handshake\"";
    assert!(run.bench.relay.metric("forebay_output_connect_failures_total", reason) > 0);
    run.assert_nothing_is_lost();
}

#[test]
fn a_handshake_that_never_ends_is_given_up_and_tried_again() {
    let run = UnderLoad::start("handshake_timeout: 800ms");
    run.bench.collector.behave(Manner::NeverShakesHands);
    run.bench.collector.reset();
    run.bench.relay.wait_for_log("did not finish it in time");
    run.assert_idles(Duration::from_millis(700));
    run.bench.collector.behave(Manner::Reads);
    run.assert_recovers("handshake");
    run.assert_nothing_is_lost();
}

#[test]
fn without_a_replay_window_messages_are_released_at_once_and_an_outage_loses_none_of_its_own() {
    let run = UnderLoad::start("replay_window: 0");
    run.bench.collector.stop();
    // What the collector's kernel had acknowledged before may be lost then; nothing after it may.
    let first = run.load.sent() + 25;
    pause(Duration::from_millis(300));
    run.bench.collector.restart();
    run.assert_recovers("restart");
    let Bench { relay, collector, .. } = &run.bench;
    let sent = run.load.finish();
    assert!(sent > first);
    let status = relay.status_when("all to be released", |status| count(status.route("all"), "released") == sent);
    status.assert_balanced();
    let numbers = eventually("the outage's messages to arrive", || {
        let numbers = collector.numbers();
        if numbers.contains_key(&(sent - 1)) { Ok(numbers) } else { Err("the last is missing".to_owned()) }
    });
    let missing: Vec<u64> = (first..sent).filter(|number| !numbers.contains_key(number)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_name_that_does_not_resolve_makes_messages_wait_and_the_stop_tells_the_loss() {
    const MESSAGES: u64 = 1_000;
    let mut relay = Relay::start(&format!(
        "outputs: {{sekoia: {{to: 'tls://does-not-exist.invalid:6514', connect_timeout: 2s}}}}\nshutdown_timeout: 500ms\n{INPUT}{ROUTE_ALL}"
    ));
    let octets: String = (0..MESSAGES).map(numbered).collect();
    send_tcp(relay.address("lan", "tcp"), octets.as_bytes());
    relay.wait_for_log("cannot resolve does-not-exist.invalid");
    relay.assert_idles(Duration::from_secs(1));
    let status = relay.status();
    status.assert_balanced();
    assert_eq!(count(status.input("lan"), "received"), MESSAGES);
    assert_eq!(count(status.route("all"), "waiting"), MESSAGES);
    let reason = "output=\"sekoia\",reason=\"resolve\"";
    assert!(relay.metric("forebay_output_connect_failures_total", reason) > 0);
    relay.terminate();
    assert_eq!(relay.wait().code(), Some(1));
    let told = relay.wait_for_log("not everything could be delivered in time");
    assert_eq!(told["lost"], MESSAGES);
}

/// Messages of about a thousand octets: together more than the kernels' buffers and a small queue hold.
const LONG_COUNT: u64 = 15_000;

fn long_messages(messages: u64) -> Vec<u8> {
    let filler = "the water waits above the gate ".repeat(30);
    let line = |number| format!("<134>Nov 22 10:00:00 gate slow[7]: n={number} {filler}\n");
    (0..messages).map(line).collect::<String>().into_bytes()
}

#[track_caller]
fn assert_all_long_ones_arrive(collector: &Collector) {
    eventually("every message to arrive", || {
        let (missing, _) = missing_and_duplicates(&collector.numbers(), LONG_COUNT);
        if missing.is_empty() { Ok(()) } else { Err(format!("missing: {missing:?} …")) }
    });
}

#[test]
fn a_full_lane_makes_a_tcp_sender_wait_and_loses_nothing() {
    let mut bench = Bench::start(&format!("memory: {{max: 24MiB}}\n{INPUT}{ROUTE_ALL}"));
    bench.collector.behave(Manner::Stalls);
    let to = bench.relay.address("lan", "tcp");
    let sender = thread::spawn(move || send_tcp(to, &long_messages(LONG_COUNT)));
    let status =
        bench.relay.status_when("the sender to wait", |status| count(status.input("lan"), "blocked_connections") == 1);
    status.assert_balanced();
    bench.relay.assert_idles(Duration::from_millis(500));
    assert!(!sender.is_finished());
    assert!(count(bench.relay.status().input("lan"), "received") < LONG_COUNT);
    bench.collector.behave(Manner::Reads);
    sender.join().unwrap();
    assert_all_long_ones_arrive(&bench.collector);
    let status = bench.relay.status_when("the queue to be empty", |status| count(status.route("all"), "waiting") == 0);
    status.assert_balanced();
    assert_eq!(count(status.input("lan"), "blocked_connections"), 0);
    assert_eq!(count(status.route("all"), "dropped"), 0);
    assert_eq!(count(status.route("all"), "resent"), 0);
    bench.relay.stop_clean();
}

#[test]
fn memory_stays_within_its_bound_while_the_collector_is_gone() {
    const SENDERS: usize = 8;
    let bench = Bench::start(&format!("{INPUT}{ROUTE_ALL}"));
    bench.collector.stop();
    let to = bench.relay.address("lan", "tcp");
    // Short messages: what the relay remembers of each weighs most beside them.
    let octets: String = (0..10_000).map(|number| format!("<134>Nov 22 10:00:00 g a: {number}\n")).collect();
    let octets = Arc::new(octets);
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (mut stream, octets) = (connect(to), Arc::clone(&octets));
            thread::spawn(move || while stream.write_all(octets.as_bytes()).is_ok() {})
        })
        .collect();
    let status = bench.relay.status_when("all senders to wait", |status| {
        count(status.input("lan"), "blocked_connections") == SENDERS as u64
    });
    status.assert_balanced();
    let (waiting, resident) = (count(status.route("all"), "waiting_bytes"), bench.relay.resident());
    println!("{waiting} bytes wait, {resident} are resident");
    assert!(waiting > 8 << 20, "{waiting} bytes wait: the memory is there to be used");
    // Of 64 MiB as much is left for the program itself as it takes when idle.
    assert!(resident < 52 << 20, "{resident} bytes resident");
    drop(bench);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}

#[test]
fn memory_stays_within_its_bound_when_far_less_is_written_than_kept() {
    const MESSAGES: u64 = 200_000;
    // A few octets on the wire for each message: a replay window counted in those alone would hold all of them.
    let routes = "routes: [{name: all, template: '<13>%msg%\\n', intake_key: unused}]\n";
    let bench = Bench::start(&format!("memory: {{max: 24MiB}}\n{INPUT}{routes}"));
    let octets: String = (0..MESSAGES).map(|_| "<13>Nov 22 10:00:00 gate wheel: 1\n").collect();
    send_tcp(bench.relay.address("lan", "tcp"), octets.as_bytes());
    let status = bench.relay.status_when("all to be sent", |status| {
        count(status.input("lan"), "received") == MESSAGES && count(status.route("all"), "waiting") == 0
    });
    status.assert_balanced();
    let resident = bench.relay.resident();
    assert!(resident < 16 << 20, "{resident} bytes resident: {} in flight", count(status.route("all"), "in_flight"));
}

/// A relay with a route to a collector that stalls and one to a collector that reads.
fn two_outputs() -> (Relay, Collector, Collector) {
    let certificates = Certificates::new();
    let (stalled, healthy) = (Collector::start(&certificates), Collector::start(&certificates));
    stalled.behave(Manner::Stalls);
    let configuration = format!(
        "memory: {{max: 24MiB}}\ninputs: {{lan: {{listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0']}}}}\n\
         outputs:\n  stalled: {{{}}}\n  healthy: {{{}}}\n\
         routes:\n  - {{name: slow, program: slow, intake_key: key-of-slow, output: stalled}}\n  \
         - {{name: fast, intake_key: key-of-fast, output: healthy}}\n",
        stalled.output(&certificates, ""),
        healthy.output(&certificates, "")
    );
    (Relay::start(&configuration), stalled, healthy)
}

#[test]
fn a_full_lane_drops_datagrams_on_its_own_account_and_others_go_on() {
    let (relay, stalled, healthy) = two_outputs();
    let to = relay.address("lan", "udp");
    let filler = "the water waits above the gate ".repeat(30);
    let dropped = eventually("the slow lane to be full", || {
        let messages: Vec<String> =
            (0..200).map(|number| format!("<134>Nov 22 10:00:00 gate slow[7]: n={number} {filler}")).collect();
        send_udp(to, &messages.iter().map(String::as_str).collect::<Vec<_>>());
        match count(relay.status().route("slow"), "dropped") {
            0 => Err("nothing is dropped".to_owned()),
            dropped => Ok(dropped),
        }
    });
    assert!(dropped > 0);
    for _ in 0..20 {
        send_udp(to, &["<134>Nov 22 10:00:00 gate fast[7]: in time"; 10]);
    }
    healthy.wait_for(200);
    let settled = relay.status_when("all datagrams to be taken", |status| {
        pause(Duration::from_millis(50));
        *status == relay.status()
    });
    settled.assert_balanced();
    assert_eq!(count(settled.route("fast"), "dropped"), 0);
    stalled.behave(Manner::Reads);
    let status = relay.status_when("the slow lane to be empty", |status| count(status.route("slow"), "waiting") == 0);
    status.assert_balanced();
    stalled.wait_for((count(status.route("slow"), "routed") - count(status.route("slow"), "dropped")) as usize);
}

#[test]
fn a_full_lane_blocks_its_own_senders_only() {
    let (relay, stalled, healthy) = two_outputs();
    let to = relay.address("lan", "tcp");
    let sender = thread::spawn(move || send_tcp(to, &long_messages(LONG_COUNT)));
    relay.status_when("the sender to wait", |status| count(status.input("lan"), "blocked_connections") == 1);
    let began = Instant::now();
    // Some of these connections share the shard of the one that waits.
    for _ in 0..8 {
        let mut stream = connect(to);
        for _ in 0..50 {
            stream.write_all(b"<134>Nov 22 10:00:00 gate fast[7]: in time\n").unwrap();
        }
        finish(stream);
    }
    healthy.wait_for(400);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(!sender.is_finished());
    stalled.behave(Manner::Reads);
    sender.join().unwrap();
    assert_all_long_ones_arrive(&stalled);
}
