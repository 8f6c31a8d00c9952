use proptest::prelude::*;

use super::{Command, Deframer, Encoder, Frame, FrameError, decode, encode};

/// Data that a decoder takes here.
const MAX: usize = 10;

/// A frame with what is behind it.
type Row = (&'static str, u32, Option<Command>, &'static str, &'static str);

#[test]
fn frames_come_apart_as_librelp_takes_them() {
    // The specification's "RELP frame", and the states of relpFrameProcessOctetRcvd.
    let rows: [Row; 14] = [
        ("1 open 4 a=b\n\n", 1, Some(Command::Open), "a=b\n", ""),
        ("2 syslog 5 hello\n3 sys", 2, Some(Command::Syslog), "hello", "3 sys"),
        ("2 syslog 10 0123456789\n", 2, Some(Command::Syslog), "0123456789", ""),
        ("3 close 0\n", 3, Some(Command::Close), "", ""),
        ("0 serverclose 0\nrest", 0, Some(Command::Serverclose), "", "rest"),
        ("999999999 rsp 6 200 OK\n", 999_999_999, Some(Command::Rsp), "200 OK", ""),
        // Data is octets: nothing in it ends it.
        ("2 syslog 6 \n0 a \n\n", 2, Some(Command::Syslog), "\n0 a \n", ""),
        ("2 syslog 1  \n", 2, Some(Command::Syslog), " ", ""),
        // Leading zeros.
        ("000000007 rsp 000000002 ab\n", 7, Some(Command::Rsp), "ab", ""),
        // No DATALEN is no data.
        ("4 close \n", 4, Some(Command::Close), "", ""),
        ("4 syslog 000\n", 4, Some(Command::Syslog), "", ""),
        // Unknown commands, of which one has no letters; names are told apart by case.
        ("4  0\n", 4, None, "", ""),
        ("4 SYSLOG 1 a\n", 4, None, "a", ""),
        ("4 abcdefghijklmnopqrstuvwxyzabcdef 1 a\n", 4, None, "a", ""),
    ];
    for (octets, txnr, command, data, rest) in rows {
        let (frame, taken) = decode(octets.as_bytes(), MAX).unwrap().unwrap_or_else(|| panic!("{octets:?}"));
        assert_eq!(frame, Frame { txnr, command, data: data.as_bytes(), is_cut: false }, "{octets:?}");
        assert_eq!(&octets.as_bytes()[taken..], rest.as_bytes(), "{octets:?}");
        for end in 0..taken {
            assert_eq!(decode(&octets.as_bytes()[..end], MAX), Ok(None), "{octets:?} up to {end}");
        }
    }
}

#[test]
fn what_librelp_does_not_take_is_an_error_as_soon_as_it_shows() {
    let rows = [
        (" 1 rsp 0\n", 1, FrameError::Txnr),
        ("\n", 1, FrameError::Txnr),
        ("<13>", 1, FrameError::Txnr),
        ("-1 rsp 0\n", 1, FrameError::Txnr),
        ("1\tr", 2, FrameError::Txnr),
        ("1000000000 rsp 0\n", 10, FrameError::Txnr),
        ("0000000001 rsp 0\n", 10, FrameError::Txnr),
        ("1 rsp1 0\n", 6, FrameError::Command),
        ("1 r\u{e9} 0\n", 4, FrameError::Command),
        ("1 abcdefghijklmnopqrstuvwxyzabcdefg", 35, FrameError::Command),
        ("1 rsp -", 7, FrameError::DataLen),
        ("1 rsp 5\n", 8, FrameError::DataLen),
        ("1 rsp 0 \n", 8, FrameError::DataLen),
        ("1 rsp  \n", 7, FrameError::DataLen),
        ("1 rsp 0\r\n", 8, FrameError::DataLen),
        ("1 rsp 1000000000", 16, FrameError::DataLen),
        ("1 rsp 2 abc\n", 11, FrameError::Trailer),
        ("1 rsp 2 ab\r\n", 11, FrameError::Trailer),
        ("1 rsp 11 ", 9, FrameError::TooLong { txnr: 1, command: Some(Command::Rsp), header_len: 9, data_len: 11 }),
        (
            "7 syslog 999999999 ",
            19,
            FrameError::TooLong { txnr: 7, command: Some(Command::Syslog), header_len: 19, data_len: 999_999_999 },
        ),
    ];
    for (octets, shows_at, error) in rows {
        let octets = octets.as_bytes();
        assert_eq!(decode(octets, MAX), Err(error), "{octets:?}");
        assert_eq!(decode(&octets[..shows_at], MAX), Err(error), "{octets:?}");
        assert_eq!(decode(&octets[..shows_at - 1], MAX), Ok(None), "{octets:?}");
    }
}

/// The frames of these reads: number, data, cut.
fn frames(deframer: &mut Deframer, reads: &[&str]) -> Result<Vec<(u32, String, bool)>, FrameError> {
    let mut found = Vec::new();
    for read in reads {
        let mut input = read.as_bytes();
        while let Some(frame) = deframer.next_frame(&mut input)? {
            found.push((frame.txnr, String::from_utf8(frame.data.to_vec()).unwrap(), frame.is_cut));
        }
        assert!(input.is_empty());
    }
    Ok(found)
}

#[test]
fn a_message_that_is_too_long_is_cut_between_characters_and_the_next_one_is_whole() {
    let rows: [(&[&str], &str); 4] = [
        (&["2 syslog 12 0123456789ab\n3 syslog 1 x\n"], "0123456789"),
        (&["2 sys", "log 12 01234", "5678", "9ab", "\n", "3 syslog 1 x\n"], "0123456789"),
        (&["2 syslog 11 012345678\u{e9}\n3 syslog 1 x\n"], "012345678"),
        (&["2 syslog 12 01234567\u{e9}ab\n", "3 syslog 1 x\n"], "01234567\u{e9}"),
    ];
    for (reads, data) in rows {
        let expected = vec![(2, data.to_owned(), true), (3, "x".to_owned(), false)];
        assert_eq!(frames(&mut Deframer::new(MAX), reads), Ok(expected), "{reads:?}");
    }
    let found = frames(&mut Deframer::new(MAX), &["2 syslog 12 0123456789ab", "c"]);
    assert_eq!(found, Err(FrameError::Trailer), "no LF behind what was skipped");
}

#[test]
fn a_declared_length_takes_no_memory_and_a_skipped_one_no_more_than_the_maximum() {
    let mut deframer = Deframer::new(1 << 20);
    assert_eq!(frames(&mut deframer, &["2 syslog 1000000 abc"]), Ok(vec![]));
    assert!(deframer.owned() < 100 && deframer.is_partial(), "{}", deframer.owned());
    let mut deframer = Deframer::new(MAX);
    assert_eq!(frames(&mut deframer, &["2 syslog 900000000 "]), Ok(vec![]));
    let piece = "a".repeat(1 << 16);
    for _ in 0..100 {
        assert_eq!(frames(&mut deframer, &[&piece]), Ok(vec![]));
        assert!(deframer.owned() < 100 && deframer.is_partial(), "{}", deframer.owned());
    }
}

#[test]
fn what_is_kept_comes_out_in_front_of_what_is_read_next() {
    let mut deframer = Deframer::new(MAX);
    deframer.keep(b"2 syslog 1 a\n3 syslog 12 012345");
    deframer.keep(b"6789");
    assert!(deframer.is_partial());
    let expected = [(2, "a", false), (3, "0123456789", true), (4, "b", false)];
    let expected = expected.map(|(txnr, data, is_cut)| (txnr, data.to_owned(), is_cut)).to_vec();
    assert_eq!(frames(&mut deframer, &["", "ab\n4 syslog 1 b\n"]), Ok(expected));
    assert!(!deframer.is_partial());
}

#[test]
fn frames_rendered_in_place_are_those_written_whole() {
    let (mut encoder, mut rendered, mut written) = (Encoder::new(), Vec::new(), Vec::new());
    for (at, len) in [0, 1, 9, 10, 99, 100, 100_000, 5, 0, 250].into_iter().enumerate() {
        let (txnr, data) = (at as u32 * 50_000, vec![b'x'; len]);
        let mark = encoder.begin(txnr, Command::Syslog, &mut rendered);
        rendered.extend_from_slice(&data);
        assert_eq!(encoder.end(mark, &mut rendered), len);
        encode(txnr, Command::Syslog, &data, &mut written);
    }
    assert_eq!(rendered, written);
    assert!(written.starts_with(b"0 syslog 0\n50000 syslog 1 x\n"));
}

proptest! {
    #[test]
    fn any_octets_are_frames_or_none(octets in proptest::collection::vec(any::<u8>(), 0..80), max in 0_usize..40) {
        if let Ok(Some((frame, taken))) = decode(&octets, max) {
            prop_assert!(frame.data.len() <= max && taken <= octets.len());
        }
    }

    #[test]
    fn any_octets_behind_a_header_are_frames_or_none(
        txnr in "[0-9]{1,10}", command in "[a-z]{0,33}", len in "[0-9]{0,3}", rest in "[ \n][ -z\n]{0,40}",
    ) {
        let octets = format!("{txnr} {command} {len}{rest}");
        if let Ok(Some((frame, taken))) = decode(octets.as_bytes(), 100) {
            prop_assert_eq!(frame.txnr, txnr.parse::<u32>().unwrap());
            prop_assert_eq!(frame.data.len(), len.parse::<usize>().unwrap_or(0));
            prop_assert_eq!(octets.as_bytes()[taken - 1], b'\n');
        }
    }

    #[test]
    fn what_is_written_is_read(
        txnr in 0_u32..=999_999_999, command in 0_usize..5, data in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let commands = [Command::Open, Command::Syslog, Command::Close, Command::Rsp, Command::Serverclose];
        let mut out = Vec::new();
        encode(txnr, commands[command], &data, &mut out);
        let frame = Frame { txnr, command: Some(commands[command]), data: &data, is_cut: false };
        prop_assert_eq!(decode(&out, data.len()), Ok(Some((frame, out.len()))));
    }
}
