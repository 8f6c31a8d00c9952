//! What the micro-benchmarks work on: a stream of RFC 3164 messages of eight programs, and each stage of a message's way
//! through the pure part of the program, alone and in a chain.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use forebay::route::{Conditions, Matcher, Name, Rule};
use forebay::syslog::{Clock, Decoder, Fields, Framing, Message, parse, sanitize};
use forebay::template::{Context, Renderer, Template};
use jiff::tz::TimeZone;

/// Messages of one pass over the stream.
pub const MESSAGES: usize = 1024;
/// Octets of one message, without its trailer.
pub const MESSAGE_LEN: usize = 170;
/// The stages in a message's order, and all of them in a chain.
pub const STAGES: [&str; 5] = ["frame", "parse", "route", "render", "chain"];

const PROGRAMS: [&str; 8] = ["unbound", "nginx", "sshd", "postfix", "squid", "haproxy", "named", "suricata"];
/// What a shard reads at once.
const READ: usize = 64 * 1024;
const MESSAGE_SIZE_MAX: usize = 250 * 1024;
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
/// 2026-11-22 12:00:00 UTC.
const CLOCK: Clock = Clock { now_us: 1_795_348_800_000_000, year: 2026, month: 11, day: 22, offset_minutes: 0 };

/// The input of every stage, and what each stage keeps between messages.
pub struct Workload {
    stream: Vec<u8>,
    frames: Vec<Vec<u8>>,
    parsed: Vec<(Vec<u8>, Fields)>,
    keys: Vec<Vec<u8>>,
    template: Template,
    renderer: Renderer,
    matcher: Matcher,
    hits: Vec<u16>,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

impl Workload {
    /// Makes the messages and takes them through the stages once, so that each has its input.
    pub fn new() -> Self {
        let frames: Vec<Vec<u8>> = (0..MESSAGES).map(message).collect();
        let stream = frames.iter().flat_map(|frame| frame.iter().chain(b"\n")).copied().collect();
        let parsed = frames
            .iter()
            .map(|frame| {
                let mut scratch = Vec::new();
                let raw = sanitize(frame, &mut scratch).to_vec();
                let fields = parse(&raw, &CLOCK);
                (raw, fields)
            })
            .collect();
        let mut workload = Self {
            stream,
            frames,
            parsed,
            keys: (0..PROGRAMS.len()).map(|index| format!("{index}").repeat(32).into_bytes()).collect(),
            template: Template::compile(Template::FAQ).expect("the FAQ's template is a template"),
            renderer: Renderer::new(TimeZone::UTC),
            matcher: Matcher::new(&rules()),
            hits: Vec::new(),
            scratch: Vec::new(),
            out: Vec::with_capacity(MESSAGES * 2 * MESSAGE_LEN),
        };
        workload.verify();
        workload
    }

    /// A stage that does nothing is fast: each must have done its work on every message.
    fn verify(&mut self) {
        assert_eq!(self.frame(), MESSAGES, "every message is a frame");
        assert_eq!(self.route(), MESSAGES, "every message has a route");
        assert_eq!(self.chain(), MESSAGES, "every message passes the chain");
        let lines: Vec<&[u8]> = self.out.split_inclusive(|octet| *octet == b'\n').collect();
        assert_eq!(lines.len(), MESSAGES, "every message is rendered");
        for (index, line) in lines.iter().enumerate() {
            let key = format!("[SEKOIA@53288 intake_key=\"{}\"]", (index % PROGRAMS.len()).to_string().repeat(32));
            let found = line.windows(key.len()).any(|window| window == key.as_bytes());
            assert!(found, "message {index} has its program's key: {}", String::from_utf8_lossy(line));
        }
    }

    /// One pass of the stage named so.
    pub fn pass(&mut self, stage: &str) -> usize {
        match stage {
            "frame" => self.frame(),
            "parse" => self.parse(),
            "route" => self.route(),
            "render" => self.render(),
            "chain" => self.chain(),
            other => panic!("no stage is named {other}"),
        }
    }

    /// Cuts the stream into frames, a read at a time.
    fn frame(&mut self) -> usize {
        let mut decoder = Decoder::new(Framing::Auto, MESSAGE_SIZE_MAX);
        let mut count = 0;
        for read in self.stream.chunks(READ) {
            let mut input = read;
            while let Some(frame) = decoder.next_frame(&mut input) {
                black_box(frame.bytes);
                count += 1;
            }
        }
        count
    }

    /// Finds the fields of every frame.
    fn parse(&mut self) -> usize {
        for frame in &self.frames {
            let raw = sanitize(frame, &mut self.scratch);
            black_box(parse(raw, &CLOCK));
        }
        self.frames.len()
    }

    /// Finds the route of every message.
    fn route(&mut self) -> usize {
        let mut count = 0;
        for (raw, fields) in &self.parsed {
            self.matcher.route(&seen(fields, raw), &mut self.hits);
            count += self.hits.len();
        }
        count
    }

    /// Renders every message.
    fn render(&mut self) -> usize {
        self.out.clear();
        for (index, (raw, fields)) in self.parsed.iter().enumerate() {
            let context = Context { intake_key: &self.keys[index % PROGRAMS.len()], my_hostname: "relay" };
            self.template.render(&seen(fields, raw), &context, &mut self.renderer, &mut self.out);
        }
        black_box(&self.out);
        self.parsed.len()
    }

    /// From the stream to the rendered message.
    fn chain(&mut self) -> usize {
        self.out.clear();
        let mut decoder = Decoder::new(Framing::Auto, MESSAGE_SIZE_MAX);
        let mut count = 0;
        for read in self.stream.chunks(READ) {
            let mut input = read;
            while let Some(frame) = decoder.next_frame(&mut input) {
                let raw = sanitize(frame.bytes, &mut self.scratch);
                let fields = parse(raw, &CLOCK);
                let message = seen(&fields, raw);
                self.matcher.route(&message, &mut self.hits);
                for hit in &self.hits {
                    let context = Context { intake_key: &self.keys[usize::from(*hit)], my_hostname: "relay" };
                    self.template.render(&message, &context, &mut self.renderer, &mut self.out);
                    count += 1;
                }
            }
        }
        black_box(&self.out);
        count
    }
}

/// A route for each program.
fn rules() -> Vec<Rule> {
    let rule = |program: &&str| {
        let name = Name::parse(program).expect("a program's name is a pattern");
        Rule { conditions: Conditions { program: vec![name], ..Conditions::default() }, continues: false }
    };
    PROGRAMS.iter().map(rule).collect()
}

/// The message numbered `index`: programs take turns, hosts and numbers vary.
fn message(index: usize) -> Vec<u8> {
    let program = PROGRAMS[index % PROGRAMS.len()];
    let (pri, host, pid, second) = (128 + index % 32, index % 7, 1000 + index, index % 60);
    let mut text = format!(
        "<{pri}>Nov 22 11:59:{second:02} edge-fw-{host:02} {program}[{pid}]: connection {index} from 198.51.100.{} port \
         {} was accepted by rule 17 after 12 ms, 3 answers, from cache: no, zone: lan, bytes: 48133, verdict: allowed",
        index % 250,
        1024 + index * 7 % 60_000
    );
    text.truncate(MESSAGE_LEN);
    assert_eq!(text.len(), MESSAGE_LEN, "the text is long enough to be cut");
    text.into_bytes()
}

fn seen<'a>(fields: &'a Fields, raw: &'a [u8]) -> Message<'a> {
    Message { fields, raw, received_at_us: CLOCK.now_us, peer: Some(PEER), input: "lan" }
}
