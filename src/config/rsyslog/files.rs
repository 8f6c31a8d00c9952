//! The files of an rsyslog configuration: those that are named, those that they include, globs.

use std::io::Read;
use std::path::{Component, Path as FilePath, PathBuf};
use std::sync::Arc;

use super::notes::Notes;
use super::parse::parse;
use super::syntax::{Kind, Object, Statement};
use crate::config::limits;
use crate::config::report::{Mistake, Mistakes, Position};
use crate::route::Name;

/// Files that include files. rsyslog's own limit is 10.
const INCLUDES_DEEP_MAX: usize = 10;

/// Reads files, and what they include in the place where they include it.
pub(super) struct Files<'m> {
    pub(super) mistakes: &'m mut Mistakes,
    pub(super) notes: &'m mut Notes,
    /// Files read so far.
    count: usize,
    rank: usize,
}

impl<'m> Files<'m> {
    pub(super) fn new(rank: usize, notes: &'m mut Notes, mistakes: &'m mut Mistakes) -> Self {
        Self { mistakes, notes, count: 0, rank }
    }

    /// All files of a pattern that somebody named.
    pub(super) fn named(&mut self, at: &Position, pattern: &FilePath) -> Vec<Statement> {
        self.depends_on_folder_of(pattern);
        let files = glob(pattern);
        if files.is_empty() {
            self.mistakes.add(at, &"", format!("{}: no such file", pattern.display()));
        }
        files.iter().flat_map(|file| self.file(at, file, 0)).collect()
    }

    /// A file that comes there may be one of the pattern's.
    fn depends_on_folder_of(&mut self, pattern: &FilePath) {
        if let Some(folder) = pattern.parent().filter(|folder| !is_glob(&folder.to_string_lossy())) {
            self.mistakes.depends_on(folder);
        }
    }

    fn file(&mut self, at: &Position, path: &FilePath, depth: usize) -> Vec<Statement> {
        self.count += 1;
        if self.count > limits::FRAGMENTS_MAX || depth > INCLUDES_DEEP_MAX {
            let max = limits::FRAGMENTS_MAX;
            let message = format!("more than {max} files, or files that include each other: {}", path.display());
            self.mistakes.add(at, &"", message);
            return Vec::new();
        }
        // One name for each file, whatever includes it.
        let rank = self.rank + self.count;
        self.mistakes.depends_on(path);
        match read(path, rank) {
            Ok(statements) => self.including(statements, path, depth),
            Err(mistake) => {
                self.mistakes.0.push(mistake);
                Vec::new()
            }
        }
    }

    /// Puts what is included in the place of the statements that include it.
    fn including(&mut self, statements: Vec<Statement>, file: &FilePath, depth: usize) -> Vec<Statement> {
        let mut all = Vec::with_capacity(statements.len());
        for mut statement in statements {
            match &mut statement.kind {
                Kind::Directive { name, value } if name.eq_ignore_ascii_case("IncludeConfig") => {
                    let pattern = value.trim_matches('"').to_owned();
                    all.extend(self.included(&statement.at, "$IncludeConfig", &pattern, file, depth));
                }
                Kind::Object(object) if object.name == "include" => {
                    let object = object.clone();
                    all.extend(self.include(&statement.at, &object, file, depth));
                }
                Kind::Object(object) => {
                    object.body = object.body.take().map(|body| self.including(body, file, depth));
                    all.push(statement);
                }
                Kind::Block(body) | Kind::Selector { then: body, .. } | Kind::Property { then: body, .. } => {
                    *body = self.including(std::mem::take(body), file, depth);
                    all.push(statement);
                }
                Kind::If { then, otherwise, .. } => {
                    *then = self.including(std::mem::take(then), file, depth);
                    *otherwise = self.including(std::mem::take(otherwise), file, depth);
                    all.push(statement);
                }
                _ => all.push(statement),
            }
        }
        all
    }

    fn include(&mut self, at: &Position, object: &Object, file: &FilePath, depth: usize) -> Vec<Statement> {
        let pattern = object.text("file").unwrap_or_default();
        if pattern.is_empty() {
            self.notes.unsupported(at, "include(text=…)", "write what it includes into the file");
            return Vec::new();
        }
        self.depends_on_folder_of(FilePath::new(&pattern));
        if object.text("mode").is_some_and(|mode| mode == "optional") && glob(FilePath::new(&pattern)).is_empty() {
            self.notes.mapped(at, &format!("include(file=\"{pattern}\")"), "no such file, and it is optional");
            return Vec::new();
        }
        self.included(at, "include()", &pattern, file, depth)
    }

    fn included(
        &mut self,
        at: &Position,
        construct: &str,
        pattern: &str,
        file: &FilePath,
        depth: usize,
    ) -> Vec<Statement> {
        self.depends_on_folder_of(FilePath::new(pattern));
        let files = glob(FilePath::new(pattern));
        // A file that is given and includes its own folder is read once: it would be rsyslog's endless loop as well.
        let files: Vec<PathBuf> = files.into_iter().filter(|each| each != file).collect();
        let what = format!("{construct} {pattern}");
        match (files.len(), is_glob(pattern)) {
            (0, true) => self.notes.mapped(at, &what, "no file is there"),
            (0, false) => self.notes.unsupported(at, &what, "no such file"),
            (count, _) => self.notes.mapped(at, &what, format!("{count} read")),
        }
        files.iter().flat_map(|each| self.file(at, each, depth + 1)).collect()
    }
}

fn read(path: &FilePath, rank: usize) -> Result<Vec<Statement>, Mistake> {
    let file: Arc<str> = Arc::from(path.display().to_string());
    let fault = |message: String| Mistake {
        at: Position { rank, file: Arc::clone(&file), line: 0, column: 0 },
        path: String::new(),
        message,
    };
    let mut octets = Vec::new();
    let opened = match std::fs::metadata(path) {
        // Opened only where that does not wait for a writer.
        Ok(metadata) if !metadata.is_file() => return Err(fault("is not a file".to_owned())),
        Ok(_) => std::fs::File::open(path),
        Err(error) => Err(error),
    };
    opened
        .and_then(|file| file.take(limits::FILE_SIZE_MAX + 1).read_to_end(&mut octets))
        .map_err(|error| fault(format!("cannot be read: {error}")))?;
    if octets.len() as u64 > limits::FILE_SIZE_MAX {
        let max = crate::config::units::show_size(limits::FILE_SIZE_MAX);
        return Err(fault(format!("is larger than {max}, expected a configuration")));
    }
    // Comments in an older encoding are common; a text in quotes that is not UTF-8 is refused where it stands.
    parse(&String::from_utf8_lossy(&octets), &file, rank)
}

fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// The files of a pattern, in name order; a folder stands for its files (as with rsyslog).
fn glob(pattern: &FilePath) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = match component {
            Component::Normal(name) => name.to_string_lossy().into_owned(),
            other => {
                found.iter_mut().for_each(|path| path.push(other));
                continue;
            }
        };
        if !is_glob(&name) {
            found.iter_mut().for_each(|path| path.push(&name));
            continue;
        }
        let Ok(name) = Name::parse(&name) else { return Vec::new() };
        found = found.iter().flat_map(|folder| entries(folder, Some(&name))).collect();
        found.truncate(limits::FRAGMENTS_MAX + 1);
    }
    found.retain(|path| path.exists());
    found.iter().flat_map(|path| if path.is_dir() { files_of(path) } else { vec![path.clone()] }).collect()
}

fn files_of(folder: &FilePath) -> Vec<PathBuf> {
    entries(folder, None).into_iter().filter(|path| path.is_file()).collect()
}

/// A folder's entries, sorted, without hidden ones.
fn entries(folder: &FilePath, name: Option<&Name>) -> Vec<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { FilePath::new(".") } else { folder };
    let Ok(listed) = std::fs::read_dir(folder) else { return Vec::new() };
    let fits = |path: &PathBuf| {
        let octets = path.file_name().unwrap_or_default().as_encoded_bytes();
        !octets.starts_with(b".") && name.is_none_or(|name| name.matches(octets))
    };
    let mut found: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).filter(fits).collect();
    found.sort();
    found
}
