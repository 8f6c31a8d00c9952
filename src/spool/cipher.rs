//! Encryption of one block: XChaCha20-Poly1305 with a random nonce in front and the tag behind.
//!
//! Nonces of 24 octets may be drawn at random: 2^80 blocks under one key before two are likely to meet.

use chacha20poly1305::aead::Generate;
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305, XNonce};

use crate::config::SpoolKey;

/// Octets of the nonce.
const NONCE_LEN: usize = 24;

/// Octets of the tag.
const TAG_LEN: usize = 16;

/// Octets that encryption adds.
pub(crate) const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// It could not be done: on the way out no random octets were to be had, on the way in the key is another one, or an
/// octet of the block or of its header is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed;

/// A key, ready for use.
pub(crate) struct Cipher(XChaCha20Poly1305);

impl Cipher {
    pub(crate) fn new(key: &SpoolKey) -> Self {
        Self(XChaCha20Poly1305::new(key.expose().into()))
    }

    /// Encrypts `buffer` in place: its first [`OVERHEAD`] octets are room, the rest is the text. `header` is not
    /// encrypted, but what is decrypted with another header fails.
    pub(crate) fn seal(&self, header: &[u8], buffer: &mut [u8]) -> Result<(), Failed> {
        let text_len = buffer.len().checked_sub(OVERHEAD).ok_or(Failed)?;
        // The text moves down: between nonce and tag.
        buffer.copy_within(OVERHEAD.., NONCE_LEN);
        let (nonce_room, rest) = buffer.split_at_mut_checked(NONCE_LEN).ok_or(Failed)?;
        let (text, tag_room) = rest.split_at_mut_checked(text_len).ok_or(Failed)?;
        let nonce = XNonce::try_generate().map_err(|_| Failed)?;
        let tag = self.0.encrypt_inout_detached(&nonce, header, text.into()).map_err(|_| Failed)?;
        nonce_room.copy_from_slice(&nonce);
        tag_room.copy_from_slice(&tag);
        Ok(())
    }

    /// The text that `sealed` holds, in `text`, which is emptied before. Nothing of it is to be used after a failure.
    pub(crate) fn open(&self, header: &[u8], sealed: &[u8], text: &mut Vec<u8>) -> Result<(), Failed> {
        text.clear();
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Failed)?;
        let (encrypted, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(Failed)?;
        text.extend_from_slice(encrypted);
        let opened = self.0.decrypt_inout_detached(nonce.into(), header, text.as_mut_slice().into(), tag.into());
        opened.map_err(|_| Failed)
    }
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Cipher(****)")
    }
}
