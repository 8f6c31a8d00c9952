//! rsyslog string templates, compiled once and rendered into a buffer.
//!
//! Pure: no I/O, no waiting, no logging, no counting. What a template means is what rsyslog 8.2302 makes of
//! `template(type="string" string="...")`: doc/source/configuration/property_replacer.rst and properties.rst.

use jiff::tz::TimeZone;

use crate::syslog::Message;

mod compile;
mod date;
mod element;
mod escape;
mod posix;
mod property;
mod shape;
mod stage;
mod translate;

use date::{DateFormat, ZoneCache};
use property::Property;
use shape::Shape;
use stage::Stage;

/// A compiled template. `Debug` never prints literals: they may hold a key.
#[derive(Clone)]
pub struct Template {
    segments: Box<[Segment]>,
    /// A literal holds our SD-ID: the message's own elements of that name are not printed.
    own_element: bool,
}

/// One piece of a template.
#[derive(Clone)]
enum Segment {
    Literal(Box<[u8]>),
    Plain(Property),
    Time { property: Property, format: DateFormat, utc: bool },
    Shaped(Box<Shape>),
}

/// Why a template is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at octet {at}: {message}")]
pub struct TemplateError {
    /// Octet offset into the template's text.
    pub at: usize,
    /// What is wrong and what was expected, with a suggestion where a name is close.
    pub message: String,
}

/// What a template prints besides the message.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// For `%intake_key%`.
    pub intake_key: &'a [u8],
    /// For `%$myhostname%`.
    pub my_hostname: &'a str,
}

/// What rendering keeps between messages: the zone's present offset, and buffers that rare options work in.
///
/// One for each thread (or lane); templates are shared.
pub struct Renderer {
    /// Zone of `%timegenerated%`, of `%timestamp%` where the message had none, and of `%$now%`.
    zone: ZoneCache,
    stage: Stage,
    /// What options work in.
    value: Vec<u8>,
}

impl Renderer {
    /// Times that need a zone are printed in `zone` (rsyslog: the machine's).
    pub fn new(zone: TimeZone) -> Self {
        Self { zone: ZoneCache::new(zone), stage: Stage::new(), value: Vec::new() }
    }
}

impl Template {
    /// The FAQ's template, with `%intake_key%` in the key's place.
    pub const FAQ: &'static str = concat!(
        "<%pri%>1 %timestamp:::date-rfc3339% %hostname% %app-name% %procid% LOG ",
        "[SEKOIA@53288 intake_key=\"%intake_key%\"] %msg%\\n"
    );

    /// Compiles the text between the quotes of rsyslog's `string="..."`, escapes (`\n`, `\"`) included.
    pub fn compile(text: &str) -> Result<Self, TemplateError> {
        let segments = compile::compile(text)?;
        let own_element =
            segments.iter().any(|segment| matches!(segment, Segment::Literal(text) if element::mentions_ours(text)));
        Ok(Self { segments: segments.into(), own_element })
    }

    /// Whether it prints `%intake_key%`.
    pub fn uses_intake_key(&self) -> bool {
        self.segments.iter().any(|segment| segment.property() == Some(Property::IntakeKey))
    }

    /// Appends the rendered message to `out`, which alone may grow.
    pub fn render(&self, message: &Message<'_>, context: &Context<'_>, renderer: &mut Renderer, out: &mut Vec<u8>) {
        let Renderer { zone, stage, value } = renderer;
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => stage.push(text, out),
                Segment::Plain(property) => match property.borrow(self.own_element, message, context) {
                    Some(value) => stage.push(value, out),
                    None => {
                        stage.flush(out);
                        property.append(self.own_element, message, context, zone, out);
                    }
                },
                Segment::Time { property, format: DateFormat::Rfc3339, utc } => {
                    let (text, len) = date::rfc3339(&property.time(*utc, message, zone));
                    stage.push(text.get(..len).unwrap_or_default(), out);
                }
                Segment::Time { property, format, utc } => {
                    stage.flush(out);
                    date::write(&property.time(*utc, message, zone), *format, out);
                }
                Segment::Shaped(shape) => {
                    stage.flush(out);
                    shape.append(self.own_element, message, context, zone, value, out);
                }
            }
        }
        stage.flush(out);
    }
}

impl Segment {
    fn property(&self) -> Option<Property> {
        match self {
            Self::Literal(_) => None,
            Self::Plain(property) | Self::Time { property, .. } => Some(*property),
            Self::Shaped(shape) => Some(shape.property),
        }
    }
}

impl std::fmt::Debug for Template {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Template").field("segments", &self.segments.len()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Renderer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its buffers held keys.
        formatter.debug_struct("Renderer").field("zone", &self.zone).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Context").field("my_hostname", &self.my_hostname).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syslog::{Fields, Span, Timestamp};

    #[test]
    fn the_faqs_template_renders_the_faqs_line() {
        let raw = b"<30>Jan 13 14:52:06 ote unbound: [596451:0] info: hello";
        let at = |text: &[u8]| {
            let start = memchr::memmem::find(raw, text).expect("the text is in the frame");
            Span::between(start, start + text.len())
        };
        let fields = Fields {
            pri: crate::syslog::Pri::new(30).expect("30 is a PRI"),
            timestamp: Some(Timestamp {
                year: 2021,
                month: 1,
                day: 13,
                hour: 14,
                minute: 52,
                second: 6,
                fraction_digits: 6,
                fraction: 34_860,
                offset_minutes: 60,
                zulu: false,
                minus_zero: false,
            }),
            hostname: Some(at(b"ote")),
            app_name: Some(at(b"unbound")),
            msg: at(b" [596451:0] info: hello"),
            ..Fields::default()
        };
        let message = Message { fields: &fields, raw, received_at_us: 0, peer: None, input: "lan" };
        let template = Template::compile(Template::FAQ).expect("it compiles");
        let context = Context { intake_key: b"KEY", my_hostname: "relay" };
        let mut out = Vec::new();
        template.render(&message, &context, &mut Renderer::new(TimeZone::UTC), &mut out);
        assert_eq!(
            String::from_utf8(out).expect("it is text"),
            "<30>1 2021-01-13T14:52:06.034860+01:00 ote unbound - LOG [SEKOIA@53288 intake_key=\"KEY\"]  [596451:0] info: hello\n"
        );
    }
}
