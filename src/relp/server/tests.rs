use proptest::prelude::*;

use super::super::fuzz::server_holds;
use super::super::{TXNR_MAX, fuzz};
use super::{Event, Server, ServerError, State, acknowledge, closed};
use crate::relp::frame::FrameError;

const OPEN: &str = "1 open 68 relp_version=0\nrelp_software=librelp,1.11.0,http://x\ncommands=syslog\n";

/// All events of what is received, and what is answered.
fn receive(server: &mut Server, received: &str) -> (Vec<String>, String, Result<(), ServerError>) {
    let (mut input, mut out, mut events) = (received.as_bytes(), Vec::new(), Vec::new());
    let end = loop {
        match server.next_event(&mut input, &mut out) {
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
            Ok(Some(Event::Message { txnr, frame })) => {
                let text = String::from_utf8_lossy(frame.bytes);
                events.push(format!("{txnr} {text}{}", if frame.flaw.is_some() { " cut" } else { "" }));
            }
            Ok(Some(event)) => events.push(format!("{event:?}")),
        }
    };
    (events, String::from_utf8(out).unwrap(), end)
}

/// One that has answered `open`.
fn open() -> Server {
    let mut server = Server::new(16);
    let (events, answer, end) = receive(&mut server, OPEN);
    assert_eq!(events, [r#"Opened { software: "librelp,1.11.0,http://x" }"#]);
    let offers =
        format!("200 OK\nrelp_version=0\nrelp_software=forebay,{}\ncommands=syslog", env!("CARGO_PKG_VERSION"));
    assert_eq!((answer, end), (format!("1 rsp {} {offers}\n", offers.len()), Ok(())));
    server
}

#[test]
fn messages_come_with_their_numbers_and_are_answered_in_any_order() {
    let mut server = open();
    let (events, said, end) =
        receive(&mut server, "2 syslog 5 <1> a\n3 syslog 0\n4 syslog 20 0123456789abcdefghij\n5 sys");
    assert_eq!(events, ["2 <1> a", "3 ", "4 0123456789abcdef cut"]);
    assert_eq!((said.as_str(), end, server.is_partial()), ("", Ok(()), true));
    let mut out = Vec::new();
    acknowledge(4, &mut out);
    acknowledge(2, &mut out);
    assert_eq!(out, b"4 rsp 6 200 OK\n2 rsp 6 200 OK\n");
    assert_eq!(receive(&mut server, "log 1 x\n").0, ["5 x"]);
}

#[test]
fn offers_are_taken_as_librelp_takes_them() {
    let refused = |answer: &str, error| (format!("1 rsp {} {answer}\n", answer.len()), Err(error));
    let no_version = || refused("500 relp_version is not a number", ServerError::Version);
    let no_syslog = || refused("500 required command not supported by client", ServerError::NoSyslog);
    let rows = [
        // A later version is answered with ours.
        ("relp_version=1\ncommands=syslog", None),
        ("commands=syslog", None),
        ("starttls=1\nrelp_version=0\ncommands=eventlog,syslog\n\nnonsense", None),
        ("relp_version=zero\ncommands=syslog", Some(no_version())),
        ("relp_version=0,1\ncommands=syslog", Some(no_version())),
        ("relp_version\ncommands=syslog", Some(no_version())),
        ("relp_version=0\ncommands=eventlog", Some(no_syslog())),
        ("relp_version=0", Some(no_syslog())),
    ];
    for (offers, expected) in rows {
        let mut server = Server::new(16);
        let (events, said, end) = receive(&mut server, &format!("1 open {} {offers}\n", offers.len()));
        match expected {
            None => {
                assert_eq!((events.len(), end), (1, Ok(())), "{offers:?}");
                assert!(said.contains(" 200 OK\nrelp_version=0\n"), "{offers:?}: {said:?}");
            }
            Some(expected) => assert_eq!((said, end, events.len()), (expected.0, expected.1, 0), "{offers:?}"),
        }
    }
}

#[test]
fn close_is_answered_as_librelp_answers_it() {
    let mut server = open();
    let (events, said, end) = receive(&mut server, "2 syslog 1 a\n3 close 0\n");
    assert_eq!((events.last().map(String::as_str), said.as_str(), end), (Some("Close { txnr: 3 }"), "", Ok(())));
    let mut out = Vec::new();
    closed(3, &mut out);
    assert_eq!(out, b"3 rsp 0\n0 serverclose 0\n");
    assert_eq!(receive(&mut server, "4 syslog 1 a\n").2, Err(ServerError::Closed));
}

#[test]
fn what_means_nothing_is_answered_and_ignored() {
    for (received, answer) in [
        ("2 eventlog 1 a\n", "2 rsp 19 500 unknown command\n"),
        ("2  0\n", "2 rsp 19 500 unknown command\n"),
        ("0 abort 0\n", ""),
        ("0 serverclose 0\n", ""),
    ] {
        let (events, said, end) = receive(&mut open(), received);
        assert_eq!((said.as_str(), end), (answer, Ok(())), "{received:?}");
        assert!(matches!(&events[..], [event] if event.starts_with("Ignored")), "{received:?}: {events:?}");
    }
}

#[test]
fn what_is_against_the_protocol_ends_the_connection() {
    let txnr = |expected, found| ServerError::Txnr { expected, found };
    for (received, error) in [
        ("1 syslog 1 a\n", txnr(2, 1)),
        ("3 syslog 1 a\n", txnr(2, 3)),
        ("0 syslog 1 a\n", txnr(1, 0)),
        ("2 syslog 1 a\n2 syslog 1 a\n", txnr(3, 2)),
        ("2 rsp 6 200 OK\n", ServerError::Answer),
        ("0 rsp 6 200 OK\n", ServerError::Answer),
        ("<13>no RELP\n", ServerError::Frame(FrameError::Txnr)),
    ] {
        assert_eq!(receive(&mut open(), received).2, Err(error), "{received:?}");
    }
    let twice = receive(&mut open(), "2 open 3 a=b\n3 syslog 1 a\n");
    let answer = "2 rsp 43 500 protocol error: connection already open\n".to_owned();
    assert_eq!(twice, (vec![], answer, Err(ServerError::OpenTwice)));
    for received in ["1 syslog 1 a\n", "1 close 0\n", "1 eventlog 0\n"] {
        assert_eq!(receive(&mut Server::new(16), received), (vec![], String::new(), Err(ServerError::NotOpen)));
    }
    let too_long = receive(&mut open(), "2 close 16385 ").2;
    assert!(matches!(too_long, Err(ServerError::Frame(FrameError::TooLong { data_len: 16_385, .. }))), "{too_long:?}");
}

#[test]
fn offers_may_be_longer_than_a_message() {
    let (events, _, end) = receive(&mut Server::new(1), OPEN);
    assert_eq!((events.len(), end), (1, Ok(())));
}

#[test]
fn numbers_go_round_at_nine_digits() {
    let mut server = Server { next: TXNR_MAX, state: State::Open, ..Server::new(16) };
    let (events, _, end) = receive(&mut server, "999999999 syslog 1 a\n1 syslog 1 b\n2 syslog 1 c\n");
    assert_eq!((events, end), (vec!["999999999 a".to_owned(), "1 b".to_owned(), "2 c".to_owned()], Ok(())));
}

/// Commands as a client may send them, and some as none does.
fn commands() -> impl Strategy<Value = String> {
    let command = prop_oneof![
        8 => "[ -z\n\u{e9}]{1,30}".prop_map(|text| format!("syslog {} {text}\n", text.len())),
        1 => Just("syslog 0\n".to_owned()),
        1 => Just("close 0\n".to_owned()),
        1 => "[a-z]{1,9} 2 ab\n",
        1 => "[a-z]{0,9} [0-9]{0,3}[ \n]{0,2}",
    ];
    proptest::collection::vec(command, 0..10).prop_map(|commands| {
        let numbered = commands.iter().zip(2..).map(|(command, txnr): (_, u32)| format!("{txnr} {command}"));
        format!("{OPEN}{}", numbered.collect::<String>())
    })
}

proptest! {
    #[test]
    fn any_split_of_the_commands_gives_the_same_events(
        commands in commands(), max in 1_usize..40, cuts in proptest::collection::vec((0_usize..40, any::<bool>()), 0..10),
    ) {
        let mut left = commands.as_bytes();
        let mut reads = Vec::new();
        for (cut, keep) in cuts {
            let (read, rest) = left.split_at(cut.min(left.len()));
            reads.push((read, keep));
            left = rest;
        }
        reads.push((left, false));
        server_holds(max, &reads);
    }

    #[test]
    fn any_octets_for_the_fuzzer_hold(data in proptest::collection::vec(any::<u8>(), 0..100)) {
        fuzz(&data);
    }
}
