//! The same file run by a real rsyslogd and, as it is and imported, by forebay: the same messages in, the same octets at each destination.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use forebay::config::{Keys, import_rsyslog};

use super::support::certificates::Certificates;
use super::support::collector::Collector;
use super::support::installed;
use super::support::relay::Relay;
use super::support::rsyslogd::{Rsyslogd, drivers};
use super::support::senders::{counted, send_tcp};
use super::{assert_imports_as, load, with_files, write};

/// Where messages come in: `LISTEN` is the port, and what tells it to the test.
const INPUT: &str = "module(load=\"imtcp\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" name=\"lan\" LISTEN)\n";

/// Takes everything that comes to one address.
enum Sink {
    Tcp { address: SocketAddr, ended: Arc<AtomicBool>, streams: Arc<Mutex<Vec<Vec<u8>>>>, thread: JoinHandle<()> },
    Udp(UdpSocket),
}

impl Sink {
    fn tcp() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (ended, streams) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (ended_too, streams_too) = (Arc::clone(&ended), Arc::clone(&streams));
        let take = move |mut stream: TcpStream, streams: Arc<Mutex<Vec<Vec<u8>>>>| {
            let mut octets = Vec::new();
            // A reset takes nothing away that has come.
            drop(stream.read_to_end(&mut octets));
            streams.lock().unwrap().push(octets);
        };
        let thread = thread::spawn(move || {
            let mut readers = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                if ended_too.load(Ordering::SeqCst) {
                    break;
                }
                let streams = Arc::clone(&streams_too);
                readers.push(thread::spawn(move || take(stream, streams)));
            }
            readers.into_iter().for_each(|reader| reader.join().unwrap());
        });
        Self::Tcp { address, ended, streams, thread }
    }

    fn udp() -> Self {
        Self::Udp(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
    }

    fn port(&self) -> u16 {
        match self {
            Self::Tcp { address, .. } => address.port(),
            Self::Udp(socket) => socket.local_addr().unwrap().port(),
        }
    }

    /// What has come once whoever sent it has ended: each stream, or each datagram; nothing of those without an octet.
    fn end(self) -> Vec<Vec<u8>> {
        match self {
            Self::Tcp { address, ended, streams, thread } => {
                ended.store(true, Ordering::SeqCst);
                drop(TcpStream::connect(address).unwrap());
                thread.join().unwrap();
                let mut all = std::mem::take(&mut *streams.lock().unwrap());
                all.retain(|octets| !octets.is_empty());
                all
            }
            Self::Udp(socket) => {
                socket.set_nonblocking(true).unwrap();
                let mut all = Vec::new();
                let mut octets = [0; 65_536];
                while let Ok(len) = socket.recv(&mut octets) {
                    all.push(octets[..len].to_vec());
                }
                all
            }
        }
    }
}

/// Destinations `TCP_A`, `TCP_B`, …, `UDP_A`, … and files `DIRECTORY/NAME.out`.
struct Sinks(BTreeMap<String, Sink>);

impl Sinks {
    /// One for each name in the text, and the text with their ports.
    fn for_text(text: &str) -> (Self, String) {
        let names = regex::Regex::new(r"\b(TCP|UDP)_[A-Z]\b").unwrap();
        let mut sinks = BTreeMap::new();
        for name in names.find_iter(text).map(|found| found.as_str()) {
            let new = || if name.starts_with("TCP") { Sink::tcp() } else { Sink::udp() };
            sinks.entry(name.to_owned()).or_insert_with(new);
        }
        let port = |found: &regex::Captures<'_>| sinks[&found[0]].port().to_string();
        let text = names.replace_all(text, port).into_owned();
        (Self(sinks), text)
    }

    fn end(self, files: &Path) -> BTreeMap<String, Vec<Vec<u8>>> {
        let mut all: BTreeMap<String, Vec<Vec<u8>>> =
            self.0.into_iter().map(|(name, sink)| (name, sink.end())).collect();
        for entry in std::fs::read_dir(files).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "out") {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                all.insert(name, vec![std::fs::read(&path).unwrap()]);
            }
        }
        all
    }
}

/// Messages of several programs, hosts, facilities and severities.
fn messages() -> Vec<String> {
    let mut all = Vec::new();
    for (pri, program) in
        [(34, "wheel"), (30, "wheelhouse"), (86, "sluice"), (191, "gate"), (0, "kernel"), (165, "mill/grind")]
    {
        for (host, text) in [
            ("north", "turns fast"),
            ("south", "stands still"),
            ("mill-7", "turns 12 times"),
            ("north", "it's \"odd\" \\ here"),
        ] {
            all.push(format!("<{pri}>Nov 22 10:11:12 {host} {program}[9]: {text}"));
        }
        all.push(format!(
            "<{pri}>1 2026-03-04T05:06:07.891234+01:00 east {program} 12 ID [a@1 b=\"c\"] turns by itself"
        ));
    }
    // Those without a stamp would be given the time of reception.
    all.push("<13>Nov 22 10:11:12 no header at all".to_owned());
    all.push("<134>Nov 22 10:11:12 %ASA-6-302013: Built outbound".to_owned());
    all
}

/// What each destination gets from rsyslogd.
fn by_rsyslogd(executable: &Path, text: &str) -> BTreeMap<String, Vec<Vec<u8>>> {
    let (sinks, text) = Sinks::for_text(text);
    let listen = "port=\"0\" listenPortFileName=\"DIRECTORY/port\"";
    // Each message is through before the next one is read: nothing is under way when it ends.
    let queue = "main_queue(queue.type=\"Direct\")\n";
    let text = format!("{queue}{}", text.replace("LISTEN", listen));
    let mut rsyslogd = Rsyslogd::start(executable, &text);
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, rsyslogd.port("port")));
    send_tcp(to, &messages().iter().flat_map(|message| counted(message)).collect::<Vec<u8>>());
    rsyslogd.terminate();
    rsyslogd.ended();
    let errors = rsyslogd.lines("errors");
    assert!(errors.iter().all(|line| !line.contains("error during parsing")), "{errors:#?}");
    sinks.end(rsyslogd.path("port").parent().unwrap())
}

/// How forebay gets a file of rsyslog's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `forebay run --rsyslog FILE`
    AsItIs,
    /// `forebay import rsyslog FILE`, and the result as a configuration.
    Imported,
}

/// The same from forebay.
fn by_forebay(text: &str, way: Way) -> BTreeMap<String, Vec<Vec<u8>>> {
    let (sinks, text) = Sinks::for_text(text);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let text = text.replace("LISTEN", "port=\"0\"").replace("DIRECTORY", path);
    let file = write(directory.path(), "rsyslog.conf", &text);
    let files = [file.clone()];
    let loaded = load(&with_files(&files, false)).unwrap_or_else(|report| panic!("{report}\n{text}"));
    assert_imports_as(&loaded, &files);
    let mut relay = match way {
        Way::Imported => {
            let (imported, _) = import_rsyslog(&files, Keys::Found).unwrap_or_else(|report| panic!("{report}"));
            Relay::start(&imported)
        }
        // Behind the arguments that all relays of tests get.
        Way::AsItIs => Relay::start_as("", |program| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("exec \"$0\" \"$@\" --rsyslog '{}'", file.display()), program]);
            command
        }),
    };
    send_tcp(relay.address("lan", "tcp"), &messages().iter().flat_map(|message| counted(message)).collect::<Vec<u8>>());
    relay.stop_clean();
    sinks.end(directory.path())
}

/// Holds both to the same octets. Where rsyslogd has a connection for each of several actions and we have one for all, the
/// order between them is nobody's.
#[track_caller]
fn assert_the_same(rules: &str) {
    let Some(executable) = installed("rsyslogd") else { return };
    let text = format!("{INPUT}{rules}");
    let expected = by_rsyslogd(&executable, &text);
    assert!(expected.values().any(|octets| !octets.is_empty()), "nothing arrived: {text}");
    for way in [Way::AsItIs, Way::Imported] {
        let found = by_forebay(&text, way);
        assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>(), "{way:?}: {text}");
        for (name, expected) in &expected {
            let (mut expected, mut found) = (expected.clone(), found[name].clone());
            if expected.len() > 1 && !name.starts_with("UDP") {
                (expected, found) = (lines(&expected), lines(&found));
            }
            assert_eq!(shown(&found), shown(&expected), "{name}, forebay's ({way:?}) on the left\n{rules}");
        }
    }
}

fn shown(all: &[Vec<u8>]) -> Vec<String> {
    all.iter().map(|octets| String::from_utf8_lossy(octets).into_owned()).collect()
}

fn lines(streams: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> =
        streams.iter().flat_map(|stream| stream.split_inclusive(|octet| *octet == b'\n')).map(<[u8]>::to_vec).collect();
    all.sort();
    all
}

#[test]
fn lines_of_old_send_the_same() {
    assert_the_same(
        "\
$template Keyed,\"<%pri%>1 %timestamp:::date-rfc3339% %hostname% %app-name% %procid% LOG [SEKOIA@53288 intake_key=\\\"abcdefgh12345678\\\"] %msg%\\n\"
$ActionFileDefaultTemplate RSYSLOG_TraditionalFileFormat
auth,authpriv.* @@(o)127.0.0.1:TCP_A;Keyed
*.*;auth,authpriv.none;*.!err -DIRECTORY/others.out # not what goes to A
:programname, startswith, \"wheel\" @@127.0.0.1:TCP_B
& @127.0.0.1:UDP_A;RSYSLOG_ForwardFormat
:hostname, !isequal, \"north\" {
    DIRECTORY/elsewhere.out;RSYSLOG_FileFormat
    :msg, contains, \"still\" ~
}
:msg, regex, \"turns [0-9]\\\\{2\\\\} times\" stop
:msg, ereregex, \"^ (it|no)\" @@127.0.0.1:TCP_C
:syslogtag, isempty, \"\" stop
kern.=emerg;local7.* @@127.0.0.1:TCP_D
",
    );
}

#[test]
fn conditions_in_conditions_send_the_same() {
    assert_the_same(
        "\
template(name=\"Short\" type=\"string\" string=\"%programname% %hostname%%msg%\\n\")
if ($programname == [\"wheel\", \"gate\"] and $syslogseverity <= 6) then {
    if $hostname == 'north' then {
        action(type=\"omfwd\" target=\"127.0.0.1\" port=\"TCP_A\" protocol=\"tcp\" TCP_Framing=\"octet-counted\" template=\"Short\")
        if re_match($msg, 'odd|fast') then stop
    } else if $hostname startswith \"mill\" then {
        action(type=\"omfwd\" target=\"127.0.0.1\" port=\"TCP_B\" protocol=\"tcp\" template=\"Short\")
    } else
        action(type=\"omfile\" file=\"DIRECTORY/rest.out\" template=\"Short\")
    action(type=\"omfwd\" target=\"127.0.0.1\" port=\"TCP_C\" protocol=\"tcp\" template=\"Short\")
} else {
    if not ($msg contains \"turns\") or prifilt(\"kern.*\") then { stop }
}
action(type=\"omfwd\" target=\"127.0.0.1\" port=\"TCP_D\" protocol=\"tcp\" template=\"Short\")
if $programname contains_i 'WHEEL' then stop
action(type=\"omfwd\" target=\"127.0.0.1\" port=\"UDP_A\" protocol=\"udp\" template=\"Short\")
",
    );
}

#[test]
fn rulesets_that_call_each_other_send_the_same() {
    let called = |queue: &str| {
        format!(
            "\
template(name=\"Short\" type=\"string\" string=\"%programname% %hostname%%msg%\\n\")
ruleset(name=\"second\"{queue}) {{
    if $programname == 'gate' then stop
    action(type=\"omfwd\" target=\"127.0.0.1\" port=\"TCP_A\" protocol=\"tcp\" template=\"Short\")
    if $hostname == 'south' then {{ stop }}
    action(type=\"omfwd\" target=\"127.0.0.1\" port=\"TCP_B\" protocol=\"tcp\" template=\"Short\")
}}
if $msg contains 'turns' then call second
action(type=\"omfwd\" target=\"127.0.0.1\" port=\"TCP_C\" protocol=\"tcp\" template=\"Short\")
"
        )
    };
    assert_the_same(&called(""));
    assert_the_same(&called(" queue.type=\"LinkedList\" queue.timeoutShutdown=\"30000\""));
}

#[test]
fn a_ruleset_of_an_input_sends_the_same() {
    let rules = "\
ruleset(name=\"mill\") {
    set $.site = \"north\";
    set $.where = $hostname;
    if $.where == $.site then { action(type=\"omfwd\" target=\"127.0.0.1\" port=\"TCP_A\" protocol=\"tcp\") stop }
    if $!nothing == \"\" and $inputname == 'lan' then action(type=\"omfwd\" target=\"127.0.0.1\" port=\"TCP_B\" protocol=\"tcp\")
}
action(type=\"omfile\" file=\"DIRECTORY/never.out\")
";
    let input = INPUT.replace("LISTEN", "ruleset=\"mill\" LISTEN");
    let Some(executable) = installed("rsyslogd") else { return };
    let text = format!("{input}{rules}");
    let (expected, found) = (by_rsyslogd(&executable, &text), by_forebay(&text, Way::AsItIs));
    assert!(expected.values().all(|streams| streams.len() == 1 || streams.is_empty()));
    let of = |all: &BTreeMap<String, Vec<Vec<u8>>>| ["TCP_A", "TCP_B"].map(|name| all[name].clone());
    assert_eq!(of(&found).map(|streams| shown(&streams)), of(&expected).map(|streams| shown(&streams)));
    assert!(of(&expected).iter().all(|streams| streams[0].len() > 100));
}

#[test]
fn rsyslogs_own_templates_are_the_same() {
    let names = [
        "RSYSLOG_TraditionalFileFormat",
        "RSYSLOG_FileFormat",
        "RSYSLOG_TraditionalForwardFormat",
        "RSYSLOG_ForwardFormat",
        "RSYSLOG_SyslogProtocol23Format",
        "RSYSLOG_SysklogdFileFormat",
        "RSYSLOG_SyslogRFC5424Format",
    ];
    let rules: String = names
        .iter()
        .zip('A'..)
        .map(|(name, letter)| {
            format!(
                "action(type=\"omfwd\" target=\"127.0.0.1\" port=\"TCP_{letter}\" protocol=\"tcp\" \
                 TCP_Framing=\"octet-counted\" template=\"{name}\")\n"
            )
        })
        .collect();
    let list = "\
template(name=\"List\" type=\"list\") {
    constant(value=\"<\") property(name=\"pri\") constant(value=\"> \\\"\")
    property(name=\"timestamp\" dateFormat=\"rfc3339\") constant(value=\"\\\" \")
    property(name=\"programname\" caseConversion=\"upper\") property(name=\"msg\" position.from=\"2\" position.to=\"6\")
    constant(value=\"\\n\")
}
action(type=\"omfwd\" target=\"127.0.0.1\" port=\"TCP_Z\" protocol=\"tcp\" template=\"List\")
";
    assert_the_same(&format!("{list}{rules}"));
}

/// Sekoia's snippet of 2020 and today's, towards a collector of ours; `DRIVER`, `CA` and `PORT` are filled in.
const OVER_TLS: &str = "\
$DefaultNetstreamDriverCAFile CA
$ActionSendStreamDriver DRIVER # use this netstream driver
$ActionSendStreamDriverMode 1 # require TLS for the connection
$ActionSendStreamDriverAuthMode x509/name
$ActionSendStreamDriverPermittedPeer localhost
template(name=\"Keyed\" type=\"string\" string=\"<%pri%>1 %timestamp:::date-rfc3339% %hostname% %app-name% %procid% LOG [SEKOIA@53288 intake_key=\\\"abcdefgh12345678\\\"] %msg%\\n\")
if $programname startswith 'wheel' then @@(o)localhost:PORT;Keyed
if $programname == 'gate' then {
    action(type=\"omfwd\" protocol=\"tcp\" target=\"localhost\" port=\"PORT\" TCP_Framing=\"octet-counted\" StreamDriver=\"DRIVER\"
        StreamDriverMode=\"1\" StreamDriverAuthMode=\"x509/name\" StreamDriverPermittedPeers=\"localhost\" Template=\"Keyed\")
    stop
}
";

#[test]
fn actions_over_tls_send_the_same() {
    let Some(executable) = installed("rsyslogd") else { return };
    let sent = messages().iter().filter(|message| message.contains(" wheel") || message.contains(" gate")).count();
    assert!(sent > 10);
    for driver in drivers() {
        let certificates = Certificates::new();
        let arrived = |run: &dyn Fn(&str)| {
            let collector = Collector::start(&certificates);
            let rules = OVER_TLS
                .replace("CA\n", &format!("{}\n", certificates.ca.display()))
                .replace("DRIVER", driver)
                .replace("PORT", &collector.address.port().to_string());
            run(&format!("{INPUT}{rules}"));
            let mut frames = collector.wait_for(sent);
            frames.sort();
            frames
        };
        let expected = arrived(&|text| drop(by_rsyslogd(&executable, text)));
        let found = arrived(&|text| drop(by_forebay(text, Way::Imported)));
        assert_eq!(found, expected, "forebay's on the left, {driver}");
    }
}
