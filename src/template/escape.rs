//! Escapes of rsyslog's configuration strings (libestr, es_unescapeStr), undone before a template is read.

use super::TemplateError;

/// Text without escapes, and where each octet stood in the source.
pub(super) struct Unescaped {
    pub(super) octets: Vec<u8>,
    /// Offset in the source of each octet.
    sources: Vec<usize>,
    source_len: usize,
}

impl Unescaped {
    /// Where the octet at `at` stood in the source; its end beyond the last.
    pub(super) fn source_of(&self, at: usize) -> usize {
        self.sources.get(at).copied().unwrap_or(self.source_len)
    }

    fn push(&mut self, octet: u8, source: usize) {
        self.octets.push(octet);
        self.sources.push(source);
    }
}

/// Undoes `\n`, `\"`, `\\`, `\ooo` and their like.
pub(super) fn unescape(text: &str) -> Result<Unescaped, TemplateError> {
    let bytes = text.as_bytes();
    let mut out = Unescaped {
        octets: Vec::with_capacity(bytes.len()),
        sources: Vec::with_capacity(bytes.len()),
        source_len: bytes.len(),
    };
    let mut at = 0;
    while let Some(octet) = bytes.get(at).copied() {
        if octet != b'\\' {
            out.push(octet, at);
            at += 1;
            continue;
        }
        let Some(escaped) = bytes.get(at + 1).copied() else {
            return Err(TemplateError { at, message: "a backslash ends the template".to_owned() });
        };
        let (value, len) = match escaped {
            b'a' => (Some(0x07), 2),
            b'b' => (Some(0x08), 2),
            b'f' => (Some(0x0C), 2),
            b'n' => (Some(b'\n'), 2),
            b'r' => (Some(b'\r'), 2),
            b't' => (Some(b'\t'), 2),
            b'\\' | b'"' | b'\'' | b'?' => (Some(escaped), 2),
            b'0'..=b'7' => octal(bytes, at + 1),
            // rsyslog refuses these; only a regular expression's author writes them, and means them as they stand.
            b'(' | b')' | b'{' | b'}' | b'[' | b']' | b'.' | b'*' | b'+' | b'^' | b'$' | b'|' => (Some(b'\\'), 1),
            _ => (None, 0),
        };
        let Some(value) = value else {
            let message = format!("unknown escape \"\\{}\" (a backslash is written \\\\)", char::from(escaped));
            return Err(TemplateError { at, message });
        };
        out.push(value, at);
        at += len;
    }
    Ok(out)
}

/// Two or three octal digits at `at`: their value, and the length of the whole escape.
fn octal(bytes: &[u8], at: usize) -> (Option<u8>, usize) {
    let digits = bytes.get(at..).unwrap_or_default().iter().take(3).take_while(|octet| matches!(octet, b'0'..=b'7'));
    let (value, count) = digits.fold((0, 0), |(value, count), digit| (value * 8 + u32::from(digit - b'0'), count + 1));
    // NUL ends a template in rsyslog; a single digit makes it swallow what follows.
    let value = u8::try_from(value).ok().filter(|value| *value != 0 && count >= 2);
    (value, 1 + count)
}
