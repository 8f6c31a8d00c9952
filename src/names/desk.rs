//! The resolver's thread: one question a name at a time, answers kept for as long as they hold.

use std::collections::HashMap;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tracing::{error, warn};

use super::known::Known;
use super::query::{Asker, LIBRARY_MAX, Means};
use super::{FAILURE_TTL, Found, LookupError, NAMES_MAX, Reply, Request, YOUNG, file};

/// Runs until the last handle is gone. A panic costs the answers and the questions of the moment, and no more: the desk is set
/// up again, with what is known.
pub(super) fn run(mut questions: mpsc::Receiver<Request>, known: &Arc<Known>, means: &Means, path: Option<&Path>) {
    loop {
        // Blocking threads: the C library's calls, and one to write the file.
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(LIBRARY_MAX + 1).build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                error!("names cannot be resolved: {error}");
                return;
            }
        };
        let desk = Desk::new(known, means, path);
        // What a panic leaves half done is thrown away with the desk; what is known is whole at any time.
        let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(desk.serve(&mut questions))));
        // Neither the C library nor a disk that hangs must hold up the stop, or the next desk.
        runtime.shutdown_background();
        if ended.is_ok() {
            return;
        }
        // One question at least was taken: this goes no faster than names are asked for.
        let restarts = known.restarted();
        error!(restarts, "the resolver has failed, which is a bug, and begins anew: names are asked for again");
    }
}

/// A question that has ended.
type Asked = (String, Result<(Vec<IpAddr>, Duration), LookupError>);

/// What came of the last question for a name.
struct Kept {
    since: Instant,
    until: Instant,
    reply: Reply,
}

struct Desk {
    asker: Asker,
    known: Arc<Known>,
    /// The file of last good addresses.
    path: Option<PathBuf>,
    /// By name that is being asked for: who waits.
    waiting: HashMap<String, Vec<oneshot::Sender<Reply>>>,
    /// By name.
    answers: HashMap<String, Kept>,
    serial: u64,
    asked: JoinSet<Asked>,
    /// One at most.
    writing: JoinSet<std::io::Result<()>>,
    is_unwritten: bool,
    /// The last time it could not be written, and the log knows.
    has_failed: bool,
}

impl Desk {
    fn new(known: &Arc<Known>, means: &Means, path: Option<&Path>) -> Self {
        Self {
            asker: Asker::new(means.clone()),
            known: Arc::clone(known),
            path: path.map(Path::to_owned),
            waiting: HashMap::new(),
            answers: HashMap::new(),
            // No answer has the serial of one from before.
            serial: known.restarts() << 32,
            asked: JoinSet::new(),
            writing: JoinSet::new(),
            // What was learned last may not have been written before a restart.
            is_unwritten: known.restarts() > 0,
            has_failed: false,
        }
    }

    async fn serve(mut self, questions: &mut mpsc::Receiver<Request>) {
        loop {
            tokio::select! {
                question = questions.recv() => match question {
                    Some(request) => self.take(request),
                    None => return,
                },
                Some(asked) = self.asked.join_next() => match asked {
                    Ok(asked) => self.answered(asked),
                    Err(error) => {
                        error!("a question for a name failed: {error}");
                        // Whose is not known; all may ask again.
                        self.waiting.clear();
                    }
                },
                Some(written) = self.writing.join_next() => {
                    self.written(written);
                }
            }
        }
    }

    fn take(&mut self, Request { host, is_doubted, answer }: Request) {
        #[cfg(test)]
        super::tests::panics_over(&host);
        if self.asker.refresh() {
            self.answers.clear();
        }
        let now = Instant::now();
        if let Some(kept) = self.answers.get(&host)
            && kept.until > now
            && !(is_doubted && kept.since + YOUNG <= now)
        {
            reply_to(answer, kept.reply.clone());
            return;
        }
        if let Some(waiting) = self.waiting.get_mut(&host) {
            // Who has given up makes room: there are no more than connections want the name.
            waiting.retain(|other| !other.is_closed());
            waiting.push(answer);
            return;
        }
        if self.waiting.len() >= NAMES_MAX {
            reply_to(answer, Err(LookupError::Failed("too many names are being asked for".into())));
            return;
        }
        self.waiting.insert(host.clone(), vec![answer]);
        let question = self.asker.ask(host.clone());
        self.asked.spawn(async move { (host, question.await) });
    }

    fn answered(&mut self, (host, found): Asked) {
        let now = Instant::now();
        let (until, reply) = match found {
            Ok((addresses, ttl)) => {
                self.is_unwritten |= self.known.learn(&host, &addresses);
                self.write();
                self.serial += 1;
                let expires_at = now + ttl;
                (expires_at, Ok(Found { addresses, expires_at, serial: self.serial }))
            }
            Err(error) => (now + FAILURE_TTL, Err(error)),
        };
        for answer in self.waiting.remove(&host).unwrap_or_default() {
            reply_to(answer, reply.clone());
        }
        if self.answers.len() >= NAMES_MAX {
            self.answers.retain(|_, kept| kept.until > now);
        }
        if self.answers.len() < NAMES_MAX {
            self.answers.insert(host, Kept { since: now, until, reply });
        }
    }

    fn written(&mut self, written: Result<std::io::Result<()>, JoinError>) {
        match written.map_err(std::io::Error::other).flatten() {
            Ok(()) => {
                self.has_failed = false;
                self.write();
            }
            // Tried again with the next answer.
            Err(error) => {
                self.is_unwritten = true;
                if !std::mem::replace(&mut self.has_failed, true) {
                    warn!("cannot keep the last good addresses in the spool's folder: {error}");
                }
            }
        }
    }

    /// Writes the file where it is not what is known, one time after the other: a disk that hangs holds one up.
    fn write(&mut self) {
        if let Some(path) = &self.path
            && self.is_unwritten
            && self.writing.is_empty()
        {
            let (path, last_good) = (path.clone(), self.known.all());
            self.is_unwritten = false;
            self.writing.spawn_blocking(move || file::write(&path, &last_good));
        }
    }
}

/// Whoever has asked may have given up.
fn reply_to(answer: oneshot::Sender<Reply>, reply: Reply) {
    drop(answer.send(reply));
}
