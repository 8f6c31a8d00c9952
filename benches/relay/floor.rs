//! The floor: the least that carrying these octets from TCP to TLS costs. It reads and writes, and looks at nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Serialize};

/// One read's octets: four full TLS records.
const READ: usize = 64 * 1024;

/// Where from and where to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Listens here.
    pub from: SocketAddr,
    /// Connects there for every connection it accepts.
    pub to: SocketAddr,
    /// Trusts this certificate.
    pub ca: PathBuf,
}

/// The process's main; ends with a signal.
pub fn main(order: &Order) -> anyhow::Result<()> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&order.ca)?)?;
    let config = Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
    let listener = TcpListener::bind(order.from)?;
    for stream in listener.incoming() {
        let (stream, config, to) = (stream?, Arc::clone(&config), order.to);
        thread::spawn(move || copy(stream, to, config));
    }
    Ok(())
}

fn copy(mut from: TcpStream, to: SocketAddr, config: Arc<rustls::ClientConfig>) -> anyhow::Result<()> {
    // Nothing is opened for a connection that says nothing.
    let mut buffer = vec![0; READ];
    let mut count = from.read(&mut buffer)?;
    let mut socket = TcpStream::connect(to)?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(super::sink::SERVER_NAME)?;
    let mut tls = rustls::ClientConnection::new(config, name)?;
    tls.set_buffer_limit(None);
    while count > 0 {
        tls.writer().write_all(buffer.get(..count).context("a read within its buffer")?)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        while tls.wants_write() {
            tls.write_tls(&mut socket)?;
        }
        count = from.read(&mut buffer)?;
    }
    tls.send_close_notify();
    while tls.wants_write() {
        tls.write_tls(&mut socket)?;
    }
    // Session tickets lie unread in our receive buffer: a close now would be a reset, and the reset would throw away
    // what the collector has not read yet.
    socket.shutdown(Shutdown::Write)?;
    std::io::copy(&mut socket, &mut std::io::sink())?;
    Ok(())
}
