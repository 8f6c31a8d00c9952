//! Certificates that are wrong: what the log says of them, that nothing is lost and nothing given up, and that putting
//! them right, on the disk too, is enough.
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

use std::io::Write;
use std::path::{Path, PathBuf};

use rustls::version::{TLS12, TLS13};

use support::certificates::{Certificates, Pair, chain};
use support::collector::{Collector, Manner};
use support::load::numbered;
use support::relay::Relay;
use support::senders::{connect, connect_tls, counted, finish_tls, send_tcp};
use support::waiting::eventually;
use support::{Bench, ROUTE_ALL};

const INPUT: &str = "inputs: {lan: {listen: 'tcp://127.0.0.1:0'}}\n";

const EXPIRY: &str = "forebay_tls_certificate_expiry_timestamp_seconds";

/// What a client's certificate and a collector's own are made for.
const HERE: &[&str] = &["localhost", "127.0.0.1"];

/// Puts a file in another's place at once, as a tool does that writes beside it and renames.
fn replace(path: &Path, with: &Path) {
    let beside = path.with_extension("new");
    std::fs::copy(with, &beside).unwrap();
    std::fs::rename(beside, path).unwrap();
}

/// A copy of a file, in the relay's stead the one that is replaced.
fn copied(certificates: &Certificates, file: &Path, name: &str) -> PathBuf {
    let copy = certificates.ca.with_file_name(name);
    std::fs::copy(file, &copy).unwrap();
    copy
}

fn text_of(line: &serde_json::Value) -> String {
    line["message"].as_str().unwrap().to_owned()
}

/// Holds a line of the log to all of these.
#[track_caller]
fn assert_says(line: &serde_json::Value, parts: &[&str]) {
    let text = text_of(line);
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text:?}");
    }
}

fn send(relay: &Relay, number: u64) {
    send_tcp(relay.address("lan", "tcp"), numbered(number).as_bytes());
}

/// A relay whose output is `collector`, with these keys of `tls`.
fn relay_to(collector: &Collector, tls: &str) -> Relay {
    let outputs = format!("outputs: {{sekoia: {{to: 'tls://{}', tls: {{{tls}}}}}}}\n", collector.address);
    Relay::start(&format!("{outputs}{INPUT}{ROUTE_ALL}"))
}

/// Seconds since the Unix epoch at which the first certificate of a file ends.
fn end_of(pair: &Pair) -> u64 {
    let der = chain(&pair.cert).remove(0);
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    u64::try_from(certificate.validity().not_after.timestamp()).unwrap()
}

#[test]
fn an_expired_certificate_is_told_with_its_dates_and_a_renewed_one_is_used() {
    let certificates = Certificates::new();
    let expired = certificates.issue("expired", HERE, |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 2, 3);
    });
    let collector = Collector::start(&certificates);
    collector.present(certificates.server_config(&expired));
    let relay = relay_to(&collector, &format!("ca: {}", certificates.ca.display()));
    send(&relay, 1);
    let line = relay.wait_for_log("expired on");
    assert_says(
        &line,
        &[
            "TLS handshake with 127.0.0.1:",
            "the peer's certificate for localhost, 127.0.0.1 (issued by an authority) expired on 2021-02-03T00:00:00Z (now 2",
            "the peer must renew it",
        ],
    );
    assert_eq!((line["level"].as_str(), line["output"].as_str()), (Some("WARN"), Some("sekoia")));
    let peer = "side=\"peer\",output=\"sekoia\"";
    assert_eq!(relay.metric(EXPIRY, peer), 1_612_310_400);
    collector.present(certificates.server_config(&certificates.server));
    assert!(collector.wait_for(1)[0].contains(" n=1 "));
    assert_eq!(relay.metric(EXPIRY, peer), end_of(&certificates.server));
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_told_with_its_dates() {
    let certificates = Certificates::new();
    let early = certificates.issue("early", HERE, |params| params.not_before = rcgen::date_time_ymd(2999, 1, 2));
    let collector = Collector::start(&certificates);
    collector.present(certificates.server_config(&early));
    let relay = relay_to(&collector, &format!("ca: {}", certificates.ca.display()));
    send(&relay, 1);
    assert_says(&relay.wait_for_log("is valid from"), &["2999-01-02T00:00:00Z on only (now 2", "clocks"]);
    collector.present(certificates.server_config(&certificates.server));
    collector.wait_for(1);
}

#[test]
fn a_certificate_of_another_name_is_told_with_both_names() {
    let certificates = Certificates::new();
    let other = certificates.issue("other", &["collector.example", "*.example"], |_| {});
    let collector = Collector::start(&certificates);
    collector.present(certificates.server_config(&other));
    let relay = relay_to(&collector, &format!("ca: {}, server_name: localhost", certificates.ca.display()));
    send(&relay, 1);
    assert_says(
        &relay.wait_for_log("expected one for"),
        &[
            "the peer's certificate is for collector.example, *.example (issued by an authority, valid until ",
            "; expected one for localhost: ",
            "set tls.server_name",
        ],
    );
    collector.present(certificates.server_config(&certificates.server));
    collector.wait_for(1);
}

#[test]
fn an_authority_that_is_not_trusted_is_named_and_its_file_in_place_of_the_other_is_enough() {
    let certificates = Certificates::new();
    let collector = Collector::start(&certificates);
    let ca = copied(&certificates, &certificates.strange_ca, "trusted.pem");
    let relay = relay_to(&collector, &format!("ca: {}", ca.display()));
    send(&relay, 1);
    let those = format!("expected one of those in tls.ca ({}): set tls.ca", ca.display());
    assert_says(
        &relay.wait_for_log("not trusted"),
        &[
            "the peer's certificate is for localhost, 127.0.0.1, ::1 (issued by an authority, ",
            "(issuer: an authority)",
            &those,
        ],
    );
    replace(&ca, &certificates.ca);
    collector.wait_for(1);
    let changed = relay.wait_for_log("certificates have changed");
    assert_says(&changed, &["outputs.sekoia.tls: ", "used from the next connection on"]);
    assert_eq!(changed["level"], "INFO");
}

#[test]
fn a_file_that_cannot_be_used_leaves_the_last_one_in_its_place() {
    let certificates = Certificates::new();
    let collector = Collector::start(&certificates);
    let ca = copied(&certificates, &certificates.ca, "trusted.pem");
    let relay = relay_to(&collector, &format!("ca: {}", ca.display()));
    let empty = ca.with_file_name("empty.pem");
    std::fs::write(&empty, "no certificate\n").unwrap();
    replace(&ca, &empty);
    let line = relay.wait_for_log("cannot be used");
    assert_says(&line, &["outputs.sekoia.tls: ", &ca.display().to_string(), "holds no certificates", "stay in use"]);
    assert_eq!(line["level"], "ERROR");
    send(&relay, 1);
    collector.wait_for(1);
    std::fs::remove_file(&ca).unwrap();
    relay.wait_for_log("No such file");
    collector.reset();
    send(&relay, 2);
    eventually("the second message", || collector.numbers().get(&2).copied().ok_or_else(|| "none".to_owned()));
    replace(&ca, &certificates.ca);
    relay.wait_for_log("used from the next connection on");
    let told = relay.log_lines().iter().filter(|line| line["level"] == "ERROR").count();
    assert_eq!(told, 2, "once a change");
}

#[test]
fn a_peer_that_demands_a_certificate_is_told_and_served_once_it_does_not() {
    for version in [&TLS12, &TLS13] {
        let certificates = Certificates::new();
        let collector = Collector::start(&certificates);
        collector.present(certificates.demanding(&[version]));
        let relay = relay_to(&collector, &format!("ca: {}", certificates.ca.display()));
        send(&relay, 1);
        assert_says(
            &relay.wait_for_log("demands a client certificate"),
            &["(one signed by an authority), and we have none", "set tls.client_cert and tls.client_key"],
        );
        collector.present(certificates.server_config(&certificates.server));
        collector.wait_for(1);
    }
}

#[test]
fn a_client_certificate_that_the_peer_refuses_is_told_and_another_on_the_disk_is_enough() {
    for version in [&TLS12, &TLS13] {
        let certificates = Certificates::new();
        let collector = Collector::start(&certificates);
        collector.present(certificates.demanding(&[version]));
        let strange = certificates.issue_strange("strange-client", &["relay.example"]);
        let (ca, cert, key) = (certificates.ca.display(), strange.cert.display(), strange.key.display());
        let relay = relay_to(&collector, &format!("ca: {ca}, client_cert: {cert}, client_key: {key}"));
        let ours = "side=\"ours\",output=\"sekoia\"";
        assert_eq!(relay.metric(EXPIRY, ours), end_of(&strange));
        send(&relay, 1);
        assert_says(
            &relay.wait_for_log("our client certificate"),
            &[
                &format!("({cert}, for relay.example (issued by another authority, valid until "),
                "; expected one signed by an authority",
            ],
        );
        let right = certificates.issue("right-client", &["relay.example"], |params| {
            params.not_after = rcgen::date_time_ymd(2950, 1, 1);
        });
        // As tools do: one after the other.
        replace(&strange.cert, &right.cert);
        relay.wait_for_log(&format!("{key} is not the key of the certificate in {cert}"));
        replace(&strange.key, &right.key);
        assert_says(
            &relay.wait_for_log("used from the next connection on"),
            &["ours is for relay.example (issued by an authority, valid until 2950-01-01T00:00:00Z)"],
        );
        collector.wait_for(1);
        assert_eq!(relay.metric(EXPIRY, ours), end_of(&right));
    }
}

#[test]
fn a_peer_that_answers_in_plain_text_is_told_and_served_once_it_speaks_tls() {
    let certificates = Certificates::new();
    let collector = Collector::start(&certificates);
    collector.behave(Manner::Greets);
    let relay = relay_to(&collector, &format!("ca: {}", certificates.ca.display()));
    send(&relay, 1);
    assert_says(&relay.wait_for_log("is not TLS"), &["expected a port that speaks TLS", "to: tcp://"]);
    collector.behave(Manner::Reads);
    collector.wait_for(1);
}

#[test]
fn what_is_wrong_with_a_client_is_told_and_a_listener_takes_new_files_without_losing_a_connection() {
    let certificates = Certificates::new();
    let own = certificates.issue("own", HERE, |_| {});
    let client_ca = copied(&certificates, &certificates.ca, "clients.pem");
    let input = format!(
        "inputs: {{lan: {{listen: 'tls://127.0.0.1:0', tls: {{cert: {}, key: {}, client_ca: {}}}}}}}\n{ROUTE_ALL}",
        own.cert.display(),
        own.key.display(),
        client_ca.display()
    );
    let bench = Bench::with(certificates, &input, "");
    let (relay, certificates) = (&bench.relay, &bench.certificates);
    let to = relay.address("lan", "tls");
    let ours = "side=\"ours\",input=\"lan\"";
    assert_eq!(relay.metric(EXPIRY, ours), end_of(&own));
    let known = certificates.client_config(Some(&certificates.client));
    let mut early = connect_tls(to, known.clone()).unwrap();
    early.write_all(&counted("<14>Nov  1 10:00:00 h a: early\n")).unwrap();
    bench.collector.wait_for(1);

    drop(connect(to).write_all(b"<14>plain text\n"));
    relay.wait_for_log("the client does not speak TLS");
    let unknown = certificates.client_config(Some(&certificates.stranger));
    drop(connect_tls(to, unknown.clone()).map(|mut sender| sender.write_all(b"x")));
    relay.wait_for_log("the client's certificate is for localhost, 127.0.0.1, ::1 (issued by another authority, valid");

    let renewed = certificates.issue("renewed", HERE, |params| params.not_after = rcgen::date_time_ymd(2950, 1, 1));
    replace(&own.cert, &renewed.cert);
    relay.wait_for_log("is not the key of");
    // The old pair is in use as before.
    finish_tls(connect_tls(to, known.clone()).unwrap());
    replace(&own.key, &renewed.key);
    replace(&client_ca, &certificates.strange_ca);
    eventually("the new certificate", || {
        let end = relay.metric(EXPIRY, ours);
        if end == end_of(&renewed) { Ok(()) } else { Err(format!("it ends at {end}")) }
    });
    eventually("the new authority", || {
        let mut sender = connect_tls(to, unknown.clone()).map_err(|error| error.to_string())?;
        let presented = sender.conn.peer_certificates().map(|chain| chain[0].clone());
        assert_eq!(presented, Some(chain(&own.cert).remove(0)));
        drop(sender.write_all(&counted("<14>Nov  1 10:00:00 h a: late\n")));
        // One that is refused ends here, or at the next look.
        drop(sender.flush());
        drop(sender);
        let frames = bench.collector.look(|seen| seen.frames.len());
        if frames > 1 { Ok(()) } else { Err(format!("{frames} frames")) }
    });
    early.write_all(&counted("<14>Nov  1 10:00:00 h a: still early\n")).unwrap();
    finish_tls(early);
    eventually("what came by the first connection", || {
        let frames = bench.collector.texts();
        if frames.iter().any(|frame| frame.contains("still early")) { Ok(()) } else { Err(format!("{frames:?}")) }
    });
}

#[test]
fn a_certificate_of_ours_that_has_expired_is_warned_of_at_the_start() {
    let certificates = Certificates::new();
    let old = certificates.issue("old", HERE, |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 2, 3);
    });
    let tls = format!("cert: {}, key: {}", old.cert.display(), old.key.display());
    let bench = Bench::with(
        certificates,
        &format!("inputs: {{lan: {{listen: 'tls://127.0.0.1:0', tls: {{{tls}}}}}}}\n{ROUTE_ALL}"),
        "",
    );
    let line = bench.relay.wait_for_log("our certificate has expired");
    assert_says(
        &line,
        &["inputs.lan.tls: ", "for localhost, 127.0.0.1 (issued by an authority, valid until 2021-02-03T00:00:00Z)"],
    );
    let trusting = bench.certificates.client_config(None);
    assert!(connect_tls(bench.relay.address("lan", "tls"), trusting).is_err());
    assert_says(
        &bench.relay.wait_for_log("does not trust our certificate"),
        &["old.pem, for localhost", "CertificateExpired"],
    );
}
