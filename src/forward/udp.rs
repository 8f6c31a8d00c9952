//! Syslog over UDP (RFC 5426): a message a datagram, as rsyslog's `protocol="udp"` sends it, the template's LF included.
//!
//! Nobody acknowledges: a message is released once the kernel has taken its datagram. All that is ever heard of the far end
//! is that nobody listens there (ICMP), which ends the connection as a break would; what the kernel had taken by then is lost.

use std::io;
use std::mem;
use std::net::SocketAddr;

use tokio::net::UdpSocket;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::warn;

use crate::pipeline::Queue;
use crate::sys;

use super::Forwarder;
use super::connection::{ENOUGH_BYTES, End, LAST_WORD_WAIT, LINGER, Leaving};
use super::flight::Flight;
use super::leave::Place;
use super::ramp::Ramp;
use super::render::{Datagrams, Renderer};

/// Forwards until nobody listens, or there is a reason to leave its `place`; no faster than `ramp` allows, where there is one.
pub(super) async fn run(
    forwarder: &Forwarder,
    queue: &Queue,
    socket: UdpSocket,
    place: &Place<'_>,
    flight: &mut Flight,
    ramp: Option<Ramp>,
) -> End {
    let leaving = Leaving::default();
    let peer = place.peer;
    let mut session = Session { forwarder, queue, socket, peer, flight, leaving: &leaving, ramp, is_proven: false };
    let end = leaving.beside(forwarder, place, session.run()).await;
    // The next socket is for the name's next address.
    forwarder.unwell_address.set(matches!(end, End::Broken(_)).then_some(peer));
    end
}

struct Session<'a> {
    forwarder: &'a Forwarder,
    queue: &'a Queue,
    socket: UdpSocket,
    peer: SocketAddr,
    flight: &'a mut Flight,
    leaving: &'a Leaving,
    /// How fast it may send; `None`: as fast as it can.
    ramp: Option<Ramp>,
    /// A first datagram was sent, and nobody has said that it was in vain.
    is_proven: bool,
}

/// Why the session stopped waiting.
enum Wake {
    Work,
    LookAgain,
    Close,
}

/// What the kernel took since it was last settled.
#[derive(Default)]
struct Sent {
    /// Messages that have come to their end, those included that no datagram holds.
    done: u64,
    messages: u64,
    octets: usize,
}

impl Sent {
    fn took(&mut self, datagram: &[u8]) {
        self.done += 1;
        self.messages += 1;
        self.octets += datagram.len();
    }
}

impl Session<'_> {
    async fn run(&mut self) -> io::Result<End> {
        let mut renderer = (Renderer::new(&self.forwarder.zone), Datagrams::default());
        loop {
            match self.wait().await? {
                Wake::Work => {
                    if self.gather(&mut renderer) {
                        self.send(&renderer).await?;
                    }
                    // A kernel that takes everything at once must not keep this core's receivers from their sockets.
                    yield_now().await;
                }
                Wake::LookAgain => {}
                Wake::Close => return Ok(End::Orderly),
            }
        }
    }

    /// Waits for enough to send, or for a reason to close.
    async fn wait(&mut self) -> io::Result<Wake> {
        if self.leaving.has_begun() {
            return Ok(Wake::Close);
        }
        let is_stopping = self.forwarder.stop.deadline().is_some();
        if self.queue.waiting() == 0 {
            if is_stopping {
                return Ok(Wake::Close);
            }
            let mut stop = self.forwarder.stop.clone();
            tokio::select! {
                biased;
                error = self.refusal() => return Err(error),
                () = self.queue.more_than(0) => {}
                () = self.leaving.begun() => return Ok(Wake::Close),
                _ = stop.ordered() => return Ok(Wake::LookAgain),
            }
        }
        if let Some(until) = Ramp::held_until(&mut self.ramp, Instant::now(), is_stopping) {
            tokio::select! {
                biased;
                error = self.refusal() => return Err(error),
                () = sleep_until(until) => return Ok(Wake::LookAgain),
                () = self.leaving.begun() => return Ok(Wake::Close),
            }
        }
        if self.queue.waiting() < ENOUGH_BYTES && !is_stopping {
            tokio::select! {
                biased;
                error = self.refusal() => return Err(error),
                () = self.queue.more_than(ENOUGH_BYTES) => {}
                () = sleep(LINGER) => {}
            }
        }
        Ok(Wake::Work)
    }

    /// Renders one batch that waits: false where there is none.
    fn gather(&mut self, (renderer, datagrams): &mut (Renderer, Datagrams)) -> bool {
        let pipeline = &self.forwarder.pipeline;
        renderer.clear();
        datagrams.clear();
        pipeline.take(self.queue, 1, |lane, batch| self.flight.push_messages(lane, batch));
        let Some((lane, batch, from)) = self.flight.rest() else { return false };
        if let Some(rendering) = self.forwarder.renderings.get(lane) {
            renderer.render((batch, from), &rendering, &pipeline.input_names(), datagrams, usize::MAX);
        }
        true
    }

    /// Sends a batch's datagrams. What the kernel has taken is released, whatever comes of the rest.
    async fn send(&mut self, (renderer, datagrams): &(Renderer, Datagrams)) -> io::Result<()> {
        let mut sent = Sent::default();
        'each: for datagram in datagrams.of(renderer.octets()) {
            loop {
                match self.socket.try_send(datagram) {
                    Ok(_) => sent.took(datagram),
                    Err(error) if sys::is_too_large(&error) => {
                        self.flight.refused(self.flight.answered() + sent.done);
                        sent.done += 1;
                        self.tell_of_refusal(datagram.len());
                        continue 'each;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.settle(&mut sent);
                        self.writable().await?;
                        continue;
                    }
                    Err(error) => {
                        self.settle(&mut sent);
                        return Err(self.explained(error));
                    }
                }
                break;
            }
            if !mem::replace(&mut self.is_proven, true) {
                self.settle(&mut sent);
                // Where the first one is gone, the others need not follow it.
                if let Ok(error) = timeout(LAST_WORD_WAIT, self.refusal()).await {
                    return Err(error);
                }
            }
        }
        self.settle(&mut sent);
        Ok(())
    }

    /// Releases what was sent, and counts it. To be called before any await: the stop's deadline may end that.
    fn settle(&mut self, sent: &mut Sent) {
        let Sent { done, messages, octets } = mem::take(sent);
        self.flight.wrote(done as usize);
        self.flight.acknowledged(self.flight.answered() + done, &self.forwarder.pipeline);
        self.forwarder.meters(|meters| {
            meters.written_messages.add(messages);
            meters.written_bytes.add(octets as u64);
            meters.acknowledged_bytes.add(octets as u64);
        });
        if let Some(ramp) = &mut self.ramp {
            ramp.wrote(octets, Instant::now());
        }
    }

    /// Waits until the kernel's buffer has room, for `stall_timeout` at most.
    async fn writable(&self) -> io::Result<()> {
        let stalled = |_| io::Error::new(io::ErrorKind::TimedOut, "stall_timeout: the kernel takes no datagram");
        timeout(self.forwarder.output.stall_timeout, self.socket.writable()).await.map_err(stalled)?
    }

    /// Completes when the kernel has heard that nobody listens, or has another error for us. What the peer sends is read and
    /// ignored. Cancel-safe.
    async fn refusal(&self) -> io::Error {
        let mut ignored = [0; 512];
        loop {
            if let Err(error) = self.socket.recv(&mut ignored).await {
                return self.explained(error);
            }
        }
    }

    fn explained(&self, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                let text = format!("nobody listens at {} (ICMP: port unreachable)", self.peer);
                io::Error::new(io::ErrorKind::ConnectionRefused, text)
            }
            _ => error,
        }
    }

    fn tell_of_refusal(&self, octets: usize) {
        if let Some(messages) = self.forwarder.said.refused() {
            warn!(
                output = %self.forwarder.output.name, messages,
                "messages are larger than a datagram holds, the last one has {octets} octets; they are dropped"
            );
        }
    }
}
