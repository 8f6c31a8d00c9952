//! What the relay has bound for its inputs.

use std::path::PathBuf;

use crate::config::{Config, Listen};
use crate::receive::{self, Bound, Socket};

/// One address of an input that is bound, on however many shards.
#[derive(Debug, Clone)]
pub(super) struct Listening {
    /// Which input.
    pub(super) input: usize,
    /// As the configuration has it.
    pub(super) listen: Listen,
    /// As a URL, the port that the kernel chose included.
    pub(super) url: String,
    /// The service manager has bound it.
    pub(super) inherited: bool,
    /// The file of a unix socket that we have bound.
    pub(super) file: Option<PathBuf>,
}

impl Listening {
    /// Of what is bound.
    pub(super) fn all(bound: &[Bound]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for bound in bound {
            let Some(listen) = &bound.listen else { continue };
            if all.iter().any(|known| known.input == bound.input && known.listen == *listen) {
                continue;
            }
            let file = match &bound.socket {
                Socket::Unix(listener) => listener.local_addr().ok(),
                Socket::UnixDatagram(socket) => socket.local_addr().ok(),
                _ => None,
            };
            let file = file.and_then(|address| address.as_pathname().map(PathBuf::from)).filter(|_| !bound.inherited);
            let (input, url, inherited) = (bound.input, bound.url.clone(), bound.inherited);
            all.push(Self { input, listen: listen.clone(), url, inherited, file });
        }
        all
    }

    /// The same under `config`; `None` where it has it no more.
    pub(super) fn under(&self, config: &Config) -> Option<Self> {
        let (input, listen) = receive::kept(config, self.input, &self.listen)?;
        let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
        let scheme = listen.to_string();
        let scheme = scheme.split_once("://").map_or("", |(scheme, _)| scheme);
        Some(Self { input, url: format!("{scheme}://{rest}"), listen, ..self.clone() })
    }
}
