//! What disks do to the whole relay: full, frozen, and well again. It goes on in memory, says so, stays ready, comes back to
//! the spool by itself, and loses nothing that it has taken. What they do to the store alone is in `spool_faults.rs`.
//!
//! Needs root (mounts), and says so where it is not.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may panic, and says what it skips"
)]

#[path = "support/harness.rs"]
mod support;

use std::thread::{self, JoinHandle};

use support::Bench;
use support::disk::{Disk, or_skip};
use support::load::missing_and_duplicates;
use support::relay::count;
use support::senders::send_tcp;
use support::waiting::eventually;

/// More than memory holds, of these tests' relays.
const MANY: u64 = 40_000;

fn start(disk: &Disk) -> Bench {
    let dir = disk.path().join("spool");
    Bench::start(&format!(
        "inputs: {{lan: {{listen: 'tcp://127.0.0.1:0'}}}}\nmemory: {{max: 24MiB}}\n\
         spool: {{dir: {}, max_size: 1GiB, min_free: 0, compression: none}}\n{}",
        dir.display(),
        support::ROUTE_ALL
    ))
}

/// Some thousand octets each: numbers from `from` on.
fn send_long(bench: &Bench, from: u64, messages: u64) -> JoinHandle<()> {
    let to = bench.relay.address("lan", "tcp");
    thread::spawn(move || {
        let filler = "the water waits above the gate ".repeat(30);
        let line = |number| format!("<134>Nov 22 10:00:00 gate slow[7]: n={number} {filler}\n");
        send_tcp(to, (from..from + messages).map(line).collect::<String>().as_bytes());
    })
}

#[track_caller]
fn assert_all_arrive(bench: &Bench, end: u64) {
    eventually("every message to arrive", || {
        let (missing, _) = missing_and_duplicates(&bench.collector.numbers(), end);
        if missing.is_empty() { Ok(()) } else { Err(format!("missing of {end}: {missing:?} …")) }
    });
    bench
        .relay
        .status_when("the queue to be empty", |status| count(status.route("all"), "waiting") == 0)
        .assert_balanced();
}

/// Waits for a state of the spool's, and holds the relay to being ready meanwhile.
#[track_caller]
fn assert_comes_to(bench: &Bench, states: &[&str]) {
    eventually(&format!("the spool to be {states:?}"), || {
        assert_eq!(bench.relay.request("GET", "/readyz").0, 200, "it is ready whatever its disk does");
        let is = |state: &&&str| bench.relay.metric("forebay_spool_state", &format!("state=\"{state}\"")) == 1;
        states.iter().find(is).map(|_| ()).ok_or_else(|| "it is not".to_owned())
    });
}

/// Holds the relay to spooling: an outage, and more messages than memory has room for.
#[track_caller]
fn assert_spools(bench: &Bench, from: u64) -> u64 {
    bench.collector.stop();
    send_long(bench, from, MANY).join().unwrap();
    bench.collector.restart();
    assert_all_arrive(bench, from + MANY);
    from + MANY
}

#[test]
fn a_disk_that_the_spool_fills_makes_senders_wait_and_loses_nothing() {
    let Some(disk) = or_skip(Disk::ext4(32 << 20)) else { return };
    let mut bench = start(&disk);
    bench.collector.stop();
    let sender = send_long(&bench, 0, 2 * MANY);
    assert_comes_to(&bench, &["full", "failing"]);
    bench.relay.status_when("the sender to wait", |status| count(status.input("lan"), "blocked_connections") == 1);
    assert!(!sender.is_finished());
    bench.collector.restart();
    sender.join().unwrap();
    assert_all_arrive(&bench, 2 * MANY);
    assert_comes_to(&bench, &["ready"]);
    bench.relay.stop_clean();
}

#[test]
fn a_disk_that_somebody_else_fills_stops_nothing_and_is_used_again_when_it_has_room() {
    let Some(disk) = or_skip(Disk::ext4(128 << 20)) else { return };
    let mut bench = start(&disk);
    let end = assert_spools(&bench, 0);
    let file = disk.fill("core");
    // The collector is there: messages need no disk.
    send_long(&bench, end, 1_000).join().unwrap();
    assert_all_arrive(&bench, end + 1_000);
    bench.collector.stop();
    let sender = send_long(&bench, end + 1_000, MANY);
    assert_comes_to(&bench, &["full", "failing"]);
    std::fs::remove_file(file).unwrap();
    // Back by itself: what is sent does not fit into memory, and the collector is still away.
    sender.join().unwrap();
    bench.collector.restart();
    assert_all_arrive(&bench, end + 1_000 + MANY);
    bench.relay.stop_clean();
}

#[test]
fn a_disk_that_hangs_stops_nothing_and_goes_on_where_it_was() {
    let Some(disk) = or_skip(Disk::ext4(128 << 20)) else { return };
    let mut bench = start(&disk);
    let end = assert_spools(&bench, 0);
    let frozen = disk.freeze();
    send_long(&bench, end, 1_000).join().unwrap();
    assert_all_arrive(&bench, end + 1_000);
    // Now it is wanted: the spool's thread waits for the disk, and nobody waits for the thread.
    bench.collector.stop();
    let sender = send_long(&bench, end + 1_000, MANY);
    bench.relay.status_when("the sender to wait", |status| count(status.input("lan"), "blocked_connections") == 1);
    assert_eq!(bench.relay.request("GET", "/readyz").0, 200);
    drop(frozen);
    sender.join().unwrap();
    bench.collector.restart();
    assert_all_arrive(&bench, end + 1_000 + MANY);
    bench.relay.stop_clean();
}
