//! The messages that the generator writes and the sink reads: RFC 3164, 170 octets, stamped at a fixed distance from
//! the end so that neither side has to search.

use std::time::{SystemTime, UNIX_EPOCH};

/// Octets of one message, without a trailer.
pub const MESSAGE_LEN: usize = 170;
/// ` s=SS q=<16 digits> t=<16 digits>`: source, sequence number within the source, microseconds of sending.
pub const STAMP_LEN: usize = 4 + 1 + 2 * (DIGITS + 3);
/// Programs, one intake key each. Sequence number modulo their count names the program.
pub const PROGRAMS: [&str; 8] = ["unbound", "nginx", "sshd", "postfix", "squid", "haproxy", "named", "suricata"];
/// Sources are numbered with two digits.
pub const SOURCES_MAX: usize = 100;

const DIGITS: usize = 16;
const HOSTNAME: &str = "edge-fw-01";
const FILLER: &str =
    " [4711:0] info: reply to 198.51.100.23 for www.example.org. IN AAAA took 12 ms, 3 answers, from cache: no, end";

/// The intake key that messages of program `index` must carry: 32 characters, as Sekoia's are.
pub fn intake_key(index: usize) -> String {
    format!("bench{index}KeyThatIsAsLongAsARealOne{index}").chars().chain("x".repeat(32).chars()).take(32).collect()
}

/// Microseconds since the Unix epoch.
pub fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// One message of every program for `source`, [`MESSAGE_LEN`] octets each, with zeros for its stamps.
pub fn samples(source: usize) -> Vec<Vec<u8>> {
    let stamp = jiff::Zoned::now().strftime("%b %e %H:%M:%S").to_string();
    let tail = format!(" s={source:02} q={:016} t={:016}", 0, 0);
    PROGRAMS
        .iter()
        .enumerate()
        .map(|(index, program)| {
            let pri = 128 + index;
            let head = format!("<{pri}>{stamp} {HOSTNAME} {program}[{}]:", 2200 + index);
            let room = MESSAGE_LEN - head.len() - tail.len();
            format!("{head}{:<room$}{tail}", &FILLER[..room.min(FILLER.len())]).into_bytes()
        })
        .collect()
}

/// Writes sequence number and time into a message that ends where `message` ends.
pub fn stamp(message: &mut [u8], sequence: u64, time: &[u8; DIGITS]) {
    let from = message.len() - 2 * DIGITS - 3;
    message[from..from + DIGITS].copy_from_slice(&digits(sequence));
    let from = message.len() - DIGITS;
    message[from..].copy_from_slice(time);
}

/// `value` as 16 decimal digits.
pub fn digits(mut value: u64) -> [u8; DIGITS] {
    let mut text = [b'0'; DIGITS];
    for pair in text.rchunks_exact_mut(2) {
        let two = (value % 100) as u8;
        value /= 100;
        pair[0] = b'0' + two / 10;
        pair[1] = b'0' + two % 10;
        if value == 0 {
            break;
        }
    }
    text
}

/// What the last [`STAMP_LEN`] octets of a message say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the sending source.
    pub source: usize,
    /// Its message's number, from 0.
    pub sequence: u64,
    /// When it was sent, microseconds since the Unix epoch.
    pub sent_us: u64,
}

/// Reads the stamps off the end of `message`; `None` where they are not what [`stamp`] wrote.
pub fn read_stamp(message: &[u8]) -> Option<Stamp> {
    let tail = message.last_chunk::<STAMP_LEN>()?;
    let (source, rest) = tail.split_at(5);
    let (sequence, time) = rest.split_at(DIGITS + 3);
    let source = source.strip_prefix(b" s=")?;
    let tens = source[0].wrapping_sub(b'0');
    let ones = source[1].wrapping_sub(b'0');
    if tens > 9 || ones > 9 {
        return None;
    }
    Some(Stamp {
        source: usize::from(tens) * 10 + usize::from(ones),
        sequence: number(sequence.strip_prefix(b" q=")?)?,
        sent_us: number(time.strip_prefix(b" t=")?)?,
    })
}

/// 16 digits, eight at a time (the sink shares two cores with what it measures).
fn number(text: &[u8]) -> Option<u64> {
    let text: &[u8; DIGITS] = text.try_into().ok()?;
    let (high, low) = text.split_at(8);
    Some(eight(high.try_into().ok()?)? * 100_000_000 + eight(low.try_into().ok()?)?)
}

fn eight(text: [u8; 8]) -> Option<u64> {
    let raw = u64::from_le_bytes(text);
    let value = raw.wrapping_sub(0x3030_3030_3030_3030);
    let above_nine = value.wrapping_add(0x7676_7676_7676_7676);
    if (value | above_nine) & 0x8080_8080_8080_8080 != 0 {
        return None;
    }
    let pairs = value.wrapping_mul(10).wrapping_add(value >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff)
}
