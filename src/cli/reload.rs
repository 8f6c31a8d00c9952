//! `forebay reload`: asks a running relay to read its configuration again.

use std::process::ExitCode;

use clap::Args;

use crate::admin::client::AskError;

use super::admin::{Which, advice};
use super::run::EXIT_RUNTIME;
use super::{EXIT_CONFIG, print, say};

/// What the relay answers with where the new configuration is refused.
const REFUSED: u16 = 422;

#[derive(Debug, Args)]
pub(super) struct Reload {
    #[command(flatten)]
    which: Which,
}

/// Prints what has changed, or the report.
pub(super) fn reload(options: &Reload) -> ExitCode {
    let client = match options.which.client() {
        Ok(client) => client,
        Err(code) => return code,
    };
    match client.post("/reload") {
        Ok(changes) => {
            print(&changes);
            ExitCode::SUCCESS
        }
        Err(AskError::Refused { status: REFUSED, words }) => {
            say(&format!("{}\n", words.trim_end()));
            ExitCode::from(EXIT_CONFIG)
        }
        Err(error) => {
            say(&format!("{}\n", advice(&error)));
            ExitCode::from(EXIT_RUNTIME)
        }
    }
}
