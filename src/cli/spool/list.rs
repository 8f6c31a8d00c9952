//! `forebay spool ls` and `cat`: what is there, for people.

use std::io::{BufWriter, Write, stdout};
use std::process::ExitCode;

use crate::spool::control::Block;

use super::blocks::{self, Blocks};

use super::{Cat, EXIT_RUNTIME, End, Ls, select, show};

/// Prints a line for each block.
pub(super) fn ls(options: &Ls) -> Result<ExitCode, End> {
    let place = options.place.find()?;
    place.exists()?;
    let mut spool = place.open()?;
    let mut out = BufWriter::new(stdout().lock());
    let mut blocks = Blocks::new(&place, &mut spool, options.which.select());
    while let Some(block) = blocks.next_place()? {
        if options.json {
            serde_json::to_writer(&mut out, &json(&block)).map_err(std::io::Error::from)?;
            out.write_all(b"\n")?;
        } else {
            out.write_all(line(&block).as_bytes())?;
        }
    }
    out.flush()?;
    spool.close()?;
    Ok(ExitCode::SUCCESS)
}

fn line(block: &Block) -> String {
    format!(
        "{}/{} {:>7} {} {} {:016}.seg+{} {}\n",
        show::safe(block.route.as_bytes()),
        block.shard,
        block.records,
        select::stamp(block.oldest_us),
        select::stamp(block.newest_us),
        block.segment,
        block.offset,
        block.length
    )
}

fn json(block: &Block) -> serde_json::Value {
    serde_json::json!({
        "route": block.route,
        "shard": block.shard,
        "seq": block.seq,
        "messages": block.records,
        "oldest": select::stamp(block.oldest_us),
        "newest": select::stamp(block.newest_us),
        "segment": block.segment,
        "offset": block.offset,
        "bytes": block.length,
    })
}

/// Prints a line for each message.
pub(super) fn cat(options: &Cat) -> Result<ExitCode, End> {
    let place = options.place.find()?;
    let select = options.which.select();
    let mut out = BufWriter::new(stdout().lock());
    let whole = blocks::walk(&place, select.clone(), |_, batch| {
        for message in batch.messages(&[]).filter(|message| select.takes(message.received_at_us)) {
            let peer = message.peer.map(|peer| peer.to_string());
            let (hostname, program) = (message.hostname().unwrap_or(b"-"), message.program_name());
            writeln!(
                out,
                "{} {} {} {}: {}",
                select::stamp(message.received_at_us),
                peer.as_deref().unwrap_or("-"),
                show::safe(hostname),
                show::safe(if program.is_empty() { b"-" } else { program }),
                show::safe(message.msg().trim_ascii_start()),
            )?;
        }
        Ok(())
    })?;
    out.flush()?;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(EXIT_RUNTIME) })
}
