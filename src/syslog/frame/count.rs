//! Is this MSG-LEN, or text that starts with digits? RFC 6587 section 3.4.1 has no mark that tells them apart.
//!
//! Every answer depends on the octets alone and never on how they were cut into reads: [`Answer::Wait`] is given exactly
//! while octets that are still to come could change the answer, and no longer than `MSG-LEN` + 10 octets.

/// The largest MSG-LEN that is believed (or `max_message_size`, where that is larger): 16 MiB is 64 times Sekoia's limit.
/// A larger one is text, so that a lie costs a sender's own connection at most this much.
pub(super) const COUNT_MAX: usize = 16 << 20;

/// What a question about octets that are still arriving comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    /// So many more octets may decide it; fewer do where one of them is an LF.
    Wait(usize),
}

/// The beginning of a frame, read as `MSG-LEN SP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// It is not `MSG-LEN SP`.
    Text,
    /// Digits only, so far.
    Short,
    /// `MSG-LEN SP`: the count, and how many octets it and the SP take.
    Count { len: usize, taken: usize },
}

/// Reads `MSG-LEN SP`. A leading zero, a count above `count_max`, and digits that anything but SP follows are text.
pub(super) fn head(data: &[u8], count_max: usize) -> Head {
    let mut len = 0_usize;
    for (index, octet) in data.iter().copied().enumerate() {
        match octet {
            b'1'..=b'9' => len = len.saturating_mul(10).saturating_add(usize::from(octet - b'0')),
            b'0' if index > 0 => len = len.saturating_mul(10),
            b' ' if index > 0 => return Head::Count { len, taken: index + 1 },
            _ => return Head::Text,
        }
        if len > count_max {
            return Head::Text;
        }
    }
    Head::Short
}

/// Whether `len` octets of `body` are a frame, where `body` is what follows `MSG-LEN SP`. In this order:
///
/// 1. The body begins with a PRI (`<`, one to three digits, `>`) inside the count: yes.
/// 2. The count is above `max`: no, it could not be checked in bounded memory.
/// 3. The body's first LF is the last counted octet, or the one right after: yes. It is an earlier one: no.
/// 4. The counted octets are followed by the end of the stream, CR LF, a PRI or a plausible `MSG-LEN SP`: yes.
/// 5. Anything else: no.
///
/// `searched` octets of `body` are known to hold no LF. `ended`: no more octets will come.
pub(super) fn is_count(len: usize, body: &[u8], searched: usize, max: usize, ended: bool) -> Answer {
    let counted = body.get(..len).unwrap_or(body);
    match starts_with_pri(counted, len) {
        Answer::No => {}
        Answer::Wait(_) if ended => return Answer::No,
        decided => return decided,
    }
    if len > max {
        return Answer::No;
    }
    let line = body.get(..=len).unwrap_or(body);
    if let Some(at) = line.get(searched..).and_then(|rest| memchr::memchr(b'\n', rest)) {
        return if searched + at + 1 >= len { Answer::Yes } else { Answer::No };
    }
    match body.len().checked_sub(len) {
        None if ended => Answer::No,
        None => Answer::Wait(len + 1 - body.len()),
        Some(0) if ended => Answer::Yes,
        Some(0) => Answer::Wait(1),
        Some(_) => match starts_a_frame(body.get(len..).unwrap_or_default()) {
            Answer::Wait(_) if ended => Answer::No,
            decided => decided,
        },
    }
}

/// Whether what follows a frame could be where the next one begins.
fn starts_a_frame(after: &[u8]) -> Answer {
    match after {
        [b'<', ..] => starts_with_pri(after, usize::MAX),
        [b'\r'] => Answer::Wait(1),
        [b'\r', second, ..] => {
            if *second == b'\n' {
                Answer::Yes
            } else {
                Answer::No
            }
        }
        _ => match head(after, COUNT_MAX) {
            Head::Count { .. } => Answer::Yes,
            Head::Short => Answer::Wait(1),
            Head::Text => Answer::No,
        },
    }
}

/// Whether `data`, of which no more than `len` octets will ever count, begins with a PRI's shape.
fn starts_with_pri(data: &[u8], len: usize) -> Answer {
    let more = if data.len() < len { Answer::Wait(1) } else { Answer::No };
    match data {
        [] => more,
        [b'<', b'0'..=b'9', b'>', ..]
        | [b'<', b'0'..=b'9', b'0'..=b'9', b'>', ..]
        | [b'<', b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', b'>', ..] => Answer::Yes,
        [b'<', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => more,
        _ => Answer::No,
    }
}
