//! What was found out as JSON. docs/COMMANDS.md lists the keys; they stay.

use serde_json::{Map, Value, json};

use crate::config::{Action, Protocol};
use crate::forward::request_line;
use crate::route;
use crate::syslog::{self, Protocol as Header, Span};

use super::cut::How;
use super::reading::{Asked, Explained, Explainer, Outcome};
use super::remarks::{About, Remark};
use super::summary::Summary;
use super::{text, times};
use crate::base64;

/// Octets: as text where they are, else in base64.
pub(super) fn octets(octets: &[u8]) -> Value {
    match std::str::from_utf8(octets) {
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({ "base64": base64::encode(octets) }),
    }
}

/// One message.
pub(super) fn object(explainer: &Explainer<'_>, explained: &Explained) -> Value {
    let cut = &explained.cut;
    let msg_len = if let How::Counted(len) = cut.how { Some(len) } else { None };
    let remarks: Vec<Value> = explained.remarks.iter().map(|remark| of_remark(explainer, explained, remark)).collect();
    let mut object = json!({
        "offset": cut.offset,
        "line": cut.line,
        "framing": cut.how.name(),
        "msg_len": msg_len,
        "flaw": super::text::flaw_name(cut.flaw),
        "octets": cut.octets.len(),
        "received": octets(&explainer.hide(&cut.octets)),
        "input": explainer.input().map(|input| input.name.as_str()),
        "peer": explainer.peer.map(|peer| peer.to_canonical().to_string()),
        "received_at": times::stamp(explainer.received_at_us),
        "outcome": explained.outcome.name(),
        "remarks": remarks,
    });
    if let (Some(object), true) = (object.as_object_mut(), explained.outcome != Outcome::NoMessage) {
        if !explained.escapes.is_empty() {
            object.insert("sanitized".to_owned(), octets(&explainer.hide(&explained.raw)));
        }
        object.insert("fields".to_owned(), fields(explainer, explained));
        object.insert("routes".to_owned(), routes(explainer, explained));
        object.insert("sent".to_owned(), sent(explainer, explained));
    }
    object
}

fn of_remark(explainer: &Explainer<'_>, explained: &Explained, remark: &Remark) -> Value {
    let (field, route) = match remark.about {
        About::Frame => (None, None),
        About::Field(field) => (Some(field), None),
        About::Sent(place) => (None, explained.sent.get(place).map(|sent| explainer.route(sent.route))),
    };
    json!({
        "kind": remark.kind,
        "unusual": !remark.is_usual,
        "field": field,
        "route": route,
        "text": remark.text,
    })
}

/// Each field: where it stood in what was received, and its value.
fn fields(explainer: &Explainer<'_>, explained: &Explained) -> Value {
    let (found, raw) = (&explained.fields, &explained.raw);
    let place = |span: Span| {
        let (start, end) = text::received_span(explained, span);
        json!([start, end])
    };
    let of_span = |span: Option<Span>| {
        span.map(|span| {
            let mut object = Map::new();
            object.insert("octets".to_owned(), place(span));
            if let Value::Object(value) = octets(&explainer.hide(span.of(raw))) {
                object.extend(value);
            }
            Value::Object(object)
        })
    };
    let stamp = syslog::oddity::timestamp_at(raw, found, explainer.clock());
    let pri = text::pri_span(raw);
    json!({
        "header": match found.protocol { Header::Rfc3164 => "rfc3164", Header::Rfc5424 => "rfc5424" },
        "pri": {
            "octets": pri.map(place),
            "value": found.pri.prival(),
            "facility": found.pri.facility().name(),
            "severity": found.pri.severity().name(),
        },
        "timestamp": {
            "octets": stamp.map(place),
            "value": found.timestamp.as_ref().map(text::rfc3339),
        },
        "hostname": of_span(found.hostname),
        "tag": of_span(Some(found.tag).filter(|_| found.protocol == Header::Rfc3164)),
        "program": octets(explainer.message(explained).program_name()),
        "app_name": of_span(found.app_name),
        "procid": of_span(found.procid),
        "msgid": of_span(found.msgid),
        "structured_data": of_span(found.structured_data),
        "msg": of_span(Some(found.msg)),
    })
}

fn routes(explainer: &Explainer<'_>, explained: &Explained) -> Value {
    let asked = explainer.asked(explained);
    let one = |(route, asked): (&crate::config::Route, &Asked)| {
        let (matched, conditions) = match asked {
            Asked::Tried(trace) => (Some(trace.holds), Some(conditions(explainer, trace))),
            Asked::NotTried => (None, None),
        };
        json!({
            "route": route.name,
            "tried": matched.is_some(),
            "matched": matched,
            "conditions": conditions,
            "continue": route.continues,
            "discard": matches!(route.action, Action::Discard),
        })
    };
    explainer.config.routes.iter().zip(&asked).map(one).collect()
}

fn conditions(explainer: &Explainer<'_>, trace: &route::Trace) -> Value {
    let one = |asked: &route::Asked| match asked {
        route::Asked::Value { key, wanted, saw, by } => json!({
            "condition": key,
            "wanted": wanted,
            "saw": saw.as_deref().map(|saw| octets(&explainer.hide(saw))),
            "holds": by.is_some(),
        }),
        route::Asked::When { parts, holds } => {
            let part = |part: &route::Part| {
                json!({
                    "depth": part.depth,
                    "expression": part.text,
                    "holds": part.holds,
                    "asked": part.asked,
                    "saw": part.saw.as_deref().map(|saw| octets(&explainer.hide(saw))),
                })
            };
            json!({ "condition": "when", "parts": parts.iter().map(part).collect::<Vec<_>>(), "holds": holds })
        }
        route::Asked::Not(inner) => json!({
            "condition": "not",
            "conditions": conditions(explainer, inner),
            "holds": asked.holds(),
        }),
    };
    trace.asked.iter().map(one).collect()
}

fn sent(explainer: &Explainer<'_>, explained: &Explained) -> Value {
    let one = |sent: &super::reading::Sent| {
        let output = explainer.output(sent.output);
        let whole = sent
            .written
            .as_ref()
            .map(|written| [written.head.as_slice(), written.body.as_slice(), written.tail.as_slice()].concat());
        let mut object = json!({
            "route": explainer.route(sent.route),
            "output": output.map(|output| output.name.as_str()),
            "protocol": output.map(|output| output.protocol.name()),
            "to": output.map(|output| output.address()),
            "octets": sent.written.as_ref().map(|written| written.octets),
            "message_octets": sent.written.as_ref().map(|written| written.body_octets),
            "written": whole.as_deref().map(octets),
        });
        if let (Some(object), Some(output)) = (object.as_object_mut(), output)
            && matches!(output.protocol, Protocol::Https(_))
        {
            let (line, header) = request_line(output.targets.first().map_or("", |target| &target.path));
            object.insert("request".to_owned(), json!(line));
            object.insert("headers".to_owned(), json!({ header: crate::forward::Mask::TEXT }));
        }
        object
    };
    explained.sent.iter().map(one).collect()
}

/// The last object.
pub(super) fn summary(explainer: &Explainer<'_>, summary: &Summary) -> Value {
    let routes = explainer.config.routes.iter().enumerate().map(|(index, route)| {
        let count = summary.route(index);
        json!({ "route": route.name, "messages": count.messages, "octets": count.octets })
    });
    let programs =
        summary.programs().into_iter().map(|(name, count)| json!({ "program": octets(name), "messages": count }));
    let oddities = summary.oddities().into_iter().map(|(kind, seen)| {
        json!({
            "kind": kind,
            "messages": seen.messages,
            "first_message": seen.first.0,
            "first_line": seen.first.1,
            "first_offset": seen.first.2,
        })
    });
    let outcomes: Map<String, Value> =
        summary.outcomes().into_iter().map(|(outcome, count)| (outcome.name().to_owned(), json!(count))).collect();
    json!({ "summary": {
        "messages": summary.messages(),
        "octets": summary.octets(),
        "outcomes": outcomes,
        "routes": routes.collect::<Vec<_>>(),
        "unmatched_programs": programs.collect::<Vec<_>>(),
        "oddities": oddities.collect::<Vec<_>>(),
    }})
}
