use proptest::prelude::*;

use super::fuzz::{Owned, check, frames};
use super::{Decoder, Flaw, Framing, KEPT_CAPACITY_MAX, fuzz, looks_like_tls};

fn whole(framing: Framing, max: usize, stream: &[u8]) -> Owned {
    frames(framing, max, &[stream])
}

/// A row's expectation; `!` before a frame: oversize, `~`: unfinished.
fn expected(texts: &[&str]) -> Owned {
    let flaws = [('!', Flaw::Oversize), ('~', Flaw::Unfinished)];
    let one = |text: &&str| {
        let flaw = flaws.iter().find(|(mark, _)| text.starts_with(*mark)).map(|(_, flaw)| *flaw);
        (text.as_bytes()[usize::from(flaw.is_some())..].to_vec(), flaw)
    };
    texts.iter().map(one).collect()
}

/// Framing, maximum, stream, frames.
type Row = (Framing, usize, &'static str, &'static [&'static str]);

const STREAMS: &[Row] = {
    use Framing::{Auto, Lf, Nul, Octet};
    &[
        (Auto, 99, "", &[]),
        (Auto, 99, "<13>un\n<14>deux\n", &["<13>un", "<14>deux"]),
        (Auto, 99, "<13>un\r\n\r\n\n<14>deux\r", &["<13>un", "~<14>deux\r"]),
        (Auto, 99, "6 <13>un8 <14>deux", &["<13>un", "<14>deux"]),
        (Auto, 99, "6 <13>un\n<14>deux\n7 <15>un\n<16>x\n", &["<13>un", "<14>deux", "<15>un\n", "<16>x"]),
        (Auto, 99, "11 <13>un\ndeux<14>x\n", &["<13>un\ndeux", "<14>x"]),
        // Text that starts with digits.
        (Auto, 99, "31 days hath May\n<13>x\n", &["31 days hath May", "<13>x"]),
        (Auto, 9999, "1789 is when it began\n<13>x\n", &["1789 is when it began", "<13>x"]),
        (Auto, 99, "10.0.0.7 - - GET\n17\n<13>x\n18", &["10.0.0.7 - - GET", "17", "<13>x", "~18"]),
        (Auto, 99, "7\tx\n-5 <13>a\n7x\n", &["7\tx", "-5 <13>a", "7x"]),
        (Auto, 99, "5 golden rings were given\n", &["5 golden rings were given"]),
        (Auto, 99, "4 <b>bold</b>\n", &["4 <b>bold</b>"]),
        (Auto, 99, "3 <1> two\n", &["<1>", " two"]),
        (Auto, 99, "2 <1> two\n", &["2 <1> two"]),
        (Auto, 99, "0 <13>x\n07 <13>x\n", &["0 <13>x", "07 <13>x"]),
        (Auto, 99, "99999999999999999999999 <13>x\n<13>y\n", &["99999999999999999999999 <13>x", "<13>y"]),
        // Counted octets without a PRI: what stands at their end decides.
        (Auto, 99, "5 hello", &["hello"]),
        (Auto, 99, "5 hello\n5 hello\r\n6 hello\n<1>x\n", &["hello", "hello", "hello\n", "<1>x"]),
        (Auto, 99, "5 hello5 hello<13>x\n", &["hello", "hello", "<13>x"]),
        (Auto, 99, "5 hello5", &["~5 hello5"]),
        (Auto, 99, "5 hello<1", &["~5 hello<1"]),
        (Auto, 99, "5 hello\r", &["~5 hello\r"]),
        (Auto, 99, "5 hello\rx\n", &["5 hello\rx"]),
        (Auto, 99, "5 hello5hello\n", &["5 hello5hello"]),
        (Auto, 4, "5 hello<13>x\n<1>x\n", &["!5 he", "<1>x"]),
        // The stream ends inside a frame.
        (Auto, 99, "10 <13>un", &["~<13>un"]),
        (Auto, 99, "10 <13", &["~10 <13"]),
        (Auto, 99, "10 ", &["~10 "]),
        (Octet, 99, "10 ", &["~10 "]),
        (Octet, 99, "10", &["~10"]),
        // A NUL is text but where it is the trailer.
        (Auto, 99, "<13>a\0b\n", &["<13>a\0b"]),
        (Nul, 99, "<13>a\nb\0\0<14>c\n\0\n\x005 <13>a\0d", &["<13>a\nb", "<14>c", "5 <13>a", "~d"]),
        // LF and octet counting without the other.
        (Lf, 99, "6 <13>un\n17\n", &["6 <13>un", "17"]),
        (Octet, 99, "14 is one\ncount\n\n3 abcnext\n2 x", &["is one\ncount\n\n", "abc", "next", "~x"]),
        (Octet, 99, "5 hello3 abcgarbage\n1 z", &["hello", "abc", "garbage", "z"]),
        // Oversize: the rest of that frame is skipped, and nothing else.
        (
            Lf,
            8,
            "12345678\n12345678\r\n123456789\n12345678\ra\nx",
            &["12345678", "12345678", "!12345678", "!12345678", "~x"],
        ),
        (Lf, 8, "123456789", &["!12345678"]),
        (Lf, 8, "12345678\r", &["!12345678"]),
        (Octet, 8, "20 <13>456789012345678\n8 <13>abcd", &["!<13>4567", "<13>abcd"]),
        (Auto, 8, "20 <13>45678901234567893 <1>", &["!<13>4567", "<1>"]),
        (Auto, 8, "20 <13>45678", &["!<13>4567"]),
        (Nul, 8, "1234567\n90\0", &["!1234567\n"]),
        (Nul, 8, "12345678\n\0x\0", &["12345678", "x"]),
        // … cut at a UTF-8 boundary.
        (Lf, 4, "abcdé\n", &["!abcd"]),
        (Lf, 4, "abcé\n", &["!abc"]),
        (Lf, 4, "abéé\nab€€\na€b€\na😀b\n", &["!abé", "!ab", "!a€", "!a"]),
        (Octet, 4, "7 abé€5 a€x", &["!abé", "!a€"]),
        (Octet, 4, "6 abc€6 ab😀", &["!abc", "!ab"]),
    ]
};

#[test]
fn streams_come_apart_into_these_frames_however_they_are_cut() {
    for (framing, max, stream, texts) in STREAMS {
        let expected = expected(texts);
        let stream = stream.as_bytes();
        assert_eq!(
            whole(*framing, *max, stream),
            expected,
            "{framing:?} {max} {:?}",
            stream.escape_ascii().to_string()
        );
        let octets: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(
            frames(*framing, *max, &octets),
            expected,
            "octet by octet: {:?}",
            stream.escape_ascii().to_string()
        );
        for at in 0..stream.len() {
            let (first, second) = stream.split_at(at);
            assert_eq!(
                frames(*framing, *max, &[first, second]),
                expected,
                "cut at {at}: {:?}",
                stream.escape_ascii().to_string()
            );
        }
    }
}

#[test]
fn a_frame_inside_one_read_is_not_copied() {
    let stream = b"<13>one\n7 <13>two<13>part";
    let mut decoder = Decoder::new(Framing::Auto, 99);
    let mut input = &stream[..];
    for _ in 0..2 {
        let frame = decoder.next_frame(&mut input).unwrap();
        assert!(stream.as_ptr_range().contains(&frame.bytes.as_ptr()));
        assert_eq!(decoder.owned(), 0);
    }
    assert_eq!(decoder.next_frame(&mut input), None);
    assert!(decoder.owned() >= 8);
}

#[test]
fn a_big_buffer_is_given_back_once_it_is_empty() {
    let mut decoder = Decoder::new(Framing::Auto, 1 << 20);
    let long = vec![b'x'; 1 << 19];
    assert_eq!(decoder.next_frame(&mut &long[..]), None);
    assert!(decoder.owned() >= long.len());
    let mut input = &b"\n<13>next\n"[..];
    assert_eq!(decoder.next_frame(&mut input).unwrap().bytes.len(), long.len());
    assert_eq!(decoder.next_frame(&mut input).unwrap().bytes, b"<13>next");
    assert_eq!(decoder.next_frame(&mut input), None);
    assert_eq!(decoder.owned(), 0);
}

#[test]
fn an_extreme_maximum_is_no_trouble() {
    let stream = b"18446744073709551615 x\n9 hello\n99999999999999999999 <13>y\n";
    for max in [0, 1, usize::MAX] {
        let found = whole(Framing::Auto, max.min(1 << 30), stream);
        let mut decoder = Decoder::new(Framing::Auto, max);
        let mut frames = 0;
        for octet in stream.chunks(1) {
            let mut input = octet;
            while decoder.next_frame(&mut input).is_some() {
                frames += 1;
            }
        }
        assert_eq!((frames, decoder.finish()), (found.len(), None));
    }
}

#[test]
fn a_declared_count_allocates_nothing() {
    let mut decoder = Decoder::new(Framing::Auto, 1 << 20);
    assert_eq!(decoder.next_frame(&mut &b"1000000 <13>x"[..]), None);
    assert!(decoder.owned() < 100);
}

#[test]
fn kept_octets_come_before_what_is_read_next_and_are_not_held_longer_than_needed() {
    let mut decoder = Decoder::new(Framing::Auto, 99);
    let many = b"<13>one\n".repeat(1000);
    decoder.keep(&many);
    decoder.keep(b"<13>tw");
    let mut input = &b"o\n<13>three\n"[..];
    for _ in 0..1000 {
        assert_eq!(decoder.next_frame(&mut input).unwrap().bytes, b"<13>one");
    }
    assert_eq!(decoder.next_frame(&mut input).unwrap().bytes, b"<13>two");
    assert!(decoder.owned() <= KEPT_CAPACITY_MAX);
    assert_eq!(decoder.next_frame(&mut input).unwrap().bytes, b"<13>three");
    decoder.keep(b"<13>four\n<13>five");
    assert_eq!(decoder.finish().unwrap().bytes, b"<13>four");
    assert_eq!(decoder.finish().unwrap().bytes, b"<13>five");
    assert_eq!(decoder.finish(), None);
}

#[test]
fn octets_kept_while_a_cut_frame_is_skipped_are_skipped_too() {
    let mut decoder = Decoder::new(Framing::Lf, 4);
    assert_eq!(decoder.next_frame(&mut &b"abcdefgh"[..]).unwrap().flaw, Some(Flaw::Oversize));
    decoder.keep(b"ijkl");
    decoder.keep(b"mn\nx\n");
    assert_eq!(decoder.finish().unwrap().bytes, b"x");
    assert_eq!(decoder.finish(), None);
}

#[test]
fn a_tls_client_on_a_plain_port_is_recognised() {
    assert!(looks_like_tls(&[0x16, 0x03, 0x01, 0x02, 0x00]));
    assert!(!looks_like_tls(b"<13>x") && !looks_like_tls(&[0x16, 0x03]) && !looks_like_tls(&[0x16, 0x02, 0x01]));
}

/// Streams that mix both framings with all that could be taken for the other.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let text = proptest::collection::vec(
        prop_oneof![4 => proptest::char::range('a', 'f').prop_map(|c| c as u8), 1 => Just(b'\n'), 1 => Just(b'\0'), 1 => Just(b'\r'),
            1 => Just(b' '), 1 => Just(b'<'), 1 => Just(b'>'), 2 => proptest::char::range('0', '9').prop_map(|c| c as u8),
            1 => any::<u8>()],
        0..30,
    );
    let piece = (text, 0_u8..9, 0_usize..40).prop_map(|(text, kind, lie)| match kind {
        0 => [text, b"\n".to_vec()].concat(),
        1 => [b"<13>".to_vec(), text, b"\r\n".to_vec()].concat(),
        2 => [format!("{} <9>", text.len() + 3).into_bytes(), text].concat(),
        3 => [format!("{} ", text.len()).into_bytes(), text].concat(),
        4 => [format!("{} ", text.len() + 1).into_bytes(), text, b"\n".to_vec()].concat(),
        5 => [format!("{lie} ").into_bytes(), text].concat(),
        6 => [format!("{lie} <13>").into_bytes(), text, b"\n".to_vec()].concat(),
        7 => [b"\xF0\x9F\x98\x80\xC3\xA9".to_vec(), text, b"\0".to_vec()].concat(),
        _ => text,
    });
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn frames_are_the_same_under_any_split_and_uncut_no_octet_is_lost(
        stream in stream(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        keeps in proptest::collection::vec(any::<bool>(), 13),
        max in 1_usize..40,
        framing in prop::sample::select(vec![Framing::Auto, Framing::Octet, Framing::Lf, Framing::Nul]),
    ) {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        at.extend([0, stream.len()]);
        at.sort_unstable();
        let reads: Vec<(&[u8], bool)> = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).zip(keeps).collect();
        check(framing, max, &reads);
    }

    #[test]
    fn any_octets_for_the_fuzzer_hold(data in proptest::collection::vec(any::<u8>(), 0..100)) {
        fuzz(&data);
    }
}
