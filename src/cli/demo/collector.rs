//! The collector in Sekoia's place: takes octet-counted frames over TLS (RFC 5425) and hands each on as it arrived.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel as channel;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::warn;

use crate::config::limits;
use crate::syslog::{Decoder, Framing};

use super::Event;

/// One read's octets: a TLS record, and a little more.
const READ_BYTES: usize = 20 * 1024;

/// A relay on the same machine needs a few milliseconds.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to leave the listener alone when an accept fails.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A message as the collector read it, its trailing LF included.
#[derive(Debug)]
pub(super) struct Arrival {
    /// When.
    pub(super) at: Instant,
    /// Its octets.
    pub(super) octets: Vec<u8>,
}

/// Starts the collector on a thread of its own; it ends with the process. Returns where it listens.
pub(super) fn start(server: Arc<rustls::ServerConfig>, events: channel::Sender<Event>) -> anyhow::Result<SocketAddr> {
    let listener = StdTcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .context("the collector cannot listen on 127.0.0.1 (is the loopback interface up? `ip address show lo`)")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || runtime.block_on(accept(listener, TlsAcceptor::from(server), events));
    thread::Builder::new().name("collector".into()).spawn(serve).context("cannot start a thread")?;
    Ok(address)
}

async fn accept(listener: StdTcpListener, acceptor: TlsAcceptor, events: channel::Sender<Event>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return warn!("the collector cannot accept connections: {error}"),
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (acceptor, events) = (acceptor.clone(), events.clone());
                #[expect(clippy::disallowed_methods, reason = "a thread of its own, which no stop waits for")]
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, acceptor, events).await {
                        warn!("a connection to the collector ended: {error}");
                    }
                });
            }
            Err(error) => {
                warn!("the collector cannot accept a connection: {error}; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, events: channel::Sender<Event>) -> std::io::Result<()> {
    let mut stream = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await??;
    let mut decoder = Decoder::new(Framing::Octet, limits::MESSAGE_SIZE_MAX as usize);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = stream.read(&mut buffer).await?;
        let at = Instant::now();
        if count == 0 {
            // Answers the relay's close, so that it knows that everything was read.
            return stream.shutdown().await;
        }
        let mut input = buffer.get(..count).unwrap_or_default();
        while let Some(frame) = decoder.next_frame(&mut input) {
            let arrival = Arrival { at, octets: frame.bytes.to_vec() };
            // Waits while the terminal is slow, as any collector may; the relay then keeps what follows.
            if events.send(Event::Arrived(arrival)).is_err() {
                return Ok(());
            }
        }
    }
}
