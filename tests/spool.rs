//! The spool through the whole relay: outages, restarts, `kill -9`, limits, and what an operator sees of them.
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
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use support::certificates::Certificates;
use support::collector::{Collector, Manner, number_of};
use support::load::{missing_and_duplicates, numbered};
use support::relay::{Relay, Status, count, remove_own_variables};
use support::senders::*;
use support::waiting::{PATIENCE, eventually, within};

const INPUT: &str = "inputs: {lan: {listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0']}}\n";
const ALL: &str = "routes: [{name: all, intake_key: key-of-all}]\n";

/// A spool's folder and a collector, which outlive the relays that use them.
struct Site {
    certificates: Certificates,
    collector: Collector,
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let certificates = Certificates::new();
        let collector = Collector::start(&certificates);
        Self { certificates, collector, folder: tempfile::tempdir().unwrap() }
    }

    fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    /// `spool` are more keys of the spool, `rest` the routes and what else there is.
    fn configuration(&self, spool: &str, rest: &str) -> String {
        let output = self.collector.output(&self.certificates, "");
        let dir = self.spool().display().to_string();
        format!("outputs: {{sekoia: {{{output}}}}}\nspool: {{dir: {dir}, min_free: 0, {spool}}}\n{INPUT}{rest}")
    }

    fn start(&self, spool: &str, rest: &str) -> Relay {
        Relay::start(&self.configuration(spool, rest))
    }

    /// Holds that every number below `end` has arrived, and in order, but for what was sent again.
    #[track_caller]
    fn assert_all_in_order(&self, end: u64) {
        let (missing, _) = missing_and_duplicates(&self.collector.numbers(), end);
        assert!(missing.is_empty(), "missing: {missing:?}");
        let mut highest = 0;
        let mut seen = std::collections::BTreeSet::new();
        for number in self.collector.in_order() {
            // What was seen before may come again; what is new comes in order.
            if seen.insert(number) {
                assert!(number >= highest, "{number} after {highest}");
                highest = number;
            }
        }
    }
}

/// A sender of numbered messages, one connection.
fn send_numbers(to: SocketAddr, numbers: std::ops::Range<u64>) {
    let text: String = numbers.map(numbered).collect();
    send_tcp(to, text.as_bytes());
}

fn routed(relay: &Relay, messages: u64) {
    relay.status_when("messages to be routed", |status| count(status.route("all"), "routed") >= messages);
}

/// The status once every account has its sum.
fn balanced(relay: &Relay) -> Status {
    relay.status_when("the books to balance", Status::is_balanced)
}

/// What `du` counts, bytes.
fn du(path: &Path) -> u64 {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return 0 };
    let own = metadata.blocks() * 512;
    let Ok(entries) = std::fs::read_dir(path) else { return own };
    own + entries.flatten().map(|entry| du(&entry.path())).sum::<u64>()
}

#[test]
fn an_outage_goes_to_the_disk_and_comes_back_in_order() {
    let site = Site::new();
    let mut relay = site.start("max_size: 1GiB", &format!("memory: {{max: 24MiB}}\n{ALL}"));
    let lan = relay.address("lan", "tcp");
    send_numbers(lan, 0..1_000);
    eventually("the first to arrive", || match site.collector.numbers().len() {
        1_000 => Ok(()),
        some => Err(some.to_string()),
    });
    site.collector.stop();
    // Some 30 MB: several times what memory.max leaves for queues.
    send_numbers(lan, 1_000..200_000);
    let status =
        relay.status_when("the disk to hold most of it", |status| count(status.route("all"), "spooled") > 100_000);
    balanced(&relay);
    assert_eq!(count(status.route("all"), "dropped"), 0);
    assert!(relay.metric("forebay_spool_state", "state=\"ready\"") == 1);
    site.collector.restart();
    eventually("everything to arrive", || match site.collector.numbers().len() {
        200_000 => Ok(()),
        some => Err(some.to_string()),
    });
    site.assert_all_in_order(200_000);
    // Back to memory: what comes now does not touch the disk.
    relay.status_when("the disk to be empty", |status| count(status.route("all"), "spooled") == 0);
    balanced(&relay);
    send_numbers(lan, 200_000..201_000);
    eventually("the last to arrive", || match site.collector.numbers().len() {
        201_000 => Ok(()),
        some => Err(some.to_string()),
    });
    site.assert_all_in_order(201_000);
    relay.stop_clean();
}

#[test]
fn a_stop_while_the_far_end_is_gone_is_quick_and_the_next_run_sends_first_what_was_left() {
    let site = Site::new();
    site.collector.stop();
    let mut relay = site.start("", ALL);
    send_numbers(relay.address("lan", "tcp"), 0..20_000);
    routed(&relay, 20_000);
    let ordered = Instant::now();
    relay.terminate();
    let status = relay.wait();
    assert_eq!(status.code(), Some(0), "{}", relay.log_text());
    assert!(ordered.elapsed() < Duration::from_secs(3), "{:?}", ordered.elapsed());
    relay.wait_for_log("in the spool");

    // The same again, behind it.
    let mut relay = site.start("", ALL);
    relay.status_when("the first run's to be known", |status| count(status.route("all"), "recovered") == 20_000);
    send_numbers(relay.address("lan", "tcp"), 20_000..40_000);
    routed(&relay, 20_000);
    relay.terminate();
    assert_eq!(relay.wait().code(), Some(0), "{}", relay.log_text());

    site.collector.restart();
    let mut relay = site.start("", ALL);
    send_numbers(relay.address("lan", "tcp"), 40_000..60_000);
    eventually("everything to arrive", || match site.collector.numbers().len() {
        60_000 => Ok(()),
        some => Err(some.to_string()),
    });
    // What is left goes first in its own lane; new messages may have come to the other shard's.
    let arrived = site.collector.in_order();
    let (left, new): (Vec<u64>, Vec<u64>) = arrived.iter().partition(|number| **number < 40_000);
    assert_eq!(arrived[0], 0);
    assert_eq!((left, new), ((0..40_000).collect(), (40_000..60_000).collect()));
    let status = balanced(&relay);
    assert_eq!(count(status.route("all"), "recovered"), 40_000);
    relay.stop_clean();
}

#[test]
fn nothing_that_a_relay_had_stored_is_lost_when_it_is_killed_thirty_times() {
    const KILLS: u64 = 30;
    const APART: u64 = 1_000_000;
    let site = Site::new();
    let mut promised = Vec::new();
    for kill in 0..KILLS {
        // In every third run the collector is there, in the others the disk takes it all.
        if kill % 3 == 0 {
            site.collector.restart()
        } else {
            site.collector.stop()
        }
        let relay = site.start("durability: always, sync: every_batch, max_size: 1GiB", ALL);
        let mut stream = TcpStream::connect(relay.address("lan", "tcp")).unwrap();
        let sender = std::thread::spawn(move || {
            let mut number = kill * APART;
            // Until the relay is killed.
            loop {
                let burst: String = (number..number + 50).map(numbered).collect();
                number += 50;
                if stream.write_all(burst.as_bytes()).is_err() {
                    return;
                }
            }
        });
        // In turn early and late.
        let wanted = 2_000 + 3_000 * (kill % 5);
        let stored = eventually("messages to be stored", || {
            let stored = relay.metric_alone("forebay_spool_written_messages_total");
            if stored >= wanted { Ok(stored) } else { Err(stored.to_string()) }
        });
        relay.signal("KILL");
        drop(relay);
        sender.join().unwrap();
        promised.push((kill, stored));
    }
    site.collector.restart();
    let mut relay = site.start("durability: always", ALL);
    eventually("the spool to be open", || match relay.metric("forebay_spool_state", "state=\"ready\"") {
        1 => Ok(()),
        _ => Err("it is not".to_owned()),
    });
    eventually("everything to leave the spool", || {
        let status = relay.status();
        let left = count(status.route("all"), "spooled") + count(status.route("all"), "waiting");
        if left == 0 { Ok(()) } else { Err(format!("{left} left")) }
    });
    // What has left the relay's queues may still be on its way.
    eventually("all that was stored to arrive", || {
        let arrived = site.collector.numbers();
        for (kill, stored) in &promised {
            let missing = (kill * APART..kill * APART + stored).find(|number| !arrived.contains_key(number));
            if let Some(missing) = missing {
                return Err(format!("{missing} of {stored} stored in run {kill} is missing"));
            }
        }
        Ok(())
    });
    balanced(&relay);
    relay.stop_clean();
}

#[test]
fn a_second_relay_on_the_same_spool_says_who_holds_it() {
    let site = Site::new();
    let first = site.start("", ALL);
    let file = site.folder.path().join("second.yaml");
    std::fs::write(&file, format!("admin: {{listen: off}}\n{}", site.configuration("", ALL))).unwrap();
    let mut second = Command::new(env!("CARGO_BIN_EXE_forebay"));
    remove_own_variables(&mut second);
    let second = second.args(["run", "-c"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(&first.pid().to_string()), "{said}");
    assert!(!said.contains("listening"), "{said}");
}

#[test]
fn a_spool_of_a_newer_version_is_left_alone() {
    let site = Site::new();
    std::fs::create_dir(site.spool()).unwrap();
    std::fs::write(site.spool().join("format"), "forebay spool 1000\n").unwrap();
    let file = site.folder.path().join("forebay.yaml");
    std::fs::write(&file, format!("admin: {{listen: off}}\n{}", site.configuration("", ALL))).unwrap();
    let mut relay = Command::new(env!("CARGO_BIN_EXE_forebay"));
    remove_own_variables(&mut relay);
    let relay = relay.args(["run", "-c"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&relay.stderr).into_owned();
    assert_eq!(relay.status.code(), Some(1), "{said}");
    assert!(said.contains("1000") && said.contains("a later one has written it"), "{said}");
    assert_eq!(std::fs::read_to_string(site.spool().join("format")).unwrap(), "forebay spool 1000\n");
}

#[test]
fn what_a_route_left_that_is_gone_is_kept_shown_and_sent_when_the_route_is_back() {
    let site = Site::new();
    site.collector.stop();
    let mut relay = site.start("", ALL);
    send_numbers(relay.address("lan", "tcp"), 0..500);
    routed(&relay, 500);
    relay.terminate();
    relay.wait();

    site.collector.restart();
    let mut relay = site.start("", &ALL.replace("name: all", "name: other"));
    let line = relay.wait_for_log("not in the configuration");
    assert_eq!((&line["route"], &line["messages"]), (&"all".into(), &500.into()));
    let status = relay.status();
    assert_eq!(status.0["spool"]["orphans"][0]["route"], "all");
    assert_eq!(relay.metric_alone("forebay_spool_orphan_messages"), 500);
    relay.stop_clean();
    assert!(site.collector.texts().is_empty());

    let mut relay = site.start("", ALL);
    eventually("everything to arrive", || match site.collector.numbers().len() {
        500 => Ok(()),
        some => Err(some.to_string()),
    });
    relay.stop_clean();
}

#[test]
fn a_full_spool_drops_the_oldest_or_the_newest_or_makes_senders_wait_and_never_takes_more_than_it_may() {
    for (when_full, sent) in [("drop_oldest", 400_000_u64), ("drop_newest", 400_000), ("block", 0)] {
        let site = Site::new();
        site.collector.stop();
        let settings = format!("max_size: 16MiB, when_full: {when_full}, compression: none");
        let mut relay = site.start(&settings, &format!("memory: {{max: 24MiB}}\n{ALL}"));
        let lan = relay.address("lan", "tcp");
        let spool = site.spool();
        let mut highest = 0;
        if when_full == "block" {
            let mut stream = connect(lan);
            stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
            let burst: String = (0..1_000).map(numbered).collect();
            // Until it takes no more.
            while stream.write_all(burst.as_bytes()).is_ok() {
                highest = highest.max(du(&spool));
            }
            let status = relay.status();
            assert_eq!(count(status.route("all"), "dropped"), 0, "{when_full}");
            assert_eq!(relay.metric("forebay_spool_state", "state=\"full\""), 1);
        } else {
            for start in (0..sent).step_by(20_000) {
                send_numbers(lan, start..start + 20_000);
                highest = highest.max(du(&spool));
            }
            routed(&relay, sent);
            relay.status_when("messages to be dropped", |status| count(status.route("all"), "dropped") > 0);
            balanced(&relay);
        }
        assert!(highest <= 16 << 20, "{when_full}: {highest}");
        assert!(highest > 12 << 20, "{when_full}: {highest}");
        site.collector.restart();
        let status = relay.status_when("all to be delivered", |status| {
            let left = |name| count(status.route("all"), name);
            left("spooled") + left("waiting") == 0
        });
        balanced(&relay);
        let kept = match when_full {
            "drop_oldest" => Some(sent - 1),
            "drop_newest" => Some(0),
            _ => None,
        };
        if let Some(kept) = kept {
            eventually(&format!("{when_full} to keep {kept}"), || {
                let arrived = site.collector.numbers();
                let ends = (arrived.keys().next().copied(), arrived.keys().next_back().copied());
                if arrived.contains_key(&kept) { Ok(()) } else { Err(format!("{ends:?}")) }
            });
            let (arrived, dropped) = (site.collector.numbers().len() as u64, count(status.route("all"), "dropped"));
            assert_eq!(arrived + dropped, sent, "{when_full}");
        }
        relay.terminate();
        relay.wait();
    }
}

#[test]
fn the_folder_is_closed_to_others_and_holds_no_key() {
    let site = Site::new();
    site.collector.stop();
    let mut relay = site.start("compression: none", ALL);
    send_numbers(relay.address("lan", "tcp"), 0..2_000);
    routed(&relay, 2_000);
    relay.terminate();
    relay.wait();
    let mut files = 0;
    let mut folders = vec![site.spool()];
    while let Some(folder) = folders.pop() {
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{}", folder.display());
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.metadata().unwrap().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let path = entry.path();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
            let octets = std::fs::read(&path).unwrap();
            assert!(memchr::memmem::find(&octets, b"key-of-all").is_none(), "{}", path.display());
            files += 1;
        }
    }
    assert!(files >= 4, "{files}");
}

#[test]
fn a_spool_that_cannot_be_made_is_said_and_messages_flow_without_it() {
    let site = Site::new();
    // No permission of root's helps to make a folder where a link leads nowhere.
    std::os::unix::fs::symlink(site.folder.path().join("nowhere/spool"), site.spool()).unwrap();
    let mut relay = site.start("", ALL);
    relay.wait_for_log("cannot be opened");
    assert_eq!(relay.request("GET", "/readyz").0, 200);
    assert_eq!(relay.metric("forebay_spool_state", "state=\"failing\""), 1);
    send_numbers(relay.address("lan", "tcp"), 0..1_000);
    eventually("messages to arrive", || match site.collector.numbers().len() {
        1_000 => Ok(()),
        some => Err(some.to_string()),
    });
    // It comes back by itself.
    std::fs::remove_file(site.spool()).unwrap();
    relay.wait_for_log("the spool works again");
    assert_eq!(relay.metric("forebay_spool_state", "state=\"ready\""), 1);
    site.collector.stop();
    send_numbers(relay.address("lan", "tcp"), 1_000..2_000);
    // Those before may be sent again: they are spooled as well.
    relay.status_when("messages to be spooled", |status| count(status.route("all"), "spooled") >= 1_000);
    site.collector.restart();
    eventually("messages to arrive", || match site.collector.numbers().len() {
        2_000 => Ok(()),
        some => Err(some.to_string()),
    });
    // Those that are sent again come through another shard's connection, perhaps.
    relay.status_when("nothing to be left", |status| {
        count(status.route("all"), "spooled") + count(status.route("all"), "waiting") == 0
    });
    relay.stop_clean();
}

#[test]
fn a_waiting_message_is_on_the_disk_after_spill_after_though_memory_has_room() {
    let site = Site::new();
    site.collector.stop();
    let relay = site.start("spill_after: 200ms", ALL);
    send_numbers(relay.address("lan", "tcp"), 0..10);
    relay.status_when("ten on the disk", |status| count(status.route("all"), "spooled") == 10);
    balanced(&relay);
    relay.signal("KILL");
    drop(relay);
    site.collector.restart();
    let mut relay = site.start("", ALL);
    eventually("ten to arrive", || match site.collector.in_order() {
        all if all == (0..10).collect::<Vec<_>>() => Ok(()),
        some => Err(format!("{some:?}")),
    });
    relay.stop_clean();
}

#[test]
fn with_an_encryption_key_nothing_of_a_message_is_readable_on_the_disk() {
    let site = Site::new();
    site.collector.stop();
    let key = site.folder.path().join("key");
    std::fs::write(&key, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let settings = format!("compression: none, encryption_key_file: {}", key.display());
    let mut relay = site.start(&settings, ALL);
    send_numbers(relay.address("lan", "tcp"), 0..1_000);
    routed(&relay, 1_000);
    relay.terminate();
    assert_eq!(relay.wait().code(), Some(0));
    let segments = std::fs::read_dir(site.spool().join("segments")).unwrap().flatten();
    let octets: Vec<u8> = segments.flat_map(|entry| std::fs::read(entry.path()).unwrap()).collect();
    assert!(octets.len() > 50_000 && memchr::memmem::find(&octets, b"water").is_none());
    site.collector.restart();
    let mut relay = site.start(&settings, ALL);
    eventually("everything to arrive", || match site.collector.numbers().len() {
        1_000 => Ok(()),
        some => Err(some.to_string()),
    });
    relay.stop_clean();
}

#[test]
fn an_outage_of_one_destination_does_not_delay_another() {
    let site = Site::new();
    let lives = Collector::start(&site.certificates);
    let outputs = format!(
        "outputs:\n  sekoia: {{{}}}\n  archive: {{{}}}\n",
        site.collector.output(&site.certificates, ""),
        lives.output(&site.certificates, ""),
    );
    let routes = "routes:\n  - {name: gone, program: counter, intake_key: key-of-gone, output: sekoia}\n  - \
                  {name: lives, intake_key: key-of-lives, output: archive}\n";
    let dir = site.spool().display().to_string();
    let spool = format!("spool: {{dir: {dir}, min_free: 0}}\nmemory: {{max: 24MiB}}\n");
    site.collector.stop();
    let relay = Relay::start(&format!("{outputs}{spool}{INPUT}{routes}"));
    let lan = relay.address("lan", "tcp");
    // On one connection: far more than memory holds for the one that is gone, then one for the other.
    let mut stream = connect(lan);
    let text: String = (0..200_000).map(numbered).collect();
    let began = Instant::now();
    stream.write_all(text.as_bytes()).unwrap();
    stream.write_all(b"<13>Nov 22 10:00:00 gate app[1]: the other one\n").unwrap();
    let arrived = within(PATIENCE, || if lives.texts().len() == 1 { Ok(()) } else { Err(String::new()) });
    assert!(arrived.is_ok(), "after {:?}", began.elapsed());
    finish(stream);
    balanced(&relay);
}

#[test]
fn new_messages_arrive_within_a_second_while_a_backlog_goes_out_behind_them() {
    let site = Site::new();
    site.collector.stop();
    let configuration = site.configuration("", ALL).replace("sekoia: {", "sekoia: {order: newest_first, ");
    let mut relay = Relay::start(&configuration);
    let lan = relay.address("lan", "tcp");
    let backlog = 60_000;
    let filler = "the lock keeper writes down every barge ".repeat(20);
    let line = |number| format!("<134>Nov 22 10:00:00 gate slow[7]: n={number} {filler}\n");
    support::senders::send_tcp(lan, (0..backlog).map(line).collect::<String>().as_bytes());
    relay.status_when("the backlog to be on the disk", |status| count(status.route("all"), "spooled") > backlog / 2);
    site.collector.behave(Manner::ReadsSlowly);
    site.collector.restart();
    eventually("the backlog to go out", || match site.collector.look(|seen| seen.frames.len()) {
        0 => Err("nothing has arrived".to_owned()),
        _ => Ok(()),
    });
    let mut stream = TcpStream::connect(lan).unwrap();
    let mut waits: Vec<Duration> = (backlog..backlog + 100)
        .map(|number| {
            let sent_at = Instant::now();
            stream.write_all(line(number).as_bytes()).unwrap();
            eventually("a new message to arrive", || {
                let is_it = |frame: &Vec<u8>| number_of(frame) == Some(number);
                let has_come = site.collector.look(|seen| seen.frames.iter().rev().take(5_000).any(is_it));
                if has_come { Ok(()) } else { Err(number.to_string()) }
            });
            sent_at.elapsed()
        })
        .collect();
    let left = count(relay.status().route("all"), "spooled");
    assert!(left > 0, "the backlog went out meanwhile: nothing was shown");
    waits.sort_unstable();
    assert!(waits[98] < Duration::from_secs(1), "{waits:?}");
    drop(stream);
    site.collector.behave(Manner::Reads);
    eventually("all to arrive", || match missing_and_duplicates(&site.collector.numbers(), backlog + 100).0 {
        missing if missing.is_empty() => Ok(()),
        missing => Err(format!("{missing:?}")),
    });
    balanced(&relay);
    relay.stop_clean();
}
