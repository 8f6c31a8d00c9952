//! Out: batches of a shard's lanes, rendered, in frames, over the shard's own connection to a destination.
//!
//! One [`Forwarder`] a shard and connection. It connects when there is something to send, for as long as it takes, and
//! forgets nothing: what was written stays in `flight` until the peer's kernel has acknowledged it *and* it has left
//! the replay window; after any end of a connection that was not our own orderly close, all of that is sent again.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use crate::config::{Config, IntakeKey, Output, Protocol};
use crate::metrics::OutputMeters;
use crate::names::Names;
use crate::pipeline::{Pipeline, Queue};
use crate::road::{Connector, Targets};
use crate::stop::Stop;
use crate::template::Template;
use crate::time::since_epoch;
use crate::tls;

use backoff::Backoff;
use connection::End;
use establish::{Established, Failure};
pub use file::FileWriter;
pub use flight::WINDOW_MEMORY;
pub use greet::{Greeting, greet};
pub use https::Web;
pub use orders::{Orders, Settings};
pub use preview::{Preview, Written, request_line};
pub use render::Mask;

use flight::Flight;
use leave::Place;
use ramp::Outage;

mod backoff;
mod connection;
mod establish;
mod file;
mod flight;
mod greet;
mod https;
mod leave;
mod orders;
mod preview;
mod ramp;
mod relp;
mod render;
mod syslog;
mod udp;

/// What a lane's messages are rendered with.
#[derive(Debug, Clone)]
pub struct Rendering {
    /// The route's template.
    pub template: Template,
    /// Its key.
    pub intake_key: Option<IntakeKey>,
}

/// What the lanes of a shard are rendered with: a reload puts others in their place between two writes, so that what waits
/// gets the template and the key that its route has when it is sent.
#[derive(Debug, Default)]
pub struct Renderings(RefCell<Vec<Rc<Rendering>>>);

impl Renderings {
    /// As `config` says from now on. A lane whose route forwards nothing any more keeps what it had.
    pub fn take(&self, config: &Config, pipeline: &Pipeline) {
        let mut renderings = self.0.borrow_mut();
        for lane in 0..pipeline.lane_count() {
            let Some(rendering) = Rendering::of_route(config, pipeline.route_of(lane)).map(Rc::new) else { continue };
            match renderings.get_mut(lane) {
                Some(known) => *known = rendering,
                // Each lane was made for a route that forwards.
                None => renderings.push(rendering),
            }
        }
    }

    fn get(&self, lane: usize) -> Option<Rc<Rendering>> {
        self.0.borrow().get(lane).cloned()
    }
}

/// What the log was told of an output, by all shards' forwarders together: one line for all of them.
#[derive(Debug, Default)]
pub struct Said {
    /// Failed attempts to connect since one succeeded.
    failures: AtomicU64,
    /// When a broken connection was told of last, seconds since the Unix epoch.
    break_told_at: AtomicU64,
    /// The same of messages that the far end refused, and how many it has since.
    refusal_told_at: AtomicU64,
    refused: AtomicU64,
}

impl Said {
    /// How often a broken connection is told of at most: a peer that accepts and hangs up breaks one a second.
    const BREAK_EVERY_S: u64 = 10;

    /// How often refused messages are told of at most.
    const REFUSAL_EVERY_S: u64 = 60;

    fn may_tell_of_break(&self) -> bool {
        may_tell(&self.break_told_at, Self::BREAK_EVERY_S)
    }

    /// One message more was refused: how many there are to be told of, where it is time.
    fn refused(&self) -> Option<u64> {
        self.refused.fetch_add(1, Relaxed);
        may_tell(&self.refusal_told_at, Self::REFUSAL_EVERY_S).then(|| self.refused.swap(0, Relaxed))
    }
}

/// Whether something that was told of at `told_at` may be told of again; it then is.
fn may_tell(told_at: &AtomicU64, every_s: u64) -> bool {
    let now = since_epoch().as_secs();
    let before = told_at.load(Relaxed);
    now.abs_diff(before) >= every_s && told_at.compare_exchange(before, now, Relaxed, Relaxed).is_ok()
}

/// One shard's connection to one destination, and the lanes that go through it.
pub struct Forwarder {
    /// The `outputs:` entry.
    pub output: Arc<Output>,
    /// Which, in the configuration's order.
    pub output_index: usize,
    /// Which of the pipeline's queues it serves.
    pub queue: usize,
    /// The shard's pipeline.
    pub pipeline: Rc<Pipeline>,
    /// By lane.
    pub renderings: Rc<Renderings>,
    /// TLS towards the destination, `None` for plain TCP.
    pub tls: Option<Arc<tls::Client>>,
    /// The process's resolver.
    pub names: Names,
    /// How the output's targets are: what all shards' forwarders know together.
    pub targets: Arc<Targets>,
    /// Zone of reception stamps.
    pub zone: TimeZone,
    /// Bytes of the replay window: the output's, or less where the memory does not allow it.
    pub replay_window: usize,
    /// What HTTPS forwarders know together.
    pub web: Arc<Web>,
    /// Bytes of memory that an HTTPS request may be made of.
    pub request_share: usize,
    /// Who writes the file, where the output is one.
    pub file: Option<FileWriter>,
    /// When to end.
    pub stop: Stop,
    /// What a reload wants of it.
    pub orders: Rc<Orders>,
    /// What the log was told of this output.
    pub said: Arc<Said>,
    /// The last close of ours was not answered by the peer's.
    pub close_unanswered: Cell<bool>,
    /// With UDP: the address that the last connection was broken off with.
    pub unwell_address: Cell<Option<SocketAddr>>,
}

impl Forwarder {
    /// Runs until the stop; returns how many messages could not be delivered by its deadline, or `None` once it was retired and
    /// nothing is left. Never returns early: whatever happens to the far end, it tries again.
    pub async fn run(mut self) -> Option<u64> {
        loop {
            let left = match self.output.protocol.clone() {
                Protocol::File(_) => file::run(&self).await,
                Protocol::Https(http) => https::run(&self, &http).await,
                _ => self.run_connections().await,
            };
            match self.orders.take() {
                Some(settings) if left.is_none() => self.follow(settings),
                _ => return left,
            }
        }
    }

    /// `None`: there is an order to follow.
    async fn run_connections(&self) -> Option<u64> {
        let pipeline = Rc::clone(&self.pipeline);
        let Some(queue) = pipeline.queue(self.queue) else { return Some(0) };
        let meters = pipeline.meters().outputs.get(self.output_index);
        let connector = Connector::new(&self.output, self.tls.clone(), &self.targets, &self.names, meters);
        let number = self.targets.enroll();
        let mut flight = Flight::new(self.replay_window, self.output.replay_quiet);
        let (mut backoff, mut outage) = (Backoff::default(), Outage::default());
        while self.wait_for_work(queue).await {
            // Nothing is in flight here.
            if self.has_orders() {
                return None;
            }
            // Another target that is well is tried at once.
            if let Some(delay) = backoff.delay().filter(|_| !self.has_choice())
                && !self.pause(delay).await
            {
                break;
            }
            let target = self.targets.pick(number, Instant::now());
            let established = tokio::select! {
                biased;
                () = self.must_give_up(&backoff) => break,
                () = self.ordered_idle() => continue,
                established = self.establish(&connector, target) => established,
            };
            let established = match established {
                Ok(established) => established,
                Err(failure) => {
                    self.count_failure(&failure);
                    self.targets.failed(target, Instant::now());
                    backoff.failed();
                    outage.goes_on(Instant::now());
                    continue;
                }
            };
            self.connected(established.peer());
            let began = Instant::now();
            pipeline.set_flowing(queue, true);
            let place = Place { number, target, peer: established.peer(), connector: &connector };
            let end = match established {
                Established::Syslog(connection) => {
                    syslog::run(self, queue, connection, &place, &mut flight, outage.ramp(began)).await
                }
                Established::Udp(_, socket) => {
                    udp::run(self, queue, socket, &place, &mut flight, outage.ramp(began)).await
                }
                Established::Relp(opened) => {
                    relp::run(self, queue, opened, &place, &mut flight, outage.ramp(began)).await
                }
            };
            pipeline.set_flowing(queue, false);
            self.meters(|meters| meters.connections.add(-1));
            self.disconnected(&end, &mut flight);
            // A peer that accepts and at once hangs up must not be hammered: only a connection that worked resets it. One that
            // stalled did not, however long it lasted.
            let has_stalled = matches!(&end, End::Broken(error) if error.kind() == std::io::ErrorKind::TimedOut);
            let has_lasted = began.elapsed() > Backoff::PROVEN_AFTER && !has_stalled;
            if has_lasted || matches!(end, End::Orderly) {
                self.targets.works(target);
                backoff = Backoff::default();
                outage.ended();
            } else {
                self.targets.failed(target, Instant::now());
                backoff.failed();
                outage.goes_on(began);
            }
        }
        Some(self.finish(&mut flight))
    }

    /// Waits until there is something to send, or an order: false when stopping and there is nothing.
    async fn wait_for_work(&self, queue: &Queue) -> bool {
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            _ = stop.ordered() => queue.waiting() > 0,
            () = self.ordered_idle() => true,
            () = queue.work() => true,
        }
    }

    /// Completes when there is no use in connecting any more: at the stop's deadline, or soon after its order where the
    /// messages can go to the disk instead.
    async fn must_give_up(&self, backoff: &Backoff) {
        let mut stop = self.stop.clone();
        let deadline = stop.ordered().await;
        let limit = if self.pipeline.can_spool() { backoff.last_attempt() } else { Duration::MAX };
        let soon = Instant::now().checked_add(limit).unwrap_or(deadline);
        sleep_until(deadline.min(soon)).await;
    }

    /// Waits before the next attempt, during a stop no longer than before the first, and until an order comes: false when the
    /// stop's deadline passes meanwhile, or where the messages can go to the disk instead.
    async fn pause(&self, delay: Duration) -> bool {
        let mut stop = self.stop.clone();
        let delay = if stop.deadline().is_some() { delay.min(Backoff::FIRST) } else { delay };
        let (is_running, gives_up) = (stop.deadline().is_none(), self.pipeline.can_spool());
        let mut expired = self.stop.clone();
        tokio::select! {
            biased;
            () = expired.expired() => false,
            _ = stop.ordered(), if gives_up || is_running => !gives_up,
            () = self.ordered_idle() => true,
            () = tokio::time::sleep(delay) => true,
        }
    }

    /// Whether there are several targets, and one of them need not be left alone now.
    fn has_choice(&self) -> bool {
        self.targets.are_several() && self.targets.is_any_ready(Instant::now())
    }

    fn meters(&self, update: impl FnOnce(&OutputMeters)) {
        if let Some(meters) = self.pipeline.meters().outputs.get(self.output_index) {
            update(meters);
        }
    }

    fn connected(&self, peer: SocketAddr) {
        self.meters(|meters| {
            meters.connects.add(1);
            meters.connections.add(1);
        });
        let failed_before = self.said.failures.swap(0, Relaxed);
        if failed_before > 0 {
            info!(output = %self.output.name, peer = %peer, failed_before, "connected again");
        } else {
            debug!(output = %self.output.name, peer = %peer, "connected");
        }
    }

    fn count_failure(&self, failure: &Failure) {
        self.meters(|meters| failure.counter(meters).add(1));
        let failures = self.said.failures.fetch_add(1, Relaxed);
        if is_worth_a_line(failures + 1) {
            warn!(
                output = %self.output.name, to = %self.output.address(), attempt = failures + 1, "cannot connect: {failure}; \
                 messages wait, the next attempt follows by itself"
            );
        }
    }

    /// Releases or puts back what was in flight, as the connection's end demands.
    fn disconnected(&self, end: &End, flight: &mut Flight) {
        match end {
            End::Orderly => {
                debug!(output = %self.output.name, "closed in order");
                flight.release_all(&self.pipeline);
            }
            End::ByPeer => {
                let resent = flight.put_back_all(&self.pipeline);
                info!(output = %self.output.name, resent, "the peer has closed the connection, in order");
            }
            End::Broken(error) => {
                self.meters(|meters| meters.broken.add(1));
                let resent = flight.put_back_all(&self.pipeline);
                if self.said.may_tell_of_break() {
                    // A client certificate that is missing or refused shows after the handshake (RFC 8446 section 4.4.2.4).
                    let error = self.tls.as_ref().map_or_else(|| error.to_string(), |tls| tls.explain(error));
                    warn!(
                        output = %self.output.name, to = %self.output.address(),
                        "connection broke: {error}; {resent} messages are sent again"
                    );
                }
            }
            End::Deadline => {}
        }
    }

    /// What is left at the end of the stop: acknowledged batches are released, the others are lost, counted and said.
    /// With a spool nothing is: it goes there next.
    fn finish(&self, flight: &mut Flight) -> u64 {
        if self.pipeline.has_spool() {
            flight.leave(&self.pipeline);
            return 0;
        }
        let unacknowledged = flight.abandon(&self.pipeline);
        let waiting = self.pipeline.queue(self.queue).map_or(0, |queue| self.pipeline.drop_waiting(queue));
        let messages = unacknowledged + waiting;
        if messages > 0 {
            error!(
                output = %self.output.name, to = %self.output.address(), messages,
                "shutdown_timeout ended before these messages could be delivered: they are lost; \
                 raise shutdown_timeout or look at why the output is slow"
            );
        }
        messages
    }
}

/// Whether the `count`th of a kind of event is logged: the first, then ever more rarely, then one in 256. A destination
/// that is down for a day must not fill the log.
fn is_worth_a_line(count: u64) -> bool {
    count.is_power_of_two() || (count > 0 && count.is_multiple_of(256))
}
