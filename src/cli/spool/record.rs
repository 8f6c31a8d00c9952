//! One message as a JSON line that holds everything, and back; and as RFC 5424.

use std::borrow::Cow;
use std::net::IpAddr;

use anyhow::{Context as _, bail, ensure};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::config::limits;
use crate::syslog::timestamp::{self, Clock};
use crate::syslog::{self, Fields, Message, Pri, Protocol, Span, Timestamp};
use crate::template::{self, Template};

use super::select;
use crate::base64;

/// A message in JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Line<'a> {
    #[serde(default)]
    route: Option<Cow<'a, str>>,
    /// RFC 3339; read: now, where it is missing.
    #[serde(default)]
    received_at: Option<String>,
    #[serde(default)]
    peer: Option<IpAddr>,
    #[serde(default)]
    input: Cow<'a, str>,
    /// The frame, where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw: Option<Cow<'a, str>>,
    /// The frame, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw_base64: Option<String>,
    /// What was found in it.
    #[serde(default)]
    fields: Option<Shown<'a>>,
    /// Where. Read: without them the frame is parsed again.
    #[serde(default)]
    spans: Option<Spans>,
}

/// Fields as texts. Only those that [`Spans`] cannot hold are read.
#[derive(Debug, Serialize, Deserialize)]
struct Shown<'a> {
    pri: u8,
    #[serde(skip_deserializing)]
    facility: &'static str,
    #[serde(skip_deserializing)]
    severity: &'static str,
    protocol: Cow<'a, str>,
    timestamp: Option<String>,
    #[serde(skip_deserializing)]
    hostname: Option<Cow<'a, str>>,
    #[serde(skip_deserializing)]
    program: Cow<'a, str>,
    #[serde(skip_deserializing)]
    app_name: Option<Cow<'a, str>>,
    #[serde(skip_deserializing)]
    procid: Option<Cow<'a, str>>,
    #[serde(skip_deserializing)]
    msgid: Option<Cow<'a, str>>,
    #[serde(skip_deserializing)]
    structured_data: Option<Cow<'a, str>>,
    #[serde(skip_deserializing)]
    msg: Cow<'a, str>,
}

/// Offset and length in the frame's octets.
type Place = (u32, u32);

#[derive(Debug, Serialize, Deserialize)]
struct Spans {
    hostname: Option<Place>,
    tag: Place,
    app_name: Option<Place>,
    procid: Option<Place>,
    msgid: Option<Place>,
    structured_data: Option<Place>,
    after_pri: u32,
    msg: Place,
}

/// What was read: a message that owns its octets.
#[derive(Debug)]
pub(super) struct Read {
    /// The route that the line names.
    pub(super) route: Option<String>,
    /// The input that it came through.
    pub(super) input: String,
    fields: Fields,
    raw: Vec<u8>,
    received_at_us: i64,
    peer: Option<IpAddr>,
}

impl Read {
    /// As batches take it.
    pub(super) fn message(&self) -> Message<'_> {
        Message {
            fields: &self.fields,
            raw: &self.raw,
            received_at_us: self.received_at_us,
            peer: self.peer,
            input: &self.input,
        }
    }

    /// A frame that was received now, by the operator's hand.
    pub(super) fn frame(frame: &[u8], now_us: i64) -> Self {
        let mut scratch = Vec::new();
        let raw = syslog::sanitize(frame, &mut scratch).to_vec();
        let fields = syslog::parse(&raw, &clock_at(now_us));
        Self { route: None, input: "import".to_owned(), fields, raw, received_at_us: now_us, peer: None }
    }

    /// Reads what [`write_json`] wrote, or a line that somebody made: with no more than `raw` in it.
    pub(super) fn json(line: &[u8], now_us: i64) -> anyhow::Result<Self> {
        let line: Line<'_> = serde_json::from_slice(line).context("not a JSON object of a message")?;
        let raw = match (&line.raw, &line.raw_base64) {
            (Some(raw), None) => raw.as_bytes().to_vec(),
            (None, Some(text)) => base64::decode(text).context("raw_base64 is not base64")?,
            _ => bail!("expected one of raw and raw_base64"),
        };
        ensure!(raw.len() as u64 <= limits::MESSAGE_SIZE_MAX, "longer than {} octets", limits::MESSAGE_SIZE_MAX);
        let received_at_us = match &line.received_at {
            Some(stamp) => {
                let stamp: jiff::Timestamp = stamp.parse().context("received_at is not an RFC 3339 stamp")?;
                stamp.as_microsecond()
            }
            None => now_us,
        };
        let mut read = Self::frame(&raw, received_at_us);
        if let (Some(shown), Some(spans)) = (&line.fields, &line.spans) {
            let fields = fields_of(shown, spans, raw.len())?;
            // Spans are those of a frame without control characters. Another was changed by hand, and is parsed again.
            if read.raw == raw {
                read.fields = fields;
            }
        }
        read.route = line.route.map(Cow::into_owned);
        read.peer = line.peer;
        if !line.input.is_empty() {
            read.input = line.input.into_owned();
        }
        Ok(read)
    }
}

fn fields_of(shown: &Shown<'_>, spans: &Spans, len: usize) -> anyhow::Result<Fields> {
    let span = |(start, span_len): Place| {
        let end = start as usize + span_len as usize;
        ensure!(end <= len, "spans reach beyond raw: without spans it is parsed again");
        Ok(Span { start, len: span_len })
    };
    let (_, after_pri) = (span((0, spans.after_pri))?, spans.after_pri);
    let stamp = |text: &String| {
        let found = timestamp::rfc3339(text.as_bytes()).and_then(|found| found.timestamp);
        found.with_context(|| format!("timestamp {text} cannot be read: without spans raw is parsed again"))
    };
    Ok(Fields {
        pri: Pri::new(shown.pri).context("pri is above 191")?,
        protocol: match &*shown.protocol {
            "rfc3164" => Protocol::Rfc3164,
            "rfc5424" => Protocol::Rfc5424,
            other => bail!("protocol is {other}, expected rfc3164 or rfc5424"),
        },
        timestamp: shown.timestamp.as_ref().map(stamp).transpose()?,
        hostname: spans.hostname.map(span).transpose()?,
        tag: span(spans.tag)?,
        app_name: spans.app_name.map(span).transpose()?,
        procid: spans.procid.map(span).transpose()?,
        msgid: spans.msgid.map(span).transpose()?,
        structured_data: spans.structured_data.map(span).transpose()?,
        after_pri,
        msg: span(spans.msg)?,
    })
}

/// The clock of somebody in UTC, then.
fn clock_at(now_us: i64) -> Clock {
    let stamp = jiff::Timestamp::from_microsecond(now_us).unwrap_or_default().to_zoned(TimeZone::UTC);
    Clock {
        now_us,
        year: u16::try_from(stamp.year()).unwrap_or_default(),
        month: stamp.month().unsigned_abs(),
        day: stamp.day().unsigned_abs(),
        offset_minutes: 0,
    }
}

/// Appends a message as a JSON object and LF.
pub(super) fn write_json(route: &str, message: &Message<'_>, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let fields = message.fields;
    let text = |span: Option<Span>| span.map(|span| String::from_utf8_lossy(span.of(message.raw)));
    let place = |span: Span| (span.start, span.len);
    let raw = std::str::from_utf8(message.raw);
    let line = Line {
        route: Some(Cow::Borrowed(route)),
        received_at: Some(select::stamp(message.received_at_us)),
        peer: message.peer,
        input: Cow::Borrowed(message.input),
        raw: raw.ok().map(Cow::Borrowed),
        raw_base64: raw.is_err().then(|| base64::encode(message.raw)),
        fields: Some(Shown {
            pri: fields.pri.prival(),
            facility: fields.pri.facility().name(),
            severity: fields.pri.severity().name(),
            protocol: Cow::Borrowed(match fields.protocol {
                Protocol::Rfc3164 => "rfc3164",
                Protocol::Rfc5424 => "rfc5424",
            }),
            timestamp: fields.timestamp.as_ref().map(stamp_text),
            hostname: text(fields.hostname),
            program: String::from_utf8_lossy(message.program_name()),
            app_name: text(fields.app_name),
            procid: text(fields.procid),
            msgid: text(fields.msgid),
            structured_data: text(fields.structured_data),
            msg: String::from_utf8_lossy(message.msg()),
        }),
        spans: Some(Spans {
            hostname: fields.hostname.map(place),
            tag: place(fields.tag),
            app_name: fields.app_name.map(place),
            procid: fields.procid.map(place),
            msgid: fields.msgid.map(place),
            structured_data: fields.structured_data.map(place),
            after_pri: fields.after_pri,
            msg: place(fields.msg),
        }),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.push(b'\n');
    Ok(())
}

/// A stamp as it was: its digits, its zone.
fn stamp_text(stamp: &Timestamp) -> String {
    let Timestamp { year, month, day, hour, minute, second, .. } = stamp;
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if stamp.fraction_digits > 0 {
        text.push_str(&format!(".{:0width$}", stamp.fraction, width = usize::from(stamp.fraction_digits)));
    }
    let (east, offset) = (stamp.offset_minutes >= 0, stamp.offset_minutes.unsigned_abs());
    if stamp.zulu {
        text.push('Z');
    } else {
        let sign = if east && !stamp.minus_zero { '+' } else { '-' };
        text.push_str(&format!("{sign}{:02}:{:02}", offset / 60, offset % 60));
    }
    text
}

/// Writes messages as RFC 5424.
pub(super) struct Rfc5424 {
    header: Template,
    element: Template,
    state: template::Renderer,
    my_hostname: String,
}

/// In front of `%structured-data%` it makes a template leave out the message's own element of that name, and its key.
const OURS: &str = "[SEKOIA@53288]";

impl Rfc5424 {
    /// Ready to write.
    pub(super) fn new() -> anyhow::Result<Self> {
        let my_hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Ok(Self {
            header: Template::compile("<%pri%>1 %timestamp:::date-rfc3339% %hostname% %app-name% %procid% %msgid% ")?,
            element: Template::compile(&format!("{OURS}%structured-data%"))?,
            state: template::Renderer::new(TimeZone::UTC),
            my_hostname: my_hostname.trim().to_owned(),
        })
    }

    /// Appends a message, without anything behind it. No intake key is in it: not ours, which nothing stored has, and
    /// not one that another relay put there.
    pub(super) fn write(&mut self, message: &Message<'_>, out: &mut Vec<u8>) {
        let context = template::Context { intake_key: b"", my_hostname: &self.my_hostname };
        self.header.render(message, &context, &mut self.state, out);
        let mut element = Vec::new();
        self.element.render(message, &context, &mut self.state, &mut element);
        out.extend_from_slice(element.strip_prefix(OURS.as_bytes()).filter(|rest| !rest.is_empty()).unwrap_or(b"-"));
        out.push(b' ');
        out.extend_from_slice(message.msg());
    }
}

#[cfg(test)]
mod tests;
