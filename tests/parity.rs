//! Parity: the fields of a frame, and the line that Sekoia's FAQ makes of them, are what a real rsyslogd 8.2302 with
//! default settings makes of it, but for the differences that `docs/COMPATIBILITY.md` lists.
//!
//! Where rsyslogd is not installed, `parity/recorded.jsonl` stands in: generated frames and what it made of them.
//! `FOREBAY_RECORD_PARITY=1` with rsyslogd installed writes that file anew.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may panic, and says what it skips"
)]

#[path = "parity/corpus.rs"]
mod corpus;
#[path = "parity/differences.rs"]
mod differences;
#[path = "parity/generator.rs"]
mod generator;
#[path = "parity/recorded.rs"]
mod recorded;
#[path = "parity/rsyslogd.rs"]
mod rsyslogd;

use std::collections::BTreeMap;

use forebay::syslog::{self, Clock, Fields, Message, Protocol, Span, Timestamp};
use forebay::template::{Context, Renderer, Template};

use differences::Compared;
use rsyslogd::{Outcome, Transport};

/// Frames to generate for each run against a real rsyslogd.
const GENERATED: usize = 6_000;

/// Seeds of the generator; any number will do, and a new one finds new frames.
const SEED: u64 = 5424;
const SEED_UDP: u64 = 3164;
const SEED_NEW_YORK: u64 = 6587;
const SEED_RECORDED: u64 = 3339;

/// The present as it was when rsyslogd stamped a message.
fn clock_of(received: &[u8]) -> Clock {
    let text = std::str::from_utf8(received).expect("a stamp is ASCII");
    let instant: jiff::Timestamp = text.parse().expect("rsyslogd stamps with RFC 3339");
    let number = |range: std::ops::Range<usize>| text[range].parse::<u16>().expect("a stamp has digits there");
    let (_, zone) = text.split_at(text.len() - 6);
    let minutes = zone[1..3].parse::<i16>().expect("hours") * 60 + zone[4..6].parse::<i16>().expect("minutes");
    Clock {
        now_us: instant.as_microsecond(),
        year: number(0..4),
        month: number(5..7) as u8,
        day: number(8..10) as u8,
        offset_minutes: if zone.starts_with('-') { -minutes } else { minutes },
    }
}

/// The stamp as `date-rfc3339` prints it (RFC 3339 section 5.6).
fn rfc3339(stamp: &Timestamp) -> Vec<u8> {
    let Timestamp { year, month, day, hour, minute, second, .. } = *stamp;
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if stamp.fraction_digits > 0 {
        text += &format!(".{:0width$}", stamp.fraction, width = usize::from(stamp.fraction_digits));
    }
    let minutes = stamp.offset_minutes.unsigned_abs();
    let sign = if stamp.offset_minutes < 0 || stamp.minus_zero { '-' } else { '+' };
    text += &if stamp.zulu { "Z".to_owned() } else { format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60) };
    text.into_bytes()
}

/// rsyslog's `syslogtag`: for RFC 5424 it is put together.
fn syslogtag(fields: &Fields, raw: &[u8]) -> Vec<u8> {
    if fields.protocol == Protocol::Rfc3164 {
        return fields.tag.of(raw).to_vec();
    }
    let app_name = value(fields.app_name, raw);
    fields.procid.map_or_else(|| app_name.clone(), |procid| [&*app_name, b"[", procid.of(raw), b"]"].concat())
}

fn value(span: Option<Span>, raw: &[u8]) -> Vec<u8> {
    span.map_or_else(|| b"-".to_vec(), |span| span.of(raw).to_vec())
}

/// The line that the FAQ's template makes of an outcome.
fn faq_line(outcome: &Outcome) -> Vec<u8> {
    let Outcome { pri, timestamp, hostname, app_name, procid, msg, .. } = outcome;
    let head = [&**timestamp, hostname, app_name, procid, b"LOG [SEKOIA@53288 intake_key=\"KEY\"]", msg].join(&b' ');
    [b"<", &**pri, b">1 ", &head, b"\n"].concat()
}

/// The same line as [`Template::FAQ`] renders it.
fn rendered(template: &Template, message: &Message<'_>, clock: &Clock) -> Vec<u8> {
    let zone =
        jiff::tz::Offset::from_seconds(i32::from(clock.offset_minutes) * 60).expect("less than a day").to_time_zone();
    let mut line = Vec::new();
    let context = Context { intake_key: b"KEY", my_hostname: "relay" };
    template.render(message, &context, &mut Renderer::new(zone), &mut line);
    line
}

/// Our outcome for `frame`, received when rsyslogd received it, and its fields.
fn ours(template: &Template, raw: &[u8], received: &[u8]) -> (Outcome, Fields) {
    let clock = clock_of(received);
    let fields = syslog::parse(raw, &clock);
    let peer = Some(std::net::IpAddr::from([127, 0, 0, 1]));
    let message = Message { fields: &fields, raw, received_at_us: clock.now_us, peer, input: "parity" };
    let mut outcome = Outcome {
        pri: fields.pri.prival().to_string().into_bytes(),
        timestamp: fields.timestamp.as_ref().map_or_else(|| received.to_vec(), rfc3339),
        received: received.to_vec(),
        hostname: message.hostname().unwrap_or(b"127.0.0.1").to_vec(),
        tag: syslogtag(&fields, raw),
        program: message.program_name().to_vec(),
        app_name: value(fields.app_name, raw),
        procid: value(fields.procid, raw),
        msgid: value(fields.msgid, raw),
        structured_data: value(fields.structured_data, raw),
        protocol: if fields.protocol == Protocol::Rfc5424 { b"1".to_vec() } else { b"0".to_vec() },
        msg: message.msg().to_vec(),
        raw: raw.to_vec(),
        after_pri: raw[fields.after_pri as usize..].to_vec(),
        faq: Vec::new(),
    };
    outcome.faq = rendered(template, &message, &clock);
    (outcome, fields)
}

/// Counts of what came of a comparison.
struct Tally {
    template: Template,
    equal: usize,
    differences: BTreeMap<&'static str, usize>,
    unexplained: Vec<String>,
}

impl Tally {
    fn new() -> Self {
        let template = Template::compile(Template::FAQ).expect("the FAQ's template compiles");
        Self { template, equal: 0, differences: BTreeMap::new(), unexplained: Vec::new() }
    }

    fn compare(&mut self, frame: &[u8], theirs: &Outcome) {
        let mut scratch = Vec::new();
        let raw = syslog::sanitize(frame, &mut scratch);
        let (ours, fields) = ours(&self.template, raw, &theirs.received);
        assert_eq!(ours.faq.escape_ascii().to_string(), faq_line(&ours).escape_ascii().to_string(), "the fields' line");
        if ours == *theirs {
            self.equal += 1;
            return;
        }
        let found = Compared { frame: raw, fields: &fields, theirs };
        let mut left = ours.clone();
        for difference in &differences::ALL {
            if left.fields()[..14] != theirs.fields()[..14] && (difference.settle)(&found, &mut left) {
                *self.differences.entry(difference.name).or_default() += 1;
            }
        }
        // The fields' differences are the line's; rsyslogd's stamp is escaped in the field where it is garbage.
        left.faq = if theirs.timestamp.contains(&b'#') { theirs.faq.clone() } else { faq_line(&left) };
        if left != *theirs {
            self.unexplained.push(explain(frame, &ours, theirs));
        }
    }

    fn report(&self, what: &str) {
        println!("{what}: {} frames equal", self.equal);
        for (name, count) in &self.differences {
            println!("  {count:5} {name}");
        }
        let shown: String = self.unexplained.iter().take(20).map(String::as_str).collect();
        assert!(self.unexplained.is_empty(), "{what}: {} differ otherwise:\n{shown}", self.unexplained.len());
        assert!(self.equal > 0, "{what}: nothing was compared");
    }
}

/// What differs, for a reader.
fn explain(frame: &[u8], ours: &Outcome, theirs: &Outcome) -> String {
    const NAMES: [&str; 15] = [
        "pri",
        "timestamp",
        "received",
        "hostname",
        "syslogtag",
        "programname",
        "app-name",
        "procid",
        "msgid",
        "structured-data",
        "protocol-version",
        "msg",
        "rawmsg",
        "rawmsg-after-pri",
        "FAQ line",
    ];
    let mut text = format!("{}\n", frame.escape_ascii());
    for ((name, ours), theirs) in NAMES.iter().zip(ours.fields()).zip(theirs.fields()) {
        if ours != theirs {
            text += &format!("    {name}: ours \"{}\", rsyslog \"{}\"\n", ours.escape_ascii(), theirs.escape_ascii());
        }
    }
    text
}

/// Feeds `frames` to a real rsyslogd and compares; `None` where it is not installed.
fn compare_with_rsyslogd(what: &str, frames: &[Vec<u8>], transport: Transport, zone: &str) -> Option<Vec<Outcome>> {
    let executable = match rsyslogd::installed() {
        Ok(executable) => executable,
        Err(instead) => {
            println!("{what}: skipped, {instead}; the recorded results stand in");
            return None;
        }
    };
    let outcomes = rsyslogd::outcomes(executable, frames, transport, zone).expect("rsyslogd answers every frame");
    let mut tally = Tally::new();
    for (frame, theirs) in frames.iter().zip(&outcomes) {
        tally.compare(frame, theirs);
    }
    tally.report(what);
    Some(outcomes)
}

#[test]
fn generated_frames_over_tcp_mean_what_rsyslog_makes_of_them() {
    let frames = generator::frames(SEED, GENERATED);
    compare_with_rsyslogd("generated, TCP", &frames, Transport::Tcp, "UTC");
}

#[test]
fn generated_frames_over_udp_mean_what_rsyslog_makes_of_them() {
    let frames = generator::frames(SEED_UDP, GENERATED / 4);
    compare_with_rsyslogd("generated, UDP", &frames, Transport::Udp, "UTC");
}

#[test]
fn generated_frames_in_another_zone_mean_what_rsyslog_makes_of_them() {
    let frames = generator::frames(SEED_NEW_YORK, GENERATED / 4);
    compare_with_rsyslogd("generated, New York", &frames, Transport::Tcp, "America/New_York");
}

#[test]
fn frames_of_the_corpus_mean_what_rsyslog_makes_of_them() {
    for name in ["cases.jsonl", "device_frames.jsonl", "nasty.jsonl"] {
        let Some(frames) = corpus::frames(name) else { continue };
        compare_with_rsyslogd(name, &frames, Transport::Tcp, "UTC");
    }
}

#[test]
fn hostile_frames_keep_what_is_demanded_of_them() {
    let Some(rows) = corpus::rows("nasty.jsonl") else { return };
    let clock = clock_of(b"2026-11-22T20:00:00.000000+00:00");
    let mut checked = 0;
    for row in &rows {
        let (Some(frame), Some(name)) = (corpus::frame(row), row["name"].as_str()) else { continue };
        let mut scratch = Vec::new();
        let raw = syslog::sanitize(&frame, &mut scratch);
        let fields = syslog::parse(raw, &clock);
        let shown = format!("{name}: {fields:?}");
        assert!(raw.iter().all(|octet| *octet >= 0x20), "{shown}");
        assert!(fields.pri.prival() <= 191, "{shown}");
        assert_eq!(fields.msg.start as usize + fields.msg.of(raw).len(), raw.len(), "MSG goes to the end: {shown}");
        if row["demand"].as_str().is_some_and(|demand| demand.contains("whole original text is in MSG")) {
            assert_eq!((fields.pri.prival(), fields.msg.of(raw)), (13, raw), "{shown}");
        }
        checked += usize::from(demanded_by_name(name, raw, &fields, &shown));
    }
    assert!(checked > 20, "only {checked} rows had a demand of their own");
}

/// The demands that one row or a group of rows makes; false where it makes none on the parser.
fn demanded_by_name(name: &str, raw: &[u8], fields: &Fields, shown: &str) -> bool {
    let exists =
        |stamp: &Timestamp| jiff::civil::Date::new(stamp.year as i16, stamp.month as i8, stamp.day as i8).is_ok();
    let text = |needle: &str| memchr::memmem::find(fields.msg.of(raw), needle.as_bytes()).is_some();
    match name {
        "pri-unclosed" => assert_eq!((fields.pri.prival(), fields.msg.of(raw)), (13, raw), "{shown}"),
        "sd-unclosed" => assert!(fields.structured_data.is_none() && text("msg text"), "{shown}"),
        "sd-unclosed-quote" => assert!(text("msg text"), "{shown}"),
        "few-fields" => {
            assert!(fields.hostname.is_some_and(|hostname| hostname.of(raw) == b"host"), "{shown}");
            let missing = [fields.app_name, fields.procid, fields.msgid, fields.structured_data];
            assert_eq!(missing, [None; 4], "{shown}");
        }
        "long-hostname" | "long-tag" | "long-pid" => {
            let tag_end = fields.tag.start + fields.tag.len;
            let tag_start = fields.hostname.map_or(fields.tag.start, |hostname| hostname.start + hostname.len + 1);
            assert_eq!((tag_start, tag_end), (fields.tag.start, fields.msg.start), "no octet between: {shown}");
        }
        "inj-tag" => assert!(fields.app_name.is_some_and(|app_name| app_name.of(raw) == b"app"), "{shown}"),
        "sd-long-id" => assert!(fields.structured_data.is_some_and(|sd| sd.len > 5000), "{shown}"),
        "nul-tail" => assert!(!text("#000"), "{shown}"),
        "trailing-many-lf" => assert!(fields.msg.of(raw).ends_with(b"#012".repeat(9).as_slice()), "{shown}"),
        "date-feb30" | "date-feb29" | "date-hour25" | "date-day0" => assert_eq!(fields.timestamp, None, "{shown}"),
        _ if name.starts_with("date-") || name.starts_with("ts5424-") => {
            assert!(fields.timestamp.as_ref().is_none_or(exists), "{shown}");
            assert!(fields.timestamp.is_none_or(|stamp| stamp.fraction_digits <= 6), "{shown}");
        }
        _ if name.starts_with("len-") || name.starts_with("inj-") => assert!(!fields.msg.of(raw).is_empty(), "{shown}"),
        _ => return false,
    }
    true
}

#[test]
fn recorded_results_of_rsyslogd_still_hold() {
    let frames = generator::frames(SEED_RECORDED, recorded::FRAMES);
    if std::env::var_os("FOREBAY_RECORD_PARITY").is_some() {
        let outcomes = compare_with_rsyslogd("to be recorded", &frames, Transport::Tcp, "UTC");
        recorded::write(&frames, &outcomes.expect("recording needs rsyslogd"));
    }
    let mut tally = Tally::new();
    for (frame, theirs) in recorded::read() {
        tally.compare(&frame, &theirs);
    }
    tally.report("recorded");
}

#[test]
fn every_difference_is_a_heading_of_the_document_and_every_heading_a_difference() {
    let document = include_str!("../docs/COMPATIBILITY.md");
    let mut headings: Vec<_> = document.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let mut names: Vec<_> = differences::ALL.iter().map(|difference| difference.name).collect();
    headings.sort_unstable();
    names.sort_unstable();
    assert_eq!(headings, names);
}
