//! A block: one batch as it lies in a segment. It describes itself, so that a scan finds what an index has lost.
//!
//! All numbers are little endian, nothing is padded:
//!
//! | octets | what |
//! |---|---|
//! | 8 | [`MAGIC`] |
//! | 1 | tombstone: [`LIVE`], or [`DEAD`] once its records were dropped; outside the checksum, written over in place |
//! | 1 | version of the format |
//! | 1 | codec |
//! | 1 | flags: 1 is "encrypted" |
//! | 2 | shard |
//! | 2 | length of the route's name |
//! | 8 | seq |
//! | 4 | records |
//! | 4 | length of the records' octets |
//! | 4 | length of the payload: the same compressed, then encrypted |
//! | 8 + 8 | arrival of the oldest and of the newest record, microseconds since the Unix epoch |
//! | 4 | CRC-32 of the payload |
//! | 4 | CRC-32 of the header: of all above but the tombstone, and of the name |
//! | … | the route's name, then the payload |
//!
//! What a later version may not change: where the magic, the version, both lengths and the checksums are.

use zstd::bulk::{Compressor, Decompressor};

use super::cipher::{self, Cipher};
use crate::batch::{BATCH_BYTES, Seq};
use crate::config::{Compression, SpoolKey, limits};

#[doc(hidden)]
pub use fuzz::fuzz;

mod fuzz;

/// What every block begins with. It is no UTF-8 and holds a NUL, which no sanitized message does: plain records do not
/// hold it, compressed ones by chance once in 2^64 octets.
pub const MAGIC: [u8; 8] = [0xf0, 0x9e, 0x00, b'f', b'b', b'l', 0xc1, 0x8d];

/// Where the tombstone octet is, from the block's start.
pub const TOMBSTONE_OFFSET: u64 = 8;

/// The tombstone octet of a block that counts.
pub const LIVE: u8 = 0xff;

/// The tombstone octet of a block whose records were dropped.
pub const DEAD: u8 = 0x00;

/// Octets of a header without the name.
const FIXED: usize = 60;

/// Octets of a route's name. The configuration allows fewer; a repaired or imported spool may hold older habits.
pub const NAME_MAX: usize = 255;

/// Octets of the longest header.
pub const HEADER_MAX: usize = FIXED + NAME_MAX;

/// Octets of records in one block: a damaged length must not make us allocate more.
///
/// A batch is sealed at 64 KiB of memory, so that the last message puts it beyond that by one message, 16 MiB at the most.
/// What records add to each message is less than a record takes in memory; 15 times the batch is left for input names.
pub const PLAIN_MAX: usize = limits::MESSAGE_SIZE_MAX as usize + 16 * BATCH_BYTES;

/// Octets of a payload: what does not become smaller is not compressed.
pub const STORED_MAX: usize = PLAIN_MAX + cipher::OVERHEAD;

/// A scratch buffer that grew beyond it is given back.
const SCRATCH_KEPT: usize = 8 * BATCH_BYTES;

/// 4 times smaller at 570 MB/s; the levels above cost more than they save on logs.
const ZSTD_LEVEL: i32 = 1;

const VERSION: u8 = 1;
const FLAG_ENCRYPTED: u8 = 1;

/// Whose blocks they are: each shard's part of each route has an order of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneName {
    /// The route's name.
    pub route: String,
    /// The shard's number.
    pub shard: u16,
}

/// What is to be known of a block without reading its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Its place in its lane.
    pub seq: Seq,
    /// Count of records.
    pub records: u32,
    /// Arrival of the oldest, microseconds since the Unix epoch.
    pub oldest_us: i64,
    /// Arrival of the newest, microseconds since the Unix epoch.
    pub newest_us: i64,
}

/// How a payload is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// Not at all.
    None = 0,
    /// LZ4's block format.
    Lz4 = 1,
    /// One zstd frame.
    Zstd = 2,
}

/// A block's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Whose it is.
    pub lane: LaneName,
    /// Which, and of when.
    pub meta: Meta,
    /// How it is compressed.
    pub codec: Codec,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Octets of its records, at most [`PLAIN_MAX`].
    pub plain_len: u32,
    /// Octets of its payload, at most [`STORED_MAX`].
    pub stored_len: u32,
    payload_crc: u32,
    /// Its records were dropped: it counts no longer.
    pub tombstone: bool,
}

/// Why octets are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// It is longer than the octets that were given: with [`HEADER_MAX`] of them this is never the answer.
    #[error("more octets are needed")]
    Short,
    /// It does not begin as a header does.
    #[error("no block begins here")]
    NotAHeader,
    /// It is damaged: its checksum differs, or it says what no header says.
    #[error("the block's header is damaged")]
    Checksum,
    /// Undamaged, and of a later version of the format.
    #[error("the block is of a later version")]
    Version,
}

/// Why a block was not made or not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockFault {
    /// The payload is not what was written.
    #[error("the block's checksum differs")]
    Checksum,
    /// The payload does not decompress to what the header says.
    #[error("the block does not decompress")]
    Compression,
    /// It does not decrypt: the key is another one, or its octets are not what was written. (Sealing: no random octets.)
    #[error("the block does not decrypt with this key")]
    Cipher,
    /// It is encrypted, and there is no key.
    #[error("the block is encrypted, and no key is configured")]
    NoKey,
    /// More octets of records than [`PLAIN_MAX`], or a longer name than [`NAME_MAX`].
    #[error("larger than a block may be")]
    TooLarge,
}

impl Header {
    /// Reads the header at the start of `bytes`; returns it with the count of its octets, name included. The payload
    /// follows it.
    ///
    /// # Errors
    /// Says why there is none. Never allocates more than a name, whatever the octets are.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), HeaderFault> {
        let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
            let known = bytes.len().min(MAGIC.len());
            let begins = bytes.get(..known) == MAGIC.get(..known);
            return Err(if begins { HeaderFault::Short } else { HeaderFault::NotAHeader });
        };
        let mut fields = Fields(fixed);
        if fields.take::<8>() != MAGIC {
            return Err(HeaderFault::NotAHeader);
        }
        let [tombstone, version, codec, flags] = fields.take();
        let shard = u16::from_le_bytes(fields.take());
        let name_len = usize::from(u16::from_le_bytes(fields.take()));
        let seq = Seq(u64::from_le_bytes(fields.take()));
        let [records, plain_len, stored_len] = [(); 3].map(|()| u32::from_le_bytes(fields.take()));
        let [oldest_us, newest_us] = [(); 2].map(|()| i64::from_le_bytes(fields.take()));
        let [payload_crc, header_crc] = [(); 2].map(|()| u32::from_le_bytes(fields.take()));
        if name_len > NAME_MAX {
            return Err(HeaderFault::Checksum);
        }
        let name = rest.get(..name_len).ok_or(HeaderFault::Short)?;
        if header_crc != header_checksum(fixed, name) {
            return Err(HeaderFault::Checksum);
        }
        if version != VERSION {
            return Err(HeaderFault::Version);
        }
        let codec = Codec::from_octet(codec).ok_or(HeaderFault::Checksum)?;
        let route = std::str::from_utf8(name).map_err(|_| HeaderFault::Checksum)?.to_owned();
        if flags > FLAG_ENCRYPTED || plain_len as usize > PLAIN_MAX || stored_len as usize > STORED_MAX {
            return Err(HeaderFault::Checksum);
        }
        let header = Self {
            lane: LaneName { route, shard },
            meta: Meta { seq, records, oldest_us, newest_us },
            codec,
            encrypted: flags == FLAG_ENCRYPTED,
            plain_len,
            stored_len,
            payload_crc,
            tombstone: is_dead(tombstone),
        };
        Ok((header, FIXED + name_len))
    }

    /// Octets of the whole block: header, name and payload.
    pub fn block_len(&self) -> u64 {
        (FIXED + self.lane.route.len()) as u64 + u64::from(self.stored_len)
    }

    /// Whether `stored` is the payload that was written behind it.
    pub fn is_payload(&self, stored: &[u8]) -> bool {
        stored.len() == self.stored_len as usize && crc32fast::hash(stored) == self.payload_crc
    }

    /// Appends it as it lies in front of its payload. `signed`: as encryption covers it, its checksums left out.
    fn write(&self, signed: bool, out: &mut Vec<u8>) {
        let mut fixed = [0; FIXED];
        let mut fields = FieldsMut(&mut fixed);
        fields.put(MAGIC);
        fields.put([LIVE, VERSION, self.codec as u8, if self.encrypted { FLAG_ENCRYPTED } else { 0 }]);
        fields.put(self.lane.shard.to_le_bytes());
        fields.put((self.lane.route.len() as u16).to_le_bytes());
        fields.put(self.meta.seq.0.to_le_bytes());
        fields.put(self.meta.records.to_le_bytes());
        fields.put(self.plain_len.to_le_bytes());
        fields.put(self.stored_len.to_le_bytes());
        fields.put(self.meta.oldest_us.to_le_bytes());
        fields.put(self.meta.newest_us.to_le_bytes());
        let name = self.lane.route.as_bytes();
        if !signed {
            fields.put(self.payload_crc.to_le_bytes());
            let crc = header_checksum(&fixed, name);
            if let Some(last) = fixed.last_chunk_mut() {
                *last = crc.to_le_bytes();
            }
        }
        out.extend_from_slice(&fixed);
        out.extend_from_slice(name);
    }
}

impl Codec {
    fn from_octet(octet: u8) -> Option<Self> {
        [Self::None, Self::Lz4, Self::Zstd].into_iter().find(|codec| *codec as u8 == octet)
    }
}

/// Damage of one or two bits neither drops a block nor brings one back.
fn is_dead(tombstone: u8) -> bool {
    tombstone.count_ones() <= 2
}

/// Of a header's octets but the tombstone and the checksum itself, and of the name.
fn header_checksum(fixed: &[u8; FIXED], name: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    let (before, after) = fixed.split_at(TOMBSTONE_OFFSET as usize);
    crc.update(before);
    crc.update(after.get(1..FIXED - TOMBSTONE_OFFSET as usize - 4).unwrap_or_default());
    crc.update(name);
    crc.finalize()
}

/// Numbers of a header, one after the other; they add up to `FIXED`.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => [0; N],
        }
    }
}

struct FieldsMut<'a>(&'a mut [u8]);

impl FieldsMut<'_> {
    fn put<const N: usize>(&mut self, octets: [u8; N]) {
        if let Some((first, rest)) = std::mem::take(&mut self.0).split_first_chunk_mut::<N>() {
            *first = octets;
            self.0 = rest;
        }
    }
}

/// Makes blocks and opens them: compression, encryption, and the buffers of both. One thread's.
pub struct Coder {
    compression: Compression,
    cipher: Option<Cipher>,
    /// Made when it is used first: the spool may use one of the two, or none.
    lz4: Option<lz4_flex::block::CompressTable>,
    zstd: Option<Compressor<'static>>,
    unzstd: Option<Decompressor<'static>>,
    /// Decrypted, not yet decompressed.
    scratch: Vec<u8>,
    /// A header as encryption covers it.
    signed: Vec<u8>,
}

impl Coder {
    /// Blocks will be compressed with `compression`, and encrypted where there is a key. Opens those of any compression.
    pub fn new(compression: Compression, key: Option<&SpoolKey>) -> Self {
        Self {
            compression,
            cipher: key.map(Cipher::new),
            lz4: None,
            zstd: None,
            unzstd: None,
            scratch: Vec::new(),
            signed: Vec::new(),
        }
    }

    /// Appends `plain` to `out` as one whole block.
    ///
    /// # Errors
    /// [`BlockFault::TooLarge`], or [`BlockFault::Cipher`] where the system has no random octets; `out` is as it was.
    pub fn seal(&mut self, lane: &LaneName, meta: Meta, plain: &[u8], out: &mut Vec<u8>) -> Result<(), BlockFault> {
        if plain.len() > PLAIN_MAX || lane.route.len() > NAME_MAX {
            return Err(BlockFault::TooLarge);
        }
        let start = out.len();
        let sealed = self.seal_behind(lane, meta, plain, out);
        if sealed.is_err() {
            out.truncate(start);
        }
        sealed
    }

    fn seal_behind(&mut self, lane: &LaneName, meta: Meta, plain: &[u8], out: &mut Vec<u8>) -> Result<(), BlockFault> {
        let start = out.len();
        let payload_at = start + FIXED + lane.route.len();
        let overhead = if self.cipher.is_some() { cipher::OVERHEAD } else { 0 };
        out.resize(payload_at + overhead, 0);
        let codec = self.compress(plain, out);
        let mut header = Header {
            lane: lane.clone(),
            meta,
            codec,
            encrypted: self.cipher.is_some(),
            plain_len: plain.len() as u32,
            stored_len: (out.len() - payload_at) as u32,
            payload_crc: 0,
            tombstone: false,
        };
        let (_, payload) = out.split_at_mut_checked(payload_at).ok_or(BlockFault::TooLarge)?;
        if let Some(cipher) = &self.cipher {
            self.signed.clear();
            header.write(true, &mut self.signed);
            cipher.seal(&self.signed, payload).map_err(|_| BlockFault::Cipher)?;
        }
        header.payload_crc = crc32fast::hash(payload);
        self.signed.clear();
        header.write(false, &mut self.signed);
        if let Some(room) = out.get_mut(start..payload_at) {
            room.copy_from_slice(&self.signed);
        }
        Ok(())
    }

    /// Appends `plain` compressed, or as it is where that is no longer.
    fn compress(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Codec {
        let start = out.len();
        let (codec, room) = match self.compression {
            Compression::None => (Codec::None, 0),
            Compression::Lz4 => (Codec::Lz4, lz4_flex::block::get_maximum_output_size(plain.len())),
            // What it needs more would not be used.
            Compression::Zstd => (Codec::Zstd, plain.len()),
        };
        out.resize(start + room, 0);
        let tail = out.get_mut(start..).unwrap_or_default();
        let written = match codec {
            Codec::None => None,
            Codec::Lz4 => {
                let table = self.lz4.get_or_insert_with(lz4_flex::block::CompressTable::large);
                lz4_flex::block::compress_into_with_table(plain, tail, table).ok()
            }
            Codec::Zstd => {
                if self.zstd.is_none() {
                    self.zstd = Compressor::new(ZSTD_LEVEL).ok();
                }
                self.zstd.as_mut().and_then(|zstd| zstd.compress_to_buffer(plain, tail).ok())
            }
        };
        match written {
            Some(len) if len < plain.len() => {
                out.truncate(start + len);
                codec
            }
            _ => {
                out.truncate(start);
                out.extend_from_slice(plain);
                Codec::None
            }
        }
    }

    /// The octets that were sealed, in `plain`, which is emptied before. `stored` is the payload that `header` describes.
    ///
    /// # Errors
    /// `plain` is empty then. Never panics, and never allocates more than twice the lengths in the header.
    pub fn open(&mut self, header: &Header, stored: &[u8], plain: &mut Vec<u8>) -> Result<(), BlockFault> {
        plain.clear();
        let opened = self.open_into(header, stored, plain);
        if opened.is_err() {
            plain.clear();
        }
        if self.scratch.capacity() > SCRATCH_KEPT {
            self.scratch = Vec::new();
        }
        opened
    }

    fn open_into(&mut self, header: &Header, stored: &[u8], plain: &mut Vec<u8>) -> Result<(), BlockFault> {
        if stored.len() != header.stored_len as usize || crc32fast::hash(stored) != header.payload_crc {
            return Err(BlockFault::Checksum);
        }
        let plain_len = header.plain_len as usize;
        if plain_len > PLAIN_MAX {
            return Err(BlockFault::TooLarge);
        }
        let packed = if header.encrypted {
            let cipher = self.cipher.as_ref().ok_or(BlockFault::NoKey)?;
            self.signed.clear();
            header.write(true, &mut self.signed);
            cipher.open(&self.signed, stored, &mut self.scratch).map_err(|_| BlockFault::Cipher)?;
            self.scratch.as_slice()
        } else {
            stored
        };
        let len = match header.codec {
            Codec::None => {
                plain.extend_from_slice(packed);
                Some(packed.len())
            }
            Codec::Lz4 => {
                plain.resize(plain_len, 0);
                lz4_flex::block::decompress_into(packed, plain).ok()
            }
            Codec::Zstd => {
                plain.resize(plain_len, 0);
                if self.unzstd.is_none() {
                    self.unzstd = Decompressor::new().ok();
                }
                let room = plain.as_mut_slice();
                self.unzstd.as_mut().and_then(|unzstd| unzstd.decompress_to_buffer(packed, room).ok())
            }
        };
        if len == Some(plain_len) { Ok(()) } else { Err(BlockFault::Compression) }
    }
}

impl std::fmt::Debug for Coder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Coder")
            .field("compression", &self.compression)
            .field("encrypts", &self.cipher.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
