//! TLS on both sides: certificates read from files into rustls configurations, before any socket opens, and again when the
//! files change; and what goes wrong with them, in words.

use std::io;
use std::path::PathBuf;

use rustls::pki_types::pem;

pub use client::Client;
pub use presented::{Presented, stamp};
pub use server::Server;
pub use session::Session;
pub use verifier::refused_chain;

mod client;
mod files;
mod presented;
mod reload;
mod server;
mod session;
mod verifier;

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
    /// The key is another certificate's.
    #[error("{} is not the key of the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's.
        key: PathBuf,
    },
    /// Certificate or key are of a kind that is not supported.
    #[error("cannot use {}: {source}", path.display())]
    Refused {
        /// The certificate's file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The trust anchors cannot be used.
    #[error("cannot use {} to verify certificates: {source}", path.display())]
    Anchors {
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

/// What rustls says is the matter, where it is that.
fn cause(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
