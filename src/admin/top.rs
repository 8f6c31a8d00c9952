//! `/top`: which programs and peers send most, estimated from a sample of what arrives.

use std::collections::HashMap;
use std::time::Duration;

use foldhash::fast::RandomState;
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::forward::Mask;
use crate::tap::{Fate, Filter, Listener, SHOWN_PER_SECOND_MAX, Side};

use super::Admin;
use super::query::pairs;
use super::tap::{one_line, open};

/// How often what the shards have copied is taken away.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long it is looked: at most, and where nothing is asked for.
const SECONDS_MAX: f64 = 10.0;
const SECONDS_MIN: f64 = 0.1;
const SECONDS: f64 = 1.0;

/// Names that are listed of each kind.
const NAMES_SHOWN: usize = 200;

/// Octets of a name: RFC 5424 allows 48, a hostile sender sends more.
const NAME_OCTETS_MAX: usize = 64;

#[derive(Debug, Default)]
struct Counts {
    messages: u64,
    bytes: u64,
    unmatched: u64,
}

type ByName = HashMap<String, Counts, RandomState>;

/// Looks for as long as `query` says.
///
/// # Errors
/// Status and words of the refusal.
pub(super) async fn answer(query: &str, admin: &Admin) -> Result<String, (StatusCode, String)> {
    let seconds = seconds(query).map_err(|why| (StatusCode::BAD_REQUEST, format!("{why}\n")))?;
    let mut listener = open(&admin.common.taps, Side::Received, Filter::default(), SHOWN_PER_SECOND_MAX)?;
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(seconds);
    let (mut programs, mut peers) = (ByName::default(), ByName::default());
    let mut sampled = 0;
    while Instant::now() < until && !listener.is_closed() {
        sleep(LOOK_EVERY.min(until.saturating_duration_since(Instant::now()))).await;
        listener.adjust(Instant::now().into_std());
        sampled += count(&mut listener, admin, &mut programs, &mut peers);
    }
    let answer = json!({
        "seconds": began.elapsed().as_secs_f64(),
        "passed": listener.passed(),
        "sampled": sampled,
        "programs": most(programs),
        "peers": most(peers),
    });
    Ok(format!("{answer:#}\n"))
}

fn seconds(query: &str) -> Result<f64, String> {
    let expected = || format!("expected seconds={SECONDS_MIN}…{SECONDS_MAX}");
    let mut seconds = SECONDS;
    for (name, value) in pairs(query) {
        let given = value.parse().ok().filter(|given| (SECONDS_MIN..=SECONDS_MAX).contains(given));
        match (&*name, given) {
            ("seconds", Some(given)) => seconds = given,
            _ => return Err(format!("{name}={value} is not understood, {}", expected())),
        }
    }
    Ok(seconds)
}

/// Takes away what was copied; returns how many messages.
fn count(listener: &mut Listener, admin: &Admin, programs: &mut ByName, peers: &mut ByName) -> u64 {
    let mut sampled = 0;
    let mask = Mask::new(&admin.common.config);
    while let Some(sample) = listener.next_sample() {
        for (message, mark) in sample.batch.messages(&[]).zip(&sample.marks) {
            let name = message.program_name();
            let name = mask.hide(name.get(..NAME_OCTETS_MAX).unwrap_or(name));
            let peer = message.peer.map_or_else(|| "unix socket".to_owned(), |peer| peer.to_canonical().to_string());
            for (counts, name) in [(&mut *programs, one_line(&name)), (&mut *peers, peer)] {
                let counts = counts.entry(name).or_default();
                counts.messages += 1;
                counts.bytes += message.raw.len() as u64;
                counts.unmatched += u64::from(mark.fate == Fate::Unmatched);
            }
            sampled += 1;
        }
    }
    sampled
}

/// The most frequent, most frequent first.
fn most(counts: ByName) -> Vec<Value> {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|left, right| right.1.messages.cmp(&left.1.messages).then_with(|| left.0.cmp(&right.0)));
    let shown = counts.into_iter().take(NAMES_SHOWN).map(|(name, counts)| {
        json!({
            "name": name,
            "messages": counts.messages,
            "bytes": counts.bytes,
            "unmatched": counts.unmatched,
        })
    });
    shown.collect()
}
