//! The command line: argv to exit code. Exit codes: 0 clean, 1 runtime, 64 usage, 78 configuration (`sysexits.h`).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::config::{self, KeyFiles, Loaded, LogFormat, Source};

mod admin;
mod check;
mod demo;
mod end;
mod explain;
mod health;
mod import;
mod log;
mod paint;
mod progress;
mod reload;
mod run;
mod send;
mod shell;
mod show;
mod spool;
mod tap;
mod times;
mod top;

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
    /// intake. FOREBAY_REGION (default fra1) and FOREBAY_LISTEN change where it sends and listens. With neither, the
    /// /intakes.yaml of Sekoia's forwarder is, with that program's variables.
    Run(Run),
    /// Checks a configuration and says what would happen, without opening a socket. Exits with 78 on mistakes.
    ///
    /// With --host this machine is looked at: buffers, limits, clock, disk. With --connect every output's way out is
    /// tried as well, step by step, and no message is sent; with --send-test one message is. Each exits with 1 where something
    /// does not work.
    Check(check::Check),
    /// Shows the whole of it on this machine: a relay, a TLS collector in Sekoia's place, a stream of messages.
    ///
    /// Prints what arrives, with keys masked, then the ledger, and goes on listening for messages of yours until Ctrl-C.
    /// Needs no configuration, no root and no network.
    Demo(demo::Demo),
    /// Explains what becomes of a message: how it is framed and parsed, which routes it takes, and what is sent.
    ///
    /// Nothing is sent and no socket is opened. The answer comes from the code that `forebay run` runs. A message is an
    /// argument, or what stands in a file or comes from standard input; where that holds several, what became of all of them
    /// is summed up. Without a configuration an input with the defaults is assumed, and one route with the template of
    /// Sekoia's FAQ. Intake keys are masked.
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::Explain),
    /// Sends test messages, and says what became of them: how many went out how fast, and with --listen which came back.
    ///
    /// Without options: ten messages to udp://127.0.0.1:514. Each carries a mark, by which one that comes back is known. With
    /// --listen it also takes the place of the collector: point an output of the relay at it, and it tells what is missing,
    /// repeated or out of order, and how long each message took. Exits with 1 when a message could not be sent or is missing.
    #[command(after_help = send::EXAMPLES)]
    Send(Box<send::Send>),
    /// Shows what a running relay sends, or what arrives, live: a message a line, intake keys masked.
    ///
    /// What is shown is a copy, a thousand messages a second at most: a tap slows nothing down, and says what it left out.
    #[command(after_help = "Examples:\n  \
        forebay tap\n  \
        forebay tap unbound -n 10\n  \
        forebay tap --received --peer 10.1.2.0/24 --text denied\n  \
        forebay tap 'web*' --json --admin unix:///run/forebay/admin.sock | jq -r .hostname")]
    Tap(tap::Tap),
    /// Shows a running relay in the terminal: rates, backlogs, connections, drops, and who sends most.
    ///
    /// Keys: 1 to 5 and Tab for views, s and r to sort, / to filter, Space to pause, ? for help, q to quit.
    #[command(after_help = "Examples:\n  \
        forebay top\n  \
        forebay top -c /etc/forebay/forebay.yaml\n  \
        forebay top --once | grep -A5 ^routes")]
    Top(top::Top),
    /// Prints another program's configuration as a configuration of forebay's.
    #[command(subcommand)]
    Import(import::Import),
    /// Asks a running relay whether it is ready: one line, exit code 0 or 1.
    ///
    /// For a container's health check, where there is no curl: HEALTHCHECK CMD ["/forebay", "health"].
    Health(health::Health),
    /// Lets a running relay read its configuration again, and prints what came of it: 0 where it is applied, 78 with the
    /// report where it is refused.
    ///
    /// The new configuration is checked whole before anything of it is applied. SIGHUP and `systemctl reload` do the same, and
    /// tell the log only.
    Reload(reload::Reload),
    /// Looks into the spool, on a stopped or a running relay: what waits on the disk, and taking it out or putting it in.
    #[command(subcommand)]
    Spool(spool::Spool),
    /// Prints a script that completes forebay's commands and options in a shell.
    ///
    /// bash: forebay completions bash > /etc/bash_completion.d/forebay
    /// zsh: forebay completions zsh > /usr/local/share/zsh/site-functions/_forebay
    /// fish: forebay completions fish > ~/.config/fish/completions/forebay.fish
    #[command(verbatim_doc_comment)]
    Completions(shell::Completions),
    /// Prints forebay's manual page, or writes one for each command into a folder.
    Man(shell::Manual),
}

#[derive(Debug, Default, Clone, Args)]
struct Configuration {
    /// Configuration: a YAML file, or a directory whose *.yaml files are merged in name order.
    #[arg(short, long, value_name = "FILE", env = "FOREBAY_CONFIG")]
    config: Option<PathBuf>,
    /// rsyslog's configuration as it is, besides -c or alone: files or quoted globs. What includes others brings them.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    rsyslog: Vec<PathBuf>,
    /// The intakes.yaml of Sekoia's forwarder, with its variables (REGION, DISK_SPACE, MEMORY_MESSAGES, ...). Without any
    /// other configuration /intakes.yaml is taken where it is there.
    #[arg(long, value_name = "FILE", env = "FOREBAY_INTAKES", conflicts_with_all = ["config", "rsyslog"])]
    intakes: Option<PathBuf>,
    /// Refuses what would otherwise be left out and told of: entries of an intakes.yaml that cannot be used, and what is
    /// not supported in rsyslog's configuration.
    #[arg(long)]
    strict: bool,
    /// Takes files that hold keys although everybody on this machine may read them, or others may change them, and warns.
    #[arg(long, env = "FOREBAY_INSECURE_PERMISSIONS", value_parser = clap::builder::FalseyValueParser::new())]
    insecure_permissions: bool,
}

#[derive(Debug, Clone, Args)]
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
        Command::Check(options) => check::check(&options),
        Command::Import(command) => import::import(&command),
        Command::Demo(options) => demo::demo(&options),
        Command::Explain(options) => explain::explain(&options),
        Command::Send(options) => send::send(&options),
        Command::Tap(options) => tap::tap(&options),
        Command::Top(options) => top::top(&options),
        Command::Health(options) => health::health(&options),
        Command::Reload(options) => reload::reload(&options),
        Command::Spool(command) => spool::spool(&command),
        Command::Completions(options) => shell::completions(&options),
        Command::Man(options) => shell::manual(&options),
    }
}

impl Configuration {
    /// Whether an option or the environment names one.
    fn is_given(&self) -> bool {
        self.config.is_some()
            || self.intakes.is_some()
            || !self.rsyslog.is_empty()
            || std::env::var_os("FOREBAY_INTAKE_KEY").is_some()
            || Path::new(config::INTAKES).is_file()
    }

    /// Loads what the options and the environment name; prints the report and gives the exit code where that fails.
    fn load(&self) -> Result<Loaded, ExitCode> {
        self.load_with(&|name| std::env::var(name).ok())
    }

    /// The same; `environment` looks variables up that the file names.
    fn load_with(&self, environment: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, ExitCode> {
        self.read(environment).map_err(|report| {
            say(&format!("{report}\n"));
            ExitCode::from(EXIT_CONFIG)
        })
    }

    /// The same, with nothing printed: the report is returned.
    fn read(&self, environment: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, String> {
        let intakes = |path: &Path| Source::Intakes { path: path.to_owned(), strict: self.strict };
        let of_forwarder = Path::new(config::INTAKES);
        let base = match (&self.config, &self.intakes) {
            (Some(path), _) => Some(Source::from_path(path)),
            (None, Some(path)) => Some(intakes(path)),
            (None, None) if !self.rsyslog.is_empty() => None,
            (None, None) if std::env::var_os("FOREBAY_INTAKE_KEY").is_some() => Some(Source::Environment),
            (None, None) if of_forwarder.is_file() => Some(intakes(of_forwarder)),
            (None, None) => {
                let why = "no configuration: give one with -c FILE, rsyslog's with --rsyslog FILE, or Sekoia's with \
                           --intakes FILE; or set FOREBAY_INTAKE_KEY to run as a sidecar";
                return Err(why.to_owned());
            }
        };
        let source = match base {
            Some(intakes @ Source::Intakes { .. }) => intakes,
            base => Source::Rsyslog { base: base.map(Box::new), files: self.rsyslog.clone(), strict: self.strict },
        };
        config::load_with(&source, environment, self.key_files()).map_err(|report| report.to_string())
    }

    /// What it takes a file that holds keys for.
    fn key_files(&self) -> KeyFiles {
        if self.insecure_permissions { KeyFiles::Any } else { KeyFiles::Private }
    }
}

impl Run {
    /// What the command line says of the log goes before what the configuration does.
    fn override_log(&self, loaded: &mut Loaded) {
        if let Some(format) = self.log_format {
            loaded.config.log.format = format.into();
        }
        if let Some(level) = &self.log_level {
            loaded.config.log.level.clone_from(level);
        }
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

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
