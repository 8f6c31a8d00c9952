//! Files: whether they can be written. Nothing of them is.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use super::report::{Failure, Place};

/// Opens the file where it is there, or makes another one beside it for a moment, and writes nothing.
pub(super) fn file(path: &Path) -> Place {
    let failure = look(path).err().map(|error| Failure {
        step: "file",
        what: format!("cannot write {}: {error}", path.display()),
        next: "make its folder, and have it writable for the user that the relay runs as (run this check as that user)"
            .to_owned(),
    });
    Place {
        target: path.display().to_string(),
        proxy: None,
        resolved_by: None,
        resolved_ms: None,
        has_long_published_address: None,
        notes: failure
            .is_none()
            .then(|| "it can be written by the user of this check".to_owned())
            .into_iter()
            .collect(),
        failure,
        addresses: Vec::new(),
    }
}

fn look(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => OpenOptions::new().append(true).open(path).map(drop),
        Ok(_) => Err(io::Error::other("it is no regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let beside = path.with_file_name(format!(".forebay-check-{}", std::process::id()));
            OpenOptions::new().write(true).create_new(true).open(&beside)?;
            fs::remove_file(beside)
        }
        Err(error) => Err(error),
    }
}
