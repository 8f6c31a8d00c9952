//! The relays under test: how each is found, configured and started. All get the same job: eight programs, eight intake
//! keys, the FAQ's template, TLS to the sink with its certificate checked.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;

use crate::floor;
use crate::message::{PROGRAMS, intake_key};
use crate::run::Scenario;
use crate::sink::SERVER_NAME;

/// Octets of kernel buffer for datagrams, the same for all.
const RECEIVE_BUFFER: usize = 4 << 20;
/// What each of a relay's queues may take of the disk, bytes.
const SPOOL_MAX: u64 = 20 << 30;
/// Connections that all must accept.
const CONNECTIONS_MAX: usize = 6_000;

/// A relay under test.
#[derive(Clone, Debug)]
pub struct Relay {
    /// In the table.
    pub name: String,
    /// What to start.
    pub kind: Kind,
}

/// What a relay is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// The bare copy.
    Floor,
    /// A build of this program.
    Forebay(PathBuf),
    /// rsyslogd, tuned to be as fast as it can.
    Rsyslog(PathBuf),
    /// rsyslogd, as Sekoia documents it.
    RsyslogDocumented(PathBuf),
    /// syslog-ng, and the tree it was unpacked into where it is not installed.
    SyslogNg(PathBuf, Option<PathBuf>),
    /// The same with `reliable(yes)` disk buffers.
    SyslogNgReliable(PathBuf, Option<PathBuf>),
}

/// What a relay has to be told.
pub struct Setting<'a> {
    /// Its own empty directory.
    pub dir: &'a Path,
    /// Datagrams, not streams.
    pub udp: bool,
    /// The port to listen on.
    pub port: u16,
    /// A port for its admin server, where it has one.
    pub admin_port: u16,
    /// The collector.
    pub sink: SocketAddr,
    /// The certificate to trust.
    pub ca: &'a Path,
    /// Idle connections will come.
    pub crowded: bool,
    /// It keeps on disk what memory does not hold: the collector is away.
    pub spools: bool,
    /// Every message goes to the disk and is synced before it is sent. Only forebay is told so.
    pub always: bool,
    /// The collector speaks RELP.
    pub relp: bool,
}

impl Relay {
    /// Reads `floor`, `forebay`, `rsyslog`, `rsyslog-documented`, `syslog-ng`, `syslog-ng-reliable`, or `NAME=PATH` for
    /// another build of forebay. The error says why it cannot be run here.
    pub fn find(text: &str) -> Result<Self, String> {
        let kind = match text {
            "floor" => Kind::Floor,
            "forebay" => Kind::Forebay(env!("CARGO_BIN_EXE_forebay").into()),
            "rsyslog" => Kind::Rsyslog(on_path("RSYSLOGD", "rsyslogd").ok_or("rsyslogd is not installed")?),
            "rsyslog-documented" => {
                Kind::RsyslogDocumented(on_path("RSYSLOGD", "rsyslogd").ok_or("rsyslogd is not installed")?)
            }
            "syslog-ng" | "syslog-ng-reliable" => {
                let root = std::env::var_os("SYSLOG_NG_ROOT").map(PathBuf::from);
                let unpacked = root.as_ref().map(|root| root.join("usr/sbin/syslog-ng")).filter(|path| path.is_file());
                let path =
                    unpacked.or_else(|| on_path("SYSLOG_NG", "syslog-ng")).ok_or("syslog-ng is not installed")?;
                if text == "syslog-ng" { Kind::SyslogNg(path, root) } else { Kind::SyslogNgReliable(path, root) }
            }
            other => match other.split_once('=') {
                Some((name, path)) => {
                    return Ok(Self { name: name.to_owned(), kind: Kind::Forebay(path.into()) });
                }
                None => {
                    return Err("unknown; expected floor, forebay, rsyslog, rsyslog-documented, syslog-ng, \
                         syslog-ng-reliable or NAME=PATH"
                        .to_owned());
                }
            },
        };
        Ok(Self { name: text.to_owned(), kind })
    }

    /// Whether it can do such a thing at all, and there is a reason to ask.
    pub fn takes(&self, scenario: Scenario) -> bool {
        match self.kind {
            _ if matches!(scenario, Scenario::Durable | Scenario::Tapped | Scenario::Scaled) => {
                matches!(self.kind, Kind::Forebay(_))
            }
            Kind::Floor => !matches!(scenario, Scenario::Udp | Scenario::Crowd | Scenario::Outage | Scenario::Relp),
            // Its accept queue is short: opening thousands of connections takes it minutes. And while its action queues
            // go to disk it takes so little that the generator gives up.
            Kind::RsyslogDocumented(_) => !matches!(scenario, Scenario::Crowd | Scenario::Outage | Scenario::Relp),
            Kind::SyslogNgReliable(..) => scenario == Scenario::Outage,
            // It has no RELP.
            Kind::SyslogNg(..) => scenario != Scenario::Relp,
            Kind::Forebay(_) | Kind::Rsyslog(_) => true,
        }
    }

    /// Whether it gives each message its key.
    pub fn routes(&self) -> bool {
        !matches!(self.kind, Kind::Floor)
    }

    /// Starts it; its output goes to `log` in its directory.
    pub fn start(&self, setting: &Setting<'_>) -> anyhow::Result<Child> {
        let log = std::fs::File::create(setting.dir.join("log"))?;
        let mut command = self.command(setting)?;
        command.current_dir(setting.dir).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| format!("starting {}", self.name))
    }

    fn command(&self, setting: &Setting<'_>) -> anyhow::Result<Command> {
        let file = setting.dir.join("relay.conf");
        let command = match &self.kind {
            Kind::Floor => {
                let from = SocketAddr::from((Ipv4Addr::LOCALHOST, setting.port));
                let order = floor::Order { from, to: setting.sink, ca: setting.ca.to_owned() };
                let mut command = Command::new(std::env::current_exe()?);
                command.arg(super::ROLE_COPY).arg(serde_json::to_string(&order)?);
                command
            }
            Kind::Forebay(path) => {
                let file = setting.dir.join("forebay.yaml");
                std::fs::write(&file, forebay(setting)?)?;
                let mut command = Command::new(path);
                command.arg("run").arg("-c").arg(file);
                command
            }
            Kind::Rsyslog(path) | Kind::RsyslogDocumented(path) => {
                let documented = matches!(self.kind, Kind::RsyslogDocumented(_));
                std::fs::write(&file, if documented { rsyslog_documented(setting) } else { rsyslog(setting) })?;
                let mut command = Command::new(path);
                command.arg("-n").arg("-f").arg(file).arg("-i").arg(setting.dir.join("pid"));
                command
            }
            Kind::SyslogNg(path, root) | Kind::SyslogNgReliable(path, root) => {
                let reliable = matches!(self.kind, Kind::SyslogNgReliable(..));
                std::fs::write(&file, syslog_ng(setting, reliable)?)?;
                let mut command = Command::new(path);
                command.arg("-F").arg("--no-caps").arg("-f").arg(file);
                for (option, name) in [("-R", "persist"), ("-p", "pid"), ("-c", "control")] {
                    command.arg(option).arg(setting.dir.join(name));
                }
                if let Some(root) = root {
                    let lib = root.join("usr/lib/syslog-ng");
                    let modules = newest_subdirectory(&lib)?;
                    let more = root.join("usr/lib/x86_64-linux-gnu");
                    let libraries = std::env::join_paths([&lib, &modules, &more])?;
                    command.env("LD_LIBRARY_PATH", libraries).arg("--module-path").arg(modules);
                }
                command
            }
        };
        Ok(command)
    }
}

/// `$variable`, or `name` on the path or where daemons live.
pub fn on_path(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// syslog-ng keeps its modules in a directory named after its version.
fn newest_subdirectory(dir: &Path) -> anyhow::Result<PathBuf> {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .with_context(|| format!("looking for syslog-ng's modules in {}", dir.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()).filter(|path| path.is_dir()))
        .collect();
    all.sort();
    all.pop().with_context(|| format!("no modules in {}", dir.display()))
}

fn forebay(setting: &Setting<'_>) -> anyhow::Result<String> {
    let Setting { port, admin_port, sink, ca, .. } = setting;
    let scheme = if setting.udp { "udp" } else { "tcp" };
    let mut text = format!(
        "admin: {{listen: 127.0.0.1:{admin_port}}}\n\
         inputs:\n  bench:\n    listen: {scheme}://127.0.0.1:{port}\n"
    );
    if setting.crowded {
        writeln!(text, "    max_connections: {CONNECTIONS_MAX}\n    max_connections_per_peer: {CONNECTIONS_MAX}")?;
    }
    if setting.spools {
        let (dir, size) = (setting.dir.join("spool"), SPOOL_MAX >> 30);
        let always = if setting.always { ", durability: always, sync: every_batch" } else { "" };
        writeln!(text, "spool: {{dir: {}, max_size: {size}GiB{always}}}", dir.display())?;
    }
    let ca = ca.display();
    let scheme = if setting.relp { "relp+tls" } else { "tls" };
    writeln!(text, "outputs:\n  sink:\n    to: {scheme}://{sink}\n    tls: {{ca: {ca}, server_name: {SERVER_NAME}}}")?;
    writeln!(text, "routes:")?;
    for (index, program) in PROGRAMS.iter().enumerate() {
        let key = intake_key(index);
        writeln!(text, "  - {{name: {program}, program: {program}, intake_key: {key}}}")?;
    }
    Ok(text)
}

/// The choices here are those that measured best for it on two cores: one poller and one worker (more threads cost more
/// a message), a fixed array and large batches, actions without a queue of their own, OpenSSL instead of GnuTLS.
fn rsyslog(setting: &Setting<'_>) -> String {
    let (dir, ca, port) = (setting.dir.display(), setting.ca.display(), setting.port);
    let input = if setting.udp {
        format!(
            "module(load=\"imudp\" threads=\"1\" batchSize=\"128\" timeRequery=\"8\")\n\
             input(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\" rcvbufSize=\"{RECEIVE_BUFFER}\")\n"
        )
    } else {
        format!(
            "module(load=\"imptcp\" threads=\"1\")\n\
             input(type=\"imptcp\" address=\"127.0.0.1\" port=\"{port}\" socketBacklog=\"4096\")\n"
        )
    };
    format!(
        "global(workDirectory=\"{dir}\" defaultNetstreamDriverCAFile=\"{ca}\" net.enableDNS=\"off\")\n\
         main_queue(queue.type=\"FixedArray\" queue.size=\"200000\" queue.dequeueBatchSize=\"4096\" \
         queue.workerThreads=\"1\" queue.timeoutEnqueue=\"60000\")\n{input}{}{}",
        if setting.relp { "module(load=\"omrelp\" tls.tlslib=\"openssl\")\n" } else { "" },
        rsyslog_routes(setting, "ossl", if setting.spools { RSYSLOG_QUEUE } else { "" })
    )
}

/// A disk-assisted queue behind each action. Its index is written every 100,000 messages only (by default never before the
/// stop), its files are not synced, its worker takes many at once, and inputs are not held back before it is full: they
/// would be long before it goes to disk. Ten times as large, most of an outage would stay in its memory (733 MiB of 170 MB).
const RSYSLOG_QUEUE: &str = "action.resumeRetryCount=\"-1\" action.resumeInterval=\"1\" queue.type=\"LinkedList\" \
     queue.size=\"10000\" queue.lightDelayMark=\"0\" queue.fullDelayMark=\"0\" queue.dequeueBatchSize=\"4096\" queue.maxDiskSpace=\"20g\" queue.maxFileSize=\"64m\" \
     queue.checkpointInterval=\"100000\" queue.saveOnShutdown=\"on\" queue.timeoutEnqueue=\"60000\" queue.fileName=";

/// What a reader of Sekoia's page has: imtcp or imudp with their defaults, GnuTLS, and a disk-assisted linked list
/// behind every action. Only the receive buffer for datagrams is the others'.
fn rsyslog_documented(setting: &Setting<'_>) -> String {
    let (dir, ca, port) = (setting.dir.display(), setting.ca.display(), setting.port);
    let input = if setting.udp {
        format!(
            "module(load=\"imudp\")\n\
             input(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\" rcvbufSize=\"{RECEIVE_BUFFER}\")\n"
        )
    } else {
        format!(
            "module(load=\"imtcp\" maxSessions=\"{CONNECTIONS_MAX}\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n"
        )
    };
    let queue = "queue.type=\"LinkedList\" queue.maxDiskSpace=\"5g\" queue.saveOnShutdown=\"on\" \
                 action.resumeRetryCount=\"-1\" queue.fileName=";
    format!(
        "global(workDirectory=\"{dir}\" defaultNetstreamDriverCAFile=\"{ca}\")\n{input}{}",
        rsyslog_routes(setting, "gtls", queue)
    )
}

/// One `if` a product with its own template. `queue` are parameters of each action, the last of which is a file's name.
fn rsyslog_routes(setting: &Setting<'_>, driver: &str, queue: &str) -> String {
    let (host, port) = (setting.sink.ip(), setting.sink.port());
    let route = |(index, program): (usize, &&str)| {
        let key = intake_key(index);
        let queue = if queue.is_empty() { String::new() } else { format!("{queue}\"{program}\"") };
        let action = if setting.relp {
            format!(
                "type=\"omrelp\" tls=\"on\" tls.caCert=\"{}\" tls.authMode=\"name\" tls.permittedPeer=\"{SERVER_NAME}\" \
                 windowSize=\"4096\"",
                setting.ca.display()
            )
        } else {
            format!(
                "type=\"omfwd\" protocol=\"tcp\" TCP_Framing=\"octet-counted\" StreamDriver=\"{driver}\" StreamDriverMode=\"1\" \
                 StreamDriverAuthMode=\"x509/name\" StreamDriverPermittedPeers=\"{SERVER_NAME}\""
            )
        };
        format!(
            "template(name=\"t_{program}\" type=\"string\" string=\"<%pri%>1 %timestamp:::date-rfc3339% %hostname% \
             %app-name% %procid% LOG [SEKOIA@53288 intake_key=\\\"{key}\\\"] %msg%\\n\")\n\
             if $programname == '{program}' then {{\n  action({action} target=\"{host}\" port=\"{port}\" \
             template=\"t_{program}\" {queue})\n  stop\n}}\n"
        )
    };
    PROGRAMS.iter().enumerate().map(route).collect()
}

/// Flow control on; windows and queues sized so that it never sleeps while there is work.
fn syslog_ng(setting: &Setting<'_>, reliable: bool) -> anyhow::Result<String> {
    let Setting { port, sink, ca, .. } = setting;
    // The window is shared out among the connections that could be: 100 each at least, or it refuses to start.
    let (connections, window) = if setting.crowded { (CONNECTIONS_MAX, 600_000) } else { (16, 160_000) };
    let fifo = window.max(200_000);
    let buffer = if setting.spools { syslog_ng_buffer(setting, reliable) } else { String::new() };
    let mut text = format!(
        "@version: 3.38\n\
         options {{ threaded(yes); time-reopen(1); stats-freq(0); keep-hostname(yes); use-dns(no); dns-cache(no); flush-lines(1000); \
         log-fifo-size({fifo}); log-msg-size(65536); create-dirs(no); }};\n"
    );
    if setting.udp {
        write!(text, "source s {{")?;
        for socket in 0..2 {
            write!(
                text,
                " network(persist-name(\"socket{socket}\") transport(\"udp\") ip(\"127.0.0.1\") port({port}) so-reuseport(1) so-rcvbuf({RECEIVE_BUFFER}) \
                 log-fetch-limit(1000) log-iw-size({window}));"
            )?;
        }
        writeln!(text, " }};")?;
    } else {
        writeln!(
            text,
            "source s {{ network(transport(\"tcp\") ip(\"127.0.0.1\") port({port}) max-connections({connections}) \
             log-fetch-limit(1000) log-iw-size({window})); }};"
        )?;
    }
    for (index, program) in PROGRAMS.iter().enumerate() {
        let (key, address, sink_port, ca) = (intake_key(index), sink.ip(), sink.port(), ca.display());
        writeln!(
            text,
            "template t_{program} {{ template(\"<${{PRI}}>1 ${{ISODATE}} ${{HOST}} ${{PROGRAM}} ${{PID}} LOG \
             [SEKOIA@53288 intake_key=\\\"{key}\\\"] ${{MESSAGE}}\\n\"); template-escape(no); }};\n\
             filter f_{program} {{ program(\"{program}\" type(string)); }};\n\
             destination d_{program} {{ network(\"{address}\" port({sink_port}) transport(\"tls\") template(t_{program}) \
             persist-name(\"{program}\") {buffer} tls(ca-file(\"{ca}\") peer-verify(required-trusted))); }};\n\
             log {{ source(s); filter(f_{program}); destination(d_{program}); flags(flow-control, final); }};"
        )?;
    }
    Ok(text)
}

/// A disk buffer behind each destination, so large that none is ever full. Neither kind is synced.
fn syslog_ng_buffer(setting: &Setting<'_>, reliable: bool) -> String {
    let dir = setting.dir.display();
    let memory = if reliable { "mem-buf-size(16777216)" } else { "mem-buf-length(10000) qout-size(1000)" };
    let reliable = if reliable { "yes" } else { "no" };
    format!("disk-buffer(reliable({reliable}) disk-buf-size({SPOOL_MAX}) {memory} dir(\"{dir}\"))")
}
