//! What a relay gives up once its sockets are bound: root, system calls, files. And that it relays all the same.
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
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use forebay::config::{self, Source};
use forebay::harden::{self, Access};
use serde_json::{Value, json};
use support::certificates::{Certificates, write_private};
use support::collector::{Collector, message_of};
use support::relay::{Relay, remove_own_variables};
use support::senders::{connect_tls, counted, finish_tls, send_tcp, send_udp, send_unixgram};
use support::waiting::eventually;
use support::{Bench, ROUTE_ALL};
use tempfile::TempDir;

const INPUT: &str = "inputs: {lan: {listen: 'tcp://127.0.0.1:0'}}\n";

/// Set for a process that gives everything up, and tells what it can do then: the folder that it may use.
const CONFINED: &str = "FOREBAY_TEST_CONFINED";

/// Whether this process may become somebody else.
fn is_root() -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        println!("skipped: only root becomes somebody else");
    }
    root
}

/// A folder that others may pass.
fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

/// A free port that takes root to bind.
fn low_port() -> u16 {
    let start = 512 + u16::try_from(std::process::id() % 400).unwrap();
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (start..1024).chain(512..start).find(free).expect("a free port under 1024")
}

/// This line's distinct values over all threads of a process.
fn of_all_threads(pid: u32, line: &str) -> BTreeSet<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|entry| entry.unwrap().path());
    // One that has ended meanwhile has nothing to say.
    let texts: Vec<String> = tasks.filter_map(|task| fs::read_to_string(task.join("status")).ok()).collect();
    assert!(texts.len() > 3, "{} threads", texts.len());
    let value = |text: &String| {
        let found = text.lines().find_map(|all| all.strip_prefix(line)?.strip_prefix(':')).expect(line);
        found.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    texts.iter().map(value).collect()
}

/// Whether the kernel puts up fences; says so where not.
fn has_fences(relay: &Relay) -> bool {
    let landlock = &relay.status().0["hardening"]["landlock"];
    if landlock["active"] == false {
        println!("skipped in part: {}", landlock["why"]);
    }
    landlock["active"] == true
}

fn forebay(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    remove_own_variables(&mut command);
    command.args(arguments).output().unwrap()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

#[test]
fn started_as_root_it_binds_a_low_port_becomes_its_user_in_every_thread_and_relays() {
    if !is_root() {
        return;
    }
    let (folder, certificates) = (open_folder(), Certificates::new());
    let collector = Collector::start(&certificates);
    let (port, at) = (low_port(), folder.path().display());
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    chown(&out, Some(4242), Some(4243)).unwrap();
    // From a time when the relay ran as root, and from a command that root has run since.
    write_private(&out.join("copy.log"), "");
    let spool = folder.path().join("spool");
    fs::create_dir(&spool).unwrap();
    fs::set_permissions(&spool, Permissions::from_mode(0o700)).unwrap();
    chown(&spool, Some(4242), Some(4243)).unwrap();
    write_private(&spool.join("lock"), "");
    let outputs = format!(
        "outputs:\n  sekoia: {{{}}}\n  copy: {{to: 'file://{}/copy.log'}}\n",
        collector.output(&certificates, "replay_window: 0"),
        out.display()
    );
    let configuration = format!(
        "{outputs}user: 4242\ngroup: 4243\nspool: {{dir: {at}/spool, min_free: 0, durability: always}}\n\
         inputs:\n  low: {{listen: ['tcp://127.0.0.1:{port}', 'udp://127.0.0.1:{port}']}}\n  \
         tls: {{listen: 'tls://127.0.0.1:0', tls: {{{}}}}}\n  local: {{listen: 'unixgram://{at}/log'}}\n\
         routes: [{{name: copy, output: copy, intake_key: key-of-all, continue: true}}, \
         {{name: all, output: sekoia, intake_key: key-of-all}}]\n",
        certificates.input_tls()
    );
    let mut relay = Relay::start(&configuration);
    for (line, expected) in [
        ("Uid", "4242 4242 4242 4242"),
        ("Gid", "4243 4243 4243 4243"),
        ("Groups", "4243"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        assert_eq!(of_all_threads(relay.pid(), line), BTreeSet::from([expected.to_owned()]), "{line}");
    }
    let status = relay.status().0["hardening"].clone();
    assert_eq!(status["user"], json!({"name": "4242", "uid": 4242, "gid": 4243}));
    assert_eq!(
        (&status["root"], &status["no_new_privs"]["active"], &status["seccomp"]["active"]),
        (&json!(false), &json!(true), &json!(true))
    );
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    send_tcp(address, b"<13>Nov 22 10:00:00 gate a: over the low port\n");
    send_udp(address, &["<13>Nov 22 10:00:00 gate b: as a datagram"]);
    send_unixgram(&folder.path().join("log"), &["<13>Nov 22 10:00:00 c: over the socket"]);
    let mut tls = connect_tls(relay.address("tls", "tls"), certificates.client_config(None)).unwrap();
    std::io::Write::write_all(&mut tls, &counted("<13>Nov 22 10:00:00 gate d: over TLS")).unwrap();
    finish_tls(tls);
    let frames = collector.wait_for(4);
    let messages: BTreeSet<&str> = frames.iter().map(|frame| message_of(frame).trim()).collect();
    assert_eq!(messages, BTreeSet::from(["over the low port", "as a datagram", "over the socket", "over TLS"]));
    eventually("four lines of the file", || {
        let text = fs::read_to_string(out.join("copy.log")).unwrap();
        if text.lines().count() == 4 { Ok(()) } else { Err(text) }
    });
    for (path, what) in [
        (out.join("copy.log"), "the file"),
        (folder.path().join("spool/lock"), "the spool"),
        (folder.path().join("log"), "the socket"),
    ] {
        assert_eq!(fs::metadata(path).unwrap().uid(), 4242, "{what}");
    }
    assert_eq!(relay.metric("forebay_route_routed_messages_total", "route=\"all\""), 4);
    relay.stop_clean();
}

#[test]
fn what_its_user_could_not_write_keeps_it_from_starting_and_is_named() {
    if !is_root() {
        return;
    }
    let folder = open_folder();
    for name in ["spool", "out"] {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        // Somebody else's: nothing of it is given away.
        chown(&path, Some(4244), Some(4244)).unwrap();
    }
    let at = folder.path().display();
    let file = folder.path().join("forebay.yaml");
    let configuration = format!(
        "user: 4242\ngroup: 4243\nadmin: {{listen: off}}\n{INPUT}outputs: {{copy: {{to: 'file://{at}/out/copy.log'}}}}\n{ROUTE_ALL}\
         spool: {{dir: {at}/spool}}\n"
    );
    write_private(&file, configuration);
    let output = forebay(&["run", "-c", file.to_str().unwrap()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("spool.dir: user \"4242\" cannot write to {at}/spool: chown -R 4242")), "{said}");
    assert!(said.contains(&format!("outputs.copy: user \"4242\" cannot write {at}/out/copy.log")), "{said}");
    assert!(said.contains("cannot read") && said.contains("forebay.yaml"), "what cannot be read again is told: {said}");
    assert_eq!(fs::metadata(folder.path().join("spool")).unwrap().uid(), 4244);
}

#[test]
fn every_thread_is_confined_by_default_and_none_where_that_is_off() {
    let bench = Bench::start(&format!("{INPUT}{ROUTE_ALL}"));
    let pid = bench.relay.pid();
    assert_eq!(of_all_threads(pid, "NoNewPrivs"), BTreeSet::from(["1".to_owned()]));
    assert_eq!(of_all_threads(pid, "Seccomp"), BTreeSet::from(["2".to_owned()]));
    assert!(!bench.relay.log_text().contains("before the fence"), "no thread is outside of it");
    let warned = bench.relay.log_lines().iter().any(|line| line["message"].as_str().unwrap().contains("runs as root"));
    assert_eq!(warned, fs::metadata("/proc/self").unwrap().uid() == 0);
    let off = Bench::start(&format!("hardening: off\nuser: root\n{INPUT}{ROUTE_ALL}"));
    if is_root() {
        assert_eq!(of_all_threads(off.relay.pid(), "NoNewPrivs"), BTreeSet::from(["0".to_owned()]));
        assert_eq!(of_all_threads(off.relay.pid(), "Seccomp"), BTreeSet::from(["0".to_owned()]));
        assert!(!off.relay.log_text().contains("runs as root"), "it is meant");
    }
    let why = |name: &str| off.relay.status().0["hardening"][name].clone();
    for name in ["no_new_privs", "seccomp", "landlock"] {
        assert_eq!(why(name), json!({"active": false, "abi": Value::Null, "why": "off in the configuration"}));
    }
}

#[test]
fn a_file_that_nothing_names_is_out_of_reach_of_a_running_relay_even_of_roots() {
    let certificates = Certificates::new();
    let beside = open_folder();
    let renewed = certificates.issue("renewed", &["localhost"], |_| {});
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("tls.pem"), folder.path().join("tls.key"));
    fs::copy(&certificates.server.cert, &cert).unwrap();
    fs::copy(&certificates.server.key, &key).unwrap();
    fs::copy(&renewed.cert, beside.path().join("other.pem")).unwrap();
    let relay = Relay::start(&format!(
        "outputs: {{sekoia: {{to: 'tcp://127.0.0.1:9'}}}}\n{ROUTE_ALL}inputs: {{lan: {{listen: 'tls://127.0.0.1:0', \
         tls: {{cert: {}, key: {}}}}}}}\n",
        cert.display(),
        key.display()
    ));
    if !has_fences(&relay) {
        return;
    }
    fs::remove_file(&cert).unwrap();
    symlink(beside.path().join("other.pem"), &cert).unwrap();
    let line = relay.wait_for_log("certificates have changed and cannot be used");
    assert!(line["message"].as_str().unwrap().contains("Permission denied"), "{line}");
    // Back within the fence it is read again.
    fs::remove_file(&cert).unwrap();
    fs::copy(&certificates.server.cert, &cert).unwrap();
    relay.wait_for_log("certificates have changed and are used from the next connection on");
}

/// A port that takes root, a socket, a file and a key that the first configuration did not have.
#[test]
fn what_a_running_relay_has_given_up_a_reload_names_and_does_not_try() {
    if !is_root() {
        return;
    }
    let (folder, beside) = (open_folder(), open_folder());
    let (outside, port) = (beside.path().display(), low_port());
    write_private(&beside.path().join("key"), "0123456789abcdef");
    let file = folder.path().join("forebay.yaml");
    let head = "cores: 1\nadmin: {listen: '127.0.0.1:0'}\nuser: 4242\ngroup: 4243\n";
    let tail = "outputs: {sekoia: {to: 'tcp://127.0.0.1:9'}}\n";
    let publish = |text: &str| {
        write_private(&file, text);
        chown(&file, Some(4242), Some(4243)).unwrap();
    };
    publish(&format!("{head}{INPUT}{tail}{ROUTE_ALL}"));
    let relay = Relay::start_of(&file);
    let fenced = has_fences(&relay);
    let refused = |text: &str| {
        publish(text);
        let (code, words) = relay.request("POST", "/reload");
        assert_eq!(code, 422, "{words}");
        words
    };
    let asked = format!(
        "{head}inputs: {{lan: {{listen: ['tcp://127.0.0.1:0', 'tcp://127.0.0.1:{port}', 'unix://{outside}/log']}}}}\n\
         outputs: {{sekoia: {{to: 'tcp://127.0.0.1:9'}}, copy: {{to: 'file://{outside}/copy.log'}}}}\n\
         routes: [{{name: all, output: sekoia, intake_key: key-of-all}}]\n"
    );
    let words = refused(&asked);
    assert!(words.contains(&format!("forebay.yaml:5:24: inputs.lan.listen: port {port} takes root")), "{words}");
    if fenced {
        assert!(words.contains(&format!("inputs.lan.listen: {outside}/log is outside of the folders")), "{words}");
        assert!(words.contains(&format!("outputs.copy.to: {outside}/copy.log is outside of the folders")), "{words}");
    }
    let words = refused(&format!("{head}{INPUT}{tail}routes: [{{intake_key_file: {outside}/key}}]\n"));
    assert!(words.contains("Permission denied") && words.contains("restart the relay"), "{words}");
    let words = refused(&format!("{head}hardening: off\n{INPUT}{tail}{ROUTE_ALL}"));
    assert!(words.contains("forebay.yaml:5:12: hardening: changed, which takes a restart"), "{words}");
    publish(&format!("{head}{INPUT}{tail}{ROUTE_ALL}"));
    assert_eq!(relay.request("POST", "/reload").0, 200);
}

/// No test of its own: what [`what_a_confined_process_tries_is_refused_and_what_a_relay_does_is_not`] runs in a process that
/// has nothing else to do.
#[test]
fn confined_process() {
    let Some(folder) = std::env::var_os(CONFINED).map(std::path::PathBuf::from) else { return };
    let inside = folder.join("in");
    let configuration =
        format!("{INPUT}outputs: {{copy: {{to: 'file://{0}/copy.log'}}}}\n{ROUTE_ALL}", inside.display());
    let file = inside.join("forebay.yaml");
    write_private(&file, configuration);
    let loaded = config::load(&Source::File(file.clone()), &|_| None).unwrap();
    let standing = harden::confine(&loaded.config, &loaded.files, &[]).unwrap();
    let fenced = standing.landlock.is_on();
    assert!(standing.seccomp.is_on() && standing.no_new_privs.is_on());
    // What an intruder would do.
    let refused = |what: std::io::Error| assert_eq!(what.raw_os_error(), Some(libc_errno::EPERM), "{what}");
    refused(Command::new("/bin/true").status().unwrap_err());
    refused(socket2::Socket::new(socket2::Domain::from(17), socket2::Type::RAW, None).unwrap_err());
    if fenced {
        let out_of_reach = |path: &Path| fs::read(path).unwrap_err().kind() == std::io::ErrorKind::PermissionDenied;
        assert!(out_of_reach(&folder.join("beside")) && fs::write(folder.join("new"), "x").is_err());
        assert!(fs::write("/etc/forebay-was-here", "x").is_err());
        let why = standing.refusal(&folder.join("beside"), Access::Read).unwrap();
        assert!(why.contains("beside") && why.ends_with("needs a restart"), "{why}");
        assert!(standing.refusal(&inside.join("copy.log"), Access::Write).is_none());
        assert!(standing.refusal(Path::new("/etc/resolv.conf"), Access::Read).is_none());
        assert!(standing.socket_refusal(&folder.join("socket")).is_some());
    }
    // What a relay does.
    fs::write(inside.join("copy.log"), "a line\n").unwrap();
    fs::rename(inside.join("copy.log"), inside.join("copy.log.1")).unwrap();
    assert!(!fs::read(&file).unwrap().is_empty() && !fs::read("/etc/hosts").unwrap().is_empty());
    assert!(fs::read_to_string("/proc/self/status").unwrap().contains("Seccomp:\t2"));
    thread::spawn(|| drop(TcpListener::bind("127.0.0.1:0").unwrap())).join().unwrap();
    println!("confined, fenced: {fenced}");
}

/// `EPERM`, which std has no name for.
mod libc_errno {
    pub const EPERM: i32 = 1;
}

#[test]
fn what_a_confined_process_tries_is_refused_and_what_a_relay_does_is_not() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    fs::write(folder.path().join("beside"), "none of a relay's business").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "confined_process", "--nocapture", "--test-threads=1"]);
    let output = command.env(CONFINED, folder.path()).output().unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success() && said.contains("confined, fenced: "), "{said}{}", text(&output.stderr));
    if said.contains("fenced: false") {
        println!("skipped in part: this kernel puts up no fences (landlock)");
    }
}

#[test]
fn a_key_that_everybody_may_read_is_refused_before_anything_listens_unless_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (file, key) = (folder.path().join("forebay.yaml"), folder.path().join("key"));
    write_private(&key, "0123456789abcdef\n");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let configuration = format!(
        "{INPUT}outputs: {{sekoia: {{to: 'tcp://127.0.0.1:9'}}}}\nroutes:\n  - {{name: all, intake_key_file: key}}\n"
    );
    write_private(&file, configuration);
    let file = file.to_str().unwrap();
    for command in ["run", "check"] {
        let output = forebay(&[command, "-c", file]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.starts_with(&format!("{file}:4:34: routes[0].intake_key_file: ")), "{said}");
        assert!(said.contains("readable by everybody on this machine (mode 644)"), "{said}");
        assert!(!said.contains("0123456789abcdef"), "{said}");
    }
    let output = forebay(&["check", "-c", file, "--insecure-permissions"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).starts_with("warning: "), "{}", text(&output.stderr));
}

#[test]
fn a_user_that_nobody_is_is_a_mistake_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("forebay.yaml");
    write_private(
        &file,
        format!("user: nobody-by-that-name\n{INPUT}outputs: {{sekoia: {{region: fra1}}}}\n{ROUTE_ALL}"),
    );
    let output = forebay(&["run", "-c", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        text(&output.stderr).contains("forebay.yaml:1:7: user: found \"nobody-by-that-name\""),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn two_relays_on_one_spool_are_told_before_the_second_binds() {
    let folder = tempfile::tempdir().unwrap();
    let spool = format!("spool: {{dir: {}, min_free: 0}}\n", folder.path().join("spool").display());
    let bench = Bench::start(&format!("{spool}{INPUT}{ROUTE_ALL}"));
    let address = bench.relay.address("lan", "tcp");
    let file = folder.path().join("second.yaml");
    write_private(
        &file,
        format!(
            "admin: {{listen: off}}\n{spool}inputs: {{lan: {{listen: 'tcp://{address}'}}}}\noutputs: {{sekoia: {{to: 'tcp://127.0.0.1:9'}}}}\n{ROUTE_ALL}"
        ),
    );
    let output = forebay(&["run", "-c", file.to_str().unwrap()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("spool: in use by process {}", bench.relay.pid())), "{said}");
    assert!(!said.contains("hardened"), "nothing was bound or given up: {said}");
}
