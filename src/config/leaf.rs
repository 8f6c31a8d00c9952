//! What a single value may be: each type says what it expects and turns text into itself.
//!
//! All scalars are text here. YAML's own guesses (`no` is false, `0o17` is 15, `1_000` is a word) have no say, the key
//! decides what its value means.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use jiff::tz::TimeZone;
use serde::de::{Deserialize, Deserializer, Error};

mod amount;
mod conditions;

pub(crate) use amount::{Count, Idle, Size, Span, Timeout};
pub(crate) use conditions::{Contains, Pattern};

use super::report::did_you_mean;
use super::{Acknowledge, Compression, Durability, LogFormat, Mode, OutputFraming, Oversize, SpoolFull, limits};
use crate::route;
use crate::syslog::Framing;
use crate::template::Template;

/// A value's type.
pub(crate) trait Leaf: Sized {
    /// What a report says was expected, where it must not show the value.
    fn expected() -> String;

    /// Reads the text.
    fn parse(text: &str) -> Result<Self, Wrong>;
}

/// Why a text is not a value of its type. `message` may show the text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    /// Octet of the text where the fault is, for texts that are long.
    pub(crate) at: Option<usize>,
}

impl From<String> for Wrong {
    fn from(message: String) -> Self {
        Self { message, at: None }
    }
}

/// A [`Leaf`] inside of a serde shape.
#[derive(Debug, Clone)]
pub(crate) struct Is<T>(pub(crate) T);

impl<'de, T: Leaf> Deserialize<'de> for Is<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The text is not repeated: the walk over the schema has reported it already, with its place and its secrets masked.
        T::parse(&text).map(Is).map_err(|_| D::Error::custom(T::expected()))
    }
}

/// Some text, not empty.
#[derive(Debug, Clone)]
pub(crate) struct Text(pub(crate) String);

impl Leaf for Text {
    fn expected() -> String {
        "expected some text".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "" => Err(format!("found \"\", {}", Self::expected()).into()),
            text => Ok(Self(text.to_owned())),
        }
    }
}

/// A secret: text that no message shows.
#[derive(Clone)]
pub(crate) struct SecretText(pub(crate) String);

impl std::fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("****")
    }
}

impl Leaf for SecretText {
    fn expected() -> String {
        "expected an intake key".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let plain = text.chars().all(|each| each.is_ascii_graphic() && !matches!(each, '"' | '\\' | ']'));
        match (text.is_empty(), plain) {
            (true, _) => Err("found an empty text, expected an intake key".to_owned().into()),
            (_, true) => Ok(Self(text.to_owned())),
            // RFC 5424 section 6.3.3: these would end the parameter or need an escape that nobody gives a key.
            _ => Err(
                "found a key with a blank, a quote, a backslash, a bracket or a character outside of ASCII, expected \
                      letters and digits"
                    .to_owned()
                    .into(),
            ),
        }
    }
}

impl Leaf for PathBuf {
    fn expected() -> String {
        "expected a path".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "" => Err("found \"\", expected a path".to_owned().into()),
            text => Ok(Self::from(text)),
        }
    }
}

impl Leaf for bool {
    fn expected() -> String {
        "expected true or false".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        choice(text, &[("true", true), ("false", false)])
    }
}

/// A value, or a word in its place (`off`, `auto`).
#[derive(Debug, Clone)]
pub(crate) enum Or<W, T> {
    Word(W),
    Value(T),
}

/// The word `off`.
#[derive(Debug, Clone)]
pub(crate) struct Off;

/// The word `auto`.
#[derive(Debug, Clone)]
pub(crate) struct Auto;

impl Leaf for Off {
    fn expected() -> String {
        "off".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text == "off" { Ok(Self) } else { Err(Self::expected().into()) }
    }
}

impl Leaf for Auto {
    fn expected() -> String {
        "auto".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text == "auto" { Ok(Self) } else { Err(Self::expected().into()) }
    }
}

impl<W: Leaf, T: Leaf> Leaf for Or<W, T> {
    fn expected() -> String {
        format!("{}, or {}", T::expected(), W::expected())
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        match (W::parse(text), T::parse(text)) {
            (Ok(word), _) => Ok(Self::Word(word)),
            (_, Ok(value)) => Ok(Self::Value(value)),
            (_, Err(wrong)) => {
                let Wrong { message, at } = wrong;
                let message =
                    if message.contains("expected") { format!("{message}, or {}", W::expected()) } else { message };
                Err(Wrong { message, at })
            }
        }
    }
}

impl Leaf for Framing {
    fn expected() -> String {
        "expected auto, octet, lf or nul".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        choice(text, &[("auto", Self::Auto), ("octet", Self::Octet), ("lf", Self::Lf), ("nul", Self::Nul)])
    }
}

impl Leaf for OutputFraming {
    fn expected() -> String {
        "expected octet or lf".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        choice(text, &[("octet", Self::Octet), ("lf", Self::Lf)])
    }
}

impl Leaf for Oversize {
    fn expected() -> String {
        "expected truncate or reject".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        choice(text, &[("truncate", Self::Truncate), ("reject", Self::Reject)])
    }
}

impl Leaf for LogFormat {
    fn expected() -> String {
        "expected text or json".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        choice(text, &[("text", Self::Text), ("json", Self::Json)])
    }
}

impl Leaf for SpoolFull {
    fn expected() -> String {
        "expected block, drop_oldest or drop_newest".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let choices = [("block", Self::Block), ("drop_oldest", Self::DropOldest), ("drop_newest", Self::DropNewest)];
        choice(text, &choices)
    }
}

impl Leaf for Durability {
    fn expected() -> String {
        "expected overflow or always".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        choice(text, &[("overflow", Self::Overflow), ("always", Self::Always)])
    }
}

impl Leaf for Compression {
    fn expected() -> String {
        "expected none, lz4 or zstd".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        choice(text, &[("none", Self::None), ("lz4", Self::Lz4), ("zstd", Self::Zstd)])
    }
}

impl Leaf for Acknowledge {
    fn expected() -> String {
        "expected received, spooled or released".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        choice(text, &[("received", Self::Received), ("spooled", Self::Spooled), ("released", Self::Released)])
    }
}

impl Leaf for Mode {
    fn expected() -> String {
        "expected failover or balance".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        choice(text, &[("failover", Self::Failover), ("balance", Self::Balance)])
    }
}

/// `order`: [`super::Order`] without its share.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FirstInLine {
    Oldest,
    Newest,
}

impl Leaf for FirstInLine {
    fn expected() -> String {
        "expected oldest_first or newest_first".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        choice(text, &[("oldest_first", Self::Oldest), ("newest_first", Self::Newest)])
    }
}

/// `protocol`: what is spoken with a region.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spoken {
    Syslog,
    Relp,
    Https,
}

impl Leaf for Spoken {
    fn expected() -> String {
        "expected syslog, relp or https".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        choice(text, &[("syslog", Self::Syslog), ("relp", Self::Relp), ("https", Self::Https)])
    }
}

/// The word `every_batch`, where a map could stand as well.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EveryBatch;

impl Leaf for EveryBatch {
    fn expected() -> String {
        "expected every_batch or a map such as {interval: 200ms}".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "every_batch" => Ok(Self),
            text => {
                let near = did_you_mean(text, ["every_batch"]);
                Err(format!("found \"{text}\", {}{near}", Self::expected()).into())
            }
        }
    }
}

/// The word `off`, where a map could stand as well.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AllOff;

impl Leaf for AllOff {
    fn expected() -> String {
        "expected off or a map such as {landlock: false}".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text == "off" { Ok(Self) } else { Err(format!("found \"{text}\", {}", Self::expected()).into()) }
    }
}

impl Leaf for super::raw::AdminOpening {
    fn expected() -> String {
        "expected metrics or probes".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        choice(text, &[("metrics", Self::Metrics), ("probes", Self::Probes)])
    }
}

/// `error`, `warn`, `info`, `debug`, or a filter of several parts.
#[derive(Debug, Clone)]
pub(crate) struct LogLevel(pub(crate) String);

impl Leaf for LogLevel {
    fn expected() -> String {
        "expected error, warn, info, debug or a filter such as info,forebay::forward=debug".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        // One word that is no level would be taken by the filter as a module's name, with everything on.
        if !text.contains(['=', ',']) {
            let levels = ["error", "warn", "info", "debug"];
            return choice(text, &levels.map(|level| (level, Self(level.to_owned()))));
        }
        match text.parse::<tracing_subscriber::filter::Targets>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(format!("found \"{text}\", {}", Self::expected()).into()),
        }
    }
}

/// Sekoia's regions, as host names of their intake.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Region(pub(crate) &'static str);

/// All of them, by the name in the configuration.
pub(crate) const REGIONS: [(&str, Region); 6] = [
    ("fra1", Region("intake.sekoia.io")),
    ("fra2", Region("intake.fra2.sekoia.io")),
    ("mco1", Region("intake.mco1.sekoia.io")),
    ("uae1", Region("intake.uae1.sekoia.io")),
    ("usa1", Region("intake.usa1.sekoia.io")),
    ("sgp1", Region("intake.sgp1.sekoia.io")),
];

impl Leaf for Region {
    fn expected() -> String {
        format!("expected {}", or_list(REGIONS.iter().map(|(name, _)| *name)))
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        choice(&text.to_ascii_lowercase(), &REGIONS)
    }
}

impl Region {
    /// What stands before the paths of its HTTPS intake.
    pub(crate) fn https_path(self) -> &'static str {
        match REGIONS {
            [(_, Self(oldest)), ..] if oldest == self.0 => "",
            _ => "/api/v1/intake-http",
        }
    }
}

impl Leaf for TimeZone {
    fn expected() -> String {
        "expected a time zone such as Europe/Paris, UTC or +02:00".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.starts_with(['+', '-']) {
            let offset = jiff::fmt::temporal::DateTimeParser::new().parse_time_zone(text);
            return offset.map_err(|_| format!("found \"{text}\", {}", Self::expected()).into());
        }
        Self::get(text).map_err(|_| {
            let names: Vec<String> = jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
            let near = did_you_mean(text, names.iter().map(String::as_str));
            format!("found \"{text}\", {}{near}", Self::expected()).into()
        })
    }
}

impl Leaf for IpNet {
    fn expected() -> String {
        "expected a network such as 10.0.0.0/8 or 2001:db8::/32, or an address".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        route::parse_net(text).map_err(|_| format!("found \"{text}\", {}", Self::expected()).into())
    }
}

impl Leaf for IpAddr {
    fn expected() -> String {
        "expected an address such as 192.0.2.1 or 2001:db8::1".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        text.parse().map_err(|_| format!("found \"{text}\", {}", Self::expected()).into())
    }
}

impl Leaf for Template {
    fn expected() -> String {
        "expected a template".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        Self::compile(text).map_err(|error| Wrong { message: mask_keys(&error.message), at: Some(error.at) })
    }
}

/// Masks what could be an intake key. A template may hold one, and a stray `%` before it makes it a part of what is taken
/// for a property's name; a colon too many makes one a key of the file.
pub(crate) fn mask_keys(message: &str) -> String {
    let mut masked = String::with_capacity(message.len());
    for part in message.split_inclusive(|each: char| !each.is_ascii_alphanumeric()) {
        let word = part.trim_end_matches(|each: char| !each.is_ascii_alphanumeric());
        // No property or option of rsyslog's and no key of ours has a word that long.
        if word.len() >= limits::KEY_LEN_MIN {
            masked.push_str("****");
            masked.push_str(part.strip_prefix(word).unwrap_or_default());
        } else {
            masked.push_str(part);
        }
    }
    masked
}

/// The one of `choices` that `text` names.
pub(crate) fn choice<T: Clone>(text: &str, choices: &[(&str, T)]) -> Result<T, Wrong> {
    let names = || choices.iter().map(|(name, _)| *name);
    match choices.iter().find(|(name, _)| *name == text) {
        Some((_, value)) => Ok(value.clone()),
        None => Err(format!("found \"{text}\", expected {}{}", or_list(names()), did_you_mean(text, names())).into()),
    }
}

/// `a, b or c`
fn or_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
