//! Collects what is to be said of each construct. No text of a template is ever shown: it holds keys.

use crate::config::foreign::{Note, Reading};
use crate::config::report::Position;

/// Notes so far.
#[derive(Debug, Default)]
pub(super) struct Notes(pub(super) Vec<Note>);

impl Notes {
    /// It has an equal here.
    pub(super) fn mapped(&mut self, at: &Position, construct: &str, message: impl Into<String>) {
        self.add(at, Reading::Mapped, construct, message);
    }

    /// Nothing is missing without it.
    pub(super) fn meaningless(&mut self, at: &Position, construct: &str, message: impl Into<String>) {
        self.add(at, Reading::Meaningless, construct, message);
    }

    /// It is not done here.
    pub(super) fn unsupported(&mut self, at: &Position, construct: &str, message: impl Into<String>) {
        self.add(at, Reading::Unsupported, construct, message);
    }

    fn add(&mut self, at: &Position, reading: Reading, construct: &str, message: impl Into<String>) {
        let construct: String = construct.chars().map(|each| if each.is_control() { ' ' } else { each }).collect();
        self.0.push(Note { at: at.clone(), reading, construct, message: message.into() });
    }
}
