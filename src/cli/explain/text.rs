//! What was found out, for people: 80 columns, colour on a terminal only, nothing in it that acts on one.

use std::fmt::Write as _;

use crate::cli::grouped;
use crate::cli::paint::{Paint, Style};
use crate::config::{Action, Output, OutputFraming, Protocol, Route};
use crate::forward::{Mask, Written, request_line};
use crate::route::{self, Trace};
use crate::syslog::frame::Flaw;
use crate::syslog::{self, Oddity, Protocol as Header, Span, Timestamp, oddities};

use super::cut::How;
use super::reading::{Asked, Explained, Explainer, Outcome};
use super::remarks::{About, Remark};
use super::{show, times};

/// Columns.
const WIDTH: usize = 80;

/// Where values stand.
const VALUE_AT: usize = 30;

/// Characters of a field that are shown; --json has all.
const VALUE_MAX: usize = 1_500;

/// The same of what is sent.
const SENT_MAX: usize = 6_000;

/// The long form of one message.
pub(super) fn long(explainer: &Explainer<'_>, explained: &Explained, paint: Paint) -> String {
    let mut page = Page { explainer, explained, paint, out: String::new() };
    page.frame();
    if explained.outcome != Outcome::NoMessage {
        page.fields();
        page.routes();
        page.sent();
    }
    page.out.push('\n');
    page.out
}

struct Page<'p> {
    explainer: &'p Explainer<'p>,
    explained: &'p Explained,
    paint: Paint,
    out: String,
}

impl Page<'_> {
    fn heading(&mut self, title: &str, text: &str) {
        let title = self.paint.styled(Style::Bold, &format!("{title:<9}"));
        let mut lines = wrap(text, WIDTH - 9).into_iter();
        self.line(&format!("{title}{}", lines.next().unwrap_or_default()));
        lines.for_each(|line| self.line(&format!("{:9}{line}", "")));
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    /// Octets as they are, wrapped; keys hidden.
    fn block(&mut self, octets: &[u8], max: usize) {
        let text = visible(&self.explainer.hide(octets));
        let (shown, more) = cut(&text, max);
        chunks(shown, WIDTH - 2).into_iter().for_each(|line| self.line(&format!("  {line}")));
        if more > 0 {
            self.line(&self.paint.styled(Style::Dim, &format!("  … {more} characters more (--json has all)")));
        }
    }

    fn remark(&mut self, indent: usize, remark: &Remark) {
        let (mark, style) = if remark.is_usual { ("·", Style::Dim) } else { ("!", Style::Yellow) };
        for (number, line) in wrap(&remark.text, WIDTH - indent - 2).into_iter().enumerate() {
            let mark = if number == 0 { mark } else { " " };
            let text = self.paint.styled(style, &format!("{mark} {line}"));
            self.line(&format!("{:indent$}{text}", ""));
        }
    }

    fn remarks(&mut self, indent: usize, about: About) {
        let explained = self.explained;
        explained.remarks.iter().filter(|remark| remark.about == about).for_each(|remark| self.remark(indent, remark));
    }

    fn frame(&mut self) {
        let cut = &self.explained.cut;
        let how = match cut.how {
            How::Datagram(octets) if octets == cut.octets.len() => "a datagram".to_owned(),
            How::Datagram(octets) => format!("a datagram of {octets} octets"),
            How::Counted(len) => format!("octet counting, MSG-LEN {len}"),
            How::Lf => "a line that ends in LF".to_owned(),
            How::CrLf => "a line that ends in CR LF".to_owned(),
            How::Nul => "ends in NUL".to_owned(),
            How::Rest => "the end of the stream".to_owned(),
            How::Passed => "not counted".to_owned(),
        };
        let place = match cut.how {
            How::Datagram(_) => String::new(),
            _ => format!("; line {}, offset {}", cut.line, cut.offset),
        };
        let size = count(cut.octets.len(), "octet");
        self.heading("Frame", &format!("{how}; {size}{place}"));
        let peer = self.explainer.peer.map_or("a unix socket".to_owned(), |peer| peer.to_canonical().to_string());
        let input = self.explainer.input().map(|input| input.name.clone()).unwrap_or_default();
        let at = times::stamp(self.explainer.received_at_us);
        let assumed = if self.explainer.is_peer_assumed() { " (assumed)" } else { "" };
        let came = format!("from {peer}{assumed} through input {input}, received {at}");
        wrap(&came, WIDTH - 9).into_iter().for_each(|line| self.line(&format!("{:9}{line}", "")));
        let octets = cut.octets.clone();
        self.block(&octets, VALUE_MAX);
        self.remarks(2, About::Frame);
    }

    fn fields(&mut self) {
        let (fields, raw) = (&self.explained.fields, &self.explained.raw);
        let header = match fields.protocol {
            Header::Rfc3164 => "RFC 3164",
            Header::Rfc5424 => "RFC 5424",
        };
        self.out.push('\n');
        self.heading("Fields", header);
        let pri = fields.pri;
        let names = format!("{}  {}.{}", pri.prival(), pri.facility().name(), pri.severity().name());
        self.field("PRI", pri_span(raw), Some(names));
        let stamp = syslog::oddity::timestamp_at(raw, fields, self.explainer.clock());
        self.field("TIMESTAMP", stamp, fields.timestamp.as_ref().map(rfc3339));
        self.span("HOSTNAME", fields.hostname);
        if fields.protocol == Header::Rfc3164 {
            self.span("TAG", Some(fields.tag).filter(|tag| tag.len > 0));
            self.span("program name", fields.app_name);
            self.span("PROCID", fields.procid);
        } else {
            self.span("APP-NAME", fields.app_name);
            self.span("PROCID", fields.procid);
            self.span("MSGID", fields.msgid);
            self.span("STRUCTURED-DATA", fields.structured_data);
        }
        self.span("MSG", Some(fields.msg));
    }

    fn span(&mut self, name: &'static str, span: Option<Span>) {
        let value = span.map(|span| quoted(&self.explainer.hide(span.of(&self.explained.raw))));
        self.field(name, span, value);
    }

    fn field(&mut self, name: &'static str, span: Option<Span>, value: Option<String>) {
        let place = span.map(|span| received_span(self.explained, span));
        let place = place.map(|(start, end)| format!("{start}..{end}")).unwrap_or_default();
        let (shown, more) = value.as_deref().map(|value| cut(value, VALUE_MAX)).unwrap_or(("-", 0));
        let mut lines = chunks(shown, WIDTH - VALUE_AT).into_iter();
        let head = format!("  {name:<15} {place:>10}  {}", lines.next().unwrap_or_default());
        self.line(&head);
        lines.for_each(|line| self.line(&format!("{:VALUE_AT$}{line}", "")));
        if more > 0 {
            self.line(&format!("{:VALUE_AT$}… {more} characters more (--json has all)", ""));
        }
        self.remarks(VALUE_AT, About::Field(name));
    }

    fn routes(&mut self) {
        let routes = &self.explainer.config.routes;
        let asked = self.explainer.asked(self.explained);
        self.out.push('\n');
        if matches!(self.explained.outcome, Outcome::RejectedOversize | Outcome::RejectedPeer) {
            self.heading("Routes", "none is tried: the message is rejected before");
            return;
        }
        self.heading("Routes", "tried in this order, until one holds that does not `continue`");
        let tried = asked.iter().take_while(|asked| matches!(asked, Asked::Tried(_))).count();
        for (index, (route, asked)) in routes.iter().zip(&asked).take(tried).enumerate() {
            if let Asked::Tried(trace) = asked {
                self.route(index, route, trace);
            }
        }
        match routes.len() - tried {
            0 => {}
            1 => self.not_tried(&format!("{:>3} {}", tried + 1, self.explainer.route(tried))),
            more => self.not_tried(&format!("{:>3} {} and {} more", tried + 1, self.explainer.route(tried), more - 1)),
        }
        if self.explained.outcome == Outcome::Unmatched {
            let text = self.paint.styled(Style::Red, "  no route takes it: it is counted as unmatched, and not sent");
            self.line(&text);
        }
    }

    fn not_tried(&mut self, which: &str) {
        let text = self.paint.styled(Style::Dim, &format!("{which}: not tried, the message is taken"));
        self.line(&text);
    }

    fn route(&mut self, index: usize, route: &Route, trace: &Trace) {
        let does = match &route.action {
            Action::Discard => "discards it".to_owned(),
            Action::Forward { output, .. } => {
                let name = self.explainer.output(*output).map(|output| output.name.as_str()).unwrap_or_default();
                format!("sends it to {name}")
            }
        };
        let (answer, style) = match (trace.holds, route.continues) {
            (true, false) => (format!("takes it, {does}"), Style::Green),
            (true, true) => (format!("takes it, {does}, and goes on (continue)"), Style::Green),
            (false, _) => ("no".to_owned(), Style::Dim),
        };
        let answer = self.paint.styled(style, &answer);
        self.line(&format!("{:>3} {}: {answer}", index + 1, route.name));
        if trace.asked.is_empty() {
            self.line(&format!("{:6}every message", ""));
        }
        self.trace(6, trace);
    }

    fn trace(&mut self, indent: usize, trace: &Trace) {
        for asked in &trace.asked {
            let mark = self.mark(asked.holds());
            match asked {
                route::Asked::Value { key, wanted, saw, by } => {
                    let saw = saw.as_deref().map_or(" — saw nothing".to_owned(), |saw| self.saw(saw));
                    // Of many alternatives the one that held says most.
                    let wanted = match by.and_then(|by| wanted.get(by)) {
                        Some(held) if wanted.len() > 1 => format!("{held} (of {})", wanted.len()),
                        _ => wanted.join(" or "),
                    };
                    let text = format!("{key}: {}{saw}", visible(wanted.as_bytes()));
                    let mut lines = wrap(&text, WIDTH - indent - 2).into_iter();
                    self.line(&format!("{:indent$}{mark} {}", "", lines.next().unwrap_or_default()));
                    lines.for_each(|line| self.line(&format!("{:indent$}  {line}", "")));
                }
                route::Asked::When { parts, .. } => {
                    self.line(&format!("{:indent$}{mark} when", ""));
                    parts.iter().for_each(|part| self.part(indent + 4, part));
                }
                route::Asked::Not(inner) => {
                    let holds = if inner.holds { "these all hold" } else { "these do not all hold" };
                    self.line(&format!("{:indent$}{mark} not: {holds}", ""));
                    self.trace(indent + 4, inner);
                }
            }
        }
    }

    /// A part of an expression.
    fn part(&mut self, indent: usize, part: &route::Part) {
        let indent = (indent + 2 * part.depth).min(WIDTH / 2);
        let saw = part.saw.as_deref().map(|saw| self.saw(saw)).unwrap_or_default();
        let mark = if part.asked { self.mark(part.holds) } else { self.paint.styled(Style::Dim, "-") };
        let not_asked = if part.asked { "" } else { " (not asked)" };
        let text = format!("{}{saw}{not_asked}", visible(part.text.as_bytes()));
        let mut lines = wrap(&text, WIDTH - indent - 2).into_iter();
        self.line(&format!("{:indent$}{mark} {}", "", lines.next().unwrap_or_default()));
        lines.for_each(|line| self.line(&format!("{:indent$}  {line}", "")));
    }

    fn mark(&self, holds: bool) -> String {
        let (mark, style) = if holds { ("✓", Style::Green) } else { ("✗", Style::Red) };
        self.paint.styled(style, mark)
    }

    fn saw(&self, octets: &[u8]) -> String {
        format!(" — saw \"{}\"", fit(&visible(&self.explainer.hide(octets)), 60))
    }

    fn sent(&mut self) {
        if self.explained.sent.is_empty() {
            return;
        }
        let explained = self.explained;
        for (place, sent) in explained.sent.iter().enumerate() {
            let Some(output) = self.explainer.output(sent.output) else { continue };
            self.out.push('\n');
            let (name, route) = (&output.name, self.explainer.route(sent.route));
            let protocol = output.protocol.name();
            self.heading("Sent", &format!("by route {route} to {name}: {protocol}, {}", output.address()));
            if let Some(written) = &sent.written {
                self.written(output, written);
            }
            self.remarks(2, About::Sent(place));
        }
    }

    fn written(&mut self, output: &Output, written: &Written) {
        let all = count(written.octets, "octet");
        let says = match output.protocol {
            Protocol::Syslog(OutputFraming::Octet) => {
                format!("{all}: MSG-LEN (of the message with its real key) and the message")
            }
            Protocol::Syslog(OutputFraming::Lf) => format!("{all}: a line"),
            Protocol::Udp => format!("{all}: a datagram"),
            Protocol::Relp { .. } => {
                format!("{all}: a RELP command (numbers count up on a connection, 1 is `open`) with the message")
            }
            Protocol::Https(_) => format!("{all}: one event of a batch, which is compressed"),
            Protocol::File(_) => format!("{all}: a line of the file"),
        };
        wrap(&says, WIDTH - 9).into_iter().for_each(|line| self.line(&format!("{:9}{line}", "")));
        if let Protocol::Https(_) = output.protocol {
            let (line, header) = request_line(output.targets.first().map_or("", |target| &target.path));
            self.line(&format!("  {line}"));
            self.line(&format!("  {header}: {}", Mask::TEXT));
        }
        self.block(&[written.head.as_slice(), &written.body, &written.tail].concat(), SENT_MAX);
    }
}

/// Where an octet run of the parsed frame stood in the frame as it was received: its start, and its end, which is excluded.
pub(super) fn received_span(explained: &Explained, span: Span) -> (usize, usize) {
    let start = span.start as usize;
    let from = Explainer::received_at(explained, start);
    let end = match span.len as usize {
        0 => from,
        len => Explainer::received_at(explained, start + len - 1) + 1,
    };
    (from, end)
}

/// Where PRI stands, if there is a valid one.
pub(super) fn pri_span(raw: &[u8]) -> Option<Span> {
    let clock = syslog::Clock { now_us: 0, year: 1970, month: 1, day: 1, offset_minutes: 0 };
    let fields = syslog::parse(raw, &clock);
    let is_odd = |oddity: &Oddity| matches!(oddity, Oddity::NoPri | Oddity::InvalidPri | Oddity::BomBeforePri);
    let is_valid = !oddities(raw, &fields, &clock).iter().any(is_odd);
    is_valid.then(|| Span::between(0, fields.after_pri as usize))
}

/// A word for a flaw, which stays.
pub(super) fn flaw_name(flaw: Option<Flaw>) -> Option<&'static str> {
    flaw.map(|flaw| match flaw {
        Flaw::Oversize => "oversize",
        Flaw::Unfinished => "unfinished",
    })
}

/// As `date-rfc3339` prints it.
pub(super) fn rfc3339(stamp: &Timestamp) -> String {
    let Timestamp { year, month, day, hour, minute, second, .. } = stamp;
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    // Writing to a string does not fail.
    let mut put = |more: String| text.write_str(&more).unwrap_or(());
    if stamp.fraction_digits > 0 {
        put(format!(".{:0width$}", stamp.fraction, width = usize::from(stamp.fraction_digits)));
    }
    let minutes = stamp.offset_minutes.unsigned_abs();
    let sign = if stamp.offset_minutes < 0 || stamp.minus_zero { '-' } else { '+' };
    put(if stamp.zulu { "Z".to_owned() } else { format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60) });
    text
}

/// Octets as text: what is no UTF-8 as `\xHH`, what acts on a terminal escaped.
pub(super) fn visible(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for chunk in octets.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{feff}' => text.push_str("\\u{feff}"),
                char if show::acts(char) => text.extend(char.escape_unicode()),
                char => text.push(char),
            }
        }
        for octet in chunk.invalid() {
            text.push_str(&format!("\\x{octet:02x}"));
        }
    }
    text
}

/// The same, in quotes where blanks at its ends would not be seen.
fn quoted(octets: &[u8]) -> String {
    let text = visible(octets);
    if text.is_empty() || text.starts_with(' ') || text.ends_with(' ') { format!("\"{text}\"") } else { text }
}

/// The first `max` characters, and how many there are more.
fn cut(text: &str, max: usize) -> (&str, usize) {
    match text.char_indices().nth(max) {
        Some((at, _)) => {
            let (shown, rest) = text.split_at(at);
            (shown, rest.chars().count())
        }
        None => (text, 0),
    }
}

/// At most `width` characters; a cut is marked.
fn fit(text: &str, width: usize) -> String {
    let (shown, more) = cut(text, width);
    if more > 0 { format!("{shown}…") } else { shown.to_owned() }
}

/// Lines of exactly `width` characters: nothing is moved or left out.
fn chunks(text: &str, width: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(width).map(|chunk| chunk.iter().collect()).collect()
}

/// Lines of at most `width` characters, broken at blanks.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        for part in chunks(word, width).into_iter().chain(word.is_empty().then(String::new)) {
            match lines.last_mut() {
                Some(line) if line.chars().count() + 1 + part.chars().count() <= width => {
                    line.push(' ');
                    line.push_str(&part);
                }
                _ => lines.push(part),
            }
        }
    }
    lines
}

/// `1 octet`, `12,345 octets`.
pub(super) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_shown_and_none_of_them_acts() {
        let rows: [(&[u8], &str); 5] = [
            (b"plain", "plain"),
            (b"a\tb\r\n", "a\\tb\\r\\n"),
            (b"gr\xfcn \xe2\x82", "gr\\xfcn \\xe2\\x82"),
            ("grün \u{1b}[31m \u{202e}".as_bytes(), "grün \\u{1b}[31m \\u{202e}"),
            (b"", ""),
        ];
        for (octets, expected) in rows {
            assert_eq!(visible(octets), expected);
        }
    }

    #[test]
    fn lines_hold_no_more_than_they_may() {
        assert_eq!(wrap("ab cd efghij k", 5), ["ab cd", "efghi", "j k"]);
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(chunks("abcdefg", 3), ["abc", "def", "g"]);
        assert_eq!(cut("äöü", 2), ("äö", 1));
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(count(1, "octet"), "1 octet");
    }
}
