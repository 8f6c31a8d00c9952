use super::*;
use crate::config::{self, Source};
use crate::spool::ports;
use crate::syslog::{Fields, Message};

fn batch(seq: u64) -> Batch {
    let mut batch = Batch::default();
    let (fields, raw) = (Fields::default(), b"the sluice is open");
    batch.push(&Message { fields: &fields, raw, received_at_us: 1, peer: None, input: "lan" }, 0);
    batch.seq = Seq(seq << 12);
    batch
}

fn worker(dir: &std::path::Path) -> (super::super::Port, Worker) {
    let text = format!(
        "inputs: {{lan: {{listen: 'tcp://127.0.0.1:0'}}}}\noutputs: {{o: {{to: 'tcp://127.0.0.1:9'}}}}\n\
         routes: [{{name: web, template: '%msg%', output: o}}]\nspool: {{dir: {:?}, min_free: 0}}\n",
        dir.join("spool")
    );
    let config = config::load(&Source::Text { name: "test".into(), text }, &|_| None).unwrap().config;
    let spool = config.spool.clone().unwrap();
    let (mut ports, desk) = ports(1);
    let meters = Arc::new(Meters::new(&config));
    let mut worker = Worker::new(&config, Options::new(&spool, Default::default()), spool.sync, desk, meters);
    worker.open().unwrap();
    (ports.remove(0), worker)
}

fn send(port: &super::super::Port, seq: u64, first: bool) {
    port.send(Command::Append { lane: 0, batch: batch(seq), keep: false, first }).unwrap();
}

/// Lets the worker do what waits; whether each batch was stored, in the order of the answers.
fn answers(port: &super::super::Port, worker: &mut Worker) -> Vec<bool> {
    let work = worker.wait(true).unwrap();
    worker.step(work);
    let replies = std::iter::from_fn(|| port.reply()).filter(|reply| !matches!(reply, Reply::Resume { .. }));
    replies.map(|reply| matches!(reply, Reply::Stored { .. })).collect()
}

/// Steps, without waiting, until the disk was tried again.
fn retry(worker: &mut Worker) {
    worker.retried_at -= RETRY;
    worker.step(None);
}

#[test]
fn behind_a_refused_batch_only_what_was_on_its_way_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut worker) = worker(dir.path());
    worker.fail("a test's disk", &std::io::Error::other("gone"));
    send(&port, 1, true);
    send(&port, 2, false);
    assert_eq!(answers(&port, &mut worker), [false, false]);
    // The first of them goes out from memory meanwhile, and never comes again.
    retry(&mut worker);
    send(&port, 3, false);
    assert_eq!(answers(&port, &mut worker), [false], "it may have been on its way");
    send(&port, 4, true);
    send(&port, 5, false);
    assert_eq!(answers(&port, &mut worker), [true, true]);
}

#[test]
fn answers_find_room_however_many_lanes_may_ask_again() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut worker) = worker(dir.path());
    for _ in 0..2 * super::super::OUTSTANDING_MAX {
        worker.resume_all();
        worker.send_resumes();
    }
    send(&port, 1, true);
    assert_eq!(answers(&port, &mut worker), [true]);
    assert_eq!(port.outstanding(), 0);
}

#[test]
fn a_spool_whose_index_is_closed_comes_back_though_each_sync_fails_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut worker) = worker(dir.path());
    send(&port, 1, true);
    assert_eq!(answers(&port, &mut worker), [true]);
    worker.store.as_mut().unwrap().drop_index();
    worker.is_dirty = true;
    for _ in 0..3 {
        worker.synced_at -= Duration::from_secs(1);
        worker.step(None);
    }
    assert_eq!(worker.desk.shared.state(), State::Failing);
    let retried_at = worker.retried_at;
    worker.step(None);
    assert_eq!(worker.retried_at, retried_at, "a failing sync must not put the next try off");
    retry(&mut worker);
    assert_eq!(worker.desk.shared.state(), State::Ready);
    send(&port, 2, true);
    assert_eq!(answers(&port, &mut worker), [true]);
}

#[test]
fn what_was_in_hand_in_a_panic_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut worker) = worker(dir.path());
    send(&port, 1, true);
    let shard = worker.desk.calls.recv().unwrap();
    let Some(Command::Append { lane, batch, .. }) = worker.desk.command(shard) else { panic!("another command") };
    worker.in_hand = Some(InHand::Append { shard, lane, batch });
    worker.answer_in_hand();
    match port.reply() {
        Some(Reply::Refused { batch, why: Refusal::Failing, .. }) => assert_eq!(batch.len(), 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(port.outstanding(), 0);
}
