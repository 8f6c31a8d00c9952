//! One RELP connection: reads and offers as [`stream`](super::stream) does, and answers each message once it is safe.
//!
//! What was not answered when the connection ends is sent again by the sender, over another one. So nothing must be read at
//! a stop, and what meets a full lane there is left to the sender.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tracing::{debug, warn};

use crate::config::Acknowledge;
use crate::pipeline::{Offer, WhenFull};
use crate::receipts::{Account, When};
use crate::relp::server::{self, Event, Server, ServerError};
use crate::syslog::Frame;
use crate::syslog::frame::{Flaw, looks_like_tls};
use crate::time::sleep_until_some;

use super::Receivers;

#[cfg(test)]
mod tests;

/// A connection with so many messages unsettled is not read: the sender waits. librelp's client sends 128 ahead.
const UNSETTLED_MAX: usize = 10_000;

/// The same for all connections of a shard: 16 octets each in every lane that has them, so 3 MiB.
const UNSETTLED_OF_SHARD_MAX: usize = 200_000;

/// A connection with no more than these is read even then.
const UNSETTLED_FAIR: usize = 128;

/// A connection is not read while so many octets of answers wait to be written.
const UNWRITTEN_MAX: usize = 16 * 1024;

/// A sender that takes no octet of its answers for so long is let go.
const UNREAD_TIMEOUT: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(30) };

/// How long a sender that wants to close is given until all is settled. librelp's client waits no longer than 90 s, and
/// forgets what is not acknowledged by then.
const CLOSE_WAIT: Duration = Duration::from_secs(85);

/// A peer that does not take our last octets by then is left without.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a buffer of answers keeps once it is empty.
const ANSWERS_KEPT: usize = 1024;

/// What one turn found.
enum Step {
    /// Everything read is taken, or something was answered.
    Done,
    /// This lane is full; the rest is kept.
    Full(usize),
    /// The stream has ended, or nothing more will come.
    End,
}

/// How a connection ends.
enum Ending {
    /// As the sender wants it, with this number; all is settled.
    Close(u32),
    /// As we want it.
    Leave,
    /// It is gone.
    Gone,
}

/// A message that met a full lane.
struct Held {
    txnr: u32,
    bytes: Vec<u8>,
    flaw: Option<Flaw>,
}

struct Connection<S> {
    receivers: Receivers,
    peer: Option<IpAddr>,
    stream: S,
    server: Server,
    account: Rc<Account>,
    /// Numbers on their way from the account into `answers`.
    settled: Vec<u32>,
    /// Octets to be written; the first `written` of them are.
    answers: Vec<u8>,
    written: usize,
    is_unflushed: bool,
    /// Ends the connection, unless the sender takes something before.
    unread: Option<Pin<Box<Sleep>>>,
    /// Bytes of memory that it took when last looked at.
    owned: usize,
    /// Messages unsettled when last looked at.
    unsettled: usize,
    held: Option<Held>,
    /// The number of the sender's close.
    close: Option<u32>,
    started: bool,
}

/// Receives until either side closes, the connection idles too long, or the relay stops; then answers what is settled in
/// time, and closes.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(receivers: Receivers, peer: Option<IpAddr>, stream: S) {
    let when = match receivers.input.acknowledge {
        Acknowledge::Received => When::Received,
        Acknowledge::Spooled => When::Stored,
        Acknowledge::Released => When::Released,
    };
    let mut connection = Connection {
        server: Server::new(receivers.input.max_message_size),
        receivers,
        peer,
        stream,
        account: Account::new(when),
        settled: Vec::new(),
        answers: Vec::new(),
        written: 0,
        is_unflushed: false,
        unread: None,
        owned: 0,
        unsettled: 0,
        held: None,
        close: None,
        started: false,
    };
    let ending = connection.run().await.unwrap_or_else(|error| {
        debug!(input = %connection.receivers.input.name, ?peer, "connection ended: {error}");
        Ending::Gone
    });
    connection.end(&ending).await;
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn run(&mut self) -> io::Result<Ending> {
        let mut stop = self.receivers.stop.clone();
        let mut stopping = pin!(stop.ordered());
        let mut heard_at = Instant::now();
        let mut give_up_at = None;
        loop {
            let idle = self.receivers.input.idle_timeout.filter(|_| self.account.outstanding() == 0);
            let step = tokio::select! {
                biased;
                _ = &mut stopping => return self.settle_rest().await,
                step = poll_fn(|cx| self.poll_turn(cx)) => step?,
                () = sleep_until_some(idle.map(|idle| heard_at + idle)) => {
                    self.receivers.meters(|meters| meters.idle_closed.add(1));
                    return Ok(Ending::Leave);
                }
                () = sleep_until_some(give_up_at) => return Ok(Ending::Leave),
            };
            match step {
                Ok(Step::Done) => self.receivers.pipeline.pace().await,
                Ok(Step::Full(lane)) => {
                    if let Err(error) = self.wait_for_room(lane).await? {
                        return Ok(self.refuse(&error));
                    }
                }
                Ok(Step::End) => return Ok(self.close.map_or(Ending::Gone, Ending::Close)),
                Err(error) => return Ok(self.refuse(&error)),
            }
            self.look();
            if !self.may_own_more() {
                return Ok(Ending::Leave);
            }
            heard_at = Instant::now();
            give_up_at = give_up_at.or_else(|| self.close.map(|_| heard_at + CLOSE_WAIT));
            // One read a turn: the forwarders and the other connections of this core come next.
            yield_now().await;
        }
    }

    /// Answers what is settled; then reads once and offers what came.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Result<Step, ServerError>>> {
        if self.poll_answers(cx)? {
            return Poll::Ready(Ok(Ok(Step::Done)));
        }
        if self.close.is_some() && self.is_settled() {
            return Poll::Ready(Ok(Ok(Step::End)));
        }
        if !self.may_read() {
            // Something is unsettled or unwritten: that wakes us.
            return Poll::Pending;
        }
        let shared = Rc::clone(&self.receivers.shared);
        let mut buffer = shared.buffer.borrow_mut();
        let size = shared.read_bytes_max(buffer.len());
        let mut read = ReadBuf::new(buffer.get_mut(..size).unwrap_or_default());
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        let input = read.filled();
        if input.is_empty() {
            return Poll::Ready(Ok(Ok(Step::End)));
        }
        if !self.started {
            self.started = true;
            if looks_like_tls(input) {
                self.receivers.refuse_tls(self.peer);
                return Poll::Ready(Ok(Ok(Step::End)));
            }
        }
        Poll::Ready(Ok(self.offer_all(input)))
    }

    /// Writes what is to be answered, as far as the peer takes it. Whether something was settled; an error ends the
    /// connection. The task is woken when there is more to do.
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        self.account.wake(cx.waker());
        if self.account.is_void() {
            return Err(io::Error::other("a message was lost with the spool: its sender is to send it again"));
        }
        let has_settled = self.collect();
        while let Some(rest) = self.answers.get(self.written..).filter(|rest| !rest.is_empty()) {
            self.is_unflushed = true;
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(len)) => {
                    self.written += len;
                    self.unread = None;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return self.poll_unread(cx).map(|()| has_settled),
            }
        }
        self.written = 0;
        self.answers.clear();
        self.answers.shrink_to(ANSWERS_KEPT);
        if self.is_unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(flushed) => flushed?,
                Poll::Pending => return self.poll_unread(cx).map(|()| has_settled),
            }
            self.is_unflushed = false;
            self.unread = None;
        }
        Ok(has_settled)
    }

    /// The peer takes nothing now.
    fn poll_unread(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let unread = self.unread.get_or_insert_with(|| Box::pin(sleep(UNREAD_TIMEOUT)));
        if unread.as_mut().poll(cx).is_pending() {
            return Ok(());
        }
        self.receivers.meters(|meters| meters.unread_closed.add(1));
        Err(io::Error::new(io::ErrorKind::TimedOut, "the sender does not read what is answered"))
    }

    /// Puts the answers to what is settled behind those that wait; whether there was something.
    fn collect(&mut self) -> bool {
        self.account.take_settled(&mut self.settled);
        if self.settled.is_empty() {
            return false;
        }
        self.receivers.meters(|meters| meters.acknowledged.add(self.settled.len() as u64));
        for txnr in self.settled.drain(..) {
            server::acknowledge(txnr, &mut self.answers);
        }
        self.settled.shrink_to(ANSWERS_KEPT);
        self.look();
        true
    }

    /// Brings what is known of unsettled messages up to date.
    fn look(&mut self) {
        let unsettled = self.account.outstanding();
        let before = std::mem::replace(&mut self.unsettled, unsettled);
        let of_shard = &self.receivers.shared.unsettled;
        of_shard.set(of_shard.get() + unsettled - before);
        self.receivers.meters(|meters| meters.unacknowledged.add(unsettled as i64 - before as i64));
    }

    fn is_settled(&self) -> bool {
        self.account.outstanding() == 0 && self.answers.is_empty() && !self.is_unflushed
    }

    fn may_read(&self) -> bool {
        let shard_may = self.receivers.shared.unsettled.get() < UNSETTLED_OF_SHARD_MAX;
        let unsettled = self.account.outstanding();
        self.close.is_none()
            && self.answers.len() - self.written < UNWRITTEN_MAX
            && unsettled < if shard_may { UNSETTLED_MAX } else { UNSETTLED_FAIR }
    }

    fn offer_all(&mut self, mut input: &[u8]) -> Result<Step, ServerError> {
        let Self { receivers, server, account, answers, peer, .. } = self;
        let mut turn = receivers.pipeline.turn(receivers.input_index);
        while let Some(event) = server.next_event(&mut input, answers)? {
            match event {
                Event::Opened { software } => debug!(input = %receivers.input.name, ?peer, software, "RELP session"),
                Event::Ignored { .. } => {}
                Event::Close { txnr } => self.close = Some(txnr),
                Event::Message { txnr, frame } => {
                    if let Offer::Full(lane) = turn.offer_for((account, txnr), frame, *peer, WhenFull::Wait) {
                        self.held = Some(Held { txnr, bytes: frame.bytes.to_vec(), flaw: frame.flaw });
                        server.keep(input);
                        return Ok(Step::Full(lane));
                    }
                }
            }
        }
        Ok(Step::Done)
    }

    /// Offers the message that was held, then what was kept behind it.
    fn resume(&mut self) -> Result<Step, ServerError> {
        if let Some(held) = self.held.take() {
            let mut turn = self.receivers.pipeline.turn(self.receivers.input_index);
            let frame = Frame { bytes: &held.bytes, flaw: held.flaw };
            if let Offer::Full(lane) = turn.offer_for((&self.account, held.txnr), frame, self.peer, WhenFull::Wait) {
                self.held = Some(held);
                return Ok(Step::Full(lane));
            }
        }
        self.offer_all(&[])
    }

    /// Waits until all that was read has found its place, or for the stop. The sender waits as well: we do not read.
    async fn wait_for_room(&mut self, mut lane: usize) -> io::Result<Result<(), ServerError>> {
        let pipeline = Rc::clone(&self.receivers.pipeline);
        let _blocked = self.receivers.blocked();
        self.account_for_memory();
        let mut stop = self.receivers.stop.clone();
        loop {
            let room = pipeline.room_in(lane);
            tokio::select! {
                biased;
                _ = stop.ordered() => return Ok(Ok(())),
                ended = poll_fn(|cx| self.poll_answers(cx).map_or_else(Poll::Ready, |_| Poll::Pending)) => return Err(ended),
                () = room => {}
            }
            match self.resume() {
                Ok(Step::Full(still)) => lane = still,
                Ok(Step::Done | Step::End) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// The stop: nothing more is read. Answers what is settled, until all is, or nothing more will be.
    async fn settle_rest(&mut self) -> io::Result<Ending> {
        self.receivers.alive = None;
        self.held = None;
        let mut closing = self.receivers.closing.clone();
        tokio::select! {
            biased;
            settled = poll_fn(|cx| match self.poll_answers(cx) {
                Ok(_) if self.is_settled() => Poll::Ready(Ok(())),
                Ok(_) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }) => settled?,
            _ = closing.ordered() => {}
        }
        Ok(self.close.filter(|_| self.account.outstanding() == 0).map_or(Ending::Leave, Ending::Close))
    }

    /// The sender does not speak RELP as it should.
    fn refuse(&self, error: &ServerError) -> Ending {
        let mut closed = 0;
        self.receivers.meters(|meters| {
            meters.relp_errors.add(1);
            closed = meters.relp_errors.value();
        });
        if closed.is_power_of_two() {
            let (input, peer) = (&self.receivers.input.name, self.peer);
            warn!(%input, ?peer, closed, reason = error.reason(), "connection closed: {error}");
        }
        Ending::Leave
    }

    /// Says the last words, and closes our side. Whether the peer still hears them is its own affair.
    async fn end(&mut self, ending: &Ending) {
        self.collect();
        match ending {
            Ending::Close(txnr) => server::closed(*txnr, &mut self.answers),
            Ending::Leave => server::serverclose(&mut self.answers),
            Ending::Gone => {}
        }
        let rest = self.answers.get(self.written..).unwrap_or_default();
        let last_words = async {
            self.stream.write_all(rest).await?;
            self.stream.shutdown().await
        };
        drop(timeout(CLOSE_TIMEOUT, last_words).await);
    }

    fn may_own_more(&mut self) -> bool {
        let may = self.account_for_memory();
        if !may {
            self.receivers.close_for_memory(self.peer);
        }
        may
    }

    /// Brings the account of the shard's streams up to date: whether this one may own what it does.
    fn account_for_memory(&mut self) -> bool {
        let held = self.held.as_ref().map_or(0, |held| held.bytes.capacity());
        let owned = self.server.owned() + held + self.answers.capacity();
        let before = std::mem::replace(&mut self.owned, owned);
        self.receivers.shared.moved(before, owned)
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        let Self { receivers, account, owned, unsettled, .. } = self;
        receivers.shared.moved(*owned, 0);
        receivers.shared.unsettled.set(receivers.shared.unsettled.get().saturating_sub(*unsettled));
        receivers.meters(|meters| meters.unacknowledged.add(-(*unsettled as i64)));
        receivers.pipeline.forget(account);
    }
}
