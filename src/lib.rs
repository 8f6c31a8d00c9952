//! forebay: a syslog relay in front of Sekoia.io's intake.

pub mod config;
pub mod forward;
pub mod lane;
pub mod metrics;
pub mod pipeline;
pub mod route;
pub mod stop;
pub mod sys;
pub mod syslog;
pub mod template;
pub mod tls;
