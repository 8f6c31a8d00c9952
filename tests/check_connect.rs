//! `forebay check --connect` and `--send-test`, as processes, against real peers.
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

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use support::certificates::Certificates;
use support::collector::{Collector, Manner, message_of};
use support::installed;
use support::intake::{Answer, Intake, Proxy};
use support::relay::remove_own_variables;
use support::rsyslogd::{Rsyslogd, has_module};
use support::waiting::eventually;

/// The key of all routes: never to be seen.
const KEY: &str = "aSecretKey0123456789";

/// What a process left.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    /// The JSON that it printed.
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }

    #[track_caller]
    fn assert_says(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.out.contains(part) || self.err.contains(part), "no {part:?} in\n{}\n{}", self.out, self.err);
        }
    }
}

/// Runs `forebay check` with these outputs, a route to each by its name, and these arguments.
fn check(outputs: &[(&str, String)], arguments: &[&str]) -> Ended {
    check_with("", outputs, arguments)
}

/// The same with more of a configuration.
fn check_with(more: &str, outputs: &[(&str, String)], arguments: &[&str]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("forebay.yaml");
    let mut text = format!("inputs: {{lan: {{listen: 'udp://127.0.0.1:0'}}}}\n{more}outputs:\n");
    for (name, keys) in outputs {
        text.push_str(&format!("  {name}: {{{keys}}}\n"));
    }
    text.push_str("routes:\n");
    for (name, _) in outputs {
        text.push_str(&format!("  - {{name: {name}, program: 'wheel-{name}*', intake_key: {KEY}, output: {name}}}\n"));
    }
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    remove_own_variables(&mut command);
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    let output = command.arg("check").arg("-c").arg(&file).args(arguments).output().unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    let ended = Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    assert!(!ended.out.contains(KEY) && !ended.err.contains(KEY), "{}{}", ended.out, ended.err);
    ended
}

/// The finding of an output.
#[track_caller]
fn of<'a>(found: &'a Value, output: &str) -> &'a Value {
    let outputs = found["outputs"].as_array().unwrap();
    outputs.iter().find(|each| each["output"] == output).unwrap_or_else(|| panic!("no {output} in {found:#}"))
}

/// The first address of an output's first target.
fn first<'a>(found: &'a Value, output: &str) -> &'a Value {
    &of(found, output)["targets"][0]["addresses"][0]
}

fn tls_to(collector: &Collector, certificates: &Certificates) -> String {
    format!("to: 'tls://{}', tls: {{ca: {}}}", collector.address, certificates.ca.display())
}

#[test]
fn each_step_to_an_output_that_works_is_told_and_no_message_is_sent() {
    let certificates = Certificates::new();
    let collector = Collector::start(&certificates);
    let outputs = [("sekoia", tls_to(&collector, &certificates))];
    let ended = check(&outputs, &["--connect", "--json"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    let found = ended.json();
    assert_eq!((&found["deliverable"], &of(&found, "sekoia")["protocol"]), (&true.into(), &"syslog".into()));
    let address = first(&found, "sekoia");
    assert_eq!(address["address"], collector.address.to_string());
    assert!(address["tcp_ms"].as_f64().unwrap() >= 0.0 && address["tls_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(address["tls_version"], "TLS 1.3");
    assert!(address["tls_cipher"].as_str().unwrap().starts_with("TLS13_"), "{address}");
    let leaf = &address["chain"][0];
    assert_eq!((&leaf["names"], &leaf["issuer"]), (&"localhost, 127.0.0.1, ::1".into(), &"an authority".into()));
    assert!(leaf["days_left"].as_i64().unwrap() > 300, "{leaf}");
    let verified = address["verified"].as_str().unwrap();
    assert!(verified.starts_with("verified for 127.0.0.1 by an authority of tls.ca"), "{verified}");
    assert!(address["clock"].as_str().unwrap().contains("is within the certificate's time"), "{address}");
    let ended = check(&outputs, &["--connect"]);
    assert_eq!(ended.code, Some(0));
    ended.assert_says(&[
        "sekoia (syslog): ok\n",
        "ok: TCP ",
        ", TLS ",
        "TLS 1.3, TLS13_",
        "certificate for localhost, 127.0.0.1, ::1, issued by an authority, ",
        " days left",
    ]);
    eventually("both connections to end", || {
        collector.look(|seen| if seen.closed_in_order == 2 { Ok(()) } else { Err(format!("{seen:?}")) })
    });
    collector.look(|seen| assert_eq!((seen.frames.len(), seen.faults.len()), (0, 0), "{seen:?}"));
}

/// A listener whose backlog is full: the kernel lets further SYNs go unanswered.
fn black_hole() -> (TcpListener, Vec<TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let listener: TcpListener = socket.into();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        held.push(stream);
        assert!(held.len() < 100, "the backlog has no end");
    }
    (listener, held)
}

/// An output that does not work: its name and keys, and the step, words and advice that are told of it.
type Wrong = (&'static str, String, &'static str, &'static str, &'static str);

/// Collectors that present what they should not.
fn with_wrong_certificates(certificates: &Certificates) -> (Vec<Wrong>, Vec<Collector>) {
    let present = |name: &str, names: &[&str], years: (i32, i32)| {
        let pair = certificates.issue(name, names, |params| {
            params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
            params.not_after = rcgen::date_time_ymd(years.1, 2, 3);
        });
        let collector = Collector::start(certificates);
        collector.present(certificates.server_config(&pair));
        collector
    };
    let expired = present("expired", &["localhost", "127.0.0.1"], (2020, 2021));
    let early = present("early", &["localhost", "127.0.0.1"], (2999, 3000));
    let other_name = present("other", &["collector.example"], (2020, 3000));
    let stranger = Collector::start(certificates);
    stranger.behave(Manner::PresentsAStrangersCertificate);
    let tls = |collector: &Collector| tls_to(collector, certificates);
    let rows = vec![
        ("expired", tls(&expired), "tls", "expired on 2021-02-03", "compare `date -u`"),
        ("early", tls(&early), "tls", "is valid from 2999-01-01", "compare `date -u`"),
        ("other_name", tls(&other_name), "tls", "expected one for 127.0.0.1", "tls.server_name (now 127.0.0.1)"),
        ("stranger", tls(&stranger), "tls", "not trusted (issuer: another authority)", "give its file as tls.ca"),
    ];
    (rows, vec![expired, early, other_name, stranger])
}

/// Far ends that do not say what they should.
fn with_wrong_answers(certificates: &Certificates, hole: SocketAddr) -> (Vec<Wrong>, Vec<Collector>) {
    let [mute, greeter] = [Manner::NeverShakesHands, Manner::Greets].map(|manner| {
        let collector = Collector::start(certificates);
        collector.behave(manner);
        collector
    });
    let tls = |collector: &Collector| format!("{}, handshake_timeout: 5s", tls_to(collector, certificates));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let relp = format!("to: 'relp+tcp://{}', handshake_timeout: 5s", mute.address);
    let rows = vec![
        ("mute", tls(&mute), "tls", "did not finish it in time", "TCP is answered and TLS is not"),
        ("greeter", tls(&greeter), "tls", "is not TLS", "openssl s_client -connect 127.0.0.1:"),
        ("nobody", format!("to: 'tcp://{nobody}'"), "connect", "Connection refused", "nobody listens there"),
        (
            "hole",
            format!("to: 'tcp://{hole}', connect_timeout: 5s"),
            "connect",
            "no answer to the connect",
            "open the firewall for TCP from this machine to 127.0.0.1 port",
        ),
        ("no_relp", relp, "relp", "does not answer our offers", "whether RELP is spoken at"),
    ];
    (rows, vec![mute, greeter])
}

#[test]
fn whatever_is_wrong_is_told_with_its_step_and_what_to_do_and_all_at_the_same_time() {
    let certificates = Certificates::new();
    let (hole, held) = black_hole();
    let (mut rows, _collectors) = with_wrong_certificates(&certificates);
    let (more, _others) = with_wrong_answers(&certificates, hole.local_addr().unwrap());
    rows.extend(more);
    let mut outputs: Vec<_> = rows.iter().map(|(name, keys, ..)| (*name, keys.clone())).collect();
    outputs.push(("name", "to: 'tls://nowhere.invalid:10514', connect_timeout: 2s".to_owned()));
    let good = Collector::start(&certificates);
    outputs.push(("good", tls_to(&good, &certificates)));
    let begun = Instant::now();
    let ended = check(&outputs, &["--connect", "--json"]);
    let took = begun.elapsed();
    assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
    let found = ended.json();
    assert_eq!((&found["deliverable"], &of(&found, "good")["deliverable"]), (&false.into(), &true.into()));
    for (name, _, step, what, next) in &rows {
        assert_eq!(of(&found, name)["deliverable"], false);
        let failure = &first(&found, name)["failure"];
        assert_eq!(failure["step"], *step, "{name}: {failure}");
        assert!(failure["what"].as_str().unwrap().contains(what), "{name}: {failure}");
        assert!(failure["next"].as_str().unwrap().contains(next), "{name}: {failure}");
    }
    // A chain that was refused is shown all the same.
    let leaf = &first(&found, "expired")["chain"][0];
    assert_eq!((&leaf["issuer"], &leaf["not_after"]), (&"an authority".into(), &"2021-02-03T00:00:00Z".into()));
    assert!(leaf["days_left"].as_i64().unwrap() < -1_000);
    let clock = first(&found, "expired")["clock"].as_str().unwrap();
    assert!(clock.contains("outside of the certificate's time"), "{clock}");
    assert_eq!(first(&found, "stranger")["chain"][0]["issuer"], "another authority");
    let unresolved = &of(&found, "name")["targets"][0]["failure"];
    assert_eq!(unresolved["step"], "resolve");
    assert!(unresolved["next"].as_str().unwrap().contains("getent ahosts nowhere.invalid"));
    // One after another, the three that say nothing would take 5 s each.
    assert!(took < Duration::from_secs(14), "all of them took {took:?}");
    outputs.retain(|(name, _)| ["hole", "good"].contains(name));
    let ended = check(&outputs, &["--connect"]);
    assert_eq!(ended.code, Some(1));
    let next = "      next: nothing came back: open the firewall for TCP";
    ended.assert_says(&["hole (syslog): FAILED\n", "good (syslog): ok\n", next]);
    drop((held, hole));
}

#[test]
fn fallback_addresses_files_and_datagrams_are_looked_at_too() {
    let certificates = Certificates::new();
    let collector = Collector::start(&certificates);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy.log");
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let outputs = [
        (
            "fallback",
            format!(
                "to: 'tls://nowhere.invalid:{}', connect_timeout: 2s, fallback_addresses: [127.0.0.1], \
                 tls: {{ca: {}, server_name: localhost}}",
                collector.address.port(),
                certificates.ca.display()
            ),
        ),
        ("copy", format!("to: 'file://{}'", file.display())),
        ("gone", format!("to: 'file://{}/nowhere/copy.log'", folder.path().display())),
        ("datagrams", format!("to: 'udp://{}'", receiver.local_addr().unwrap())),
    ];
    let found = check(&outputs, &["--connect", "--json"]).json();
    let fallback = &of(&found, "fallback")["targets"][0];
    assert_eq!((&fallback["resolved_by"], &of(&found, "fallback")["deliverable"]), (&"fallback".into(), &true.into()));
    assert!(fallback["resolved_ms"].as_f64().unwrap() > 0.0);
    assert_eq!((&of(&found, "copy")["deliverable"], &of(&found, "gone")["deliverable"]), (&true.into(), &false.into()));
    let failure = &of(&found, "gone")["targets"][0]["failure"];
    assert!(failure["next"].as_str().unwrap().contains("make its folder"), "{failure}");
    assert!(first(&found, "datagrams")["clock"].as_str().unwrap().contains("UDP has no answers"));
    // Neither the file was made, nor anything beside it, nor a datagram sent.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    receiver.set_nonblocking(true).unwrap();
    assert!(receiver.recv(&mut [0; 10]).is_err());
}

#[test]
fn addresses_that_a_relay_has_kept_are_tried_when_the_name_has_none_and_nothing_is_written_there() {
    let collector = Collector::start_plain();
    let folder = tempfile::tempdir().unwrap();
    let (names, kept) = (folder.path().join("names"), "forebay names 1\nnowhere.invalid 127.0.0.1\n");
    std::fs::write(&names, kept).unwrap();
    let more = format!("spool: {{dir: {}}}\n", folder.path().display());
    let to = format!("to: 'tcp://nowhere.invalid:{}', connect_timeout: 2s", collector.address.port());
    let outputs = [("old", to)];
    let ended = check_with(&more, &outputs, &["--connect", "--json"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    let found = ended.json();
    assert_eq!(of(&found, "old")["targets"][0]["resolved_by"], "last_good");
    let ended = check_with(&more, &outputs, &["--send-test", "old"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    assert!(collector.wait_for(1)[0].contains(&mark(&ended)));
    assert_eq!(std::fs::read_to_string(&names).unwrap(), kept);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_collector_that_demands_a_certificate_of_ours_is_found_out_with_both_versions_of_tls() {
    let certificates = Certificates::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let collector = Collector::start(&certificates);
        collector.present(certificates.demanding(&[version]));
        let (client, ca) = (&certificates.client, certificates.ca.display());
        let with = format!(
            "to: 'tls://{}', tls: {{ca: {ca}, client_cert: {}, client_key: {}}}",
            collector.address,
            client.cert.display(),
            client.key.display()
        );
        let outputs = [("without", tls_to(&collector, &certificates)), ("with", with)];
        let found = check(&outputs, &["--connect", "--json"]).json();
        let failure = &first(&found, "without")["failure"];
        assert_eq!(failure["step"], "tls", "{version:?}: {found:#}");
        assert!(failure["what"].as_str().unwrap().contains("demands a client certificate"), "{failure}");
        assert_eq!(of(&found, "with")["deliverable"], true, "{version:?}: {found:#}");
    }
}

#[test]
fn an_intake_is_asked_for_nothing_and_says_what_time_it_is() {
    let certificates = Certificates::new();
    let intake = Intake::start(&certificates, |_| Answer::status(404));
    let proxy = Proxy::start();
    let outputs = [
        ("web", intake.output(&certificates, "")),
        ("proxied", intake.output(&certificates, &format!("proxy: 'http://{}'", proxy.address))),
        ("no_proxy", intake.output(&certificates, "proxy: 'http://127.0.0.1:9'")),
    ];
    let ended = check(&outputs, &["--connect", "--json"]);
    assert_eq!(ended.code, Some(1));
    let found = ended.json();
    for name in ["web", "proxied"] {
        let address = first(&found, name);
        assert_eq!(
            (&of(&found, name)["deliverable"], &address["http_status"]),
            (&true.into(), &404.into()),
            "{address}"
        );
        assert!(address["clock_ahead_s"].as_i64().unwrap().abs() <= 30, "{address}");
    }
    assert!(first(&found, "proxied")["proxy_ms"].as_f64().unwrap() >= 0.0);
    assert_eq!(of(&found, "proxied")["targets"][0]["proxy"], proxy.address.to_string());
    assert_eq!(proxy.heads().len(), 1);
    assert_eq!(first(&found, "no_proxy")["failure"]["step"], "connect");
    let asked = intake.wait_for_requests(2);
    assert!(asked.iter().all(|asked| asked.method == "HEAD" && asked.key.is_empty() && asked.octets == 0), "{asked:?}");
}

/// imrelp over TLS that writes what it takes.
fn imrelp(certificates: &Certificates) -> Option<Rsyslogd> {
    let executable = installed("rsyslogd").filter(|_| has_module("imrelp"))?;
    let (ca, own) = (certificates.ca.display(), &certificates.server);
    Some(Rsyslogd::start(
        &executable,
        &format!(
            "main_queue(queue.type=\"Direct\")\nmodule(load=\"imrelp\" tls.tlslib=\"openssl\")\n\
             template(name=\"t\" type=\"string\" string=\"%rawmsg%\\n\")\n\
             input(type=\"imrelp\" port=\"0\" address=\"127.0.0.1\" tls=\"on\" tls.caCert=\"{ca}\" tls.myCert=\"{}\" \
             tls.myPrivKey=\"{}\")\naction(type=\"omfile\" file=\"DIRECTORY/out\" template=\"t\")\n",
            own.cert.display(),
            own.key.display()
        ),
    ))
}

#[test]
fn a_real_imrelp_is_opened_and_closed_and_takes_a_test_message() {
    let certificates = Certificates::new();
    let Some(rsyslogd) = imrelp(&certificates) else { return };
    let to =
        format!("to: 'relp+tls://127.0.0.1:{}', tls: {{ca: {}}}", rsyslogd.listening_port(), certificates.ca.display());
    let outputs = [("relp", to)];
    let found = check(&outputs, &["--connect", "--json"]).json();
    let address = first(&found, "relp");
    assert!(address["software"].as_str().unwrap().contains("librelp"), "{address}");
    assert!(address["answer_ms"].as_f64().unwrap() >= 0.0);
    assert!(rsyslogd.lines("out").is_empty());
    let ended = check(&outputs, &["--send-test", "relp", "--message", "hello from the test"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    ended.assert_says(&["delivered: the server has acknowledged the message (RELP, 200)"]);
    let lines = rsyslogd.lines("out");
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains(KEY) && lines[0].contains(" hello from the test forebay-test-"), "{lines:?}");
}

/// The mark that a check told of.
#[track_caller]
fn mark(ended: &Ended) -> String {
    let at = ended.out.find("forebay-test-").unwrap_or_else(|| panic!("{}{}", ended.out, ended.err));
    ended.out[at..].chars().take("forebay-test-".len() + 16).collect()
}

#[test]
fn a_test_message_goes_the_relays_own_way_to_a_collector_and_is_told_with_its_key_masked() {
    let certificates = Certificates::new();
    let collector = Collector::start(&certificates);
    let ended = check(&[("sekoia", tls_to(&collector, &certificates))], &["--send-test", "sekoia"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    let mark = mark(&ended);
    ended.assert_says(&[
        "sekoia (syslog): ok\n",
        "LOG [SEKOIA@53288 intake_key=\"****\"] forebay-test-",
        "delivered: the collector's kernel has acknowledged it (TCP)",
        &format!("sekoiaio.intake.key:\"YOUR_KEY\" and the text {mark}\n"),
    ]);
    let frames = collector.wait_for(1);
    assert_eq!(frames.len(), 1);
    // The route takes wheel-sekoia*.
    assert!(frames[0].contains(" wheel-sekoia ") && frames[0].contains(&format!("intake_key=\"{KEY}\"")));
    assert!(message_of(&frames[0]).starts_with(&mark), "{frames:?}");
    collector.look(|seen| assert_eq!((seen.closed_in_order, seen.faults.len()), (2, 0)));
}

#[test]
fn an_intakes_answer_to_a_test_message_is_told_be_it_an_id_or_a_refusal() {
    let certificates = Certificates::new();
    let intake = Intake::start(&certificates, |asked| match asked.method.as_str() {
        "HEAD" => Answer::status(404),
        _ => Answer::Take,
    });
    let ended = check(&[("web", intake.output(&certificates, ""))], &["--send-test", "web"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    // The first request was the HEAD.
    ended.assert_says(&["delivered: the intake has taken the event, and its key", "event.id:\"id-1-0\""]);
    let taken = intake.wait_for(KEY, 1);
    assert!(taken[0].contains(&mark(&ended)), "{taken:?}");

    let refusing = Intake::start(&certificates, |asked| match asked.method.as_str() {
        "HEAD" => Answer::status(404),
        _ => Answer::Say(422, None, "{\"error\":\"no such intake\"}".to_owned()),
    });
    let ended = check(&[("web", refusing.output(&certificates, ""))], &["--send-test", "web"]);
    assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
    ended.assert_says(&[
        "NOT delivered: the intake does not take the key (422",
        "no such intake",
        "compare it with the intake's page",
    ]);
}

#[test]
fn a_test_message_that_cannot_be_delivered_is_not_sent_and_what_does_not_exist_is_a_usage_error() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outputs = [("dead", format!("to: 'tcp://{nobody}'"))];
    let ended = check(&outputs, &["--send-test", "dead"]);
    assert_eq!(ended.code, Some(1));
    ended.assert_says(&["dead (syslog): FAILED", "nobody listens there", "nothing was sent"]);
    let ended = check(&outputs, &["--send-test", "daed"]);
    assert_eq!(ended.code, Some(64));
    ended.assert_says(&["no route named \"daed\"; there are dead"]);
    for arguments in [&["--json"][..], &["--message", "a"], &["--connect", "--json", "--send-test", "dead"]] {
        assert_eq!(check(&outputs, arguments).code, Some(64), "{arguments:?}");
    }
    // A datagram that nobody takes: the kernel tells.
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = check(&[("udp", format!("to: 'udp://{nobody}'"))], &["--send-test", "udp"]);
    assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
    ended.assert_says(&["NOT delivered: the receiver's machine answers that nobody listens there"]);
}

#[test]
fn a_test_message_for_a_file_is_found_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy.log");
    let ended = check(&[("copy", format!("to: 'file://{}'", file.display()))], &["--send-test", "copy"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    let mark = mark(&ended);
    ended.assert_says(&["delivered: the line is in the file", &format!("grep {mark} {}", file.display())]);
    assert!(std::fs::read_to_string(&file).unwrap().contains(&mark));
}
