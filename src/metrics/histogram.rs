//! A histogram that takes a whole batch at the price of two additions.
//!
//! The recorder's own keeps every sample until the next scrape: at a million messages a second that is hundreds of
//! megabytes, and weighing a batch by its messages would mean a sample a message.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use metrics::Label;

/// Upper bounds, seconds: from a loopback hop to the default replay quiet time and a long outage.
const BOUNDS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3600.0];

/// How many messages took how long, seconds.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// By bound; the last is for what is above all of them. Not cumulative.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// Sum of all, microseconds.
    sum_us: AtomicU64,
}

impl Histogram {
    /// `count` messages took `seconds` each.
    pub(super) fn record(&self, seconds: f64, count: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(count, Relaxed);
        }
        self.sum_us.fetch_add((seconds * 1e6) as u64 * count, Relaxed);
    }

    /// Appends its lines in the Prometheus text format.
    pub(super) fn render(&self, name: &str, whose: Option<&Label>, out: &mut String) {
        let label = whose.map(|whose| format!("{}=\"{}\"", whose.key(), escape(whose.value())));
        let (braced, before_le) = match &label {
            Some(label) => (format!("{{{label}}}"), format!("{label},")),
            None => (String::new(), String::new()),
        };
        let mut count = 0;
        let bounds = BOUNDS.iter().map(ToString::to_string).chain(std::iter::once("+Inf".to_owned()));
        // Writing to a String cannot fail.
        for (bound, bucket) in bounds.zip(&self.buckets) {
            count += bucket.load(Relaxed);
            let _infallible = writeln!(out, "{name}_bucket{{{before_le}le=\"{bound}\"}} {count}");
        }
        let sum = self.sum_us.load(Relaxed) as f64 / 1e6;
        let _infallible = writeln!(out, "{name}_sum{braced} {sum}\n{name}_count{braced} {count}");
    }
}

/// A label's value as the text format wants it.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_weighed_by_messages() {
        let histogram = Histogram::default();
        histogram.record(0.0005, 3);
        histogram.record(0.001, 1);
        histogram.record(7200.0, 2);
        let mut text = String::new();
        histogram.render("x_seconds", Some(&Label::new("route", "a\"b")), &mut text);
        assert!(text.starts_with("x_seconds_bucket{route=\"a\\\"b\",le=\"0.001\"} 4\n"), "{text}");
        assert!(text.contains("le=\"3600\"} 4\n") && text.contains("le=\"+Inf\"} 6\n"), "{text}");
        assert!(
            text.ends_with("x_seconds_sum{route=\"a\\\"b\"} 14400.0025\nx_seconds_count{route=\"a\\\"b\"} 6\n"),
            "{text}"
        );
    }
}
