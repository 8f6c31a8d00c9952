use super::*;
use crate::batch::Batch;
use crate::config::{self, Source};
use crate::spool::index::Index;
use crate::spool::{ports, store};
use crate::syslog::{Fields, Message};

fn batch(seq: u64) -> Batch {
    let mut batch = Batch::default();
    let (fields, raw) = (Fields::default(), b"the sluice is open");
    batch.push(&Message { fields: &fields, raw, received_at_us: 1, peer: None, input: "lan" }, 0);
    batch.seq = Seq(seq << 12);
    batch
}

fn worker(dir: &std::path::Path) -> (super::super::Port, Worker) {
    worker_with(dir, "")
}

/// With these settings of the spool as well.
fn worker_with(dir: &std::path::Path, settings: &str) -> (super::super::Port, Worker) {
    let (port, mut worker, _) = unopened(dir, settings);
    worker.open().unwrap();
    (port, worker)
}

fn unopened(dir: &std::path::Path, settings: &str) -> (super::super::Port, Worker, Arc<Meters>) {
    let text = format!(
        "inputs: {{lan: {{listen: 'tcp://127.0.0.1:0'}}}}\noutputs: {{o: {{to: 'tcp://127.0.0.1:9'}}}}\n\
         routes: [{{name: web, template: '%msg%', output: o}}]\nspool: {{dir: {:?}, min_free: 0{settings}}}\n",
        dir.join("spool")
    );
    let config = config::load(&Source::Text { name: "test".into(), text }, &|_| None).unwrap().config;
    let spool = config.spool.clone().unwrap();
    let (mut ports, desk) = ports(1);
    let meters = Arc::new(Meters::new(&config));
    let options = Options::new(&spool, Default::default());
    let worker = Worker::new(&config, options, spool.sync, desk, Arc::clone(&meters));
    (ports.remove(0), worker, meters)
}

fn send(port: &super::super::Port, seq: u64, first: bool) {
    port.send(Command::Append { lane: 0, batch: batch(seq), keep: false, durable: false, first }).unwrap();
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
fn batches_taken_back_from_a_thread_that_hangs_are_neither_answered_for_nor_kept_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut worker) = worker_with(dir.path(), ", sync: every_batch");
    (1..=3).for_each(|seq| send(&port, seq, seq == 1));
    for _ in 0..2 {
        let shard = worker.desk.calls.recv().unwrap();
        worker.handle_next(shard);
    }
    // Here it hangs: two are written and not synced, the third it has not begun with.
    let taken: Vec<u64> = port.take_back().iter().map(|(_, batch)| batch.seq.0 >> 12).collect();
    assert_eq!((taken, port.outstanding()), (vec![1, 2, 3], 0));
    assert_eq!(answers(&port, &mut worker), [] as [bool; 0]);
    assert_eq!(worker.store.as_mut().unwrap().lanes()[0].blocks, 0);
    send(&port, 4, true);
    assert_eq!(answers(&port, &mut worker), [true]);
    assert_eq!(read(&port, &mut worker), (vec![4], Rest::End));
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
    worker.in_hand = Some(InHand::Append { shard, lane, seq: batch.seq });
    worker.desk.hold(shard, lane, batch);
    worker.answer_in_hand();
    match port.reply() {
        Some(Reply::Refused { batch, why: Refusal::Failing, .. }) => assert_eq!(batch.len(), 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(port.outstanding(), 0);
}

/// Lets the worker do what waits; all it answers.
fn replies(port: &super::super::Port, worker: &mut Worker) -> Vec<Reply> {
    let work = worker.wait(true).unwrap();
    worker.step(work);
    std::iter::from_fn(|| port.reply()).filter(|reply| !matches!(reply, Reply::Resume { .. })).collect()
}

/// Reads all there is; the batches by their number.
fn read(port: &super::super::Port, worker: &mut Worker) -> (Vec<u64>, Rest) {
    port.send(Command::Read { lane: 0, bytes: 1 << 20 }).unwrap();
    match replies(port, worker).pop() {
        Some(Reply::Read { batches, rest, .. }) => (batches.iter().map(|batch| batch.seq.0 >> 12).collect(), rest),
        other => panic!("{other:?}"),
    }
}

/// Whatever `sync` says of the others.
#[test]
fn a_batch_that_somebody_waits_for_is_stored_when_it_is_synced_and_those_behind_it_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut worker) = worker_with(dir.path(), ", sync: {interval: 10s}");
    let durable = |seq, first| {
        port.send(Command::Append { lane: 0, batch: batch(seq), keep: false, durable: true, first }).unwrap();
    };
    send(&port, 1, true);
    assert_eq!(answers(&port, &mut worker), [true]);
    store::arm("segment.sync", 1, 5);
    send(&port, 2, true);
    assert_eq!(answers(&port, &mut worker), [true], "nobody syncs for this one");
    durable(3, true);
    send(&port, 4, false);
    assert_eq!(answers(&port, &mut worker), [false, false]);
    retry(&mut worker);
    durable(3, true);
    send(&port, 4, false);
    durable(5, false);
    assert_eq!(answers(&port, &mut worker), [true, true, true]);
    let lanes = worker.store.as_mut().unwrap().lanes();
    assert_eq!(lanes.iter().map(|lane| lane.blocks).sum::<u64>(), 5, "those that were refused are there once");
}

#[test]
fn batches_whose_sync_fails_are_given_back_and_come_once_when_they_are_stored_again() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut worker) = worker_with(dir.path(), ", sync: every_batch");
    send(&port, 1, true);
    port.send(Command::Append { lane: 0, batch: batch(2), keep: true, durable: false, first: false }).unwrap();
    store::arm("segment.sync", 1, 5);
    for (reply, number) in replies(&port, &mut worker).into_iter().zip([1, 2]) {
        match reply {
            Reply::Refused { batch, why: Refusal::Failing, .. } => assert_eq!(batch.seq, Seq(number << 12)),
            other => panic!("{other:?}"),
        }
    }
    // What was on its way behind them must not overtake them.
    send(&port, 3, false);
    assert_eq!(answers(&port, &mut worker), [false]);
    retry(&mut worker);
    assert_eq!(worker.store.as_mut().unwrap().lanes()[0].blocks, 0, "the first copies are taken back");
    send(&port, 1, true);
    send(&port, 2, false);
    send(&port, 3, false);
    assert_eq!(answers(&port, &mut worker), [true, true, true]);
    assert_eq!(read(&port, &mut worker), (vec![1, 2, 3], Rest::End));
}

#[test]
fn a_sync_that_fails_while_room_is_made_counts_for_what_was_written_before() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut worker) = worker_with(dir.path(), ", sync: every_batch");
    send(&port, 1, true);
    let shard = worker.desk.calls.recv().unwrap();
    worker.handle_next(shard);
    store::arm("segment.sync", 1, 5);
    worker.store.as_mut().unwrap().sync().unwrap_err();
    worker.step(None);
    assert!(matches!(port.reply(), Some(Reply::Refused { why: Refusal::Failing, .. })));
}

#[test]
fn what_shards_hold_is_not_given_again_when_the_store_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut worker) = worker(dir.path());
    (1..=3).for_each(|seq| send(&port, seq, seq == 1));
    port.send(Command::Append { lane: 0, batch: batch(4), keep: true, durable: false, first: false }).unwrap();
    assert_eq!(answers(&port, &mut worker), [true; 4]);
    let (given, _) = worker.read(0, 0, 1);
    assert_eq!(given.len(), 1);
    worker.panicked();
    retry(&mut worker);
    // A read that panicked has given nothing.
    worker.in_hand = Some(InHand::Read { shard: 0, lane: 0 });
    worker.given.clear();
    assert_eq!(worker.read(0, 0, 1).0.len(), 1);
    worker.panicked();
    assert!(matches!(port.reply(), Some(Reply::Resume { .. })));
    assert!(matches!(port.reply(), Some(Reply::Read { rest: Rest::Unknown, .. })));
    retry(&mut worker);
    assert_eq!(read(&port, &mut worker), (vec![2, 3], Rest::End));
}

#[test]
fn an_append_that_panicked_is_not_on_the_disk_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut worker) = worker(dir.path());
    send(&port, 1, true);
    assert_eq!(answers(&port, &mut worker), [true]);
    // As if it had come so far as to be written.
    worker.in_hand = Some(InHand::Append { shard: 0, lane: 0, seq: batch(1).seq });
    worker.desk.hold(0, 0, batch(1));
    worker.panicked();
    retry(&mut worker);
    assert_eq!(read(&port, &mut worker), (vec![], Rest::End));
    while port.reply().is_some() {}
    send(&port, 1, true);
    assert_eq!(answers(&port, &mut worker), [true]);
    assert_eq!(read(&port, &mut worker), (vec![1], Rest::End));
}

#[test]
fn blocks_that_are_found_again_behind_what_was_read_are_read_in_this_run() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut before) = worker(dir.path());
    (1..=48).for_each(|seq| send(&port, seq, seq == 1));
    assert_eq!(answers(&port, &mut before), [true; 48]);
    drop(port);
    before.close();
    // The index loses some of it.
    let mut index = Index::open(&dir.path().join("spool/index")).unwrap();
    let name = LaneName { route: "web".to_owned(), shard: 0 };
    let run = index.run_after(&name, 2 << 12).unwrap().unwrap();
    index.remove_run(&name, run.key).unwrap();
    index.flush().unwrap();
    index.close();
    let lost: Vec<u64> = run.places.iter().map(|place| place.seq >> 12).collect();
    assert!(lost.len() > 5 && !lost.contains(&48), "{lost:?}");

    let (port, mut worker) = worker(dir.path());
    let (early, rest) = read(&port, &mut worker);
    let expected: Vec<u64> = (1..=48).filter(|seq| !lost.contains(seq)).collect();
    assert_eq!((early, rest), (expected.clone(), Rest::End));
    expected.iter().for_each(|seq| port.send(Command::Release { lane: 0, seq: Seq(*seq << 12) }).unwrap());
    while worker.wait(true).is_some_and(|work| worker.step(work)) {}
    assert_eq!(read(&port, &mut worker), (lost.clone(), Rest::End));
    // A broken connection gives some of them back: those come again, and no others.
    port.send(Command::Forget { lane: 0, seq: Seq(lost[2] << 12) }).unwrap();
    port.send(Command::Forget { lane: 0, seq: Seq(lost[3] << 12) }).unwrap();
    assert_eq!(read(&port, &mut worker), (lost[2..4].to_vec(), Rest::End));
}

#[test]
fn a_backlog_under_another_key_is_passed_over_in_steps() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut before) = worker(dir.path());
    before.store = None;
    before.options.encryption_key = Some(crate::config::SpoolKey::new([1; 32]));
    before.open().unwrap();
    for from in [1, 101] {
        (from..from + 100).for_each(|seq| send(&port, seq, seq == 1));
        assert!(answers(&port, &mut before).len() + answers(&port, &mut before).len() == 100);
    }
    before.store = None;
    before.options.encryption_key = None;
    before.open().unwrap();
    send(&port, 201, false);
    answers(&port, &mut before);
    drop(before);

    let (port, mut worker) = worker(dir.path());
    let mut reads = 0;
    loop {
        reads += 1;
        match read(&port, &mut worker) {
            (none, Rest::More) => assert!(none.is_empty() && reads < 250, "{none:?}"),
            last => break assert_eq!(last, (vec![201], Rest::End)),
        }
    }
    assert!(reads >= 4, "{reads}");
}

fn ask(worker: &Worker, op: control::Op) -> channel::Receiver<control::Answer> {
    let (reply, answer) = channel::bounded(1);
    worker.controls_tx.send(control::Request { op, reply }).unwrap();
    answer
}

#[test]
fn operators_get_their_turn_while_shards_keep_the_spool_busy() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut worker) = worker(dir.path());
    let answer = ask(&worker, control::Op::Stat);
    for seq in 1..=3 {
        send(&port, seq, seq == 1);
        let work = worker.wait(true).unwrap();
        worker.step(work);
    }
    assert!(matches!(answer.try_recv(), Ok(control::Answer::Stat(_))));
}

#[test]
fn an_operator_who_only_looks_costs_no_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (_port, mut worker) = worker(dir.path());
    for op in [control::Op::Stat, control::Op::List { select: Default::default(), after: None, max: 10 }] {
        drop(ask(&worker, op));
        worker.controls.recv().map(|request| worker.control(request)).unwrap();
        assert!(!worker.is_dirty);
    }
    drop(ask(&worker, control::Op::Drop { select: Default::default() }));
    worker.controls.recv().map(|request| worker.control(request)).unwrap();
    assert!(worker.is_dirty);
}

#[test]
fn a_panic_while_it_opens_or_closes_does_not_end_the_thread() {
    for point in ["index.open", "segment.sync"] {
        let dir = tempfile::tempdir().unwrap();
        let (port, worker, _) = unopened(dir.path(), ", sync: {interval: 1s}");
        send(&port, 1, true);
        store::arm(point, 1, store::PANICS);
        let (opened_tx, opened) = channel::bounded(1);
        let shared = Arc::clone(&worker.desk.shared);
        drop(port);
        worker.run(opened_tx, Duration::ZERO);
        assert!(matches!(opened.recv(), Ok(Opened::Done(Ok(())))), "{point}");
        assert_eq!(shared.state(), State::Failing, "{point}");
    }
}

#[test]
fn what_closing_finds_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut worker, meters) = unopened(dir.path(), "");
    worker.open().unwrap();
    send(&port, 1, true);
    assert_eq!(answers(&port, &mut worker), [true]);
    let rebuilds = || meters.spool.as_ref().unwrap().index_rebuilds.value();
    assert_eq!(rebuilds(), 0);
    send(&port, 2, true);
    worker.desk.calls.recv().map(|shard| worker.handle_next(shard)).unwrap();
    store::arm("index.flush.hang", 1, 5);
    worker.close();
    assert_eq!(rebuilds(), 1);
}

#[test]
fn a_start_waits_for_whoever_has_the_spool_but_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (_port, worker, _) = unopened(dir.path(), "");
    let holder = Store::open(worker.options.clone()).unwrap();
    let (opened_tx, opened) = channel::bounded(2);
    worker.run(opened_tx, Duration::ZERO);
    assert!(matches!(opened.recv(), Ok(Opened::Done(Err(OpenError::Held { .. })))));

    let (port, worker, _) = unopened(dir.path(), "");
    let (opened_tx, opened) = channel::bounded(2);
    let run = std::thread::spawn(|| worker.run(opened_tx, Duration::from_secs(3600)));
    assert!(matches!(opened.recv(), Ok(Opened::Held)));
    drop(holder);
    assert!(matches!(opened.recv(), Ok(Opened::Done(Ok(())))));
    drop(port);
    run.join().unwrap();
}
