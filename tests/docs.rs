//! What the documents say is so: metrics, configurations, links, commands.
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

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use forebay::config::{self, Config, Source};
use forebay::metrics::{self, Kind};
use forebay::relay::Relay;
use regex::Regex;

#[path = "support/documents.rs"]
mod documents;

use documents::{blocks, documents, read, root};

fn load(name: &str, text: &str) -> Config {
    let source = Source::Text { name: name.to_owned(), text: text.to_owned() };
    // Sixteen letters and digits, as a key is; the documents take nothing else from the environment.
    let environment = |name: &str| name.ends_with("_INTAKE_KEY").then(|| format!("{:0>32}", name.replace('_', "")));
    let loaded = config::load(&source, &environment).unwrap_or_else(|report| panic!("{report}"));
    assert!(loaded.warnings.is_empty(), "{name}: {:?}", loaded.warnings);
    loaded.config
}

#[test]
fn every_configuration_in_the_documents_loads_without_a_warning() {
    let mut loaded = BTreeMap::new();
    for path in documents() {
        let file = path.strip_prefix(root()).expect("inside").display().to_string();
        for block in blocks(&read(&path)).0.iter().filter(|block| block.language == "yaml") {
            load(&format!("{file}, the block at line {}", block.line), &block.text);
            *loaded.entry(file.clone()).or_insert(0) += 1;
        }
    }
    assert!(loaded.get("README.md").is_some_and(|count| *count >= 2), "{loaded:?}");
    assert!(loaded.contains_key("docs/CONFIGURATION.md"), "{loaded:?}");
    // One for each program that people come from and whose files are not read.
    assert!(loaded.get("docs/MIGRATION.md").is_some_and(|count| *count >= 4), "{loaded:?}");
}

#[test]
fn every_relative_link_leads_somewhere() {
    let link = Regex::new(r#"\]\(([^)\s]+)\)|\bsrc(?:set)?="([^"]+)""#).expect("a regex");
    let mut links = 0;
    for path in documents() {
        let (_, prose) = blocks(&read(&path));
        for target in
            link.captures_iter(&prose).filter_map(|found| found.get(1).or(found.get(2))).map(|target| target.as_str())
        {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let to = if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            assert!(to.exists(), "{}: nothing is at {target}", path.display());
            assert!(anchor.is_empty() || anchors(&read(&to)).contains(&anchor.to_owned()), "{target}: no such heading");
            links += 1;
        }
    }
    assert!(links >= 6, "looked at {links} links only");
}

/// The headings of a document as links name them.
fn anchors(text: &str) -> Vec<String> {
    let (_, prose) = blocks(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let slug = |line: &str| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
        kept.map(|char| if char == ' ' { '-' } else { char }).collect()
    };
    headings.map(slug).collect()
}

/// The words of a shell line that runs forebay, from the program's name on; `None` for other lines.
fn forebay_words(line: &str) -> Option<Vec<String>> {
    let line = line.trim().trim_start_matches("$ ").split(" #").next().unwrap_or_default();
    let words = line.split_whitespace().skip_while(|word| *word == "sudo" || word.contains('='));
    let words: Vec<String> = words.take_while(|word| !["|", "&", ">"].contains(word)).map(str::to_owned).collect();
    let joined = words.join(" ");
    if let Some(arguments) = joined.strip_prefix("cargo run --release -- ") {
        return Some(std::iter::once("forebay").chain(arguments.split(' ')).map(str::to_owned).collect());
    }
    (words.first()?.rsplit('/').next() == Some("forebay") && words.len() > 1).then_some(words)
}

#[test]
fn every_command_in_the_documents_is_one_that_forebay_understands() {
    let span = Regex::new("`(forebay [^`]+)`").expect("a regex");
    let mut seen = BTreeMap::new();
    for path in documents() {
        let file = path.strip_prefix(root()).expect("inside").display().to_string();
        let (blocks, prose) = blocks(&read(&path));
        let in_blocks = blocks.iter().filter(|block| block.language == "sh").flat_map(|block| block.text.lines());
        let in_prose = span.captures_iter(&prose).filter_map(|found| found.get(1)).map(|command| command.as_str());
        for words in in_blocks.chain(in_prose).filter_map(forebay_words) {
            if let Err(error) = forebay::cli::definition().try_get_matches_from(&words) {
                // `--help` and `--version` come this way too.
                assert!(!error.use_stderr(), "{file}: {}: {error}", words.join(" "));
            }
            *seen.entry(file.clone()).or_insert(0) += 1;
        }
    }
    assert!(seen.get("README.md").is_some_and(|count| *count >= 4), "{seen:?}");
}

#[test]
fn the_reader_of_commands_tells_right_from_wrong() {
    let understood = |line: &str| {
        let words = forebay_words(line).expect("a line that runs forebay");
        forebay::cli::definition().try_get_matches_from(words).is_ok()
    };
    assert!(understood("cargo run --release -- demo"));
    assert!(understood("FOREBAY_INTAKE_KEY=x sudo ./target/release/forebay run   # a sidecar"));
    assert!(!understood("forebay walk"));
    assert!(!understood("forebay check --colour"));
    assert_eq!(forebay_words("cargo test"), None);
}

/// What is known of a metric: its type, its labels, the values of `reason`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Metric {
    kind: String,
    labels: Vec<String>,
    reasons: Vec<String>,
}

/// The rows of docs/METRICS.md, in order.
fn documented() -> Vec<(String, Metric)> {
    let name = Regex::new("`([a-z0-9_]+)`").expect("a regex");
    let names = |text: &str| -> Vec<String> { name.captures_iter(text).map(|found| found[1].to_owned()).collect() };
    let (_, prose) = blocks(&read(&root().join("docs/METRICS.md")));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, metric, kind, labels, meaning, _] = cells[..] else { panic!("a row of four cells: {line}") };
        assert!(meaning.len() > 10, "{metric} has no meaning");
        let (labels, reasons) = labels.split_once('(').unwrap_or((labels, ""));
        let (mut labels, mut reasons) = (names(labels), names(reasons));
        labels.sort();
        reasons.sort();
        let metric = names(metric).pop().expect("a name");
        (metric, Metric { kind: kind.to_owned(), labels, reasons })
    };
    prose.lines().filter(|line| line.starts_with("| `")).map(row).collect()
}

/// What a running relay exports.
fn exported() -> BTreeMap<String, Metric> {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = format!("spool: {{dir: {}, min_free: 0}}\n", folder.path().join("spool").display());
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (folder.path().join("own.pem"), folder.path().join("own.key"));
    std::fs::write(&cert, own.cert.pem()).expect("written");
    std::fs::write(&key, own.signing_key.serialize_pem()).expect("written");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
    let (cert, key) = (cert.display(), key.display());
    let tls = format!(
        "inputs: {{in: {{listen: ['udp://127.0.0.1:0', 'tls://127.0.0.1:0'], receive_buffer: 64KiB, tls: {{cert: {cert}, key: {key}}}}}}}\n\
         outputs: {{out: {{to: 'tls://127.0.0.1:9', tls: {{client_cert: {cert}, client_key: {key}}}}}, \
         web: {{to: 'http://127.0.0.1:9'}}}}\n"
    );
    let text = "\
         routes: [{program: noise, discard: true}, {name: all, output: out, intake_key: '${TEST_INTAKE_KEY}'}]\n\
         admin: {listen: '127.0.0.1:0'}\ncores: 1\n";
    let config = load("the test's configuration", &format!("{tls}{text}{spool}"));
    let relay = Relay::start(config).expect("it starts");
    let mut stream = TcpStream::connect(relay.admin.expect("an admin server")).expect("a connection");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    relay.stop(Duration::from_secs(5));
    assert_eq!(relay.wait(Duration::from_secs(5)), Some(0));
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    series(body)
}

/// The metrics of a text in the Prometheus format.
fn series(body: &str) -> BTreeMap<String, Metric> {
    let label = Regex::new("([a-z_]+)=\"([^\"]*)\"").expect("a regex");
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for line in body.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kind.clone_into(&mut metrics.entry(name.to_owned()).or_default().kind);
        }
    }
    for line in body.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let name = if metrics.contains_key(name) { name } else { of_histogram.unwrap_or(name) };
        let metric = metrics.get_mut(name).unwrap_or_else(|| panic!("no # TYPE of {name}"));
        for found in label.captures_iter(line) {
            if ["reason", "source", "state", "status"].contains(&&found[1]) {
                metric.reasons.push(found[2].to_owned());
            }
            if &found[1] != "le" {
                metric.labels.push(found[1].to_owned());
            }
        }
    }
    for metric in metrics.values_mut() {
        for list in [&mut metric.labels, &mut metric.reasons] {
            list.sort();
            list.dedup();
        }
    }
    metrics
}

#[test]
fn the_list_of_metrics_is_the_one_that_is_declared() {
    let kind = |kind: Kind| match kind {
        Kind::Count => "counter",
        Kind::Amount => "gauge",
        Kind::Histogram => "histogram",
    };
    let declared: Vec<(String, String)> =
        metrics::described().map(|metric| (metric.name.to_owned(), kind(metric.kind).to_owned())).collect();
    let documented: Vec<(String, String)> =
        documented().into_iter().map(|(name, metric)| (name, metric.kind)).collect();
    assert!(declared.len() > 30, "{declared:?}");
    assert_eq!(documented, declared, "docs/METRICS.md (left) and metrics::described() (right), in the same order");
}

#[test]
fn the_list_of_metrics_is_what_a_running_relay_exports() {
    let documented: BTreeMap<String, Metric> = documented().into_iter().collect();
    let exported = exported();
    let missing: Vec<_> = exported.keys().filter(|name| !documented.contains_key(*name)).collect();
    assert!(missing.is_empty(), "exported and not in docs/METRICS.md: {missing:?}");
    for (name, metric) in &documented {
        assert_eq!(exported.get(name), Some(metric), "{name}: exported (left) and in docs/METRICS.md (right)");
    }
}

#[test]
fn alerts_and_equations_name_metrics_that_exist() {
    let name = Regex::new("forebay_[a-z_]+").expect("a regex");
    let known: Vec<String> = documented().into_iter().map(|(name, _)| name).collect();
    let mut named = 0;
    for path in documents() {
        for found in name.find_iter(&read(&path)) {
            let bare = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| found.as_str().strip_suffix(suffix));
            let exists = |name: &str| known.iter().any(|known| known == name);
            assert!(exists(found.as_str()) || bare.is_some_and(exists), "{}: {}", path.display(), found.as_str());
            named += 1;
        }
    }
    assert!(named > known.len(), "{named}");
}

/// Every file of `src`: its path relative to the repository, and its text.
fn sources() -> BTreeMap<String, String> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root().join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.insert(path.strip_prefix(root()).expect("inside").display().to_string(), read(&path));
            }
        }
    }
    assert!(found.len() > 60, "{}", found.len());
    found
}

#[test]
fn the_map_shows_every_module_and_nothing_else() {
    let map = Regex::new(r"(?m)^\| `src/([a-z0-9]+)(?:/|\.rs)` \|").expect("a regex");
    let text = read(&root().join("docs/ARCHITECTURE.md"));
    let shown: BTreeSet<String> = map.captures_iter(&text).map(|found| found[1].to_owned()).collect();
    let sources = sources();
    let modules = sources.keys().filter_map(|path| path.strip_prefix("src/")?.strip_suffix(".rs"));
    let modules: BTreeSet<String> =
        modules.filter(|name| !name.contains('/') && *name != "lib" && *name != "main").map(str::to_owned).collect();
    assert_eq!(shown, modules, "the map (left) and src (right)");
}

#[test]
fn functions_and_files_that_the_architecture_names_exist() {
    let text = read(&root().join("docs/ARCHITECTURE.md"));
    let sources = sources();
    let file = Regex::new("`((?:src|tests)/[a-z/_]+(?:\\.rs)?)`").expect("a regex");
    let function = Regex::new("`([A-Za-z]+)::([a-z_]+)`").expect("a regex");
    let mut named = 0;
    for found in file.captures_iter(&text) {
        assert!(root().join(&found[1]).exists(), "nothing is at {}", &found[1]);
        named += 1;
    }
    for found in function.captures_iter(&text) {
        let (whose, name) = (&found[1], &found[2]);
        let defines = Regex::new(&format!(r"\bfn {name}\b")).expect("a regex");
        let is_type = whose.starts_with(char::is_uppercase);
        let of_type = Regex::new(&format!(r"\b(?:struct|enum) {whose}\b|\bimpl.* {whose}\b")).expect("a regex");
        let exists = sources.iter().any(|(path, text)| {
            let home = if is_type { of_type.is_match(text) } else { path.starts_with(&format!("src/{whose}")) };
            home && defines.is_match(text)
        });
        assert!(exists, "nothing in src defines {whose}::{name}");
        named += 1;
    }
    assert!(named > 30, "{named}");
}
