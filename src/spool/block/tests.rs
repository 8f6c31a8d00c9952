use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const ALL: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

fn lane() -> LaneName {
    LaneName { route: "dns-café".to_owned(), shard: 3 }
}

fn meta() -> Meta {
    Meta { seq: Seq(0x0102_0304_0506_0708), records: 2, oldest_us: -7, newest_us: 1_767_225_600_000_000 }
}

fn key(octet: u8) -> SpoolKey {
    SpoolKey::new([octet; SpoolKey::OCTETS])
}

/// All compressions, with and without encryption.
fn coders() -> Vec<Coder> {
    let key = key(9);
    ALL.iter().flat_map(|compression| [Coder::new(*compression, None), Coder::new(*compression, Some(&key))]).collect()
}

fn sealed(coder: &mut Coder, plain: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    coder.seal(&lane(), meta(), plain, &mut block).expect("sealed");
    block
}

/// What a reader of a segment does: header, lengths, payload.
fn opened(coder: &mut Coder, block: &[u8]) -> Option<(Header, Vec<u8>)> {
    let (header, header_len) = Header::parse(block).ok()?;
    let len = usize::try_from(header.block_len()).ok()?;
    let mut plain = vec![1, 2, 3];
    coder.open(&header, block.get(header_len..len)?, &mut plain).ok()?;
    Some((header, plain))
}

#[test]
fn what_was_sealed_opens_with_every_codec_encrypted_or_not() {
    let logs = "<13>Oct 11 22:14:15 fw01 unbound[1]: info: 10.0.0.1 example.org. A IN\n".repeat(900);
    let noise: Vec<u8> = (0..5_000).map(|_| fastrand::u8(..)).collect();
    for mut coder in coders() {
        for plain in [logs.as_bytes(), &noise, b"", b"x"] {
            let block = sealed(&mut coder, plain);
            let (header, found) = opened(&mut coder, &block).expect("opened");
            assert!(found == plain, "{coder:?}");
            assert_eq!((&header.lane, header.meta, header.tombstone), (&lane(), meta(), false));
            assert_eq!(header.block_len(), block.len() as u64);
            assert_eq!(header.plain_len as usize, plain.len());
            assert_eq!(header.encrypted, coder.cipher.is_some());
        }
    }
}

#[test]
fn blocks_are_appended_behind_what_is_there() {
    for mut coder in coders() {
        let mut segment = b"before".to_vec();
        coder.seal(&lane(), meta(), b"one", &mut segment).expect("sealed");
        let first = segment.len();
        coder.seal(&lane(), meta(), b"two", &mut segment).expect("sealed");
        assert_eq!(opened(&mut coder, &segment[6..]).expect("first").1, b"one");
        assert_eq!(opened(&mut coder, &segment[first..]).expect("second").1, b"two");
        assert!(segment.starts_with(b"before"));
    }
}

#[test]
fn only_what_becomes_smaller_is_compressed() {
    let noise: Vec<u8> = (0..5_000).map(|_| fastrand::u8(..)).collect();
    for (compression, codec) in [(Compression::Lz4, Codec::Lz4), (Compression::Zstd, Codec::Zstd)] {
        let mut coder = Coder::new(compression, None);
        let (header, _) = Header::parse(&sealed(&mut coder, &[7; 5_000])).expect("a header");
        assert_eq!(header.codec, codec);
        assert!(header.stored_len < 100);
        let (header, _) = Header::parse(&sealed(&mut coder, &noise)).expect("a header");
        assert_eq!((header.codec, header.stored_len), (Codec::None, 5_000));
    }
}

#[test]
fn encryption_hides_the_records_and_never_repeats_itself() {
    let plain = b"a secret line that must not be read";
    for compression in ALL {
        let mut coder = Coder::new(compression, Some(&key(1)));
        let (first, second) = (sealed(&mut coder, plain), sealed(&mut coder, plain));
        assert!(memchr::memmem::find(&first, b"secret").is_none());
        assert_ne!(first, second);
    }
}

#[test]
fn a_block_opens_with_its_own_key_only() {
    let block = sealed(&mut Coder::new(Compression::Lz4, Some(&key(1))), b"hello");
    let (header, at) = Header::parse(&block).expect("a header");
    let mut plain = Vec::new();
    let mut open = |key: Option<&SpoolKey>| {
        let result = Coder::new(Compression::None, key).open(&header, &block[at..], &mut plain);
        (result, plain.clone())
    };
    assert_eq!(open(None), (Err(BlockFault::NoKey), Vec::new()));
    assert_eq!(open(Some(&key(2))), (Err(BlockFault::Cipher), Vec::new()));
    assert_eq!(open(Some(&key(1))), (Ok(()), b"hello".to_vec()));
}

#[test]
fn an_encrypted_payload_belongs_to_its_header() {
    let mut coder = Coder::new(Compression::None, Some(&key(1)));
    let block = sealed(&mut coder, b"hello");
    let (header, at) = Header::parse(&block).expect("a header");
    let mut moved = header.clone();
    moved.meta.seq = Seq(header.meta.seq.0 + 1);
    assert_eq!(coder.open(&moved, &block[at..], &mut Vec::new()), Err(BlockFault::Cipher));
    let mut renamed = header;
    renamed.lane.route = "dns-cafe".to_owned();
    assert_eq!(coder.open(&renamed, &block[at..], &mut Vec::new()), Err(BlockFault::Cipher));
}

#[test]
fn every_single_bit_flip_is_found_or_harmless() {
    for mut coder in coders() {
        let block = sealed(&mut coder, &b"<13>Oct 11 22:14:15 fw01 app: text ".repeat(4));
        let sound = opened(&mut coder, &block).expect("sound");
        for bit in 0..block.len() * 8 {
            let mut damaged = block.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let found = opened(&mut coder, &damaged);
            if bit / 8 == TOMBSTONE_OFFSET as usize {
                assert_eq!(found.as_ref(), Some(&sound), "bit {bit} drops it");
            } else {
                assert_eq!(found, None, "bit {bit} of {coder:?} is not found");
            }
        }
    }
}

#[test]
fn truncation_at_each_length_is_found() {
    for mut coder in coders() {
        let block = sealed(&mut coder, &b"<13>Oct 11 22:14:15 fw01 app: text ".repeat(4));
        let (header, header_len) = Header::parse(&block).expect("a header");
        for len in 0..block.len() {
            let short = &block[..len];
            if len < header_len {
                assert_eq!(Header::parse(short), Err(HeaderFault::Short), "{len}");
            } else {
                assert_eq!(Header::parse(short), Ok((header.clone(), header_len)));
                let mut plain = Vec::new();
                assert_eq!(coder.open(&header, &short[header_len..], &mut plain), Err(BlockFault::Checksum));
            }
        }
    }
}

#[test]
fn a_tombstone_is_written_over_in_place_and_stands_damage() {
    let mut coder = Coder::new(Compression::Lz4, None);
    let mut block = sealed(&mut coder, b"hello");
    assert_eq!(block[TOMBSTONE_OFFSET as usize], LIVE);
    for damage in [0, 1, 0x10, 0x80] {
        block[TOMBSTONE_OFFSET as usize] = DEAD ^ damage;
        let (header, _) = Header::parse(&block).expect("a header");
        assert!(header.tombstone, "{damage:#x}");
    }
}

#[test]
fn a_later_version_is_told_from_damage() {
    let mut block = sealed(&mut Coder::new(Compression::None, None), b"hello");
    block[9] = VERSION + 1;
    assert_eq!(Header::parse(&block), Err(HeaderFault::Checksum));
    let fixed = block.first_chunk::<FIXED>().expect("a header");
    let crc = header_checksum(fixed, lane().route.as_bytes());
    block[FIXED - 4..FIXED].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(Header::parse(&block), Err(HeaderFault::Version));
}

#[test]
fn a_header_with_a_sound_checksum_may_still_not_ask_for_gigabytes() {
    let block = sealed(&mut Coder::new(Compression::None, None), b"hello");
    // Records' length, payload's length, name's length, codec, flags.
    for (at, octets) in [(28, &[0xff; 4][..]), (32, &[0xff; 4]), (14, &[0xff, 0xff]), (10, &[3]), (11, &[2])] {
        let mut damaged = block.clone();
        damaged[at..at + octets.len()].copy_from_slice(octets);
        let fixed = damaged.first_chunk::<FIXED>().expect("a header");
        let crc = header_checksum(fixed, lane().route.as_bytes());
        damaged[FIXED - 4..FIXED].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::parse(&damaged), Err(HeaderFault::Checksum), "{at}");
    }
}

#[test]
fn what_is_too_large_is_refused_and_leaves_nothing_behind() {
    let mut coder = Coder::new(Compression::Lz4, None);
    let mut out = b"before".to_vec();
    let long = LaneName { route: "x".repeat(NAME_MAX + 1), shard: 0 };
    assert_eq!(coder.seal(&long, meta(), b"", &mut out), Err(BlockFault::TooLarge));
    assert_eq!(coder.seal(&lane(), meta(), &vec![0; PLAIN_MAX + 1], &mut out), Err(BlockFault::TooLarge));
    assert_eq!(out, b"before");
    let longest = LaneName { route: "x".repeat(NAME_MAX), shard: u16::MAX };
    coder.seal(&longest, meta(), &vec![0; PLAIN_MAX], &mut out).expect("sealed");
    assert_eq!(Header::parse(&out[6..]).expect("a header").1, HEADER_MAX);
    assert_eq!(opened(&mut coder, &out[6..]).expect("opened").1.len(), PLAIN_MAX);
}

#[test]
fn the_fuzzers_seeds_are_blocks() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/spool_block");
    let mut found = 0;
    for entry in std::fs::read_dir(folder).expect("seeds") {
        let path = entry.expect("an entry").path();
        let block = std::fs::read(&path).expect("octets");
        let mut coder = Coder::new(Compression::None, Some(&key(7)));
        let (_, plain) = opened(&mut coder, &block).unwrap_or_else(|| panic!("{} does not open", path.display()));
        assert!(plain.starts_with(b"<13>Oct 11"));
        fuzz(&block);
        found += 1;
    }
    assert_eq!(found, 6);
}

proptest! {
    #[test]
    fn arbitrary_octets_never_panic(octets in vec(any::<u8>(), 0..400), magic: bool) {
        let mut block = if magic { MAGIC.to_vec() } else { Vec::new() };
        block.extend(octets);
        fuzz(&block);
    }

    #[test]
    fn any_octets_round_trip(
        plain in vec(any::<u8>(), 0..3_000), route in ".{0,60}", shard: u16, seq: u64, records: u32,
        oldest_us: i64, newest_us: i64,
    ) {
        let lane = LaneName { route, shard };
        let meta = Meta { seq: Seq(seq), records, oldest_us, newest_us };
        for mut coder in coders() {
            let mut block = Vec::new();
            coder.seal(&lane, meta, &plain, &mut block).expect("sealed");
            let (header, found) = opened(&mut coder, &block).expect("opened");
            prop_assert_eq!(&found, &plain);
            prop_assert_eq!((&header.lane, header.meta), (&lane, meta));
        }
    }

    #[test]
    fn any_damage_is_found(
        plain in vec(any::<u8>(), 0..300), which in 0..6_usize, at: prop::sample::Index, octets in vec(any::<u8>(), 1..80),
    ) {
        let mut coder = coders().swap_remove(which);
        let block = sealed(&mut coder, &plain);
        let mut damaged = block.clone();
        let at = at.index(block.len());
        for (target, octet) in damaged[at..].iter_mut().zip(&octets) {
            *target = *octet;
        }
        // The tombstone is meant to be written over.
        damaged[TOMBSTONE_OFFSET as usize] = LIVE;
        prop_assert!(damaged == block || opened(&mut coder, &damaged).is_none());
    }
}
