//! What the process's HTTPS forwarders know together.

use std::sync::Arc;

use crate::config::Config;
use crate::metrics::Meters;

use super::limiter::Limiter;
use super::parking::Parking;

/// Shared by all HTTPS forwarders of the process.
#[derive(Debug)]
pub struct Web {
    pub(super) limiter: Limiter,
    /// By route.
    parkings: Vec<Parking>,
    names: Vec<String>,
}

impl Web {
    /// Nothing was sent yet.
    pub fn new(config: &Config, meters: &Arc<Meters>) -> Self {
        Self {
            limiter: Limiter::new(config.http.requests_per_second, Arc::clone(meters)),
            parkings: config.routes.iter().map(|_| Parking::default()).collect(),
            names: config.routes.iter().map(|route| route.name.clone()).collect(),
        }
    }

    /// Why a route sends nothing (its key was refused), and for how many seconds more.
    pub fn parked(&self, route: usize) -> Option<(String, u64)> {
        self.parkings.get(route)?.why()
    }

    /// Seconds for which no request goes, after errors.
    pub fn paused_for(&self) -> Option<u64> {
        self.limiter.paused_for()
    }

    pub(super) fn route_name(&self, route: usize) -> &str {
        self.names.get(route).map(String::as_str).unwrap_or_default()
    }

    pub(super) fn parking(&self, route: usize) -> Option<&Parking> {
        self.parkings.get(route)
    }
}
