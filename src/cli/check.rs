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
    for warning in &loaded.warnings {
        say(&format!("warning: {warning}\n"));
    }
    if let Err(mistakes) = relay::check_certificates(&loaded.config) {
        say(&format!("{mistakes}\n"));
        return ExitCode::from(EXIT_CONFIG);
    }
    print(&loaded.config.summary());
    ExitCode::SUCCESS
}
