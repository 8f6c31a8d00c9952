//! The road to a destination: which of its targets, which address, TCP, TLS. What is said on it is others' business.

pub use connect::{ConnectError, Connection, Connector, Resolved, Steps, Stream, datagrams_to};
pub use targets::Targets;

mod connect;
mod proxy;
mod race;
mod targets;
