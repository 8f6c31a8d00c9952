//! One object of impstats' `format="json"`, with rsyslog's blanks and escapes.

use std::fmt;

use serde_json::Value;

/// An object that is being written.
pub(super) struct Line(String);

impl Line {
    /// Begins one.
    pub(super) fn new(name: &str, origin: &str) -> Self {
        // rsyslog escapes the slash, which JSON allows.
        let name = Value::from(name).to_string().replace('/', "\\/");
        Self(format!("{{ \"name\": {name}, \"origin\": \"{origin}\""))
    }

    /// Adds a count; `key` needs no escapes.
    pub(super) fn with(mut self, key: &str, count: u64) -> Self {
        self.0.push_str(&format!(", \"{key}\": {count}"));
        self
    }
}

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} }}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_rsyslog_writes() {
        let line = Line::new("input-techno2(*/20517/IPv4)", "imudp").with("submitted", 1).with("disallowed", 0);
        let expected =
            r#"{ "name": "input-techno2(*\/20517\/IPv4)", "origin": "imudp", "submitted": 1, "disallowed": 0 }"#;
        assert_eq!(line.to_string(), expected);
        assert_eq!(Line::new("a\"b", "x").to_string(), r#"{ "name": "a\"b", "origin": "x" }"#);
    }
}
