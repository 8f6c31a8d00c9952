//! `forebay send`: test messages at a pace, and what became of them.
//!
//! A tool of its own kind beside the relay: plain sockets and a thread a connection, nothing of the relay but its framing and
//! its TLS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, ValueEnum};
use crossbeam_channel as channel;

use crate::config::units;
use crate::tls;

use super::progress::{Progress, Unit};
use super::run::{EXIT_RUNTIME, signals};
use super::{EXIT_USAGE, print, say};

use books::Books;
use listen::Listener;
use message::Manner;
use report::{Received, Sent};
use sender::{Ended, Order, Tally};
use target::{Target, Tls, Wire};
use trust::Trust;

mod books;
mod listen;
mod message;
mod report;
mod sender;
mod target;
mod trust;

/// What `--help` ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  forebay send
  forebay send tcp://10.0.0.5:514 --rate 5000 --duration 1m --program sshd,nginx,unbound
  forebay send tls://relay.example:6514 --ca ca.pem --count 1000000 --rate max --connections 4
  forebay send unixgram:///dev/log --message 'a test of the relay' --program nginx --count 1
  forebay send udp://10.0.0.5 --file fw-1.log --rate 200
  forebay send tcp://127.0.0.1:514 --rate 1000 --duration 1h --listen tcp://127.0.0.1:10514

What is sent:
  RFC 5424 or RFC 3164 messages: `test message N` and a mark (`forebay-send=RUN.CONNECTION.N.TIME.`)
  under the programs' names in turn. --size fills them up with words. --message sends your own text,
  --file whole messages, a line each, again and again where --count or --duration want more than
  there are. Both carry a mark only where --listen has to know them again: a mark stands behind.

With --listen the far end of the relay is here: give the relay an output that leads to that address
(`to: tcp://127.0.0.1:10514`, or tls:// with --cert and --key), whatever its template, as long as it
prints MSG whole. Octet-counted frames and lines are told apart. Latency is from the moment before a
message is handed to this machine's kernel to the moment after it was read back.

The pace is kept over the whole run: after a pause of the receiver what is due is sent at once.";

/// Connections, each of which takes a thread.
const CONNECTIONS_MAX: i64 = 1_000;

/// Messages where nothing says how many.
const COUNT: u64 = 10;

/// Octets of a message that can be asked for: what the relay's largest `max_message_size` takes.
const SIZE_MAX: u64 = 16 << 20;

/// How often counts are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(super) struct Send {
    /// Where to: udp://, tcp:// or tls:// with HOST:PORT (ports default to 514, 514 and 6514), or unix:// or unixgram:// with
    /// /PATH.
    #[arg(value_name = "URL", default_value = "udp://127.0.0.1:514")]
    to: Target,
    /// Messages a second over all connections, or `max`: as fast as they are taken.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = rate)]
    rate: Rate,
    /// Messages [default: 10; with --duration as many as it takes; with --file its lines].
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// For how long, such as 30s or 5m.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    duration: Option<Duration>,
    /// Octets of each message, such as 400 or 2KiB: shorter ones are filled up.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    size: Option<usize>,
    /// Program names, taken in turn.
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "forebay-send")]
    program: Vec<String>,
    /// HOSTNAME [default: this machine's name].
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// PRI: facility * 8 + severity; 14 is user.info.
    #[arg(long, value_name = "N", default_value_t = 14, value_parser = clap::value_parser!(u8).range(0..=191))]
    pri: u8,
    /// The messages' header.
    #[arg(long, value_enum, default_value_t = Format::Rfc5424)]
    format: Format,
    /// How messages of a stream are told from each other (RFC 6587).
    #[arg(long, value_enum, default_value_t = Framing::Octet)]
    framing: Framing,
    /// Connections, or sockets: each is a source whose order is watched.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    connections: u32,
    /// The text of each message (MSG).
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    message: Option<String>,
    /// Whole messages, a line each, sent as they are.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What words messages are filled up with: the same number, the same words.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Trust anchors for tls://, a PEM file [default: Mozilla's roots].
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The name that the receiver's certificate must carry [default: the URL's host].
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Takes any certificate: for tests only, whoever is between can read along.
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Our certificate for tls://, a PEM file.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Receives the messages back: tcp:// or tls:// with ADDRESS:PORT; port 0 leaves it to the kernel.
    #[arg(long, value_name = "URL", value_parser = listen_at)]
    listen: Option<Listen>,
    /// The certificate to present with --listen tls://, a PEM file.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// With --listen: how long nothing may arrive before the rest is missing.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    wait: Duration,
    /// How long to try to connect where nobody listens yet, and how long a receiver may take to read the end of a stream.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::duration)]
    connect_timeout: Duration,
    /// The report as a JSON object.
    #[arg(long)]
    json: bool,
}

/// Messages a second.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rate {
    Max,
    PerSecond(f64),
}

/// `--format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// `<14>Nov 22 10:11:12 host program[pid]: …`
    #[value(name = "rfc3164", alias = "3164")]
    Rfc3164,
    /// `<14>1 2026-11-22T10:11:12.000000Z host program pid - - …`
    #[value(name = "rfc5424", alias = "5424")]
    Rfc5424,
}

/// `--framing`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Framing {
    /// The length in front of each.
    Octet,
    /// A line each.
    Lf,
}

/// `--listen`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listen {
    address: SocketAddr,
    is_tls: bool,
}

fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    let rate = text.parse::<f64>().ok().filter(|rate| *rate > 0.0 && *rate <= 1e9);
    rate.map(Rate::PerSecond).ok_or_else(|| "expected messages a second, such as 0.5 or 1000, or max".to_owned())
}

fn size(text: &str) -> Result<usize, String> {
    let octets = units::size(text).or_else(|error| text.parse().map_err(|_| error))?;
    if octets > SIZE_MAX {
        return Err(format!("expected no more than {}", units::show_size(SIZE_MAX)));
    }
    usize::try_from(octets).map_err(|error| error.to_string())
}

fn listen_at(text: &str) -> Result<Listen, String> {
    let parts = text.split_once("://").and_then(|(scheme, address)| Some((scheme, address.parse().ok()?)));
    match parts {
        Some(("tcp", address)) => Ok(Listen { address, is_tls: false }),
        Some(("tls", address)) => Ok(Listen { address, is_tls: true }),
        _ => Err("expected tcp:// or tls:// with ADDRESS:PORT".to_owned()),
    }
}

/// Sends what the options ask for.
pub(super) fn send(options: &Send) -> ExitCode {
    if options.listen.is_some_and(|listen| listen.is_tls) != options.cert.is_some() {
        say("--listen tls:// and --cert, --key want each other\n");
        return ExitCode::from(EXIT_USAGE);
    }
    match run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_RUNTIME),
        Err(error) => {
            say(&format!("{error:#}\n"));
            ExitCode::from(EXIT_RUNTIME)
        }
    }
}

/// `Ok(false)`: something failed or is missing.
fn run(options: &Send) -> anyhow::Result<bool> {
    let signals = signals(false).context("cannot wait for signals")?;
    tls::install_provider();
    let manner = manner(options)?;
    let tls = match options.to {
        Target::Tls(..) => Some(tls_of(options)?),
        _ => None,
    };
    let began = Instant::now();
    let listener = options.listen.map(|listen| start_listener(options, listen, manner.run, began)).transpose()?;
    let count = options.count.or(match (&manner.lines, options.duration) {
        (_, Some(_)) => None,
        (Some(lines), None) => Some(lines.len() as u64),
        (None, None) => Some(COUNT),
    });
    let plan = Plan { options, manner: &manner, tls: tls.as_ref(), count, began };
    let tally = Tally::default();
    let sent = plan.send(&tally, &signals)?;
    let received = listener.map(|listener| await_rest(&listener, sent.messages, options.wait, &signals));
    if options.json {
        print(&format!("{}\n", report::object(&sent, received.as_ref())));
    } else {
        print(&report::text(&sent, received.as_ref()));
    }
    Ok(report::is_clean(&sent, received.as_ref()))
}

fn manner(options: &Send) -> anyhow::Result<Manner> {
    let lines = options.file.as_ref().map(lines_of).transpose()?;
    let hostname = options.host.clone().unwrap_or_else(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        name.trim().to_owned()
    });
    Ok(Manner {
        format: options.format,
        pri: options.pri,
        hostname,
        programs: options.program.clone(),
        size: options.size,
        text: options.message.clone(),
        lines,
        is_marked: options.listen.is_some(),
        run: fastrand::u32(..),
        seed: options.seed,
    })
}

/// The lines of a file that are not empty.
fn lines_of(path: &PathBuf) -> anyhow::Result<Vec<Vec<u8>>> {
    let octets = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = octets.split(|octet| *octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let lines: Vec<Vec<u8>> = lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
    anyhow::ensure!(!lines.is_empty(), "{} holds no line to send", path.display());
    Ok(lines)
}

fn tls_of(options: &Send) -> anyhow::Result<Tls> {
    let client = options.client_cert.clone().zip(options.client_key.clone());
    let trust = Trust { ca: options.ca.clone(), client, everybody: options.insecure };
    Ok(Tls { config: trust::client(&trust)?, server_name: options.server_name.clone() })
}

fn start_listener(options: &Send, listen: Listen, run: u32, began: Instant) -> anyhow::Result<Listener> {
    let tls = match (&options.cert, &options.key) {
        (Some(cert), Some(key)) => Some(trust::server(cert, key)?),
        _ => None,
    };
    let books = Books::new(run, options.connections);
    let (listener, address) = Listener::start(listen.address, tls, books, began)?;
    say(&format!("listening on {}://{address}\n", if listen.is_tls { "tls" } else { "tcp" }));
    Ok(listener)
}

/// What is to be sent how.
struct Plan<'a> {
    options: &'a Send,
    manner: &'a Manner,
    tls: Option<&'a Tls>,
    count: Option<u64>,
    began: Instant,
}

impl Plan<'_> {
    /// Sends until all is sent, the time is over, or a signal comes.
    fn send(&self, tally: &Tally, signals: &channel::Receiver<&'static str>) -> anyhow::Result<Sent> {
        let sources = self.options.connections;
        let (stop_tx, stop) = channel::bounded(0);
        let mut orders: Vec<Order<'_>> = (0..sources).map(|source| self.order(source, &stop)).collect();
        let mut wires = Vec::new();
        for order in &orders {
            match sender::connect(order, order.patience) {
                Some(wire) => wires.push(wire.map_err(|error| self.refused(error))?),
                None => anyhow::bail!("stopped before all connections were open"),
            }
        }
        let started = Instant::now();
        for order in &mut orders {
            order.until = self.options.duration.map(|duration| started + duration);
        }
        let ended = self.watch(orders, wires, tally, signals, stop_tx)?;
        let took = ended.iter().map(|ended| ended.at.duration_since(started)).max().unwrap_or_default();
        let mut sent = Sent::new(self.options.to.to_string(), sources, self.rate(), took, tally);
        let errors = ended.into_iter().filter_map(|ended| ended.error);
        sent.errors = errors.map(|error| format!("{}: {error}", self.options.to)).collect();
        sent.errors.dedup();
        Ok(sent)
    }

    fn rate(&self) -> Option<f64> {
        match self.options.rate {
            Rate::Max => None,
            Rate::PerSecond(rate) => Some(rate),
        }
    }

    /// How many messages there are at most.
    fn count(&self) -> Option<u64> {
        let due = self.rate().zip(self.options.duration);
        let due = due.map(|(rate, duration)| (rate * duration.as_secs_f64()).ceil() as u64);
        [self.count, due].into_iter().flatten().min()
    }

    fn order(&self, source: u32, stop: &channel::Receiver<()>) -> Order<'_> {
        let sources = self.options.connections;
        let (all, place) = (u64::from(sources), u64::from(source));
        // What does not divide goes to the first ones.
        let share = |count: u64| count / all + u64::from(place < count % all);
        Order {
            target: &self.options.to,
            tls: self.tls,
            framing: self.options.framing,
            manner: self.manner,
            source,
            sources,
            rate: self.rate(),
            count: self.count().map(share),
            until: None,
            patience: self.options.connect_timeout,
            began: self.began,
            stop: stop.clone(),
        }
    }

    fn refused(&self, error: std::io::Error) -> anyhow::Error {
        let to = &self.options.to;
        let hint = match (error.kind(), to) {
            (std::io::ErrorKind::InvalidData, Target::Tls(..)) => {
                " (--ca FILE names whom to trust, --server-name whom to expect, --insecure trusts everybody)"
            }
            _ => "",
        };
        anyhow::anyhow!("cannot connect to {to}: {error}{hint}")
    }

    /// Runs the connections; shows how far they are.
    fn watch(
        &self,
        orders: Vec<Order<'_>>,
        wires: Vec<Wire>,
        tally: &Tally,
        signals: &channel::Receiver<&'static str>,
        stop_tx: channel::Sender<()>,
    ) -> anyhow::Result<Vec<Ended>> {
        let (unit, total) = self.count().map_or((Unit::Steps, 0), |count| (Unit::Messages, count));
        let progress = Progress::new("sending", unit, total);
        let (ended_tx, ended_rx) = channel::bounded(orders.len());
        let count = orders.len();
        thread::scope(|scope| {
            for (order, wire) in orders.into_iter().zip(wires) {
                let ended_tx = ended_tx.clone();
                let work = move || {
                    let ended = sender::run(&order, wire, tally);
                    // Whoever waits for it has not gone.
                    drop(ended_tx.send(ended));
                };
                thread::Builder::new()
                    .name("sender".into())
                    .spawn_scoped(scope, work)
                    .context("cannot start a thread")?;
            }
            let mut stop_tx = Some(stop_tx);
            let (mut ended, mut shown) = (Vec::new(), 0);
            let looks = channel::tick(LOOK_EVERY);
            while ended.len() < count {
                channel::select! {
                    recv(ended_rx) -> one => ended.extend(one),
                    // A connection ends with its next message.
                    recv(signals) -> _ => drop(stop_tx.take()),
                    recv(looks) -> _ => {
                        let sent = tally.sent.load(Relaxed) + tally.failed.load(Relaxed);
                        progress.advance(sent - shown);
                        progress.turn();
                        shown = sent;
                    }
                }
            }
            Ok(ended)
        })
    }
}

/// Waits until everything is back, or nothing has come for as long as `wait`.
fn await_rest(listener: &Listener, sent: u64, wait: Duration, signals: &channel::Receiver<&'static str>) -> Received {
    let progress = Progress::new("waiting for the rest", Unit::Messages, sent);
    let (mut shown, mut heard_at) = (0, Instant::now());
    let looks = channel::tick(LOOK_EVERY);
    loop {
        let different = listener.look(Books::different);
        if different > shown {
            progress.advance(different - shown);
            (shown, heard_at) = (different, Instant::now());
        }
        if different >= sent || heard_at.elapsed() >= wait {
            break;
        }
        channel::select! {
            recv(looks) -> _ => {}
            recv(signals) -> _ => break,
        }
    }
    listener.look(|books| Received::new(books, sent))
}
