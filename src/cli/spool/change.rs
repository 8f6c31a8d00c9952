//! `forebay spool drop` and `repair`: what changes a spool.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, stdin};
use std::process::ExitCode;

use anyhow::bail;

use crate::config::units;
use crate::spool::control::{Answer, Block, DROPS_MAX, Dropped, Op, Select};

use super::blocks;
use super::place::Spool;
use super::progress::{Progress, Unit};
use super::{Drop, End, Repair, print, say, show};

/// Drops blocks, after asking.
pub(super) fn drop(options: &Drop) -> Result<ExitCode, End> {
    let select = options.which.select();
    if select.routes.is_empty() && !options.all {
        return Err(End::Usage("which messages? Name routes with --route NAME, or say --all".to_owned()));
    }
    if !options.yes && !stdin().is_terminal() {
        return Err(End::Usage("nobody can be asked here: say --yes to drop messages".to_owned()));
    }
    let place = options.place.find()?;
    place.exists()?;
    let mut spool = place.open()?;
    if !options.yes && !is_meant(&mut spool, &select)? {
        spool.close()?;
        print("nothing was dropped\n");
        return Ok(ExitCode::SUCCESS);
    }
    let dropped = drop_all(&mut spool, &select);
    spool.close()?;
    let dropped = dropped?;
    for (route, dropped) in &dropped {
        let route = show::safe(route.as_bytes());
        print(&format!("{route}: dropped {} messages in {} blocks\n", dropped.records, dropped.blocks));
        if dropped.out > 0 {
            say(&format!("{route}: {} blocks are on their way out already, and stay\n", dropped.out));
        }
    }
    if dropped.is_empty() {
        print("nothing was dropped: no block lies wholly in what was selected\n");
    }
    Ok(ExitCode::SUCCESS)
}

/// In steps, between which a relay does other things.
fn drop_all(spool: &mut Spool, select: &Select) -> anyhow::Result<BTreeMap<String, Dropped>> {
    let mut all: BTreeMap<String, Dropped> = BTreeMap::new();
    let progress = Progress::new("dropping", Unit::Steps, 0);
    loop {
        let Answer::Dropped(step) = spool.ask(Op::Drop { select: select.clone() })? else {
            bail!("the relay did not say what it dropped")
        };
        progress.turn();
        let blocks: u64 = step.iter().map(|route| route.blocks).sum();
        for dropped in step {
            let route = all.entry(dropped.route.clone()).or_default();
            route.blocks += dropped.blocks;
            route.records += dropped.records;
            route.out = dropped.out;
        }
        if blocks < DROPS_MAX {
            return Ok(all);
        }
    }
}

fn is_meant(spool: &mut Spool, select: &Select) -> anyhow::Result<bool> {
    let is_whole = |block: &Block| select.takes(block.oldest_us) && select.takes(block.newest_us);
    let total = blocks::total(spool, select, is_whole)?;
    say(&format!(
        "{} messages in {} blocks ({}) will be lost. Drop them? [y/N] ",
        total.records,
        total.blocks,
        units::about_size(total.bytes)
    ));
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Makes the index again.
pub(super) fn repair(options: &Repair) -> Result<ExitCode, End> {
    let place = options.place.find()?;
    place.exists()?;
    let mut spool = place.open()?;
    spool.ask(Op::Rebuild)?;
    if let Spool::Stopped(store) = &mut spool {
        let progress = Progress::new("reading the segments", Unit::Steps, 0);
        while store.work() {
            progress.turn();
        }
    }
    let stat = spool.stat()?;
    spool.close()?;
    if stat.rebuilding {
        print("the relay makes its index again, and goes on meanwhile: forebay spool stat says when it is whole\n");
    } else {
        let records: u64 = stat.lanes.iter().map(|lane| lane.records).sum();
        print(&format!(
            "the index is whole: {records} messages, {} quarantined\n",
            units::about_size(stat.quarantine_bytes)
        ));
    }
    Ok(ExitCode::SUCCESS)
}
