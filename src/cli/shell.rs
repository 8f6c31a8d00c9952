//! `forebay completions` and `forebay man`: what shells and `man` want to know, made of the definition that parses argv.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;
use clap_mangen::Man;

use super::run::EXIT_RUNTIME;
use super::{definition, print, say};

/// What both know the program as.
const NAME: &str = "forebay";

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell that reads the script.
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct Manual {
    /// Folder, made where it is missing, for one page a command: forebay.1, forebay-run.1 and so on. Without it forebay.1 is
    /// printed.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Prints the script.
pub(super) fn completions(options: &Completions) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut definition(), NAME, &mut script);
    print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

/// Prints the page, or writes all of them.
pub(super) fn manual(options: &Manual) -> ExitCode {
    let done = match &options.folder {
        Some(folder) => std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(definition(), folder)),
        None => {
            let mut page = Vec::new();
            Man::new(definition()).render(&mut page).map(|()| print(&String::from_utf8_lossy(&page)))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let place = options.folder.as_ref().map(|folder| format!(" in {}", folder.display())).unwrap_or_default();
            say(&format!("cannot write manual pages{place}: {error}\n"));
            ExitCode::from(EXIT_RUNTIME)
        }
    }
}
