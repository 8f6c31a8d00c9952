//! intakes.yaml: files as Sekoia's users have them, and as they should not.

use std::collections::HashMap;
use std::fs;

use proptest::prelude::*;

use forebay::config::{Action, AdminListen, Config, Listen, Loaded, Mistake, Protocol, Report, Source, load};

/// As long as a key is, and none.
const KEYS: [&str; 4] =
    ["Aa1bCd2eFg3hIj4kLm5nOp6qRs7tUv81", "Aa1bCd2eFg3hIj4kLm5nOp6qRs7tUv82", "Aa1bCd2eFg3hIj4kLm5nOp6qRs7tUv83", "Zz9"];

fn loaded(text: &str, variables: &[(&str, &str)], strict: bool) -> Result<Loaded, Report> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("intakes.yaml");
    let mut text = text.to_owned();
    for (index, key) in KEYS.iter().enumerate() {
        text = text.replace(&format!("KEY{}", index + 1), key);
    }
    fs::write(&path, text).expect("written");
    let mut all: HashMap<&str, &str> = HashMap::from([("FOREBAY_SPOOL", "/tmp/spool-of-a-test")]);
    all.extend(variables.iter().copied());
    load(&Source::Intakes { path, strict }, &|name| all.get(name).map(|value| (*value).to_owned()))
}

fn good(text: &str, variables: &[(&str, &str)]) -> Config {
    let loaded = loaded(text, variables, false).unwrap_or_else(|report| panic!("{report}"));
    assert!(loaded.config.left_out.is_empty(), "{:?}", loaded.config.left_out);
    loaded.config
}

/// What a report says, one line a mistake, without the file's folder.
fn lines(mistakes: &[Mistake]) -> Vec<String> {
    let text = mistakes.iter().map(ToString::to_string);
    let lines: Vec<String> = text
        .map(|line| line.rsplit_once("/intakes.yaml").map_or(line.clone(), |(_, rest)| format!("F{rest}")))
        .collect();
    for key in KEYS {
        assert!(lines.iter().all(|line| !line.contains(key)), "{lines:#?}");
    }
    lines
}

/// The example of the README of Sekoia's forwarder, with keys in place of its placeholders.
const README: &str = "---
intakes:
- name: Techno1
  protocol: tcp
  port: 20516
  intake_key: KEY1
- name: Techno2
  protocol: tcp
  port: 20517
  intake_key: KEY2
  debug: True
- name: Techno 3
  protocol: UDP
  port: 20516
  intake_key: KEY3
";

#[test]
fn the_readmes_example_becomes_inputs_routes_and_an_output() {
    let config = good(README, &[]);
    let names: Vec<&str> = config.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["techno1", "techno2", "techno_3"]);
    let addresses: Vec<String> = config.inputs.iter().map(|input| input.listen[0].to_string()).collect();
    assert_eq!(addresses, ["tcp://0.0.0.0:20516", "tcp://0.0.0.0:20517", "udp://0.0.0.0:20516"]);
    assert!(config.inputs.iter().all(|input| input.max_message_size == 256_000));
    for (index, route) in config.routes.iter().enumerate() {
        assert_eq!(route.name, names[index]);
        assert_eq!(route.conditions.input, [names[index]]);
        let Action::Forward { intake_key, output: 0, .. } = &route.action else { panic!("{}", route.name) };
        assert_eq!(intake_key.as_ref().map(|key| key.expose()), Some(KEYS[index].as_bytes()));
    }
    assert_eq!(config.outputs[0].address(), "intake.sekoia.io:10514");
    assert!(config.outputs[0].tls.is_some());
    assert_eq!(config.spool.as_ref().map(|spool| spool.max_size), Some(32 << 30));
    assert_eq!(config.admin, [AdminListen::Tcp("127.0.0.1:9514".parse().expect("an address"))]);
    assert!(config.lenient);
}

#[test]
fn both_families_are_listened_at_where_the_machine_has_both() {
    let config = good(README, &[]);
    let has_ipv6 = std::path::Path::new("/proc/net/if_inet6").exists();
    let second = config.inputs[0].listen.get(1).map(Listen::to_string);
    assert_eq!(second, has_ipv6.then(|| "tcp://[::]:20516".to_owned()));
}

#[test]
fn each_region_goes_where_it_is_taken() {
    for (region, host) in [
        ("FRA1", "intake.sekoia.io"),
        ("fra2", "intake.fra2.sekoia.io"),
        ("MCO1", "intake.mco1.sekoia.io"),
        ("UAE1", "intake.uae1.sekoia.io"),
        ("USA1", "intake.usa1.sekoia.io"),
        ("SGP1", "intake.sgp1.sekoia.io"),
    ] {
        assert_eq!(good(README, &[("REGION", region)]).outputs[0].address(), format!("{host}:10514"));
        let relp = good(README, &[("REGION", region), ("RELP_OUTPUT", "True")]);
        assert_eq!(relp.outputs[0].address(), format!("relp.{host}:11514, {host}:11514"));
        assert!(matches!(relp.outputs[0].protocol, Protocol::Relp { .. }) && relp.outputs[0].tls.is_some());
    }
    let other = [("REGION", "OTHER"), ("ENDPOINT", "logs.example.org")];
    assert_eq!(good(README, &other).outputs[0].address(), "logs.example.org:10514");
    let odd = loaded(README, &[("REGION", "FRA3")], false).expect("it runs, as the forwarder does");
    assert_eq!(odd.config.outputs[0].address(), "intake.sekoia.io:10514");
    assert!(lines(&odd.config.left_out)[0].contains("did you mean \"fra1\"?"), "{:?}", odd.config.left_out);
}

#[test]
fn without_a_place_to_send_to_nothing_runs() {
    let report = loaded(README, &[("REGION", "other")], false).expect_err("no endpoint");
    assert_eq!(lines(report.mistakes()), ["the variable ENDPOINT: not set, expected a host, because REGION is OTHER"]);
    let odd = [("REGION", "other"), ("ENDPOINT", "https://logs.example.org")];
    let report = loaded(README, &odd, false).expect_err("no host");
    assert!(lines(report.mistakes())[0].starts_with("the variable ENDPOINT: outputs.sekoia.to"), "{report}");
}

#[test]
fn sizes_are_what_the_forwarder_was_told() {
    let config = good(README, &[("DISK_SPACE", "180g"), ("MEMORY_MESSAGES", "30000")]);
    assert_eq!(config.spool.map(|spool| spool.max_size), Some(180 << 30));
    // 64 MiB of our own, and 30,000 messages of 1.2 KB: 34.3 MiB.
    assert_eq!(config.memory_max, (64 + 34) << 20);
    let sized = README.replace("  debug: True\n", "  queue_size: 100000\n");
    let config = good(&sized, &[("MEMORY_MESSAGES", "30000")]);
    // 10,000 and 100,000 and 10,000.
    assert_eq!(config.memory_max, (64 + 137) << 20);
    assert!(good(README, &[("FOREBAY_SPOOL", "off")]).spool.is_none());
    let odd = loaded(README, &[("DISK_SPACE", "lots"), ("MEMORY_MESSAGES", "many")], false).expect("defaults");
    assert_eq!(odd.config.left_out.len(), 2, "{:?}", odd.config.left_out);
    assert_eq!(odd.config.spool.map(|spool| spool.max_size), Some(32 << 30));
}

#[test]
fn stats_are_an_input_of_their_own() {
    let text = format!("{README}- name: Forwarder\n  stats: true\n  intake_key: KEY1\n");
    let config = good(&text, &[]);
    let input = config.inputs.last().expect("an input");
    assert_eq!((input.name.as_str(), input.listen.len()), ("forwarder", 0));
    assert_eq!(input.impstats.map(|interval| interval.as_secs()), Some(300));
    assert_eq!(
        good(&text.replace("stats: true", "stats: False\n  port: 1\n  protocol: tcp"), &[]).inputs[3].impstats,
        None
    );
}

const BAD: &str = "intakes:
- name: Good One
  protocol: tcp
  port: 20516
  intake_key: KEY1
  colour: blue
- name: Second
  protocol: tls
  port: 20517
  intake_key: KEY4
- protocol: tcp
  port: '20518'
  intake_key: KEY2
- name: Fourth
  protocol: tpc
  port: 99999
  intake_key: KEY2
- name: Fifth
  protocol: tls
  port: 20516
  intake_key: KEY2
- name: Sixth
  protocol: tls
  port: 20519
  intake_key: KEY2
- just a text
- name: Eighth
  protocol: udp
  port: 20520
  port: 20521
  intake_key: KEY3
- name: Ninth
  protocol: udp
  port: 20516
  intake_ky: KEY3
- name: (Tenth) Größe
  protocol: udp
  port: 20516
  intake_key: KEY3
";

#[test]
fn what_is_bad_is_left_out_by_name_and_the_others_run() {
    let variables = [("FOREBAY_CERTS", "/nowhere")];
    let Loaded { config, warnings, .. } = loaded(BAD, &variables, false).unwrap_or_else(|report| panic!("{report}"));
    let names: Vec<&str> = config.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["good_one", "_tenth__gr__e"]);
    let no_file = "cannot be read: No such file or directory (os error 2)";
    let expected = [
        "F:10:15: intakes[1].intake_key: \"Second\" is left out: its key does not begin with 16 letters and digits".to_owned(),
        "F:11:3: intakes[2].name: \"entry 3 of intakes\" is left out: missing, expected a name".to_owned(),
        "F:15:13: intakes[3].protocol: \"Fourth\" is left out: found \"tpc\", expected tcp, udp or tls (did you mean \"tcp\"?)"
            .to_owned(),
        "F:16:9: intakes[3].port: \"Fourth\" is left out: found \"99999\", expected a number up to 65535".to_owned(),
        "F:20:9: intakes[4].port: \"Fifth\" is left out: found port 20516, which \"Good One\" (F:2:3) has already".to_owned(),
        format!("F:22:3: inputs.sixth.tls.cert: \"Sixth\" is left out: /nowhere/server.crt {no_file}"),
        format!("F:22:3: inputs.sixth.tls.key: \"Sixth\" is left out: /nowhere/server.key {no_file}"),
        "F:26:3: intakes[6]: \"entry 7 of intakes\" is left out: found a single value, expected a map with name, protocol, \
         port and intake_key"
            .to_owned(),
        "F:30:3: intakes[7].port: \"Eighth\" is left out: found this key a second time; the first is at F:29:3".to_owned(),
        "F:32:3: intakes[8].intake_key: \"Ninth\" is left out: missing, expected an intake key".to_owned(),
    ];
    // A place inside of a message has the whole path as well.
    let found: Vec<String> = config.left_out.iter().map(|mistake| tame(&mistake.to_string())).collect();
    assert_eq!(found, expected);
    let warnings: Vec<String> = warnings.iter().map(|warning| tame(&warning.to_string())).collect();
    for part in [
        "F:6:3: intakes[0].colour: unknown key, passed over",
        "F:35:3: intakes[8].intake_ky: unknown key (did you mean \"intake_key\"?), passed over",
        "F:36:3: intakes[9].name: \"(Tenth) Größe\" is called _tenth__gr__e here",
    ] {
        assert!(warnings.iter().any(|line| line == part), "{part} in {warnings:#?}");
    }
}

/// The file's name in place of its path.
fn tame(line: &str) -> String {
    regex::Regex::new(r"/\S*/intakes\.yaml").expect("a regex").replace_all(line, "F").into_owned()
}

#[test]
fn strictly_the_same_is_a_report_and_so_is_a_file_without_a_good_intake() {
    let report = loaded(BAD, &[("FOREBAY_CERTS", "/nowhere")], true).expect_err("it is strict");
    assert_eq!(report.mistakes().len(), 12, "{report}");
    loaded(README, &[], true).unwrap_or_else(|report| panic!("{report}"));
    // The README's own placeholders are no keys, for the forwarder neither.
    let placeholders = README.replace("KEY", "INTAKE_KEY_FOR_TECHNO_");
    let report = loaded(&placeholders, &[], false).expect_err("no key is good");
    assert_eq!(report.mistakes().len(), 4, "{report}");
    assert!(report.to_string().contains("none of them can be used"), "{report}");
    for (text, part) in [
        ("", "found nothing, expected a map with \"intakes\""),
        ("intake: []\n", "missing, expected a list of intakes"),
        ("intakes: []\n", "expected a list of at least one intake"),
        ("intakes: [\n", "not YAML"),
    ] {
        let report = loaded(text, &[], false).expect_err(text);
        assert!(report.to_string().contains(part), "{report}");
    }
}

#[test]
fn names_that_are_alike_are_told_apart_and_the_admin_server_gives_way() {
    let alike = README.replace("Techno2", "TECHNO1").replace("20517", "9514");
    let config = good(&alike, &[]);
    let names: Vec<&str> = config.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["techno1", "techno1_2", "techno_3"]);
    assert_eq!(config.admin, []);
    let admin = good(&alike, &[("FOREBAY_ADMIN", "0.0.0.0:9600")]).admin;
    assert_eq!(admin, [AdminListen::Tcp("0.0.0.0:9600".parse().expect("an address"))]);
}

#[test]
fn an_intake_is_not_taken_for_another_whose_name_begins_alike() {
    let text = README.replace("Techno1", "fw").replace("Techno2\n  protocol: tcp", "fw.tls\n  protocol: tls");
    let loaded = loaded(&text, &[("FOREBAY_CERTS", "/nowhere")], false).unwrap_or_else(|report| panic!("{report}"));
    let names: Vec<&str> = loaded.config.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["fw", "techno_3"]);
    assert_eq!(loaded.config.left_out.len(), 2, "{:?}", loaded.config.left_out);
    assert!(loaded.config.left_out.iter().all(|mistake| mistake.message.starts_with("\"fw.tls\" is left out")));
}

#[test]
fn a_key_is_no_place_for_variables() {
    let text = README.replace("KEY1", "Aa1bCd2eFg3hIj4k-${HOME}");
    let config = good(&text, &[("HOME", "/root")]);
    let Action::Forward { intake_key, .. } = &config.routes[0].action else { panic!("it forwards") };
    assert_eq!(intake_key.as_ref().map(|key| key.expose()), Some(b"Aa1bCd2eFg3hIj4k-${HOME}".as_slice()));
}

#[test]
fn a_key_in_a_wrong_place_is_not_shown() {
    let key = KEYS[0];
    for text in [
        format!("intakes:\n- {{name: {key}, protocol: {key}, port: {key}, queue_size: {key}, tls_key_name: {key}}}\n"),
        format!(
            "intakes:\n- {{name: a, protocol: tls, port: 1, tls_cert_name: {key}, intake_key: KEY1, {key}: {key}}}\n"
        ),
        format!(
            "intakes:\n- {{name: 'Fw {key}', protocol: tcp, port: 0, intake_key: KEY1, {key}: b, {key}: c}}\n{key}: 1\n"
        ),
    ] {
        let shown = match loaded(&text, &[], false) {
            Ok(loaded) => format!("{:?} {} {:?}", loaded.config, loaded.config.summary(), loaded.warnings),
            Err(report) => report.to_string(),
        };
        assert!(!shown.to_lowercase().contains(&key.to_lowercase()), "{shown}");
        assert!(shown.contains("****"), "{shown}");
    }
    let config = good(&README.replace("Techno1", key), &[]);
    assert_eq!((config.inputs[0].name.as_str(), config.routes[0].name.as_str()), ("intake_1", "intake_1"));
    let long = good(&README.replace("Techno1", "Paloaltonetworksfirewalls"), &[]);
    assert_eq!(long.inputs[0].name, "paloaltonetworksfirewalls");
}

proptest! {
    #[test]
    fn no_damaged_intakes_make_the_loader_panic_or_tell_a_key(
        damages in proptest::collection::vec(
            (0..25usize, 0..6usize, "[ ]{0,4}[-?:&*!|>'\"{}\\[\\],#%@$a-c\\t]{0,3}", 0..25usize),
            1..6,
        ),
        strict: bool,
    ) {
        let text = format!("{README}- name: Forwarder\n  stats: true\n  queue_size: 5\n  tls_key_name: b\n  intake_key: KEY1\n");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (at, damage, junk, count) in damages {
            let (at, other) = (at % lines.len(), lines[count % lines.len()].clone());
            let line = &mut lines[at];
            match damage {
                0 => line.clear(),
                1 => line.push_str(&junk),
                2 => line.insert_str(0, &" ".repeat(count % 7)),
                3 => *line = line.chars().take(count).collect(),
                4 => *line = format!("{line}\n{line}"),
                // A value in another key's place.
                _ => *line = line.split(": ").next().unwrap_or_default().to_owned() + ": " + other.rsplit(": ").next().unwrap_or_default(),
            }
        }
        let shown = match loaded(&lines.join("\n"), &[], strict) {
            Ok(loaded) => format!("{:?} {} {:?}", loaded.config, loaded.config.summary(), loaded.warnings),
            Err(report) => report.to_string(),
        };
        for key in &KEYS[..3] {
            prop_assert!(!shown.to_lowercase().contains(&key.to_lowercase()), "{}", shown);
        }
    }
}
