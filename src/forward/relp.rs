//! RELP over one established connection: gather, render as numbered commands, write, and read the server's answers at the
//! same time, until it ends.
//!
//! Batches are taken as far as the window has room, the last one in part. What the server has answered for is released; a
//! message that it refuses is given up, counted as dropped, once it has taken another one on the same connection: a server that
//! refuses everything loses us nothing.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use crate::config::Output;
use crate::pipeline::Queue;
use crate::relp::client::{Client, ClientError, Event};
use crate::relp::frame::Encoder;
use crate::road::{Connection, Stream};
use crate::time::sleep_until_some;
use crate::tls;

use super::Forwarder;
use super::connection::{CLOSE_WAIT, ENOUGH_BYTES, End, LAST_WORD_WAIT, LINGER, Leaving, WRITE_BYTES, closing_time};
use super::flight::Flight;
use super::leave::Place;
use super::ramp::Ramp;
use super::render::{Numbering, Renderer};

/// So many refusals in a row, without a message taken between them, are a server that is not well: the connection is broken
/// off, and they are sent again on the next one.
const REFUSALS_MAX: u32 = 100;

/// Octets of answers in one read: some eight hundred of them.
const READ_BYTES: usize = 16 * 1024;

/// How long the server may take to close after it has said that it will.
const SERVER_CLOSE_WAIT: Duration = Duration::from_secs(1);

/// A connection whose server has taken our offers.
pub(super) struct Opened {
    /// The address that answered.
    pub(super) peer: SocketAddr,
    /// What the server says it is; empty where it does not say.
    pub(super) software: String,
    stream: Stream,
    client: Client,
}

/// The server does not take our offers.
#[derive(Debug, thiserror::Error)]
#[error("no RELP session with {peer}: {why}")]
pub(super) struct OpenError {
    peer: SocketAddr,
    why: String,
}

/// Sends our offers and waits for the answer, for `handshake_timeout` at most. Cancel-safe.
///
/// # Errors
/// Whatever keeps the session from opening; the server's own words where it has some.
pub(super) async fn open(
    output: &Output,
    tls: Option<&tls::Client>,
    connection: Connection,
    window: usize,
) -> Result<Opened, OpenError> {
    let Connection { peer, stream } = connection;
    let client = Client::new(u32::try_from(window).unwrap_or(u32::MAX));
    let mut opened = Opened { peer, software: String::new(), stream, client };
    let answer = timeout(output.handshake_timeout, opened.negotiate()).await;
    let why = match answer {
        Ok(Ok(software)) => {
            debug!(output = %output.name, %peer, software, "the RELP session is open");
            return Ok(Opened { software, ..opened });
        }
        // A client certificate that is missing or refused shows here with TLS 1.3.
        Ok(Err(error)) => tls.map_or_else(|| error.to_string(), |tls| tls.explain(&error)),
        Err(_) => "the server does not answer our offers (handshake_timeout)".to_owned(),
    };
    Err(OpenError { peer, why })
}

impl Opened {
    /// What the server says it is.
    async fn negotiate(&mut self) -> io::Result<String> {
        let mut out = Vec::new();
        self.client.open(&mut out);
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        let mut buffer = [0; 1024];
        let mut opened = None;
        loop {
            let count = self.stream.read(&mut buffer).await?;
            if count == 0 {
                let text = "the server closed the connection without an answer to our offers: is this a port that speaks RELP?";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            let mut input = buffer.get(..count).unwrap_or_default();
            while let Some(event) = self.client.next_event(&mut input).map_err(io::Error::other)? {
                match event {
                    Event::Opened { software } => opened = Some(software),
                    Event::ServerClosing => return Err(io::Error::other("the server closes the connection")),
                    // There is nothing yet that they could be about.
                    Event::Refused { .. } | Event::Closed => {}
                }
            }
            if let Some(software) = opened {
                return Ok(software);
            }
        }
    }

    /// Closes the session without having used it.
    pub(super) async fn close(mut self) {
        let mut out = Vec::new();
        self.client.close(&mut out);
        if self.stream.write_all(&out).await.is_ok() {
            shut(&mut self.stream).await;
        }
    }
}

/// Closes our side; nothing depends on it.
pub(super) async fn shut(stream: &mut Stream) {
    if let Err(error) = stream.shutdown().await {
        debug!(%error, "the connection was closed before we did");
    }
}

/// Forwards until the connection ends, or has a reason to leave its `place`; no faster than `ramp` allows, where there is one.
pub(super) async fn run(
    forwarder: &Forwarder,
    queue: &Queue,
    opened: Opened,
    place: &Place<'_>,
    flight: &mut Flight,
    ramp: Option<Ramp>,
) -> End {
    let leaving = Leaving::default();
    let now = Instant::now();
    let mut session = Session {
        forwarder,
        queue,
        stream: opened.stream,
        client: opened.client,
        encoder: Encoder::new(),
        renderer: Renderer::new(&forwarder.zone),
        written: 0,
        is_flushed: true,
        answers: vec![0; READ_BYTES],
        flight,
        leaving: &leaving,
        is_ending: false,
        linger_until: None,
        used_at: now,
        progress_at: now,
        octets: 0,
        server: Server::default(),
        ramp,
    };
    leaving.beside(forwarder, place, session.run()).await
}

/// What the server has said besides acknowledging.
#[derive(Default)]
struct Server {
    /// Messages that it refused and that are not given up yet, by position.
    refused: BTreeSet<u64>,
    /// Its last refusal: code and text.
    words: (u16, String),
    /// Refusals since it took a message.
    in_a_row: u32,
    /// How many messages it had taken at the last refusal.
    taken: u64,
    /// It is about to close the connection.
    is_closing: bool,
    /// It has answered our `close`.
    is_closed: bool,
}

struct Session<'a> {
    forwarder: &'a Forwarder,
    queue: &'a Queue,
    stream: Stream,
    client: Client,
    encoder: Encoder,
    /// What is being written.
    renderer: Renderer,
    /// How much of that the stream has taken.
    written: usize,
    is_flushed: bool,
    /// What is read into.
    answers: Vec<u8>,
    flight: &'a mut Flight,
    leaving: &'a Leaving,
    /// It was idle for long enough: nothing more is taken.
    is_ending: bool,
    /// Until when what waits may wait for company.
    linger_until: Option<Instant>,
    used_at: Instant,
    /// When the server last acknowledged something, or something to acknowledge began to be outstanding.
    progress_at: Instant,
    /// Octets on the wire that the peer's kernel has acknowledged.
    octets: u64,
    server: Server,
    /// How fast it may send; `None`: as fast as it can.
    ramp: Option<Ramp>,
}

/// What moved.
#[derive(Default)]
struct Moved {
    read: usize,
    written: usize,
    is_flushed: bool,
}

impl Session<'_> {
    async fn run(&mut self) -> io::Result<End> {
        loop {
            if self.is_time_to_gather() {
                self.gather();
            }
            if self.is_done() {
                return self.close().await;
            }
            self.wait().await?;
            if self.server.is_closing {
                return Ok(self.closed_by_server().await);
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.forwarder.stop.deadline().is_some()
    }

    /// Whether all that was gathered is written.
    fn is_written(&self) -> bool {
        self.is_flushed && self.written == self.renderer.octets().len()
    }

    /// Whether no more batches are to be taken.
    fn takes_no_more(&self) -> bool {
        self.is_ending || self.leaving.has_begun() || (self.is_stopping() && self.queue.waiting() == 0)
    }

    /// Whether the window has room for more than a few messages: each answer makes room for one, and to write each alone would
    /// cost a record, or a packet, a message.
    fn has_room(&self) -> bool {
        let room = self.client.room();
        room > 0 && room >= self.client.outstanding() / 3
    }

    fn is_time_to_gather(&mut self) -> bool {
        if !self.is_written() || !self.has_room() || self.held_until().is_some() {
            return false;
        }
        if self.flight.rest().is_some() {
            return true;
        }
        let waiting = self.queue.waiting();
        if self.takes_no_more() || waiting == 0 {
            self.linger_until = None;
            return false;
        }
        if waiting >= ENOUGH_BYTES || self.is_stopping() {
            return true;
        }
        let now = Instant::now();
        *self.linger_until.get_or_insert(now + LINGER) <= now
    }

    fn held_until(&mut self) -> Option<Instant> {
        let is_stopping = self.is_stopping();
        Ramp::held_until(&mut self.ramp, Instant::now(), is_stopping)
    }

    /// Renders what waits, up to one write's worth, and as far as the window has room.
    fn gather(&mut self) {
        let pipeline = &self.forwarder.pipeline;
        self.renderer.clear();
        self.linger_until = None;
        (self.written, self.is_flushed) = (0, false);
        let was_idle = self.client.outstanding() == 0;
        let bytes = if self.ramp.is_some() { Ramp::WRITE_BYTES } else { WRITE_BYTES };
        let mut messages = 0;
        while self.client.room() > 0 && self.renderer.octets().len() < bytes {
            let Some((lane, batch, from)) = self.flight.rest() else {
                let (flight, mut has_more) = (&mut *self.flight, false);
                if !self.is_ending && !self.leaving.has_begun() {
                    pipeline.take(self.queue, 1, |lane, batch| {
                        has_more = true;
                        flight.push_messages(lane, batch);
                    });
                }
                if has_more {
                    continue;
                }
                break;
            };
            // A lane has its rendering: both are made of the configuration's routes.
            let Some(rendering) = self.forwarder.renderings.get(lane) else { break };
            let mut framing = Numbering { client: &mut self.client, encoder: &mut self.encoder };
            let names = pipeline.input_names();
            let count = self.renderer.render((batch, from), &rendering, &names, &mut framing, bytes);
            self.flight.wrote(count);
            messages += count as u64;
        }
        if was_idle {
            self.progress_at = Instant::now();
        }
        if let Some(ramp) = &mut self.ramp {
            ramp.wrote(self.renderer.octets().len(), Instant::now());
        }
        let octets = self.renderer.octets().len() as u64;
        self.forwarder.meters(|meters| {
            meters.written_messages.add(messages);
            meters.written_bytes.add(octets);
        });
    }

    /// Whether the session is to be closed: there is nothing more to send, and all that was sent is answered for.
    fn is_done(&self) -> bool {
        self.takes_no_more() && self.is_written() && self.client.outstanding() == 0 && self.flight.rest().is_none()
    }

    /// Waits until octets have moved, in whichever direction, until there is something to gather, or a reason to end.
    async fn wait(&mut self) -> io::Result<()> {
        let output = &self.forwarder.output;
        let limit = |since: Instant| since + output.stall_timeout;
        let is_busy = self.client.outstanding() > 0 || !self.is_written();
        let stall = is_busy.then(|| limit(self.progress_at));
        // What is on the disk is being read.
        let is_idle = !is_busy && self.flight.is_empty() && !self.queue.has_backlog() && self.queue.waiting() == 0;
        let idle = output.idle_timeout.filter(|_| is_idle).map(|idle| self.used_at + idle);
        let held = self.held_until();
        let is_free = self.is_written() && self.has_room() && held.is_none();
        let wants_more = is_free && !self.takes_no_more() && self.flight.rest().is_none();
        let enough = if self.linger_until.is_some() { ENOUGH_BYTES - 1 } else { 0 };
        let is_leaving = self.leaving.has_begun();
        let is_stopping = self.is_stopping();
        let mut stop = self.forwarder.stop.clone();
        let rest = self.renderer.octets().get(self.written..).unwrap_or_default();
        tokio::select! {
            biased;
            moved = exchange(&mut self.stream, rest, self.is_flushed, &mut self.answers) => return self.moved(moved).await,
            () = self.queue.more_than(enough), if wants_more => {}
            () = sleep_until_some(self.linger_until), if wants_more => {}
            () = sleep_until_some(held) => {}
            () = sleep_until_some(stall) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, self.stalled()));
            }
            () = sleep_until_some(idle) => self.is_ending = true,
            () = self.leaving.begun(), if !is_leaving => {}
            _ = stop.ordered(), if !is_stopping => {}
        }
        Ok(())
    }

    fn stalled(&self) -> String {
        let (code, text) = &self.server.words;
        match self.server.refused.len() {
            0 => "the server acknowledges nothing any more (stall_timeout)".to_owned(),
            count => format!("the server refuses messages ({count}), the last with: {code} {text}, and takes none"),
        }
    }

    async fn moved(&mut self, moved: io::Result<Moved>) -> io::Result<()> {
        let moved = match moved {
            Ok(moved) => moved,
            Err(error) => return Err(self.last_word(error).await),
        };
        if moved.written > 0 {
            let now = Instant::now();
            // A block that goes out in parts is progress: nothing of it may be whole yet.
            if self.written > 0 {
                self.progress_at = now;
            }
            self.used_at = now;
            self.written += moved.written;
        }
        if moved.read > 0 {
            self.take_answers(moved.read)?;
        }
        if moved.is_flushed {
            self.is_flushed = true;
            self.observe()?;
            // A server that takes everything at once must not keep this core's receivers from their sockets.
            yield_now().await;
        }
        Ok(())
    }

    /// Takes in the answers in the first `count` octets that were read.
    fn take_answers(&mut self, count: usize) -> io::Result<()> {
        let answers = mem::take(&mut self.answers);
        let mut input = answers.get(..count).unwrap_or_default();
        let taken = self.take_events(&mut input);
        self.answers = answers;
        self.settle();
        taken.map_err(io::Error::other)?;
        if self.server.in_a_row >= REFUSALS_MAX {
            let (code, text) = &self.server.words;
            let text = format!("the server refuses one message after another, the last with: {code} {text}");
            return Err(io::Error::other(text));
        }
        Ok(())
    }

    fn take_events(&mut self, input: &mut &[u8]) -> Result<(), ClientError> {
        while let Some(event) = self.client.next_event(input)? {
            match event {
                Event::Refused { position, code, text } => {
                    let server = &mut self.server;
                    let has_taken = mem::replace(&mut server.taken, self.client.taken()) < self.client.taken();
                    server.in_a_row = if has_taken { 1 } else { server.in_a_row + 1 };
                    server.words = (code, text);
                    server.refused.insert(position);
                    if server.in_a_row >= REFUSALS_MAX {
                        break;
                    }
                }
                Event::ServerClosing => self.server.is_closing = true,
                Event::Closed => self.server.is_closed = true,
                // A second answer to the offers is an error of the client's.
                Event::Opened { .. } => {}
            }
        }
        Ok(())
    }

    /// Releases what is acknowledged, and gives up what is refused.
    fn settle(&mut self) {
        let pipeline = &self.forwarder.pipeline;
        let before = self.flight.answered();
        self.flight.acknowledged(self.client.acknowledged(), pipeline);
        let gives_up = self.client.taken() > 0 && self.server.in_a_row < REFUSALS_MAX;
        while gives_up
            && let Some(position) = self.server.refused.first().copied()
            && position == self.client.acknowledged()
        {
            self.server.refused.pop_first();
            self.client.pass(position);
            self.flight.refused(position);
            self.tell_of_refusal();
            self.flight.acknowledged(self.client.acknowledged(), pipeline);
        }
        if self.client.acknowledged() > before {
            self.progress_at = Instant::now();
        }
    }

    fn tell_of_refusal(&self) {
        if let Some(messages) = self.forwarder.said.refused() {
            let (code, text) = &self.server.words;
            warn!(
                output = %self.forwarder.output.name, messages,
                "the server refuses messages, the last with: {code} {text}; they are dropped"
            );
        }
    }

    /// Looks at what the peer's kernel has acknowledged.
    fn observe(&mut self) -> io::Result<()> {
        let octets = self.stream.acknowledged()?;
        let more = octets.saturating_sub(self.octets);
        self.octets = self.octets.max(octets);
        self.forwarder.meters(|meters| meters.acknowledged_bytes.add(more));
        Ok(())
    }

    /// Takes in what the server said before the connection broke with `error`, which is what it returns, or what TLS has to say
    /// instead.
    async fn last_word(&mut self, error: io::Error) -> io::Error {
        let said = timeout(LAST_WORD_WAIT, self.read_to_end()).await;
        said.ok().flatten().filter(|said| said.kind() == io::ErrorKind::InvalidData).unwrap_or(error)
    }

    /// Reads answers until the connection ends; with what, where it is an error.
    async fn read_to_end(&mut self) -> Option<io::Error> {
        loop {
            match self.stream.read(&mut self.answers).await {
                Ok(0) => return None,
                Ok(count) => {
                    if let Err(error) = self.take_answers(count) {
                        return Some(error);
                    }
                }
                Err(error) => return Some(error),
            }
        }
    }

    /// The server has said that it closes the connection: what it still answers for is taken in, then it is closed.
    async fn closed_by_server(&mut self) -> End {
        let ended = timeout(SERVER_CLOSE_WAIT, self.read_to_end()).await;
        debug!(?ended, "the server closes the connection");
        End::ByPeer
    }

    /// Says `close`, waits for the answer, and closes our side. All that was sent is answered for, so that nothing is lost
    /// where the server does not take part.
    async fn close(&mut self) -> io::Result<End> {
        let limit = closing_time(&self.forwarder.stop, &self.forwarder.output).min(CLOSE_WAIT);
        let closed = timeout(limit, async {
            let mut out = Vec::new();
            self.client.close(&mut out);
            self.stream.write_all(&out).await?;
            self.stream.flush().await?;
            while !self.server.is_closed {
                let count = self.stream.read(&mut self.answers).await?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.take_answers(count)?;
            }
            self.stream.shutdown().await
        });
        let closed = closed.await;
        debug!(output = %self.forwarder.output.name, ?closed, "the RELP session is closed");
        Ok(End::Orderly)
    }
}

/// Moves octets in both directions as far as they go now: answers into `answers`, and `rest` out, or where that is empty and
/// not flushed, flushes. Completes when something moved. Neither direction waits for the other. Cancel-safe.
async fn exchange(stream: &mut Stream, rest: &[u8], is_flushed: bool, answers: &mut [u8]) -> io::Result<Moved> {
    poll_fn(|cx| {
        let mut moved = Moved::default();
        let mut buffer = ReadBuf::new(answers);
        match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the server")));
            }
            Poll::Ready(Ok(())) => moved.read = buffer.filled().len(),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {}
        }
        let wrote = if !rest.is_empty() {
            Pin::new(&mut *stream).poll_write(cx, rest).map_ok(|count| moved.written = count)
        } else if !is_flushed {
            Pin::new(&mut *stream).poll_flush(cx).map_ok(|()| moved.is_flushed = true)
        } else {
            Poll::Pending
        };
        match wrote {
            // What was read is taken in first; the error comes again.
            Poll::Ready(Err(error)) if moved.read == 0 => Poll::Ready(Err(error)),
            Poll::Pending if moved.read == 0 => Poll::Pending,
            _ => Poll::Ready(Ok(moved)),
        }
    })
    .await
}
