//! What a configuration will do, in words: `forebay check` prints it.

use std::fmt::Write;

use super::{Action, Config};

impl Config {
    /// What would listen and where each route goes. Keys are masked.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        for route in &self.routes {
            if let Action::Forward { output, .. } = route.action {
                _ = writeln!(out, "{output}");
            }
        }
        out
    }
}
