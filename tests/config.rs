//! Configurations: good ones load, bad ones are reported, all mistakes at once, secrets never.
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

use std::collections::HashMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay::config::{
    self, Action, Compression, Config, Durability, Hardening, KeyFiles, Listen, Loaded, Report, Source, SpoolFull,
    SpoolSync,
};
use proptest::prelude::*;

#[path = "config/intakes.rs"]
mod intakes;
#[path = "config/outputs.rs"]
mod outputs;

fn text(text: &str) -> Source {
    Source::Text { name: "forebay.yaml".to_owned(), text: text.to_owned() }
}

fn load_with(source: &str, variables: &[(&str, &str)]) -> Result<Loaded, Report> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    config::load(&text(source), &|name| variables.get(name).map(|value| (*value).to_owned()))
}

#[test]
fn the_smallest_configuration_of_the_style_guide_loads() {
    let loaded = load_with(
        "inputs:
  lan:
    listen: [udp://0.0.0.0:514, tcp://0.0.0.0:514]
    max_message_size: 250KiB
outputs:
  sekoia: { region: fra1 }
routes:
  - program: unbound
    intake_key: ${UNBOUND_INTAKE_KEY}
",
        &[("UNBOUND_INTAKE_KEY", "abcdefgh12345678")],
    )
    .unwrap_or_else(|report| panic!("{report}"));
    let config = loaded.config;
    assert_eq!(loaded.warnings, []);
    assert_eq!(config.inputs.len(), 1);
    assert_eq!(config.inputs[0].listen.len(), 2);
    assert_eq!(config.inputs[0].max_message_size, 256_000);
    assert_eq!(config.outputs[0].address(), "intake.sekoia.io:10514");
    assert_eq!(config.routes[0].name, "unbound");
    let Action::Forward { output, intake_key, .. } = &config.routes[0].action else { panic!("discards") };
    assert_eq!(*output, 0);
    assert_eq!(intake_key.as_ref().map(|key| key.expose().to_vec()), Some(b"abcdefgh12345678".to_vec()));
}

#[test]
fn the_environment_alone_is_a_configuration() {
    let loaded = config::load(&Source::Environment, &|name| {
        (name == "FOREBAY_INTAKE_KEY").then(|| "abcdefgh12345678".to_owned())
    })
    .unwrap_or_else(|report| panic!("{report}"));
    let listen = &loaded.config.inputs[0].listen;
    let address = "0.0.0.0:5514".parse().expect("an address");
    assert_eq!(listen, &[Listen::Udp(address), Listen::Tcp(address)]);
    assert_eq!(loaded.config.outputs[0].address(), "intake.sekoia.io:10514");
}

/// A value that no report may show.
const SECRET: &str = "S3cr3tV4lu3Th4tN0b0dySees";

fn fixture_variables(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some(SECRET.to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

#[test]
fn each_bad_file_is_reported_as_written_beside_it() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
        .expect("fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() > 20, "{} fixtures found", files.len());
    let mut different = String::new();
    for file in files {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let source = Source::Text { name, text: std::fs::read_to_string(&file).expect("a text") };
        let report = match config::load(&source, &fixture_variables) {
            Ok(_) => "no mistakes found".to_owned(),
            Err(report) => report.to_string(),
        };
        assert!(!report.contains(SECRET), "{report}");
        let expected_file = file.with_extension("txt");
        if std::env::var_os("FOREBAY_BLESS").is_some() {
            std::fs::write(&expected_file, format!("{report}\n")).expect("written");
        }
        let expected = std::fs::read_to_string(&expected_file).unwrap_or_default();
        if expected.trim_end() != report {
            different += &format!("{}\n--- expected\n{expected}--- reported\n{report}\n\n", file.display());
        }
    }
    assert!(different.is_empty(), "{different}");
}

const KEYS: [(&str, &str); 2] =
    [("UNBOUND_INTAKE_KEY", "abcdefgh12345678"), ("DEFAULT_INTAKE_KEY", "ijklmnop12345678")];

fn reference() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/forebay.yaml")).expect("a file")
}

#[test]
fn the_reference_configuration_loads_and_shows_the_defaults() {
    let shown = load_with(&reference(), &KEYS).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(shown.warnings, []);
    let bare = load_with(
        "inputs: {lan: {listen: [udp://0.0.0.0:514, tcp://0.0.0.0:514]}}
outputs: {sekoia: {region: fra1}}
routes:
  - {name: unbound, program: unbound*, intake_key: '${UNBOUND_INTAKE_KEY}'}
  - {name: noise, program: [CROND, systemd-logind], discard: true}
  - {name: default, intake_key: '${DEFAULT_INTAKE_KEY}'}
",
        &KEYS,
    )
    .unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(format!("{:#?}", shown.config), format!("{:#?}", bare.config));
    assert_eq!(shown.config.summary(), bare.config.summary());
}

#[test]
fn the_reference_configuration_loads_with_its_examples_and_has_every_key() {
    let directory = tempfile::tempdir().expect("a directory");
    for file in ["tls/server.pem", "tls/server.key", "tls/clients-ca.pem", "tls/archive-ca.pem", "tls/client.pem"] {
        write(directory.path(), file, "a file that is there");
    }
    write(directory.path(), "tls/client.key", "a file that is there");
    write(directory.path(), "keys/firewalls", "  qrstuvwx12345678\n");
    write(directory.path(), "keys/admin", "a-token-of-more-than-16\n");
    write(directory.path(), "rsyslog.d/10.conf", "# nothing yet\n");
    let spool_key = write(directory.path(), "keys/spool", &"0123456789abcDEF".repeat(4));
    std::fs::set_permissions(&spool_key, Permissions::from_mode(0o600)).expect("its mode");
    let here = format!("{}/", directory.path().display());
    let text = reference().replace("#:", "").replace("/etc/forebay/", &here).replace("user: forebay", "user: root");
    let text = text.replace("group: forebay", "group: root");
    let loaded = load_with(&text, &KEYS).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.warnings, []);
    assert_eq!((loaded.config.inputs.len(), loaded.config.outputs.len(), loaded.config.routes.len()), (4, 6, 5));
    let Action::Forward { intake_key: Some(key), .. } = &loaded.config.routes[1].action else { panic!("no key") };
    assert_eq!(key.expose(), b"qrstuvwx12345678");

    let tree: serde_yaml::Value = serde_yaml::from_str(&text).expect("YAML");
    let mut used = Vec::new();
    collect(&tree, "", &mut used);
    for key in config::keys() {
        // The shape of one test is shown once.
        if !key.starts_with("routes[].not.message.") {
            assert!(used.contains(&key), "deploy/forebay.yaml does not show {key}");
        }
    }
}

/// Paths as the loader writes them.
fn collect(value: &serde_yaml::Value, path: &str, used: &mut Vec<String>) {
    match value {
        serde_yaml::Value::Mapping(map) => {
            for (key, value) in map {
                let key = match path {
                    "inputs" | "outputs" => "NAME",
                    _ => key.as_str().expect("a text"),
                };
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                used.push(path.clone());
                collect(value, &path, used);
            }
        }
        serde_yaml::Value::Sequence(items) => {
            let path = if path == "routes" { "routes[]" } else { path };
            items.iter().for_each(|item| collect(item, path, used));
        }
        _ => {}
    }
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    std::fs::write(&path, text).expect("a file");
    // It may be a key.
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its mode");
    path
}

#[test]
fn the_manual_lists_the_keys_that_the_loader_takes() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIGURATION.md");
    let manual = std::fs::read_to_string(manual).expect("a file");
    let rows = manual.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let mut listed: Vec<String> = rows.map(|(key, _)| key.to_owned()).collect();
    listed.sort();
    let mut taken = config::keys();
    taken.sort();
    assert!(!taken.is_empty());
    assert_eq!(listed, taken);
}

#[test]
fn the_manuals_smallest_configuration_loads() {
    let manual = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIGURATION.md"));
    let manual = manual.expect("a file");
    let (_, after) = manual.split_once("```yaml\n").expect("an example");
    let (example, _) = after.split_once("```").expect("its end");
    let loaded = load_with(example, &KEYS).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.warnings, []);
    let names: Vec<&str> = loaded.config.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["unbound*", "route-2"]);
}

#[test]
fn a_summary_says_what_listens_and_where_each_route_goes() {
    let loaded = load_with(
        "inputs:
  lan: {listen: [udp://0.0.0.0:514, 'tcp://[::]:514'], allow: 10.0.0.0/8, idle_timeout: 1h}
  local: {listen: unixgram:///dev/log, oversize: reject, max_message_size: 8KiB, max_connections: 1}
outputs:
  sekoia: {region: mco1}
  archive: {to: 'tcp://[::1]:601'}
routes:
  - {program: [nsd, unbound*], severity: err..emerg, not: {hostname: lab-*}, intake_key: abcdefgh12345678, output: sekoia}
  - {name: copy, message: [DROP, {regex: 'IN=\\w+'}], peer: 10.1.2.3, input: lan, output: archive, template: '%msg%', continue: true}
  - {program: cron, discard: true}
cores: 2
admin: {listen: off}
",
        &[],
    )
    .unwrap_or_else(|report| panic!("{report}"));
    let expected = "\
inputs
  lan: udp://0.0.0.0:514, tcp://[::]:514; framing auto; messages over 250KiB truncated; at most 10000 connections (1000 a peer), closed after 1h of silence; only from 10.0.0.0/8
  local: unixgram:///dev/log; framing auto; messages over 8KiB rejected; at most 1 connection (1 a peer)
outputs
  sekoia: tls://intake.mco1.sekoia.io:10514
  archive: tcp://[::1]:601
routes, the first that holds takes the message
  1. nsd: program nsd or unbound* and severity emerg, alert, crit or err and not (hostname lab-*) → sekoia, intake key ****
  2. copy: peer 10.1.2.3/32 and input lan and message with \"DROP\" or matching /IN=\\w+/ → archive, no intake key, and on
  3. cron: program cron → discarded
  what no route takes is counted as unmatched
spool
  none: what waits is in memory only
process
  2 shards of at most 64MiB resident, 10s to stop
  no admin server
  hardened by no_new_privs, seccomp, landlock, where the kernel can
";
    assert_eq!(loaded.config.summary(), expected);
}

/// The least that a relay needs, and then `more`.
fn with_spool(more: &str) -> String {
    format!(
        "inputs: {{lan: {{listen: 'udp://127.0.0.1:0'}}}}
outputs: {{sekoia: {{region: fra1}}}}
routes: [{{name: all, intake_key: abcdefgh12345678, spool: {{max_size: 1GiB, when_full: drop_newest}}}}]
{more}"
    )
}

#[test]
fn a_spool_has_defaults_for_everything_but_its_folder() {
    let loaded =
        load_with(&with_spool("spool: {dir: /var/lib/forebay}\n"), &[]).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.warnings, []);
    let spool = loaded.config.spool.as_ref().expect("a spool");
    assert_eq!(spool.dir, Path::new("/var/lib/forebay"));
    assert_eq!((spool.max_size, spool.min_free), (10 << 30, 256 << 20));
    assert_eq!((spool.when_full, spool.durability), (SpoolFull::Block, Durability::Overflow));
    assert_eq!((spool.sync, spool.compression), (SpoolSync::Interval(Duration::from_millis(200)), Compression::Lz4));
    assert_eq!((spool.spill_after, spool.encryption_key.is_none()), (Duration::from_secs(5), true));
    let share = loaded.config.routes[0].spool;
    assert_eq!((share.max_size, share.when_full), (Some(1 << 30), Some(SpoolFull::DropNewest)));
}

#[test]
fn every_key_of_a_spool_says_what_it_does_in_the_summary() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = write(
        directory.path(),
        "forebay.yaml",
        &with_spool(
            "spool:
  dir: queue
  max_size: 1GiB
  when_full: drop_oldest
  durability: always
  sync: every_batch
  min_free: 0
  compression: zstd
  spill_after: 1h
  encryption_key_file: key
",
        ),
    );
    // Octets, none of which are text.
    std::fs::write(directory.path().join("key"), [0xfe; 32]).expect("a key");
    std::fs::set_permissions(directory.path().join("key"), Permissions::from_mode(0o640)).expect("its mode");
    let loaded = config::load(&Source::File(file), &|_| None).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.warnings, []);
    let spool = loaded.config.spool.as_ref().expect("a spool");
    assert_eq!(spool.dir, directory.path().join("queue"));
    assert!(!spool.dir.exists(), "looking at a configuration made a folder");
    assert_eq!(spool.encryption_key.as_ref().map(|key| *key.expose()), Some([0xfe; 32]));
    let expected = format!(
        "spool
  {}: at most 1GiB, 0 of the disk left free; when it is full the oldest are dropped; takes every message before it is \
         sent, synced with every batch; zstd, encrypted
process
",
        spool.dir.display()
    );
    let summary = loaded.config.summary();
    assert!(summary.contains(&expected), "{summary}");
    let route = "  1. all: every message → sekoia, intake key ****, at most 1GiB of the spool, \
                 when it is full the newest are dropped\n";
    assert!(summary.contains(route), "{summary}");
}

#[test]
fn a_spools_key_is_32_octets_or_64_hex_digits_and_is_shown_nowhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = with_spool("spool: {dir: queue, encryption_key_file: key}\n");
    let file = write(directory.path(), "forebay.yaml", &text);
    let key = directory.path().join("key");
    let load = |content: &[u8], mode: u32| {
        std::fs::write(&key, content).expect("a key");
        std::fs::set_permissions(&key, Permissions::from_mode(mode)).expect("its mode");
        config::load(&Source::File(file.clone()), &|_| None)
    };
    let hex = "00ff1122".repeat(8);
    let octets: Vec<u8> = [0x00, 0xff, 0x11, 0x22].repeat(8);
    for content in [
        octets.clone(),
        hex.clone().into_bytes(),
        format!("{hex}\n").into(),
        format!("{}\r\n", hex.to_uppercase()).into(),
    ] {
        let loaded = load(&content, 0o600).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(loaded.warnings, []);
        let spool = loaded.config.spool.expect("a spool");
        assert_eq!(spool.encryption_key.as_ref().map(|key| key.expose().to_vec()), Some(octets.clone()));
        assert!(!format!("{spool:?}").contains("255, 17"));
    }
    let expected = "expected 32 octets, or 64 hex digits";
    let rows = [
        ("", "0 octets"),
        ("secret", "6 octets"),
        (&format!("{hex} "), "65 octets"),
        (&format!("{hex}\n\n"), "66 octets"),
        (&hex.replace('f', "g"), "64 characters that are not all hex digits"),
        (&"secret".repeat(100), "more than 66 octets"),
    ];
    for (content, found) in rows {
        let report = load(content.as_bytes(), 0o600).map(|loaded| loaded.config).expect_err("no key").to_string();
        assert!(report.ends_with(&format!("the file holds {found}, {expected}")), "{report}");
        assert!(!report.contains("secret") && !report.contains("00gg"), "{report}");
    }
    let report = load(hex.as_bytes(), 0o644).expect_err("others read it").to_string();
    assert!(report.contains("spool.encryption_key_file: ") && report.contains("mode 644"), "{report}");
}

#[test]
fn a_key_that_others_may_read_is_refused_with_its_place_or_told_of_where_that_is_asked_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "inputs:\n  lan:\n    listen: tls://0.0.0.0:6514\n    tls: {cert: cert, key: tls.key}\n\
                outputs: {sekoia: {region: fra1}}\nroutes:\n  - intake_key_file: intake.key\nadmin:\n  token_file: token\n";
    let file = write(directory.path(), "forebay.yaml", text);
    for name in ["cert", "tls.key"] {
        write(directory.path(), name, "a file that is there");
    }
    write(directory.path(), "intake.key", "abcdefgh12345678");
    write(directory.path(), "token", "a-token-of-more-than-16\n");
    let chmod = |mode| {
        for name in ["cert", "tls.key", "intake.key", "token"] {
            let path = directory.path().join(name);
            std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode");
        }
    };
    let load = |key_files| config::load_with(&Source::File(file.clone()), &|_| None, key_files);
    let places = [":4:28: inputs.lan.tls.key: ", ":7:22: routes[0].intake_key_file: ", ":9:15: admin.token_file: "];
    let (read, changed) = ("is readable by everybody", "can be changed by others than its owner");
    let rows = [
        (0o644, read),
        (0o444, read),
        (0o604, read),
        (0o666, read),
        (0o660, changed),
        (0o620, changed),
        (0o602, changed),
    ];
    for (mode, why) in rows {
        chmod(mode);
        let report = load(KeyFiles::Private).expect_err("a report").to_string();
        let warnings = load(KeyFiles::Any).unwrap_or_else(|report| panic!("{report}")).warnings;
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!((report.lines().count(), warnings.len()), (3, 3), "{report}\n{warnings:#?}");
        for (index, place) in places.iter().enumerate() {
            let line = report.lines().nth(index).expect("a line");
            assert!(line.contains(place) && line.contains(why) && line.contains("--insecure-permissions"), "{line}");
            assert!(warnings[index].contains(place) && warnings[index].contains(why), "{}", warnings[index]);
        }
    }
    for mode in [0o600, 0o400, 0o640, 0o440] {
        chmod(mode);
        assert_eq!(load(KeyFiles::Private).unwrap_or_else(|report| panic!("{report}")).warnings, [], "{mode:o}");
    }
}

#[test]
fn keys_in_a_configuration_that_everybody_may_read_are_warned_of_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "inputs: {lan: {listen: udp://0.0.0.0:514}}\noutputs: {sekoia: {region: fra1}}\nroutes:\n  \
                - {program: a, intake_key: abcdefgh12345678}\n  - {intake_key: abcdefgh12345679}\n";
    let file = write(directory.path(), "forebay.yaml", text);
    let warnings = |mode| {
        std::fs::set_permissions(&file, Permissions::from_mode(mode)).expect("its mode");
        config::load(&Source::File(file.clone()), &|_| None).unwrap_or_else(|report| panic!("{report}")).warnings
    };
    assert_eq!(warnings(0o640), []);
    let told = warnings(0o644);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].to_string().contains(":4:30: routes[0].intake_key: stands in a file that everybody"),
        "{}",
        told[0]
    );
    assert!(!told[0].to_string().contains("abcdefgh"));
}

#[test]
fn a_user_is_one_of_this_machine_or_a_number_and_a_wrong_one_has_a_place() {
    let base = "inputs: {lan: {listen: udp://0.0.0.0:514}}\noutputs: {sekoia: {region: fra1}}\nroutes: [{intake_key: '${KEY}'}]\n";
    let load = |more: &str| load_with(&format!("{base}{more}"), &[("KEY", "abcdefgh12345678")]);
    let account = |more: &str| load(more).unwrap_or_else(|report| panic!("{report}")).config.user.expect("a user");
    let root = account("user: root\n");
    assert_eq!((root.uid, root.gid), (0, 0));
    let number = account("user: 4242\ngroup: 4243\n");
    assert_eq!((number.uid, number.gid, number.groups), (4242, 4243, vec![4243]));
    let rows = [
        (
            "user: nobody-of-that-name\n",
            ":4:7: user: found \"nobody-of-that-name\", which is no user here, expected a user",
        ),
        ("user: root\ngroup: no-such-group\n", ":5:8: group: found \"no-such-group\", which is no group here"),
        ("user: 4242\n", ":4:7: user: found \"4242\", a number without an entry in the user database"),
        ("group: root\n", "user: missing, expected the user that \"group\" is for"),
        ("hardening: {no_new_privs: false}\n", ":4:27: hardening.no_new_privs: found \"false\", which \"seccomp\" and"),
        ("hardening: on\n", ":4:12: hardening: found \"on\", expected off or a map"),
        ("admin: {open: [metrics, off]}\n", "admin.open: found \"off\" beside a word"),
    ];
    for (more, expected) in rows {
        let report = load(more).expect_err(more).to_string();
        assert!(report.contains(expected), "{more}{report}");
    }
    let off = load("hardening: off\n").unwrap_or_else(|report| panic!("{report}")).config.hardening;
    assert_eq!(off, Hardening::OFF);
    let part = load("hardening: {landlock: off}\n").unwrap_or_else(|report| panic!("{report}")).config.hardening;
    assert_eq!(part, Hardening { landlock: false, ..Hardening::default() });
}

#[test]
fn fragments_of_a_directory_become_one_configuration() {
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), "10-base.yaml", "inputs: {lan: {listen: udp://0.0.0.0:514}}\nmemory: {max: 32MiB}\n");
    write(
        directory.path(),
        "20-sekoia.yml",
        "outputs: {sekoia: {region: fra2}}\nroutes: [{program: a, intake_key_file: key}]\n",
    );
    write(
        directory.path(),
        "30-more.yaml",
        "inputs: {dmz: {listen: tcp://0.0.0.0:514}}\nroutes: [{intake_key_file: key}]\n",
    );
    write(directory.path(), "40-nothing.yaml", "# later\n");
    write(directory.path(), "README.md", "no: [yaml");
    write(directory.path(), ".hidden.yaml", "no: [yaml");
    write(directory.path(), "key", "abcdefgh12345678");
    let source = Source::from_path(directory.path());
    assert_eq!(source, Source::Directory(directory.path().to_owned()));
    let loaded = config::load(&source, &|_| None).unwrap_or_else(|report| panic!("{report}"));
    let config = loaded.config;
    let inputs: Vec<&str> = config.inputs.iter().map(|input| input.name.as_str()).collect();
    let routes: Vec<&str> = config.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!((inputs, routes, config.memory_max), (vec!["lan", "dmz"], vec!["a", "route-2"], 32 << 20));

    write(directory.path(), "50-again.yaml", "memory: {max: 64MiB}\ninputs: {lan: {listen: udp://0.0.0.0:515}}\n");
    let report = config::load(&source, &|_| None).expect_err("names twice").to_string();
    let here = directory.path().display();
    let expected = format!(
        "{here}/50-again.yaml:1:10: memory.max: found this key a second time; the first is at {here}/10-base.yaml:2:10
{here}/50-again.yaml:2:10: inputs.lan: found this key a second time; the first is at {here}/10-base.yaml:1:10"
    );
    assert_eq!(report, expected);
}

#[test]
fn what_cannot_be_read_is_reported_as_such() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path().display();
    let report = |path: &Path| config::load(&Source::from_path(path), &|_| None).expect_err("nothing").to_string();
    assert_eq!(report(directory.path()), format!("{here}: holds no *.yaml or *.yml file"));
    let absent = report(&directory.path().join("absent.yaml"));
    assert_eq!(absent, format!("{here}/absent.yaml: cannot be read: No such file or directory (os error 2)"));
    let large = write(directory.path(), "large.yaml", &"# much\n".repeat(200_000));
    assert_eq!(report(&large), format!("{here}/large.yaml: is larger than 1MiB, expected a configuration"));
    let latin = directory.path().join("latin.yaml");
    std::fs::write(&latin, b"inputs:\n  caf\xe9: {}\n").expect("a file");
    assert_eq!(report(&latin), format!("{here}/latin.yaml:2:6: found an octet that is not UTF-8"));
}

#[test]
fn the_admin_server_listens_on_all_that_is_listed_or_nowhere() {
    let with = |admin: &str| {
        load_with(
            &format!(
                "{admin}\ninputs: {{lan: {{listen: ['udp://127.0.0.1:514', 'unix:///run/log.sock']}}}}\n\
             outputs: {{sekoia: {{region: fra1}}}}\nroutes: [{{name: all, intake_key: abcdefgh12345678}}]\n"
            ),
            &[],
        )
    };
    let listen = |admin: &str| -> Vec<String> {
        let loaded = with(admin).unwrap_or_else(|report| panic!("{admin}: {report}"));
        loaded.config.admin.iter().map(ToString::to_string).collect()
    };
    assert_eq!(listen(""), ["http://127.0.0.1:9514"]);
    assert_eq!(listen("admin: {}"), ["http://127.0.0.1:9514"]);
    assert_eq!(listen("admin: {listen: off}"), Vec::<String>::new());
    assert_eq!(listen("admin: {listen: 'unix:///run/admin.sock'}"), ["unix:///run/admin.sock"]);
    assert_eq!(
        listen("admin: {listen: ['127.0.0.1:1', 'unix:///run/a', '[::1]:2', 'http://127.0.0.1:3']}"),
        ["http://127.0.0.1:1", "unix:///run/a", "http://[::1]:2", "http://127.0.0.1:3"]
    );
    let rows = [
        ("[off, '127.0.0.1:1']", "found \"off\" beside an address, expected one or the other"),
        ("['127.0.0.1:1', '127.0.0.1:1']", "found the same address twice"),
        ("'unix:///run/log.sock'", "inputs.lan.listen[1]: found the address of the admin server"),
        ("'unix://run/a'", "found \"unix://run/a\", expected an absolute path after ://"),
        ("'https://127.0.0.1:1'", "found \"https://127.0.0.1:1\", expected ADDRESS:PORT, unix:///PATH, or off"),
    ];
    for (listen, expected) in rows {
        let report = with(&format!("admin: {{listen: {listen}}}")).expect_err(listen).to_string();
        assert!(report.contains(expected), "{listen}: {report}");
    }
}

#[test]
fn the_environments_mistakes_name_their_variables() {
    let report = config::load(&Source::Environment, &|name| match name {
        "FOREBAY_LISTEN" => Some("udp://0.0.0.0:5514, tcp://everywhere:5514".to_owned()),
        "FOREBAY_REGION" => Some("mars1".to_owned()),
        "FOREBAY_ADMIN" => Some("here".to_owned()),
        _ => None,
    });
    let expected = "\
environment: admin.listen: found the value of ${FOREBAY_ADMIN}, expected ADDRESS:PORT, unix:///PATH, or off
environment: inputs.syslog.listen[1]: found \"tcp://everywhere:5514\", expected an IPv4 address or an IPv6 address in brackets before the port
environment: outputs.sekoia.region: found the value of ${FOREBAY_REGION}, expected fra1, fra2, mco1, uae1, usa1 or sgp1
environment: routes[0].intake_key: the variable FOREBAY_INTAKE_KEY is not set or empty, and ${FOREBAY_INTAKE_KEY} has no default";
    assert_eq!(report.expect_err("mistakes").to_string(), expected);

    let loaded = config::load(&Source::Environment, &|name| match name {
        "FOREBAY_INTAKE_KEY" => Some("abcdefgh12345678".to_owned()),
        "FOREBAY_LISTEN" => Some("unix:///run/${A}.sock".to_owned()),
        "FOREBAY_OUTPUT" => Some("tcp://127.0.0.1:6010".to_owned()),
        "FOREBAY_ADMIN" => Some("off".to_owned()),
        _ => None,
    })
    .unwrap_or_else(|report| panic!("{report}"));
    let Config { inputs, outputs, admin, .. } = loaded.config;
    assert_eq!(inputs[0].listen, [Listen::Unix(PathBuf::from("/run/${A}.sock"))]);
    assert_eq!((outputs[0].address(), outputs[0].tls.is_some()), ("127.0.0.1:6010".to_owned(), false));
    assert_eq!(admin, []);
}

#[test]
fn what_is_odd_but_not_wrong_is_a_warning() {
    let loaded = load_with(
        "inputs:
  lan:
    listen: udp://0.0.0.0:514
    max_message_size: 1MiB
outputs: {sekoia: {region: fra1}}
routes:
  - program: a*
    intake_key: too-short
  - program: [ab, ac]
    discard: true
  - intake_key: abcdefgh12345678
    template: '<%pri%>1 - - - - LOG [SEKOIA@53288 intake_key=\"abcdefgh12345678\"] %msg%'
  - when: $msg == 'é' or $msg == 'b' and $!x == 'c'
    not:
      when: |-
        not $procid == 5
    discard: true
",
        &[],
    )
    .unwrap_or_else(|report| panic!("{report}"));
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    let expected = [
        "forebay.yaml:4:23: inputs.lan.max_message_size: Sekoia drops events over 250KiB without a word",
        "forebay.yaml:8:17: routes[0].intake_key: does not look like an intake key: Sekoia's have 16 or more letters and digits and nothing else",
        "forebay.yaml:9:5: routes[1]: never takes a message: routes[0] (\"a*\") takes all that it could",
        "forebay.yaml:12:15: routes[2].template: does not print %intake_key%, so that the route's intake key is not sent",
        "forebay.yaml:13:5: routes[3]: never takes a message: routes[2] (\"route-3\") takes all that it could",
        "forebay.yaml:13:38: routes[3].when: `and` does not bind tighter than `or` in RainerScript: this means ($msg == 'é' or $msg == 'b') and …; parentheses say what is meant",
        "forebay.yaml:13:42: routes[3].when: $!x is never set here: it compares as an empty text",
        "forebay.yaml:16:9: routes[3].not.when: `not` binds tighter than comparisons in RainerScript, so that 0 or 1 is compared here: write not (…)",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn a_template_may_hold_its_key_itself() {
    let loaded = load_with(
        "inputs: {lan: {listen: udp://0.0.0.0:514}}
outputs: {sekoia: {region: fra1}}
routes:
  - template: '<%pri%>1 - - - - LOG [SEKOIA@53288 intake_key=\\\"abcdefgh12345678\\\"] %msg%\\n'
",
        &[],
    )
    .unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.warnings, []);
    assert!(!format!("{:?}", loaded.config).contains("abcdefgh12345678"));
}

#[test]
fn connections_are_divided_among_the_shards_rounded_up() {
    for (cores, connections, each) in [(1, 3, 3), (2, 3, 2), (4, 3, 1), (2, 8, 4)] {
        let text = format!(
            "inputs: {{lan: {{listen: 'udp://127.0.0.1:0'}}}}
outputs: {{sekoia: {{region: fra1, connections: {connections}}}}}
routes: [{{intake_key: abcdefgh12345678}}]
cores: {cores}
"
        );
        let config = load_with(&text, &[]).unwrap_or_else(|report| panic!("{report}")).config;
        assert_eq!((config.cores, config.outputs[0].connections_per_shard), (cores, each));
    }
}

/// Lines of configurations, good and bad, to be shuffled.
const LINES: &str = include_str!("../deploy/forebay.yaml");

/// Places of the reference configuration where a secret may stand.
fn with_secret_at(place: usize, good: bool) -> String {
    let secret = if good { "${SECRET}" } else { "${SECRET}(\\\\[%" };
    let values = [
        "fra1",
        "auto",
        "250KiB",
        "truncate",
        "unbound*",
        "10s",
        "30s",
        "64MiB",
        "127.0.0.1:9514",
        "info",
        "text",
        "sekoia",
    ];
    let value = values[place % values.len()];
    reference().replace(&format!(": {value}\n"), &format!(": \"{secret}\"\n"))
}

proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(text in any::<String>()) {
        let report = load_with(&text, &[]).map(|loaded| loaded.config).expect_err("no text as short is a configuration");
        let lines = report.to_string().lines().count();
        prop_assert_eq!(lines, report.mistakes().len());
        config::fuzz(text.as_bytes());
    }

    #[test]
    fn no_damaged_configuration_makes_the_loader_panic_or_tell_a_key(
        with_examples: bool,
        damages in proptest::collection::vec(
            (0..LINES.lines().count(), 0..6usize, "[ ]{0,4}[-?:&*!|>'\"{}\\[\\],#%@$a-c\\t]{0,3}", 0..40usize),
            1..6,
        ),
    ) {
        let text = if with_examples { LINES.replace("#:", "") } else { LINES.to_owned() };
        let text = text.replace("${UNBOUND_INTAKE_KEY}", SECRET);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (at, damage, junk, count) in damages {
            let other = lines[count].clone();
            let line = &mut lines[at];
            match damage {
                0 => line.clear(),
                1 => line.push_str(&junk),
                2 => line.insert_str(0, &" ".repeat(count % 7)),
                3 => *line = line.chars().take(count).collect(),
                4 => *line = format!("{line}\n{line}"),
                _ => *line = other,
            }
        }
        let shown = match load_with(&lines.join("\n"), &KEYS) {
            Ok(loaded) => format!("{:?} {:?}", loaded.config, loaded.warnings),
            Err(report) => report.to_string(),
        };
        prop_assert!(!shown.contains(SECRET), "{shown}");
    }

    #[test]
    fn secrets_are_in_no_report_and_in_no_debug_output(place in 0..12usize, good: bool, secret in "[A-Za-z0-9]{16,40}") {
        let text = with_secret_at(place, good);
        let placed = text.contains("${SECRET}");
        prop_assert!(placed);
        let variables = [KEYS[0], ("DEFAULT_INTAKE_KEY", secret.as_str()), ("SECRET", secret.as_str())];
        match load_with(&text, &variables) {
            // A condition made of a secret is shown: it is what the route looks for.
            Ok(_) if place == 4 => {}
            Ok(loaded) => {
                let shown = format!("{:?} {} {:?}", loaded.config, loaded.config.summary(), loaded.warnings);
                prop_assert!(!shown.contains(&secret), "{shown}");
            }
            Err(report) => {
                let shown = format!("{report} {report:?}");
                prop_assert!(!shown.contains(&secret), "{shown}");
            }
        }
    }
}

#[test]
fn a_bare_name_of_a_file_is_a_credential_first() {
    let (own, credentials) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    write(own.path(), "both", "keyBesideTheConfiguration\n");
    write(own.path(), "one", "keyOfTheConfigurationOnly\n");
    write(credentials.path(), "both", "keyOfTheCredential\n");
    write(credentials.path(), "other", "keyOfTheOtherCredential\n");
    let configuration = |file: &str| {
        let text = format!(
            "inputs: {{lan: {{listen: 'udp://127.0.0.1:0'}}}}\noutputs: {{sekoia: {{region: fra1}}}}\n\
             routes: [{{intake_key_file: {file}}}]\n"
        );
        write(own.path(), "forebay.yaml", &text);
        let variable = |name: &str| {
            (name == "CREDENTIALS_DIRECTORY").then(|| credentials.path().to_str().expect("a path").to_owned())
        };
        config::load(&Source::File(own.path().join("forebay.yaml")), &variable)
    };
    let key = |file: &str| {
        let loaded = configuration(file).unwrap_or_else(|report| panic!("{report}"));
        let Action::Forward { intake_key: Some(key), .. } = &loaded.config.routes[0].action else { panic!("no key") };
        String::from_utf8(key.expose().to_vec()).expect("text")
    };
    assert_eq!(key("both"), "keyOfTheCredential");
    assert_eq!(key("other"), "keyOfTheOtherCredential");
    assert_eq!(key("one"), "keyOfTheConfigurationOnly");
    // A path is a path.
    assert_eq!(key("./both"), "keyBesideTheConfiguration");
    let report = configuration("neither").expect_err("nowhere").to_string();
    assert!(report.contains("neither") && report.contains("cannot be read"), "{report}");
    assert!(configuration("./other").is_err());
}
