//! Streams that other implementations' test suites send, and the frames they expect of them.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may panic, and says what it skips"
)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use forebay::syslog::frame::{Decoder, Flaw, Framing, looks_like_tls};
use serde_json::Value;

/// `max_message_size` where a row has none.
const MAX: usize = 256_000;

/// Rows whose frames are not ours, with how many ours are and why.
const EXCEPTIONS: &[(&str, usize, &str)] = &[
    ("rs-oc-214000000000", 1, "the SP after a count that is not believed is not lost"),
    ("rs-oc-4000000000", 1, "the SP after a count that is not believed is not lost"),
    ("rs-oc-0", 1, "octets that are not a count are text, and not lost"),
    ("rs-split", 1, "a long line is cut: the pieces of it would be forged messages"),
    ("gos-ko", 2, "octets where a count should be are text, and not lost"),
    ("gos-trunc", 1, "what came of a frame that the stream ended in is not lost"),
    ("gos-toolong", 1, "a long frame is cut, and its beginning not lost"),
    ("gos-undetect", 2, "octets where a count should be are text, and not lost"),
    ("sng-fr-long", 1, "a long frame is cut, and its beginning not lost"),
    ("sng-auto-toolong", 1, "a count that nothing confirms is text, and not lost"),
    ("sng-auto-lf", 3, "NUL is text but under `nul`, as rsyslog has it"),
    ("sng-auto-brk", 3, "NUL is text but under `nul`, as rsyslog has it"),
    ("sng-spin", 2, "a long line is cut: the pieces of it would be forged messages"),
    ("vec-utf8", 1, "a frame is never refused for its encoding"),
    ("vec-long", 1, "a count above the maximum that no PRI confirms is text"),
    ("rfc6587-lead0", 1, "octets that are not a count are text, and not lost"),
];

/// The corpus file, or `None` (which is printed) where this machine has none.
fn corpus(name: &str) -> Option<Vec<Value>> {
    let shared = std::env::var_os("FOREBAY_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = shared.join("corpus").join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: there is no {}", path.display());
        return None;
    };
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a row is JSON")).collect();
    assert!(rows.len() > 20, "{} rows in {}", rows.len(), path.display());
    Some(rows)
}

fn base64(value: &Value) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = value.as_str().expect("base64 is text");
    let (mut octets, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let sextet = ALPHABET.iter().position(|known| *known == letter).expect("a base64 letter");
        bits = (bits << 6) | u32::try_from(sextet).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            octets.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    octets
}

fn frames(framing: Framing, max: usize, reads: &[&[u8]]) -> Vec<(Vec<u8>, Option<Flaw>)> {
    let mut decoder = Decoder::new(framing, max);
    let mut found = Vec::new();
    for read in reads {
        let mut input = *read;
        while let Some(frame) = decoder.next_frame(&mut input) {
            found.push((frame.bytes.to_vec(), frame.flaw));
        }
        assert!(decoder.owned() <= 2 * max + 1024, "{} octets owned", decoder.owned());
    }
    while let Some(frame) = decoder.finish() {
        found.push((frame.bytes.to_vec(), frame.flaw));
    }
    found
}

/// The frames of `stream`, which must not depend on how it is cut.
fn frames_under_cuts(framing: Framing, max: usize, stream: &[u8], chunks: &[usize]) -> Vec<(Vec<u8>, Option<Flaw>)> {
    let whole = frames(framing, max, &[stream]);
    let (mut as_recorded, mut rest) = (Vec::new(), stream);
    for len in chunks {
        let (chunk, after) = rest.split_at(*len);
        as_recorded.push(chunk);
        rest = after;
    }
    as_recorded.push(rest);
    assert_eq!(frames(framing, max, &as_recorded), whole, "cut as recorded");
    for len in [1, 2, 3, 7, 16, 1000, 4096, 65_536] {
        let chunks: Vec<&[u8]> = stream.chunks(len).collect();
        assert_eq!(frames(framing, max, &chunks), whole, "cut every {len} octets");
    }
    whole
}

fn framing_of(mode: &str) -> Option<Framing> {
    match mode {
        // Discarding (trimming) what is over the maximum is what ours always does.
        "auto" | "auto+discard" => Some(Framing::Auto),
        "octet" | "octet+trim" => Some(Framing::Octet),
        "lf" => Some(Framing::Lf),
        "nul" => Some(Framing::Nul),
        "auto+asa" | "lf+cr" | "lf+nul" | "lf+proxy" => None,
        other => panic!("an unknown mode {other}"),
    }
}

#[test]
fn other_implementations_streams_come_apart_as_they_expect() {
    let Some(rows) = corpus("framing.jsonl") else { return };
    let (mut passed, mut excepted, mut failures) = (0, Vec::new(), Vec::new());
    for row in &rows {
        let id = row["id"].as_str().expect("a row has an id");
        let Some(framing) = framing_of(row["mode"].as_str().expect("a row has a mode")) else { continue };
        let max = row["max_frame"].as_u64().map_or(MAX, |max| usize::try_from(max).unwrap());
        let chunks: Vec<usize> =
            row["chunks"].as_array().into_iter().flatten().map(|len| len.as_u64().unwrap() as usize).collect();
        let found = frames_under_cuts(framing, max, &base64(&row["stream_b64"]), &chunks);
        let expected: Vec<Vec<u8>> = row["expect_frames_b64"].as_array().expect("frames").iter().map(base64).collect();
        // Parsing drops the LF that a count includes; some of the rows expect it here.
        let same = found.len() == expected.len()
            && found.iter().zip(&expected).all(|((ours, _), theirs)| {
                ours == theirs || ours.strip_suffix(b"\n").is_some_and(|ours| ours == theirs)
            });
        let shown: Vec<String> = found.iter().map(|(octets, _)| octets.escape_ascii().to_string()).collect();
        match EXCEPTIONS.iter().find(|(excepted, ..)| *excepted == id) {
            None if same => passed += 1,
            None => failures.push(format!("{id}: found {}", brief(&shown))),
            Some(_) if same => failures.push(format!("{id} is no exception any more")),
            Some((_, count, reason)) => {
                excepted.push(id);
                if found.len() != *count || !nothing_is_lost(&base64(&row["stream_b64"]), &found) {
                    failures.push(format!("{id} ({reason}): found {}", brief(&shown)));
                }
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert!(passed >= 20, "only {passed} rows were checked");
    println!("{passed} rows pass, {} are exceptions: {excepted:?}", excepted.len());
}

/// Whether all octets of `stream` are in `frames`, counts, trailers and what was cut for its size apart.
fn nothing_is_lost(stream: &[u8], frames: &[(Vec<u8>, Option<Flaw>)]) -> bool {
    let solid = |octets: &[u8]| -> Vec<u8> {
        octets.iter().copied().filter(|octet| !octet.is_ascii_digit() && !b" \r\n".contains(octet)).collect()
    };
    let found: Vec<u8> = frames.iter().flat_map(|(bytes, _)| bytes).copied().collect();
    frames.iter().any(|(_, flaw)| *flaw == Some(Flaw::Oversize)) || solid(stream) == solid(&found)
}

fn brief(frames: &[String]) -> String {
    frames.iter().map(|frame| format!("\n    {}", frame.chars().take(120).collect::<String>())).collect()
}

#[test]
fn hostile_streams_are_cut_in_bounded_time_and_memory() {
    let Some(rows) = corpus("nasty.jsonl") else { return };
    let mut checked = 0;
    for row in &rows {
        let id = row["id"].as_str().expect("a row has an id");
        let raw = base64(&row["raw_b64"]);
        let counted = [format!("{} ", raw.len()).as_bytes(), &raw, b"5 <13>z"].concat();
        let started = Instant::now();
        match row["transport"].as_str().expect("a row has a transport") {
            "tcp-octet" | "any" => {
                let found = frames_under_cuts(Framing::Octet, MAX, &counted, &[]);
                if !raw.is_empty() {
                    let (bytes, flaw) = found.first().expect("a counted frame comes out");
                    assert_eq!(bytes.as_slice(), &raw[..raw.len().min(MAX)], "{id}");
                    assert_eq!(*flaw, (raw.len() > MAX).then_some(Flaw::Oversize), "{id}");
                }
                assert_eq!(found.last(), Some(&(b"<13>z".to_vec(), None)), "{id}");
            }
            "tcp" => {
                let found = frames_under_cuts(Framing::Auto, MAX, &raw, &[]);
                check_tcp(row["name"].as_str().unwrap_or_default(), &raw, &found);
            }
            _ => continue,
        }
        for framing in [Framing::Auto, Framing::Octet, Framing::Lf, Framing::Nul] {
            frames(framing, MAX, &[&raw]);
            frames(framing, MAX, &[&counted]);
        }
        // Octet by octet and in a debug build a megabyte takes a tenth of a second; what is quadratic takes hours.
        assert!(started.elapsed() < Duration::from_secs(30), "{id} took {:?}", started.elapsed());
        checked += 1;
    }
    assert!(checked >= 15, "only {checked} rows were checked");
}

/// What the rows about streams demand, by the rows' names.
fn check_tcp(name: &str, raw: &[u8], found: &[(Vec<u8>, Option<Flaw>)]) {
    let frames: Vec<&[u8]> = found.iter().map(|(octets, _)| octets.as_slice()).collect();
    let line = raw.strip_suffix(b"\n").unwrap_or(raw);
    let after_count = raw.splitn(2, |octet| *octet == b' ').nth(1).unwrap_or_default();
    match name {
        "tls-hello" => assert!(looks_like_tls(raw)),
        "proxy-v1" => {
            let lines: Vec<&[u8]> = line.split(|octet| *octet == b'\n').map(<[u8]>::trim_ascii_end).collect();
            assert_eq!(frames, lines);
        }
        "oc-huge" | "oc-neg" | "oc-digit-tab" => assert_eq!(frames, [line]),
        // A PRI confirms the count: what came of the frame comes out when the stream ends.
        "oc-lie-long" => assert_eq!(frames, [after_count]),
        "oc-lie-short" => assert_eq!(frames, [&after_count[..5], after_count[5..].trim_ascii_end()]),
        "oc-one-byte" => assert_eq!(frames, [b"\n", b"\n", b"<"]),
        "lf-no-end" => {
            assert_eq!(frames, [&raw[..MAX]]);
            assert_eq!(found[0].1, Some(Flaw::Oversize));
        }
        _ => assert!(!found.is_empty(), "{name}"),
    }
}
