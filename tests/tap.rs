//! `forebay tap` and the admin server behind it: what a running relay sends and receives, seen from outside.
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

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use support::relay::{Relay, count, remove_own_variables, request};
use support::senders::{send_tcp, send_udp, send_unix};
use support::waiting::{PATIENCE, eventually, pause};
use support::{Bench, ROUTE_ALL};

#[path = "support/harness.rs"]
mod support;

/// `forebay tap` as a process, and what it has written so far.
struct Tap {
    child: Child,
    out: Arc<Mutex<Vec<u8>>>,
    error: Arc<Mutex<Vec<u8>>>,
    readers: Vec<thread::JoinHandle<()>>,
}

/// Reads to the end, a piece at a time.
fn gather(mut from: impl Read + Send + 'static) -> (Arc<Mutex<Vec<u8>>>, thread::JoinHandle<()>) {
    let gathered = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&gathered);
    let reader = thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            sink.lock().unwrap().extend_from_slice(&piece[..count]);
        }
    });
    (gathered, reader)
}

fn text(octets: &Mutex<Vec<u8>>) -> String {
    String::from_utf8(octets.lock().unwrap().clone()).expect("UTF-8")
}

impl Tap {
    fn start(admin: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        remove_own_variables(&mut command);
        command.args(["tap", "--admin", admin]).args(arguments);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (out, out_reader) = gather(child.stdout.take().unwrap());
        let (error, error_reader) = gather(child.stderr.take().unwrap());
        Self { child, out, error, readers: vec![out_reader, error_reader] }
    }

    /// Looks at `relay`; the tap is open when this returns.
    fn open(relay: &Relay, arguments: &[&str]) -> Self {
        Self::start(&relay.admin().to_string(), arguments).ready()
    }

    fn ready(mut self) -> Self {
        eventually("the tap to be open", || {
            let said = text(&self.error);
            if said.contains("keys masked") { Ok(()) } else { Err(format!("{said} {:?}", self.child.try_wait())) }
        });
        self
    }

    fn lines(&self) -> Vec<String> {
        text(&self.out).lines().map(str::to_owned).collect()
    }

    /// The lines, once there are so many.
    #[track_caller]
    fn lines_when(&self, count: usize) -> Vec<String> {
        eventually(&format!("{count} lines of the tap"), || {
            let lines = self.lines();
            if lines.len() >= count { Ok(lines) } else { Err(format!("{lines:?} {}", text(&self.error))) }
        })
    }

    /// What it wrote to standard error, and how it ended.
    #[track_caller]
    fn ended(mut self) -> (ExitStatus, Vec<String>, String) {
        let status =
            eventually("the tap to end", || self.child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()));
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        (status, self.lines(), text(&self.error))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Two routes with keys, one that discards, and messages that no route takes.
const ROUTES: &str = "inputs: {lan: {listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0']}}\n\
     routes:\n\
     - {name: web, program: 'nginx*', intake_key: secret-of-web-0001}\n\
     - {name: auth, program: sshd, intake_key: secret-of-auth-0002}\n\
     - {name: noise, program: cron, discard: true}\n";

const MESSAGES: [&str; 5] = [
    "<13>Nov 22 10:11:12 gate nginx-a[12]: GET /one",
    "<13>Nov 22 10:11:12 gate sshd[13]: accepted for intake_key=\"secret-of-web-0001\"",
    "<13>Nov 22 10:11:12 gate cron[14]: tick",
    "<13>Nov 22 10:11:12 gate stranger[15]: nobody knows secret-of-auth-0002",
    "<13>Nov 22 10:11:12 gate nginx-b[16]: GET /two with an \u{e9} and \x1b[2J",
];

fn lines_of(messages: &[&str]) -> String {
    messages.iter().map(|message| format!("{message}\n")).collect()
}

/// As a collector receives it, with keys masked.
fn masked(rendered: &str) -> String {
    rendered.trim_end_matches('\n').replace("secret-of-web-0001", "****").replace("secret-of-auth-0002", "****")
}

#[test]
fn a_tap_shows_what_the_collector_receives_and_no_key() {
    let bench = Bench::start(ROUTES);
    let tap = Tap::open(&bench.relay, &[]);
    let json = Tap::open(&bench.relay, &["--json"]);
    send_tcp(bench.relay.address("lan", "tcp"), lines_of(&MESSAGES).as_bytes());
    let received = bench.collector.wait_for(3);
    let mut expected: Vec<String> = received.iter().map(|message| masked(message)).collect();
    let mut shown = tap.lines_when(3);
    expected.sort();
    shown.sort();
    assert_eq!(shown, expected);
    assert!(shown.iter().all(|line| line.contains("intake_key=\"****\"")), "{shown:?}");
    let objects: Vec<Value> = json.lines_when(3).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for object in &objects {
        assert!(expected.iter().any(|line| object["line"] == line.as_str()), "{object}");
        assert_eq!(
            (&object["fate"], &object["peer"], &object["input"]),
            (&"sent".into(), &"127.0.0.1".into(), &"lan".into())
        );
    }
    let routes: Vec<&Value> = objects.iter().map(|object| &object["routes"][0]).collect();
    assert_eq!(routes.iter().filter(|route| **route == "web").count(), 2);
    for written in [text(&tap.out), text(&tap.error), text(&json.out), text(&json.error), bench.relay.log_text()] {
        assert!(!written.contains("secret-of"), "{written}");
    }
}

#[test]
fn what_is_received_is_shown_whatever_becomes_of_it() {
    let bench = Bench::start(ROUTES);
    let bare = Tap::open(&bench.relay, &["--received"]);
    let told = Tap::open(&bench.relay, &["--received", "--labels", "always"]);
    send_tcp(bench.relay.address("lan", "tcp"), lines_of(&MESSAGES).as_bytes());
    let expected: Vec<String> = MESSAGES.iter().map(|message| masked(message).replace('\x1b', "#033")).collect();
    assert_eq!(bare.lines_when(5), expected);
    let labels = ["web", "auth", "noise discards", "no route", "web"];
    let expected: Vec<String> =
        labels.iter().zip(&expected).map(|(label, line)| format!("127.0.0.1 > {label}  {line}")).collect();
    assert_eq!(told.lines_when(5), expected);
    assert!(!text(&bare.error).contains("more"), "nothing was left out: {}", text(&bare.error));
}

#[test]
fn a_tap_shows_what_each_of_its_filters_takes() {
    let bench = Bench::start(ROUTES);
    let rows: [(&[&str], &[usize]); 7] = [
        (&["web"], &[0, 4]),
        (&["web", "auth", "--program", "*d"], &[1]),
        (&["--program", "nginx-b"], &[4]),
        (&["--received", "--program", "cron"], &[2]),
        (&["--received", "noise"], &[2]),
        (&["--received", "--text", "GET", "--peer", "127.0.0.0/8"], &[0, 4]),
        (&["--received", "--peer", "127.0.0.1", "--text", "nobody"], &[3]),
    ];
    // Four are open at a time.
    for rows in rows.chunks(3) {
        let taps: Vec<(Tap, &[usize])> =
            rows.iter().map(|(ask, shown)| (Tap::open(&bench.relay, ask), *shown)).collect();
        let nothing = Tap::open(&bench.relay, &["--received", "--peer", "192.0.2.0/24"]);
        send_tcp(bench.relay.address("lan", "tcp"), lines_of(&MESSAGES).as_bytes());
        for (tap, shown) in taps {
            let lines = tap.lines_when(shown.len());
            assert_eq!(lines.len(), shown.len(), "{lines:?}");
            for (line, message) in lines.iter().zip(shown) {
                let (_, said) = MESSAGES[*message].rsplit_once("]: ").unwrap();
                assert!(line.ends_with(&masked(said).replace('\x1b', "#033")), "{line}");
            }
        }
        assert!(nothing.lines().is_empty());
        drop(nothing);
        wait_for_places(&bench.relay);
    }
}

/// Waits until nobody taps: `/tap` has all its places again.
fn wait_for_places(relay: &Relay) {
    eventually("the taps to be closed", || match relay.status().0["taps"].as_u64() {
        Some(0) => Ok(()),
        taps => Err(format!("{taps:?}")),
    });
}

#[test]
fn a_tap_ends_by_count_by_a_closed_pipe_and_with_the_relay() {
    let mut bench = Bench::start(ROUTES);
    let two = Tap::open(&bench.relay, &["web", "-n", "2"]);
    let mut closed = Tap::open(&bench.relay, &["--received"]);
    let stopped = Tap::open(&bench.relay, &[]);
    closed.readers.clear();
    let (status, lines, _) = {
        send_tcp(bench.relay.address("lan", "tcp"), lines_of(&MESSAGES).as_bytes());
        two.ended()
    };
    assert_eq!((status.code(), lines.len()), (Some(0), 2));
    drop(closed);
    stopped.lines_when(3);
    bench.relay.stop_clean();
    let (status, lines, said) = stopped.ended();
    assert_eq!((status.code(), lines.len()), (Some(0), 3), "{said}");
    assert!(said.ends_with("the relay is stopping: the tap has ended\n"), "{said}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let bench = Bench::start(ROUTES);
    let mut command = Command::new("sh");
    remove_own_variables(&mut command);
    let script = format!(
        "{{ '{}' tap --received --admin {}; echo \"code $?\" >&2; }} | head -1",
        env!("CARGO_BIN_EXE_forebay"),
        bench.relay.admin()
    );
    command.args(["-c", &script]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (out, _) = gather(child.stdout.take().unwrap());
    let (error, _) = gather(child.stderr.take().unwrap());
    eventually("the tap to end", || {
        if text(&error).contains("keys masked") {
            send_tcp(bench.relay.address("lan", "tcp"), lines_of(&MESSAGES).as_bytes());
        }
        if text(&error).contains("code ") { Ok(()) } else { Err(text(&error)) }
    });
    assert!(text(&error).contains("code 0"), "{}", text(&error));
    assert_eq!(text(&out).lines().count(), 1);
    child.wait().unwrap();
}

#[test]
fn questions_that_make_no_sense_are_answered_in_words() {
    let bench = Bench::start(ROUTES);
    let rows = [
        ("/tap?route=wbe", "no route is named wbe; there are: web, auth, noise"),
        ("/tap?route=noise", "noise discards what it takes: nothing is sent; look at what arrives (received=1)"),
        ("/tap?peer=300.1.1.1", "300.1.1.1"),
        ("/tap?program=[", "has no `]`"),
        ("/tap?limit=0", "expected messages a second from 1 to 1000"),
        ("/tap?text=", "text is empty"),
        ("/tap?colour=red", "colour=red is not understood, expected route, program, peer"),
        ("/top?seconds=11", "expected seconds=0.1…10"),
    ];
    for (path, words) in rows {
        let (code, body) = bench.relay.request("GET", path);
        assert!(code == 400 && body.contains(words), "{path}: {code} {body}");
    }
    for method in ["HEAD", "POST"] {
        assert_eq!(bench.relay.request(method, "/tap").0, 405, "{method}");
    }
    let (status, _, said) = Tap::start(&bench.relay.admin().to_string(), &["wbe"]).ended();
    assert_eq!(status.code(), Some(64));
    assert_eq!(said, "no route is named wbe; there are: web, auth, noise\n");
}

#[test]
fn nobody_there_is_said_with_what_to_do_next() {
    let (status, _, said) = Tap::start("127.0.0.1:1", &[]).ended();
    assert_eq!(status.code(), Some(1));
    assert!(said.starts_with("cannot connect to http://127.0.0.1:1: ") && said.contains("--admin URL"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let (_, _, said) = Tap::start(&format!("unix://{}", socket.display()), &[]).ended();
    assert!(said.contains("does a relay run here"), "{said}");
    let file = folder.path().join("off.yaml");
    std::fs::write(&file, "admin: {listen: off}\ninputs: {i: {listen: 'tcp://127.0.0.1:0'}}\noutputs: {o: {to: 'tcp://127.0.0.1:1'}}\nroutes: [{name: all, template: '%msg%'}]\n").unwrap();
    let output = forebay(&["tap", "-c", file.to_str().unwrap()]);
    assert_eq!(output.0, Some(78));
    assert!(output.1.contains("admin.listen: off"), "{}", output.1);
}

/// Exit code and standard error.
fn forebay(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    remove_own_variables(&mut command);
    let output = command.args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn more_than_four_taps_are_refused_and_a_place_that_is_left_is_free_at_once() {
    let bench = Bench::start(ROUTES);
    let mut taps: Vec<Tap> = (0..4).map(|_| Tap::open(&bench.relay, &[])).collect();
    let (code, body) = bench.relay.request("GET", "/tap");
    assert_eq!((code, body.as_str()), (429, "4 taps are open already, which is the most: close one of them\n"));
    let (status, _, said) = Tap::start(&bench.relay.admin().to_string(), &[]).ended();
    assert_eq!((status.code(), said.as_str()), (Some(1), body.as_str()));
    assert_eq!(count(&bench.relay.status().0, "taps"), 4);
    drop(taps.pop());
    eventually("a place", || {
        let tap = Tap::start(&bench.relay.admin().to_string(), &["-n", "1"]);
        pause(Duration::from_millis(20));
        let status = bench.relay.status();
        if count(&status.0, "taps") == 4 { Ok(tap) } else { Err(text(&tap.error)) }
    });
}

#[test]
fn a_flood_is_shown_in_part_and_the_rest_is_counted() {
    let bench = Bench::start(ROUTES);
    let tap = Tap::open(&bench.relay, &["--received", "--limit", "20"]);
    let filtered = Tap::open(&bench.relay, &["--received", "--limit", "20", "--program", "sshd"]);
    const SENT: usize = 500;
    send_tcp(bench.relay.address("lan", "tcp"), lines_of(&vec![MESSAGES[1]; SENT]).as_bytes());
    let missed = |tap: &Tap, words: &str| -> usize {
        let said = text(&tap.error);
        let notices = said.lines().filter_map(|line| line.strip_prefix("… ")?.strip_suffix(words));
        notices.map(|count| count.trim().parse::<usize>().unwrap()).sum()
    };
    for (tap, words) in [(&tap, "more not shown"), (&filtered, "more passed and were not looked at")] {
        eventually("shown and missed to be all", || match tap.lines().len() + missed(tap, words) {
            SENT => Ok(()),
            other => Err(format!("{other}: {}", text(&tap.error))),
        });
        assert!((20..SENT).contains(&tap.lines().len()), "{}", tap.lines().len());
    }
    bench.relay.status_when("all to be routed", |status| count(status.route("auth"), "routed") == SENT as u64);
}

#[test]
fn a_tap_that_nobody_reads_holds_nothing_up_and_every_message_is_accounted_for() {
    let mut bench = Bench::start(ROUTES);
    let mut stuck: Vec<TcpStream> = Vec::new();
    for path in ["/tap", "/tap?received=1", "/tap?received=1&format=json"] {
        let mut stream = TcpStream::connect(bench.relay.admin()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stuck.push(stream);
    }
    bench.relay.status_when("three taps", |status| count(&status.0, "taps") == 3);
    const SENT: usize = 20_000;
    let long = format!("<13>Nov 22 10:11:12 gate nginx[1]: {}", "x".repeat(1000));
    send_tcp(bench.relay.address("lan", "tcp"), lines_of(&vec![long.as_str(); SENT]).as_bytes());
    assert_eq!(bench.collector.wait_for(SENT).len(), SENT);
    let status = bench.relay.status();
    assert_eq!(count(status.route("web"), "routed"), SENT as u64);
    status.assert_balanced();
    assert_eq!(count(&status.0, "taps"), 3, "nobody was disturbed, and nobody gave up early");
    drop(stuck);
    wait_for_places(&bench.relay);
    bench.relay.stop_clean();
}

#[test]
fn the_admin_server_listens_on_a_unix_socket_too_and_leaves_none_behind() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let listen = format!("admin: {{listen: ['127.0.0.1:0', 'unix://{}']}}\n", socket.display());
    let file = folder.path().join("forebay.yaml");
    let out = folder.path().join("out.log");
    std::fs::write(
        &file,
        format!(
            "{listen}cores: 1\ninputs: {{lan: {{listen: 'unix://{}'}}}}\noutputs: {{file: {{to: 'file://{}'}}}}\n{ROUTE_ALL}",
            folder.path().join("log.sock").display(),
            out.display()
        ),
    )
    .unwrap();
    // What a relay that was killed leaves behind is no reason not to start.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    remove_own_variables(&mut command);
    let mut relay = command.args(["run", "-c"]).arg(&file).stderr(Stdio::null()).spawn().unwrap();
    let ready = |path: &Path| ask_unix(path, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200"));
    eventually("the relay", || ready(&socket).ok_or_else(|| "not ready".to_owned()));
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    remove_own_variables(&mut command);
    command.args(["tap", "-n", "1", "-c"]).arg(&file).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (shown, out_reader) = gather(child.stdout.take().unwrap());
    let (error, error_reader) = gather(child.stderr.take().unwrap());
    let tap = Tap { child, out: shown, error, readers: vec![out_reader, error_reader] }.ready();
    send_unix(&folder.path().join("log.sock"), format!("{}\n", MESSAGES[0]).as_bytes());
    let (status, lines, said) = tap.ended();
    assert_eq!((status.code(), lines.len()), (Some(0), 1), "{said}");
    assert!(said.starts_with(&format!("unix://{}: what is sent", socket.display())), "{said}");
    assert!(Command::new("kill").arg(relay.id().to_string()).status().unwrap().success());
    assert_eq!(relay.wait().unwrap().code(), Some(0));
    assert!(!socket.exists());
}

/// The whole answer, where there is one.
fn ask_unix(socket: &Path, path: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn curl_shows_a_message_a_line() {
    let bench = Bench::start(ROUTES);
    let mut stream = TcpStream::connect(bench.relay.admin()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /tap?received=1&program=stranger HTTP/1.0\r\n\r\n").unwrap();
    bench.relay.status_when("the tap", |status| count(&status.0, "taps") == 1);
    send_udp(bench.relay.address("lan", "udp"), &MESSAGES);
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    let body = lines.skip_while(|line| !line.is_empty()).find(|line| !line.is_empty());
    assert_eq!(body.unwrap(), masked(MESSAGES[3]));
}

#[test]
fn messages_are_shown_to_no_web_page() {
    let bench = Bench::start(ROUTES);
    for header in ["Origin: http://example.org", "Sec-Fetch-Site: cross-site"] {
        let mut stream = TcpStream::connect(bench.relay.admin()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /tap HTTP/1.1\r\nHost: localhost\r\n{header}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("web pages"), "{answer}");
    }
}

#[test]
fn the_busiest_programs_and_peers_are_counted_from_a_sample() {
    let bench = Bench::start(ROUTES);
    let (admin, lan) = (bench.relay.admin(), bench.relay.address("lan", "tcp"));
    let asking = thread::spawn(move || request(admin, "GET", "/top?seconds=5").unwrap());
    bench.relay.status_when("the sample to begin", |status| count(&status.0, "taps") == 1);
    send_tcp(lan, lines_of(&MESSAGES.repeat(20)).as_bytes());
    let (code, body) = asking.join().unwrap();
    assert_eq!(code, 200);
    let top: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((count(&top, "passed"), count(&top, "sampled")), (100, 100));
    let names = |kind: &str| -> Vec<(String, u64, u64)> {
        let all = top[kind].as_array().unwrap().iter();
        all.map(|one| (one["name"].as_str().unwrap().to_owned(), count(one, "messages"), count(one, "unmatched")))
            .collect()
    };
    let row = |name: &str, messages, unmatched| (name.to_owned(), messages, unmatched);
    let programs = ["cron", "nginx-a", "nginx-b", "sshd", "stranger"];
    let expected: Vec<_> =
        programs.iter().map(|name| row(name, 20, if *name == "stranger" { 20 } else { 0 })).collect();
    assert_eq!(names("programs"), expected);
    assert_eq!(names("peers"), [row("127.0.0.1", 100, 20)]);
}
