//! Sekoia's `intakes.yaml`, read as it is: the file and the variables of its forwarder become the tree that a
//! `forebay.yaml` would have been read to, whose places are places in the file.
//!
//! Each entry becomes an input, and a route with the forwarder's own template. An entry that cannot be used is left out and
//! told of; the others run. What the forwarder passes over without a word (a key that it does not know) is a warning here.

use std::path::Path as FilePath;

use super::expand::Environment;
use super::leaf::mask_keys;
use super::load::{Loaded, load_tree};
use super::path::Path;
use super::protect::KeyFiles;
use super::report::{Mistake, Mistakes, Position, Report, did_you_mean};
use super::source::Source;
use super::tree::{Node, Value};

use entry::{Entries, Intake};
use settings::Settings;

mod build;
mod entry;
mod host;
mod settings;

/// What was found on the way.
#[derive(Debug, Default)]
struct Findings {
    /// What cannot be used.
    bad: Mistakes,
    /// What the forwarder passes over without a word.
    odd: Mistakes,
    /// What is done in another way than the forwarder does, and what to do about it.
    notes: Mistakes,
}

impl Findings {
    /// Why nothing runs: an unknown key often tells why another one is missing.
    fn report(&self, more: &[Mistake]) -> Report {
        Report::new(self.bad.0.iter().chain(&self.odd.0).chain(more).cloned().collect())
    }
}

/// Reads, checks and resolves; see [`super::load`].
pub(super) fn load(
    file: &FilePath,
    strict: bool,
    environment: Environment<'_>,
    key_files: KeyFiles,
) -> Result<Loaded, Report> {
    // The forwarder takes any: its containers' certificates are mounted with whatever modes they have.
    let key_files = if strict { key_files } else { KeyFiles::Any };
    let source = Source::Intakes { path: file.to_owned(), strict };
    let mut doubled = Mistakes::default();
    let root = source.read(environment, &mut doubled).map_err(|fault| Report::new(vec![fault]))?;
    let files = doubled.1.clone();
    let mut findings = Findings::default();
    let items = items(&root, &mut findings)?;
    let entries = Entries::of(items, doubled, &mut findings);
    let Some(settings) = Settings::of(&entries, environment, &mut findings) else {
        return Err(findings.report(&[]));
    };
    let Entries { mut intakes, .. } = entries;
    let mut loaded = loop {
        if intakes.is_empty() {
            findings.bad.add(&root.at, &"intakes", "none of them can be used");
            return Err(findings.report(&[]));
        }
        match load_tree(
            build::tree(&root.at, &intakes, &settings),
            Mistakes::default(),
            &source,
            environment,
            key_files,
        ) {
            Ok(loaded) => break loaded,
            Err(report) => leave_out(&mut intakes, &report, &mut findings)?,
        }
    };
    host::look(settings.spool.as_ref().map(|(dir, _)| dir.as_path()), &mut findings.notes);
    loaded.read_again.extend(files);
    finish(&mut loaded, findings, strict)?;
    Ok(loaded)
}

/// The entries of `intakes`. `Err`: there are none.
fn items<'a>(root: &'a Node, findings: &mut Findings) -> Result<&'a [Node], Report> {
    let fault = |at: &Position, path: &str, message: String| {
        Report::new(vec![Mistake { at: at.clone(), path: path.to_owned(), message }])
    };
    let Value::Map(keys) = &root.value else {
        return Err(fault(&root.at, "", format!("found {}, expected a map with \"intakes\"", root.kind())));
    };
    for entry in keys.iter().filter(|entry| entry.key != "intakes") {
        let message = format!("unknown key{}, passed over", did_you_mean(&entry.key, ["intakes"]));
        findings.odd.add(&entry.key_at, &Path::root().key(&mask_keys(&entry.key)), message);
    }
    match root.get("intakes") {
        Some(Node { value: Value::List(items), .. }) if !items.is_empty() => Ok(items),
        Some(other) => Err(fault(&other.at, "intakes", "expected a list of at least one intake".to_owned())),
        None => Err(fault(&root.at, "intakes", "missing, expected a list of intakes".to_owned())),
    }
}

/// Takes those intakes out that a report speaks of. `Err`: it speaks of something else, too.
fn leave_out(intakes: &mut Vec<Intake>, report: &Report, findings: &mut Findings) -> Result<(), Report> {
    let is_about_any = |mistake: &Mistake| intakes.iter().any(|intake| intake.holds(&mistake.at));
    if !report.mistakes().iter().all(is_about_any) {
        return Err(findings.report(report.mistakes()));
    }
    intakes.retain(|intake| {
        let mut is_good = true;
        for mistake in report.mistakes().iter().filter(|mistake| intake.holds(&mistake.at)) {
            let message = format!("\"{}\" is left out: {}", intake.shown, mistake.message);
            findings.bad.add(&mistake.at, &mistake.path, message);
            is_good = false;
        }
        is_good
    });
    Ok(())
}

/// Strictly, all that the forwarder would have done nothing about is a mistake.
fn finish(loaded: &mut Loaded, findings: Findings, strict: bool) -> Result<(), Report> {
    if strict && !(findings.bad.0.is_empty() && findings.odd.0.is_empty()) {
        return Err(findings.report(&[]));
    }
    let Findings { bad: Mistakes(mut bad, _), odd: Mistakes(odd, _), notes: Mistakes(notes, _) } = findings;
    bad.sort();
    bad.dedup();
    loaded.config.left_out = bad;
    loaded.config.lenient = !strict;
    loaded.warnings.extend(odd.into_iter().chain(notes));
    loaded.warnings.sort();
    Ok(())
}
