//! `forebay health`: asks a running relay how it is, where there is no curl to do it: in a container, from cron.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::admin::client::AskError;

use super::admin::Which;
use super::run::EXIT_RUNTIME;
use super::{print, say};

#[derive(Debug, Args)]
pub(super) struct Health {
    #[command(flatten)]
    which: Which,
    /// Asks whether every shard turns (/livez), and not whether the relay is ready (/readyz).
    #[arg(long)]
    live: bool,
    /// How many seconds all of it may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

/// Prints one line; 0 where all is well, 1 where not, or where nobody answers in time.
pub(super) fn health(options: &Health) -> ExitCode {
    let deadline = Instant::now() + Duration::from_secs(options.timeout);
    let path = if options.live { "/livez" } else { "/readyz" };
    let client = match options.which.client() {
        Ok(client) => client.until(deadline),
        Err(code) => return code,
    };
    let in_a_line = |words: &str| words.lines().collect::<Vec<_>>().join("; ") + "\n";
    match client.get(path) {
        Ok(what) => {
            print(&in_a_line(&what));
            ExitCode::SUCCESS
        }
        Err(why) => {
            match why {
                AskError::Refused { words, .. } => say(&in_a_line(&words)),
                _ => say(&in_a_line(&format!("no answer from {}{path}: {why}", client.place()))),
            }
            ExitCode::from(EXIT_RUNTIME)
        }
    }
}
