//! Out over HTTPS: events in batches to Sekoia's `/plain/batch`, compressed, each request answered.
//!
//! A forwarder has one route, because a request carries one key. What it takes of its lanes is held until the answer says
//! what became of it: released, dropped as refused, or put back to be sent again. When a request may go is for the whole
//! process to decide (`limiter`), and a route whose key is refused waits (`parking`) while others go on.

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::config::{Http, Target};
use crate::metrics::{HttpMeters, RouteMeters};
use crate::pipeline::{Pipeline, Queue};
use crate::road::{Connection, Connector};
use crate::time::sleep_until_some;

use super::backoff::Backoff;
use super::connection::Leaving;
use super::flight::Flight;
use super::leave::{self, Place};
use super::{Forwarder, Rendering};

use body::Body;
pub(super) use body::Builder;
use exchange::{Conversation, Fault, Limits};
pub(super) use head::greet;
use head::{USER, host_of};
use parking::{Look, Parking};
use patience::Patience;
use taken::{Fate, Taken};
pub use web::Web;

mod answer;
mod body;
mod event;
mod exchange;
mod head;
mod limiter;
mod outcome;
mod parking;
mod patience;
mod taken;
mod web;

/// Appended to the target's path: events as lines.
pub(super) const BATCH_PATH: &str = "/plain/batch";

/// Where a request carries its intake key.
const KEY_HEADER: HeaderName = HeaderName::from_static(KEY_HEADER_NAME);

/// The same as text.
pub(super) const KEY_HEADER_NAME: &str = "x-sekoiaio-intake-key";

/// Once so much waits a request is made without waiting for more.
const ENOUGH_BYTES: usize = 1024 * 1024;

/// How long a message may wait for company.
const LINGER: Duration = Duration::from_millis(200);

/// How long the next batch from the disk is waited for while a request is gathered.
const READ_WAIT: Duration = Duration::from_millis(50);

/// After so many requests that were not too large, larger ones are tried again.
const GROW_AFTER: u32 = 64;

/// How a connection ended.
enum End {
    /// By us, or by the far end while nothing was under way.
    Orderly,
    /// A request was under way, and is sent again.
    Broken(Fault),
    /// The intake wants to be left alone.
    Refused(Duration),
    /// The route's key is refused.
    Parked,
    /// The stop's deadline passed.
    Deadline,
}

/// What to do after an answer.
enum Next {
    Go,
    /// Half of the records at a time.
    Split,
    End(End),
}

/// Runs until the stop; returns how many messages could not be delivered by its deadline. `None`: there is an order to follow.
pub(super) async fn run(forwarder: &Forwarder, http: &Http) -> Option<u64> {
    let pipeline = Rc::clone(&forwarder.pipeline);
    let queue = pipeline.queue(forwarder.queue);
    let Some((queue, mut line)) = queue.and_then(|queue| Some((queue, Line::new(forwarder, http, queue)?))) else {
        // No route leads here.
        let mut stop = forwarder.stop.clone();
        return tokio::select! {
            _ = stop.ordered() => Some(0),
            () = forwarder.ordered_idle() => None,
        };
    };
    let meters = pipeline.meters().outputs.get(forwarder.output_index);
    let connector =
        Connector::new(&forwarder.output, forwarder.tls.clone(), &forwarder.targets, &forwarder.names, meters);
    let number = forwarder.targets.enroll();
    let mut backoff = Backoff::default();
    while forwarder.wait_for_work(queue).await {
        if forwarder.has_orders() {
            return None;
        }
        if !line.may_send().await {
            break;
        }
        if forwarder.has_orders() {
            continue;
        }
        if let Some(delay) = backoff.delay().filter(|_| !forwarder.has_choice())
            && !forwarder.pause(delay).await
        {
            break;
        }
        let target = forwarder.targets.pick(number, Instant::now());
        let connection = tokio::select! {
            biased;
            () = forwarder.must_give_up(&backoff) => break,
            () = forwarder.ordered_idle() => continue,
            connection = connector.connect(target) => connection,
        };
        let connection = match connection {
            Ok(connection) => connection,
            Err(failure) => {
                forwarder.count_failure(&failure.into());
                forwarder.targets.failed(target, Instant::now());
                backoff.failed();
                continue;
            }
        };
        forwarder.connected(connection.peer);
        let established = Instant::now();
        pipeline.set_flowing(queue, true);
        let place = Place { number, target, peer: connection.peer, connector: &connector };
        let end = line.converse(connection, &place).await;
        pipeline.set_flowing(queue, false);
        forwarder.meters(|meters| meters.connections.add(-1));
        // Whatever ended it: what was not settled is sent again.
        line.taken.settle(&pipeline);
        line.tell_of(&end);
        if matches!(end, End::Deadline) {
            break;
        }
        line.learn_from(&end, target, established, &mut backoff);
    }
    Some(forwarder.finish(&mut Flight::new(0, Duration::ZERO)))
}

/// One route's way to one intake.
struct Line<'a> {
    forwarder: &'a Forwarder,
    http: &'a Http,
    queue: &'a Queue,
    lane: usize,
    route: usize,
    /// What the request in hand is made with: one body, one key.
    rendering: Rc<Rendering>,
    parking: &'a Parking,
    builder: Builder,
    taken: Taken,
    patience: Patience,
    /// Octets of a body at most, as far as the intake is known.
    body_max: usize,
    /// Requests since one was too large.
    fitting: u32,
    /// The route is parked, and this line tries whether its key is taken by now.
    on_trial: bool,
    /// The intake wants to be left alone until then.
    not_before: Option<Instant>,
    /// The connection has carried an answer.
    has_spoken: bool,
    used_at: Instant,
}

impl<'a> Line<'a> {
    /// `None` where no route leads here.
    fn new(forwarder: &'a Forwarder, http: &'a Http, queue: &'a Queue) -> Option<Self> {
        let lane = queue.any_lane()?;
        let route = forwarder.pipeline.route_of(lane);
        Some(Self {
            forwarder,
            http,
            queue,
            lane,
            route,
            rendering: forwarder.renderings.get(lane)?,
            parking: forwarder.web.parking(route)?,
            builder: Builder::new(&forwarder.zone),
            taken: Taken::default(),
            patience: Patience::default(),
            body_max: http.max_body,
            fitting: 0,
            on_trial: false,
            not_before: None,
            has_spoken: false,
            used_at: Instant::now(),
        })
    }

    /// What the end of a connection to `target`, made then, says of it.
    fn learn_from(&mut self, end: &End, target: usize, established: Instant, backoff: &mut Backoff) {
        let targets = &self.forwarder.targets;
        let has_lasted = established.elapsed() > Backoff::PROVEN_AFTER;
        let is_well = match end {
            End::Parked => true,
            End::Orderly => self.has_spoken || has_lasted,
            End::Broken(_) => has_lasted,
            End::Refused(_) | End::Deadline => false,
        };
        match (end, is_well) {
            (End::Refused(wait), _) => {
                targets.failed(target, Instant::now());
                // Another target need not wait for this one.
                self.not_before = (!self.forwarder.has_choice()).then(|| Instant::now() + *wait);
            }
            (_, true) => {
                targets.works(target);
                *backoff = Backoff::default();
            }
            (_, false) => {
                targets.failed(target, Instant::now());
                backoff.failed();
            }
        }
    }

    fn pipeline(&self) -> &'a Pipeline {
        &self.forwarder.pipeline
    }

    fn route_meters(&self, update: impl FnOnce(&RouteMeters)) {
        if let Some(meters) = self.pipeline().meters().routes.get(self.route) {
            update(meters);
        }
    }

    fn http_meters(&self, update: impl FnOnce(&HttpMeters)) {
        if let Some(meters) = self.pipeline().meters().http.get() {
            update(meters);
        }
    }

    fn route_name(&self) -> &str {
        self.forwarder.web.route_name(self.route)
    }

    /// Waits until the intake may be asked again: false when the stop comes first, and there is no time or a disk.
    async fn may_send(&mut self) -> bool {
        loop {
            let now = Instant::now();
            let until = match self.not_before.filter(|until| *until > now) {
                Some(until) => until,
                None if self.on_trial => return true,
                None => match self.parking.look(now) {
                    Look::Open => return true,
                    Look::Trial => {
                        self.on_trial = true;
                        return true;
                    }
                    Look::Parked(until) => until,
                },
            };
            let is_parked = self.not_before.is_none_or(|until| until <= now);
            let mut stop = self.forwarder.stop.clone();
            let hopeless = async {
                let deadline = stop.ordered().await;
                if !self.forwarder.pipeline.can_spool() && until < deadline {
                    std::future::pending::<()>().await;
                }
            };
            let wait = async { if is_parked { self.parking.wait(until).await } else { sleep_until(until).await } };
            tokio::select! {
                biased;
                () = hopeless => return false,
                () = self.forwarder.ordered_idle() => return true,
                () = wait => {}
            }
        }
    }

    /// Sends until the connection ends, or has a reason to leave its `place`.
    async fn converse(&mut self, connection: Connection, place: &Place<'_>) -> End {
        let forwarder = self.forwarder;
        let mut stop = forwarder.stop.clone();
        let leaving = Leaving::default();
        let mut talk = match Conversation::begin(connection.stream).await {
            Ok(talk) => talk,
            Err(error) => return End::Broken(Fault::Broken(error.to_string())),
        };
        self.has_spoken = false;
        self.used_at = Instant::now();
        let look_around = async {
            leave::reason(forwarder, place).await;
            leaving.begin();
            std::future::pending::<std::convert::Infallible>().await
        };
        let end = tokio::select! {
            biased;
            () = stop.expired() => End::Deadline,
            end = self.session(&mut talk, place.target, &leaving) => end,
            never = look_around => match never {},
        };
        if matches!(end, End::Orderly | End::Parked | End::Refused(_)) {
            talk.close().await;
        }
        end
    }

    async fn session(&mut self, talk: &mut Conversation, target: usize, leaving: &Leaving) -> End {
        let Some(target) = self.forwarder.targets.get(target) else { return End::Orderly };
        loop {
            if !self.wait(talk, leaving).await {
                return End::Orderly;
            }
            if !self.on_trial && self.parking.is_closed(Instant::now()) {
                return End::Parked;
            }
            self.gather().await;
            if let Err(end) = self.deliver(talk, target).await {
                return end;
            }
            self.used_at = Instant::now();
            yield_now().await;
        }
    }

    /// Waits for enough to send, and for a permit: false when the connection is to be closed, or is.
    async fn wait(&mut self, talk: &mut Conversation, leaving: &Leaving) -> bool {
        let mut stop = self.forwarder.stop.clone();
        while self.queue.waiting() == 0 {
            if leaving.has_begun() || stop.deadline().is_some() {
                return false;
            }
            // What is on the disk is being read.
            let idle = self.forwarder.output.idle_timeout.filter(|_| !self.queue.has_backlog());
            tokio::select! {
                biased;
                () = talk.ended() => return false,
                () = self.queue.more_than(0) => {}
                () = sleep_until_some(idle.map(|idle| self.used_at + idle)) => return false,
                () = leaving.begun() => return false,
                _ = stop.ordered() => {}
            }
        }
        if self.queue.waiting() < ENOUGH_BYTES {
            tokio::select! {
                biased;
                () = talk.ended() => return false,
                () = self.queue.more_than(ENOUGH_BYTES) => {}
                _ = stop.ordered() => {}
                () = sleep(LINGER) => {}
            }
        }
        if leaving.has_begun() {
            return false;
        }
        tokio::select! {
            biased;
            () = talk.ended() => false,
            () = self.forwarder.web.limiter.permit() => true,
        }
    }

    /// Takes what a request may hold. What comes from the disk comes in pieces.
    async fn gather(&mut self) {
        let bytes = self.body_max.min(self.forwarder.request_share);
        loop {
            self.taken.fill(self.pipeline(), self.queue, bytes);
            let is_enough = self.taken.charge() >= bytes || self.forwarder.stop.deadline().is_some();
            if is_enough || !self.queue.has_backlog() {
                return;
            }
            if timeout(READ_WAIT, self.queue.more_than(0)).await.is_err() {
                return;
            }
        }
    }

    /// Sends what was taken, in as many requests as it needs, and settles it.
    async fn deliver(&mut self, talk: &mut Conversation, target: &Target) -> Result<(), End> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        ranges.push(0..self.taken.len());
        let mut has_permit = true;
        while let Some(range) = ranges.pop() {
            if !std::mem::take(&mut has_permit) {
                self.forwarder.web.limiter.permit().await;
            }
            if let Some(rendering) = self.forwarder.renderings.get(self.lane) {
                self.rendering = rendering;
            }
            let inputs = self.pipeline().input_names();
            let body = self.builder.build(&self.taken, range.clone(), self.body_max, &self.rendering, &inputs).await;
            let body = body.map_err(|error| End::Broken(Fault::Broken(error.to_string())))?;
            self.taken.mark(body.empty.iter().copied(), Fate::Empty);
            self.route_meters(|meters| meters.cut.add(body.cut as u64));
            if body.end < range.end {
                ranges.push(body.end..range.end);
            }
            if body.sent.is_empty() {
                has_permit = true;
                continue;
            }
            let (start, end, middle) = (range.start, body.end, body.sent.get(body.sent.len() / 2).copied());
            match self.request(talk, target, body).await {
                Next::Go => {}
                Next::Split => {
                    let middle = middle.unwrap_or(end);
                    ranges.push(middle..end);
                    ranges.push(start..middle);
                }
                Next::End(end) => return Err(end),
            }
        }
        self.taken.settle(self.pipeline());
        Ok(())
    }

    /// One request and its answer.
    async fn request(&mut self, talk: &mut Conversation, target: &Target, body: Body) -> Next {
        let Body { octets, plain, sent, .. } = body;
        self.forwarder.web.limiter.departure().await;
        self.taken.mark(sent.iter().copied(), Fate::Sent);
        self.forwarder.meters(|meters| {
            meters.written_messages.add(sent.len() as u64);
            meters.written_bytes.add(octets.len() as u64);
        });
        self.http_meters(|meters| meters.plain_bytes.add(plain as u64));
        let output = &self.forwarder.output;
        let limits = Limits { stall: output.stall_timeout, answer: self.http.request_timeout };
        let begun = Instant::now();
        let head = match self.head(target) {
            Ok(head) => head,
            Err(error) => return self.refused_key(0, &format!("no request can be made of it: {error}")),
        };
        match talk.exchange(head, octets, sent.len(), limits).await {
            Ok(reply) => {
                self.has_spoken = true;
                self.pipeline().meters().http_answered(begun.elapsed().as_secs_f64());
                self.count(reply.status);
                self.forwarder.web.answered(reply.status, &reply.body);
                self.answered(&reply, &sent, plain)
            }
            Err(fault) => {
                self.http_meters(|meters| meters.unanswered.add(1));
                match fault {
                    // As bad as a 504: whoever is slow gets no more work at once. On a connection that has carried answers it
                    // may be the road that is dead: another is tried first.
                    Fault::Unanswered if !self.has_spoken => {
                        self.failed();
                        self.say_refused(&fault.to_string(), None)
                    }
                    fault => Next::End(End::Broken(fault)),
                }
            }
        }
    }

    fn head(&self, target: &Target) -> Result<Request<()>, hyper::http::Error> {
        let key = self.rendering.intake_key.as_ref().map(|key| key.expose()).unwrap_or_default();
        let mut key = HeaderValue::from_bytes(key)?;
        key.set_sensitive(true);
        Request::builder()
            .method(Method::POST)
            .uri(format!("{}{BATCH_PATH}", target.path))
            .header(HOST, host_of(target, self.forwarder.output.tls.is_some()))
            .header(USER_AGENT, USER)
            .header(CONTENT_TYPE, "text/plain")
            .header(CONTENT_ENCODING, "gzip")
            .header(KEY_HEADER, key)
            .body(())
    }

    fn count(&self, status: u16) {
        self.http_meters(|meters| {
            let class = match status {
                200..=299 => &meters.succeeded,
                300..=399 => &meters.redirected,
                400..=499 => &meters.refused,
                _ => &meters.failed,
            };
            class.add(1);
        });
    }
}
