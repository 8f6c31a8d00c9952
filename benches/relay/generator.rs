//! The sender, a process of its own so that its CPU is apart: messages are rendered once, only their stamps change.
//!
//! It opens its connections, prints `ready`, waits for a line on its standard input, sends, prints a [`Sent`] as JSON,
//! and holds its idle connections open until its standard input ends.

use std::io::{self, BufRead, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::message::{self, MESSAGE_LEN, PROGRAMS, now_us};
use crate::system;

/// Messages in a block of the full-speed TCP sender: 384 × 171 octets are about 64 KiB.
const BLOCK: usize = 384;
/// Datagrams a system call.
const DATAGRAMS: usize = 32;
/// Sources of UDP: as many flows, so that every shard of a relay gets some.
const UDP_SOURCES: usize = 16;
/// Between two looks at the clock of a paced sender.
const PACE: Duration = Duration::from_micros(200);
/// A relay that takes nothing for so long has failed.
const STALL_MAX: Duration = Duration::from_secs(15);

/// What to send.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The relay's address.
    pub to: SocketAddr,
    /// Datagrams instead of streams.
    pub udp: bool,
    /// TCP connections that send; each is a source.
    pub connections: usize,
    /// TCP connections that are opened before and say nothing.
    pub idle: usize,
    /// Messages a second, all sources together; `None` is as fast as it goes.
    pub rate: Option<u64>,
    /// For how long.
    pub seconds: f64,
    /// And no more than so many.
    pub messages_max: Option<u64>,
}

/// What was sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sent {
    /// Messages of each source.
    pub per_source: Vec<u64>,
    /// When sending began, microseconds since the Unix epoch.
    pub began_us: u64,
    /// How long it took.
    pub seconds: f64,
}

impl Sent {
    /// Messages of all sources.
    pub fn total(&self) -> u64 {
        self.per_source.iter().sum()
    }
}

/// The process's main.
pub fn main(order: &Order) -> anyhow::Result<()> {
    system::raise_open_files()?;
    system::sharpen_sleep();
    let idle = (0..order.idle)
        .map(|_| TcpStream::connect(order.to))
        .collect::<io::Result<Vec<_>>>()
        .context("opening the idle connections")?;
    let sent = match (order.udp, order.rate) {
        (true, rate) => datagrams(order, rate.context("UDP needs a rate")?)?,
        (false, Some(rate)) => paced(order, rate)?,
        (false, None) => full_speed(order)?,
    };
    let mut out = io::stdout();
    writeln!(out, "{}", serde_json::to_string(&sent)?)?;
    out.flush()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    drop(idle);
    Ok(())
}

/// Tells the parent that all is open, and waits for its word.
fn wait_for_start() -> io::Result<Instant> {
    let mut out = io::stdout();
    writeln!(out, "ready")?;
    out.flush()?;
    io::stdin().lock().read_line(&mut String::new())?;
    Ok(Instant::now())
}

fn connect(order: &Order) -> io::Result<Vec<TcpStream>> {
    (0..order.connections)
        .map(|_| {
            let stream = TcpStream::connect(order.to)?;
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(STALL_MAX))?;
            Ok(stream)
        })
        .collect()
}

fn full_speed(order: &Order) -> anyhow::Result<Sent> {
    let streams = connect(order)?;
    let share = order.messages_max.map_or(u64::MAX, |max| max / streams.len() as u64);
    let began = wait_for_start()?;
    let began_us = now_us();
    let until = began + Duration::from_secs_f64(order.seconds);
    let threads: Vec<_> = streams
        .into_iter()
        .enumerate()
        .map(|(source, stream)| thread::spawn(move || pour(stream, source, until, share)))
        .collect();
    let mut per_source = Vec::new();
    for thread in threads {
        let count = thread.join().map_err(|_| anyhow::anyhow!("a sender panicked"))?;
        per_source.push(count.context("the relay stopped taking messages")?);
    }
    Ok(Sent { per_source, began_us, seconds: began.elapsed().as_secs_f64() })
}

/// Writes blocks into one connection until the time or the share is up. Returns how many messages.
fn pour(mut stream: TcpStream, source: usize, until: Instant, share: u64) -> io::Result<u64> {
    let samples = message::samples(source);
    let line = MESSAGE_LEN + 1;
    let mut block = Vec::with_capacity(BLOCK * line);
    for sample in samples.iter().cycle().take(BLOCK) {
        block.extend_from_slice(sample);
        block.push(b'\n');
    }
    let mut sequence = 0;
    while sequence < share && Instant::now() < until {
        let time = message::digits(now_us());
        let count = (share - sequence).min(BLOCK as u64) as usize;
        for line in block.chunks_exact_mut(line).take(count) {
            message::stamp(&mut line[..MESSAGE_LEN], sequence, &time);
            sequence += 1;
        }
        stream.write_all(&block[..count * line])?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    Ok(sequence)
}

/// How many messages are due `elapsed` after the start.
fn due(order: &Order, rate: u64, elapsed: Duration) -> u64 {
    let total = (rate as f64 * order.seconds) as u64;
    let total = order.messages_max.map_or(total, |max| total.min(max));
    ((rate as f64 * elapsed.as_secs_f64()) as u64).min(total)
}

fn paced(order: &Order, rate: u64) -> anyhow::Result<Sent> {
    let mut streams = connect(order)?;
    let mut lines: Vec<Vec<Vec<u8>>> = (0..streams.len()).map(message::samples).collect();
    lines.iter_mut().flatten().for_each(|line| line.push(b'\n'));
    let mut per_source = vec![0_u64; streams.len()];
    let began = wait_for_start()?;
    let began_us = now_us();
    let last = due(order, rate, Duration::MAX / 4);
    let mut sent = 0;
    while sent < last {
        while sent < due(order, rate, began.elapsed()) {
            let source = sent as usize % streams.len();
            let sequence = per_source[source];
            let line = &mut lines[source][sequence as usize % PROGRAMS.len()];
            message::stamp(&mut line[..MESSAGE_LEN], sequence, &message::digits(now_us()));
            streams[source].write_all(line)?;
            per_source[source] += 1;
            sent += 1;
        }
        thread::sleep(PACE);
    }
    for stream in &streams {
        stream.shutdown(std::net::Shutdown::Write)?;
    }
    Ok(Sent { per_source, began_us, seconds: began.elapsed().as_secs_f64() })
}

fn datagrams(order: &Order, rate: u64) -> anyhow::Result<Sent> {
    let mut sources = Vec::new();
    for source in 0..UDP_SOURCES {
        let socket = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(order.to)?;
        let bytes = message::samples(source).iter().cycle().take(DATAGRAMS).flatten().copied().collect();
        sources.push((socket, system::Datagrams::new(bytes, MESSAGE_LEN), 0_u64));
    }
    let began = wait_for_start()?;
    let began_us = now_us();
    // Whole rounds of the programs only: the slot in the block names the program.
    let round = PROGRAMS.len() as u64;
    let last = due(order, rate, Duration::MAX / 4) / round * round;
    let mut sent = 0;
    let mut turn = 0;
    while sent < last {
        loop {
            let behind = due(order, rate, began.elapsed()).min(last) - sent;
            let count = (behind / round * round).min(DATAGRAMS as u64);
            if count == 0 {
                break;
            }
            let (socket, block, sequence) = &mut sources[turn % UDP_SOURCES];
            let time = message::digits(now_us());
            for index in 0..count as usize {
                message::stamp(block.get_mut(index), *sequence + index as u64, &time);
            }
            block.send(socket, count as usize)?;
            *sequence += count;
            sent += count;
            turn += 1;
        }
        thread::sleep(PACE);
    }
    let per_source = sources.iter().map(|(_, _, sequence)| *sequence).collect();
    Ok(Sent { per_source, began_us, seconds: began.elapsed().as_secs_f64() })
}
