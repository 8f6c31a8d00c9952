//! What a tap sees of messages that pass, and what it misses.

use std::net::IpAddr;
use std::time::Duration;

use memchr::memmem::Finder;

use super::*;
use crate::route::Name;
use crate::syslog::{Clock, Message, parse};

const NOW_US: i64 = 1_795_348_800_000_000;

fn with_message(raw: &str, peer: Option<IpAddr>, then: impl FnOnce(&Message<'_>)) {
    let clock = Clock { now_us: NOW_US, year: 2026, month: 11, day: 22, offset_minutes: 0 };
    let fields = parse(raw.as_bytes(), &clock);
    then(&Message { fields: &fields, raw: raw.as_bytes(), received_at_us: NOW_US, peer, input: "lan" });
}

/// `count` messages of a program arrive in one turn.
fn arrive(taps: &Taps, count: usize, program: &str, fate: Fate, routes: &[u16]) {
    let Some(mut look) = taps.look(Side::Received, NOW_US) else { return };
    for number in 0..count {
        let raw = format!("<13>Nov 22 10:11:12 gate {program}: number {number}");
        with_message(&raw, Some("192.0.2.7".parse().unwrap()), |message| look.received(message, 0, fate, routes));
    }
}

fn seen(listener: &mut Listener) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(sample) = listener.next_sample() {
        assert_eq!(sample.marks.len(), sample.batch.len());
        texts.extend(sample.batch.messages(&[]).map(|message| String::from_utf8_lossy(message.msg()).into_owned()));
    }
    texts
}

#[test]
fn nobody_is_shown_anything_until_somebody_looks() {
    let taps = Arc::new(Taps::default());
    assert!(!taps.is_watched(Side::Received) && taps.look(Side::Received, NOW_US).is_none());
    let mut listener = taps.open(Side::Received, Filter::default(), 10).unwrap();
    assert!(taps.is_watched(Side::Received) && !taps.is_watched(Side::Sent));
    arrive(&taps, 2, "sshd", Fate::Unmatched, &[]);
    assert_eq!(seen(&mut listener), [" number 0", " number 1"]);
    assert_eq!((listener.missed(), listener.passed()), (0, 2));
    drop(listener);
    assert!(!taps.is_watched(Side::Received) && taps.look(Side::Received, NOW_US).is_none());
}

#[test]
fn all_that_passes_is_shown_or_counted_as_missed() {
    let taps = Arc::new(Taps::default());
    let mut listener = taps.open(Side::Received, Filter::default(), 10).unwrap();
    arrive(&taps, 25, "sshd", Fate::Routed, &[0]);
    assert_eq!((seen(&mut listener).len(), listener.missed(), listener.passed()), (10, 15, 25));
    assert_eq!(listener.missed(), 0, "told once");
    arrive(&taps, 3, "sshd", Fate::Routed, &[0]);
    assert_eq!((seen(&mut listener).len(), listener.missed()), (0, 3), "the second is spent");
}

#[test]
fn of_too_many_a_fair_part_is_shown() {
    let taps = Arc::new(Taps::default());
    let mut listener = taps.open(Side::Received, Filter::default(), 1_000).unwrap();
    arrive(&taps, 1_000, "sshd", Fate::Routed, &[0]);
    assert_eq!(seen(&mut listener).len(), 1_000);
    // Thousands a second came: of the next, one in some is looked at.
    listener.adjust(Instant::now() + Duration::from_millis(250));
    assert_eq!(listener.tap.stride.load(Relaxed), 4);
    assert_eq!(listener.missed(), 0);
    let mut look = taps.look(Side::Received, NOW_US + 1_000_000).unwrap();
    for number in 0..40 {
        with_message(&format!("<13>{number}"), None, |message| look.received(message, 0, Fate::Routed, &[0]));
    }
    drop(look);
    assert_eq!((seen(&mut listener).len(), listener.missed()), (10, 30));
    listener.adjust(Instant::now() + Duration::from_secs(60));
    assert_eq!(listener.tap.stride.load(Relaxed), 1);
}

#[test]
fn what_is_not_taken_away_is_missed_and_takes_no_more_memory() {
    let taps = Arc::new(Taps::default());
    let mut listener = taps.open(Side::Received, Filter::default(), 1_000).unwrap();
    for _ in 0..SAMPLES_MAX + 5 {
        arrive(&taps, 1, "sshd", Fate::Routed, &[0]);
    }
    assert_eq!((listener.missed(), seen(&mut listener).len()), (5, SAMPLES_MAX));
    let huge = format!("<13>{}", "x".repeat(WAITING_BYTES_MAX / 2));
    let mut look = taps.look(Side::Received, NOW_US).unwrap();
    for _ in 0..4 {
        with_message(&huge, None, |message| look.received(message, 0, Fate::Routed, &[0]));
    }
    drop(look);
    assert_eq!((seen(&mut listener).len(), listener.missed()), (1, 3));
    assert_eq!(listener.tap.waiting_bytes.load(Relaxed), 0);
}

#[test]
fn a_filter_takes_what_it_asks_for() {
    let (net, other) = ("192.0.2.0/24".parse().unwrap(), "10.0.0.0/8".parse().unwrap());
    let rows: [(Filter, usize); 8] = [
        (Filter::default(), 3),
        (Filter { programs: vec![Name::parse("ss*").unwrap()], ..Filter::default() }, 2),
        (Filter { peers: vec![other, net], ..Filter::default() }, 3),
        (Filter { peers: vec![other], ..Filter::default() }, 0),
        (Filter { text: Some(Finder::new(b"number 1").into_owned()), ..Filter::default() }, 1),
        (Filter { routes: Some(vec![false, true]), ..Filter::default() }, 2),
        (Filter { routes: Some(vec![true, false]), ..Filter::default() }, 0),
        (Filter { routes: Some(vec![]), ..Filter::default() }, 0),
    ];
    for (filter, expected) in rows {
        let shown = format!("{filter:?}");
        let taps = Arc::new(Taps::default());
        let mut listener = taps.open(Side::Received, filter, 1_000).unwrap();
        arrive(&taps, 2, "sshd", Fate::Routed, &[1]);
        arrive(&taps, 1, "cron", Fate::Unmatched, &[]);
        assert_eq!(seen(&mut listener).len(), expected, "{shown}");
        assert_eq!((listener.missed(), listener.passed()), (0, 3), "{shown}");
    }
}

#[test]
fn a_batch_that_is_sent_is_seen_by_those_who_look_at_its_route() {
    let taps = Arc::new(Taps::default());
    let mut all = taps.open(Side::Sent, Filter::default(), 1_000).unwrap();
    let one = Filter { routes: Some(vec![true, false]), ..Filter::default() };
    let mut one = taps.open(Side::Sent, one, 1_000).unwrap();
    let mut batch = Batch::default();
    for number in 0..3 {
        with_message(&format!("<13>Nov 22 10:11:12 gate app: {number}"), None, |message| batch.push(message, 0));
    }
    let mut look = taps.look(Side::Sent, NOW_US).unwrap();
    look.sent(1, &batch, &["lan".to_owned()]);
    drop(look);
    let sample = all.next_sample().unwrap();
    assert_eq!(sample.marks, [Mark { fate: Fate::Routed, routes: 1 }; 3]);
    assert_eq!((sample.routes, one.next_sample().is_none(), one.passed()), (vec![1; 3], true, 0));
}

#[test]
fn there_is_a_most_of_taps_and_none_once_the_relay_stops() {
    let taps = Arc::new(Taps::default());
    let open = || taps.open(Side::Sent, Filter::default(), 1);
    let mut listeners: Vec<Listener> = (0..TAPS_MAX).map(|_| open().unwrap()).collect();
    assert_eq!(open().unwrap_err(), Refused::TooMany);
    listeners.pop();
    listeners.push(open().unwrap());
    taps.close();
    listeners.clear();
    assert_eq!(open().unwrap_err(), Refused::Stopping);
    assert!(!taps.is_watched(Side::Sent));
}
