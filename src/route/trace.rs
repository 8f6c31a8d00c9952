//! Why conditions hold for a message or not, for people: each is asked on its own, with what it saw. Never on a message's
//! way; that it comes to the same as [`Conditions::matches`] is tested.

use super::conditions::{Conditions, TextTest};
use super::expression::Step;
use super::view::View;
use crate::syslog::{Facility, Message, Severity};

/// What conditions came to, one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Whether all of them hold.
    pub holds: bool,
    /// In the order of the configuration's keys. All are asked, also behind one that does not hold.
    pub asked: Vec<Asked>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A value that must be among some.
    Value {
        /// The configuration's key.
        key: &'static str,
        /// What was asked for: one of these.
        wanted: Vec<String>,
        /// What the message has; `None` where it has nothing of the kind.
        saw: Option<Vec<u8>>,
        /// Which of `wanted` held first; `None`: the condition does not hold.
        by: Option<usize>,
    },
    /// `when`: an expression.
    When {
        /// Each part of it, the whole first.
        parts: Vec<Part>,
        /// Whether it holds.
        holds: bool,
    },
    /// `not`: holds where these do not.
    Not(Trace),
}

/// A part of an expression that holds or does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// How deep it lies: 0 is the whole.
    pub depth: usize,
    /// As it is written.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
    /// Whether it was asked: what is left of it in an `and` or `or` may have decided already.
    pub asked: bool,
    /// What it saw, where it looks at one value.
    pub saw: Option<Vec<u8>>,
}

impl Asked {
    /// Whether it holds.
    pub fn holds(&self) -> bool {
        match self {
            Self::Value { by, .. } => by.is_some(),
            Self::When { holds, .. } => *holds,
            Self::Not(inner) => !inner.holds,
        }
    }
}

impl Conditions {
    /// Asks each condition for itself.
    pub fn trace(&self, message: &Message<'_>) -> Trace {
        let Self { program, hostname, peer, input, facility, severity, message: tests, when, not } = self;
        let view = View::new(message);
        let pri = message.fields.pri;
        let mut asked = Vec::new();
        let mut ask = |key, wanted: Vec<String>, saw: Option<&[u8]>, by: Option<usize>| {
            if !wanted.is_empty() {
                asked.push(Asked::Value { key, wanted, saw: saw.map(<[u8]>::to_vec), by });
            }
        };
        let name = message.program_name();
        let by = program.iter().position(|wanted| wanted.matches(name));
        ask("program", program.iter().map(|wanted| wanted.as_str().to_owned()).collect(), Some(name), by);
        let seen = view.hostname();
        let by = hostname.iter().position(|wanted| wanted.matches(seen));
        ask("hostname", hostname.iter().map(|wanted| wanted.as_str().to_owned()).collect(), Some(seen), by);
        let seen = message.peer.map(|peer| peer.to_canonical().to_string());
        let by = message.peer.and_then(|from| peer.iter().position(|net| is_in(net, from)));
        ask("peer", peer.iter().map(ToString::to_string).collect(), seen.as_deref().map(str::as_bytes), by);
        let by = input.iter().position(|wanted| wanted == message.input);
        ask("input", input.clone(), Some(message.input.as_bytes()), by);
        let names = |names: &[&str], is_in: &dyn Fn(&str) -> bool| -> Vec<String> {
            names.iter().filter(|name| is_in(name)).map(|name| (*name).to_owned()).collect()
        };
        let wanted =
            names(Facility::names(), &|name| Facility::parse(name).is_some_and(|code| facility.contains(code)));
        let by = wanted.iter().position(|name| name == pri.facility().name());
        ask("facility", wanted, Some(pri.facility().name().as_bytes()), by);
        let wanted =
            names(Severity::names(), &|name| Severity::parse(name).is_some_and(|code| severity.contains(code)));
        let by = wanted.iter().position(|name| name == pri.severity().name());
        ask("severity", wanted, Some(pri.severity().name().as_bytes()), by);
        let by = tests.iter().position(|test| test.matches(message.msg()));
        ask("message", tests.iter().map(in_words).collect(), Some(message.msg()), by);
        if let Some(when) = when {
            let part = |step: Step<'_>| Part {
                depth: step.depth,
                text: step.text.to_owned(),
                holds: step.holds,
                asked: step.asked,
                saw: step.value,
            };
            let parts = when.explain(message).into_iter().map(part).collect();
            asked.push(Asked::When { parts, holds: when.matches(message) });
        }
        if let Some(not) = not {
            asked.push(Asked::Not(not.trace(message)));
        }
        Trace { holds: asked.iter().all(Asked::holds), asked }
    }
}

fn is_in(net: &ipnet::IpNet, peer: std::net::IpAddr) -> bool {
    net.contains(&peer.to_canonical()) || net.contains(&peer)
}

/// A text as the configuration has it; a regex between slashes.
fn in_words(test: &TextTest) -> String {
    match test {
        TextTest::Contains(finder) => String::from_utf8_lossy(finder.needle()).into_owned(),
        TextTest::Regex(regex) => format!("/{}/", regex.as_str()),
    }
}
