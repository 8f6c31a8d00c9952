//! `forebay demo`: the relay, with a collector in Sekoia's place and a stream of messages, on loopback.
//!
//! Everything goes through real sockets and the relay that `forebay run` runs. Nothing of it is simulated but the
//! collector's name and what the messages say. Needs no root, no file and no network.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use crossbeam_channel as channel;

use crate::config::{Action, Config, Log, LogFormat};
use crate::relay::Relay;
use crate::tls;

use super::run::{EXIT_RUNTIME, signals};
use super::{log, say};

use collector::Arrival;
use identity::Identity;
use samples::Sample;
use show::{Line, Screen};
use start::Started;

mod collector;
mod identity;
mod samples;
mod show;
mod start;

/// Arrivals that may wait to be printed; behind them the collector waits, and behind it the relay.
const EVENTS_MAX: usize = 1_024;

/// How long the last samples may take: the relay's own connect and handshake timeouts are shorter than that.
const ARRIVALS_WITHIN: Duration = Duration::from_secs(30);

/// How long the ledger may take to settle behind the last arrival: `replay_quiet` and some looks at the socket, on a
/// machine that is busy with something else.
const SETTLES_WITHIN: Duration = Duration::from_secs(15);

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long the stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Ends after the summary, without waiting for messages of yours; exits with 1 if a message was lost.
    #[arg(long)]
    once: bool,
    /// How many sample messages are sent.
    #[arg(long, value_name = "COUNT", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    messages: u32,
}

/// What happens while the demo runs.
enum Event {
    /// The collector has read a message.
    Arrived(Arrival),
    /// All samples are sent, or one cannot be.
    Sent(anyhow::Result<()>),
}

/// What the samples came to.
#[derive(Debug, Default)]
struct Totals {
    /// Samples that a route forwards.
    expected: usize,
    /// Different ones that arrived.
    arrived: usize,
    /// Arrived with another route's key.
    misrouted: usize,
    /// Arrived again.
    repeated: usize,
    latencies: Vec<Duration>,
}

impl Totals {
    fn is_clean(&self) -> bool {
        self.arrived == self.expected && self.misrouted == 0
    }
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    /// What was waited for.
    Done,
    /// It did not come in time.
    Late,
    /// A signal, or nobody looks any more.
    Stop,
}

/// Runs it until the first SIGTERM or SIGINT.
pub(super) fn demo(options: &Demo) -> ExitCode {
    match run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_RUNTIME),
        Err(error) => {
            say(&format!("the demo failed: {error:#}\n"));
            ExitCode::from(EXIT_RUNTIME)
        }
    }
}

/// `Ok(false)`: something was lost.
fn run(options: &Demo) -> anyhow::Result<bool> {
    let log = log::start(&Log { level: "warn".to_owned(), format: LogFormat::Text }).map_err(anyhow::Error::msg)?;
    let _log = log.in_background();
    let signals = signals(false).context("cannot wait for signals")?;
    tls::install_provider();
    // Kept to the end: the relay looks at its file again.
    let identity = Identity::new().context("the collector has no certificate")?;
    let (event_tx, events) = channel::bounded(EVENTS_MAX);
    let collector = collector::start(Arc::clone(&identity.server), event_tx.clone())?;
    let Started { relay, ports, .. } = &start::start(&identity.ca, collector.port())?;
    let samples = samples::samples(options.messages);
    let mut screen = Screen::new();
    screen.introduction(relay, collector.port(), samples.len());
    let config = relay.config();
    let mut watcher = Watcher::new((relay, &config), &samples, &events, &signals, screen);
    let (stop_tx, stop) = channel::bounded(0);
    let send = {
        let (samples, ports) = (Arc::clone(&samples), *ports);
        move || drop(event_tx.send(Event::Sent(samples::send(&samples, ports, &stop))))
    };
    thread::Builder::new().name("samples".into()).spawn(send).context("cannot start a thread")?;
    let wake = watcher.watch_samples()?;
    if wake != Wake::Stop {
        watcher.sum_up();
        if !options.once {
            watcher.screen.invitation(relay, *ports);
            watcher.watch(None, |_| false)?;
        }
    }
    drop(stop_tx);
    let delivered = watcher.stop(options.once);
    Ok(delivered && (wake == Wake::Stop || watcher.totals.is_clean()))
}

/// Reads what arrives, prints it, and keeps the totals.
struct Watcher<'a> {
    relay: &'a Relay,
    samples: &'a [Sample],
    events: &'a channel::Receiver<Event>,
    signals: &'a channel::Receiver<&'static str>,
    screen: Screen,
    /// By text: which sample, and whether it has arrived.
    by_text: HashMap<&'a str, (usize, bool)>,
    /// By key: which route.
    by_key: HashMap<&'a [u8], &'a str>,
    totals: Totals,
    first: Option<String>,
    all_sent: bool,
}

impl<'a> Watcher<'a> {
    fn new(
        (relay, config): (&'a Relay, &'a Config),
        samples: &'a [Sample],
        events: &'a channel::Receiver<Event>,
        signals: &'a channel::Receiver<&'static str>,
        screen: Screen,
    ) -> Self {
        let by_text = samples.iter().enumerate().map(|(index, sample)| (sample.text.as_str(), (index, false)));
        let expected = samples.iter().filter(|sample| !sample.is_discarded()).count();
        Self {
            relay,
            samples,
            events,
            signals,
            screen,
            by_text: by_text.collect(),
            by_key: keys(config),
            totals: Totals { expected, ..Totals::default() },
            first: None,
            all_sent: false,
        }
    }

    /// Until all samples have arrived and the ledger has settled.
    fn watch_samples(&mut self) -> anyhow::Result<Wake> {
        // The sender keeps its own pace: only what comes after the last sample is bounded.
        let wake = self.watch(None, |watcher| watcher.all_sent)?;
        if wake == Wake::Stop {
            return Ok(wake);
        }
        let wake = self.watch(Some(ARRIVALS_WITHIN), |watcher| watcher.totals.arrived >= watcher.totals.expected)?;
        if wake == Wake::Stop {
            return Ok(wake);
        }
        self.watch(Some(SETTLES_WITHIN), |watcher| watcher.is_settled())
    }

    /// Prints what arrives until `is_done`, the time is over, or somebody wants it to end.
    fn watch(&mut self, within: Option<Duration>, is_done: impl Fn(&Self) -> bool) -> anyhow::Result<Wake> {
        let until = within.map(|within| Instant::now() + within);
        let looks = channel::tick(LOOK_EVERY);
        loop {
            if self.screen.is_closed {
                return Ok(Wake::Stop);
            }
            if is_done(self) {
                return Ok(Wake::Done);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(Wake::Late);
            }
            channel::select! {
                recv(self.events) -> event => match event.context("the collector ended")? {
                    Event::Arrived(arrival) => self.arrived(&arrival),
                    Event::Sent(sent) => {
                        sent?;
                        self.all_sent = true;
                    }
                },
                recv(self.signals) -> _ => return Ok(Wake::Stop),
                recv(self.relay.ended()) -> _ => anyhow::bail!("a shard of the relay ended by itself: a bug, please report it"),
                recv(looks) -> _ => {}
            }
        }
    }

    fn arrived(&mut self, arrival: &Arrival) {
        let message = String::from_utf8_lossy(&arrival.octets);
        let rendered = show::read(&message);
        let route = rendered.as_ref().and_then(|read| self.by_key.get(read.intake_key.as_bytes()).copied());
        let known = rendered.as_ref().and_then(|read| self.by_text.get_mut(read.text));
        let mut line = Line { via: None, latency: None, route, message: &message };
        if let Some((index, has_arrived)) = known
            && let Some(sample) = self.samples.get(*index)
        {
            line.via = Some(sample.via);
            line.latency = sample.sent_at.get().map(|sent_at| arrival.at.duration_since(*sent_at));
            self.totals.misrouted += usize::from(route != Some(sample.route));
            self.totals.repeated += usize::from(*has_arrived);
            if !std::mem::replace(has_arrived, true) {
                self.totals.arrived += 1;
                self.totals.latencies.extend(line.latency);
            }
        }
        self.screen.arrived(&line);
        if self.first.is_none() {
            self.first = Some(message.into_owned());
        }
    }

    /// Whether everything that came in has ended somewhere.
    fn is_settled(&self) -> bool {
        let meters = self.relay.meters();
        let open = meters.routes.iter().map(|route| route.waiting.value() + route.in_flight.value());
        let received: u64 = meters.inputs.iter().map(|input| input.received.value()).sum();
        open.sum::<u64>() == 0 && received >= self.samples.len() as u64
    }

    fn sum_up(&mut self) {
        if let Some(first) = self.first.take() {
            self.screen.whole(&first);
        }
        self.screen.ledger(self.relay);
        self.screen.summary(&mut self.totals);
    }

    /// Stops the relay in the order of the flow, printing what still arrives. Says whether everything was delivered.
    fn stop(&mut self, quietly: bool) -> bool {
        self.relay.stop(STOP_WITHIN);
        let (done_tx, done) = channel::bounded(1);
        let relay = self.relay;
        let left = thread::scope(|scope| {
            scope.spawn(move || done_tx.send(relay.wait(STOP_WITHIN)));
            loop {
                channel::select! {
                    recv(done) -> left => return left.ok().flatten(),
                    recv(self.events) -> event => if let Ok(Event::Arrived(arrival)) = event {
                        self.arrived(&arrival);
                    },
                    recv(self.signals) -> _ => {
                        say("second signal: ending at once\n");
                        std::process::exit(i32::from(EXIT_RUNTIME));
                    }
                }
            }
        });
        match left {
            Some(0) if quietly => {}
            Some(0) => self.screen.line("Stopped: everything that was received is delivered."),
            Some(left) => say(&format!("stopped; {left} messages could not be delivered within {STOP_WITHIN:?}\n")),
            None => say("stopped before the relay had delivered everything\n"),
        }
        left == Some(0)
    }
}

/// Routes by their intake keys.
fn keys(config: &Config) -> HashMap<&[u8], &str> {
    let keys = config.routes.iter().filter_map(|route| match &route.action {
        Action::Forward { intake_key: Some(key), .. } => Some((key.expose(), route.name.as_str())),
        _ => None,
    });
    keys.collect()
}
