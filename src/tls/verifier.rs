//! The standard verification, with a note of what it refused.
//!
//! rustls tells why it refuses a certificate, and little of which one that was. The verdict is its own, always; what these
//! add is a sentence, left on the thread for whoever reports the failed handshake: a handshake fails in the same poll in
//! which its certificate is refused, so nothing can come between the two.

use std::cell::RefCell;
use std::mem::discriminant;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::metrics::Expiry;

use super::presented::{Presented, clean, end_of, stamp};

thread_local! {
    /// What this thread refused last, and in what words.
    static REFUSED: RefCell<Option<(CertificateError, String)>> = const { RefCell::new(None) };

    /// The server's chain that came with it.
    static CHAIN: RefCell<Vec<Presented>> = const { RefCell::new(Vec::new()) };
}

/// The chain of the server whose certificate this thread has just refused; empty where it refused none. To be asked as soon
/// as the handshake has failed.
pub fn refused_chain() -> Vec<Presented> {
    CHAIN.take()
}

/// The words for `error`, if this thread has just refused a certificate for that.
pub(super) fn refused(error: &CertificateError) -> Option<String> {
    let (noted, words) = REFUSED.take()?;
    (discriminant(&noted) == discriminant(error)).then_some(words)
}

fn note<T>(verdict: &Result<T, Error>, words: impl FnOnce(&CertificateError) -> String) {
    REFUSED.set(match verdict {
        Err(Error::InvalidCertificate(error)) => Some((error.clone(), words(error))),
        _ => None,
    });
}

/// Who presented a certificate, and what would have been right.
#[derive(Debug)]
struct Expected<'a> {
    /// "the peer" or "the client".
    who: &'a str,
    /// What it had to be for.
    name: Option<&'a str>,
    /// Whom we trust.
    anchors: &'a str,
}

/// Verifies servers.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) standard: Arc<WebPkiServerVerifier>,
    /// Whom `standard` trusts, in words.
    pub(super) anchors: String,
    /// When what was presented last ends.
    pub(super) expiry: Arc<Expiry>,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(end) = end_of(end_entity) {
            self.expiry.set(end);
        }
        let verdict = self.standard.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        note(&verdict, |error| {
            let name = server_name.to_str();
            let expected = Expected { who: "the peer", name: Some(&name), anchors: &self.anchors };
            CHAIN.set(std::iter::once(end_entity).chain(intermediates).filter_map(Presented::of).collect());
            words(error, end_entity, intermediates, &expected)
        });
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.standard.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.standard.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.standard.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.standard.requires_raw_public_keys()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.standard.root_hint_subjects()
    }
}

/// Verifies clients.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) standard: Arc<dyn ClientCertVerifier>,
    /// Whom `standard` trusts, in words.
    pub(super) anchors: String,
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        self.standard.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.standard.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.standard.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verdict = self.standard.verify_client_cert(end_entity, intermediates, now);
        note(&verdict, |error| {
            let expected = Expected { who: "the client", name: None, anchors: &self.anchors };
            words(error, end_entity, intermediates, &expected)
        });
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.standard.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.standard.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.standard.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.standard.requires_raw_public_keys()
    }
}

/// What was presented, what was expected, and what to do.
fn words(
    error: &CertificateError,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    expected: &Expected<'_>,
) -> String {
    let Expected { who, anchors, .. } = expected;
    // Some of them list what the certificate holds.
    let text = || match error {
        CertificateError::Other(other) => clean(&other.to_string()),
        other => clean(&other.to_string()),
    };
    let Some(leaf) = Presented::of(end_entity) else {
        return format!("{who} presented what is no certificate: {}", text());
    };
    // The chain as it came. One of its middle may have expired as well as the first.
    let chain = || intermediates.iter().filter_map(Presented::of);
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            let (now, end) = (seconds(*time), seconds(*not_after));
            let of = whose(&leaf, chain().find(|one| one.not_after == end), leaf.not_after == end, who);
            format!(
                "{of} expired on {} (now {}): {who} must renew it; check this machine's clock too",
                stamp(end),
                stamp(now)
            )
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let (now, begin) = (seconds(*time), seconds(*not_before));
            let of = whose(&leaf, chain().find(|one| one.not_before == begin), leaf.not_before == begin, who);
            format!("{of} is valid from {} on only (now {}): check both machines' clocks", stamp(begin), stamp(now))
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            let issuer = match chain().next_back() {
                Some(last) => last.issuer,
                None if leaf.is_self_issued => "itself".to_owned(),
                None => leaf.issuer.clone(),
            };
            let trust = match expected.name {
                Some(_) => "set tls.ca to the file of that authority if the peer is the right one",
                None => "add that authority to tls.client_ca if the client is to be let in",
            };
            format!(
                "{who}'s certificate is {leaf}, signed by an authority that is not trusted (issuer: {issuer}); \
                 expected one of {anchors}: {trust}"
            )
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "{who}'s certificate is {leaf}; expected one for {}: if this is the right peer, set tls.server_name to a name of \
             its certificate",
            expected.name.unwrap_or_default()
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            let purpose = if expected.name.is_some() { "servers" } else { "clients" };
            format!("{who}'s certificate is {leaf}, and not made for {purpose} (extended key usage): {}", text())
        }
        _ => format!("{who}'s certificate, {leaf}, is refused: {}", text()),
    }
}

/// Whose certificate it is that is out of its time: the first of the chain's, or an authority's behind it.
fn whose(leaf: &Presented, other: Option<Presented>, is_leaf: bool, who: &str) -> String {
    match other.filter(|_| !is_leaf) {
        Some(authority) => {
            format!("the certificate of the authority {} in {who}'s chain", authority.names())
        }
        None => format!("{who}'s certificate for {} (issued by {})", leaf.names(), leaf.issuer),
    }
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
