//! Running: exit codes, configurations of all kinds, the stop, and secrets that show nowhere.
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
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use support::certificates::{Certificates, write_private};
use support::collector::Collector;
use support::load::{missing_and_duplicates, numbered};
use support::relay::{Relay, count, remove_own_variables};
use support::senders::*;
use support::waiting::eventually;
use support::{Bench, ROUTE_ALL};

const KEY: &str = "wJ4oWn0tKeyThatMustNotShow";

const INPUT: &str = "inputs: {lan: {listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0']}}\n";

/// Runs the program to its end, without any of this process's `FOREBAY_*`.
fn forebay(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    remove_own_variables(&mut command);
    command.args(arguments).output().unwrap()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

/// A file of this text, in a directory that goes away with it.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("forebay.yaml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

/// An address of this machine where nobody listens.
fn nobody() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_wrong_configuration_is_reported_whole_and_ends_with_78() {
    let (_directory, path) = file(
        "inputs:\n  lan:\n    listen: tcp://127.0.0.1:0\n    max_mesage_size: 1MiB\noutputs:\n  sekoia: {region: mars}\n\
         routes:\n  - {program: app, intake_key: k1, output: sekioa}\nmemory: {max: 1KiB}\n",
    );
    for command in ["run", "check"] {
        let output = forebay(&[command, "-c", &path]);
        assert_eq!(output.status.code(), Some(78));
        let report = text(&output.stderr);
        for (place, part) in [
            (":4:5:", "did you mean \"max_message_size\""),
            (":6:20:", "mars"),
            (":8:44:", "did you mean \"sekoia\""),
            (":9:15:", "1KiB"),
        ] {
            let line = report.lines().find(|line| line.contains(&format!("forebay.yaml{place}")));
            assert!(line.is_some_and(|line| line.contains(part)), "{place} {part} in\n{report}");
        }
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn no_configuration_at_all_ends_with_78_and_advice() {
    let output = forebay(&["run"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("FOREBAY_INTAKE_KEY"), "{}", text(&output.stderr));
    let output = forebay(&["run", "-c", "/does/not/exist.yaml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("/does/not/exist.yaml"), "{}", text(&output.stderr));
}

#[test]
fn a_wrong_command_line_ends_with_64_and_help_with_0() {
    for arguments in [&["run", "--no-such-option"][..], &["no-such-command"], &[], &["run", "--log-format", "xml"]] {
        let output = forebay(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
    for arguments in [&["--help"][..], &["--version"], &["run", "--help"]] {
        let output = forebay(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
}

#[test]
fn ports_in_use_end_with_1_and_all_of_them_are_named() {
    let holders = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (tcp, udp) = (holders.0.local_addr().unwrap(), holders.1.local_addr().unwrap());
    let (_directory, path) = file(&format!(
        "admin: {{listen: 'off'}}\ninputs: {{lan: {{listen: ['tcp://{tcp}', 'udp://{udp}']}}}}\n\
         outputs: {{sekoia: {{to: 'tcp://127.0.0.1:1'}}}}\n{ROUTE_ALL}"
    ));
    let output = forebay(&["run", "-c", &path]);
    assert_eq!(output.status.code(), Some(1));
    let log = text(&output.stderr);
    for part in [format!("tcp://{tcp}"), format!("udp://{udp}"), "inputs.lan".to_owned(), "ss -lntup".to_owned()] {
        assert!(log.contains(&part), "{part} in\n{log}");
    }
    drop(holders);
}

#[test]
fn a_second_relay_does_not_share_the_first_ones_ports() {
    let bench = Bench::start(&format!("{INPUT}{ROUTE_ALL}"));
    for scheme in ["tcp", "udp"] {
        let taken = bench.relay.address("lan", scheme);
        let (_directory, path) = file(&format!(
            "admin: {{listen: 'off'}}\ninputs: {{lan: {{listen: '{scheme}://{taken}'}}}}\n\
             outputs: {{sekoia: {{to: 'tcp://127.0.0.1:1'}}}}\n{ROUTE_ALL}"
        ));
        let output = forebay(&["run", "-c", &path]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    }
    let (_directory, path) = file(&format!(
        "admin: {{listen: '{}'}}\n{INPUT}outputs: {{sekoia: {{to: 'tcp://127.0.0.1:1'}}}}\n{ROUTE_ALL}",
        bench.relay.admin()
    ));
    let output = forebay(&["run", "-c", &path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("admin.listen"), "{}", text(&output.stderr));
}

#[test]
fn check_says_what_would_happen_and_masks_keys() {
    let (directory, path) = file(&format!(
        "inputs: {{lan: {{listen: ['udp://127.0.0.1:514', 'tcp://127.0.0.1:514']}}}}\noutputs: {{sekoia: {{region: fra1}}}}\n\
         routes:\n  - {{name: resolver, program: unbound, intake_key: {KEY}}}\n  - {{name: rest, intake_key_file: key}}\n"
    ));
    write_private(&directory.path().join("key"), format!("{KEY}2\n"));
    let output = forebay(&["check", "-c", &path]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let summary = text(&output.stdout);
    for part in ["udp://127.0.0.1:514", "tcp://127.0.0.1:514", "resolver", "unbound", "rest", "sekoia", "****"] {
        assert!(summary.contains(part), "{part} in\n{summary}");
    }
    assert!(!summary.contains(KEY) && !text(&output.stderr).contains(KEY));
}

#[test]
fn keys_come_from_the_file_a_variable_or_a_file_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let key_file = directory.path().join("key");
    write_private(&key_file, "key-in-a-file\n");
    let collector = Collector::start_plain();
    let configuration = format!(
        "{INPUT}outputs: {{sekoia: {{to: 'tcp://{}'}}}}\nroutes:\n  - {{program: a, intake_key: key-as-written}}\n  \
         - {{program: b, intake_key: '${{KEY_OF_B}}'}}\n  - {{program: c, intake_key: '${{KEY_OF_C:-key-by-default}}'}}\n  \
         - {{program: d, intake_key_file: {}}}\n",
        collector.address,
        key_file.display()
    );
    let relay = Relay::start_as(&configuration, |program| {
        let mut command = Command::new(program);
        command.env("KEY_OF_B", "key-in-a-variable").env_remove("KEY_OF_C");
        command
    });
    let lines = ["a", "b", "c", "d"].map(|program| format!("<13>Nov 22 10:00:00 gate {program}: it flows\n"));
    send_tcp(relay.address("lan", "tcp"), lines.concat().as_bytes());
    let frames = collector.wait_for(4);
    for (program, key) in
        [("a", "key-as-written"), ("b", "key-in-a-variable"), ("c", "key-by-default"), ("d", "key-in-a-file")]
    {
        let expected = format!(" gate {program} - LOG [SEKOIA@53288 intake_key=\"{key}\"]  it flows\n");
        assert!(frames.iter().any(|frame| frame.ends_with(&expected)), "{expected:?} in {frames:#?}");
    }
}

#[test]
fn the_environment_alone_makes_a_sidecar() {
    let collector = Collector::start_plain();
    let mut relay = Relay::start_with_environment(&[
        ("FOREBAY_INTAKE_KEY", KEY),
        ("FOREBAY_OUTPUT", &format!("tcp://{}", collector.address)),
        ("FOREBAY_LISTEN", "udp://127.0.0.1:0,tcp://127.0.0.1:0"),
        ("FOREBAY_ADMIN", "127.0.0.1:0"),
    ]);
    send_tcp(relay.address("syslog", "tcp"), b"<13>Nov 22 10:00:00 gate wheel: by stream\n");
    send_udp(relay.address("syslog", "udp"), &["<13>Nov 22 10:00:00 gate wheel: by datagram"]);
    let frames = collector.wait_for(2);
    assert!(frames.iter().all(|frame| frame.contains(&format!("intake_key=\"{KEY}\""))), "{frames:?}");
    relay.stop_clean();
}

/// Writes numbered messages as fast as they are taken, until the relay closes the connection.
fn send_until_refused(to: std::net::SocketAddr) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut stream = connect(to);
        for number in (0..u64::MAX).step_by(100) {
            let burst: String = (number..number + 100).map(numbered).collect();
            if stream.write_all(burst.as_bytes()).is_err() {
                return;
            }
        }
    })
}

#[test]
fn a_signal_under_load_delivers_what_was_received_and_ends_with_0() {
    for signal in ["TERM", "INT"] {
        let mut bench = Bench::start(&format!("{INPUT}{ROUTE_ALL}"));
        let sender = send_until_refused(bench.relay.address("lan", "tcp"));
        let status = bench.relay.status_when("load", |status| count(status.input("lan"), "received") > 5_000);
        bench.relay.signal(signal);
        let ended = bench.relay.wait();
        assert_eq!(ended.code(), Some(0), "{}", bench.relay.log_text());
        sender.join().unwrap();
        let numbers = bench.collector.numbers();
        let last = *numbers.keys().next_back().unwrap();
        assert!(last + 1 >= count(status.input("lan"), "received"), "{last}");
        assert_eq!(missing_and_duplicates(&numbers, last + 1), (vec![], 0));
        bench.relay.wait_for_log("everything that was received is delivered");
        // Every connection to the collector ended with close_notify, between two frames.
        bench.collector.look(|seen| assert_eq!(seen.closed_in_order, seen.accepted));
    }
}

#[test]
fn the_stop_waits_for_a_collector_that_comes_back_in_time() {
    let mut bench = Bench::start(&format!("shutdown_timeout: 20s\n{INPUT}{ROUTE_ALL}"));
    bench.collector.stop();
    let octets: String = (0..500).map(numbered).collect();
    send_tcp(bench.relay.address("lan", "tcp"), octets.as_bytes());
    bench.relay.terminate();
    bench.relay.wait_for_log("stopping");
    bench.collector.restart();
    assert_eq!(bench.relay.wait().code(), Some(0));
    assert_eq!(missing_and_duplicates(&bench.collector.numbers(), 500), (vec![], 0));
}

#[test]
fn a_stop_that_cannot_deliver_ends_at_its_timeout_and_tells_the_loss() {
    let mut relay = Relay::start(&format!(
        "shutdown_timeout: 700ms\noutputs: {{sekoia: {{to: 'tcp://{}'}}}}\n{INPUT}{ROUTE_ALL}",
        nobody()
    ));
    let octets: String = (0..250).map(numbered).collect();
    send_tcp(relay.address("lan", "tcp"), octets.as_bytes());
    let began = Instant::now();
    relay.terminate();
    assert_eq!(relay.wait().code(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(relay.wait_for_log("not everything could be delivered")["lost"], 250);
}

#[test]
fn senders_that_are_idle_or_still_shaking_hands_do_not_delay_the_stop() {
    let certificates = Certificates::new();
    let inputs = format!(
        "inputs: {{lan: {{listen: 'tcp://127.0.0.1:0'}}, wan: {{listen: 'tls://127.0.0.1:0', tls: {{{}}}}}}}\n{ROUTE_ALL}",
        certificates.input_tls()
    );
    let mut bench = Bench::with(certificates, &inputs, "");
    let (plain, tls) = (bench.relay.address("lan", "tcp"), bench.relay.address("wan", "tls"));
    let _idle: Vec<_> = (0..20).map(|_| (connect(plain), connect(tls))).collect();
    bench.relay.status_when("all to be open", |status| count(status.input("lan"), "connections") == 20);
    let began = Instant::now();
    bench.relay.stop_clean();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn who_has_connected_and_written_just_before_the_stop_is_heard() {
    let certificates = Certificates::new();
    let path = certificates.server.cert.with_file_name("stream");
    let inputs = format!(
        "inputs: {{lan: {{listen: ['tcp://127.0.0.1:0', 'unix://{}']}}, wan: {{listen: 'tls://127.0.0.1:0', tls: \
         {{{}}}}}}}\n{ROUTE_ALL}",
        path.display(),
        certificates.input_tls()
    );
    let mut bench = Bench::with(certificates, &inputs, "");
    let (plain, tls) = (bench.relay.address("lan", "tcp"), bench.relay.address("wan", "tls"));
    // It takes nothing before it is told to go on and to stop at once.
    bench.relay.signal("STOP");
    for number in 0..200 {
        connect(plain).write_all(numbered(number).as_bytes()).unwrap();
    }
    for number in 200..250 {
        UnixStream::connect(&path).unwrap().write_all(numbered(number).as_bytes()).unwrap();
    }
    let secure: Vec<_> = (250..255)
        .map(|number| {
            let config = bench.certificates.client_config(None);
            let mut client = rustls::ClientConnection::new(config, tls.ip().into()).unwrap();
            // Goes out behind the handshake's last record.
            client.writer().write_all(numbered(number).as_bytes()).unwrap();
            let mut sender = rustls::StreamOwned::new(client, connect(tls));
            thread::spawn(move || {
                while sender.conn.is_handshaking() {
                    sender.conn.complete_io(&mut sender.sock).unwrap();
                }
                finish_tls(sender);
            })
        })
        .collect();
    bench.relay.terminate();
    bench.relay.signal("CONT");
    assert_eq!(bench.relay.wait().code(), Some(0), "{}", bench.relay.log_text());
    for sender in secure {
        sender.join().unwrap();
    }
    // The relay has ended when the collector's kernel has everything; its thread may still have to read it.
    bench.collector.wait_for(255);
    assert_eq!(missing_and_duplicates(&bench.collector.numbers(), 255), (vec![], 0));
}

#[test]
fn a_relay_starts_again_at_once_on_the_ports_of_the_last_one() {
    let mut first = Bench::start(&format!("{INPUT}{ROUTE_ALL}"));
    let (tcp, udp) = (first.relay.address("lan", "tcp"), first.relay.address("lan", "udp"));
    let mut open = connect(tcp);
    open.write_all(numbered(1).as_bytes()).unwrap();
    first.collector.wait_for(1);
    first.relay.stop_clean();
    let second = Bench::start(&format!("inputs: {{lan: {{listen: ['tcp://{tcp}', 'udp://{udp}']}}}}\n{ROUTE_ALL}"));
    send_tcp(tcp, numbered(2).as_bytes());
    second.collector.wait_for(1);
}

#[test]
fn a_sender_that_waits_for_room_does_not_hold_the_stop_up() {
    let mut relay = Relay::start(&format!(
        "shutdown_timeout: 700ms\nmemory: {{max: 24MiB}}\noutputs: {{sekoia: {{to: 'tcp://{}'}}}}\n{INPUT}{ROUTE_ALL}",
        nobody()
    ));
    let sender = send_until_refused(relay.address("lan", "tcp"));
    let status = relay.status_when("it to wait", |status| count(status.input("lan"), "blocked_connections") == 1);
    status.assert_balanced();
    let began = Instant::now();
    relay.terminate();
    assert_eq!(relay.wait().code(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let lost = relay.wait_for_log("not everything could be delivered")["lost"].as_u64().unwrap();
    assert!(lost >= count(status.route("all"), "waiting"), "{lost}");
    sender.join().unwrap();
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut relay = Relay::start(&format!(
        "shutdown_timeout: 60s\noutputs: {{sekoia: {{to: 'tcp://{}'}}}}\n{INPUT}{ROUTE_ALL}",
        nobody()
    ));
    send_tcp(relay.address("lan", "tcp"), numbered(1).as_bytes());
    relay.terminate();
    relay.wait_for_log("stopping");
    assert!(relay.ended().is_none());
    relay.terminate();
    let began = Instant::now();
    assert_eq!(relay.wait().code(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(5));
    relay.wait_for_log("second signal");
}

#[test]
fn keys_show_in_no_log_metric_or_status() {
    let mut bench = Bench::start(&format!(
        "log: {{level: debug}}\n{INPUT}routes: [{{name: all, intake_key: {KEY}}}, {{name: never, program: x, intake_key: {KEY}2}}]\n"
    ));
    send_tcp(bench.relay.address("lan", "tcp"), numbered(1).as_bytes());
    assert!(bench.collector.wait_for(1)[0].contains(KEY));
    bench.collector.reset();
    bench.relay.wait_for_log("connection broke");
    eventually("the message to be sent again", || {
        if bench.collector.look(|seen| seen.frames.len()) == 2 { Ok(()) } else { Err("once".to_owned()) }
    });
    for path in ["/metrics", "/status", "/livez", "/readyz"] {
        assert!(!bench.relay.request("GET", path).1.contains(KEY), "{path}");
    }
    bench.relay.stop_clean();
    assert!(!bench.relay.log_text().contains(KEY));
}

#[test]
fn a_directory_of_fragments_is_one_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(Path::join(directory.path(), name), text).unwrap();
    write("10-base.yaml", "inputs: {lan: {listen: 'tcp://127.0.0.1:0'}}\noutputs: {sekoia: {region: fra1}}\n");
    write("20-app.yaml", "routes: [{name: app, program: app, intake_key: k1}]\n");
    write("90-rest.yaml", "routes: [{name: rest, intake_key: k2}]\n");
    let output = forebay(&["check", "-c", directory.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let summary = text(&output.stdout);
    let (app, rest) = (summary.find("app").unwrap(), summary.find("rest").unwrap());
    assert!(app < rest, "{summary}");
}
