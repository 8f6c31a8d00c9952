//! Which routes a message takes. Pure: no I/O, no waiting, no logging, no counting.


pub use conditions::{Conditions, NamePattern, TextTest};
pub use matcher::{Matcher, Rule, shadowed};

