use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::fuzz::{fuzz, same};
use super::*;
use crate::syslog::{Clock, Message, parse};

const CLOCK: Clock = Clock { now_us: 1_767_225_600_000_000, year: 2026, month: 1, day: 1, offset_minutes: 60 };

const TYPICAL: [&[u8]; 3] = [
    b"<30>Jan  1 00:00:07 fw01 unbound[1234]: info: 192.0.2.17 www.example.org. A IN NOERROR 0.000021 0 83",
    b"<134>Jan  1 00:00:08 lb-3 haproxy[99]: 198.51.100.7:51612 [01/Jan/2026:00:00:08.123] https~ app/srv1 0/0/1/7/8 \
      200 1420 - - ---- 12/12/3/1/0 0/0 \"GET /index.html HTTP/1.1\" ua=\"curl/8\"",
    b"<86>Jan  1 00:00:08 host sshd[812]: Accepted publickey for root from 203.0.113.9 port 40122 ssh2: ED25519 SHA256:x",
];

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// As a shard collects them: some arrive together, from four devices.
fn typical(count: usize) -> Batch {
    let mut batch = Batch::default();
    for index in 0..count {
        let raw = TYPICAL[index % TYPICAL.len()];
        let fields = parse(raw, &CLOCK);
        let received_at_us = CLOCK.now_us + (index as i64 / 8) * 350;
        let peer = Some(IpAddr::from([10, 0, 0, (index / 5 % 4) as u8]));
        batch.push(&Message { fields: &fields, raw, received_at_us, peer, input: "" }, 1);
    }
    batch
}

fn round_trip(batch: &Batch, inputs: &[String]) -> Vec<u8> {
    let mut octets = Vec::new();
    encode(batch, inputs, &mut octets);
    let found = decode(&octets, inputs).expect("decoded");
    assert!(same(&found, batch, inputs), "{batch:?} {found:?}");
    octets
}

#[test]
fn typical_messages_cost_few_octets_more_than_their_own() {
    let inputs = names(&["lan", "wan"]);
    let batch = typical(400);
    let octets = round_trip(&batch, &inputs);
    let more = (octets.len() - batch.octets().len()) as f64 / batch.len() as f64;
    assert!(more <= 25.0, "{more} octets a record");
}

/// Every kind of frame, peer and arrival, through three inputs.
fn mixed(count: usize) -> Batch {
    let peers = [
        None,
        Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
        Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        Some(IpAddr::V6(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped())),
    ];
    let frames: [&[u8]; 10] = [
        b"<165>1 2003-10-11T22:14:15.003Z host app 8710 ID47 [a@1 b=\"c\"][d@2] text",
        b"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 app - - - text",
        b"<0>1 2026-01-01T00:00:60-00:00 - - - - -",
        b"<13>1 - - - - - -",
        b"<13>Oct 11 22:14:15 host app[1]: text",
        b"<13>Oct 11 22:14:15.123456 host app: text",
        b"<13>text alone",
        b"no PRI at all",
        b"<999>not one either",
        b"<191>",
    ];
    let mut batch = Batch::default();
    for index in 0..count {
        let raw = frames[index * 7 % frames.len()];
        let fields = parse(raw, &CLOCK);
        let received_at_us = [i64::MIN, -1, 0, 1, CLOCK.now_us, i64::MAX][index % 6];
        let peer = peers[index / 3 % peers.len()];
        batch.push(&Message { fields: &fields, raw, received_at_us, peer, input: "" }, (index / 5 % 3) as u16);
    }
    batch
}

#[test]
fn every_kind_of_message_survives() {
    let inputs = names(&["lan", "wan", "tls"]);
    round_trip(&mixed(200), &inputs);
    round_trip(&Batch::default(), &inputs);
    round_trip(&Batch::default(), &[]);
}

#[test]
fn inputs_are_found_by_name_where_the_configuration_still_has_them() {
    let mut octets = Vec::new();
    encode(&typical(10), &names(&["lan", "wan"]), &mut octets);
    let reordered = names(&["tls", "wan", "lan", "dmz"]);
    let found = decode(&octets, &reordered).expect("decoded");
    assert!(found.inputs.is_none());
    assert!(found.messages(&reordered).all(|message| message.input == "wan"));
}

#[test]
fn names_that_the_configuration_lost_are_kept_and_written_again() {
    let mut batch = typical(10);
    for index in 0..4 {
        let fields = parse(b"<13>x", &CLOCK);
        batch.push(&Message { fields: &fields, raw: b"<13>x", received_at_us: 0, peer: None, input: "" }, index % 2);
    }
    let (before, after) = (names(&["lan", "wan"]), names(&["wan", "dmz"]));
    let mut octets = Vec::new();
    encode(&batch, &before, &mut octets);
    let expected: Vec<String> = batch.messages(&before).map(|message| message.input.to_owned()).collect();
    for _ in 0..2 {
        let found = decode(&octets, &after).expect("decoded");
        assert!(found.inputs.is_some());
        let inputs: Vec<&str> = found.messages(&after).map(|message| message.input).collect();
        assert_eq!(inputs, expected);
        octets.clear();
        encode(&found, &after, &mut octets);
    }
}

#[test]
fn only_names_that_are_used_are_written() {
    let mut octets = Vec::new();
    encode(&typical(3), &names(&["unused", "used"]), &mut octets);
    assert!(memchr::memmem::find(&octets, b"unused").is_none());
    assert!(memchr::memmem::find(&octets, b"used").is_some());
}

#[test]
fn truncation_and_trailing_octets_are_refused() {
    let inputs = names(&["lan", "wan"]);
    let mut octets = Vec::new();
    encode(&typical(7), &inputs, &mut octets);
    for len in 0..octets.len() {
        assert!(decode(&octets[..len], &inputs).is_err(), "{len}");
    }
    octets.push(0);
    assert!(decode(&octets, &inputs).is_err());
}

#[test]
fn counts_are_not_believed_before_what_they_count_is_there() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let mut records = vec![VERSION];
    records.extend(huge);
    records.extend([0, 0]);
    assert_eq!(decode(&records, &[]).map(|_| ()), Err(Malformed::Length));
    let mut octets = vec![VERSION, 0];
    octets.extend(huge);
    octets.push(0);
    assert_eq!(decode(&octets, &[]).map(|_| ()), Err(Malformed::Length));
    let mut inputs = vec![VERSION, 0, 0];
    inputs.extend(huge);
    assert_eq!(decode(&inputs, &[]).map(|_| ()), Err(Malformed::Length));
}

#[test]
fn a_later_version_is_named() {
    assert_eq!(decode(&[VERSION + 1, 0, 0, 0], &[]).map(|_| ()), Err(Malformed::Version(VERSION + 1)));
}

#[test]
fn a_span_outside_its_record_becomes_the_empty_one_that_it_reads_as() {
    let fields = Fields { hostname: Some(Span { start: 3, len: u32::MAX }), after_pri: 99, ..Fields::default() };
    let mut batch = Batch::default();
    batch.push(&Message { fields: &fields, raw: b"short", received_at_us: 0, peer: None, input: "" }, 0);
    let mut octets = Vec::new();
    encode(&batch, &[], &mut octets);
    let found = decode(&octets, &[]).expect("decoded");
    assert_eq!(found.records()[0].fields().hostname, Some(Span::default()));
    assert_eq!(found.records()[0].fields().after_pri, 5);
}

#[test]
fn the_fuzzers_seeds_are_batches() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/spool_records");
    let mut found = 0;
    for entry in std::fs::read_dir(folder).expect("seeds") {
        let path = entry.expect("an entry").path();
        let octets = std::fs::read(&path).expect("octets");
        let batch = decode(&octets, &[]).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
        assert!(batch.len() >= 3);
        fuzz(&octets);
        found += 1;
    }
    assert_eq!(found, 2);
}

fn span(len: usize) -> impl Strategy<Value = Span> {
    (0..=len, 0..=len).prop_map(|(one, other)| Span::between(one.min(other), one.max(other)))
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    let date = (0..=9_999_u16, 1..=12_u8, 1..=28_u8);
    let time = (0..=23_u8, 0..=59_u8, 0..=60_u8);
    (date, time, 0..=6_u8, 0..1_000_000_u32, -1_439..1_440_i16, any::<[bool; 2]>()).prop_map(
        |(
            (year, month, day),
            (hour, minute, second),
            fraction_digits,
            fraction,
            offset_minutes,
            [zulu, minus_zero],
        )| {
            let fraction = fraction % 10_u32.pow(u32::from(fraction_digits));
            Timestamp {
                year,
                month,
                day,
                hour,
                minute,
                second,
                fraction_digits,
                fraction,
                offset_minutes,
                zulu,
                minus_zero,
            }
        },
    )
}

fn record() -> impl Strategy<Value = (Fields, Vec<u8>, i64, Option<IpAddr>, u16)> {
    vec(any::<u8>(), 0..300).prop_flat_map(|raw| {
        let len = raw.len();
        let maybe = move || option::of(span(len));
        let spans = (maybe(), span(len), maybe(), maybe(), maybe(), maybe(), span(len));
        let rest = (0..=191_u8, any::<bool>(), option::of(timestamp()), 0..=len);
        let fields = (spans, rest).prop_map(|(spans, (pri, rfc5424, timestamp, after_pri))| {
            let (hostname, tag, app_name, procid, msgid, structured_data, msg) = spans;
            let pri = Pri::new(pri).expect("a PRI");
            let protocol = if rfc5424 { Protocol::Rfc5424 } else { Protocol::Rfc3164 };
            let after_pri = after_pri as u32;
            Fields { pri, protocol, timestamp, hostname, tag, app_name, procid, msgid, structured_data, after_pri, msg }
        });
        (fields, Just(raw), any::<i64>(), any::<Option<IpAddr>>(), 0..3_u16)
    })
}

proptest! {
    #[test]
    fn any_records_round_trip(records in vec(record(), 0..12), own: bool) {
        let inputs = names(&["lan", "", "münchen"]);
        let mut batch = Batch::default();
        for (fields, raw, received_at_us, peer, input) in &records {
            let message = Message { fields, raw, received_at_us: *received_at_us, peer: *peer, input: "" };
            batch.push(&message, *input);
        }
        if own {
            batch.inputs = Some(Arc::from(names(&["another", "lan"])));
        }
        round_trip(&batch, &inputs);
    }

    #[test]
    fn arbitrary_octets_never_panic(mut octets in vec(any::<u8>(), 0..400), version: bool) {
        if let (true, Some(first)) = (version, octets.first_mut()) {
            *first = VERSION;
        }
        fuzz(&octets);
    }

    #[test]
    fn damaged_batches_never_panic(count in 0..6_usize, at: prop::sample::Index, octet: u8, bit in 0..8_u8) {
        let mut octets = Vec::new();
        encode(&typical(count), &names(&["lan", "wan"]), &mut octets);
        let at = at.index(octets.len());
        octets[at] ^= 1 << bit;
        fuzz(&octets);
        octets[at] = octet;
        fuzz(&octets);
    }
}
