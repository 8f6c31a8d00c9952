//! Conditions in rsyslog's language hold where they hold for a real rsyslogd 8.2302: a table that was seen by running it, the
//! shared corpus where it lies beside this repository, and expressions and messages at random where rsyslogd is installed.
//!
//! `FOREBAY_CONDITION_ROUNDS` runs more rounds of the latter; each round has another seed, and names it where it fails.
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

#[path = "conditions/corpus.rs"]
mod corpus;
#[path = "conditions/random.rs"]
mod random;
#[path = "conditions/rsyslogd.rs"]
mod rsyslogd;
#[path = "support/harness.rs"]
mod support;

use forebay::route::Expression;
use forebay::syslog::{self, Clock, Message};

/// What the rows of the table and of the corpus were seen with.
const FRAME: &[u8] = b"<34>Oct 11 22:14:15 mymachine su[231]: Hello World 42";

/// Whether a condition holds for a frame that came over a unix socket.
fn holds(expression: &Expression, frame: &[u8]) -> bool {
    let clock = Clock { now_us: 1_793_000_000_000_000, year: 2026, month: 10, day: 20, offset_minutes: 0 };
    let fields = syslog::parse(frame, &clock);
    let message = Message { fields: &fields, raw: frame, received_at_us: clock.now_us, peer: None, input: "lan" };
    expression.matches(&message)
}

#[track_caller]
fn parse(text: &str) -> Expression {
    Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Rows of the table: whether rsyslogd takes it as well, whether it holds, the expression.
fn table() -> Vec<(bool, bool, &'static str)> {
    let rows = include_str!("conditions/table.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let row = |line: &'static str| {
        let (whose, rest) = line.split_once(' ').unwrap();
        let (holds, text) = rest.split_once(' ').unwrap();
        (whose == "both", holds == "true", text)
    };
    rows.map(row).collect()
}

#[test]
fn the_table_says_what_holds_here() {
    let rows = table();
    assert!(rows.len() > 70, "{} rows", rows.len());
    for (_, expected, text) in rows {
        assert_eq!(holds(&parse(text), FRAME), expected, "{text}");
    }
}

#[test]
fn the_table_says_what_holds_for_rsyslogd() {
    let rows: Vec<_> = table().into_iter().filter(|(both, _, _)| *both).collect();
    let filters: Vec<String> = rows.iter().map(|(_, _, text)| format!("if {text} then")).collect();
    let Some(found) = rsyslogd::ask(&filters, &[FRAME.to_vec()]) else { return };
    for (index, (_, expected, text)) in rows.iter().enumerate() {
        assert_eq!(found[0].contains(&index), *expected, "{text}");
    }
}

#[test]
fn expressions_at_random_hold_where_they_do_for_rsyslogd() {
    let rounds = std::env::var("FOREBAY_CONDITION_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for seed in 1..=rounds {
        let (texts, frames) = random::round(seed);
        let filters: Vec<String> = texts.iter().map(|text| format!("if {text} then")).collect();
        let Some(found) = rsyslogd::ask(&filters, &frames) else { return };
        let mut held = 0;
        for (index, text) in texts.iter().enumerate() {
            let expression = parse(text);
            for (frame, found) in frames.iter().zip(&found) {
                let ours = holds(&expression, frame);
                held += usize::from(ours);
                let shown = String::from_utf8_lossy(frame);
                assert_eq!(ours, found.contains(&index), "seed {seed}: {text}\nwith {shown}");
            }
        }
        // Neither all nor nothing: the two were asked something.
        let asked = texts.len() * frames.len();
        assert!((asked / 10..asked * 9 / 10).contains(&held), "{held} of {asked} hold");
    }
}

/// What rsyslog's property filters say, in the words of a condition.
#[test]
fn a_property_filter_has_a_condition_that_holds_where_it_does() {
    let rows: &[(&str, &str)] = &[
        (":msg, contains, \"World\"", "$msg contains 'World'"),
        (":msg, !contains, \"World\"", "not ($msg contains 'World')"),
        (":programname, isequal, \"su\"", "$programname isequal 'su'"),
        (":programname, isequal, \"s\"", "$programname isequal 's'"),
        (":programname, !isequal, \"su\"", "not ($programname isequal 'su')"),
        (":syslogtag, startswith, \"su[\"", "$syslogtag startswith 'su['"),
        (":msg, startswith, \"Hello\"", "$msg startswith 'Hello'"),
        (":msg, regex, \"^ Hel*o\"", "re_match_bre($msg, '^ Hel*o')"),
        (":msg, regex, \"l{2}\"", "re_match_bre($msg, 'l{2}')"),
        (":msg, regex, \"a+b|World\"", "re_match_bre($msg, 'a+b|World')"),
        (":msg, regex, \"(World)\"", "re_match_bre($msg, '(World)')"),
        (":msg, regex, \"[[:digit:]]$\"", "re_match_bre($msg, '[[:digit:]]$')"),
        (":msg, !regex, \"W*X\"", "not (re_match_bre($msg, 'W*X'))"),
        (":msg, ereregex, \"l{2}\"", "re_match($msg, 'l{2}')"),
        (":msg, ereregex, \"(World|x) [0-9]+$\"", "re_match($msg, '(World|x) [0-9]+$')"),
        (":msg, !ereregex, \"^Hello\"", "not (re_match($msg, '^Hello'))"),
        (":procid, isempty, \"\"", "$procid == ''"),
        (":msg, !isempty, \"\"", "not ($msg == '')"),
        (":pri-text, isequal, \"auth.crit\"", "$pri-text isequal 'auth.crit'"),
    ];
    let filters: Vec<String> = rows.iter().map(|(filter, _)| (*filter).to_owned()).collect();
    let Some(found) = rsyslogd::ask(&filters, &[FRAME.to_vec()]) else { return };
    for (index, (filter, text)) in rows.iter().enumerate() {
        assert_eq!(holds(&parse(text), FRAME), found[0].contains(&index), "{filter}: {text}");
    }
    assert!((5..rows.len() - 5).contains(&found[0].len()), "{} hold", found[0].len());
}
