//! Mixed load for a while: the memory at the end is that of the beginning.
//!
//! A few seconds in `cargo test`; `FOREBAY_SOAK_SECONDS=600 cargo test --release --test soak` is the ten minutes.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may panic, and says what it measured"
)]

#[path = "support/harness.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use support::relay::{Relay, count};
use support::waiting::pause;

/// Without `FOREBAY_SOAK_SECONDS`: long enough for every kind of load to come by several times.
const SECONDS: u64 = 12;

/// What the allocator may keep more at the end than after the beginning, bytes.
const GROWTH_MAX: u64 = 8 << 20;

/// How long the sink reads before it resets the connection.
const RESET_EVERY: Duration = Duration::from_secs(3);

/// A collector that only counts octets, so that an hour of load does not fill the test's own memory. It resets its
/// connections now and then.
fn sink(octets: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, octets) = (stream.expect("accept"), Arc::clone(&octets));
            thread::spawn(move || {
                let until = Instant::now() + RESET_EVERY;
                let mut buffer = vec![0; 256 * 1024];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    octets.fetch_add(read as u64, Relaxed);
                    if Instant::now() > until {
                        let reset = Some(Duration::ZERO);
                        socket2::SockRef::from(&stream).set_linger(reset).expect("linger");
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Short connections, in both framings, with lines of all sizes; the last line of each is not finished.
fn streams(to: SocketAddr, round: u64) {
    let Ok(mut stream) = TcpStream::connect(to) else { return };
    let mut text = Vec::new();
    for line in 0..500 {
        let size = [20, 170, 900, 8_000][(round + line) as usize % 4];
        let message = format!("<13>Nov 22 10:11:12 host app{}[{line}]: {}", line % 20, "x".repeat(size));
        if line % 2 == 0 {
            text.extend_from_slice(format!("{} {message}", message.len()).as_bytes());
        } else {
            text.extend_from_slice(format!("{message}\n").as_bytes());
        }
    }
    text.extend_from_slice(b"<13>Nov 22 10:11:12 host app: without an end");
    // The relay may have to make us wait, and may be stopping. It closes once it has taken all.
    drop(stream.write_all(&text));
    drop(stream.shutdown(Shutdown::Write));
    drop(stream.read(&mut [0; 1]));
}

/// Names that nobody knows, no headers at all, and now and then the largest datagram there is.
fn datagrams(socket: &UdpSocket, to: SocketAddr, round: u64) {
    for number in 0..200 {
        let text = format!("<{}>prog{}-{round}: {number}", number % 200, number % 7);
        drop(socket.send_to(text.as_bytes(), to));
    }
    drop(socket.send_to(&vec![b'y'; 60_000], to));
    pause(Duration::from_millis(2));
}

/// The largest resident memory seen within `time`, bytes.
fn resident_within(relay: &Relay, time: Duration) -> u64 {
    let until = Instant::now() + time;
    let mut largest = 0;
    while Instant::now() < until {
        largest = largest.max(relay.resident());
        pause(Duration::from_millis(50));
    }
    largest
}

#[test]
fn memory_after_a_long_mixed_load_is_that_of_its_beginning() {
    let seconds = std::env::var("FOREBAY_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let octets = Arc::new(AtomicU64::new(0));
    let configuration = format!(
        "inputs: {{lan: {{listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0']}}}}\n\
         outputs: {{sink: {{to: 'tcp://{}'}}}}\n\
         routes:\n\
         - {{program: 'app1*', intake_key: KEYKEYKEYKEYKEY1}}\n\
         - {{program: 'app*', intake_key: KEYKEYKEYKEYKEY2}}\n\
         - {{severity: debug, discard: true}}\n\
         - {{program: 'prog*', intake_key: KEYKEYKEYKEYKEY3}}\n",
        sink(Arc::clone(&octets))
    );
    let mut relay = Relay::start(&configuration);
    let over = Arc::new(AtomicBool::new(false));
    let (tcp, udp) = (relay.address("lan", "tcp"), relay.address("lan", "udp"));
    let load = |work: Box<dyn Fn(u64) + Send>| {
        let over = Arc::clone(&over);
        thread::spawn(move || (0..).take_while(|_| !over.load(Relaxed)).for_each(work))
    };
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let loads = [
        load(Box::new(move |round| streams(tcp, round))),
        load(Box::new(move |round| streams(tcp, round + 1))),
        load(Box::new(move |round| datagrams(&socket, udp, round))),
    ];
    let tenth = Duration::from_secs(seconds) / 10;
    // Twice, so that every buffer has had its occasion to grow.
    resident_within(&relay, 2 * tenth);
    let first = resident_within(&relay, tenth);
    resident_within(&relay, 6 * tenth);
    let last = resident_within(&relay, tenth);
    over.store(true, Relaxed);
    loads.into_iter().for_each(|load| load.join().expect("a load"));
    let status = relay.status();
    let received = count(status.input("lan"), "received");
    println!(
        "{seconds} s: {received} messages, resident {} MiB after the beginning and {} MiB at the end",
        first >> 20,
        last >> 20
    );
    assert!(received > 1_000 * seconds && octets.load(Relaxed) > 1_000_000, "there was hardly any load: {}", status.0);
    assert!(last <= first + first / 10 + GROWTH_MAX, "resident grew from {first} to {last} bytes");
    status_balances(&relay);
    relay.stop_clean();
}

fn status_balances(relay: &Relay) {
    relay.status_when("everything is written", |status| {
        ["app1*", "app*", "prog*"].iter().all(|route| count(status.route(route), "waiting") == 0)
    });
    relay.status().assert_balanced();
}
