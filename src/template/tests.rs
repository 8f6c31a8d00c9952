use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::syslog::{Fields, Pri, Protocol, Span, Timestamp};

const CONTEXT: Context<'_> = Context { intake_key: b"KEY", my_hostname: "relay" };

fn span(raw: &[u8], text: &str) -> Option<Span> {
    let start = memchr::memmem::find(raw, text.as_bytes()).unwrap();
    Some(Span::between(start, start + text.len()))
}

fn stamp() -> Timestamp {
    Timestamp {
        year: 2021,
        month: 1,
        day: 3,
        hour: 14,
        minute: 52,
        second: 6,
        fraction_digits: 6,
        fraction: 34_860,
        offset_minutes: 60,
        zulu: false,
        minus_zero: false,
    }
}

const RAW: &[u8] = b"<30>Jan  3 14:52:06 ote unbound[12]: info/warn: hello";

fn fields() -> Fields {
    Fields {
        pri: Pri::new(30).unwrap(),
        timestamp: Some(stamp()),
        hostname: span(RAW, "ote"),
        tag: span(RAW, "unbound[12]:").unwrap(),
        app_name: span(RAW, "unbound"),
        msg: span(RAW, " info/warn: hello").unwrap(),
        ..Fields::default()
    }
}

fn render_of(source: &str, fields: &Fields, raw: &[u8], peer: Option<IpAddr>, zone: TimeZone) -> String {
    let message = Message { fields, raw, received_at_us: 1_767_225_600_000_000, peer, input: "lan" };
    let mut out = Vec::new();
    let template = Template::compile(source).unwrap();
    template.render(&message, &CONTEXT, &mut Renderer::new(zone), &mut out);
    String::from_utf8(out).unwrap()
}

fn render(source: &str) -> String {
    render_of(source, &fields(), RAW, None, TimeZone::UTC)
}

fn refusal(source: &str) -> TemplateError {
    match Template::compile(source) {
        Ok(_) => panic!("{source} compiles"),
        Err(error) => error,
    }
}

#[test]
fn the_faqs_template_renders_the_faqs_line() {
    assert!(Template::compile(Template::FAQ).unwrap().uses_intake_key());
    assert!(!Template::compile(Template::MESSAGE).unwrap().uses_intake_key());
    assert_eq!(
        render(Template::FAQ),
        "<30>1 2021-01-03T14:52:06.034860+01:00 ote unbound - LOG [SEKOIA@53288 intake_key=\"KEY\"]  info/warn: hello\n"
    );
}

#[test]
fn properties_and_options_do_what_property_replacer_rst_says() {
    // doc/source/configuration/property_replacer.rst and properties.rst
    for (source, expected) in [
        ("%PRI%|%pri-text%|%syslogfacility%|%syslogseverity-text%", "30|daemon.info|3|info"),
        ("%syslogtag%|%programname%|%procid%|%structured-data%", "unbound[12]:|unbound|-|-"),
        ("%timestamp%|%timereported:::date-unixtimestamp%", "Jan  3 14:52:06|1609681926"),
        ("%timegenerated:::date-rfc3339%|%$now-unixtimestamp%", "2026-01-01T00:00:00.000000+00:00|1767225600"),
        ("%msg:::uppercase%", " INFO/WARN: HELLO"),
        ("%msg:2:5%|%msg:5:2%|%msg:13:$%|%msg:90:99%", "info|info|hello|"),
        ("%app-name:1:9:fixed-width%|", "unbound  |"),
        ("%msg:F,58:2%|%msg:F,58:3%|%msg:F,58,2:2,4%", " hello|**FIELD NOT FOUND**|hel"),
        ("%msg:R,ERE,1,FIELD:^[ \\t]*(.*)$--end%", "info/warn: hello"),
        ("%msg:R,ERE,1:(warn|w)--end%|%msg:R,ERE,0:w.*z--end%", "warn|**NO MATCH**"),
        ("%msg:R,BRE,0,ZERO:x--end%%msg:R,BRE,,BLANK:x--end%", "0"),
        ("%msg:R:\\(info\\)--end%", "info"),
        ("%msg:::csv%|%msg:::json%|%hostname:::jsonf:h%", "\" info/warn: hello\"| info\\/warn: hello|\"h\":\"ote\""),
        ("%msg:::secpath-drop%|%msg:::secpath-replace%", " infowarn: hello| info_warn: hello"),
        ("%syslogtag%%msg:::sp-if-no-1st-sp%%msg%", "unbound[12]: info/warn: hello"),
        ("%msg:5:1:pos-end-relative%", "hello"),
        ("a\\tb\\\"c\\\"\\\\\\101\\n", "a\tb\"c\"\\A\n"),
        ("%$myhostname%|%inputname%|%iut%|%protocol-version%|%fromhost-ip%", "relay|lan|1|0|127.0.0.1"),
    ] {
        assert_eq!(render(source), expected, "{source}");
    }
}

#[test]
fn a_mistake_is_refused_with_its_place_and_what_was_meant() {
    for (source, at, words) in [
        ("<%pri%> %hostnam%", 9, "unknown property \"hostnam\" (did you mean \"hostname\"?)"),
        ("%timestamp:::date-rfc339%", 13, "did you mean \"date-rfc3339\"?"),
        ("\\\"\\n%pri-txt%", 5, "did you mean \"pri-text\"?"),
        ("100%", 3, "no closing %"),
        ("100%% sure", 4, "empty property name"),
        ("%$!user%", 1, "no variables here"),
        ("%$.user%", 1, "no variables here"),
        ("%$/user%", 1, "no variables here"),
        ("%uuid%", 1, "not supported"),
        ("%msg:R,ERE:a(b--end%", 12, "not closed"),
        ("%msg:R,ERE:(a)\\\\1--end%", 14, "back-references"),
        ("%msg:R,ERE:abc%", 11, "--end"),
        ("%msg:R,PCRE:abc--end%", 7, "expected BRE or ERE"),
        ("%msg:R,ERE,0,FOO:abc--end%", 13, "expected DFLT, BLANK, ZERO or FIELD"),
        ("%msg:R,ERE:[[:digits:]]--end%", 12, "unknown character class [:digits:]"),
        ("%msg:R,ERE:*a--end%", 11, "nothing to repeat"),
        ("%msg:F,32+:2%", 9, "\"+\""),
        ("%msg:F,300:2%", 7, "not an octet"),
        ("%msg:F,x:2%", 7, "decimal code"),
        ("%msg:1x:2%", 6, "expected a position"),
        ("%msg:1:2x%", 8, "expected a number"),
        ("%msg:99999999:%", 5, "number over"),
        ("%msg:1:$:fixed-width%", 0, "fixed-width"),
        ("%msg:::csv,json%", 11, "only one of"),
        ("a\\d", 1, "unknown escape"),
        ("a\\", 1, "backslash ends"),
        ("a\\0", 1, "escape"),
    ] {
        let error = refusal(source);
        assert!(error.message.contains(words), "{source}: {error}");
        assert_eq!(error.at, at, "{source}: {error}");
    }
}

#[test]
fn a_message_never_carries_two_elements_of_ours() {
    let own = "[SEKOIA@53288 intake_key=\"%intake_key%\"]%structured-data%";
    for (sent, with_own, without) in [
        (
            "[a@1 b=\"]\"][sekoia@53288 intake_key=\"x\"][c]",
            "[a@1 b=\"]\"][c]",
            "[a@1 b=\"]\"][sekoia@53288 intake_key=\"x\"][c]",
        ),
        ("[SEKOIA@53288 intake_key=\"x\\\"]\"]", "-", "[SEKOIA@53288 intake_key=\"x\\\"]\"]"),
        ("[SEKOIA@53288]", "-", "[SEKOIA@53288]"),
        ("[SEKOIA@532881 a=\"b\"]", "[SEKOIA@532881 a=\"b\"]", "[SEKOIA@532881 a=\"b\"]"),
        ("[SEKOIA@53288 a", "-", "[SEKOIA@53288 a"),
    ] {
        let fields = Fields { structured_data: span(sent.as_bytes(), sent), ..Fields::default() };
        let print = |source: &str| render_of(source, &fields, sent.as_bytes(), None, TimeZone::UTC);
        assert_eq!(print(own), format!("[SEKOIA@53288 intake_key=\"KEY\"]{with_own}"));
        assert_eq!(
            print(&own.replace("data%", "data:::lowercase%")),
            format!("[SEKOIA@53288 intake_key=\"KEY\"]{with_own}").replace("SEKOIA@532881", "sekoia@532881")
        );
        assert_eq!(print("%structured-data%"), without);
    }
}

#[test]
fn a_message_without_hostname_prints_its_peer() {
    let fields = Fields { hostname: None, ..fields() };
    for (peer, expected) in [
        (None, "relay"),
        (Some("192.0.2.255"), "192.0.2.255"),
        (Some("::ffff:10.0.0.1"), "10.0.0.1"),
        (Some("2001:db8::1"), "2001:db8::1"),
    ] {
        let peer = peer.map(|text| text.parse().unwrap());
        assert_eq!(render_of("%hostname%", &fields, RAW, peer, TimeZone::UTC), expected);
    }
}

#[test]
fn an_rfc_5424_tag_is_made_of_app_name_and_procid() {
    let raw = b"app 77";
    let mut fields = Fields { protocol: Protocol::Rfc5424, app_name: span(raw, "app"), ..Fields::default() };
    assert_eq!(render_of("%syslogtag%", &fields, raw, None, TimeZone::UTC), "app");
    fields.procid = span(raw, "77");
    assert_eq!(render_of("%syslogtag%", &fields, raw, None, TimeZone::UTC), "app[77]");
}

#[test]
fn a_zones_offset_is_the_one_of_the_moment() {
    let paris = TimeZone::get("Europe/Paris").unwrap();
    let mut renderer = Renderer::new(paris);
    let template = Template::compile("%timegenerated:::date-rfc3339%").unwrap();
    // Back and forth over both transitions of 2026: the kept offset must not outlive its stretch.
    for (unix, expected) in [
        (1_774_745_999, "2026-03-29T01:59:59.000000+01:00"),
        (1_774_746_000, "2026-03-29T03:00:00.000000+02:00"),
        (1_774_745_999, "2026-03-29T01:59:59.000000+01:00"),
        (1_792_889_999, "2026-10-25T02:59:59.000000+02:00"),
        (1_792_890_000, "2026-10-25T02:00:00.000000+01:00"),
        (-1, "1970-01-01T00:59:59.000000+01:00"),
    ] {
        let fields = Fields::default();
        let received_at_us = unix * 1_000_000;
        let message = Message { fields: &fields, raw: b"", received_at_us, peer: None, input: "lan" };
        let mut out = Vec::new();
        template.render(&message, &CONTEXT, &mut renderer, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn a_stamp_is_printed_as_it_was_sent() {
    for (fraction_digits, fraction, zulu, minus_zero, offset_minutes, expected) in [
        (0, 0, true, false, 0, "2021-01-03T14:52:06Z"),
        (3, 3, false, false, -450, "2021-01-03T14:52:06.003-07:30"),
        (1, 5, false, true, 0, "2021-01-03T14:52:06.5-00:00"),
        (6, 123_456, false, false, 345, "2021-01-03T14:52:06.123456+05:45"),
    ] {
        let stamp = Timestamp { fraction_digits, fraction, zulu, minus_zero, offset_minutes, ..stamp() };
        let fields = Fields { timestamp: Some(stamp), ..fields() };
        assert_eq!(render_of("%timestamp:::date-rfc3339%", &fields, RAW, None, TimeZone::UTC), expected);
    }
}

#[test]
fn days_and_dates_agree_with_a_calendar_library() {
    let first = jiff::civil::date(1, 1, 1);
    for days in (0..3_600_000).step_by(97) {
        let date = first.saturating_add(jiff::Span::new().days(days));
        let noon = date.at(12, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp().as_second();
        let stamp = date::civil(noon, 0, 0);
        assert_eq!(
            (i16::try_from(stamp.year).unwrap(), stamp.month, stamp.day),
            (date.year(), date.month() as u8, date.day() as u8)
        );
        assert_eq!(date::unix_seconds(&stamp), noon);
        let mut iso = Vec::new();
        date::write(&stamp, DateFormat::IsoWeek, &mut iso);
        assert_eq!(String::from_utf8(iso).unwrap(), format!("{:02}", date.iso_week_date().week()));
    }
}

#[test]
fn debug_output_holds_no_literal_and_no_key() {
    let template = Template::compile("sesame").unwrap();
    let mut renderer = Renderer::new(TimeZone::UTC);
    let fields = fields();
    let message = Message { fields: &fields, raw: RAW, received_at_us: 0, peer: None, input: "lan" };
    template.render(&message, &CONTEXT, &mut renderer, &mut Vec::new());
    let text = format!("{template:?} {renderer:?} {CONTEXT:?}");
    assert!(!text.contains("sesame") && !text.contains("KEY") && !text.contains("75, 69, 89"), "{text}");
}

/// Text that is nearly a template.
fn near_template() -> impl Strategy<Value = String> {
    let pieces = [
        "%",
        "%",
        "%",
        "msg",
        "timestamp",
        "structured-data",
        "$now",
        "hostname",
        ":",
        ":",
        ":",
        "R,ERE",
        "R",
        "F,44",
        ",",
        "1",
        "7",
        "$",
        "--end",
        "(",
        ")",
        "[",
        "]",
        "*",
        "{2}",
        "|",
        "a",
        "\\",
        "\\n",
        "json",
        "fixed-width",
        "escape-cc",
        "csv",
        "date-week",
        "date-utc",
        "é",
        "\"",
        "65536",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..20).prop_map(|pieces| pieces.concat())
}

fn near_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        "<[0-9]{1,3}>(1 |Oct 11 22:14:15 |)[ -~]{0,60}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn compiling_never_panics(text in any::<String>()) {
        let _outcome = Template::compile(&text);
    }

    #[test]
    fn compiling_and_rendering_never_panic_and_stay_in_bounds(text in near_template(), frame in near_frame()) {
        fuzz(&[text.as_bytes(), b"\0", &frame].concat());
    }

    #[test]
    fn rendering_never_panics_on_fields_that_lie(
        source in near_template(),
        raw in near_frame(),
        spans in prop::collection::vec((any::<u32>(), any::<u32>()), 6),
        numbers in prop::collection::vec(any::<u16>(), 8),
        received_at_us in any::<i64>(),
    ) {
        let Ok(template) = Template::compile(&format!("{}{source}", Template::FAQ)) else { return Ok(()) };
        let span = |at: usize| Span { start: spans[at].0 % 100, len: spans[at].1 };
        let small = |at: usize| (numbers[at] % 256) as u8;
        let timestamp = Timestamp {
            year: numbers[0], month: small(1), day: small(2), hour: small(3), minute: small(4), second: small(5),
            fraction_digits: small(6), fraction: spans[0].0, offset_minutes: numbers[7] as i16, zulu: false, minus_zero: false,
        };
        let fields = Fields {
            timestamp: (numbers[0] % 2 == 0).then_some(timestamp),
            hostname: Some(span(0)), tag: span(1), app_name: Some(span(2)), structured_data: Some(span(3)),
            after_pri: spans[4].0, msg: span(5), ..Fields::default()
        };
        let message = Message { fields: &fields, raw: &raw, received_at_us, peer: None, input: "lan" };
        let mut out = Vec::new();
        template.render(&message, &CONTEXT, &mut Renderer::new(TimeZone::UTC), &mut out);
        prop_assert!(out.len() <= template.rendered_len_max(raw.len()));
    }
}
