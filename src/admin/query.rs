//! What is asked for behind the `?` of a path.

use std::borrow::Cow;

/// Names and values, in their order, decoded (`+` is a blank, `%XX` an octet). A name without `=` has no value.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (Cow::Borrowed(name), decode(value))
    })
}

/// What `decode` makes `text` of again.
pub fn encode(text: &str) -> String {
    let mut out = String::new();
    for octet in text.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(octet)),
            octet => out.push_str(&format!("%{octet:02X}")),
        }
    }
    out
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'+', _) => out.push(b' '),
            (b'%', [high, low, after @ ..]) => match hex(*high).zip(hex(*low)) {
                Some((high, low)) => {
                    out.push(high << 4 | low);
                    rest = after;
                }
                None => out.push(b'%'),
            },
            (octet, _) => out.push(*octet),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_forms_write_it() {
        let read = |query: &str| pairs(query).map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        assert_eq!(read("route=a*&text=x+y%26%c3%a9&&received"), ["route=a*", "text=x y&é", "received="]);
        assert_eq!(read("text=100%&text=%zz&text=%4"), ["text=100%", "text=%zz", "text=%4"]);
        assert_eq!(read(""), Vec::<String>::new());
    }

    #[test]
    fn what_is_encoded_is_decoded_to_the_same() {
        for text in ["", "a b+c&d=e%f", "é/?#", "plain-1.2_3~"] {
            let encoded = encode(text);
            assert!(encoded.is_ascii() && !encoded.contains(['&', '+', ' ', '=']), "{encoded}");
            assert_eq!(decode(&encoded), text);
        }
    }
}
