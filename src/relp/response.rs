//! The data of `rsp`: `CODE [SP TEXT] [LF DATA]` (specification, "rsp"; `readRspHdr` in librelp's `scrsp.c`).

/// What is shown of a peer's text: as much as the specification allows it to be long.
const SHOWN_CHARS_MAX: usize = 80;

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Response<'a> {
    /// 200, or an error.
    pub(super) code: u16,
    /// For people.
    pub(super) text: &'a [u8],
    /// What is behind the first line.
    pub(super) data: &'a [u8],
}

/// The only code that is no error.
pub(super) const OK: u16 = 200;

/// The answer in `data`; `None` where it is none.
pub(super) fn parse(data: &[u8]) -> Option<Response<'_>> {
    let mut parts = data.splitn(2, |octet| *octet == b'\n');
    let (line, data) = (parts.next()?, parts.next().unwrap_or_default());
    let (code, text) = line.split_first_chunk::<3>()?;
    if !code.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let text = match text.split_first() {
        None => text,
        Some((b' ', text)) => text,
        Some(_) => return None,
    };
    let code = code.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    Some(Response { code, text, data })
}

/// A peer's text as it may be shown: no control characters, 80 characters at most.
pub(super) fn shown(text: &[u8]) -> String {
    let clean = |char: char| if char.is_control() { '?' } else { char };
    let begin = text.get(..4 * SHOWN_CHARS_MAX).unwrap_or(text);
    String::from_utf8_lossy(begin).chars().take(SHOWN_CHARS_MAX).map(clean).collect()
}
