//! Asks the relay, on threads of their own: neither a slow answer nor none may hold up the keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel as channel;

use crate::admin::client::{Client, Place};

use super::super::admin::advice;
use super::status::{Sample, Status};

/// Answers that wait to be shown.
const ANSWERS_MAX: usize = 16;

/// How often it is looked whether a sample is wanted, and how long after a refusal.
const SAMPLE_LOOK: Duration = Duration::from_millis(100);
const SAMPLE_RETRY: Duration = Duration::from_secs(2);

/// What comes back.
#[derive(Debug)]
pub(super) enum Answer {
    Status(Result<Status, String>, Instant),
    Sample(Result<Sample, String>),
}

/// Both threads. They end soon after this is dropped.
#[derive(Debug)]
pub(super) struct Poll {
    pub(super) answers: channel::Receiver<Answer>,
    wants_sample: Arc<AtomicBool>,
    _alive: channel::Sender<()>,
}

/// `/status`, once.
pub(super) fn status(client: &Client) -> Result<Status, String> {
    let text = client.get("/status").map_err(|error| advice(&error))?;
    let status: Status =
        serde_json::from_str(&text).map_err(|error| format!("the relay's /status is not understood: {error}"))?;
    Ok(status.of_now())
}

/// `/top`, once: takes a second.
pub(super) fn sample(client: &Client) -> Result<Sample, String> {
    let text = client.get("/top?seconds=1").map_err(|error| advice(&error))?;
    serde_json::from_str(&text).map_err(|error| format!("the relay's /top is not understood: {error}"))
}

impl Poll {
    /// Begins to ask.
    ///
    /// # Errors
    /// When the process is out of threads, files or memory.
    pub(super) fn start(place: &Place, interval: Duration) -> std::io::Result<Self> {
        let (answers_tx, answers) = channel::bounded(ANSWERS_MAX);
        let (alive, ended) = channel::bounded::<()>(0);
        let wants_sample = Arc::new(AtomicBool::new(false));
        let (client, tx, end) = (Client::new(place.clone())?, answers_tx.clone(), ended.clone());
        let ask = move || {
            loop {
                let answer = status(&client);
                if tx.send(Answer::Status(answer, Instant::now())).is_err() || has_ended(&end, interval) {
                    return;
                }
            }
        };
        thread::Builder::new().name("status".into()).spawn(ask)?;
        let (client, wanted) = (Client::new(place.clone())?, Arc::clone(&wants_sample));
        let ask = move || {
            while !has_ended(&ended, SAMPLE_LOOK) {
                if !wanted.load(Relaxed) {
                    continue;
                }
                let answer = sample(&client);
                let has_failed = answer.is_err();
                if answers_tx.send(Answer::Sample(answer)).is_err() || (has_failed && has_ended(&ended, SAMPLE_RETRY)) {
                    return;
                }
            }
        };
        thread::Builder::new().name("sample".into()).spawn(ask)?;
        Ok(Self { answers, wants_sample, _alive: alive })
    }

    /// Whether messages are to be sampled: while nobody looks at that, no tap is open.
    pub(super) fn want_sample(&self, wanted: bool) {
        self.wants_sample.store(wanted, Relaxed);
    }
}

/// Waits, and tells whether it is over.
fn has_ended(ended: &channel::Receiver<()>, wait: Duration) -> bool {
    ended.recv_timeout(wait) != Err(channel::RecvTimeoutError::Timeout)
}
