//! A real rsyslogd that says which conditions hold for which messages, where one is installed.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::waiting::eventually;

const RSYSLOGD: &str = "/usr/sbin/rsyslogd";

/// A rsyslogd on a unix socket of its own; gone when dropped.
pub(crate) struct Rsyslogd {
    child: Child,
    directory: tempfile::TempDir,
}

impl Rsyslogd {
    /// With an `if` for each of `expressions`.
    pub(crate) fn start(expressions: &[String]) -> Option<Self> {
        if !Path::new(RSYSLOGD).exists() {
            println!("skipped: {RSYSLOGD} is not installed");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display();
        let mut config = format!(
            "module(load=\"imptcp\")\nglobal(workDirectory=\"{path}\" net.enableDNS=\"off\")\n\
             input(type=\"imptcp\" path=\"{path}/in\" name=\"lan\")\n"
        );
        // A message is known by the time of day in its stamp.
        let stamp = ["hour", "minute", "second"].map(|part| format!("%timereported:::date-{part}%")).join(":");
        for (index, expression) in expressions.iter().enumerate() {
            write!(
                config,
                "template(name=\"t{index}\" type=\"string\" string=\"{index} {stamp}\\n\")\n\
                 if {expression} then action(type=\"omfile\" file=\"{path}/out\" template=\"t{index}\")\n"
            )
            .unwrap();
        }
        write!(
            config,
            "template(name=\"end\" type=\"string\" string=\".\\n\")\n\
             action(type=\"omfile\" file=\"{path}/end\" template=\"end\")\n"
        )
        .unwrap();
        std::fs::write(directory.path().join("conf"), config).unwrap();
        let errors = std::fs::File::create(directory.path().join("errors")).unwrap();
        let child = Command::new(RSYSLOGD)
            .arg("-n")
            .arg("-f")
            .arg(directory.path().join("conf"))
            .arg("-i")
            .arg(directory.path().join("pid"))
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        Some(Self { child, directory })
    }

    /// Which expressions hold for each frame. Frame `n` has [`stamp`]`(n)`.
    pub(crate) fn ask(mut self, frames: &[Vec<u8>]) -> Vec<HashSet<usize>> {
        let socket = self.directory.path().join("in");
        let errors = self.directory.path().join("errors");
        let mut stream = eventually("rsyslogd to listen", || {
            let said = |_| std::fs::read_to_string(&errors).unwrap_or_default();
            UnixStream::connect(&socket).map_err(said)
        });
        for frame in frames {
            write!(stream, "{} ", frame.len()).unwrap();
            stream.write_all(frame).unwrap();
        }
        drop(stream);
        let end = self.directory.path().join("end");
        eventually("rsyslogd to take all messages", || {
            let lines = std::fs::read(&end).unwrap_or_default();
            let count = lines.iter().filter(|octet| **octet == b'\n').count();
            if count >= frames.len() { Ok(()) } else { Err(format!("{count} of {}", frames.len())) }
        });
        // It writes what is left when it is told to end.
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        self.child.wait().unwrap();
        let said = std::fs::read_to_string(&errors).unwrap();
        // It warns of facilities that there are not, and takes the expression.
        let refused = |line: &&str| line.contains("error during parsing") && !line.contains("expression will always");
        assert_eq!(said.lines().find(refused), None);
        let mut held = vec![HashSet::new(); frames.len()];
        for line in std::fs::read_to_string(self.directory.path().join("out")).unwrap().lines() {
            let (index, time) = line.split_once(' ').unwrap();
            let time: Vec<usize> = time.split(':').map(|part| part.parse().unwrap()).collect();
            let number = time[0] * 3600 + time[1] * 60 + time[2];
            // A single message of the table has a stamp of its own.
            let frame = if frames.len() == 1 { 0 } else { number };
            held[frame].insert(index.parse().unwrap());
        }
        held
    }
}

impl Drop for Rsyslogd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
