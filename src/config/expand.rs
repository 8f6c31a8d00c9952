//! Variables in values: `${VAR}` and `${VAR:-default}`; `$${` is a literal `${`. Any other `$` is itself, because
//! templates hold `%$now%` and regular expressions end in `$`.

use std::collections::HashSet;

use super::leaf::mask_keys;
use super::limits;
use super::path::Path;
use super::report::Mistakes;
use super::tree::{Node, Scalar, Value};

/// Looks a variable up.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands all values below `node` in place. What cannot be expanded is reported and becomes nothing.
/// Returns the paths of those.
pub(crate) fn expand_all(node: &mut Node, environment: Environment<'_>, mistakes: &mut Mistakes) -> HashSet<Path> {
    let mut refused = HashSet::new();
    expand_node(node, &Path::root(), environment, &mut |node, path, message| {
        mistakes.add(&node.at, path, message);
        refused.insert(path.clone());
    });
    refused
}

fn expand_node(
    node: &mut Node,
    path: &Path,
    environment: Environment<'_>,
    refuse: &mut dyn FnMut(&Node, &Path, String),
) {
    match &mut node.value {
        Value::Nothing => {}
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                expand_node(item, &path.index(index), environment, refuse);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                expand_node(&mut entry.node, &path.key(&entry.key), environment, refuse);
            }
        }
        Value::Scalar(scalar) => {
            if let Err(message) = expand_scalar(scalar, environment) {
                refuse(node, path, message);
                node.value = Value::Nothing;
            }
        }
    }
}

fn expand_scalar(scalar: &mut Scalar, environment: Environment<'_>) -> Result<(), String> {
    if scalar.text.contains("${") {
        let (text, variables) = expand(&scalar.text, environment)?;
        scalar.text = text;
        scalar.variables = variables;
        scalar.text_column = None;
    }
    Ok(())
}

/// The text with its variables replaced, and the names of those that came from the environment.
fn expand(text: &str, environment: Environment<'_>) -> Result<(String, Vec<String>), String> {
    let mut out = String::with_capacity(text.len());
    let mut variables = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let Some((inside, after)) = after.split_once('}') else {
            return Err("found \"${\" without its \"}\" (a literal \"${\" is written \"$${\")".to_owned());
        };
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_variable_name(name) {
            // An unclosed "${" takes in whatever comes before the next "}".
            let found = match name.chars().count() <= limits::NAME_LEN_MAX {
                true => format!("${{{}}}", mask_keys(name)),
                false => "${...}".to_owned(),
            };
            return Err(format!(
                "found \"{found}\", expected \"${{VARIABLE}}\" or \"${{VARIABLE:-default}}\" (a literal \"${{\" is \
                 written \"$${{\")"
            ));
        }
        match (environment(name).filter(|value| !value.is_empty()), default) {
            (Some(value), _) => {
                out.push_str(&value);
                variables.push(name.to_owned());
            }
            (None, Some(default)) => out.push_str(default),
            (None, None) => {
                return Err(format!("the variable {name} is not set or empty, and ${{{name}}} has no default"));
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Ok((out, variables))
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|each| each.is_ascii_alphanumeric() || each == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_a_key(name: &str) -> Option<String> {
        match name {
            "KEY" => Some("s3cret".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_defaults_and_escapes_expand() {
        let rows = [
            ("plain", "plain"),
            ("${KEY}", "s3cret"),
            ("a ${KEY} b ${KEY}", "a s3cret b s3cret"),
            ("${NONE:-fallback}", "fallback"),
            ("${EMPTY:-fallback}", "fallback"),
            ("${NONE:-}", ""),
            ("${KEY:-fallback}", "s3cret"),
            ("$${KEY}", "${KEY}"),
            ("%$now% (.*)$", "%$now% (.*)$"),
            ("$$ 5", "$$ 5"),
        ];
        for (text, expected) in rows {
            assert_eq!(expand(text, &with_a_key).map(|(out, _)| out), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_names_the_variable() {
        let rows = [("${NONE}", "NONE"), ("${EMPTY}", "EMPTY"), ("${KEY", "${"), ("${}", "${}"), ("${A B}", "${A B}")];
        for (text, part) in rows {
            let message = expand(text, &with_a_key).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
