//! Gathers the short pieces of a message's header, so that the output grows a few times a message and not twenty.

/// Holds any usual header with an intake key; what does not fit goes straight to the output.
const STAGE_LEN: usize = 512;
/// Longer pieces are copied once, past the stage.
const PIECE_MAX: usize = 64;

/// Octets that follow what the output holds already.
#[derive(Clone)]
pub(super) struct Stage {
    buffer: [u8; STAGE_LEN],
    len: usize,
}

impl Stage {
    pub(super) const fn new() -> Self {
        Self { buffer: [0; STAGE_LEN], len: 0 }
    }

    /// Appends `text` after what was pushed before.
    #[inline(always)]
    pub(super) fn push(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let end = self.len + text.len();
        match self.buffer.get_mut(self.len..end) {
            Some(target) if text.len() <= PIECE_MAX => {
                copy_short(target, text);
                self.len = end;
            }
            _ => {
                self.flush(out);
                out.extend_from_slice(text);
            }
        }
    }

    /// Lets `write` write up to `N` octets in place; it tells how many.
    #[inline(always)]
    pub(super) fn push_with<const N: usize>(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut [u8; N]) -> usize) {
        const { assert!(N <= STAGE_LEN) };
        if self.len > STAGE_LEN - N {
            self.flush(out);
        }
        if let Some(target) = self.buffer.get_mut(self.len..).and_then(|rest| rest.first_chunk_mut::<N>()) {
            self.len += write(target).min(N);
        }
    }

    /// Hands everything to the output.
    #[inline]
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.buffer.get(..self.len).unwrap_or_default());
        self.len = 0;
    }
}

/// Copies a few octets without a call: two loads that may overlap. Both have the same length.
#[inline(always)]
fn copy_short(target: &mut [u8], text: &[u8]) {
    match text.len() {
        0 => {}
        1..4 => target.iter_mut().zip(text).for_each(|(slot, octet)| *slot = *octet),
        4..8 => overlapping::<4>(target, text),
        8..16 => overlapping::<8>(target, text),
        16..=32 => overlapping::<16>(target, text),
        _ => {
            overlapping::<32>(target, text);
        }
    }
}

/// The first and the last `N` octets; all of them where there are `N` to `2 * N`.
#[inline(always)]
fn overlapping<const N: usize>(target: &mut [u8], text: &[u8]) {
    if let (Some(target), Some(text)) = (target.first_chunk_mut::<N>(), text.first_chunk::<N>()) {
        *target = *text;
    }
    if let (Some(target), Some(text)) = (target.last_chunk_mut::<N>(), text.last_chunk::<N>()) {
        *target = *text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_length_come_out_in_order() {
        let text: Vec<u8> = (0..=255).cycle().take(700).collect();
        for len in 0..text.len() {
            let (mut stage, mut out, mut expected) = (Stage::new(), Vec::new(), Vec::new());
            for piece in [&text[..len], &text[..len / 3], &text[len / 2..len], b"x"] {
                stage.push(piece, &mut out);
                expected.extend_from_slice(piece);
            }
            stage.flush(&mut out);
            assert_eq!(out, expected, "pieces of {len}");
        }
    }
}
