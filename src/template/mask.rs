//! Keys in a template's own text, and what is printed in their place.

use memchr::memmem;

/// What stands before a key in Sekoia's structured data.
const PARAMETER: &[u8] = b"intake_key=\"";

/// `text` with `mask` for each of `keys`, and for the value of each `intake_key="…"`.
pub fn masked(text: &[u8], keys: &[&[u8]], mask: &[u8]) -> Vec<u8> {
    let mut masked = text.to_vec();
    for key in keys.iter().filter(|key| !key.is_empty()) {
        if memmem::find(&masked, key).is_some() {
            masked = replaced(&masked, key, mask);
        }
    }
    let mut out = Vec::with_capacity(masked.len());
    let mut rest = masked.as_slice();
    while let Some(at) = memmem::find(rest, PARAMETER) {
        let (before, value) = rest.split_at(at + PARAMETER.len());
        out.extend_from_slice(before);
        let end = memchr::memchr(b'"', value).unwrap_or(value.len());
        let (value, behind) = value.split_at(end);
        // What is masked already stays as it is.
        out.extend_from_slice(if value.iter().any(|octet| *octet != b'*') { mask } else { value });
        rest = behind;
    }
    out.extend_from_slice(rest);
    out
}

fn replaced(text: &[u8], what: &[u8], by: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut last = 0;
    for at in memmem::find_iter(text, what) {
        out.extend_from_slice(text.get(last..at).unwrap_or_default());
        out.extend_from_slice(by);
        last = at + what.len();
    }
    out.extend_from_slice(text.get(last..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_a_text_are_masked_wherever_they_stand() {
        let rows: &[(&str, &str)] = &[
            ("no key", "no key"),
            ("[S@1 intake_key=\"abc\"] LOG", "[S@1 intake_key=\"***\"] LOG"),
            ("[S@1 intake_key=\"abc", "[S@1 intake_key=\"***"),
            // The value is a property of its own: `%intake_key%`.
            ("[S@1 intake_key=\"", "[S@1 intake_key=\""),
            ("intake_key=\"****\"", "intake_key=\"****\""),
            ("key-1 and key-1key-1", "*** and ******"),
            ("intake_key=\"key-1\" intake_key=\"b\"", "intake_key=\"***\" intake_key=\"***\""),
        ];
        for (text, expected) in rows {
            let found = masked(text.as_bytes(), &[b"key-1", b""], b"***");
            assert_eq!(String::from_utf8_lossy(&found), *expected);
        }
    }
}
