//! The command line: argv to exit code. Exit codes: 0 clean, 1 runtime, 64 usage, 78 configuration (`sysexits.h`).

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::config::{self, Loaded, LogFormat, Source};

mod check;
mod demo;
mod health;
mod log;
mod run;
mod spool;

/// The configuration is wrong.
const EXIT_CONFIG: u8 = 78;

/// The command line is wrong.
const EXIT_USAGE: u8 = 64;

/// A syslog relay in front of Sekoia.io's intake.
///
/// Takes syslog over UDP, TCP, TLS and unix sockets, parses it as rsyslog does, routes it by program name to the intake
/// key it belongs to, and forwards it over TLS. Nothing is lost in silence: every message ends in exactly one counter.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, max_term_width = 100)]
#[command(after_help = "Try it without any configuration: forebay demo")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the relay until SIGTERM or SIGINT; a second signal ends it at once.
    ///
    /// With no file at all, FOREBAY_INTAKE_KEY is a complete configuration: a sidecar that sends everything to one
    /// intake. FOREBAY_REGION (default fra1) and FOREBAY_LISTEN change where it sends and listens.
    Run(Run),
    /// Checks a configuration and says what would happen, without opening a socket. Exits with 78 on mistakes.
    Check(Configuration),
    /// Shows the whole of it on this machine: a relay, a TLS collector in Sekoia's place, a stream of messages.
    ///
    /// Prints what arrives, with keys masked, then the ledger, and goes on listening for messages of yours until Ctrl-C.
    /// Needs no configuration, no root and no network.
    Demo(demo::Demo),
    /// Asks a running relay whether it is ready: one line, exit code 0 or 1.
    ///
    /// For a container's health check, where there is no curl: HEALTHCHECK CMD ["/forebay", "health"].
    Health(health::Health),
    /// Looks into the spool, on a stopped or a running relay: what waits on the disk, and taking it out or putting it in.
    #[command(subcommand)]
    Spool(spool::Spool),
}

#[derive(Debug, Args)]
struct Configuration {
    /// Configuration: a YAML file, or a directory whose *.yaml files are merged in name order.
    #[arg(short, long, value_name = "FILE", env = "FOREBAY_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    configuration: Configuration,
    /// How log lines look, whatever the configuration says.
    #[arg(long, value_enum)]
    log_format: Option<Format>,
    /// What is logged (error, warn, info, debug, or a filter such as forebay::forward=debug), whatever the
    /// configuration says.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// The command line's definition: commands, options and their help.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Parses argv and runs the command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` come this way too, and are no mistakes.
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            // Nothing is left to do when even that cannot be printed.
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    match cli.command {
        Command::Run(run) => run::run(&run),
        Command::Check(configuration) => check::check(&configuration),
        Command::Demo(options) => demo::demo(&options),
        Command::Health(options) => health::health(&options),
        Command::Spool(command) => spool::spool(&command),
    }
}

impl Configuration {
    /// Loads what the options and the environment name; prints the report and gives the exit code where that fails.
    fn load(&self) -> Result<Loaded, ExitCode> {
        let source = match &self.config {
            Some(path) => Source::from_path(path),
            None if std::env::var_os("FOREBAY_INTAKE_KEY").is_some() => Source::Environment,
            None => {
                say("no configuration: give one with -c FILE, or set FOREBAY_INTAKE_KEY to run as a sidecar\n");
                return Err(ExitCode::from(EXIT_CONFIG));
            }
        };
        config::load(&source, &|name| std::env::var(name).ok()).map_err(|report| {
            say(&format!("{report}\n"));
            ExitCode::from(EXIT_CONFIG)
        })
    }
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

/// Writes to standard error: reports are for people, and standard output may be a pipe that expects data.
fn say(text: &str) {
    use std::io::Write;
    // There is nowhere left to complain when standard error is closed.
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// Writes to standard output.
fn print(text: &str) {
    use std::io::Write;
    // A closed pipe (`forebay check | head -1`) is the reader's choice, and no failure.
    drop(std::io::stdout().write_all(text.as_bytes()));
}
