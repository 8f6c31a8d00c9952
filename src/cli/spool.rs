//! `forebay spool`: the operator's side of the spool, whether a relay holds it or not.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::end::End;
use super::{Configuration, EXIT_CONFIG, log, print, progress, run, run::EXIT_RUNTIME, say, show};

mod blocks;
mod change;
mod export;
mod import;
mod list;
mod place;
mod record;
mod select;
mod send;
mod stat;
mod verify;

#[derive(Debug, Subcommand)]
pub(super) enum Spool {
    /// How much is spooled: the spool's state and sizes, and for each route its blocks, messages and their age.
    ///
    /// Routes that hold messages and are in no configuration any more are marked as orphans: nothing sends them. Give the
    /// route its name again in the configuration, export them and import them for another route, or drop them.
    #[command(after_help = "Examples:\n  \
        forebay spool stat -c /etc/forebay/forebay.yaml\n  \
        forebay spool stat --dir /var/lib/forebay --json\n\n\
        Of a spool whose configuration is not at hand (--dir) no route is known to be an orphan.")]
    Stat(Stat),
    /// The blocks, one a line: route, count of messages, times of the oldest and the newest, and where they lie.
    ///
    /// A block is what is written, sent and released as one. The order is that of routes, of a route's lanes (one for each
    /// of the relay's threads), and of arrival.
    #[command(after_help = "Examples:\n  \
        forebay spool ls -c /etc/forebay/forebay.yaml --route web\n  \
        forebay spool ls --dir /var/lib/forebay --since 2h --json")]
    Ls(Ls),
    /// The messages, for people: time of reception, peer, hostname, program and text, one a line.
    ///
    /// Control characters are escaped, so that no message can act on your terminal. For programs there is `export`.
    #[command(after_help = "Examples:\n  \
        forebay spool cat -c /etc/forebay/forebay.yaml --route web --since 10m\n  \
        forebay spool cat --dir /var/lib/forebay | grep sshd | less")]
    Cat(Cat),
    /// The messages, for programs: RFC 5424 frames, or JSON lines that `import` puts back as they were.
    ///
    /// `json` holds everything: the octets as they were received, time, peer, input, and the fields that were found in
    /// them. `rfc5424` is each message written anew as RFC 5424, without any intake key; what it cannot say (time of
    /// reception, peer, input) is gone. Nothing is taken out of the spool: to move messages, export, import, then drop.
    #[command(after_help = "Examples:\n  \
        forebay spool export -c /etc/forebay/forebay.yaml --format json -o backlog.jsonl\n  \
        forebay spool export --dir /var/lib/forebay --route web --format rfc5424 --framing lf\n\n\
        The file of -o is made with mode 0600, and must not exist yet: messages may be nobody else's business.")]
    Export(Export),
    /// Reads every block of every segment and checks it: header, checksums, decompression, records.
    ///
    /// Prints damage with file and offset. Changes nothing and needs no lock: on a running relay, too. Exits with 1 where
    /// there is damage.
    #[command(after_help = "Examples:\n  \
        forebay spool verify --dir /var/lib/forebay\n  \
        forebay spool verify -c /etc/forebay/forebay.yaml\n\n\
        An encrypted spool needs its key for more than headers and checksums: -c, or --encryption-key-file.")]
    Verify(Verify),
    /// Makes the index again from the segments. Damaged files go to `quarantine/` when what is whole in them is sent.
    ///
    /// The relay does the same by itself when it finds damage. Messages that were released already, but lie in a segment
    /// with others, may be sent a second time afterwards; none is lost by it.
    #[command(after_help = "Examples:\n  \
        forebay spool repair -c /etc/forebay/forebay.yaml\n  \
        forebay spool repair --dir /var/lib/forebay")]
    Repair(Repair),
    /// Drops messages: they are lost. By whole blocks, of which all messages are in the range of time.
    ///
    /// Says how many messages are lost by it, and asks before it does it; where nobody can be asked it wants `--yes`.
    /// On a running relay what is on its way out already is not dropped.
    #[command(after_help = "Examples:\n  \
        forebay spool drop -c /etc/forebay/forebay.yaml --route old-web\n  \
        forebay spool drop --dir /var/lib/forebay --all --until 2026-11-01T00:00:00Z --yes")]
    Drop(Drop),
    /// Puts exported messages back: they wait behind all others of their route, and are sent as those are.
    ///
    /// Of JSON lines each names its route; `--route` overrides it. RFC 5424 frames name none: `--route` does. What is
    /// imported is safe from a power cut when the command ends with 0. Importing twice sends twice.
    #[command(after_help = "Examples:\n  \
        forebay spool import -c /etc/forebay/forebay.yaml backlog.jsonl\n  \
        forebay spool import --dir /var/lib/forebay --route web old-web.jsonl\n  \
        forebay spool import --dir /var/lib/forebay --route web --format rfc5424 messages.log")]
    Import(Import),
    /// Sends what waits in a spool that no relay holds, and ends: the spool of a relay that is gone.
    ///
    /// Outputs, routes and keys are those of the configuration; nothing listens. Each route's messages go out in their order,
    /// leave the spool as they are released, and are sent again only where a connection breaks. A signal ends it in order: what
    /// is left stays in the spool. Exits with 1 where something is left, for whatever reason.
    #[command(after_help = "Examples:\n  \
        forebay spool send -c /etc/forebay/forebay.yaml --dir /var/spool/relay-2\n  \
        forebay spool send -c /etc/forebay/forebay.yaml\n\n\
        The running relay of this machine goes on beside it. File outputs are locked by whoever writes them.")]
    Send(Send),
}

/// Where the spool is.
#[derive(Debug, Args)]
struct Where {
    #[command(flatten)]
    configuration: Configuration,
    /// The spool's folder, instead of the one that the configuration names; no configuration is needed then, but by `send`.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Key of an encrypted spool, with --dir: the file that `encryption_key_file` names.
    #[arg(long, value_name = "FILE", requires = "dir")]
    encryption_key_file: Option<PathBuf>,
}

/// Which messages.
#[derive(Debug, Args)]
struct Which {
    /// Of this route only; may be given several times.
    #[arg(long, value_name = "NAME")]
    route: Vec<String>,
    /// Received then or later: an RFC 3339 stamp, or how long ago (90s, 30m, 2h, 1d).
    #[arg(long, value_name = "TIME", value_parser = select::time_us)]
    since: Option<i64>,
    /// Received before: an RFC 3339 stamp, or how long ago.
    #[arg(long, value_name = "TIME", value_parser = select::time_us)]
    until: Option<i64>,
}

#[derive(Debug, Args)]
pub(super) struct Stat {
    #[command(flatten)]
    place: Where,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Ls {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    which: Which,
    /// A JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Cat {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    which: Which,
    /// What is written.
    #[arg(long, value_enum)]
    format: Form,
    /// How RFC 5424 messages are told from each other (RFC 6587).
    #[arg(long, value_enum, default_value_t = Framing::OctetCounting)]
    framing: Framing,
    /// Where to; standard output without it.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Args)]
pub(super) struct Repair {
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Args)]
pub(super) struct Drop {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    which: Which,
    /// Of all routes.
    #[arg(long, conflicts_with = "route")]
    all: bool,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    #[command(flatten)]
    place: Where,
    /// Whose queue they join.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// What is read.
    #[arg(long, value_enum, default_value_t = Form::Json)]
    format: Form,
    /// Where from; standard input without it.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Send {
    #[command(flatten)]
    place: Where,
}

/// What messages are exported as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A JSON object a line, nothing left out.
    Json,
    /// RFC 5424 frames. Read: octet-counted or one a line, told apart.
    Rfc5424,
}

/// RFC 6587.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Framing {
    /// The length in front of each.
    OctetCounting,
    /// A line each.
    Lf,
}

/// Runs one of the commands.
pub(super) fn spool(command: &Spool) -> ExitCode {
    let ended = match command {
        Spool::Stat(options) => stat::stat(options),
        Spool::Ls(options) => list::ls(options),
        Spool::Cat(options) => list::cat(options),
        Spool::Export(options) => export::export(options),
        Spool::Verify(options) => verify::verify(options),
        Spool::Repair(options) => change::repair(options),
        Spool::Drop(options) => change::drop(options),
        Spool::Import(options) => import::import(options),
        Spool::Send(options) => send::send(options),
    };
    ended.unwrap_or_else(End::told)
}
