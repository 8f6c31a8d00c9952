//! Taps: somebody looks at messages as they pass, live. Lossy by design: what a tap gets is a copy, bounded by the second and
//! by memory, and nothing waits for it.
//!
//! With nobody looking a shard pays for one relaxed load a turn, and one a write. With somebody, it copies messages that the
//! filter takes into a small batch and hands that over without waiting; where there is no room it is counted as missed. What
//! is copied is a record as a lane holds it: no key is in it. Whoever shows it renders it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crossbeam_channel as channel;

use crate::batch::Batch;

use allowance::Allowance;
pub use filter::Filter;
pub use look::Look;

mod allowance;
mod filter;
mod look;
#[cfg(test)]
mod tests;

/// Taps that are open at once: operators, never a crowd. Each costs the shards something.
pub const TAPS_MAX: usize = 4;

/// Messages a second that a tap shows at most: more than anybody reads, at some microseconds each.
pub const SHOWN_PER_SECOND_MAX: u32 = 1_000;

/// Messages a second that a tap's filter is held against at most, where it shows fewer: 0.1 µs each are half a percent of a core.
const EXAMINED_PER_SECOND_MAX: u32 = 50_000;

/// Copies that wait to be shown, a tap: an eighth of a second's worth of single ones.
const SAMPLES_MAX: usize = 128;

/// Octets that those take, a tap; with all taps open 2 MiB of what the program itself takes of `memory.max`.
const WAITING_BYTES_MAX: usize = 512 * 1024;

/// How long it is counted what passes before a tap's stride is set by it.
const STRIDE_EVERY_MS: u128 = 200;

/// What a tap looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What arrives, whatever becomes of it.
    Received,
    /// What is taken to be written, by the route that it goes by.
    Sent,
}

/// What became of a message that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// At least one route forwards it.
    Routed,
    /// A route discards it, and none forwards it.
    Discarded,
    /// No route takes it.
    Unmatched,
}

/// Of a copied message: what became of it, and how many of [`Sample::routes`] are its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its end, or [`Fate::Routed`] where it is being sent.
    pub fate: Fate,
    /// Routes that it took.
    pub routes: usize,
}

/// Messages that a tap is to show.
#[derive(Debug, Default)]
pub struct Sample {
    /// Copies of them.
    pub batch: Batch,
    /// One a message.
    pub marks: Vec<Mark>,
    /// Indices of the routes, one message's behind the other's.
    pub routes: Vec<u16>,
}

impl Sample {
    fn bytes(&self) -> usize {
        self.batch.charge() + self.marks.len() * size_of::<Mark>() + self.routes.len() * size_of::<u16>()
    }
}

/// Why a tap is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// All places are taken.
    #[error("{TAPS_MAX} taps are open already, which is the most: close one of them")]
    TooMany,
    /// It would end at once.
    #[error("the relay is stopping")]
    Stopping,
}

/// All taps of the process.
#[derive(Debug, Default)]
pub struct Taps {
    /// How many there are.
    received: AtomicUsize,
    sent: AtomicUsize,
    open: RwLock<Vec<Arc<Tap>>>,
    is_closed: AtomicBool,
    /// Conversations that show one, and the end of one.
    guests: Mutex<usize>,
    left: Condvar,
}

/// One of them, as shards see it.
#[derive(Debug)]
struct Tap {
    side: Side,
    filter: Filter,
    samples: channel::Sender<Sample>,
    /// Octets that wait in there.
    waiting_bytes: AtomicUsize,
    examined: Allowance,
    shown: Allowance,
    /// Of so many messages that pass one is looked at, so that what is shown of too many is a fair part of all.
    stride: AtomicU32,
    /// How many have passed since the last that was.
    phase: AtomicU32,
    /// All that passed.
    passed: AtomicU64,
    /// Those of them that were not looked at, or were to be shown and had no room.
    missed: AtomicU64,
}

/// Whoever looks. Dropping it closes the tap and frees what waits in it.
#[derive(Debug)]
pub struct Listener {
    taps: Arc<Taps>,
    tap: Arc<Tap>,
    samples: channel::Receiver<Sample>,
    missed_before: u64,
    passed_before: u64,
    looked_at: Instant,
    per_second: u32,
}

impl Taps {
    /// Whether somebody looks: one relaxed load.
    #[inline]
    pub fn is_watched(&self, side: Side) -> bool {
        self.count(side).load(Relaxed) > 0
    }

    /// How many are open.
    pub fn count_open(&self) -> usize {
        self.received.load(Relaxed) + self.sent.load(Relaxed)
    }

    const fn count(&self, side: Side) -> &AtomicUsize {
        match side {
            Side::Received => &self.received,
            Side::Sent => &self.sent,
        }
    }

    /// Begins to look at what passes on that side at `now_us`; `None` where nobody does, or who does is changing.
    #[cold]
    pub fn look(&self, side: Side, now_us: i64) -> Option<Box<Look>> {
        // Never waited for: a tap that is being opened or closed shows nothing of this turn.
        let open = self.open.try_read().ok()?;
        let taps: Vec<_> = open.iter().filter(|tap| tap.side == side).cloned().collect();
        (!taps.is_empty()).then(|| Box::new(Look::new(taps, now_us)))
    }

    /// Opens a tap that shows `per_second` messages at most.
    ///
    /// # Errors
    /// When too many are open, or the relay stops.
    pub fn open(self: &Arc<Self>, side: Side, filter: Filter, per_second: u32) -> Result<Listener, Refused> {
        let per_second = per_second.clamp(1, SHOWN_PER_SECOND_MAX);
        let examined = if filter.takes_all() { per_second } else { EXAMINED_PER_SECOND_MAX };
        let (samples_tx, samples) = channel::bounded(SAMPLES_MAX);
        let tap = Arc::new(Tap {
            side,
            filter,
            samples: samples_tx,
            waiting_bytes: AtomicUsize::new(0),
            examined: Allowance::new(examined),
            shown: Allowance::new(per_second),
            stride: AtomicU32::new(1),
            phase: AtomicU32::new(0),
            passed: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        });
        let mut open = self.open.write().map_err(|_| Refused::Stopping)?;
        if self.is_closed() {
            return Err(Refused::Stopping);
        }
        if open.len() >= TAPS_MAX {
            return Err(Refused::TooMany);
        }
        open.push(Arc::clone(&tap));
        drop(open);
        self.count(side).fetch_add(1, Relaxed);
        let looked_at = Instant::now();
        let taps = Arc::clone(self);
        Ok(Listener { taps, tap, samples, missed_before: 0, passed_before: 0, looked_at, per_second: examined })
    }

    /// Ends all of them, and lets none be opened any more: the relay stops.
    pub fn close(&self) {
        self.is_closed.store(true, Relaxed);
    }

    /// Waits until nobody is being told any more, for `limit` at most.
    pub fn wait_until_told(&self, limit: Duration) {
        let guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        // Told or not, the relay's end does not depend on it.
        drop(self.left.wait_timeout_while(guests, limit, |guests| *guests > 0));
    }

    /// Somebody is being told, for as long as this lives.
    pub fn guest(self: &Arc<Self>) -> Guest {
        *self.guests.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Guest(Arc::clone(self))
    }

    /// Whether they are to end.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Relaxed)
    }
}

impl Listener {
    /// The next that is to be shown, where there is one.
    pub fn next_sample(&mut self) -> Option<Sample> {
        let sample = self.samples.try_recv().ok()?;
        self.tap.waiting_bytes.fetch_sub(sample.bytes(), Relaxed);
        Some(sample)
    }

    /// How many messages were not looked at, or not shown, since this was asked last.
    pub fn missed(&mut self) -> u64 {
        let missed = self.tap.missed.load(Relaxed);
        missed - std::mem::replace(&mut self.missed_before, missed)
    }

    /// How many passed since the tap was opened.
    pub fn passed(&self) -> u64 {
        self.tap.passed.load(Relaxed)
    }

    /// Whether it has a filter: then what it missed is nothing that it would have shown for sure.
    pub fn is_filtered(&self) -> bool {
        !self.tap.filter.takes_all()
    }

    /// Sets how many messages are passed over between two, by how many came lately. Call it often.
    pub fn adjust(&mut self, now: Instant) {
        let elapsed_ms = now.saturating_duration_since(self.looked_at).as_millis();
        if elapsed_ms < STRIDE_EVERY_MS {
            return;
        }
        let passed = self.passed();
        let since = u128::from(passed - self.passed_before);
        let allowed = (u128::from(self.per_second) * elapsed_ms / 1_000).max(1);
        self.tap.stride.store(u32::try_from(since.div_ceil(allowed)).unwrap_or(u32::MAX).max(1), Relaxed);
        (self.passed_before, self.looked_at) = (passed, now);
    }

    /// Whether the relay wants it to end.
    pub fn is_closed(&self) -> bool {
        self.taps.is_closed()
    }
}

/// A conversation that shows a tap.
#[derive(Debug)]
pub struct Guest(Arc<Taps>);

impl Drop for Guest {
    fn drop(&mut self) {
        *self.0.guests.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.left.notify_all();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Ok(mut open) = self.taps.open.write() {
            open.retain(|tap| !Arc::ptr_eq(tap, &self.tap));
        }
        self.taps.count(self.tap.side).fetch_sub(1, Relaxed);
    }
}
