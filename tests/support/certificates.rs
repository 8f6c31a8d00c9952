//! An authority, and certificates of its making, in files of a directory that goes away with it.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
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
    pub server: Pair,
    pub client: Pair,
    pub stranger: Pair,
}

impl Certificates {
    pub fn new() -> Self {
        forebay::tls::install_provider();
        let directory = tempfile::tempdir().unwrap();
        let (ca, issuer) = authority("an authority");
        let (_, unknown) = authority("another authority");
        let ca_path = directory.path().join("ca.pem");
        std::fs::write(&ca_path, ca).unwrap();
        let pair = |name: &str, names: &[&str], issuer: &Issuer<'static, KeyPair>| {
            let key = KeyPair::generate().unwrap();
            let mut params =
                CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            let cert = params.signed_by(&key, issuer).unwrap();
            let pair = Pair {
                cert: directory.path().join(format!("{name}.pem")),
                key: directory.path().join(format!("{name}.key")),
            };
            std::fs::write(&pair.cert, cert.pem()).unwrap();
            std::fs::write(&pair.key, key.serialize_pem()).unwrap();
            pair
        };
        Self {
            ca: ca_path,
            server: pair("server", &["localhost", "127.0.0.1", "::1"], &issuer),
            client: pair("client", &["client.test"], &issuer),
            stranger: pair("stranger", &["localhost", "127.0.0.1", "::1"], &unknown),
            directory,
        }
    }

    /// How a server speaks that presents `pair`.
    pub fn server_config(&self, pair: &Pair) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder().with_no_client_auth();
        Arc::new(builder.with_single_cert(chain(&pair.cert), key(&pair.key)).unwrap())
    }

    /// How a sender speaks: trusts the authority, presents `pair` when given.
    pub fn client_config(&self, pair: Option<&Pair>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in chain(&self.ca) {
            roots.add(certificate).unwrap();
        }
        let builder = ClientConfig::builder().with_root_certificates(roots);
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

fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let pem = params.self_signed(&key).unwrap().pem();
    (pem, Issuer::new(params, key))
}

/// A file's certificates.
pub fn chain(path: &PathBuf) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).unwrap().collect::<Result<_, _>>().unwrap()
}

/// A file's key.
pub fn key(path: &PathBuf) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(path).unwrap()
}
