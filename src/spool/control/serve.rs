//! The relay's end of the socket: threads that wait for operators, so that nothing else does.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crossbeam_channel as channel;
use serde::{Deserialize, Serialize};

use super::{Answer, Op, Request, SOCKET};
use crate::spool::block::PLAIN_MAX;

/// Operators that are answered at the same time; more wait in the listener's backlog.
const CONVERSATIONS_MAX: usize = 4;

/// Octets of a question: names of 4,096 routes of 64 octets each, and their quotes.
const QUESTION_MAX: u64 = 512 << 10;

/// An operator's program that says or reads nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The spool's thread may be writing to a slow disk, or dropping many blocks.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Without file descriptors there is no accepting; trying again at once would take a core.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// A path longer than that does not fit into a socket's address (`sun_path`, with its NUL).
const PATH_MAX: usize = 107;

/// A question as it is written: the operation, and how many octets follow the line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    #[serde(flatten)]
    pub(super) op: Op,
    #[serde(default)]
    pub(super) octets: usize,
}

/// The listening socket; dropping it ends the listening and removes the socket.
#[derive(Debug)]
pub struct Server {
    dir: PathBuf,
    /// Nothing is sent through it: that it is gone is the message.
    stop_tx: Option<channel::Sender<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever is in `accept` finds out by being called; who calls later finds no socket. Neither can fail in a way
        // that matters: the process is about to end.
        drop(self.stop_tx.take());
        if let Ok((path, _dir)) = address(&self.dir) {
            drop(UnixStream::connect(&path));
            drop(fs::remove_file(&path));
        }
    }
}

/// Listens in `dir`, the folder of a spool whose lock the caller holds: a socket that is there already is a dead
/// relay's. Questions go to `requests`, which must be bounded; whoever receives them answers each with
/// [`super::handle`], in its own time, and never waits for the answer to be taken.
///
/// # Errors
/// The socket or the thread cannot be made.
pub fn serve(dir: &Path, requests: channel::Sender<Request>) -> io::Result<Server> {
    serve_within(dir, requests, ANSWER_TIMEOUT)
}

/// The same, with another patience for whoever answers.
pub(super) fn serve_within(dir: &Path, requests: channel::Sender<Request>, patience: Duration) -> io::Result<Server> {
    let (path, _dir) = address(dir)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    let (stop_tx, stop_rx) = channel::bounded(1);
    let desk = Desk { requests, patience };
    thread::Builder::new().name("spool-control".into()).spawn(move || listen(&listener, &desk, &stop_rx))?;
    Ok(Server { dir: dir.to_path_buf(), stop_tx: Some(stop_tx) })
}

/// The socket's path, and what has to stay open while it is used: a long one goes through the folder's descriptor.
pub(super) fn address(dir: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let path = dir.join(SOCKET);
    if path.as_os_str().as_bytes().len() <= PATH_MAX {
        return Ok((path, None));
    }
    let folder = File::open(dir)?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd())), Some(folder)))
}

/// Where questions go, and how long an answer may take.
#[derive(Clone)]
struct Desk {
    requests: channel::Sender<Request>,
    patience: Duration,
}

fn listen(listener: &UnixListener, desk: &Desk, stop: &channel::Receiver<()>) {
    let (permits_tx, permits_rx) = channel::bounded(CONVERSATIONS_MAX);
    // A permit is room in this channel. It always comes back: every wait in a conversation has a bound.
    while permits_tx.send(()).is_ok() {
        let accepted = listener.accept();
        if stop.try_recv() == Err(channel::TryRecvError::Disconnected) {
            return;
        }
        let desk = desk.clone();
        let permit = Permit(permits_rx.clone());
        let started = accepted.and_then(|(stream, _)| {
            let talk = move || {
                let _permit = permit;
                if let Err(error) = converse(&stream, &desk) {
                    tracing::debug!("a conversation on the spool's control socket broke off: {error}");
                }
            };
            thread::Builder::new().name("spool-operator".into()).spawn(talk)
        });
        if let Err(error) = started {
            tracing::warn!("the spool's control socket: {error}");
            if stop.recv_timeout(ACCEPT_PAUSE) == Err(channel::RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }
}

/// Comes back when its conversation has ended, in whatever way.
struct Permit(channel::Receiver<()>);

impl Drop for Permit {
    fn drop(&mut self) {
        // There is one to take: ours.
        let (Ok(()) | Err(_)) = self.0.try_recv();
    }
}

fn converse(stream: &UnixStream, desk: &Desk) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let answer = match question(stream)? {
        Ok(op) => desk.put(op),
        Err(mistake) => Answer::Failed(mistake),
    };
    let mut text = Vec::new();
    for line in answer.into_lines() {
        serde_json::to_writer(&mut text, &line)?;
        text.push(b'\n');
    }
    let mut stream = stream;
    stream.write_all(&text)
}

/// Reads the question; the inner error is for the operator.
fn question(stream: &UnixStream) -> io::Result<Result<Op, String>> {
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream);
    reader.by_ref().take(QUESTION_MAX).read_until(b'\n', &mut line)?;
    let mut question: Question = match serde_json::from_slice(&line) {
        Ok(question) => question,
        Err(error) => {
            return Ok(Err(format!("the relay does not understand the question ({error}): is it of another version?")));
        }
    };
    if question.octets > PLAIN_MAX {
        return Ok(Err(format!("a block of {} octets is more than the {PLAIN_MAX} allowed", question.octets)));
    }
    if let Op::Import { plain, .. } = &mut question.op {
        // Grows by what comes, not by what was announced.
        reader.take(question.octets as u64).read_to_end(plain)?;
        if plain.len() != question.octets {
            return Ok(Err("the block ended early".to_owned()));
        }
    }
    Ok(Ok(question.op))
}

impl Desk {
    /// Gives it to the spool's thread and waits for the answer, but not for ever.
    fn put(&self, op: Op) -> Answer {
        let (reply_tx, reply_rx) = channel::bounded(1);
        match self.requests.send_timeout(Request { op, reply: reply_tx }, self.patience) {
            Ok(()) => {}
            Err(channel::SendTimeoutError::Timeout(_)) => return Answer::Failed(self.does_not_answer()),
            Err(channel::SendTimeoutError::Disconnected(_)) => return Answer::Failed(stopping()),
        }
        match reply_rx.recv_timeout(self.patience) {
            Ok(answer) => answer,
            Err(channel::RecvTimeoutError::Timeout) => Answer::Failed(self.does_not_answer()),
            Err(channel::RecvTimeoutError::Disconnected) => Answer::Failed(stopping()),
        }
    }

    fn does_not_answer(&self) -> String {
        format!(
            "the disk does not answer: the relay's spool has been busy for {} s, and may still do what was asked; \
             look at the kernel's log (dmesg) and at forebay_spool_state",
            self.patience.as_secs()
        )
    }
}

fn stopping() -> String {
    "the relay is stopping: ask again when it has ended".to_owned()
}
