//! What is in `deploy/`: every file can be read by whom it is for.
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

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use forebay::config::{self, Source};
use regex::Regex;
use serde::Deserialize;
use serde_yaml::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every YAML file of `deploy/` but the chart's templates, which are none before Helm has rendered them.
fn files() -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join("deploy")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.extend((!path.ends_with("templates")).then_some(path));
            } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The documents of a file.
fn documents(path: &Path) -> Vec<Value> {
    let text = read(path);
    let documents = serde_yaml::Deserializer::from_str(&text);
    let value = |document| Value::deserialize(document).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    documents.map(value).collect()
}

/// Configurations of forebay: a document that is one, the `config:` of a chart's values, a ConfigMap's files.
fn configurations(document: &Value, text: &str) -> Vec<String> {
    if document.get("inputs").is_some() {
        return vec![text.to_owned()];
    }
    let files: Vec<&Value> =
        document.get("data").and_then(Value::as_mapping).map(|data| data.values().collect()).unwrap_or_default();
    let embedded: Vec<&Value> = [document.get("config").into_iter().collect(), files].concat();
    let is_ours = |text: &&str| text.contains("inputs:");
    embedded.into_iter().filter_map(Value::as_str).filter(is_ours).map(str::to_owned).collect()
}

/// Loads it, with a key for each name that it asks for: without a mistake, and without a warning.
fn load(name: &str, text: &str) {
    let credentials = tempfile::tempdir().unwrap();
    let file = Regex::new(r"intake_key_file: ([a-z_]+)").unwrap();
    for found in file.captures_iter(text) {
        let key = credentials.path().join(&found[1]);
        std::fs::write(&key, "0123456789abcdef").unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
    }
    let source = Source::Text { name: name.to_owned(), text: text.to_owned() };
    let environment = |name: &str| match name {
        "CREDENTIALS_DIRECTORY" => credentials.path().to_str().map(str::to_owned),
        name => name.ends_with("_INTAKE_KEY").then(|| "0123456789abcdef".to_owned()),
    };
    let loaded = config::load(&source, &environment).unwrap_or_else(|report| panic!("{report}"));
    assert!(loaded.warnings.is_empty(), "{name}: {:?}", loaded.warnings);
}

#[test]
fn every_yaml_file_is_one_and_every_configuration_in_it_loads() {
    let (files, mut loaded) = (files(), Vec::new());
    for path in &files {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        let text = read(path);
        let documents = documents(path);
        assert!(!documents.is_empty(), "{name}");
        for configuration in documents.iter().flat_map(|document| configurations(document, &text)) {
            load(&name, &configuration);
            loaded.push(name.clone());
        }
    }
    assert!(files.len() > 20, "{files:?}");
    for expected in
        ["deploy/forebay.yaml", "concentrator/forebay.yaml", "daemonset/forebay.yaml", "forebay/values.yaml"]
    {
        assert!(loaded.iter().any(|name| name.ends_with(expected)), "{expected} is not among {loaded:?}");
    }
}

#[test]
fn sidecars_of_the_compose_files_load_from_their_variables_alone() {
    let services = |name: &str| {
        let documents = documents(&root().join("deploy/docker").join(name));
        let service = documents[0]["services"]["forebay"].clone();
        assert!(service["stop_grace_period"].as_str().is_some_and(|period| period == "20s"), "{name}");
        service
    };
    let environment = services("docker-compose.sidecar.yml")["environment"].clone();
    let variables: BTreeMap<String, String> = serde_yaml::from_value(environment).unwrap();
    let variable = |name: &str| match variables.get(name)?.as_str() {
        // The engine fills these in.
        text if text.starts_with("${FOREBAY_INTAKE_KEY:?") => Some("0123456789abcdef".to_owned()),
        text if text.starts_with("${") => text.trim_end_matches('}').split_once(":-").map(|(_, text)| text.to_owned()),
        text => Some(text.to_owned()),
    };
    let loaded = config::load(&Source::Environment, &variable).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.config.inputs[0].listen.len(), 2);
    // Twice the stop's own limit: what does not end by then is killed with what it holds.
    assert!(loaded.config.shutdown_timeout.as_secs() * 2 <= 20);
    assert!(services("docker-compose.yml")["volumes"].as_sequence().unwrap().len() == 2);
}

#[test]
fn charts_and_manifests_are_what_kubernetes_takes() {
    let program = Path::new(env!("CARGO_BIN_EXE_forebay"));
    let python = program.ancestors().nth(2).unwrap().join("deploy-venv/bin/python");
    if !python.exists() {
        assert!(std::env::var_os("CI").is_none(), "CI has made {}", python.display());
        println!("skipped: deploy/kubernetes/validate.py says how to make {}", python.display());
        return;
    }
    let script = root().join("deploy/kubernetes/validate.py");
    let done = Command::new(python).arg(script).arg(program).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    let counted = Regex::new(r"(\d+) objects, (\d+) checks, 0 mistakes").unwrap();
    let counts = counted.captures(&said).unwrap_or_else(|| panic!("{said}"));
    assert!(counts[1].parse::<u32>().unwrap() >= 40 && counts[2].parse::<u32>().unwrap() >= 250, "{said}");
}

/// What a package has: where it goes and where it is from, without the binary.
fn assets(metadata: &serde_json::Value, from: &str, to: &str) -> BTreeMap<String, String> {
    let assets = metadata["assets"].as_array().unwrap().iter();
    let field = |asset: &serde_json::Value, name: &str| match name.parse::<usize>() {
        Ok(index) => asset[index].as_str().unwrap().to_owned(),
        Err(_) => asset[name].as_str().unwrap().to_owned(),
    };
    let pair = |asset: &serde_json::Value| {
        let (source, mut target) = (field(asset, from), field(asset, to));
        if target.ends_with('/') {
            target.push_str(source.rsplit('/').next().unwrap());
        }
        (format!("/{}", target.trim_start_matches('/')), source)
    };
    assets.map(pair).collect()
}

#[test]
fn both_packages_have_the_same_files_and_keep_the_same_configuration() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    let asked = command.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(root());
    let output = asked.output().unwrap();
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let metadata = &all["packages"][0]["metadata"];
    let (deb, rpm) = (&metadata["deb"], &metadata["generate-rpm"]);
    let (in_deb, in_rpm) = (assets(deb, "0", "1"), assets(rpm, "source", "dest"));
    // Each distribution has its own place for licenses.
    let without_licenses = |assets: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        let ours = assets.iter().filter(|(_, source)| !source.starts_with("LICENSE"));
        ours.map(|(to, from)| (to.clone(), from.clone())).collect()
    };
    assert_eq!(without_licenses(&in_deb), without_licenses(&in_rpm));
    for (to, from) in in_deb.iter().filter(|(to, _)| *to != "/usr/bin/forebay") {
        assert!(root().join(from).is_file(), "{to} is to be {from}, which is not there");
    }
    let unit = read(&root().join(&in_deb["/usr/lib/systemd/system/forebay.service"]));
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    assert!(in_deb.contains_key(words[0]) && in_deb.contains_key(words[3]), "{line}");
    assert!(forebay::cli::definition().try_get_matches_from(&words).is_ok(), "{line}");
    let kept: Vec<&str> = deb["conf-files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    let rpm_assets = rpm["assets"].as_array().unwrap().iter();
    let noreplace: Vec<&str> = rpm_assets
        .filter(|asset| asset["config"] == "noreplace")
        .map(|asset| asset["dest"].as_str().unwrap())
        .collect();
    assert_eq!(kept, noreplace);
    assert!(kept.contains(&"/etc/forebay/forebay.yaml"));
    for script in ["postinst", "prerm", "postrm"] {
        let path = root().join("deploy/package").join(script);
        let read = Command::new("sh").arg("-n").arg(&path).status().unwrap();
        assert!(read.success(), "{}", path.display());
    }
}
