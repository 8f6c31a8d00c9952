//! `prifilt("auth,authpriv.*;*.!debug")`: syslogd's selectors, as rsyslog reads them (runtime/conf.c, DecodePRIFilter).

use super::suggest::did_you_mean;
use crate::syslog::{Facility, Pri, Severity};

/// Facilities of rsyslog's that no message here has: its own marks, and those of an invalid PRI.
const NEVER: [&str; 2] = ["mark", "invld"];

/// Further names of rsyslog's, with their codes.
const ALIASES: [(&str, u8); 2] = [("bsd_security", 13), ("console", 14)];

/// Which severities of each facility.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Priorities([u8; 24]);

/// What stands behind the dot.
#[derive(Clone, Copy)]
struct Level {
    /// Bits of severities.
    mask: u8,
    effect: Effect,
}

#[derive(Clone, Copy)]
enum Effect {
    Add,
    Remove,
    /// `*`, `none` and `!none`: whatever was there before.
    Set,
}

impl Priorities {
    /// Reads selectors: later ones add to earlier ones or, with `!`, take away.
    ///
    /// # Errors
    /// What is wrong, and its octet offset.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut priorities = Self([0; 24]);
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let Some((facilities, behind)) = rest.split_once('.') else {
                return Err((
                    at,
                    format!("the selector \"{rest}\" has no `.`: expected one such as auth,authpriv.err"),
                ));
            };
            let name_at = at + facilities.len() + 1;
            let name = behind.split([',', ';']).next().unwrap_or_default();
            let level = level(name).map_err(|message| (name_at, message))?;
            priorities.apply(facilities, level).map_err(|(within, message)| (at + within, message))?;
            at = name_at + name.len();
            at += text.get(at..).unwrap_or_default().bytes().take_while(|octet| matches!(octet, b',' | b';')).count();
        }
        if at == 0 {
            return Err((0, "no selector: expected one such as auth,authpriv.err".to_owned()));
        }
        Ok(priorities)
    }

    fn apply(&mut self, facilities: &str, level: Level) -> Result<(), (usize, String)> {
        let mut at = 0;
        for name in facilities.split(',') {
            let place = at;
            at += name.len() + 1;
            // "auth,.err" is "auth.err"; ".err" alone names no facility.
            if name.trim().is_empty() && facilities.len() > name.len() {
                continue;
            }
            for code in codes(name.trim()).map_err(|message| (place, message))? {
                if let Some(mask) = self.0.get_mut(usize::from(code)) {
                    *mask = match level.effect {
                        Effect::Add => *mask | level.mask,
                        Effect::Remove => *mask & !level.mask,
                        Effect::Set => level.mask,
                    };
                }
            }
        }
        Ok(())
    }

    pub(super) fn contain(&self, pri: Pri) -> bool {
        let mask = self.0.get(usize::from(pri.facility().code())).copied().unwrap_or_default();
        mask >> pri.severity().code() & 1 == 1
    }
}

/// The codes that a facility's name stands for.
fn codes(name: &str) -> Result<std::ops::Range<u8>, String> {
    let lower = name.to_ascii_lowercase();
    if lower == "*" {
        return Ok(0..24);
    }
    if NEVER.contains(&lower.as_str()) {
        return Ok(0..0);
    }
    if lower.starts_with(|first: char| first.is_ascii_digit()) {
        // <syslog.h> has them times eight, and so has rsyslog: "4" would be kern.
        return Err(format!("\"{name}\" is a number: expected a facility's name such as auth"));
    }
    let alias = ALIASES.iter().find(|(alias, _)| *alias == lower).map(|(_, code)| *code);
    match alias.or_else(|| Facility::parse(&lower).map(Facility::code)) {
        Some(code) => Ok(code..code + 1),
        None => {
            let near = did_you_mean(&lower, Facility::names().iter().copied());
            Err(format!("no facility \"{name}\"{near}: expected one such as auth or local0, or *"))
        }
    }
}

fn level(text: &str) -> Result<Level, String> {
    let (negated, rest) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
    let (alone, name) = rest.strip_prefix('=').map_or((false, rest), |name| (true, name));
    let lower = name.trim_end().to_ascii_lowercase();
    let severity = match lower.as_str() {
        "*" if !alone => None,
        "none" => return Ok(Level { mask: if negated { u8::MAX } else { 0 }, effect: Effect::Set }),
        lower => Some(Severity::parse(lower).ok_or_else(|| {
            let near = did_you_mean(lower, Severity::names().iter().copied());
            format!("no severity \"{name}\"{near}: expected one such as err or warning, none, or *")
        })?),
    };
    let Some(severity) = severity else {
        return Ok(Level { mask: if negated { 0 } else { u8::MAX }, effect: Effect::Set });
    };
    let mask = if alone { 1 << severity.code() } else { u8::MAX >> (7 - severity.code()) };
    Ok(Level { mask, effect: if negated { Effect::Remove } else { Effect::Add } })
}
