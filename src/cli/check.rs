//! `forebay check`: what would happen, without opening a socket.

use std::process::ExitCode;

use crate::relay;

use super::{Configuration, EXIT_CONFIG, print, say};

/// Prints the summary and warnings, or the report of mistakes.
pub(super) fn check(configuration: &Configuration) -> ExitCode {
    let loaded = match configuration.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
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
