//! Tables of frames, each row with where it is stated or seen, and properties of all frames.

use proptest::prelude::*;

use super::*;

const CLOCK: Clock = Clock { now_us: 0, year: 2026, month: 11, day: 22, offset_minutes: 0 };

/// PRI, HOSTNAME, TAG, APP-NAME, PROCID and MSG, absent ones as `~`; with MSGID and STRUCTURED-DATA for RFC 5424.
fn shown(frame: &str) -> String {
    let raw = frame.as_bytes();
    let fields = parse(raw, &CLOCK);
    let text = |span: Option<Span>| {
        span.map_or_else(|| "~".to_owned(), |span| String::from_utf8_lossy(span.of(raw)).into_owned())
    };
    let (hostname, app_name, procid) = (text(fields.hostname), text(fields.app_name), text(fields.procid));
    let (pri, stamped, msg) = (fields.pri.prival(), fields.timestamp.is_some(), text(Some(fields.msg)));
    let stamp = if stamped { "stamp" } else { "~" };
    match fields.protocol {
        Protocol::Rfc3164 => {
            format!("{pri}|{stamp}|{hostname}|{}|{app_name}|{procid}|{msg}", text(Some(fields.tag)))
        }
        Protocol::Rfc5424 => {
            let (msgid, structured_data) = (text(fields.msgid), text(fields.structured_data));
            format!("{pri}|{stamp}|{hostname}|{app_name}|{procid}|{msgid}|{structured_data}|{msg}")
        }
    }
}

#[test]
fn rfc3164_frames_are_read_as_rsyslog_reads_them() {
    let table = [
        // RFC 3164 section 5.4, examples 1 and 2: the second has no TIMESTAMP, so "Use" is where HOSTNAME stands.
        (
            "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
            "34|stamp|mymachine|su:|su|~| 'su root' failed for lonvick on /dev/pts/8",
        ),
        ("Use the BFG!", "13|~|Use|the|the|~| BFG!"),
        // RFC 3164 section 4.3.3: no PRI that can be identified.
        ("<00>...", "13|~|~||~|~|<00>..."),
        ("<192>Nov 22 10:11:12 gate app: x", "13|~|~||~|~|<192>Nov 22 10:11:12 gate app: x"),
        ("<>gate app: x", "13|~|~||~|~|<>gate app: x"),
        ("<13", "13|~|~||~|~|<13"),
        ("<0>gate app: x", "0|~|gate|app:|app|~| x"),
        ("<191>gate app: x", "191|~|gate|app:|app|~| x"),
        // Seen with rsyslogd 8.2302: HOSTNAME or TAG.
        ("<13>Nov 22 10:11:12 gate cron[7]: x", "13|stamp|gate|cron[7]:|cron|7| x"),
        ("<13>Nov 22 10:11:12 gate: x", "13|stamp|~|gate:|gate|~| x"),
        ("<13>Nov 22 10:11:12 gate- x", "13|stamp|~|gate-|gate-|~| x"),
        ("<13>Nov 22 10:11:12 gate", "13|stamp|gate||~|~|"),
        ("<13>Nov 22 10:11:12 gate-", "13|stamp|gate-||~|~|"),
        ("<13>2026 Nov 22 10:11:12 gate", "13|stamp|~|gate|gate|~|"),
        ("<13>Nov 22 10:11:12 ", "13|stamp|~||~|~|"),
        ("<13> Nov 22 10:11:12 gate app: x", "13|stamp|gate|app:|app|~| x"),
        ("<13>  Nov 22 10:11:12 gate app: x", "13|~|~||~|~|  Nov 22 10:11:12 gate app: x"),
        ("<13>2026-11-22T10:11:12Z gate app: x", "13|stamp|gate|app:|app|~| x"),
        ("<13>Feb 30 10:11:12 gate app: x", "13|~|gate|app:|app|~| x"),
        // TAG, program name and PROCID.
        ("<13>Nov 22 10:11:12 gate a/b[1]: x", "13|stamp|gate|a/b[1]:|a|1| x"),
        ("<13>Nov 22 10:11:12 gate /bin/a[1]: x", "13|stamp|gate|/bin/a[1]:|~|1| x"),
        ("<13>Nov 22 10:11:12 gate a[]: x", "13|stamp|gate|a[]:|a|| x"),
        ("<13>Nov 22 10:11:12 gate a[-]: x", "13|stamp|gate|a[-]:|a|~| x"),
        ("<13>Nov 22 10:11:12 gate a[1: x", "13|stamp|gate|a[1:|a|~| x"),
        ("<13>Nov 22 10:11:12 gate a x", "13|stamp|gate|a|a|~| x"),
        ("<13>Nov 22 10:11:12 gate caf\u{e9}: x", "13|stamp|gate|caf\u{e9}:|caf|~| x"),
        // No header at all.
        ("<13>{\"a\": 1}", "13|~|~||~|~|{\"a\": 1}"),
        ("<13>  [x] y", "13|~|~||~|~|  [x] y"),
        ("", "13|~|~||~|~|"),
    ];
    for (frame, expected) in table {
        assert_eq!(shown(frame), expected, "{frame}");
    }
}

#[test]
fn rfc5424_frames_are_read_as_rsyslog_reads_them() {
    let table = [
        // RFC 5424 section 6.5, examples 1 to 4.
        (
            "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed",
            "34|stamp|mymachine.example.com|su|~|ID47|~|\u{feff}'su root' failed",
        ),
        (
            "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time",
            "165|stamp|192.0.2.1|myproc|8710|~|~|%% It's time",
        ),
        (
            "<165>1 2003-10-11T22:14:15.003Z mymachine evntslog - ID47 [exampleSDID@32473 iut=\"3\"] text",
            "165|stamp|mymachine|evntslog|~|ID47|[exampleSDID@32473 iut=\"3\"]|text",
        ),
        (
            "<165>1 2003-10-11T22:14:15.003Z host app - - [a b=\"1\"][c d=\"2\"]",
            "165|stamp|host|app|~|~|[a b=\"1\"][c d=\"2\"]|",
        ),
        // RFC 5424 section 6.3.3: an escaped `]` does not end it.
        ("<1>1 - h a p m [x y=\"\\] z\"] t", "1|~|h|a|p|m|[x y=\"\\] z\"]|t"),
        // Nil values, sections 6.2.3 to 6.2.7.
        ("<1>1 - - - - - - t", "1|~|-|~|~|~|~|t"),
        // Seen with rsyslogd 8.2302.
        ("1 - h a p m - t", "13|~|h|a|p|m|~|t"),
        ("<1>1 - h a p m [x]t", "1|~|h|a|p|m|~|[x]t"),
        ("<1>1 - h a p m [x]t] u", "1|~|h|a|p|m|[x]t]|u"),
        ("<1>1 - h a p m -t", "1|~|h|a|p|m|~|t"),
        ("<1>1 - h a p m t", "1|~|h|a|p|m|m|t"),
        ("<1>1 - h a p m  t", "1|~|h|a|p|m|m| t"),
        ("<1>1 -   p m - t", "1|~||~|p|m|~|t"),
        ("<1>1 - h a", "1|~|h|a||||"),
        ("<1>1 yesterday h a p m - t", "1|~|~|~|~|~|~|yesterday h a p m - t"),
        ("<1>1 2026-02-30T10:11:12Z h a p m - t", "1|~|h|a|p|m|~|t"),
        // What is missing is nil; what is not closed is text.
        ("<1>1 2026-02-03T10:11:12Z h", "1|stamp|h|~|~|~|~|"),
        ("<1>1 2026-02-03T10:11:12Z", "1|stamp|~|~|~|~|~|"),
        ("<1>1 - h a p m [x y=\"z\" t", "1|~|h|a|p|m|~|[x y=\"z\" t"),
        // Another VERSION is RFC 3164 text (section 6.2.2).
        ("<1>2 - h a p m - t", "1|~|2|-|-|~| h a p m - t"),
    ];
    for (frame, expected) in table {
        assert_eq!(shown(frame), expected, "{frame}");
    }
}

#[test]
fn a_long_tag_goes_on_as_msg_and_a_long_hostname_is_a_tag() {
    let frame = format!("<13>Nov 22 10:11:12 gate {}: x", "t".repeat(600));
    let fields = parse(frame.as_bytes(), &CLOCK);
    assert_eq!((fields.tag.len, fields.msg.len), (510, 93));
    let frame = format!("<13>Nov 22 10:11:12 {} x", "h".repeat(512));
    let fields = parse(frame.as_bytes(), &CLOCK);
    assert_eq!((fields.hostname, fields.tag.len), (None, 510));
    let frame = format!("<13>Nov 22 10:11:12 {} x", "h".repeat(511));
    assert!(parse(frame.as_bytes(), &CLOCK).hostname.is_some_and(|hostname| hostname.len == 511));
}

#[test]
fn program_name_ends_at_the_octets_that_rsyslog_names() {
    let table: [(&[u8], &[u8]); 9] = [
        (b"app:", b"app"),
        (b"app[1]:", b"app"),
        (b"app/foo[1]:", b"app"),
        (b"/usr/sbin/cron[1]:", b""),
        (b"sshd(pam_unix)[1]:", b"sshd(pam_unix)"),
        (b"%ASA-6-302013:", b"%ASA-6-302013"),
        (b"caf\xc3\xa9", b"caf"),
        (b"a\x7fb", b"a"),
        (b"a b~", b"a b~"),
    ];
    for (tag, expected) in table {
        assert_eq!(program_name_of(tag), expected, "{}", tag.escape_ascii());
    }
}

#[test]
fn the_text_after_pri_begins_where_rsyslog_says() {
    for (frame, expected) in
        [("<13>x", 4), ("<192>x", 5), ("<-1>x", 4), ("<a>x", 3), ("<>x", 0), ("<0013>x", 0), ("x>", 0)]
    {
        assert_eq!(parse(frame.as_bytes(), &CLOCK).after_pri, expected, "{frame}");
    }
}

/// Frames that look like frames often enough to get past PRI and the stamp.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let pri = prop_oneof![Just(""), Just("<13>"), Just("<191>1 "), Just("<34>"), Just("<"), Just("<999>")];
    let stamps = ["- ", "Nov 22 10:11:12 ", "2026 Nov 22 10:11:12 ", "2026-11-22T10:11:12.123456Z "];
    let stamp = prop_oneof![
        proptest::sample::select(stamps.to_vec()).prop_map(|stamp| stamp.as_bytes().to_vec()),
        proptest::collection::vec(proptest::sample::select(b"0123456789-:.TZ+ Feb".to_vec()), 0..30),
    ];
    let rest = proptest::collection::vec(
        prop_oneof![any::<u8>(), Just(b' '), Just(b'['), Just(b']'), Just(b'\\'), Just(b':'), b'a'..=b'f', b'0'..=b'9'],
        0..80,
    );
    (pri, stamp, rest).prop_map(|(pri, stamp, rest)| [pri.as_bytes(), &stamp, &rest].concat())
}

proptest! {
    #[test]
    fn spans_lie_inside_the_frame_a_program_name_ends_and_a_stamp_is_a_moment_that_exists(frame in frames()) {
        super::fuzz::check(&frame, &CLOCK);
    }

    #[test]
    fn a_sanitized_frame_holds_no_control_character_and_stays_as_it_is(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        super::fuzz(&frame);
    }
}
