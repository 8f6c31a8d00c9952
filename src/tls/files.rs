//! PEM files, read whole; and whether they are still what was read.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// What tells a file from what it was before: a tool that writes anew changes at least one of them, and so does one that
/// puts another file, or another link, in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
    inode: u64,
}

/// The stamp of each of `files`, `None` for one that is not there.
pub(super) fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Stamp {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.size(),
            inode: metadata.ino(),
        })
    };
    files.iter().map(stamp).collect()
}

/// The certificates of a file as trust anchors.
pub(super) fn anchors(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Refused { path: path.to_path_buf(), source })?;
    }
    Ok(roots)
}

/// The certificates of a file, in its order: at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
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

/// The first private key of a file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    const EXPECTED: &str = "a private key";
    PrivateKeyDer::from_pem_file(path).map_err(|source| match source {
        pem::Error::NoItemsFound => TlsError::Empty { path: path.to_path_buf(), expected: EXPECTED },
        source => TlsError::Read { path: path.to_path_buf(), expected: EXPECTED, source },
    })
}
