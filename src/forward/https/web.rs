//! What the process's HTTPS forwarders know together.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{Action, Config};
use crate::metrics::Meters;
use crate::slots::Slots;

use super::limiter::Limiter;
use super::parking::Parking;

/// Shared by all HTTPS forwarders of the process.
#[derive(Debug)]
pub struct Web {
    pub(super) limiter: Limiter,
    /// By route.
    parkings: Slots<Parking>,
    names: Slots<String>,
    /// The last answer, where somebody wants to read it.
    last_answer: Mutex<Option<(u16, Vec<u8>)>>,
    keeps_answers: AtomicBool,
}

impl Web {
    /// Nothing was sent yet.
    pub fn new(config: &Config, meters: &Arc<Meters>) -> Self {
        Self {
            limiter: Limiter::new(config.http.requests_per_second, Arc::clone(meters)),
            parkings: config.routes.iter().map(|_| Parking::default()).collect(),
            names: config.routes.iter().map(|route| route.name.clone()).collect(),
            last_answer: Mutex::default(),
            keeps_answers: AtomicBool::new(false),
        }
    }

    /// As `config` says from now on, which takes the place of `before`. A route whose key changed need not wait any more.
    pub fn grow(&self, before: &Config, config: &Config) {
        self.limiter.pace(config.http.requests_per_second);
        self.parkings.fill(config.routes.len(), |_| Parking::default());
        self.names
            .fill(config.routes.len(), |at| config.routes.get(at).map(|route| route.name.clone()).unwrap_or_default());
        let key = |config: &Config, route: usize| match config.routes.get(route).map(|route| &route.action) {
            Some(Action::Forward { intake_key, .. }) => intake_key.clone(),
            _ => None,
        };
        for (route, parking) in self.parkings.iter().enumerate() {
            if key(before, route) != key(config, route) {
                parking.try_now();
            }
        }
    }

    /// Keeps the last answer from now on.
    pub fn keep_answers(&self) {
        self.keeps_answers.store(true, Relaxed);
    }

    /// Status and body of the last answer since [`Self::keep_answers`].
    pub fn last_answer(&self) -> Option<(u16, Vec<u8>)> {
        self.last_answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn answered(&self, status: u16, body: &[u8]) {
        if self.keeps_answers.load(Relaxed) {
            *self.last_answer.lock().unwrap_or_else(PoisonError::into_inner) = Some((status, body.to_vec()));
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
