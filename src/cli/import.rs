//! `forebay import`: another program's configuration as one of ours.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::config::{self, Keys, Reading};

use super::{EXIT_CONFIG, print, say};

#[derive(Debug, Subcommand)]
pub(super) enum Import {
    /// rsyslog's configuration, to standard output as YAML. What has no equivalent is a comment with its line.
    ///
    /// Intake keys are printed as they stand in the files: treat the result as you treat those. With
    /// --keys-from-environment it names variables in their place.
    Rsyslog(Rsyslog),
}

#[derive(Debug, Args)]
pub(super) struct Rsyslog {
    /// Files or quoted globs. What includes others brings them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Writes ${NAME_INTAKE_KEY} in each key's place, and lists the variables.
    #[arg(long)]
    keys_from_environment: bool,
}

/// Prints the configuration, and on standard error what is not supported; or the mistakes.
pub(super) fn import(command: &Import) -> ExitCode {
    let Import::Rsyslog(options) = command;
    let keys = if options.keys_from_environment { Keys::FromEnvironment } else { Keys::Found };
    match config::import_rsyslog(&options.files, keys) {
        Ok((text, notes)) => {
            for note in notes.iter().filter(|note| note.reading == Reading::Unsupported) {
                say(&format!("warning: {note}\n"));
            }
            print(&text);
            ExitCode::SUCCESS
        }
        Err(report) => {
            say(&format!("{report}\n"));
            ExitCode::from(EXIT_CONFIG)
        }
    }
}
