//! What outputs and RELP inputs become.

use std::net::IpAddr;

use forebay::config::{
    Acknowledge, FileOutput, Http, Mode, Order, Output, OutputFraming, Protocol, Proxy, Rotate, Target,
};
use forebay::template::Template;

use super::*;

/// The only output of a configuration with a spool.
fn output(keys: &str) -> Output {
    let text = format!(
        "inputs: {{lan: {{listen: 'udp://127.0.0.1:0'}}}}
outputs: {{out: {{{keys}}}}}
routes: [{{intake_key: abcdefgh12345678}}]
spool: {{dir: /var/lib/forebay}}
cores: 2
"
    );
    let loaded = load_with(&text, &[]).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.warnings, []);
    loaded.config.outputs.into_iter().next().expect("an output")
}

fn target(host: &str, port: u16, path: &str) -> Target {
    Target { host: host.to_owned(), port, path: path.to_owned() }
}

#[test]
fn a_region_has_a_place_for_each_protocol() {
    let rows = [
        ("region: fra1", "syslog", target("intake.sekoia.io", 10514, "")),
        ("region: sgp1, protocol: syslog", "syslog", target("intake.sgp1.sekoia.io", 10514, "")),
        ("region: fra1, protocol: relp", "relp", target("intake.sekoia.io", 11514, "")),
        ("region: usa1, protocol: relp", "relp", target("intake.usa1.sekoia.io", 11514, "")),
        ("region: fra1, protocol: https", "https", target("intake.sekoia.io", 443, "")),
        ("region: fra2, protocol: https", "https", target("intake.fra2.sekoia.io", 443, "/api/v1/intake-http")),
        ("region: sgp1, protocol: https", "https", target("intake.sgp1.sekoia.io", 443, "/api/v1/intake-http")),
    ];
    for (keys, name, expected) in rows {
        let output = output(keys);
        assert_eq!((output.protocol.name(), output.targets.as_slice()), (name, [expected].as_slice()), "{keys}");
        assert_eq!(output.tls.as_ref().map(|tls| tls.server_name.clone()), Some(None), "{keys}");
        assert_eq!(output.server_name(&output.targets[0]), output.targets[0].host);
    }
}

#[test]
fn an_output_has_defaults_for_everything_but_its_place() {
    let syslog = output("to: 'tcp://[::1]:601'");
    assert_eq!(
        (syslog.protocol.clone(), syslog.replay_window, syslog.tls.is_some()),
        (Protocol::Syslog(OutputFraming::Octet), 4 << 20, false)
    );
    assert_eq!((syslog.mode, syslog.prefer_after), (Mode::Failover, Duration::from_secs(30)));
    assert_eq!((syslog.order, syslog.stall_timeout), (Order::OldestFirst, Duration::from_secs(30)));
    assert_eq!((syslog.address(), syslog.fallback_addresses.len()), ("[::1]:601".to_owned(), 0));
    let relp = output("to: 'relp+tls://relp.example:11514'");
    assert_eq!((relp.protocol, relp.replay_window, relp.tls.is_some()), (Protocol::Relp { window: 512 }, 0, true));
    let web = output("to: 'http://127.0.0.1'");
    let http = Http { proxy: Proxy::FromEnvironment, max_body: 9_000_000, request_timeout: Duration::from_secs(30) };
    assert_eq!((web.protocol, web.replay_window, web.tls.is_some()), (Protocol::Https(http), 0, false));
    assert_eq!((syslog.idle_timeout, web.idle_timeout), (None, Some(Duration::from_secs(60))));
    assert_eq!(output("to: 'http://127.0.0.1', idle_timeout: off").idle_timeout, None);
    let file = output("to: 'file:///var/log/out.log'");
    let rotate = Rotate { size: Some(100 << 20), age: None, keep: 7, compress: true };
    let expected = FileOutput { path: PathBuf::from("/var/log/out.log"), rotate, reveal_keys: false };
    assert_eq!((file.address(), file.connections_per_shard), ("/var/log/out.log".to_owned(), 1));
    assert_eq!((file.protocol, file.targets), (Protocol::File(expected), Vec::new()));
}

#[test]
fn lines_and_datagrams_are_asked_for_and_told_of() {
    let lines = output("to: 'tcp://[::1]:514', framing: lf");
    assert_eq!(lines.protocol, Protocol::Syslog(OutputFraming::Lf));
    assert_eq!(output("region: fra1, framing: octet").protocol, Protocol::Syslog(OutputFraming::Octet));
    let datagrams = output("to: [udp://relay.example:514, udp://10.0.0.1:514], stall_timeout: 1s, mode: balance");
    assert_eq!((datagrams.protocol.clone(), datagrams.replay_window), (Protocol::Udp, 0));
    assert_eq!((datagrams.address().as_str(), datagrams.tls.is_some()), ("relay.example:514, 10.0.0.1:514", false));
    assert_eq!(datagrams.connections_per_shard, 1);
    let text = |to: &str| {
        format!(
            "inputs: {{lan: {{listen: 'udp://127.0.0.1:0'}}}}\noutputs: {{out: {{to: 'udp://{to}:514'}}}}\n\
             routes: [{{intake_key: abcdefgh12345678}}]\n"
        )
    };
    for (to, warned) in [
        ("10.1.2.3", false),
        ("192.168.1.1", false),
        ("[fd00::1]", false),
        ("[fe80::1]", false),
        ("127.0.0.1", false),
        ("relay.example", false),
        ("203.0.113.7", true),
        ("[2001:db8::1]", true),
        ("intake.sekoia.io", true),
    ] {
        let loaded = load_with(&text(to), &[]).unwrap_or_else(|report| panic!("{report}"));
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        let expected = format!(
            "forebay.yaml:2:21: outputs.out.to: udp://{to}:514 is outside of private networks: datagrams are neither \
             encrypted nor acknowledged"
        );
        assert_eq!(warnings, if warned { vec![expected] } else { Vec::new() }, "{to}");
        assert!(
            loaded.config.summary().contains(&format!("udp://{to}:514; a datagram each, which nobody acknowledges\n"))
        );
    }
}

#[test]
fn what_is_given_for_an_output_is_what_it_has() {
    let many = output(
        "to: [tls://a.example:6514, 'tls://[2001:db8::2]:6514'], mode: balance, tls: {server_name: c.example}, \
         fallback_addresses: [192.0.2.1, '2001:db8::1'], stall_timeout: 5s, order: newest_first, backlog_share: 80",
    );
    assert_eq!((many.mode, many.order), (Mode::Balance, Order::NewestFirst { backlog_share: 80 }));
    assert_eq!(many.address(), "a.example:6514, [2001:db8::2]:6514");
    assert_eq!(many.fallback_addresses, ["192.0.2.1", "2001:db8::1"].map(|each| each.parse::<IpAddr>().expect("one")));
    assert_eq!(many.stall_timeout, Duration::from_secs(5));
    assert_eq!(many.server_name(&many.targets[1]), "c.example");
    let failover = output("to: [tcp://a.example:1, tcp://b.example:1], prefer_after: 2m, order: newest_first");
    assert_eq!((failover.mode, failover.prefer_after), (Mode::Failover, Duration::from_secs(120)));
    assert_eq!(failover.order, Order::NewestFirst { backlog_share: 50 });
    assert_eq!(output("to: 'relp+tcp://a:1', relp_window: 1").protocol, Protocol::Relp { window: 1 });
    for (given, proxy) in
        [("off", Proxy::Off), ("'http://proxy.example:3128'", Proxy::Url("proxy.example".into(), 3128))]
    {
        let web = output(&format!("to: 'https://a.example/b', proxy: {given}, max_body: 64KiB, request_timeout: 1m"));
        let http = Http { proxy, max_body: 64 << 10, request_timeout: Duration::from_secs(60) };
        assert_eq!((web.protocol, web.targets), (Protocol::Https(http), vec![target("a.example", 443, "/b")]));
    }
    let file = output("to: 'file:///a', rotate: {size: off, age: 1d, keep: 0, compress: false}, reveal_keys: true");
    let Protocol::File(file) = file.protocol else { panic!("no file") };
    let age = Some(Duration::from_secs(86_400));
    assert_eq!((file.rotate, file.reveal_keys), (Rotate { size: None, age, keep: 0, compress: false }, true));
}

#[test]
fn a_relp_input_acknowledges_what_is_spooled_where_there_is_a_spool() {
    let rows = [
        ("", "", Acknowledge::Released),
        ("", "spool: {dir: /var/lib/forebay}", Acknowledge::Spooled),
        (", acknowledge: received", "", Acknowledge::Received),
        (", acknowledge: spooled", "spool: {dir: /var/lib/forebay}", Acknowledge::Spooled),
        (", acknowledge: released", "spool: {dir: /var/lib/forebay}", Acknowledge::Released),
    ];
    for (key, spool, expected) in rows {
        let text = format!(
            "inputs: {{relay: {{listen: 'relp+tcp://127.0.0.1:2514'{key}}}}}
outputs: {{out: {{region: fra1}}}}
routes: [{{intake_key: abcdefgh12345678}}]
{spool}
"
        );
        let loaded = load_with(&text, &[]).unwrap_or_else(|report| panic!("{report}"));
        let input = &loaded.config.inputs[0];
        assert_eq!(input.listen, [Listen::Relp("127.0.0.1:2514".parse().expect("an address"))]);
        assert_eq!(input.acknowledge, expected, "{key} {spool}");
        let is_late = |warning: &forebay::config::Mistake| {
            warning.path == "inputs.relay.acknowledge" && warning.message.contains("up to 30 s after it was sent")
        };
        // Syslog to Sekoia has a replay window.
        let late = loaded.warnings.iter().filter(|warning| is_late(warning)).count();
        assert_eq!(late, usize::from(expected == Acknowledge::Released), "{key} {spool}: {:?}", loaded.warnings);
    }
}

#[test]
fn https_has_a_connection_for_each_route() {
    let text = "\
inputs: {lan: {listen: 'udp://127.0.0.1:0'}}
outputs: {web: {to: https://a.example}, lone: {to: http://b.example}, log: {to: 'tcp://c.example:1', connections: 4}}
routes:
  - {program: a, intake_key: abcdefgh12345678, output: web, continue: true}
  - {program: b, intake_key: abcdefgh12345678, output: log}
  - {program: c, intake_key: abcdefgh12345678, output: web}
  - {program: d, discard: true}
cores: 2
";
    let loaded = load_with(text, &[]).unwrap_or_else(|report| panic!("{report}"));
    let connections: Vec<usize> = loaded.config.outputs.iter().map(|output| output.connections_per_shard).collect();
    assert_eq!(connections, [2, 1, 2]);
    let report = load_with(&text.replace("b.example}", "b.example, connections: 2}"), &[]).unwrap_err().to_string();
    let expected = "outputs.lone.connections: given, but with HTTPS each route has a connection of its own, a shard";
    assert!(report.ends_with(expected), "{report}");
}

#[test]
fn a_route_to_https_has_a_template_of_its_own_and_always_a_key() {
    let load = |keys: &str| {
        let text = format!(
            "inputs: {{lan: {{listen: 'udp://127.0.0.1:0'}}}}
outputs: {{web: {{region: fra1, protocol: https}}}}
routes: [{{intake_key: abcdefgh12345678{keys}}}]
http: {{requests_per_second: 100}}
"
        );
        load_with(&text, &[]).unwrap_or_else(|report| panic!("{report}"))
    };
    for (keys, expected) in [("", Template::MESSAGE), (", http_template: '%rawmsg%'", "%rawmsg%")] {
        let loaded = load(keys);
        assert_eq!((loaded.warnings, loaded.config.http.requests_per_second), (Vec::new(), 100));
        let Action::Forward { template, intake_key, .. } = &loaded.config.routes[0].action else { panic!("discards") };
        assert!(intake_key.is_some());
        let expected = Template::compile(expected).expect("a template");
        assert_eq!(format!("{template:?}"), format!("{expected:?}"));
    }
    let warnings: Vec<String> =
        load(", http_template: '%intake_key% %msg%'").warnings.iter().map(ToString::to_string).collect();
    let expected = "forebay.yaml:3:56: routes[0].http_template: prints %intake_key%, which HTTPS carries in a header: it \
                    would stand in each event";
    assert_eq!(warnings, [expected]);
}

#[test]
fn a_template_that_breaks_lines_is_warned_of_where_lines_are_sent() {
    let rows = [
        (r"%msg%\n", "lf", false),
        ("%msg%", "lf", false),
        (r"%pri%\n%msg%", "lf", true),
        (r"\n%msg%", "lf", true),
        (r"%msg%\n\n", "lf", true),
        (r"%msg%\n%procid%", "lf", true),
        (r"%pri%\n%msg%", "octet", false),
        // Of which only the LF that the reader typed is one.
        (r"%msg% \\n %procid%", "lf", false),
    ];
    for (template, framing, is_warned) in rows {
        let text = format!(
            "inputs: {{lan: {{listen: 'udp://127.0.0.1:0'}}}}\noutputs: {{a: {{to: 'tcp://127.0.0.1:9', framing: {framing}}}}}\n\
             routes: [{{name: all, template: '{template}'}}]\n"
        );
        let loaded = load_with(&text, &[]).unwrap_or_else(|report| panic!("{report}"));
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        let expected = "forebay.yaml:3:32: routes[0].template: prints an LF before its end, and its output has \"framing: lf\": \
                        each message becomes several";
        assert_eq!(warnings, if is_warned { vec![expected] } else { Vec::new() }, "{template}");
    }
}

#[test]
fn the_environment_may_name_any_destination() {
    let urls = ["tls://a.example:1", "relp+tls://a.example:1", "https://a.example", "http://a.example", "file:///a"];
    for (url, name) in urls.into_iter().zip(["syslog", "relp", "https", "https", "file"]) {
        let loaded = config::load(&Source::Environment, &|name| match name {
            "FOREBAY_INTAKE_KEY" => Some("abcdefgh12345678".to_owned()),
            "FOREBAY_OUTPUT" => Some(url.to_owned()),
            _ => None,
        });
        let loaded = loaded.unwrap_or_else(|report| panic!("{url}: {report}"));
        assert_eq!(loaded.config.outputs[0].protocol.name(), name);
    }
}

/// Everything that is to come.
const TO_COME: &str = "inputs:
  lan: {listen: 'udp://127.0.0.1:0'}
  relay: {listen: ['tcp://127.0.0.1:0', 'relp+tcp://127.0.0.1:0']}
outputs:
  relp: {region: fra1, protocol: relp}
  relp2: {to: 'relp+tls://relp.example:11514', relp_window: 1}
  web: {to: https://a.example, proxy: 'http://[::1]:3128'}
  web2: {to: http://a.example/b, proxy: off, order: newest_first, backlog_share: 20}
  web3: {region: mco1, protocol: https}
  copy: {to: file:///var/log/out.log, rotate: {age: 1d}}
  growing: {to: file:///var/log/all.log, rotate: {size: off}, reveal_keys: true}
  two: {to: [tls://a.example:1, tls://b.example:1], prefer_after: 1m}
  spread: {to: [tcp://a.example:1, tcp://b.example:1], mode: balance}
  named: {to: tls://a.example:1, fallback_addresses: 192.0.2.1}
  newest: {to: tls://a.example:1, order: newest_first}
routes: [{intake_key: abcdefgh12345678, output: newest}]
spool: {dir: /var/lib/forebay}
cores: 1
";

#[test]
fn a_summary_says_how_each_output_sends() {
    let loaded = load_with(TO_COME, &[]).unwrap_or_else(|report| panic!("{report}"));
    let summary = loaded.config.summary();
    let expected = "\
outputs
  relp: relp+tls://intake.sekoia.io:11514; at most 512 messages unacknowledged
  relp2: relp+tls://relp.example:11514; at most 1 message unacknowledged
  web: https://a.example:443; proxy [::1]:3128; bodies of at most 9MB
  web2: http://a.example:80/b; no proxy; bodies of at most 9MB; the newest first, 20% kept for the backlog
  web3: https://intake.mco1.sekoia.io:443/api/v1/intake-http; the environment's proxy, if any; bodies of at most 9MB
  copy: file:///var/log/out.log; a new file at 100MiB or after 1d, 7 old ones kept and compressed; intake keys as ***
  growing: file:///var/log/all.log; one file that grows; intake keys as they are
  two: tls://a.example:1, tls://b.example:1; the first that is well, back to an earlier one after 1m
  spread: tcp://a.example:1, tcp://b.example:1; spread over all that are well
  named: tls://a.example:1; 192.0.2.1 where no name resolves
  newest: tls://a.example:1; the newest first, 50% kept for the backlog
routes, the first that holds takes the message
";
    assert!(summary.contains(expected), "{summary}");
    let relay = "  relay: tcp://127.0.0.1:0, relp+tcp://127.0.0.1:0; framing auto; messages over 250KiB truncated; at most \
                 10000 connections (1000 a peer); acknowledged when spooled or released\n";
    assert!(summary.contains(relay), "{summary}");
    assert!(summary.contains("\n  at most 5 HTTPS requests a second\n"), "{summary}");
}
