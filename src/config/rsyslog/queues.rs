//! Queues: rsyslog has one for each ruleset and action that asks for it, we have one spool for all.

use super::globals::{Globals, Placed, size};
use super::notes::Notes;
use super::syntax::Object;
use crate::config::limits;
use crate::config::report::Position;
use crate::config::tree::Node;
use crate::config::units::show_size;

/// Where the spool goes when no directory is named: beside Debian's.
const WORK_DIRECTORY: &str = "/var/spool/rsyslog";

/// What a queue's settings ask for.
#[derive(Debug, Default, Clone)]
pub(super) struct Queue {
    /// It may go to the disk: it has a file's name.
    on_disk: Option<Position>,
    /// `type="Disk"`: everything goes there first.
    always: bool,
    max_size: Option<Placed>,
    directory: Option<Placed>,
}

/// Settings without an equal, and why.
const MEANINGLESS: [(&str, &str); 16] = [
    ("size", "queues in memory are bounded by \"memory.max\""),
    ("highwatermark", "what memory does not hold goes to the spool"),
    ("lowwatermark", "what memory does not hold goes to the spool"),
    ("lightdelaymark", "senders are made to wait when memory is full"),
    ("fulldelaymark", "senders are made to wait when memory is full"),
    ("dequeuebatchsize", "batches are made by size"),
    ("mindequeuebatchsize", "batches are made by size"),
    ("mindequeuebatchsize.timeout", "batches are made by size"),
    ("workerthreads", "a shard for each core"),
    ("workerthreadminimummessages", "a shard for each core"),
    ("timeoutworkerthreadshutdown", "a shard for each core"),
    ("timeoutactioncompletion", "\"shutdown_timeout\" bounds a stop"),
    ("timeoutshutdown", "\"shutdown_timeout\" bounds a stop"),
    ("maxfilesize", "the spool's files have a size of their own"),
    ("checkpointinterval", "\"spool.sync\" says when what was written survives a power cut"),
    ("syncqueuefiles", "\"spool.sync\" says when what was written survives a power cut"),
];

impl Queue {
    /// One setting, by its name without `queue.` or `$…Queue`, in small letters.
    pub(super) fn set(&mut self, at: &Position, name: &str, value: &str, construct: &str, notes: &mut Notes) {
        let placed = || Some((at.clone(), value.trim_matches('"').to_owned()));
        match name {
            "filename" => {
                self.on_disk = Some(at.clone());
                notes.mapped(at, construct, "the spool, which all routes share");
            }
            "type" if value.eq_ignore_ascii_case("disk") => {
                self.always = true;
                self.on_disk = Some(at.clone());
                notes.mapped(at, construct, "spool.durability: always");
            }
            "type" => notes.mapped(at, construct, "each route has its queue in memory"),
            "maxdiskspace" if size(value).is_some() => {
                self.max_size = placed();
                notes.mapped(at, construct, "a part of spool.max_size");
            }
            "maxdiskspace" => notes.unsupported(at, construct, "not a size as rsyslog writes it, such as 5g"),
            "spooldirectory" => {
                self.directory = placed();
                notes.mapped(at, construct, "spool.dir, a folder in it");
            }
            "saveonshutdown" => notes.mapped(at, construct, "what is in the spool is always kept"),
            "timeoutenqueue" => {
                notes.unsupported(at, construct, "\"spool.when_full\" says what happens when there is no room");
            }
            name => match MEANINGLESS.iter().find(|(known, _)| *known == name) {
                Some((_, why)) => notes.meaningless(at, construct, *why),
                None => notes.unsupported(at, construct, "there is no such setting here"),
            },
        }
    }

    /// The parameters `queue.*` of an object; `None` where it has none.
    pub(super) fn of_object(object: &Object, notes: &mut Notes) -> Option<Self> {
        let mut queue = None;
        for param in &object.params {
            let Some(name) = param.name.strip_prefix("queue.") else { continue };
            let construct = format!("{}({})", object.name, param.name);
            queue.get_or_insert_with(Self::default).set(&param.at, name, &param.text(), &construct, notes);
        }
        queue
    }
}

/// The spool that all these queues are here; `None` where none of them goes to the disk.
pub(super) fn spool(queues: &[Queue], globals: &Globals, notes: &mut Notes) -> Option<Node> {
    let on_disk: Vec<&Queue> = queues.iter().filter(|queue| queue.on_disk.is_some()).collect();
    let at = on_disk.first()?.on_disk.clone()?;
    let mut spool = Node::map(&at);
    let named = on_disk.iter().find_map(|queue| queue.directory.clone()).or_else(|| globals.work_directory.clone());
    let (directory_at, directory) = named.unwrap_or_else(|| (at.clone(), WORK_DIRECTORY.to_owned()));
    let directory = format!("{}/forebay", directory.trim_end_matches('/'));
    notes.mapped(&directory_at, "the queues' folder", format!("spool.dir: {directory}, which is forebay's own"));
    spool.set("dir", Node::text(&directory_at, directory));
    let sizes: Vec<&Placed> = on_disk.iter().filter_map(|queue| queue.max_size.as_ref()).collect();
    if let Some((size_at, _)) = sizes.first() {
        let total = sizes.iter().filter_map(|(_, text)| size(text)).fold(0, u64::saturating_add);
        let total = total.clamp(limits::SPOOL_SIZE_MIN, limits::SPOOL_SIZE_MAX);
        if sizes.len() > 1 {
            let message = format!("spool.max_size: {}, the sum of {} queues", show_size(total), sizes.len());
            notes.mapped(size_at, "queue.maxDiskSpace", message);
        }
        spool.set("max_size", Node::text(size_at, show_size(total)));
    }
    if on_disk.iter().any(|queue| queue.always) {
        spool.set("durability", Node::text(&at, "always"));
    }
    Some(spool)
}

/// What happens to messages that cannot be sent: they wait, and are tried again for ever.
pub(super) fn retries(at: &Position, value: &str, construct: &str, notes: &mut Notes) {
    match value {
        "-1" => notes.mapped(at, construct, "as it is always here: nothing is given up"),
        _ => notes.unsupported(at, construct, "what cannot be sent waits and is tried for ever, nothing is given up"),
    }
}
