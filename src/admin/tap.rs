//! `/tap`: what passes, live. The shards copy (`crate::tap`), this thread renders, masks and writes, a message a line.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::{Body, Bytes, Frame};
use jiff::Timestamp;
use memchr::memmem::Finder;
use serde_json::json;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::config::{Action, Config};
use crate::forward::{Mask, Preview};
use crate::route::{Name, parse_net};
use crate::syslog::Message;
use crate::tap::{Fate, Filter, Listener, Refused, SHOWN_PER_SECOND_MAX, Sample, Side, Taps};

use super::patience::Patience;
use super::query::pairs;
use super::{Admin, Running};

/// How often it is looked at what the shards have copied: soon enough for eyes, and no wake-up that a shard has to pay for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A tap that has nothing to say says so with an empty line: a client that has gone away is noticed by it.
const SIGN_EVERY: Duration = Duration::from_secs(15);

/// Once a chunk has so many octets, what is more follows with the next look.
const CHUNK_BYTES: usize = 64 * 1024;

/// Names in one question.
const NAMES_MAX: usize = 64;

/// What somebody wants to see.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) side: Side,
    pub(super) filter: Filter,
    pub(super) per_second: u32,
    is_json: bool,
}

impl Wish {
    /// Reads a query.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(super) fn read(query: &str, config: &Config) -> Result<Self, String> {
        let mut wish =
            Self { side: Side::Sent, filter: Filter::default(), per_second: SHOWN_PER_SECOND_MAX, is_json: false };
        let mut routes: Vec<Name> = Vec::new();
        for (count, (name, value)) in pairs(query).enumerate() {
            if count >= NAMES_MAX {
                return Err(format!("more than {NAMES_MAX} parameters"));
            }
            match (&*name, value.as_str()) {
                ("route", _) => routes.push(Name::parse(&value)?),
                ("program", _) => wish.filter.programs.push(Name::parse(&value)?),
                ("peer", _) => wish.filter.peers.push(parse_net(&value)?),
                ("text", "") => return Err("text is empty".to_owned()),
                ("text", _) => wish.filter.text = Some(Finder::new(value.as_bytes()).into_owned()),
                ("received", "" | "1" | "true") => wish.side = Side::Received,
                ("received", "0" | "false") => wish.side = Side::Sent,
                ("format", "text") => wish.is_json = false,
                ("format", "json") => wish.is_json = true,
                ("limit", _) => wish.per_second = limit(&value)?,
                (name, value) => {
                    return Err(format!(
                        "{name}={value} is not understood, expected route, program, peer, text, received=1, \
                         limit=1…{SHOWN_PER_SECOND_MAX}, format=text or format=json"
                    ));
                }
            }
        }
        if !routes.is_empty() {
            wish.filter.routes = Some(wanted(&routes, wish.side, config)?);
        }
        Ok(wish)
    }
}

impl Wish {
    /// Of what answers it.
    pub(super) const fn content_type(&self) -> &'static str {
        if self.is_json { "application/x-ndjson" } else { "text/plain; charset=utf-8" }
    }
}

fn limit(value: &str) -> Result<u32, String> {
    let limit = value.parse().ok().filter(|limit| (1..=SHOWN_PER_SECOND_MAX).contains(limit));
    limit.ok_or_else(|| format!("limit={value}, expected messages a second from 1 to {SHOWN_PER_SECOND_MAX}"))
}

/// By route, whether one of `names` is its name.
fn wanted(names: &[Name], side: Side, config: &Config) -> Result<Vec<bool>, String> {
    let is_named = |name: &str| names.iter().any(|wanted| wanted.matches(name.as_bytes()));
    let wanted: Vec<bool> = config.routes.iter().map(|route| is_named(&route.name)).collect();
    let asked = names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
    if !wanted.contains(&true) {
        let known: Vec<&str> = config.routes.iter().map(|route| route.name.as_str()).collect();
        return Err(format!("no route is named {asked}; there are: {}", known.join(", ")));
    }
    let sends = config.routes.iter().map(|route| matches!(route.action, Action::Forward { .. }));
    if side == Side::Sent && !sends.zip(&wanted).any(|(sends, wanted)| sends && *wanted) {
        return Err(format!("{asked} discards what it takes: nothing is sent; look at what arrives (received=1)"));
    }
    Ok(wanted)
}

/// An answer that goes on for as long as somebody reads it.
pub(super) struct Stream {
    running: Arc<Running>,
    admin: Arc<Admin>,
    listener: Listener,
    preview: Preview,
    patience: Patience,
    ticks: Interval,
    is_json: bool,
    side: Side,
    spoke_at: Instant,
    has_ended: bool,
}

impl Stream {
    /// Opens the tap.
    ///
    /// # Errors
    /// Status and words of the refusal.
    pub(super) fn open(wish: Wish, running: &Arc<Running>, patience: &Patience) -> Result<Self, (StatusCode, String)> {
        let admin = running.now();
        let listener = open(&admin.common.taps, wish.side, wish.filter, wish.per_second)?;
        patience.hold(admin.common.taps.guest());
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            running: Arc::clone(running),
            listener,
            preview: Preview::new(Mask::new(&admin.common.config)),
            admin,
            patience: patience.clone(),
            ticks,
            is_json: wish.is_json,
            side: wish.side,
            spoke_at: Instant::now(),
            has_ended: false,
        })
    }

    /// What there is to say now.
    fn chunk(&mut self) -> String {
        let mut out = String::new();
        let now = Instant::now();
        self.listener.adjust(now.into_std());
        let is_closed = self.listener.is_closed();
        while out.len() < CHUNK_BYTES
            && let Some(sample) = self.listener.next_sample()
        {
            self.write_sample(&sample, &mut out);
        }
        if out.len() < CHUNK_BYTES {
            let missed = self.listener.missed();
            if missed > 0 {
                self.write_missed(missed, &mut out);
            }
            if is_closed {
                self.has_ended = true;
                self.write_end(&mut out);
            }
        }
        if out.is_empty() && now.duration_since(self.spoke_at) >= SIGN_EVERY {
            out.push('\n');
        }
        if !out.is_empty() {
            self.spoke_at = now;
        }
        out
    }

    /// What is shown is rendered and masked as the configuration that runs says.
    fn keep_up(&mut self) {
        let now = self.running.now();
        if !Arc::ptr_eq(&now, &self.admin) {
            self.preview = Preview::new(Mask::new(&now.common.config));
            self.admin = now;
        }
    }

    fn write_sample(&mut self, sample: &Sample, out: &mut String) {
        self.keep_up();
        let admin = Arc::clone(&self.admin);
        let config = &admin.common.config;
        let names: Vec<String> = config.inputs.iter().map(|input| input.name.clone()).collect();
        let mut routes = sample.routes.as_slice();
        for (message, mark) in sample.batch.messages(&names).zip(&sample.marks) {
            let (own, others) = routes.split_at_checked(mark.routes).unwrap_or_default();
            routes = others;
            let octets = match (self.side, own) {
                (Side::Sent, [route, ..]) => self.preview.sent(config, usize::from(*route), &message),
                _ => Some(self.preview.mask().hide(message.raw)),
            };
            let Some(line) = octets.map(|octets| one_line(&octets)) else { continue };
            if self.is_json {
                let object = object((config, self.preview.mask()), self.side, &message, mark.fate, own, &line);
                out.push_str(&object.to_string());
            } else {
                out.push_str(&line);
            }
            out.push('\n');
        }
    }

    fn write_missed(&self, missed: u64, out: &mut String) {
        let is_filtered = self.listener.is_filtered();
        let line = if self.is_json {
            json!({ "missed": missed, "filtered": is_filtered }).to_string()
        } else {
            missed_in_words(missed, is_filtered)
        };
        out.push_str(&line);
        out.push('\n');
    }

    fn write_end(&self, out: &mut String) {
        const WHY: &str = "the relay is stopping";
        let line = if self.is_json { json!({ "ended": WHY }).to_string() } else { format!("… {WHY}") };
        out.push_str(&line);
        out.push('\n');
    }
}

/// How a tap says what it did not show: with a filter nobody knows what of that it would have.
pub fn missed_in_words(missed: u64, is_filtered: bool) -> String {
    if is_filtered {
        format!("… {missed} more passed and were not looked at")
    } else {
        format!("… {missed} more not shown")
    }
}

/// Opens a tap.
///
/// # Errors
/// Status and words of the refusal.
pub(super) fn open(
    taps: &Arc<Taps>,
    side: Side,
    filter: Filter,
    per_second: u32,
) -> Result<Listener, (StatusCode, String)> {
    taps.open(side, filter, per_second).map_err(|refused| {
        let status = match refused {
            Refused::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Refused::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, format!("{refused}\n"))
    })
}

/// A message with what is known of it.
fn object(
    (config, mask): (&Config, &Mask),
    side: Side,
    message: &Message<'_>,
    fate: Fate,
    routes: &[u16],
    line: &str,
) -> serde_json::Value {
    let text = |octets: &[u8]| one_line(&mask.hide(octets));
    let routes = routes.iter().filter_map(|route| config.routes.get(usize::from(*route)));
    let fate = match (side, fate) {
        (Side::Sent, _) => "sent",
        (Side::Received, Fate::Routed) => "routed",
        (Side::Received, Fate::Discarded) => "discarded",
        (Side::Received, Fate::Unmatched) => "unmatched",
    };
    json!({
        "received_at": Timestamp::from_microsecond(message.received_at_us).unwrap_or_default().to_string(),
        "fate": fate,
        "routes": routes.map(|route| route.name.as_str()).collect::<Vec<_>>(),
        "input": message.input,
        "peer": message.peer.map(|peer| peer.to_canonical().to_string()),
        "hostname": message.hostname().map(text),
        "program": text(message.program_name()),
        "line": line,
    })
}

/// A message in one line that cannot act on a terminal: control characters, and octets that are no UTF-8, become `#ooo`, as
/// reception writes them.
pub(super) fn one_line(octets: &[u8]) -> String {
    let mut line = String::with_capacity(octets.len());
    let escape = |octet: u8, line: &mut String| line.push_str(&format!("#{octet:03o}"));
    for chunk in octets.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char.is_control() && char != '\t' {
                char.encode_utf8(&mut [0; 4]).bytes().for_each(|octet| escape(octet, &mut line));
            } else {
                line.push(char);
            }
        }
        chunk.invalid().iter().for_each(|octet| escape(*octet, &mut line));
    }
    line
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if self.has_ended {
                return Poll::Ready(None);
            }
            // Asked for more: what was said before is on its way.
            self.patience.renew();
            ready!(self.ticks.poll_tick(cx));
            let chunk = self.chunk();
            if !chunk.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(chunk.into()))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_in_its_line_and_keeps_from_the_terminal() {
        let rows: [(&[u8], &str); 6] = [
            (b"plain \xc3\xa9\tx", "plain é\tx"),
            (b"a\nb\r\n", "a#012b#015#012"),
            (b"\x1b[2J", "#033[2J"),
            (b"\x7f\x00", "#177#000"),
            (b"\xc2\x9b31m", "#302#23331m"),
            (b"\xff\xfe", "#377#376"),
        ];
        for (octets, expected) in rows {
            assert_eq!(one_line(octets), expected);
        }
    }
}
