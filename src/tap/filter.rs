//! Which messages a tap shows.

use ipnet::IpNet;
use memchr::memmem::Finder;

use crate::route::Name;
use crate::syslog::Message;

/// All that is asked for must hold. The default takes everything.
#[derive(Debug, Default)]
pub struct Filter {
    /// By route: one that a message takes must be among them. `None`: any, or none.
    pub routes: Option<Vec<bool>>,
    /// Program names; one of them. Empty: any.
    pub programs: Vec<Name>,
    /// The sender's networks; one of them. Empty: any.
    pub peers: Vec<IpNet>,
    /// Somewhere in the message as it was received; octets and their case count.
    pub text: Option<Finder<'static>>,
}

impl Filter {
    /// Whether it asks for nothing of a message itself.
    pub(super) fn takes_all(&self) -> bool {
        self.programs.is_empty() && self.peers.is_empty() && self.text.is_none() && self.routes.is_none()
    }

    /// Whether a message that goes by this route is to be looked at.
    pub(super) fn takes_route(&self, route: u16) -> bool {
        self.routes.as_ref().is_none_or(|routes| routes.get(usize::from(route)).copied().unwrap_or(false))
    }

    /// Whether one of its routes is among those that are asked for.
    pub(super) fn takes_one_of(&self, routes: &[u16]) -> bool {
        self.routes.is_none() || routes.iter().any(|route| self.takes_route(*route))
    }

    /// Whether the message itself is asked for.
    pub(super) fn takes(&self, message: &Message<'_>) -> bool {
        (self.programs.is_empty() || self.programs.iter().any(|name| name.matches(message.program_name())))
            && (self.peers.is_empty()
                || message.peer.is_some_and(|peer| self.peers.iter().any(|net| net.contains(&peer.to_canonical()))))
            && self.text.as_ref().is_none_or(|text| text.find(message.raw).is_some())
    }
}
