//! Every command of the documents is run, from top to bottom of each document, in a folder of its own with a relay, a collector in
//! Sekoia's place, keys, a spool and logs. What cannot be run here says why in [`ELSEWHERE`], and is held to what can be checked.
//!
//! Names are put in place by [`World::here`]: addresses become one of the loopback network that no other process has, absolute
//! paths lie in the folder, durations and counts are shorter. Nothing else of a command is changed.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may panic, and says what it skips"
)]

#[path = "support/documents.rs"]
mod documents;
#[path = "support/harness.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use documents::{Block, blocks, documents, read, root};
use regex::Regex;
use serde_yaml::Value;
use support::certificates::Certificates;
use support::collector::Collector;
use support::installed;
use support::relay::remove_own_variables;
use support::waiting::eventually;
use tempfile::TempDir;

/// What is in a block.
const LANGUAGES: &[(&str, Kind)] = &[
    ("sh", Kind::Commands),
    ("console", Kind::Commands),
    ("yaml", Kind::Configuration),
    ("yaml compose", Kind::Compose),
    // With a file of rsyslog's, which lies here at another place.
    ("yaml rsyslog", Kind::Beside),
    // A part of a file gets an input.
    ("rsyslog", Kind::Rsyslog),
    ("json", Kind::Json),
    // Names of metrics are checked by tests/docs.rs, the alerts themselves by tests/monitoring.rs.
    ("promql", Kind::Text),
    // What is printed, a drawing, another program's configuration.
    ("text", Kind::Text),
];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Commands,
    Configuration,
    Compose,
    Beside,
    Rsyslog,
    Json,
    Text,
}

/// Commands that cannot be run here, and why. The first that matches holds.
const ELSEWHERE: &[(&str, &str)] = &[
    (r"^cargo |^\.ci/run", "builds all of it, and runs this test"),
    (r"build-static\.sh", "a release build takes minutes"),
    (r"\bsystemctl\b|^systemd-run ", "there is no service manager to talk to"),
    (r"\bsysctl (-w|--system)", "would change the machine that the tests run on"),
    (r"^docker ", "takes an engine, and images from the internet"),
    (r"^(helm|kubectl) ", "takes a cluster"),
    (r"^sudo tcpdump ", "looks at the machine's network, and waits for what may never come"),
    (r"^dmesg ", "the kernel's log is closed to most users"),
];

/// How the others end. The first that matches holds; those that none matches end by themselves, with 0.
const ENDS: &[(&str, End)] = &[
    (r"^(\w+=\S+ )*forebay run\b", End::WhenToldOnceReady),
    (r"^forebay tap .*-n ", End::WhenShown(0)),
    (r"^forebay tap\b", End::WhenShown(libc::SIGINT)),
    (r"^forebay top .*--once", End::With(&[0])),
    (r"^forebay top\b", End::OnAKey),
    // Only root may.
    (r"^sudo setcap ", End::With(&[0, 1])),
    // What the machine lacks is no mistake of the document.
    (r"^forebay check .*--host\b", End::With(&[0, 1])),
];

#[derive(Clone, Copy)]
enum End {
    /// By itself, with one of these codes.
    With(&'static [i32]),
    /// It goes on, as the document's relay, once it says that it is ready; it stops in order later.
    WhenToldOnceReady,
    /// By this signal (0: by itself), once it has shown a message.
    WhenShown(i32),
    /// By `q`, on a terminal.
    OnAKey,
}

/// Commands that ask a running relay.
const ASKS: &str = r"^(curl|logger|ss) |^forebay (tap|top|health|send)\b";

/// Parts of what the collector has in the end, by document: their commands send it.
const ARRIVES: &[(&str, &[&str])] =
    &[("README.md", &["a test of the relay", "another one"]), ("docs/COMMANDS.md", &["hello forebay-test-"])];

/// Sixteen letters and digits, or more.
const KEY: &str = "aKeyOfTheDocuments01";

/// A relay of the document's.
struct Relay {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    /// Its command runs without a limit: `exec` as the first of it makes the process ours.
    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, sink) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        thread::spawn(move || lines.map_while(Result::ok).for_each(|line| sink.lock().unwrap().push(line)));
        let mut relay = Self { child, log };
        eventually("the relay to be ready", || {
            let log = relay.log.lock().unwrap().join("\n");
            if let Some(status) = relay.child.try_wait().unwrap() {
                panic!("it ended with {status}:\n{log}");
            }
            if log.contains(" ready ") { Ok(()) } else { Err(log) }
        });
        relay
    }

    /// Stops it in order.
    fn stop(mut self) {
        signal(&self.child, libc::SIGTERM);
        let status = eventually("the relay to stop", || {
            self.child.try_wait().unwrap().ok_or_else(|| self.log.lock().unwrap().join("\n"))
        });
        assert!(status.success(), "{status}: {}", self.log.lock().unwrap().join("\n"));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A process that goes away with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits for its end, with a bound; what it has printed.
#[track_caller]
fn waits(mut running: Running) -> Output {
    let child = &mut running.0;
    // What it prints is more than a pipe holds, now and then.
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let reader = |from: Option<Box<dyn std::io::Read + Send>>| {
        thread::spawn(move || {
            let mut octets = Vec::new();
            from.map(|mut from| from.read_to_end(&mut octets));
            octets
        })
    };
    let out = reader(out.map(|out| Box::new(out) as Box<dyn std::io::Read + Send>));
    let err = reader(err.map(|err| Box::new(err) as Box<dyn std::io::Read + Send>));
    let status = eventually("it to end", || child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()));
    Output { status, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}

fn signal(child: &Child, number: i32) {
    // `kill -INT PID`: std has no other signal than the one that nobody can catch.
    let sent = Command::new("kill").arg(format!("-{number}")).arg(child.id().to_string()).status().unwrap();
    assert!(sent.success());
}

/// Where a document's commands run.
struct World {
    folder: TempDir,
    /// What is looked for first: forebay, and a sudo that asks nobody.
    programs: PathBuf,
    /// The relay's address, which is no other process's.
    address: String,
    collector: Collector,
    relay: Option<Relay>,
    /// The configuration that the relay runs by when a command asks it.
    configuration: PathBuf,
    /// Names of this place for those of the documents, in order.
    names: Vec<(Regex, String)>,
    /// What it sends is taken by the collector, and not by a command of the document.
    has_collector: bool,
    _certificates: Certificates,
}

impl World {
    /// The `number`th of this process.
    fn new(number: usize, programs: &Path, has_spool: bool) -> Self {
        let process = std::process::id();
        let address = format!("127.{}.{}.{}", 64 + number, (process >> 8) & 0xff, process & 0xff);
        let certificates = Certificates::new();
        let relay = certificates.issue("relay", &[&address], |_| {});
        let collector = Collector::start_plain();
        let folder = tempfile::tempdir().unwrap();
        for path in [
            "here",
            "dev",
            "etc/forebay",
            "etc/bash_completion.d",
            "etc/systemd/system",
            "var/spool",
            "var/log/remote",
            "usr/local/share/man/man1",
        ] {
            std::fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        let names = names(folder.path(), &address, &collector);
        let configuration = folder.path().join("etc/forebay/forebay.yaml");
        let world = Self {
            folder,
            programs: programs.to_owned(),
            address,
            collector,
            relay: None,
            configuration,
            names,
            has_collector: true,
            _certificates: certificates,
        };
        std::os::unix::fs::symlink(root().join("deploy"), world.path("here/deploy")).unwrap();
        std::fs::copy(&world._certificates.ca, world.path("here/ca.pem")).unwrap();
        world.write("etc/forebay/forebay.yaml", &world.usual(&relay.cert, &relay.key, ""));
        world.write("here/forebay.yaml", &world.usual(&relay.cert, &relay.key, ""));
        world.write("admin.yaml", &format!("admin: {{listen: '{}:9514'}}\ncores: 1\n", world.address));
        world.write("etc/rsyslog.conf", &world.rsyslog());
        world.write("here/intakes.yaml", &intakes());
        let log = "<30>Nov 26 08:00:00 fw-1 unbound: one\n<30>Nov 26 08:00:01 fw-1 nginx: another\n";
        for path in ["here/captured.log", "here/fw-1.log", "var/log/remote/fw-1.log"] {
            world.write(path, log);
        }
        if has_spool {
            world.fill(&relay.cert, &relay.key);
        }
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::write(self.path(path), text).unwrap();
    }

    /// A configuration with the names that the documents' commands have.
    fn usual(&self, cert: &Path, key: &Path, more_routes: &str) -> String {
        let (address, root, to) = (&self.address, self.folder.path().display(), self.collector.address);
        let (cert, key) = (cert.display(), key.display());
        format!(
            "inputs:\n  lan: {{listen: ['udp://{address}:5140', 'tcp://{address}:5140']}}\n  \
               tls: {{listen: 'tls://{address}:6514', tls: {{cert: '{cert}', key: '{key}'}}}}\n  \
               local: {{listen: 'unixgram://{root}/dev/log'}}\n\
             outputs: {{sekoia: {{to: 'tcp://{to}', replay_window: 0}}}}\n\
             routes:\n{more_routes}  - {{name: unbound, program: unbound*, intake_key: {KEY}}}\n  \
               - {{name: web, program: [nginx, haproxy], intake_key: {KEY}}}\n  \
               - {{name: noise, program: CRON, intake_key: {KEY}}}\n  - {{name: rest, intake_key: {KEY}}}\n\
             spool: {{dir: '{root}/var/spool/forebay', max_size: 64MiB, min_free: 0}}\n\
             admin: {{listen: '{address}:9514'}}\ncores: 1\n"
        )
    }

    fn rsyslog(&self) -> String {
        format!(
            "module(load=\"imudp\")\ninput(type=\"imudp\" address=\"{}\" port=\"5141\")\n\
             template(name=\"t\" type=\"string\" string=\"<%pri%>1 %timestamp:::date-rfc3339% %hostname% %app-name% %procid% LOG \
             [SEKOIA@53288 intake_key=\\\"{KEY}\\\"] %msg%\\n\")\n\
             if $programname == 'sshd' then @@(o){};t\n",
            self.address, self.collector.address
        )
    }

    /// Puts messages into the spool, of a route also that the configuration has no more.
    fn fill(&self, cert: &Path, key: &Path) {
        let old = format!("  - {{name: old-web, program: old, intake_key: {KEY}}}\n");
        let away =
            self.usual(cert, key, &old).replace(&self.collector.address.to_string(), &format!("{}:9", self.address));
        self.write("old.yaml", &away);
        // A relay makes the folder.
        let root = self.folder.path().display();
        Relay::spawn(self.command(&format!("exec forebay run -c {root}/old.yaml"))).stop();
        let lines = ["web", "noise", "unbound", "old-web"].map(|route| {
            format!("{{\"route\": \"{route}\", \"raw\": \"<30>Nov 23 08:00:00 web-2 nginx: waits for {route}\"}}\n")
        });
        self.write("old.jsonl", &lines.concat());
        let filled =
            self.command(&format!("forebay spool import -c {0}/old.yaml {0}/old.jsonl", self.folder.path().display()));
        self.ends(filled, &[0]);
        // And what a relay has left that is gone.
        self.write("gone.yaml", &away.replace("/var/spool/forebay'", "/var/spool/relay-2'"));
        self.write("gone.jsonl", &lines[0]);
        Relay::spawn(self.command(&format!("exec forebay run -c {root}/gone.yaml"))).stop();
        let filled = self.command(&format!("forebay spool import -c {root}/gone.yaml {root}/gone.jsonl"));
        self.ends(filled, &[0]);
    }

    /// A command of a document with the names of this place.
    fn here(&self, text: &str) -> String {
        let put = |text: String, (name, here): &(Regex, String)| name.replace_all(&text, here.as_str()).into_owned();
        self.names.iter().fold(text.to_owned(), put)
    }

    /// Runs in the folder, and with its programs first.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        remove_own_variables(&mut command);
        for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        let path = format!("{}:{}", self.programs.display(), std::env::var("PATH").unwrap());
        command
            .args(["-o", "pipefail", "-c", line])
            .current_dir(self.path("here"))
            .env("PATH", path)
            .env("TERM", "xterm");
        for name in keys() {
            command.env(name, KEY);
        }
        if line.contains("FOREBAY_INTAKE_KEY=") {
            let (address, to) = (&self.address, self.collector.address);
            command.env("FOREBAY_LISTEN", format!("udp://{address}:5514,tcp://{address}:5514"));
            command.env("FOREBAY_OUTPUT", format!("tcp://{to}")).env("FOREBAY_ADMIN", format!("{address}:9514"));
        } else if line.contains("--intakes ") {
            command.env("FOREBAY_SPOOL", self.path("var/spool/of-intakes"));
            command
                .env("FOREBAY_ADMIN", format!("{}:9514", self.address))
                .env("REGION", "OTHER")
                .env("ENDPOINT", "127.0.0.1");
        }
        command
    }

    /// Runs it to its end, which is one of `codes`; what it printed.
    #[track_caller]
    fn ends(&self, mut command: Command, codes: &[i32]) -> String {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = waits(Running(command.spawn().unwrap()));
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let code = output.status.code();
        assert!(code.is_some_and(|code| codes.contains(&code)), "exit code {code:?}:\n{out}{err}");
        // An import is the one that has to: it becomes a configuration.
        let is_import = out.starts_with("# From rsyslog's configuration");
        assert!(is_import || !(out.contains(KEY) || err.contains(KEY)), "a key is shown:\n{out}{err}");
        out.into_owned()
    }

    /// Has a relay run by the document's configuration.
    fn has_relay(&mut self) {
        if self.relay.is_none() {
            let command = self.command(&format!("exec forebay run -c {}", self.configuration.display()));
            self.relay = Some(Relay::spawn(command));
        }
    }

    fn stop(&mut self) {
        if let Some(relay) = self.relay.take() {
            // One whose collector was a command that has ended keeps what it might have to send again.
            if self.has_collector {
                relay.stop();
            }
        }
    }

    /// Runs a line of a block of commands.
    fn run(&mut self, line: &str) {
        let here = self.here(line);
        if Regex::new(ASKS).unwrap().is_match(line) {
            self.has_relay();
        }
        println!("{line}");
        self.has_collector &= !line.contains(" --listen ");
        let end = ENDS.iter().find(|(pattern, _)| Regex::new(pattern).unwrap().is_match(line)).map(|(_, end)| *end);
        match end.unwrap_or(End::With(&[0])) {
            End::With(codes) => drop(self.ends(self.command(&here), codes)),
            End::WhenToldOnceReady => {
                self.stop();
                self.relay = Some(Relay::spawn(self.command(&here.replace("forebay run", "exec forebay run"))));
            }
            End::WhenShown(number) => self.shows(&here, number),
            End::OnAKey => self.on_a_terminal(&here),
        }
    }

    /// Sends messages until it shows one, and ends it.
    fn shows(&self, line: &str, number: i32) {
        let mut command = self.command(&format!("exec {line}"));
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running(command.spawn().unwrap());
        let child = &mut running.0;
        let seen = Arc::new(Mutex::new(0));
        let (lines, sink) = (BufReader::new(child.stdout.take().unwrap()).lines(), Arc::clone(&seen));
        let reader = thread::spawn(move || lines.map_while(Result::ok).for_each(|_| *sink.lock().unwrap() += 1));
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        eventually("a message that is shown", || {
            for program in ["unbound", "nginx"] {
                let text = format!("<30>Nov 26 08:00:00 host {program}: denied");
                socket.send_to(text.as_bytes(), (self.address.as_str(), 5140)).unwrap();
            }
            let ended = child.try_wait().unwrap();
            match (*seen.lock().unwrap(), ended) {
                (0, Some(status)) => panic!("it ended with {status} and showed nothing"),
                (0, None) => Err("nothing yet".to_owned()),
                (_, None) if number == 0 => Err("it shows messages, and goes on".to_owned()),
                _ => Ok(()),
            }
        });
        if number != 0 {
            signal(child, number);
        }
        let status = waits(running).status;
        reader.join().unwrap();
        assert!(status.success(), "{status}");
    }

    /// Runs it on a terminal, and ends it by its key once it has drawn something.
    fn on_a_terminal(&self, line: &str) {
        if installed("script").is_none() {
            println!("not run: {line}: there is no script(1), which makes a terminal");
            return;
        }
        let mut command =
            self.command(&format!("exec script --quiet --return --command 'stty rows 40 cols 120; {line}' /dev/null"));
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut running = Running(command.spawn().unwrap());
        let child = &mut running.0;
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut out, sink) = (child.stdout.take().unwrap(), Arc::clone(&screen));
        let reader = thread::spawn(move || {
            let mut octets = [0; 4096];
            while let Ok(count) = std::io::Read::read(&mut out, &mut octets).map_err(drop)
                && count > 0
            {
                sink.lock().unwrap().extend_from_slice(&octets[..count]);
            }
        });
        eventually("a screen", || {
            let text = String::from_utf8_lossy(&screen.lock().unwrap()).into_owned();
            // The name of a route that every configuration here has stands on the first view.
            if text.contains("unbound") { Ok(()) } else { Err(text) }
        });
        let mut keys = child.stdin.take().unwrap();
        keys.write_all(b"q").unwrap();
        let status = waits(running).status;
        drop(keys);
        reader.join().unwrap();
        assert!(status.success(), "{status}");
    }

    /// Takes a document's configuration as the one that is there from here on.
    fn configure(&mut self, text: &str) {
        // As it stands: what the reader types next.
        self.write("here/block.yaml", text);
        self.ends(self.command("forebay check -c block.yaml"), &[0]);
        // And with names of this place, so that it can run.
        let mut here = self.here(text);
        if !here.contains("\nadmin:") {
            here.push_str(&format!("admin: {{listen: '{}:9514'}}\n", self.address));
        }
        self.stop();
        self.write("here/forebay.yaml", &here);
        self.configuration = self.path("here/forebay.yaml");
        self.ends(self.command("forebay check -c forebay.yaml"), &[0]);
    }

    /// A block that is no text for people only.
    fn follow(&mut self, block: &Block) {
        let kind = LANGUAGES.iter().find(|(language, _)| *language == block.language).map(|(_, kind)| *kind);
        match kind.unwrap_or_else(|| panic!("what is a block of {:?}?", block.language)) {
            Kind::Commands => lines(block).iter().for_each(|line| match elsewhere(line) {
                Some(_) => is_sound(line),
                None => self.run(line),
            }),
            Kind::Configuration => self.configure(&block.text),
            Kind::Compose => {
                let compose: Value = serde_yaml::from_str(&block.text).unwrap();
                let services = compose["services"].as_mapping().expect("services");
                assert!(services.values().all(|service| service["image"].is_string()), "each service has an image");
            }
            Kind::Beside => {
                self.write("here/block.yaml", &self.here(&block.text));
                self.ends(self.command("forebay check --strict -c block.yaml"), &[0]);
            }
            Kind::Rsyslog => {
                let input = if block.text.contains("input(") { "" } else { "input(type=\"imudp\" port=\"514\")\n" };
                self.write("here/block.conf", &format!("{input}{}", block.text.replace("YOUR_KEY", KEY)));
                self.ends(self.command("forebay check --strict --rsyslog block.conf"), &[0]);
            }
            Kind::Json => {
                let _: serde_json::Value = serde_json::from_str(block.text.trim()).unwrap();
                self.write("here/block.jsonl", &block.text);
                let config = self.path("etc/forebay/forebay.yaml");
                self.ends(self.command(&format!("forebay spool import -c {} block.jsonl", config.display())), &[0]);
            }
            Kind::Text => {}
        }
    }
}

/// A folder with a forebay of its own, whose capabilities may be set, and a sudo that asks nobody.
fn programs() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_forebay"), folder.path().join("forebay")).unwrap();
    let sudo = folder.path().join("sudo");
    std::fs::write(&sudo, "#!/bin/sh\nexec \"$@\"\n").unwrap();
    std::fs::set_permissions(&sudo, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    folder
}

/// What stands for what, in order.
fn names(folder: &Path, address: &str, collector: &Collector) -> Vec<(Regex, String)> {
    let (folder, to) = (folder.display(), collector.address);
    let (host, port) = (to.ip(), to.port());
    let names: Vec<(&str, String)> = vec![
        // A key.
        (r"=\.\.\.", format!("={KEY}")),
        // The relay: ports below 1024 are not everybody's.
        (r"udp://10\.0\.0\.5 ", format!("udp://{address}:5140 ")),
        (r"\b(0\.0\.0\.0|127\.0\.0\.1|10\.0\.0\.5|relay\.example)\b", address.to_owned()),
        // Sekoia.
        (r"intake\.sekoia\.io/10514", format!("{host}/{port}")),
        (r"\{region: fra1\}", format!("{{to: 'tcp://{to}', replay_window: 0}}")),
        (r"\{region: fra1, protocol: https\}", format!("{{to: 'http://{to}'}}")),
        (r"tls://intake\.sekoia\.io:10514", format!("tcp://{to}")),
        (r":514\b", ":5140".to_owned()),
        (r"-P 514\b", "-P 5140".to_owned()),
        (r"10\.1\.2\.0/24", "127.0.0.0/8".to_owned()),
        (r"^forebay send$", format!("forebay send udp://{address}:5140")),
        (r"^(forebay (?:tap|top|health)\b)", format!("$1 --admin http://{address}:9514")),
        (r"^(forebay run --rsyslog \S+)$", format!("$1 -c {folder}/admin.yaml")),
        // What stands beside rsyslog's file: where another output is added, routes would have to name theirs.
        (r"^(forebay run --rsyslog \S+) -c forebay\.yaml$", format!("$1 -c {folder}/admin.yaml")),
        // This machine's folders.
        (r"(^|[\s'=/])/(etc|var|usr/local|run)/", format!("$1{folder}/$2/")),
        (r"unixgram:///dev/log", format!("unixgram://{folder}/dev/log")),
        // Nobody waits for a minute, and nobody is there to be asked.
        (r"--duration \d+[sm]", "--duration 1s".to_owned()),
        (r"--count 1000000", "--count 1000".to_owned()),
        (r"^(forebay spool drop .*--route \S+)$", "$1 --yes".to_owned()),
    ];
    names.into_iter().map(|(name, here)| (Regex::new(name).unwrap(), here)).collect()
}

/// The forwarder's file, at a port that nobody has.
fn intakes() -> String {
    let free = UdpSocket::bind(("0.0.0.0", 0)).unwrap().local_addr().unwrap().port();
    format!("intakes:\n  - {{name: unbound, protocol: udp, port: {free}, intake_key: {KEY}}}\n")
}

/// The variables that hold keys in the documents.
fn keys() -> BTreeSet<String> {
    let name = Regex::new(r"\$\{([A-Z]+_INTAKE_KEY)\}").unwrap();
    let texts: String =
        documents().iter().map(|path| read(path)).collect::<String>() + &read(&root().join("deploy/forebay.yaml"));
    name.captures_iter(&texts).map(|found| found[1].to_owned()).collect()
}

/// Commands of a block: in `console` what stands behind `$ `, else every line that says something; those that end in a
/// backslash go on in the next.
fn lines(block: &Block) -> Vec<String> {
    let joined = block.text.replace("\\\n", " ");
    let is_console = block.language == "console";
    let lines = joined.lines().filter_map(|line| if is_console { line.strip_prefix("$ ") } else { Some(line) });
    let said = lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let commands: Vec<String> = said.map(str::to_owned).collect();
    assert!(!commands.is_empty(), "a block of commands without a command");
    commands
}

/// Why it cannot be run here.
fn elsewhere(line: &str) -> Option<&'static str> {
    let found = ELSEWHERE.iter().find(|(pattern, _)| Regex::new(pattern).unwrap().is_match(line));
    found.map(|(_, why)| *why)
}

/// What can be checked of a command that is run elsewhere: files of the repository that it names are there, and what it says to
/// forebay is understood.
fn is_sound(line: &str) {
    let path = Regex::new(r"(?:^|[\s(])((?:deploy|docs|src|tests|\.ci)/[\w./*-]+)").unwrap();
    for found in path.captures_iter(line) {
        let (folder, name) = found[1].trim_end_matches('/').rsplit_once('/').unwrap();
        let name = Regex::new(&format!("^{}$", name.replace('.', r"\.").replace('*', ".*"))).unwrap();
        let entries = std::fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
        let exists = entries.flatten().any(|entry| name.is_match(&entry.file_name().to_string_lossy()));
        assert!(exists, "nothing is at {}", &found[1]);
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |word: &str| words.iter().position(|each| *each == word).and_then(|at| words.get(at + 1)).copied();
    if let Some(at) = words.iter().position(|word| *word == "forebay")
        && words.first() == Some(&"systemd-run")
    {
        let parsed = forebay::cli::definition().try_get_matches_from(&words[at..]);
        parsed.unwrap_or_else(|error| panic!("{error}"));
    }
    if words.first() == Some(&"systemctl") {
        for unit in words.iter().filter(|word| word.contains('.')) {
            assert!(root().join("deploy/systemd").join(unit).exists(), "no unit {unit}");
        }
    }
    if words.first() == Some(&"kubectl") {
        let folder = root().join(after("-k").expect("-k FOLDER"));
        let kustomization: Value = serde_yaml::from_str(&read(&folder.join("kustomization.yaml"))).unwrap();
        let resources = kustomization["resources"].as_sequence().expect("resources");
        assert!(!resources.is_empty() && resources.iter().all(|each| folder.join(each.as_str().unwrap()).exists()));
    }
    if words.first() == Some(&"helm") {
        let chart = words.iter().find(|word| word.starts_with("deploy/")).expect("a chart");
        assert!(root().join(chart).join("Chart.yaml").exists(), "{chart} is no chart");
        let values: Value = serde_yaml::from_str(&read(&root().join(chart).join("values.yaml"))).unwrap();
        let set = after("--set").and_then(|set| set.split(['.', '=']).next()).expect("--set NAME=VALUE");
        assert!(values.get(set).is_some(), "{chart} has no value {set}");
    }
    if line.contains("sysctl -w") {
        let name = words.last().and_then(|word| word.split('=').next()).expect("a name");
        assert!(
            read(&root().join("deploy/sysctl.d/50-forebay.conf")).contains(name),
            "{name} is not in deploy/sysctl.d"
        );
    }
}

/// What a panic says.
fn reason(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().cloned();
    said.or(panic.downcast_ref::<&str>().map(|said| (*said).to_owned())).unwrap_or_default()
}

/// Follows a document from its top to its bottom; what went wrong, by line.
fn follow(number: usize, path: &Path, programs: &Path) -> (usize, Vec<String>) {
    let name = path.strip_prefix(root()).unwrap().display().to_string();
    let (blocks, _) = blocks(&read(path));
    if blocks.iter().all(|block| block.language == "text") {
        return (0, Vec::new());
    }
    let has_spool = blocks.iter().any(|block| block.text.contains("forebay spool"));
    let world = Mutex::new(World::new(number, programs, has_spool));
    let mut wrong = Vec::new();
    for block in &blocks {
        let followed = std::panic::catch_unwind(|| {
            world.lock().unwrap_or_else(std::sync::PoisonError::into_inner).follow(block);
        });
        if let Err(panic) = followed {
            wrong.push(format!("{name}:{}: {}\n{}", block.line, block.text, reason(&*panic)));
        }
    }
    let ended = std::panic::catch_unwind(|| {
        let mut world = world.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for part in ARRIVES.iter().filter(|(document, _)| *document == name).flat_map(|(_, parts)| *parts) {
            eventually(&format!("{part:?} to arrive"), || {
                let frames = world.collector.look(|seen| seen.frames.clone());
                let has_arrived = frames.iter().any(|frame| String::from_utf8_lossy(frame).contains(part));
                if has_arrived { Ok(()) } else { Err(format!("{} others have", frames.len())) }
            });
        }
        world.stop();
    });
    wrong.extend(ended.err().map(|panic| format!("{name}: {}", reason(&*panic))));
    (blocks.iter().filter(|block| block.language == "sh").count(), wrong)
}

#[test]
fn every_command_in_the_documents_does_what_it_says() {
    let documents = documents();
    // Before any thread starts a process: a file that is being written, by whomever a fork gave it to, cannot be run.
    let programs = programs();
    let at = programs.path();
    let followed: Vec<(usize, Vec<String>)> = thread::scope(|scope| {
        let threads: Vec<_> =
            documents.iter().enumerate().map(|(number, path)| scope.spawn(move || follow(number, path, at))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let wrong: Vec<&str> = followed.iter().flat_map(|(_, wrong)| wrong.iter().map(String::as_str)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let blocks: usize = followed.iter().map(|(blocks, _)| blocks).sum();
    assert!(blocks > 40, "followed {blocks} blocks of commands only");
}

#[test]
fn what_is_run_elsewhere_is_asked_for_somewhere_and_says_why_it_is_not_run_here() {
    let all: Vec<String> = documents()
        .iter()
        .flat_map(|path| blocks(&read(path)).0)
        .filter(|block| LANGUAGES.contains(&(block.language.as_str(), Kind::Commands)))
        .flat_map(|block| lines(&block))
        .collect();
    let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
    for (pattern, why) in ELSEWHERE {
        let pattern_ = Regex::new(pattern).unwrap();
        asked.insert(why, all.iter().filter(|line| pattern_.is_match(line)).count());
    }
    assert!(asked.values().all(|count| *count > 0), "{asked:#?}");
    let here = all.iter().filter(|line| elsewhere(line).is_none()).count();
    assert!(here * 3 > all.len() * 2, "{here} of {} commands are run", all.len());
}

#[test]
fn what_is_checked_of_commands_that_run_elsewhere_can_fail() {
    let fails = |line: &'static str| std::panic::catch_unwind(|| is_sound(line)).is_err();
    for line in [
        "deploy/build-dynamic.sh",
        "systemctl enable --now forebay.timer",
        "systemd-run --pipe forebay check --colour",
        "kubectl apply -k deploy/kubernetes/helm",
        "helm install logs deploy/kubernetes/helm/forebay --set nothing.default=1",
        "sudo sysctl -w net.core.wmem_max=1",
    ] {
        assert!(fails(line), "{line}");
    }
    assert!(!fails("install -m 644 deploy/systemd/forebay.* /etc/systemd/system/"));
}

#[test]
fn a_block_that_does_not_do_what_it_says_is_found() {
    let programs = programs();
    let documents = documents().len();
    let mut world = World::new(documents, programs.path(), false);
    let block =
        |language: &str, text: &str| Block { language: language.to_owned(), line: 1, text: format!("{text}\n") };
    let sound = [
        block("sh", "# a remark\nforebay check \\\n  -c forebay.yaml"),
        block("console", "$ forebay --version\nwhatever it prints"),
        block("text", "anything"),
    ];
    sound.iter().for_each(|block| world.follow(block));
    let wrong = [
        block("sh", "forebay check -c another.yaml"),
        block("sh", "forebay check -c forebay.yaml | grep 'what it does not print'"),
        block("sh", "forebay chekc"),
        block("sh", "# only a remark"),
        block("sh", "forebay run -c another.yaml"),
        block("console", "forebay --version"),
        block("yaml", "inputs: {lan: {lisen: 'udp://0.0.0.0:514'}}"),
        block("yaml compose", "services: {a: {ports: []}}"),
        block("rsyslog", "module(load=\"imfile\")\ninput(type=\"imfile\" File=\"/a\" Tag=\"a\")"),
        block("json", "{\"route\": \"web\", \"raw\": "),
        block("", "a language that is not said"),
        block("toml", "another = 1"),
    ];
    for block in &wrong {
        let followed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.follow(block)));
        assert!(followed.is_err(), "{}: {}", block.language, block.text);
    }
}
