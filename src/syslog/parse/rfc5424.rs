//! RFC 5424 section 6 (rsyslog's `pmrfc5424`): six fields that end in a space each, STRUCTURED-DATA, MSG.

use memchr::memchr;

use crate::syslog::message::{Fields, Span};
use crate::syslog::timestamp;

/// Fills `fields` from the text that begins at `at`, behind VERSION and its space.
#[inline]
pub(super) fn parse(frame: &[u8], at: usize, fields: &mut Fields) {
    let text = frame.get(at..).unwrap_or_default();
    fields.msg = Span::between(at, frame.len());
    let mut cursor = Cursor { frame, at };
    // Without a stamp that can be read rsyslog looks no further: all of the text is MSG.
    if text.starts_with(b"- ") {
        cursor.at += 2;
    } else if let Some(found) = timestamp::rfc3339(text) {
        fields.timestamp = found.timestamp;
        cursor.at += found.len;
    } else {
        return;
    }
    read_header(&mut cursor, fields);
    fields.msg = Span::between(cursor.at, frame.len());
}

/// HOSTNAME to STRUCTURED-DATA.
#[inline]
fn read_header(cursor: &mut Cursor<'_>, fields: &mut Fields) {
    if cursor.is_at_end() {
        return;
    }
    // `-` is a value here: rsyslog forwards a nil HOSTNAME as nil, it does not put the peer's address in.
    fields.hostname = Some(cursor.field());
    // A frame that ends before APP-NAME: what is missing is nil.
    if cursor.is_at_end() {
        return;
    }
    fields.app_name = Some(cursor.field()).filter(|app_name| app_name.len > 0 && !cursor.is_nil(*app_name));
    fields.procid = Some(cursor.field()).filter(|procid| !cursor.is_nil(*procid));
    fields.msgid = Some(cursor.field()).filter(|msgid| !cursor.is_nil(*msgid));
    fields.structured_data = match cursor.peek() {
        Some(b'-') => {
            cursor.at += 1;
            cursor.eat_space();
            None
        }
        Some(b'[') => cursor.structured_data(),
        // rsyslog takes the MSGID for it; the text is MSG.
        _ => fields.msgid,
    };
}

/// A place in a frame.
struct Cursor<'a> {
    frame: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a [u8] {
        self.frame.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.frame.get(self.at).copied()
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.frame.len()
    }

    fn is_nil(&self, span: Span) -> bool {
        span.of(self.frame) == b"-"
    }

    fn eat_space(&mut self) {
        self.at += usize::from(self.peek() == Some(b' '));
    }

    /// The octets up to the next space, which is eaten, or the end.
    #[inline]
    fn field(&mut self) -> Span {
        let rest = self.rest();
        let len = memchr(b' ', rest).unwrap_or(rest.len());
        let span = Span::between(self.at, self.at + len);
        self.at += len;
        self.eat_space();
        span
    }

    /// From the `[` that is next to the first `]` that has no backslash in front and a space or the end behind; the
    /// space is eaten. `None`, and nothing is eaten, where there is no such `]`: the text stays in MSG.
    fn structured_data(&mut self) -> Option<Span> {
        let rest = self.rest();
        let mut searched = 1;
        loop {
            let close = searched + memchr(b']', rest.get(searched..)?)?;
            searched = close + 1;
            let escaped = rest.get(close - 1) == Some(&b'\\');
            if !escaped && rest.get(searched).is_none_or(|octet| *octet == b' ') {
                let span = Span::between(self.at, self.at + searched);
                self.at += searched;
                self.eat_space();
                return Some(span);
            }
        }
    }
}
