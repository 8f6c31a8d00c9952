//! What a message must be like: each part a list of which one must hold, and all parts together an AND.

use std::net::IpAddr;

use ipnet::IpNet;
use memchr::memmem;
use regex::bytes::{Regex, RegexBuilder};

use super::expression::Expression;
use super::name::Name;
use super::set::{FacilitySet, SeveritySet};
use super::view::View;
use crate::syslog::Message;

/// A compiled regex may take this much memory: a hundred times what the usual one takes.
const REGEX_SIZE_MAX: usize = 2 << 20;

/// What a message must be like; all parts must hold, an empty part always does.
///
/// A further kind of condition is a further field here: `hold_beyond_program` asks it, and `hold_for_program` knows of
/// it.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// Program name (rsyslog's `$programname`).
    pub program: Vec<Name>,
    /// HOSTNAME; where the message has none, the peer's address as text (rsyslog's `$hostname`).
    pub hostname: Vec<Name>,
    /// The peer's address. What came through a unix socket has none, and is in no network.
    pub peer: Vec<IpNet>,
    /// Name of the input it came through.
    pub input: Vec<String>,
    /// Facility of its PRI.
    pub facility: FacilitySet,
    /// Severity of its PRI.
    pub severity: SeveritySet,
    /// MSG, which begins with the space after the TAG's colon.
    pub message: Vec<TextTest>,
    /// A condition in rsyslog's language.
    pub when: Option<Expression>,
    /// Conditions that, all together, must not hold.
    pub not: Option<Box<Conditions>>,
}

/// What to look for in MSG.
#[derive(Debug, Clone)]
pub enum TextTest {
    /// These octets, anywhere.
    Contains(Box<memmem::Finder<'static>>),
    /// Unanchored search; octets that are not UTF-8 match `(?-u:.)` only.
    Regex(Regex),
}

impl TextTest {
    /// Looks for `text`, octet by octet.
    ///
    /// # Errors
    /// `text` is empty: every message contains it.
    pub fn contains(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("\"\" is contained in every message: expected some text".to_owned());
        }
        Ok(Self::Contains(Box::new(memmem::Finder::new(text).into_owned())))
    }

    /// Searches for `pattern`, in the syntax of the `regex` crate: no look-around, no back-references, linear time.
    ///
    /// # Errors
    /// What is wrong with the pattern.
    pub fn regex(pattern: &str) -> Result<Self, String> {
        let built = RegexBuilder::new(pattern).size_limit(REGEX_SIZE_MAX).build();
        built.map(Self::Regex).map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => {
                format!("the regex takes more than {limit} bytes when compiled: expected a smaller one")
            }
            // The library's message is a drawing of several lines, of which the last one says it.
            error => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
                format!("not a regex: {reason}: `{pattern}`")
            }
        })
    }

    /// Whether it is found in `msg`.
    pub fn matches(&self, msg: &[u8]) -> bool {
        match self {
            Self::Contains(finder) => finder.find(msg).is_some(),
            Self::Regex(regex) => regex.is_match(msg),
        }
    }

    /// Whether this surely finds something wherever `other` does.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Contains(ours), Self::Contains(theirs)) => ours.find(theirs.needle()).is_some(),
            (Self::Regex(ours), Self::Regex(theirs)) => ours.as_str() == theirs.as_str(),
            _ => false,
        }
    }
}

/// Reads a network (`10.0.0.0/8`, `2001:db8::/32`) or a single address.
///
/// # Errors
/// What was found, and what was expected.
pub fn parse_net(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    net.map(|net| net.trunc()).ok_or_else(|| {
        format!("\"{text}\" is no network: expected one such as 10.0.0.0/8 or 2001:db8::/32, or an address")
    })
}

impl Conditions {
    /// Whether all parts hold.
    pub fn matches(&self, message: &Message<'_>) -> bool {
        self.hold(&View::new(message))
    }

    fn hold(&self, view: &View<'_>) -> bool {
        self.program_holds(view.message().program_name())
            && self.others_hold(view)
            && self.when.as_ref().is_none_or(|when| when.holds(view))
    }

    fn program_holds(&self, program: &[u8]) -> bool {
        self.program.is_empty() || self.program.iter().any(|name| name.matches(program))
    }

    /// Whether they hold for all messages of that program (`true`) or for none (`false`); `None` where that depends on more.
    pub(super) fn hold_for_program(&self, program: &[u8]) -> Option<bool> {
        let when = self.when.as_ref().map_or(Some(true), |when| when.holds_for_program(program));
        let not = self.not.as_ref().map_or(Some(true), |not| not.hold_for_program(program).map(|holds| !holds));
        if !self.program_holds(program) || when == Some(false) || not == Some(false) {
            return Some(false);
        }
        (when.is_some() && not.is_some() && self.ask_no_more()).then_some(true)
    }

    /// Whether all hold, where the program [does not exclude it](Self::hold_for_program).
    pub(super) fn hold_beyond_program(&self, view: &View<'_>) -> bool {
        self.others_hold(view) && self.when.as_ref().is_none_or(|when| when.holds_beyond_program(view))
    }

    /// Whether all parts but the program and `when` hold; the cheap ones are asked first.
    fn others_hold(&self, view: &View<'_>) -> bool {
        let message = view.message();
        let pri = message.fields.pri;
        (self.severity.is_empty() || self.severity.contains(pri.severity()))
            && (self.facility.is_empty() || self.facility.contains(pri.facility()))
            && (self.input.is_empty() || self.input.iter().any(|input| input == message.input))
            && (self.peer.is_empty() || message.peer.is_some_and(|peer| self.peer_holds(peer)))
            && (self.hostname.is_empty() || self.hostname.iter().any(|name| name.matches(view.hostname())))
            && (self.message.is_empty() || self.message.iter().any(|test| test.matches(message.msg())))
            && self.not.as_ref().is_none_or(|not| !not.hold(view))
    }

    /// A socket for both families shows an IPv4 peer as `::ffff:a.b.c.d`.
    fn peer_holds(&self, peer: IpAddr) -> bool {
        let canonical = peer.to_canonical();
        self.peer.iter().any(|net| net.contains(&canonical) || net.contains(&peer))
    }

    /// Whether nothing but the program name is asked for, `when` and `not` aside.
    fn ask_no_more(&self) -> bool {
        let Self { program: _, hostname, peer, input, facility, severity, message, when: _, not: _ } = self;
        hostname.is_empty()
            && peer.is_empty()
            && input.is_empty()
            && facility.always_holds()
            && severity.always_holds()
            && message.is_empty()
    }
}
