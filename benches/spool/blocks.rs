//! Batches as a shard seals them, encoded as the spool's thread encodes them.

use std::net::{IpAddr, Ipv4Addr};

use forebay::batch::{BATCH_BYTES, Batch};
use forebay::spool::records;
use forebay::syslog::{Clock, Message, parse};

/// Different blocks: more than a compressor's window, so that no round is one block again and again.
const DIFFERENT: usize = 64;
const PROGRAMS: [&str; 8] = ["unbound", "nginx", "sshd", "postfix", "squid", "haproxy", "named", "suricata"];
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
/// 2026-11-22 12:00:00 UTC.
const NOW_US: i64 = 1_795_348_800_000_000;
const CLOCK: Clock = Clock { now_us: NOW_US, year: 2026, month: 11, day: 22, offset_minutes: 0 };

/// A supply of blocks.
pub struct Blocks {
    blocks: Vec<(Vec<u8>, u32)>,
}

impl Blocks {
    /// Makes them.
    pub fn new() -> Self {
        let inputs = ["lan".to_owned()];
        let mut random = fastrand::Rng::with_seed(3);
        let blocks = (0..DIFFERENT).map(|_| {
            let batch = batch(&mut random);
            let mut plain = Vec::new();
            records::encode(&batch, &inputs, &mut plain);
            (plain, batch.len() as u32)
        });
        Self { blocks: blocks.collect() }
    }

    /// The one of that number, and how many records it holds.
    pub fn get(&self, number: u64) -> (&[u8], u32) {
        let (plain, records) = &self.blocks[number as usize % DIFFERENT];
        (plain, *records)
    }

    /// Octets of one, on average.
    pub fn mean_len(&self) -> usize {
        self.blocks.iter().map(|(plain, _)| plain.len()).sum::<usize>() / DIFFERENT
    }

    /// Records of one, on average.
    pub fn mean_records(&self) -> u32 {
        self.blocks.iter().map(|(_, records)| records).sum::<u32>() / DIFFERENT as u32
    }
}

fn batch(random: &mut fastrand::Rng) -> Batch {
    let mut batch = Batch::default();
    let mut at_us = NOW_US;
    while batch.charge() < BATCH_BYTES {
        let line = line(random);
        at_us += random.i64(1..200);
        let fields = parse(line.as_bytes(), &CLOCK);
        let message =
            Message { fields: &fields, raw: line.as_bytes(), received_at_us: at_us, peer: Some(PEER), input: "lan" };
        batch.push(&message, 0);
    }
    batch
}

/// As a resolver or a proxy writes them: names, addresses and times that differ, words that do not.
fn line(random: &mut fastrand::Rng) -> String {
    let program = random.usize(..PROGRAMS.len());
    let address = Ipv4Addr::from(0x0a00_0000 | random.u32(..1 << 16));
    let name: String = (0..random.usize(4..14)).map(|_| random.lowercase()).collect();
    format!(
        "<{}>Nov 22 12:{:02}:{:02} edge-fw-{:02} {}[{}]: [{}:0] info: {address} {name}.example.org. {} IN NOERROR {}.{:06} {} {}",
        128 + program,
        random.u32(..60),
        random.u32(..60),
        random.u32(..8),
        PROGRAMS[program],
        2200 + program,
        random.u32(1000..9999),
        ["A", "AAAA", "PTR", "HTTPS"][random.usize(..4)],
        0,
        random.u32(..200_000),
        random.u32(..2),
        random.u32(40..600),
    )
}
