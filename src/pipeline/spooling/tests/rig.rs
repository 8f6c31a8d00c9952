//! The pipeline with a fake at either end.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use crate::batch::{Batch, Stub};
use crate::config::{self, Source};
use crate::metrics::Meters;
use crate::receipts::{Account, When};
use crate::spool;
use crate::syslog::{Fields, Frame, Message};

use super::super::super::Offer;
use super::*;

/// Memory of the queues.
const BUDGET: usize = 2 * 1024 * KIB;

struct Sent {
    lane: usize,
    batch: Batch,
    is_acknowledged: bool,
}

pub(super) struct Rig {
    pub(super) pipeline: Pipeline,
    pub(super) fake: Fake,
    /// By lane.
    pub(super) delivered: Vec<Vec<u64>>,
    /// Each message comes once, in order, but after breaks.
    pub(super) is_strict: bool,
    pub(super) has_broken: bool,
    /// By lane: the next to be offered, the next to be taken.
    offered: Vec<u64>,
    expected: Vec<u64>,
    flight: VecDeque<Sent>,
    passed: Duration,
    /// Two senders: messages with an even number wait to be stored, the others to be released.
    senders: [Rc<Account>; 2],
    /// By number: the messages that are not acknowledged.
    unacknowledged: HashMap<u32, (usize, u64)>,
    released: HashSet<(usize, u64)>,
    next_txnr: u32,
}

/// A message that says which it is, with as many octets.
fn text(id: u64, octets: usize) -> Vec<u8> {
    let mut text = format!("<13>Jan  1 00:00:00 h a: {id} ").into_bytes();
    text.resize(text.len().max(octets), b'x');
    text
}

pub(super) fn push(batch: &mut Batch, id: u64, octets: usize) {
    let (fields, raw) = (Fields::default(), text(id, octets));
    batch.push(&Message { fields: &fields, raw: &raw, received_at_us: 0, peer: None, input: "lan" }, 0);
}

pub(super) fn ids_of(batch: &Batch) -> Vec<u64> {
    let id_of = |raw: &[u8]| {
        let text = String::from_utf8(raw.to_vec()).unwrap();
        text.split(' ').nth(6).unwrap().parse().unwrap()
    };
    batch.messages(&[]).map(|message| id_of(message.raw)).collect()
}

impl Rig {
    pub(super) fn new(durability: Durability, lanes: usize) -> Self {
        Self::in_order(durability, lanes, config::Order::OldestFirst)
    }

    pub(super) fn in_order(durability: Durability, lanes: usize, order: config::Order) -> Self {
        let mut yaml =
            "inputs: {lan: {listen: 'tcp://127.0.0.1:1'}}\noutputs: {o: {to: 'tcp://127.0.0.1:2'}}\nroutes:\n"
                .to_owned();
        for lane in 0..lanes {
            yaml.push_str(&format!("  - {{name: r{lane}, peer: 10.0.0.{lane}, template: '%msg%', output: o}}\n"));
        }
        let source = Source::Text { name: "test".into(), text: yaml };
        let mut config = config::load(&source, &|_| None).unwrap().config;
        config.spool = Some(config::Spool {
            dir: "/nonexistent".into(),
            max_size: 1 << 30,
            when_full: SpoolFull::Block,
            durability,
            sync: SpoolSync::EveryBatch,
            min_free: 0,
            compression: Compression::None,
            spill_after: Duration::from_secs(5),
            encryption_key: None,
        });
        config.outputs[0].order = order;
        let meters = Arc::new(Meters::new(&config));
        let (mut ports, desk) = spool::ports(1);
        let mut fake = Fake::new(desk);
        fake.meters = Some(Arc::clone(&meters));
        let pipeline = Pipeline::new(&config, BUDGET, meters, ports.pop());
        let none = || vec![0; lanes];
        let rig = Self {
            pipeline,
            fake,
            delivered: vec![Vec::new(); lanes],
            is_strict: true,
            has_broken: false,
            offered: none(),
            expected: none(),
            flight: VecDeque::new(),
            passed: Duration::ZERO,
            senders: [When::Stored, When::Released].map(Account::new),
            unacknowledged: HashMap::new(),
            released: HashSet::new(),
            next_txnr: 0,
        };
        rig.pipeline.spool_tick(SystemTime::now());
        rig
    }

    pub(super) fn lanes(&self) -> usize {
        self.delivered.len()
    }

    pub(super) fn is_behind(&self, lane: usize) -> bool {
        self.pipeline.spooling.as_ref().unwrap().is_behind(lane)
    }

    pub(super) fn sendable(&self) -> usize {
        self.pipeline.queues[0].waiting()
    }

    /// Offers messages in one turn, as far as there is room; how many were taken.
    pub(super) fn offer(&mut self, lane: usize, count: usize, octets: usize) -> usize {
        let peer = Some(std::net::IpAddr::from([10, 0, 0, lane as u8]));
        let mut turn = self.pipeline.turn(0);
        for taken in 0..count {
            let bytes = text(self.offered[lane], octets);
            let (id, txnr) = (self.offered[lane], self.next_txnr);
            let sender = &self.senders[(id % 2) as usize];
            let frame = Frame { bytes: &bytes, flaw: None };
            if turn.offer_for((sender, txnr), frame, peer, WhenFull::Wait) != Offer::Taken {
                return taken;
            }
            self.unacknowledged.insert(txnr, (lane, id));
            self.next_txnr += 1;
            self.offered[lane] += 1;
        }
        count
    }

    /// Offers messages in many turns while the spool serves, until they are taken or there is no room; how many were.
    pub(super) fn fill(&mut self, lane: usize, count: usize, octets: usize) -> usize {
        let mut taken = 0;
        while taken < count {
            let more = self.offer(lane, (count - taken).min(50), octets);
            self.exchange();
            self.pass(Duration::from_millis(100));
            taken += more;
            if more == 0 {
                break;
            }
        }
        taken
    }

    /// The spool does all that it was asked for, and its answers are taken, until there is nothing more.
    pub(super) fn exchange(&mut self) {
        for _ in 0..1000 {
            self.fake.serve(usize::MAX);
            self.pipeline.spool_answers();
            if self.fake.desk.calls.is_empty() || self.fake.condition == Condition::Silent {
                return;
            }
        }
        panic!("they talk for ever");
    }

    /// Time goes by.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.passed + time;
        while self.passed < end {
            self.passed += SPOOL_TICK;
            self.pipeline.spool_tick(SystemTime::now() + self.passed);
            self.exchange();
        }
    }

    /// So many ticks, and no answer taken that is not there yet.
    pub(super) fn tick(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.passed += SPOOL_TICK;
            self.pipeline.spool_tick(SystemTime::now() + self.passed);
        }
    }

    pub(super) fn flow(&mut self, flows: bool) {
        self.pipeline.set_flowing(&self.pipeline.queues[0], flows);
    }

    pub(super) fn is_flowing(&self) -> bool {
        self.pipeline.queues[0].is_flowing()
    }

    /// Sends so many bytes; how many messages those were.
    pub(super) fn take(&mut self, bytes: usize) -> usize {
        let mut taken = 0;
        let mut sent = Vec::new();
        self.pipeline.take(&self.pipeline.queues[0], bytes, |lane, batch| sent.push((lane, batch)));
        for (of, batch) in sent {
            let lane = self.pipeline.route_of(of);
            for id in ids_of(&batch) {
                if id < LEFT_ID && self.is_strict {
                    while self.fake.dropped.contains(&(lane, self.expected[lane])) {
                        self.expected[lane] += 1;
                    }
                    assert_eq!(id, self.expected[lane], "lane {lane}");
                    self.expected[lane] += 1;
                }
                self.delivered[lane].push(id);
                taken += 1;
            }
            self.flight.push_back(Sent { lane: of, batch, is_acknowledged: false });
        }
        taken
    }

    /// The peer's kernel has acknowledged so many batches more.
    pub(super) fn acknowledge(&mut self, count: usize) {
        for sent in self.flight.iter_mut().filter(|sent| !sent.is_acknowledged).take(count) {
            sent.is_acknowledged = true;
            self.pipeline.acknowledge(sent.lane, sent.batch.charge());
        }
    }

    /// So many of those have left the window.
    pub(super) fn release(&mut self, count: usize) {
        for _ in 0..count {
            let Some(sent) = self.flight.pop_front_if(|sent| sent.is_acknowledged) else { return };
            let lane = self.pipeline.route_of(sent.lane);
            self.released.extend(ids_of(&sent.batch).into_iter().map(|id| (lane, id)));
            self.pipeline.release(sent.lane, Stub::of(&sent.batch), 0);
        }
    }

    /// What senders were told since the last look is true, and news.
    pub(super) fn check_receipts(&mut self) {
        for sender in &self.senders {
            let mut settled = Vec::new();
            sender.take_settled(&mut settled);
            for txnr in settled {
                let message = self.unacknowledged.remove(&txnr).expect("told of once");
                let is_stored = message.1.is_multiple_of(2) && self.fake.stored.contains(&message);
                let is_over = self.released.contains(&message) || self.fake.dropped.contains(&message);
                assert!(is_stored || is_over, "told too early: lane {}, message {}", message.0, message.1);
            }
        }
        let waiting: usize = self.senders.iter().map(|sender| sender.outstanding()).sum();
        assert_eq!(waiting, self.unacknowledged.len());
    }

    /// Every sender was told of every message.
    pub(super) fn assert_all_told(&mut self) {
        self.check_receipts();
        assert!(self.unacknowledged.is_empty(), "never told of: {:?}", self.unacknowledged);
        let mut inner = self.pipeline.inner.borrow_mut();
        assert!(inner.shelf.lanes.iter_mut().all(|lane| lane.receipts().is_empty()));
    }

    pub(super) fn release_all(&mut self) {
        self.acknowledge(usize::MAX);
        self.release(usize::MAX);
    }

    pub(super) fn break_connection(&mut self) {
        self.flow(false);
        self.has_broken |= !self.flight.is_empty();
        let mut on_disk = vec![Vec::new(); self.offered.len()];
        while let Some(sent) = self.flight.pop_back() {
            if let Some(first) = ids_of(&sent.batch).first().filter(|id| **id < LEFT_ID) {
                self.expected[self.pipeline.route_of(sent.lane)] = *first;
            }
            // Of what is acknowledged and on the disk nothing is kept in memory.
            if sent.is_acknowledged && sent.batch.stored {
                on_disk[sent.lane].insert(0, Stub::of(&sent.batch));
            } else {
                self.pipeline.put_back(sent.lane, sent.batch, !sent.is_acknowledged);
            }
        }
        for (lane, stubs) in on_disk.into_iter().enumerate() {
            self.pipeline.read_again(lane, stubs.into_iter());
        }
    }

    /// What a forwarder does at the end of a stop.
    pub(super) fn leave_flight(&mut self) {
        while let Some(sent) = self.flight.pop_back() {
            if sent.batch.stored {
                if !sent.is_acknowledged {
                    self.pipeline.acknowledge(sent.lane, sent.batch.charge());
                }
                self.pipeline.leave(sent.lane, Stub::of(&sent.batch));
            } else {
                self.pipeline.put_back(sent.lane, sent.batch, true);
            }
        }
    }

    /// Sends all there is, in memory and on the disk.
    pub(super) fn drain(&mut self) {
        let mut idle = 0;
        while idle < 30 {
            self.pass(SPOOL_TICK);
            self.pipeline.seal_lingering();
            self.exchange();
            let taken = self.take(256 * KIB);
            self.release_all();
            idle = if taken == 0 { idle + 1 } else { 0 };
        }
        self.exchange();
        self.check_ledger();
    }

    /// Every message that was taken came, and where nothing broke, once.
    pub(super) fn assert_all_delivered(&self) {
        for (lane, delivered) in self.delivered.iter().enumerate() {
            let mut all = delivered.clone();
            all.extend(self.fake.dropped.iter().filter(|dropped| dropped.0 == lane).map(|dropped| dropped.1));
            all.retain(|id| *id < LEFT_ID);
            all.sort_unstable();
            if self.has_broken {
                all.dedup();
            }
            let wanted: Vec<u64> = (0..self.offered[lane]).collect();
            let missing: Vec<&u64> = wanted.iter().filter(|id| all.binary_search(id).is_err()).collect();
            assert!(
                missing.is_empty(),
                "lane {lane}: {} missing of {}: {:?}",
                missing.len(),
                wanted.len(),
                missing.first()
            );
            assert!(all == wanted, "lane {lane}: some came twice, and nothing had broken");
        }
    }

    /// The queue's count is that of its lanes.
    pub(super) fn check_counts(&self) {
        let inner = self.pipeline.inner.borrow();
        let sendable: usize = inner.shelf.lanes.iter().map(Lane::sendable).sum();
        assert_eq!(self.sendable(), sendable);
        drop(inner);
        if !self.fake.dropped.is_empty() && self.pipeline.spooling.as_ref().unwrap().port.outstanding() > 0 {
            // The spool counts what it drops or evicts, and its answer may be on its way.
            return;
        }
        self.check_ledger();
    }

    /// Every message is in one place, by the meters.
    pub(super) fn check_ledger(&self) {
        for (lane, route) in self.pipeline.meters().routes.iter().enumerate() {
            let dropped =
                [&route.dropped_full, &route.dropped_spool_full, &route.dropped_spool_damaged, &route.dropped_shutdown];
            let dropped: u64 = dropped.iter().map(|count| count.value()).sum();
            let came = route.routed.value() + route.recovered.value();
            let (waiting, in_flight, spooled) = (route.waiting.value(), route.in_flight.value(), route.spooled.value());
            let accounted = route.released.value() + in_flight + waiting + spooled + dropped;
            assert_eq!(
                came, accounted,
                "lane {lane}: {waiting} waiting, {in_flight} in flight, {spooled} spooled, {dropped} dropped"
            );
        }
    }
}

const LEFT_ID: u64 = super::fake::LEFT;
