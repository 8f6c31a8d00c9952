//! The demo as its reader has it: the program, its output, its ports, its end.
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

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Columns that a line may have.
const WIDTH: usize = 100;

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    // Neither the reader's terminal nor a configuration around the test may change what is printed.
    command.arg("demo").env_remove("FOREBAY_CONFIG").env_remove("FOREBAY_INTAKE_KEY").stdin(Stdio::null());
    command
}

/// A demo that goes on listening; ended with the test.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(messages: u32) -> Self {
        let mut child =
            demo().args(["--messages", &messages.to_string()]).stdout(Stdio::piped()).spawn().expect("the demo starts");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines }
    }

    /// Lines up to the first that holds `text`, that one included.
    fn until(&mut self, text: &str) -> Vec<String> {
        let mut seen = Vec::new();
        for line in self.lines.by_ref() {
            seen.push(line.expect("UTF-8"));
            if seen.last().is_some_and(|line| line.contains(text)) {
                return seen;
            }
        }
        panic!("the demo ended without saying {text:?}: {seen:#?}");
    }

    /// As `kill` and Ctrl-C do; returns the exit code and what it still said.
    fn signal(mut self, name: &str) -> (Option<i32>, Vec<String>) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("sh").success());
        let rest = self.lines.by_ref().map(|line| line.expect("UTF-8")).collect();
        (self.child.wait().expect("it ends").code(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The address behind `scheme` in the demo's introduction.
fn address(introduction: &[String], scheme: &str) -> SocketAddr {
    let words = introduction.iter().filter(|line| line.contains("syslog in")).flat_map(|line| line.split_whitespace());
    words.filter_map(|word| word.strip_prefix(scheme)).next().expect("an address").parse().expect("ADDRESS:PORT")
}

fn assert_fit_for_readers(lines: &[String]) {
    assert!(lines.len() > 10, "{lines:#?}");
    for line in lines {
        assert!(line.chars().count() <= WIDTH, "wider than {WIDTH}: {line}");
        assert!(!line.contains('\u{1b}'), "colour without a terminal: {line}");
        assert!(!line.contains("IntakeKey0"), "a key is shown: {line}");
        for (at, key) in line.match_indices("intake_key=\"") {
            assert!(line[at + key.len()..].starts_with("****\""), "a key is not masked: {line}");
        }
    }
}

#[test]
fn once_it_shows_every_message_balances_its_books_and_ends() {
    let out = demo().args(["--once", "--messages", "20"]).output().expect("the demo runs");
    let (text, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{text}\n{errors}");
    assert_eq!(errors, "", "nothing to warn of");
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_fit_for_readers(&lines);
    for (via, route) in [
        ("udp 3164", "unbound"),
        ("tcp 5424", "sshd"),
        ("tcp 3164", "nginx"),
        ("udp 5424", "unbound"),
        ("tcp 5424", "default"),
    ] {
        let arrived = lines.iter().filter(|line| line.starts_with(via) && line.contains(&format!("  {route} ")));
        assert_eq!(arrived.count(), 2, "{via} {route}\n{text}");
    }
    assert!(text.contains("received 20 = routed 18 + discarded 2 + unmatched 0 + rejected 0"), "{text}");
    assert!(text.contains("  unbound         4 =        4 +         0 +       0 +       0"), "{text}");
    assert!(text.contains("arrived 18 of 18, lost 0, with a wrong key 0, repeated 0"), "{text}");
    assert!(text.contains("LOG [SEKOIA@53288 intake_key=\"****\"]"), "one message is shown whole\n{text}");
}

#[test]
fn two_at_once_have_ports_of_their_own_and_take_what_the_reader_sends() {
    let (mut one, mut two) = (Running::start(1), Running::start(1));
    let (first, second) = (one.until("Ctrl-C"), two.until("Ctrl-C"));
    for scheme in ["udp://", "tcp://"] {
        assert_ne!(address(&first, scheme), address(&second, scheme));
    }
    // Several, from several ports: with sockets shared between the two, half of them would go astray.
    for number in 0..8 {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let message = format!("<30>Feb  3 04:05:06 ns unbound[1]: question {number}.");
        socket.send_to(message.as_bytes(), address(&first, "udp://")).expect("sent");
        let line = one.until(&format!("question {number}.")).pop().expect("the line");
        assert!(line.starts_with("you") && line.contains("  unbound "), "{line}");
        let mut stream = TcpStream::connect(address(&second, "tcp://")).expect("a connection");
        let message = format!("<13>Feb  3 04:05:06 box myapp: answer {number}.");
        write!(stream, "{} {message}", message.len()).expect("sent");
        let line = two.until(&format!("answer {number}.")).pop().expect("the line");
        assert!(line.starts_with("you") && line.contains("  default "), "{line}");
    }
    for (running, signal) in [(one, "TERM"), (two, "INT")] {
        let (code, rest) = running.signal(signal);
        assert_eq!(code, Some(0), "{rest:?}");
        assert!(rest.iter().any(|line| line.contains("everything that was received is delivered")), "{rest:?}");
    }
}

#[test]
fn the_commands_that_it_prints_work_as_they_are() {
    if Command::new("logger").arg("--version").output().is_err() {
        eprintln!("skipped: no logger(1) on this machine");
        return;
    }
    let mut running = Running::start(1);
    let printed = running.until("Ctrl-C");
    assert_fit_for_readers(&printed);
    let commands: Vec<&str> = printed.iter().filter_map(|line| line.trim().strip_prefix("logger ")).collect();
    assert_eq!(commands.len(), 3, "{printed:#?}");
    let expected =
        [("which intake is this for?", "unbound"), ("and this one?", "sshd"), ("no route of its own", "default")];
    for (command, (text, route)) in commands.into_iter().zip(expected) {
        assert!(Command::new("sh").args(["-c", &format!("logger {command}")]).status().expect("sh").success());
        let line = running.until(text).pop().expect("the line");
        assert!(line.starts_with("you") && line.contains(&format!("  {route} ")), "{line}");
    }
    let (code, _) = running.signal("TERM");
    assert_eq!(code, Some(0));
}

#[test]
fn a_closed_pipe_ends_it() {
    let mut running = Running::start(1);
    running.until("syslog in");
    let Running { child, lines } = &mut running;
    // What it prints next meets a closed pipe.
    drop(std::mem::replace(lines, BufReader::new(closed()).lines()));
    assert!(child.wait().expect("it ends").code().is_some());
}

/// The output of a program that has ended.
fn closed() -> ChildStdout {
    let mut child = Command::new("true").stdout(Stdio::piped()).spawn().expect("true(1)");
    drop(child.wait());
    child.stdout.take().expect("its output")
}

#[test]
fn a_temporary_directory_that_cannot_be_written_is_an_error_that_says_what_to_do() {
    let out = demo().arg("--once").env("TMPDIR", "/nonexistent").output().expect("the demo runs");
    assert_eq!(out.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(errors.contains("cannot create /nonexistent/") && errors.contains("set TMPDIR"), "{errors}");
}
