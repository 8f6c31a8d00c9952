//! What a configuration may ask for and this build cannot do.

use super::*;
use crate::config::Protocol;

impl Resolver<'_> {
    /// Refuses what is right and not built, so that nothing is taken and then not done.
    pub(super) fn not_built_yet(&mut self, config: &Config) {
        let mut found = Vec::new();
        for output in &config.outputs {
            let path = Path::root().key("outputs").key(&output.name);
            let spoken = match self.node(&path.key("region")) {
                Some(_) => path.key("protocol"),
                None => path.key("to"),
            };
            match output.protocol {
                Protocol::Syslog | Protocol::Relp { .. } | Protocol::File(_) => {}
                Protocol::Https(_) => found.push((spoken, "HTTPS outputs are")),
            }
        }
        for (path, what) in found {
            self.mistake(&path, format!("{what} not in this build yet"));
        }
    }
}
