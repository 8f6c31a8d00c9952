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
