//! What a certificate says of itself, for the log. Trust is decided elsewhere, and never by this.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

/// Names of one certificate that are told; of some there are hundreds.
const NAMES_MAX: usize = 4;

/// Characters of one name that are told: the longest name of DNS is shorter.
const NAME_CHARS_MAX: usize = 255;

/// What a certificate says of itself: who presented it wrote that. Clean and short enough for a line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    names: String,
    /// Who has signed it.
    pub issuer: String,
    pub(super) is_self_issued: bool,
    /// Seconds since the Unix epoch.
    pub not_before: i64,
    /// Seconds since the Unix epoch.
    pub not_after: i64,
}

impl Presented {
    /// Reads it; `None` where it is no certificate.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        // A stranger's octets, in a parser that is not ours: what it may fail at must cost a description, and no connection.
        catch_unwind(AssertUnwindSafe(|| Self::read(certificate))).ok().flatten()
    }

    fn read(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let subject = name_of(certificate.subject());
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let mut names: Vec<String> = match &alternatives {
            Some(names) => names.value.general_names.iter().filter_map(general_name).collect(),
            None => Vec::new(),
        };
        if names.is_empty() {
            names.push(subject);
        }
        let more = names.len().saturating_sub(NAMES_MAX);
        names.truncate(NAMES_MAX);
        let mut names = names.join(", ");
        if more > 0 {
            names.push_str(&format!(" and {more} more"));
        }
        Some(Self {
            names,
            issuer: name_of(certificate.issuer()),
            is_self_issued: certificate.issuer().as_raw() == certificate.subject().as_raw(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }

    /// Whom it is for.
    pub fn names(&self) -> &str {
        &self.names
    }
}

/// Whom it is for, by whom, until when.
impl fmt::Display for Presented {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { names, issuer, not_after, .. } = self;
        write!(formatter, "for {names} (issued by {issuer}, valid until {})", stamp(*not_after))
    }
}

/// The name of an authority, as the encoding of its subject (RFC 5280 section 4.1.2.6) gives it.
pub(super) fn subject_of(name: &[u8]) -> Option<String> {
    let read = || X509Name::from_der(name).ok().map(|(_, name)| name_of(&name));
    catch_unwind(AssertUnwindSafe(read)).ok().flatten()
}

/// When the certificate ends, seconds since the Unix epoch.
pub(super) fn end_of(certificate: &CertificateDer<'_>) -> Option<i64> {
    Presented::of(certificate).map(|presented| presented.not_after)
}

/// Seconds since the Unix epoch as a stamp in UTC.
pub fn stamp(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(stamp) => stamp.to_string(),
        Err(_) => "a time that no calendar has".to_owned(),
    }
}

fn general_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => Some(clean(name)),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(|octets| Ipv4Addr::from(octets).to_string());
            v4.or_else(|_| <[u8; 16]>::try_from(*octets).map(|octets| Ipv6Addr::from(octets).to_string())).ok()
        }
        _ => None,
    }
}

/// The common name; the whole name where it has none.
fn name_of(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().next().and_then(|attribute| attribute.as_str().ok());
    let text = common.map_or_else(|| name.to_string(), str::to_owned);
    if text.is_empty() { "nobody".to_owned() } else { clean(&text) }
}

/// Text of a stranger's, for a line of the log.
pub(super) fn clean(text: &str) -> String {
    // What turns the direction of writing makes a line read as another.
    let is_odd = |char: char| {
        char.is_control() || matches!(char, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut clean: String =
        text.chars().take(NAME_CHARS_MAX).map(|char| if is_odd(char) { '\u{fffd}' } else { char }).collect();
    if text.chars().nth(NAME_CHARS_MAX).is_some() {
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests;
