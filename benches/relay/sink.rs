//! The collector: a TLS server that checks every message it gets, answers it where it comes over RELP, and costs as little as
//! that can.
//!
//! Connections are checked on a thread each and share nothing but one counter; the books are put together at the end.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::Context;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use forebay::relp::frame::{Command, decode, encode};
use forebay::relp::server;

use crate::message::{PROGRAMS, SOURCES_MAX, intake_key, now_us, read_stamp};

/// The name that the certificate carries.
pub const SERVER_NAME: &str = "localhost";

/// One read's octets at most. More than a TLS record (16 KiB and a little) must fit.
const READ: usize = 256 * 1024;
/// A sequence number over this is a damaged one: 2³² messages of one source are days of full speed.
const SEQUENCE_MAX: u64 = 1 << 32;
/// What is answered to a RELP client's offers.
const OFFERS: &[u8] = b"200 OK\nrelp_version=0\nrelp_software=sink\ncommands=syslog";
/// The longest RELP data.
const DATA_MAX: usize = 64 * 1024;
/// Only every so many messages are timed at full speed, where latency is that of full queues anyway.
const LATENCY_SAMPLE: u64 = 16;

/// What all messages must be like.
#[derive(Clone, Copy, Debug)]
pub struct Expectation {
    /// They carry their program's key.
    pub keys: bool,
    /// Messages of each source that come first and are not timed: connections are still being opened.
    pub untimed: u64,
    /// Time all, not samples.
    pub time_all: bool,
    /// They come as RELP commands, and are answered.
    pub relp: bool,
}

/// A certificate authority that is its only certificate, in files that relays can be pointed at.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    /// The certificate, PEM.
    pub ca: PathBuf,
}

impl Identity {
    /// Makes one and writes it to `dir`.
    pub fn new(dir: &std::path::Path) -> anyhow::Result<Self> {
        let key = rcgen::KeyPair::generate()?;
        let names = vec![SERVER_NAME.to_owned(), Ipv4Addr::LOCALHOST.to_string()];
        let mut parameters = rcgen::CertificateParams::new(names)?;
        parameters.distinguished_name.push(rcgen::DnType::CommonName, SERVER_NAME);
        let authority_key = rcgen::KeyPair::generate()?;
        let mut authority = rcgen::CertificateParams::new(Vec::new())?;
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, "bench authority");
        let ca = dir.join("ca.pem");
        std::fs::write(&ca, authority.self_signed(&authority_key)?.pem())?;
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let certificate = parameters.signed_by(&key, &issuer)?.der().clone();
        Ok(Self { certificate, key: key.serialize_der(), ca })
    }
}

/// What arrived.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Messages, repeated ones included.
    pub received: u64,
    /// Different messages.
    pub unique: u64,
    /// With another program's key.
    pub misrouted: u64,
    /// Not what was sent.
    pub damaged: u64,
    /// Behind a later one of the same source and program on the same connection.
    pub out_of_order: u64,
    /// Connections that carried messages.
    pub connections: usize,
    /// From sending to arrival.
    pub latency: Histogram,
    /// Arrival of the last one, microseconds since the Unix epoch.
    pub last_us: u64,
    /// How connections ended that did not end in order.
    pub errors: Vec<String>,
}

/// A running collector.
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: thread::JoinHandle<()>,
}

struct Shared {
    config: Arc<rustls::ServerConfig>,
    expectation: Expectation,
    received: AtomicU64,
    stopping: AtomicBool,
    threads: Mutex<Vec<thread::JoinHandle<Books>>>,
}

impl Sink {
    /// Listens on a free port.
    pub fn start(identity: &Identity, expectation: Expectation) -> anyhow::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), identity, expectation)
    }

    /// Listens at `address`.
    pub fn start_at(address: SocketAddr, identity: &Identity, expectation: Expectation) -> anyhow::Result<Self> {
        let key = PrivateKeyDer::try_from(identity.key.clone()).map_err(anyhow::Error::msg)?;
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate.clone()], key)?;
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            config: Arc::new(config),
            expectation,
            received: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            threads: Mutex::default(),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self { address, shared, acceptor })
    }

    /// Messages so far.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// Takes no more connections, waits for the open ones to end (the relay must have been stopped), and adds up.
    pub fn finish(self) -> anyhow::Result<Arrivals> {
        self.shared.stopping.store(true, Ordering::Release);
        // Wakes the acceptor.
        drop(TcpStream::connect(self.address));
        self.acceptor.join().map_err(|_| anyhow::anyhow!("the sink's acceptor panicked"))?;
        let threads = std::mem::take(&mut *self.shared.threads.lock().map_err(|_| anyhow::anyhow!("poisoned"))?);
        let mut all = Vec::new();
        for thread in threads {
            all.push(thread.join().map_err(|_| anyhow::anyhow!("a sink's connection panicked"))?);
        }
        Ok(add_up(&all))
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let connection = thread::spawn({
            let shared = Arc::clone(shared);
            move || {
                let mut books = Books::new(shared.expectation);
                if let Err(error) = serve(stream, &shared, &mut books) {
                    books.error = Some(error);
                }
                books
            }
        });
        if let Ok(mut threads) = shared.threads.lock() {
            threads.push(connection);
        }
    }
}

/// One connection to its end. Records are decrypted where they were read.
fn serve(mut socket: TcpStream, shared: &Shared, books: &mut Books) -> anyhow::Result<()> {
    socket.set_nodelay(true)?;
    let mut tls = UnbufferedServerConnection::new(Arc::clone(&shared.config))?;
    let mut buffer = vec![0; READ];
    let (mut start, mut end) = (0, 0);
    // Answers to all that one read brings: some five thousand of 20 octets, and as many records' overhead.
    let mut answer = vec![0; READ];
    let mut answer_len = 0;
    let mut answers = Vec::new();
    let mut text = Vec::with_capacity(READ);
    loop {
        let UnbufferedStatus { mut discard, state, .. } = tls.process_tls_records(&mut buffer[start..end]);
        let mut starved = false;
        let mut over = false;
        match state? {
            ConnectionState::EncodeTlsData(mut data) => {
                answer_len += data.encode(&mut answer[answer_len..]).context("an answer within its buffer")?;
            }
            ConnectionState::TransmitTlsData(data) => {
                socket.write_all(&answer[..answer_len])?;
                answer_len = 0;
                data.done();
            }
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    text.extend_from_slice(record.payload);
                }
            }
            ConnectionState::WriteTraffic(mut traffic) => {
                starved = true;
                books.take(&mut text, &mut answers, shared)?;
                if !answers.is_empty() {
                    let count = traffic.encrypt(&answers, &mut answer).context("answers within their buffer")?;
                    socket.write_all(&answer[..count])?;
                    answers.clear();
                }
            }
            ConnectionState::BlockedHandshake => starved = true,
            ConnectionState::PeerClosed | ConnectionState::Closed => over = true,
            other => anyhow::bail!("unexpected TLS state: {other:?}"),
        }
        start += discard;
        if over {
            return books.take(&mut text, &mut answers, shared);
        }
        if starved {
            buffer.copy_within(start..end, 0);
            end -= start;
            start = 0;
            let count = match socket.read(&mut buffer[end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if count == 0 {
                return Ok(());
            }
            end += count;
        }
    }
}

/// What one connection brought.
struct Books {
    expectation: Expectation,
    keys: Vec<Vec<u8>>,
    received: u64,
    repeated: u64,
    misrouted: u64,
    damaged: u64,
    out_of_order: u64,
    latency: Histogram,
    last_us: u64,
    seen: BTreeMap<usize, Vec<u64>>,
    latest: Vec<Option<u64>>,
    error: Option<anyhow::Error>,
}

impl Books {
    fn new(expectation: Expectation) -> Self {
        Self {
            expectation,
            keys: (0..PROGRAMS.len()).map(|program| intake_key(program).into_bytes()).collect(),
            received: 0,
            repeated: 0,
            misrouted: 0,
            damaged: 0,
            out_of_order: 0,
            latency: Histogram::default(),
            last_us: 0,
            seen: BTreeMap::new(),
            latest: vec![None; SOURCES_MAX * PROGRAMS.len()],
            error: None,
        }
    }

    /// Takes all whole messages off `text`; the rest moves to its front. Appends to `answers` what is to be answered.
    fn take(&mut self, text: &mut Vec<u8>, answers: &mut Vec<u8>, shared: &Shared) -> anyhow::Result<()> {
        let now = now_us();
        let mut rest = text.as_slice();
        let mut count = 0;
        if self.expectation.relp {
            while let Some((frame, taken)) = decode(rest, DATA_MAX)? {
                rest = &rest[taken..];
                match frame.command {
                    Some(Command::Syslog) => {
                        count += 1;
                        self.check(frame.data.strip_suffix(b"\n").unwrap_or(frame.data), now);
                        server::acknowledge(frame.txnr, answers);
                    }
                    Some(Command::Open) => encode(frame.txnr, Command::Rsp, OFFERS, answers),
                    Some(Command::Close) => server::closed(frame.txnr, answers),
                    _ => anyhow::bail!("unexpected RELP command"),
                }
            }
        }
        while !self.expectation.relp
            && let Some((message, after)) = next_message(rest)
        {
            rest = after;
            count += 1;
            self.check(message, now);
        }
        let left = rest.len();
        let used = text.len() - left;
        text.copy_within(used.., 0);
        text.truncate(left);
        if count > 0 {
            self.received += count;
            self.last_us = now;
            shared.received.fetch_add(count, Ordering::Relaxed);
        }
        Ok(())
    }

    fn check(&mut self, message: &[u8], now: u64) {
        let Some(stamp) = read_stamp(message).filter(|stamp| stamp.sequence < SEQUENCE_MAX) else {
            self.damaged += 1;
            return;
        };
        let program = stamp.sequence as usize % PROGRAMS.len();
        if self.expectation.keys && key_of(message) != self.keys.get(program).map(Vec::as_slice) {
            self.misrouted += 1;
        }
        let words = self.seen.entry(stamp.source).or_default();
        let (word, bit) = ((stamp.sequence / 64) as usize, 1 << (stamp.sequence % 64));
        if words.len() <= word {
            words.resize((word + 1).next_power_of_two(), 0);
        }
        self.repeated += u64::from(words[word] & bit != 0);
        words[word] |= bit;
        let latest = &mut self.latest[stamp.source * PROGRAMS.len() + program];
        self.out_of_order += u64::from(latest.is_some_and(|latest| stamp.sequence < latest));
        *latest = (*latest).max(Some(stamp.sequence));
        let timed = self.expectation.time_all || stamp.sequence % LATENCY_SAMPLE == 0;
        if timed && stamp.sequence >= self.expectation.untimed {
            self.latency.record(now.saturating_sub(stamp.sent_us));
        }
    }
}

/// The intake key of a rendered message.
fn key_of(message: &[u8]) -> Option<&[u8]> {
    let from = memchr::memchr(b'[', message)?;
    message.get(from..)?.strip_prefix(b"[SEKOIA@53288 intake_key=\"")?.get(..32)
}

/// The first message of `text` without its LF, and what follows: octet-counted where it begins with a digit, else up to
/// the LF (syslog-ng's `network()` and the floor write those).
fn next_message(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if !text.first()?.is_ascii_digit() {
        let end = memchr::memchr(b'\n', text)?;
        return Some((&text[..end], &text[end + 1..]));
    }
    let mut len = 0_usize;
    for (at, octet) in text.iter().enumerate() {
        if *octet == b' ' {
            let (message, after) = text.get(at + 1..)?.split_at_checked(len)?;
            return Some((message.strip_suffix(b"\n").unwrap_or(message), after));
        }
        len = len.saturating_mul(10).saturating_add(usize::from(octet.wrapping_sub(b'0')));
    }
    None
}

fn add_up(all: &[Books]) -> Arrivals {
    let mut arrivals = Arrivals::default();
    let mut seen: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for books in all {
        arrivals.received += books.received;
        arrivals.misrouted += books.misrouted;
        arrivals.damaged += books.damaged;
        arrivals.out_of_order += books.out_of_order;
        arrivals.connections += usize::from(books.received > 0);
        arrivals.latency.add(&books.latency);
        arrivals.errors.extend(books.error.as_ref().map(|error| format!("{error:#}")));
        arrivals.last_us = arrivals.last_us.max(books.last_us);
        for (source, words) in &books.seen {
            let sum = seen.entry(*source).or_default();
            sum.resize(sum.len().max(words.len()), 0);
            sum.iter_mut().zip(words).for_each(|(sum, word)| *sum |= word);
        }
    }
    arrivals.unique = seen.values().flatten().map(|word| u64::from(word.count_ones())).sum();
    arrivals
}

/// Counts of microseconds, in buckets that are at most 1/16 wide.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; 64 * 16] }
    }
}

impl Histogram {
    fn record(&mut self, value: u64) {
        let value = value.max(16);
        let scale = value.ilog2() - 4;
        // The four bits after the leading one.
        let index = (scale as usize) * 16 + ((value >> scale) as usize & 15);
        self.buckets[index] += 1;
    }

    fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, count)| *sum += count);
    }

    /// The upper bound in microseconds of the bucket that holds the `share` (0 to 1) of all; `None` of nothing.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let total: u64 = self.buckets.iter().sum();
        let rank = ((total as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            below += count;
            if below >= rank {
                return Some((17 + index as u64 % 16) << (index / 16));
            }
        }
        None
    }
}
