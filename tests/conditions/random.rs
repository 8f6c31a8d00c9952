//! Expressions and messages at random, out of the same few texts, so that they meet.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Expressions a round: each is an action of rsyslogd's.
const EXPRESSIONS: usize = 400;
/// Messages a round.
const FRAMES: usize = 40;

/// What both sides are made of.
const TEXTS: &[&str] = &[
    "", "a", "ab", "A", "aB", "b", " ab", " a b", "5", "05", "-5", "10", "9", "5x", "-", "sshd", "su", "auth", "AUTH",
    "err", "ERROR", "local0", "34", "0x10", "7", "crit", "3", "4",
];

const PROPERTIES: &[&str] = &[
    "$msg",
    "$msg",
    "$msg",
    "$programname",
    "$programname",
    "$hostname",
    "$source",
    "$syslogtag",
    "$app-name",
    "$procid",
    "$procid",
    "$msgid",
    "$structured-data",
    "$pri",
    "$pri-text",
    "$syslogfacility",
    "$syslogfacility-text",
    "$syslogseverity",
    "$syslogseverity-text",
    "$syslogpriority",
    "$protocol-version",
    "$inputname",
    "$iut",
    "$rawmsg-after-pri",
    "$!x",
    "$.y",
    "$/z!q",
    "$parsesuccess",
    "$MSG",
];

const EXPRESSIONS_OF_POSIX: &[&str] =
    &["a", "^a", "b$", "^$", "a|b", "[ab]+", "[^a]", "(a|ab)b?", "a{1,2}", "[[:digit:]]+$", "^ ?[A-Z]", "s.*d", "a.?b"];

const SELECTORS: &[&str] = &[
    "*.*",
    "auth.*",
    "auth,local0.err",
    "*.=crit",
    "*.!err",
    "kern.*;auth.!=err",
    "*.*;auth.none",
    "*.info;local0.!none",
    "user.debug,mail.=warn;*.!*",
    "*.err;auth.!crit",
    "local0.ERROR",
];

const COMPARED: &[&str] = &["==", "!=", "<>", "<", "<=", ">", ">=", "contains", "contains_i", "startswith"];
const TAKE_ARRAYS: &[&str] = &["==", "!=", "contains", "contains_i", "startswith"];

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    prop::sample::select(texts).prop_map(str::to_owned)
}

fn literal() -> impl Strategy<Value = String> + Clone {
    (one_of(TEXTS), any::<bool>())
        .prop_map(|(text, single)| if single { format!("'{text}'") } else { format!("\"{text}\"") })
}

fn array() -> impl Strategy<Value = String> {
    proptest::collection::vec(literal(), 1..4).prop_map(|texts| format!("[{}]", texts.join(", ")))
}

/// A value that is a text for rsyslog.
fn text() -> impl Strategy<Value = String> + Clone {
    prop_oneof![4 => one_of(PROPERTIES), 1 => literal()]
}

/// A value. A comparison in its place never is one by `!=`, whose number is not 1 with rsyslog.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => text(),
        2 => (0_u8..12).prop_map(|number| number.to_string()),
        1 => (1_u8..12).prop_map(|number| format!("-{number}")),
        1 => text().prop_map(|text| format!("strlen({text})")),
        1 => text().prop_map(|text| format!("not {text}")),
        1 => (text(), prop::sample::select(&["==", "<", "contains"][..]), text())
            .prop_map(|(left, operator, right)| format!("({left} {operator} {right})")),
    ]
}

/// For rsyslog a text starts with whatever it is the start of (docs/COMPATIBILITY.md): such are kept away.
fn starts_in_any_case(text: &str, sought: &str) -> String {
    let literals = sought.trim_matches(['[', ']']).split(", ");
    let longest = literals.map(|literal| literal.len().saturating_sub(2)).max().unwrap_or_default();
    format!("(strlen({text}) >= {longest} and {text} startswith_i {sought})")
}

fn comparison() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (value(), one_of(COMPARED), value())
            .prop_filter("rsyslog has no such facility or severity", |(left, operator, right)| is_known(left, operator, right))
            .prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
        2 => (text(), one_of(TAKE_ARRAYS), array()).prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
        1 => (text(), one_of(EXPRESSIONS_OF_POSIX)).prop_map(|(text, regex)| format!("re_match({text}, '{regex}')")),
        1 => (text(), one_of(EXPRESSIONS_OF_POSIX)).prop_map(|(text, regex)| format!("re_match_i({text}, '{regex}')")),
        1 => (text(), array()).prop_map(|(text, array)| starts_in_any_case(&text, &array)),
        1 => (text(), literal()).prop_map(|(text, literal)| starts_in_any_case(&text, &literal)),
        2 => one_of(SELECTORS).prop_map(|selectors| format!("prifilt('{selectors}')")),
        1 => value(),
        1 => Just("exists($!x)".to_owned()),
    ]
}

/// rsyslog takes what `$syslogfacility-text` is compared with for a name, or for a number times eight: see
/// docs/COMPATIBILITY.md.
fn is_known(left: &str, operator: &str, right: &str) -> bool {
    let by_name = left.ends_with("-text") && left != "$pri-text" && matches!(operator, "==" | "!=" | "<>");
    let digits = right.trim_matches(['\'', '"']);
    !(by_name && right.starts_with(['\'', '"']) && digits.starts_with(|first: char| first.is_ascii_digit()))
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = comparison().boxed();
    leaf.prop_recursive(4, 12, 3, |inner| {
        let parts = proptest::collection::vec((inner.clone(), any::<bool>()), 2..4);
        let chain = parts.prop_map(|parts| {
            let mut text = String::new();
            for (part, and) in parts {
                if !text.is_empty() {
                    text.push_str(if and { " and " } else { " or " });
                }
                text.push_str(&part);
            }
            text
        });
        let chain = chain.boxed();
        prop_oneof![
            2 => chain.clone(),
            2 => chain.prop_map(|chain| format!("({chain})")),
            1 => inner.clone().prop_map(|inner| format!("not ({inner})")),
            1 => inner.prop_map(|inner| format!("not not ({inner})")),
        ]
    })
}

/// The time of day that names frame `number`.
fn stamp(number: usize) -> String {
    format!("{:02}:{:02}:{:02}", number / 3600, number / 60 % 60, number % 60)
}

/// Either header. Fields that may not be empty are `-` instead.
fn frame(number: usize) -> impl Strategy<Value = Vec<u8>> {
    let field = || one_of(TEXTS).prop_map(|text| text.trim().to_owned());
    (0_u8..192, any::<bool>(), [field(), field(), field(), field()], one_of(TEXTS)).prop_map(
        move |(pri, modern, [host, program, procid, msgid], msg)| {
            let or_nil =
                |text: &str| if text.is_empty() || text.contains(' ') { "-".to_owned() } else { text.to_owned() };
            let time = stamp(number);
            let line = if modern {
                let (host, program, procid, msgid) = (or_nil(&host), or_nil(&program), or_nil(&procid), or_nil(&msgid));
                format!("<{pri}>1 2026-10-11T{time}Z {host} {program} {procid} {msgid} - {msg}")
            } else {
                let program = or_nil(&program);
                let procid = if procid.is_empty() { String::new() } else { format!("[{procid}]") };
                format!("<{pri}>Oct 11 {time} host {program}{procid}:{msg}")
            };
            line.into_bytes()
        },
    )
}

/// What round number `seed` asks.
pub(crate) fn round(seed: u64) -> (Vec<String>, Vec<Vec<u8>>) {
    let mut octets = [0; 32];
    octets[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &octets);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let texts = (0..EXPRESSIONS).map(|_| expression().new_tree(&mut runner).unwrap().current()).collect();
    let frames = (0..FRAMES).map(|number| frame(number).new_tree(&mut runner).unwrap().current()).collect();
    (texts, frames)
}
