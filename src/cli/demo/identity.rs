//! The certificate of the demo's collector: made for one run, known to nobody else.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The name that the certificate carries, and that the relay verifies.
const SERVER_NAME: &str = "localhost";

/// The collector's TLS, and the authority that signed its certificate in a file, as the relay's configuration wants it.
/// The file is in a directory of its own that nobody else can read, removed when this is dropped.
pub(super) struct Identity {
    /// What the collector shows.
    pub(super) server: Arc<rustls::ServerConfig>,
    /// PEM file of the authority.
    pub(super) ca: PathBuf,
    directory: PathBuf,
}

impl Identity {
    /// Makes an authority, lets it sign a certificate, and forgets the authority's key.
    pub(super) fn new() -> anyhow::Result<Self> {
        let authority_key = rcgen::KeyPair::generate()?;
        let mut authority = rcgen::CertificateParams::new(Vec::new())?;
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, "forebay demo authority");
        let pem = authority.self_signed(&authority_key)?.pem();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate()?;
        let mut parameters = rcgen::CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
        parameters.distinguished_name.push(rcgen::DnType::CommonName, SERVER_NAME);
        let certificate: CertificateDer<'static> = parameters.signed_by(&key, &issuer)?.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
        let directory = private_directory()?;
        let ca = directory.join("ca.pem");
        // From here on dropping it removes the directory.
        let identity = Self { server: Arc::new(server), ca, directory };
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&identity.ca)
            .and_then(|mut file| file.write_all(pem.as_bytes()))
            .with_context(|| format!("cannot write {}", identity.ca.display()))?;
        Ok(identity)
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        // What cannot be removed holds no secret: an authority's certificate whose key is gone.
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// A new directory that is ours alone: creating it fails where somebody was there before us.
fn private_directory() -> anyhow::Result<PathBuf> {
    let name = format!("forebay-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
    let path = std::env::temp_dir().join(name);
    DirBuilder::new()
        .mode(0o700)
        .create(&path)
        .with_context(|| format!("cannot create {} (set TMPDIR to a directory you may write to)", path.display()))?;
    Ok(path)
}
