//! The relay among the programs it meets: util-linux's `logger` and a real rsyslogd, before it and behind it.
//!
//! Where one of them is not installed, its tests say so and check nothing.
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

use std::net::SocketAddr;
use std::process::Command;

use support::certificates::Certificates;
use support::collector::message_of;
use support::relay::{Relay, count};
use support::rsyslogd::{Rsyslogd, drivers, with_driver};
use support::waiting::eventually;
use support::{Bench, ROUTE_ALL, installed};

const INPUT: &str = "inputs: {lan: {listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0']}}\n";

/// Messages that each rsyslogd gets to forward.
const MESSAGES: usize = 2_000;

/// Runs `logger`; it has sent its message, and closed its connection, when this returns.
fn logger(arguments: &[&str]) {
    let output = Command::new("logger").args(arguments).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// `logger` towards a network address.
fn logger_to(to: SocketAddr, arguments: &[&str], text: &str) {
    let (host, port) = (to.ip().to_string(), to.port().to_string());
    let common = ["--server", &host, "--port", &port, "--tag", "wheel", "--priority", "local3.warning", "--id=77"];
    logger(&[&common, arguments, &["--", text]].concat());
}

#[test]
fn logger_sends_over_udp_and_tcp_in_both_formats_and_framings() {
    if installed("logger").is_none() {
        return;
    }
    let bench = Bench::start(&format!("{INPUT}{ROUTE_ALL}"));
    let (tcp, udp) = (bench.relay.address("lan", "tcp"), bench.relay.address("lan", "udp"));
    let mut expected = Vec::new();
    for (to, transport) in [(udp, "--udp"), (tcp, "--tcp")] {
        for format in ["--rfc3164", "--rfc5424"] {
            for counted in [false, true] {
                if counted && transport == "--udp" {
                    continue;
                }
                let text = format!("the wheel turns {transport} {format} {counted}");
                let framing: &[&str] = if counted { &["--octet-count"] } else { &[] };
                logger_to(to, &[&[transport, format][..], framing].concat(), &text);
                expected.push(text);
            }
        }
    }
    let frames = bench.collector.wait_for(expected.len());
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let short = hostname.trim().split('.').next().unwrap();
    for text in &expected {
        let frame = frames.iter().find(|frame| frame.ends_with(&format!(" {text}\n")));
        let frame = frame.unwrap_or_else(|| panic!("no {text:?} in {frames:#?}"));
        // local3 is 19, warning 4.
        assert!(frame.starts_with("<156>1 20"), "{frame}");
        assert!(frame.contains(&format!(" {short}")), "{frame}");
        assert!(frame.contains(" wheel 77 LOG [SEKOIA@53288 intake_key=\"key-of-all\"] "), "{frame}");
    }
    assert_eq!(count(bench.relay.status().input("lan"), "unfinished"), 0);
}

#[test]
fn logger_sends_structured_data_that_does_not_replace_the_key() {
    if installed("logger").is_none() {
        return;
    }
    let bench = Bench::start(&format!("{INPUT}{ROUTE_ALL}"));
    let own = ["--rfc5424", "--tcp", "--msgid", "TURN", "--sd-id", "wheel@32473", "--sd-param", "speed=\"7\""];
    logger_to(bench.relay.address("lan", "tcp"), &own, "faster");
    let frames = bench.collector.wait_for(1);
    assert_eq!(message_of(&frames[0]), "faster");
    assert!(frames[0].contains(" LOG [SEKOIA@53288 intake_key=\"key-of-all\"] "), "{frames:?}");
}

#[test]
fn logger_sends_over_unix_sockets_of_both_kinds() {
    if installed("logger").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (stream, datagram) = (path("stream"), path("log"));
    let bench = Bench::start(&format!(
        "inputs: {{local: {{listen: ['unix://{stream}', 'unixgram://{datagram}']}}}}\n{ROUTE_ALL}"
    ));
    logger(&["--socket", &datagram, "--tag", "wheel", "by datagram"]);
    logger(&["--socket", &stream, "--tcp", "--tag", "wheel", "by stream"]);
    assert_eq!(bench.collector.wait_for_messages(2), ["by datagram", "by stream"]);
}

/// What each rsyslogd gets to forward.
fn messages() -> Vec<String> {
    let text = |number| format!("<13>Nov 22 10:00:00 wheel[9]: the bucket {number} is full, and \"the next\" comes");
    (0..MESSAGES).map(text).collect()
}

/// Holds the relay to having passed on what rsyslogd sent, each once.
#[track_caller]
fn assert_all_arrive(bench: &Bench, input: &str) {
    let mut expected: Vec<String> =
        (0..MESSAGES).map(|number| format!("the bucket {number} is full, and \"the next\" comes")).collect();
    expected.sort();
    assert_eq!(bench.collector.wait_for_messages(MESSAGES), expected);
    let frames = bench.collector.texts();
    assert!(frames.iter().all(|frame| frame.contains(" wheel 9 LOG [SEKOIA@53288 ")), "{:?}", frames[0]);
    let status = bench.relay.status();
    status.assert_balanced();
    assert_eq!(count(status.input(input), "received"), MESSAGES as u64);
    assert_eq!(count(status.input(input), "unfinished"), 0);
}

#[test]
fn rsyslogd_sends_over_tcp_in_both_framings_and_formats() {
    let Some(executable) = installed("rsyslogd") else { return };
    for framing in ["traditional", "octet-counted"] {
        for template in ["RSYSLOG_TraditionalForwardFormat", "RSYSLOG_SyslogProtocol23Format"] {
            let bench = Bench::start(&format!("{INPUT}{ROUTE_ALL}"));
            let to = bench.relay.address("lan", "tcp");
            let action = format!(
                "action(type=\"omfwd\" protocol=\"tcp\" target=\"{}\" port=\"{}\" TCP_Framing=\"{framing}\" template=\"{template}\")",
                to.ip(),
                to.port()
            );
            let _rsyslogd =
                Rsyslogd::sending(&executable, "", &format!("if $programname == 'wheel' then {action}"), &messages());
            assert_all_arrive(&bench, "lan");
        }
    }
}

#[test]
fn rsyslogd_sends_over_tls() {
    let Some(executable) = installed("rsyslogd") else { return };
    for driver in drivers() {
        let certificates = Certificates::new();
        let inputs = format!(
            "inputs: {{lan: {{listen: 'tls://127.0.0.1:0', tls: {{{}, client_ca: {}}}}}}}\n{ROUTE_ALL}",
            certificates.input_tls(),
            certificates.ca.display()
        );
        let bench = Bench::with(certificates, &inputs, "");
        let to = bench.relay.address("lan", "tls");
        let action = format!(
            "if $programname == 'wheel' then action(type=\"omfwd\" protocol=\"tcp\" target=\"{}\" port=\"{}\" \
             TCP_Framing=\"octet-counted\" template=\"RSYSLOG_SyslogProtocol23Format\" StreamDriver=\"{driver}\" \
             StreamDriverMode=\"1\" StreamDriverAuthMode=\"x509/certvalid\")",
            to.ip(),
            to.port()
        );
        let global = with_driver(driver, &bench.certificates);
        let _rsyslogd = Rsyslogd::sending(&executable, &global, &action, &messages());
        assert_all_arrive(&bench, "lan");
    }
}

#[test]
fn rsyslogd_receives_our_tls_stream_and_writes_what_it_got() {
    let Some(executable) = installed("rsyslogd") else { return };
    for driver in drivers() {
        let certificates = Certificates::new();
        let rsyslogd = Rsyslogd::start(
            &executable,
            &format!(
                "{}module(load=\"imtcp\" StreamDriver.Name=\"{driver}\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\")\n\
                 input(type=\"imtcp\" address=\"127.0.0.1\" port=\"0\" listenPortFileName=\"DIRECTORY/port\")\n\
                 template(name=\"fields\" type=\"string\" string=\"%pri%|%timereported:::date-rfc3339%|%hostname%|%app-name%|%procid%|%msgid%|%structured-data%|%msg%\\n\")\n\
                 if $inputname == 'imtcp' then action(type=\"omfile\" file=\"DIRECTORY/received\" template=\"fields\")\n",
                with_driver(driver, &certificates)
            ),
        );
        let mut relay = Relay::start(&format!(
            "outputs: {{sekoia: {{to: 'tls://localhost:{}', tls: {{ca: {}}}}}}}\n{INPUT}{ROUTE_ALL}",
            rsyslogd.port("port"),
            certificates.ca.display()
        ));
        let year = "2026-03-04T05:06:07.891234+01:00";
        let sent: String =
            (0..MESSAGES).map(|number| format!("<30>1 {year} gate wheel 9 TURN - bucket {number}\n")).collect();
        support::senders::send_tcp(relay.address("lan", "tcp"), sent.as_bytes());
        let lines = eventually("rsyslogd to write everything", || {
            let lines = rsyslogd.lines("received");
            if lines.len() >= MESSAGES {
                Ok(lines)
            } else {
                Err(format!("{} lines, the last {:?}", lines.len(), lines.last()))
            }
        });
        let expected: Vec<String> = (0..MESSAGES)
            .map(|number| {
                format!("30|{year}|gate|wheel|9|LOG|[SEKOIA@53288 intake_key=\"key-of-all\"]|bucket {number}")
            })
            .collect();
        assert_eq!(lines, expected);
        relay.stop_clean();
    }
}
