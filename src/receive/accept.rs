//! Accepting connections. A loop that nothing ends but the stop: not EMFILE, not a reset, not a slow handshake.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::Receivers;
use super::gate::Place;
use super::stream;

/// A client that has not finished its TLS handshake by then is let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to leave a listener alone whose accept fails (open files or memory exhausted).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Keepalive of accepted connections: a sender that vanished without a word is found within three minutes.
const KEEPALIVE: Duration = Duration::from_secs(120);

/// Starts accepting plain TCP.
pub(super) fn spawn_tcp(receivers: Receivers, listener: StdTcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    spawn_local(accept_tcp(receivers, listener, false));
    Ok(())
}

/// Starts accepting TLS.
pub(super) fn spawn_tls(receivers: Receivers, listener: StdTcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    spawn_local(accept_tcp(receivers, listener, true));
    Ok(())
}

/// Starts accepting unix streams.
pub(super) fn spawn_unix(receivers: Receivers, listener: StdUnixListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    spawn_local(async move {
        let mut stop = receivers.stop.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.ordered() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => admit(&receivers, None, |receivers, place| serve(receivers, place, None, stream)),
                Err(error) => failed(&receivers, &error).await,
            }
        }
    });
    Ok(())
}

async fn accept_tcp(receivers: Receivers, listener: TcpListener, tls: bool) {
    let mut stop = receivers.stop.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.ordered() => return,
            accepted = listener.accept() => accepted,
        };
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                failed(&receivers, &error).await;
                continue;
            }
        };
        let peer = peer.ip().to_canonical();
        let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 6);
        if let Err(error) = socket2::SockRef::from(&tcp).set_tcp_keepalive(&keepalive) {
            debug!(input = %receivers.input.name, %peer, "cannot set keepalive: {error}");
        }
        if tls {
            admit(&receivers, Some(peer), |receivers, place| handshake(receivers, place, peer, tcp));
        } else {
            admit(&receivers, Some(peer), |receivers, place| serve(receivers, place, Some(peer), tcp));
        }
    }
}

/// Gives the connection a task of its own, if the gate lets it in.
fn admit<F: Future<Output = ()> + 'static>(
    receivers: &Receivers,
    peer: Option<std::net::IpAddr>,
    task: impl FnOnce(Receivers, Place) -> F,
) {
    match receivers.gate.enter(&receivers.input, peer) {
        Ok(place) => {
            receivers.meters(|meters| meters.accepted.add(1));
            spawn_local(task(receivers.clone(), place));
        }
        Err(refusal) => {
            let mut refused = 0;
            receivers.meters(|meters| {
                refusal.counter(meters).add(1);
                refused = refusal.counter(meters).value();
            });
            if refused.is_power_of_two() {
                warn!(input = %receivers.input.name, ?peer, refused, "connection refused: {refusal}");
            }
        }
    }
}

async fn handshake(receivers: Receivers, place: Place, peer: std::net::IpAddr, tcp: TcpStream) {
    let Some(acceptor) = receivers.tls.clone() else { return };
    let mut stop = receivers.stop.clone();
    let accepted = tokio::select! {
        _ = stop.ordered() => return,
        accepted = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)) => accepted,
    };
    let accepted = accepted.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
    match accepted {
        Ok(stream) => serve(receivers, place, Some(peer), stream).await,
        Err(error) => {
            let mut failed = 0;
            receivers.meters(|meters| {
                meters.refused_handshake.add(1);
                failed = meters.refused_handshake.value();
            });
            if failed.is_power_of_two() {
                warn!(input = %receivers.input.name, %peer, failed, "TLS handshake failed: {error}");
            }
        }
    }
}

async fn serve(receivers: Receivers, place: Place, peer: Option<std::net::IpAddr>, stream: impl AsyncRead + Unpin) {
    receivers.meters(|meters| meters.connections.add(1));
    let closing = receivers.clone();
    stream::serve(receivers, peer, stream).await;
    // Freed first: who sees fewer connections finds room for another.
    drop(place);
    closing.meters(|meters| meters.connections.add(-1));
}

async fn failed(receivers: &Receivers, error: &io::Error) {
    let mut errors = 0;
    receivers.meters(|meters| {
        meters.accept_errors.add(1);
        errors = meters.accept_errors.value();
    });
    if errors.is_power_of_two() {
        warn!(input = %receivers.input.name, errors, "cannot accept a connection: {error}; trying again");
    }
    // A connection that was reset before we took it is no reason to wait.
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        sleep(ACCEPT_PAUSE).await;
    }
}
