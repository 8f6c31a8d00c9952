//! A sender that never stops by itself: numbered messages over TCP, thousands a second.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::senders::{connect, finish};
use super::waiting::pause;

/// Messages of one write, and the pause behind it: some 5,000 a second.
const BURST: u64 = 25;
const PACE: Duration = Duration::from_millis(5);

/// One message; the collector knows it by its number.
pub fn numbered(number: u64) -> String {
    format!("<134>Nov 22 10:00:00 gate counter[7]: n={number} the gate let the water through to the wheel\n")
}

/// A running sender.
pub struct Load {
    stop: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Load {
    /// Starts sending, LF-framed, to a TCP input.
    pub fn start(to: SocketAddr) -> Self {
        let (stop, paused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let sent = Arc::new(AtomicU64::new(0));
        let (stop_seen, paused_seen, counted) = (Arc::clone(&stop), Arc::clone(&paused), Arc::clone(&sent));
        let thread = thread::spawn(move || {
            let mut stream = connect(to);
            let mut number = 0;
            while !stop_seen.load(Relaxed) {
                if !paused_seen.load(Relaxed) {
                    let burst: String = (number..number + BURST).map(numbered).collect();
                    number += BURST;
                    stream.write_all(burst.as_bytes()).unwrap();
                    counted.store(number, Relaxed);
                }
                pause(PACE);
            }
            finish(stream);
        });
        Self { stop, paused, sent, thread }
    }

    /// Messages sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Sends nothing until [`Self::resume`].
    pub fn pause(&self) {
        self.paused.store(true, Relaxed);
    }

    /// Sends again.
    pub fn resume(&self) {
        self.paused.store(false, Relaxed);
    }

    /// Ends the sending and returns, once the relay has read everything, how many messages there were: numbers from 0.
    pub fn finish(self) -> u64 {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("the relay took everything");
        self.sent.load(Relaxed)
    }
}

/// The numbers below `count` that are missing, the first of them; and how many arrived more than once.
pub fn missing_and_duplicates(numbers: &BTreeMap<u64, u64>, count: u64) -> (Vec<u64>, u64) {
    let missing = (0..count).filter(|number| !numbers.contains_key(number)).take(10).collect();
    (missing, numbers.values().map(|times| times - 1).sum())
}
