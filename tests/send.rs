//! `forebay send`: against real receivers, and through a real relay back to itself.
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

use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use serde_json::Value;

use support::certificates::Certificates;
use support::collector::Collector;
use support::relay::{Relay, count, remove_own_variables};
use support::rsyslogd::Rsyslogd;
use support::waiting::{PATIENCE, eventually};
use support::{ROUTE_ALL, installed};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    remove_own_variables(&mut command);
    command.arg("send").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn send(args: &[&str]) -> Output {
    command(args).output().expect("it runs")
}

/// The report of a run that went well.
#[track_caller]
fn report(args: &[&str]) -> Value {
    let output = send(&[&["--json"], args].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A run that listens, and where.
struct Listening {
    child: Child,
    stderr: BufReader<ChildStderr>,
    address: String,
}

impl Listening {
    fn start(args: &[&str]) -> Self {
        let mut child = command(&[&["--json", "--connect-timeout", "60s"], args].concat()).spawn().expect("it starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("its errors"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, stderr, address }
    }

    /// Its exit code and its report.
    fn end(mut self) -> (Option<i32>, Value) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("text");
        let output = self.child.wait_with_output().expect("it ends");
        let report = serde_json::from_slice(&output.stdout);
        (output.status.code(), report.unwrap_or_else(|error| panic!("{error}: {said}")))
    }
}

/// The datagrams that a socket has got.
fn datagrams(count: usize, mut receive: impl FnMut(&mut [u8]) -> std::io::Result<usize>) -> Vec<String> {
    let mut buffer = [0; 65_536];
    let one = |_| {
        let length = receive(&mut buffer).expect("a datagram");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    };
    (0..count).map(one).collect()
}

fn udp() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let url = format!("udp://{}", socket.local_addr().expect("an address"));
    (socket, url)
}

#[test]
fn without_options_it_sends_ten_messages_and_says_so() {
    let (socket, url) = udp();
    let output = send(&[&url]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with("sent      10 messages, "), "{text}");
    assert!(text.contains("\nfailed    0 messages\n"), "{text}");
    assert!(output.stderr.is_empty(), "no bar where nobody looks");
    let messages = datagrams(10, |buffer| socket.recv(buffer));
    for (number, message) in messages.iter().enumerate() {
        assert!(message.starts_with("<14>1 20"), "{message}");
        assert!(message.contains(&format!(" - - test message {number} forebay-send=")), "{message}");
    }
}

#[test]
fn messages_are_what_was_asked_for() {
    let (socket, url) = udp();
    let options = ["--format", "rfc3164", "--program", "sshd,nginx", "--host", "gate", "--pri", "34", "--size", "300"];
    report(&[&[url.as_str(), "--count", "4"], options.as_slice()].concat());
    for (number, message) in datagrams(4, |buffer| socket.recv(buffer)).iter().enumerate() {
        let program = ["sshd", "nginx"][number % 2];
        assert_eq!(message.len(), 300, "{message}");
        assert!(message.starts_with("<34>") && message.contains(&format!(" gate {program}[")), "{message}");
    }
    report(&[&url, "--count", "1", "--message", "just this", "--program", "app"]);
    assert!(datagrams(1, |buffer| socket.recv(buffer))[0].ends_with(" - - just this"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("messages");
    std::fs::write(&file, "<13>one\r\n\n<13>two\n").expect("written");
    let file = file.to_str().expect("text");
    assert_eq!(report(&[&url, "--file", file])["sent"], 2);
    assert_eq!(report(&[&url, "--file", file, "--count", "3"])["sent"], 3);
    assert_eq!(datagrams(5, |buffer| socket.recv(buffer)), ["<13>one", "<13>two", "<13>one", "<13>two", "<13>one"]);
}

#[test]
fn datagrams_go_to_unix_sockets_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    assert_eq!(report(&[&format!("unixgram://{}", path.display()), "--count", "3"])["sent"], 3);
    assert!(datagrams(3, |buffer| socket.recv(buffer))[2].contains("test message 2"));
}

#[test]
fn the_pace_is_kept() {
    let (_socket, url) = udp();
    let report = report(&[&url, "--rate", "100", "--count", "41", "--connections", "2"]);
    assert_eq!(report["sent"], 41);
    // The last one is due 0.4 s after the first.
    assert!((0.39..20.0).contains(&report["seconds"].as_f64().unwrap()), "{report}");
    let report = self::report(&[&url, "--rate", "150", "--duration", "200ms", "--connections", "4"]);
    assert_eq!(report["sent"], 30, "{report}");
}

#[test]
fn everything_comes_back_through_a_relay() {
    let certificates = Certificates::new();
    let (cert, key) = (&certificates.server.cert, &certificates.server.key);
    let of_tls = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    for (scheme, options) in [("tcp", [].as_slice()), ("tls", of_tls.as_slice())] {
        let folder = tempfile::tempdir().expect("a folder");
        let input = format!("unix://{}", folder.path().join("in").display());
        let listen = format!("{scheme}://127.0.0.1:0");
        let sizes = ["--count", "3000", "--rate", "max", "--connections", "3", "--wait", "30s", "--listen", &listen];
        let run = Listening::start(&[&[input.as_str()], sizes.as_slice(), options].concat());
        let to = if scheme == "tls" {
            format!("to: '{}', tls: {{ca: {}}}", run.address, certificates.ca.display())
        } else {
            format!("to: '{}'", run.address)
        };
        let _relay =
            Relay::start(&format!("inputs: {{in: {{listen: '{input}'}}}}\noutputs: {{out: {{{to}}}}}\n{ROUTE_ALL}"));
        let (code, report) = run.end();
        assert_eq!(code, Some(0), "{report}");
        let received = &report["received"];
        for (name, value) in [("messages", 3_000), ("missing", 0), ("not_ours", 0)] {
            assert_eq!(received[name], value, "{name} of {report}");
        }
        let [min, median, max] =
            ["min_us", "median_us", "max_us"].map(|name| received["latency"][name].as_u64().unwrap());
        assert!(min > 0 && min <= median && median <= max, "{report}");
    }
}

#[test]
fn what_does_not_come_back_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = format!("unix://{}", folder.path().join("in").display());
    let run = Listening::start(&[
        &input,
        "--count",
        "30",
        "--program",
        "kept,lost,kept",
        "--wait",
        "1s",
        "--listen",
        "tcp://127.0.0.1:0",
        "--framing",
        "lf",
        "--size",
        "200",
    ]);
    let _relay = Relay::start(&format!(
        "inputs: {{in: {{listen: '{input}'}}}}\noutputs: {{out: {{to: '{}'}}}}\n\
         routes: [{{program: lost, discard: true}}, {{name: all, intake_key: key-of-all-00000}}]\n",
        run.address
    ));
    let (code, report) = run.end();
    assert_eq!(code, Some(1), "{report}");
    assert_eq!((&report["received"]["messages"], &report["received"]["missing"]), (&20.into(), &10.into()), "{report}");
}

#[test]
fn tls_is_verified_unless_it_is_not_to_be() {
    let certificates = Certificates::new();
    let collector = Collector::start(&certificates);
    let relay = Relay::start(&format!(
        "inputs: {{in: {{listen: 'tls://127.0.0.1:0', tls: {{{}}}}}}}\noutputs: {{out: {{{}}}}}\n{ROUTE_ALL}",
        certificates.input_tls(),
        collector.output(&certificates, "")
    ));
    let to = format!("tls://{}", relay.address("in", "tls"));
    let ca = certificates.ca.to_str().unwrap();
    let counts = ["--count", "200", "--rate", "max"];
    assert_eq!(report(&[&[to.as_str(), "--ca", ca], counts.as_slice()].concat())["failed"], 0);
    let frames = collector.wait_for(200);
    assert!(frames.iter().all(|frame| frame.contains("forebay-send=")), "{frames:?}");
    assert_eq!(report(&[&[to.as_str(), "--insecure"], counts.as_slice()].concat())["sent"], 200);
    drop(collector.wait_for(400));
    let refused = send(&[&to, "--count", "1", "--connect-timeout", "1ms"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot connect to tls://") && said.contains("--ca FILE"), "{said}");
    assert_eq!(count(relay.status().input("in"), "received"), 400);
}

#[test]
fn rsyslogd_takes_what_is_sent() {
    let Some(executable) = installed("rsyslogd") else { return };
    let rsyslogd = Rsyslogd::start(
        &executable,
        "module(load=\"imtcp\")\ninput(type=\"imtcp\" port=\"0\" listenPortFileName=\"DIRECTORY/port\")\n\
         template(name=\"line\" type=\"string\" string=\"%programname%|%msg%\\n\")\n\
         action(type=\"omfile\" file=\"DIRECTORY/lines\" template=\"line\")\n",
    );
    let to = format!("tcp://127.0.0.1:{}", rsyslogd.port("port"));
    for (round, (framing, format)) in [("octet", "rfc5424"), ("lf", "rfc3164")].into_iter().enumerate() {
        let options = ["--count", "500", "--rate", "max", "--program", "a,b", "--framing", framing, "--format", format];
        assert_eq!(report(&[&[to.as_str()], options.as_slice()].concat())["sent"], 500);
        let wanted = 500 * (round + 1);
        let lines = eventually("rsyslogd to write all lines", || {
            let lines: Vec<String> = rsyslogd.lines("lines").into_iter().filter(|line| line.contains('|')).collect();
            // What rsyslogd logs about itself is not ours.
            let ours: Vec<String> = lines.into_iter().filter(|line| line.contains("forebay-send=")).collect();
            if ours.len() >= wanted { Ok(ours) } else { Err(format!("{} lines", ours.len())) }
        });
        assert_eq!(lines.len(), wanted);
        assert_eq!(lines.iter().filter(|line| line.starts_with("a|")).count(), wanted / 2);
    }
}

#[test]
fn what_cannot_be_sent_is_told() {
    // A socket that hears one peer only is nobody for others: the kernel says so with the message after.
    let (socket, url) = udp();
    socket.connect("127.0.0.1:9").expect("a peer");
    let output = send(&[&url, "--count", "5", "--rate", "100"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(", the last: Connection refused"), "{text}");
    let output = send(&["unix:///nonexistent/socket", "--connect-timeout", "1ms"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("cannot connect to unix:///nonexistent/socket: No such file")
    );
    let rows: [(&[&str], &str); 6] = [
        (&["http://gate"], "expected udp://, tcp:// or tls://"),
        (&["--rate", "0"], "expected messages a second"),
        (&["--message", "x", "--file", "y"], "cannot be used with"),
        (&["--listen", "udp://127.0.0.1:0"], "expected tcp:// or tls:// with ADDRESS:PORT"),
        (&["--listen", "tls://127.0.0.1:0"], "want each other"),
        (&["--size", "17MiB"], "expected no more than 16MiB"),
    ];
    for (args, said) in rows {
        let output = send(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{args:?}: {text}");
        assert!(text.contains(said), "{args:?}: {text}");
    }
}
