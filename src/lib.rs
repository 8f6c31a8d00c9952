//! forebay: a syslog relay in front of Sekoia.io's intake.

pub mod admin;
pub mod batch;
pub mod cli;
pub mod config;
pub mod forward;
pub mod lane;
pub mod metrics;
pub mod names;
pub mod pipeline;
mod posix;
pub mod probe;
pub mod receipts;
pub mod receive;
pub mod relay;
pub mod relp;
pub mod road;
pub mod route;
pub mod shard;
pub mod slots;
pub mod spool;
pub mod stop;
pub mod sys;
pub mod syslog;
pub mod tap;
pub mod template;
mod time;
pub mod tls;
