//! PRI: facility and severity (RFC 5424 section 6.2.1), with rsyslog's names for both.

/// PRIVAL, 0 to 191: facility × 8 + severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pri(u8);

/// A facility code, 0 (`kern`) to 23 (`local7`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Facility(u8);

/// A severity code, 0 (`emerg`) to 7 (`debug`): the smaller, the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Severity(u8);

/// rsyslog's facility names, by code.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// rsyslog's severity names, by code.
const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

impl Pri {
    /// `user.notice`: what RFC 3164 section 4.3.3 gives a message without a PRI.
    pub const DEFAULT: Self = Self(13);

    /// `None` above 191.
    pub const fn new(prival: u8) -> Option<Self> {
        if prival <= 191 { Some(Self(prival)) } else { None }
    }

    /// The number, 0 to 191.
    pub const fn prival(self) -> u8 {
        self.0
    }

    /// PRIVAL / 8.
    pub const fn facility(self) -> Facility {
        Facility(self.0 >> 3)
    }

    /// PRIVAL % 8.
    pub const fn severity(self) -> Severity {
        Severity(self.0 & 7)
    }
}

impl Default for Pri {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Facility {
    /// By number (`0` to `23`) or name, as rsyslog writes them (`security` is `auth`).
    pub fn parse(text: &str) -> Option<Self> {
        by_name_or_number(text, &FACILITIES).or_else(|| (text == "security").then_some(4)).map(Self)
    }

    /// The code, 0 to 23.
    pub const fn code(self) -> u8 {
        self.0
    }

    /// rsyslog's name.
    pub fn name(self) -> &'static str {
        FACILITIES.get(usize::from(self.0)).copied().unwrap_or_default()
    }

    /// All names, by code.
    pub const fn names() -> &'static [&'static str] {
        &FACILITIES
    }
}

impl Severity {
    /// By number (`0` to `7`) or name; `panic`, `error` and `warn` are rsyslog's older names.
    pub fn parse(text: &str) -> Option<Self> {
        let older = match text {
            "panic" => Some(0),
            "error" => Some(3),
            "warn" => Some(4),
            _ => None,
        };
        by_name_or_number(text, &SEVERITIES).or(older).map(Self)
    }

    /// The code, 0 to 7.
    pub const fn code(self) -> u8 {
        self.0
    }

    /// rsyslog's name.
    pub fn name(self) -> &'static str {
        SEVERITIES.get(usize::from(self.0)).copied().unwrap_or_default()
    }

    /// All names, by code.
    pub const fn names() -> &'static [&'static str] {
        &SEVERITIES
    }
}

fn by_name_or_number(text: &str, names: &[&str]) -> Option<u8> {
    let found = names.iter().position(|name| *name == text);
    let index = found.or_else(|| text.parse().ok().filter(|number| *number < names.len()))?;
    u8::try_from(index).ok()
}
