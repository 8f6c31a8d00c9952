//! SD-ELEMENTs (RFC 5424 section 6.3): a message never carries two with our SD-ID.

/// The SD-ID that carries the intake key. The number is Sekoia's private enterprise number.
const OURS: &[u8] = b"SEKOIA@53288";

/// Whether a template's literal begins an element of ours.
pub(super) fn mentions_ours(text: &[u8]) -> bool {
    text.windows(OURS.len()).any(|window| window.eq_ignore_ascii_case(OURS))
}

/// Appends STRUCTURED-DATA without the elements that carry our SD-ID, in any case; `-` where nothing is left.
pub(super) fn append_without_ours(structured_data: &[u8], out: &mut Vec<u8>) {
    let before = out.len();
    let mut rest = structured_data;
    while !rest.is_empty() {
        let (element, after) = rest.split_at_checked(element_len(rest)).unwrap_or((rest, &[]));
        if !is_ours(element) {
            out.extend_from_slice(element);
        }
        rest = after;
    }
    if out.len() == before {
        out.push(b'-');
    }
}

/// Whether one of the elements carries our SD-ID.
pub(super) fn has_ours(structured_data: &[u8]) -> bool {
    let mut without = Vec::new();
    append_without_ours(structured_data, &mut without);
    without != structured_data
}

/// Octets up to and including the `]` that ends the first element; all of them where none does.
fn element_len(text: &[u8]) -> usize {
    let mut quoted = false;
    let mut escaped = false;
    for (at, octet) in text.iter().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b']' if !quoted => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn is_ours(element: &[u8]) -> bool {
    let Some((id, after)) = element.strip_prefix(b"[").and_then(|inner| inner.split_at_checked(OURS.len())) else {
        return false;
    };
    id.eq_ignore_ascii_case(OURS) && matches!(after.first(), None | Some(b' ' | b']'))
}
