//! Accepting connections. A loop that nothing ends but the stop: not EMFILE, not a reset, not a slow handshake.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::{JoinSet, spawn_local, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::metrics::{Count, InputMeters};

use super::gate::{Place, Refusal, is_balancer};
use super::proxied::introduction;
use super::{Current, Manner, Receivers, Spoken, relp, stream};

/// A client that has not finished its TLS handshake by then is let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a stop waits for such a client, at most.
const BEGINNING_AT_STOP: Duration = Duration::from_secs(1);

/// How long to leave a listener alone whose accept fails (open files or memory exhausted).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Keepalive of accepted connections: a sender that vanished without a word is found within three minutes.
const KEEPALIVE: Duration = Duration::from_secs(120);

/// Starts accepting TCP, plain or with TLS.
pub(super) fn spawn_tcp(current: Current, listener: StdTcpListener, tasks: &mut JoinSet<()>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let alive = current.now().alive.clone();
    tasks.spawn_local(async move {
        accept_all(
            &current,
            |cx| listener.poll_accept(cx),
            |(tcp, peer)| {
                let receivers = &current.for_connection(alive.as_ref());
                let Manner { spoken, over_tls } = receivers.manner;
                let peer = prepare(receivers, &tcp, peer, spoken);
                if is_balancer(&receivers.input, peer) {
                    // The gate is asked again once the header says who is behind it.
                    admit(receivers, None, |receivers, place| proxied(receivers, place, peer, tcp, spoken, over_tls));
                } else if over_tls {
                    admit(receivers, Some(peer), |receivers, place| handshake(receivers, place, peer, tcp, spoken));
                } else {
                    admit(receivers, Some(peer), |receivers, place| serve(receivers, place, Some(peer), tcp, spoken));
                }
            },
        )
        .await;
    });
    Ok(())
}

/// Starts accepting unix streams.
pub(super) fn spawn_unix(current: Current, listener: StdUnixListener, tasks: &mut JoinSet<()>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let alive = current.now().alive.clone();
    tasks.spawn_local(async move {
        accept_all(
            &current,
            |cx| listener.poll_accept(cx),
            |(stream, _)| {
                admit(&current.for_connection(alive.as_ref()), None, |receivers, place| {
                    serve(receivers, place, None, stream, Spoken::Syslog)
                });
            },
        )
        .await;
    });
    Ok(())
}

/// Accepts until the stop, and then what waits in the backlog: the kernel has acknowledged its octets. Not where the backlog
/// outlives this process: the next one serves those longer than the moment that is left here.
async fn accept_all<C>(
    current: &Current,
    mut poll_accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<C>>,
    mut take: impl FnMut(C),
) {
    // Whatever changes, when to end does not.
    let receivers = current.now().clone();
    let mut stop = receivers.stop.clone();
    let mut stopping = pin!(stop.ordered());
    let deadline = loop {
        let accepted = tokio::select! {
            biased;
            deadline = &mut stopping => break deadline,
            accepted = poll_fn(&mut poll_accept) => accepted,
        };
        match accepted {
            Ok(connection) => take(connection),
            Err(error) => failed(&receivers, &error).await,
        }
    };
    if receivers.inherited {
        return;
    }
    let until = receivers.shared.drain_until(deadline);
    let mut looked_again = false;
    while Instant::now() < until {
        match poll_fn(|cx| Poll::Ready(poll_accept(cx))).await {
            Poll::Ready(Ok(connection)) => {
                looked_again = false;
                take(connection);
            }
            // One that was reset meanwhile says nothing about those behind it.
            Poll::Ready(Err(error)) if is_reset(&error) => {}
            Poll::Ready(Err(_)) => return,
            // As when draining a stream: the reactor looks in the yield.
            Poll::Pending if looked_again => return,
            Poll::Pending => {
                looked_again = true;
                yield_now().await;
            }
        }
    }
}

/// Asks for keepalive, and for answers to go out at once; returns the peer as `allow` knows it.
fn prepare(receivers: &Receivers, tcp: &TcpStream, peer: SocketAddr, spoken: Spoken) -> IpAddr {
    let peer = peer.ip().to_canonical();
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 6);
    if let Err(error) = socket2::SockRef::from(tcp).set_tcp_keepalive(&keepalive) {
        debug!(input = %receivers.input.name, %peer, "cannot set keepalive: {error}");
    }
    if spoken == Spoken::Relp
        && let Err(error) = tcp.set_nodelay(true)
    {
        debug!(input = %receivers.input.name, %peer, "cannot turn Nagle's algorithm off: {error}");
    }
    peer
}

/// Gives the connection a task of its own, if the gate lets it in.
fn admit<F: Future<Output = ()> + 'static>(
    receivers: &Receivers,
    peer: Option<IpAddr>,
    task: impl FnOnce(Receivers, Place) -> F,
) {
    match receivers.gate.enter(&receivers.input, peer) {
        Ok(place) => {
            receivers.meters(|meters| meters.accepted.add(1));
            spawn_local(task(receivers.clone(), place));
        }
        Err(refusal) => refuse(receivers, peer, refusal),
    }
}

fn refuse(receivers: &Receivers, peer: Option<IpAddr>, refusal: Refusal) {
    let refused = count(receivers, |meters| refusal.counter(meters));
    if refused.is_power_of_two() {
        warn!(input = %receivers.input.name, ?peer, refused, "connection refused: {refusal}");
    }
}

/// Counts one; returns how many there have been.
fn count(receivers: &Receivers, of: impl Fn(&InputMeters) -> &Count) -> u64 {
    let mut all = 0;
    receivers.meters(|meters| {
        of(meters).add(1);
        all = of(meters).value();
    });
    all
}

/// What `beginning` comes to in time; `None` where the relay stops before.
async fn begun<T>(receivers: &Receivers, beginning: impl Future<Output = io::Result<T>>) -> Option<io::Result<T>> {
    let mut stop = receivers.stop.clone();
    tokio::select! {
        begun = timeout(HANDSHAKE_TIMEOUT, beginning) => {
            Some(begun.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut))))
        }
        // Who has connected just before the stop has sent its messages along with the beginning's last octets.
        () = async {
            let until = receivers.shared.drain_until(stop.ordered().await);
            sleep_until(until.min(Instant::now() + BEGINNING_AT_STOP)).await;
        } => None,
    }
}

/// A load balancer's connection: its header first, then the connection of the sender that it names.
async fn proxied(
    receivers: Receivers,
    mut place: Place,
    balancer: IpAddr,
    mut tcp: TcpStream,
    spoken: Spoken,
    secured: bool,
) {
    let header = match begun(&receivers, introduction(&mut tcp)).await {
        Some(Ok(Some(header))) => header,
        // It has only looked whether we listen, or we stop.
        Some(Ok(None)) | None => return,
        Some(Err(error)) if is_reset(&error) => return,
        Some(Err(error)) => {
            let refused = count(&receivers, |meters| &meters.refused_header);
            if refused.is_power_of_two() {
                let input = &receivers.input.name;
                warn!(%input, peer = %balancer, refused, "connection of a balancer (proxy_protocol) refused: {error}");
            }
            return;
        }
    };
    let peer = header.sender.unwrap_or(balancer);
    if let Err(refusal) = place.take_for(&receivers.input, peer) {
        refuse(&receivers, Some(peer), refusal);
    } else if secured {
        handshake(receivers, place, peer, tcp, spoken).await;
    } else {
        serve(receivers, place, Some(peer), tcp, spoken).await;
    }
}

async fn handshake(receivers: Receivers, place: Place, peer: IpAddr, tcp: TcpStream, spoken: Spoken) {
    let Some(server) = receivers.tls.clone() else { return };
    let acceptor = TlsAcceptor::from(server.config());
    match begun(&receivers, acceptor.accept(tcp)).await {
        None => {}
        Some(Ok(stream)) => serve(receivers, place, Some(peer), stream, spoken).await,
        Some(Err(error)) => {
            let failed = count(&receivers, |meters| &meters.refused_handshake);
            if failed.is_power_of_two() {
                warn!(input = %receivers.input.name, %peer, failed, "TLS handshake failed: {}", server.explain(&error));
            }
        }
    }
}

async fn serve(
    receivers: Receivers,
    place: Place,
    peer: Option<IpAddr>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    spoken: Spoken,
) {
    let open = receivers.counted(|meters| &meters.connections);
    match spoken {
        Spoken::Syslog => stream::serve(receivers, peer, stream).await,
        Spoken::Relp => relp::serve(receivers, peer, stream).await,
    }
    // Freed first: who sees fewer connections finds room for another.
    drop(place);
    drop(open);
}

async fn failed(receivers: &Receivers, error: &io::Error) {
    let errors = count(receivers, |meters| &meters.accept_errors);
    if errors.is_power_of_two() {
        warn!(input = %receivers.input.name, errors, "cannot accept a connection: {error}; trying again");
    }
    if !is_reset(error) {
        sleep(ACCEPT_PAUSE).await;
    }
}

/// Whether the connection was reset before we took it: no reason to wait for the next.
fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}
