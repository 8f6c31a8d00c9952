//! UDP outputs and lines over TCP: octets as rsyslog's own omfwd has them, and what becomes of datagrams that nobody takes.
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

use std::io::Read;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use support::load::{Load, missing_and_duplicates, numbered};
use support::relay::{Relay, count};
use support::rsyslogd::{Rsyslogd, has_module};
use support::senders::{send_tcp, send_unixgram};
use support::waiting::{PATIENCE, eventually};
use support::{ROUTE_ALL, installed};

const INPUT: &str = "inputs: {lan: {listen: 'tcp://127.0.0.1:0'}}\n";

/// A receiver of datagrams.
fn receiver() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn datagrams(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; 70_000];
    let mut one = || {
        let length = socket.recv(&mut buffer).expect("a datagram");
        buffer[..length].to_vec()
    };
    (0..count).map(|_| one()).collect()
}

/// Accepts one connection and reads it to its end; says once it has so many octets, and what it had in the end.
fn stream(octets: usize) -> (SocketAddr, mpsc::Receiver<()>, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (has_enough, enough) = mpsc::channel();
    let reader = thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut read = vec![0; octets];
        tcp.read_exact(&mut read).unwrap();
        has_enough.send(()).unwrap();
        tcp.read_to_end(&mut read).unwrap();
        read
    });
    (address, enough, reader)
}

/// What both sides are given, and what rsyslogd is measured to make of it (8.2302): a datagram is the template as it is, a
/// line has LF behind it where there is none, and whatever stands in it stays.
const MESSAGES: [&str; 3] =
    ["<13>Nov 22 10:00:00 wheel[7]: one", "<13>Nov 22 10:00:00 wheel[7]: tw\no", "<13>wheel: three"];
const TEMPLATES: [&str; 4] = ["<%pri%>1 %msg%\\n", "<%pri%>1 %msg%", "<%pri%>1 a\\n%msg%\\n\\n", "%msg%\\n-"];

#[test]
fn datagrams_and_lines_are_rsyslogs_own_octet_for_octet() {
    let Some(executable) = installed("rsyslogd") else { return };
    for template in TEMPLATES {
        let rendered = |msg: &str| template.replace("%pri%", "13").replace("%msg%", msg).replace("\\n", "\n");
        let expected: Vec<String> = [" one", " tw#012o", " three"].map(rendered).to_vec();
        let line = |text: &String| if text.ends_with('\n') { text.clone() } else { format!("{text}\n") };
        let lines: String = expected.iter().map(line).collect();

        // What rsyslogd sends.
        let (socket, udp) = receiver();
        let (tcp, enough, reader) = stream(lines.len());
        let action = format!(
            "template(name=\"t\" type=\"string\" string=\"{template}\")\n\
             action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{}\" protocol=\"udp\" template=\"t\")\n\
             action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{}\" protocol=\"tcp\" template=\"t\")\n",
            udp.port(),
            tcp.port()
        );
        let rsyslogd = Rsyslogd::sending(&executable, "", &action, &MESSAGES.map(str::to_owned));
        let by_rsyslogd = datagrams(&socket, MESSAGES.len());
        enough.recv_timeout(PATIENCE).unwrap();
        drop(rsyslogd);
        let by_rsyslogd = (by_rsyslogd, reader.join().unwrap());

        // What the relay sends.
        let (socket, udp) = receiver();
        let (tcp, enough, reader) = stream(lines.len());
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut relay = Relay::start(&format!(
            "inputs: {{local: {{listen: 'unixgram://{}'}}}}\n\
             outputs: {{udp: {{to: 'udp://{udp}'}}, tcp: {{to: 'tcp://{tcp}', framing: lf}}}}\nroutes:\n\
             - {{name: u, output: udp, template: '{template}', continue: true}}\n\
             - {{name: t, output: tcp, template: '{template}'}}\n",
            log.display()
        ));
        send_unixgram(&log, &MESSAGES);
        let by_relay = datagrams(&socket, MESSAGES.len());
        enough.recv_timeout(PATIENCE).unwrap();
        relay.stop_clean();
        let by_relay = (by_relay, reader.join().unwrap());

        let as_text = |octets: &Vec<u8>| String::from_utf8(octets.clone()).unwrap();
        assert_eq!(by_rsyslogd.0.iter().map(as_text).collect::<Vec<_>>(), expected, "{template}");
        assert_eq!(as_text(&by_rsyslogd.1), lines, "{template}");
        assert_eq!(by_relay, by_rsyslogd, "{template}");
    }
}

#[test]
fn a_real_rsyslogd_takes_our_datagrams_and_our_lines() {
    let Some(executable) = installed("rsyslogd") else { return };
    if !has_module("imudp") || !has_module("imtcp") {
        return;
    }
    let rsyslogd = Rsyslogd::start(
        &executable,
        "module(load=\"imudp\")\nmodule(load=\"imtcp\")\n\
         template(name=\"t\" type=\"string\" string=\"%inputname% %app-name% %procid% %msg%\\n\")\n\
         ruleset(name=\"r\") { action(type=\"omfile\" file=\"DIRECTORY/received\" template=\"t\") }\n\
         input(type=\"imudp\" address=\"127.0.0.1\" port=\"0\" ruleset=\"r\" rcvbufSize=\"4m\")\n\
         input(type=\"imtcp\" address=\"127.0.0.1\" port=\"0\" listenPortFileName=\"DIRECTORY/port\" \
               supportOctetCountedFraming=\"off\" ruleset=\"r\")\n",
    );
    let mut relay = Relay::start(&format!(
        "{INPUT}outputs: {{udp: {{to: 'udp://127.0.0.1:{}'}}, tcp: {{to: 'tcp://127.0.0.1:{}', framing: lf}}}}\n\
         routes: [{{name: u, output: udp, intake_key: key-of-u, continue: true}}, {{name: t, output: tcp, intake_key: key-of-t}}]\n",
        rsyslogd.datagram_port(),
        rsyslogd.port("port")
    ));
    send_tcp(relay.address("lan", "tcp"), (0..500).map(numbered).collect::<String>().as_bytes());
    let lines = eventually("rsyslogd to write everything", || {
        let lines = rsyslogd.lines("received");
        if lines.len() >= 1_000 { Ok(lines) } else { Err(format!("{} lines", lines.len())) }
    });
    for input in ["imudp", "imtcp"] {
        let of_input: Vec<&String> = lines.iter().filter(|line| line.starts_with(input)).collect();
        assert_eq!(of_input.len(), 500);
        for (number, line) in of_input.iter().enumerate() {
            let start = format!("{input} counter 7 ");
            assert!(line.starts_with(&start) && line.contains(&format!(" n={number} ")), "{line}");
        }
    }
    relay.stop_clean();
}

#[test]
fn messages_wait_for_a_receiver_that_is_not_there_and_only_those_are_lost_that_were_on_the_way() {
    let (socket, address) = receiver();
    drop(socket);
    let mut relay = Relay::start(&format!("{INPUT}outputs: {{relay: {{to: 'udp://{address}'}}}}\n{ROUTE_ALL}"));
    send_tcp(relay.address("lan", "tcp"), (0..100).map(numbered).collect::<String>().as_bytes());
    let line = relay.wait_for_log("connection broke");
    assert!(line["message"].as_str().unwrap().contains("nobody listens at"), "{line}");
    assert_eq!(line["level"], "WARN");
    let status = relay.status_when("another attempt", |status| count(status.output("relay"), "broken_connections") > 1);
    status.assert_balanced();
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let status = relay.status_when("all to be sent", |status| count(status.route("all"), "released") == 100);
    status.assert_balanced();
    // Each attempt has cost the one message that it was made with.
    let lost = count(status.output("relay"), "broken_connections");
    let arrived = datagrams(&socket, 100 - lost as usize);
    assert!(String::from_utf8(arrived[0].clone()).unwrap().contains(&format!(" n={lost} ")), "{lost}");
    assert!(String::from_utf8(arrived[arrived.len() - 1].clone()).unwrap().contains(" n=99 "));
    assert_eq!(count(status.output("relay"), "written_messages"), 100);
    relay.stop_clean();
}

#[test]
fn a_message_that_no_datagram_holds_is_dropped_counted_and_told_of() {
    let (socket, address) = receiver();
    let mut relay = Relay::start(&format!("{INPUT}outputs: {{relay: {{to: 'udp://{address}'}}}}\n{ROUTE_ALL}"));
    let large = format!("<134>Nov 22 10:00:00 gate counter[7]: {}\n", "x".repeat(66_000));
    let messages = [numbered(0), large.clone(), numbered(1), large, numbered(2)].concat();
    send_tcp(relay.address("lan", "tcp"), messages.as_bytes());
    let arrived = datagrams(&socket, 3);
    for (number, datagram) in arrived.iter().enumerate() {
        assert!(String::from_utf8_lossy(datagram).contains(&format!(" n={number} ")));
    }
    let status = relay.status_when("three to be released", |status| count(status.route("all"), "released") == 3);
    status.assert_balanced();
    assert_eq!(relay.metric("forebay_route_dropped_messages_total", "route=\"all\",reason=\"refused\""), 2);
    let line = relay.wait_for_log("larger than a datagram holds");
    assert_eq!(line["level"], "WARN");
    relay.stop_clean();
    let told = relay.log_lines().iter().filter(|line| line.to_string().contains("larger than a datagram")).count();
    assert_eq!(told, 1);
}

#[test]
fn an_address_of_no_use_is_followed_by_the_next_one() {
    let (socket, address) = receiver();
    // No name server knows it; nobody listens at the first address, on either family.
    let mut relay = Relay::start(&format!(
        "{INPUT}outputs: {{relay: {{to: 'udp://nowhere.invalid:{}', connect_timeout: 2s, \
         fallback_addresses: ['::1', 127.0.0.2, 127.0.0.1]}}}}\n{ROUTE_ALL}",
        address.port()
    ));
    send_tcp(relay.address("lan", "tcp"), (0..10).map(numbered).collect::<String>().as_bytes());
    let status = relay.status_when("all to be sent", |status| count(status.route("all"), "released") == 10);
    let lost = count(status.output("relay"), "broken_connections");
    assert!((1..=4).contains(&lost), "{lost}");
    let arrived = datagrams(&socket, 10 - lost as usize);
    assert!(String::from_utf8_lossy(&arrived[arrived.len() - 1]).contains(" n=9 "));
    relay.stop_clean();
}

#[test]
fn a_network_that_is_unreachable_is_waited_for() {
    let (socket, address) = receiver();
    // The kernel refuses to send to everybody unasked (SO_BROADCAST): as with a network that it has no way to.
    let mut relay = Relay::start(&format!(
        "{INPUT}outputs: {{relay: {{to: ['udp://255.255.255.255:9', 'udp://{address}']}}}}\n{ROUTE_ALL}"
    ));
    send_tcp(relay.address("lan", "tcp"), numbered(1).as_bytes());
    assert!(String::from_utf8_lossy(&datagrams(&socket, 1)[0]).contains(" n=1 "));
    let status = relay.status_when("it to be released", |status| count(status.route("all"), "released") == 1);
    assert!(count(status.output("relay"), "failed_connects") >= 1, "{:?}", status.output("relay"));
    relay.stop_clean();
}

#[test]
fn under_load_every_datagram_is_sent_once_and_a_stop_sends_what_waits() {
    let (socket, address) = receiver();
    let reader = thread::spawn(move || {
        let mut numbers = std::collections::BTreeMap::new();
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).expect("a datagram");
            match support::collector::number_of(&buffer[..length]) {
                Some(number) => *numbers.entry(number).or_default() += 1,
                None => return numbers,
            }
        }
    });
    let mut relay = Relay::start(&format!("{INPUT}outputs: {{relay: {{to: 'udp://{address}'}}}}\n{ROUTE_ALL}"));
    let load = Load::start(relay.address("lan", "tcp"));
    eventually("messages to be sent", || if load.sent() >= 5_000 { Ok(()) } else { Err(load.sent().to_string()) });
    let sent = load.finish();
    relay.stop_clean();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"end", address).unwrap();
    let numbers = reader.join().unwrap();
    let (missing, duplicates) = missing_and_duplicates(&numbers, sent);
    // A receiver's buffer may overflow, which nobody is told.
    assert!(duplicates == 0 && missing.len() < sent as usize / 2, "of {sent}: missing {}", missing.len());
}
