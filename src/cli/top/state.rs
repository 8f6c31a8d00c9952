//! What is known of the relay, and what the keys have chosen. Knows no terminal.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::status::{Sample, Status};
use super::table::Sort;

/// Rates of the past that are kept for the small chart.
const HISTORY_MAX: usize = 120;

/// Samples that are put together: the last half a minute or so.
pub(super) const SAMPLES_MAX: usize = 30;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Overview,
    Routes,
    Programs,
    Peers,
    Unmatched,
}

impl View {
    /// In the order of their keys.
    pub(super) const ALL: [Self; 5] = [Self::Overview, Self::Routes, Self::Programs, Self::Peers, Self::Unmatched];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Routes => "routes",
            Self::Programs => "programs",
            Self::Peers => "peers",
            Self::Unmatched => "unmatched",
        }
    }

    /// Whether it needs a sample of messages.
    pub(super) const fn is_sampled(self) -> bool {
        matches!(self, Self::Programs | Self::Peers)
    }

    const fn index(self) -> usize {
        match self {
            Self::Overview => 0,
            Self::Routes => 1,
            Self::Programs => 2,
            Self::Peers => 3,
            Self::Unmatched => 4,
        }
    }

    /// How it is sorted until a key says otherwise: by rate, or as the configuration has it.
    const fn sort(self) -> Sort {
        let column = match self {
            Self::Overview | Self::Routes => None,
            Self::Programs | Self::Peers | Self::Unmatched => Some(1),
        };
        Sort { column, is_reversed: false }
    }
}

/// A state of the relay, and when it was that.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) status: Status,
    pub(super) at: Instant,
}

/// All of it.
#[derive(Debug)]
pub(super) struct State {
    /// Whom it is about, for people.
    pub(super) place: String,
    pub(super) now: Option<Moment>,
    pub(super) before: Option<Moment>,
    /// Why there is nothing newer, and since when.
    pub(super) trouble: Option<(String, Instant)>,
    /// Messages received a second, oldest first.
    pub(super) history: VecDeque<u64>,
    pub(super) samples: VecDeque<Sample>,
    pub(super) sample_trouble: Option<String>,
    pub(super) view: View,
    sorts: [Sort; 5],
    pub(super) filter: String,
    /// The filter is being written.
    pub(super) is_filtering: bool,
    pub(super) has_help: bool,
    pub(super) is_paused: bool,
    /// Rows that are scrolled away.
    pub(super) scrolled: usize,
}

impl State {
    pub(super) fn new(place: String) -> Self {
        Self {
            place,
            now: None,
            before: None,
            trouble: None,
            history: VecDeque::new(),
            samples: VecDeque::new(),
            sample_trouble: None,
            view: View::Overview,
            sorts: View::ALL.map(View::sort),
            filter: String::new(),
            is_filtering: false,
            has_help: false,
            is_paused: false,
            scrolled: 0,
        }
    }

    /// The relay has answered.
    pub(super) fn learn(&mut self, status: Status, at: Instant) {
        self.trouble = None;
        if self.is_paused {
            return;
        }
        // Counters of a relay that has started anew begin at zero.
        let is_other = self.now.as_ref().is_some_and(|now| {
            status.uptime_seconds < now.status.uptime_seconds || received(&status) < received(&now.status)
        });
        self.before = self.now.take().filter(|_| !is_other);
        self.now = Some(Moment { status, at });
        if is_other {
            self.samples.clear();
        }
        if let Some(rate) = self.rate_of(received) {
            self.history.push_back(rate as u64);
            if self.history.len() > HISTORY_MAX {
                self.history.pop_front();
            }
        }
    }

    /// The relay has not answered.
    pub(super) fn miss(&mut self, why: String, at: Instant) {
        let since = self.trouble.take().map_or(at, |(_, since)| since);
        self.trouble = Some((why, since));
    }

    /// A sample came, or why none did.
    pub(super) fn learn_sample(&mut self, sample: Result<Sample, String>) {
        if self.is_paused {
            return;
        }
        match sample {
            Ok(sample) => {
                self.sample_trouble = None;
                self.samples.push_back(sample);
                if self.samples.len() > SAMPLES_MAX {
                    self.samples.pop_front();
                }
            }
            Err(why) => self.sample_trouble = Some(why),
        }
    }

    /// How a count changes, a second; `None` until there are two states.
    pub(super) fn rate_of(&self, count: impl Fn(&Status) -> u64) -> Option<f64> {
        let (now, before) = (self.now.as_ref()?, self.before.as_ref()?);
        let elapsed = now.at.saturating_duration_since(before.at).max(Duration::from_millis(1));
        Some(count(&now.status).saturating_sub(count(&before.status)) as f64 / elapsed.as_secs_f64())
    }

    /// How the present view is sorted.
    pub(super) fn sort(&self) -> Sort {
        self.sorts.get(self.view.index()).copied().unwrap_or_default()
    }

    /// Another view.
    pub(super) fn show(&mut self, view: View) {
        if self.view != view {
            self.view = view;
            self.scrolled = 0;
        }
    }

    /// The view so many places further, round and round.
    pub(super) fn turn(&mut self, places: usize) {
        let index = (self.view.index() + places) % View::ALL.len();
        if let Some(view) = View::ALL.get(index) {
            self.show(*view);
        }
    }

    /// Sorts by the next of so many columns; behind the last comes the order that the relay has.
    pub(super) fn sort_by_next(&mut self, columns: usize) {
        if let Some(sort) = self.sorts.get_mut(self.view.index()) {
            sort.column = match sort.column {
                None => Some(0),
                Some(column) if column + 1 < columns => Some(column + 1),
                Some(_) => None,
            };
        }
    }

    /// The other way round.
    pub(super) fn reverse(&mut self) {
        if let Some(sort) = self.sorts.get_mut(self.view.index()) {
            sort.is_reversed = !sort.is_reversed;
        }
    }
}

/// Messages that arrived, at all inputs.
pub(super) fn received(status: &Status) -> u64 {
    status.inputs.iter().map(|input| input.received).sum()
}

#[cfg(test)]
mod tests {
    use super::super::status::Input;
    use super::*;

    fn with_received(received: u64, uptime_seconds: u64) -> Status {
        Status { inputs: vec![Input { received, ..Input::default() }], uptime_seconds, ..Status::default() }
    }

    #[test]
    fn rates_are_differences_over_time_and_begin_anew_with_the_relay() {
        let mut state = State::new("here".to_owned());
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        state.learn(with_received(100, 10), at(0));
        assert_eq!(state.rate_of(received), None);
        state.learn(with_received(300, 12), at(2));
        assert_eq!(state.rate_of(received), Some(100.0));
        state.learn(with_received(50, 1), at(3));
        assert_eq!(state.rate_of(received), None, "another process");
        state.learn(with_received(60, 2), at(4));
        assert_eq!((state.rate_of(received), state.history.len()), (Some(10.0), 2));
    }

    #[test]
    fn a_pause_keeps_what_is_shown_and_trouble_is_told_with_its_beginning() {
        let mut state = State::new("here".to_owned());
        let began = Instant::now();
        state.learn(with_received(100, 10), began);
        state.is_paused = true;
        state.learn(with_received(300, 11), began);
        assert_eq!(state.now.as_ref().map(|now| received(&now.status)), Some(100));
        state.miss("one".to_owned(), began);
        state.miss("two".to_owned(), began + Duration::from_secs(5));
        assert_eq!(state.trouble, Some(("two".to_owned(), began)));
        state.learn(with_received(300, 12), began);
        assert_eq!(state.trouble, None, "it answers, paused or not");
    }

    #[test]
    fn each_view_has_its_own_order() {
        let mut state = State::new("here".to_owned());
        assert_eq!(state.sort().column, None);
        state.sort_by_next(2);
        state.reverse();
        assert_eq!(state.sort(), Sort { column: Some(0), is_reversed: true });
        state.turn(2);
        assert_eq!((state.view, state.sort()), (View::Programs, Sort { column: Some(1), is_reversed: false }));
        state.turn(3);
        assert_eq!((state.view, state.sort().is_reversed), (View::Overview, true));
        state.sort_by_next(2);
        state.sort_by_next(2);
        assert_eq!(state.sort().column, None);
    }
}
