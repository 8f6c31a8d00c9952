//! What options do to a property's value, in rsyslog's order (msg.c, MsgGetProp): date, field or regular expression,
//! substring, blank or case, control characters, path, last LF, spaces, CSV or JSON.

use super::date::{self, DateFormat, ZoneCache};
use super::posix::{Found, Posix};
use super::{Context, Segment};
use crate::syslog::{Message, Property};

/// rsyslog's "to the end" (`$`), and its largest position: no value is longer.
pub(super) const POSITION_MAX: u32 = 9_999_999;

/// Widest column that `fixed-width` fills: what a template prints is bounded by its message.
const WIDTH_MAX: u32 = 65_536;

/// A property with its options.
#[derive(Clone)]
pub(super) struct Shape {
    pub(super) property: Property,
    pub(super) date: Option<DateFormat>,
    pub(super) utc: bool,
    pub(super) extract: Extract,
    /// First octet, from 1; 0 where it was not given.
    pub(super) from: u32,
    /// Last octet, from 1; 0 where it was not given.
    pub(super) to: u32,
    /// Positions count from the end.
    pub(super) end_relative: bool,
    pub(super) fixed_width: bool,
    pub(super) space_if_no_first_space: bool,
    /// `Some(false)` is lower case.
    pub(super) uppercase: Option<bool>,
    pub(super) controls: Option<Controls>,
    pub(super) secure_path: Option<SecPath>,
    pub(super) drop_last_lf: bool,
    pub(super) compress_space: bool,
    pub(super) format: Option<Format>,
    /// `"name":"`, as `jsonf` begins.
    json_prefix: Box<[u8]>,
}

/// Which part of the value is wanted.
#[derive(Clone)]
pub(super) enum Extract {
    Whole,
    Field { delimiter: u8, number: u32 },
    Regex { regex: Box<Posix>, no_match: NoMatch, match_number: u8 },
}

/// What stands in for a regular expression's match where there is none.
#[derive(Clone, Copy)]
pub(super) enum NoMatch {
    Default,
    Blank,
    Zero,
    Field,
}

/// What becomes of control characters; where several are asked for, rsyslog prefers them in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controls {
    Drop,
    Space,
    Escape,
}

/// What becomes of slashes.
#[derive(Clone, Copy)]
pub(super) enum SecPath {
    Drop,
    Replace,
}

/// The last step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    Json,
    JsonField,
    JsonRaw,
    JsonFieldRaw,
}

impl Shape {
    pub(super) fn new(property: Property) -> Self {
        Self {
            property,
            date: None,
            utc: false,
            extract: Extract::Whole,
            from: 0,
            to: 0,
            end_relative: false,
            fixed_width: false,
            space_if_no_first_space: false,
            uppercase: None,
            controls: None,
            secure_path: None,
            drop_last_lf: false,
            compress_space: false,
            format: None,
            json_prefix: Box::default(),
        }
    }

    /// CSV and JSON exclude each other.
    pub(super) fn set_format(&mut self, format: Format) -> Result<(), String> {
        if self.format.is_some_and(|set| set != format) {
            return Err("only one of json, jsonf, jsonr, jsonfr and csv can be given".to_owned());
        }
        self.format = Some(format);
        Ok(())
    }

    pub(super) fn add_controls(&mut self, controls: Controls) {
        self.controls = Some(self.controls.map_or(controls, |set| set.min(controls)));
    }

    pub(super) fn set_output_name(&mut self, name: &[u8]) {
        let mut prefix = vec![b'"'];
        prefix.extend_from_slice(name);
        prefix.extend_from_slice(b"\":\"");
        self.json_prefix = prefix.into();
    }

    /// rsyslog swaps positions that stand the wrong way round.
    pub(super) fn order_positions(&mut self) -> Result<(), String> {
        if (self.to < self.from) != self.end_relative && self.to != self.from {
            std::mem::swap(&mut self.from, &mut self.to);
        }
        if self.fixed_width && self.from.max(self.to) > WIDTH_MAX {
            return Err(format!("fixed-width needs a last position, at most {WIDTH_MAX}"));
        }
        Ok(())
    }

    /// The plainest segment that does what this shape says.
    pub(super) fn into_segment(self) -> Segment {
        if !matches!(self.extract, Extract::Whole) || self.has_transforms() {
            return Segment::Shaped(Box::new(self));
        }
        if self.property.is_time() {
            let format = self.date.unwrap_or(DateFormat::Rfc3164);
            return Segment::Time { property: self.property, format, utc: self.utc };
        }
        Segment::Plain(self.property)
    }

    fn has_transforms(&self) -> bool {
        self.from != 0
            || self.to != 0
            || self.space_if_no_first_space
            || self.uppercase.is_some()
            || self.controls.is_some()
            || self.secure_path.is_some()
            || self.drop_last_lf
            || self.compress_space
            || self.format.is_some()
    }

    /// Appends the shaped value, made in `value`.
    pub(super) fn append(
        &self,
        own_element: bool,
        message: &Message<'_>,
        context: &Context<'_>,
        zone: &mut ZoneCache,
        value: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        value.clear();
        if self.property.is_time() {
            let format = self.date.unwrap_or(DateFormat::Rfc3164);
            date::write(&self.property.time(self.utc, message, zone), format, value);
        } else {
            self.property.append(own_element, message, context, zone, value);
        }
        if self.extract(value) {
            self.transform(value, out);
        } else {
            // rsyslog leaves at once: no option applies to this text.
            out.extend_from_slice(b"**FIELD NOT FOUND**");
        }
    }

    /// The most that comes of a value of `len` octets: JSON makes six of one, `fixed-width` fills up.
    pub(super) fn len_max(&self, len: usize) -> usize {
        let width = if self.fixed_width { self.to.max(self.from) as usize } else { 0 };
        len.max(width).max(b"**FIELD NOT FOUND**".len()).saturating_mul(6).saturating_add(self.json_prefix.len() + 2)
    }

    /// Field or regular expression. False: there is no such field.
    fn extract(&self, value: &mut Vec<u8>) -> bool {
        match &self.extract {
            Extract::Whole => true,
            Extract::Field { delimiter, number } => match field(value, *delimiter, *number) {
                Some((start, end)) => {
                    keep(value, start, end);
                    true
                }
                None => false,
            },
            Extract::Regex { regex, no_match, match_number } => {
                match (regex.find(value, *match_number), no_match) {
                    (Found::At(start, end), _) => keep(value, start, end),
                    // rsyslog prints nothing then, whatever was asked for.
                    (Found::NoSubmatch, _) => value.clear(),
                    (_, NoMatch::Field) => {}
                    (_, NoMatch::Default) => replace(value, b"**NO MATCH**"),
                    (_, NoMatch::Blank) => value.clear(),
                    (_, NoMatch::Zero) => replace(value, b"0"),
                }
                true
            }
        }
    }

    fn transform(&self, value: &mut Vec<u8>, out: &mut Vec<u8>) {
        if self.from != 0 || self.to != 0 {
            self.substring(value);
        }
        if self.space_if_no_first_space && !value.is_empty() {
            let blank: &[u8] = if value.first() == Some(&b' ') { b"" } else { b" " };
            replace(value, blank);
        }
        match self.uppercase {
            Some(true) => value.make_ascii_uppercase(),
            Some(false) => value.make_ascii_lowercase(),
            None => {}
        }
        if let Some(controls) = self.controls {
            replace_controls(controls, value);
        }
        if let Some(secure_path) = self.secure_path {
            secure(secure_path, value);
        }
        if self.drop_last_lf && self.controls != Some(Controls::Escape) && value.last() == Some(&b'\n') {
            value.pop();
        }
        if self.compress_space {
            value.dedup_by(|right, left| *right == b' ' && *left == b' ');
        }
        self.format(value, out);
    }

    fn substring(&self, value: &mut Vec<u8>) {
        let len = value.len();
        let (from, to) = (self.from as usize, self.to as usize);
        let (start, last) = if self.end_relative {
            (len.saturating_sub(from), len.saturating_sub(to))
        } else {
            (from.saturating_sub(1), to.saturating_sub(1))
        };
        if start >= len {
            value.clear();
            return;
        }
        keep(value, start, last.saturating_add(1).min(len));
        if self.fixed_width {
            value.resize(last.saturating_add(1).saturating_sub(start), b' ');
        }
    }

    fn format(&self, value: &[u8], out: &mut Vec<u8>) {
        match self.format {
            None => out.extend_from_slice(value),
            Some(Format::Csv) => {
                out.push(b'"');
                for octet in value {
                    if *octet == b'"' {
                        out.push(b'"');
                    }
                    out.push(*octet);
                }
                out.push(b'"');
            }
            Some(Format::Json) => json(value, out),
            Some(Format::JsonRaw) => json_raw(value, out),
            Some(Format::JsonField) => {
                out.extend_from_slice(&self.json_prefix);
                json(value, out);
                out.push(b'"');
            }
            Some(Format::JsonFieldRaw) => {
                out.extend_from_slice(&self.json_prefix);
                json_raw(value, out);
                out.push(b'"');
            }
        }
    }
}

/// Start and end of field `number` (from 1); the last field may be empty only where a delimiter precedes it.
fn field(value: &[u8], delimiter: u8, number: u32) -> Option<(usize, usize)> {
    let mut start = 0;
    let mut current = 1;
    while current < number {
        start += memchr::memchr(delimiter, value.get(start..)?)? + 1;
        current += 1;
    }
    if number == 0 {
        return None;
    }
    let rest = value.get(start..)?;
    Some((start, start + memchr::memchr(delimiter, rest).unwrap_or(rest.len())))
}

/// Only `start..end` of `value` stays.
fn keep(value: &mut Vec<u8>, start: usize, end: usize) {
    value.truncate(end);
    value.drain(..start.min(value.len()));
}

fn replace(value: &mut Vec<u8>, text: &[u8]) {
    value.clear();
    value.extend_from_slice(text);
}

fn replace_controls(controls: Controls, value: &mut Vec<u8>) {
    match controls {
        Controls::Drop => value.retain(|octet| !octet.is_ascii_control()),
        Controls::Space => {
            for octet in value.iter_mut().filter(|octet| octet.is_ascii_control()) {
                *octet = b' ';
            }
        }
        Controls::Escape => {
            if value.iter().any(u8::is_ascii_control) {
                let mut escaped = Vec::with_capacity(value.len() * 2);
                for octet in value.iter() {
                    if octet.is_ascii_control() {
                        escaped.push(b'#');
                        date::digits(u32::from(*octet), 3, &mut escaped);
                    } else {
                        escaped.push(*octet);
                    }
                }
                *value = escaped;
            }
        }
    }
}

/// Makes a value harmless as one component of a path.
fn secure(secure_path: SecPath, value: &mut Vec<u8>) {
    match secure_path {
        SecPath::Drop => value.retain(|octet| *octet != b'/'),
        SecPath::Replace => {
            for octet in value.iter_mut().filter(|octet| **octet == b'/') {
                *octet = b'_';
            }
        }
    }
    match value.as_slice() {
        b"" | b"." => replace(value, b"_"),
        b".." => replace(value, b"_."),
        _ => {}
    }
}

/// JSON string content as rsyslog 8.2302 escapes it: the slash too, control characters as `\u00xx`.
fn json(value: &[u8], out: &mut Vec<u8>) {
    for octet in value {
        json_octet(*octet, out);
    }
}

fn json_octet(octet: u8, out: &mut Vec<u8>) {
    let short = match octet {
        0x08 => b'b',
        b'\n' => b'n',
        b'\t' => b't',
        b'\r' => b'r',
        0x0C => b'f',
        b'"' | b'\\' | b'/' => octet,
        0..0x20 => {
            out.extend_from_slice(b"\\u00");
            out.push(b'0' + (octet >> 4));
            out.push(*b"0123456789ABCDEF".get(usize::from(octet & 15)).unwrap_or(&b'0'));
            return;
        }
        _ => {
            out.push(octet);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// As [`json`], but what is escaped already is left as it is.
fn json_raw(value: &[u8], out: &mut Vec<u8>) {
    let mut octets = value.iter().peekable();
    while let Some(octet) = octets.next() {
        let escaped = octets.next_if(|next| *octet == b'\\' && br#""/\bfnrtu"#.contains(next));
        match escaped {
            Some(next) => out.extend_from_slice(&[*octet, *next]),
            None => json_octet(*octet, out),
        }
    }
}
