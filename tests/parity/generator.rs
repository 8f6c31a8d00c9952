//! Frames as devices write them and as nobody should, from a fixed seed.

/// SplitMix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True in `percent` of a hundred cases.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const PRI_GOOD: [&str; 10] = ["<13>", "<34>", "<0>", "<7>", "<86>", "<134>", "<165>", "<189>", "<190>", "<191>"];

const PRI_ODD: [&str; 22] = [
    "",
    "<192>",
    "<255>",
    "<256>",
    "<999>",
    "<1000>",
    "<4294967309>",
    "<>",
    "<013>",
    "<00>",
    "<0000007>",
    "<1",
    "<13",
    "< 13>",
    "<13 >",
    "<-1>",
    "<+1>",
    "<0x1>",
    "<13>>",
    "<<13>",
    "13>",
    "<13><14>",
];

const HOSTS: [&str; 26] = [
    "gate",
    "fw-paris-2",
    "192.0.2.17",
    "2001:db8::7",
    "db_main",
    "a",
    "edge.example.net",
    "edge.example.net.",
    "host-",
    "host_",
    ".",
    "-",
    "_x",
    "",
    "[192.0.2.9]",
    "h\u{e9}te",
    "rack/7",
    "mail:",
    "9",
    "2024",
    "UTC",
    "CEST:",
    "a@b",
    "host,",
    "%ASA-6-302013:",
    "very-long-name-of-a-host-that-goes-on-for-more-than-sixty-three-octets-in-one-label",
];

const TAGS: [&str; 34] = [
    "sshd[4312]:",
    "cron:",
    "kernel:",
    "su",
    "su:",
    "postfix/smtpd[77]:",
    "/usr/sbin/cron[1]:",
    "app[]:",
    "app[-]:",
    "app[12",
    "app[1[2]]:",
    "app]1[:",
    "sshd(pam_unix)[9]:",
    "%SYS-5-CONFIG_I:",
    "17",
    "17:",
    ":",
    "::",
    "",
    "[",
    "[x]:",
    "{\"k\":1}",
    "app[1]",
    "app [1]:",
    "a:b:",
    "caf\u{e9}[3]:",
    "id=fw",
    "CEF:0|V|P|1|",
    "LEEF:1.0|V|P|",
    "-",
    "-:",
    "time=12:30",
    "unbound:",
    "*:",
];

const TEXTS: [&str; 20] = [
    " link down on port 7",
    " accepted key for root",
    "no space in front",
    "",
    " ",
    "  two spaces",
    "\tafter a tab",
    " a\tb",
    " trailing line\n",
    " two lines\n\n",
    " nul\0",
    " nul and line\n\0",
    " line and nul\0\n",
    " bell\u{7} esc\u{1b}[31m",
    " del\u{7f}",
    " gr\u{fc}\u{df}e \u{1f680}",
    " 100% [SEKOIA@53288 intake_key=\"x\"] \\n",
    " a\r\nb",
    " \u{feff}bom",
    " {\"user\":\"eve\",\"ok\":true}",
];

const SD: [&str; 22] = [
    "-",
    "-",
    "[a b=\"c\"]",
    "[a@1 b=\"c\"][d@2 e=\"f\"]",
    "[a b=\"x\\]y\"]",
    "[a b=\"x] y\"]",
    "[a b=\"q\\\"q\"]",
    "[]",
    "[a]",
    "[a b=\"c\"",
    "[",
    "[\\]",
    "[a b=\"\\\\]\"]",
    "[a b=\"c\"] [d e=\"f\"]",
    "[a b=\"c\"]x",
    "none",
    "",
    "--",
    "]",
    "[a b=\"l1\nl2\"]",
    "-x",
    "[a b=\"\u{e9}\"]",
];

const FIELDS: [&str; 20] = [
    "app",
    "nginx",
    "-",
    "-",
    "",
    "12",
    "4711",
    "ID7",
    "a/b",
    "/b",
    "a[1]",
    "a:b",
    "caf\u{e9}",
    "x]",
    "a\tb",
    "\"q\"",
    "--",
    "LEEF:1.0|V|P|1|x=1",
    "p(q)",
    "a-name-of-more-than-forty-eight-octets-which-rfc-5424-does-not-allow",
];

/// What mutations insert.
const INSERTED: &[u8] = b" <>[]{}:-.*/\\\"=,0123456789TZ+aN\t\x01\x7f\xe9";

/// `count` frames; the same for the same `seed`. None of them is empty, and none begins like rsyslog's compression does.
pub fn frames(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut random = Random(seed);
    let mut frames = Vec::with_capacity(count);
    while frames.len() < count {
        let mut frame = if random.chance(40) { rfc5424(&mut random) } else { rfc3164(&mut random) };
        if random.chance(25) {
            mutate(&mut random, &mut frame);
        }
        let left = frame.strip_suffix(b"\0").unwrap_or(&frame);
        let left = left.strip_suffix(b"\n").unwrap_or(left);
        if left.first().is_some_and(|octet| *octet != b'z') {
            frames.push(frame);
        }
    }
    frames
}

fn pri(random: &mut Random) -> &'static str {
    if random.chance(94) { random.pick(&PRI_GOOD) } else { random.pick(&PRI_ODD) }
}

fn rfc3164(random: &mut Random) -> Vec<u8> {
    let mut text = String::from(pri(random));
    match random.below(100) {
        0..60 => text += &bsd_stamp(random),
        60..80 => text += &iso_stamp(random),
        80..85 => text += random.pick(&[" ", "  ", "{\"a\": 1} ", " [x] ", "*", "- ", "1 ", "2 ", "1  "]),
        _ => {}
    }
    if random.chance(90) {
        text.push(' ');
    }
    if random.chance(80) {
        text += random.pick(&HOSTS);
        text.push(' ');
    }
    if random.chance(85) {
        text += random.pick(&TAGS);
    }
    if random.chance(1) {
        let octet = random.pick(&["t", "h", "t:", "/", "9."]);
        text += &octet.repeat(500 + random.below(30));
    }
    text += random.pick(&TEXTS);
    text.into_bytes()
}

/// `Mmm dd hh:mm:ss`, mostly.
fn bsd_stamp(random: &mut Random) -> String {
    let mut month = MONTHS[random.below(12)].to_owned();
    if random.chance(5) {
        month = random.pick(&["nov", "NOV", "mAr", "Maj", "Jux", "\u{e9}", "No", "Juli"]).to_owned();
    }
    let day = if random.chance(85) { 1 + random.below(28) } else { random.below(34) };
    let day = match random.below(20) {
        0 => format!("{day}"),
        1 => format!("{day:02}"),
        2 => format!("  {day}"),
        _ => format!("{day:>2}"),
    };
    let time = time_of_day(random);
    let year = random.pick(&["2019", "1970", "1971", "2024", "2099", "2100", "2101", "99", "02024", "0"]);
    let fraction = fraction(random, 85);
    let end =
        if random.chance(85) { "" } else { random.pick(&[":", ": ", " UTC:", " CEST", ",123", " 2024", "::", "Z"]) };
    let start = if random.chance(90) { "" } else { random.pick(&["*", " ", "  ", ".", "%", "- ", "1 "]) };
    match random.below(12) {
        0 => format!("{start}{year} {month} {day} {time}{fraction}{end}"),
        1 => format!("{start}{month} {day} {year} {time}{fraction}{end}"),
        2 => format!("{start}{month} {day} {time}{fraction}{end} {year}"),
        _ => format!("{start}{month} {day} {time}{fraction}{end}"),
    }
}

/// `yyyy-mm-ddThh:mm:ss.fZ`, mostly.
fn iso_stamp(random: &mut Random) -> String {
    let year = if random.chance(94) {
        "2026"
    } else {
        random.pick(&["", "0000", "1900", "2099", "2100", "99999", "24", "02024"])
    };
    let (month, day) = if random.chance(94) {
        (format!("{:02}", 1 + random.below(12)), format!("{:02}", 1 + random.below(28)))
    } else {
        (format!("{}", random.below(14)), format!("{}", 20 + random.below(13)))
    };
    let time = time_of_day(random);
    let fraction = fraction(random, 50);
    let t = if random.chance(98) { "T" } else { random.pick(&[" ", "t", "", "_"]) };
    let zone = if random.chance(92) {
        random.pick(&["Z", "+00:00", "+02:00", "-05:00"])
    } else {
        random.pick(&[
            "", "z", "-00:00", "+05:45", "+23:59", "+24:00", "+99:99", "+1:0", "+01", "+0100", "-:", "Z:", "ZZ",
            " UTC", "+13:60",
        ])
    };
    format!("{year}-{month}-{day}{t}{time}{fraction}{zone}")
}

fn time_of_day(random: &mut Random) -> String {
    if random.chance(96) {
        return format!("{:02}:{:02}:{:02}", random.below(24), random.below(60), random.below(61));
    }
    let odd =
        ["25:61:61", "24:00:00", "7:5:3", "::", "12:30", "12:60:00", "23:59:61", "007:08:09", "12-30-00", "12:30:"];
    random.pick(&odd).to_owned()
}

fn fraction(random: &mut Random, percent_none: usize) -> String {
    if random.chance(percent_none) {
        return String::new();
    }
    if random.chance(85) {
        let digits = 1 + random.below(6);
        return format!(".{:0digits$}", random.below(10_usize.pow(digits as u32)));
    }
    random.pick(&[".", ".1234567", ".123456789", ".000000001", ".1234567890123", ".x"]).to_owned()
}

fn rfc5424(random: &mut Random) -> Vec<u8> {
    let mut text =
        format!("{}{}", pri(random), if random.chance(96) { "1 " } else { random.pick(&["1", "2 ", "1  ", "12 "]) });
    text +=
        &if random.chance(90) { iso_stamp(random) } else { random.pick(&["-", "-", "", "x", "2026-01-02"]).to_owned() };
    let mut parts: Vec<&str> = vec![if random.chance(70) { "relay.example.org" } else { random.pick(&HOSTS) }];
    for _ in 0..3 {
        parts.push(random.pick(&FIELDS));
    }
    parts.push(random.pick(&SD));
    if random.chance(8) {
        parts.truncate(random.below(6));
    }
    for part in &parts {
        text.push(' ');
        text += part;
    }
    if parts.len() == 5 && random.chance(95) {
        if random.chance(90) {
            text.push(' ');
        }
        text += random.pick(&TEXTS).trim_start_matches(' ');
    }
    text.into_bytes()
}

/// Deletes, inserts, doubles or cuts, most often in the header.
fn mutate(random: &mut Random, frame: &mut Vec<u8>) {
    for _ in 0..=random.below(2) {
        if frame.is_empty() {
            return;
        }
        let reach = if random.chance(80) { frame.len().min(50) } else { frame.len() };
        let at = random.below(reach);
        match random.below(8) {
            0 | 1 => drop(frame.remove(at)),
            2 | 3 => frame.insert(at, INSERTED[random.below(INSERTED.len())]),
            4 | 5 => frame[at] = INSERTED[random.below(INSERTED.len())],
            6 => frame.insert(at, frame[at]),
            _ if random.chance(50) => frame.truncate(at),
            _ => frame.insert(at, b' '),
        }
    }
}
