//! What a configuration asks for and a process that has given up root and most files cannot do any more.

use std::net::SocketAddr;

use crate::config::{Config, Listen, Loaded, Mistake, Protocol};
use crate::harden::{Access, Standing};

/// A mistake for each place that was not in the configuration `before` and is out of reach now.
pub(super) fn refused(standing: &Standing, before: &Config, loaded: &Loaded) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for input in &loaded.config.inputs {
        let is_known = |listen: &Listen| before.inputs.iter().any(|known| known.listen.contains(listen));
        for why in
            input.listen.iter().filter(|listen| !is_known(listen)).filter_map(|listen| of_socket(standing, listen))
        {
            mistakes.push(loaded.places.mistake(&format!("inputs.{}.listen", input.name), why));
        }
    }
    for output in &loaded.config.outputs {
        let Protocol::File(file) = &output.protocol else { continue };
        let is_known = |known: &Protocol| matches!(known, Protocol::File(known) if known.path == file.path);
        if before.outputs.iter().any(|output| is_known(&output.protocol)) {
            continue;
        }
        if let Some(why) = standing.refusal(&file.path, Access::Write) {
            mistakes.push(loaded.places.mistake(&format!("outputs.{}.to", output.name), why));
        }
    }
    mistakes
}

fn of_socket(standing: &Standing, listen: &Listen) -> Option<String> {
    match listen {
        Listen::Unix(path) | Listen::UnixDatagram(path) => standing.socket_refusal(path),
        Listen::Udp(address)
        | Listen::Tcp(address)
        | Listen::Tls(address)
        | Listen::Relp(address)
        | Listen::RelpTls(address) => standing.port_refusal(SocketAddr::port(address)),
    }
}
