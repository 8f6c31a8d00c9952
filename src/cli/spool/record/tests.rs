use super::*;

const NOW_US: i64 = 1_795_392_000_123_456;

/// Frames of all kinds that there are.
const FRAMES: &[&[u8]] = &[
    b"<30>Nov 22 23:59:58 ns-1 unbound[812]: info: 10.0.0.7 host1.example. A IN",
    b"<34>1 2026-11-22T23:59:58.003-00:00 fw-1 su 99 ID47 [a@1 b=\"]\"][c@2] \xEF\xBB\xBFtext",
    b"<34>1 2026-11-22T23:59:58Z - - - - - ",
    b"<165>1 2026-11-22T23:59:58.123456789+05:30 h app - - [SEKOIA@53288 intake_key=\"secret\"] m",
    b"<165>1 2026-11-22T23:59:58.1-11:45 h app - - [x@1 k=\"v\"][SEKOIA@53288 intake_key=\"secret\"] m",
    b"no header at all",
    b"",
    b"<999>Nov 22 23:59:58 h p: m",
    b"<13>Nov 22 23:59:58 h p: gr\xfc\xdfe \x80",
    b"<13>Dec 31 23:59:60.5 h p[1]:no space",
    b"<13>1 not a stamp",
    b"a\tb\nc\x1b[31m",
];

fn received(frame: &[u8]) -> Read {
    let mut read = Read::frame(frame, NOW_US);
    read.peer = Some("2001:db8::1".parse().expect("an address"));
    read.input = "lan".to_owned();
    read
}

fn json(read: &Read) -> Vec<u8> {
    let mut out = Vec::new();
    write_json("web", &read.message(), &mut out).expect("written");
    out
}

#[test]
fn a_message_comes_back_from_json_as_it_was() {
    for frame in FRAMES {
        let before = received(frame);
        let line = json(&before);
        let after = Read::json(&line, 0).expect("read");
        let shown = frame.escape_ascii();
        assert_eq!((after.fields, &after.raw), (before.fields, &before.raw), "{shown}");
        assert_eq!((after.received_at_us, after.peer), (NOW_US, before.peer), "{shown}");
        assert_eq!((after.route.as_deref(), after.input.as_str()), (Some("web"), "lan"), "{shown}");
        assert_eq!(line.iter().filter(|octet| **octet == b'\n').count(), 1, "one line: {shown}");
        assert_eq!(json(&after), line, "{shown}");
    }
}

#[test]
fn spans_are_believed_and_not_made_again() {
    let mut before = received(FRAMES[0]);
    before.fields.hostname = Some(Span { start: 4, len: 3 });
    before.fields.pri = Pri::new(7).expect("a PRI");
    let after = Read::json(&json(&before), 0).expect("read");
    assert_eq!(after.fields, before.fields);
}

#[test]
fn a_line_with_only_a_frame_in_it_is_parsed_and_cleaned() {
    let read = Read::json(br#"{"raw":"<30>Nov 22 23:59:58 ns-1 unbound: a\nb"}"#, NOW_US).expect("read");
    assert_eq!(read.message().program_name(), b"unbound");
    assert_eq!(read.message().msg(), b" a#012b");
    assert_eq!((read.received_at_us, read.input.as_str(), read.route), (NOW_US, "import", None));
}

#[test]
fn what_is_no_message_is_refused_with_a_reason() {
    let good = String::from_utf8(json(&received(FRAMES[0]))).expect("text");
    let changed = |from: &str, to: &str| {
        assert!(good.contains(from), "{good}");
        good.replace(from, to)
    };
    let rows = [
        ("nonsense".to_owned(), "not a JSON object"),
        ("{}".to_owned(), "one of raw and raw_base64"),
        (r#"{"raw":"a","raw_base64":"YQ=="}"#.to_owned(), "one of raw and raw_base64"),
        (r#"{"raw_base64":"a"}"#.to_owned(), "not base64"),
        (r#"{"raw":"a","received_at":"yesterday"}"#.to_owned(), "received_at"),
        (changed("\"pri\":30", "\"pri\":192"), "above 191"),
        (changed("rfc3164", "rfc822"), "expected rfc3164"),
        (changed("2026-11-22T23:59:58+00:00", "2026-11-31T23:59:58+00:00"), "timestamp"),
        (changed("\"after_pri\":4", "\"after_pri\":4000"), "beyond raw"),
        (changed("\"hostname\":[20,4]", "\"hostname\":[4294967295,4294967295]"), "beyond raw"),
    ];
    for (line, why) in rows {
        let error = format!("{:#}", Read::json(line.as_bytes(), 0).expect_err("refused"));
        assert!(error.contains(why), "{line}: {error}");
    }
}

#[test]
fn rfc5424_says_the_same_and_no_key() {
    let mut writer = Rfc5424::new().expect("a writer");
    for frame in FRAMES {
        let before = received(frame);
        let mut out = Vec::new();
        writer.write(&before.message(), &mut out);
        assert!(!out.windows(6).any(|window| window == b"secret"), "{}", out.escape_ascii());
        let after = Read::frame(&out, NOW_US);
        let shown = out.escape_ascii();
        assert_eq!(after.fields.protocol, Protocol::Rfc5424, "{shown}");
        assert_eq!(after.fields.pri, before.fields.pri, "{shown}");
        assert_eq!(after.message().msg(), before.message().msg(), "{shown}");
        if before.fields.timestamp.is_some() {
            assert_eq!(after.fields.timestamp, before.fields.timestamp, "{shown}");
        }
        match before.message().hostname() {
            Some(hostname) => assert_eq!(after.message().hostname(), Some(hostname), "{shown}"),
            None => assert_eq!(after.message().hostname(), Some(&b"2001:db8::1"[..]), "{shown}"),
        }
        assert!(!before.message().program_name().is_empty() || after.fields.app_name.is_none(), "{shown}");
    }
    let mut out = Vec::new();
    writer.write(&received(FRAMES[4]).message(), &mut out);
    assert_eq!(out.escape_ascii().to_string(), r#"<165>1 2026-11-22T23:59:58.1-11:45 h app - - [x@1 k=\"v\"] m"#);
}
