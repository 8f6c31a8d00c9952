//! Sekoia's intakes.yaml as the relay runs it: the forwarder's octets, its counts, its bounds, and what becomes of bad
//! intakes. Where rsyslogd is installed it runs what the forwarder generates, and is compared with.
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

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use regex::Regex;
use serde_json::Value;

use support::certificates::Certificates;
use support::collector::{Collector, message_of};
use support::installed;
use support::relay::{Relay, count, set_for_intakes};
use support::rsyslogd::Rsyslogd;
use support::senders::*;
use support::waiting::eventually;

/// Keys as long as Sekoia's.
const KEYS: [&str; 4] = [
    "Qa1bCd2eFg3hIj4kLm5nOp6qRs7tUv81",
    "Qa1bCd2eFg3hIj4kLm5nOp6qRs7tUv82",
    "Qa1bCd2eFg3hIj4kLm5nOp6qRs7tUv83",
    "Qa1bCd2eFg3hIj4kLm5nOp6qRs7tUv84",
];

/// The README's example with a TLS intake and the forwarder's own counts, at ports that the kernel chooses.
fn intakes() -> String {
    let [one, two, three, four] = KEYS;
    format!(
        "---\nintakes:\n- name: Techno1\n  protocol: tcp\n  port: 0\n  intake_key: {one}\n\
         - name: Techno2\n  protocol: UDP\n  port: 0\n  intake_key: {two}\n\
         - name: Techno 3\n  protocol: tls\n  port: 0\n  intake_key: {three}\n  debug: True\n\
         - name: Forwarder\n  stats: true\n  intake_key: {four}\n"
    )
}

/// Two entries of the same that need no certificate and say nothing by themselves.
fn two_intakes() -> String {
    let all = intakes();
    all[..all.find("- name: Techno 3").unwrap()].to_owned()
}

/// A collector in Sekoia's place, with its certificates and those of `tls` intakes in one folder.
struct Sekoia {
    collector: Collector,
    certificates: Certificates,
    folder: tempfile::TempDir,
    endpoint: String,
}

impl Sekoia {
    fn start() -> Self {
        let certificates = Certificates::new();
        let collector = Collector::start(&certificates);
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(&certificates.server.cert, folder.path().join("server.crt")).unwrap();
        std::fs::copy(&certificates.server.key, folder.path().join("server.key")).unwrap();
        let endpoint = format!("localhost:{}", collector.address.port());
        Self { collector, certificates, folder, endpoint }
    }

    fn variables<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let own = [
            ("REGION", "OTHER"),
            ("ENDPOINT", self.endpoint.as_str()),
            ("FOREBAY_CA", self.certificates.ca.to_str().unwrap()),
            ("FOREBAY_CERTS", self.folder.path().to_str().unwrap()),
        ];
        own.into_iter().chain(more.iter().copied()).collect()
    }

    fn relay(&self, intakes: &str, more: &[(&str, &str)]) -> Relay {
        Relay::start_with_intakes(intakes, &self.variables(more), &[])
    }
}

/// Where an intake listens, as whoever is on this machine reaches it.
fn here(relay: &Relay, input: &str, scheme: &str) -> SocketAddr {
    ([127, 0, 0, 1], relay.address(input, scheme).port()).into()
}

/// Runs the program to its end on this intakes.yaml.
fn forebay(command: &str, intakes: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("intakes.yaml");
    std::fs::write(&file, intakes).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_forebay"));
    program.args([command, "--intakes"]).arg(&file).args(arguments);
    set_for_intakes(&mut program, directory.path(), variables);
    program.output().unwrap()
}

/// A frame without its time of reception.
fn timeless(frame: &str) -> String {
    let time = Regex::new(r"^(<\d+>1) \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d ").unwrap();
    assert!(time.is_match(frame), "no time of reception: {frame}");
    time.replace(frame, "$1 TIME ").into_owned()
}

/// What devices send: with blanks and without, of both formats, without PRI, with a CEF banner, with a line end inside.
const MESSAGES: [&str; 10] = [
    "<34>Oct 11 22:14:15 web-1 sshd[4221]: Accepted publickey for ada",
    "<34>Oct 11 22:14:15 web-1 sshd[4221]:Accepted without a blank",
    "<34>Oct 11 22:14:15 web-1 sshd[4221]: \t  blanks and a tab first",
    "<165>1 2003-10-11T22:14:15.003Z fw-1 evntslog 77 ID47 [a@1 b=\"c\"] an event",
    "<165>1 2003-10-11T22:14:15.003Z fw-1 evntslog - - - ",
    "<134>CEF:0|Vendor|Product|1|2|3|4|",
    "<34>date=2023-02-21 time=10:11:12 devname=\"fw\"",
    "<166>%ASA-6-302013: Built inbound connection",
    "no PRI at all, and a colon: here",
    "<13>Oct 11 22:14:15 h app: an \"intake_key\" and a ] and \u{e9}t\u{e9}",
];

#[test]
fn the_readmes_intakes_run_and_their_octets_are_rsyslogds() {
    let sekoia = Sekoia::start();
    let relay = sekoia.relay(&intakes(), &[]);
    let octets: Vec<u8> = MESSAGES.iter().flat_map(|message| counted(message)).collect();
    send_tcp(here(&relay, "techno1", "tcp"), &octets);
    let found = sekoia.collector.wait_for(MESSAGES.len());
    assert!(found.iter().all(|frame| frame.contains(KEYS[0])), "{found:#?}");
    let found: Vec<String> = found.iter().map(|frame| timeless(frame)).collect();

    let Some(executable) = installed("rsyslogd") else { return };
    let judge = Collector::start_plain();
    let rsyslogd = Rsyslogd::start(&executable, &generated(judge.address));
    send_tcp(([127, 0, 0, 1], rsyslogd.port("port")).into(), &octets);
    let expected: Vec<String> = judge.wait_for(MESSAGES.len()).iter().map(|frame| timeless(frame)).collect();
    assert_eq!(found, expected, "forebay's (left) and rsyslogd's (right)");
}

/// What the forwarder generates for these intakes, at a collector that speaks no TLS (the driver is a package of its own).
fn generated(to: SocketAddr) -> String {
    let [one, two, _, four] = KEYS;
    let template = |name: &str, key: &str, message: &str| {
        format!(
            "template(name=\"{name}\" type=\"string\" string=\"<%pri%>1 %timegenerated:::date-rfc3339% %hostname% \
             %app-name% %procid% LOG [SEKOIA@53288 intake_key=\\\"{key}\\\"] {message}\\n\")\n"
        )
    };
    let action = |name: &str, template: &str| {
        format!(
            " action(name=\"output-{name}\" type=\"omfwd\" protocol=\"tcp\" target=\"127.0.0.1\" port=\"{}\" \
             TCP_Framing=\"octet-counted\" Template=\"{template}\")\n",
            to.port()
        )
    };
    let queue = |name: &str| {
        format!(
            "queue.type=\"LinkedList\" queue.filename=\"sekoia_{name}_queue\" queue.size=\"25000\" \
             queue.saveOnShutdown=\"on\""
        )
    };
    let message = "%msg:R,ERE,1,FIELD:^[ \\t]*(.*)$--end%";
    let mut text = "global(maxMessageSize=\"250k\")\n\
        module(load=\"impstats\" interval=\"1\" ruleset=\"stats\" format=\"json\" ResetCounters=\"on\")\n\
        module(load=\"imtcp\")\nmodule(load=\"imudp\")\n"
        .to_owned();
    for (name, key, input) in [
        ("techno1", one, "type=\"imtcp\" port=\"0\" listenPortFileName=\"DIRECTORY/port\""),
        ("techno2", two, "type=\"imudp\" port=\"0\""),
    ] {
        text += &template(name, key, message);
        text += &format!("input({input} ruleset=\"ruleset-{name}\" name=\"input-{name}\")\n");
        text += &format!("ruleset(name=\"ruleset-{name}\" {}) {{\n{}}}\n", queue(name), action(name, name));
    }
    text += &template("stats", four, "%msg%");
    text += &format!("ruleset(name=\"stats\" {}) {{\n{}}}\n", queue("forwarder"), action("forwarder", "stats"));
    text
}

#[test]
fn datagrams_and_tls_reach_their_intakes_and_nothing_shows_a_key() {
    let sekoia = Sekoia::start();
    let mut relay = sekoia.relay(&intakes(), &[]);
    send_udp(here(&relay, "techno2", "udp"), &["<13>Oct 11 22:14:15 h app: by datagram"]);
    let mut sender = connect_tls(here(&relay, "techno_3", "tls"), sekoia.certificates.client_config(None))
        .expect("no certificate asked");
    sender.write_all(b"<13>Oct 11 22:14:15 h app: by TLS\n").unwrap();
    finish_tls(sender);
    let frames = sekoia.collector.wait_for(2);
    for (message, key) in [("by datagram", KEYS[1]), ("by TLS", KEYS[2])] {
        assert!(frames.iter().any(|frame| message_of(frame) == message && frame.contains(key)), "{frames:#?}");
    }
    let note = relay.wait_for_log("forebay tap techno_3");
    assert_eq!(note["level"], "WARN");
    assert_eq!(relay.metric_alone("forebay_configuration_left_out"), 0);
    let shown = format!("{}{}", relay.status().0, relay.metrics());
    relay.stop_clean();
    let shown = shown + &relay.log_text();
    assert!(KEYS.iter().all(|key| !shown.contains(key)), "{shown}");
}

#[test]
fn with_relp_output_each_message_is_answered_for() {
    let sekoia = Sekoia::start();
    // Another relay is the server: it passes on what it got, as it got it.
    let server = Relay::start(&format!(
        "inputs: {{relp: {{listen: 'relp+tls://127.0.0.1:0', tls: {{{}}}}}}}\noutputs: {{sekoia: {{{}}}}}\n\
         routes: [{{name: all, template: '%rawmsg%\\n'}}]\n",
        sekoia.certificates.input_tls(),
        sekoia.collector.output(&sekoia.certificates, "replay_window: 0")
    ));
    let endpoint = format!("localhost:{}", server.address("relp", "relp+tls").port());
    let mut relay = sekoia.relay(&two_intakes(), &[("RELP_OUTPUT", "True"), ("ENDPOINT", &endpoint)]);
    send_tcp(here(&relay, "techno1", "tcp"), b"<13>Oct 11 22:14:15 h app: by RELP\n");
    let frames = sekoia.collector.wait_for(1);
    assert_eq!(message_of(&frames[0]), "by RELP");
    assert!(frames[0].contains(KEYS[0]), "{frames:?}");
    relay.status_when("the message to be released", |status| count(status.route("techno1"), "released") == 1);
    relay.stop_clean();
}

#[test]
fn a_bad_intake_is_told_of_by_name_and_the_others_run() {
    let sekoia = Sekoia::start();
    let broken = sekoia.folder.path().join("broken.crt");
    std::fs::write(&broken, "no certificate").unwrap();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let bad = format!(
        "{}- name: Typo\n  protocol: tdp\n  port: 0\n  intake_key: {}\n\
         - name: Short Key\n  protocol: tcp\n  port: 0\n  intake_key: abc\n\
         - name: Broken\n  protocol: tls\n  port: 0\n  tls_cert_name: broken\n  intake_key: {}\n\
         - name: Taken\n  protocol: tcp\n  port: {taken_port}\n  intake_key: {}\n",
        intakes(),
        KEYS[0],
        KEYS[1],
        KEYS[2]
    );
    let relay = sekoia.relay(&bad, &[]);
    send_tcp(here(&relay, "techno1", "tcp"), b"<13>Oct 11 22:14:15 h app: still here\n");
    assert_eq!(message_of(&sekoia.collector.wait_for(1)[0]), "still here");
    let status = relay.status();
    let left_out: Vec<&str> =
        status.0["left_out"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    for part in [
        "intakes.yaml:20:13: intakes[4].protocol: \"Typo\" is left out",
        "intakes.yaml:26:15: intakes[5].intake_key: \"Short Key\" is left out",
        "inputs.broken.tls",
        "inputs.taken: cannot listen on tcp://0.0.0.0",
    ] {
        assert!(left_out.iter().any(|one| one.contains(part)), "{part} in {left_out:#?}");
        let line = relay.wait_for_log(part);
        assert_eq!(line["level"], "ERROR", "{line}");
    }
    assert_eq!(relay.metric_alone("forebay_configuration_left_out"), left_out.len() as u64);
    assert!(relay.logged("ready").is_some());

    let strict = forebay("run", &bad, &["--strict"], &sekoia.variables(&[]));
    assert_eq!(strict.status.code(), Some(78), "{strict:?}");
    let report = String::from_utf8(strict.stderr).unwrap();
    assert!(report.contains("\"Typo\" is left out") && report.contains("\"Short Key\""), "{report}");
    assert!(KEYS.iter().all(|key| !report.contains(key)), "{report}");
}

#[test]
fn what_no_intake_can_be_used_of_ends_with_78() {
    let sekoia = Sekoia::start();
    let all_bad = intakes().replace("Qa1b", "Q_1b");
    for command in ["run", "check"] {
        let output = forebay(command, &all_bad, &[], &sekoia.variables(&[]));
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        let report = String::from_utf8(output.stderr).unwrap();
        assert!(report.contains("none of them can be used") && report.contains("\"Techno 3\""), "{report}");
    }
    let good = forebay("check", &intakes(), &["--strict"], &sekoia.variables(&[]));
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    let both = forebay("check", &intakes(), &["-c", "/etc/forebay.yaml"], &[]);
    assert_eq!(both.status.code(), Some(64), "two configurations: {both:?}");
}

/// The objects in stats messages: each as text without its numbers, and parsed.
fn stats(frames: &[String]) -> Vec<(String, Value)> {
    let number = Regex::new(r": \d+").unwrap();
    let ours = Regex::new(r#"TCP-[^"]*"|\(\d+\)|\\/\d+\\/"#).unwrap();
    let is_stats = |frame: &&String| frame.contains(KEYS[3]);
    let shapes = frames.iter().filter(is_stats).map(|frame| {
        assert!(frame.starts_with("<46>1 ") && frame.contains(" rsyslogd-pstats - LOG ["), "{frame}");
        let text = message_of(frame);
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        // Ports, and the collector's name.
        (ours.replace_all(&number.replace_all(text, ": N"), "_").into_owned(), value)
    });
    shapes.collect()
}

/// Waits for a report whose line of this name has something to count, and a whole report behind it.
fn wait_for_report(collector: &Collector, counted: &str) -> Vec<String> {
    eventually("stats", || {
        let frames = collector.texts();
        let all = stats(&frames);
        let named = |name: &str| {
            all.iter().filter(|(_, value)| value["name"].as_str().is_some_and(|found| found.starts_with(name))).count()
        };
        let is_counted = all.iter().any(|(_, value)| {
            value["name"].as_str().is_some_and(|name| name.starts_with(counted)) && value["submitted"] != 0
        });
        if is_counted && named("resource-usage") >= 3 { Ok(frames) } else { Err(format!("{frames:#?}")) }
    })
}

#[test]
fn stats_lines_have_the_names_and_keys_of_rsyslogds() {
    let sekoia = Sekoia::start();
    let text = intakes();
    let start = text.find("- name: Techno 3").unwrap();
    let end = text.find("- name: Forwarder").unwrap();
    let without_tls = format!("{}{}", &text[..start], &text[end..]);
    let relay = sekoia.relay(&without_tls, &[("FOREBAY_STATS_INTERVAL", "1s")]);
    let octets: Vec<u8> = MESSAGES.iter().flat_map(|message| counted(message)).collect();
    send_tcp(here(&relay, "techno1", "tcp"), &octets);
    let found = stats(&wait_for_report(&sekoia.collector, "input-techno1("));

    // The counts are true: all of them together are what was sent.
    let sum = |name: &str, key: &str| -> u64 {
        let named =
            found.iter().filter(|(_, value)| value["name"].as_str().is_some_and(|found| found.starts_with(name)));
        named.map(|(_, value)| value[key].as_u64().unwrap()).sum()
    };
    let sent = MESSAGES.len() as u64;
    assert_eq!(sum("input-techno1(", "submitted"), sent);
    assert_eq!(sum("ruleset-techno1", "enqueued"), sent);
    assert_eq!(sum("ruleset-techno1", "discarded.full"), 0);
    assert_eq!(sum("input-techno2(", "submitted"), 0);
    assert!(sum("TCP-localhost-", "bytes.sent") > 0);

    // They are messages like others: taken in, routed, and in the ledger.
    let status = relay.status_when("an account that is balanced", |status| {
        let input = status.input("forwarder");
        count(input, "received") > 0 && count(input, "received") == count(input, "routed") && status.is_balanced()
    });
    assert!(count(status.route("forwarder"), "routed") >= found.len() as u64);

    let Some(executable) = installed("rsyslogd") else { return };
    let judge = Collector::start_plain();
    let rsyslogd = Rsyslogd::start(&executable, &generated(judge.address));
    send_tcp(([127, 0, 0, 1], rsyslogd.port("port")).into(), &octets);
    let expected = stats(&wait_for_report(&judge, "input-techno1("));
    let shapes = |all: &[(String, Value)]| all.iter().map(|(shape, _)| shape.clone()).collect::<BTreeSet<String>>();
    let (found, expected) = (shapes(&found), shapes(&expected));
    let ours_alone: Vec<_> = found.difference(&expected).collect();
    assert!(ours_alone.is_empty(), "not rsyslogd's: {ours_alone:#?}, which are {expected:#?}");
    // What is not said here, because there is no such thing: a main queue, receiving threads, a second socket for IPv6,
    // tables that nobody has configured.
    let not_ours = ["\"main Q", "\"imudp(w", "IPv6)", "\"dynstats\"", "\"percentile\""];
    let missing: Vec<_> =
        expected.difference(&found).filter(|shape| !not_ours.iter().any(|part| shape.contains(part))).collect();
    assert!(missing.is_empty(), "rsyslogd's alone: {missing:#?}");
    assert!(found.len() >= 11, "{found:#?}");
}

#[test]
fn an_outage_shows_in_the_stats_once_it_is_over() {
    let sekoia = Sekoia::start();
    let text = intakes().replace("protocol: tls", "protocol: tcp");
    sekoia.collector.stop();
    let relay = sekoia.relay(&text, &[("FOREBAY_STATS_INTERVAL", "1s")]);
    send_tcp(here(&relay, "techno1", "tcp"), b"<13>Oct 11 22:14:15 h app: waits\n");
    // Reports that are made during the outage: the meters were looked at then.
    let mut reports = BTreeSet::new();
    eventually("reports during the outage", || {
        let status = relay.status();
        if count(status.output("sekoia"), "failed_connects") > 0 {
            reports.insert(count(status.input("forwarder"), "received"));
        }
        if reports.len() > 2 { Ok(()) } else { Err(format!("{reports:?}")) }
    });
    sekoia.collector.restart();
    eventually("the outage in the stats", || {
        let frames = sekoia.collector.texts();
        let all = stats(&frames);
        let sum = |key: &str| -> u64 {
            let actions = all.iter().filter(|(_, value)| value["name"] == "output-techno1");
            actions.map(|(_, value)| value[key].as_u64().unwrap()).sum()
        };
        let seen = (sum("suspended"), sum("suspended.duration"), sum("resumed"), sum("processed"));
        if seen.0 >= 1 && seen.1 >= 1 && seen.2 >= 1 && seen.3 == 1 { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}

/// What everything in a folder takes on the disk.
fn disk_usage(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() { disk_usage(&path) } else { std::fs::metadata(&path).map_or(0, |file| file.blocks() * 512) }
    });
    sizes.sum()
}

#[test]
fn disk_space_bounds_all_intakes_together() {
    const DISK_SPACE: u64 = 24 << 20;
    let sekoia = Sekoia::start();
    sekoia.collector.stop();
    let text = two_intakes().replace("UDP", "tcp");
    let relay = sekoia.relay(&text, &[("DISK_SPACE", "24m"), ("MEMORY_MESSAGES", "0")]);
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        for (seed, input) in ["techno1", "techno2"].into_iter().enumerate() {
            let (to, enough) = (here(&relay, input, "tcp"), &enough);
            scope.spawn(move || fill(to, seed as u64, enough));
        }
        let full = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            relay.status_when("the disk queue to be full", |status| status.0["spool"]["state"] == "full")
        }));
        enough.store(true, Relaxed);
        let status = full.unwrap();
        assert_eq!(status.0["spool"]["max_bytes"], DISK_SPACE);
        let spooled = ["techno1", "techno2"].map(|route| count(status.route(route), "spooled"));
        assert!(spooled.iter().all(|messages| *messages > 0), "{spooled:?}");
    });
    let used = disk_usage(&relay.directory().join("spool"));
    assert!(used <= DISK_SPACE && used > DISK_SPACE / 2, "{used} octets on the disk of {DISK_SPACE}");
}

/// Sends what cannot be compressed, until it is enough.
fn fill(to: SocketAddr, seed: u64, enough: &AtomicBool) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed + 1);
    while !enough.load(Relaxed) {
        let mut message = "<13>Oct 11 22:14:15 h app: ".to_owned();
        for _ in 0..2_000 {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            message.push(char::from(b'!' + (state % 90) as u8));
        }
        message.push('\n');
        let mut rest = message.as_bytes();
        while !rest.is_empty() && !enough.load(Relaxed) {
            // A relay that is full does not read: that is looked for elsewhere.
            #[expect(clippy::disallowed_methods, reason = "the rest is written in the next round")]
            let written = stream.write(rest).unwrap_or(0);
            rest = &rest[written..];
        }
    }
}

#[test]
fn an_intakes_yaml_at_the_root_is_taken_without_being_asked_for() {
    let sekoia = Sekoia::start();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for name in ["upper", "work", "root"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    std::fs::write(folder.path().join("upper/intakes.yaml"), two_intakes()).unwrap();
    // A root of its own, as a container has: the machine's with one file more.
    let script = format!(
        "mount -t tmpfs none {0} && mkdir {0}/upper {0}/work {0}/root && mount -t overlay overlay -o \
         lowerdir=/,upperdir={0}/upper,workdir={0}/work {0}/root && cp {1} {0}/root/intakes.yaml && exec chroot {0}/root {2} check",
        path("root"),
        path("upper/intakes.yaml"),
        env!("CARGO_BIN_EXE_forebay")
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    set_for_intakes(&mut command, folder.path(), &sekoia.variables(&[]));
    command.env_remove("FOREBAY_CA");
    let output = match command.output() {
        Ok(output) if !String::from_utf8_lossy(&output.stderr).contains("unshare:") => output,
        other => return println!("skipped: no mount namespace here: {other:?}"),
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("mount:") || errors.contains("error while loading") || errors.contains("No such file") {
        return println!("skipped: no overlay here: {errors}");
    }
    let summary = String::from_utf8(output.stdout).unwrap();
    assert!(summary.contains("techno1: tcp://0.0.0.0:0") && output.status.success(), "{summary}{errors}");
}
