//! What holds for any octets: for the fuzzer and for the property tests. Panics where it does not hold.

use super::{BlockFault, Codec, Coder, HEADER_MAX, Header, LaneName, Meta};
use crate::batch::Seq;
use crate::config::{Compression, SpoolKey};

/// For fuzzing: octets as they lie in a segment. Then the same as a payload whose checksum is right: a codec, a length of
/// the records (2 octets), the payload.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let key = SpoolKey::new([7; SpoolKey::OCTETS]);
    let mut coders = [Coder::new(Compression::Lz4, None), Coder::new(Compression::Zstd, Some(&key))];
    match Header::parse(data) {
        Ok((header, at)) => {
            assert!(at <= HEADER_MAX && header.block_len() == at as u64 + u64::from(header.stored_len));
            let stored = data.get(at..).unwrap_or_default();
            let stored = stored.get(..header.stored_len as usize).unwrap_or(stored);
            coders.iter_mut().for_each(|coder| open(coder, &header, stored));
        }
        Err(fault) => assert!(fault != super::HeaderFault::Short || data.len() < HEADER_MAX, "never enough"),
    }
    let [codec, low, high, stored @ ..] = data else { return };
    let header = Header {
        lane: LaneName { route: "fuzz".to_owned(), shard: 1 },
        meta: Meta { seq: Seq(1), records: 1, oldest_us: 0, newest_us: 0 },
        codec: Codec::from_octet(codec % 3).unwrap_or(Codec::None),
        encrypted: *codec >= 0xf0,
        plain_len: u32::from(u16::from_le_bytes([*low, *high])),
        stored_len: stored.len() as u32,
        payload_crc: crc32fast::hash(stored),
        tombstone: false,
    };
    for coder in &mut coders {
        open(coder, &header, stored);
        let mut block = Vec::new();
        assert_eq!(coder.seal(&header.lane, header.meta, stored, &mut block), Ok(()));
        let parsed = Header::parse(&block);
        assert!(parsed.is_ok(), "{parsed:?}");
        if let Ok((header, at)) = parsed {
            let mut plain = Vec::new();
            assert_eq!(coder.open(&header, block.get(at..).unwrap_or_default(), &mut plain), Ok(()));
            assert!(plain == stored, "it is another one when it is opened");
        }
    }
}

/// What opens is as long as the header says; what does not leaves nothing.
fn open(coder: &mut Coder, header: &Header, stored: &[u8]) {
    let mut plain = b"before".to_vec();
    match coder.open(header, stored, &mut plain) {
        Ok(()) => assert_eq!(plain.len(), header.plain_len as usize),
        Err(fault) => {
            assert!(plain.is_empty());
            assert!(fault != BlockFault::NoKey || header.encrypted);
        }
    }
}
