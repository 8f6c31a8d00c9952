//! When certificates end.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use crate::slots::Slots;

/// When a certificate ends, once that is known.
#[derive(Debug)]
pub struct Expiry(AtomicI64);

/// No certificate ends then.
const UNKNOWN: i64 = i64::MIN;

impl Default for Expiry {
    fn default() -> Self {
        Self(AtomicI64::new(UNKNOWN))
    }
}

impl Expiry {
    /// It ends then, seconds since the Unix epoch.
    pub fn set(&self, seconds: i64) {
        self.0.store(seconds, Relaxed);
    }

    /// Seconds since the Unix epoch; `None` while no certificate was seen.
    pub fn value(&self) -> Option<i64> {
        Some(self.0.load(Relaxed)).filter(|seconds| *seconds != UNKNOWN)
    }
}

/// Those of one output.
#[derive(Debug, Clone, Default)]
pub struct OutputExpiries {
    /// What we present.
    pub ours: Arc<Expiry>,
    /// What its peer presented last, trusted or not.
    pub peer: Arc<Expiry>,
}

/// Those of the process.
#[derive(Debug, Default)]
pub struct Expiries {
    /// By input: what we present.
    pub inputs: Slots<Arc<Expiry>>,
    /// By output.
    pub outputs: Slots<OutputExpiries>,
}
