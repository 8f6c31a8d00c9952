//! What a real rsyslogd makes of templates.

use crate::support::installed;
use crate::support::rsyslogd::Rsyslogd;

/// Stands between values in rsyslogd's output; in no message and no template.
const SEPARATOR: &[u8] = b"\x1e\x1d";
const SEPARATOR_ESCAPED: &str = r"\036\035";

/// What one made of each message; `None`: it refused the template.
type Values = Option<Vec<Vec<u8>>>;

/// What each template made of each message, by template. `None`, said, where no rsyslogd is installed.
pub(crate) fn render(templates: &[String], frames: &[&[u8]]) -> Option<Vec<Values>> {
    let executable = installed("rsyslogd")?;
    let rule = |(index, template): (usize, &String)| {
        format!(
            "template(name=\"t{index}\" type=\"string\" string=\"{template}{SEPARATOR_ESCAPED}\")\n\
             action(type=\"omfile\" file=\"DIRECTORY/out{index}\" template=\"t{index}\")\n"
        )
    };
    let rules: String = templates.iter().enumerate().map(rule).collect();
    let global = "global(parser.escapeControlCharactersOnReceive=\"off\")\n";
    let rsyslogd = Rsyslogd::through(&executable, global, "in1", &rules, frames);
    let values = |index| std::fs::read(rsyslogd.path(&format!("out{index}"))).ok().map(|text| split(&text));
    Some((0..templates.len()).map(values).collect())
}

fn split(text: &[u8]) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
        values.push(rest[..at].to_vec());
        rest = &rest[at + SEPARATOR.len()..];
    }
    values
}
