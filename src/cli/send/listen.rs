//! The collector's place: takes what the relay sends, tells frames apart, and enters them into the books.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::config::limits;
use crate::syslog::{Decoder, Framing};

use super::books::Books;

/// One read's octets.
const READ_BYTES: usize = 64 * 1024;

/// How long the listener is left alone when an accept fails.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener with its books.
#[derive(Clone)]
pub(super) struct Listener {
    books: Arc<Mutex<Books>>,
    began: Instant,
    tls: Option<Arc<ServerConfig>>,
}

impl Listener {
    /// Starts listening, on threads that end with the process. Returns where.
    pub(super) fn start(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        books: Books,
        began: Instant,
    ) -> anyhow::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        let this = Self { books: Arc::new(Mutex::new(books)), began, tls };
        let accepting = this.clone();
        let accept = move || accepting.accept(&listener);
        thread::Builder::new().name("listen".into()).spawn(accept).context("cannot start a thread")?;
        Ok((this, address))
    }

    /// Looks into the books.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Books) -> T) -> T {
        look(&self.books.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn accept(&self, listener: &TcpListener) {
        loop {
            let Ok((stream, peer)) = listener.accept() else {
                thread::park_timeout(ACCEPT_PAUSE);
                continue;
            };
            let this = self.clone();
            let serve = move || {
                if let Err(error) = this.serve(stream) {
                    super::say(&format!("the connection from {peer} ended: {error}\n"));
                }
            };
            if let Err(error) = thread::Builder::new().name("connection".into()).spawn(serve) {
                super::say(&format!("cannot start a thread for {peer}: {error}\n"));
            }
        }
    }

    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        match &self.tls {
            None => self.read(&mut stream),
            Some(config) => {
                let server = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                let mut stream = StreamOwned::new(server, stream);
                self.read(&mut stream)?;
                // Answers the relay's close, so that it knows that everything was read.
                stream.conn.send_close_notify();
                stream.flush()
            }
        }
    }

    fn read(&self, stream: &mut impl Read) -> io::Result<()> {
        let mut decoder = Decoder::new(Framing::Auto, limits::MESSAGE_SIZE_MAX as usize);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = match stream.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let now_us = self.began.elapsed().as_micros() as u64;
            let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
            if count == 0 {
                while let Some(frame) = decoder.finish() {
                    books.enter(frame.bytes, now_us);
                }
                return Ok(());
            }
            let mut input = buffer.get(..count).unwrap_or_default();
            while let Some(frame) = decoder.next_frame(&mut input) {
                books.enter(frame.bytes, now_us);
            }
        }
    }
}
