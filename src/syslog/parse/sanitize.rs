//! What reception does to a frame before it is parsed (rsyslog's `SanitizeMsg`).

/// Octets below this are control characters; rsyslog leaves DEL and everything above it alone.
const CONTROL_END: u8 = 0x20;

/// The frame as rsyslog stores it on reception: one trailing NUL dropped, then one trailing LF, and every control
/// character that is left (octets 0 to 31) written as `#ooo`, in octal. Borrows `frame` where nothing had to be changed,
/// else writes to `scratch`.
#[inline]
pub fn sanitize<'a>(frame: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    let frame = frame.strip_suffix(b"\0").unwrap_or(frame);
    let frame = frame.strip_suffix(b"\n").unwrap_or(frame);
    // The smallest octet, not the first control character: without an early exit it compiles to one SIMD pass.
    if frame.iter().copied().fold(u8::MAX, u8::min) >= CONTROL_END {
        return frame;
    }
    escape(frame, scratch);
    scratch
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
