use std::net::IpAddr;

use proptest::prelude::*;

use super::{DEPTH_MAX, Expression, TEXT_LEN_MAX, quoted};
use crate::syslog::{Clock, Fields, Message, parse};

const CLOCK: Clock = Clock { now_us: 1_767_225_600_000_000, year: 2026, month: 1, day: 1, offset_minutes: 0 };

/// A frame and where its fields lie.
struct Sample {
    raw: Vec<u8>,
    fields: Fields,
    peer: Option<IpAddr>,
}

impl Sample {
    fn of(frame: &str) -> Self {
        let fields = parse(frame.as_bytes(), &CLOCK);
        Self { raw: frame.into(), fields, peer: Some("192.0.2.7".parse().unwrap()) }
    }

    fn message(&self) -> Message<'_> {
        Message { fields: &self.fields, raw: &self.raw, received_at_us: 0, peer: self.peer, input: "lan" }
    }
}

fn bsd() -> Sample {
    Sample::of("<34>Oct 11 22:14:15 mymachine su[231]: Hello World 42")
}

fn modern() -> Sample {
    Sample::of("<165>1 2003-10-11T22:14:15.003Z host.example app/sub 8710 ID47 [a@1 b=\"c\"] An event")
}

#[track_caller]
fn holds(text: &str, sample: &Sample) -> bool {
    match Expression::parse(text) {
        Ok(expression) => expression.matches(&sample.message()),
        Err(error) => panic!("{text}: {error}"),
    }
}

#[test]
fn fields_of_a_modern_message_are_what_rsyslog_makes_of_them() {
    for text in [
        "$programname == 'app' and $app-name == 'app/sub'",
        "$syslogtag == 'app/sub[8710]'",
        "$procid == '8710' and $msgid == 'ID47' and $protocol-version == '1'",
        "$structured-data == '[a@1 b=\"c\"]'",
        "$msg == 'An event'",
        "$syslogfacility-text == 'local4' and $syslogseverity-text == 'notice'",
    ] {
        assert!(holds(text, &modern()), "{text}");
    }
    let without = Sample::of("<165>1 2003-10-11T22:14:15.003Z - - - - - An event");
    for text in ["$syslogtag == '-'", "$programname == '-'", "$app-name == '-'", "$hostname == '-'"] {
        assert!(holds(text, &without), "{text}");
    }
    let long = Sample::of(&format!("<165>1 2003-10-11T22:14:15.003Z h a {} - - x", "7".repeat(600)));
    assert!(holds("strlen($syslogtag) == 511 and $syslogtag startswith 'a[777'", &long));
}

#[test]
fn a_mistake_says_where_it_is_and_what_was_meant() {
    let table: &[(&str, usize, &str)] = &[
        ("", 0, "expected a condition"),
        ("  ", 0, "expected a condition"),
        ("$mgs contains 'x'", 0, "no property $mgs (did you mean $msg?)"),
        ("$msg contians 'x'", 5, "(did you mean \"contains\"?)"),
        ("$msg contains x", 14, "`x` is no value"),
        ("$msg contains 'x", 14, "no closing '"),
        ("$msg contains \"a$b\"", 16, "written `\\$`"),
        ("$msg contains '\\d'", 15, "not an escape"),
        ("$msg contains '\\x4'", 15, "not an escape"),
        ("$msg contains '\\x00'", 15, "NUL"),
        ("$msg = 'x'", 5, "expected `==`"),
        ("$msg == 'x' && 1", 12, "expected `and`"),
        ("!$msg", 0, "expected `not`"),
        ("1 + 2", 2, "arithmetic"),
        ("$msg == 'x' then", 12, "between rsyslog's `if` and `then`"),
        ("if $msg == 'x'", 0, "between rsyslog's `if` and `then`"),
        ("($msg == 'x'", 12, "found the end, expected an operator or `)`"),
        ("$msg == 'x')", 11, "without its `(`"),
        ("$msg ==", 7, "found the end"),
        ("msg == 'x'", 0, "expected $msg"),
        ("$msg < ['x']", 5, "cannot be ordered"),
        ("$msg == [1]", 9, "found `1`, expected a text in quotes"),
        ("$msg == ['x' 'y']", 13, "`,` or `]`"),
        ("['x'] == $msg", 0, "right side"),
        ("strlen($msg) == ['1']", 0, "a number cannot be one of"),
        ("$timestamp > 'x'", 0, "times are not compared"),
        ("$$hour-utc > 8", 0, "times are not compared"),
        ("$fromhost-port == 1", 0, "not kept"),
        ("tolower($msg) == 'x'", 0, "tolower() is not supported: expected one of re_match"),
        ("re_mach($msg, 'x')", 0, "no function re_mach() (did you mean \"re_match\"?)"),
        ("re_match($msg, 'a(b')", 17, "this group"),
        ("re_match($msg, $programname)", 15, "a regular expression in quotes"),
        ("re_match($msg)", 13, "expected `,`"),
        ("re_match($msg, '(a{1000}){1000}')", 16, "more than"),
        ("re_match($msg, '(a)\\\\1')", 19, "back-references"),
        ("prifilt('auth.eror')", 14, "no severity \"eror\" (did you mean \"err\"?)"),
        ("prifilt('mial.err')", 9, "no facility \"mial\" (did you mean \"mail\"?)"),
        ("prifilt('kern.err;mial.err')", 18, "no facility \"mial\""),
        ("prifilt('auth')", 9, "no `.`"),
        ("prifilt('')", 9, "no selector"),
        ("prifilt('4.err')", 9, "is a number"),
        ("prifilt('.err')", 9, "no facility \"\""),
        ("exists($msg)", 7, "a variable such as"),
        ("089 == 1", 0, "octal"),
        ("12abc", 0, "is no number"),
        ("`echo $X` == 'x'", 0, "backticks"),
        ("/* open", 0, "not closed"),
        ("é", 0, "`é` cannot stand here"),
    ];
    for (text, at, said) in table {
        let error = Expression::parse(text).expect_err(text);
        assert!(error.message.contains(said) && error.at == *at, "{text}: {error}");
    }
}

#[test]
fn what_is_likely_not_meant_is_told() {
    let table: &[(&str, &[(usize, &str)])] = &[
        ("$programname == 'a' or $programname == 'b' and $msg contains 'c'", &[(43, "does not bind tighter")]),
        ("$programname == 'a' and $programname == 'b' or $msg contains 'c'", &[]),
        ("($programname == 'a' or $programname == 'b') and $msg contains 'c'", &[]),
        ("not $msg contains 'x'", &[(0, "write not (…)")]),
        ("(not $msg) contains 'x'", &[]),
        ("not ($msg contains 'x')", &[]),
        ("$!x == 'a'", &[(0, "$!x is never set")]),
        ("exists($!x)", &[(7, "never holds")]),
        ("$syslogseverity-text == 'eror'", &[(24, "no such name")]),
        ("$syslogseverity-text == 'ERROR'", &[]),
    ];
    for (text, expected) in table {
        let expression = Expression::parse(text).unwrap();
        let found: Vec<(usize, &str)> =
            expression.warnings().iter().map(|warning| (warning.at, warning.message.as_str())).collect();
        assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
        for ((at, said), (found_at, message)) in expected.iter().zip(found) {
            assert!(*at == found_at && message.contains(said), "{text}: {found_at}: {message}");
        }
    }
}

#[test]
fn an_explanation_shows_each_part_and_what_was_not_asked() {
    let text = "$programname == 'su' and (prifilt('mail.*') or not ($msg contains 'x')) and $procid";
    let expression = Expression::parse(text).unwrap();
    let sample = bsd();
    let steps = expression.explain(&sample.message());
    let shown: Vec<String> = steps
        .iter()
        .map(|step| {
            let value = step.value.as_deref().map(|value| String::from_utf8_lossy(value).into_owned());
            format!("{} {} {} {:?} {}", step.depth, step.holds, step.asked, value, step.text)
        })
        .collect();
    assert_eq!(
        shown,
        [
            format!("0 true true None {text}"),
            "1 true true Some(\"su\") $programname == 'su'".to_owned(),
            "1 true true None (prifilt('mail.*') or not ($msg contains 'x'))".to_owned(),
            "2 false true None prifilt('mail.*')".to_owned(),
            "2 true true None not ($msg contains 'x')".to_owned(),
            "3 false true Some(\" Hello World 42\") ($msg contains 'x')".to_owned(),
            "1 true true Some(\"231\") $procid".to_owned(),
        ]
    );
    let short = Expression::parse("$programname == 'cron' and $msg contains 'x'").unwrap();
    let asked: Vec<bool> = short.explain(&sample.message()).iter().map(|step| step.asked).collect();
    assert_eq!(asked, [true, true, false]);
}

#[test]
fn a_program_alone_decides_what_it_can() {
    let table: &[(&str, &str, Option<bool>)] = &[
        ("$programname == 'su'", "su", Some(true)),
        ("$programname == 'su'", "sshd", Some(false)),
        ("$programname == 'su' and $msg contains 'x'", "sshd", Some(false)),
        ("$programname == 'su' and $msg contains 'x'", "su", None),
        ("$programname == 'su' or $msg contains 'x'", "su", Some(true)),
        ("$msg contains 'x' or $programname == 'su'", "su", Some(true)),
        ("$msg contains 'x' or $programname == 'su'", "sshd", None),
        ("not ($msg contains 'x' or $programname == 'su')", "su", Some(false)),
        ("re_match($programname, '^s') and strlen($programname) < 3", "su", Some(true)),
        ("$app-name == 'su'", "su", None),
        ("prifilt('*.*')", "su", None),
        ("1 == 1", "su", Some(true)),
        ("$!x == 'a'", "su", Some(false)),
    ];
    for (text, program, expected) in table {
        assert_eq!(Expression::parse(text).unwrap().holds_for_program(program.as_bytes()), *expected, "{text}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(holds(&nested(DEPTH_MAX - 1), &bsd()));
    for text in [
        nested(100_000 / 4),
        format!("{}1", "not ".repeat(10_000)),
        format!("1{}", " == 1".repeat(10_000)),
        format!("1{}", " or 0 and 1".repeat(5000)),
        format!("{}1", "strlen(".repeat(5000)),
    ] {
        let error = Expression::parse(&text).expect_err("deep");
        assert!(error.message.contains("within each other"), "{error}");
    }
    // Any number side by side.
    assert!(holds(&format!("0{}", " or $msg contains 'x' or 1".repeat(2000)), &bsd()));
    let error = Expression::parse(&"1".repeat(TEXT_LEN_MAX + 1)).expect_err("long");
    assert!(error.message.contains("65536"), "{error}");
}

#[test]
fn a_quoted_text_is_that_text() {
    for text in ["", "plain", "it's", "a\\b", "$x \"y\" %z%", "é\n\t\x07", "''\\\\''"] {
        let sample = Sample::of(&format!("<13>1 - h - - - - {text}"));
        let literal = quoted(text);
        assert!(holds(&format!("{literal} == {}", quoted(text)), &sample), "{literal}");
        assert!(holds(&format!("$msg == {literal}"), &sample), "{literal}");
    }
}

/// Texts out of the language's own words, most of which are no expressions.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "$msg",
        "$programname",
        "$!x",
        "$$now",
        "'a'",
        "\"b\\x41\"",
        "12",
        "-3",
        "==",
        "!=",
        "<",
        ">=",
        "contains",
        "startswith_i",
        "isequal",
        "and",
        "or",
        "not",
        "(",
        ")",
        "[",
        "]",
        ",",
        "re_match(",
        "prifilt(",
        "'auth.*'",
        "exists(",
        "strlen(",
        "/*",
        "*/",
        "\\",
        "é",
        "\0",
        "$",
        "'",
        "\"",
        "'(a|b)*'",
    ]);
    proptest::collection::vec(word, 0..12).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_is_written_is_an_expression_or_a_mistake_inside_the_text(text in prop_oneof![words(), any::<String>()]) {
        match Expression::parse(&text) {
            Ok(expression) => {
                let sample = bsd();
                let message = sample.message();
                let holds = expression.matches(&message);
                let steps = expression.explain(&message);
                prop_assert_eq!(steps.first().map(|step| step.holds), Some(holds));
                if let Some(known) = expression.holds_for_program(message.program_name()) {
                    prop_assert_eq!(known, holds);
                }
            }
            Err(error) => prop_assert!(text.is_char_boundary(error.at), "{}: {}", text, error),
        }
    }
}
