//! What becomes of one frame: the steps of `pipeline/turn.rs` and of the forwarders, each asked in turn.

use std::net::IpAddr;

use crate::config::{Action, Config, Input, Output, Oversize, Route};
use crate::forward::{Mask, Preview, Rendering, Written};
use crate::pipeline::clock_at;
use crate::receive::is_allowed;
use crate::route::{Matcher, Rule, Trace};
use crate::syslog::frame::Flaw;
use crate::syslog::{self, Clock, Fields, Message};

use super::cut::Cut;
use super::remarks::{self, Remark};

/// Explains frames that come from one peer through one input at one moment.
pub(super) struct Explainer<'a> {
    /// The configuration.
    pub(super) config: &'a Config,
    /// Index of the input.
    input: usize,
    /// The sender; `None`: a unix socket.
    pub(super) peer: Option<IpAddr>,
    /// Reception, microseconds since the Unix epoch.
    pub(super) received_at_us: i64,
    /// The present, as the input's zone has it.
    clock: Clock,
    /// The peer is known, and not assumed.
    holds_to_allow: bool,
    matcher: Matcher,
    /// By route.
    renderings: Vec<Option<Rendering>>,
    preview: Preview,
}

/// How a message ends; each is a counter of the relay's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// At least one route sends it.
    Forwarded,
    /// A route discards it.
    Discarded,
    /// No route takes it.
    Unmatched,
    /// It is longer than `max_message_size`, and `oversize: reject`.
    RejectedOversize,
    /// The input's `allow` does not hold for the peer.
    RejectedPeer,
    /// It is nothing but a line end: no message, and not counted.
    NoMessage,
}

impl Outcome {
    /// A word for it, which stays.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Discarded => "discarded",
            Self::Unmatched => "unmatched",
            Self::RejectedOversize => "rejected_oversize",
            Self::RejectedPeer => "rejected_peer",
            Self::NoMessage => "no_message",
        }
    }
}

/// A message that would be sent.
#[derive(Debug)]
pub(super) struct Sent {
    /// Index of the route.
    pub(super) route: usize,
    /// Index of the output.
    pub(super) output: usize,
    /// What is written; `None`: an event without text, which is not sent.
    pub(super) written: Option<Written>,
}

/// What was found out about a frame.
pub(super) struct Explained {
    /// The frame.
    pub(super) cut: Cut,
    /// The same without what reception takes off, and escaped.
    pub(super) raw: Vec<u8>,
    /// What was escaped: where in the frame, and which octet.
    pub(super) escapes: Vec<(usize, u8)>,
    /// Where everything is in `raw`.
    pub(super) fields: Fields,
    /// What was unusual.
    pub(super) remarks: Vec<Remark>,
    /// How it ends.
    pub(super) outcome: Outcome,
    /// Indices of the routes that it takes.
    pub(super) hits: Vec<u16>,
    /// What is written for it.
    pub(super) sent: Vec<Sent>,
}

/// What a route said to a message.
pub(super) enum Asked {
    /// Its conditions.
    Tried(Trace),
    /// An earlier one has taken it.
    NotTried,
}

impl<'a> Explainer<'a> {
    /// `holds_to_allow`: whether the peer is to be held against the input's `allow`.
    pub(super) fn new(
        config: &'a Config,
        input: usize,
        peer: Option<IpAddr>,
        received_at_us: i64,
        holds_to_allow: bool,
    ) -> Self {
        let rule = |route: &Route| Rule { conditions: route.conditions.clone(), continues: route.continues };
        let rules: Vec<Rule> = config.routes.iter().map(rule).collect();
        let zone = config.inputs.get(input).map(|input| input.timezone.clone()).unwrap_or(jiff::tz::TimeZone::UTC);
        Self {
            config,
            input,
            peer,
            received_at_us,
            clock: clock_at(received_at_us, &zone),
            holds_to_allow,
            matcher: Matcher::new(&rules),
            renderings: (0..config.routes.len()).map(|route| Rendering::of_route(config, route)).collect(),
            preview: Preview::new(Mask::new(config)),
        }
    }

    /// The input.
    pub(super) fn input(&self) -> Option<&'a Input> {
        self.config.inputs.get(self.input)
    }

    /// Whether nobody said who sends.
    pub(super) fn is_peer_assumed(&self) -> bool {
        !self.holds_to_allow
    }

    /// An output.
    pub(super) fn output(&self, index: usize) -> Option<&'a Output> {
        self.config.outputs.get(index)
    }

    /// A route's name.
    pub(super) fn route(&self, index: usize) -> &'a str {
        self.config.routes.get(index).map(|route| route.name.as_str()).unwrap_or_default()
    }

    /// The octets without any intake key.
    pub(super) fn hide(&self, octets: &[u8]) -> Vec<u8> {
        self.preview.mask().hide(octets)
    }

    /// The present that stamps are read by.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The message of an explained frame.
    pub(super) fn message<'m>(&'m self, explained: &'m Explained) -> Message<'m> {
        let input = self.input().map(|input| input.name.as_str()).unwrap_or_default();
        let Explained { raw, fields, .. } = explained;
        Message { fields, raw, received_at_us: self.received_at_us, peer: self.peer, input }
    }

    /// Takes a frame through all steps.
    pub(super) fn explain(&mut self, cut: Cut) -> Explained {
        let mut scratch = Vec::new();
        let raw = syslog::sanitize(&cut.octets, &mut scratch).to_vec();
        let escapes: Vec<(usize, u8)> = syslog::escapes(&cut.octets).collect();
        let fields = syslog::parse(&raw, &self.clock);
        let mut hits = Vec::new();
        let outcome = self.refusal(&cut, &raw);
        // Not by a method: rendering borrows the rest.
        let input = self.input().map(|input| input.name.as_str()).unwrap_or_default();
        let received_at_us = self.received_at_us;
        let message = Message { fields: &fields, raw: &raw, received_at_us, peer: self.peer, input };
        if outcome.is_none() {
            self.matcher.route(&message, &mut hits);
        }
        let mut sent = Vec::new();
        for route in hits.iter().map(|route| usize::from(*route)) {
            let Some(Action::Forward { output, .. }) = self.config.routes.get(route).map(|route| &route.action) else {
                continue;
            };
            let (Some(to), Some(Some(rendering))) = (self.config.outputs.get(*output), self.renderings.get(route))
            else {
                continue;
            };
            let written = self.preview.write(to, rendering, &message);
            sent.push(Sent { route, output: *output, written });
        }
        let outcome = outcome.unwrap_or(match (sent.is_empty(), hits.is_empty()) {
            (false, _) => Outcome::Forwarded,
            (true, false) => Outcome::Discarded,
            (true, true) => Outcome::Unmatched,
        });
        let mut explained = Explained { cut, raw, escapes, fields, remarks: Vec::new(), outcome, hits, sent };
        explained.remarks = remarks::of(self, &explained);
        explained
    }

    /// Why it is not even routed.
    fn refusal(&self, cut: &Cut, raw: &[u8]) -> Option<Outcome> {
        let input = self.input()?;
        if cut.octets.is_empty() {
            return Some(Outcome::NoMessage);
        }
        if self.holds_to_allow && !is_allowed(input, self.peer) {
            return Some(Outcome::RejectedPeer);
        }
        if cut.flaw == Some(Flaw::Oversize) && input.oversize == Oversize::Reject {
            return Some(Outcome::RejectedOversize);
        }
        raw.is_empty().then_some(Outcome::NoMessage)
    }

    /// What each route says, in order.
    pub(super) fn asked(&self, explained: &Explained) -> Vec<Asked> {
        let message = self.message(explained);
        let mut is_taken = !matches!(explained.outcome, Outcome::Forwarded | Outcome::Discarded | Outcome::Unmatched);
        let ask = |route: &Route| {
            if is_taken {
                return Asked::NotTried;
            }
            let trace = route.conditions.trace(&message);
            is_taken = trace.holds && !route.continues;
            Asked::Tried(trace)
        };
        self.config.routes.iter().map(ask).collect()
    }

    /// Where an octet of the parsed frame stood in the one that was received.
    pub(super) fn received_at(explained: &Explained, at: usize) -> usize {
        let mut before = 0;
        for (number, (place, _)) in explained.escapes.iter().enumerate() {
            // Each escape before this one has made four octets of one.
            let begins = place + 3 * number;
            if at <= begins {
                break;
            }
            if at < begins + 4 {
                return *place;
            }
            before = number + 1;
        }
        at - 3 * before
    }

    /// A route's rendering.
    pub(super) fn rendering(&self, route: usize) -> Option<&Rendering> {
        self.renderings.get(route)?.as_ref()
    }
}
