//! Messages as their routes send them, for people: intake keys masked.

use jiff::tz::TimeZone;

use crate::config::{Action, Config, Protocol};
use crate::syslog::Message;
use crate::template::{self, Context};

use super::https::one_event;
use super::render::my_hostname;

/// What is shown in an intake key's place.
const MASK: &[u8] = b"****";

/// Renders for people.
pub struct Preview {
    state: template::Renderer,
    my_hostname: String,
}

impl Default for Preview {
    fn default() -> Self {
        Self { state: template::Renderer::new(TimeZone::system()), my_hostname: my_hostname() }
    }
}

impl Preview {
    /// What is written for `message` by the route with this index: the same octets but for keys, framing and the line end
    /// behind it. `None` where the route sends nothing.
    pub fn sent(&mut self, config: &Config, route: usize, message: &Message<'_>) -> Option<Vec<u8>> {
        let Action::Forward { output, template, .. } = &config.routes.get(route)?.action else { return None };
        let context = Context { intake_key: MASK, my_hostname: &self.my_hostname };
        let mut line = Vec::new();
        template.render(message, &context, &mut self.state, &mut line);
        if matches!(config.outputs.get(*output)?.protocol, Protocol::Https(_)) {
            one_event(&mut line);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Some(masked(config, &line))
    }
}

/// `octets` without any of the configuration's intake keys, nor what calls itself one: senders may have put them there.
pub fn masked(config: &Config, octets: &[u8]) -> Vec<u8> {
    let keys = config.routes.iter().filter_map(|route| match &route.action {
        Action::Forward { intake_key, .. } => intake_key.as_ref().map(|key| key.expose()),
        Action::Discard => None,
    });
    template::masked(octets, &keys.collect::<Vec<_>>(), MASK)
}
