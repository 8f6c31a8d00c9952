//! forebay: a syslog relay in front of Sekoia.io's intake.

pub mod config;
pub mod route;
pub mod syslog;
pub mod template;
