//! Secrets: kept in memory that is wiped, printed as a mask only.

use std::fmt;

use zeroize::Zeroizing;

/// A Sekoia intake key. Opaque; never printed, not even in part beyond its last four characters.
#[derive(Clone, PartialEq, Eq)]
pub struct IntakeKey(Zeroizing<String>);

impl IntakeKey {
    /// Takes the key as it is.
    pub fn new(key: String) -> Self {
        Self(Zeroizing::new(key))
    }

    /// The key's octets, for rendering only.
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for IntakeKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("****")
    }
}

impl fmt::Debug for IntakeKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("IntakeKey(****)")
    }
}

/// The key that blocks on the disk are encrypted with. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SpoolKey(Zeroizing<[u8; Self::OCTETS]>);

impl SpoolKey {
    /// XChaCha20-Poly1305's.
    pub const OCTETS: usize = 32;

    /// Takes the key as it is.
    pub fn new(key: [u8; Self::OCTETS]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// The key's octets, for the cipher only.
    pub fn expose(&self) -> &[u8; Self::OCTETS] {
        &self.0
    }
}

impl fmt::Debug for SpoolKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SpoolKey(****)")
    }
}

/// Who has it may ask the admin server for everything. Never printed.
#[derive(Clone)]
pub struct AdminToken(Zeroizing<String>);

impl AdminToken {
    /// What a token is made of, in words.
    pub const EXPECTED: &str = "16 to 1024 letters, digits and signs without blanks (openssl rand -hex 32)";

    /// Takes it as it is. The error says what is there instead, and shows none of it.
    pub fn new(token: &str) -> Result<Self, &'static str> {
        match token.len() {
            0 => Err("nothing"),
            1..16 => Err("too short a token"),
            1_025.. => Err("too long a token"),
            _ if !token.bytes().all(|octet| octet.is_ascii_graphic()) => Err("a token with blanks or odd characters"),
            _ => Ok(Self(Zeroizing::new(token.to_owned()))),
        }
    }

    /// The token's octets, to ask with.
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether `given` is it. Takes as long whatever it is, where the lengths are equal.
    pub fn is(&self, given: &[u8]) -> bool {
        use subtle::ConstantTimeEq;
        self.0.as_bytes().ct_eq(given).into()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AdminToken(****)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_plain_and_never_shown() {
        let token = AdminToken::new("0123456789abcdef-_./+=~").unwrap();
        assert!(token.is(b"0123456789abcdef-_./+=~"));
        for other in ["", "0123456789abcdef-_./+=", "0123456789abcdef-_./+=~~", "1123456789abcdef-_./+=~"] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        assert_eq!(format!("{token:?}"), "AdminToken(****)");
        for wrong in ["", "short", "with a blank in it", "nicht-aus-ASCII-ä-ö-ü", &"x".repeat(1_025)] {
            assert!(AdminToken::new(wrong).is_err(), "{wrong}");
        }
    }
}
