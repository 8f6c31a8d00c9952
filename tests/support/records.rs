//! A TCP stream that knows where the TLS records that it carries begin and end (RFC 8446, section 5.1), and can end in
//! the middle of one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Type, version, length.
const HEADER: usize = 5;
/// Shorter ones are no records of data: alerts, tickets, the handshake's ends.
const LONG: usize = 100;

/// Asked at each record.
pub type Cuts = Box<dyn Fn() -> bool + Send>;

/// Reads never cross the border of a record.
pub struct Records {
    pub tcp: TcpStream,
    /// Whether it shall end in the middle of the next long record; without it there are no records.
    cuts: Option<Cuts>,
    header: Vec<u8>,
    /// Octets of the record's body that are still to come.
    left: usize,
    /// Octets of it that are not to be read.
    withheld: usize,
    /// Whether it has ended so.
    pub is_cut: bool,
}

impl Records {
    pub fn new(tcp: TcpStream, cuts: Option<Cuts>) -> Self {
        Self { tcp, cuts, header: Vec::new(), left: 0, withheld: 0, is_cut: false }
    }

    /// Takes note of octets that were read.
    fn advance(&mut self, octets: &[u8]) {
        if self.left > 0 {
            self.left -= octets.len();
            return;
        }
        self.header.extend_from_slice(octets);
        if self.header.len() < HEADER {
            return;
        }
        self.left = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
        self.header.clear();
        if self.left >= LONG && self.cuts.as_ref().is_some_and(|cuts| cuts()) {
            self.withheld = self.left / 2;
        }
    }
}

impl AsyncRead for Records {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.cuts.is_none() {
            return Pin::new(&mut this.tcp).poll_read(cx, buffer);
        }
        let wanted = if this.left > 0 { this.left - this.withheld } else { HEADER - this.header.len() };
        if wanted == 0 {
            this.is_cut = true;
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let mut part = buffer.take(wanted);
        ready!(Pin::new(&mut this.tcp).poll_read(cx, &mut part))?;
        let count = part.filled().len();
        this.advance(part.filled());
        let before = buffer.filled().len();
        buffer.initialize_unfilled_to(count);
        buffer.set_filled(before + count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Records {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(cx, octets)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}
