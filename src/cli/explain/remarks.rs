//! What is to be said of a message besides its fields: what was unusual, what had to be filled in, what is not sent.

use crate::config::{Oversize, Protocol, units};
use crate::syslog::frame::{Flaw, looks_like_tls};
use crate::syslog::{Oddity, Protocol as Header, oddities};

use super::cut::How;
use super::reading::{Explained, Explainer, Outcome};

/// Sekoia drops longer events; over syslog it tells nobody.
const SEKOIA_MAX: usize = 250 * 1024;

/// Escapes that are told one by one.
const ESCAPES_MAX: usize = 8;

/// What a remark is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// How it was framed, and the whole frame.
    Frame,
    /// A field, by its name in the table.
    Field(&'static str),
    /// What one of the routes sends: its place in [`Explained::sent`].
    Sent(usize),
}

/// One remark.
#[derive(Debug, Clone)]
pub(super) struct Remark {
    /// A word for it, which stays.
    pub(super) kind: &'static str,
    /// What it is about.
    pub(super) about: About,
    /// What is to be known.
    pub(super) text: String,
    /// Most senders give reason for it: it is no oddity.
    pub(super) is_usual: bool,
}

fn odd(kind: &'static str, about: About, text: impl Into<String>) -> Remark {
    Remark { kind, about, text: text.into(), is_usual: false }
}

/// All remarks, in the order of the frame.
pub(super) fn of(explainer: &Explainer<'_>, explained: &Explained) -> Vec<Remark> {
    let mut remarks = Vec::new();
    of_frame(explainer, explained, &mut remarks);
    if explained.outcome == Outcome::NoMessage {
        return remarks;
    }
    of_octets(explained, &mut remarks);
    for oddity in oddities(&explained.raw, &explained.fields, explainer.clock()) {
        remarks.push(of_oddity(explainer, explained, oddity));
    }
    for place in 0..explained.sent.len() {
        of_sent(explainer, explained, place, &mut remarks);
    }
    remarks
}

fn of_frame(explainer: &Explainer<'_>, explained: &Explained, remarks: &mut Vec<Remark>) {
    let cut = &explained.cut;
    let input = explainer.input();
    let max = units::show_size(input.map_or(0, |input| input.max_message_size as u64));
    match (cut.flaw, input.map(|input| input.oversize)) {
        (Some(Flaw::Oversize), Some(Oversize::Reject)) => {
            remarks.push(odd("oversize", About::Frame, format!("longer than {max}: rejected (oversize: reject)")));
        }
        (Some(Flaw::Oversize), _) => {
            let kept = cut.octets.len();
            let text = format!("longer than {max}: cut to {kept} octets, between two characters; the rest is lost");
            remarks.push(odd("oversize", About::Frame, text));
        }
        (Some(Flaw::Unfinished), _) => {
            let text = match cut.how {
                How::Counted(len) => format!("the stream ended after {} of {len} counted octets", cut.octets.len()),
                _ => "the stream ended without a line end behind it".to_owned(),
            };
            remarks.push(odd("unfinished", About::Frame, text));
        }
        (None, _) => {}
    }
    match explained.outcome {
        Outcome::RejectedPeer => {
            let text = "the input's `allow` has no network that holds the peer: it is rejected";
            remarks.push(odd("peer_not_allowed", About::Frame, text));
        }
        Outcome::NoMessage => {
            remarks.push(odd("no_message", About::Frame, "nothing but a line end: no message, and not counted"));
        }
        _ => {}
    }
    if looks_like_tls(&cut.octets) {
        let text =
            "begins as a TLS handshake does: a tcp:// listener refuses the connection, a tls:// listener is needed";
        remarks.push(odd("looks_like_tls", About::Frame, text));
    }
}

fn of_octets(explained: &Explained, remarks: &mut Vec<Remark>) {
    let cut = &explained.cut;
    if !explained.escapes.is_empty() {
        let one = |(at, octet): &(usize, u8)| format!("{} at {at} → #{octet:03o}", name_of(*octet));
        let mut all: Vec<String> = explained.escapes.iter().take(ESCAPES_MAX).map(one).collect();
        let more = explained.escapes.len().saturating_sub(ESCAPES_MAX);
        all.extend((more > 0).then(|| format!("and {more} more")));
        let text = format!("control characters are escaped as rsyslog does: {}", all.join(", "));
        remarks.push(odd("control_characters", About::Frame, text));
    }
    if cut.octets.ends_with(b"\0") {
        remarks.push(odd("trailing_nul", About::Frame, "the NUL at its end is dropped, as rsyslog does"));
    }
}

fn name_of(octet: u8) -> String {
    match octet {
        b'\t' => "TAB".to_owned(),
        b'\n' => "LF".to_owned(),
        b'\r' => "CR".to_owned(),
        0 => "NUL".to_owned(),
        0x1b => "ESC".to_owned(),
        other => format!("\\x{other:02x}"),
    }
}

fn of_oddity(explainer: &Explainer<'_>, explained: &Explained, oddity: Oddity) -> Remark {
    let reception = "the time of reception stands in";
    let (field, text) = match oddity {
        Oddity::NoPri => ("PRI", "none: 13 (user.notice) stands in".to_owned()),
        Oddity::InvalidPri => {
            ("PRI", "not valid: 13 (user.notice) stands in, and all of the frame is MSG (RFC 3164 4.3.3)".to_owned())
        }
        Oddity::BomBeforePri => (
            "PRI",
            "a byte order mark stands in front of it, so that it is text: 13 (user.notice) stands in".to_owned(),
        ),
        Oddity::Headerless => ("MSG", "the text begins with { or [: it has no header, all of it is MSG".to_owned()),
        Oddity::UnreadableHeader => {
            let text = "cannot be read, so that nothing behind it is: all behind VERSION is MSG";
            ("TIMESTAMP", format!("{text}; {reception}"))
        }
        Oddity::ShortHeader => ("MSGID", "the frame ends in its header: what is missing is nil".to_owned()),
        Oddity::NoTimestamp => ("TIMESTAMP", format!("none: {reception}")),
        Oddity::ImpossibleDate => ("TIMESTAMP", format!("a day that does not exist: {reception}")),
        Oddity::YearGuessed { year, is_present } => {
            let other = if is_present { "" } else { ", which is not the present one" };
            let zone = "the input's zone";
            ("TIMESTAMP", format!("has no year and no zone: {year} is the nearest{other}; {zone} is taken"))
        }
        Oddity::FractionCut { digits } => ("TIMESTAMP", format!("a fraction of {digits} digits: cut to six")),
        Oddity::NoHostname => {
            let peer = explainer.peer.map(|peer| peer.to_canonical().to_string());
            let peer = peer.map_or("this machine's name".to_owned(), |peer| format!("the peer's address, {peer},"));
            ("HOSTNAME", format!("none: {peer} stands in"))
        }
        Oddity::NilHostname => ("HOSTNAME", "nil, and forwarded so: the peer's address does not stand in".to_owned()),
        Oddity::NoProgram => {
            ("TAG", "the program name is empty: `program: ''` matches it, no other name does".to_owned())
        }
        Oddity::TextAsTag => {
            let (fields, raw) = (&explained.fields, &explained.raw);
            let (field, tag) = match fields.protocol {
                Header::Rfc3164 => ("TAG", fields.tag.of(raw)),
                Header::Rfc5424 => ("APP-NAME", fields.app_name.unwrap_or_default().of(raw)),
            };
            let tag = super::text::visible(&explainer.hide(tag));
            let text = format!("`{tag}` looks like text, but stands where {field} does: it is missing in MSG");
            (field, text + " (`%rawmsg-after-pri%` has it)")
        }
        Oddity::TagCut => ("TAG", "longer than 510 octets: what is beyond is MSG".to_owned()),
        Oddity::UnclosedStructuredData => ("STRUCTURED-DATA", "its ] is missing: it is a part of MSG".to_owned()),
        Oddity::BomInMsg => ("MSG", "begins with a byte order mark, which stays".to_owned()),
        Oddity::SecondPri => {
            ("MSG", "begins with a PRI: a relay before this one has put a header in front of another".to_owned())
        }
        Oddity::NotUtf8 { at } => {
            let at = Explainer::received_at(explained, at);
            ("MSG", format!("no UTF-8 from octet {at} on: forwarded as it is"))
        }
    };
    let about = if matches!(oddity, Oddity::NotUtf8 { .. }) { About::Frame } else { About::Field(field) };
    Remark { kind: oddity.name(), about, text, is_usual: oddity.is_usual() }
}

/// What of the message is not sent, or will not be taken.
fn of_sent(explainer: &Explainer<'_>, explained: &Explained, place: usize, remarks: &mut Vec<Remark>) {
    let about = About::Sent(place);
    let Some(sent) = explained.sent.get(place) else { return };
    let (Some(output), Some(rendering)) = (explainer.output(sent.output), explainer.rendering(sent.route)) else {
        return;
    };
    let structured_data = explained.fields.structured_data.map(|span| span.of(&explained.raw));
    let is_sd = |text: &&[u8]| text.starts_with(b"[");
    if let Some(text) = structured_data.filter(is_sd) {
        let template = &rendering.template;
        if template.removes_element(text) {
            let text = "the sender's own SEKOIA@53288 element is left out: the message carries the route's key";
            remarks.push(odd("sekoia_element_removed", about, text));
        }
        let prints = ["structured-data", "rawmsg", "rawmsg-after-pri"].iter().any(|name| template.prints(name));
        if !prints {
            let text = "the template does not print STRUCTURED-DATA: it is not sent (`%structured-data%` prints it)";
            remarks.push(odd("structured_data_dropped", about, text));
        }
    }
    let Some(written) = &sent.written else {
        remarks.push(odd("empty_event", about, "renders to nothing: no event is made of it"));
        return;
    };
    if written.is_cut {
        remarks.push(odd(
            "event_cut",
            about,
            "longer than the 250,000 octets that Sekoia's intake takes: its end is cut",
        ));
    }
    if written.body_octets > SEKOIA_MAX
        && matches!(output.protocol, Protocol::Syslog(_) | Protocol::Udp | Protocol::Relp { .. })
    {
        let text = "over the 250 KiB that Sekoia takes: it would be dropped there, and nobody told";
        remarks.push(odd("over_sekoia_limit", about, text));
    }
}
