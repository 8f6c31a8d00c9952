//! Frames that others collected, read from beside the repository where they are there.

use std::path::PathBuf;

/// Rows of a corpus file; `None`, said on standard output, where it is absent.
pub fn rows(name: &str) -> Option<Vec<serde_json::Value>> {
    let shared = std::env::var_os("FOREBAY_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = shared.join("corpus").join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("{name}: skipped, there is no {}", path.display());
        return None;
    };
    let rows: Vec<_> = text.lines().map(|row| serde_json::from_str(row).expect("a row is JSON")).collect();
    assert!(!rows.is_empty(), "{name} has rows");
    Some(rows)
}

/// A row's frame.
pub fn frame(row: &serde_json::Value) -> Option<Vec<u8>> {
    row["raw_b64"].as_str().map(base64).or_else(|| row["raw"].as_str().map(|raw| raw.as_bytes().to_vec()))
}

/// The frames of a corpus file that rsyslogd answers: not what is empty, nor what is more than a frame.
pub fn frames(name: &str) -> Option<Vec<Vec<u8>>> {
    let answered =
        |frame: &Vec<u8>| !matches!(&**frame, [] | [b'\n' | b'\0'] | b"\n\0") && frame.first() != Some(&b'z');
    // imtcp's `maxFrameSize`.
    let whole = |frame: &Vec<u8>| frame.len() <= 200_000;
    Some(rows(name)?.iter().filter_map(frame).filter(answered).filter(whole).collect())
}

/// RFC 4648 section 4.
pub fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut octets, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = ALPHABET.iter().position(|other| *other == letter).expect("the corpus is base64");
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            octets.push((bits >> count) as u8);
        }
    }
    octets
}
