//! A real rsyslogd, where one is installed.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RSYSLOGD: &str = "/usr/sbin/rsyslogd";
/// Stands between values in rsyslogd's output; in no message and no template.
const SEPARATOR: &[u8] = b"\x1e\x1d";
const SEPARATOR_ESCAPED: &str = r"\036\035";

/// A rsyslogd on a unix socket of its own; gone when dropped.
pub(crate) struct Rsyslogd {
    child: Child,
    directory: tempfile::TempDir,
}

impl Rsyslogd {
    pub(crate) fn start(templates: &[String]) -> Option<Self> {
        if !Path::new(RSYSLOGD).exists() {
            println!("skipped: {RSYSLOGD} is not installed");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display();
        let mut config = format!(
            "module(load=\"imptcp\")\nglobal(workDirectory=\"{path}\" net.enableDNS=\"off\" \
             parser.escapeControlCharactersOnReceive=\"off\")\ninput(type=\"imptcp\" path=\"{path}/in\" name=\"in1\")\n"
        );
        for (index, template) in templates.iter().enumerate() {
            config.push_str(&format!(
                "template(name=\"t{index}\" type=\"string\" string=\"{template}{SEPARATOR_ESCAPED}\")\n\
                 action(type=\"omfile\" file=\"{path}/out{index}\" template=\"t{index}\")\n"
            ));
        }
        config.push_str(&format!(
            "template(name=\"end\" type=\"string\" string=\".\\n\")\n\
             action(type=\"omfile\" file=\"{path}/end\" template=\"end\" asyncWriting=\"off\")\n"
        ));
        std::fs::write(directory.path().join("conf"), config).unwrap();
        let errors = std::fs::File::create(directory.path().join("errors")).unwrap();
        let child = Command::new(RSYSLOGD)
            .arg("-n")
            .arg("-f")
            .arg(directory.path().join("conf"))
            .arg("-i")
            .arg(directory.path().join("pid"))
            .env("TZ", "UTC")
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        Some(Self { child, directory })
    }

    /// What each template made of each message: `[template][message]`. `None`: rsyslogd refused the template.
    pub(crate) fn render(mut self, templates: usize, frames: &[&[u8]]) -> Vec<Option<Vec<Vec<u8>>>> {
        let socket = self.directory.path().join("in");
        let mut stream = self.eventually("its socket", || UnixStream::connect(&socket).ok());
        for frame in frames {
            write!(stream, "{} ", frame.len()).unwrap();
            stream.write_all(frame).unwrap();
        }
        drop(stream);
        let end = self.directory.path().join("end");
        self.eventually("all messages", || {
            let lines = std::fs::read(&end).ok()?;
            (lines.iter().filter(|octet| **octet == b'\n').count() >= frames.len()).then_some(())
        });
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        self.child.wait().unwrap();
        (0..templates)
            .map(|index| {
                let text = std::fs::read(self.directory.path().join(format!("out{index}"))).ok()?;
                Some(split(&text))
            })
            .collect()
    }

    fn eventually<T>(&mut self, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(found) = probe() {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                let errors = std::fs::read_to_string(self.directory.path().join("errors")).unwrap_or_default();
                panic!("rsyslogd did not show {what} (ended: {ended:?}): {errors}");
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Rsyslogd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn split(text: &[u8]) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
        values.push(rest[..at].to_vec());
        rest = &rest[at + SEPARATOR.len()..];
    }
    values
}
