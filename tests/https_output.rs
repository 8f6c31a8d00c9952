//! Out over HTTPS, to an intake that behaves as Sekoia documents: what it takes, refuses, and answers late or never. Each
//! event arrives, or is counted in exactly one place.
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
use std::time::{Duration, Instant};

use support::certificates::Certificates;
use support::intake::{Answer, Asked, Intake, Proxy};
use support::relay::{Relay, count};
use support::senders::{connect, finish, send_tcp, send_udp};
use support::waiting::{eventually, pause};

const INPUT: &str = "inputs: {lan: {listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0']}}\n";

/// Takes what program `good` and `bad` send, each with a key of its own; without a limit that tests would wait for.
const ROUTES: &str = "http: {requests_per_second: 100}
routes:
  - {name: good, program: good, intake_key: keyofgood0123456789}
  - {name: bad, program: bad, intake_key: keyofbad9876543210x}
";

const GOOD: &str = "keyofgood0123456789";
const BAD: &str = "keyofbad9876543210x";

fn start(intake: &Intake, certificates: &Certificates, more: &str) -> Relay {
    Relay::start(&format!("{INPUT}outputs:\n  web: {{{}}}\n{ROUTES}", intake.output(certificates, more)))
}

fn lines(program: &str, numbers: std::ops::Range<u64>) -> String {
    numbers.map(|number| format!("<134>Nov 22 10:00:00 gate {program}[7]: n={number} the gate opens\n")).collect()
}

/// What `%msg%` makes of them.
fn events(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|number| format!(" n={number} the gate opens")).collect()
}

fn of_route(relay: &Relay, route: &str, name: &str) -> u64 {
    count(relay.status().route(route), name)
}

#[track_caller]
fn wait_for_route(relay: &Relay, route: &str, name: &str, value: u64) {
    let status = relay.status_when(&format!("{value} {name} of {route}"), |status| {
        count(status.route(route), name) == value && status.is_balanced()
    });
    status.assert_balanced();
}

fn dropped(relay: &Relay, route: &str, reason: &str) -> u64 {
    relay.metric("forebay_route_dropped_messages_total", &format!("route=\"{route}\",reason=\"{reason}\""))
}

fn requests(relay: &Relay, class: &str) -> u64 {
    relay.metric("forebay_http_requests_total", &format!("status=\"{class}\""))
}

fn assert_no_key(relay: &Relay) {
    let text = format!("{}{}{}", relay.log_text(), relay.metrics(), relay.status().0);
    assert!(!text.contains(GOOD) && !text.contains(BAD), "{text}");
}

#[test]
fn events_arrive_in_order_compressed_and_under_the_key_of_their_route() {
    let certificates = Certificates::new();
    let intake = Intake::start(&certificates, |_| Answer::Take);
    let mut relay = start(&intake, &certificates, "");
    send_tcp(relay.address("lan", "tcp"), (lines("good", 0..2_000) + &lines("bad", 0..10)).as_bytes());
    assert_eq!(intake.wait_for(GOOD, 2_000), events(0..2_000));
    assert_eq!(intake.wait_for(BAD, 10), events(0..10));
    wait_for_route(&relay, "good", "released", 2_000);
    for asked in intake.look(|seen| seen.asked.clone()) {
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/plain/batch"));
        assert_eq!(asked.headers["content-encoding"], "gzip");
        assert_eq!(asked.headers["content-type"], "text/plain");
        assert_eq!(asked.headers["host"], intake.address.to_string());
        assert!(asked.headers["user-agent"].starts_with("forebay/"));
        let plain: usize = asked.events.iter().map(|event| event.len() + 1).sum();
        assert!(asked.events.len() < 100 || asked.octets * 4 < plain, "{} of {plain}", asked.octets);
    }
    // A batch, not a request a message; one connection for all of a lane's.
    assert!(intake.look(|seen| seen.asked.len()) < 30);
    assert_eq!(requests(&relay, "2xx"), intake.look(|seen| seen.asked.len()) as u64);
    assert_no_key(&relay);
    relay.stop_clean();
    assert!(intake.look(|seen| seen.accepted) <= 4);
}

#[test]
fn a_connection_is_kept_for_the_next_request_and_closed_when_idle() {
    let intake = Intake::start_plain(|_| Answer::Take);
    let relay = start(&intake, &Certificates::new(), "idle_timeout: 1s");
    let mut sender = connect(relay.address("lan", "tcp"));
    for number in 0..3 {
        std::io::Write::write_all(&mut sender, lines("good", number..number + 1).as_bytes()).unwrap();
        intake.wait_for(GOOD, number as usize + 1);
    }
    assert_eq!(intake.look(|seen| (seen.accepted, seen.asked[0].path.clone())), (1, "/base/plain/batch".to_owned()));
    relay.status_when("the connection to be closed", |status| count(status.output("web"), "connections") == 0);
    assert_eq!(count(relay.status().output("web"), "broken_connections"), 0);
    finish(sender);
}

#[test]
fn what_has_no_text_is_counted_and_what_has_line_ends_stays_one_event() {
    let intake = Intake::start_plain(|_| Answer::Take);
    let routes = "http: {requests_per_second: 100}\nroutes: [{name: good, intake_key: keyofgood0123456789, \
                  http_template: '%msg%\\n'}]\n";
    let relay = Relay::start(&format!("{INPUT}outputs: {{web: {{to: 'http://{}'}}}}\n{routes}", intake.address));
    send_udp(
        relay.address("lan", "udp"),
        &["<13>Nov 22 10:00:00 gate x: a\nb", "<13>Nov 22 10:00:00 gate x:", "<13>Nov 22 10:00:00 gate x: c\n"],
    );
    let mut taken = intake.wait_for(GOOD, 2);
    taken.sort();
    assert_eq!(taken, [" a#012b", " c"]);
    wait_for_route(&relay, "good", "dropped", 1);
    assert_eq!((dropped(&relay, "good", "empty"), of_route(&relay, "good", "released")), (1, 2));
}

#[test]
fn an_event_that_sekoia_would_refuse_is_cut() {
    let intake = Intake::start_plain(|_| Answer::Take);
    let relay = start(&intake, &Certificates::new(), "max_body: 300KiB");
    let long = |letter: &str| format!("<134>Nov 22 10:00:00 gate good[7]: {}\n", letter.repeat(252_000));
    send_tcp(relay.address("lan", "tcp"), (long("x") + &long("y") + &lines("good", 0..1)).as_bytes());
    let taken = intake.wait_for(GOOD, 3);
    assert_eq!(taken.iter().map(String::len).collect::<Vec<_>>(), [250_000, 250_000, 19]);
    assert_eq!(relay.metric("forebay_route_cut_messages_total", "route=\"good\""), 2);
    assert!(intake.look(|seen| seen.asked.len()) >= 2, "no body is larger than max_body");
}

#[test]
fn a_bad_key_parks_its_route_and_no_other() {
    let certificates = Certificates::new();
    let bad = |asked: &Asked| if asked.key == BAD { Answer::status(422) } else { Answer::Take };
    let intake = Intake::start(&certificates, bad);
    let relay = start(&intake, &certificates, "");
    send_tcp(relay.address("lan", "tcp"), lines("bad", 0..100).as_bytes());
    let line = relay.wait_for_log("the intake refuses this route's intake key");
    assert_eq!((line["level"].as_str(), line["route"].as_str()), (Some("ERROR"), Some("bad")));
    assert_eq!(relay.metric("forebay_route_parked", "route=\"bad\""), 1);
    let began = Instant::now();
    send_tcp(relay.address("lan", "tcp"), (lines("bad", 100..200) + &lines("good", 0..500)).as_bytes());
    assert_eq!(intake.wait_for(GOOD, 500), events(0..500));
    assert!(began.elapsed() < Duration::from_secs(10), "the other route waits: {:?}", began.elapsed());
    wait_for_route(&relay, "good", "released", 500);
    wait_for_route(&relay, "bad", "waiting", 200);
    let status = relay.status();
    let parked = &status.route("bad")["parked"];
    assert_eq!(parked["why"], "422");
    assert!((1..=330).contains(&parked["tried_again_in_seconds"].as_u64().unwrap()), "{parked}");
    assert_eq!(status.route("good")["parked"], serde_json::Value::Null);
    // Both shards may have had one under way.
    let asked = intake.look(|seen| seen.asked.iter().filter(|asked| asked.key == BAD).count());
    assert!(asked <= 2, "a parked route sends nothing: {asked}");
    assert_eq!(relay.metric("forebay_route_parked", "route=\"good\""), 0);
    assert_no_key(&relay);
}

#[test]
fn a_batch_that_is_too_large_is_halved_until_it_fits() {
    let too_large = |asked: &Asked| {
        let is_too_large = asked.events.len() > 300 || asked.events.iter().any(|event| event.contains("n=77 "));
        if is_too_large { Answer::status(413) } else { Answer::Take }
    };
    let intake = Intake::start_plain(too_large);
    let relay = start(&intake, &Certificates::new(), "");
    // Two errors make a pause of half a minute: one event that is refused alone, in a batch of two.
    send_tcp(relay.address("lan", "tcp"), lines("good", 77..78).as_bytes());
    wait_for_route(&relay, "good", "dropped", 1);
    assert_eq!(dropped(&relay, "good", "refused"), 1);
    pause(Duration::from_secs(10));
    send_tcp(relay.address("lan", "tcp"), lines("good", 100..650).as_bytes());
    let taken = intake.wait_for(GOOD, 550);
    assert_eq!(taken, events(100..650));
    wait_for_route(&relay, "good", "released", 550);
    assert_eq!((of_route(&relay, "good", "resent"), requests(&relay, "4xx")), (0, 2));
}

#[test]
fn an_intake_that_is_busy_is_left_alone_for_as_long_as_it_asks() {
    let busy = |asked: &Asked| match asked.number {
        0 => Answer::Say(429, Some(("retry-after", "2".to_owned())), "slow down\r\n".to_owned()),
        _ => Answer::Take,
    };
    let intake = Intake::start_plain(busy);
    let relay = start(&intake, &Certificates::new(), "");
    send_tcp(relay.address("lan", "tcp"), lines("good", 0..300).as_bytes());
    assert_eq!(intake.wait_for(GOOD, 300), events(0..300));
    let asked = intake.wait_for_requests(2);
    assert!(asked[1].at - asked[0].at >= Duration::from_secs(2), "{:?}", asked[1].at - asked[0].at);
    wait_for_route(&relay, "good", "released", 300);
    relay.wait_for_log("429 slow down");
    assert_eq!(of_route(&relay, "good", "resent"), 0, "it said that it took nothing");
}

#[test]
fn an_intake_that_fails_keeps_nothing_from_being_counted() {
    let intake = Intake::start_plain(|_| Answer::Say(503, None, "<html>\x1b[31m down</html>".to_owned()));
    let mut relay = Relay::start(&format!(
        "shutdown_timeout: 2s\n{INPUT}outputs: {{web: {{to: 'http://{}'}}}}\n{ROUTES}",
        intake.address
    ));
    send_tcp(relay.address("lan", "tcp"), (lines("good", 0..40) + &lines("bad", 0..2)).as_bytes());
    relay.wait_for_log("503 <html>[31m down</html>");
    relay.wait_for_log("two HTTPS requests have failed within ten seconds");
    wait_for_route(&relay, "good", "waiting", 40);
    assert_eq!(relay.metric_alone("forebay_http_paused"), 1);
    assert_eq!((requests(&relay, "5xx"), of_route(&relay, "good", "released")), (2, 0));
    assert!(relay.status().0["http"]["paused_for_seconds"].as_u64().unwrap() <= 38);
    relay.terminate();
    assert_eq!(relay.wait().code(), Some(1), "they could not be delivered, and that is said");
    relay.wait_for_log("shutdown_timeout ended before these messages could be delivered");
}

#[test]
fn a_request_that_meets_a_reset_or_no_answer_is_sent_again() {
    let broken = |asked: &Asked| match asked.number {
        0 => Answer::Reset,
        1 => Answer::Say(200, None, "not json".to_owned()),
        _ => Answer::Take,
    };
    let intake = Intake::start_plain(broken);
    let relay = start(&intake, &Certificates::new(), "");
    send_tcp(relay.address("lan", "tcp"), lines("good", 0..50).as_bytes());
    wait_for_route(&relay, "good", "released", 50);
    let asked = intake.wait_for_requests(2);
    assert_eq!(asked[0].events[0], asked[1].events[0]);
    assert_eq!(of_route(&relay, "good", "resent"), asked[0].events.len() as u64);
    assert_eq!(
        (requests(&relay, "none"), requests(&relay, "2xx")),
        (1, intake.look(|seen| seen.asked.len()) as u64 - 1)
    );
}

#[test]
fn an_answer_that_does_not_come_in_time_is_given_up() {
    let slow = |_: &Asked| Answer::Late(Duration::from_secs(20));
    let intake = Intake::start_plain(slow);
    let relay = start(&intake, &Certificates::new(), "request_timeout: 1s");
    send_tcp(relay.address("lan", "tcp"), lines("good", 0..5).as_bytes());
    relay.wait_for_log("no answer in time (request_timeout)");
    wait_for_route(&relay, "good", "waiting", 5);
    assert_eq!((requests(&relay, "none"), of_route(&relay, "good", "resent")), (1, 5));
}

#[test]
fn a_request_that_stalls_is_given_up() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // Little is on the way when it stops: the rest of a request stays with the relay.
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // More than the kernel holds: 4 MiB at most.
    let relay = Relay::start(&format!(
        "memory: {{max: 256MiB}}\n{INPUT}outputs: {{web: {{to: 'http://{}', stall_timeout: 1s, request_timeout: 1h}}}}\n{ROUTES}",
        address
    ));
    let noise = || std::iter::repeat_with(fastrand::alphanumeric).take(1_000).collect::<String>();
    let lines: String = (0..10_000).map(|_| format!("<134>Nov 22 10:00:00 gate good: {}\n", noise())).collect();
    send_tcp(relay.address("lan", "tcp"), lines.as_bytes());
    relay.status_when("all to wait", |status| count(status.route("good"), "waiting") == 10_000);
    socket.listen(16).unwrap();
    relay.wait_for_log("the peer takes nothing any more (stall_timeout)");
    assert!(of_route(&relay, "good", "resent") > 0);
    drop(socket);
    relay.status_when("all to be there again", |status| {
        count(status.route("good"), "waiting") == 10_000 && status.is_balanced()
    });
}

#[test]
fn events_that_are_refused_one_by_one_are_counted_and_the_rest_released() {
    let some = |asked: &Asked| {
        let statuses: Vec<_> = (0..asked.events.len())
            .map(|place| serde_json::json!({ "status": if place == 1 { 413 } else { 200 } }))
            .collect();
        Answer::Some(|place| place != 1, serde_json::json!({ "events": statuses }).to_string())
    };
    let intake = Intake::start_plain(some);
    let relay = start(&intake, &Certificates::new(), "");
    send_tcp(relay.address("lan", "tcp"), lines("good", 0..10).as_bytes());
    wait_for_route(&relay, "good", "dropped", 1);
    assert_eq!((dropped(&relay, "good", "refused"), of_route(&relay, "good", "released")), (1, 9));
    let taken: BTreeSet<String> = intake.wait_for(GOOD, 9).into_iter().collect();
    let expected = events(0..1).into_iter().chain(events(2..10)).collect();
    assert_eq!(taken, expected);
}

#[test]
fn ids_that_are_fewer_than_the_events_are_told_of_and_counted() {
    let short =
        |_: &Asked| Answer::Some(|place| place < 7, r#"{"event_ids":["1","2","3","4","5","6","7"]}"#.to_owned());
    let intake = Intake::start_plain(short);
    let relay = start(&intake, &Certificates::new(), "");
    send_tcp(relay.address("lan", "tcp"), lines("good", 0..10).as_bytes());
    wait_for_route(&relay, "good", "dropped", 3);
    assert_eq!((dropped(&relay, "good", "refused"), of_route(&relay, "good", "released")), (3, 7));
    assert_eq!(relay.metric_alone("forebay_http_miscounted_requests_total"), 1);
    relay.wait_for_log("10 events were sent, and the answer has 7 event_ids");
}

#[test]
fn no_second_sees_more_requests_than_the_limit() {
    let intake = Intake::start_plain(|_| Answer::Take);
    let routes: String = (0..8)
        .map(|route| format!("  - {{name: r{route}, program: p{route}, intake_key: keyofroute000000{route}}}\n"))
        .collect();
    let relay = Relay::start(&format!(
        "{INPUT}outputs: {{web: {{to: 'http://{}'}}}}\nhttp: {{requests_per_second: 5}}\nroutes:\n{routes}",
        intake.address
    ));
    let mut sender = connect(relay.address("lan", "tcp"));
    let (began, mut number) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(6) {
        let burst: String = (0..8).map(|route| lines(&format!("p{route}"), number..number + 1)).collect();
        std::io::Write::write_all(&mut sender, burst.as_bytes()).unwrap();
        number += 1;
        pause(Duration::from_millis(50));
    }
    finish(sender);
    for route in 0..8 {
        assert_eq!(intake.wait_for(&format!("keyofroute000000{route}"), number as usize), events(0..number));
    }
    let times: Vec<Instant> = intake.look(|seen| seen.asked.iter().map(|asked| asked.at).collect());
    assert!(times.len() > 20, "{} requests", times.len());
    // They leave evenly spaced; on a busy machine one may be seen late, and the next at once. Six a second are told apart.
    for window in times.windows(21) {
        let taken = *window.last().unwrap() - window[0];
        assert!(taken > Duration::from_millis(3_500), "twenty more in {taken:?}");
    }
    assert!(relay.metric_alone("forebay_http_held_up_requests_total") > 0);
}

#[test]
fn a_proxy_leads_to_the_intake_and_never_sees_a_key() {
    let certificates = Certificates::new();
    let intake = Intake::start(&certificates, |_| Answer::Take);
    let proxy = Proxy::start();
    let mut relay = start(&intake, &certificates, &format!("proxy: 'http://{}'", proxy.address));
    send_tcp(relay.address("lan", "tcp"), lines("good", 0..20).as_bytes());
    assert_eq!(intake.wait_for(GOOD, 20), events(0..20));
    let heads = proxy.heads();
    assert_eq!(heads[0], format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", intake.address));
    relay.stop_clean();
}

#[test]
fn the_environment_names_the_proxy_and_what_lets_us_through_it() {
    let certificates = Certificates::new();
    let intake = Intake::start(&certificates, |_| Answer::Take);
    let proxy = Proxy::start();
    let configuration = format!("{INPUT}outputs:\n  web: {{{}}}\n{ROUTES}", intake.output(&certificates, ""));
    let with = |variables: &[(&str, String)]| {
        Relay::start_as(&configuration, |program| {
            let mut command = std::process::Command::new(program);
            command.envs(variables.iter().map(|(name, value)| (*name, value.as_str())));
            command
        })
    };
    let url = format!("http://me:sesame@{}", proxy.address);
    let relay = with(&[("HTTPS_PROXY", url.clone()), ("NO_PROXY", String::new())]);
    send_tcp(relay.address("lan", "tcp"), lines("good", 0..20).as_bytes());
    intake.wait_for(GOOD, 20);
    assert!(proxy.heads()[0].contains("\r\nProxy-Authorization: Basic bWU6c2VzYW1l\r\n"), "{:?}", proxy.heads());
    assert!(!relay.log_text().contains("sesame") && !relay.log_text().contains("bWU6c2VzYW1l"));
    let through = proxy.heads().len();
    let relay = with(&[("https_proxy", url), ("NO_PROXY", "127.0.0.0/8".to_owned())]);
    send_tcp(relay.address("lan", "tcp"), lines("bad", 0..20).as_bytes());
    intake.wait_for(BAD, 20);
    assert_eq!(proxy.heads().len(), through);
}

#[test]
fn what_an_outage_left_on_the_disk_arrives_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let down = |asked: &Asked| match asked.number {
        0 => Answer::Say(503, Some(("retry-after", "3".to_owned())), String::new()),
        _ => Answer::Take,
    };
    let intake = Intake::start_plain(down);
    let spool =
        format!("spool: {{dir: {}, max_size: 256MiB, min_free: 0, spill_after: 100ms}}\n", directory.path().display());
    let mut relay =
        Relay::start(&format!("{spool}{INPUT}outputs: {{web: {{to: 'http://{}'}}}}\n{ROUTES}", intake.address));
    let mut sender = connect(relay.address("lan", "tcp"));
    std::io::Write::write_all(&mut sender, lines("good", 0..20_000).as_bytes()).unwrap();
    relay.status_when("some of it to be on the disk", |status| count(status.route("good"), "spooled") > 0);
    std::io::Write::write_all(&mut sender, lines("good", 20_000..30_000).as_bytes()).unwrap();
    finish(sender);
    assert_eq!(intake.wait_for(GOOD, 30_000), events(0..30_000));
    eventually("all to be released", || {
        let status = relay.status();
        let released = count(status.route("good"), "released");
        if released == 30_000 && status.is_balanced() { Ok(()) } else { Err(format!("{released}")) }
    });
    relay.stop_clean();
}

/// Processor time of the relay alone: HTTPS with gzip beside plain TLS, from the same messages.
/// `cargo test --release --test https_output what_a_message_costs -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, for a machine that does nothing else"]
fn what_a_message_costs_over_https_and_over_tls() {
    const MESSAGES: u64 = 600_000;
    let certificates = Certificates::new();
    let octets: Vec<u8> = (0..MESSAGES)
        .flat_map(|number| {
            let port = 1_024 + number * 7_919 % 60_000;
            format!(
                "<134>Nov 22 10:00:00 gate good[7]: n={number} query from 10.{}.{}.{}#{port}: host{}.example.net IN A +E(0)K answered in {} us\n",
                number % 7, number % 251, number % 13, number * 31 % 9_973, number * 17 % 2_003
            )
            .into_bytes()
        })
        .collect();
    for round in 0..3 {
        let intake = Intake::start(&certificates, |_| Answer::Take);
        let relay = start(&intake, &certificates, "");
        let begun = relay.cpu();
        send_tcp(relay.address("lan", "tcp"), &octets);
        wait_for_route(&relay, "good", "released", MESSAGES);
        let https = relay.cpu() - begun;
        let written = relay.metric("forebay_output_written_bytes_total", "output=\"web\"");
        let plain = relay.metric_alone("forebay_http_plain_bytes_total");
        let requests = intake.look(|seen| seen.asked.len());
        let collector = support::collector::Collector::start(&certificates);
        let output = collector.output(&certificates, "replay_window: 0");
        let relay = Relay::start(&format!("{INPUT}outputs:\n  tls: {{{output}}}\n{ROUTES}"));
        let begun = relay.cpu();
        send_tcp(relay.address("lan", "tcp"), &octets);
        wait_for_route(&relay, "good", "released", MESSAGES);
        let tls = relay.cpu() - begun;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / MESSAGES as f64;
        println!(
            "{round}: HTTPS {:.2} us a message ({requests} requests, {plain} octets to {written}), TLS {:.2} us",
            each(https),
            each(tls)
        );
    }
}
