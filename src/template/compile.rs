//! The grammar of string templates: text to segments.
//!
//! `"%" property [ ":" from [ ":" to [ ":" options [ ":" name ] ] ] ] "%"` (rsyslog, template.c, do_Parameter). Where
//! rsyslog skips what it does not understand, we refuse it.

use super::date::DateFormat;
use super::escape::{self, Unescaped};
use super::posix::Posix;
use super::property;
use super::shape::{Controls, Extract, Format, NoMatch, SecPath, Shape};
use super::{Segment, TemplateError};
use crate::posix::Dialect;
use crate::syslog::Property;

/// A name is close enough to be suggested from here on (Jaro-Winkler).
const SIMILARITY_MIN: f64 = 0.8;

const OPTIONS: &[&str] = &[
    "uppercase",
    "lowercase",
    "fixed-width",
    "json",
    "jsonf",
    "jsonr",
    "jsonfr",
    "csv",
    "drop-last-lf",
    "escape-cc",
    "space-cc",
    "drop-cc",
    "compressspace",
    "sp-if-no-1st-sp",
    "secpath-drop",
    "secpath-replace",
    "pos-end-relative",
    "mandatory-field",
    "date-mysql",
    "date-pgsql",
    "date-rfc3164",
    "date-rfc3164-buggyday",
    "date-rfc3339",
    "date-unixtimestamp",
    "date-subseconds",
    "date-year",
    "date-month",
    "date-day",
    "date-hour",
    "date-minute",
    "date-second",
    "date-tzoffshour",
    "date-tzoffsmin",
    "date-tzoffsdirection",
    "date-ordinal",
    "date-week",
    "date-iso-week",
    "date-iso-week-year",
    "date-wday",
    "date-wdayname",
    "date-utc",
];

/// Text to segments.
pub(super) fn compile(text: &str) -> Result<Vec<Segment>, TemplateError> {
    let unescaped = escape::unescape(text)?;
    let mut cursor = Cursor { text: &unescaped, at: 0 };
    let mut segments = Vec::new();
    while cursor.peek().is_some() {
        let literal = cursor.until(b"%");
        if !literal.is_empty() {
            segments.push(Segment::from_literal(literal));
        }
        if cursor.eat(b'%') {
            segments.push(parameter(&mut cursor)?);
        }
    }
    Ok(segments)
}

/// A place in the unescaped text.
struct Cursor<'a> {
    text: &'a Unescaped,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a [u8] {
        self.text.octets.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    fn eat(&mut self, octet: u8) -> bool {
        let found = self.peek() == Some(octet);
        self.at += usize::from(found);
        found
    }

    fn eat_word(&mut self, word: &[u8]) -> bool {
        let found = self.rest().starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// Everything before the next of `stops` (or the end), which is not consumed.
    fn until(&mut self, stops: &[u8]) -> &'a [u8] {
        let rest = self.rest();
        let len = rest.iter().position(|octet| stops.contains(octet)).unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }

    /// Decimal digits as a number; `None` where there are none.
    fn number(&mut self) -> Result<Option<u32>, TemplateError> {
        let start = self.at;
        let mut value: Option<u32> = None;
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            let next = value.unwrap_or(0).checked_mul(10).and_then(|tens| tens.checked_add(u32::from(digit - b'0')));
            // As rsyslog's own "to the end" position: more is a mistake, not a wish.
            let Some(next) = next.filter(|number| *number <= super::shape::POSITION_MAX) else {
                return Err(self.error(start, format!("number over {}", super::shape::POSITION_MAX)));
            };
            value = Some(next);
            self.at += 1;
        }
        Ok(value)
    }

    fn error(&self, at: usize, message: impl Into<String>) -> TemplateError {
        TemplateError { at: self.text.source_of(at), message: message.into() }
    }

    /// What stands at the cursor, for a message.
    fn found(&self) -> String {
        match self.peek() {
            None => "the end of the template".to_owned(),
            Some(octet) => format!("\"{}\"", char::from(octet).escape_default()),
        }
    }

    fn unexpected(&self, expected: &str) -> TemplateError {
        self.error(self.at, format!("found {}, expected {expected}", self.found()))
    }
}

/// After the opening `%`.
fn parameter(cursor: &mut Cursor<'_>) -> Result<Segment, TemplateError> {
    let opening = cursor.at.saturating_sub(1);
    let name_at = cursor.at;
    let name = String::from_utf8_lossy(cursor.until(b"%:")).into_owned();
    if cursor.peek().is_none() {
        return Err(cursor.error(opening, "no closing % (a literal % cannot be written in a string template)"));
    }
    let property = resolve(cursor, name_at, &name)?;
    let mut shape = Shape::new(property);
    let mut has_delimiter = false;
    if cursor.eat(b':') {
        has_delimiter = from(cursor, &mut shape)?;
    }
    // A regular expression stands in the place of both positions.
    if !matches!(shape.extract, Extract::Regex { .. }) && cursor.eat(b':') {
        to(cursor, &mut shape, has_delimiter)?;
    }
    if cursor.eat(b':') {
        options(cursor, &mut shape)?;
    }
    let outer_name = if cursor.eat(b':') { cursor.until(b"%:").to_vec() } else { name.into_bytes() };
    shape.set_output_name(&outer_name);
    if cursor.peek().is_none() {
        return Err(cursor.error(opening, "no closing %"));
    }
    if !cursor.eat(b'%') {
        return Err(cursor.unexpected("% at the end of a property"));
    }
    shape.order_positions().map_err(|reason| cursor.error(opening, reason))?;
    Ok(shape.into_segment())
}

/// The property of that name, or why there is none.
fn resolve(cursor: &Cursor<'_>, at: usize, name: &str) -> Result<Property, TemplateError> {
    if let Some(property) = property::by_name(name) {
        return Ok(property);
    }
    let message = match name.to_ascii_lowercase().as_str() {
        "" => "empty property name (a literal % cannot be written in a string template)".to_owned(),
        "uuid" => "property \"uuid\" is not supported: a message has no identity of its own here".to_owned(),
        "jsonmesg" => "property \"jsonmesg\" is not supported: name the properties that are wanted".to_owned(),
        "fromhost-port" => "property \"fromhost-port\" is not supported: the peer's port is not kept".to_owned(),
        lower if ["$!", "$.", "$/"].iter().any(|sigil| lower.starts_with(sigil)) => {
            format!("\"{name}\" is a variable; there are no variables here, only properties")
        }
        lower => {
            format!("unknown property \"{name}\"{}", suggestion(lower, property::names()))
        }
    };
    Err(cursor.error(at, message))
}

/// `from`: a position, `R...` or `F...`. Tells whether a field is wanted.
fn from(cursor: &mut Cursor<'_>, shape: &mut Shape) -> Result<bool, TemplateError> {
    if cursor.eat(b'R') {
        regex(cursor, shape)?;
        return Ok(false);
    }
    if cursor.eat(b'F') {
        let delimiter = field(cursor, shape)?;
        shape.extract = Extract::Field { delimiter, number: 0 };
        return Ok(true);
    }
    shape.from = cursor.number()?.unwrap_or(0);
    match cursor.peek() {
        Some(b':' | b'%') => Ok(false),
        _ => Err(cursor.unexpected("a position, R (regular expression), F (field), : or %")),
    }
}

/// After `F`: the delimiter, and where in the field to begin.
fn field(cursor: &mut Cursor<'_>, shape: &mut Shape) -> Result<u8, TemplateError> {
    if !cursor.eat(b',') {
        return match cursor.peek() {
            Some(b':') => Ok(b'\t'),
            _ => Err(cursor.unexpected("\",\" and the delimiter's decimal code, or \":\" and a field number, after F")),
        };
    }
    let at = cursor.at;
    let Some(code) = cursor.number()? else {
        return Err(cursor.unexpected("the decimal code of the delimiter (32 is a space, 44 a comma)"));
    };
    let Ok(delimiter) = u8::try_from(code) else {
        return Err(cursor.error(at, format!("delimiter {code} is not an octet (0 to 255)")));
    };
    if cursor.peek() == Some(b'+') {
        return Err(cursor.error(cursor.at, "\"+\" after a delimiter is not supported (nor is it by Debian's rsyslog)"));
    }
    if cursor.eat(b',') {
        shape.from = cursor.number()?.unwrap_or(0);
    }
    match cursor.peek() {
        Some(b':') => Ok(delimiter),
        _ => Err(cursor.unexpected("\":\" and the field's number")),
    }
}

/// After `R`: dialect, submatch, what to print without a match, which match; then the expression up to `--end`.
fn regex(cursor: &mut Cursor<'_>, shape: &mut Shape) -> Result<(), TemplateError> {
    let mut dialect = Dialect::Basic;
    if cursor.eat(b',') {
        dialect = match () {
            () if cursor.eat_word(b"BRE") => Dialect::Basic,
            () if cursor.eat_word(b"ERE") => Dialect::Extended,
            () => return Err(cursor.unexpected("BRE or ERE")),
        };
    }
    let submatch = if cursor.eat(b',') { digit(cursor) } else { 0 };
    let no_match = if cursor.eat(b',') { no_match(cursor)? } else { NoMatch::Default };
    let match_number = if cursor.eat(b',') { digit(cursor) } else { 0 };
    if !cursor.eat(b':') {
        return Err(cursor.unexpected("\":\" and the regular expression"));
    }
    let start = cursor.at;
    let Some(len) = memchr::memmem::find(cursor.rest(), b"--end") else {
        return Err(cursor.error(start, "the regular expression is not ended by \"--end\""));
    };
    let expression = cursor.rest().get(..len).unwrap_or_default();
    let regex =
        Posix::new(expression, dialect, submatch).map_err(|fault| cursor.error(start + fault.at, fault.message))?;
    cursor.at += len + b"--end".len();
    match cursor.peek() {
        Some(b':' | b'%') => {}
        _ => return Err(cursor.unexpected("\":\" or \"%\" after --end")),
    }
    shape.extract = Extract::Regex { regex: Box::new(regex), no_match, match_number };
    Ok(())
}

/// One digit; nothing is 0 (as in rsyslog).
fn digit(cursor: &mut Cursor<'_>) -> u8 {
    let digit = cursor.peek().filter(u8::is_ascii_digit);
    cursor.at += usize::from(digit.is_some());
    digit.map_or(0, |digit| digit - b'0')
}

fn no_match(cursor: &mut Cursor<'_>) -> Result<NoMatch, TemplateError> {
    for (word, meaning) in [
        (b"DFLT".as_slice(), NoMatch::Default),
        (b"BLANK", NoMatch::Blank),
        (b"ZERO", NoMatch::Zero),
        (b"FIELD", NoMatch::Field),
    ] {
        if cursor.eat_word(word) {
            return Ok(meaning);
        }
    }
    if cursor.peek() == Some(b',') {
        return Ok(NoMatch::Default);
    }
    Err(cursor.unexpected("DFLT, BLANK, ZERO or FIELD"))
}

/// `to`: a position, `$`, or a field's number.
fn to(cursor: &mut Cursor<'_>, shape: &mut Shape, has_delimiter: bool) -> Result<(), TemplateError> {
    if has_delimiter {
        let wanted = cursor.number()?.unwrap_or(0);
        if let Extract::Field { number, .. } = &mut shape.extract {
            *number = wanted;
        }
        if cursor.eat(b',') {
            shape.to = cursor.number()?.unwrap_or(0);
        }
    } else if cursor.eat(b'$') {
        shape.to = super::shape::POSITION_MAX;
    } else {
        shape.to = cursor.number()?.unwrap_or(0);
    }
    match cursor.peek() {
        Some(b':' | b'%') | None => Ok(()),
        _ => Err(cursor.unexpected("a number, $, : or %")),
    }
}

/// Comma-separated, of any case; of conflicting ones the last wins.
fn options(cursor: &mut Cursor<'_>, shape: &mut Shape) -> Result<(), TemplateError> {
    loop {
        let at = cursor.at;
        let name = String::from_utf8_lossy(cursor.until(b",:%")).into_owned();
        let lower = name.to_ascii_lowercase();
        if let Err(reason) = option(&lower, shape) {
            return Err(cursor.error(at, reason));
        }
        if !cursor.eat(b',') {
            return Ok(());
        }
    }
}

fn option(name: &str, shape: &mut Shape) -> Result<(), String> {
    match name {
        // rsyslog takes an empty one ("%msg:::%") as no option.
        "" | "mandatory-field" => {}
        "uppercase" => shape.uppercase = Some(true),
        "lowercase" => shape.uppercase = Some(false),
        "fixed-width" => shape.fixed_width = true,
        "json" => shape.set_format(Format::Json)?,
        "jsonf" => shape.set_format(Format::JsonField)?,
        "jsonr" => shape.set_format(Format::JsonRaw)?,
        "jsonfr" => shape.set_format(Format::JsonFieldRaw)?,
        "csv" => shape.set_format(Format::Csv)?,
        "drop-last-lf" => shape.drop_last_lf = true,
        "escape-cc" => shape.add_controls(Controls::Escape),
        "space-cc" => shape.add_controls(Controls::Space),
        "drop-cc" => shape.add_controls(Controls::Drop),
        "compressspace" => shape.compress_space = true,
        "sp-if-no-1st-sp" => shape.space_if_no_first_space = true,
        "secpath-drop" => shape.secure_path = Some(SecPath::Drop),
        "secpath-replace" => shape.secure_path = shape.secure_path.or(Some(SecPath::Replace)),
        "pos-end-relative" => shape.end_relative = true,
        "date-utc" => shape.utc = true,
        _ => {
            let format = name.strip_prefix("date-").and_then(date_format);
            let Some(format) = format else {
                return Err(format!("unknown option \"{name}\"{}", suggestion(name, OPTIONS.iter().copied())));
            };
            shape.date = Some(format);
        }
    }
    Ok(())
}

fn date_format(name: &str) -> Option<DateFormat> {
    Some(match name {
        "mysql" => DateFormat::Mysql,
        "pgsql" => DateFormat::Pgsql,
        "rfc3164" => DateFormat::Rfc3164,
        "rfc3164-buggyday" => DateFormat::Rfc3164BuggyDay,
        "rfc3339" => DateFormat::Rfc3339,
        "unixtimestamp" => DateFormat::Unix,
        "subseconds" => DateFormat::Subseconds,
        "year" => DateFormat::Year,
        "month" => DateFormat::Month,
        "day" => DateFormat::Day,
        "hour" => DateFormat::Hour,
        "minute" => DateFormat::Minute,
        "second" => DateFormat::Second,
        "tzoffshour" => DateFormat::OffsetHour,
        "tzoffsmin" => DateFormat::OffsetMinute,
        "tzoffsdirection" => DateFormat::OffsetDirection,
        "ordinal" => DateFormat::Ordinal,
        "week" => DateFormat::Week,
        "iso-week" => DateFormat::IsoWeek,
        "iso-week-year" => DateFormat::IsoWeekYear,
        "wday" => DateFormat::Wday,
        "wdayname" => DateFormat::WdayName,
        _ => return None,
    })
}

/// ` (did you mean "x"?)` where a known name is close.
fn suggestion<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let closest = known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(left, _), (right, _)| left.total_cmp(right));
    closest.map_or_else(String::new, |(_, candidate)| format!(" (did you mean \"{candidate}\"?)"))
}
