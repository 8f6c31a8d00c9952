//! Blocks, read from the segment files by ourselves: whoever holds the spool only says where they are, so that a relay is
//! not slowed by what is read behind its back.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};

use crate::batch::Batch;
use crate::spool::block::{BlockFault, Coder, HEADER_MAX, Header, HeaderFault, MAGIC, STORED_MAX};
use crate::spool::control::{self, Answer, Block, Op, PAGE_MAX, Place, Select};
use crate::spool::records;

use super::place::{self, Spool};
use super::{End, say, show};

/// A walk over the blocks that were selected.
pub(super) struct Blocks<'a> {
    spool: &'a mut Spool,
    dir: PathBuf,
    coder: Coder,
    select: Select,
    page: VecDeque<Block>,
    after: Option<Place>,
    ended: bool,
    /// The segment that was read last.
    file: Option<(u64, File)>,
    /// Released or dropped since they were listed.
    gone: u64,
    damaged: u64,
    /// Encrypted with another key.
    locked: u64,
}

/// Damaged blocks are told one by one up to here.
const TOLD_MAX: u64 = 10;

/// Why there is no batch in a block's place.
enum Fault {
    /// It was released meanwhile.
    Gone,
    /// It is not what was written.
    Damaged(String),
    /// It was encrypted with another key.
    Locked,
    /// Neither it nor the next can be read.
    Stop(anyhow::Error),
}

impl<'a> Blocks<'a> {
    /// From the first.
    pub(super) fn new(place: &place::Place, spool: &'a mut Spool, select: Select) -> Self {
        Self {
            spool,
            dir: place.dir().to_path_buf(),
            coder: place.coder(),
            select,
            page: VecDeque::new(),
            after: None,
            ended: false,
            file: None,
            gone: 0,
            damaged: 0,
            locked: 0,
        }
    }

    /// The next block's place, without reading it.
    pub(super) fn next_place(&mut self) -> anyhow::Result<Option<Block>> {
        while self.page.is_empty() && !self.ended {
            let after = self.after.take();
            let op = Op::List { select: self.select.clone(), after, max: PAGE_MAX };
            let Answer::Blocks(page) = self.spool.ask(op)? else { bail!("the relay did not answer with blocks") };
            self.after = page.last().map(Block::place);
            self.ended = page.is_empty();
            self.page = page.into();
        }
        Ok(self.page.pop_front())
    }

    /// The next block that can be read. Others are counted, and told at the [`Self::end`].
    pub(super) fn next(&mut self) -> anyhow::Result<Option<(Block, Batch)>> {
        while let Some(block) = self.next_place()? {
            match self.read(&block) {
                Ok(batch) => return Ok(Some((block, batch))),
                Err(Fault::Gone) => self.gone += 1,
                Err(Fault::Locked) => self.locked += 1,
                Err(Fault::Damaged(why)) => {
                    self.damaged += 1;
                    if self.damaged <= TOLD_MAX {
                        self.tell(&block, &why);
                    }
                }
                Err(Fault::Stop(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    fn tell(&self, block: &Block, why: &str) {
        say(&format!(
            "{} at {}: {why}; {} messages of {} cannot be read\n",
            control::segment_path(&self.dir, block.segment).display(),
            block.offset,
            block.records,
            show::safe(block.route.as_bytes())
        ));
    }

    /// What could not be read; whether all was well.
    pub(super) fn end(self) -> bool {
        if self.gone > 0 {
            say(&format!("{} blocks were released while they were read: they are not shown\n", self.gone));
        }
        if self.damaged > 0 {
            say(&format!("{} blocks are damaged: forebay spool verify says more\n", self.damaged));
        }
        if self.locked > 0 {
            say(&format!("{} blocks were encrypted with another key: they are not shown\n", self.locked));
        }
        self.damaged + self.locked == 0
    }

    fn read(&mut self, block: &Block) -> Result<Batch, Fault> {
        let file = self.segment(block.segment)?;
        let mut octets = vec![0; usize::try_from(block.length).unwrap_or(usize::MAX).min(HEADER_MAX + STORED_MAX)];
        match file.read_exact_at(&mut octets, block.offset) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Fault::Gone),
            Err(error) => return Err(Fault::Damaged(error.to_string())),
        }
        let (header, payload) = match header_of(&octets) {
            Ok(found) => found,
            // A hole was punched where it was.
            Err(HeaderFault::NotAHeader) if octets.iter().take(MAGIC.len()).all(|octet| *octet == 0) => {
                return Err(Fault::Gone);
            }
            Err(fault) => return Err(Fault::Damaged(fault.to_string())),
        };
        let is_it = header.lane == block.lane() && header.meta.seq.0 == block.seq;
        if header.tombstone || !is_it {
            return Err(Fault::Gone);
        }
        open(&mut self.coder, &header, payload).map_err(|fault| match fault {
            Opening::NoKey => Fault::Stop(anyhow!(
                "the spool is encrypted: give its key with -c CONFIG, or with --encryption-key-file"
            )),
            Opening::OtherKey => Fault::Locked,
            Opening::Damaged(why) => Fault::Damaged(why),
        })
    }

    fn segment(&mut self, number: u64) -> Result<&File, Fault> {
        if self.file.as_ref().is_none_or(|(open, _)| *open != number) {
            let path = control::segment_path(&self.dir, number);
            let file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Fault::Gone),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    let what = format!("{}: run this as the relay's user, or as root", path.display());
                    return Err(Fault::Stop(anyhow::Error::new(error).context(what)));
                }
                Err(error) => return Err(Fault::Damaged(error.to_string())),
                Ok(file) => file,
            };
            self.file = Some((number, file));
        }
        match &self.file {
            Some((_, file)) => Ok(file),
            None => Err(Fault::Gone),
        }
    }
}

/// The header at the start of `octets`, and its payload behind it.
pub(super) fn header_of(octets: &[u8]) -> Result<(Header, &[u8]), HeaderFault> {
    let (header, len) = Header::parse(octets)?;
    let payload = octets.get(len..len + header.stored_len as usize).ok_or(HeaderFault::Short)?;
    Ok((header, payload))
}

/// Why a block cannot be opened.
pub(super) enum Opening {
    /// It is encrypted, and there is no key.
    NoKey,
    /// It is whole, and does not decrypt with this key.
    OtherKey,
    /// Its octets are not those that were written.
    Damaged(String),
}

/// Decrypts, decompresses and decodes.
pub(super) fn open(coder: &mut Coder, header: &Header, payload: &[u8]) -> Result<Batch, Opening> {
    let mut plain = Vec::new();
    match coder.open(header, payload, &mut plain) {
        Ok(()) => {}
        Err(BlockFault::NoKey) => return Err(Opening::NoKey),
        // Its checksum is right, or that would have been found first.
        Err(BlockFault::Cipher) => return Err(Opening::OtherKey),
        Err(fault) => return Err(Opening::Damaged(fault.to_string())),
    }
    records::decode(&plain, &[]).map_err(|fault| Opening::Damaged(fault.to_string()))
}

/// Opens the spool, walks over what is selected, and closes it. `each` may end it early; `false`: something is damaged.
pub(super) fn walk(
    place: &place::Place,
    select: Select,
    mut each: impl FnMut(&Block, Batch) -> Result<(), End>,
) -> Result<bool, End> {
    place.exists()?;
    let mut spool = place.open()?;
    let mut blocks = Blocks::new(place, &mut spool, select);
    let walked = loop {
        match blocks.next() {
            Ok(Some((block, batch))) => {
                if let Err(end) = each(&block, batch) {
                    break Err(end);
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.context("the blocks cannot be read any further").into()),
        }
    };
    let whole = blocks.end();
    spool.close()?;
    walked.map(|()| whole)
}

/// How much `is_meant` of what is selected.
///
/// # Errors
/// The spool does not answer.
pub(super) fn total(spool: &mut Spool, select: &Select, is_meant: impl Fn(&Block) -> bool) -> anyhow::Result<Total> {
    let mut total = Total::default();
    let mut after = None;
    loop {
        let op = Op::List { select: select.clone(), after, max: PAGE_MAX };
        let Answer::Blocks(page) = spool.ask(op).context("listing the blocks")? else {
            bail!("the relay did not answer with blocks")
        };
        for block in page.iter().filter(|block| is_meant(block)) {
            total.blocks += 1;
            total.records += u64::from(block.records);
            total.bytes += block.length;
        }
        after = page.last().map(Block::place);
        if after.is_none() {
            return Ok(total);
        }
    }
}

/// Sums over blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) blocks: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
}
