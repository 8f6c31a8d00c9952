//! What an answer to a batch says of its events. Of Sekoia's format only `event_ids` is documented; a batch of which events
//! were refused has "per-event ingestion status in the response body", whose names are not. So what can be meant is
//! understood: statuses in a list as long as the batch, errors with an index, and a list of ids with gaps.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

/// What became of a batch that was taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Events, by their place, that were refused for good.
    pub(super) refused: BTreeSet<usize>,
    /// Events, by their place, that are to be sent again.
    pub(super) again: BTreeSet<usize>,
    /// Events that were refused; which ones is not said.
    pub(super) refused_somewhere: usize,
    /// How many ids came, where that is not how many were to come.
    pub(super) miscounted: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    event_ids: Option<Ids>,
    #[serde(alias = "results", alias = "statuses")]
    events: Option<Vec<Event>>,
    errors: Option<Vec<Event>>,
}

/// What is said of one event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    #[serde(alias = "position")]
    index: Option<usize>,
    #[serde(alias = "status_code", alias = "code")]
    status: Option<Status>,
    error: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Status {
    Code(u16),
    Other(IgnoredAny),
}

/// A list of ids, counted and not kept; where it has gaps.
#[derive(Debug, Default)]
struct Ids {
    count: usize,
    gaps: Vec<usize>,
}

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Count;
        impl<'de> Visitor<'de> for Count {
            type Value = Ids;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of ids")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Ids, A::Error> {
                let mut ids = Ids::default();
                while let Some(id) = list.next_element::<Option<IgnoredAny>>()? {
                    if id.is_none() {
                        ids.gaps.push(ids.count);
                    }
                    ids.count += 1;
                }
                Ok(ids)
            }
        }
        from.deserialize_seq(Count)
    }
}

/// What an event that is named has come to.
enum Fate {
    Taken,
    Refused,
    Again,
}

impl Event {
    /// `named` says that it stands among errors.
    fn fate(&self, named: bool) -> Fate {
        match &self.status {
            Some(Status::Code(200..=399)) => Fate::Taken,
            Some(Status::Code(408 | 429 | 500..)) => Fate::Again,
            Some(Status::Code(400..)) => Fate::Refused,
            _ if named || self.error.is_some() => Fate::Refused,
            _ => Fate::Taken,
        }
    }
}

/// Reads the body of a 2xx answer to a batch of `sent` events. What is not understood is taken for what 2xx says.
pub(super) fn read(body: &[u8], sent: usize) -> Verdict {
    let mut verdict = Verdict::default();
    let Ok(answer) = serde_json::from_slice::<Answer>(body) else { return verdict };
    // A list that is not as long as the batch tells of some events, and its places are not the batch's.
    let events = answer.events.unwrap_or_default();
    let are_places = events.len() == sent;
    let events = events.iter().enumerate().map(|(place, event)| (are_places.then_some(place), event, false));
    let errors = answer.errors.unwrap_or_default();
    let errors = errors.iter().map(|event| (None, event, true));
    for (place, event, named) in events.chain(errors) {
        let place = event.index.or(place).filter(|place| *place < sent);
        match (event.fate(named), place) {
            (Fate::Taken, _) => {}
            (Fate::Again, Some(place)) => _ = verdict.again.insert(place),
            (Fate::Refused, Some(place)) => _ = verdict.refused.insert(place),
            (Fate::Refused | Fate::Again, None) => verdict.refused_somewhere += 1,
        }
    }
    if let Some(ids) = answer.event_ids {
        let named = verdict.refused.len() + verdict.again.len() + verdict.refused_somewhere;
        if ids.count == sent && named == 0 {
            verdict.refused.extend(ids.gaps);
        } else {
            let taken = ids.count - ids.gaps.len();
            let expected = sent.saturating_sub(named);
            let all = ids.count == sent && ids.gaps.len() <= named;
            if taken != expected && !all {
                verdict.miscounted = Some(taken);
                verdict.refused_somewhere += expected.saturating_sub(taken);
            }
        }
    }
    let places = sent.saturating_sub(verdict.refused.len() + verdict.again.len());
    verdict.refused_somewhere = verdict.refused_somewhere.min(places);
    verdict
}

/// An error's body as the log may show it: its first characters, on one line.
pub(super) fn shown(body: &[u8]) -> String {
    const SHOWN_MAX: usize = 200;
    let text = String::from_utf8_lossy(body.get(..4 * SHOWN_MAX).unwrap_or(body)).into_owned();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|char| !char.is_control()).take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(refused: &[usize], again: &[usize], somewhere: usize, miscounted: Option<usize>) -> Verdict {
        Verdict {
            refused: refused.iter().copied().collect(),
            again: again.iter().copied().collect(),
            refused_somewhere: somewhere,
            miscounted,
        }
    }

    #[test]
    fn whatever_shape_an_answer_has_each_event_is_taken_refused_or_sent_again() {
        let rows = [
            (r#"{"event_ids":["a","b","c"]}"#, verdict(&[], &[], 0, None)),
            (r#"{"event_ids":["a",null,"c"]}"#, verdict(&[1], &[], 0, None)),
            (r#"{"event_ids":["a"]}"#, verdict(&[], &[], 2, Some(1))),
            (r#"{"event_ids":["a","b","c","d"]}"#, verdict(&[], &[], 0, Some(4))),
            (r#"{"event_ids":[]}"#, verdict(&[], &[], 3, Some(0))),
            (r#"{"events":[{"status":201},{"status":413},{"status":503}]}"#, verdict(&[1], &[2], 0, None)),
            (
                r#"{"event_ids":["a"],"events":[{"status":201},{"status":413},{"status":503}]}"#,
                verdict(&[1], &[2], 0, None),
            ),
            (r#"{"errors":[{"index":2,"status":413}],"event_ids":["a","b"]}"#, verdict(&[2], &[], 0, None)),
            (
                r#"{"errors":[{"index":2,"message":"too large"}],"event_ids":["a","b",null]}"#,
                verdict(&[2], &[], 0, None),
            ),
            (r#"{"errors":[{"index":9,"status":413}]}"#, verdict(&[], &[], 1, None)),
            (r#"{"errors":[{},{},{},{},{}]}"#, verdict(&[], &[], 3, None)),
            (r#"{"results":[{},{"error":"bad"},{"status":"ok"}]}"#, verdict(&[1], &[], 0, None)),
            (r#"{"event_ids":"a"}"#, verdict(&[], &[], 0, None)),
            ("{}", verdict(&[], &[], 0, None)),
            ("", verdict(&[], &[], 0, None)),
            ("<html>", verdict(&[], &[], 0, None)),
        ];
        for (body, expected) in rows {
            assert_eq!(read(body.as_bytes(), 3), expected, "{body}");
        }
    }

    #[test]
    fn an_error_page_is_shown_on_one_short_line() {
        assert_eq!(shown(b" a\r\n\x1b[31m b\xff "), "a [31m b\u{fffd}");
        assert_eq!(shown("é".repeat(5_000).as_bytes()).chars().count(), 200);
    }
}
