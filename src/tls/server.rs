//! How the `tls://` listeners of one input speak.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::{AlertDescription, Error, ServerConfig};

use crate::config::InputTls;
use crate::metrics::Expiry;

use super::TlsError;
use super::client::certified;
use super::files::{anchors, certificates};
use super::presented::Presented;
use super::reload::{Loaded, Reloaded};
use super::verifier::{Clients, refused};

/// TLS of one input's listeners: TLS 1.2 and 1.3; clients are verified when `client_ca` is set. Shared by all shards.
pub struct Server {
    loaded: Reloaded<ServerConfig>,
    cert: PathBuf,
    client_ca: Option<PathBuf>,
}

/// Of whom a certificate is demanded, where `client_ca` is set.
#[derive(Debug, Clone, Copy)]
enum Demand {
    All,
    None,
}

impl Server {
    /// For the input `name`, from the files that `tls` names. `expiry` hears when the certificate ends.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn new(name: &str, tls: &InputTls, expiry: &Arc<Expiry>) -> Result<Self, TlsError> {
        Self::of(format!("inputs.{name}.tls"), tls, expiry, Demand::All)
    }

    /// For the admin server: whoever presents a certificate must present a good one, and nobody has to.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn for_admin(tls: &InputTls) -> Result<Self, TlsError> {
        Self::of("admin.tls".to_owned(), tls, &Arc::default(), Demand::None)
    }

    fn of(place: String, tls: &InputTls, expiry: &Arc<Expiry>, demand: Demand) -> Result<Self, TlsError> {
        let files = [&tls.cert, &tls.key].into_iter().chain(&tls.client_ca).cloned().collect();
        let (of_files, expiry) = (tls.clone(), Arc::clone(expiry));
        let loaded = Reloaded::new(place, files, move || load(&of_files, &expiry, demand))?;
        Ok(Self { loaded, cert: tls.cert.clone(), client_ca: tls.client_ca.clone() })
    }

    /// What to accept with now: the next connection may be given another. Waits for no file.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.now().config)
    }

    /// Reads the files again where they have changed. May wait for a disk.
    pub fn refresh(&self) {
        self.loaded.refresh();
    }

    /// Why a handshake failed, in words: what was presented, what was expected. To be asked on the thread of the handshake,
    /// as soon as it has failed.
    pub fn explain(&self, error: &io::Error) -> String {
        let client_ca = || self.client_ca.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        match super::cause(error) {
            Some(Error::InvalidCertificate(why)) => refused(why).unwrap_or_else(|| error.to_string()),
            Some(Error::NoCertificatesPresented) => format!(
                "the client presented no certificate; expected one that an authority of tls.client_ca ({}) signed",
                client_ca()
            ),
            Some(Error::AlertReceived(
                alert @ (AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnsupportedCertificate),
            )) => {
                let ours = self.loaded.now().ours.as_ref().map(|ours| format!(", {ours}")).unwrap_or_default();
                format!("the client does not trust our certificate ({}{ours}): it says {alert:?}", self.cert.display())
            }
            Some(Error::InvalidMessage(_)) => {
                format!("the client does not speak TLS ({error}): plain text goes to a tcp:// listener")
            }
            _ => error.to_string(),
        }
    }
}

fn load(tls: &InputTls, expiry: &Expiry, demand: Demand) -> Result<Loaded<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder();
    let provider = Arc::clone(builder.crypto_provider());
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let standard = WebPkiClientVerifier::builder(Arc::new(anchors(path)?));
            let standard = match demand {
                Demand::All => standard,
                Demand::None => standard.allow_unauthenticated(),
            };
            let standard = standard.build().map_err(|source| TlsError::Anchors { path: path.clone(), source })?;
            let anchors = format!("those in tls.client_ca ({})", path.display());
            builder.with_client_cert_verifier(Arc::new(Clients { standard, anchors }))
        }
    };
    let chain = certificates(&tls.cert)?;
    let ours = chain.first().and_then(Presented::of);
    let key = certified(chain, &tls.cert, &tls.key, &provider)?;
    if let Some(ours) = &ours {
        expiry.set(ours.not_after);
    }
    let config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    Ok(Loaded { config: Arc::new(config), ours })
}
