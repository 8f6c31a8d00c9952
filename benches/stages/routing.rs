//! What the number of routes costs: 1,024 messages to 1, 10, 100 and 1,000 routes with a `when:` each, every route with a
//! program of its own that sends.

use std::net::{IpAddr, Ipv4Addr};

use forebay::route::{Conditions, Expression, Matcher, Rule};
use forebay::syslog::{Clock, Fields, Message, parse};

/// What the routes ask for, and how many they are.
///
/// - `program`: the program's name alone.
/// - `mixed`: the program's name and, for that program, a severity, a text or a POSIX expression.
/// - `host`: a host's name, which nothing remembers: each route is asked in turn.
pub const STAGES: [&str; 10] = [
    "program_1",
    "program_10",
    "program_100",
    "program_1000",
    "mixed_1",
    "mixed_10",
    "mixed_100",
    "mixed_1000",
    "host_1",
    "host_100",
];

/// Messages of one pass.
pub const MESSAGES: usize = 1024;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const CLOCK: Clock = Clock { now_us: 1_795_348_800_000_000, year: 2026, month: 11, day: 22, offset_minutes: 0 };

/// Messages, and a matcher that has seen each of their programs.
pub struct Routing {
    parsed: Vec<(Vec<u8>, Fields)>,
    matcher: Matcher,
    hits: Vec<u16>,
}

impl Routing {
    /// For the stage named so.
    pub fn new(stage: &str) -> Self {
        let (kind, count) = stage.split_once('_').expect("a kind and a count");
        let count: usize = count.parse().expect("a count");
        let rules: Vec<Rule> = (0..count).map(|index| rule(kind, index)).collect();
        let parsed = (0..MESSAGES).map(|index| {
            let text = message(index, count).into_bytes();
            let fields = parse(&text, &CLOCK);
            (text, fields)
        });
        let mut routing = Self { parsed: parsed.collect(), matcher: Matcher::new(&rules), hits: Vec::new() };
        for (index, (raw, fields)) in routing.parsed.iter().enumerate() {
            routing.matcher.route(&seen(fields, raw), &mut routing.hits);
            assert_eq!(routing.hits, [(index % count) as u16], "message {index} has its program's route");
        }
        routing
    }

    /// Finds the route of every message.
    pub fn pass(&mut self) -> usize {
        let mut count = 0;
        for (raw, fields) in &self.parsed {
            self.matcher.route(&seen(fields, raw), &mut self.hits);
            count += self.hits.len();
        }
        count
    }
}

fn rule(kind: &str, index: usize) -> Rule {
    let name = format!("app{index:03}");
    let further = match index % 3 {
        0 => "$syslogseverity <= 6",
        1 => "$msg contains 'was accepted by rule'",
        _ => "re_match($msg, 'port [0-9]+ was (accept|deni)ed')",
    };
    let when = match kind {
        "program" => format!("$programname == '{name}' or $programname startswith '{name}-'"),
        "mixed" => format!("$programname == '{name}' and {further}"),
        "host" => format!("$hostname == 'edge-{name}'"),
        other => panic!("no kind is named {other}"),
    };
    let when = Expression::parse(&when).expect("a condition");
    Rule { conditions: Conditions { when: Some(when), ..Conditions::default() }, continues: false }
}

fn message(index: usize, routes: usize) -> String {
    let (route, pid) = (index % routes, 1000 + index);
    format!(
        "<134>Nov 22 11:59:{:02} edge-app{route:03} app{route:03}[{pid}]: connection {index} from 198.51.100.{} port {} was \
         accepted by rule 17 after 12 ms, 3 answers, from cache: no",
        index % 60,
        index % 250,
        1024 + index * 7 % 60_000
    )
}

fn seen<'a>(fields: &'a Fields, raw: &'a [u8]) -> Message<'a> {
    Message { fields, raw, received_at_us: CLOCK.now_us, peer: Some(PEER), input: "lan" }
}
