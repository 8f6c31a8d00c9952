//! One connection: reads into the shard's shared buffer, cuts frames, offers them; waits while a lane is full.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::debug;

use crate::pipeline::{Offer, WhenFull};
use crate::syslog::frame::{Flaw, looks_like_tls};
use crate::syslog::{Decoder, Frame};
use crate::time::sleep_until_some;

use super::Receivers;

/// A peer that does not take the few octets of our close by then is left without.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Of the time in which a stopping relay goes on reading, a sender that is silent for one of so many parts has no more to
/// say, or does not hear that it should close.
const QUIET_PART: u32 = 8;

/// What one turn found.
enum Step {
    /// Everything read is taken.
    Taken,
    /// This lane is full; the rest is kept.
    Full(usize),
    /// The stream has ended.
    End,
}

/// A frame that met a full lane.
struct Held {
    bytes: Vec<u8>,
    flaw: Option<Flaw>,
}

struct Connection<S> {
    receivers: Receivers,
    peer: Option<IpAddr>,
    stream: S,
    decoder: Decoder,
    /// Bytes of memory that the decoder and `held` took when last looked at.
    owned: usize,
    held: Option<Held>,
    /// [`WhenFull::Take`] once a stop has no more time: what was read must not be lost, and nothing more is read.
    when_full: WhenFull,
    started: bool,
}

/// Receives until the stream ends, idles too long, or the relay stops.
///
/// Then closes our side: over TLS with `close_notify`, as RFC 5425 section 4.4 wants of both ends.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(receivers: Receivers, peer: Option<IpAddr>, stream: S) {
    let decoder = Decoder::new(receivers.input.framing, receivers.input.max_message_size);
    let mut connection = Connection {
        receivers,
        peer,
        stream,
        decoder,
        owned: 0,
        held: None,
        when_full: WhenFull::Wait,
        started: false,
    };
    if let Err(error) = connection.run().await {
        debug!(input = %connection.receivers.input.name, ?peer, "connection ended: {error}");
    }
    // Whatever ended it: what is left of the last frame is a message.
    connection.end().await;
    // Whether the peer still hears it is its own affair.
    drop(timeout(CLOSE_TIMEOUT, connection.stream.shutdown()).await);
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn run(&mut self) -> io::Result<()> {
        let mut stop = self.receivers.stop.clone();
        let mut stopping = pin!(stop.ordered());
        let mut heard_at = Instant::now();
        loop {
            let idle_at = self.receivers.input.idle_timeout.map(|idle| heard_at + idle);
            let step = tokio::select! {
                biased;
                deadline = &mut stopping => {
                    return self.drain(self.receivers.shared.drain_until(deadline)).await;
                }
                step = poll_fn(|cx| self.poll_turn(cx)) => step?,
                () = sleep_until_some(idle_at) => {
                    self.receivers.meters(|meters| meters.idle_closed.add(1));
                    return Ok(());
                }
            };
            match step {
                Step::Taken => self.receivers.pipeline.pace().await,
                Step::Full(lane) => self.wait_for_room(lane).await,
                Step::End => return Ok(()),
            }
            if !self.may_own_more() {
                return Ok(());
            }
            heard_at = Instant::now();
            // One read a turn: the forwarders and the other connections of this core come next.
            yield_now().await;
        }
    }

    /// Whether the unfinished messages of all connections take so much memory that this one has to go.
    fn may_own_more(&mut self) -> bool {
        let may = self.account();
        if !may {
            self.receivers.close_for_memory(self.peer);
        }
        may
    }

    /// Brings the account of the shard's streams up to date: whether this one may own what it does.
    fn account(&mut self) -> bool {
        let owned = self.decoder.owned() + self.held.as_ref().map_or(0, |held| held.bytes.capacity());
        let before = std::mem::replace(&mut self.owned, owned);
        self.receivers.shared.moved(before, owned)
    }

    /// Reads once and offers what came.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Step>> {
        let shared = Rc::clone(&self.receivers.shared);
        let mut buffer = shared.buffer.borrow_mut();
        let size = shared.read_bytes_max(buffer.len());
        let mut read = ReadBuf::new(buffer.get_mut(..size).unwrap_or_default());
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        let input = read.filled();
        if input.is_empty() {
            return Poll::Ready(Ok(Step::End));
        }
        if !self.started {
            self.started = true;
            if looks_like_tls(input) {
                self.receivers.refuse_tls(self.peer);
                return Poll::Ready(Ok(Step::End));
            }
        }
        Poll::Ready(Ok(self.offer_all(input)))
    }

    fn offer_all(&mut self, mut input: &[u8]) -> Step {
        let mut turn = self.receivers.pipeline.turn(self.receivers.input_index);
        while let Some(frame) = self.decoder.next_frame(&mut input) {
            if let Offer::Full(lane) = turn.offer(frame, self.peer, self.when_full) {
                self.held = Some(Held { bytes: frame.bytes.to_vec(), flaw: frame.flaw });
                self.decoder.keep(input);
                return Step::Full(lane);
            }
        }
        Step::Taken
    }

    /// Offers the frame that was held, then what was kept behind it.
    fn resume(&mut self) -> Step {
        if let Some(held) = self.held.take() {
            let mut turn = self.receivers.pipeline.turn(self.receivers.input_index);
            let frame = Frame { bytes: &held.bytes, flaw: held.flaw };
            if let Offer::Full(lane) = turn.offer(frame, self.peer, self.when_full) {
                self.held = Some(held);
                return Step::Full(lane);
            }
        }
        self.offer_all(&[])
    }

    /// Waits until all that was read has found its place. The sender waits as well: we do not read.
    async fn wait_for_room(&mut self, mut lane: usize) {
        let receivers = self.receivers.clone();
        let _blocked = receivers.blocked();
        // What is kept meanwhile is on the account, and may be: the sender is not asked for more.
        self.account();
        let mut stop = receivers.stop.clone();
        let mut too_late = pin!(async {
            let deadline = stop.ordered().await;
            sleep_until(receivers.shared.drain_until(deadline)).await;
        });
        loop {
            let room = receivers.pipeline.room_in(lane);
            tokio::select! {
                biased;
                () = room => {}
                () = &mut too_late, if self.when_full == WhenFull::Wait => self.when_full = WhenFull::Take,
            }
            match self.resume() {
                Step::Full(still) => lane = still,
                Step::Taken | Step::End => break,
            }
        }
    }

    /// The stop: asks the sender to close, and takes what it has sent until it does, until nothing has come for a while,
    /// and no longer than `until`.
    ///
    /// Our side is closed first: a connection that is closed while its sender writes takes with it what is on the way, in
    /// our kernel and in every balancer between. Senders look for our close before they write, most of them.
    async fn drain(&mut self, until: Instant) -> io::Result<()> {
        // Whether it hears us shows in what it does.
        drop(timeout_at(until, self.stream.shutdown()).await);
        let quiet = until.saturating_duration_since(Instant::now()) / QUIET_PART;
        while self.when_full == WhenFull::Wait {
            let give_up = until.min(Instant::now() + quiet);
            let step = tokio::select! {
                biased;
                step = poll_fn(|cx| self.poll_turn(cx)) => step?,
                () = sleep_until(give_up) => return Ok(()),
            };
            match step {
                Step::Taken => self.receivers.pipeline.pace().await,
                Step::Full(lane) => self.wait_for_room(lane).await,
                Step::End => return Ok(()),
            }
            if Instant::now() >= until || !self.may_own_more() {
                return Ok(());
            }
            yield_now().await;
        }
        Ok(())
    }

    /// Offers what is left: whole frames that waited for room, and the last one, whole or not.
    async fn end(&mut self) {
        loop {
            let full = {
                let Some(frame) = self.decoder.finish() else { return };
                let mut turn = self.receivers.pipeline.turn(self.receivers.input_index);
                match turn.offer(frame, self.peer, self.when_full) {
                    Offer::Taken => continue,
                    Offer::Full(lane) => {
                        self.held = Some(Held { bytes: frame.bytes.to_vec(), flaw: frame.flaw });
                        lane
                    }
                }
            };
            self.wait_for_room(full).await;
        }
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.receivers.shared.moved(self.owned, 0);
    }
}
