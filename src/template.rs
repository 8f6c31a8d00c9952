//! rsyslog string templates, compiled once and rendered into a buffer. Pure.

use jiff::tz::TimeZone;

use crate::syslog::Message;

/// A compiled template. `Debug` never prints literals: they may hold a key.
#[derive(Clone)]
pub struct Template {}

/// Why a template is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// Octet offset into the template's text.
    pub at: usize,
    /// What is wrong and what was expected, with a suggestion where a name is close.
    pub message: String,
}

/// What a template prints besides the message.
#[derive(Debug)]
pub struct Context<'a> {
    /// For `%intake_key%`.
    pub intake_key: &'a [u8],
    /// For `%$myhostname%`.
    pub my_hostname: &'a str,
    /// Zone of `%timegenerated%`, and of `%timestamp%` where the message had none.
    pub zone: &'a TimeZone,
}

impl Template {
    /// The FAQ's template, with `%intake_key%` in the key's place.
    pub const FAQ: &'static str = concat!(
        "<%pri%>1 %timestamp:::date-rfc3339% %hostname% %app-name% %procid% LOG ",
        "[SEKOIA@53288 intake_key=\"%intake_key%\"] %msg%\\n"
    );

    /// Compiles the text between the quotes of rsyslog's `string="..."`, escapes (`\n`, `\"`) included.
    pub fn compile(_text: &str) -> Result<Self, TemplateError> {
        Ok(Self {})
    }

    /// Whether it prints `%intake_key%`.
    pub fn uses_intake_key(&self) -> bool {
        true
    }

    /// Appends the rendered message to `out`.
    pub fn render(&self, _message: &Message<'_>, _context: &Context<'_>, _out: &mut Vec<u8>) {}
}

impl std::fmt::Debug for Template {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Template")
    }
}
