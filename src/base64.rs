//! Base64 (RFC 4648 section 4): octets that are no text, in JSON.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Writes octets as text, padded.
pub(crate) fn encode(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for chunk in octets.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, octet| group << 8 | u32::from(*octet)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sextet = (group >> (18 - 6 * place)) & 63;
            // A group of n octets has n + 1 letters that mean something.
            let letter = if place > chunk.len() { None } else { ALPHABET.get(sextet as usize) };
            text.push(letter.map_or('=', |letter| char::from(*letter)));
        }
    }
    text
}

/// Reads them back; `None` where it is not exactly what [`encode`] writes.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len() / 4 * 3);
    let unpadded = text.trim_end_matches('=');
    for chunk in unpadded.as_bytes().chunks(4) {
        let mut group = 0_u32;
        for letter in chunk {
            let sextet = ALPHABET.iter().position(|known| known == letter)?;
            group = group << 6 | sextet as u32;
        }
        let [_, first, second, third] = (group << (6 * (4 - chunk.len()))).to_be_bytes();
        octets.extend([first, second, third].iter().take(chunk.len().checked_sub(1)?));
    }
    (encode(&octets) == text).then_some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_come_back_and_the_rfc_agrees() {
        let rows =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (octets, text) in rows {
            assert_eq!(encode(octets.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(octets.as_bytes()));
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)), Some(all));
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in ["Z", "Zg", "Zg=", "Zh==", "Zm8", "Zm9v=", "Zm 9", "Z-_=", "====", "Zg==Zg=="] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
