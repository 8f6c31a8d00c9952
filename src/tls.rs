//! TLS on both sides: certificates read from files into rustls configurations, before any socket opens.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::{InputTls, OutputTls};

/// Why certificates cannot be used. Names the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read, or is not PEM.
    #[error("cannot read {}: {source} (expected a PEM file with {expected})", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// Why not.
        source: pem::Error,
    },
    /// The file is readable, and holds nothing of what it should.
    #[error("{} holds no {expected} in PEM form", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// Certificate and key do not fit together, or are of a kind that is not supported.
    #[error("cannot use {}: {source}", path.display())]
    Refused {
        /// The certificate's file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The trust anchors for client certificates cannot be used.
    #[error("cannot use {} to verify clients: {source}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::client::VerifierBuilderError,
    },
}

/// Makes aws-lc-rs the process's provider of cryptography. Calling it again does no harm.
pub fn install_provider() {
    // The error only says that one is installed already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

/// How we speak to a `tls://` destination. TLS 1.2 and 1.3, the peer verified by name.
///
/// # Errors
/// When a file cannot be used.
pub fn client_config(tls: &OutputTls) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match &tls.ca {
        Some(path) => anchors(path)?,
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
    };
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => builder
            .with_client_auth_cert(certificates(cert)?, private_key(key)?)
            .map_err(|source| TlsError::Refused { path: cert.clone(), source })?,
    };
    Ok(Arc::new(config))
}

/// How a `tls://` listener speaks. Clients are verified when `client_ca` is set.
///
/// # Errors
/// When a file cannot be used.
pub fn server_config(tls: &InputTls) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder();
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder(Arc::new(anchors(path)?))
                .build()
                .map_err(|source| TlsError::ClientCa { path: path.clone(), source })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder
        .with_single_cert(certificates(&tls.cert)?, private_key(&tls.key)?)
        .map_err(|source| TlsError::Refused { path: tls.cert.clone(), source })?;
    Ok(Arc::new(config))
}

fn anchors(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Refused { path: path.to_path_buf(), source })?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const EXPECTED: &str = "certificates";
    let read = |source| TlsError::Read { path: path.to_path_buf(), expected: EXPECTED, source };
    let file = File::open(path).map_err(|error| read(pem::Error::Io(error)))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(io::BufReader::new(file)).collect();
    let certificates = certificates.map_err(read)?;
    if certificates.is_empty() {
        return Err(TlsError::Empty { path: path.to_path_buf(), expected: EXPECTED });
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    const EXPECTED: &str = "a private key";
    PrivateKeyDer::from_pem_file(path).map_err(|source| match source {
        pem::Error::NoItemsFound => TlsError::Empty { path: path.to_path_buf(), expected: EXPECTED },
        source => TlsError::Read { path: path.to_path_buf(), expected: EXPECTED, source },
    })
}
