//! Configurations: good ones load, bad ones are reported, all mistakes at once, secrets never.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use forebay::config::{self, Action, Listen, Loaded, Report, Source};

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
    assert_eq!((config.outputs[0].host.as_str(), config.outputs[0].port), ("intake.sekoia.io", 10514));
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
    assert_eq!(loaded.config.outputs[0].host, "intake.sekoia.io");
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
