//! `forebay check`: what would happen, without opening a socket; and whether the way out works, when asked to try.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::config::{Config, Log, LogFormat, Reading};
use crate::probe::{self, Finding, Outcome, ProbeError, Sending};
use crate::relay;

use super::run::EXIT_RUNTIME;
use super::{Configuration, EXIT_CONFIG, EXIT_USAGE, log, print, say};

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    configuration: Configuration,
    /// Tries the way to every output: names, TCP, proxy, TLS, certificates, clocks, RELP or HTTP. Sends no message.
    #[arg(long)]
    connect: bool,
    /// Prints what --connect finds as JSON.
    #[arg(long, requires = "connect", conflicts_with = "route")]
    json: bool,
    /// Sends one marked message through this route, as the relay would, and says how to find it.
    #[arg(long = "send-test", value_name = "ROUTE", id = "route")]
    route: Option<String>,
    /// What the test message says, besides its mark.
    #[arg(long, value_name = "TEXT", requires = "route")]
    message: Option<String>,
}

/// Prints the summary, warnings and what has become of another program's configuration, or the report of mistakes; or what
/// was found by trying.
pub(super) fn check(options: &Check) -> ExitCode {
    let loaded = match options.configuration.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    for note in &loaded.notes {
        let kind = if note.reading == Reading::Unsupported { "warning" } else { "note" };
        say(&format!("{kind}: {note}\n"));
    }
    for left_out in &loaded.config.left_out {
        say(&format!("error: {left_out}\n"));
    }
    for warning in &loaded.warnings {
        say(&format!("warning: {warning}\n"));
    }
    match relay::check_certificates(&loaded.config) {
        Ok(left_out) => left_out.iter().for_each(|why| say(&format!("error: left out: {why}\n"))),
        Err(mistakes) => {
            say(&format!("{mistakes}\n"));
            return ExitCode::from(EXIT_CONFIG);
        }
    }
    if !options.connect && options.route.is_none() {
        print(&loaded.config.summary());
        return ExitCode::SUCCESS;
    }
    if options.connect {
        match told(probe::connect(&loaded.config, None), options.json) {
            Ok(true) => {}
            Ok(false) => {
                if options.route.is_some() {
                    say("nothing was sent\n");
                }
                return ExitCode::from(EXIT_RUNTIME);
            }
            Err(code) => return code,
        }
    }
    match &options.route {
        Some(route) => send(loaded.config, route, options.message.as_deref(), options.connect),
        None => ExitCode::SUCCESS,
    }
}

/// Prints what was found; whether messages can be delivered to all outputs that were tried.
fn told(findings: Result<Vec<Finding>, ProbeError>, as_json: bool) -> Result<bool, ExitCode> {
    let findings = findings.map_err(|error| {
        say(&format!("{error}\n"));
        ExitCode::from(EXIT_RUNTIME)
    })?;
    let all = findings.iter().all(|finding| finding.deliverable);
    if as_json {
        print(&format!("{:#}\n", json!({ "deliverable": all, "outputs": findings })));
    } else {
        print(&findings.iter().map(Finding::to_string).collect::<String>());
    }
    Ok(all)
}

/// Sends one message by `route`. Its output is tried before, where that was not done: an answer in words is worth more than
/// attempts until the time is over.
fn send(config: Config, route: &str, text: Option<&str>, is_tried: bool) -> ExitCode {
    let sending = match Sending::new(config, route, text) {
        Ok(sending) => sending,
        Err(error) => {
            say(&format!("{error}\n"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if !is_tried {
        match told(sending.connect(), false) {
            Ok(true) => {}
            Ok(false) => {
                say("nothing was sent\n");
                return ExitCode::from(EXIT_RUNTIME);
            }
            Err(code) => return code,
        }
    }
    let (mark, file) = (sending.mark.clone(), sending.file.clone());
    print(&format!("sending to {}, the intake key masked here:\n  {}\n", sending.output, sending.shown));
    // What the relay would log of it.
    let guard = log::start(&Log { level: "warn".to_owned(), format: LogFormat::Text });
    let sent = sending.send();
    // Its last lines are written before ours.
    drop(guard);
    match sent {
        Ok(outcome) => tell(&outcome, &mark, file.as_deref()),
        Err(error) => {
            say(&format!("{error}\n"));
            ExitCode::from(EXIT_RUNTIME)
        }
    }
}

fn tell(outcome: &Outcome, mark: &str, file: Option<&Path>) -> ExitCode {
    let Outcome { is_delivered, words, event_id } = outcome;
    if !is_delivered {
        say(&format!("NOT delivered: {words}\n"));
        return ExitCode::from(EXIT_RUNTIME);
    }
    if let Some(file) = file {
        print(&format!("delivered: {words}\nfind it by\n  grep {mark} {}\n", file.display()));
        return ExitCode::SUCCESS;
    }
    let by_id = match event_id {
        Some(id) => format!("  event.id:\"{id}\"\n"),
        None => String::new(),
    };
    print(&format!(
        "delivered: {words}\nfind it on Sekoia's Events page, within some minutes, by\n{by_id}  \
         sekoiaio.intake.key:\"YOUR_KEY\" and the text {mark}\nNothing there after half an hour: look whether the key is \
         that of the intake you look at.\n"
    ));
    ExitCode::SUCCESS
}
