use proptest::prelude::*;

use super::super::fuzz::client_holds;
use super::super::{TXNR_MAX, fuzz, next_txnr};
use super::{Client, ClientError, Event, txnr_of};

const ACCEPTED: &str = "1 rsp 66 200 OK\nrelp_version=0\nrelp_software=librelp,1.11.0\ncommands=syslog\n";

/// One frame that answers.
fn rsp(txnr: u32, data: &str) -> String {
    if data.is_empty() { format!("{txnr} rsp 0\n") } else { format!("{txnr} rsp {} {data}\n", data.len()) }
}

/// A client that has sent `open`.
fn opening(window: u32) -> Client {
    let mut client = Client::new(window);
    let mut out = Vec::new();
    client.open(&mut out);
    client.open(&mut out);
    let out = String::from_utf8(out).unwrap();
    let offers = format!("relp_version=0\nrelp_software=forebay,{}\ncommands=syslog", env!("CARGO_PKG_VERSION"));
    assert_eq!(out, format!("1 open {} {offers}\n", offers.len()));
    client
}

/// All events of what is received.
fn receive(client: &mut Client, received: &str) -> Result<Vec<Event>, ClientError> {
    let (mut input, mut events) = (received.as_bytes(), Vec::new());
    while let Some(event) = client.next_event(&mut input)? {
        events.push(event);
    }
    Ok(events)
}

/// A client whose `open` was accepted, and that has sent as much as it may.
fn open(window: u32) -> Client {
    let mut client = opening(window);
    assert_eq!(client.next_txnr(), None, "before open is answered");
    let software = "librelp,1.11.0".to_owned();
    assert_eq!(receive(&mut client, ACCEPTED), Ok(vec![Event::Opened { software }]));
    let numbers: Vec<u32> = std::iter::from_fn(|| client.next_txnr()).collect();
    assert_eq!(numbers, (2..window + 2).collect::<Vec<u32>>());
    client
}

#[test]
fn answers_to_open_accept_or_say_why_not() {
    let opened = |software: &str| Ok(vec![Event::Opened { software: software.to_owned() }]);
    let refused = |code, text: &str| Err(ClientError::OpenRefused { code, text: text.to_owned() });
    let version = |offered: &str| Err(ClientError::Version { offered: offered.to_owned() });
    let no_syslog = |commands: &str| Err(ClientError::NoSyslog { commands: commands.to_owned() });
    let rows = [
        (
            "200 OK\nrelp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog",
            opened("librelp,1.11.0,http://librelp.adiscon.com"),
        ),
        ("200 OK\ncommands=eventlog,syslog\nunknown\nmore=1,2", opened("")),
        // Logstash: the version stands in the text.
        (
            "200 OK relp_version=0\nrelp_software=logstash,1.0.0,http://logstash.net\ncommands=syslog",
            opened("logstash,1.0.0,http://logstash.net"),
        ),
        ("200\nrelp_version=00\ncommands=syslog", opened("")),
        ("200 OK\nrelp_software=\u{1b}[2Jx\ncommands=syslog", opened("?[2Jx")),
        ("500 required command not supported by client", refused(500, "required command not supported by client")),
        ("403", refused(403, "")),
        ("500 a\tb\u{7}\nmore", refused(500, "a?b?")),
        ("200 OK\nrelp_version=1\ncommands=syslog", version("1")),
        ("200 OK\nrelp_version=99999999999\ncommands=syslog", version("99999999999")),
        ("200 OK\nrelp_version=\ncommands=syslog", version("")),
        ("200 OK\nrelp_version=-0\ncommands=syslog", version("-0")),
        ("200 OK\nrelp_version=0\ncommands=eventlog,syslogs", no_syslog("eventlog,syslogs")),
        ("200 OK\nrelp_version=0\ncommandsyslog", no_syslog("")),
        ("200 OK", no_syslog("")),
        ("", Err(ClientError::NoCode { txnr: 1 })),
        ("20 OK", Err(ClientError::NoCode { txnr: 1 })),
        ("2000 OK", Err(ClientError::NoCode { txnr: 1 })),
        (" 200 OK", Err(ClientError::NoCode { txnr: 1 })),
    ];
    for (data, expected) in rows {
        assert_eq!(receive(&mut opening(1), &rsp(1, data)), expected, "{data:?}");
    }
    let long = "x".repeat(1_000);
    assert_eq!(receive(&mut opening(1), &rsp(1, &format!("500 {long}"))), refused(500, &"x".repeat(80)));
}

#[test]
fn answers_in_order_move_the_position_and_make_room() {
    let mut client = open(3);
    assert_eq!((client.acknowledged(), client.room(), client.outstanding()), (0, 0, 3));
    assert_eq!(receive(&mut client, "2 rsp 6 200 OK\n3 rsp 6 200 "), Ok(vec![]));
    assert_eq!((client.acknowledged(), client.room(), client.sent()), (1, 1, 3));
    assert_eq!(client.next_txnr(), Some(5));
    assert_eq!(receive(&mut client, "OK\n"), Ok(vec![]));
    assert_eq!(client.acknowledged(), 2);
}

#[test]
fn answers_out_of_order_move_the_position_when_the_gap_is_closed() {
    let mut client = open(5);
    for (txnr, acknowledged) in [(4, 0), (3, 0), (6, 0), (2, 3), (5, 5)] {
        assert_eq!(receive(&mut client, &rsp(txnr, "200 OK")), Ok(vec![]));
        assert_eq!(client.acknowledged(), acknowledged, "after {txnr}");
    }
    assert_eq!(client.room(), 5);
}

#[test]
fn a_refused_message_holds_the_position_until_it_is_passed() {
    let mut client = open(4);
    let answers = [rsp(2, "200 OK"), rsp(3, "500 no\u{0}\nmore"), rsp(4, "200 OK")].concat();
    let refused = Event::Refused { position: 1, code: 500, text: "no?".to_owned() };
    assert_eq!(receive(&mut client, &answers), Ok(vec![refused]));
    assert_eq!(client.acknowledged(), 1);
    for position in [0, 2, 3, 4, u64::MAX] {
        client.pass(position);
        assert_eq!(client.acknowledged(), 1, "{position} was not refused");
    }
    client.pass(1);
    assert_eq!(client.acknowledged(), 3);
}

#[test]
fn answers_to_what_is_not_outstanding_and_other_commands_end_the_connection() {
    let not_outstanding = |txnr| Err(ClientError::NotOutstanding { txnr });
    let rows = [
        (rsp(1, "200 OK"), not_outstanding(1)),
        (rsp(0, "200 OK"), not_outstanding(0)),
        (rsp(5, "200 OK"), not_outstanding(5)),
        (rsp(999_999_999, "200 OK"), not_outstanding(999_999_999)),
        (rsp(2, "200 OK").repeat(2), not_outstanding(2)),
        (rsp(4, "200 OK").repeat(2), not_outstanding(4)),
        (rsp(4, "500 no") + &rsp(4, "200 OK"), not_outstanding(4)),
        (rsp(2, ""), Err(ClientError::NoCode { txnr: 2 })),
        ("2 syslog 1 a\n".to_owned(), Err(ClientError::NoAnswer { txnr: 2 })),
        ("2 abort 0\n".to_owned(), Err(ClientError::NoAnswer { txnr: 2 })),
        ("0 abort 3 abc\n".to_owned(), Ok(vec![])),
        ("0 serverclose 0\n".to_owned(), Ok(vec![Event::ServerClosing])),
    ];
    for (received, expected) in rows {
        assert_eq!(receive(&mut open(3), &received), expected, "{received:?}");
    }
    for garbage in ["HTTP/1.1 400 Bad Request\r\n", "\u{15}\u{3}\u{1}\u{0}\u{2}", "2 rsp 16385 "] {
        let found = receive(&mut open(3), garbage);
        assert!(matches!(found, Err(ClientError::Frame(_))), "{garbage:?}: {found:?}");
    }
}

#[test]
fn close_is_the_last_command_and_messages_may_be_answered_before_it() {
    let mut client = open(3);
    let mut out = Vec::new();
    client.close(&mut out);
    client.close(&mut out);
    assert_eq!(out, b"5 close 0\n");
    assert_eq!((client.next_txnr(), client.room()), (None, 0));
    let answers = [rsp(2, "200 OK"), rsp(3, "200 OK"), rsp(5, ""), "0 serverclose 0\n".to_owned()].concat();
    assert_eq!(receive(&mut client, &answers), Ok(vec![Event::Closed, Event::ServerClosing]));
    assert_eq!((client.acknowledged(), client.outstanding()), (2, 1));
    let mut unused = Client::new(1);
    unused.close(&mut out);
    assert_eq!(out, b"5 close 0\n", "nothing to close");
}

#[test]
fn numbers_go_round_at_nine_digits() {
    assert_eq!((txnr_of(0), txnr_of(1)), (2, 3));
    let last = u64::from(TXNR_MAX) - 2;
    assert_eq!((txnr_of(last), txnr_of(last + 1), txnr_of(last + 2)), (TXNR_MAX, 1, 2));
    let mut client = open(1);
    client.sent = last;
    client.acknowledged = last;
    client.window = 4;
    let numbers: Vec<u32> = std::iter::from_fn(|| client.next_txnr()).collect();
    assert_eq!(numbers, [999_999_999, 1, 2, 3]);
    assert!(numbers.windows(2).all(|pair| next_txnr(pair[0]) == pair[1]));
    for (txnr, acknowledged) in [(2, 0), (999_999_999, 1), (1, 3), (3, 4)] {
        assert_eq!(receive(&mut client, &rsp(txnr, "200 OK")), Ok(vec![]));
        assert_eq!(client.acknowledged() - last, acknowledged, "after {txnr}");
    }
}

/// Answers as a server may give them, and some as none does.
fn answers() -> impl Strategy<Value = String> {
    let answer = prop_oneof![
        8 => (2_u32..12).prop_map(|txnr| rsp(txnr, "200 OK")),
        2 => (0_u32..15, "[25]00[ a-z\u{0}-\u{20}]{0,9}").prop_map(|(txnr, data)| rsp(txnr, &data)),
        1 => Just("0 serverclose 0\n".to_owned()),
        1 => "[0-9]{0,3} [a-z]{0,4} [0-9]{0,2}[ \n]{0,2}",
    ];
    proptest::collection::vec(answer, 0..12).prop_map(|answers| format!("{ACCEPTED}{}", answers.concat()))
}

proptest! {
    #[test]
    fn any_split_of_the_answers_gives_the_same_events(
        answers in answers(), window in 1_u32..10, cuts in proptest::collection::vec(0_usize..40, 0..10),
    ) {
        let mut left = answers.as_bytes();
        let mut reads = Vec::new();
        for cut in cuts {
            let (read, rest) = left.split_at(cut.min(left.len()));
            reads.push((read, false));
            left = rest;
        }
        reads.push((left, false));
        client_holds(window, &reads);
    }

    #[test]
    fn any_order_of_answers_acknowledges_all(order in Just((2_u32..34).collect::<Vec<_>>()).prop_shuffle()) {
        let mut client = open(32);
        for (at, txnr) in order.iter().enumerate() {
            prop_assert_eq!(receive(&mut client, &rsp(*txnr, "200 OK")), Ok(vec![]));
            let done: Vec<u32> = order[..=at].to_vec();
            let expected = (2..34).take_while(|txnr| done.contains(txnr)).count();
            prop_assert_eq!(client.acknowledged(), expected as u64);
        }
    }

    #[test]
    fn any_octets_for_the_fuzzer_hold(data in proptest::collection::vec(any::<u8>(), 0..100)) {
        fuzz(&data);
    }
}
