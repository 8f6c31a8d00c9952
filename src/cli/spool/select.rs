//! What is selected by times on the command line.

use crate::spool::control::Select;

use super::Which;

pub(super) use crate::cli::times::{stamp, time_us};

impl Which {
    /// As the spool is asked.
    pub(super) fn select(&self) -> Select {
        Select { routes: self.route.clone(), since_us: self.since, until_us: self.until }
    }
}
