//! The file output: rendered lines to a file of this machine, with a thread of its own, so that no shard waits for a disk.
//!
//! All shards give their lines to the output's one [`FileWriter`], each of them one write's worth at a time; a batch is
//! acknowledged, and released, once `write(2)` has returned. What fails is kept and tried again.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use std::{io, thread};

use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::config::FileOutput;
use crate::pipeline::Queue;

use super::backoff::Backoff;
use super::flight::Flight;
use super::render::{Lines, Renderer};
use super::{Forwarder, is_worth_a_line};

use rotation::Rotation;
use writer::Writer;

mod rotation;
#[cfg(test)]
mod tests;
mod writer;

/// Records gathered for one write, bytes of memory.
const WRITE_BYTES: usize = 256 * 1024;

/// Once so much waits it is written without lingering for more.
const ENOUGH_BYTES: usize = 64 * 1024;

/// How long a message may wait for company.
const LINGER: Duration = Duration::from_millis(2);

/// Writes that wait for the thread: each shard has one at most, and as many shards as this are more than there are cores.
const JOBS_MAX: usize = 64;

/// A write that takes longer means that the disk hangs: what follows may go to the spool meanwhile.
const HANGS_AFTER: Duration = Duration::from_secs(5);

/// Why lines could not be written. All of it is worth another attempt.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// Its folder is not there.
    #[error("cannot open {path}: its folder does not exist (forebay makes the file, not the folder)")]
    NoFolder {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be opened for another reason.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A folder, a device, a pipe.
    #[error("cannot write {path}: it is no regular file")]
    NotAFile {
        /// What it should be.
        path: PathBuf,
    },
    /// Two processes would cut each other's lines.
    #[error("cannot write {path}: another process holds its lock (a second forebay?)")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The disk took less than all of it.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The thread has ended, which it never does by itself.
    #[error("the file's thread has ended")]
    Gone,
}

/// Lines to be written.
#[derive(Debug)]
struct Job {
    octets: Vec<u8>,
    answer: oneshot::Sender<Answer>,
}

/// What became of a job.
#[derive(Debug)]
struct Answer {
    /// The job's.
    octets: Vec<u8>,
    /// How many of them are in the file: whole lines.
    written: usize,
    /// Why not all.
    error: Option<FileError>,
}

/// The one writer of a file, shared by all shards. Its thread ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct FileWriter {
    jobs: mpsc::Sender<Job>,
}

impl FileWriter {
    /// Starts the thread. The file is opened with the first write.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(output: &str, file: &FileOutput) -> io::Result<Self> {
        let (jobs, mut waiting) = mpsc::channel::<Job>(JOBS_MAX);
        let rotation = Rotation::new(file.path.clone(), file.rotate);
        let mut writer = Writer::new(output.to_owned(), rotation);
        let serve = move || {
            while let Some(Job { octets, answer }) = waiting.blocking_recv() {
                // Nobody waits for it any more: the stop's deadline has passed, and its lines are counted otherwise.
                if answer.is_closed() {
                    continue;
                }
                let (written, outcome) = writer.write(&octets);
                // The same.
                drop(answer.send(Answer { octets, written, error: outcome.err() }));
            }
        };
        thread::Builder::new().name("file".into()).spawn(serve)?;
        Ok(Self { jobs })
    }

    /// Writes lines. Dropped before it completes, they are written or not.
    async fn write(&self, octets: Vec<u8>) -> Answer {
        let gone = || Answer { octets: Vec::new(), written: 0, error: Some(FileError::Gone) };
        let (answer_tx, answer) = oneshot::channel();
        match self.jobs.send(Job { octets, answer: answer_tx }).await {
            Ok(()) => answer.await.unwrap_or_else(|_| gone()),
            Err(mpsc::error::SendError(Job { octets, .. })) => Answer { octets, ..gone() },
        }
    }
}

/// Runs a shard's part of a file output until the stop; returns how many messages could not be written by its deadline.
/// `None`: there is an order to follow.
pub(super) async fn run(forwarder: &Forwarder) -> Option<u64> {
    let pipeline = Rc::clone(&forwarder.pipeline);
    let (Some(queue), Some(file)) = (pipeline.queue(forwarder.queue), &forwarder.file) else { return Some(0) };
    let mut flight = Flight::new(0, Duration::ZERO);
    let mut stop = forwarder.stop.clone();
    let mut session = Session { forwarder, queue, file, flight: &mut flight, written: 0, is_up: false };
    // A backlog is read for an output that works, and a file does until it is found not to.
    pipeline.set_flowing(queue, true);
    tokio::select! {
        biased;
        () = stop.expired() => {}
        () = session.run() => {}
    }
    session.down();
    if stop.deadline().is_none() {
        // What could not be written yet.
        flight.put_back_all(&pipeline);
        return None;
    }
    Some(forwarder.finish(&mut flight))
}

struct Session<'a> {
    forwarder: &'a Forwarder,
    queue: &'a Queue,
    file: &'a FileWriter,
    flight: &'a mut Flight,
    /// Octets of all writes.
    written: u64,
    /// The last write succeeded.
    is_up: bool,
}

impl Session<'_> {
    /// Ends when a stop is ordered and nothing waits, or what waits can go to the spool instead; and for an order.
    async fn run(&mut self) {
        let mut renderer = Renderer::new(&self.forwarder.zone);
        while self.wait().await {
            let messages = self.gather(&mut renderer);
            if !self.write(&mut renderer, messages).await {
                return;
            }
            // A disk that takes everything at once must not keep this core's receivers from their sockets.
            yield_now().await;
        }
    }

    /// Waits for enough to write; false when stopping and there is nothing.
    async fn wait(&self) -> bool {
        let mut stop = self.forwarder.stop.clone();
        if self.forwarder.has_orders() && stop.deadline().is_none() {
            return false;
        }
        if self.queue.waiting() == 0 {
            tokio::select! {
                biased;
                () = self.queue.more_than(0) => {}
                () = self.forwarder.ordered_idle() => return false,
                _ = stop.ordered() => return self.queue.waiting() > 0,
            }
        }
        if self.queue.waiting() < ENOUGH_BYTES && self.forwarder.stop.deadline().is_none() {
            tokio::select! {
                biased;
                () = self.queue.more_than(ENOUGH_BYTES) => {}
                () = sleep(LINGER) => {}
            }
        }
        true
    }

    /// Renders what waits, up to one write's worth; returns how many messages.
    fn gather(&mut self, renderer: &mut Renderer) -> u64 {
        let pipeline = &self.forwarder.pipeline;
        renderer.clear();
        let mut messages = 0;
        let names = pipeline.input_names();
        pipeline.take(self.queue, WRITE_BYTES, |lane, batch| {
            if let Some(rendering) = self.forwarder.renderings.get(lane) {
                renderer.render((&batch, 0), &rendering, &names, &mut Lines, usize::MAX);
            }
            messages += batch.len() as u64;
            self.flight.push(lane, batch);
        });
        messages
    }

    /// Writes until all of it is in the file: false when it is to be left to the spool, or there is an order.
    async fn write(&mut self, renderer: &mut Renderer, messages: u64) -> bool {
        let octets = renderer.take();
        self.written += octets.len() as u64;
        self.flight.flushed(self.written);
        let (mut left, total) = (octets, self.written);
        let mut backoff = Backoff::default();
        loop {
            let Answer { mut octets, written, error } = self.answer(left).await;
            self.forwarder.meters(|meters| {
                meters.written_bytes.add(written as u64);
                meters.acknowledged_bytes.add(written as u64);
            });
            let Some(error) = error else {
                renderer.give_back(octets);
                break;
            };
            octets.drain(..written.min(octets.len()));
            left = octets;
            self.failed(&error);
            backoff.failed();
            if let Some(delay) = backoff.delay()
                && (!self.forwarder.pause(delay).await || self.forwarder.has_orders())
            {
                return false;
            }
        }
        self.up();
        self.forwarder.meters(|meters| meters.written_messages.add(messages));
        self.flight.acknowledged(total, &self.forwarder.pipeline);
        true
    }

    /// The thread's answer. What it cannot give for long is told, and the spool may have what follows.
    async fn answer(&mut self, octets: Vec<u8>) -> Answer {
        let mut answer = std::pin::pin!(self.file.write(octets));
        if let Ok(answer) = timeout(HANGS_AFTER, answer.as_mut()).await {
            return answer;
        }
        self.down();
        self.told("the disk does not answer");
        answer.await
    }

    fn failed(&mut self, error: &FileError) {
        self.forwarder.meters(|meters| match error {
            FileError::Write { .. } => meters.broken.add(1),
            _ => meters.failed_connect.add(1),
        });
        self.down();
        self.told(error);
    }

    fn told(&self, why: impl std::fmt::Display) {
        let failures = self.forwarder.said.failures.fetch_add(1, Relaxed) + 1;
        if is_worth_a_line(failures) {
            let output = &self.forwarder.output;
            warn!(
                output = %output.name, to = %output.address(), attempt = failures,
                "cannot write the file: {why}; messages wait, the next attempt follows by itself"
            );
        }
    }

    fn up(&mut self) {
        if self.is_up {
            return;
        }
        self.is_up = true;
        self.forwarder.meters(|meters| {
            meters.connects.add(1);
            meters.connections.add(1);
        });
        self.forwarder.pipeline.set_flowing(self.queue, true);
        let failed_before = self.forwarder.said.failures.swap(0, Relaxed);
        if failed_before > 0 {
            let output = &self.forwarder.output;
            info!(output = %output.name, to = %output.address(), failed_before, "the file is written again");
        }
    }

    fn down(&mut self) {
        if std::mem::take(&mut self.is_up) {
            self.forwarder.meters(|meters| meters.connections.add(-1));
        }
        self.forwarder.pipeline.set_flowing(self.queue, false);
    }
}
