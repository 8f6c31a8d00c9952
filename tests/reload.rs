//! Another configuration for a running relay: what triggers it, what it changes, and that nothing else notices.
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

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use support::certificates::{Certificates, write_private};
use support::collector::Collector;
use support::intake::{Answer, Intake};
use support::relay::{Relay, Status, count, remove_own_variables};
use support::senders::*;
use support::waiting::{PATIENCE, eventually};

/// What the harness puts above a configuration.
const PREAMBLE: &str = "admin: {listen: '127.0.0.1:0'}\ncores: 2\n";

const INPUT: &str = "inputs: {lan: {listen: 'tcp://127.0.0.1:0'}}\n";

/// An output called `sink`.
fn sink(collector: &Collector) -> String {
    format!("outputs: {{sink: {{to: 'tcp://{}'}}}}\n", collector.address)
}

/// A route of this name and template, for a program or for all.
fn route(name: &str, program: &str, template: &str) -> String {
    let program = if program.is_empty() { String::new() } else { format!("program: '{program}', ") };
    format!("  - {{name: {name}, {program}template: '<1>{template}\\n', output: sink}}\n")
}

/// Puts another configuration in the place of a relay's, as editors do: written beside it, and renamed.
fn rewrite(relay: &Relay, configuration: &str) {
    let beside = relay.directory().join("forebay.new");
    std::fs::write(&beside, format!("{PREAMBLE}{configuration}")).unwrap();
    std::fs::rename(beside, relay.directory().join("forebay.yaml")).unwrap();
}

/// The same, and has it read: what has changed, in words.
#[track_caller]
fn reload(relay: &Relay, configuration: &str) -> String {
    rewrite(relay, configuration);
    let (code, words) = relay.request("POST", "/reload");
    assert_eq!(code, 200, "{words}");
    words
}

/// The same of one that is refused: the report.
#[track_caller]
fn refused(relay: &Relay, configuration: &str) -> String {
    rewrite(relay, configuration);
    let (code, words) = relay.request("POST", "/reload");
    assert_eq!(code, 422, "{words}");
    words
}

/// A message of a program.
fn line(program: &str, text: &str) -> Vec<u8> {
    format!("<13>Nov 22 10:00:00 gate {program}: {text}\n").into_bytes()
}

/// What the templates here print between `<1>` and LF, once there are so many frames.
#[track_caller]
fn frames(collector: &Collector, count: usize) -> Vec<String> {
    let text = |frame: &String| frame.trim_start_matches("<1>").trim_end().to_owned();
    collector.wait_for(count).iter().map(text).collect()
}

fn forebay(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    remove_own_variables(&mut command);
    command.args(arguments).output().unwrap()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

/// Waits until this many configurations were applied, the first not counted.
#[track_caller]
fn applied(relay: &Relay, reloads: u64) {
    eventually("the reload to be applied", || {
        match relay.metric("forebay_configuration_reloads_total", "result=\"applied\"") {
            count if count == reloads => Ok(()),
            count => Err(format!("{count} applied")),
        }
    });
}

fn configuration(relay: &Relay) -> Value {
    relay.status().0["configuration"].clone()
}

#[test]
fn a_template_changes_between_two_messages_of_one_connection_and_no_connection_notices() {
    let collector = Collector::start_plain();
    let of = |template: &str| format!("{}{INPUT}routes:\n{}", sink(&collector), route("all", "", template));
    let mut relay = Relay::start(&of("first%msg%"));
    let mut sender = connect(relay.address("lan", "tcp"));
    sender.write_all(&line("app", "one")).unwrap();
    frames(&collector, 1);
    let words = reload(&relay, &of("second%msg%"));
    assert_eq!(words, "configuration 2 runs\nroute all changed: template\n");
    sender.write_all(&line("app", "two")).unwrap();
    assert_eq!(frames(&collector, 2), ["first one", "second two"]);
    assert_eq!(reload(&relay, &of("second%msg%")), "configuration 3 runs\nnothing has changed\n");
    sender.write_all(&line("app", "three")).unwrap();
    frames(&collector, 3);
    let status = relay.status();
    assert_eq!((count(status.output("sink"), "connects"), collector.look(|seen| seen.accepted)), (1, 1));
    assert_eq!(count(status.input("lan"), "connections"), 1);
    finish(sender);
    relay.stop_clean();
}

#[test]
fn a_key_changes_without_a_new_connection_and_is_shown_nowhere() {
    let collector = Collector::start_plain();
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "firstkey11111111\n").unwrap();
    let of = format!(
        "{}{INPUT}routes: [{{name: all, intake_key_file: {}, output: sink}}]\n",
        sink(&collector),
        key.path().display()
    );
    let mut relay = Relay::start(&of);
    let mut sender = connect(relay.address("lan", "tcp"));
    sender.write_all(&line("app", "one")).unwrap();
    frames(&collector, 1);
    std::fs::write(key.path(), "secondkey2222222\n").unwrap();
    assert_eq!(reload(&relay, &of), "configuration 2 runs\nroute all changed: intake key\n");
    sender.write_all(&line("app", "two")).unwrap();
    let frames = collector.wait_for(2);
    assert!(frames[0].contains("firstkey11111111") && frames[1].contains("secondkey2222222"), "{frames:?}");
    assert_eq!(collector.look(|seen| seen.accepted), 1);
    finish(sender);
    relay.stop_clean();
    assert!(!relay.log_text().contains("key2222222"), "{}", relay.log_text());
}

#[test]
fn sighup_the_command_and_the_admin_server_read_the_configuration_again() {
    let collector = Collector::start_plain();
    let of = |template: &str| format!("{}{INPUT}routes:\n{}", sink(&collector), route("all", "", template));
    let relay = Relay::start(&of("a"));
    rewrite(&relay, &of("b"));
    relay.signal("HUP");
    applied(&relay, 1);
    let admin = format!("http://{}", relay.admin());
    rewrite(&relay, &of("c"));
    let output = forebay(&["reload", "--admin", &admin]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "configuration 3 runs\nroute all changed: template\n");
    applied(&relay, 2);
    rewrite(&relay, "nonsense: true\n");
    let output = forebay(&["reload", "--admin", &admin]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(78), String::new()));
    let report = text(&output.stderr);
    assert!(report.contains("forebay.yaml:3:1: nonsense: unknown key"), "{report}");
    // The verb counts: who only looks changes nothing.
    assert_eq!(relay.request("GET", "/reload").0, 405);
    assert_eq!(relay.metric_alone("forebay_configuration_generation"), 3);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(forebay(&["reload", "--admin", &format!("http://{nobody}")]).status.code(), Some(1));
}

#[test]
fn a_bad_configuration_is_reported_whole_and_the_old_one_goes_on() {
    let collector = Collector::start_plain();
    let good = format!("{}{INPUT}routes:\n{}", sink(&collector), route("all", "", "old%msg%"));
    let mut relay = Relay::start(&good);
    let mut sender = connect(relay.address("lan", "tcp"));
    assert_eq!(configuration(&relay)["last_reload"], Value::Null);
    assert_eq!(relay.metric_alone("forebay_configuration_last_reload_success"), 1);
    let bad = format!("{}{INPUT}routes:\n{}colour: red\n", sink(&collector), route("all", "", "new%nothing%"));
    let report = refused(&relay, &bad);
    assert!(report.contains("forebay.yaml:7:1: colour: unknown key"), "{report}");
    assert!(report.contains("routes[0].template"), "{report}");
    assert_eq!(report.lines().count(), 2, "{report}");
    sender.write_all(&line("app", "one")).unwrap();
    assert_eq!(frames(&collector, 1), ["old one"]);
    let now = configuration(&relay);
    assert_eq!((now["last_reload"].as_str(), now["generation"].as_u64()), (Some("refused"), Some(1)));
    let told: Vec<&str> = now["report"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!(told, report.lines().collect::<Vec<_>>());
    assert_eq!(relay.metric_alone("forebay_configuration_last_reload_success"), 0);
    assert_eq!(relay.metric("forebay_configuration_reloads_total", "result=\"refused\""), 1);
    relay.wait_for_log("colour: unknown key");
    relay.wait_for_log("the new configuration is refused: the old one goes on");
    assert_eq!(relay.request("GET", "/readyz").0, 200);
    reload(&relay, &good);
    assert_eq!(relay.metric_alone("forebay_configuration_last_reload_success"), 1);
    finish(sender);
    relay.stop_clean();
}

#[test]
fn what_only_a_restart_can_change_is_refused_with_its_place_and_nothing_is_applied() {
    let collector = Collector::start_plain();
    let routes = format!("routes:\n{}", route("all", "", "%msg%"));
    let relay = Relay::start(&format!("{}{INPUT}{routes}", sink(&collector)));
    let others =
        "inputs: {lan: {listen: 'tcp://127.0.0.1:0', receive_buffer: 1MiB}, new: {listen: 'tcp://127.0.0.1:0'}}\n";
    let spool = format!("spool: {{dir: {}}}\n", relay.directory().join("spool").display());
    let report = refused(&relay, &format!("{}{others}{routes}log: {{format: text}}\n{spool}", sink(&collector)));
    let says = "changed, which takes a restart: nothing of the new configuration is applied";
    for place in ["forebay.yaml:4:61: inputs.lan.receive_buffer", "forebay.yaml:8:8: spool"] {
        assert!(report.contains(&format!("{place}: {says}")), "no {place} in {report}");
    }
    assert_eq!(relay.status().0["inputs"].as_array().unwrap().len(), 1);
    assert_eq!(relay.metric("forebay_configuration_reloads_total", "result=\"refused\""), 1);
}

#[test]
fn a_new_route_takes_its_messages_and_one_that_left_takes_none() {
    let collector = Collector::start_plain();
    let head = format!("{}{INPUT}routes:\n", sink(&collector));
    let all = route("all", "", "all%msg%");
    let mut relay = Relay::start(&format!("{head}{all}"));
    let mut sender = connect(relay.address("lan", "tcp"));
    sender.write_all(&line("web", "one")).unwrap();
    frames(&collector, 1);
    let words = reload(&relay, &format!("{head}{}{all}", route("web", "web", "web%msg%")));
    assert_eq!(words, "configuration 2 runs\nroute web added\n");
    sender.write_all(&[line("web", "two"), line("app", "three")].concat()).unwrap();
    let mut texts = frames(&collector, 3);
    texts[1..].sort();
    assert_eq!(texts, ["all one", "all three", "web two"]);
    let words = reload(&relay, &format!("{head}{all}"));
    assert_eq!(
        words,
        "configuration 3 runs\nroute web removed: it takes nothing more, what waits in it still goes out\n"
    );
    sender.write_all(&line("web", "four")).unwrap();
    assert_eq!(frames(&collector, 4)[3], "all four");
    let status = relay.status();
    assert_eq!((&status.route("web")["retired"], &status.route("all")["retired"]), (&true.into(), &false.into()));
    assert_eq!((count(status.route("web"), "routed"), count(status.route("all"), "routed")), (1, 3));
    // It comes back to its own counters.
    reload(&relay, &format!("{head}{}{all}", route("web", "web", "back%msg%")));
    sender.write_all(&line("web", "five")).unwrap();
    assert_eq!(frames(&collector, 5)[4], "back five");
    assert_eq!(count(relay.status().route("web"), "routed"), 2);
    assert_eq!(collector.look(|seen| seen.accepted), 1);
    finish(sender);
    relay.stop_clean();
}

#[test]
fn what_waits_in_a_route_that_left_is_reported_and_goes_out_when_the_collector_comes() {
    let (collector, other) = (Collector::start_plain(), Collector::start_plain());
    collector.stop();
    let both = format!(
        "outputs: {{old: {{to: 'tcp://{}'}}, sink: {{to: 'tcp://{}'}}}}\n{INPUT}routes:\n",
        collector.address, other.address
    );
    let to_old = "  - {name: web, program: web, template: '<1>web%msg%\\n', output: old}\n";
    let all = route("all", "", "all%msg%");
    let mut relay = Relay::start(&format!("{both}{to_old}{all}"));
    let mut sender = connect(relay.address("lan", "tcp"));
    for number in 0..3 {
        sender.write_all(&line("web", &number.to_string())).unwrap();
    }
    relay.status_when("them to wait", |status| count(status.route("web"), "waiting") == 3);
    // The route leaves, and its output with it.
    reload(&relay, &format!("{}{INPUT}routes:\n{all}", sink(&other)));
    sender.write_all(&line("web", "3")).unwrap();
    assert_eq!(frames(&other, 1), ["all 3"]);
    let status = relay.status();
    assert_eq!((count(status.route("web"), "waiting"), &status.output("old")["retired"]), (3, &true.into()));
    assert_eq!(relay.metric("forebay_route_waiting_messages", "route=\"web\""), 3);
    collector.restart();
    assert_eq!(frames(&collector, 3), ["web 0", "web 1", "web 2"]);
    let status = relay.status_when("it to be empty, and its connection closed", |status| {
        count(status.route("web"), "released") == 3 && count(status.output("old"), "connections") == 0
    });
    status.assert_balanced();
    // And both can come back.
    reload(&relay, &format!("{both}{to_old}{all}"));
    sender.write_all(&line("web", "4")).unwrap();
    assert_eq!(frames(&collector, 4)[3], "web 4");
    finish(sender);
    relay.stop_clean();
}

#[test]
fn what_waits_for_an_output_goes_with_its_route_to_another() {
    let (away, here) = (Collector::start_plain(), Collector::start_plain());
    away.stop();
    let of = |output: &str| {
        format!(
            "outputs: {{away: {{to: 'tcp://{}'}}, here: {{to: 'tcp://{}'}}}}\n{INPUT}\
             routes: [{{name: all, template: '<1>%msg%\\n', output: {output}}}]\n",
            away.address, here.address
        )
    };
    let mut relay = Relay::start(&of("away"));
    send_tcp(relay.address("lan", "tcp"), &[line("a", "0"), line("a", "1")].concat());
    relay.status_when("them to wait", |status| count(status.route("all"), "waiting") == 2);
    assert_eq!(reload(&relay, &of("here")), "configuration 2 runs\nroute all changed: output\n");
    assert_eq!(frames(&here, 2), [" 0", " 1"]);
    relay.stop_clean();
}

#[test]
fn an_output_that_changes_goes_on_elsewhere_and_others_keep_their_connections() {
    let (first, second, other) = (Collector::start_plain(), Collector::start_plain(), Collector::start_plain());
    let of = |address: SocketAddr| {
        format!(
            "outputs: {{moves: {{to: 'tcp://{address}'}}, sink: {{to: 'tcp://{}'}}}}\n{INPUT}routes:\n  \
             - {{name: m, program: m, template: '<1>%msg%\\n', output: moves}}\n{}",
            other.address,
            route("s", "", "%msg%")
        )
    };
    let mut relay = Relay::start(&of(first.address));
    let mut sender = connect(relay.address("lan", "tcp"));
    sender.write_all(&[line("m", "1"), line("s", "1")].concat()).unwrap();
    frames(&first, 1);
    frames(&other, 1);
    let words = reload(&relay, &of(second.address));
    assert_eq!(words, "configuration 2 runs\noutput moves changed: its connections are made anew\n");
    sender.write_all(&[line("m", "2"), line("s", "2")].concat()).unwrap();
    assert_eq!(frames(&second, 1), [" 2"]);
    frames(&other, 2);
    // In order, so that nothing is sent again.
    eventually("the old connection to be closed", || match first.look(|seen| seen.closed_in_order) {
        1 => Ok(()),
        count => Err(count.to_string()),
    });
    assert_eq!((first.texts().len(), other.look(|seen| seen.accepted)), (1, 1));
    let status = relay.status();
    assert_eq!((count(status.route("m"), "resent"), count(status.output("sink"), "connects")), (0, 1));
    finish(sender);
    relay.stop_clean();
}

#[test]
fn a_listener_comes_and_goes_while_a_connection_on_another_goes_on() {
    let collector = Collector::start_plain();
    let rest = format!("{}routes:\n{}", sink(&collector), route("all", "", "%inputname%%msg%"));
    let one = format!("{INPUT}{rest}");
    let two =
        "inputs: {lan: {listen: 'tcp://127.0.0.1:0'}, new: {listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0']}}\n";
    let two = format!("{two}{rest}");
    let mut relay = Relay::start(&one);
    let mut sender = connect(relay.address("lan", "tcp"));
    sender.write_all(&line("a", "0")).unwrap();
    frames(&collector, 1);
    let words = reload(&relay, &two);
    assert!(words.contains("input new added") && words.contains("listens on udp://"), "{words}");
    let (tcp, udp) = (relay.address("new", "tcp"), relay.address("new", "udp"));
    let mut leaving = connect(tcp);
    leaving.write_all(&line("a", "1")).unwrap();
    frames(&collector, 2);
    send_udp(udp, &["<13>Nov 22 10:00:00 gate a: 2"]);
    sender.write_all(&line("a", "3")).unwrap();
    let mut texts = frames(&collector, 4);
    texts.sort();
    assert_eq!(texts, ["lan 0", "lan 3", "new 1", "new 2"]);
    // What has arrived is taken, then the connection is closed.
    leaving.write_all(&line("a", "4")).unwrap();
    let words = reload(&relay, &one);
    assert!(words.contains("input new removed") && words.contains("listens no more on tcp://"), "{words}");
    assert_closed(leaving);
    assert_eq!(frames(&collector, 5)[4], "new 4");
    eventually("nobody to listen there", || match TcpStream::connect(tcp) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    });
    sender.write_all(&line("a", "5")).unwrap();
    assert_eq!(frames(&collector, 6)[5], "lan 5");
    let status = relay.status();
    assert_eq!((count(status.input("new"), "received"), &status.input("new")["retired"]), (3, &true.into()));
    status.assert_balanced();
    finish(sender);
    relay.stop_clean();
}

#[test]
fn an_address_that_cannot_be_bound_refuses_all_of_it() {
    let collector = Collector::start_plain();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let of = |listen: &str, template: &str| {
        format!("{}inputs: {{lan: {{listen: {listen}}}}}\nroutes:\n{}", sink(&collector), route("all", "", template))
    };
    let mut relay = Relay::start(&of("'tcp://127.0.0.1:0'", "old%msg%"));
    let report = refused(&relay, &of(&format!("['tcp://127.0.0.1:0', 'tcp://{address}']"), "new%msg%"));
    assert!(report.starts_with(&format!("inputs.lan: cannot listen on tcp://{address}: ")), "{report}");
    send_tcp(relay.address("lan", "tcp"), &line("a", "1"));
    assert_eq!(frames(&collector, 1), ["old 1"]);
    relay.stop_clean();
}

#[test]
fn settings_of_an_input_hold_for_new_connections() {
    let collector = Collector::start_plain();
    let of = |input: &str| {
        format!(
            "{}inputs: {{lan: {{listen: 'tcp://127.0.0.1:0'{input}}}}}\nroutes:\n{}",
            sink(&collector),
            route("all", "", "%msg%")
        )
    };
    let mut relay = Relay::start(&of(""));
    let lan = relay.address("lan", "tcp");
    let mut before = connect(lan);
    before.write_all(&line("a", "0")).unwrap();
    frames(&collector, 1);
    reload(&relay, &of(", allow: 192.0.2.0/24"));
    assert_closed(connect(lan));
    before.write_all(&line("a", "1")).unwrap();
    frames(&collector, 2);
    reload(&relay, &of(", max_connections: 1"));
    assert_closed(connect(lan));
    reload(&relay, &of(", max_connections: 2"));
    send_tcp(lan, &line("a", "2"));
    frames(&collector, 3);
    finish(before);
    relay.stop_clean();
}

#[test]
fn a_plain_port_becomes_one_with_tls_and_keeps_its_socket() {
    let (certificates, collector) = (Certificates::new(), Collector::start_plain());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rest = format!("{}routes:\n{}", sink(&collector), route("all", "", "%msg%"));
    let mut relay = Relay::start(&format!("inputs: {{lan: {{listen: 'tcp://{free}'}}}}\n{rest}"));
    let mut plain = connect(free);
    plain.write_all(&line("a", "0")).unwrap();
    frames(&collector, 1);
    // The running process reads in the folders that it was started with.
    for (file, name) in [(&certificates.server.cert, "server.pem"), (&certificates.server.key, "server.key")] {
        std::fs::copy(file, relay.directory().join(name)).unwrap();
    }
    let tls = "tls: {cert: server.pem, key: server.key}";
    reload(&relay, &format!("inputs: {{lan: {{listen: 'tls://{free}', {tls}}}}}\n{rest}"));
    let mut sender = connect_tls(free, certificates.client_config(None)).unwrap();
    sender.write_all(&line("a", "1")).unwrap();
    plain.write_all(&line("a", "2")).unwrap();
    let mut texts = frames(&collector, 3);
    texts.sort();
    assert_eq!(texts, [" 0", " 1", " 2"]);
    assert_eq!(relay.status().input("lan")["listening"][0], format!("tls://{free}"));
    finish_tls(sender);
    finish(plain);
    relay.stop_clean();
}

#[test]
fn another_certificate_is_presented_to_the_next_who_connects() {
    let (certificates, collector) = (Certificates::new(), Collector::start_plain());
    let strange = certificates.issue_strange("strange", &["localhost", "127.0.0.1"]);
    let tls = |pair: &str| {
        format!(
            "inputs: {{lan: {{listen: 'tls://127.0.0.1:0', {pair}}}}}\n{}routes:\n{}",
            sink(&collector),
            route("all", "", "%msg%")
        )
    };
    let strangers = format!("tls: {{cert: {}, key: {}}}", strange.cert.display(), strange.key.display());
    let mut relay = Relay::start(&tls(&strangers));
    let lan = relay.address("lan", "tls");
    assert!(connect_tls(lan, certificates.client_config(None)).is_err());
    let nowhere = "tls: {cert: /nonexistent/cert.pem, key: /nonexistent/key.pem}";
    let report = refused(&relay, &tls(nowhere));
    assert!(report.contains("inputs.lan.tls"), "{report}");
    assert_eq!(reload(&relay, &tls(&format!("tls: {{{}}}", certificates.input_tls()))).lines().count(), 2);
    let mut sender = connect_tls(lan, certificates.client_config(None)).unwrap();
    sender.write_all(&line("a", "1")).unwrap();
    assert_eq!(frames(&collector, 1), [" 1"]);
    finish_tls(sender);
    relay.stop_clean();
}

#[test]
fn the_logs_level_changes() {
    let collector = Collector::start_plain();
    let of = |level: &str| {
        format!("{}{INPUT}log: {{level: {level}}}\nroutes:\n{}", sink(&collector), route("all", "", "%msg%"))
    };
    let mut relay = Relay::start(&of("info"));
    let words = reload(&relay, &of("debug"));
    assert_eq!(words, "configuration 2 runs\nlog.level is debug\n");
    send_tcp(relay.address("lan", "tcp"), &line("a", "1"));
    frames(&collector, 1);
    relay.wait_for_log("connected");
    relay.stop_clean();
    assert!(relay.log_lines().iter().any(|line| line["level"] == "DEBUG"));
}

#[test]
fn a_changed_file_is_read_again_where_the_configuration_says_so() {
    let collector = Collector::start_plain();
    let of = |watch: bool, template: &str| {
        format!("{}{INPUT}watch: {watch}\nroutes:\n{}", sink(&collector), route("all", "", template))
    };
    let mut relay = Relay::start(&of(true, "old%msg%"));
    rewrite(&relay, &of(true, "new%msg%"));
    applied(&relay, 1);
    send_tcp(relay.address("lan", "tcp"), &line("a", "1"));
    assert_eq!(frames(&collector, 1), ["new 1"]);
    rewrite(&relay, "nonsense: true\n");
    relay.wait_for_log("the new configuration is refused");
    rewrite(&relay, &of(false, "last%msg%"));
    applied(&relay, 2);
    assert_eq!(configuration(&relay)["watch"], false);
    relay.stop_clean();
}

/// As a Kubernetes volume has it: a link to a link to a folder, which is led to another one.
#[test]
fn a_secret_that_is_swapped_by_a_symbolic_link_is_read_again() {
    let collector = Collector::start_plain();
    let volume = tempfile::tempdir().unwrap();
    let publish = |version: &str, key: &str| {
        let folder = volume.path().join(version);
        std::fs::create_dir(&folder).unwrap();
        write_private(&folder.join("key"), key);
        symlink(version, volume.path().join("..new")).unwrap();
        std::fs::rename(volume.path().join("..new"), volume.path().join("..data")).unwrap();
    };
    publish("..v1", "firstkey11111111");
    symlink("..data/key", volume.path().join("key")).unwrap();
    let mut relay = Relay::start(&format!(
        "{}{INPUT}watch: true\nroutes: [{{name: all, intake_key_file: {}, output: sink}}]\n",
        sink(&collector),
        volume.path().join("key").display()
    ));
    publish("..v2", "secondkey2222222");
    applied(&relay, 1);
    send_tcp(relay.address("lan", "tcp"), &line("a", "1"));
    let frames = collector.wait_for(1);
    assert!(frames[0].contains("secondkey2222222"), "{frames:?}");
    relay.stop_clean();
}

fn told(socket: &UnixDatagram) -> String {
    let mut octets = [0; 4096];
    let count = socket.recv(&mut octets).expect("a word from the relay in time");
    text(&octets[..count])
}

#[test]
fn a_service_manager_hears_when_a_reload_begins_and_ends() {
    let collector = Collector::start_plain();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let good = format!("{}{INPUT}routes:\n{}", sink(&collector), route("all", "", "%msg%"));
    let relay = Relay::start_as(&good, |program| {
        let mut command = Command::new(program);
        command.env("NOTIFY_SOCKET", &path);
        command
    });
    assert!(told(&manager).starts_with("READY=1\n"));
    // What systemd compares with its own clock.
    let uptime_us = || {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        (uptime.split(' ').next().unwrap().parse::<f64>().unwrap() * 1e6) as u64
    };
    for configuration in [good.as_str(), "nonsense: true\n"] {
        let before_us = uptime_us();
        rewrite(&relay, configuration);
        relay.signal("HUP");
        let mut word = told(&manager);
        while word.starts_with("WATCHDOG=1") {
            word = told(&manager);
        }
        let began_us: u64 = word.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&word).parse().unwrap();
        // Both are of 10 ms at the best; a machine that has slept has two clocks.
        assert!(began_us + 20_000 >= before_us.min(began_us) && began_us > 0, "{began_us} {before_us}");
        assert!(told(&manager).starts_with("READY=1\nSTATUS="));
    }
}

/// A relay's spool, and what it is asked by the command.
fn spool_command(config: &Path, arguments: &[&str]) -> String {
    let mut all = vec!["spool", arguments[0], "-c", config.to_str().unwrap()];
    all.extend(&arguments[1..]);
    let output = forebay(&all);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_route_that_left_keeps_its_backlog_on_the_disk_until_it_is_dropped_also_after_a_restart() {
    let (away, collector) = (Collector::start_plain(), Collector::start_plain());
    away.stop();
    let folder = tempfile::tempdir().unwrap();
    let head = format!(
        "outputs: {{away: {{to: 'tcp://{}'}}, sink: {{to: 'tcp://{}'}}}}\n{INPUT}\
         spool: {{dir: {}, min_free: 0, spill_after: 100ms}}\nroutes:\n",
        away.address,
        collector.address,
        folder.path().join("spool").display()
    );
    let web = "  - {name: web, program: web, template: '<1>web%msg%\\n', output: away}\n";
    let old = "  - {name: old, program: old, template: '<1>old%msg%\\n', output: away}\n";
    let all = route("all", "", "%msg%");
    let mut relay = Relay::start(&format!("{head}{web}{old}{all}"));
    let lan = relay.address("lan", "tcp");
    send_tcp(lan, &[line("web", "0"), line("web", "1"), line("old", "2")].concat());
    relay.status_when("them to be on the disk", |status| {
        count(status.route("web"), "spooled") == 2 && count(status.route("old"), "spooled") == 1
    });
    reload(&relay, &format!("{head}{all}"));
    send_tcp(lan, &line("web", "3"));
    assert_eq!(frames(&collector, 1), [" 3"]);
    let status = relay.status();
    assert_eq!((count(status.route("web"), "spooled"), &status.route("web")["retired"]), (2, &true.into()));
    let config = relay.directory().join("forebay.yaml");
    let words = spool_command(&config, &["drop", "--route", "old", "--yes"]);
    assert!(words.contains("old: dropped 1 messages"), "{words}");
    let status = relay.status_when("it to be gone", |status| count(status.route("old"), "dropped") == 1);
    status.assert_balanced();
    relay.terminate();
    assert_eq!(relay.wait().code(), Some(0));
    // The next run knows the route by what is on the disk.
    let relay = Relay::start(&format!("{head}{all}"));
    let orphans = |status: &Status| status.0["spool"]["orphans"].clone();
    let status = relay.status_when("it to be found", |status| orphans(status)[0]["messages"] == 2);
    assert_eq!((&orphans(&status)[0]["route"], orphans(&status).as_array().unwrap().len()), (&"web".into(), 1));
    // It is given back, and a collector for it: what an earlier run left goes out first.
    away.restart();
    reload(&relay, &format!("{head}{web}{all}"));
    send_tcp(relay.address("lan", "tcp"), &line("web", "4"));
    assert_eq!(frames(&away, 3), ["web 0", "web 1", "web 4"]);
    let status = relay.status_when("all of it to be counted", Status::is_balanced);
    assert_eq!(count(status.route("web"), "recovered"), 2);
    relay.status_when("no orphans", |status| orphans(status).as_array().unwrap().is_empty());
}

#[test]
fn a_route_over_https_that_is_parked_goes_on_with_its_mended_key_and_others_come_beside_it() {
    let certificates = Certificates::new();
    let intake = Intake::start(&certificates, |asked| match asked.key.as_str() {
        "wrongkey11111111" => Answer::status(422),
        _ => Answer::Take,
    });
    let of = |key: &str, more: &str| {
        format!(
            "{INPUT}outputs: {{web: {{{}}}}}\nhttp: {{requests_per_second: 100}}\nroutes:\n{more}  \
             - {{name: all, intake_key: {key}}}\n",
            intake.output(&certificates, "")
        )
    };
    let mut relay = Relay::start(&of("wrongkey11111111", ""));
    let lan = relay.address("lan", "tcp");
    send_tcp(lan, &line("a", "1"));
    relay.status_when("the route to be parked", |status| !status.route("all")["parked"].is_null());
    // Minutes before it would have been tried again.
    let more = "  - {name: new, program: new, intake_key: newkey3333333333}\n";
    let words = reload(&relay, &of("goodkey222222222", more));
    assert_eq!(words, "configuration 2 runs\nroute new added\nroute all changed: intake key\n");
    assert_eq!(intake.wait_for("goodkey222222222", 1), [" 1"]);
    send_tcp(lan, &line("new", "2"));
    assert_eq!(intake.wait_for("newkey3333333333", 1), [" 2"]);
    reload(&relay, &of("goodkey222222222", ""));
    send_tcp(lan, &line("new", "3"));
    assert_eq!(intake.wait_for("goodkey222222222", 2), [" 1", " 3"]);
    let status = relay.status_when("all to be released", |status| count(status.route("all"), "released") == 2);
    status.assert_balanced();
    relay.stop_clean();
}

/// Reads what a tap shows, until `part` is in it.
fn tap_until(stream: &mut TcpStream, part: &str) -> String {
    let mut seen = String::new();
    let mut octets = [0; 4096];
    while !seen.contains(part) {
        let count = stream.read(&mut octets).expect("more of the tap");
        assert!(count > 0, "the tap ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&octets[..count]));
    }
    seen
}

#[test]
fn a_tap_that_is_open_shows_what_is_sent_by_the_new_template() {
    let collector = Collector::start_plain();
    let of = |template: &str| format!("{}{INPUT}routes:\n{}", sink(&collector), route("all", "", template));
    let relay = Relay::start(&of("old%msg%"));
    let mut tap = connect(relay.admin());
    tap.write_all(b"GET /tap HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    relay.status_when("the tap to be open", |status| status.0["taps"] == 1);
    let lan = relay.address("lan", "tcp");
    send_tcp(lan, &line("a", "1"));
    tap_until(&mut tap, "old 1");
    reload(&relay, &of("new%msg%"));
    send_tcp(lan, &line("a", "2"));
    tap_until(&mut tap, "new 2");
}

#[path = "reload/under_load.rs"]
mod under_load;
