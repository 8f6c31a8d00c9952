//! A shard's look at what passes: one a turn, or a write, and only where somebody taps.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::batch::{Batch, charge_of};
use crate::syslog::Message;

use super::{Fate, Mark, Sample, Tap, WAITING_BYTES_MAX};

/// All taps of one side, for as long as a turn or a write lasts. Dropping it hands over what was seen.
#[derive(Debug)]
pub struct Look {
    views: Vec<View>,
    now_us: i64,
}

/// One tap's part.
#[derive(Debug)]
struct View {
    tap: Arc<Tap>,
    sample: Sample,
    /// How many may still be looked at, and shown.
    may_examine: usize,
    may_show: usize,
    /// Of which so many were.
    examined: usize,
    shown: usize,
    stride: u32,
    phase: u32,
    passed: u64,
    missed: u64,
}

impl Look {
    pub(super) fn new(taps: Vec<Arc<Tap>>, now_us: i64) -> Self {
        let view = |tap: Arc<Tap>| View {
            sample: Sample::default(),
            may_examine: tap.examined.left(now_us),
            may_show: tap.shown.left(now_us),
            examined: 0,
            shown: 0,
            stride: tap.stride.load(Relaxed).max(1),
            phase: tap.phase.load(Relaxed),
            passed: 0,
            missed: 0,
            tap,
        };
        Self { views: taps.into_iter().map(view).collect(), now_us }
    }

    /// A message has arrived, by `input`, and taken these routes.
    pub fn received(&mut self, message: &Message<'_>, input: u16, fate: Fate, routes: &[u16]) {
        for view in &mut self.views {
            view.passed += 1;
            if view.is_due() && view.may_look() {
                view.examined += 1;
                if view.tap.filter.takes_one_of(routes) && view.tap.filter.takes(message) {
                    view.show(message, input, fate, routes);
                }
            } else {
                view.missed += 1;
            }
        }
    }

    /// A batch of `route` is being sent. `inputs` are the configuration's names.
    pub fn sent(&mut self, route: u16, batch: &Batch, inputs: &[String]) {
        for view in self.views.iter_mut().filter(|view| view.tap.filter.takes_route(route)) {
            view.sent(route, batch, inputs);
        }
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        for view in &mut self.views {
            view.hand_over();
            let tap = &view.tap;
            tap.examined.spend(self.now_us, view.examined);
            tap.shown.spend(self.now_us, view.shown);
            tap.phase.store(view.phase, Relaxed);
            tap.passed.fetch_add(view.passed, Relaxed);
            tap.missed.fetch_add(view.missed, Relaxed);
        }
    }
}

impl View {
    /// Whether it is this message's turn.
    const fn is_due(&mut self) -> bool {
        self.phase += 1;
        let is_due = self.phase >= self.stride;
        if is_due {
            self.phase = 0;
        }
        is_due
    }

    const fn may_look(&self) -> bool {
        self.examined < self.may_examine && self.shown < self.may_show
    }

    fn sent(&mut self, route: u16, batch: &Batch, inputs: &[String]) {
        let total = batch.len();
        self.passed += total as u64;
        // Its names are not those of another batch.
        self.hand_over();
        self.sample.batch.inputs.clone_from(&batch.inputs);
        let inputs_of = batch.input_indices();
        let mut looked_at = 0;
        for (message, input) in batch.messages(inputs).zip(inputs_of) {
            if !self.is_due() {
                continue;
            }
            if !self.may_look() {
                break;
            }
            self.examined += 1;
            looked_at += 1;
            if self.tap.filter.takes(&message) {
                self.show(&message, input, Fate::Routed, &[route]);
            }
        }
        self.missed += (total - looked_at) as u64;
        self.hand_over();
    }

    /// Copies it, where there is room.
    fn show(&mut self, message: &Message<'_>, input: u16, fate: Fate, routes: &[u16]) {
        let waiting = self.tap.waiting_bytes.load(Relaxed) + self.sample.bytes();
        // One always has room, however long it is.
        if waiting > 0 && waiting + charge_of(message) > WAITING_BYTES_MAX {
            self.missed += 1;
            return;
        }
        self.shown += 1;
        self.sample.batch.push(message, input);
        self.sample.marks.push(Mark { fate, routes: routes.len() });
        self.sample.routes.extend_from_slice(routes);
    }

    /// Gives what is copied so far to whoever looks; counts it as missed where he does not keep up.
    fn hand_over(&mut self) {
        if self.sample.marks.is_empty() {
            return;
        }
        let sample = std::mem::take(&mut self.sample);
        let (bytes, messages) = (sample.bytes(), sample.marks.len() as u64);
        self.tap.waiting_bytes.fetch_add(bytes, Relaxed);
        if self.tap.samples.try_send(sample).is_err() {
            self.tap.waiting_bytes.fetch_sub(bytes, Relaxed);
            self.missed += messages;
        }
    }
}
