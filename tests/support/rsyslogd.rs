//! A real rsyslogd, as a sender to the relay and as its collector.

use std::io::Write as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

use super::certificates::Certificates;
use super::waiting::eventually;

/// A running rsyslogd; dropping it ends it.
pub struct Rsyslogd {
    process: Child,
    executable: PathBuf,
    directory: TempDir,
}

/// The network stream drivers that are installed: `gtls` (GnuTLS) and `ossl` (OpenSSL) speak TLS.
pub fn drivers() -> Vec<&'static str> {
    ["gtls", "ossl"].into_iter().filter(|driver| has_module(&format!("lmnsd_{driver}"))).collect()
}

/// Whether a module is installed; says so where it is not.
pub fn has_module(name: &str) -> bool {
    let places = ["/usr/lib/x86_64-linux-gnu/rsyslog", "/usr/lib/aarch64-linux-gnu/rsyslog", "/usr/lib/rsyslog"];
    let file = format!("{name}.so");
    let has = places.iter().chain(&["/usr/lib64/rsyslog"]).any(|place| Path::new(place).join(&file).exists());
    if !has {
        println!("skipped: rsyslogd has no {name} here");
    }
    has
}

/// `global(…)` with a TLS driver and its certificates.
pub fn with_driver(driver: &str, certificates: &Certificates) -> String {
    format!(
        "global(DefaultNetstreamDriver=\"{driver}\" DefaultNetstreamDriverCAFile=\"{}\" \
         DefaultNetstreamDriverCertFile=\"{}\" DefaultNetstreamDriverKeyFile=\"{}\")\n",
        certificates.ca.display(),
        certificates.server.cert.display(),
        certificates.server.key.display()
    )
}

impl Rsyslogd {
    /// Starts with this configuration, in which `DIRECTORY` stands for a directory of its own, where it keeps what it
    /// writes.
    pub fn start(executable: &Path, configuration: &str) -> Self {
        Self::run(Command::new(executable), configuration)
    }

    /// The same in this network namespace.
    pub fn start_inside(namespace: &str, configuration: &str) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, "rsyslogd"]);
        Self::run(command, configuration)
    }

    fn run(command: Command, configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let configuration = configuration.replace("DIRECTORY", directory.path().to_str().unwrap());
        let global = format!("global(workDirectory=\"{}\" net.enableDNS=\"off\")\n", directory.path().display());
        std::fs::write(path("rsyslog.conf"), format!("{global}{configuration}")).unwrap();
        let executable = command.get_program().into();
        let process = Self::spawn(command, directory.path());
        Self { process, executable, directory }
    }

    fn spawn(mut command: Command, directory: &Path) -> Child {
        let errors = std::fs::OpenOptions::new().create(true).append(true).open(directory.join("errors")).unwrap();
        command.arg("-n").arg("-f").arg(directory.join("rsyslog.conf")).arg("-i").arg(directory.join("pid"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn().unwrap()
    }

    /// Starts one that takes messages over a unix socket and hands them to `action`; sends it `messages`.
    pub fn sending(executable: &Path, global: &str, action: &str, messages: &[String]) -> Self {
        let configuration = format!(
            "{global}module(load=\"imuxsock\" SysSock.Use=\"off\")\n\
             input(type=\"imuxsock\" Socket=\"DIRECTORY/log\" RateLimit.Interval=\"0\")\n{action}\n"
        );
        let rsyslogd = Self::start(executable, &configuration);
        rsyslogd.send(messages);
        rsyslogd
    }

    /// Sends more messages to one that [takes](Self::sending) them over a unix socket.
    pub fn send(&self, messages: &[String]) {
        let socket = UnixDatagram::unbound().unwrap();
        eventually("rsyslogd to take messages", || socket.connect(self.path("log")).map_err(|error| error.to_string()));
        for message in messages {
            socket.send(message.as_bytes()).unwrap();
        }
    }

    /// Starts one that gives `frames`, which it takes as input `name` over a unix stream, to `rules`, and ends it once all of them
    /// have been through: what it wrote is in its directory then, and its errors are in the file `errors`. Its zone is UTC.
    pub fn through(executable: &Path, global: &str, name: &str, rules: &str, frames: &[&[u8]]) -> Self {
        let mut command = Command::new(executable);
        command.env("TZ", "UTC");
        let configuration = format!(
            "{global}module(load=\"imptcp\")\ninput(type=\"imptcp\" path=\"DIRECTORY/in\" name=\"{name}\")\n{rules}\
             template(name=\"end\" type=\"string\" string=\".\\n\")\n\
             action(type=\"omfile\" file=\"DIRECTORY/end\" template=\"end\" asyncWriting=\"off\")\n"
        );
        let mut rsyslogd = Self::run(command, &configuration);
        let mut stream = rsyslogd.eventually("it to listen", |one| UnixStream::connect(one.path("in")).ok());
        for frame in frames {
            write!(stream, "{} ", frame.len()).unwrap();
            stream.write_all(frame).unwrap();
        }
        drop(stream);
        rsyslogd.eventually("all messages to be through", |one| (one.lines("end").len() >= frames.len()).then_some(()));
        // It writes what is left when it is told to end.
        rsyslogd.terminate();
        rsyslogd.ended();
        rsyslogd
    }

    /// Waits until `look` finds something; fails at once where rsyslogd has ended.
    #[track_caller]
    fn eventually<T>(&mut self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        eventually(what, || {
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "rsyslogd ended: {ended:?}");
            look(self).ok_or_else(|| self.lines("errors").join("\n"))
        })
    }

    /// A file of its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The number that it writes to a file once it listens.
    pub fn port(&self, file: &str) -> u16 {
        let port = eventually("rsyslogd to choose a port", || {
            let digits = std::fs::read_to_string(self.path(file)).map_err(|error| error.to_string())?;
            digits.trim().parse().map_err(|_| format!("found {digits:?}"))
        });
        // It writes the file between bind(2) and listen(2).
        self.listens(port);
        port
    }

    /// Waits until it listens at this TCP port.
    pub fn listens(&self, port: u16) {
        // Of the process's own network namespace: local address, remote address, state; LISTEN is 0A.
        let table = format!("/proc/{}/net/tcp", self.process.id());
        eventually("rsyslogd to listen", || {
            let text = std::fs::read_to_string(&table).map_err(|error| error.to_string())?;
            let is_it = |line: &&str| line.contains(&format!(":{port:04X} ")) && line.contains(" 0A ");
            text.lines().find(is_it).map(|_| ()).ok_or_else(|| text.clone())
        });
    }

    /// The port that the kernel chose for the one TCP socket over IPv4 that it listens at; for inputs that write it nowhere.
    pub fn listening_port(&self) -> u16 {
        listening_port("rsyslogd", self.process.id())
    }

    /// The same of its one UDP socket over IPv4.
    pub fn datagram_port(&self) -> u16 {
        // Not connected: what is CLOSE of TCP.
        port_in("/proc/net/udp", "07", "rsyslogd", self.process.id())
    }

    /// Tells it to end in good order.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends it a signal: `TERM`, `KILL`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success(), "{status}");
    }

    /// Ends it as a crash does, and starts it again on the same files once `from` is `to` in its configuration.
    pub fn crash_and_start(&mut self, from: &str, to: &str) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let file = self.path("rsyslog.conf");
        let configuration = std::fs::read_to_string(&file).unwrap().replace(from, to);
        std::fs::write(&file, configuration).unwrap();
        drop(std::fs::remove_file(self.path("pid")));
        self.process = Self::spawn(Command::new(&self.executable), self.directory.path());
    }

    /// Waits until it has ended.
    pub fn ended(&mut self) {
        eventually("rsyslogd to end", || match self.process.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// Lines of a file that it writes.
    pub fn lines(&self, file: &str) -> Vec<String> {
        let text = std::fs::read(self.path(file)).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }
}

impl Drop for Rsyslogd {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about either.
        drop(self.process.kill());
        drop(self.process.wait());
        if thread::panicking() {
            println!("rsyslogd's errors:\n{}", self.lines("errors").join("\n"));
        }
    }
}

/// The port that the kernel chose for the one TCP socket over IPv4 that a process listens at.
#[track_caller]
pub fn listening_port(program: &str, pid: u32) -> u16 {
    // 0A is LISTEN.
    port_in("/proc/net/tcp", "0A", program, pid)
}

#[track_caller]
fn port_in(table: &str, state: &str, program: &str, pid: u32) -> u16 {
    eventually(&format!("{program} to listen"), || {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).map_err(|error| error.to_string())?;
        let links = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        let sockets: Vec<String> = links.filter_map(|link| link.to_str().map(str::to_owned)).collect();
        let table = std::fs::read_to_string(table).map_err(|error| error.to_string())?;
        let port_of = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // The inode is the tenth field.
            let listens = fields.get(3) == Some(&state) && sockets.contains(&format!("socket:[{}]", fields.get(9)?));
            u16::from_str_radix(fields.get(1)?.split(':').nth(1)?, 16).ok().filter(|_| listens)
        };
        table.lines().find_map(port_of).ok_or_else(|| "no socket".to_owned())
    })
}
