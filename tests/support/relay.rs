//! The relay as a process: started with a configuration, watched through its log and its admin server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::waiting::{PATIENCE, eventually, within};

/// Ticks of utime and stime in `/proc/PID/stat`: USER_HZ, 100 on every Linux that has a procfs.
const TICK: Duration = Duration::from_millis(10);

/// What stands above every configuration: nothing of it is what a test is about.
const PREAMBLE: &str = "admin: {listen: '127.0.0.1:0'}\ncores: 2\n";

/// A running relay. Dropping it kills it; a failing test prints its log.
pub struct Relay {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    directory: TempDir,
}

/// `/status`.
#[derive(Debug, Clone, PartialEq)]
pub struct Status(pub Value);

impl Relay {
    /// Starts with this configuration (and the admin server at a free port, and two shards); ready when it returns.
    pub fn start(configuration: &str) -> Self {
        Self::start_as(configuration, |program| Command::new(program))
    }

    /// As [`Self::start`], by the command that `wrap` makes of the program's path.
    pub fn start_as(configuration: &str, wrap: impl FnOnce(&str) -> Command) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("forebay.yaml");
        std::fs::write(&file, format!("{PREAMBLE}{configuration}")).unwrap();
        let mut command = wrap(env!("CARGO_BIN_EXE_forebay"));
        command.args(["run", "--log-format", "json", "-c"]).arg(&file);
        Self::spawn(command, directory)
    }

    /// Of this file as it is, and nothing before it: the configuration of [`Self::start_as`] is left aside.
    pub fn start_of(file: &Path) -> Self {
        Self::start_as("", |program| {
            let mut command = Command::new("sh");
            command.args(["-c", "exec \"$0\" run --log-format json -c \"$FILE\"", program]).env("FILE", file);
            command
        })
    }

    /// Starts without a file, with these variables.
    pub fn start_with_environment(variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        remove_own_variables(&mut command);
        command.args(["run", "--log-format", "json"]).envs(variables.iter().copied());
        Self::spawn(command, tempfile::tempdir().unwrap())
    }

    /// Starts with this `intakes.yaml`, with these variables and arguments, and with a spool and an admin server of its own.
    pub fn start_with_intakes(intakes: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("intakes.yaml");
        std::fs::write(&file, intakes).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(["run", "--log-format", "json", "--intakes"]).arg(&file).args(arguments);
        set_for_intakes(&mut command, directory.path(), variables);
        Self::spawn(command, directory)
    }

    fn spawn(mut command: Command, directory: TempDir) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let sink = Arc::clone(&log);
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sink.lock().unwrap().push(line);
            }
        });
        let mut relay = Self { child, log, reader: Some(reader), directory };
        eventually("the relay to be ready", || {
            if relay.logged("ready").is_some() {
                return Ok(());
            }
            if let Some(status) = relay.child.try_wait().unwrap() {
                panic!("the relay ended with {status}:\n{}", relay.log_text());
            }
            Err("not ready".to_owned())
        });
        relay
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its configuration's directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The first line of the log with this message, as JSON.
    pub fn logged(&self, message: &str) -> Option<Value> {
        self.log_lines().into_iter().find(|line| line["message"] == message)
    }

    /// The first line of the log whose message holds `part`, once it is there.
    #[track_caller]
    pub fn wait_for_log(&self, part: &str) -> Value {
        eventually(&format!("a line of the log with {part:?}"), || {
            let is_it = |line: &Value| line["message"].as_str().is_some_and(|message| message.contains(part));
            self.log_lines().into_iter().find(is_it).ok_or_else(|| "no such line".to_owned())
        })
    }

    /// Whole lines of the log, as JSON.
    pub fn log_lines(&self) -> Vec<Value> {
        let log = self.log.lock().unwrap();
        log.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The log as it was written.
    pub fn log_text(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// What listens for `input` with this scheme (`udp`, `tcp`, `tls`), as the log says.
    #[track_caller]
    pub fn address(&self, input: &str, scheme: &str) -> SocketAddr {
        let listening = self.log_lines().into_iter().filter(|line| line["message"] == "listening");
        let mut urls = listening.filter(|line| line["input"] == input);
        let url = urls.find_map(|line| {
            let (found, address) = line["address"].as_str()?.split_once("://")?;
            (found == scheme).then(|| address.parse().unwrap())
        });
        url.unwrap_or_else(|| panic!("nothing listens for {input} with {scheme}"))
    }

    /// Where the admin server listens.
    pub fn admin(&self) -> SocketAddr {
        let line = self.logged("admin server listening").expect("the log says where the admin server listens");
        line["address"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// What the admin server answers: status code and body.
    pub fn request(&self, method: &str, path: &str) -> (u16, String) {
        request(self.admin(), method, path).unwrap()
    }

    /// `GET /metrics`.
    pub fn metrics(&self) -> String {
        let (code, body) = self.request("GET", "/metrics");
        assert_eq!(code, 200);
        body
    }

    /// One metric's value; `labels` as Prometheus writes them (`input="lan"`).
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &str) -> u64 {
        let series = format!("{name}{{{labels}}} ");
        let metrics = self.metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
        value.unwrap_or_else(|| panic!("no {series}in\n{metrics}")).parse().unwrap()
    }

    /// One metric's value that has no labels.
    #[track_caller]
    pub fn metric_alone(&self, name: &str) -> u64 {
        let metrics = self.metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in\n{metrics}")).parse().unwrap()
    }

    /// `GET /status`.
    pub fn status(&self) -> Status {
        let (code, body) = self.request("GET", "/status");
        assert_eq!(code, 200);
        Status(serde_json::from_str(&body).unwrap())
    }

    /// The status once `holds` is true of it.
    #[track_caller]
    pub fn status_when(&self, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
        eventually(what, || {
            let status = self.status();
            if holds(&status) { Ok(status) } else { Err(format!("{:#}", status.0)) }
        })
    }

    /// Sends a signal: `TERM`, `INT`, `KILL`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.pid())]).status().unwrap();
        assert!(sent.success());
    }

    /// Orders the stop.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Waits for the end of the process, and of its log.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let status =
            eventually("the relay to end", || self.child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()));
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }

    /// Whether it has ended by now.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Stops it in order and holds it to having delivered everything.
    #[track_caller]
    pub fn stop_clean(&mut self) {
        self.terminate();
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log_text());
        assert!(self.logged("stopped; everything that was received is delivered").is_some());
    }

    /// Processor time that the process has taken.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // Behind the name, which may hold anything: utime and stime are fields 14 and 15 of proc(5), the state is 3.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
        TICK * ticks
    }

    /// Bytes of resident memory, the program's own pages (of which a test build has more than a release) left out.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Waits until the relay takes less than a twentieth of a core over `time`; fails when it never does. What it still has
    /// to do when an outage begins is no spinning.
    #[track_caller]
    pub fn assert_idles(&self, time: Duration) {
        let measured = within(PATIENCE / 3, || {
            let (before, began) = (self.cpu(), Instant::now());
            super::waiting::pause(time);
            let (taken, passed) = (self.cpu() - before, began.elapsed());
            if taken * 20 < passed { Ok(()) } else { Err(format!("{taken:?} of processor time in {passed:?}")) }
        });
        measured.unwrap_or_else(|last| panic!("the relay spins: {last}"));
    }
}

/// Variables beside an `intakes.yaml`: the spool in `directory`, the admin server at a free port, and these.
pub fn set_for_intakes(command: &mut Command, directory: &Path, variables: &[(&str, &str)]) {
    remove_own_variables(command);
    for name in ["REGION", "ENDPOINT", "RELP_OUTPUT", "DISK_SPACE", "MEMORY_MESSAGES"] {
        command.env_remove(name);
    }
    command.env("FOREBAY_SPOOL", directory.join("spool")).env("FOREBAY_ADMIN", "127.0.0.1:0");
    command.envs(variables.iter().copied());
}

/// What whoever runs the tests has set for the program is not meant for them.
pub fn remove_own_variables(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"FOREBAY_")) {
        command.env_remove(name);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            println!("the relay's log:\n{}", self.log_text());
        }
    }
}

impl Status {
    fn named(&self, kind: &str, name: &str) -> &Value {
        let all = self.0[kind].as_array().expect("a list");
        all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} among {kind}"))
    }

    /// One input's counts.
    #[track_caller]
    pub fn input(&self, name: &str) -> &Value {
        self.named("inputs", name)
    }

    /// One route's counts.
    #[track_caller]
    pub fn route(&self, name: &str) -> &Value {
        self.named("routes", name)
    }

    /// One output's counts.
    #[track_caller]
    pub fn output(&self, name: &str) -> &Value {
        self.named("outputs", name)
    }

    /// Whether every route's account has its sum now. While messages move it may not: its counts are read one by one.
    pub fn is_balanced(&self) -> bool {
        let routes = self.0["routes"].as_array().expect("routes");
        routes.iter().filter(|route| route["discard"].is_null()).all(|route| {
            let ends = sum(route, &["released", "in_flight", "waiting", "spooled", "dropped"]);
            sum(route, &["routed", "recovered"]) == ends
        })
    }

    /// Holds every account to its sum: inputs and routes.
    #[track_caller]
    pub fn assert_balanced(&self) {
        for input in self.0["inputs"].as_array().unwrap() {
            let ends = sum(input, &["rejected", "discarded", "unmatched", "routed"]);
            assert_eq!(count(input, "received"), ends, "{:#}", self.0);
        }
        for route in self.0["routes"].as_array().unwrap().iter().filter(|route| route["discard"].is_null()) {
            let ends = sum(route, &["released", "in_flight", "waiting", "spooled", "dropped"]);
            assert_eq!(sum(route, &["routed", "recovered"]), ends, "{:#}", self.0);
        }
    }
}

/// A count of an input, a route or an output.
#[track_caller]
pub fn count(of: &Value, name: &str) -> u64 {
    of[name].as_u64().unwrap_or_else(|| panic!("no {name} in {of}"))
}

fn sum(of: &Value, names: &[&str]) -> u64 {
    names.iter().map(|name| count(of, name)).sum()
}

/// One HTTP/1.1 request over a connection of its own: status code and body.
pub fn request(to: SocketAddr, method: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.ok_or(std::io::ErrorKind::InvalidData)?, body.to_owned()))
}
