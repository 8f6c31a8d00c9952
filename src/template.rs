//! rsyslog string templates, compiled once and rendered into a buffer.
//!
//! Pure: no I/O, no waiting, no logging, no counting. What a template means is what rsyslog 8.2302 makes of
//! `template(type="string" string="...")`: doc/source/configuration/property_replacer.rst and properties.rst.

use std::hash::{Hash, Hasher};

use jiff::tz::TimeZone;

use crate::syslog::{Clock, Message, Property};

mod compile;
mod date;
mod element;
mod escape;
mod mask;
mod posix;
mod property;
mod shape;
mod stage;
#[cfg(test)]
mod tests;

use date::{DateFormat, ZoneCache};
pub use mask::masked;
use shape::Shape;
use stage::Stage;

/// A compiled template. `Debug` never prints literals: they may hold a key.
#[derive(Clone)]
pub struct Template {
    segments: Box<[Segment]>,
    /// A literal holds our SD-ID: the message's own elements of that name are not printed.
    own_element: bool,
    /// Of its text.
    hash: u64,
}

/// Longest literal that is kept in its segment.
const SHORT_MAX: usize = 32;

/// One piece of a template.
#[derive(Clone)]
enum Segment {
    Literal(Box<[u8]>),
    /// A literal of at most [`SHORT_MAX`] octets, in place: copied whole, whatever its length.
    Short {
        text: [u8; SHORT_MAX],
        len: u8,
    },
    Plain(Property),
    Time {
        property: Property,
        format: DateFormat,
        utc: bool,
    },
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

    /// MSG alone: what an HTTPS output sends.
    pub const MESSAGE: &'static str = "%msg%";

    /// Compiles the text between the quotes of rsyslog's `string="..."`, escapes (`\n`, `\"`) included.
    pub fn compile(text: &str) -> Result<Self, TemplateError> {
        let segments = compile::compile(text)?;
        let own_element = segments.iter().any(|segment| segment.literal().is_some_and(element::mentions_ours));
        Ok(Self { segments: segments.into(), own_element, hash: hash_of(text) })
    }

    /// Tells whether two templates have the same text, as good as surely.
    pub const fn text_hash(&self) -> u64 {
        self.hash
    }

    /// Whether it prints `%intake_key%`.
    pub fn uses_intake_key(&self) -> bool {
        self.segments.iter().any(|segment| segment.property() == Some(Property::IntakeKey))
    }

    /// Whether it prints the property of this name, with any option. `rawmsg` and `rawmsg-after-pri` count as everything that
    /// lies in the frame: ask for them as well.
    pub fn prints(&self, name: &str) -> bool {
        property::by_name(name)
            .is_some_and(|wanted| self.segments.iter().any(|segment| segment.property() == Some(wanted)))
    }

    /// Whether its text holds an LF that is not the last it prints: whoever reads lines takes what it renders for several.
    pub fn breaks_lines(&self) -> bool {
        let last = self.segments.len().saturating_sub(1);
        self.segments.iter().enumerate().any(|(at, segment)| {
            let text = segment.literal().unwrap_or_default();
            let inner = if at == last { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
            inner.contains(&b'\n')
        })
    }

    /// Whether it leaves a `SEKOIA@53288` element of the sender out, because it prints one of its own.
    pub fn removes_element(&self, structured_data: &[u8]) -> bool {
        self.own_element && element::has_ours(structured_data)
    }

    /// With `mask` in the place of each of `keys` that its text holds, and of what the text gives for one in
    /// `intake_key="…"`.
    #[must_use]
    pub fn masked(&self, keys: &[&[u8]], mask: &[u8]) -> Self {
        let segments = self.segments.iter().map(|segment| match segment.literal() {
            Some(text) => Segment::from_literal(&mask::masked(text, keys, mask)),
            None => segment.clone(),
        });
        Self { segments: segments.collect(), own_element: self.own_element, hash: self.hash }
    }

    /// No message of `frame_len` octets renders to more than this, as long as the context's texts and the input's name
    /// are no longer than 256 octets each.
    fn rendered_len_max(&self, frame_len: usize) -> usize {
        let of_segment = |segment: &Segment| match segment {
            Segment::Literal(_) | Segment::Short { .. } => segment.literal().map_or(0, <[u8]>::len),
            Segment::Plain(_) | Segment::Time { .. } => frame_len.saturating_add(256),
            Segment::Shaped(shape) => shape.len_max(frame_len.saturating_add(256)),
        };
        self.segments.iter().map(of_segment).fold(0, usize::saturating_add)
    }

    /// Appends the rendered message to `out`, which alone may grow.
    pub fn render(&self, message: &Message<'_>, context: &Context<'_>, renderer: &mut Renderer, out: &mut Vec<u8>) {
        let Renderer { zone, stage, value } = renderer;
        for segment in &self.segments {
            match segment {
                Segment::Short { text, len } => stage.push_with(out, |slot| {
                    *slot = *text;
                    usize::from(*len)
                }),
                Segment::Literal(text) => stage.push(text, out),
                Segment::Plain(property) => match property.borrow(self.own_element, message, context) {
                    Some(value) => stage.push(value, out),
                    None => {
                        stage.flush(out);
                        property.append(self.own_element, message, context, zone, out);
                    }
                },
                Segment::Time { property, format: DateFormat::Rfc3339, utc } => {
                    // Nearly always the message's own: read where it lies, not copied.
                    match &message.fields.timestamp {
                        Some(stamp) if !*utc && *property == Property::TimeReported => {
                            stage.push_with(out, |text| date::rfc3339(stamp, text));
                        }
                        _ => {
                            let stamp = property.time(*utc, message, zone);
                            stage.push_with(out, |text| date::rfc3339(&stamp, text));
                        }
                    }
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

/// For fuzzing: a template up to the first NUL, a frame after it. Panics where an invariant does not hold.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let (source, frame) =
        data.iter().position(|octet| *octet == 0).map_or((data, [].as_slice()), |at| data.split_at(at));
    let frame = frame.strip_prefix(b"\0").unwrap_or(frame);
    let Ok(template) = Template::compile(&String::from_utf8_lossy(source)) else { return };
    let clock = Clock { now_us: 1_767_225_600_000_000, year: 2026, month: 1, day: 1, offset_minutes: 0 };
    let fields = crate::syslog::parse(frame, &clock);
    let message = Message { fields: &fields, raw: frame, received_at_us: clock.now_us, peer: None, input: "fuzz" };
    let context = Context { intake_key: b"key", my_hostname: "relay" };
    let mut out = Vec::new();
    template.render(&message, &context, &mut Renderer::new(TimeZone::UTC), &mut out);
    assert!(out.len() <= template.rendered_len_max(frame.len()), "{} octets of {}", out.len(), frame.len());
}

impl Segment {
    fn from_literal(text: &[u8]) -> Self {
        let mut short = [0; SHORT_MAX];
        match (short.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(target), Ok(len)) => {
                target.copy_from_slice(text);
                Self::Short { text: short, len }
            }
            _ => Self::Literal(text.into()),
        }
    }

    fn literal(&self) -> Option<&[u8]> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Short { text, len } => text.get(..usize::from(*len)),
            _ => None,
        }
    }

    fn property(&self) -> Option<Property> {
        match self {
            Self::Literal(_) | Self::Short { .. } => None,
            Self::Plain(property) | Self::Time { property, .. } => Some(*property),
            Self::Shaped(shape) => Some(shape.property),
        }
    }
}

/// Tells texts apart that follow each other in one file: for words, and for nothing else.
fn hash_of(text: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
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
