//! One marked message, all the way: parsed, rendered, sent and acknowledged by what the relay does it with.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::config::{Action, Config, Protocol, Route};
use crate::forward::{Mask, Preview};
use crate::relay::{self, Delivered, StartError};
use crate::route::{Conditions, Name};
use crate::syslog::{Clock, Message, parse, sanitize};
use crate::time::since_epoch;
use crate::tls::stamp;

use super::{Finding, ProbeError};

/// How long a message may take at least, whatever `shutdown_timeout` says: name, connection, handshake and answer.
const LIMIT_MIN: Duration = Duration::from_secs(15);

/// Why a message cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// There is no such route.
    #[error("no route named \"{name}\"; there are {known}")]
    NoRoute {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// It discards its messages.
    #[error("route \"{0}\" discards its messages: there is nothing to send")]
    Discards(String),
}

/// A message that is ready to be sent.
#[derive(Debug)]
pub struct Sending {
    config: Config,
    /// The spool's folder, where last good addresses are kept.
    kept: Option<PathBuf>,
    frame: Vec<u8>,
    /// What to search for: in the message, and in no other.
    pub mark: String,
    /// The output that it goes to.
    pub output: String,
    /// The file that it goes to, where the output is one.
    pub file: Option<PathBuf>,
    /// What is sent, with `****` in the intake key's place.
    pub shown: String,
}

/// What became of it.
#[derive(Debug)]
pub struct Outcome {
    /// The far end has it, as far as the protocol says: `acknowledged` says how far that is.
    pub is_delivered: bool,
    /// What that is worth, or what went wrong.
    pub words: String,
    /// What the intake calls the event, over HTTPS.
    pub event_id: Option<String>,
}

/// What an answer of the intake's says of one event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    event_ids: Vec<Option<String>>,
}

impl Sending {
    /// Makes a message for the route of that name: its program is one that the route takes, where it is by program; `text` is
    /// what it says besides its mark. The route's conditions are not asked, and no other route has a say.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn new(mut config: Config, name: &str, text: Option<&str>) -> Result<Self, SendError> {
        let Some(index) = config.routes.iter().position(|route| route.name == name) else {
            let known: Vec<&str> = config.routes.iter().map(|route| route.name.as_str()).collect();
            return Err(SendError::NoRoute { name: name.to_owned(), known: known.join(", ") });
        };
        let Some(Route { action: Action::Forward { output, .. }, .. }) = config.routes.get(index) else {
            return Err(SendError::Discards(name.to_owned()));
        };
        let destination = config.outputs.get(*output);
        let file = destination.and_then(|output| match &output.protocol {
            Protocol::File(file) => Some(file.path.clone()),
            _ => None,
        });
        let output = destination.map(|output| output.name.clone()).unwrap_or_default();
        let mark = format!("forebay-test-{:016x}", fastrand::u64(..));
        let route = config.routes.get(index);
        let frame = frame(&route.map(program_for).unwrap_or_default(), &mark, text);
        let shown = shown(&config, index, &frame);
        let route = config.routes.remove(index);
        config.routes = vec![Route { conditions: Conditions::default(), continues: false, ..route }];
        // What waits in the spool is a running relay's business; what it knows of names is of use.
        let kept = config.spool.as_ref().map(|spool| spool.dir.clone());
        (config.spool, config.cores, config.admin) = (None, 1, Vec::new());
        Ok(Self { config, kept, frame, mark, output, file, shown })
    }

    /// Tries its output, as [`super::connect`] does.
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub fn connect(&self) -> Result<Vec<Finding>, ProbeError> {
        super::connect_with(&self.config, self.kept.clone(), Some(&self.output))
    }

    /// Sends it as the relay does, once; returns when the far end has answered as its protocol has it, or not in time.
    ///
    /// # Errors
    /// When nothing could begin.
    pub fn send(self) -> Result<Outcome, StartError> {
        let Self { config, kept, frame, output, .. } = self;
        let protocol = config.outputs.iter().find(|each| each.name == output).map(|each| each.protocol.clone());
        let limit = config.shutdown_timeout.max(LIMIT_MIN);
        let delivered = relay::deliver(config, kept, &frame, limit)?;
        Ok(outcome(&delivered, protocol.as_ref()))
    }
}

/// A program name that the route takes, where one is easily found; our own otherwise.
fn program_for(route: &Route) -> String {
    let example = |name: &Name| {
        let text = name.as_str();
        let bare = text.replace('*', "");
        // A pattern matches its own text as well, which is no name.
        let tries = [bare.replace('?', "x"), bare, text.to_owned()];
        tries.into_iter().find(|text| {
            !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_graphic()) && name.matches(text.as_bytes())
        })
    };
    route.conditions.program.iter().find_map(example).unwrap_or_else(|| "forebay".to_owned())
}

/// RFC 5424, as a well-behaved sender writes it.
fn frame(program: &str, mark: &str, text: Option<&str>) -> Vec<u8> {
    let hostname = hostname();
    let now = stamp(i64::try_from(since_epoch().as_secs()).unwrap_or(0));
    let said = match text {
        Some(text) => format!("{text} {mark}"),
        None => format!("{mark} a test message of forebay check --send-test"),
    };
    format!("<13>1 {now} {hostname} {program} {} - - {said}", std::process::id()).into_bytes()
}

fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "-".to_owned() } else { name.trim().to_owned() }
}

/// The message as it is sent, without its key and on one line.
fn shown(config: &Config, route: usize, frame: &[u8]) -> String {
    let mut scratch = Vec::new();
    let raw = sanitize(frame, &mut scratch);
    let now_us = i64::try_from(since_epoch().as_micros()).unwrap_or(0);
    // The frame's stamp is whole: nothing of this is asked for.
    let fields = parse(raw, &Clock { now_us, year: 2000, month: 1, day: 1, offset_minutes: 0 });
    let message = Message { fields: &fields, raw, received_at_us: now_us, peer: None, input: "" };
    let line = Preview::new(Mask::new(config)).sent(config, route, &message).unwrap_or_default();
    String::from_utf8_lossy(&line).chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

fn outcome(delivered: &Delivered, protocol: Option<&Protocol>) -> Outcome {
    let event_id = delivered.answer.as_ref().and_then(|(_, body)| {
        let answer: Answer = serde_json::from_slice(body).ok()?;
        answer.event_ids.into_iter().next().flatten()
    });
    if delivered.broken && matches!(protocol, Some(Protocol::Udp)) {
        let words = "the receiver's machine answers that nobody listens there (see the log above)".to_owned();
        return Outcome { is_delivered: false, words, event_id };
    }
    if delivered.released {
        let words = match protocol {
            Some(Protocol::Syslog(_)) => {
                "the collector's kernel has acknowledged it (TCP); nothing in syslog tells whether its process took it, or knows the key"
            }
            Some(Protocol::Udp) => "this machine's kernel has sent it; nobody can tell whether it arrived",
            Some(Protocol::Relp { .. }) => "the server has acknowledged the message (RELP, 200)",
            Some(Protocol::Https(_)) => "the intake has taken the event, and its key",
            Some(Protocol::File(_)) => "the line is in the file",
            None => "delivered",
        };
        return Outcome { is_delivered: true, words: words.to_owned(), event_id };
    }
    Outcome { is_delivered: false, words: why_not(delivered), event_id: None }
}

fn why_not(delivered: &Delivered) -> String {
    if let Some((why, _)) = &delivered.parked {
        return format!(
            "the intake does not take the key ({why}): compare it with the intake's page in Sekoia, character by character; an \
             intake that was deleted, or a community without a subscription, is answered so as well"
        );
    }
    let status = delivered.answer.as_ref().map(|(status, _)| *status);
    match (delivered.refused, delivered.empty, status) {
        (true, _, Some(413)) => "the intake finds it too large".to_owned(),
        (true, ..) => "the far end refuses this message (see the log above)".to_owned(),
        (_, true, _) => "the route's http_template renders it to nothing".to_owned(),
        (_, _, Some(429)) => {
            "the intake was asked too often (429): wait some minutes, and see who else sends from this address"
                .to_owned()
        }
        (_, _, Some(status)) => {
            format!("the intake answered {status}: it is tried again later by a relay; see status.sekoia.io")
        }
        _ => "it was not acknowledged in time (see the log above)".to_owned(),
    }
}
