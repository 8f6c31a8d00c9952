//! RELP, the Reliable Event Logging Protocol: syslog messages in numbered frames, each of which the server answers.
//!
//! Sans-IO: octets in, events and octets out; sockets, TLS and time limits are the caller's. [`frame`] cuts and builds
//! frames, [`client`] is an output's end of a connection, [`server`] an input's.
//!
//! What is meant by RELP here is librelp 1.11.0 as rsyslog 8.2302 uses it (omrelp, imrelp); where it and its specification
//! (librelp's `doc/relp.html`, "the specification" below) part, the program is followed and the place says so.

pub mod client;
pub mod frame;
mod fuzz;
mod offers;
mod response;
pub mod server;

#[doc(hidden)]
pub use fuzz::fuzz;

/// The largest transaction number; 1 follows (specification, "RELP frame"; `relpEngineNextTXNR` in librelp's `relp.c`).
pub const TXNR_MAX: u32 = 999_999_999;

/// The number of a hint, which is not answered (specification, "Command semantics").
pub const TXNR_HINT: u32 = 0;

/// What a connection's first command, which is `open`, is numbered.
pub const TXNR_FIRST: u32 = 1;

/// The number after `txnr`.
pub const fn next_txnr(txnr: u32) -> u32 {
    if txnr >= TXNR_MAX { TXNR_FIRST } else { txnr + 1 }
}
