//! An authority, and certificates of its making, in files of a directory that goes away with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;

/// A certificate and its key, PEM files.
#[derive(Debug, Clone)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// An authority's certificate `ca`, a server's and a client's certificate that it signed, and a server's that nobody
/// has a reason to trust.
pub struct Certificates {
    directory: TempDir,
    pub ca: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// The certificate of the authority that signed the stranger's.
    pub strange_ca: PathBuf,
    strange_issuer: Issuer<'static, KeyPair>,
    pub server: Pair,
    pub client: Pair,
    pub stranger: Pair,
}

impl Certificates {
    pub fn new() -> Self {
        forebay::tls::install_provider();
        let directory = tempfile::tempdir().unwrap();
        let (ca, issuer) = authority("an authority");
        let (strange_ca, strange_issuer) = authority("another authority");
        let ca_path = directory.path().join("ca.pem");
        std::fs::write(&ca_path, ca).unwrap();
        let strange_ca_path = directory.path().join("strange-ca.pem");
        std::fs::write(&strange_ca_path, strange_ca).unwrap();
        let pair = |name: &str, names: &[&str], issuer: &Issuer<'static, KeyPair>| {
            pair(directory.path(), name, names, issuer, |_| {})
        };
        Self {
            ca: ca_path,
            server: pair("server", &["localhost", "127.0.0.1", "::1"], &issuer),
            client: pair("client", &["client.test"], &issuer),
            stranger: pair("stranger", &["localhost", "127.0.0.1", "::1"], &strange_issuer),
            issuer,
            strange_ca: strange_ca_path,
            strange_issuer,
            directory,
        }
    }

    /// Another certificate of the authority's, for `names`, with what `edit` makes of it; its files are called `name`.
    pub fn issue(&self, name: &str, names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> Pair {
        pair(self.directory.path(), name, names, &self.issuer, edit)
    }

    /// The same of the authority that nobody trusts.
    pub fn issue_strange(&self, name: &str, names: &[&str]) -> Pair {
        pair(self.directory.path(), name, names, &self.strange_issuer, |_| {})
    }

    /// How a server speaks that presents its own certificate and demands one of the authority's, with these versions of TLS.
    pub fn demanding(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(chain(&self.ca).remove(0)).unwrap();
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        let builder = ServerConfig::builder_with_protocol_versions(versions).with_client_cert_verifier(verifier);
        Arc::new(builder.with_single_cert(chain(&self.server.cert), key(&self.server.key)).unwrap())
    }

    /// How a server speaks that presents `pair`.
    pub fn server_config(&self, pair: &Pair) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder().with_no_client_auth();
        Arc::new(builder.with_single_cert(chain(&pair.cert), key(&pair.key)).unwrap())
    }

    /// How a sender speaks: trusts the authority, presents `pair` when given.
    pub fn client_config(&self, pair: Option<&Pair>) -> Arc<ClientConfig> {
        self.client_config_of(rustls::ALL_VERSIONS, pair)
    }

    /// The same, with these versions of TLS only.
    pub fn client_config_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        pair: Option<&Pair>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in chain(&self.ca) {
            roots.add(certificate).unwrap();
        }
        let builder = ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots);
        Arc::new(match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => builder.with_client_auth_cert(chain(&pair.cert), key(&pair.key)).unwrap(),
        })
    }

    /// `tls:` of an input, in flow style: the server's certificate.
    pub fn input_tls(&self) -> String {
        format!("cert: {}, key: {}", self.server.cert.display(), self.server.key.display())
    }
}

fn pair(
    directory: &Path,
    name: &str,
    names: &[&str],
    issuer: &Issuer<'static, KeyPair>,
    edit: impl FnOnce(&mut CertificateParams),
) -> Pair {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    edit(&mut params);
    let cert = params.signed_by(&key, issuer).unwrap();
    let pair = Pair { cert: directory.join(format!("{name}.pem")), key: directory.join(format!("{name}.key")) };
    std::fs::write(&pair.cert, cert.pem()).unwrap();
    write_private(&pair.key, key.serialize_pem());
    pair
}

fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let pem = params.self_signed(&key).unwrap().pem();
    (pem, Issuer::new(params, key))
}

/// Writes what its owner alone may read: a key.
pub fn write_private(path: &Path, content: impl AsRef<[u8]>) {
    std::fs::write(path, content).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, mode).unwrap();
}

/// A file's certificates.
pub fn chain(path: &PathBuf) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).unwrap().collect::<Result<_, _>>().unwrap()
}

/// A file's key.
pub fn key(path: &PathBuf) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(path).unwrap()
}
