//! Directives of old (`$Name value`): they hold for what follows them.

use super::actions::{is_tls, split};
use super::globals::{DEFAULT_RULESET, Globals, is_on};
use super::inputs::{self, Input};
use super::notes::Notes;
use super::outputs::Tls;
use super::queues::{self, Queue};
use crate::config::report::Position;

/// What directives have said so far.
#[derive(Debug)]
pub(super) struct Legacy {
    pub(super) forward_template: Option<String>,
    pub(super) file_template: Option<String>,
    /// How actions of old trust.
    pub(super) tls: Tls,
    driver: Option<String>,
    mode: Option<String>,
    /// For the next action.
    pub(super) queue: Option<Queue>,
    pub(super) action_name: Option<String>,
    pub(super) only_when_suspended: bool,
    /// Where rules go.
    pub(super) ruleset: String,
    /// Rulesets of listeners that follow, by scheme.
    bound: Vec<(&'static str, String)>,
    udp_address: Option<String>,
    input_name: Option<String>,
    /// 1: TLS.
    input_mode: Option<String>,
    /// `x509/…`: clients must show a certificate.
    input_auth: String,
    /// Who may send: protocol, networks.
    pub(super) allowed: Vec<(Position, String, Vec<String>)>,
    /// Queue settings that no action has taken yet, and those of the main queue.
    pub(super) main_queue: Option<Queue>,
    /// `$RulesetCreateMainQueue on` for the present ruleset.
    pub(super) own_queue: bool,
}

/// Directives that need no equal, and why.
const MEANINGLESS: [(&str, &str); 26] = [
    ("abortonuncleanconfig", "a configuration with mistakes is always refused"),
    ("actionresumeinterval", "attempts are spaced by a back-off of its own"),
    ("actionwriteallmarkmessages", "no marks are made"),
    ("createdirs", "the file's folder must be there"),
    ("debugfile", "\"log.level\" says what is logged"),
    ("debuglevel", "\"log.level\" says what is logged"),
    ("dircreatemode", "the file's folder must be there"),
    ("dirgroup", "the file's folder must be there"),
    ("dirowner", "the file's folder must be there"),
    ("dynafilecachesize", "no file's name depends on the message"),
    ("failonchownfailure", FILES),
    ("filecreatemode", FILES),
    ("filegroup", FILES),
    ("fileowner", FILES),
    ("actionfileenablesync", "write(2) is what counts"),
    ("inputtcpflowcontrol", "senders that can wait are made to wait when memory is full"),
    ("inputtcpserverkeepalive", "a silent connection costs nothing"),
    ("inputtcpservernotifyonconnectionclose", "/metrics counts connections"),
    ("omitlocallogging", "the system's socket is opened only where something is done with its messages"),
    ("omfileflushinterval", "files are flushed with each batch"),
    ("omfileflushontxend", "files are flushed with each batch"),
    ("omfileiobuffersize", "files are written by batch"),
    ("privdroptogroup", "the service manager says who it runs as"),
    ("privdroptouser", "the service manager says who it runs as"),
    ("resetconfigvariables", "each file's values are where they stand"),
    ("umask", FILES),
];

const FILES: &str = "files are made with mode 0600, by the user that forebay runs as";

/// Settings whose default is what is always done here.
const DEFAULTS: [(&str, bool); 8] = [
    ("escapecontrolcharactersonreceive", true),
    ("escape8bitcharactersonreceive", false),
    ("escapecontrolcharactertab", true),
    ("spacelfonreceive", false),
    ("droptrailinglfonreception", true),
    ("repeatedmsgreduction", false),
    ("preservefqdn", false),
    ("inputtcpserverdisablelfdelimiter", false),
];

/// Listeners of old, their schemes and modules.
const LISTENERS: [(&str, &str, &str); 4] = [
    ("inputtcpserverrun", "tcp", "imtcp"),
    ("inputptcpserverrun", "tcp", "imptcp"),
    ("udpserverrun", "udp", "imudp"),
    ("inputrelpserverrun", "relp+tcp", "imrelp"),
];

/// What says which ruleset listeners have that follow.
const BINDINGS: [(&str, &str); 4] = [
    ("inputtcpserverbindruleset", "tcp"),
    ("inputptcpserverbindruleset", "tcp"),
    ("inputudpserverbindruleset", "udp"),
    ("inputrelpserverbindruleset", "relp+tcp"),
];

impl Legacy {
    pub(super) fn new() -> Self {
        Self {
            forward_template: None,
            file_template: None,
            tls: Tls::default(),
            driver: None,
            mode: None,
            queue: None,
            action_name: None,
            only_when_suspended: false,
            ruleset: DEFAULT_RULESET.to_owned(),
            bound: Vec::new(),
            udp_address: None,
            input_name: None,
            input_mode: None,
            input_auth: String::new(),
            allowed: Vec::new(),
            main_queue: None,
            own_queue: false,
        }
    }

    /// One directive; what it listens at, where it listens.
    pub(super) fn directive(
        &mut self,
        at: &Position,
        name: &str,
        value: &str,
        globals: &Globals,
        notes: &mut Notes,
    ) -> Option<Input> {
        let lower = name.to_lowercase();
        let construct = format!("${name}");
        let value = value.trim_matches('"');
        if is_global(&lower) {
            return None;
        }
        if let Some((_, scheme, kind)) = LISTENERS.iter().find(|(known, ..)| *known == lower) {
            let address = self.udp_address.as_deref().filter(|_| *scheme == "udp");
            let is_tls = *kind == "imtcp" && is_tls(globals.driver.as_deref(), self.input_mode.as_deref());
            let mut input =
                inputs::of_directive(at, &construct, kind, if is_tls { "tls" } else { scheme }, address, value);
            if is_tls {
                inputs::set_certificates(&mut input, globals, self.input_auth.starts_with("x509/"));
            }
            if let Some(name) = self.input_name.take() {
                input.rename(&name);
            }
            input.ruleset = self.bound.iter().rev().find(|(bound, _)| bound == scheme).map(|(_, name)| name.clone());
            return Some(input);
        }
        if let Some((_, scheme)) = BINDINGS.iter().find(|(known, _)| *known == lower) {
            self.bound.push((scheme, value.to_owned()));
            notes.mapped(at, &construct, "the ruleset of the inputs that follow");
            return None;
        }
        if lower == "addunixlistensocket" {
            return Some(inputs::socket(at, &construct, value));
        }
        let taken = self.of_actions(at, &lower, value, &construct, globals, notes)
            || self.of_rules(at, &lower, value, &construct, notes);
        if !taken {
            without_equal(at, &lower, value, &construct, notes);
        }
        None
    }

    /// What holds for actions that follow.
    fn of_actions(
        &mut self,
        at: &Position,
        name: &str,
        value: &str,
        construct: &str,
        globals: &Globals,
        notes: &mut Notes,
    ) -> bool {
        if let Some(setting) = name.strip_prefix("actionqueue") {
            self.queue.get_or_insert_with(Queue::default).set(at, setting, value, construct, notes);
            return true;
        }
        if let Some(setting) = name.strip_prefix("mainmsgqueue").or_else(|| name.strip_prefix("mainqueue")) {
            self.main_queue.get_or_insert_with(Queue::default).set(at, setting, value, construct, notes);
            return true;
        }
        let message = match name {
            "actionforwarddefaulttemplate" | "actionforwarddefaulttemplatename" => {
                self.forward_template = Some(value.to_owned());
                "the template of actions that follow"
            }
            "actionfiledefaulttemplate" => {
                self.file_template = Some(value.to_owned());
                "the template of file actions that follow"
            }
            "actionsendstreamdriver" => {
                self.driver = Some(value.to_owned());
                "TLS of the actions that follow"
            }
            "actionsendstreamdrivermode" => {
                self.mode = Some(value.to_owned());
                "TLS of the actions that follow"
            }
            "actionsendstreamdriverauthmode" => {
                value.clone_into(&mut self.tls.auth);
                "TLS of the actions that follow"
            }
            "actionsendstreamdriverpermittedpeer" | "actionsendstreamdriverpermittedpeers" => {
                self.tls.peers.extend(split(&[value.to_owned()]));
                "tls.server_name, where it is not the host"
            }
            "actionname" => {
                self.action_name = Some(value.to_owned());
                "the route's name"
            }
            "actionresumeretrycount" => {
                queues::retries(at, value, construct, notes);
                return true;
            }
            "actionexeconlywhenpreviousissuspended" if is_on(value) => {
                self.only_when_suspended = true;
                return true;
            }
            _ => return false,
        };
        let driver = self.driver.as_deref().or(globals.driver.as_deref());
        self.tls.on = is_tls(driver, self.mode.as_deref());
        notes.mapped(at, construct, message);
        true
    }

    /// What holds for rules and listeners that follow.
    fn of_rules(&mut self, at: &Position, name: &str, value: &str, construct: &str, notes: &mut Notes) -> bool {
        let message = match name {
            "ruleset" => {
                value.clone_into(&mut self.ruleset);
                "the ruleset of the rules that follow"
            }
            "rulesetcreatemainqueue" => {
                self.own_queue = is_on(value);
                "a ruleset that is called with a copy of the message"
            }
            "inputtcpserverstreamdrivermode" => {
                self.input_mode = Some(value.to_owned());
                "TLS of the inputs that follow"
            }
            "inputtcpserverstreamdriverauthmode" => {
                value.clone_into(&mut self.input_auth);
                "\"client_ca\" of the inputs that follow"
            }
            "inputtcpserverinputname" | "inputudpserverinputname" | "inputptcpserverinputname" => {
                self.input_name = Some(value.to_owned());
                "the name of the input that follows"
            }
            "udpserveraddress" => {
                self.udp_address = Some(value.to_owned()).filter(|address| address != "*");
                "the address of the input that follows"
            }
            "allowedsender" => {
                let mut parts = value.split(',').map(|part| part.trim().to_owned());
                let protocol = parts.next().unwrap_or_default().to_lowercase();
                self.allowed.push((at.clone(), protocol, parts.collect()));
                "\"allow\" of the inputs of that protocol"
            }
            _ => return false,
        };
        notes.mapped(at, construct, message);
        true
    }
}

/// Read with what holds for the whole configuration, or with its files.
fn is_global(name: &str) -> bool {
    let known = [
        "defaultnetstreamdrivercafile",
        "defaultnetstreamdrivercertfile",
        "defaultnetstreamdriverkeyfile",
        "defaultnetstreamdriver",
        "workdirectory",
        "maxmessagesize",
        "defaultruleset",
        "modload",
        "template",
        "includeconfig",
    ];
    known.contains(&name)
}

fn without_equal(at: &Position, name: &str, value: &str, construct: &str, notes: &mut Notes) {
    if let Some((_, why)) = MEANINGLESS.iter().find(|(known, _)| *known == name) {
        notes.meaningless(at, construct, *why);
    } else if DEFAULTS.iter().any(|(known, default)| *known == name && *default == is_on(value)) {
        notes.mapped(at, construct, "as it is always here");
    } else if name.starts_with("inputfile") || name == "inputrunfilemonitor" {
        notes.unsupported(at, construct, "files are not read");
    } else {
        notes.unsupported(at, construct, "there is no such setting here");
    }
}
