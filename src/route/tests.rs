use std::net::IpAddr;

use proptest::prelude::*;

use super::{
    CACHED_INDICES_MAX, CACHED_NAMES_MAX, Conditions, Expression, FacilitySet, Matcher, Name, Rule, SeveritySet,
    TextTest, parse_net, shadowed,
};
use crate::syslog::{Facility, Fields, Message, Pri, Severity, Span};

/// A message's octets and where its fields lie.
#[derive(Clone, Debug)]
struct Sample {
    raw: Vec<u8>,
    fields: Fields,
    peer: Option<IpAddr>,
    input: &'static str,
}

impl Sample {
    fn new(prival: u8, hostname: Option<&str>, program: &str, msg: &str) -> Self {
        let mut raw = Vec::new();
        let mut put = |text: &str| {
            let start = raw.len();
            raw.extend_from_slice(text.as_bytes());
            Span::between(start, raw.len())
        };
        let fields = Fields {
            pri: Pri::new(prival).unwrap(),
            hostname: hostname.map(&mut put),
            app_name: Some(put(program)),
            msg: put(msg),
            ..Fields::default()
        };
        Self { raw, fields, peer: Some("192.0.2.7".parse().unwrap()), input: "lan" }
    }

    fn message(&self) -> Message<'_> {
        Message { fields: &self.fields, raw: &self.raw, received_at_us: 0, peer: self.peer, input: self.input }
    }
}

fn names(texts: &[&str]) -> Vec<Name> {
    texts.iter().map(|text| Name::parse(text).unwrap()).collect()
}

fn by_program(texts: &[&str]) -> Conditions {
    Conditions { program: names(texts), ..Conditions::default() }
}

fn ending(conditions: Conditions) -> Rule {
    Rule { conditions, continues: false }
}

fn routed(matcher: &mut Matcher, sample: &Sample) -> Vec<u16> {
    let mut hits = vec![99];
    matcher.route(&sample.message(), &mut hits);
    hits
}

#[test]
fn a_name_matches_octet_by_octet_and_a_glob_as_written() {
    let table: &[(&str, &[&str], &[&str])] = &[
        ("sshd", &["sshd"], &["SSHD", "sshd2", "ssh", ""]),
        ("", &[""], &["a"]),
        ("*", &["", "a", "a*b", "é"], &[]),
        ("unbound*", &["unbound", "unbound-anchor"], &["unboun", "Unbound"]),
        ("*d", &["d", "sshd", "dd"], &["", "sshdx"]),
        ("a*b*c", &["abc", "axbxc", "abcbc", "abbcc"], &["ab", "acb", "abcd"]),
        ("a**b", &["ab", "axxb"], &["a"]),
        ("?", &["a"], &["", "ab", "é"]),
        ("a?c*", &["abc", "abcd"], &["ac", "ab"]),
        ("%ASA-[0-6]-*", &["%ASA-6-302013"], &["%ASA-7-1", "%ASA-6"]),
        ("[!0-9]x", &["ax"], &["1x", "x"]),
        ("[^0-9]x", &["ax"], &["1x"]),
        ("[]a-]", &["]", "a", "-"], &["b", ""]),
        (r"a\*b", &["a*b"], &["axb", r"a\*b"]),
        (r"\[x]?", &["[x]y"], &["x", "[x]"]),
        ("é", &["é"], &["e"]),
    ];
    for (text, matching, others) in table {
        let name = Name::parse(text).unwrap();
        assert_eq!(name.as_str(), *text);
        for candidate in *matching {
            assert!(name.matches(candidate.as_bytes()), "{text} is to match {candidate}");
        }
        for candidate in *others {
            assert!(!name.matches(candidate.as_bytes()), "{text} is not to match {candidate}");
        }
    }
}

#[test]
fn a_glob_with_many_stars_takes_no_exponential_time() {
    let glob = Name::parse(&"*a".repeat(100)).unwrap();
    assert!(!glob.matches(&[b"a".repeat(5000), b"b".to_vec()].concat()));
}

#[test]
fn a_broken_glob_says_what_is_wrong() {
    let table = [
        ("a[b", "no `]`"),
        ("[]", "no `]`"),
        ("x\\", "nothing to escape"),
        ("[z-a]", "wrong way round"),
        ("[é]", "not ASCII"),
    ];
    for (text, said) in table {
        let error = Name::parse(text).unwrap_err();
        assert!(error.contains(said) && error.contains(text), "{text}: {error}");
    }
}

#[test]
fn severities_and_facilities_are_read_as_names_numbers_and_ranges() {
    let severities = |text: &str| -> Vec<u8> {
        let set = SeveritySet::parse(text).unwrap();
        (0..8).filter(|code| set.contains(Severity::parse(&code.to_string()).unwrap())).collect()
    };
    assert_eq!(severities("err..emerg"), [0, 1, 2, 3]);
    assert_eq!(severities("emerg .. err"), [0, 1, 2, 3]);
    assert_eq!(severities("5..warn"), [4, 5]);
    assert_eq!(severities("debug"), [7]);
    assert_eq!(severities("0"), [0]);
    assert_eq!(severities("*"), [0, 1, 2, 3, 4, 5, 6, 7]);
    let facilities = |text: &str| -> Vec<u8> {
        let set = FacilitySet::parse(text).unwrap();
        (0..24).filter(|code| set.contains(Facility::parse(&code.to_string()).unwrap())).collect()
    };
    assert_eq!(facilities("local7..local5"), [21, 22, 23]);
    assert_eq!(facilities("security"), [4]);
    assert_eq!(facilities("*").len(), 24);
    let both: FacilitySet = ["kern", "mail"].iter().map(|text| FacilitySet::parse(text).unwrap()).collect();
    assert!(both.contains(Facility::parse("kern").unwrap()) && !both.contains(Facility::parse("user").unwrap()));
}

#[test]
fn a_wrong_severity_or_facility_is_reported_with_what_was_meant() {
    let table = [
        ("eror", "no severity \"eror\" (did you mean \"err\"?): expected"),
        ("warnin..emerg", "(did you mean \"warning\"?)"),
        ("DEBUG", "(did you mean \"debug\"?)"),
        ("err..", "\"err..\" lacks a severity: expected"),
        ("", "\"\" lacks a severity"),
        ("8", "no severity \"8\": expected"),
        ("-1", "no severity \"-1\": expected"),
    ];
    for (text, said) in table {
        let error = SeveritySet::parse(text).unwrap_err();
        assert!(error.contains(said), "{text}: {error}");
    }
    let error = FacilitySet::parse("locale3").unwrap_err();
    assert!(error.contains("no facility \"locale3\" (did you mean \"local"), "{error}");
    assert!(FacilitySet::parse("24").is_err());
}

#[test]
fn a_wrong_text_test_or_network_is_reported() {
    assert!(TextTest::contains("").unwrap_err().contains("expected some text"));
    let error = TextTest::regex("a(b").unwrap_err();
    assert!(error.contains("unclosed group") && error.contains("`a(b`") && !error.contains('\n'), "{error}");
    assert!(TextTest::regex("(a{1000}){1000}").unwrap_err().contains("expected a smaller one"));
    assert!(parse_net("10.0.0.0/33").unwrap_err().contains("expected one such as 10.0.0.0/8"));
    assert_eq!(parse_net("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
    assert_eq!(parse_net("2001:db8::1").unwrap().to_string(), "2001:db8::1/128");
}

/// What `conditions` make of a message of `local0.err` from `fw1`'s `sshd` that says ` login failed for root`.
fn holds(conditions: &Conditions) -> bool {
    conditions.matches(&Sample::new(16 * 8 + 3, Some("fw1"), "sshd", " login failed for root").message())
}

#[test]
fn all_parts_must_hold_and_one_of_each_parts_list() {
    let facility = FacilitySet::parse;
    let severity = SeveritySet::parse;
    let default = Conditions::default;
    let table: Vec<(Conditions, bool)> = vec![
        (default(), true),
        (by_program(&["cron", "ssh*"]), true),
        (by_program(&["cron", "su"]), false),
        (Conditions { hostname: names(&["fw[0-9]"]), ..default() }, true),
        (Conditions { hostname: names(&["192.0.2.7"]), ..default() }, false),
        (
            Conditions {
                peer: vec![parse_net("10.0.0.0/8").unwrap(), parse_net("192.0.2.0/24").unwrap()],
                ..default()
            },
            true,
        ),
        (Conditions { peer: vec![parse_net("::/0").unwrap()], ..default() }, false),
        (Conditions { input: vec!["wan".into(), "lan".into()], ..default() }, true),
        (Conditions { input: vec!["LAN".into()], ..default() }, false),
        (Conditions { facility: facility("local0").unwrap(), ..default() }, true),
        (Conditions { facility: facility("kern..cron").unwrap(), ..default() }, false),
        (Conditions { severity: severity("err..emerg").unwrap(), ..default() }, true),
        (Conditions { severity: severity("warning..debug").unwrap(), ..default() }, false),
        (Conditions { message: vec![TextTest::contains("failed").unwrap()], ..default() }, true),
        (Conditions { message: vec![TextTest::contains("Failed").unwrap()], ..default() }, false),
        (
            Conditions {
                message: vec![TextTest::contains("x").unwrap(), TextTest::regex("^ login .*root$").unwrap()],
                ..default()
            },
            true,
        ),
        (Conditions { message: vec![TextTest::regex("^login").unwrap()], ..default() }, false),
        (Conditions { severity: severity("err").unwrap(), ..by_program(&["sshd"]) }, true),
        (Conditions { severity: severity("info").unwrap(), ..by_program(&["sshd"]) }, false),
        // `not` negates all of its parts together.
        (Conditions { not: Some(Box::new(default())), ..default() }, false),
        (Conditions { not: Some(Box::new(by_program(&["sshd"]))), ..default() }, false),
        (
            Conditions {
                not: Some(Box::new(Conditions { hostname: names(&["fw2"]), ..by_program(&["sshd"]) })),
                ..default()
            },
            true,
        ),
        (
            Conditions {
                not: Some(Box::new(Conditions { not: Some(Box::new(by_program(&["sshd"]))), ..default() })),
                ..default()
            },
            true,
        ),
    ];
    for (conditions, expected) in &table {
        assert_eq!(holds(conditions), *expected, "{conditions:?}");
        let mut matcher = Matcher::new(&[ending(conditions.clone())]);
        let sample = Sample::new(16 * 8 + 3, Some("fw1"), "sshd", " login failed for root");
        assert_eq!(!routed(&mut matcher, &sample).is_empty(), *expected, "{conditions:?}");
    }
}

#[test]
fn the_peers_address_stands_in_for_a_missing_hostname() {
    let by_hostname = |text| Conditions { hostname: names(&[text]), ..Conditions::default() };
    let mut sample = Sample::new(13, None, "a", "b");
    assert!(by_hostname("192.0.2.*").matches(&sample.message()));
    for (peer, text) in [
        ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("::ffff:198.51.100.255", "198.51.100.255"),
    ] {
        sample.peer = Some(peer.parse().unwrap());
        assert!(by_hostname(text).matches(&sample.message()), "{peer}");
    }
    assert!(
        Conditions { peer: vec![parse_net("198.51.100.0/24").unwrap()], ..Conditions::default() }
            .matches(&sample.message())
    );
    sample.peer = None;
    assert!(by_hostname("").matches(&sample.message()) && !by_hostname("?*").matches(&sample.message()));
    assert!(
        !Conditions { peer: vec![parse_net("0.0.0.0/0").unwrap()], ..Conditions::default() }.matches(&sample.message())
    );
    // An empty HOSTNAME is a HOSTNAME.
    assert!(!by_hostname("192.0.2.7").matches(&Sample::new(13, Some(""), "a", "b").message()));
}

#[test]
fn the_first_match_wins_unless_it_continues() {
    let continuing = |conditions| Rule { conditions, continues: true };
    let rules = [
        continuing(by_program(&["ssh*"])),
        ending(by_program(&["sshd"])),
        continuing(Conditions::default()),
        ending(Conditions::default()),
        ending(Conditions::default()),
    ];
    let mut matcher = Matcher::new(&rules);
    for _ in 0..2 {
        assert_eq!(routed(&mut matcher, &Sample::new(13, None, "sshd", "")), [0, 1]);
        assert_eq!(routed(&mut matcher, &Sample::new(13, None, "ssh", "")), [0, 2, 3]);
        assert_eq!(routed(&mut matcher, &Sample::new(13, None, "", "")), [2, 3]);
    }
    assert_eq!(routed(&mut Matcher::new(&[]), &Sample::new(13, None, "a", "")), Vec::<u16>::new());
}

#[test]
fn a_sender_that_invents_program_names_does_not_grow_the_cache() {
    // Each message's list of candidates is a different one: the bit pattern of its number.
    let rules: Vec<Rule> = (0..14)
        .map(|bit| Rule { conditions: by_program(&[&format!("{}1*", "?".repeat(bit))]), continues: true })
        .collect();
    let mut matcher = Matcher::new(&rules);
    let mut cached_most = 0;
    for number in 0..3 * CACHED_NAMES_MAX {
        let program = format!("{number:014b}");
        let expected: Vec<u16> =
            program.bytes().zip(0..).filter(|(bit, _)| *bit == b'1').map(|(_, index)| index).collect();
        assert_eq!(routed(&mut matcher, &Sample::new(13, None, &program, "")), expected);
        assert!(matcher.cache.len() <= CACHED_NAMES_MAX && matcher.listed <= CACHED_INDICES_MAX);
        assert!(matcher.lists.len() <= matcher.cache.len());
        cached_most = cached_most.max(matcher.cache.len());
    }
    assert_eq!(cached_most, CACHED_NAMES_MAX);
    let cached = matcher.cache.len();
    assert_eq!(routed(&mut matcher, &Sample::new(13, None, &"1".repeat(300), "")).len(), 14);
    assert_eq!(matcher.cache.len(), cached, "a program name of 300 octets is not remembered");
}

#[test]
fn many_long_lists_of_candidates_do_not_grow_the_cache() {
    let rule = |index: usize| {
        let program =
            if index < 8 { by_program(&[&format!("{}1*", "?".repeat(index))]) } else { Conditions::default() };
        Rule { conditions: program, continues: true }
    };
    let mut matcher = Matcher::new(&(0..2000).map(rule).collect::<Vec<_>>());
    for number in 0..256 {
        assert!(routed(&mut matcher, &Sample::new(13, None, &format!("{number:08b}"), "")).len() >= 1992);
        assert!(matcher.listed <= CACHED_INDICES_MAX);
    }
}

#[test]
fn a_rule_that_an_earlier_one_leaves_nothing_to_is_found() {
    let default = Conditions::default;
    let severity = |text: &str| Conditions { severity: SeveritySet::parse(text).unwrap(), ..default() };
    let peer = |text: &str| Conditions { peer: vec![parse_net(text).unwrap()], ..default() };
    let contains = |text: &str| Conditions { message: vec![TextTest::contains(text).unwrap()], ..default() };
    let regex = |text: &str| Conditions { message: vec![TextTest::regex(text).unwrap()], ..default() };
    let when = |text: &str| Conditions { when: Some(Expression::parse(text).unwrap()), ..default() };
    let not = |conditions: Conditions| Conditions { not: Some(Box::new(conditions)), ..default() };
    // The earlier one, the later one, whether the later one can never match.
    let table: Vec<(Conditions, Conditions, bool)> = vec![
        (default(), by_program(&["a"]), true),
        (default(), default(), true),
        (by_program(&["a"]), default(), false),
        (by_program(&["a", "b"]), by_program(&["b"]), true),
        (by_program(&["a"]), by_program(&["a", "b"]), false),
        (by_program(&["unbound*"]), by_program(&["unbound", "unbound-x"]), true),
        (by_program(&["unbound*"]), by_program(&["unbound-*", "unbound?"]), true),
        (by_program(&["unbound-*"]), by_program(&["unbound*"]), false),
        (by_program(&["a*z"]), by_program(&["a*z"]), true),
        (by_program(&["a*z"]), by_program(&["ab*z"]), false),
        (by_program(&["a*z*"]), by_program(&["a*zz", "a*z?*"]), true),
        (by_program(&["a*z*"]), by_program(&["a*"]), false),
        (by_program(&["ab"]), by_program(&["a?"]), false),
        (by_program(&[r"\*"]), by_program(&["*"]), false),
        (severity("err..emerg"), severity("crit"), true),
        (severity("crit"), severity("err..emerg"), false),
        (severity("crit"), default(), false),
        (severity("*"), default(), true),
        (peer("10.0.0.0/8"), peer("10.1.0.0/16"), true),
        (peer("10.1.0.0/16"), peer("10.0.0.0/8"), false),
        (peer("0.0.0.0/0"), peer("::/0"), false),
        (contains("fail"), contains("login failed"), true),
        (contains("login failed"), contains("fail"), false),
        (regex("a+"), regex("a+"), true),
        (regex("a"), contains("a"), false),
        (by_program(&["a"]), Conditions { program: names(&["a"]), ..severity("err") }, true),
        (Conditions { program: names(&["a"]), ..severity("err") }, by_program(&["a"]), false),
        (when("$msg == 'a'"), when("$msg == 'a'"), true),
        (when("$msg == 'a'"), when("$msg == 'b'"), false),
        (when("$msg == 'a'"), default(), false),
        (default(), when("$msg == 'a'"), true),
        (by_program(&["a"]), Conditions { program: names(&["a"]), ..when("$msg == 'a'") }, true),
        (Conditions { program: names(&["a"]), ..when("$msg == 'a'") }, by_program(&["a"]), false),
        (not(when("$msg == 'a'")), not(when("$msg == 'a'")), true),
        (not(default()), not(when("$msg == 'a'")), false),
        (not(by_program(&["a"])), not(by_program(&["a", "b"])), true),
        (not(by_program(&["a", "b"])), not(by_program(&["a"])), false),
        (not(by_program(&["a"])), by_program(&["b"]), false),
        (not(by_program(&["a"])), default(), false),
        (default(), not(by_program(&["a"])), true),
    ];
    for (earlier, later, expected) in table {
        let shown = format!("{earlier:?} before {later:?}");
        let pairs = shadowed(&[ending(by_program(&["other"])), ending(earlier.clone()), ending(later.clone())]);
        let expected = if expected { vec![(2, 1)] } else { vec![] };
        assert_eq!(pairs.into_iter().filter(|(later, _)| *later == 2).collect::<Vec<_>>(), expected, "{shown}");
        let continuing = Rule { conditions: earlier, continues: true };
        assert_eq!(shadowed(&[continuing, ending(later)]), [], "the earlier one continues: {shown}");
    }
}

fn name() -> impl Strategy<Value = Name> {
    proptest::string::string_regex(r"([ab*?]|\[ab\]|\[!a\]){0,3}").unwrap().prop_map(|text| Name::parse(&text).unwrap())
}

/// Expressions that ask for the program, for something else, or for both.
fn expression() -> impl Strategy<Value = Expression> {
    let leaf = prop::sample::select(vec![
        "$programname == 'a'",
        "$programname startswith ['a', 'bb']",
        "re_match($programname, 'a|b$')",
        "$msg contains 'ab'",
        "$msg",
        "$hostname == 'a'",
        "$inputname == 'wan'",
        "$fromhost-ip startswith '192.'",
        "prifilt('user.*;kern.err')",
        "1",
        "exists($!x)",
    ]);
    let leaf = leaf.prop_map(str::to_owned).boxed();
    let all = leaf.prop_recursive(3, 12, 3, |inner| {
        let list = proptest::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            inner.prop_map(|inner| format!("not ({inner})")),
            list.clone().prop_map(|parts| format!("({})", parts.join(") and ("))),
            list.prop_map(|parts| format!("({})", parts.join(" or "))),
        ]
    });
    all.prop_map(|text| Expression::parse(&text).unwrap())
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let net = prop::sample::select(vec!["192.0.2.0/24", "192.0.2.7", "0.0.0.0/0", "2001:db8::/32"]);
    let text = prop::sample::select(vec!["a", "ab", "b"]).prop_flat_map(|text| {
        prop_oneof![Just(TextTest::contains(text).unwrap()), Just(TextTest::regex(&format!("{text}$")).unwrap())]
    });
    let few = 0..3_usize;
    let one = (
        prop_oneof![Just(Vec::new()), proptest::collection::vec(name(), few.clone())],
        prop_oneof![3 => Just(Vec::new()), 1 => proptest::collection::vec(name(), few.clone())],
        prop_oneof![3 => Just(Vec::new()), 1 => proptest::collection::vec(net.prop_map(|net| parse_net(net).unwrap()), few.clone())],
        prop_oneof![3 => Just(Vec::new()), 1 => Just(vec!["lan".to_owned()]), 1 => Just(vec!["wan".to_owned(), "lan".to_owned()])],
        prop::sample::select(vec!["", "", "*", "kern", "user..local7"]),
        prop::sample::select(vec!["", "", "*", "err..emerg", "debug", "err..debug"]),
        prop_oneof![3 => Just(Vec::new()), 1 => proptest::collection::vec(text, few)],
        proptest::option::weighted(0.4, expression()),
    )
        .prop_map(|(program, hostname, peer, input, facility, severity, message, when)| Conditions {
            program,
            hostname,
            peer,
            input,
            facility: FacilitySet::parse(facility).unwrap_or_default(),
            severity: SeveritySet::parse(severity).unwrap_or_default(),
            message,
            when,
            not: None,
        });
    let one = one.boxed();
    (one.clone(), proptest::option::weighted(0.2, (one.clone(), proptest::option::weighted(0.2, one)))).prop_map(
        |(conditions, not)| {
            let not = not.map(|(not, inner)| Box::new(Conditions { not: inner.map(Box::new), ..not }));
            Conditions { not, ..conditions }
        },
    )
}

fn sample() -> impl Strategy<Value = Sample> {
    let peer = prop::sample::select(vec!["192.0.2.7", "::ffff:192.0.2.9", "2001:db8::1", ""]);
    (
        "[ab]{0,3}",
        proptest::option::of("[ab]{0,2}"),
        "[ab]{0,3}",
        0_u8..192,
        peer,
        prop::sample::select(vec!["lan", "wan"]),
    )
        .prop_map(|(program, hostname, msg, prival, peer, input)| Sample {
            peer: peer.parse().ok(),
            input,
            ..Sample::new(prival, hostname.as_deref(), &program, &msg)
        })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let rule = (conditions(), proptest::bool::weighted(0.3));
    proptest::collection::vec(rule.prop_map(|(conditions, continues)| Rule { conditions, continues }), 0..8)
}

/// What the matcher is to give: each rule asked in turn.
fn one_by_one(rules: &[Rule], message: &Message<'_>) -> Vec<u16> {
    let mut hits = Vec::new();
    for (index, rule) in (0..).zip(rules) {
        if rule.conditions.matches(message) {
            hits.push(index);
            if !rule.continues {
                break;
            }
        }
    }
    hits
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_matcher_gives_what_asking_each_rule_in_turn_gives(
        rules in rules(),
        samples in proptest::collection::vec(sample(), 1..20),
    ) {
        let mut matcher = Matcher::new(&rules);
        for sample in samples.iter().chain(&samples) {
            prop_assert_eq!(routed(&mut matcher, sample), one_by_one(&rules, &sample.message()));
        }
    }

    #[test]
    fn a_shadowed_rule_never_matches(rules in rules(), samples in proptest::collection::vec(sample(), 1..40)) {
        let shadowed = shadowed(&rules);
        let mut matcher = Matcher::new(&rules);
        for sample in &samples {
            let hits = routed(&mut matcher, sample);
            for (later, earlier) in &shadowed {
                prop_assert!(earlier < later && !rules[*earlier].continues);
                prop_assert!(!hits.contains(&(*later as u16)), "{later} is shadowed by {earlier}");
            }
        }
    }
}
