//! A tree as a YAML file for people: what a foreign configuration would be as one of ours, keys included.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{Foreign, Note, Reading};
use crate::config::report::Position;
use crate::config::tree::{Entry, Node, Value};

/// Where intake keys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// They stand in the file, as they were found.
    Found,
    /// Variables of the environment, which the file names.
    FromEnvironment,
}

/// Columns of a line of text.
const WIDTH: usize = 118;

/// The whole file.
pub(crate) fn write(foreign: &Foreign, keys: Keys) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    write_to(&mut out, foreign, keys).unwrap_or(());
    out
}

fn write_to(out: &mut String, foreign: &Foreign, keys: Keys) -> std::fmt::Result {
    let variables = match keys {
        Keys::Found => BTreeMap::new(),
        Keys::FromEnvironment => variables(&foreign.root),
    };
    header(out, foreign, &variables)?;
    let Value::Map(sections) = &foreign.root.value else { return Ok(()) };
    for Entry { key, node, .. } in sections {
        match &node.value {
            Value::Map(entries) if key != "spool" => {
                writeln!(out, "\n{key}:")?;
                for entry in entries {
                    writeln!(out, "  # {}", entry.key_at)?;
                    write!(out, "  {}:", scalar(&entry.key))?;
                    value(out, &entry.node, 2, &variables)?;
                }
            }
            Value::List(items) => {
                writeln!(out, "\n{key}:")?;
                for item in items {
                    writeln!(out, "  # {}", item.at)?;
                    let mut text = String::new();
                    value(&mut text, item, 2, &variables)?;
                    // The first key stands behind the dash.
                    writeln!(out, "  - {}", text.trim_start().trim_end())?;
                }
            }
            _ => {
                write!(out, "\n# {}\n{key}:", node.at)?;
                value(out, node, 0, &variables)?;
            }
        }
    }
    Ok(())
}

/// What the file is, what has no equal in it, which variables it asks for.
fn header(out: &mut String, foreign: &Foreign, variables: &BTreeMap<String, String>) -> std::fmt::Result {
    let files: BTreeSet<&str> = foreign.notes.iter().map(|note| &*note.at.file).collect();
    comment(
        out,
        "# ",
        &format!("From rsyslog's configuration: {}.", files.into_iter().collect::<Vec<_>>().join(", ")),
    )?;
    if !variables.is_empty() {
        comment(out, "# ", "Variables that hold the intake keys, to be set for whoever starts forebay:")?;
        for variable in variables.values() {
            writeln!(out, "#   {variable}")?;
        }
    }
    for (reading, title) in [
        (Reading::Unsupported, "Not supported, and not done by this file:"),
        (Reading::Meaningless, "No equivalent, and nothing is missing without it:"),
    ] {
        let notes: Vec<&Note> = foreign.notes.iter().filter(|note| note.reading == reading).collect();
        if !notes.is_empty() {
            writeln!(out, "#\n# {title}")?;
        }
        for note in notes {
            let Position { file, line, .. } = &note.at;
            let construct = &note.construct;
            comment(out, "#   ", &format!("{file} line {line}: {construct} has no equivalent: {}", note.message))?;
        }
    }
    Ok(())
}

/// A comment in lines of bounded length.
fn comment(out: &mut String, begin: &str, text: &str) -> std::fmt::Result {
    let mut line = begin.to_owned();
    for word in text.split_whitespace() {
        if line.chars().count() + word.chars().count() > WIDTH && line.trim_end().len() > begin.trim_end().len() {
            writeln!(out, "{}", line.trim_end())?;
            line = format!("{begin}  ");
        }
        line.push_str(word);
        line.push(' ');
    }
    writeln!(out, "{}", line.trim_end())
}

/// What stands behind a key's colon, the line's end included.
fn value(out: &mut String, node: &Node, indent: usize, variables: &BTreeMap<String, String>) -> std::fmt::Result {
    match &node.value {
        Value::Map(entries)
            if entries.iter().all(|entry| is_scalar(&entry.node)) && entries.len() < 3 && indent > 2 =>
        {
            let texts: Vec<String> =
                entries.iter().map(|entry| format!("{}: {}", entry.key, inline(&entry.node))).collect();
            writeln!(out, " {{{}}}", texts.join(", "))
        }
        Value::Map(entries) => {
            out.push('\n');
            for Entry { key, node, .. } in entries {
                write!(out, "{:width$}{}:", "", scalar(key), width = indent + 2)?;
                match (key.as_str(), &node.value) {
                    ("intake_key", Value::Scalar(found)) if variables.contains_key(&found.text) => {
                        let variable = variables.get(&found.text).map(String::as_str).unwrap_or_default();
                        writeln!(out, " ${{{variable}}}")?;
                    }
                    _ => value(out, node, indent + 2, variables)?,
                }
            }
            Ok(())
        }
        Value::List(items) => {
            let texts: Vec<String> = items.iter().map(inline).collect();
            writeln!(out, " [{}]", texts.join(", "))
        }
        _ => writeln!(out, " {}", inline(node)),
    }
}

fn is_scalar(node: &Node) -> bool {
    matches!(node.value, Value::Scalar(_))
}

fn inline(node: &Node) -> String {
    match &node.value {
        Value::Scalar(found) => scalar(&found.text),
        _ => "~".to_owned(),
    }
}

/// A scalar that is read as this text, by the loader's variables too.
fn scalar(text: &str) -> String {
    let text = text.replace("${", "$${");
    let plain = |each: char| each.is_ascii_alphanumeric() || "-_./:".contains(each);
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '/')
        && text.chars().all(plain)
        && !text.ends_with(':')
        && !text.eq_ignore_ascii_case("null");
    if is_plain {
        return text;
    }
    let in_single = !text.contains('\'') || text.contains(['"', '\\']);
    match !in_single || text.chars().any(char::is_control) {
        // A JSON string is a YAML string.
        true => serde_json::Value::from(text).to_string(),
        false => format!("'{}'", text.replace('\'', "''")),
    }
}

/// A variable for each intake key, named after the first route that has it.
fn variables(root: &Node) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut taken = std::collections::HashSet::new();
    let Some(Value::List(routes)) = root.get("routes").map(|node| &node.value) else { return variables };
    for route in routes {
        let text = |key: &str| match route.get(key).map(|node| &node.value) {
            Some(Value::Scalar(scalar)) => Some(scalar.text.clone()),
            _ => None,
        };
        let (Some(key), Some(name)) = (text("intake_key"), text("name")) else { continue };
        let upper: String = name
            .chars()
            .map(|each| if each.is_ascii_alphanumeric() { each.to_ascii_uppercase() } else { '_' })
            .collect();
        let upper = upper.trim_start_matches(|each: char| each.is_ascii_digit() || each == '_').to_owned();
        let base = if upper.is_empty() { "INTAKE_KEY".to_owned() } else { format!("{upper}_INTAKE_KEY") };
        variables.entry(key).or_insert_with(|| super::unique(&base, &mut taken).replace('-', "_"));
    }
    variables
}
