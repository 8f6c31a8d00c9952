//! Templates against the corpus, and against a real rsyslogd where one is installed.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may panic, and says what it skips"
)]

mod corpus;
mod rsyslogd;
#[path = "../support/harness.rs"]
mod support;

use std::net::{IpAddr, Ipv4Addr};

use forebay::syslog::{self, Clock, Message};
use forebay::template::{Context, Renderer, Template};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

/// Messages of every shape, among them control characters (rsyslogd is told not to escape them on reception).
const MESSAGES: &[&[u8]] = &[
    b"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - 'su root' failed for lonvick on /dev/pts/8",
    b"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.",
    b"<191>1 2024-02-29T23:59:59.5+14:00 h a/b 1 m [x@1 a=\"b \\\" c\"][y@2] two  blanks   three,\"quoted\",/path/",
    b"<0>1 1999-12-31T00:00:00-12:45 .. . - - - \ttab\x01one\x7fdel back\\slash \"q\" /",
    b"<13>Oct 11 22:14:15 host tag[123]: message; with;fields;;and more",
    b"<46>Mar  1 01:02:03 HOST Prog: a,b,c,,d for vlan5: and for vlan66: end abcbc",
    b"<85>Jul 31 12:00:00 web-1 cron[77]:no leading blank aaa ab abc xyz 0123456789",
    b"<7>1 2016-01-03T12:00:00.123456+00:00 x y z w - \xc3\xa9t\xc3\xa9 \xff\xfe bytes",
    b"<1>1 2020-12-31T06:30:00.10Z - - - - - ",
    b"<77>1 2020-01-01T00:00:00-00:00 h a p m [a b=\"c\"] one\ntwo\x02\x07\x08\x0b\x0c\r\x1b\x1f  \\n \\u0041 \\x ..\n\n",
    b"<150>Jan  9 00:00:09 gw fw: date=2018-12-29 time=14:50:47\tdevname=\"fw1\" CEF:0|a|b CEF:1|c",
];

fn clock() -> Clock {
    let now = jiff::Zoned::now().with_time_zone(TimeZone::UTC);
    Clock {
        now_us: now.timestamp().as_microsecond(),
        year: now.year().try_into().unwrap(),
        month: now.month().try_into().unwrap(),
        day: now.day().try_into().unwrap(),
        offset_minutes: 0,
    }
}

fn render_at(template: &Template, frame: &[u8], clock: &Clock, zone: TimeZone, input: &str) -> Vec<u8> {
    let fields = syslog::parse(frame, clock);
    let message = Message {
        fields: &fields,
        raw: frame,
        received_at_us: clock.now_us,
        peer: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        input,
    };
    let context = Context { intake_key: b"KEY", my_hostname: "relay" };
    let mut out = Vec::new();
    template.render(&message, &context, &mut Renderer::new(zone), &mut out);
    out
}

fn render(template: &Template, frame: &[u8]) -> Vec<u8> {
    render_at(template, frame, &clock(), TimeZone::UTC, "in1")
}

/// Renders with both; what differs, as text.
fn differences(templates: &[String], frames: &[&[u8]]) -> Option<Vec<String>> {
    let theirs = rsyslogd::render(templates, frames)?;
    let mut found = Vec::new();
    for (source, theirs) in templates.iter().zip(theirs) {
        // rsyslogd starts with a bad expression, and prints so; we refuse it.
        let bad = b"**NO MATCH** **BAD REGULAR EXPRESSION**".to_vec();
        let theirs = theirs.filter(|values| values.first() != Some(&bad));
        let ours = match (Template::compile(source), &theirs) {
            (Ok(template), Some(_)) => template,
            (Err(_), None) => continue,
            (Ok(_), None) => {
                found.push(format!("{source}: rsyslogd refuses it, we do not"));
                continue;
            }
            (Err(error), Some(_)) => {
                found.push(format!("{source}: we refuse it ({error}), rsyslogd does not"));
                continue;
            }
        };
        for (frame, theirs) in frames.iter().zip(theirs.unwrap_or_default()) {
            // As on reception: one LF at the end goes.
            let ours = render(&ours, frame.strip_suffix(b"\n").unwrap_or(frame));
            if ours != theirs && !is_meant(source, frame) {
                found.push(format!(
                    "{source}\n    of   {}\n    ours {}\n    its  {}",
                    frame.escape_ascii(),
                    ours.escape_ascii(),
                    theirs.escape_ascii()
                ));
            }
        }
    }
    Some(found)
}

/// Differences that are meant (docs/COMPATIBILITY.md): rsyslog's result is wrong, or is another template's.
fn is_meant(template: &str, frame: &[u8]) -> bool {
    let has = |text: &str| memchr::memmem::find(frame, text.as_bytes()).is_some();
    // Converting to UTC, rsyslog takes the fraction's digits for microseconds: .5 becomes .000005.
    let fraction = template.contains("date-utc") && (has(":15.003Z") || has(":59.5+") || has(":00.10Z"));
    // Counting days, it subtracts the offset east of UTC twice.
    let east = (template.contains("date-ordinal") || template.contains("date-week")) && has("+14:00");
    // In glibc ^ and $ may match beside an LF. None gets there: LFs inside a frame are escaped on reception.
    let line_feed = template.contains(":R") && template.contains(['^', '$']) && has("\n");
    fraction || east || line_feed
}

fn assert_same(templates: &[String]) {
    if let Some(found) = differences(templates, MESSAGES) {
        assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
    }
}

/// Those that a frame alone determines.
const PROPERTIES: &[&str] = &[
    "msg",
    "rawmsg",
    "rawmsg-after-pri",
    "hostname",
    "source",
    "syslogtag",
    "programname",
    "pri",
    "pri-text",
    "iut",
    "syslogfacility",
    "syslogfacility-text",
    "syslogseverity",
    "syslogseverity-text",
    "syslogpriority",
    "syslogpriority-text",
    "timereported",
    "timestamp",
    "protocol-version",
    "structured-data",
    "app-name",
    "procid",
    "msgid",
    "inputname",
    "parsesuccess",
    "$bom",
    "$now",
    "$year",
    "$month",
    "$day",
    "$wday",
    "$now-utc",
    "MSG",
    "PRI",
    "TimeStamp",
];

const DATES: &[&str] = &[
    "date-mysql",
    "date-pgsql",
    "date-rfc3164",
    "date-rfc3339",
    "date-unixtimestamp",
    "date-subseconds",
    "date-year",
    "date-month",
    "date-day",
    "date-hour",
    "date-minute",
    "date-second",
    "date-tzoffshour",
    "date-tzoffsmin",
    "date-tzoffsdirection",
    "date-ordinal",
    "date-week",
    "date-iso-week",
    "date-iso-week-year",
    "date-wday",
    "date-wdayname",
];

const OPTIONS: &[&str] = &[
    "uppercase",
    "lowercase",
    "fixed-width",
    "json",
    "jsonf",
    "jsonf:out name",
    "jsonr",
    "jsonfr",
    "csv",
    "drop-last-lf",
    "escape-cc",
    "space-cc",
    "drop-cc",
    "compressspace",
    "sp-if-no-1st-sp",
    "secpath-drop",
    "secpath-replace",
    "mandatory-field",
    "UPPERCASE",
    "CompressSpace",
    "",
];

#[test]
fn every_property_prints_what_rsyslogd_prints() {
    let templates: Vec<_> = PROPERTIES.iter().map(|name| format!("<%{name}%>")).collect();
    assert_same(&templates);
}

#[test]
fn every_date_option_prints_what_rsyslogd_prints() {
    let mut templates = Vec::new();
    for date in DATES {
        templates.push(format!("%timestamp:::{date}%"));
        templates.push(format!("%timestamp:::{date},date-utc%"));
    }
    assert_same(&templates);
}

#[test]
fn the_buggy_day_has_a_leading_zero_as_in_rsyslogd() {
    // Alone: rsyslogd keeps one RFC 3164 text a message, and whichever format is printed first makes it.
    assert_same(&["%timestamp:::date-rfc3164-buggyday%".to_owned()]);
}

#[test]
fn every_option_does_what_it_does_in_rsyslogd() {
    let mut templates = Vec::new();
    for option in OPTIONS {
        for property in ["msg", "structured-data", "hostname", "app-name", "msgid"] {
            templates.push(format!("%{property}:::{option}%"));
        }
    }
    assert_same(&templates);
}

#[test]
fn positions_cut_what_they_cut_in_rsyslogd() {
    let mut templates = Vec::new();
    for from in ["", "0", "1", "2", "5", "9", "400"] {
        for to in ["", "0", "1", "3", "5", "12", "400", "$"] {
            for option in ["", ":fixed-width", ":pos-end-relative", ":pos-end-relative,fixed-width"] {
                if to == "$" && option.contains("fixed-width") {
                    continue;
                }
                for property in ["msg", "msgid"] {
                    templates.push(format!("%{property}:{from}:{to}{option}%"));
                }
            }
        }
    }
    assert_same(&templates);
}

#[test]
fn fields_are_the_fields_of_rsyslogd() {
    let mut templates = Vec::new();
    for delimiter in ["F", "F,59", "F,32", "F,44", "F,32,2", "F,44,3", "F,32+"] {
        for number in ["", "0", "1", "2", "3", "4", "5", "6", "40", "2,2", "3,1", "2,9"] {
            templates.push(format!("%msg:{delimiter}:{number}%"));
            templates.push(format!("%msg:{delimiter}:{number}:uppercase,csv%"));
        }
    }
    assert_same(&templates);
}

const EXPRESSIONS: &[&str] = &[
    "ERE|^[ \\t]*(.*)$",
    "ERE|.*(CEF.*)$",
    "ERE|.*(b.*)$",
    "ERE|.*(e: .*)$",
    "ERE|for (vlan[0-9]*):",
    "ERE|a|ab|abc",
    "ERE|(a|ab)(c|bcd)*",
    "ERE|(a)(b)?",
    "ERE|[[:digit:]]+",
    "ERE|[^[:alnum:] ]",
    "ERE|[]a]",
    "ERE|[^]a]",
    "ERE|[a\\\\]",
    "ERE|\\\\d+",
    "ERE|\\\\w+",
    "ERE|\\\\bf",
    "ERE|\\\\<f[a-z]*\\\\>",
    "ERE|\\\\.",
    "ERE|x*",
    "ERE|a{2}",
    "ERE|a{2,}",
    "ERE|a{,2}b",
    "ERE|(a*)(ab)*(b*)",
    "ERE|(a*)+",
    "ERE|()",
    "ERE|a||b",
    "ERE|(a?)(ab)?",
    "ERE|x*(xy)?",
    "ERE|^(.*) (.*)$",
    "ERE|b)",
    "ERE|[a-c-e]",
    "ERE|[-a]",
    "ERE|[a-]",
    "ERE|[[.a.]b]",
    "ERE|[[=a=]b]",
    "ERE|$^",
    "ERE|^^.",
    "ERE|a**",
    "ERE|a*?b",
    "ERE|(ab|a)(bc)?(c|d)?",
    "ERE|.",
    "ERE|[[:space:]]",
    "ERE|[é]",
    "ERE|é",
    "BRE|\\\\(a\\\\)\\\\(b\\\\)",
    "BRE|a\\\\{2\\\\}",
    "BRE|a\\\\|ab",
    "BRE|*",
    "BRE|\\\\(*a\\\\)",
    "BRE|a+",
    "BRE|a\\\\+",
    "BRE|ab\\\\?c",
    "BRE|x^",
    "BRE|^ ",
    "BRE|$a",
    "BRE|\\\\($\\\\)",
    "BRE|(",
    "BRE|a{2}",
    "BRE|^*",
    "BRE|\\\\d",
    "BRE|[0-9]*",
    "BRE|.*",
    "BRE|\\\\.",
    "BRE|a|b",
    "BRE|f.*:",
    "BRE|\\\\(^ \\\\)",
    "BRE|\\\\+a",
    "BRE|a*\\\\{2\\\\}",
    "BRE|\\\\(for \\\\|end\\\\)*",
    "ERE|(foo|for|f) ?(vlan|v)?",
    "ERE|(.)(.)(.)(.)(.)(.)(.)(.)(.)",
    "ERE|\\\\S+$",
    "ERE|\\\\Ba",
];

#[test]
fn expressions_match_what_they_match_in_glibc() {
    let mut templates = Vec::new();
    for row in EXPRESSIONS {
        let (dialect, expression) = row.split_once('|').unwrap();
        for submatch in [0, 1, 2] {
            for no_match in ["DFLT", "BLANK", "ZERO", "FIELD"] {
                for number in [0, 1] {
                    templates.push(format!("%msg:R,{dialect},{submatch},{no_match},{number}:{expression}--end%"));
                }
            }
        }
        templates.push(format!("%msg:R,{dialect},0,FIELD:{expression}--end:uppercase%"));
    }
    // A process cannot hold any number of open files.
    for templates in templates.chunks(400) {
        assert_same(templates);
    }
}

/// A template of one property with options at random.
fn any_template() -> impl Strategy<Value = String> {
    let position = prop_oneof![Just(String::new()), (0_u32..40).prop_map(|position| position.to_string())];
    let extract = prop_oneof![
        (position.clone(), position.clone()).prop_map(|(from, to)| format!("{from}:{to}")),
        position.clone().prop_map(|from| format!("{from}:$")),
        (prop::sample::select(vec!["44", "59", "32"]), 0_u32..6, position.clone(), position)
            .prop_map(|(delimiter, number, from, to)| format!("F,{delimiter},{from}:{number},{to}")),
        (prop::sample::select(EXPRESSIONS), 0_u32..3, prop::sample::select(vec!["DFLT", "BLANK", "ZERO", "FIELD"]))
            .prop_map(|(row, submatch, no_match)| {
                let (dialect, expression) = row.split_once('|').unwrap();
                format!("R,{dialect},{submatch},{no_match}:{expression}--end")
            }),
    ];
    let options: Vec<&str> = OPTIONS.iter().chain(DATES).chain(&["date-utc", "pos-end-relative"]).copied().collect();
    let options = prop::collection::vec(prop::sample::select(options), 0..5);
    (prop::sample::select(PROPERTIES), extract, options).prop_map(|(property, extract, mut options)| {
        // Of formats there can be one; a name ends the options.
        let format = |option: &&str| ["json", "csv"].iter().any(|prefix| option.starts_with(prefix));
        options.sort_by_key(format);
        options.dedup_by(|right, left| format(right) && format(left));
        // Ten million blanks.
        options.retain(|option| *option != "fixed-width" || !extract.contains('$'));
        format!("%{property}:{extract}:{}%", options.join(","))
    })
}

#[test]
fn options_at_random_do_together_what_they_do_in_rsyslogd() {
    let mut runner = TestRunner::default();
    let rounds = std::env::var("FOREBAY_TEMPLATE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for _ in 0..rounds {
        let templates: Vec<_> = (0..400).map(|_| any_template().new_tree(&mut runner).unwrap().current()).collect();
        assert_same(&templates);
    }
}

/// Expressions put together of pieces at random.
fn any_expression() -> impl Strategy<Value = String> {
    let extended = [
        "a",
        "b",
        "c",
        "a",
        "b",
        " ",
        ".",
        "*",
        "+",
        "?",
        "(",
        ")",
        "(",
        ")",
        "|",
        "[ab]",
        "[^a]",
        "{1,2}",
        "{2}",
        "^",
        "$",
        "(a|ab)",
        "(b*)",
        "[[:alpha:]]",
        "\\\\.",
    ];
    let basic = [
        "a",
        "b",
        "c",
        "a",
        " ",
        ".",
        "*",
        "*",
        "+",
        "(",
        "|",
        "[ab]",
        "\\\\(",
        "\\\\)",
        "\\\\|",
        "\\\\{1\\\\}",
        "^",
        "$",
        "\\\\+",
        "\\\\(b*\\\\)",
    ];
    let pieces = |dialect: &'static str, pieces: Vec<&'static str>| {
        (
            prop::collection::vec(prop::sample::select(pieces), 1..9),
            prop_oneof![3 => Just(0), 1 => Just(1), 1 => Just(2)],
        )
            .prop_map(move |(pieces, submatch)| format!("%msg:R,{dialect},{submatch}:{}--end%", pieces.concat()))
    };
    prop_oneof![pieces("ERE", extended.to_vec()), pieces("BRE", basic.to_vec())]
}

#[test]
fn expressions_at_random_match_what_they_match_in_glibc() {
    let mut runner = TestRunner::default();
    let rounds = std::env::var("FOREBAY_TEMPLATE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for _ in 0..rounds {
        let templates: Vec<_> = (0..400).map(|_| any_expression().new_tree(&mut runner).unwrap().current()).collect();
        assert_same(&templates);
    }
}
