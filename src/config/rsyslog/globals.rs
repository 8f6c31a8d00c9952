//! What holds for a whole rsyslog configuration: `global(…)`, modules and their parameters, and the directives of old that
//! say the same.

use std::collections::HashMap;

use super::notes::Notes;
use super::syntax::{Kind, Object, Param, Statement};
use crate::config::report::Position;

/// A value and where it stands.
pub(super) type Placed = (Position, String);

/// Settings of the whole configuration.
#[derive(Debug, Default)]
pub(super) struct Globals {
    /// `defaultNetstreamDriverCAFile`
    pub(super) ca: Option<Placed>,
    /// `defaultNetstreamDriverCertFile`
    pub(super) cert: Option<Placed>,
    /// `defaultNetstreamDriverKeyFile`
    pub(super) key: Option<Placed>,
    /// `defaultNetstreamDriver`: `gtls` and `ossl` speak TLS.
    pub(super) driver: Option<String>,
    /// `workDirectory`
    pub(super) work_directory: Option<Placed>,
    /// `maxMessageSize`
    pub(super) max_message_size: Option<Placed>,
    /// Modules that are loaded, by name, with their parameters.
    pub(super) modules: HashMap<String, (Position, Object)>,
    /// The ruleset of inputs that name none.
    pub(super) default_ruleset: Option<String>,
    /// The configuration fills variables of messages (`$!…`): what they hold is not known.
    pub(super) fills_variables: bool,
}

/// The ruleset that rsyslog has without anybody naming it.
pub(super) const DEFAULT_RULESET: &str = "RSYSLOG_DefaultRuleset";

/// Modules whose part forebay plays itself: nothing is missing without them.
const BUILT_IN: [&str; 17] = [
    "imtcp",
    "imudp",
    "imptcp",
    "imrelp",
    "imuxsock",
    "omfwd",
    "omrelp",
    "omfile",
    "builtin:omfile",
    "builtin:omfwd",
    "lmnsd_gtls",
    "lmnsd_ossl",
    "lmnet",
    "lmnetstrms",
    "lmtcpsrv",
    "lmtcpclt",
    "lmregexp",
];

/// Parameters of `global(…)` that say how rsyslogd does its own housekeeping.
const HOUSEKEEPING: [&str; 22] = [
    "action.reportsuspension",
    "action.reportsuspensioncontinuation",
    "abortonuncleanconfig",
    "debug.gnutls",
    "debug.logfile",
    "debug.onshutdown",
    "debug.whitelist",
    "dropmsgswithmaliciousdnsptrrecords",
    "environment",
    "errormessagestostderr.maxnumber",
    "internalmsg.ratelimit.burst",
    "internalmsg.ratelimit.interval",
    "internalmsg.severity",
    "net.enabledns",
    "net.ipprotocol",
    "processinternalmessages",
    "senders.keeptrack",
    "senders.reportgoneaway",
    "senders.reportnew",
    "shutdown.enable.ctlc",
    "stdlog.channelspec",
    "umask",
];

/// Reads what holds for the whole of it, wherever it stands.
pub(super) fn read(statements: &[Statement], notes: &mut Notes) -> Globals {
    let mut globals = Globals::default();
    for statement in statements {
        match &statement.kind {
            Kind::Object(object) if !object.is_enabled() => {}
            Kind::Object(object) if object.name == "global" => global(object, &mut globals, notes),
            Kind::Object(object) if object.name == "module" => {
                let name = object.text("load").unwrap_or_default();
                module(&statement.at, &name, object.clone(), &mut globals, notes);
            }
            Kind::Directive { name, value } => directive(&statement.at, name, value, &mut globals, notes),
            _ => {}
        }
    }
    globals
}

fn global(object: &Object, globals: &mut Globals, notes: &mut Notes) {
    for param in &object.params {
        let construct = format!("global({})", param.name);
        let placed = || Some((param.at.clone(), param.text()));
        match param.name.as_str() {
            "defaultnetstreamdrivercafile" => globals.ca = placed(),
            "defaultnetstreamdrivercertfile" => globals.cert = placed(),
            "defaultnetstreamdriverkeyfile" => globals.key = placed(),
            "defaultnetstreamdriver" => globals.driver = Some(param.text()),
            "workdirectory" => globals.work_directory = placed(),
            "maxmessagesize" => globals.max_message_size = placed(),
            "defaultruleset" => globals.default_ruleset = Some(param.text()),
            name if HOUSEKEEPING.contains(&name) => {
                notes.meaningless(&param.at, &construct, "rsyslogd's own housekeeping");
                continue;
            }
            name if name.starts_with("parser.") => {
                parser_setting(param, &construct, notes);
                continue;
            }
            _ => {
                notes.unsupported(&param.at, &construct, "unknown here");
                continue;
            }
        }
        notes.mapped(&param.at, &construct, "where it applies");
    }
}

/// How messages are read: rsyslog's defaults are ours.
fn parser_setting(param: &Param, construct: &str, notes: &mut Notes) {
    const DEFAULTS: [(&str, bool); 8] = [
        ("parser.escapecontrolcharactersonreceive", true),
        ("parser.escape8bitcharactersonreceive", false),
        ("parser.escapecontrolcharacterscstyle", false),
        ("parser.escapecontrolcharactertab", true),
        ("parser.spacelfonreceive", false),
        ("parser.droptrailinglfonreception", true),
        ("parser.permitslashinprogramname", false),
        ("parser.supportcompressionextension", true),
    ];
    let wanted = is_on(&param.text());
    match DEFAULTS.iter().find(|(name, _)| *name == param.name) {
        Some((_, default)) if *default == wanted => {
            notes.mapped(&param.at, construct, "as it is always here");
        }
        _ => notes.unsupported(&param.at, construct, "messages are read as rsyslog does with its defaults"),
    }
}

fn module(at: &Position, name: &str, object: Object, globals: &mut Globals, notes: &mut Notes) {
    let name = name.trim_end_matches(".so").to_lowercase();
    let construct = format!("module(load=\"{name}\")");
    match name.as_str() {
        "impstats" => {
            let message = "its lines are not made here; /metrics and /status on the admin server have the counts";
            notes.unsupported(at, &construct, message);
        }
        "imklog" | "imkmsg" => notes.unsupported(at, &construct, "the kernel's own messages are not read"),
        "imfile" => notes.unsupported(at, &construct, "files are not read"),
        "imjournal" => notes.unsupported(at, &construct, "the journal is not read; let it forward to a socket"),
        "immark" => notes.unsupported(at, &construct, "no marks are made"),
        name if name.starts_with("mm") => {
            globals.fills_variables = true;
            notes.unsupported(at, &construct, "messages are not changed");
        }
        name if BUILT_IN.contains(&name) => {
            notes.mapped(at, &construct, "built in");
            if !name.contains("omfile") {
                super::inputs::module_leftover(name, &object, notes);
            }
            if matches!(name, "omfile" | "builtin:omfile") {
                let known = ["load", "template"];
                for param in object.params.iter().filter(|param| !known.contains(&param.name.as_str())) {
                    let construct = format!("module(load=\"{name}\" {})", param.name);
                    notes.meaningless(
                        &param.at,
                        &construct,
                        "files are made with mode 0600, by the user that forebay runs as",
                    );
                }
            }
        }
        _ => notes.unsupported(at, &construct, "there is no such module here"),
    }
    globals.modules.insert(name, (at.clone(), object));
}

fn directive(at: &Position, name: &str, value: &str, globals: &mut Globals, notes: &mut Notes) {
    let placed = || Some((at.clone(), value.trim_matches('"').to_owned()));
    match name.to_lowercase().as_str() {
        "defaultnetstreamdrivercafile" => globals.ca = placed(),
        "defaultnetstreamdrivercertfile" => globals.cert = placed(),
        "defaultnetstreamdriverkeyfile" => globals.key = placed(),
        "defaultnetstreamdriver" => globals.driver = Some(value.to_owned()),
        "workdirectory" => globals.work_directory = placed(),
        "maxmessagesize" => globals.max_message_size = placed(),
        "defaultruleset" => globals.default_ruleset = Some(value.to_owned()),
        "modload" => {
            let object = Object { name: "module".to_owned(), params: Vec::new(), body: None };
            return module(at, value, object, globals, notes);
        }
        _ => return,
    }
    notes.mapped(at, &format!("${name}"), "where it applies");
}

impl Globals {
    /// A parameter of a module that is loaded.
    pub(super) fn of_module(&self, module: &str, param: &str) -> Option<String> {
        self.modules.get(module).and_then(|(_, object)| object.text(param))
    }
}

/// rsyslog's words for true.
pub(super) fn is_on(value: &str) -> bool {
    ["on", "yes", "true", "1"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// Octets of a size as rsyslog writes it: `5g` and `20k` are powers of 1,024, `5G` and `20K` of 1,000.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|each: char| !each.is_ascii_digit() && each != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.replace('.', "").parse().ok()?;
    let factor: u64 = match unit.trim() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "p" => 1 << 50,
        "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}
