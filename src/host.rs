//! Whether this machine has what a configuration needs: what was read ([`Facts`]), what it is judged to be ([`judge`]), and
//! what to change ([`Finding`]).
//!
//! Judging is pure, so that tables of tests can invent machines. Nothing of the machine is changed, and what cannot be read
//! here (a container without /proc, a kernel that does not say) is said to be so and not guessed.

use std::path::Path;

use crate::config::Config;

pub use facts::{Clock, Conntrack, Disk, Facts, Memory, Processors, Udp};
pub use read::read;
pub use report::{Finding, Report, Verdict};

mod facts;
mod machine;
mod network;
mod read;
mod report;

/// Looks at this machine, as this process sees it, and judges what `config` needs of it.
pub fn look(config: &Config) -> Report {
    judge(config, &read(config, Path::new("/")))
}

/// Judges `facts` for `config`: only what its inputs, outputs and spool need. In an order that does not change.
pub fn judge(config: &Config, facts: &Facts) -> Report {
    let mut findings = network::judge(config, facts);
    findings.extend(machine::judge(config, facts));
    let mut notes = Vec::new();
    if facts.user == Some(0) {
        notes.push(
            "this was read as root: a relay that runs as another user, by systemd or in a container, has limits and capabilities \
             of its own; run this check there, as that user, for what holds there"
                .to_owned(),
        );
    }
    Report { findings, notes }
}
