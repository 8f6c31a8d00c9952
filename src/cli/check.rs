//! `forebay check`: what would happen, without opening a socket; whether the machine has what that needs, and whether the way
//! out works, when asked to look and to try.

use std::path::Path;
use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde_json::json;

use crate::config::{Config, Loaded, Log, LogFormat, Reading};
use crate::host::{self, Verdict};
use crate::probe::{self, Finding, Outcome, ProbeError, Sending};
use crate::relay;

use super::run::EXIT_RUNTIME;
use super::{Configuration, EXIT_CONFIG, EXIT_USAGE, log, print, say};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("looks").args(["host", "connect"]).multiple(true))]
pub(super) struct Check {
    #[command(flatten)]
    configuration: Configuration,
    /// Looks at this machine: kernel buffers, open files, ports, UDP's losses, conntrack, clock, disk and memory against
    /// what the configuration needs, and says what to change and why. Changes nothing.
    #[arg(long)]
    host: bool,
    /// Tries the way to every output: names, TCP, proxy, TLS, certificates, clocks, RELP or HTTP. Sends no message.
    #[arg(long)]
    connect: bool,
    /// Prints what --host and --connect find as JSON.
    #[arg(long, requires = "looks", conflicts_with = "route")]
    json: bool,
    /// Sends one marked message through this route, as the relay would, and says how to find it.
    #[arg(long = "send-test", value_name = "ROUTE", id = "route")]
    route: Option<String>,
    /// What the test message says, besides its mark.
    #[arg(long, value_name = "TEXT", requires = "route")]
    message: Option<String>,
}

/// Prints the summary, warnings and what has become of another program's configuration, or the report of mistakes; or what
/// was found by looking and trying.
pub(super) fn check(options: &Check) -> ExitCode {
    let loaded = match options.configuration.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    if let Err(code) = warn(&loaded) {
        return code;
    }
    if !options.host && !options.connect && options.route.is_none() {
        print(&loaded.config.summary());
        return ExitCode::SUCCESS;
    }
    match look(options, &loaded.config) {
        Ok(true) => {}
        Ok(false) => {
            if options.route.is_some() {
                say("nothing was sent\n");
            }
            return ExitCode::from(EXIT_RUNTIME);
        }
        Err(code) => return code,
    }
    match &options.route {
        Some(route) => send(loaded.config, route, options.message.as_deref(), options.connect),
        None => ExitCode::SUCCESS,
    }
}

/// Tells of what is odd, and of what certificates' files hold.
fn warn(loaded: &Loaded) -> Result<(), ExitCode> {
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
    let left_out = relay::check_certificates(&loaded.config).map_err(|mistakes| {
        say(&format!("{mistakes}\n"));
        ExitCode::from(EXIT_CONFIG)
    })?;
    left_out.iter().for_each(|why| say(&format!("error: left out: {why}\n")));
    Ok(())
}

/// Looks at the machine, and tries the outputs, as far as was asked for; whether nothing is in the way of messages.
fn look(options: &Check, config: &Config) -> Result<bool, ExitCode> {
    let mut is_well = true;
    let mut found = serde_json::Map::new();
    if options.host {
        let report = host::look(config);
        let problems = report.count(Verdict::Problem);
        is_well &= problems == 0;
        if options.json {
            found.insert(
                "host".to_owned(),
                json!({ "problems": problems, "findings": report.findings, "notes": report.notes }),
            );
        } else {
            print(&report.to_string());
        }
    }
    if options.connect {
        let findings = tried(probe::connect(config, None))?;
        let all = findings.iter().all(|finding| finding.deliverable);
        is_well &= all;
        if options.json {
            found.insert("deliverable".to_owned(), json!(all));
            found.insert("outputs".to_owned(), json!(findings));
        } else {
            show(&findings);
        }
    }
    if options.json {
        print(&format!("{:#}\n", serde_json::Value::Object(found)));
    }
    Ok(is_well)
}

fn tried(findings: Result<Vec<Finding>, ProbeError>) -> Result<Vec<Finding>, ExitCode> {
    findings.map_err(|error| {
        say(&format!("{error}\n"));
        ExitCode::from(EXIT_RUNTIME)
    })
}

fn show(findings: &[Finding]) {
    print(&findings.iter().map(Finding::to_string).collect::<String>());
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
        let findings = match tried(sending.connect()) {
            Ok(findings) => findings,
            Err(code) => return code,
        };
        show(&findings);
        if !findings.iter().all(|finding| finding.deliverable) {
            say("nothing was sent\n");
            return ExitCode::from(EXIT_RUNTIME);
        }
    }
    let (mark, file) = (sending.mark.clone(), sending.file.clone());
    print(&format!("sending to {}, the intake key masked here:\n  {}\n", sending.output, sending.shown));
    // What the relay would log of it.
    let guard = log::start(&Log { level: "warn".to_owned(), format: LogFormat::Text }).map(log::Started::in_background);
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
