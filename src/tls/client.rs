//! How we speak to one output's peers.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, InconsistentKeys, RootCertStore, SignatureScheme,
};

use crate::config::OutputTls;
use crate::metrics::OutputExpiries;

use super::TlsError;
use super::files::{anchors, certificates, private_key};
use super::presented::{Presented, subject_of};
use super::reload::{Loaded, Reloaded};
use super::verifier::{Servers, refused};

/// Authorities that a peer asks for and that are told; some ask for all that they know.
const ASKED_MAX: usize = 4;

/// TLS towards one output: TLS 1.2 and 1.3, the peer verified by name. Shared by all shards.
pub struct Client {
    loaded: Reloaded<ClientConfig>,
    tls: OutputTls,
    asked: Arc<Mutex<Option<String>>>,
}

impl Client {
    /// For the output `name`, from the files that `tls` names. `expiries` hears when certificates end.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn new(name: &str, tls: &OutputTls, expiries: &OutputExpiries) -> Result<Self, TlsError> {
        let asked = Arc::default();
        let files = tls.ca.iter().chain(tls.client.iter().flat_map(|(cert, key)| [cert, key])).cloned().collect();
        let (of_files, expiries, noted) = (tls.clone(), expiries.clone(), Arc::clone(&asked));
        let load = move || load(&of_files, &expiries, &noted);
        let loaded = Reloaded::new(format!("outputs.{name}.tls"), files, load)?;
        Ok(Self { loaded, tls: tls.clone(), asked })
    }

    /// What to connect with now: the next connection may be given another. Waits for no file.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.loaded.now().config)
    }

    /// Does what the first handshake of a process does once, a quarter of a second's work on a slow machine.
    pub fn warm_up(&self) {
        let hello = ServerName::try_from("localhost").map(|name| ClientConnection::new(self.config(), name).is_ok());
        tracing::trace!(?hello, "warmed up");
    }

    /// Reads the files again where they have changed. May wait for a disk.
    pub fn refresh(&self) {
        self.loaded.refresh();
    }

    /// Why a handshake or a connection failed, in words: what was presented, what was expected, what to do. To be asked on
    /// the thread of the connection, as soon as it has failed.
    pub fn explain(&self, error: &io::Error) -> String {
        match super::cause(error) {
            Some(Error::InvalidCertificate(why)) => refused(why).unwrap_or_else(|| error.to_string()),
            Some(Error::AlertReceived(alert)) => self.explain_alert(*alert),
            Some(Error::InvalidMessage(_)) => format!(
                "the peer's answer is not TLS ({error}): expected a port that speaks TLS; for plain TCP write to: tcp://…"
            ),
            None if error.kind() == io::ErrorKind::UnexpectedEof && error.to_string().contains("handshake") => {
                "the peer closed the connection in the middle of it: is this a port that speaks TLS?".to_owned()
            }
            _ => error.to_string(),
        }
    }

    /// An alert says what the peer thinks of us; RFC 8446 section 6.2.
    fn explain_alert(&self, alert: AlertDescription) -> String {
        const SET: &str = "set tls.client_cert and tls.client_key";
        let loaded = self.loaded.now();
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let demanded = asked.as_deref().unwrap_or("one");
        let ours = self.tls.client.as_ref().map(|(cert, _)| {
            let file = cert.display();
            loaded.ours.as_ref().map_or_else(|| file.to_string(), |ours| format!("{file}, {ours}"))
        });
        match (alert, ours) {
            (AlertDescription::ProtocolVersion, _) => {
                "the peer speaks neither TLS 1.2 nor TLS 1.3, and we nothing older".to_owned()
            }
            (AlertDescription::UnrecognisedName, _) => {
                "the peer has no certificate for that name: set tls.server_name to one that it knows".to_owned()
            }
            (AlertDescription::CertificateRequired, None) => {
                format!("the peer demands a client certificate ({demanded}), and we have none: {SET}")
            }
            (AlertDescription::HandshakeFailure | AlertDescription::BadCertificate, None) if asked.is_some() => {
                format!("the peer demands a client certificate ({demanded}), and we have none ({alert:?}): {SET}")
            }
            (AlertDescription::CertificateExpired, Some(ours)) => format!(
                "the peer says that our client certificate ({ours}) has expired: renew it, the file is read again by itself"
            ),
            (AlertDescription::UnknownCA, Some(ours)) => format!(
                "the peer does not trust the authority of our client certificate ({ours}); expected {demanded}: present \
                 another, the file is read again by itself"
            ),
            (
                AlertDescription::CertificateRequired
                | AlertDescription::HandshakeFailure
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                | AlertDescription::AccessDenied
                | AlertDescription::DecryptError,
                Some(ours),
            ) if asked.is_some() => format!(
                "the peer refused our client certificate ({ours}) with the alert {alert:?}; expected {demanded}"
            ),
            (AlertDescription::HandshakeFailure, _) => {
                "the peer refused (HandshakeFailure): there is no cipher that both know".to_owned()
            }
            _ => format!("the peer ended it with the alert {alert:?}"),
        }
    }
}

fn load(
    tls: &OutputTls,
    expiries: &OutputExpiries,
    asked: &Arc<Mutex<Option<String>>>,
) -> Result<Loaded<ClientConfig>, TlsError> {
    let (roots, trusted) = match &tls.ca {
        Some(path) => (anchors(path)?, format!("those in tls.ca ({})", path.display())),
        None => {
            let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            (roots, "Mozilla's roots (tls.ca is not set)".to_owned())
        }
    };
    let standard = WebPkiServerVerifier::builder(Arc::new(roots)).build();
    let standard = standard.map_err(|source| TlsError::Anchors { path: tls.ca.clone().unwrap_or_default(), source })?;
    let verifier = Servers { standard, anchors: trusted, expiry: Arc::clone(&expiries.peer) };
    let builder = ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let (key, ours) = match &tls.client {
        None => (None, None),
        Some((cert, key)) => {
            let chain = certificates(cert)?;
            let ours = chain.first().and_then(Presented::of);
            (Some(Arc::new(certified(chain, cert, key, builder.crypto_provider())?)), ours)
        }
    };
    if let Some(ours) = &ours {
        expiries.ours.set(ours.not_after);
    }
    let config = builder.with_client_cert_resolver(Arc::new(Asked { key, asked: Arc::clone(asked) }));
    Ok(Loaded { config: Arc::new(config), ours })
}

/// A chain with its key.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    cert: &std::path::Path,
    key: &std::path::Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    CertifiedKey::from_der(chain, private_key(key)?, provider).map_err(|source| match source {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::Mismatch { cert: cert.to_path_buf(), key: key.to_path_buf() }
        }
        source => TlsError::Refused { path: cert.to_path_buf(), source },
    })
}

/// What we present to a peer that asks, and a note of whom it asked for.
#[derive(Debug)]
struct Asked {
    key: Option<Arc<CertifiedKey>>,
    asked: Arc<Mutex<Option<String>>>,
}

impl ResolvesClientCert for Asked {
    fn resolve(&self, authorities: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let names: Vec<String> = authorities.iter().take(ASKED_MAX).filter_map(|name| subject_of(name)).collect();
        let more = if authorities.len() > ASKED_MAX { " or others" } else { "" };
        let asked =
            if names.is_empty() { "one".to_owned() } else { format!("one signed by {}{more}", names.join(" or ")) };
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

#[cfg(test)]
mod tests;
