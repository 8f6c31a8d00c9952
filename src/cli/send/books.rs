//! What came back: which messages, in which order, and how long each took.

use std::time::Duration;

use super::message::Mark;

/// Steps in each doubling of a latency: known to 1.6%.
const STEPS: u64 = 64;

/// Latencies as counts: a few kilobytes for any number of them.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    /// By place (`place_of`).
    counts: Vec<u64>,
    count: u64,
    min_us: Option<u64>,
    max_us: u64,
}

impl Latencies {
    fn add(&mut self, us: u64) {
        let place = place_of(us);
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.count += 1;
        self.min_us = Some(self.min_us.map_or(us, |min| min.min(us)));
        self.max_us = self.max_us.max(us);
    }

    /// The smallest; `None` where there is none.
    pub(super) fn min(&self) -> Option<Duration> {
        self.min_us.map(Duration::from_micros)
    }

    /// The largest.
    pub(super) fn max(&self) -> Option<Duration> {
        self.min_us.map(|_| Duration::from_micros(self.max_us))
    }

    /// What this part of all (0 to 1) took no longer than.
    pub(super) fn quantile(&self, part: f64) -> Option<Duration> {
        let wanted = ((self.count as f64 * part).ceil() as u64).max(1);
        let mut so_far = 0;
        let place = self.counts.iter().position(|count| {
            so_far += count;
            so_far >= wanted
        })?;
        Some(Duration::from_micros(highest_of(place).min(self.max_us)))
    }
}

/// Up to [`STEPS`] each value has its own place, then each doubling has [`STEPS`] of them.
fn place_of(us: u64) -> usize {
    let doublings = (us / STEPS).checked_ilog2().map_or(0, u64::from);
    if us < STEPS {
        return us as usize;
    }
    ((doublings + 1) * STEPS + ((us >> doublings) - STEPS)) as usize
}

/// The largest value that has this place.
fn highest_of(place: usize) -> u64 {
    let place = place as u64;
    if place < STEPS {
        return place;
    }
    let doublings = place / STEPS - 1;
    let step = place % STEPS + STEPS;
    ((step + 1) << doublings) - 1
}

/// What came back of one source.
#[derive(Debug, Default)]
struct Source {
    /// A bit for each number.
    seen: Vec<u64>,
    /// The highest number so far.
    last: Option<u64>,
    different: u64,
}

/// What came back of all.
#[derive(Debug)]
pub(super) struct Books {
    run: u32,
    sources: Vec<Source>,
    /// Messages that came back, repeated ones included.
    pub(super) arrived: u64,
    /// Those of them that had come before.
    pub(super) repeated: u64,
    /// Those that came behind a later one of their source.
    pub(super) out_of_order: u64,
    /// Messages without a mark of this run.
    pub(super) foreign: u64,
    /// Of each message's first arrival.
    pub(super) latencies: Latencies,
}

impl Books {
    /// For a run with so many sources.
    pub(super) fn new(run: u32, sources: u32) -> Self {
        Self {
            run,
            sources: (0..sources).map(|_| Source::default()).collect(),
            arrived: 0,
            repeated: 0,
            out_of_order: 0,
            foreign: 0,
            latencies: Latencies::default(),
        }
    }

    /// Enters a message that arrived `now_us` after the run began.
    pub(super) fn enter(&mut self, message: &[u8], now_us: u64) {
        let mark = Mark::find(message).filter(|mark| mark.run == self.run);
        // A number that no run reaches would only take memory.
        let mark = mark.filter(|mark| mark.number < 1 << 36);
        let Some((mark, source)) = mark.and_then(|mark| Some((mark, self.sources.get_mut(mark.source as usize)?)))
        else {
            self.foreign += 1;
            return;
        };
        self.arrived += 1;
        let (word, bit) = ((mark.number / 64) as usize, 1_u64 << (mark.number % 64));
        if source.seen.len() <= word {
            source.seen.resize(word + 1, 0);
        }
        let Some(bits) = source.seen.get_mut(word) else { return };
        if *bits & bit != 0 {
            self.repeated += 1;
            return;
        }
        *bits |= bit;
        source.different += 1;
        if source.last.is_some_and(|last| mark.number < last) {
            self.out_of_order += 1;
        }
        source.last = source.last.max(Some(mark.number));
        self.latencies.add(now_us.saturating_sub(mark.at_us));
    }

    /// Different messages that came back.
    pub(super) fn different(&self) -> u64 {
        self.sources.iter().map(|source| source.different).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_repeated_and_out_of_order_is_told() {
        let mut books = Books::new(0xab, 2);
        let message = |source, number, at| format!("x forebay-send=000000ab.{source}.{number}.{at}. y").into_bytes();
        for (source, number) in [(0, 0), (0, 2), (0, 1), (0, 1), (1, 0), (1, 70)] {
            books.enter(&message(source, number, 100), 400);
        }
        books.enter(b"forebay-send=000000ac.0.9.1.", 1);
        books.enter(b"forebay-send=000000ab.2.9.1.", 1);
        books.enter(b"something else", 1);
        assert_eq!(
            (books.arrived, books.different(), books.repeated, books.out_of_order, books.foreign),
            (6, 5, 1, 1, 3)
        );
        assert_eq!(books.latencies.min(), Some(Duration::from_micros(300)));
    }

    #[test]
    fn latencies_are_known_to_a_sixtieth() {
        for us in (0..2_000).chain([9_999, 123_456, 59_000_000, u64::from(u32::MAX)]) {
            let highest = highest_of(place_of(us));
            assert!(highest >= us && highest <= us + us / STEPS, "{us}: {highest}");
            assert_eq!(place_of(highest), place_of(us));
            assert_eq!(place_of(highest + 1), place_of(us) + 1);
        }
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        (1..=1_000).for_each(|us| latencies.add(us * 10));
        let ms = |part| latencies.quantile(part).expect("some").as_secs_f64() * 1e3;
        assert!((4.9..5.2).contains(&ms(0.5)) && (9.8..10.1).contains(&ms(0.99)), "{} {}", ms(0.5), ms(0.99));
        assert_eq!(
            (latencies.min(), latencies.max()),
            (Some(Duration::from_micros(10)), Some(Duration::from_millis(10)))
        );
    }
}
