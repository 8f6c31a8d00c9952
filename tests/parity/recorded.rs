//! Frames and what rsyslogd 8.2302 made of them, kept for machines that have none.

use std::path::PathBuf;

use crate::rsyslogd::Outcome;

/// Frames to record: about 400 octets of the file each.
pub const FRAMES: usize = 900;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity/recorded.jsonl")
}

/// Octets as text: each becomes the character of its number, so that any octets fit into JSON.
fn to_text(octets: &[u8]) -> String {
    octets.iter().map(|octet| char::from(*octet)).collect()
}

fn to_octets(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).expect("written by to_text")).collect()
}

/// Writes a row a frame: the frame, then its fields.
pub fn write(frames: &[Vec<u8>], outcomes: &[Outcome]) {
    let mut rows = String::new();
    for (frame, outcome) in frames.iter().zip(outcomes) {
        let row: Vec<String> = std::iter::once(to_text(frame)).chain(outcome.fields().map(to_text)).collect();
        rows += &serde_json::to_string(&row).expect("text is JSON");
        rows.push('\n');
    }
    std::fs::write(path(), rows).expect("the record can be written");
}

/// The rows that were written.
pub fn read() -> Vec<(Vec<u8>, Outcome)> {
    let rows = std::fs::read_to_string(path()).expect("the record is part of the repository");
    let parse = |row: &str| {
        let row: Vec<String> = serde_json::from_str(row).expect("a row is an array of texts");
        let (frame, fields) = row.split_first().expect("a row begins with its frame");
        let outcome = Outcome::from_fields(fields.iter().map(|field| to_octets(field)).collect());
        (to_octets(frame), outcome.expect("a row has every field"))
    };
    rows.lines().map(parse).collect()
}
