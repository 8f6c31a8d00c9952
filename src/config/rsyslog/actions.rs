//! Actions: `action(…)` and the one-word forms of old, as outputs with a template.

use super::globals::{Globals, is_on};
use super::legacy::Legacy;
use super::notes::Notes;
use super::outputs::{self, Forward, Made, Relp, Tls};
use super::queues::{self, Queue};
use super::syntax::Object;
use crate::config::report::Position;

/// rsyslog's templates where none is named.
const FORWARD_TEMPLATE: &str = "RSYSLOG_TraditionalForwardFormat";
const FILE_TEMPLATE: &str = "RSYSLOG_FileFormat";
const RELP_TEMPLATE: &str = "RSYSLOG_ForwardFormat";

/// An action that sends.
pub(super) struct Send {
    /// The construct, for notes.
    pub(super) construct: String,
    /// `name="…"`
    pub(super) name: Option<String>,
    pub(super) output: Made,
    /// A template's name.
    pub(super) template: String,
    pub(super) queue: Option<Queue>,
}

/// Parameters of all actions that need no equal, and why.
const MEANINGLESS: [(&str, &str); 30] = [
    ("action.copymsg", "each route has its own copy"),
    ("action.errorfile", "what cannot be sent waits"),
    ("action.reportsuspension", "the log tells of outputs that fail"),
    ("action.reportsuspensioncontinuation", "the log tells of outputs that fail"),
    ("action.resumeinterval", "attempts are spaced by a back-off of its own"),
    ("action.resumeintervalmax", "attempts are spaced by a back-off of its own"),
    ("action.writeallmarkmessages", "no marks are made"),
    ("asyncwriting", "files are written by a thread of their own"),
    ("compression.mode", "octets go as they are"),
    ("conn.timeout", "\"connect_timeout\" is 10s"),
    ("createdirs", "the file's folder must be there"),
    ("dircreatemode", "the file's folder must be there"),
    ("dirgroup", "the file's folder must be there"),
    ("dirowner", "the file's folder must be there"),
    ("failonchownfailure", "files are made with mode 0600, by the user that forebay runs as"),
    ("filecreatemode", "files are made with mode 0600, by the user that forebay runs as"),
    ("filegroup", "files are made with mode 0600, by the user that forebay runs as"),
    ("fileowner", "files are made with mode 0600, by the user that forebay runs as"),
    ("flushinterval", "files are flushed with each batch"),
    ("flushontxend", "files are flushed with each batch"),
    ("iobuffersize", "files are written by batch"),
    ("keepalive", "on by default"),
    ("keepalive.interval", "\"user_timeout\" bounds what is not acknowledged"),
    ("keepalive.probes", "\"user_timeout\" bounds what is not acknowledged"),
    ("rebindinterval", "a connection moves when its name moves"),
    ("resendlastmsgonreconnect", "\"replay_window\" is sent again after a break"),
    ("sync", "write(2) is what counts"),
    ("timeout", "\"stall_timeout\" is 30s"),
    ("udp.sendtoall", "one address of a name"),
    ("ziplevel", "octets go as they are"),
];

/// Parameters that are read below.
const READ: [&str; 31] = [
    "action.resumeretrycount",
    "file",
    "keepalive.time",
    "name",
    "port",
    "protocol",
    "streamdriver",
    "streamdriver.cafile",
    "streamdriver.certfile",
    "streamdriver.keyfile",
    "streamdriverauthmode",
    "streamdriver.authmode",
    "streamdrivermode",
    "streamdriver.mode",
    "streamdriver.name",
    "streamdriverpermittedpeers",
    "streamdriver.permittedpeers",
    "target",
    "tcp_framing",
    "template",
    "tls",
    "tls.authmode",
    "tls.cacert",
    "tls.mycert",
    "tls.myprivkey",
    "tls.permittedpeer",
    "type",
    "windowsize",
    "config.enabled",
    "action.execonlywhenpreviousissuspended",
    "dynafile",
];

/// `action(…)`. `None`: it sends nothing here, and the notes say why.
pub(super) fn of_object(
    at: &Position,
    object: &Object,
    globals: &Globals,
    legacy: &Legacy,
    notes: &mut Notes,
) -> Option<Send> {
    let kind = object.text("type").unwrap_or_default().to_lowercase();
    let construct = format!("action(type=\"{kind}\")");
    let queue = Queue::of_object(object, notes);
    leftover(object, &construct, notes);
    if let Some(param) = object.param("action.resumeretrycount") {
        queues::retries(&param.at, &param.text(), &format!("{construct} {}", param.name), notes);
    }
    if object.text("action.execonlywhenpreviousissuspended").is_some_and(|value| is_on(&value)) {
        notes.unsupported(
            at,
            &construct,
            "only for when another fails: give that output several URLs in \"to\" instead",
        );
        return None;
    }
    let module = |module: &str| {
        globals.of_module(module, "template").or_else(|| globals.of_module(&format!("builtin:{module}"), "template"))
    };
    let (output, template) = match kind.as_str() {
        "omfwd" | "builtin:omfwd" => {
            let default = module("omfwd").or_else(|| legacy.forward_template.clone());
            let forward = of_omfwd(object, globals);
            let made = outputs::forward(at, &forward, globals, &construct, notes);
            (made, default.unwrap_or_else(|| FORWARD_TEMPLATE.to_owned()))
        }
        "omrelp" => {
            let relp = Relp {
                host: object.text("target").unwrap_or_default(),
                port: object.text("port"),
                tls: tls_of_relp(object),
                window: object.text("windowsize"),
            };
            let made = outputs::relp(at, &relp, &construct, notes);
            (made, module("omrelp").unwrap_or_else(|| RELP_TEMPLATE.to_owned()))
        }
        "omfile" | "builtin:omfile" => {
            let Some(path) = object.text("file") else {
                notes.unsupported(at, &construct, "a file whose name depends on the message (dynaFile)");
                return None;
            };
            let default = module("omfile").or_else(|| legacy.file_template.clone());
            (outputs::file(at, &path, &construct, notes)?, default.unwrap_or_else(|| FILE_TEMPLATE.to_owned()))
        }
        _ => {
            notes.unsupported(at, &construct, "there is no such output here: nothing is done with the message");
            return None;
        }
    };
    let template = object.text("template").unwrap_or(template);
    Some(Send { construct, name: object.text("name"), output, template, queue })
}

fn of_omfwd(object: &Object, globals: &Globals) -> Forward {
    let either = |one: &str, other: &str| object.text(one).or_else(|| object.text(other));
    let driver = either("streamdriver", "streamdriver.name").or_else(|| globals.driver.clone());
    let mode = either("streamdrivermode", "streamdriver.mode");
    let peers = object.param("streamdriverpermittedpeers").or_else(|| object.param("streamdriver.permittedpeers"));
    Forward {
        host: object.text("target").unwrap_or_default(),
        port: object.text("port"),
        tcp: object.text("protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("tcp")),
        octet_counted: object.text("tcp_framing").is_some_and(|framing| framing.eq_ignore_ascii_case("octet-counted")),
        tls: Tls {
            on: is_tls(driver.as_deref(), mode.as_deref()),
            auth: either("streamdriverauthmode", "streamdriver.authmode").unwrap_or_default(),
            peers: peers.map(|param| split(&param.texts())).unwrap_or_default(),
            ca: object.text("streamdriver.cafile"),
            cert: object.text("streamdriver.certfile"),
            key: object.text("streamdriver.keyfile"),
        },
        keepalive: object.text("keepalive").filter(|on| is_on(on)).and_then(|_| object.text("keepalive.time")),
    }
}

fn tls_of_relp(object: &Object) -> Tls {
    Tls {
        on: object.text("tls").is_some_and(|on| is_on(&on)),
        auth: object.text("tls.authmode").unwrap_or_default(),
        peers: object.param("tls.permittedpeer").map(|param| split(&param.texts())).unwrap_or_default(),
        ca: object.text("tls.cacert"),
        cert: object.text("tls.mycert"),
        key: object.text("tls.myprivkey"),
    }
}

/// Mode 1 is TLS, with a driver that speaks it.
pub(super) fn is_tls(driver: Option<&str>, mode: Option<&str>) -> bool {
    mode == Some("1") && driver.is_some_and(|driver| !driver.eq_ignore_ascii_case("ptcp"))
}

/// Names in one text, separated by commas.
pub(super) fn split(names: &[String]) -> Vec<String> {
    names
        .iter()
        .flat_map(|names| names.split(','))
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

fn leftover(object: &Object, construct: &str, notes: &mut Notes) {
    for param in object.params.iter().filter(|param| !READ.contains(&param.name.as_str())) {
        let construct = format!("{construct} {}", param.name);
        match MEANINGLESS.iter().find(|(name, _)| *name == param.name) {
            // The queue's own reader has them.
            _ if param.name.starts_with("queue.") => {}
            Some((_, why)) => notes.meaningless(&param.at, &construct, *why),
            None => notes.unsupported(&param.at, &construct, "there is no such setting here"),
        }
    }
}

/// `@host`, `@@(o)host:port;Template`, `/file`, `-/file;Template`.
pub(super) fn of_word(
    at: &Position,
    word: &str,
    globals: &Globals,
    legacy: &mut Legacy,
    notes: &mut Notes,
) -> Option<Send> {
    let (word, template) = match word.split_once(';') {
        Some((word, template)) => (word, Some(template.trim().to_owned()).filter(|template| !template.is_empty())),
        None => (word, None),
    };
    let (queue, name) = (legacy.queue.take(), legacy.action_name.take());
    if std::mem::take(&mut legacy.only_when_suspended) {
        notes.unsupported(at, word, "only for when another fails: give that output several URLs in \"to\" instead");
        return None;
    }
    let (output, default) = if let Some(to) = word.strip_prefix('@') {
        let forward = of_address(to, legacy)?;
        let made = outputs::forward(at, &forward, globals, word, notes);
        (made, legacy.forward_template.clone().unwrap_or_else(|| FORWARD_TEMPLATE.to_owned()))
    } else if word.starts_with(['/', '-']) {
        let made = outputs::file(at, word.trim_start_matches('-'), word, notes)?;
        let module = ["omfile", "builtin:omfile"].iter().find_map(|module| globals.of_module(module, "template"));
        (made, module.or_else(|| legacy.file_template.clone()).unwrap_or_else(|| FILE_TEMPLATE.to_owned()))
    } else {
        let why = match word.chars().next() {
            Some('|') => "no pipe is written",
            Some('^') => "no program is run",
            Some('?') => "a file whose name depends on the message",
            Some(':') => "there is no such output here",
            _ => "no message is written to a user's terminal",
        };
        notes.unsupported(at, word, why);
        return None;
    };
    Some(Send { construct: word.to_owned(), name, output, template: template.unwrap_or(default), queue })
}

/// Behind the first `@`: another one is TCP, `(…)` are options, then host and port.
fn of_address(to: &str, legacy: &Legacy) -> Option<Forward> {
    let tcp = to.starts_with('@');
    let to = to.trim_start_matches('@');
    let (options, to) = match to.strip_prefix('(').and_then(|to| to.split_once(')')) {
        Some((options, to)) => (options, to),
        None => ("", to),
    };
    let (host, port) = match to.strip_prefix('[').and_then(|to| to.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match to.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (to, None),
        },
    };
    let tls = Tls { on: tcp && legacy.tls.on, ..legacy.tls.clone() };
    Some(Forward {
        host: host.to_owned(),
        port: port.map(str::to_owned),
        tcp,
        octet_counted: options.split(',').any(|option| option == "o"),
        tls,
        keepalive: None,
    })
}
