//! `forebay spool import`: exported messages back into the spool.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, stdin};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail, ensure};

use crate::batch::{BATCH_BYTES, Batch};
use crate::config::limits;
use crate::spool::control::Op;
use crate::spool::records;
use crate::syslog::{Decoder, Framing};

use super::place::{Place, Spool};
use super::progress::{Progress, Unit};
use super::record::Read;
use super::{End, Form, Import, print, say, show};

/// Octets of a line of JSON: the longest message, each octet of it escaped, as text, as base64 and as MSG.
const LINE_MAX: u64 = 16 * limits::MESSAGE_SIZE_MAX;

/// Memory of batches that are not full yet, over all routes.
const OPEN_BYTES_MAX: usize = 16 << 20;

/// Names of inputs in one batch: they are looked for one by one.
const INPUTS_MAX: usize = 64;

/// Lines that cannot be read are told one by one up to here.
const TOLD_MAX: u64 = 10;

/// Reads messages and appends them to the spool.
pub(super) fn import(options: &Import) -> Result<ExitCode, End> {
    if options.format == Form::Rfc5424 && options.route.is_none() {
        return Err(End::Usage(
            "RFC 5424 names no route: say whose queue the messages join with --route NAME".to_owned(),
        ));
    }
    if let Some(route) = &options.route {
        is_name(route).map_err(|mistake| End::Usage(format!("--route: {mistake}")))?;
    }
    let place = options.place.find()?;
    place.exists()?;
    let (reader, octets): (Box<dyn BufRead>, u64) = match &options.file {
        Some(path) => {
            let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            let octets = file.metadata().map(|metadata| metadata.len()).unwrap_or(0);
            (Box::new(BufReader::with_capacity(1 << 20, file)), octets)
        }
        None => (Box::new(stdin().lock()), 0),
    };
    let mut spool = place.open()?;
    let unit = if octets > 0 { Unit::Octets } else { Unit::Steps };
    let mut importer = Importer {
        spool: &mut spool,
        route: options.route.as_deref(),
        open: BTreeMap::new(),
        bytes: 0,
        imported: BTreeMap::new(),
        refused: 0,
        progress: Progress::new("importing", unit, octets),
    };
    let read = match options.format {
        Form::Json => importer.json(reader),
        Form::Rfc5424 => importer.rfc5424(reader),
    };
    let ended = read.and_then(|()| importer.flush());
    let (imported, refused) = (std::mem::take(&mut importer.imported), importer.refused);
    drop(importer);
    let ended = ended.and_then(|()| spool.ask(Op::Sync).map(drop));
    spool.close()?;
    tell(&place, &imported);
    ended.with_context(|| {
        let so_far: u64 = imported.values().sum();
        format!("{so_far} messages were imported before this; importing the same again would send those twice")
    })?;
    if refused > 0 {
        return Err(anyhow!("{refused} of what was read are no messages: they were left out").into());
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(place: &Place, imported: &BTreeMap<String, u64>) {
    let forwarding = place.forwarding();
    for (route, records) in imported {
        print(&format!("{}: imported {records} messages\n", show::safe(route.as_bytes())));
        if forwarding.as_ref().is_some_and(|forwarding| !forwarding.contains(route.as_str())) {
            say(&format!(
                "no route of the configuration has the name {}: nothing sends these messages until one has\n",
                show::safe(route.as_bytes())
            ));
        }
    }
    if imported.is_empty() {
        print("nothing was imported\n");
    }
}

struct Importer<'a> {
    spool: &'a mut Spool,
    route: Option<&'a str>,
    /// Batches that are not full yet, by route.
    open: BTreeMap<String, Open>,
    bytes: usize,
    imported: BTreeMap<String, u64>,
    refused: u64,
    progress: Progress,
}

#[derive(Default)]
struct Open {
    batch: Batch,
    inputs: Vec<String>,
}

impl Importer<'_> {
    fn json(&mut self, mut reader: Box<dyn BufRead + '_>) -> anyhow::Result<()> {
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let octets = reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
            if octets == 0 {
                break;
            }
            self.progress.advance(octets as u64);
            if line.trim_ascii().is_empty() {
                continue;
            }
            match Read::json(&line, now_us()).and_then(|read| Ok((self.route_of(&read)?, read))) {
                Ok((route, read)) => self.take(&route, &read)?,
                Err(why) => self.refuse(&format!("line {number}: {why:#}")),
            }
        }
        Ok(())
    }

    fn rfc5424(&mut self, mut reader: Box<dyn BufRead + '_>) -> anyhow::Result<()> {
        let mut decoder = Decoder::new(Framing::Auto, limits::MESSAGE_SIZE_MAX as usize);
        let route = self.route.unwrap_or_default().to_owned();
        loop {
            let filled = reader.fill_buf()?;
            let octets = filled.len();
            let mut input = filled;
            let mut read = Vec::new();
            while let Some(frame) = decoder.next_frame(&mut input) {
                read.push(Read::frame(frame.bytes, now_us()));
            }
            if octets == 0 {
                while let Some(frame) = decoder.finish() {
                    read.push(Read::frame(frame.bytes, now_us()));
                }
            }
            for read in read {
                self.take(&route, &read)?;
            }
            if octets == 0 {
                return Ok(());
            }
            reader.consume(octets);
            self.progress.advance(octets as u64);
        }
    }

    /// Whose queue a message joins.
    fn route_of(&self, read: &Read) -> anyhow::Result<String> {
        match (self.route, &read.route) {
            (Some(route), _) => Ok(route.to_owned()),
            (None, Some(route)) => is_name(route).map(|()| route.clone()),
            (None, None) => bail!("it names no route: say whose queue it joins with --route NAME"),
        }
    }

    fn take(&mut self, route: &str, read: &Read) -> anyhow::Result<()> {
        let message = read.message();
        if !self.open.contains_key(route) {
            self.open.insert(route.to_owned(), Open::default());
        }
        let Some(open) = self.open.get_mut(route) else { return Ok(()) };
        let before = open.batch.charge();
        let known = open.inputs.iter().position(|name| *name == read.input);
        let input = known.unwrap_or_else(|| {
            open.inputs.push(read.input.clone());
            open.inputs.len() - 1
        });
        open.batch.push(&message, input as u16);
        self.bytes += open.batch.charge() - before;
        if open.batch.charge() >= BATCH_BYTES || open.inputs.len() >= INPUTS_MAX {
            let open = std::mem::take(open);
            self.bytes -= open.batch.charge();
            self.put(route, &open)?;
        } else if self.bytes > OPEN_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// Appends what is gathered.
    fn flush(&mut self) -> anyhow::Result<()> {
        self.bytes = 0;
        for (route, open) in std::mem::take(&mut self.open) {
            self.put(&route, &open)?;
        }
        Ok(())
    }

    fn put(&mut self, route: &str, open: &Open) -> anyhow::Result<()> {
        let stamps = || open.batch.messages(&open.inputs).map(|message| message.received_at_us);
        let (Some(oldest_us), Some(newest_us)) = (stamps().min(), stamps().max()) else { return Ok(()) };
        let mut plain = Vec::new();
        records::encode(&open.batch, &open.inputs, &mut plain);
        let records = open.batch.len();
        let op = Op::Import { route: route.to_owned(), records: records as u32, oldest_us, newest_us, plain };
        self.spool.ask(op)?;
        *self.imported.entry(route.to_owned()).or_insert(0) += records as u64;
        Ok(())
    }

    fn refuse(&mut self, why: &str) {
        self.refused += 1;
        match self.refused {
            1..=TOLD_MAX => self.progress.say(&format!("{why}\n")),
            refused if refused == TOLD_MAX + 1 => self.progress.say("more are left out without a word\n"),
            _ => {}
        }
    }
}

/// Whether a configuration could have a route of this name.
fn is_name(route: &str) -> anyhow::Result<()> {
    ensure!(!route.is_empty(), "a route's name is not empty");
    ensure!(route.len() <= limits::NAME_LEN_MAX, "a route's name has {} octets at most", limits::NAME_LEN_MAX);
    Ok(())
}

fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
