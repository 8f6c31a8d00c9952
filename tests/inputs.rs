//! In: every kind of input and framing, and every limit of them, through real sockets, to a TLS collector.
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
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use support::certificates::Certificates;
use support::relay::{Relay, count};
use support::senders::*;
use support::waiting::{PATIENCE, eventually};
use support::{Bench, ROUTE_ALL};

/// A message whose text, as the collector gets it, is `text`.
fn message(text: &str) -> String {
    format!("<13>Nov 22 10:00:00 gate wheel[3]: {text}")
}

/// A relay with one input of these keys (flow style) that forwards everything.
fn bench(input: &str) -> Bench {
    Bench::start(&format!("inputs:\n  lan: {{{input}}}\n{ROUTE_ALL}"))
}

fn has_ipv6() -> bool {
    let has = UdpSocket::bind("[::1]:0").is_ok();
    if !has {
        println!("skipped: this machine has no IPv6 loopback");
    }
    has
}

#[test]
fn a_datagram_arrives_as_a_frame_with_the_key() {
    let mut bench = bench("listen: 'udp://127.0.0.1:0'");
    send_udp(bench.relay.address("lan", "udp"), &[&message("it turns")]);
    let frames = bench.collector.wait_for(1);
    assert!(frames[0].starts_with("<13>1 "), "{frames:?}");
    assert!(
        frames[0].ends_with(" gate wheel 3 LOG [SEKOIA@53288 intake_key=\"key-of-all\"]  it turns\n"),
        "{frames:?}"
    );
    bench.relay.stop_clean();
}

#[test]
fn datagrams_that_the_kernel_drops_are_counted_too() {
    const DATAGRAMS: u64 = 5_000;
    let bench = bench("listen: 'udp://127.0.0.1:0', receive_buffer: 8KiB");
    let to = bench.relay.address("lan", "udp");
    let text = message(&"~".repeat(900));
    let mut sent = 0;
    let status = eventually("some to be dropped, and all to be counted", || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..DATAGRAMS {
            socket.send_to(text.as_bytes(), to).unwrap();
        }
        sent += DATAGRAMS;
        let status = bench.relay.status_when("all to be counted", |status| {
            let lan = status.input("lan");
            count(lan, "received") + count(lan, "kernel_dropped") == sent
        });
        if count(status.input("lan"), "kernel_dropped") > 0 { Ok(status) } else { Err("none was dropped".to_owned()) }
    });
    status.assert_balanced();
    bench.collector.wait_for(count(status.input("lan"), "received") as usize);
    bench.relay.wait_for_log("the kernel dropped datagrams");
}

#[test]
fn udp_and_tcp_work_over_ipv6() {
    if !has_ipv6() {
        return;
    }
    let bench = bench("listen: ['udp://[::1]:0', 'tcp://[::1]:0'], allow: ['::1/128']");
    send_udp(bench.relay.address("lan", "udp"), &[&message("by datagram")]);
    send_tcp(bench.relay.address("lan", "tcp"), format!("{}\n", message("by stream")).as_bytes());
    assert_eq!(bench.collector.wait_for_messages(2), ["by datagram", "by stream"]);
}

#[test]
fn one_input_listens_on_several_addresses_at_once() {
    let bench = bench("listen: ['udp://127.0.0.1:0', 'tcp://127.0.0.1:0', 'udp://127.0.0.2:0']");
    send_tcp(bench.relay.address("lan", "tcp"), format!("{}\n", message("by stream")).as_bytes());
    let status = bench.relay.status();
    for url in status.input("lan")["listening"].as_array().unwrap() {
        if let Some(address) = url.as_str().unwrap().strip_prefix("udp://") {
            send_udp(address.parse().unwrap(), &[&message("by datagram")]);
        }
    }
    assert_eq!(bench.collector.wait_for_messages(3), ["by datagram", "by datagram", "by stream"]);
}

#[test]
fn unix_sockets_take_streams_and_datagrams_and_their_files_go_with_the_relay() {
    let directory = tempfile::tempdir().unwrap();
    let (stream, datagram) = (directory.path().join("stream"), directory.path().join("log"));
    let listen = format!("listen: ['unix://{}', 'unixgram://{}']", stream.display(), datagram.display());
    let mut bench = bench(&listen);
    send_unix(&stream, format!("{}\n", message("by stream")).as_bytes());
    send_unixgram(&datagram, &[&message("by datagram"), &message("by datagram")]);
    assert_eq!(bench.collector.wait_for_messages(3), ["by datagram", "by datagram", "by stream"]);
    bench.relay.stop_clean();
    assert!(!stream.exists() && !datagram.exists());
}

#[test]
fn a_socket_file_that_a_killed_relay_left_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let keys = format!("listen: 'unixgram://{}'", path.display());
    let mut first = bench(&keys);
    first.relay.signal("KILL");
    first.relay.wait();
    assert!(path.exists());
    let second = bench(&keys);
    send_unixgram(&path, &[&message("here again")]);
    assert_eq!(second.collector.wait_for_messages(1), ["here again"]);
}

#[test]
fn a_tls_sender_needs_no_certificate_unless_client_ca_is_set() {
    let certificates = Certificates::new();
    let tls = certificates.input_tls();
    let inputs = format!(
        "inputs:\n  open: {{listen: 'tls://127.0.0.1:0', tls: {{{tls}}}}}\n  closed: {{listen: 'tls://127.0.0.1:0', tls: {{{tls}, client_ca: {}}}}}\n{ROUTE_ALL}",
        certificates.ca.display()
    );
    let bench = Bench::with(certificates, &inputs, "");
    let (open, closed) = (bench.relay.address("open", "tls"), bench.relay.address("closed", "tls"));
    let (anonymous, known, unknown) = (
        bench.certificates.client_config(None),
        bench.certificates.client_config(Some(&bench.certificates.client)),
        bench.certificates.client_config(Some(&bench.certificates.stranger)),
    );
    for (to, config, text) in [(open, &anonymous, "anonymous"), (open, &known, "known"), (closed, &known, "let in")] {
        let mut sender = connect_tls(to, config.clone()).unwrap();
        sender.write_all(&counted(&message(text))).unwrap();
        finish_tls(sender);
    }
    for config in [anonymous, unknown] {
        // With TLS 1.3 the client has finished before the relay has seen its certificate: the write may succeed.
        if let Ok(mut sender) = connect_tls(closed, config) {
            drop(sender.write_all(&counted(&message("not let in"))));
            drop(sender.flush());
        }
    }
    let refused = "input=\"closed\",reason=\"tls_handshake\"";
    let status = bench.relay.status_when("both to be refused", |_| {
        bench.relay.metric("forebay_input_refused_connections_total", refused) == 2
    });
    assert_eq!(count(status.input("closed"), "received"), 1);
    assert_eq!(bench.collector.wait_for_messages(3), ["anonymous", "known", "let in"]);
}

#[test]
fn every_framing_cuts_its_frames_however_the_stream_is_cut() {
    let keys = |framing| format!("  {framing}: {{listen: 'tcp://127.0.0.1:0', framing: {framing}}}\n");
    let inputs: String = ["auto", "octet", "lf", "nul"].map(keys).concat();
    let bench = Bench::start(&format!("inputs:\n{inputs}{ROUTE_ALL}"));
    let (one, two, three) = (message("one"), message("two\nlines"), message("three"));
    let counted_then = |more: &str| [counted(&one), counted(&two), more.as_bytes().to_vec()].concat();
    let digits = message("12 monkeys");
    let streams: [(&str, Vec<u8>, &[&str]); 5] = [
        ("auto", counted_then(&format!("{three}\r\n{digits}\n")), &["12 monkeys", "one", "three", "two#012lines"]),
        ("auto", format!("{one}\n\n{three}\n").into_bytes(), &["one", "three"]),
        ("octet", counted_then(""), &["one", "two#012lines"]),
        ("lf", format!("{one}\n{three}\n").into_bytes(), &["one", "three"]),
        ("nul", format!("{one}\0{two}\0").into_bytes(), &["one", "two#012lines"]),
    ];
    let mut expected: Vec<&str> = Vec::new();
    for (input, octets, messages) in &streams {
        let to = bench.relay.address(input, "tcp");
        send_tcp(to, octets);
        // Each octet in a segment of its own, but for the kernel's merging.
        let mut stream = connect(to);
        for octet in octets {
            stream.write_all(&[*octet]).unwrap();
        }
        finish(stream);
        expected.extend(messages.iter().chain(*messages));
    }
    expected.sort_unstable();
    assert_eq!(bench.collector.wait_for_messages(expected.len()), expected);
    bench.relay.status().assert_balanced();
}

#[test]
fn a_line_that_starts_with_digits_is_not_eaten_as_a_length() {
    let bench = bench("listen: 'tcp://127.0.0.1:0'");
    let lines = format!("200 doors were opened\n{}\n99999999 stars were seen\n", message("then they closed"));
    send_tcp(bench.relay.address("lan", "tcp"), lines.as_bytes());
    let frames = bench.collector.wait_for(3).concat();
    for text in ["were opened\n", "then they closed\n", "were seen\n"] {
        assert!(frames.contains(text), "{frames}");
    }
}

#[test]
fn the_last_frame_of_a_stream_arrives_though_it_is_unfinished() {
    let bench = bench("listen: 'tcp://127.0.0.1:0'");
    let to = bench.relay.address("lan", "tcp");
    send_tcp(to, message("without a line feed").as_bytes());
    send_tcp(to, &counted(&message("as long as its count"))[..]);
    let short = counted(&message("cut in the midd|le of a word"));
    let cut = short.iter().position(|octet| *octet == b'|').unwrap();
    send_tcp(to, &short[..cut]);
    assert_eq!(
        bench.collector.wait_for_messages(3),
        ["as long as its count", "cut in the midd", "without a line feed"]
    );
    assert_eq!(count(bench.relay.status().input("lan"), "unfinished"), 2);
}

#[test]
fn the_last_frame_of_a_connection_that_is_reset_arrives() {
    let bench = bench("listen: 'tcp://127.0.0.1:0'");
    let mut stream = connect(bench.relay.address("lan", "tcp"));
    stream.write_all(format!("{}\n{}", message("whole"), message("half")).as_bytes()).unwrap();
    bench.collector.wait_for_messages(1);
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(bench.collector.wait_for_messages(2), ["half", "whole"]);
}

#[test]
fn oversize_messages_are_cut_at_a_character_or_rejected_as_configured() {
    let keys = |name, oversize| {
        format!(
            "  {name}: {{listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0'], max_message_size: 500, oversize: {oversize}}}\n"
        )
    };
    let bench = Bench::start(&format!("inputs:\n{}{}{ROUTE_ALL}", keys("cuts", "truncate"), keys("rejects", "reject")));
    // Two octets each: the maximum falls between the two of one of them, or of its neighbour.
    let [even, odd] = [message(&"é".repeat(400)), message(&format!("x{}", "é".repeat(400)))];
    let fits = message("it fits");
    for input in ["cuts", "rejects"] {
        let stream = [counted(&even), format!("{odd}\n").into_bytes(), counted(&fits)].concat();
        send_tcp(bench.relay.address(input, "tcp"), &stream);
        send_udp(bench.relay.address(input, "udp"), &[&even, &fits]);
    }
    let mut messages = bench.collector.wait_for_messages(7);
    messages.retain(|message| message != "it fits");
    assert_eq!(messages.len(), 3, "the cut ones: {messages:?}");
    for cut in &messages {
        let text = cut.trim_start_matches('x');
        assert!(text.chars().all(|each| each == 'é'), "{cut:?}");
        let left = 500 - message("").len();
        assert!(cut.len() == left || cut.len() == left - 1, "{} octets of {left}", cut.len());
    }
    let status = bench.relay.status();
    assert_eq!((count(status.input("cuts"), "truncated"), count(status.input("cuts"), "rejected")), (3, 0));
    assert_eq!((count(status.input("rejects"), "truncated"), count(status.input("rejects"), "rejected")), (0, 3));
    assert_eq!(count(status.input("rejects"), "received"), 5);
    status.assert_balanced();
}

#[test]
fn messages_of_the_largest_size_arrive_whole_by_every_way() {
    /// The default of `max_message_size`: Sekoia's limit.
    const MAX: usize = 250 * 1024;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let listen = format!("listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0', 'unixgram://{}']", path.display());
    let bench = bench(&listen);
    let of = |octets: usize| message(&"~".repeat(octets - message("").len()));
    // An IPv4 datagram carries 65,507 octets at most, a unix socket what its send buffer holds.
    let (largest, by_udp, by_unix) = (of(MAX), of(65_507), of(150_000));
    send_tcp(bench.relay.address("lan", "tcp"), &[counted(&largest), format!("{largest}\n").into_bytes()].concat());
    send_udp(bench.relay.address("lan", "udp"), &[&by_udp]);
    send_unixgram(&path, &[&by_unix]);
    let lengths: Vec<usize> = bench.collector.wait_for_messages(4).iter().map(String::len).collect();
    let head = message("").len();
    let mut expected = [MAX - head, MAX - head, 65_507 - head, 150_000 - head];
    expected.sort_unstable();
    let mut lengths = lengths;
    lengths.sort_unstable();
    assert_eq!(lengths, expected);
    assert_eq!(count(bench.relay.status().input("lan"), "truncated"), 0);
}

#[test]
fn tls_1_2_senders_are_served_too() {
    let certificates = Certificates::new();
    let inputs =
        format!("inputs: {{lan: {{listen: 'tls://127.0.0.1:0', tls: {{{}}}}}}}\n{ROUTE_ALL}", certificates.input_tls());
    let bench = Bench::with(certificates, &inputs, "");
    let config = bench.certificates.client_config_of(&[&rustls::version::TLS12], None);
    let mut sender = connect_tls(bench.relay.address("lan", "tls"), config).unwrap();
    assert_eq!(sender.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
    sender.write_all(&counted(&message("by an old device"))).unwrap();
    finish_tls(sender);
    assert_eq!(bench.collector.wait_for_messages(1), ["by an old device"]);
}

#[test]
fn a_tls_sender_that_closes_in_order_is_answered_in_order_and_so_is_one_that_idles() {
    let certificates = Certificates::new();
    let keys = format!("listen: 'tls://127.0.0.1:0', tls: {{{}}}", certificates.input_tls());
    let inputs = format!("inputs: {{lan: {{{keys}}}, wan: {{{keys}, idle_timeout: 1s}}}}\n{ROUTE_ALL}");
    let bench = Bench::with(certificates, &inputs, "");
    for input in ["lan", "wan"] {
        let config = bench.certificates.client_config(None);
        let mut sender = connect_tls(bench.relay.address(input, "tls"), config).unwrap();
        sender.write_all(&counted(&message("goodbye"))).unwrap();
        if input == "lan" {
            sender.conn.send_close_notify();
            sender.flush().unwrap();
        }
        // An end without close_notify is an error to rustls.
        assert_eq!(sender.read_to_end(&mut Vec::new()).unwrap(), 0, "{input}");
    }
    assert_eq!(bench.collector.wait_for_messages(2), ["goodbye"; 2]);
}

#[test]
fn peers_that_allow_does_not_list_are_refused_and_counted() {
    let bench = bench("listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0'], allow: [127.0.0.2, 192.0.2.0/24]");
    let (tcp, udp) = (bench.relay.address("lan", "tcp"), bench.relay.address("lan", "udp"));
    assert_closed(connect(tcp));
    send_udp(udp, &[&message("not mine to say")]);
    let listed = UdpSocket::bind("127.0.0.2:0").unwrap();
    listed.send_to(message("by datagram").as_bytes(), udp).unwrap();
    let mut stream = connect_from(Ipv4Addr::new(127, 0, 0, 2), tcp);
    stream.write_all(format!("{}\n", message("by stream")).as_bytes()).unwrap();
    finish(stream);
    assert_eq!(bench.collector.wait_for_messages(2), ["by datagram", "by stream"]);
    let status =
        bench.relay.status_when("the datagram to be rejected", |status| count(status.input("lan"), "rejected") == 1);
    status.assert_balanced();
    let refused = "input=\"lan\",reason=\"peer_not_allowed\"";
    assert_eq!(bench.relay.metric("forebay_input_refused_connections_total", refused), 1);
    assert_eq!(bench.relay.metric("forebay_input_rejected_messages_total", refused), 1);
}

fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn max_connections_refuses_the_next_one_until_a_place_is_free() {
    let bench = bench("listen: 'tcp://127.0.0.1:0', max_connections: 2");
    let to = bench.relay.address("lan", "tcp");
    let open = |number| {
        let stream = connect(to);
        bench.relay.status_when("it to be open", |status| count(status.input("lan"), "connections") == number);
        stream
    };
    let (first, _second) = (open(1), open(2));
    assert_closed(connect(to));
    finish(first);
    bench.relay.status_when("it to be closed", |status| count(status.input("lan"), "connections") == 1);
    let mut third = open(2);
    third.write_all(format!("{}\n", message("third")).as_bytes()).unwrap();
    assert_eq!(bench.collector.wait_for_messages(1), ["third"]);
    let refused = "input=\"lan\",reason=\"max_connections\"";
    assert_eq!(bench.relay.metric("forebay_input_refused_connections_total", refused), 1);
}

#[test]
fn max_connections_per_peer_leaves_room_for_other_peers() {
    let bench = bench("listen: 'tcp://127.0.0.1:0', max_connections_per_peer: 1");
    let to = bench.relay.address("lan", "tcp");
    let _first = connect(to);
    bench.relay.status_when("it to be open", |status| count(status.input("lan"), "connections") == 1);
    assert_closed(connect(to));
    let mut other = connect_from(Ipv4Addr::new(127, 0, 0, 3), to);
    other.write_all(format!("{}\n", message("other")).as_bytes()).unwrap();
    assert_eq!(bench.collector.wait_for_messages(1), ["other"]);
    let refused = "input=\"lan\",reason=\"max_connections_per_peer\"";
    assert_eq!(bench.relay.metric("forebay_input_refused_connections_total", refused), 1);
}

#[test]
fn idle_timeout_closes_who_says_nothing_and_nobody_else() {
    let bench = bench("listen: 'tcp://127.0.0.1:0', idle_timeout: 2s");
    let to = bench.relay.address("lan", "tcp");
    let (mut silent, mut talks, began) = (connect(to), connect(to), Instant::now());
    loop {
        talks.write_all(format!("{}\n", message("here")).as_bytes()).unwrap();
        if !stays_open(&mut silent, Duration::from_millis(100)) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "nobody closes who says nothing");
    }
    assert!(began.elapsed() >= Duration::from_millis(1_900), "{:?}", began.elapsed());
    assert!(stays_open(&mut talks, Duration::from_millis(1)));
    assert_eq!(bench.relay.metric("forebay_input_idle_closed_connections_total", "input=\"lan\""), 1);
}

#[test]
fn a_handshake_that_never_ends_delays_nobody() {
    let certificates = Certificates::new();
    let inputs =
        format!("inputs: {{lan: {{listen: 'tls://127.0.0.1:0', tls: {{{}}}}}}}\n{ROUTE_ALL}", certificates.input_tls());
    let bench = Bench::with(certificates, &inputs, "");
    let to = bench.relay.address("lan", "tls");
    let mut slow: Vec<TcpStream> = (0..50).map(|_| connect(to)).collect();
    for stream in slow.iter_mut().step_by(2) {
        // The beginning of a ClientHello's record.
        stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).unwrap();
    }
    let began = Instant::now();
    for _ in 0..4 {
        let mut sender = connect_tls(to, bench.certificates.client_config(None)).unwrap();
        sender.write_all(&counted(&message("in time"))).unwrap();
        finish_tls(sender);
    }
    assert_eq!(bench.collector.wait_for_messages(4), ["in time"; 4]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}; a handshake may take 10 s", began.elapsed());
    assert!(slow.iter_mut().all(|stream| stays_open(stream, Duration::from_millis(1))));
}

#[test]
fn a_tls_client_on_a_plain_port_is_refused_and_makes_no_message() {
    let bench = bench("listen: 'tcp://127.0.0.1:0'");
    let to = bench.relay.address("lan", "tcp");
    assert!(connect_tls(to, bench.certificates.client_config(None)).is_err());
    let refused = "input=\"lan\",reason=\"tls_on_plain_port\"";
    assert_eq!(bench.relay.metric("forebay_input_refused_connections_total", refused), 1);
    assert_eq!(count(bench.relay.status().input("lan"), "received"), 0);
    bench.relay.wait_for_log("speaks TLS to a plain port");
}

#[test]
fn accepting_goes_on_after_open_files_were_exhausted() {
    const CONNECTIONS: usize = 120;
    let certificates = Certificates::new();
    let collector = support::collector::Collector::start(&certificates);
    let outputs = format!("outputs: {{sekoia: {{{}}}}}\n", collector.output(&certificates, ""));
    let inputs = "inputs: {lan: {listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0']}}\n";
    let relay = Relay::start_as(&format!("{outputs}{inputs}{ROUTE_ALL}"), |program| {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", program]);
        command
    });
    let to = relay.address("lan", "tcp");
    let text = message("let me in");
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = connect(to);
        stream.write_all(format!("{text}\n").as_bytes()).unwrap();
        streams.push(stream);
    }
    relay.wait_for_log("cannot accept a connection");
    relay.assert_idles(Duration::from_millis(300));
    drop(streams);
    assert_eq!(collector.wait_for_messages(CONNECTIONS), vec!["let me in"; CONNECTIONS]);
    send_tcp(to, format!("{}\n", message("and me")).as_bytes());
    collector.wait_for_messages(CONNECTIONS + 1);
    assert!(relay.metric("forebay_input_accept_errors_total", "input=\"lan\"") > 0);
}

#[test]
fn thousands_of_idle_connections_cost_little_and_hinder_nobody() {
    const IDLE: usize = 3_000;
    const TALKING: usize = 2_000;
    if forebay::sys::raise_open_files().unwrap() < IDLE as u64 + 500 {
        println!("skipped: this process may not open {IDLE} files");
        return;
    }
    let bench = bench("listen: 'tcp://127.0.0.1:0', max_connections_per_peer: 10000");
    let to = bench.relay.address("lan", "tcp");
    let idle: Vec<TcpStream> = (0..IDLE).map(|_| connect(to)).collect();
    bench.relay.status_when("all to be open", |status| count(status.input("lan"), "connections") == IDLE as u64);
    let octets: String = (0..TALKING).map(|_| format!("{}\n", message("above the noise"))).collect();
    let began = Instant::now();
    send_tcp(to, octets.as_bytes());
    bench.collector.wait_for(TALKING);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(bench.relay.resident() < 40 << 20, "{} MiB", bench.relay.resident() >> 20);
    bench.relay.assert_idles(Duration::from_millis(300));
    drop(idle);
    bench.relay.status_when("all to be closed", |status| count(status.input("lan"), "connections") == 0);
}

#[test]
fn unfinished_messages_of_many_connections_take_no_more_memory_than_they_may() {
    // 300 × 200 KiB, each without an end: 60 MB that nobody may make us keep.
    const SENDERS: usize = 300;
    let bench = Bench::start(&format!("inputs: {{lan: {{listen: 'tcp://127.0.0.1:0'}}}}\n{ROUTE_ALL}"));
    let to = bench.relay.address("lan", "tcp");
    let beginning = vec![b'x'; 200 * 1024];
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let mut sender = connect(to);
            // Closed in the middle of it, some time after the memory is full.
            drop(sender.write_all(&beginning));
            sender
        })
        .collect();
    let status = bench.relay.status_when("connections to be closed", |status| {
        bench.relay.metric("forebay_input_partial_closed_connections_total", "input=\"lan\"") > 0
            && count(status.input("lan"), "unfinished") > 0
    });
    let resident = bench.relay.resident();
    assert!(resident < 64 << 20, "{resident} bytes resident");
    drop(senders);
    let all = |status: &support::relay::Status| count(status.input("lan"), "received") == SENDERS as u64;
    bench.relay.status_when("each beginning to be forwarded", all).assert_balanced();
    drop(status);
}
