//! One event of a batch: a rendered message, made to stay one.

/// Octets of an event at most. Sekoia refuses what is over 250 KiB, and its own clients send no more than 250,000 characters.
pub(super) const EVENT_MAX: usize = 250_000;

/// What became of a rendered message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It is an event.
    Whole,
    /// It is one, and its end is missing.
    Cut,
    /// There is nothing in it; nothing was left behind `start`.
    Empty,
}

/// Makes one event of what stands behind `start`: line ends at its end belong to the template and go; those inside become
/// `#012` and `#015`, as rsyslog escapes them and Sekoia's parsers know them; what is too long is cut between characters.
pub(super) fn finish(out: &mut Vec<u8>, start: usize) -> Event {
    while out.len() > start && matches!(out.last(), Some(b'\n' | b'\r')) {
        out.pop();
    }
    let text = out.get(start..).unwrap_or_default();
    if text.iter().all(u8::is_ascii_whitespace) {
        out.truncate(start);
        return Event::Empty;
    }
    if memchr::memchr2(b'\n', b'\r', text).is_some() {
        let escaped = escape(text);
        out.truncate(start);
        out.extend_from_slice(&escaped);
    }
    if out.len() - start <= EVENT_MAX {
        return Event::Whole;
    }
    let is_inside = |at: usize| out.get(at).is_some_and(|octet| octet & 0b1100_0000 == 0b1000_0000);
    let end = start + EVENT_MAX;
    // A character has four octets at most; what is no UTF-8 is cut anywhere.
    let end = (end - 3..=end).rev().find(|at| !is_inside(*at)).unwrap_or(end);
    out.truncate(end);
    Event::Cut
}

fn escape(text: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len() + 16);
    for octet in text {
        match octet {
            b'\n' => escaped.extend_from_slice(b"#012"),
            b'\r' => escaped.extend_from_slice(b"#015"),
            other => escaped.push(*other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(text: &str) -> (String, Event) {
        let mut out = format!("before\n{text}").into_bytes();
        let event = finish(&mut out, 7);
        assert_eq!(&out[..7], b"before\n");
        (String::from_utf8(out[7..].to_vec()).unwrap(), event)
    }

    #[test]
    fn an_event_stays_one_event() {
        let rows = [
            ("a", "a", Event::Whole),
            (" a ", " a ", Event::Whole),
            ("a\n", "a", Event::Whole),
            ("a\r\n\n", "a", Event::Whole),
            ("a\nb\r\nc\n", "a#012b#015#012c", Event::Whole),
            ("", "", Event::Empty),
            (" \t\n", "", Event::Empty),
        ];
        for (text, expected, event) in rows {
            assert_eq!(finished(text), (expected.to_owned(), event), "{text:?}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(finished(&"x".repeat(EVENT_MAX)).1, Event::Whole);
        for (prefix, left) in [("", 0), ("x", 1), ("xx", 2), ("xxx", 3)] {
            let (text, event) = finished(&format!("{prefix}{}", "😀".repeat(EVENT_MAX / 4 + 2)));
            assert_eq!(event, Event::Cut);
            let expected = (EVENT_MAX - left) / 4 * 4 + left;
            assert_eq!(text.len(), expected, "{prefix}");
        }
    }
}
