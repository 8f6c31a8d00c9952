//! What reception does to a frame before it is parsed (rsyslog's `SanitizeMsg`).

/// Octets below this are control characters; rsyslog leaves DEL and everything above it alone.
const CONTROL_END: u8 = 0x20;

/// The frame as rsyslog stores it on reception: one trailing NUL dropped, then one trailing LF, and every control
/// character that is left (octets 0 to 31) written as `#ooo`, in octal. Borrows `frame` where nothing had to be changed,
/// else writes to `scratch`.
#[inline]
pub fn sanitize<'a>(frame: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    let frame = trimmed(frame);
    if !has_control(frame) {
        return frame;
    }
    escape(frame, scratch);
    scratch
}

/// Whether there is a control character. Eight octets at a time and without an early exit: one SIMD pass where the compiler
/// optimizes for speed, and an eighth of the steps where it does for size.
#[inline]
fn has_control(frame: &[u8]) -> bool {
    /// That octet eight times.
    const fn all(octet: u8) -> u64 {
        u64::from_ne_bytes([octet; 8])
    }
    let (words, rest) = frame.as_chunks::<8>();
    // What is below borrows into its highest bit. The borrow goes on into the next octet: then there was one already.
    let below = |word: u64| word.wrapping_sub(all(CONTROL_END)) & !word;
    let found = words.iter().fold(0, |found, word| found | below(u64::from_ne_bytes(*word)));
    found & all(0x80) != 0 || rest.iter().any(|octet| *octet < CONTROL_END)
}

/// Where [`sanitize`] finds control characters in `frame` and which; none is where `frame` ends in a NUL or LF that is dropped.
pub fn escapes(frame: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    trimmed(frame).iter().copied().enumerate().filter(|(_, octet)| *octet < CONTROL_END)
}

/// The frame without the NUL and the LF that end it.
#[inline]
fn trimmed(frame: &[u8]) -> &[u8] {
    let frame = frame.strip_suffix(b"\0").unwrap_or(frame);
    frame.strip_suffix(b"\n").unwrap_or(frame)
}

/// Writes `frame` to `out` with its control characters escaped.
fn escape(frame: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.reserve(frame.len() + 64);
    let mut rest = frame;
    while let Some(clean) = rest.iter().position(|octet| *octet < CONTROL_END) {
        let (before, from) = rest.split_at(clean);
        out.extend_from_slice(before);
        let Some((octet, after)) = from.split_first() else { break };
        out.extend_from_slice(&[b'#', b'0' + (octet >> 6), b'0' + ((octet >> 3) & 7), b'0' + (octet & 7)]);
        rest = after;
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_control_character_is_seen_wherever_it_stands_and_nothing_else_is_taken_for_one() {
        for len in 0..=40 {
            for other in [CONTROL_END, b'a', 0x7f, 0x80, 0x9f, u8::MAX] {
                let mut frame = vec![other; len];
                assert!(!has_control(&frame), "{len} of {other:#x}");
                for (at, control) in (0..len).zip([0, 0x1f, b'\n'].into_iter().cycle()) {
                    frame[at] = control;
                    assert!(has_control(&frame), "{control:#x} at {at} of {len} of {other:#x}");
                    frame[at] = other;
                }
            }
        }
    }

    #[test]
    fn reception_drops_one_nul_and_one_lf_and_escapes_the_rest_in_octal() {
        let table: [(&[u8], &[u8]); 14] = [
            (b"text", b"text"),
            (b"", b""),
            (b"text\n", b"text"),
            (b"text\0", b"text"),
            (b"text\n\0", b"text"),
            (b"text\0\n", b"text#000"),
            (b"text\n\n", b"text#012"),
            (b"text\0\0", b"text#000"),
            (b"a\tb", b"a#011b"),
            (b"\x01", b"#001"),
            (b"\x1b[1m\x1f", b"#033[1m#037"),
            (b"del\x7f", b"del\x7f"),
            (b"gr\xc3\xbc\x80\xff", b"gr\xc3\xbc\x80\xff"),
            (b"#011", b"#011"),
        ];
        for (frame, expected) in table {
            let mut scratch = b"left over".to_vec();
            assert_eq!(sanitize(frame, &mut scratch), expected, "{}", frame.escape_ascii());
            let escaped = escapes(frame).count();
            assert_eq!(expected.len(), trimmed(frame).len() + 3 * escaped, "{}", frame.escape_ascii());
        }
    }

    #[test]
    fn a_clean_frame_is_borrowed() {
        let frame = b"<13>Nov 22 10:11:12 gate app: text\n";
        let mut scratch = Vec::new();
        let sanitized = sanitize(frame, &mut scratch);
        assert!(std::ptr::eq(sanitized.as_ptr(), frame.as_ptr()));
        assert_eq!(scratch.capacity(), 0);
    }
}
