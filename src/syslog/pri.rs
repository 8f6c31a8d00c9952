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

/// Digits of each PRI, and how many they are. A table, since every message prints one.
static PRI_TEXT: [([u8; 3], u8); 192] = pri_table();

const fn pri_table() -> [([u8; 3], u8); 192] {
    let mut table = [([b'0'; 3], 1); 192];
    let mut pri: u8 = 0;
    while pri < 192 {
        let (hundreds, tens, ones) = (b'0' + pri / 100, b'0' + pri / 10 % 10, b'0' + pri % 10);
        let row = if pri >= 100 {
            ([hundreds, tens, ones], 3)
        } else if pri >= 10 {
            ([tens, ones, 0], 2)
        } else {
            ([ones, 0, 0], 1)
        };
        #[expect(clippy::indexing_slicing, reason = "pri < 192, evaluated at compile time")]
        {
            table[pri as usize] = row;
        }
        pri += 1;
    }
    table
}

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

    /// The number in digits.
    #[inline]
    pub fn text(self) -> &'static [u8] {
        digits(self.0)
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

#[inline]
fn digits(number: u8) -> &'static [u8] {
    PRI_TEXT.get(usize::from(number)).and_then(|(text, len)| text.get(..usize::from(*len))).unwrap_or(b"13")
}

/// What stands at the start of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PriPart {
    /// No `<`: a frame without a PRI.
    Absent,
    /// `<PRIVAL>`, `len` octets of it.
    Valid {
        /// Its value.
        pri: Pri,
        /// Octets, brackets included.
        len: u32,
    },
    /// A `<` with no PRIVAL behind it: too large, leading zeros (RFC 5424 section 6.2.1), no digits, no `>`.
    Invalid {
        /// Where rsyslog's `rawmsg-after-pri` begins: behind a `>` that follows one to three octets of any kind, else 0.
        after: u32,
    },
}

impl PriPart {
    /// Reads the start of `frame`.
    #[inline]
    pub(crate) fn of(frame: &[u8]) -> Self {
        let Some((b'<', behind)) = frame.split_first() else { return Self::Absent };
        let (prival, len) = match *behind {
            [ones @ b'0'..=b'9', b'>', ..] => (u16::from(ones - b'0'), 3),
            [tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'>', ..] => {
                (u16::from(tens - b'0') * 10 + u16::from(ones - b'0'), 4)
            }
            [b'1', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b'>', ..] => {
                (100 + u16::from(tens - b'0') * 10 + u16::from(ones - b'0'), 5)
            }
            _ => (u16::MAX, 0),
        };
        match u8::try_from(prival).ok().and_then(Pri::new) {
            Some(pri) => Self::Valid { pri, len },
            None => Self::Invalid {
                after: match *behind {
                    [_, b'>', ..] => 3,
                    [_, _, b'>', ..] => 4,
                    [_, _, _, b'>', ..] => 5,
                    _ => 0,
                },
            },
        }
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

    /// The code in digits.
    pub fn text(self) -> &'static [u8] {
        digits(self.0)
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

    /// The code in digits.
    pub fn text(self) -> &'static [u8] {
        digits(self.0)
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
