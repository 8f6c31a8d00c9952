//! Syslog over one established connection: gather, render, write, watch what the peer's kernel acknowledges, until it ends.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::config::{OutputFraming, Protocol};
use crate::pipeline::Queue;
use crate::road::{Connection, Stream};
use crate::time::sleep_until_some;

use super::Forwarder;
use super::connection::{ENOUGH_BYTES, End, LAST_WORD_WAIT, LINGER, Leaving, WRITE_BYTES, closing_time};
use super::flight::Flight;
use super::leave::Place;
use super::ramp::Ramp;
use super::render::{Lines, OctetCounting, Renderer};

/// How often unacknowledged octets are looked at while nothing is written: the first time, and at most. Between them
/// each look waits twice as long as the last.
const ACKNOWLEDGE_POLL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(320));

/// How long the last octets may stay unacknowledged once the peer has closed its side: a few round trips.
const LAST_ACKNOWLEDGE_WAIT: Duration = Duration::from_secs(1);

/// How often a write that waits looks whether anything is acknowledged, at most.
const STALL_LOOK_MAX: Duration = Duration::from_secs(1);

/// Forwards until the connection ends, or has a reason to leave its `place`; no faster than `ramp` allows, where there is one.
pub(super) async fn run(
    forwarder: &Forwarder,
    queue: &Queue,
    connection: Connection,
    place: &Place<'_>,
    flight: &mut Flight,
    ramp: Option<Ramp>,
) -> End {
    let leaving = Leaving::default();
    let mut session = Session {
        forwarder,
        queue,
        stream: connection.stream,
        flight,
        used_at: Instant::now(),
        acknowledged: 0,
        moved_at: Instant::now(),
        leaving: &leaving,
        ramp,
    };
    leaving.beside(forwarder, place, session.run()).await
}

struct Session<'a> {
    forwarder: &'a Forwarder,
    queue: &'a Queue,
    stream: Stream,
    flight: &'a mut Flight,
    used_at: Instant,
    /// Octets known to be acknowledged.
    acknowledged: u64,
    /// When that count last moved, or when there was first anything to wait for.
    moved_at: Instant,
    leaving: &'a Leaving,
    /// How fast it may send; `None`: as fast as it can.
    ramp: Option<Ramp>,
}

/// Why the session stopped waiting.
enum Wake {
    Work,
    LookAgain,
    Close,
}

impl Session<'_> {
    async fn run(&mut self) -> io::Result<End> {
        let mut renderer = (Renderer::new(&self.forwarder.zone), OctetCounting::new());
        let mut poll_every = ACKNOWLEDGE_POLL.0;
        loop {
            match self.wait(poll_every).await? {
                Wake::Work => {
                    self.send(&mut renderer).await?;
                    self.observe()?;
                    poll_every = ACKNOWLEDGE_POLL.0;
                    // A peer that takes everything at once must not keep this core's receivers from their sockets.
                    yield_now().await;
                }
                Wake::LookAgain => {
                    self.observe()?;
                    poll_every = (poll_every * 2).min(ACKNOWLEDGE_POLL.1);
                }
                Wake::Close => return self.close().await,
            }
        }
    }

    /// Waits for enough to write, for the time to look at acknowledgements, or for a reason to close.
    async fn wait(&mut self, poll_every: Duration) -> io::Result<Wake> {
        if self.leaving.has_begun() {
            return Ok(Wake::Close);
        }
        if self.queue.waiting() == 0 {
            if self.forwarder.stop.deadline().is_some() {
                return Ok(Wake::Close);
            }
            let look = self.next_look(poll_every);
            // With a peer that has not answered such a close before: not while something is in flight, or the window would
            // be sent again after each idle time, for ever.
            let may_close = self.flight.is_empty() || !self.forwarder.close_unanswered.get();
            // What is on the disk is being read.
            let may_close = may_close && !self.queue.has_backlog();
            let idle = self.forwarder.output.idle_timeout.filter(|_| may_close).map(|idle| self.used_at + idle);
            let mut stop = self.forwarder.stop.clone();
            tokio::select! {
                biased;
                error = closed(&mut self.stream) => return Err(error),
                () = self.queue.more_than(0) => {}
                () = sleep_until_some(look) => return Ok(Wake::LookAgain),
                () = sleep_until_some(idle) => return Ok(Wake::Close),
                () = self.leaving.begun() => return Ok(Wake::Close),
                _ = stop.ordered() => return Ok(Wake::Work),
            }
        }
        let is_stopping = self.forwarder.stop.deadline().is_some();
        if let Some(until) = Ramp::held_until(&mut self.ramp, Instant::now(), is_stopping) {
            let look = self.next_look(poll_every);
            let until = look.map_or(until, |look| look.min(until));
            tokio::select! {
                biased;
                error = closed(&mut self.stream) => return Err(error),
                () = sleep_until(until) => return Ok(Wake::LookAgain),
                () = self.leaving.begun() => return Ok(Wake::Close),
            }
        }
        if self.queue.waiting() < ENOUGH_BYTES && self.forwarder.stop.deadline().is_none() {
            tokio::select! {
                biased;
                error = closed(&mut self.stream) => return Err(error),
                () = self.queue.more_than(ENOUGH_BYTES) => {}
                () = sleep(LINGER) => {}
            }
        }
        Ok(Wake::Work)
    }

    /// When to look at what is acknowledged: soon while something is outstanding, else when the window next releases.
    fn next_look(&self, poll_every: Duration) -> Option<Instant> {
        if self.flight.is_outstanding() { Some(Instant::now() + poll_every) } else { self.flight.next_release() }
    }

    /// Renders what waits, up to one write's worth, and writes it.
    async fn send(&mut self, (renderer, counting): &mut (Renderer, OctetCounting)) -> io::Result<()> {
        let pipeline = &self.forwarder.pipeline;
        renderer.clear();
        let mut messages = 0;
        let bytes = if self.ramp.is_some() { Ramp::WRITE_BYTES } else { WRITE_BYTES };
        let is_lines = self.forwarder.output.protocol == Protocol::Syslog(OutputFraming::Lf);
        let names = pipeline.input_names();
        pipeline.take(self.queue, bytes, |lane, batch| {
            if let Some(rendering) = self.forwarder.renderings.get(lane) {
                let records = (&batch, 0);
                if is_lines {
                    renderer.render(records, &rendering, &names, &mut Lines, usize::MAX);
                } else {
                    renderer.render(records, &rendering, &names, counting, usize::MAX);
                }
            }
            messages += batch.len() as u64;
            self.flight.push(lane, batch);
        });
        let out = renderer.octets();
        self.forwarder.meters(|meters| {
            meters.written_messages.add(messages);
            meters.written_bytes.add(out.len() as u64);
        });
        if let Some(ramp) = &mut self.ramp {
            ramp.wrote(out.len(), Instant::now());
        }
        if self.stream.written() <= self.acknowledged {
            self.moved_at = Instant::now();
        }
        if let Err(error) = self.write_all(renderer.octets()).await {
            return Err(last_word(&mut self.stream).await.unwrap_or(error));
        }
        self.flight.flushed(self.stream.written());
        self.used_at = Instant::now();
        Ok(())
    }

    /// Writes and flushes, for as long as the peer takes or acknowledges anything. Ends early when it closes.
    async fn write_all(&mut self, mut octets: &[u8]) -> io::Result<()> {
        // A slow road empties a large send buffer by and by: a write that waits is no stall while octets are acknowledged.
        let look_every = (self.forwarder.output.stall_timeout / 4).min(STALL_LOOK_MAX);
        loop {
            match timeout(look_every, write_some(&mut self.stream, octets)).await {
                Ok(Ok(0)) => return Ok(()),
                Ok(written) => octets = octets.get(written?..).unwrap_or_default(),
                Err(_) => self.observe()?,
            }
        }
    }

    /// Looks at what the peer's kernel has acknowledged. An error where that has not moved for too long.
    fn observe(&mut self) -> io::Result<()> {
        let acknowledged = self.stream.acknowledged()?;
        let more = acknowledged.saturating_sub(self.acknowledged);
        self.acknowledged = self.acknowledged.max(acknowledged);
        let now = Instant::now();
        if more > 0 || self.acknowledged >= self.stream.written() {
            self.moved_at = now;
        } else if now.duration_since(self.moved_at) >= self.forwarder.output.stall_timeout {
            let outstanding = self.stream.written().saturating_sub(self.acknowledged);
            let message =
                format!("stall_timeout: {outstanding} octets are outstanding, and the peer acknowledges none");
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        self.forwarder.meters(|meters| meters.acknowledged_bytes.add(more));
        self.flight.acknowledged(acknowledged, &self.forwarder.pipeline);
        Ok(())
    }

    /// Closes our side (`close_notify` and FIN, RFC 5425 section 4.4) and waits until the peer has closed its own.
    ///
    /// Orderly is only what the peer can have read to the end: it closed after us, and its kernel acknowledged all.
    async fn close(&mut self) -> io::Result<End> {
        // A peer that has closed already does not answer our close: what was written last it may not have read.
        if let Poll::Ready(error) = poll_fn(|cx| Poll::Ready(poll_closed(&mut self.stream, cx))).await {
            return Err(error);
        }
        let limit = closing_time(&self.forwarder.stop, &self.forwarder.output);
        timeout(limit, self.stream.shutdown()).await??;
        let answer = timeout(limit, closed(&mut self.stream)).await;
        self.forwarder.close_unanswered.set(answer.is_err());
        let end = answer?;
        if end.kind() != io::ErrorKind::UnexpectedEof {
            return Err(end);
        }
        // Both closes may have crossed: then its kernel resets the connection instead of acknowledging.
        timeout(LAST_ACKNOWLEDGE_WAIT, self.all_acknowledged()).await??;
        Ok(End::Orderly)
    }

    /// Waits until the peer's kernel has acknowledged everything.
    async fn all_acknowledged(&mut self) -> io::Result<()> {
        let mut look_every = ACKNOWLEDGE_POLL.0;
        loop {
            self.observe()?;
            if self.acknowledged >= self.stream.written() {
                return Ok(());
            }
            sleep(look_every).await;
            look_every = (look_every * 2).min(ACKNOWLEDGE_POLL.1);
        }
    }
}

/// Completes when the peer closes or resets; what it sends meanwhile is read and ignored: syslog has no answers.
/// Cancel-safe.
async fn closed(stream: &mut Stream) -> io::Error {
    poll_fn(|cx| poll_closed(stream, cx)).await
}

fn poll_closed(stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Error> {
    let mut ignored = [0; 512];
    loop {
        let mut buffer = ReadBuf::new(&mut ignored);
        match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                return Poll::Ready(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the peer"));
            }
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(error),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// Why the peer ended the connection, where it said so before it closed: with TLS 1.3 it verifies our certificate after the
/// handshake, and its alert lies unread behind a write that fails.
async fn last_word(stream: &mut Stream) -> Option<io::Error> {
    let error = timeout(LAST_WORD_WAIT, closed(stream)).await.ok()?;
    // What rustls has to say; what the kernel has is known.
    (error.kind() == io::ErrorKind::InvalidData).then_some(error)
}

/// Writes some octets, or flushes where none are left: 0 then. Ends early when the peer closes. Cancel-safe.
async fn write_some(stream: &mut Stream, octets: &[u8]) -> io::Result<usize> {
    poll_fn(|cx| {
        let poll = match octets {
            [] => Pin::new(&mut *stream).poll_flush(cx).map_ok(|()| 0),
            // Nothing written of something: as `write_all` of std has it.
            _ => Pin::new(&mut *stream).poll_write(cx, octets).map(|written| match written {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                written => written,
            }),
        };
        if poll.is_pending() { poll_closed(stream, cx).map(Err) } else { poll }
    })
    .await
}

#[cfg(test)]
mod tests;
