//! What follows from an answer: for the records that were sent, for the route, and for everybody's pace.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::config::limits;

use super::exchange::Reply;
use super::taken::Fate;
use super::{End, GROW_AFTER, Line, Next, answer};

impl Line<'_> {
    /// Acts on an answer to the records `sent`, whose events made a body of `plain` octets.
    pub(super) fn answered(&mut self, reply: &Reply, sent: &[usize], plain: usize) -> Next {
        match reply.status {
            200..=299 => self.succeeded(reply, sent),
            413 => {
                self.failed();
                self.fitting = 0;
                if sent.len() == 1 {
                    self.taken.mark(sent.iter().copied(), Fate::Refused);
                    return Next::Go;
                }
                self.taken.mark(sent.iter().copied(), Fate::Waiting);
                // What is between us and the intake may take less than it: no use in asking for so much each time.
                self.body_max = (plain / 2).max(limits::BODY_MIN as usize);
                Next::Split
            }
            status @ (401 | 403 | 422) => {
                self.taken.mark(sent.iter().copied(), Fate::Waiting);
                self.refused_key(status, &answer::shown(&reply.body))
            }
            status => {
                // Of what a server says that it did not take there is no duplicate; of what broke inside it there may be.
                if status < 500 {
                    self.taken.mark(sent.iter().copied(), Fate::Waiting);
                }
                self.failed();
                self.say_refused(&format!("{status} {}", answer::shown(&reply.body)), reply.retry_after)
            }
        }
    }

    fn succeeded(&mut self, reply: &Reply, sent: &[usize]) -> Next {
        self.forwarder.web.limiter.answered(false);
        self.patience.reset();
        self.not_before = None;
        self.on_trial = false;
        if self.parking.free() {
            self.route_meters(|meters| meters.parked.set(0));
            info!(route = %self.route_name(), output = %self.forwarder.output.name, "the intake key is taken again");
        }
        self.fitting += 1;
        if self.fitting >= GROW_AFTER {
            self.fitting = 0;
            self.body_max = (self.body_max * 2).min(self.http.max_body);
        }
        let verdict = answer::read(&reply.body, sent.len());
        let numbers = |places: &std::collections::BTreeSet<usize>| -> Vec<usize> {
            places.iter().filter_map(|place| sent.get(*place).copied()).collect()
        };
        let (refused, again) = (numbers(&verdict.refused), numbers(&verdict.again));
        self.taken.mark(sent.iter().copied(), Fate::Taken);
        let is_left = |record: &&usize| !refused.contains(record) && !again.contains(record);
        let somewhere: Vec<usize> = match verdict.refused_somewhere {
            0 => Vec::new(),
            count => sent.iter().filter(is_left).take(count).copied().collect(),
        };
        let lost = refused.len() + somewhere.len();
        self.taken.mark(refused.iter().copied().chain(somewhere), Fate::Refused);
        self.taken.mark(again.iter().copied(), Fate::Waiting);
        if let Some(ids) = verdict.miscounted {
            self.http_meters(|meters| meters.miscounted.add(1));
            self.warn(&format!("{} events were sent, and the answer has {ids} event_ids", sent.len()));
        }
        if lost > 0 {
            self.warn(&format!("{lost} of {} events were refused, and are dropped", sent.len()));
        }
        if again.is_empty() {
            return Next::Go;
        }
        self.say_refused(&format!("{} of {} events are to be sent again", again.len(), sent.len()), reply.retry_after)
    }

    /// The key is not taken: the route is parked.
    pub(super) fn refused_key(&mut self, status: u16, why: &str) -> Next {
        self.on_trial = false;
        let why = if status == 0 { why.to_owned() } else { format!("{status} {why}").trim_end().to_owned() };
        if self.parking.park(why.clone(), Instant::now(), fastrand::f64()) {
            // Stragglers, and one trial every few minutes, are no reason for others to wait.
            self.failed();
            self.route_meters(|meters| meters.parked.set(1));
            error!(
                route = %self.route_name(), output = %self.forwarder.output.name,
                "the intake refuses this route's intake key: {why}; its messages wait, and it is tried again every few \
                 minutes; look whether the intake still exists and the key is right"
            );
        }
        Next::End(End::Parked)
    }

    /// A request failed in a way that firewalls count.
    pub(super) fn failed(&self) {
        if let Some(pause) = self.forwarder.web.limiter.answered(true) {
            let seconds = pause.as_secs();
            warn!(seconds, "two HTTPS requests have failed within ten seconds: all of them pause");
        }
    }

    pub(super) fn say_refused(&mut self, what: &str, retry_after: Option<Duration>) -> Next {
        let wait = self.patience.refused(retry_after, fastrand::f64());
        self.warn(&format!(
            "the intake answered: {what}; its messages wait, the next attempt follows in {} s",
            wait.as_secs()
        ));
        Next::End(End::Refused(wait))
    }

    /// Every few seconds at most: many routes may share an intake that is down.
    fn warn(&self, what: &str) {
        if self.forwarder.said.may_tell_of_break() {
            warn!(route = %self.route_name(), output = %self.forwarder.output.name, "{what}");
        }
    }

    pub(super) fn tell_of(&self, end: &End) {
        if let End::Broken(fault) = end {
            self.forwarder.meters(|meters| meters.broken.add(1));
            self.warn(&format!("connection broke: {fault}; what it carried is sent again"));
        }
    }
}
