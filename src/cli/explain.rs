//! `forebay explain`: what becomes of a message, without sending it.
//!
//! Frames are cut, parsed, routed, rendered and framed by the functions that the relay uses; what is here only asks them and
//! prints the answers. `tests/explain.rs` holds the octets against those that a running relay sends.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{Read, stdin};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use jiff::Timestamp;

use crate::config::{self, Config, Loaded, Source};

use super::end::End;
use super::paint::Paint;
use super::{Configuration, say, show, times};

use cut::Cut;
use reading::Explainer;
use summary::Summary;

mod cut;
mod json;
mod reading;
mod remarks;
mod summary;
mod text;

/// What `--help` ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  forebay explain '<34>Oct 11 22:14:15 gate su: failed for ada on /dev/pts/8'
  forebay explain -c forebay.yaml --peer 10.1.0.7 --input lan '<4>kernel: DROP IN=eth0'
  forebay explain -c forebay.yaml /var/log/remote/fw-1.log
  tcpdump -i any -nn -A -c1 port 514        # then paste what it shows
  forebay explain -c forebay.yaml --json fw-1.log | jq 'select(.outcome == \"unmatched\")'

What is read:
  MESSAGE is one frame, as a datagram is: line ends in it are control characters. A file and
  standard input are a stream, cut into frames as the input would cut it: octet counts and lines
  told apart, unless the input's `framing` says otherwise. --stream and --datagram choose. An
  argument that names a file that exists is the file; --message takes any text as a message.

What is shown:
  Octets are counted from 0, the end excluded, in the frame as it was received. Octets that are no
  text are shown as \\xHH. Every intake key is `****`; lengths are those of the real octets. Lines
  with `!` tell what was unusual, those with `·` what had to be filled in as usual. Conditions of a
  route are all asked, in the order of the configuration's keys, with what they saw. A variable whose
  name ends in _KEY need not be set: a key of 32 characters stands in.

With --json: an object a message, then one with the key `summary`. Octets are {\"text\": …}, or
{\"base64\": …} where they are no UTF-8. docs/COMMANDS.md lists the keys.";

/// Stands in for a key that is not at hand: as long as Sekoia's are.
const ANY_KEY: &str = "00000000000000000000000000000000";

/// What an input and a route are where no configuration is given.
const WITHOUT: &str = "\
inputs: {syslog: {listen: [udp://127.0.0.1:514, tcp://127.0.0.1:514]}}
outputs: {sekoia: {region: fra1}}
routes: [{name: default, intake_key: 00000000000000000000000000000000}]
";

#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    configuration: Configuration,
    /// The sender's address, or `unix` for a unix socket [default: 127.0.0.1].
    #[arg(long, value_name = "ADDRESS", value_parser = peer)]
    peer: Option<Peer>,
    /// The input that it comes through [default: the configuration's first].
    #[arg(long, value_name = "NAME")]
    input: Option<String>,
    /// What is read is one datagram.
    #[arg(long, conflicts_with = "stream")]
    datagram: bool,
    /// What is read is a stream, cut into frames as the input's `framing` says.
    #[arg(long)]
    stream: bool,
    /// When it is received: an RFC 3339 stamp, or how long ago (2h) [default: now].
    #[arg(long, value_name = "TIME", value_parser = times::time_us)]
    received_at: Option<i64>,
    /// JSON: an object a message, then one that sums them up.
    #[arg(long)]
    json: bool,
    /// The long form of each of several messages, before the summary.
    #[arg(long)]
    each: bool,
    /// A message, whatever the text.
    #[arg(long, value_name = "TEXT", conflicts_with = "what")]
    message: Option<OsString>,
    /// A message, a file that exists, or `-` for standard input [default: standard input].
    #[arg(value_name = "MESSAGE|FILE")]
    what: Option<OsString>,
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    Address(IpAddr),
    Unix,
}

fn peer(text: &str) -> Result<Peer, String> {
    if text == "unix" {
        return Ok(Peer::Unix);
    }
    text.parse().map(Peer::Address).map_err(|_| "expected an address such as 10.1.0.7, or unix".to_owned())
}

/// Explains what the options name.
pub(super) fn explain(options: &Explain) -> ExitCode {
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(end) => end.told(),
    }
}

fn run(options: &Explain) -> Result<(), End> {
    let config = load(options)?;
    let input = input_of(options, &config)?;
    let now_us = options.received_at.unwrap_or_else(|| Timestamp::now().as_microsecond());
    let peer = options.peer.unwrap_or(Peer::Address(IpAddr::from([127, 0, 0, 1])));
    let peer = match peer {
        Peer::Address(address) => Some(address),
        Peer::Unix => None,
    };
    let explainer = Explainer::new(&config, input, peer, now_us, options.peer.is_some());
    let out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut printer = Printer { options, explainer, summary: Summary::default(), first: None, out };
    let settings = config.inputs.get(input).map(|input| (input.framing, input.max_message_size));
    let (framing, max) = settings.context("there is no such input")?;
    let (mut source, is_stream) = source(options)?;
    if options.stream || (is_stream && !options.datagram) {
        cut::stream(&mut source, framing, max, |cut| printer.take(cut))?;
    } else {
        let mut octets = Vec::new();
        source.read_to_end(&mut octets).context("cannot read")?;
        printer.take(Cut::datagram(&octets, max))?;
    }
    printer.end()
}

fn load(options: &Explain) -> Result<Config, End> {
    if options.configuration.is_given() {
        let missing = RefCell::new(BTreeSet::new());
        let environment = |name: &str| {
            std::env::var(name).ok().or_else(|| {
                // Nothing is sent: whoever asks need not have the keys.
                name.ends_with("_KEY").then(|| {
                    missing.borrow_mut().insert(name.to_owned());
                    ANY_KEY.to_owned()
                })
            })
        };
        let Loaded { config, .. } = options.configuration.load_with(&environment).map_err(End::Config)?;
        let missing: Vec<String> = missing.take().into_iter().collect();
        if !missing.is_empty() {
            say(&format!("not set, a key of {} characters stands in: {}\n\n", ANY_KEY.len(), missing.join(", ")));
        }
        return Ok(config);
    }
    let source = Source::Text { name: "the defaults".to_owned(), text: WITHOUT.to_owned() };
    let loaded = config::load(&source, &|_| None).map_err(|report| End::Wrong(anyhow::Error::new(report)))?;
    Ok(loaded.config)
}

fn input_of(options: &Explain, config: &Config) -> Result<usize, End> {
    let Some(name) = &options.input else { return Ok(0) };
    config.inputs.iter().position(|input| input.name == *name).ok_or_else(|| {
        let names: Vec<&str> = config.inputs.iter().map(|input| input.name.as_str()).collect();
        End::Usage(format!("no input has the name {name}: expected one of {}", names.join(", ")))
    })
}

/// What to read, and whether it is a stream unless an option says otherwise.
fn source(options: &Explain) -> Result<(Box<dyn Read + '_>, bool), End> {
    if let Some(text) = &options.message {
        return Ok((Box::new(text.as_encoded_bytes()), false));
    }
    match options.what.as_deref().filter(|what| *what != "-") {
        None => Ok((Box::new(stdin().lock()), true)),
        Some(what) => {
            let path = PathBuf::from(what);
            // A pipe, as `<(…)` makes it, is one too.
            if !std::fs::metadata(&path).is_ok_and(|found| !found.is_dir()) {
                if looks_like_a_path(what.as_encoded_bytes()) {
                    say(&format!("there is no file {}: it is taken for a message\n\n", path.display()));
                }
                return Ok((Box::new(what.as_encoded_bytes()), false));
            }
            let file = std::fs::File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok((Box::new(file), true))
        }
    }
}

fn looks_like_a_path(text: &[u8]) -> bool {
    text.contains(&b'/') && !text.starts_with(b"<") && !text.iter().any(u8::is_ascii_whitespace)
}

/// Prints one message in full, or sums up several.
struct Printer<'a, W> {
    options: &'a Explain,
    explainer: Explainer<'a>,
    summary: Summary,
    /// Held back until it is known whether others follow.
    first: Option<Cut>,
    out: W,
}

impl<W: std::io::Write> Printer<'_, W> {
    fn take(&mut self, cut: Cut) -> Result<(), End> {
        if self.options.json || self.options.each {
            return self.print(cut, true);
        }
        match self.first.take() {
            None if self.summary.messages() == 0 => self.first = Some(cut),
            first => {
                first.map(|first| self.print(first, false)).transpose()?;
                self.print(cut, false)?;
            }
        }
        Ok(())
    }

    fn print(&mut self, cut: Cut, in_full: bool) -> Result<(), End> {
        let explained = self.explainer.explain(cut);
        self.summary.add(&explained);
        if self.options.json {
            let object = json::object(&self.explainer, &explained);
            writeln!(self.out, "{object}")?;
        } else if in_full {
            let colour = Paint::of_stdout();
            self.out.write_all(text::long(&self.explainer, &explained, colour).as_bytes())?;
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), End> {
        if !self.options.json && !self.options.configuration.is_given() {
            say(NO_CONFIGURATION);
        }
        match self.first.take() {
            Some(only) => self.print(only, true)?,
            None if self.options.json => {
                writeln!(self.out, "{}", json::summary(&self.explainer, &self.summary))?;
            }
            None => {
                let text = summary::table(&self.explainer, &self.summary, Paint::of_stdout());
                self.out.write_all(text.as_bytes())?;
            }
        }
        self.out.flush()?;
        Ok(())
    }
}

/// Said where nothing names a configuration.
const NO_CONFIGURATION: &str = "no configuration (-c FILE): an input with the defaults, and one route with the\n\
     template of Sekoia's FAQ and a key of 32 characters\n\n";
