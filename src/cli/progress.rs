//! A bar for long work, where somebody looks: never in a pipe, a log or a script.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What a bar counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unit {
    /// Octets, out of so many.
    Octets,
    /// Messages, out of so many.
    Messages,
    /// Nothing: it only turns.
    Steps,
}

/// Shown on standard error while it lives.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar of `total`, where standard error is a terminal.
    pub(super) fn new(what: &'static str, unit: Unit, total: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let (template, total) = match unit {
            Unit::Octets => ("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}", Some(total)),
            Unit::Messages => ("{msg} {wide_bar} {human_pos}/{human_len} {eta}", Some(total)),
            Unit::Steps => ("{msg} {spinner} {elapsed}", None),
        };
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        // A template that is wrong would leave the library's own.
        let bar = match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
        Self(bar.with_message(what))
    }

    /// So much more is done.
    pub(super) fn advance(&self, by: u64) {
        self.0.inc(by);
    }

    /// Still at work.
    pub(super) fn turn(&self) {
        self.0.tick();
    }

    /// Says something without tearing the bar.
    pub(super) fn say(&self, text: &str) {
        self.0.suspend(|| super::say(text));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
