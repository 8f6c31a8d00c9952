//! A real rsyslogd with default settings on loopback: frames in over TCP and UDP, what it made of each of them out.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// What rsyslogd does not answer within this is lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// UDP has no back-pressure: so many datagrams are under way at most.
const DATAGRAMS_UNDER_WAY: usize = 50;

/// Octets that no sanitized frame can hold: between fields, and behind a record.
const FIELD_END: u8 = 0x1e;
const RECORD_END: &[u8] = b"\x1e\x1f\n";

/// The properties of a record, in the order of [`Outcome`]'s fields.
const PROPERTIES: [&str; 14] = [
    "%pri%",
    "%timereported:::date-rfc3339,escape-cc%",
    "%timegenerated:::date-rfc3339%",
    "%hostname%",
    "%syslogtag%",
    "%programname%",
    "%app-name%",
    "%procid%",
    "%msgid%",
    "%structured-data%",
    "%protocol-version%",
    "%msg%",
    "%rawmsg%",
    "%rawmsg-after-pri%",
];

/// The template of Sekoia's FAQ.
const FAQ: &str = r#"<%pri%>1 %timestamp:::date-rfc3339% %hostname% %app-name% %procid% LOG [SEKOIA@53288 intake_key=\"KEY\"] %msg%\n"#;

/// What rsyslogd made of one frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub pri: Vec<u8>,
    pub timestamp: Vec<u8>,
    pub received: Vec<u8>,
    pub hostname: Vec<u8>,
    pub tag: Vec<u8>,
    pub program: Vec<u8>,
    pub app_name: Vec<u8>,
    pub procid: Vec<u8>,
    pub msgid: Vec<u8>,
    pub structured_data: Vec<u8>,
    pub protocol: Vec<u8>,
    pub msg: Vec<u8>,
    pub raw: Vec<u8>,
    pub after_pri: Vec<u8>,
    /// The FAQ's template, rendered.
    pub faq: Vec<u8>,
}

impl Outcome {
    /// The fields in [`PROPERTIES`]' order, then the FAQ's line.
    pub fn from_fields(fields: Vec<Vec<u8>>) -> Option<Self> {
        let [
            pri,
            timestamp,
            received,
            hostname,
            tag,
            program,
            app_name,
            procid,
            msgid,
            structured_data,
            protocol,
            msg,
            raw,
            after_pri,
            faq,
        ] = <[Vec<u8>; 15]>::try_from(fields).ok()?;
        Some(Self {
            pri,
            timestamp,
            received,
            hostname,
            tag,
            program,
            app_name,
            procid,
            msgid,
            structured_data,
            protocol,
            msg,
            raw,
            after_pri,
            faq,
        })
    }

    /// The reverse of [`Self::from_fields`].
    pub fn fields(&self) -> [&[u8]; 15] {
        [
            &self.pri,
            &self.timestamp,
            &self.received,
            &self.hostname,
            &self.tag,
            &self.program,
            &self.app_name,
            &self.procid,
            &self.msgid,
            &self.structured_data,
            &self.protocol,
            &self.msg,
            &self.raw,
            &self.after_pri,
            &self.faq,
        ]
    }
}

/// How frames get to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One connection, octet counting.
    Tcp,
    /// A datagram a frame.
    Udp,
}

/// The version that is the judge; others differ from it.
const VERSION: &str = "8.2302";

/// rsyslogd's executable, where that version is installed; else what is there instead.
pub fn installed() -> Result<&'static Path, String> {
    let paths = ["/usr/sbin/rsyslogd", "/usr/local/sbin/rsyslogd"].into_iter().map(Path::new);
    let Some(executable) = paths.into_iter().find(|path| path.exists()) else {
        return Err("rsyslogd is not installed".to_owned());
    };
    let answer = Command::new(executable).arg("-v").output().map_err(|error| format!("rsyslogd -v: {error}"))?;
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    let line = answer.lines().next().unwrap_or_default();
    if line.contains(VERSION) { Ok(executable) } else { Err(format!("this is {line}, not {VERSION}")) }
}

/// Ends the process when it goes out of scope.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about either.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What a new rsyslogd in time zone `zone` makes of `frames`, in their order. None of them may be empty.
pub fn outcomes(executable: &Path, frames: &[Vec<u8>], transport: Transport, zone: &str) -> io::Result<Vec<Outcome>> {
    let directory = tempfile::tempdir()?;
    let collector = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // A named pipe instead of a file: reading it waits until rsyslogd listens.
    let port_file = directory.path().join("port");
    if !Command::new("mkfifo").arg(&port_file).status()?.success() {
        return Err(io::Error::other("mkfifo failed"));
    }
    // Opened before rsyslogd starts, and for writing too: what it writes stays, whoever opens or closes first.
    let pipe = std::fs::OpenOptions::new().read(true).write(true).open(&port_file)?;
    let udp_port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let configuration = directory.path().join("rsyslog.conf");
    std::fs::write(&configuration, configure(directory.path(), &port_file, udp_port, collector.local_addr()?.port()))?;
    let mut process = Running(
        Command::new(executable)
            .arg("-n")
            .arg("-f")
            .arg(&configuration)
            .arg("-i")
            .arg(directory.path().join("pid"))
            .env("TZ", zone)
            .stderr(Stdio::inherit())
            .spawn()?,
    );
    let records = collect(collector);
    let port = listening_port(pipe)?;
    let mut answered = Vec::with_capacity(frames.len());
    match transport {
        Transport::Tcp => {
            let mut stream = connect(port)?;
            let mut octets = Vec::new();
            for frame in frames {
                write!(octets, "{} ", frame.len())?;
                octets.extend_from_slice(frame);
            }
            let writer = thread::spawn(move || stream.write_all(&octets));
            receive(&records, &mut answered, frames.len())?;
            writer.join().map_err(|_| io::Error::other("the writer panicked"))??;
        }
        Transport::Udp => {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            for some in frames.chunks(DATAGRAMS_UNDER_WAY) {
                for frame in some {
                    socket.send_to(frame, (Ipv4Addr::LOCALHOST, udp_port))?;
                }
                receive(&records, &mut answered, some.len())?;
            }
        }
    }
    process.0.kill()?;
    Ok(answered)
}

fn configure(directory: &Path, port_file: &Path, udp_port: u16, collector_port: u16) -> String {
    let properties = PROPERTIES.join("\\036");
    let (directory, port_file) = (directory.display(), port_file.display());
    format!(
        "global(workDirectory=\"{directory}\" maxMessageSize=\"512k\" net.enableDNS=\"off\")\n\
         module(load=\"imudp\")\nmodule(load=\"imtcp\")\n\
         template(name=\"record\" type=\"string\" string=\"{properties}\\036{FAQ}\\036\\037\\n\")\n\
         input(type=\"imudp\" address=\"127.0.0.1\" port=\"{udp_port}\")\n\
         input(type=\"imtcp\" address=\"127.0.0.1\" port=\"0\" listenPortFileName=\"{port_file}\")\n\
         if $inputname != \"rsyslogd\" then\n\
         action(type=\"omfwd\" protocol=\"tcp\" target=\"127.0.0.1\" port=\"{collector_port}\" template=\"record\")\n"
    )
}

/// The port that rsyslogd wrote to the named pipe.
fn listening_port(mut pipe: File) -> io::Result<u16> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut digits = [0; 16];
        let answer = pipe.read(&mut digits).map(|len| String::from_utf8_lossy(&digits[..len]).trim().to_owned());
        // Nobody waits any more: the test has failed already.
        drop(sender.send(answer));
    });
    let digits = receiver.recv_timeout(ANSWER_TIMEOUT).map_err(|_| io::Error::other("rsyslogd does not start"))??;
    digits.parse().map_err(io::Error::other)
}

/// A connection to `port`, which rsyslogd writes down a moment before it listens there.
fn connect(port: u16) -> io::Result<TcpStream> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < deadline => {
                thread::yield_now();
            }
            connected => return connected,
        }
    }
}

/// The records that arrive at `collector`.
fn collect(collector: TcpListener) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = collector.accept()?;
        let mut pending = Vec::new();
        let mut chunk = vec![0; 1 << 16];
        loop {
            let len = stream.read(&mut chunk)?;
            if len == 0 {
                return Ok(());
            }
            let mut searched = pending.len().saturating_sub(RECORD_END.len());
            pending.extend_from_slice(&chunk[..len]);
            while let Some(end) = memchr::memmem::find(&pending[searched..], RECORD_END) {
                let record: Vec<u8> = pending.drain(..searched + end + RECORD_END.len()).collect();
                searched = 0;
                if sender.send(record[..record.len() - RECORD_END.len()].to_vec()).is_err() {
                    return Ok(());
                }
            }
        }
    });
    receiver
}

/// The next `count` records.
fn receive(records: &mpsc::Receiver<Vec<u8>>, answered: &mut Vec<Outcome>, count: usize) -> io::Result<()> {
    for _ in 0..count {
        let record = records
            .recv_timeout(ANSWER_TIMEOUT)
            .map_err(|_| io::Error::other(format!("rsyslogd answered {} frames and then no more", answered.len())))?;
        let fields = record.splitn(PROPERTIES.len() + 1, |octet| *octet == FIELD_END).map(<[u8]>::to_vec).collect();
        let outcome = Outcome::from_fields(fields)
            .ok_or_else(|| io::Error::other(format!("not a record: {}", record.escape_ascii())))?;
        answered.push(outcome);
    }
    Ok(())
}
