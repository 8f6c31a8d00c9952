//! The relay as a service manager's child: sockets that it hands over and keeps, what it is told, the unit files.
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

use std::fmt::Write as _;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use socket2::{Domain, SockRef, Socket, Type};
use support::certificates::Certificates;
use support::collector::Collector;
use support::relay::{Relay, remove_own_variables, request};
use support::senders::*;
use support::waiting::{PATIENCE, eventually};
use support::{ROUTE_ALL, installed};

/// A command that runs `program` with these files as numbers 3, 4, …, and says so, as systemd does. bash, because the process
/// has to say its own number.
fn activated(program: &str, sockets: &[(&str, &dyn AsRawFd)]) -> Command {
    let mut script = String::new();
    // Moved out of the way first: one may have a number that another is to have.
    for (at, (_, socket)) in sockets.iter().enumerate() {
        let number = socket.as_raw_fd();
        write!(script, "exec {}<&{number} {number}<&-; ", 200 + at).unwrap();
    }
    for at in 0..sockets.len() {
        write!(script, "exec {}<&{} {}<&-; ", 3 + at, 200 + at, 200 + at).unwrap();
    }
    let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
    write!(script, "export LISTEN_FDS={} LISTEN_FDNAMES={} LISTEN_PID=$$; ", sockets.len(), names.join(":")).unwrap();
    script.push_str("exec \"$0\" \"$@\"");
    let mut command = Command::new("bash");
    command.args(["-c", &script, program]);
    command
}

/// Children get it: what other tests start at the same time may hold it a little longer, and reads nothing of it.
fn passed_on<S: Into<OwnedFd>>(socket: S) -> OwnedFd {
    let socket = socket.into();
    SockRef::from(&socket).set_cloexec(false).unwrap();
    socket
}

fn tcp() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (passed_on(listener), address)
}

fn udp() -> (OwnedFd, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (passed_on(socket), address)
}

/// The outputs of a relay whose collector this is.
fn outputs(collector: &Collector, certificates: &Certificates) -> String {
    format!("outputs: {{sekoia: {{{}}}}}\n", collector.output(certificates, "replay_window: 0"))
}

fn message(text: &str) -> String {
    format!("<13>Oct 11 22:14:15 host prog: {text}")
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

/// Runs the program to its end.
fn forebay(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    remove_own_variables(&mut command);
    command.args(arguments).output().unwrap()
}

#[test]
fn a_restart_loses_neither_connections_nor_datagrams_that_wait_in_inherited_sockets() {
    const DATAGRAMS: usize = 40;
    const CONNECTIONS: usize = 20;
    let certificates = Certificates::new();
    let collector = Collector::start(&certificates);
    let ((tcp, tcp_at), (udp, udp_at)) = (tcp(), udp());
    let folder = tempfile::tempdir().unwrap();
    let (stream_at, datagrams_at) = (folder.path().join("stream"), folder.path().join("datagrams"));
    let unix = passed_on(UnixListener::bind(&stream_at).unwrap());
    let unixgram = passed_on(UnixDatagram::bind(&datagrams_at).unwrap());
    let configuration = format!(
        "{}inputs: {{lan: {{listen: ['tcp://{tcp_at}', 'udp://{udp_at}']}}, \
         local: {{listen: ['unix://{}', 'unixgram://{}']}}}}\n{ROUTE_ALL}",
        outputs(&collector, &certificates),
        stream_at.display(),
        datagrams_at.display(),
    );
    let start = || {
        // In another order than the configuration's.
        let sockets: [(&str, &dyn AsRawFd); 4] = [("g", &unixgram), ("u", &udp), ("s", &unix), ("t", &tcp)];
        Relay::start_as(&configuration, |program| activated(program, &sockets))
    };
    let mut expected = Vec::new();
    for round in 0..3 {
        // Nobody reads now: the kernel keeps it.
        let mut waiting = Vec::new();
        for each in 0..DATAGRAMS {
            let text = format!("datagram {round} {each}");
            send_udp(udp_at, &[&message(&text)]);
            expected.push(text);
        }
        for each in 0..CONNECTIONS {
            let text = format!("connection {round} {each}");
            let mut stream = connect(tcp_at);
            stream.write_all(format!("{}\n", message(&text)).as_bytes()).unwrap();
            waiting.push(stream);
            expected.push(text);
        }
        send_unixgram(&datagrams_at, &[&message(&format!("local datagram {round}"))]);
        expected.push(format!("local datagram {round}"));
        let mut relay = start();
        send_unix(&stream_at, format!("{}\n", message(&format!("local stream {round}"))).as_bytes());
        expected.push(format!("local stream {round}"));
        waiting.into_iter().for_each(finish);
        assert_eq!(sorted(collector.wait_for_messages(expected.len())), sorted(expected.clone()));
        relay.stop_clean();
        assert!(stream_at.exists() && datagrams_at.exists(), "their files are the service manager's");
    }
}

#[test]
fn systemd_s_own_tool_hands_a_socket_over() {
    let Some(tool) = installed("systemd-socket-activate") else { return };
    let certificates = Certificates::new();
    let collector = Collector::start(&certificates);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let configuration = format!(
        "{}inputs: {{lan: {{listen: 'unix://{}'}}}}\n{ROUTE_ALL}",
        outputs(&collector, &certificates),
        path.display()
    );
    // It starts the program when somebody connects.
    let sender = std::thread::spawn({
        let path = path.clone();
        move || {
            let mut stream = eventually("its socket", || UnixStream::connect(&path).map_err(|error| error.to_string()));
            stream.write_all(format!("{}\n", message("first")).as_bytes()).unwrap();
        }
    });
    let mut relay = Relay::start_as(&configuration, |program| {
        let mut command = Command::new(tool);
        command.arg("-l").arg(&path).arg(program);
        command
    });
    sender.join().unwrap();
    collector.wait_for_messages(1);
    relay.stop_clean();
    assert!(path.exists());
}

#[test]
fn connections_that_wait_when_a_relay_stops_are_left_to_the_next() {
    let certificates = Certificates::new();
    let collector = Collector::start(&certificates);
    let (tcp, at) = tcp();
    let configuration =
        format!("{}inputs: {{lan: {{listen: 'tcp://{at}'}}}}\n{ROUTE_ALL}", outputs(&collector, &certificates));
    let start = || Relay::start_as(&configuration, |program| activated(program, &[("t", &tcp)]));
    let mut relay = start();
    // The stop is ordered while they wait: what it has accepted until then it closes in order, the others are the next one's.
    relay.signal("STOP");
    let streams: Vec<_> = (0..50).map(|_| connect(at)).collect();
    relay.terminate();
    relay.signal("CONT");
    relay.wait();
    let is_open = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let is_open = stream.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).unwrap();
        is_open
    };
    let mut open: Vec<_> =
        streams.into_iter().filter_map(|mut stream| is_open(&mut stream).then_some(stream)).collect();
    // One more that nobody can have accepted.
    open.push(connect(at));
    let mut relay = start();
    for (each, stream) in open.iter_mut().enumerate() {
        stream.write_all(format!("{}\n", message(&format!("{each}"))).as_bytes()).unwrap();
    }
    let expected: Vec<String> = (0..open.len()).map(|each| each.to_string()).collect();
    assert_eq!(sorted(collector.wait_for_messages(open.len())), sorted(expected));
    relay.stop_clean();
}

#[test]
fn one_inherited_listener_serves_every_shard_and_several_udp_sockets_are_shared_out() {
    let certificates = Certificates::new();
    let collector = Collector::start(&certificates);
    let reusing = |at: SocketAddr| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&at.into()).unwrap();
        socket
    };
    let first = reusing("127.0.0.1:0".parse().unwrap());
    let udp_at = first.local_addr().unwrap().as_socket().unwrap();
    let sockets: Vec<OwnedFd> = vec![first, reusing(udp_at), reusing(udp_at)].into_iter().map(passed_on).collect();
    let (tcp, tcp_at) = tcp();
    let configuration = format!(
        "{}inputs: {{lan: {{listen: ['udp://{udp_at}', 'tcp://{tcp_at}']}}}}\n{ROUTE_ALL}",
        outputs(&collector, &certificates)
    );
    let mut relay = Relay::start_as(&configuration, |program| {
        activated(program, &[("u", &sockets[0]), ("t", &tcp), ("u", &sockets[1]), ("u", &sockets[2])])
    });
    // Two shards accept from the one listener; three sockets are read by two shards.
    let epolls = |inode: &str| {
        let folder = format!("/proc/{}/fd", relay.pid());
        let links =
            std::fs::read_dir(folder).unwrap().filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        links.filter(|link| link.to_str() == Some(inode)).count()
    };
    let own = |socket: &OwnedFd| {
        std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap().display().to_string()
    };
    assert_eq!(epolls(&own(&tcp)), 2, "a listener's file, once a shard");
    assert!(sockets.iter().all(|socket| epolls(&own(socket)) >= 1));
    let texts: Vec<String> = (0..60).map(|each| format!("from port {each}")).collect();
    for text in &texts {
        // Each from a port of its own, so that the kernel spreads them.
        send_udp(udp_at, &[&message(text)]);
        send_tcp(tcp_at, format!("{}\n", message(text)).as_bytes());
    }
    let arrived = collector.wait_for_messages(2 * texts.len());
    assert_eq!(sorted(arrived), sorted([texts.clone(), texts].concat()));
    assert_eq!(relay.status().input("lan")["listening"].as_array().unwrap().len(), 2);
    relay.stop_clean();
}

#[test]
fn a_socket_of_all_addresses_serves_ipv4_as_well() {
    let certificates = Certificates::new();
    let collector = Collector::start(&certificates);
    let Ok(listener) = TcpListener::bind("[::]:0") else {
        println!("skipped: this machine has no IPv6");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let tcp = passed_on(listener);
    for listen in [format!("'tcp://0.0.0.0:{port}'"), format!("'tcp://[::]:{port}', 'tcp://0.0.0.0:{port}'")] {
        let configuration = format!(
            "{}inputs: {{lan: {{listen: [{listen}], allow: 127.0.0.1}}}}\n{ROUTE_ALL}",
            outputs(&collector, &certificates)
        );
        let mut relay = Relay::start_as(&configuration, |program| activated(program, &[("t", &tcp)]));
        let before = collector.texts().len();
        send_tcp(SocketAddr::from(([127, 0, 0, 1], port)), format!("{}\n", message("over IPv4")).as_bytes());
        collector.wait_for_messages(before + 1);
        relay.stop_clean();
    }
}

#[test]
fn sockets_that_nobody_asks_for_are_all_named_and_nothing_starts() {
    let ((tcp, tcp_at), (udp, udp_at)) = (tcp(), udp());
    let stream = passed_on(TcpStream::connect(tcp_at).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("forebay.yaml");
    let text = format!(
        "inputs: {{lan: {{listen: 'udp://{tcp_at}'}}}}\noutputs: {{o: {{to: 'tcp://127.0.0.1:9'}}}}\nadmin: {{listen: off}}\n{ROUTE_ALL}"
    );
    std::fs::write(&file, text).unwrap();
    let run = |sockets: &[(&str, &dyn AsRawFd)]| {
        let mut command = activated(env!("CARGO_BIN_EXE_forebay"), sockets);
        command.args(["run", "-c"]).arg(&file).stdin(Stdio::null());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(&[("forebay-tcp.socket", &tcp), ("forebay-udp.socket", &udp)]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains(&format!("socket tcp://{tcp_at} of the service manager (\"forebay-tcp.socket\")")), "{said}");
    assert!(said.contains(&format!("socket udp://{udp_at} of the service manager (\"forebay-udp.socket\")")), "{said}");
    let (code, said) = run(&[("forebay.socket", &stream)]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("is a connection (Accept=yes?)"), "{said}");
}

#[test]
fn what_was_handed_to_another_process_is_left_alone() {
    let certificates = Certificates::new();
    let collector = Collector::start(&certificates);
    let configuration =
        format!("{}inputs: {{lan: {{listen: 'tcp://127.0.0.1:0'}}}}\n{ROUTE_ALL}", outputs(&collector, &certificates));
    let mut relay = Relay::start_as(&configuration, |program| {
        let mut command = Command::new(program);
        command.envs([("LISTEN_PID", "1"), ("LISTEN_FDS", "2"), ("WATCHDOG_PID", "1"), ("WATCHDOG_USEC", "1000")]);
        command
    });
    send_tcp(relay.address("lan", "tcp"), format!("{}\n", message("hello")).as_bytes());
    collector.wait_for_messages(1);
    relay.stop_clean();
}

/// What a service manager was told, as it came.
fn told(socket: &UnixDatagram) -> String {
    let mut octets = [0; 4096];
    let count = socket.recv(&mut octets).expect("a word from the relay in time");
    String::from_utf8(octets[..count].to_vec()).unwrap()
}

#[test]
fn a_service_manager_is_told_of_readiness_life_and_the_stop() {
    let certificates = Certificates::new();
    let collector = Collector::start(&certificates);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let configuration = format!(
        "{}inputs: {{lan: {{listen: 'tcp://127.0.0.1:0'}}}}\nshutdown_timeout: 20s\n{ROUTE_ALL}",
        outputs(&collector, &certificates)
    );
    let mut relay = Relay::start_as(&configuration, |program| {
        let mut command = Command::new(program);
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
        command
    });
    let first = told(&manager);
    assert!(first.starts_with("READY=1\nSTATUS=received 0, released 0, "), "{first}");
    send_tcp(relay.address("lan", "tcp"), format!("{}\n", message("counted")).as_bytes());
    eventually("a sign of life that has counted the message", || {
        let word = told(&manager);
        assert!(word.starts_with("WATCHDOG=1\nSTATUS="), "{word}");
        if word.contains("received 1, released 1, in memory 0, on the disk 0, dropped 0") { Ok(()) } else { Err(word) }
    });
    relay.terminate();
    let last = std::iter::repeat_with(|| told(&manager)).find(|word| !word.starts_with("WATCHDOG=1")).unwrap();
    assert_eq!(last, "STOPPING=1\nEXTEND_TIMEOUT_USEC=25000000\nSTATUS=delivering what waits");
    assert_eq!(relay.wait().code(), Some(0));
}

/// One thread of a process, held still as a debugger does; it goes on when this is dropped, on the thread that made it.
struct Held(libc::pid_t);

impl Held {
    #[expect(unsafe_code, reason = "ptrace(2) has no safe wrapper")]
    fn new(pid: u32, name: &str) -> std::io::Result<Self> {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?.map(|entry| entry.unwrap().path());
        let is_it = |task: &PathBuf| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
        let task = tasks.into_iter().find(is_it).expect("a thread of that name");
        let thread: libc::pid_t = task.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: takes numbers; it reads and writes no memory of ours.
        if unsafe { libc::ptrace(libc::PTRACE_ATTACH, thread, nothing, nothing) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: nothing is written where the pointer is null.
        let waited = unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL) };
        if waited == thread { Ok(Self(thread)) } else { Err(std::io::Error::last_os_error()) }
    }
}

impl Drop for Held {
    #[expect(unsafe_code, reason = "ptrace(2) has no safe wrapper")]
    fn drop(&mut self) {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: as above.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, nothing, nothing) };
    }
}

#[test]
fn the_watchdog_is_told_nothing_while_a_shard_is_stuck() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let configuration = format!(
        "inputs: {{lan: {{listen: 'tcp://127.0.0.1:0'}}}}\noutputs: {{o: {{to: 'tcp://127.0.0.1:9'}}}}\n{ROUTE_ALL}"
    );
    let relay = Relay::start_as(&configuration, |program| {
        let mut command = Command::new(program);
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000000");
        command
    });
    let until = |begins: &str| {
        eventually(begins, || {
            let word = told(&manager);
            if word.starts_with(begins) { Ok(word) } else { Err(word) }
        })
    };
    until("WATCHDOG=1");
    let held = match Held::new(relay.pid(), "shard-1") {
        Ok(held) => held,
        Err(error) => {
            println!("skipped: no thread can be held still here: {error}");
            return;
        }
    };
    let word = until("STATUS=");
    assert!(word.starts_with("STATUS=shard 1 has not turned for 1"), "{word}");
    assert_eq!(told(&manager).split_once(" for ").unwrap().0, "STATUS=shard 1 has not turned");
    let (code, why) = request(relay.admin(), "GET", "/livez").unwrap();
    assert!(code == 503 && why.starts_with("shard 1 has not turned for "), "{code} {why}");
    drop(held);
    until("WATCHDOG=1");
}

#[test]
fn health_says_what_the_relay_says_and_never_waits_long() {
    let certificates = Certificates::new();
    let collector = Collector::start(&certificates);
    let configuration =
        format!("{}inputs: {{lan: {{listen: 'tcp://127.0.0.1:0'}}}}\n{ROUTE_ALL}", outputs(&collector, &certificates));
    let mut relay = Relay::start(&configuration);
    let admin = format!("http://{}", relay.admin());
    assert_eq!(request(relay.admin(), "GET", "/readyz").unwrap().0, 200);
    for (arguments, line) in [(vec![], "ready\n"), (vec!["--live"], "alive\n")] {
        let output = forebay(&[&["health", "--admin", &admin], &arguments[..]].concat());
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(0), line));
    }
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    let hanging = hangs.local_addr().unwrap().to_string();
    relay.stop_clean();
    for (to, limit) in [(&admin, "60"), (&hanging, "1")] {
        let output = forebay(&["health", "--admin", to, "--timeout", limit]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("no answer from http://127.0.0.1:") && said.lines().count() == 1, "{said}");
    }
    // Where the configuration or the environment says where to ask.
    let file = relay.directory().join("asks.yaml");
    std::fs::write(&file, format!("{configuration}admin: {{listen: '{hanging}'}}\n")).unwrap();
    let output = forebay(&["health", "--timeout", "1", "-c", file.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&output.stderr).contains(&hanging), "{output:?}");
    std::fs::write(&file, format!("{configuration}admin: {{listen: off}}\n")).unwrap();
    let output = forebay(&["health", "-c", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is nobody to ask"), "{output:?}");
    assert_eq!(forebay(&["health", "--admin", "no address"]).status.code(), Some(64));
}

fn units() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd");
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut units: Vec<_> =
        all.filter(|path| path.extension().is_some_and(|is| is == "service" || is == "socket")).collect();
    units.sort();
    assert_eq!(units.len(), 2, "{units:?}");
    units
}

/// Copies of the units whose program is one that is there: `verify` looks for it.
fn verifiable(folder: &Path) -> Vec<PathBuf> {
    let copy = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace("/usr/bin/forebay", env!("CARGO_BIN_EXE_forebay"));
        let copy = folder.join(path.file_name().unwrap());
        std::fs::write(&copy, text).unwrap();
        copy
    };
    units().into_iter().map(copy).collect()
}

#[test]
fn the_units_are_understood_by_systemd_and_expose_little() {
    let Some(analyze) = installed("systemd-analyze") else {
        assert!(std::env::var_os("CI").is_none(), "CI has systemd");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let units = verifiable(folder.path());
    let verified = Command::new(&analyze).args(["verify", "--man=no"]).args(&units).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    // What other units of the machine are like is none of ours.
    let ours = said.lines().filter(|line| line.contains("forebay"));
    // Before 253 the type in front of it holds, as the unit says.
    let of_old = |line: &&str| line.ends_with("Failed to parse service type, ignoring: notify-reload");
    let ours: Vec<&str> = ours.filter(|line| !of_old(line)).collect();
    assert!(verified.status.success() && ours.is_empty(), "{said}");
    let security = |unit: &Path| {
        let arguments = ["security", "--offline=yes", "--threshold=15", "--no-pager"];
        Command::new(&analyze).args(arguments).arg(unit).output().unwrap()
    };
    let service = units.iter().find(|unit| unit.extension().is_some_and(|is| is == "service")).unwrap();
    let looked = security(service);
    assert!(looked.status.success(), "{}", String::from_utf8_lossy(&looked.stdout));
    // The check can fail: without its sandbox the same unit is over the threshold.
    let text = std::fs::read_to_string(service).unwrap();
    let bare: String =
        text.lines().filter(|line| !line.starts_with("System")).map(|line| format!("{line}\n")).collect();
    let open = folder.path().join("open.service");
    std::fs::write(&open, bare).unwrap();
    assert!(!security(&open).status.success());
}
