//! The operator's way into a spool that a relay holds: the unix socket `control` in the spool's folder.
//!
//! One question a connection. The question is a line of JSON, `{"op":"…"}`, for `import` followed by as many octets as
//! its `octets` says. The answer is lines of JSON, of which the last is `"done"` or `{"failed":"why"}`:
//!
//! | `op` | besides | lines before the last |
//! |---|---|---|
//! | `stat` | | one `{"stat":{…}}` |
//! | `list` | `select`, `after`, `max` (at most [`PAGE_MAX`]) | a `{"block":{…}}` for each block, in order of lane and sequence |
//! | `drop` | `select` | a `{"dropped":{…}}` for each route that had such blocks |
//! | `rebuild` | | none |
//! | `import` | `route`, `records`, `oldest_us`, `newest_us`, `octets` | none |
//! | `sync` | | none |
//!
//! A `select` is `{"routes":["NAME",…],"since_us":N,"until_us":N}`, each of them optional. Who may write to the socket
//! may do anything to the spool: it is 0600 in a 0700 folder. [`handle`] does the work, for a relay on the spool's own
//! thread between two commands of shards, for the command line on a spool that no relay holds: one code path. Octets of
//! blocks never go through the socket; whoever may open it may read the segment files.

mod client;
mod serve;
#[cfg(test)]
mod tests;
mod work;

use crossbeam_channel as channel;
use serde::{Deserialize, Serialize};

pub use client::ask;
pub use serve::{Server, serve};
pub use work::handle;

use std::path::{Path, PathBuf};

use crate::spool::block::LaneName;
use crate::spool::segment;

/// The socket's name in the spool's folder.
pub const SOCKET: &str = "control";

/// Blocks in one answer: a few milliseconds of the spool's thread.
pub const PAGE_MAX: usize = 1_000;

/// Blocks that one question drops: each costs a write of one octet, and some work in the index.
pub const DROPS_MAX: u64 = 1_000;

/// The folder of segments in the spool's folder.
pub const SEGMENTS: &str = "segments";

/// The shard whose lanes hold what was imported: the last one that a sequence number has room for, which no relay has.
pub const IMPORT_SHARD: u16 = 4_095;

/// A question that waits for the spool's thread. The answer goes to `reply`, which has room for it: nobody waits there
/// any more when it comes too late.
#[derive(Debug)]
pub struct Request {
    /// What is wanted.
    pub op: Op,
    /// For the one answer.
    pub reply: channel::Sender<Answer>,
}

/// What an operator can ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// How much of what there is.
    Stat,
    /// A page of blocks.
    List {
        /// Which.
        #[serde(default)]
        select: Select,
        /// Those behind this one only.
        #[serde(default)]
        after: Option<Place>,
        /// At most so many; never more than [`PAGE_MAX`].
        max: usize,
    },
    /// Blocks are dropped, that is lost: such as lie wholly in the range, [`DROPS_MAX`] of them at the most; ask again
    /// until there are fewer. What a shard has in memory is not among them: it is on its way out.
    Drop {
        /// Which.
        select: Select,
    },
    /// The index is set aside and made again from the segments, step by step, while the relay goes on.
    Rebuild,
    /// A block is appended behind all others of its route.
    Import {
        /// Whose queue.
        route: String,
        /// Messages in it.
        records: u32,
        /// Reception of the oldest, microseconds since the Unix epoch.
        oldest_us: i64,
        /// Of the newest.
        newest_us: i64,
        /// As [`crate::spool::records::encode`] writes it.
        #[serde(skip)]
        plain: Vec<u8>,
    },
    /// What was done before is made to survive a power cut.
    Sync,
}

/// Which blocks: all that hold a message which fits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Select {
    /// Of these routes; empty: of all.
    pub routes: Vec<String>,
    /// Received then or later, microseconds since the Unix epoch.
    pub since_us: Option<i64>,
    /// Received before.
    pub until_us: Option<i64>,
}

/// A block's place in the order of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its lane's route.
    pub route: String,
    /// Its lane's shard.
    pub shard: u16,
    /// Its number.
    pub seq: u64,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Op::Stat`].
    Stat(Stat),
    /// To [`Op::List`]; fewer than were asked for: these are the last.
    Blocks(Vec<Block>),
    /// To [`Op::Drop`], by route.
    Dropped(Vec<Dropped>),
    /// To all others.
    Done,
    /// It could not be done; what is said is for the operator.
    Failed(String),
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Stat(Stat),
    Block(Block),
    Dropped(Dropped),
    Done,
    Failed(String),
}

/// How much there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stat {
    /// How the relay finds its spool, in a word: whoever asks for it there fills it in.
    pub state: Option<String>,
    /// The index is not complete yet: there may be more than what is said here.
    pub rebuilding: bool,
    /// On the disk, as `du` counts, everything in the folder.
    pub bytes: u64,
    /// In `quarantine/`, part of `bytes`.
    pub quarantine_bytes: u64,
    /// Files of blocks.
    pub segments: u64,
    /// Left on the disk.
    pub disk_free: u64,
    /// Queues that hold something.
    pub lanes: Vec<Lane>,
}

/// A lane's part of [`Stat`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// Its route.
    pub route: String,
    /// Its shard.
    pub shard: u16,
    /// Blocks.
    pub blocks: u64,
    /// Messages in them.
    pub records: u64,
    /// Their length in the segments.
    pub bytes: u64,
    /// Reception of the oldest, microseconds since the Unix epoch.
    pub oldest_us: Option<i64>,
    /// Sealing of its last block, microseconds since the Unix epoch.
    pub newest_us: Option<i64>,
}

/// A block and where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Its lane's route.
    pub route: String,
    /// Its lane's shard.
    pub shard: u16,
    /// Its number.
    pub seq: u64,
    /// Messages in it.
    pub records: u32,
    /// Reception of the oldest, microseconds since the Unix epoch.
    pub oldest_us: i64,
    /// Of the newest.
    pub newest_us: i64,
    /// Number of the segment file.
    pub segment: u64,
    /// Where it begins in there.
    pub offset: u64,
    /// Octets of it, header included.
    pub length: u64,
}

/// What [`Op::Drop`] dropped of one route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Whose.
    pub route: String,
    /// Blocks.
    pub blocks: u64,
    /// Messages that were in them.
    pub records: u64,
    /// Blocks that were selected, and stay because they are on their way out.
    pub out: u64,
}

/// Where segment `number` of the spool in `dir` is.
pub fn segment_path(dir: &Path, number: u64) -> PathBuf {
    segment::path(&dir.join(SEGMENTS), number)
}

impl Block {
    /// Its place in a listing.
    pub fn place(&self) -> Place {
        Place { route: self.route.clone(), shard: self.shard, seq: self.seq }
    }

    /// Its lane.
    pub fn lane(&self) -> LaneName {
        LaneName { route: self.route.clone(), shard: self.shard }
    }
}

impl Select {
    /// Whether a message that was received at `at_us` is among them.
    pub fn takes(&self, at_us: i64) -> bool {
        self.since_us.is_none_or(|since_us| at_us >= since_us) && self.until_us.is_none_or(|until_us| at_us < until_us)
    }
}

impl Answer {
    /// The lines it is written as.
    fn into_lines(self) -> Vec<Line> {
        let mut lines: Vec<Line> = match self {
            Self::Failed(why) => return vec![Line::Failed(why)],
            Self::Stat(stat) => vec![Line::Stat(stat)],
            Self::Blocks(blocks) => blocks.into_iter().map(Line::Block).collect(),
            Self::Dropped(dropped) => dropped.into_iter().map(Line::Dropped).collect(),
            Self::Done => Vec::new(),
        };
        lines.push(Line::Done);
        lines
    }
}
