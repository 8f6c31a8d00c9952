//! The relays under test: how each is found, configured and started. All get the same job: eight programs, eight intake
//! keys, the FAQ's template, TLS to the sink with its certificate checked.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;

use crate::floor;
use crate::message::{PROGRAMS, intake_key};
use crate::sink::SERVER_NAME;

/// Octets of kernel buffer for datagrams, the same for all.
const RECEIVE_BUFFER: usize = 4 << 20;
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
    /// rsyslogd.
    Rsyslog(PathBuf),
    /// syslog-ng, and the tree it was unpacked into where it is not installed.
    SyslogNg(PathBuf, Option<PathBuf>),
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
}

impl Relay {
    /// Reads `floor`, `forebay`, `rsyslog`, `syslog-ng`, or `NAME=PATH` for another build of forebay. The error says why
    /// it cannot be run here.
    pub fn find(text: &str) -> Result<Self, String> {
        let kind = match text {
            "floor" => Kind::Floor,
            "forebay" => Kind::Forebay(env!("CARGO_BIN_EXE_forebay").into()),
            "rsyslog" => Kind::Rsyslog(on_path("RSYSLOGD", "rsyslogd").ok_or("rsyslogd is not installed")?),
            "syslog-ng" => {
                let root = std::env::var_os("SYSLOG_NG_ROOT").map(PathBuf::from);
                let unpacked = root.as_ref().map(|root| root.join("usr/sbin/syslog-ng")).filter(|path| path.is_file());
                let path = unpacked.or_else(|| on_path("SYSLOG_NG", "syslog-ng")).ok_or("syslog-ng is not installed")?;
                Kind::SyslogNg(path, root)
            }
            other => match other.split_once('=') {
                Some((name, path)) => {
                    return Ok(Self { name: name.to_owned(), kind: Kind::Forebay(path.into()) });
                }
                None => return Err("unknown; expected floor, forebay, rsyslog, syslog-ng or NAME=PATH".to_owned()),
            },
        };
        Ok(Self { name: text.to_owned(), kind })
    }

    /// Whether it can do such a thing at all.
    pub fn takes(&self, udp: bool, idle: usize) -> bool {
        !matches!(self.kind, Kind::Floor) || (!udp && idle == 0)
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
            Kind::Rsyslog(path) => {
                std::fs::write(&file, rsyslog(setting)?)?;
                let mut command = Command::new(path);
                command.arg("-n").arg("-f").arg(file).arg("-i").arg(setting.dir.join("pid"));
                command
            }
            Kind::SyslogNg(path, root) => {
                std::fs::write(&file, syslog_ng(setting)?)?;
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
fn on_path(variable: &str, name: &str) -> Option<PathBuf> {
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
    let ca = ca.display();
    writeln!(text, "outputs:\n  sink:\n    to: tls://{sink}\n    tls: {{ca: {ca}, server_name: {SERVER_NAME}}}")?;
    writeln!(text, "routes:")?;
    for (index, program) in PROGRAMS.iter().enumerate() {
        let key = intake_key(index);
        writeln!(text, "  - {{name: {program}, program: {program}, intake_key: {key}}}")?;
    }
    Ok(text)
}

/// One `if` a product with its own template, as the FAQ says. The choices below are those that measured best for it:
/// a linked list in front, large batches, one worker (two cost more a message and disturb the order), actions without
/// a queue of their own, OpenSSL instead of GnuTLS.
fn rsyslog(setting: &Setting<'_>) -> anyhow::Result<String> {
    let driver = std::env::var("RSYSLOG_DRIVER").unwrap_or_else(|_| "ossl".to_owned());
    let workers = std::env::var("RSYSLOG_WORKERS").unwrap_or_else(|_| "1".to_owned());
    let queue = std::env::var("RSYSLOG_QUEUE").unwrap_or_else(|_| "FixedArray".to_owned());
    let batch = std::env::var("RSYSLOG_BATCH").unwrap_or_else(|_| "4096".to_owned());
    let threads = std::env::var("RSYSLOG_THREADS").unwrap_or_else(|_| "1".to_owned());
    let (dir, ca, port) = (setting.dir.display(), setting.ca.display(), setting.port);
    let mut text = format!(
        "global(workDirectory=\"{dir}\" defaultNetstreamDriverCAFile=\"{ca}\" net.enableDNS=\"off\")\n\
         main_queue(queue.type=\"{queue}\" queue.size=\"200000\" queue.dequeueBatchSize=\"{batch}\" \
         queue.workerThreads=\"{workers}\" queue.timeoutEnqueue=\"60000\")\n"
    );
    if setting.udp {
        write!(
            text,
            "module(load=\"imudp\" threads=\"{threads}\" batchSize=\"128\" timeRequery=\"8\")\n\
             input(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\" rcvbufSize=\"{RECEIVE_BUFFER}\")\n"
        )?;
    } else {
        write!(
            text,
            "module(load=\"imptcp\" threads=\"{threads}\")\n\
             input(type=\"imptcp\" address=\"127.0.0.1\" port=\"{port}\")\n"
        )?;
    }
    for (index, program) in PROGRAMS.iter().enumerate() {
        let key = intake_key(index);
        writeln!(
            text,
            "template(name=\"t_{program}\" type=\"string\" string=\"<%pri%>1 %timestamp:::date-rfc3339% %hostname% \
             %app-name% %procid% LOG [SEKOIA@53288 intake_key=\\\"{key}\\\"] %msg%\\n\")"
        )?;
    }
    for program in PROGRAMS {
        writeln!(
            text,
            "if $programname == '{program}' then {{\n  action(type=\"omfwd\" target=\"{}\" port=\"{}\" \
             protocol=\"tcp\" TCP_Framing=\"octet-counted\" template=\"t_{program}\" StreamDriver=\"{driver}\" \
             StreamDriverMode=\"1\" StreamDriverAuthMode=\"x509/name\" StreamDriverPermittedPeers=\"{SERVER_NAME}\")\n  \
             stop\n}}",
            setting.sink.ip(),
            setting.sink.port()
        )?;
    }
    Ok(text)
}

/// Flow control on; windows and queues sized so that it never sleeps while there is work.
fn syslog_ng(setting: &Setting<'_>) -> anyhow::Result<String> {
    let Setting { port, sink, ca, .. } = setting;
    // The window is shared out among the connections that could be: 100 each at least, or it refuses to start.
    let (connections, window) = if setting.crowded { (CONNECTIONS_MAX, 600_000) } else { (16, 160_000) };
    let fifo = window.max(200_000);
    let mut text = format!(
        "@version: 3.38\n\
         options {{ threaded(yes); stats-freq(0); keep-hostname(yes); use-dns(no); dns-cache(no); flush-lines(1000); \
         log-fifo-size({fifo}); log-msg-size(65536); create-dirs(no); }};\n"
    );
    if setting.udp {
        write!(text, "source s {{")?;
        for _ in 0..2 {
            write!(
                text,
                " network(transport(\"udp\") ip(\"127.0.0.1\") port({port}) so-reuseport(1) so-rcvbuf({RECEIVE_BUFFER}) \
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
             tls(ca-file(\"{ca}\") peer-verify(required-trusted))); }};\n\
             log {{ source(s); filter(f_{program}); destination(d_{program}); flags(flow-control, final); }};"
        )?;
    }
    Ok(text)
}
