//! `forebay spool stat`: how much of what there is.

use std::collections::BTreeMap;
use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::json;

use crate::config::{limits, units};
use crate::spool::control::Stat;

use super::place::{Place, Spool};
use super::{End, Stat as Options, print, select, show};

/// All lanes of a route.
#[derive(Debug, Default)]
struct Route {
    blocks: u64,
    records: u64,
    bytes: u64,
    oldest_us: Option<i64>,
    newest_us: Option<i64>,
    /// It is in no configuration; `None`: there is none to look in.
    is_orphan: Option<bool>,
}

/// Prints a table, or an object.
pub(super) fn stat(options: &Options) -> Result<ExitCode, End> {
    let place = options.place.find()?;
    place.exists()?;
    let mut spool = place.open()?;
    let stat = spool.stat()?;
    let routes = routes(&place, &stat);
    let holder = match &spool {
        Spool::Stopped(_) => None,
        Spool::Running { by, .. } => Some(by.clone()),
    };
    spool.close()?;
    if options.json {
        print(&format!("{}\n", object(&place, &stat, holder.as_deref(), &routes)));
    } else {
        print(&table(&place, &stat, holder.as_deref(), &routes));
    }
    Ok(ExitCode::SUCCESS)
}

fn routes<'a>(place: &Place, stat: &'a Stat) -> BTreeMap<&'a str, Route> {
    let forwarding = place.forwarding();
    let mut routes: BTreeMap<&str, Route> = BTreeMap::new();
    for lane in stat.lanes.iter().filter(|lane| lane.blocks > 0) {
        let route = routes.entry(&lane.route).or_default();
        route.blocks += lane.blocks;
        route.records += lane.records;
        route.bytes += lane.bytes;
        route.oldest_us = [route.oldest_us, lane.oldest_us].into_iter().flatten().min();
        route.newest_us = route.newest_us.max(lane.newest_us);
        route.is_orphan = forwarding.as_ref().map(|forwarding| !forwarding.contains(lane.route.as_str()));
    }
    routes
}

fn object(place: &Place, stat: &Stat, holder: Option<&str>, routes: &BTreeMap<&str, Route>) -> serde_json::Value {
    let stamp = |at_us: Option<i64>| at_us.map(select::stamp);
    let routes: Vec<serde_json::Value> = routes
        .iter()
        .map(|(name, route)| {
            json!({
                "name": name,
                "blocks": route.blocks,
                "messages": route.records,
                "bytes": route.bytes,
                "oldest": stamp(route.oldest_us),
                "newest": stamp(route.newest_us),
                "orphan": route.is_orphan,
            })
        })
        .collect();
    json!({
        "dir": place.dir().display().to_string(),
        "held_by": holder,
        "state": stat.state,
        "rebuilding": stat.rebuilding,
        "bytes": stat.bytes,
        "max_size": place.max_size(),
        "quarantine_bytes": stat.quarantine_bytes,
        "segments": stat.segments,
        "disk_free": stat.disk_free,
        "routes": routes,
    })
}

fn table(place: &Place, stat: &Stat, holder: Option<&str>, routes: &BTreeMap<&str, Route>) -> String {
    let state = stat.state.as_deref().map(|state| format!(": {state}")).unwrap_or_default();
    let state = holder.map_or("held by nobody".to_owned(), |by| format!("held by {by}{state}"));
    let limit = place.max_size().map(|max_size| format!(" of {}", units::show_size(max_size))).unwrap_or_default();
    let mut text = format!(
        "{}: {state}\n{}{limit} on the disk in {} segments; {} free\n",
        place.dir().display(),
        units::about_size(stat.bytes),
        stat.segments,
        units::about_size(stat.disk_free)
    );
    // The folder itself takes a page.
    if stat.quarantine_bytes > 4 * limits::KIB {
        text.push_str(&format!(
            "{} of it are files that were set aside, in quarantine/\n",
            units::about_size(stat.quarantine_bytes)
        ));
    }
    if routes.is_empty() {
        text.push_str("no messages\n");
        return text;
    }
    let width = routes.keys().map(|name| name.chars().count()).max().unwrap_or(0).max("route".len());
    text.push_str(&format!(
        "\n{:width$} {:>9} {:>12} {:>11} {:>9} {:>9}\n",
        "route", "blocks", "messages", "size", "oldest", "newest"
    ));
    let now = Timestamp::now().as_microsecond();
    let mut orphans = 0;
    for (name, route) in routes {
        let is_orphan = route.is_orphan == Some(true);
        orphans += usize::from(is_orphan);
        text.push_str(&format!(
            "{:width$} {:>9} {:>12} {:>11} {:>9} {:>9}{}\n",
            show::safe(name.as_bytes()),
            route.blocks,
            route.records,
            units::about_size(route.bytes),
            age(now, route.oldest_us),
            age(now, route.newest_us),
            if is_orphan { "  orphan" } else { "" }
        ));
    }
    if orphans > 0 {
        text.push_str(
            "\nAn orphan's route is not in the configuration: nothing sends its messages. Give the route its name again,\n\
             or export them, import them with --route and drop them here.\n",
        );
    }
    text
}

/// How long ago, in the largest unit that leaves two digits.
fn age(now_us: i64, at_us: Option<i64>) -> String {
    let Some(at_us) = at_us else { return "-".to_owned() };
    let seconds = now_us.saturating_sub(at_us).max(0) / 1_000_000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
