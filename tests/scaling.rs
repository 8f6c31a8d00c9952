//! Three relays behind a real HAProxy, with the configuration that `deploy/haproxy` has: they share the senders, one that
//! leaves loses nothing, one that is killed loses what docs/SCALING.md says and no more.
//!
//! Where HAProxy is not installed, a test says so and checks nothing.
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

#[path = "scaling/load.rs"]
mod load;
#[path = "support/harness.rs"]
mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use load::{Connection, EACH, Load, PER_WRITE, RelpLoad};
use support::collector::Collector;
use support::installed_in_ci;
use support::relay::{Relay, count};
use support::waiting::eventually;

/// Relays, as many as `deploy/haproxy/haproxy.cfg` has.
const RELAYS: usize = 3;

/// Senders; each comes from an address of its own.
const SENDERS: usize = 12;

/// Between two checks; the file has 2 s.
const CHECKS: &str = "inter 100ms";

/// A running HAProxy; dropping it ends it.
struct Haproxy {
    child: Child,
    directory: tempfile::TempDir,
    syslog: SocketAddr,
    relp: SocketAddr,
}

impl Haproxy {
    /// Runs the shipped file, its addresses replaced by those of `relays`, and `replaced` by others.
    fn start(executable: &Path, relays: &[Relay], replaced: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/haproxy/haproxy.cfg");
        let mut text = std::fs::read_to_string(shipped).unwrap();
        let mut replace = |from: &str, to: &str| {
            assert!(text.contains(from), "no {from:?} in haproxy.cfg");
            text = text.replace(from, to);
        };
        replaced.iter().for_each(|(from, to)| replace(from, to));
        // What takes root, or a service manager.
        for line in ["    user haproxy\n", "    group haproxy\n", "    log /dev/log local0\n"] {
            replace(line, "");
        }
        replace("maxconn 20000", "maxconn 500");
        replace("inter 2s", CHECKS);
        replace("/run/haproxy", directory.path().to_str().unwrap());
        replace("bind :514\n", "bind fd@0\n");
        replace("bind :2514\n", "bind fd@1\n");
        replace("bind :6514\n", &format!("bind unix@{}/tls\n", directory.path().display()));
        for (index, relay) in relays.iter().enumerate() {
            let admin = relay.admin().port();
            let (lan, relp) = (relay.address("lan", "tcp"), relay.address("relp", "relp+tcp"));
            // Nobody comes to the section for TLS.
            for (port, address) in [(514, lan), (2514, relp), (6514, lan)] {
                replace(&format!("10.0.0.1{}:{port}\n", index + 1), &format!("{address} check port {admin}\n"));
            }
        }
        let file = directory.path().join("haproxy.cfg");
        std::fs::write(&file, text).unwrap();
        let listeners = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [syslog, relp] = [0, 1].map(|at| listeners[at].local_addr().unwrap());
        let [stdin, stdout] = listeners.map(|listener| Stdio::from(OwnedFd::from(listener)));
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new(executable);
        let child = command.args(["-db", "-f"]).arg(&file).stdin(stdin).stdout(stdout).stderr(log).spawn().unwrap();
        let haproxy = Self { child, directory, syslog, relp };
        for relay in 0..relays.len() {
            haproxy.wait_for_state(relay, "UP");
        }
        haproxy
    }

    /// What HAProxy thinks of a relay: whether it is up, and checked.
    #[track_caller]
    fn wait_for_state(&self, relay: usize, state: &str) {
        let row = format!("syslog,relay-{}", relay + 1);
        eventually(&format!("{row} to be {state}"), || {
            let table = self.table().map_err(|error| error.to_string())?;
            let row = table.lines().find(|line| line.starts_with(&row)).ok_or("no such row")?;
            let fields: Vec<&str> = row.split(',').collect();
            // `show stat`: 17 is the status, 36 that of the last check.
            if fields[17] == state && fields[36].starts_with("L7") { Ok(()) } else { Err(row.to_owned()) }
        });
    }

    fn table(&self) -> std::io::Result<String> {
        let mut socket = UnixStream::connect(self.directory.path().join("admin.sock"))?;
        socket.write_all(b"show stat\n")?;
        let mut table = String::new();
        socket.read_to_string(&mut table)?;
        Ok(table)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            println!(
                "HAProxy's log:\n{}",
                std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
            );
        }
    }
}

/// What a test has each relay configured with.
#[derive(Clone, Copy)]
struct Keys {
    /// Of the process, a line each.
    process: &'static str,
    /// More of the spool.
    spool: &'static str,
    /// When RELP acknowledges: as `spooled` everything is stored.
    acknowledge: &'static str,
}

const KEYS: Keys = Keys { process: "", spool: "", acknowledge: "spooled" };

/// Three relays, HAProxy in front of them, a collector behind them.
struct Site {
    haproxy: Haproxy,
    relays: Vec<Relay>,
    spools: tempfile::TempDir,
    collector: Collector,
}

impl Site {
    /// `None` where HAProxy is not installed.
    fn start(keys: &Keys, replaced: &[(&str, &str)]) -> Option<Self> {
        let executable = installed_in_ci("haproxy")?;
        let (collector, spools) = (Collector::start_plain(), tempfile::tempdir().unwrap());
        let relay = |index| Relay::start(&configuration(&collector, &spools.path().join(format!("{index}")), keys));
        let relays: Vec<Relay> = (0..RELAYS).map(relay).collect();
        Some(Self { haproxy: Haproxy::start(&executable, &relays, replaced), relays, spools, collector })
    }

    fn spool(&self, relay: usize) -> PathBuf {
        self.spools.path().join(format!("{relay}"))
    }

    fn received(&self, relay: usize) -> u64 {
        count(self.relays[relay].status().input("lan"), "received")
    }

    /// Waits until each of `relays` has received `more` than now.
    #[track_caller]
    fn wait_for_more(&self, relays: &[usize], more: u64) {
        let before: Vec<u64> = relays.iter().map(|relay| self.received(*relay)).collect();
        eventually("relays to receive", || {
            let now: Vec<u64> = relays.iter().map(|relay| self.received(*relay)).collect();
            let all = now.iter().zip(&before).all(|(now, before)| *now >= before + more);
            if all { Ok(()) } else { Err(format!("{before:?}, then {now:?}")) }
        });
    }

    /// Numbers that were sent and have not arrived.
    fn missing(&self, connections: &[Connection]) -> BTreeSet<u64> {
        let arrived = self.collector.numbers();
        connections.iter().flat_map(Connection::numbers).filter(|number| !arrived.contains_key(number)).collect()
    }

    #[track_caller]
    fn wait_for_all(&self, connections: &[Connection]) {
        eventually("everything to arrive", || {
            let missing = self.missing(connections);
            let few: Vec<&u64> = missing.iter().take(10).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{} are missing, such as {few:?}", missing.len())) }
        });
    }

    /// How many arrived more than once.
    fn duplicates(&self) -> u64 {
        self.collector.numbers().values().map(|times| times - 1).sum()
    }

    /// What each connection brought has first arrived in its order.
    fn assert_in_order(&self, connections: &[Connection]) {
        let arrived = self.collector.in_order();
        let mut seen = BTreeSet::new();
        let first: Vec<u64> = arrived.into_iter().filter(|number| seen.insert(*number)).collect();
        for connection in connections {
            let range = connection.sent.clone();
            let of_it: Vec<u64> = first.iter().copied().filter(|number| range.contains(number)).collect();
            assert!(of_it.is_sorted(), "{range:?} arrived out of order");
        }
    }

    /// `forebay spool send`: what is in this relay's spool, with another one's configuration.
    fn hand_over(&self, from: usize, to: usize) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        support::relay::remove_own_variables(&mut command);
        let file = self.relays[to].directory().join("forebay.yaml");
        command.args(["spool", "send", "-c"]).arg(file).arg("--dir").arg(self.spool(from)).output().unwrap()
    }
}

/// One relay's; all of them are alike but for their spools.
fn configuration(collector: &Collector, spool: &Path, keys: &Keys) -> String {
    format!(
        "inputs:\n  lan: {{listen: 'tcp://127.0.0.1:0', proxy_protocol: 127.0.0.1}}\n  \
         relp: {{listen: 'relp+tcp://127.0.0.1:0', proxy_protocol: 127.0.0.1, acknowledge: {}}}\n\
         outputs: {{o: {{to: 'tcp://{}'}}}}\n\
         routes:\n  - name: all\n    intake_key: key-of-all\n    \
         template: '<%pri%>1 - %fromhost-ip% %app-name% - - [SEKOIA@53288 intake_key=\"%intake_key%\"] %msg%\\n'\n\
         spool: {{dir: {}, max_size: 64MiB, {}}}\n{}",
        keys.acknowledge,
        collector.address,
        spool.display(),
        keys.spool,
        keys.process
    )
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_shipped_files_are_what_haproxy_and_keepalived_take() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    for (program, check, file) in
        [("haproxy", "-c", "haproxy/haproxy.cfg"), ("keepalived", "-t", "keepalived/keepalived.conf")]
    {
        let Some(executable) = installed_in_ci(program) else { continue };
        let run = |file: &Path| Command::new(&executable).args([check, "-f"]).arg(file).output().unwrap();
        let output = run(&deploy.join(file));
        assert!(output.status.success(), "{program}: {}", text(&output));
        // And it would say so.
        let wrong = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            wrong.path(),
            std::fs::read_to_string(deploy.join(file)).unwrap() + "\nnothing_that_is_known 1\n",
        )
        .unwrap();
        assert!(!run(wrong.path()).status.success(), "{program} takes anything");
    }
}

#[test]
fn senders_are_spread_over_all_relays_and_each_message_says_who_sent_it() {
    for header in ["send-proxy-v2", "send-proxy"] {
        let Some(site) = Site::start(&KEYS, &[("send-proxy-v2", header)]) else { return };
        let load = Load::start(site.haproxy.syslog, SENDERS);
        site.wait_for_more(&[0, 1, 2], 300);
        let connections = load.finish();
        assert_eq!(connections.len(), SENDERS, "a connection broke: {connections:?}");
        site.wait_for_all(&connections);
        assert_eq!(site.duplicates(), 0);
        site.assert_in_order(&connections);
        for frame in site.collector.look(|seen| seen.frames.clone()) {
            let number = support::collector::number_of(&frame).unwrap();
            let frame = String::from_utf8(frame).unwrap();
            let peer = load::address(number / EACH).to_string();
            assert_eq!(frame.split(' ').nth(2), Some(peer.as_str()), "{frame}");
        }
        let accepted = |relay: &Relay| relay.metric("forebay_input_accepted_connections_total", "input=\"lan\"");
        println!("{header}: {:?} connections", site.relays.iter().map(accepted).collect::<Vec<_>>());
    }
}

#[test]
fn a_relay_that_is_drained_under_load_loses_nothing() {
    let keys = Keys { process: "shutdown_delay: 2s\nshutdown_timeout: 2m\n", ..KEYS };
    let Some(mut site) = Site::start(&keys, &[]) else { return };
    let load = Load::start(site.haproxy.syslog, SENDERS);
    site.wait_for_more(&[0, 1, 2], 300);
    site.relays[0].terminate();
    site.haproxy.wait_for_state(0, "DOWN");
    let status = site.relays[0].wait();
    assert_eq!(status.code(), Some(0), "{}", site.relays[0].log_text());
    let in_spool = site.relays[0].logged("stopped; everything that was received is delivered").is_none();
    println!("something was left in the spool: {in_spool}");
    // What waits for a disk that is busy at that moment stays there.
    let sent = site.hand_over(0, 1);
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent));
    site.wait_for_more(&[1, 2], 300);
    let connections = load.finish();
    assert!(connections.len() > SENDERS, "nobody had to connect again");
    site.wait_for_all(&connections);
    println!("{} came twice", site.duplicates());
    // What was handed over comes by another connection than what was sent before: the collector may read that one first.
    if !in_spool {
        site.assert_in_order(&connections);
    }
}

#[test]
fn a_relay_that_is_drained_while_nothing_gets_out_hands_over_its_spool() {
    let keys = Keys { process: "shutdown_delay: 1s\nshutdown_timeout: 2m\n", ..KEYS };
    let Some(mut site) = Site::start(&keys, &[]) else { return };
    let load = Load::start(site.haproxy.syslog, SENDERS);
    site.wait_for_more(&[0, 1, 2], 300);
    site.collector.stop();
    site.wait_for_more(&[0, 1, 2], 300);
    site.relays[0].terminate();
    let status = site.relays[0].wait();
    assert_eq!(status.code(), Some(0), "{}", site.relays[0].log_text());
    let stopped = site.relays[0].wait_for_log("the next run sends it first");
    let left = stopped["messages"].as_u64().unwrap();
    // As long as its relay runs, a spool is sent by nobody else.
    let held = site.hand_over(1, 2);
    assert_eq!(held.status.code(), Some(1), "{}", text(&held));
    assert!(text(&held).contains("held by"), "{}", text(&held));
    site.collector.restart();
    let sent = site.hand_over(0, 1);
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent));
    println!("{left} messages were left, {}", text(&sent).lines().last().unwrap_or_default());
    site.wait_for_more(&[1, 2], 300);
    let connections = load.finish();
    site.wait_for_all(&connections);
    site.assert_in_order(&connections);
    println!("{} came twice", site.duplicates());
    assert!(text(&site.hand_over(0, 1)).contains("everything is sent"));
}

#[test]
fn a_relay_that_is_killed_loses_nothing_that_a_relp_sender_was_told_to_be_safe() {
    let Some(mut site) = Site::start(&KEYS, &[]) else { return };
    let load = RelpLoad::start(site.haproxy.relp, SENDERS);
    let taken = |site: &Site, relay: usize| count(site.relays[relay].status().input("relp"), "received");
    eventually("all relays to receive", || {
        let taken: Vec<u64> = (0..RELAYS).map(|relay| taken(&site, relay)).collect();
        if taken.iter().all(|taken| *taken > 300) { Ok(()) } else { Err(format!("{taken:?}")) }
    });
    site.relays[0].signal("KILL");
    site.relays[0].wait();
    let before = [1, 2].map(|relay| taken(&site, relay));
    eventually("the others to receive what it does not", || {
        let more = [1, 2].map(|relay| taken(&site, relay)).iter().zip(before).all(|(now, before)| *now > before + 300);
        if more { Ok(()) } else { Err("they do not".to_owned()) }
    });
    let acknowledged = load.finish();
    let sent = site.hand_over(0, 1);
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent));
    site.wait_for_all(&acknowledged);
    println!("{} came twice", site.duplicates());
}

#[test]
fn a_relay_that_is_killed_at_rest_loses_what_only_its_memory_has() {
    let overflow = Keys { spool: "spill_after: 1h", acknowledge: "received", ..KEYS };
    let always = Keys { spool: "durability: always, sync: every_batch", ..KEYS };
    for (keys, on_the_disk) in [(overflow, false), (always, true)] {
        let Some(mut site) = Site::start(&keys, &[]) else { return };
        site.collector.stop();
        let load = Load::start(site.haproxy.syslog, SENDERS);
        site.wait_for_more(&[0, 1, 2], 300);
        // All that was sent has been read, and stored where it has to be.
        let connections = load.finish();
        let sent = connections.iter().map(|connection| connection.numbers().count() as u64).sum::<u64>();
        eventually("everything to be received and stored", || {
            let received: u64 = (0..RELAYS).map(|relay| site.received(relay)).sum();
            let stored: u64 = (0..RELAYS).map(|relay| in_spool(&site.relays[relay])).sum();
            let stored = stored == if on_the_disk { sent } else { 0 };
            if received == sent && stored { Ok(()) } else { Err(format!("{received} of {sent} are received")) }
        });
        let (held, stored) = (site.received(0), in_spool(&site.relays[0]));
        site.relays[0].signal("KILL");
        site.relays[0].wait();
        site.collector.restart();
        let handed_over = site.hand_over(0, 1);
        assert_eq!(handed_over.status.code(), Some(0), "{}", text(&handed_over));
        let lost = held - stored;
        assert_eq!(lost == 0, on_the_disk);
        eventually("what is not lost to arrive", || {
            let arrived = site.collector.numbers().len() as u64;
            if arrived >= sent - lost { Ok(()) } else { Err(format!("{arrived} of {sent}, {lost} lost")) }
        });
        assert_eq!(site.missing(&connections).len() as u64, lost);
    }
}

#[test]
fn a_relay_that_is_killed_under_load_loses_the_last_of_its_own_connections_only() {
    let keys = Keys { spool: "durability: always, sync: every_batch", ..KEYS };
    let Some(mut site) = Site::start(&keys, &[]) else { return };
    let load = Load::start(site.haproxy.syslog, SENDERS);
    site.wait_for_more(&[0, 1, 2], 300);
    let stored = in_spool(&site.relays[0]) + count(site.relays[0].status().route("all"), "released");
    site.relays[0].signal("KILL");
    site.relays[0].wait();
    site.wait_for_more(&[1, 2], 300);
    let connections = load.finish();
    let sent = site.hand_over(0, 1);
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent));
    let others: Vec<Connection> =
        connections.iter().filter(|connection| !connection.is_ended_by_relay).cloned().collect();
    site.wait_for_all(&others);
    let missing = site.missing(&connections);
    let mut arrived_of_it = 0;
    for connection in connections.iter().filter(|connection| connection.is_ended_by_relay) {
        let lost: Vec<u64> = connection.numbers().filter(|number| missing.contains(number)).collect();
        // A write that failed may have come in part, or not at all: the end is lost, and nothing before what arrived.
        let end = connection.sent.end;
        let expected: Vec<u64> = (end - lost.len() as u64..end).collect();
        assert_eq!(lost, expected, "{:?}", connection.sent);
        arrived_of_it += connection.numbers().count() as u64 - lost.len() as u64;
    }
    assert!(arrived_of_it >= stored.saturating_sub(PER_WRITE), "{stored} were safe, {arrived_of_it} arrived");
    println!("{} lost of what was on its way to the relay that was killed", missing.len());
}

/// Messages that are on the disk, whatever else has them.
fn in_spool(relay: &Relay) -> u64 {
    relay.metric("forebay_route_spool_messages", "route=\"all\"")
}
