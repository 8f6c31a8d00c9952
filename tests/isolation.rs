//! One destination never delays another's messages: the 99th percentile of a healthy one's, at full load, with another that
//! stalls or is gone, and with one that takes everything in its place.
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

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use support::relay::{Relay, count};
use support::senders::{connect, finish};
use support::waiting::{eventually, pause};

/// Rounds of each, taken by turns: other work on the machine hits both alike. It only ever adds to what is measured, so that
/// the quietest rounds are compared; and more are taken where the first say nothing good, because a delay that is ours is
/// in every round.
const ROUNDS: std::ops::RangeInclusive<usize> = 3..=9;

/// Bursts of timed messages in a round, messages of one, and the pause behind it.
const BURSTS: usize = 200;
const BURST: usize = 10;
const PACE: Duration = Duration::from_millis(5);

/// Rounds begin once so many bursts have passed: connections are made, lanes are full.
const WARM_UP: usize = 60;

/// What is no delay on a machine that is busy with others: two of its scheduler's turns and one write's linger.
const NOISE: Duration = Duration::from_millis(20);

/// Senders that send as fast as they can, over connections of their own.
const FLOODS: usize = 2;

/// One measurement at a time: they are of processor time as well.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The far end of the flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FarEnd {
    Reads,
    /// Accepts and reads nothing.
    Stalls,
    /// Refuses connections.
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feed {
    /// Each destination's messages come over connections of their own.
    Tcp,
    /// One socket's datagrams are for both.
    Udp,
}

/// A far end, running until it is dropped.
struct Sink {
    address: SocketAddr,
    latencies: Arc<Mutex<Vec<Duration>>>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    /// Kept open by [`FarEnd::Stalls`], which accepts no more than the kernel does.
    listener: Option<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    fn start(far_end: FarEnd, epoch: Instant) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (latencies, connections) =
            (Arc::<Mutex<Vec<Duration>>>::default(), Arc::<Mutex<Vec<TcpStream>>>::default());
        let mut sink = Self { address, latencies, connections, listener: None, thread: None };
        match far_end {
            FarEnd::Absent => {}
            FarEnd::Stalls => sink.listener = Some(listener),
            FarEnd::Reads => {
                let (latencies, connections) = (Arc::clone(&sink.latencies), Arc::clone(&sink.connections));
                sink.thread = Some(thread::spawn(move || accept(&listener, epoch, &latencies, &connections)));
            }
        }
        sink
    }

    fn seen(&self) -> usize {
        self.latencies.lock().unwrap().len()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // One more connection, which says nothing, ends the accepting.
        self.connections.lock().unwrap().clear();
        drop(TcpStream::connect(self.address).and_then(|stream| stream.shutdown(Shutdown::Both)));
        drop(thread.join());
    }
}

/// Accepts until a connection ends without a word.
fn accept(
    listener: &TcpListener,
    epoch: Instant,
    latencies: &Arc<Mutex<Vec<Duration>>>,
    connections: &Mutex<Vec<TcpStream>>,
) {
    loop {
        let (stream, _) = listener.accept().unwrap();
        let mut first = [0; 1];
        if stream.peek(&mut first).unwrap_or(0) == 0 {
            return;
        }
        connections.lock().unwrap().push(stream.try_clone().unwrap());
        let latencies = Arc::clone(latencies);
        thread::spawn(move || read(stream, epoch, &latencies));
    }
}

/// Notes, for each message with a stamp (`t=` and microseconds since `epoch`), how long it took.
fn read(mut stream: TcpStream, epoch: Instant, latencies: &Mutex<Vec<Duration>>) {
    let (mut held, mut buffer) = (Vec::new(), vec![0; 256 * 1024]);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let now = epoch.elapsed();
        held.extend_from_slice(&buffer[..count]);
        let whole = memchr::memrchr(b'\n', &held).map_or(0, |at| at + 1);
        let mut found = Vec::new();
        for at in memchr::memmem::find_iter(&held[..whole], b" t=") {
            let digits: String =
                held[at + 3..].iter().map_while(|octet| octet.is_ascii_digit().then_some(char::from(*octet))).collect();
            found.push(now.saturating_sub(Duration::from_micros(digits.parse().unwrap())));
        }
        latencies.lock().unwrap().extend(found);
        held.drain(..whole);
    }
}

fn timed(epoch: Instant) -> String {
    format!("<134>Nov 22 10:00:00 gate fast[7]: t={} the gate let the water through\n", epoch.elapsed().as_micros())
}

fn flood_line() -> String {
    format!("<134>Nov 22 10:00:00 gate slow[7]: {}\n", "the water waits above the gate ".repeat(10))
}

/// Sends as fast as it is read, until it is told to end.
struct Flood {
    stream: TcpStream,
    thread: JoinHandle<()>,
}

impl Flood {
    fn start(to: SocketAddr) -> Self {
        let stream = connect(to);
        let mut writer = stream.try_clone().unwrap();
        let block = flood_line().repeat(200);
        let thread = thread::spawn(move || while writer.write_all(block.as_bytes()).is_ok() {});
        Self { stream, thread }
    }

    fn end(self) {
        drop(self.stream.shutdown(Shutdown::Both));
        self.thread.join().unwrap();
    }
}

/// Sends one burst of timed messages, with UDP a flood's among them.
enum Source {
    Tcp(Vec<TcpStream>),
    Udp(UdpSocket, SocketAddr),
}

impl Source {
    fn burst(&mut self, epoch: Instant) {
        match self {
            Self::Tcp(streams) => {
                let each = BURST / streams.len();
                for stream in streams {
                    let octets: String = (0..each).map(|_| timed(epoch)).collect();
                    stream.write_all(octets.as_bytes()).unwrap();
                }
            }
            Self::Udp(socket, to) => {
                let slow = flood_line().repeat(3);
                for _ in 0..BURST {
                    for _ in 0..4 {
                        socket.send_to(slow.as_bytes(), *to).unwrap();
                    }
                    socket.send_to(timed(epoch).as_bytes(), *to).unwrap();
                }
            }
        }
    }
}

/// One round: the 99th percentile of the healthy output's messages, from the sender's write to the far end's read.
fn round(feed: Feed, far_end: FarEnd, has_spool: bool) -> Duration {
    let epoch = Instant::now();
    let (healthy, other) = (Sink::start(FarEnd::Reads, epoch), Sink::start(far_end, epoch));
    let folder = tempfile::tempdir().unwrap();
    let spool = if has_spool {
        format!("spool: {{dir: {}, max_size: 512MiB, min_free: 0}}\n", folder.path().join("spool").display())
    } else {
        String::new()
    };
    let relay = Relay::start(&format!(
        "inputs: {{lan: {{listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0']}}}}\nshutdown_timeout: 100ms\n\
         outputs: {{other: {{to: 'tcp://{}'}}, healthy: {{to: 'tcp://{}'}}}}\n\
         routes:\n  - {{name: slow, program: slow, intake_key: key-of-slow, output: other}}\n  \
         - {{name: fast, intake_key: key-of-fast, output: healthy}}\n{spool}",
        other.address, healthy.address
    ));
    let (mut source, floods): (Source, Vec<Flood>) = match feed {
        Feed::Tcp => {
            let to = relay.address("lan", "tcp");
            (Source::Tcp((0..2).map(|_| connect(to)).collect()), (0..FLOODS).map(|_| Flood::start(to)).collect())
        }
        Feed::Udp => (Source::Udp(UdpSocket::bind("127.0.0.1:0").unwrap(), relay.address("lan", "udp")), Vec::new()),
    };
    for _ in 0..WARM_UP + BURSTS {
        source.burst(epoch);
        pause(PACE);
    }
    let sent = (WARM_UP + BURSTS) * BURST;
    eventually("all timed messages", || match healthy.seen() {
        seen if seen == sent => Ok(()),
        seen => Err(format!("{seen} of {sent}")),
    });
    assert_the_other_end_is_what_it_should_be(&relay, far_end);
    floods.into_iter().for_each(Flood::end);
    if let Source::Tcp(streams) = source {
        streams.into_iter().for_each(finish);
    }
    let status = relay.status();
    assert_eq!(count(status.route("fast"), "dropped"), 0);
    let mut latencies = healthy.latencies.lock().unwrap().split_off(WARM_UP * BURST);
    latencies.sort();
    latencies[latencies.len() * 99 / 100]
}

/// A round that measured something else is none.
#[track_caller]
fn assert_the_other_end_is_what_it_should_be(relay: &Relay, far_end: FarEnd) {
    let status = relay.status();
    let (route, output) = (status.route("slow"), status.output("other"));
    assert!(count(route, "routed") > 1_000, "{route}");
    match far_end {
        FarEnd::Reads => assert!(count(output, "acknowledged_bytes") > 1_000_000, "{output}"),
        FarEnd::Stalls => {
            let unread = count(route, "routed") - count(route, "released");
            assert!(count(output, "connections") > 0 && unread > 1_000, "{output} {route}");
        }
        FarEnd::Absent => assert!(count(output, "connects") == 0 && count(output, "failed_connects") > 0, "{output}"),
    }
}

/// Holds the healthy output's 99th percentile to twice what it is when the other far end takes everything.
#[track_caller]
fn assert_isolated(feed: Feed, far_end: FarEnd, has_spool: bool) {
    let _alone = alone();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for number in 1..=*ROUNDS.end() {
        without.push(round(feed, FarEnd::Reads, has_spool));
        with.push(round(feed, far_end, has_spool));
        if number >= *ROUNDS.start() && is_isolated(&with, &without) {
            break;
        }
    }
    println!("{feed:?}, {far_end:?}, spool {has_spool}: p99 {with:?}; with a far end that reads {without:?}");
    assert!(is_isolated(&with, &without), "p99 {with:?}, with a far end that reads {without:?}");
}

fn is_isolated(with: &[Duration], without: &[Duration]) -> bool {
    let quietest = |rounds: &[Duration]| rounds.iter().copied().min();
    quietest(with) <= quietest(without).map(|p99| 2 * p99 + NOISE)
}

#[test]
fn a_far_end_that_stalls_delays_nobody_elses_messages() {
    assert_isolated(Feed::Tcp, FarEnd::Stalls, false);
}

#[test]
fn a_far_end_that_stalls_delays_nobody_elses_messages_while_its_own_go_to_the_disk() {
    assert_isolated(Feed::Tcp, FarEnd::Stalls, true);
}

#[test]
fn a_far_end_that_is_gone_delays_nobody_elses_messages() {
    assert_isolated(Feed::Tcp, FarEnd::Absent, false);
}

#[test]
fn a_far_end_that_is_gone_delays_nobody_elses_messages_while_its_own_go_to_the_disk() {
    assert_isolated(Feed::Tcp, FarEnd::Absent, true);
}

#[test]
fn one_socket_that_feeds_a_stalled_far_end_delays_no_datagram_for_the_other() {
    assert_isolated(Feed::Udp, FarEnd::Stalls, false);
}

#[test]
fn one_socket_that_feeds_a_stalled_far_end_delays_no_datagram_for_the_other_with_a_disk() {
    assert_isolated(Feed::Udp, FarEnd::Stalls, true);
}
