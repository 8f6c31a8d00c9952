//! What is sent: messages with a mark by which each can be told when it comes back.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use jiff::{Timestamp, Zoned};

use super::Format;

/// What a mark begins with.
const MARK: &str = "forebay-send=";

/// What a message is filled with up to its size.
const WORDS: [&str; 16] = [
    "gate", "water", "river", "level", "intake", "turbine", "pool", "flow", "screen", "weir", "sluice", "pressure",
    "spill", "bank", "current", "rate",
];

/// What says which message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Which run of the command.
    pub(super) run: u32,
    /// Which of its connections.
    pub(super) source: u32,
    /// Which message of that, from 0.
    pub(super) number: u64,
    /// When it was handed over, microseconds since the run began.
    pub(super) at_us: u64,
}

impl Mark {
    /// Appends it; the full stop behind it says that nothing is missing.
    fn write(self, out: &mut String) {
        let Self { run, source, number, at_us } = self;
        // Writing to a string does not fail.
        write!(out, "{MARK}{run:08x}.{source}.{number}.{at_us}.").unwrap_or(());
    }

    /// The mark in a message; `None` where there is none, or not all of it.
    pub(super) fn find(message: &[u8]) -> Option<Self> {
        let at = memchr::memmem::rfind(message, MARK.as_bytes())?;
        let mut parts = message.get(at + MARK.len()..)?.splitn(5, |octet| *octet == b'.');
        let mut part = || std::str::from_utf8(parts.next()?).ok();
        let run = u32::from_str_radix(part()?, 16).ok()?;
        let (source, number, at_us) = (part()?.parse().ok()?, part()?.parse().ok()?, part()?.parse().ok()?);
        // Behind the last full stop, even if there is nothing: without it the end of the mark is missing.
        parts.next().map(|_| Self { run, source, number, at_us })
    }
}

/// What messages are like.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    pub(super) format: Format,
    pub(super) pri: u8,
    pub(super) hostname: String,
    /// Taken in turn; at least one.
    pub(super) programs: Vec<String>,
    /// Octets of a message; a shorter one is filled up.
    pub(super) size: Option<usize>,
    /// MSG, without a mark.
    pub(super) text: Option<String>,
    /// Whole messages, in place of all of the above.
    pub(super) lines: Option<Vec<Vec<u8>>>,
    /// Whether a mark is put behind what was given as text or lines.
    pub(super) is_marked: bool,
    pub(super) run: u32,
    pub(super) seed: u64,
}

/// Makes the messages of one source.
pub(super) struct Writer<'a> {
    manner: &'a Manner,
    source: u32,
    began: Instant,
    random: fastrand::Rng,
    text: String,
    /// The header's stamp, and the second that it is of.
    stamp: (u64, String),
}

impl<'a> Writer<'a> {
    /// `began` is what marks count from.
    pub(super) fn new(manner: &'a Manner, source: u32, began: Instant) -> Self {
        let random = fastrand::Rng::with_seed(manner.seed.wrapping_add(u64::from(source)));
        Self { manner, source, began, random, text: String::new(), stamp: (u64::MAX, String::new()) }
    }

    /// Puts the message into `out`, which is cleared first. `number` counts those of the source, `of_all` those of all.
    pub(super) fn write(&mut self, number: u64, of_all: u64, out: &mut Vec<u8>) {
        out.clear();
        let since = self.began.elapsed();
        let at_us = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let mark = Mark { run: self.manner.run, source: self.source, number, at_us };
        if let Some(lines) = &self.manner.lines {
            let line = lines.get((of_all % lines.len().max(1) as u64) as usize).map(Vec::as_slice).unwrap_or_default();
            out.extend_from_slice(line);
            self.text.clear();
            if self.manner.is_marked {
                self.text.push(' ');
                mark.write(&mut self.text);
            }
        } else {
            self.compose(mark, of_all, since);
        }
        out.extend_from_slice(self.text.as_bytes());
    }

    fn compose(&mut self, mark: Mark, of_all: u64, since: Duration) {
        let Manner { format, pri, hostname, programs, size, text, is_marked, .. } = self.manner;
        let count = programs.len().max(1) as u64;
        let program = programs.get((of_all % count) as usize).map(String::as_str).unwrap_or_default();
        let pid = std::process::id();
        self.text.clear();
        // Writing to a string does not fail.
        match format {
            Format::Rfc5424 => {
                let now = Timestamp::now();
                write!(self.text, "<{pri}>1 {now:.6} {hostname} {program} {pid} - - ").unwrap_or(());
            }
            Format::Rfc3164 => {
                if self.stamp.0 != since.as_secs() {
                    self.stamp = (since.as_secs(), Zoned::now().strftime("%b %e %H:%M:%S").to_string());
                }
                write!(self.text, "<{pri}>{} {hostname} {program}[{pid}]: ", self.stamp.1).unwrap_or(());
            }
        }
        match text {
            Some(text) => self.text.push_str(text),
            None => write!(self.text, "test message {}", mark.number).unwrap_or(()),
        }
        let mut end = String::new();
        if *is_marked || text.is_none() {
            end.push(' ');
            mark.write(&mut end);
        }
        if let Some(size) = size {
            let room = size.saturating_sub(end.len());
            while self.text.len() < room {
                self.text.push(' ');
                self.text.push_str(self.random.choice(WORDS).unwrap_or_default());
            }
            // Words are ASCII; what was given as text is never cut.
            if self.text.len() > room && self.text.is_char_boundary(room) && text.is_none() {
                self.text.truncate(room);
            }
        }
        self.text.push_str(&end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manner() -> Manner {
        Manner {
            format: Format::Rfc5424,
            pri: 14,
            hostname: "gate".to_owned(),
            programs: vec!["a".to_owned(), "b".to_owned()],
            size: None,
            text: None,
            lines: None,
            is_marked: true,
            run: 0xbeef,
            seed: 1,
        }
    }

    fn written(manner: &Manner, number: u64) -> String {
        let mut out = Vec::new();
        Writer::new(manner, 3, Instant::now()).write(number, number, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn each_message_carries_a_mark_that_is_found_again() {
        let message = written(&manner(), 7);
        let mark = Mark::find(message.as_bytes()).expect("a mark");
        assert_eq!((mark.run, mark.source, mark.number), (0xbeef, 3, 7));
        assert!(message.contains(" gate b "), "{message}");
        for text in
            ["", "forebay-send=", "forebay-send=0000beef.3.7.12", "forebay-send=x.3.7.12.", "forebay-send=1.2.3."]
        {
            assert_eq!(Mark::find(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_kept_and_the_same_seed_gives_the_same_text() {
        for size in [100, 200, 1_000] {
            assert_eq!(written(&Manner { size: Some(size), ..manner() }, 0).len(), size);
        }
        let text = |seed| {
            let message = written(&Manner { size: Some(300), seed, ..manner() }, 0);
            message.split_once("test message").expect("its text").1.chars().take(100).collect::<String>()
        };
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
    }

    #[test]
    fn a_text_and_lines_are_sent_as_they_are_unless_they_must_be_told() {
        let text = Manner { text: Some("häh".to_owned()), is_marked: false, ..manner() };
        assert!(written(&text, 0).ends_with(" - - häh"));
        let lines = Manner { lines: Some(vec![b"one".to_vec(), b"two".to_vec()]), is_marked: false, ..manner() };
        assert_eq!([written(&lines, 0), written(&lines, 1), written(&lines, 2)], ["one", "two", "one"]);
        let marked = written(&Manner { is_marked: true, ..lines }, 1);
        assert!(marked.starts_with("two forebay-send="), "{marked}");
        let rfc3164 = written(&Manner { format: Format::Rfc3164, ..manner() }, 0);
        assert!(rfc3164.contains(" gate a[") && rfc3164.contains("]: test message 0"), "{rfc3164}");
    }
}
