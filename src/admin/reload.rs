//! `POST /reload`: asks whoever can read the configuration again, and tells what came of it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel as channel;
use hyper::StatusCode;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Requests that wait.
const REQUESTS_MAX: usize = 4;

/// How long a reload may take: it reads files, resolves nothing and waits for every shard.
const PATIENCE: Duration = Duration::from_secs(15);

/// What came of a configuration: what has changed, or why all of it is refused. Lines, for people.
pub type Verdict = Result<Vec<String>, Vec<String>>;

/// Somebody wants the configuration to be read again.
#[derive(Debug)]
pub struct Request {
    /// For what came of it. Nobody may wait there any more.
    pub reply: oneshot::Sender<Verdict>,
}

/// How reloads are asked for, and what came of the last one.
#[derive(Debug)]
pub struct Reloads {
    requests: Mutex<Option<channel::Sender<Request>>>,
    last: Mutex<Option<Verdict>>,
}

impl Default for Reloads {
    /// Nobody reads configurations.
    fn default() -> Self {
        Self { requests: Mutex::new(None), last: Mutex::new(None) }
    }
}

impl Reloads {
    /// The caller reads configurations from now on.
    pub fn serve(&self) -> channel::Receiver<Request> {
        let (requests_tx, requests) = channel::bounded(REQUESTS_MAX);
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner) = Some(requests_tx);
        requests
    }

    /// This came of the last one.
    pub fn told(&self, verdict: &Verdict) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict.clone());
    }

    /// What came of the last one, where there was one.
    pub fn last(&self) -> Option<Verdict> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for one: status and words of the answer.
    pub(super) async fn ask(&self) -> (StatusCode, String) {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(requests) = requests else {
            return (StatusCode::NOT_FOUND, "this relay has no configuration that could be read again\n".to_owned());
        };
        let (reply, verdict) = oneshot::channel();
        if requests.try_send(Request { reply }).is_err() {
            return (
                StatusCode::SERVICE_UNAVAILABLE,
                "not now: the relay is stopping, or reloads already\n".to_owned(),
            );
        }
        match timeout(PATIENCE, verdict).await {
            Ok(Ok(Ok(changes))) => (StatusCode::OK, lines(&changes)),
            Ok(Ok(Err(report))) => (StatusCode::UNPROCESSABLE_ENTITY, lines(&report)),
            Ok(Err(_)) => (StatusCode::SERVICE_UNAVAILABLE, "not now: the relay is stopping\n".to_owned()),
            Err(_) => {
                (StatusCode::GATEWAY_TIMEOUT, "no answer in time: the relay's log says what came of it\n".to_owned())
            }
        }
    }
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}
