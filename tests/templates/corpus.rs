//! Templates against the shared corpus, where it lies beside this repository.

use forebay::syslog::{self, Clock};
use forebay::template::Template;
use jiff::tz::TimeZone;

use crate::render_at;

/// The corpus is not a part of this repository.
fn corpus() -> Option<Vec<serde_json::Value>> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").to_owned();
    let path = std::env::var("FOREBAY_SHARED").unwrap_or(beside) + "/corpus/templates.jsonl";
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: {path} is not there");
        return None;
    };
    let rows: Vec<_> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!rows.is_empty(), "{path} has no rows");
    Some(rows)
}

/// A row's octets.
fn octets(row: &serde_json::Value, key: &str) -> Option<Vec<u8>> {
    let text = row[key].as_str()?;
    let mut out = Vec::new();
    let mut bits = 0_u32;
    let mut count = 0;
    for symbol in text.bytes().filter(|symbol| *symbol != b'=') {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        bits = bits << 6 | alphabet.iter().position(|known| *known == symbol).unwrap() as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

/// The zone and the moment that a row wants; else a moment of the year in which the corpus was recorded.
fn moment(row: &serde_json::Value) -> (TimeZone, Clock) {
    let zone = row["tz"].as_str().map_or(TimeZone::UTC, |tz| TimeZone::posix(tz.split(' ').next().unwrap()).unwrap());
    let text = row["clock"].as_str().map_or("2026-11-22 12:00:00", |text| text.trim_end_matches(" local"));
    let local: jiff::civil::DateTime = text.parse().unwrap();
    let now = local.to_zoned(zone.clone()).unwrap();
    let clock = Clock {
        now_us: now.timestamp().as_microsecond(),
        year: now.year().try_into().unwrap(),
        month: now.month().try_into().unwrap(),
        day: now.day().try_into().unwrap(),
        offset_minutes: (now.offset().seconds() / 60).try_into().unwrap(),
    };
    (zone, clock)
}

/// Differences that are meant, by row.
fn exception(id: &str) -> Option<&'static str> {
    match id {
        "tp-badre" => Some("a bad regular expression is a mistake of the configuration, not a text to forward"),
        "ts-sekoia-12" => Some("a PRI that is not valid is 13 (RFC 3164 section 4.3.3), never the text invld"),
        _ => None,
    }
}

#[test]
fn the_corpus_renders_as_it_says() {
    let Some(rows) = corpus() else { return };
    let mut tried = 0;
    let mut wrong = Vec::new();
    for row in &rows {
        let id = row["id"].as_str().unwrap();
        let has = |key: &str| !row[key].is_null();
        if row["kind"] != "string" || has("vars") || has("glob") || has("tplopt") {
            continue;
        }
        if let Some(reason) = exception(id) {
            println!("{id}: {reason}");
            continue;
        }
        tried += 1;
        let source = row["template"].as_str().unwrap();
        let template = match (Template::compile(source), octets(row, "expect_b64")) {
            (Ok(template), Some(_)) => template,
            (Err(_), None) => continue,
            (compiled, expected) => {
                wrong.push(format!("{id}: {compiled:?}, expected {expected:?}"));
                continue;
            }
        };
        let (zone, clock) = moment(row);
        let frame = octets(row, "message_b64").unwrap();
        let mut scratch = Vec::new();
        let frame = syslog::sanitize(&frame, &mut scratch);
        let input = row["inputname"].as_str().unwrap_or("imtcp");
        let ours = render_at(&template, frame, &clock, zone, input);
        let reception =
            if source.contains("date-rfc3339") { "2026-11-22T12:00:00.000000+00:00" } else { "Nov 22 12:00:00" };
        let expected = octets(row, "expect_b64").unwrap();
        let expected = String::from_utf8_lossy(&expected).replace("@@TIMEGENERATED@@", reception);
        if ours != expected.as_bytes() {
            wrong.push(format!(
                "{id}: {source}\n    ours {}\n    want {}",
                ours.escape_ascii(),
                expected.escape_debug()
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {tried} rows differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried > 50, "only {tried} rows were tried");
}
