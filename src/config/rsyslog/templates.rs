//! Templates: rsyslog's own, those of the configuration, and the intake key in them.

use std::collections::HashMap;

use super::notes::Notes;
use super::syntax::{Kind, Object, Statement};
use crate::config::leaf::{Leaf, SecretText};
use crate::config::report::Position;

/// What stands before an intake key in a template's text, and behind it.
const BEFORE_KEY: &str = "intake_key=\\\"";
const BEHIND_KEY: &str = "\\\"";

/// rsyslog's own (runtime/rsconf.c and tools/smfile.c and its like), in its template syntax.
const BUILT_IN: [(&str, &str); 7] = [
    (
        "RSYSLOG_TraditionalFileFormat",
        "%timestamp% %hostname% %syslogtag%%msg:::sp-if-no-1st-sp%%msg:::drop-last-lf%\\n",
    ),
    (
        "RSYSLOG_FileFormat",
        "%timestamp:::date-rfc3339% %hostname% %syslogtag%%msg:::sp-if-no-1st-sp%%msg:::drop-last-lf%\\n",
    ),
    ("RSYSLOG_TraditionalForwardFormat", "<%pri%>%timestamp% %hostname% %syslogtag:1:32%%msg:::sp-if-no-1st-sp%%msg%"),
    (
        "RSYSLOG_ForwardFormat",
        "<%pri%>%timestamp:::date-rfc3339% %hostname% %syslogtag:1:32%%msg:::sp-if-no-1st-sp%%msg%",
    ),
    (
        "RSYSLOG_SyslogProtocol23Format",
        "<%pri%>1 %timestamp:::date-rfc3339% %hostname% %app-name% %procid% %msgid% %structured-data% %msg%\\n",
    ),
    ("RSYSLOG_SysklogdFileFormat", "%timestamp% %hostname% %syslogtag%%msg:::sp-if-no-1st-sp%%msg%\\n"),
    (
        "RSYSLOG_SyslogRFC5424Format",
        "<%pri%>1 %timestamp:::date-rfc3339% %hostname% %app-name% %procid% %msgid% %structured-data% %msg%",
    ),
];

/// A template as forebay has it.
#[derive(Debug, Clone)]
pub(super) struct Template {
    /// Where its text stands.
    pub(super) at: Position,
    /// With `%intake_key%` in the key's place.
    pub(super) text: String,
    /// The key that its text held.
    pub(super) key: Option<String>,
}

/// All templates of a configuration, by name.
pub(super) type Templates = HashMap<String, Template>;

/// Reads all templates, wherever they stand.
pub(super) fn read(statements: &[Statement], notes: &mut Notes) -> Templates {
    let mut templates = Templates::new();
    for statement in statements {
        let (at, found) = match &statement.kind {
            Kind::Object(object) if object.name == "template" && object.is_enabled() => {
                (&statement.at, of_object(&statement.at, object, notes))
            }
            Kind::Directive { name, value } if name.eq_ignore_ascii_case("template") => {
                (&statement.at, of_directive(&statement.at, value, notes))
            }
            _ => continue,
        };
        let Some((name, text)) = found else { continue };
        let (text, key) = take_key(&text);
        notes.mapped(at, &format!("template \"{name}\""), "in the routes that use it");
        templates.insert(name, Template { at: at.clone(), text: with_plain_quotes(&text), key });
    }
    templates
}

/// The template of that name; rsyslog's own have the place of whoever asks.
pub(super) fn find(templates: &Templates, name: &str, at: &Position) -> Option<Template> {
    templates.get(name).cloned().or_else(|| {
        let (_, text) = BUILT_IN.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(Template { at: at.clone(), text: (*text).to_owned(), key: None })
    })
}

fn of_object(at: &Position, object: &Object, notes: &mut Notes) -> Option<(String, String)> {
    let name = object.text("name").unwrap_or_default();
    let construct = format!("template \"{name}\"");
    for param in &object.params {
        let known = ["name", "type", "string"].contains(&param.name.as_str());
        if !known {
            notes.unsupported(&param.at, &format!("{construct} {}", param.name), "the text is not changed for it");
        }
    }
    match object.text("type").as_deref() {
        Some("string") => Some((name, object.param("string")?.values.first()?.clone())),
        Some("list") => match list(object.body.as_deref().unwrap_or_default()) {
            Ok(text) => Some((name, text)),
            Err((at, why)) => {
                notes.unsupported(&at, &construct, why);
                None
            }
        },
        other => {
            let kind = other.unwrap_or("without a type").to_owned();
            notes.unsupported(at, &construct, format!("of type {kind}, expected string or list"));
            None
        }
    }
}

/// `NAME,"text"`, and options behind it.
fn of_directive(at: &Position, value: &str, notes: &mut Notes) -> Option<(String, String)> {
    let (name, rest) = value.split_once(',')?;
    let name = name.trim().to_owned();
    let construct = format!("$template {name}");
    let rest = rest.trim_start();
    let Some(rest) = rest.strip_prefix('"') else {
        notes.unsupported(at, &construct, "made by a module, expected a text in quotes");
        return None;
    };
    let mut escaped = false;
    let end = rest.find(|each| {
        let ends = each == '"' && !escaped;
        escaped = each == '\\' && !escaped;
        ends
    });
    let (text, options) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
    let options = options.trim_start_matches('"').trim();
    if !options.is_empty() {
        notes.unsupported(at, &format!("{construct} {options}"), "the text is not changed for it");
    }
    Some((name, text.to_owned()))
}

/// A list template as a string template.
fn list(parts: &[Statement]) -> Result<String, (Position, String)> {
    let mut text = String::new();
    for part in parts {
        let fault = |what: &str| Err((part.at.clone(), format!("a list template's {what} is not supported")));
        let Kind::Object(object) = &part.kind else { return fault("part that is no constant and no property") };
        match object.name.as_str() {
            "constant" => {
                let Some(value) = object.param("value").and_then(|param| param.values.first()) else {
                    return fault("constant without a value");
                };
                if value.contains('%') {
                    return fault("constant with a \"%\"");
                }
                text.push_str(value);
            }
            "property" => match property(object) {
                Ok(property) => text.push_str(&property),
                Err(what) => return fault(&what),
            },
            _ => return fault("part that is no constant and no property"),
        }
    }
    Ok(text)
}

fn property(object: &Object) -> Result<String, String> {
    let (mut from, mut to, mut options) = (String::new(), String::new(), Vec::new());
    let mut name = String::new();
    for param in &object.params {
        let value = param.text();
        let lower = value.to_lowercase();
        match param.name.as_str() {
            "name" => name = value,
            "position.from" => from = value,
            "position.to" => to = value,
            "dateformat" => options.push(format!("date-{lower}")),
            "caseconversion" if matches!(lower.as_str(), "upper" | "lower") => options.push(format!("{lower}case")),
            "controlcharacters" if matches!(lower.as_str(), "escape" | "space" | "drop") => {
                options.push(format!("{lower}-cc"));
            }
            "securepath" if matches!(lower.as_str(), "drop" | "replace") => options.push(format!("secpath-{lower}")),
            "format" if matches!(lower.as_str(), "json" | "jsonf" | "jsonr" | "jsonfr" | "csv") => options.push(lower),
            "spifno1stsp" => options.extend(super::globals::is_on(&value).then(|| "sp-if-no-1st-sp".to_owned())),
            "droplastlf" => options.extend(super::globals::is_on(&value).then(|| "drop-last-lf".to_owned())),
            "compressspace" => options.extend(super::globals::is_on(&value).then(|| "compressspace".to_owned())),
            other => return Err(format!("property with {other}=\"…\"")),
        }
    }
    Ok(match (from.is_empty() && to.is_empty(), options.is_empty()) {
        (true, true) => format!("%{name}%"),
        _ => format!("%{name}:{from}:{to}:{}%", options.join(",")),
    })
}

/// Takes the intake key out of a text that holds one, and puts `%intake_key%` wherever it stood. Two keys stay: which of
/// them is the route's is not known.
fn take_key(text: &str) -> (String, Option<String>) {
    let keys = text.split(BEFORE_KEY).skip(1).filter_map(|behind| Some(behind.split_once(BEHIND_KEY)?.0));
    let mut keys = keys.filter(|key| !key.is_empty() && !key.contains('%') && SecretText::parse(key).is_ok());
    let Some(key) = keys.next() else { return (text.to_owned(), None) };
    if keys.any(|other| other != key) {
        return (text.to_owned(), None);
    }
    // Elsewhere in the text as well: the Forwarder's debug template prints it in front.
    let quoted = format!("\\\"{key}\\\"");
    (text.replace(&quoted, "\\\"%intake_key%\\\""), Some(key.to_owned()))
}

/// `\"` as `"`, which means the same in a template and is easier to read; other escapes stay.
fn with_plain_quotes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(each) = chars.next() {
        match (each, each == '\\') {
            (_, true) => match chars.next() {
                Some('"') => out.push('"'),
                Some(other) => out.extend([each, other]),
                None => out.push(each),
            },
            (each, false) => out.push(each),
        }
    }
    out
}
