//! `forebay tap`: messages as they are sent, or as they arrive, live.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::thread;

use clap::{Args, ValueEnum};
use serde::Deserialize;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::client::{Answer, AskError, encode};
use crate::admin::missed_in_words;

use super::admin::{Which, advice};
use super::run::EXIT_RUNTIME;
use super::{EXIT_USAGE, say};

#[derive(Debug, Args)]
pub(super) struct Tap {
    /// Of this route only; a name, or a pattern as routes have them (`unbound*`). Several: any of them.
    #[arg(value_name = "ROUTE")]
    routes: Vec<String>,
    /// What arrives, as it was received: also what no route takes, and what is discarded.
    #[arg(long)]
    received: bool,
    /// Of this program only (rsyslog's $programname); a name or a pattern. May be given several times.
    #[arg(long, value_name = "NAME")]
    program: Vec<String>,
    /// Of this sender only: an address, or a network (192.0.2.0/24). May be given several times.
    #[arg(long, value_name = "NET")]
    peer: Vec<String>,
    /// With this text somewhere in the message as it was received.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Ends after so many messages.
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// No more than so many messages a second, 1 to 1000.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    limit: u32,
    /// A JSON object a line: time of reception, peer, input, routes, program and the line.
    #[arg(long)]
    json: bool,
    /// The route, and what became of a message, in front of its line: on a terminal, always or never.
    #[arg(long, value_enum, default_value_t = When::Auto, conflicts_with = "json")]
    labels: When,
    #[command(flatten)]
    which: Which,
}

/// When something is done that is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    /// Where standard output is a terminal.
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// A line of the answer.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Message(Message),
    Missed { missed: u64, filtered: bool },
    Ended { ended: String },
}

#[derive(Debug, Deserialize)]
struct Message {
    fate: String,
    routes: Vec<String>,
    peer: Option<String>,
    line: String,
}

/// Why the tap ends.
enum End {
    /// As many as were asked for.
    Enough,
    /// Whoever reads has seen enough.
    Closed,
    /// The relay says that it stops.
    Stopped(String),
    /// It does not say so.
    Gone(String),
    /// What it says is no tap.
    Wrong(String),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Wrong(format!("cannot write: {error}")),
        }
    }
}

/// Has Ctrl-C (and SIGTERM) end the process with 0, between two whole lines; a second one ends it wherever it is.
fn end_on_interrupt() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            // Whoever writes has the lock, and gives it back behind a line; it may never where nobody reads.
            thread::spawn(|| {
                let _written = io::stdout().lock();
                std::process::exit(0);
            });
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::process::exit(i32::from(EXIT_RUNTIME))
        })
    };
    thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
}

/// Shows until it ends.
pub(super) fn tap(options: &Tap) -> ExitCode {
    if let Err(error) = end_on_interrupt() {
        say(&format!("cannot wait for Ctrl-C: {error}\n"));
        return ExitCode::from(EXIT_RUNTIME);
    }
    let client = match options.which.client() {
        Ok(client) => client,
        Err(code) => return code,
    };
    let mut answer = match client.open(&options.path()) {
        Ok(answer) => answer,
        Err(error) => {
            say(&format!("{}\n", advice(&error)));
            let is_usage = matches!(error, AskError::Refused { status: 400, .. });
            return ExitCode::from(if is_usage { EXIT_USAGE } else { EXIT_RUNTIME });
        }
    };
    say(&options.header(&client.place().to_string()));
    let mut show = Show::new(options);
    let end = loop {
        if let Err(end) = show.next(&mut answer) {
            break end;
        }
    };
    match end {
        End::Enough | End::Closed => ExitCode::SUCCESS,
        End::Stopped(why) => {
            say(&format!("{why}: the tap has ended\n"));
            ExitCode::SUCCESS
        }
        End::Gone(why) | End::Wrong(why) => {
            say(&format!("{why}\n"));
            ExitCode::from(EXIT_RUNTIME)
        }
    }
}

impl Tap {
    /// What is asked for.
    fn path(&self) -> String {
        let mut path = format!("/tap?format=json&limit={}", self.limit);
        if self.received {
            path.push_str("&received=1");
        }
        let named = |name: &'static str, values: &[String]| -> String {
            values.iter().map(|value| format!("&{name}={}", encode(value))).collect()
        };
        path.push_str(&named("route", &self.routes));
        path.push_str(&named("program", &self.program));
        path.push_str(&named("peer", &self.peer));
        path.push_str(&named("text", self.text.as_slice()));
        path
    }

    /// What is shown, in words.
    fn header(&self, place: &str) -> String {
        let what = if self.received { "what arrives, as it is received" } else { "what is sent" };
        let mut conditions = Vec::new();
        let any_of = |names: &[String]| names.join(" or ");
        if !self.routes.is_empty() {
            conditions.push(format!("route {}", any_of(&self.routes)));
        }
        if !self.program.is_empty() {
            conditions.push(format!("program {}", any_of(&self.program)));
        }
        if !self.peer.is_empty() {
            conditions.push(format!("from {}", any_of(&self.peer)));
        }
        if let Some(text) = &self.text {
            conditions.push(format!("with \"{text}\""));
        }
        let conditions = if conditions.is_empty() { String::new() } else { format!(" ({})", conditions.join(", ")) };
        let until = self.count.map_or_else(|| "Ctrl-C ends it".to_owned(), |count| format!("{count} messages"));
        format!("{place}: {what}{conditions}; keys masked, at most {} a second; {until}\n", self.limit)
    }
}

/// Writes what comes.
struct Show<'a> {
    options: &'a Tap,
    left: Option<u64>,
    has_labels: bool,
    has_colours: bool,
}

impl<'a> Show<'a> {
    fn new(options: &'a Tap) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let has_labels = match options.labels {
            When::Auto => is_terminal && !options.json,
            When::Always => true,
            When::Never => false,
        };
        let has_colours = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { options, left: options.count, has_labels, has_colours }
    }

    /// Shows what has come; waits where nothing has.
    fn next(&mut self, answer: &mut Answer<'_>) -> Result<(), End> {
        if self.left == Some(0) {
            return Err(End::Enough);
        }
        let lines = match answer.next_lines() {
            Ok(Some(lines)) => lines,
            Ok(None) => return Err(End::Gone("the relay has ended the tap".to_owned())),
            Err(error) => return Err(End::Gone(format!("the relay is gone: {error}"))),
        };
        let mut out = io::BufWriter::new(io::stdout().lock());
        for line in lines {
            self.line(&line, &mut out)?;
        }
        out.flush()?;
        Ok(())
    }

    fn line(&mut self, text: &str, out: &mut impl Write) -> Result<(), End> {
        let line = serde_json::from_str(text);
        match line
            .map_err(|_| End::Wrong("the relay's answer is not understood: is it of another version?".to_owned()))?
        {
            Line::Ended { ended } => {
                out.flush()?;
                Err(End::Stopped(ended))
            }
            Line::Missed { missed, filtered } => {
                if self.options.json {
                    writeln!(out, "{text}")?;
                } else {
                    // Between the lines that it stands for.
                    out.flush()?;
                    say(&format!("{}\n", missed_in_words(missed, filtered)));
                }
                Ok(())
            }
            Line::Message(message) => {
                if self.options.json {
                    writeln!(out, "{text}")?;
                } else {
                    writeln!(out, "{}{}", self.label(&message), message.line)?;
                }
                if let Some(left) = &mut self.left {
                    *left -= 1;
                    if *left == 0 {
                        out.flush()?;
                        return Err(End::Enough);
                    }
                }
                Ok(())
            }
        }
    }

    /// What stands before a line.
    fn label(&self, message: &Message) -> String {
        if !self.has_labels {
            return String::new();
        }
        let routes = message.routes.join(",");
        let (label, colour) = match message.fate.as_str() {
            "sent" => (routes, 36),
            "routed" => (format!("{} > {routes}", peer(message)), 36),
            "discarded" => (format!("{} > {routes} discards", peer(message)), 33),
            _ => (format!("{} > no route", peer(message)), 31),
        };
        if self.has_colours { format!("\x1b[{colour}m{label}\x1b[0m  ") } else { format!("{label}  ") }
    }
}

fn peer(message: &Message) -> &str {
    message.peer.as_deref().unwrap_or("unix")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        tap: Tap,
    }

    fn parsed(arguments: &[&str]) -> Tap {
        Alone::try_parse_from(["tap"].iter().chain(arguments)).unwrap().tap
    }

    #[test]
    fn what_is_asked_for_is_what_the_options_say() {
        assert_eq!(parsed(&[]).path(), "/tap?format=json&limit=1000");
        let all =
            ["a", "b*", "--received", "--program", "x y", "--peer", "10.0.0.0/8", "--text", "50%&", "--limit", "5"];
        assert_eq!(
            parsed(&all).path(),
            "/tap?format=json&limit=5&received=1&route=a&route=b%2A&program=x%20y&peer=10.0.0.0%2F8&text=50%25%26"
        );
        assert_eq!(
            parsed(&["web", "-n", "3", "--text", "err"]).header("unix:///a"),
            "unix:///a: what is sent (route web, with \"err\"); keys masked, at most 1000 a second; 3 messages\n"
        );
    }

    #[test]
    fn a_label_says_where_from_and_what_became_of_it() {
        let message = |fate: &str, routes: &[&str]| Message {
            fate: fate.to_owned(),
            routes: routes.iter().map(|route| (*route).to_owned()).collect(),
            peer: Some("192.0.2.7".to_owned()),
            line: String::new(),
        };
        let options = parsed(&["--labels", "always"]);
        let show = Show::new(&options);
        let rows = [
            (message("sent", &["web"]), "web  "),
            (message("routed", &["web", "copy"]), "192.0.2.7 > web,copy  "),
            (message("discarded", &["noise"]), "192.0.2.7 > noise discards  "),
            (message("unmatched", &[]), "192.0.2.7 > no route  "),
        ];
        for (message, expected) in rows {
            assert_eq!(show.label(&message), expected);
        }
    }
}
