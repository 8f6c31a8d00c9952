//! One connection to an intake: HTTP/1.1, a request at a time.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::header::{DATE, RETRY_AFTER};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use crate::road::Stream;

use super::patience::{date, retry_after};

/// Octets that hyper may hold of a request: what it has taken counts as written.
const BUFFER: usize = 64 * 1024;

/// Octets of a body that are given to it at a time.
const CHUNK: usize = 16 * 1024;

/// Octets of an answer that are read: an id for each event, and something around them.
const ANSWER_BASE: usize = 64 * 1024;
const ANSWER_OF_EVENT: usize = 256;

/// How long closing may take: TLS's farewell, and no more.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Bounds on one exchange.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// On a request that makes no progress.
    pub(super) stall: Duration,
    /// From its last octet to the whole answer.
    pub(super) answer: Duration,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    /// The far end's clock, where it says.
    pub(super) date: Option<SystemTime>,
    /// What was read of it.
    pub(super) body: Vec<u8>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The connection broke, or what came was no HTTP.
    #[error("{0}")]
    Broken(String),
    /// It is up, and takes nothing any more.
    #[error("the peer takes nothing any more (stall_timeout)")]
    Stalled,
    /// The request was taken, and not answered.
    #[error("no answer in time (request_timeout)")]
    Unanswered,
}

/// How far a request's body has got.
#[derive(Debug)]
struct Progress {
    at: Cell<Instant>,
    is_written: Cell<bool>,
    /// Another limit holds from now on.
    written: Notify,
}

/// A request's body, which says how far it has got.
pub(super) struct Parcel {
    rest: Bytes,
    progress: Rc<Progress>,
}

impl Body for Parcel {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let len = self.rest.len().min(CHUNK);
        let chunk = self.rest.split_to(len);
        self.progress.at.set(Instant::now());
        if self.rest.is_empty() {
            self.progress.is_written.set(true);
            self.progress.written.notify_one();
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// An established connection.
pub(super) struct Conversation {
    sender: http1::SendRequest<Parcel>,
    connection: Pin<Box<http1::Connection<TokioIo<Stream>, Parcel>>>,
    has_ended: bool,
}

impl Conversation {
    /// Nothing is said yet.
    pub(super) async fn begin(stream: Stream) -> hyper::Result<Self> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BUFFER);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, connection: Box::pin(connection), has_ended: false })
    }

    /// Completes when the far end closes. Cancel-safe.
    pub(super) async fn ended(&mut self) {
        poll_fn(|cx| if self.poll_ended(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> bool {
        // What went wrong is told to who waits for an answer; in between it is nobody's business.
        if !self.has_ended && self.connection.as_mut().poll(cx).is_ready() {
            self.has_ended = true;
        }
        self.has_ended
    }

    /// Sends `body` with what `head` says, and waits for the answer to `events` events.
    ///
    /// # Errors
    /// When no whole answer comes.
    pub(super) async fn exchange(
        &mut self,
        head: Request<()>,
        body: Bytes,
        events: usize,
        limits: Limits,
    ) -> Result<Reply, Fault> {
        let progress = Rc::new(Progress {
            at: Cell::new(Instant::now()),
            is_written: Cell::new(body.is_empty()),
            written: Notify::new(),
        });
        let parcel = Parcel { rest: body, progress: Rc::clone(&progress) };
        let (sender, connection, has_ended) = (&mut self.sender, &mut self.connection, &mut self.has_ended);
        let mut answer = pin!(async {
            sender.ready().await?;
            let response = sender.send_request(head.map(|()| parcel)).await?;
            read(response, ANSWER_BASE + ANSWER_OF_EVENT * events).await
        });
        let mut drive = pin!(poll_fn(|cx| {
            if !*has_ended && connection.as_mut().poll(cx).is_ready() {
                *has_ended = true;
            }
            Poll::<Infallible>::Pending
        }));
        let deadline = || match progress.is_written.get() {
            true => progress.at.get() + limits.answer,
            false => progress.at.get() + limits.stall,
        };
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer.map_err(|error| Fault::Broken(in_words(&error))),
                never = &mut drive => match never {},
                () = progress.written.notified() => {}
                () = sleep_until(deadline()) => {}
            }
            if Instant::now() >= deadline() {
                return Err(if progress.is_written.get() { Fault::Unanswered } else { Fault::Stalled });
            }
        }
    }

    /// Says farewell, where nothing is under way.
    pub(super) async fn close(mut self) {
        drop(self.sender);
        if !self.has_ended {
            // The far end owes nothing any more.
            let _closed = timeout(CLOSE_WAIT, self.connection.as_mut()).await;
        }
    }
}

async fn read(response: Response<Incoming>, max: usize) -> hyper::Result<Reply> {
    let status = response.status().as_u16();
    let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let wait = wait.and_then(|value| retry_after(value, SystemTime::now()));
    let date = response.headers().get(DATE).and_then(|value| date(value.to_str().ok()?));
    let mut body = Vec::new();
    let mut incoming = response.into_body();
    while let Some(frame) = incoming.frame().await {
        if let Ok(data) = frame?.into_data() {
            body.extend_from_slice(data.get(..max.saturating_sub(body.len())).unwrap_or(&data));
        }
        if body.len() >= max {
            // The rest is nothing that is asked for; the connection ends with it.
            break;
        }
    }
    Ok(Reply { status, retry_after: wait, date, body })
}

/// An error with what caused it: hyper's own words stop short of it.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
