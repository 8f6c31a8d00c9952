//! Why a command ends before it is done, and its exit code.

use std::io;
use std::process::ExitCode;

use super::run::EXIT_RUNTIME;
use super::{EXIT_USAGE, say};

/// Why a command ends early.
#[derive(Debug)]
pub(super) enum End {
    /// Something is wrong that is said to the operator.
    Wrong(anyhow::Error),
    /// The command line is.
    Usage(String),
    /// The configuration is; it has been reported.
    Config(ExitCode),
    /// Whoever reads what we write has seen enough.
    Closed,
}

impl End {
    /// Says what has not been said yet; the exit code.
    pub(super) fn told(self) -> ExitCode {
        match self {
            Self::Wrong(error) => {
                say(&format!("{error:#}\n"));
                ExitCode::from(EXIT_RUNTIME)
            }
            Self::Usage(mistake) => {
                say(&format!("{mistake}\n"));
                ExitCode::from(EXIT_USAGE)
            }
            Self::Config(code) => code,
            Self::Closed => ExitCode::SUCCESS,
        }
    }
}

impl From<anyhow::Error> for End {
    fn from(error: anyhow::Error) -> Self {
        Self::Wrong(error)
    }
}

/// Of what is written to standard output or a file: all else says more than the bare error.
impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Wrong(anyhow::Error::new(error).context("cannot write")),
        }
    }
}
