//! Configurations: good ones load, bad ones are reported, all mistakes at once, secrets never.

use std::collections::HashMap;

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
