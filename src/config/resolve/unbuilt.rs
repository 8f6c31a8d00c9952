//! What a configuration may ask for and this build cannot do.

use super::*;

impl Resolver<'_> {
    /// Refuses what is right and not built, so that nothing is taken and then not done.
    pub(super) fn not_built_yet(&mut self, config: &Config) {
        let mut found = Vec::new();
        for input in &config.inputs {
            let path = Path::root().key("inputs").key(&input.name).key("listen");
            let relp = |listen: &Listen| matches!(listen, Listen::Relp(_) | Listen::RelpTls(_));
            if let Some(index) = input.listen.iter().position(relp) {
                found.push((self.item(&path, index), "RELP inputs are"));
            }
        }
        for (path, what) in found {
            self.mistake(&path, format!("{what} not in this build yet"));
        }
    }
}
