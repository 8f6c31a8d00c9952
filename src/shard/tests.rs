//! A whole shard, between a sender, a collector and a made-up spool.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::batch::{Batch, Seq};
use crate::config::{self, Compression, Durability, Mode, Source, SpoolFull, SpoolSync, Target};
use crate::names::tests::Server;
use crate::receive;
use crate::spool::{self, Command, Desk, Reply, Rest};

use super::*;

/// What is on the disk, by lane and seq.
type Disk = BTreeMap<(usize, Seq), Batch>;

fn copy(batch: &Batch) -> Batch {
    let mut copy = Batch::default();
    copy.seq = batch.seq;
    for (message, input) in batch.messages(&[]).zip(batch.input_indices()) {
        copy.push(&message, input);
    }
    copy
}

/// Serves until the shard has gone.
fn serve_spool(desk: &Desk, mut disk: Disk) -> Disk {
    let mut out = BTreeSet::new();
    while let Ok(shard) = desk.calls.recv() {
        let Some(command) = desk.command(shard) else { continue };
        let reply = match command {
            Command::Append { lane, batch, keep, .. } => {
                disk.insert((lane, batch.seq), copy(&batch));
                if keep {
                    out.insert((lane, batch.seq));
                }
                Reply::Stored { lane, batch, kept: keep }
            }
            Command::Read { lane, .. } => {
                let mut unread = disk.iter().filter(|(key, _)| !out.contains(*key));
                let first = unread.next();
                let rest = if unread.next().is_some() { Rest::More } else { Rest::End };
                let batches = first.map(|(_, batch)| copy(batch)).into_iter().collect();
                out.extend(first.map(|(key, _)| *key));
                Reply::Read { lane, batches, rest }
            }
            Command::Acknowledge { .. } | Command::Roster(_) => continue,
            Command::Release { lane, seq } => {
                disk.remove(&(lane, seq));
                continue;
            }
            Command::Forget { lane, seq } => {
                out.remove(&(lane, seq));
                continue;
            }
        };
        assert!(desk.answer(shard, reply));
    }
    disk
}

fn target(host: &str, port: u16) -> Target {
    Target { host: host.to_owned(), port, path: String::new() }
}

fn at(address: SocketAddr) -> Target {
    target(&address.ip().to_string(), address.port())
}

fn targets(list: Vec<Target>, fallback: Option<IpAddr>) -> Targets {
    Targets::new(list, fallback.into_iter().collect(), Mode::Failover, Duration::from_millis(500))
}

/// A running shard.
struct Shard {
    address: SocketAddr,
    meters: Arc<Meters>,
    stopper: stop::Stopper,
    thread: JoinHandle<u64>,
    spool: JoinHandle<Disk>,
}

impl Shard {
    fn start(durability: Durability, to: SocketAddr, disk: Disk) -> Self {
        let targets = targets(vec![at(to)], None);
        Self::start_to(durability, targets, Names::start(None).unwrap(), disk)
    }

    /// With targets and a resolver of its own.
    fn start_to(durability: Durability, targets: Targets, names: Names, disk: Disk) -> Self {
        let text = "inputs: {lan: {listen: 'tcp://127.0.0.1:0'}}\noutputs: {o: {to: 'tcp://192.0.2.1:9'}}\ncores: 1\n\
                    routes: [{name: all, template: '%msg%', output: o}]\n"
            .to_owned();
        let mut config = config::load(&Source::Text { name: "test".into(), text }, &|_| None).unwrap().config;
        config.spool = Some(config::Spool {
            dir: "/nonexistent".into(),
            max_size: 1 << 30,
            when_full: SpoolFull::Block,
            durability,
            sync: SpoolSync::EveryBatch,
            min_free: 0,
            compression: Compression::None,
            spill_after: Duration::from_secs(60),
            encryption_key: None,
        });
        let (bound, errors) = receive::bind_all(&config, receive::Claims::default(), &[]);
        assert!(errors.is_empty(), "{errors:?}");
        let address = bound[0].url.trim_start_matches("tcp://").parse().unwrap();
        let meters = Arc::new(Meters::new(&config));
        // As the spool's thread does at its start.
        let left: usize = disk.values().map(Batch::len).sum();
        meters.routes[0].recovered.add(left as u64);
        meters.routes[0].spooled.add(left as i64);
        let common = Arc::new(Common {
            taps: Arc::default(),
            inputs: config.inputs.iter().cloned().map(Arc::new).collect(),
            acceptors: vec![None],
            gates: vec![Arc::default()],
            web: Arc::new(crate::forward::Web::new(&config, &meters)),
            outputs: config.outputs.iter().cloned().map(Arc::new).collect(),
            connectors: vec![None],
            said: vec![Arc::default()],
            files: config.outputs.iter().map(|_| None).collect(),
            targets: vec![Arc::new(targets)],
            names,
            meters: Arc::clone(&meters),
            heartbeats: vec![AtomicU64::new(0)].into(),
            config: Arc::new(config),
        });
        let (mut ports, desk) = spool::ports(1);
        let spool = thread::spawn(move || serve_spool(&desk, disk));
        let (stopper, stop) = stop::channel();
        let port = ports.pop();
        // Nothing is reloaded.
        let (_, changes) = mpsc::channel(1);
        let thread = thread::spawn(move || run(&common, 0, bound, port, changes, stop, || {}).unwrap());
        Self { address, meters, stopper, thread, spool }
    }

    /// Stops it; what it left on the disk, and how long it took.
    fn stop(self) -> (Disk, Duration) {
        let ordered = Instant::now();
        self.stopper.stop(tokio::time::Instant::now() + Duration::from_secs(30));
        assert_eq!(self.thread.join().unwrap(), 0, "nothing is lost");
        let took = ordered.elapsed();
        let disk = self.spool.join().unwrap();
        let route = &self.meters.routes[0];
        let in_memory = route.waiting.value() + route.in_flight.value();
        let on_disk = disk.values().map(Batch::len).sum::<usize>() as u64;
        assert_eq!((in_memory, route.spooled.value()), (0, on_disk));
        assert_eq!(route.routed.value() + route.recovered.value(), route.released.value() + on_disk);
        (disk, took)
    }
}

/// Waits until it is so, for half a minute.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        thread::yield_now();
    }
}

fn send(to: SocketAddr, numbers: std::ops::Range<usize>) {
    let mut stream = TcpStream::connect(to).unwrap();
    for number in numbers {
        writeln!(stream, "<13>Jan  1 00:00:00 host app: number={number};").unwrap();
    }
}

/// Reads one connection to its end.
fn collect(listener: TcpListener) -> JoinHandle<Vec<usize>> {
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let numbers = text.split("number=").skip(1).map(|rest| rest.split(';').next().unwrap());
        numbers.map(|number| number.parse().unwrap()).collect()
    })
}

#[test]
fn what_a_stop_finds_in_memory_waits_on_the_disk_for_the_next_run() {
    for durability in [Durability::Overflow, Durability::Always] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = listener.local_addr().unwrap();
        drop(listener);
        let first = Shard::start(durability, nobody, Disk::new());
        send(first.address, 0..2000);
        let meters = Arc::clone(&first.meters);
        until("all came", || meters.routes[0].routed.value() == 2000);
        until("nobody was there", || meters.outputs[0].failed_connect.value() > 0);
        let (disk, took) = first.stop();
        assert_eq!(disk.values().map(Batch::len).sum::<usize>(), 2000);
        assert!(took < Duration::from_secs(5), "{took:?}: the destination is down, there is nothing to wait for");

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let second = Shard::start(durability, listener.local_addr().unwrap(), disk);
        let collector = collect(listener);
        send(second.address, 2000..2500);
        let meters = Arc::clone(&second.meters);
        until("all was written", || meters.outputs[0].written_messages.value() == 2500);
        let (disk, _) = second.stop();
        assert_eq!(collector.join().unwrap(), (0..2500).collect::<Vec<_>>());
        assert!(disk.is_empty(), "all of it was released");
    }
}

#[test]
fn a_live_connection_is_given_what_memory_holds_before_a_stop_ends() {
    for durability in [Durability::Overflow, Durability::Always] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shard = Shard::start(durability, listener.local_addr().unwrap(), Disk::new());
        let collector = collect(listener);
        send(shard.address, 0..1);
        let meters = Arc::clone(&shard.meters);
        until("it is connected", || meters.outputs[0].written_messages.value() == 1);
        send(shard.address, 1..3000);
        until("all came", || meters.routes[0].routed.value() == 3000);
        let (disk, _) = shard.stop();
        assert!(disk.is_empty());
        assert_eq!(collector.join().unwrap(), (0..3000).collect::<Vec<_>>());
    }
}

/// Two listeners on one port, at 127.0.0.1 and at 127.0.0.2.
fn two_listeners() -> (u16, TcpListener, TcpListener) {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if let Ok(second) = TcpListener::bind(("127.0.0.2", port)) {
            return (port, first, second);
        }
    }
}

#[test]
fn a_connection_follows_its_name_and_loses_nothing() {
    let (port, first, second) = two_listeners();
    let server = Server::start(0);
    server.set("collector.example", &["127.0.0.1"]);
    let targets = targets(vec![target("collector.example", port)], None);
    let shard = Shard::start_to(Durability::Overflow, targets, server.names(), Disk::new());
    let (first, second) = (collect(first), collect(second));
    send(shard.address, 0..1000);
    let output = &shard.meters.outputs[0];
    until("it is written", || output.written_messages.value() == 1000);
    server.set("collector.example", &["127.0.0.2"]);
    until("it is closed in order", || shard.meters.routes[0].released.value() == 1000);
    send(shard.address, 1000..2000);
    until("the rest is written", || output.written_messages.value() == 2000);
    assert_eq!((output.broken.value(), output.connects.value()), (0, 2));
    assert!(shard.stop().0.is_empty());
    assert_eq!(first.join().unwrap(), (0..1000).collect::<Vec<_>>());
    assert_eq!(second.join().unwrap(), (1000..2000).collect::<Vec<_>>());
}

#[test]
fn a_name_without_address_is_found_at_its_fallback() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let fallback = listener.local_addr().unwrap();
    let targets = targets(vec![target("nobody.example", fallback.port())], Some(fallback.ip()));
    let shard = Shard::start_to(Durability::Overflow, targets, Server::start(60).names(), Disk::new());
    let collector = collect(listener);
    send(shard.address, 0..100);
    let meters = Arc::clone(&shard.meters);
    until("it is written", || meters.outputs[0].written_messages.value() == 100);
    shard.stop();
    assert_eq!(collector.join().unwrap(), (0..100).collect::<Vec<_>>());
    assert_eq!(meters.outputs[0].resolved_fallback.value(), 1);
}

#[test]
fn a_target_that_is_down_is_passed_over_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let down = TcpListener::bind("127.0.0.1:0").unwrap();
    let list = vec![at(down.local_addr().unwrap()), at(listener.local_addr().unwrap())];
    drop(down);
    let targets = targets(list, None);
    let shard = Shard::start_to(Durability::Overflow, targets, Names::start(None).unwrap(), Disk::new());
    let collector = collect(listener);
    send(shard.address, 0..100);
    let meters = Arc::clone(&shard.meters);
    until("it is written", || meters.outputs[0].written_messages.value() == 100);
    shard.stop();
    assert_eq!(collector.join().unwrap(), (0..100).collect::<Vec<_>>());
    assert_eq!(meters.outputs[0].failed_connect.value(), 1);
}

#[test]
fn a_connection_returns_to_the_preferred_target_once_that_has_been_well() {
    let (first, second) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (preferred, other) = (first.local_addr().unwrap(), second.local_addr().unwrap());
    drop(first);
    let targets = targets(vec![at(preferred), at(other)], None);
    let shard = Shard::start_to(Durability::Overflow, targets, Names::start(None).unwrap(), Disk::new());
    let second = collect(second);
    send(shard.address, 0..1000);
    let output = &shard.meters.outputs[0];
    until("it is written to the other", || output.written_messages.value() == 1000);
    let first = TcpListener::bind(preferred).unwrap();
    // Probes come first, which say nothing.
    let first = thread::spawn(move || {
        loop {
            let (mut stream, _) = first.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            if !text.is_empty() {
                return text.matches("number=").count();
            }
        }
    });
    until("it is closed in order", || shard.meters.routes[0].released.value() == 1000);
    send(shard.address, 1000..2000);
    until("the rest is written", || output.written_messages.value() == 2000);
    assert_eq!((output.broken.value(), output.failed_connect.value()), (0, 1));
    assert!(shard.stop().0.is_empty());
    assert_eq!(second.join().unwrap(), (0..1000).collect::<Vec<_>>());
    assert_eq!(first.join().unwrap(), 1000);
}
