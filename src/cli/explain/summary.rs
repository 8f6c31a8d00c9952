//! What became of many messages, in numbers.

use std::collections::BTreeMap;

use crate::cli::grouped;
use crate::cli::paint::{Paint, Style};
use crate::config::Action;

use super::reading::{Explained, Explainer, Outcome};
use super::text::{count, visible};

/// Program names that are counted one by one; further ones are together under none.
const PROGRAMS_MAX: usize = 10_000;

/// Program names that are shown.
const PROGRAMS_SHOWN: usize = 20;

/// The message's number, its line, its offset.
pub(super) type Place = (u64, u64, u64);

/// How often something was seen, and where first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) messages: u64,
    pub(super) first: Place,
}

/// What a route has taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    pub(super) messages: u64,
    /// Octets that are sent for it.
    pub(super) octets: u64,
}

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Summary {
    messages: u64,
    octets: u64,
    outcomes: BTreeMap<Outcome, u64>,
    routes: BTreeMap<usize, Taken>,
    programs: BTreeMap<Vec<u8>, u64>,
    other_programs: u64,
    oddities: BTreeMap<&'static str, Seen>,
}

impl Summary {
    /// Counts one message.
    pub(super) fn add(&mut self, explained: &Explained) {
        self.messages += 1;
        self.octets += explained.cut.octets.len() as u64;
        *self.outcomes.entry(explained.outcome).or_default() += 1;
        for route in &explained.hits {
            self.routes.entry(usize::from(*route)).or_default().messages += 1;
        }
        for sent in &explained.sent {
            let octets = sent.written.as_ref().map_or(0, |written| written.octets as u64);
            self.routes.entry(sent.route).or_default().octets += octets;
        }
        if explained.outcome == Outcome::Unmatched {
            self.add_program(explained);
        }
        let place = (self.messages, explained.cut.line, explained.cut.offset);
        let mut counted: Vec<&str> = Vec::new();
        for remark in explained.remarks.iter().filter(|remark| !remark.is_usual) {
            // Two routes may give reason for the same one.
            if !counted.contains(&remark.kind) {
                counted.push(remark.kind);
                self.oddities.entry(remark.kind).or_insert(Seen { messages: 0, first: place }).messages += 1;
            }
        }
    }

    fn add_program(&mut self, explained: &Explained) {
        let message = crate::syslog::Message {
            fields: &explained.fields,
            raw: &explained.raw,
            received_at_us: 0,
            peer: None,
            input: "",
        };
        let name = message.program_name();
        if self.programs.len() < PROGRAMS_MAX || self.programs.contains_key(name) {
            *self.programs.entry(name.to_vec()).or_default() += 1;
        } else {
            self.other_programs += 1;
        }
    }

    /// All of them.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Octets of their frames.
    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    /// How many ended how.
    pub(super) fn outcomes(&self) -> Vec<(Outcome, u64)> {
        self.outcomes.iter().map(|(outcome, count)| (*outcome, *count)).collect()
    }

    /// What a route has taken.
    pub(super) fn route(&self, index: usize) -> Taken {
        self.routes.get(&index).copied().unwrap_or_default()
    }

    /// Programs of messages that no route takes, the most frequent first.
    pub(super) fn programs(&self) -> Vec<(&[u8], u64)> {
        let mut programs: Vec<(&[u8], u64)> =
            self.programs.iter().map(|(name, count)| (name.as_slice(), *count)).collect();
        programs.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        programs
    }

    /// What was unusual, the most frequent first.
    pub(super) fn oddities(&self) -> Vec<(&'static str, Seen)> {
        let mut oddities: Vec<(&'static str, Seen)> = self.oddities.iter().map(|(kind, seen)| (*kind, *seen)).collect();
        oddities.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.messages));
        oddities
    }
}

/// The numbers as a table.
pub(super) fn table(explainer: &Explainer<'_>, summary: &Summary, paint: Paint) -> String {
    let mut lines = vec![paint.styled(
        Style::Bold,
        &format!("{}, {}", count(summary.messages as usize, "message"), count(summary.octets as usize, "octet")),
    )];
    for (outcome, count) in summary.outcomes() {
        let line = format!("  {:<20} {:>14}", outcome.name().replace('_', " "), grouped(count));
        let style = match outcome {
            Outcome::Forwarded | Outcome::Discarded | Outcome::NoMessage => None,
            Outcome::Unmatched | Outcome::RejectedOversize | Outcome::RejectedPeer => Some(Style::Red),
        };
        lines.push(style.map_or(line.clone(), |style| paint.styled(style, &line)));
    }
    lines.push(String::new());
    let head = format!("{:<22} {:>14} {:>7} {:>16}  to", "route", "messages", "share", "octets sent");
    lines.push(paint.styled(Style::Bold, &head));
    for (index, route) in explainer.config.routes.iter().enumerate() {
        let taken = summary.route(index);
        let to = match &route.action {
            Action::Discard => "(discarded)",
            Action::Forward { output, .. } => explainer.output(*output).map_or("", |output| output.name.as_str()),
        };
        let share = 100.0 * taken.messages as f64 / summary.messages.max(1) as f64;
        let (messages, octets) = (grouped(taken.messages), grouped(taken.octets));
        lines.push(format!("{:<22} {messages:>14} {share:>6.1}% {octets:>16}  {to}", route.name));
    }
    programs(summary, paint, &mut lines);
    let oddities = summary.oddities();
    if !oddities.is_empty() {
        lines.push(String::new());
        lines.push(paint.styled(Style::Bold, &format!("{:<26} {:>10}  first seen", "unusual", "messages")));
        for (kind, seen) in oddities {
            let (number, line, offset) = seen.first;
            let messages = grouped(seen.messages);
            lines.push(format!("{kind:<26} {messages:>10}  message {number}, line {line}, offset {offset}"));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn programs(summary: &Summary, paint: Paint, lines: &mut Vec<String>) {
    let programs = summary.programs();
    if programs.is_empty() {
        return;
    }
    lines.push(String::new());
    lines.push(paint.styled(Style::Bold, &format!("{:<26} {:>10}", "programs no route takes", "messages")));
    for (name, count) in programs.iter().take(PROGRAMS_SHOWN) {
        let name = if name.is_empty() { "\"\" (none)".to_owned() } else { visible(name) };
        lines.push(format!("{name:<26} {:>10}", grouped(*count)));
    }
    let rest: u64 = programs.iter().skip(PROGRAMS_SHOWN).map(|(_, count)| count).sum();
    if rest + summary.other_programs > 0 {
        lines.push(format!("{:<26} {:>10}", "others", grouped(rest + summary.other_programs)));
    }
}
