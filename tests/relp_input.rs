//! RELP as an input, with a real omrelp in front of the relay: what a sender was told to be safe arrives, whoever is
//! killed.
//!
//! Where rsyslogd or its module is not installed, a test says so and checks nothing.
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

#[path = "support/harness.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use forebay::relp::client::{Client, Event};
use forebay::relp::frame::{Command, Encoder};

use support::certificates::Certificates;
use support::collector::{Collector, Manner};
use support::installed;
use support::load::{missing_and_duplicates, numbered};
use support::relay::{Relay, Status, count};
use support::rsyslogd::{Rsyslogd, has_module};
use support::senders::{assert_closed, connect, connect_tls};
use support::waiting::{PATIENCE, eventually};

/// librelp's window (`RELP_DFLT_WINDOW_SIZE`).
const WINDOW: u64 = 128;

const OMRELP: &str = "module(load=\"omrelp\")\ntemplate(name=\"sent\" type=\"string\" string=\"%rawmsg%\")\n";

fn omrelp() -> Option<PathBuf> {
    installed("rsyslogd").filter(|_| has_module("omrelp"))
}

fn texts(numbers: Range<u64>) -> Vec<String> {
    numbers.map(|number| numbered(number).trim_end().to_owned()).collect()
}

/// The action that sends to this port; `more` are parameters.
fn action(port: u16, more: &str) -> String {
    format!(
        "action(type=\"omrelp\" target=\"localhost\" port=\"{port}\" template=\"sent\" action.resumeInterval=\"1\" \
         action.resumeRetryCount=\"-1\" {more})"
    )
}

/// A plain collector, and what relays need to find it.
struct Site {
    collector: Collector,
    directory: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        Self { collector: Collector::start_plain(), directory: tempfile::tempdir().unwrap() }
    }

    /// A relay with this `listen` and more of its input; with a spool where `spool` says how.
    fn relay(&self, listen: &str, input: &str, spool: Option<&str>, output: &str) -> Relay {
        let dir = self.directory.path().join("spool");
        let spool = spool.map_or_else(String::new, |keys| format!("spool: {{dir: {}, {keys}}}\n", dir.display()));
        Relay::start(&format!(
            "inputs: {{relay: {{listen: '{listen}', {input}}}}}\n\
             outputs: {{o: {{to: 'tcp://{}'{output}}}}}\nroutes: [{{name: all, intake_key: key-of-all, output: o}}]\n{spool}",
            self.collector.address
        ))
    }

    /// Waits for every number below `end`; how many came more than once.
    #[track_caller]
    fn arrived(&self, end: u64) -> u64 {
        eventually("everything to arrive", || match missing_and_duplicates(&self.collector.numbers(), end) {
            (missing, duplicates) if missing.is_empty() => Ok(duplicates),
            (missing, _) => Err(format!("{} are missing, from {:?} on", missing.len(), missing.first())),
        })
    }
}

fn acknowledged(relay: &Relay) -> u64 {
    relay.metric("forebay_input_acknowledged_messages_total", "input=\"relay\"")
}

fn unacknowledged(relay: &Relay) -> u64 {
    relay.metric("forebay_input_unacknowledged_messages", "input=\"relay\"")
}

#[track_caller]
fn wait_for(relay: &Relay, what: &str, holds: impl Fn(&Relay) -> bool) {
    eventually(what, || {
        if holds(relay) {
            return Ok(());
        }
        Err(format!("{} acknowledged, {} not, {:#}", acknowledged(relay), unacknowledged(relay), relay.status().0))
    });
}

/// Everything that it took is acknowledged, and every account has its sum.
#[track_caller]
fn assert_settled(relay: &Relay) {
    wait_for(relay, "all to be acknowledged", |relay| {
        let received = count(relay.status().input("relay"), "received");
        (acknowledged(relay), unacknowledged(relay)) == (received, 0)
    });
    relay.status_when("the books to balance", Status::is_balanced).assert_balanced();
}

#[test]
fn omrelp_that_is_ended_or_killed_and_started_again_loses_nothing_that_was_acknowledged() {
    let Some(executable) = omrelp() else { return };
    let site = Site::new();
    for (at, acknowledge) in ["received", "spooled", "released"].into_iter().enumerate() {
        let input = format!("acknowledge: {acknowledge}");
        let relay = site.relay("relp+tcp://127.0.0.1:0", &input, Some("sync: every_batch"), ", replay_window: 0");
        let action = action(relay.address("relay", "relp+tcp").port(), "");
        let begin = at as u64 * 6_000;
        let mut first = Rsyslogd::sending(&executable, OMRELP, &action, &texts(begin..begin + 4_000));
        wait_for(&relay, "some to be acknowledged", |relay| acknowledged(relay) >= 500);
        if acknowledge == "spooled" {
            first.signal("KILL");
        } else {
            first.terminate();
        }
        first.ended();
        // What it had not sent is gone with it: that is its own affair. What it was told of is not.
        let told = acknowledged(&relay);
        assert!(told >= 500);
        wait_for(&relay, "nothing to be owed to who has gone", |relay| unacknowledged(relay) == 0);
        let arrived = || site.collector.numbers().range(begin..).count() as u64;
        eventually("what was acknowledged to arrive", || {
            if arrived() >= told { Ok(()) } else { Err(format!("{} of {told}", arrived())) }
        });
        let _second = Rsyslogd::sending(&executable, OMRELP, &action, &texts(begin..begin + 6_000));
        let duplicates = site.arrived(begin + 6_000);
        println!("{acknowledge}: {told} acknowledged to the first, {duplicates} came twice");
        wait_for(&relay, "all of the second to be acknowledged", |relay| {
            (acknowledged(relay), unacknowledged(relay)) >= (told + 6_000, 0)
        });
        relay.status_when("the books to balance", Status::is_balanced).assert_balanced();
    }
}

#[test]
fn what_is_acknowledged_as_spooled_survives_a_kill() {
    let Some(executable) = omrelp() else { return };
    for sync in ["every_batch", "{interval: 10s}"] {
        let site = Site::new();
        // Nothing gets through: the disk alone has it.
        site.collector.behave(Manner::Stalls);
        let spool = format!("sync: {sync}");
        let mut relay = site.relay("relp+tcp://127.0.0.1:0", "acknowledge: spooled", Some(&spool), "");
        let port = relay.address("relay", "relp+tcp").port();
        let began = Instant::now();
        let rsyslogd = Rsyslogd::sending(&executable, OMRELP, &action(port, ""), &texts(0..5_000));
        wait_for(&relay, "most to be acknowledged", |relay| acknowledged(relay) >= 4_000);
        println!("sync: {sync}: 4,000 acknowledged after {:?}", began.elapsed());
        relay.signal("KILL");
        relay.wait();
        rsyslogd.send(&texts(5_000..6_000));
        site.collector.reset();
        site.collector.behave(Manner::Reads);
        let relay = site.relay(&format!("relp+tcp://127.0.0.1:{port}"), "acknowledge: spooled", Some(&spool), "");
        let duplicates = site.arrived(6_000);
        println!("sync: {sync}: {duplicates} came twice");
        assert_settled(&relay);
    }
}

#[test]
fn what_is_not_released_stays_with_the_sender() {
    let Some(executable) = omrelp() else { return };
    let site = Site::new();
    site.collector.stop();
    let mut relay = site.relay("relp+tcp://127.0.0.1:0", "acknowledge: released", None, ", replay_window: 0");
    let port = relay.address("relay", "relp+tcp").port();
    let _rsyslogd = Rsyslogd::sending(&executable, OMRELP, &action(port, ""), &texts(0..3_000));
    wait_for(&relay, "a window to be full", |relay| unacknowledged(relay) >= WINDOW);
    assert_eq!(acknowledged(&relay), 0);
    relay.signal("KILL");
    relay.wait();
    site.collector.restart();
    let listen = format!("relp+tcp://127.0.0.1:{port}");
    let relay = site.relay(&listen, "acknowledge: released", None, ", replay_window: 0");
    let duplicates = site.arrived(3_000);
    println!("{duplicates} came twice");
    assert_settled(&relay);
}

#[test]
fn omrelp_over_tls_with_certificates_on_both_sides_is_told_of_every_message() {
    let Some(executable) = omrelp() else { return };
    let (site, certificates) = (Site::new(), Certificates::new());
    let tls = format!("{}, acknowledge: released", demanding(&certificates));
    let relay = site.relay("relp+tls://127.0.0.1:0", &tls, None, ", replay_window: 0");
    let port = relay.address("relay", "relp+tls").port();
    let secured = |pair: &support::certificates::Pair| {
        format!(
            "tls=\"on\" tls.authMode=\"name\" tls.permittedPeer=[\"localhost\"] tls.caCert=\"{}\" tls.myCert=\"{}\" \
             tls.myPrivKey=\"{}\"",
            certificates.ca.display(),
            pair.cert.display(),
            pair.key.display()
        )
    };
    let _rsyslogd =
        Rsyslogd::sending(&executable, OMRELP, &action(port, &secured(&certificates.client)), &texts(0..2_000));
    assert_eq!(site.arrived(2_000), 0);
    assert_settled(&relay);
    assert_eq!(acknowledged(&relay), 2_000);
    // Without a certificate of the authority's nobody gets in.
    let stranger = connect_tls(relay.address("relay", "relp+tls"), certificates.client_config(None));
    drop(stranger.map(|mut sender| {
        drop(sender.write_all(b"1 open 0\n"));
        drop(sender.read(&mut [0; 64]));
    }));
    let refused = ("forebay_input_refused_connections_total", "input=\"relay\",reason=\"tls_handshake\"");
    wait_for(&relay, "the stranger to be refused", |relay| relay.metric(refused.0, refused.1) > 0);
}

/// An input's certificate, and an authority that clients must have theirs of.
fn demanding(certificates: &Certificates) -> String {
    let (server, ca) = (&certificates.server, certificates.ca.display());
    format!("tls: {{cert: {}, key: {}, client_ca: {ca}}}", server.cert.display(), server.key.display())
}

/// A session over plain TCP.
struct Session {
    client: Client,
    stream: TcpStream,
}

impl Session {
    fn open(to: SocketAddr) -> Self {
        let stream = connect(to);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut session = Self { client: Client::new(1_000_000), stream };
        let mut out = Vec::new();
        session.client.open(&mut out);
        session.stream.write_all(&out).unwrap();
        while session.client.room() == 0 {
            session.read().expect("an answer to open");
        }
        session
    }

    fn send(&mut self, numbers: Range<u64>) {
        let (mut encoder, mut out) = (Encoder::new(), Vec::new());
        for text in texts(numbers) {
            let mark = encoder.begin(self.client.next_txnr().unwrap(), Command::Syslog, &mut out);
            out.extend_from_slice(text.as_bytes());
            encoder.end(mark, &mut out);
        }
        self.stream.write_all(&out).unwrap();
    }

    /// Reads once; `None` at the end.
    fn read(&mut self) -> Option<Vec<Event>> {
        let mut buffer = [0; 4096];
        let len = self.stream.read(&mut buffer).unwrap();
        let mut input = &buffer[..len];
        let events = std::iter::from_fn(|| self.client.next_event(&mut input).unwrap()).collect();
        (len > 0).then_some(events)
    }

    /// What comes until the end, acknowledgements apart.
    fn rest(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.read()).flatten().collect()
    }
}

#[test]
fn a_stop_acknowledges_what_its_last_seconds_release() {
    let site = Site::new();
    // The replay window keeps everything for half a minute.
    let mut relay = site.relay("relp+tcp://127.0.0.1:0", "acknowledge: released", None, "");
    let mut session = Session::open(relay.address("relay", "relp+tcp"));
    session.send(0..1_000);
    site.arrived(1_000);
    assert_eq!((acknowledged(&relay), unacknowledged(&relay)), (0, 1_000));
    relay.stop_clean();
    assert_eq!(session.rest(), [Event::ServerClosing]);
    assert_eq!(session.client.acknowledged(), 1_000);
}

#[test]
fn a_message_of_several_routes_is_acknowledged_when_the_last_of_them_has_released_it() {
    let [fast, slow] = [Collector::start_plain(), Collector::start_plain()];
    slow.stop();
    let relay = Relay::start(&format!(
        "inputs: {{relay: {{listen: 'relp+tcp://127.0.0.1:0'}}}}\n\
         outputs:\n  fast: {{to: 'tcp://{}', replay_window: 0}}\n  slow: {{to: 'tcp://{}', replay_window: 0}}\n\
         routes:\n  - {{name: both, intake_key: key-of-all, output: fast, continue: true}}\n\
         \x20 - {{name: some, message: {{contains: 'n=7 '}}, intake_key: key-of-all, output: slow}}\n\
         \x20 - {{name: none, program: nobody, discard: true}}\n",
        fast.address, slow.address
    ));
    let mut session = Session::open(relay.address("relay", "relp+tcp"));
    session.send(0..50);
    wait_for(&relay, "all but one to be acknowledged", |relay| acknowledged(relay) == 49);
    assert_eq!(unacknowledged(&relay), 1);
    slow.restart();
    wait_for(&relay, "the last one to be acknowledged", |relay| acknowledged(relay) == 50);
    while session.client.acknowledged() < 50 {
        assert_eq!(session.read(), Some(Vec::new()));
    }
}

#[test]
fn relp_connections_have_the_limits_of_other_streams() {
    let site = Site::new();
    let refused = |relay: &Relay, reason: &str| {
        relay.metric("forebay_input_refused_connections_total", &format!("input=\"relay\",reason=\"{reason}\""))
    };
    let relay = site.relay("relp+tcp://127.0.0.1:0", "allow: 192.0.2.0/24", None, "");
    assert_closed(connect(relay.address("relay", "relp+tcp")));
    assert_eq!(refused(&relay, "peer_not_allowed"), 1);

    let relay = site.relay("relp+tcp://127.0.0.1:0", "max_connections_per_peer: 1, idle_timeout: 1s", None, "");
    let address = relay.address("relay", "relp+tcp");
    let mut session = Session::open(address);
    assert_closed(connect(address));
    assert_eq!(refused(&relay, "max_connections_per_peer"), 1);
    assert_eq!(session.rest(), [Event::ServerClosing]);
    assert_eq!(relay.metric("forebay_input_idle_closed_connections_total", "input=\"relay\""), 1);

    let mut hello = connect(address);
    hello.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]).unwrap();
    let mut answer = Vec::new();
    // Whatever is said, or a reset: it ends.
    drop(hello.read_to_end(&mut answer));
    assert_eq!(refused(&relay, "tls_on_plain_port"), 1);
}

#[test]
fn a_sender_that_reads_no_answers_is_not_read_either() {
    let site = Site::new();
    let relay = site.relay("relp+tcp://127.0.0.1:0", "acknowledge: received", None, "");
    let mut session = Session::open(relay.address("relay", "relp+tcp"));
    session.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    let mut offered = 0_u64;
    let blocked = loop {
        out.clear();
        for _ in 0..1_000 {
            let Some(txnr) = session.client.next_txnr() else { break };
            let mark = encoder.begin(txnr, Command::Syslog, &mut out);
            out.extend_from_slice(b"<13>Nov 22 10:00:00 h a: x");
            encoder.end(mark, &mut out);
            offered += 1;
        }
        if out.is_empty() || session.stream.write_all(&out).is_err() {
            break offered;
        }
    };
    assert!(blocked < 1_000_000, "it was read to the end");
    // Others are served meanwhile.
    let mut other = Session::open(relay.address("relay", "relp+tcp"));
    other.send(0..10);
    while other.client.acknowledged() < 10 {
        assert!(other.read().is_some());
    }
    assert!(relay.resident() < 100 << 20, "{}", relay.resident());
}
