//! TLS of both ends: verified as an output's is, or on request not at all.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};

use crate::config::{InputTls, OutputTls};
use crate::metrics::OutputExpiries;
use crate::tls;

/// How to trust the receiver.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust {
    /// PEM file of trust anchors.
    pub(super) ca: Option<PathBuf>,
    /// PEM files of our certificate and key.
    pub(super) client: Option<(PathBuf, PathBuf)>,
    /// Whatever it presents.
    pub(super) everybody: bool,
}

/// How we speak to the receiver.
pub(super) fn client(trust: &Trust) -> anyhow::Result<Arc<ClientConfig>> {
    let tls = OutputTls { ca: trust.ca.clone(), server_name: None, client: trust.client.clone() };
    let client = tls::Client::new("send", &tls, &OutputExpiries::default()).map_err(anyhow::Error::new)?;
    let config = client.config();
    if !trust.everybody {
        return Ok(config);
    }
    let mut config = ClientConfig::clone(&config);
    let provider = Arc::clone(config.crypto_provider());
    config.dangerous().set_certificate_verifier(Arc::new(Everybody(provider)));
    Ok(Arc::new(config))
}

/// How we speak to the relay that sends back.
pub(super) fn server(cert: &Path, key: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let tls = InputTls { cert: cert.to_owned(), key: key.to_owned(), client_ca: None };
    let server = tls::Server::new("send", &tls, &OutputExpiries::default().ours).context("--listen")?;
    Ok(server.config())
}

/// Takes any certificate; that its key is the peer's is still verified.
#[derive(Debug)]
struct Everybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Everybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
