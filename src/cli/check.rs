//! `forebay check`: what would happen, without opening a socket.

use std::process::ExitCode;

use crate::config::Reading;
use crate::relay;

use super::{Configuration, EXIT_CONFIG, print, say};

/// Prints the summary, warnings and what has become of another program's configuration, or the report of mistakes.
pub(super) fn check(configuration: &Configuration) -> ExitCode {
    let loaded = match configuration.load() {
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
    print(&loaded.config.summary());
    ExitCode::SUCCESS
}
