//! What holds for any stream in any pieces: for the fuzzer and for the property tests. Panics where it does not hold.

use super::{Decoder, Flaw, Framing, KEPT_CAPACITY_MAX};

/// Frames as they came out, with their flaws.
pub(super) type Owned = Vec<(Vec<u8>, Option<Flaw>)>;

/// More than any stream here is long: nothing is cut.
const UNCUT: usize = 1 << 20;

/// For fuzzing: framing, maximum, a count of pieces, their lengths (odd: kept first), then the stream.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let [framing, max, pieces, rest @ ..] = data else { return };
    let framing = match framing % 4 {
        0 => Framing::Auto,
        1 => Framing::Octet,
        2 => Framing::Lf,
        _ => Framing::Nul,
    };
    let Some((lengths, stream)) = rest.split_at_checked(usize::from(pieces % 16)) else { return };
    let mut left = stream;
    let mut reads: Vec<(&[u8], bool)> = Vec::new();
    for length in lengths {
        let (read, rest) = left.split_at(usize::from(length / 2).min(left.len()));
        reads.push((read, length % 2 == 1));
        left = rest;
    }
    reads.push((left, false));
    check(framing, usize::from(*max), &reads);
}

/// The stream that `reads` are gives the same frames however it is cut, and (uncut) none of its octets is lost.
/// `true`: the reader pauses there, that read is kept and asked for later.
pub(super) fn check(framing: Framing, max: usize, reads: &[(&[u8], bool)]) {
    let pieces: Vec<&[u8]> = reads.iter().map(|(read, _)| *read).collect();
    let stream = pieces.concat();
    let expected = frames(framing, max, &[&stream]);
    assert!(
        expected.iter().all(|(bytes, _)| (1..=max.max(1)).contains(&bytes.len())),
        "{framing:?} {max}: {expected:?}"
    );
    let octets: Vec<&[u8]> = stream.chunks(1).collect();
    for (how, found) in [
        ("in reads", frames(framing, max, &pieces)),
        ("octet by octet", frames(framing, max, &octets)),
        ("with pauses", frames_with_pauses(framing, max, reads)),
    ] {
        assert!(found == expected, "{framing:?} {max} {how}: {found:?}, whole: {expected:?}");
    }
    let uncut = frames(framing, UNCUT, &[&stream]);
    let found: Vec<u8> = uncut.into_iter().flat_map(|(bytes, _)| bytes).collect();
    assert_eq!(solid(&found), solid(&stream), "{framing:?}: octets are lost");
}

/// All frames of `reads`, the stream's end included. Checks what the decoder owns on the way.
pub(super) fn frames(framing: Framing, max: usize, reads: &[&[u8]]) -> Owned {
    let mut decoder = Decoder::new(framing, max);
    let mut found = Owned::new();
    for read in reads {
        let mut input = *read;
        while let Some(frame) = decoder.next_frame(&mut input) {
            found.push((frame.bytes.to_vec(), frame.flaw));
        }
        assert!(input.is_empty());
        assert!(decoder.owned() <= 2 * (max + 32) + KEPT_CAPACITY_MAX, "{} octets owned", decoder.owned());
    }
    finish(&mut decoder, &mut found);
    found
}

fn frames_with_pauses(framing: Framing, max: usize, reads: &[(&[u8], bool)]) -> Owned {
    let mut decoder = Decoder::new(framing, max);
    let mut found = Owned::new();
    for (read, keep) in reads {
        let mut input = *read;
        if *keep {
            decoder.keep(input);
            continue;
        }
        while let Some(frame) = decoder.next_frame(&mut input) {
            found.push((frame.bytes.to_vec(), frame.flaw));
        }
    }
    finish(&mut decoder, &mut found);
    found
}

fn finish(decoder: &mut Decoder, found: &mut Owned) {
    while let Some(frame) = decoder.finish() {
        found.push((frame.bytes.to_vec(), frame.flaw));
    }
    assert!(decoder.owned() <= KEPT_CAPACITY_MAX);
}

/// What can be neither part of a count nor a trailer.
fn solid(octets: &[u8]) -> Vec<u8> {
    octets.iter().copied().filter(|octet| !octet.is_ascii_digit() && !b" \r\n\0".contains(octet)).collect()
}
