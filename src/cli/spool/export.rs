//! `forebay spool export`: messages for programs.

use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Write, stdout};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::batch::Batch;
use crate::spool::control::Select;

use super::blocks::{self, Blocks};
use super::progress::{Progress, Unit};
use super::record::{self, Rfc5424};

use super::{EXIT_RUNTIME, End, Export, Form, Framing, say};

/// What is gathered before it is written.
const BUFFER: usize = 256 << 10;

/// Writes messages to a file or standard output.
pub(super) fn export(options: &Export) -> Result<ExitCode, End> {
    let place = options.place.find()?;
    place.exists()?;
    let mut spool = place.open()?;
    let select = options.which.select();
    let total = blocks::total(&mut spool, &select, |_| true)?;
    let mut out: Box<dyn Write> = match &options.output {
        Some(path) => Box::new(create(path)?),
        None => Box::new(BufWriter::with_capacity(BUFFER, stdout().lock())),
    };
    let mut blocks = Blocks::new(&place, &mut spool, select.clone());
    let written = write_all(options, &mut blocks, &select, total.records, &mut out);
    let whole = blocks.end();
    if let (Err(_), Some(path)) = (&written, &options.output) {
        // A part would look like all of it.
        fs::remove_file(path)?;
    }
    spool.close()?;
    let written = written?;
    if options.output.is_some() {
        say(&format!("{written} messages exported; they are in the spool as before\n"));
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(EXIT_RUNTIME) })
}

fn write_all(
    options: &Export,
    blocks: &mut Blocks<'_>,
    select: &Select,
    total: u64,
    out: &mut impl Write,
) -> Result<u64, End> {
    let progress = Progress::new("exporting", Unit::Messages, total);
    let rfc5424 = Rfc5424::new()?;
    let mut writer = Writer { form: options.format, framing: options.framing, rfc5424, scratch: Vec::new() };
    let mut written = 0;
    while let Some((block, batch)) = blocks.next()? {
        written += writer.write(&block.route, &batch, select, out)?;
        progress.advance(batch.len() as u64);
    }
    out.flush()?;
    Ok(written)
}

fn create(path: &Path) -> anyhow::Result<impl Write + use<>> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("cannot make {}; one that exists is not written over", path.display()))?;
    Ok(BufWriter::with_capacity(BUFFER, file))
}

struct Writer {
    form: Form,
    framing: Framing,
    rfc5424: Rfc5424,
    scratch: Vec<u8>,
}

impl Writer {
    /// How many messages of the batch were selected, and written.
    fn write(&mut self, route: &str, batch: &Batch, select: &Select, out: &mut impl Write) -> Result<u64, End> {
        let mut written = 0;
        for message in batch.messages(&[]).filter(|message| select.takes(message.received_at_us)) {
            self.scratch.clear();
            match self.form {
                Form::Json => record::write_json(route, &message, &mut self.scratch)?,
                Form::Rfc5424 => {
                    self.rfc5424.write(&message, &mut self.scratch);
                    match self.framing {
                        Framing::OctetCounting => write!(out, "{} ", self.scratch.len())?,
                        // Reception has escaped every LF inside.
                        Framing::Lf => self.scratch.push(b'\n'),
                    }
                }
            }
            out.write_all(&self.scratch)?;
            written += 1;
        }
        Ok(written)
    }
}
