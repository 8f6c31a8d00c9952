//! From a source to a configuration, or to one report of all that is wrong with it.

use std::path::PathBuf;

use super::places::Places;
use super::protect::KeyFiles;
use super::report::{Mistake, Mistakes, Report};
use super::source::Source;
use super::{Config, Note, expand, foreign, intakes, path, raw, resolve, schema, tree};

/// A configuration, and what is odd about it without being wrong.
#[derive(Debug)]
pub struct Loaded {
    /// Ready to run.
    pub config: Config,
    /// Sorted as a report is.
    pub warnings: Vec<Mistake>,
    /// What has become of the constructs of other programs' configurations.
    pub notes: Vec<Note>,
    /// Files that the configuration stands in, and those that it names: all that are read.
    pub files: Vec<PathBuf>,
    /// The files and folders that a changed configuration is seen by: those above, but certificates, and folders of files.
    pub read_again: Vec<PathBuf>,
    /// Where its keys stand.
    pub places: Places,
}

/// Reads, checks and resolves a configuration. `environment` looks variables up. Opens no socket and writes nothing;
/// reads the files that the configuration names.
///
/// A syntax error or an unreadable file is reported alone; all other mistakes are reported together.
///
/// Of [`Source::Intakes`] only what concerns all intakes is a mistake, unless it is to be taken strictly: what cannot be
/// used otherwise is in [`Config::left_out`].
///
/// Files that hold keys and are readable by everybody on the machine are mistakes: [`load_with`] takes them as well.
pub fn load(source: &Source, environment: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Report> {
    load_with(source, environment, KeyFiles::Private)
}

/// As [`load`], with a say on `key_files`.
///
/// # Errors
/// Those of [`load`].
pub fn load_with(
    source: &Source,
    environment: &dyn Fn(&str) -> Option<String>,
    key_files: KeyFiles,
) -> Result<Loaded, Report> {
    if let Source::Intakes { path, strict } = source {
        return intakes::load(path, *strict, environment, key_files);
    }
    let mut mistakes = Mistakes::default();
    match source.read(environment, &mut mistakes) {
        Ok(tree) => load_tree(tree, mistakes, source, environment, key_files),
        Err(fault) => Err(Report::new(vec![fault])),
    }
}

/// Checks and resolves the tree that `source` gave. `mistakes` are those of the reading.
pub(super) fn load_tree(
    mut tree: tree::Node,
    mut mistakes: Mistakes,
    source: &Source,
    environment: &dyn Fn(&str) -> Option<String>,
    key_files: KeyFiles,
) -> Result<Loaded, Report> {
    let unexpanded = expand::expand_all(&mut tree, environment, &mut mistakes);
    let Ok(notes) = foreign::merge_all(&mut tree, source, &mut mistakes) else { return Err(Report::new(mistakes.0)) };
    let mut check = schema::Check { mistakes: &mut mistakes, unexpanded, refused: Vec::new() };
    let mut value = check.value(&tree, &schema::ROOT, &path::Path::root()).unwrap_or(serde_yaml::Value::Null);
    let refused = check.refused;
    if let serde_yaml::Value::Mapping(map) = &mut value {
        // What it names is in the tree by now.
        map.remove("rsyslog");
    }
    let raw: raw::File = match serde_yaml::from_value(value) {
        Ok(raw) => raw,
        Err(error) => {
            // A document that is no map at all was reported; besides, the schema lets nothing through that the shapes refuse.
            if mistakes.0.is_empty() {
                mistakes.add(&tree.at, &"", format!("not understood: {error}"));
            }
            raw::File::default()
        }
    };
    let folders = resolve::Folders {
        own: source.directory(),
        credentials: environment("CREDENTIALS_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from),
        key_files,
    };
    let loaded = resolve::resolve(&tree, raw, refused, &folders, mistakes)?;
    Ok(Loaded { notes, places: Places::of(&tree), ..loaded })
}
