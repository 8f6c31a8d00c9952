//! Spools that somebody holds: the commands ask whoever that is.

use std::thread;

use crossbeam_channel as channel;
use forebay::batch::Seq;
use forebay::spool::block::{LaneName, Meta};
use forebay::spool::control::{self, Answer, Op, Request};
use forebay::spool::store::Store;

use super::support::collector::Collector;
use super::support::relay::Relay;
use super::support::senders::send_tcp;
use super::support::waiting::eventually;
use super::*;

/// Holds the spool as a relay does, while `ask` runs.
fn held<T>(spool: &Spool, ask: impl FnOnce() -> T) -> (T, Vec<Op>) {
    let mut store = Store::open(spool.options()).expect("it opens");
    let (requests_tx, requests_rx) = channel::bounded::<Request>(1);
    let server = control::serve(&spool.path(), requests_tx).expect("a socket");
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let mut seen = Vec::new();
            for Request { op, reply } in requests_rx {
                seen.push(op.clone());
                drop(reply.send(control::handle(op, &mut store)));
            }
            store.close().expect("it closes");
            seen
        });
        let told = ask();
        drop(server);
        (told, worker.join().expect("it ends"))
    })
}

#[test]
fn a_running_relay_answers_for_its_spool() {
    let spool = Spool::new();
    let (exported, seen) = held(&spool, || {
        let stat = spool.run("stat", &["--json"]).well().json().remove(0);
        assert!(stat["held_by"].as_str().is_some_and(|by| by.contains(&std::process::id().to_string())), "{stat}");
        assert_eq!(spool.run("ls", &[]).well().lines().len(), 3);
        assert_eq!(words(&spool.run("cat", &["--route", "web"]).well()), ["one", "two", "three"]);
        spool.run("verify", &[]).well();
        let exported = spool.run("export", &["--format", "json"]).well();
        spool.run_with("import", &["--route", "copy"], &exported.bytes).well();
        assert_eq!(spool.run("cat", &["--route", "copy"]).well().lines().len(), 4);
        let dropped = spool.run("drop", &["--route", "web", "--yes"]).well();
        assert_eq!(dropped.out, "web: dropped 3 messages in 2 blocks\n");
        exported.out
    });
    for (what, is) in [
        ("stat", seen.contains(&Op::Stat)),
        ("import", seen.iter().any(|op| matches!(op, Op::Import { records: 4, .. }))),
        ("sync", seen.contains(&Op::Sync)),
    ] {
        assert!(is, "the relay was not asked to {what}: {seen:?}");
    }
    // The relay has ended: what was done is there.
    let after = spool.run("export", &["--format", "json", "--route", "copy"]).well();
    assert_eq!(
        after.out,
        exported
            .replace("\"route\":\"web\"", "\"route\":\"copy\"")
            .replace("\"route\":\"firewall\"", "\"route\":\"copy\"")
    );
    assert_eq!(spool.run("cat", &["--route", "web"]).well().out, "");
}

#[test]
fn a_listing_of_many_pages_is_whole() {
    let spool = Spool::empty(None);
    let blocks = control::PAGE_MAX * 2 + 1;
    let mut store = Store::open(spool.options()).expect("it opens");
    let lane = LaneName { route: "many".to_owned(), shard: 0 };
    let mut seq = Seq::default();
    for _ in 0..blocks {
        seq = seq.next(NOON_US, 0);
        store.append(&lane, Meta { seq, records: 1, oldest_us: NOON_US, newest_us: NOON_US }, b"").expect("appended");
    }
    store.close().expect("it closes");
    let seqs = |ran: &Ran| -> Vec<u64> { ran.json().iter().map(|block| block["seq"].as_u64().unwrap()).collect() };
    let stopped = seqs(&spool.run("ls", &["--json"]).well());
    assert_eq!(stopped.len(), blocks);
    assert!(stopped.is_sorted(), "{stopped:?}");
    let (running, _) = held(&spool, || seqs(&spool.run("ls", &["--json"]).well()));
    assert_eq!(running, stopped);
    let (dropped, seen) = held(&spool, || spool.run("drop", &["--all", "--yes"]).well().out);
    assert_eq!(dropped, format!("many: dropped {blocks} messages in {blocks} blocks\n"));
    let steps = seen.iter().filter(|op| matches!(op, Op::Drop { .. })).count();
    assert_eq!(steps, blocks / control::DROPS_MAX as usize + 1, "in steps, between which a relay does other things");
}

#[test]
fn an_import_that_finds_the_spool_full_says_what_to_do() {
    let spool = Spool::empty(None);
    let mut store = Store::open(Options { max_size: 4 << 20, ..spool.options() }).expect("it opens");
    let import = || Op::Import {
        route: "web".to_owned(),
        records: 1,
        oldest_us: NOON_US,
        newest_us: NOON_US,
        plain: vec![7; 256 << 10],
    };
    let answers: Vec<Answer> = (0..32).map(|_| control::handle(import(), &mut store)).collect();
    assert_eq!(answers[0], Answer::Done);
    let Some(Answer::Failed(why)) = answers.last() else { panic!("32 blocks of 256 KiB fit into 4 MiB") };
    assert!(why.contains("raise spool.max_size"), "{why}");
    let Answer::Stat(stat) = control::handle(Op::Stat, &mut store) else { panic!("no state") };
    let imported = answers.iter().filter(|answer| **answer == Answer::Done).count() as u64;
    assert_eq!((stat.lanes[0].shard, stat.lanes[0].blocks), (control::IMPORT_SHARD, imported));
}

#[test]
fn a_spool_whose_holder_does_not_listen_is_not_touched() {
    let spool = Spool::new();
    let store = Store::open(spool.options()).expect("it opens");
    let ran = spool.run("stat", &[]).ended(1, "does not answer on its socket");
    assert!(ran.err.contains(&std::process::id().to_string()), "who holds it: {}", ran.err);
    // That needs no lock.
    spool.run("verify", &[]).well();
    drop(store);
    spool.run("stat", &[]).well();
}

#[test]
fn root_leaves_no_files_in_a_spool_of_another_user() {
    let spool = Spool::new();
    if std::os::unix::fs::chown(spool.path(), Some(12_345), None).is_err() {
        println!("skipped: only root can give a folder away");
        return;
    }
    spool.run("stat", &[]).ended(1, "sudo -u '#12345'");
    // A relay that runs is asked, whoever it is; and reading alone leaves nothing behind.
    held(&spool, || spool.run("stat", &[]).well());
    spool.run("verify", &[]).well();
}

/// A relay with two routes, a spool that everything goes through, and a collector that is not there yet.
fn relay(spool: &Spool, collector: &Collector) -> Relay {
    collector.stop();
    Relay::start(&format!(
        "inputs: {{lan: {{listen: ['tcp://127.0.0.1:0']}}}}\n\
         outputs: {{out: {{to: 'tcp://{}', replay_window: 0}}}}\n\
         routes: [{{name: web, program: nginx, intake_key: key-of-web-0000}}, {{name: rest, intake_key: key-of-rest-000}}]\n\
         spool: {{dir: {}, max_size: 1GiB, min_free: 0, durability: always, sync: every_batch}}\n",
        collector.address,
        spool.path().display()
    ))
}

fn send(relay: &Relay, program: &str, count: usize) {
    let messages: Vec<String> =
        (0..count).map(|number| format!("<30>Nov 22 12:00:00 h {program}[1]: number {number}\n")).collect();
    send_tcp(relay.address("lan", "tcp"), messages.concat().as_bytes());
}

/// Messages of a route, as `stat` counts them.
fn count(spool: &Spool, route: &str) -> u64 {
    let stat = spool.run("stat", &["--json"]).well().json().remove(0);
    let routes = stat["routes"].as_array().expect("routes").clone();
    let found = routes.iter().find(|found| found["name"] == route);
    found.map_or(0, |found| found["messages"].as_u64().expect("a count"))
}

fn wait_for_count(spool: &Spool, route: &str, expected: u64) {
    eventually("messages in the spool", || match count(spool, route) {
        found if found == expected => Ok(()),
        found => Err(format!("{found} of {expected}")),
    });
}

#[test]
fn what_is_imported_into_a_running_relay_is_sent_behind_the_rest() {
    let (spool, collector) = (Spool::empty(None), Collector::start_plain());
    let relay = relay(&spool, &collector);
    send(&relay, "nginx", 3_000);
    send(&relay, "sshd", 50);
    wait_for_count(&spool, "web", 3_000);
    wait_for_count(&spool, "rest", 50);
    let exported = spool.run("export", &["--route", "rest", "--format", "json"]).well();
    assert_eq!(exported.lines().len(), 50);
    spool.run_with("import", &["--route", "web"], &exported.bytes).well();
    wait_for_count(&spool, "web", 3_050);
    assert_eq!(spool.run("cat", &["--route", "web"]).well().lines().len(), 3_050);
    collector.restart();
    let texts = collector.wait_for(3_100);
    let with = |part: &str| texts.iter().filter(|text| text.contains(part)).count();
    assert_eq!((with("key-of-web-0000"), with("key-of-rest-000"), with("sshd")), (3_050, 50, 100));
    wait_for_count(&spool, "web", 0);
    wait_for_count(&spool, "rest", 0);
    relay.terminate();
}

#[test]
fn a_message_of_a_running_relay_is_either_dropped_or_sent() {
    let (spool, collector) = (Spool::empty(None), Collector::start_plain());
    let relay = relay(&spool, &collector);
    send(&relay, "nginx", 20_000);
    wait_for_count(&spool, "web", 20_000);
    let ran = spool.run("drop", &["--route", "web", "--yes"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let left = count(&spool, "web");
    let dropped = 20_000 - left;
    send(&relay, "sshd", 1);
    collector.restart();
    collector.wait_for(left as usize + 1);
    wait_for_count(&spool, "web", 0);
    wait_for_count(&spool, "rest", 0);
    assert_eq!(collector.look(|seen| seen.frames.len()) as u64, left + 1, "dropped {dropped}: {}{}", ran.out, ran.err);
    let counted = relay.metric("forebay_route_dropped_messages_total", "route=\"web\",reason=\"operator\"");
    assert_eq!(counted, dropped);
    relay.terminate();
}
