//! The house's own rules, read from its files: borders between modules, absences, sizes, the list of dependencies.
//! docs/ARCHITECTURE.md says why each of them is there.
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
use std::path::{Path, PathBuf};

use regex::Regex;

/// Lines of a file in `src`.
const LINES_MAX: usize = 600;

/// Which of our modules each may name. What is further down is above: dependencies point up this list.
const BORDERS: &[(&str, &[&str])] = &[
    ("base64", &[]),
    ("stop", &[]),
    ("slots", &[]),
    ("time", &[]),
    ("sys", &[]),
    ("systemd", &["sys"]),
    ("syslog", &[]),
    ("relp", &["syslog"]),
    ("posix", &[]),
    ("route", &["posix", "syslog"]),
    ("template", &["posix", "syslog"]),
    ("batch", &["syslog"]),
    ("receipts", &["batch"]),
    ("lane", &["batch", "receipts", "syslog"]),
    ("config", &["route", "syslog", "template"]),
    ("harden", &["config"]),
    ("metrics", &["config", "slots", "time"]),
    ("tls", &["config", "metrics", "time"]),
    ("names", &[]),
    ("road", &["config", "metrics", "names", "sys", "tls"]),
    ("spool", &["batch", "config", "metrics", "sys", "syslog", "time"]),
    ("tap", &["batch", "route", "syslog"]),
    ("pipeline", &["batch", "config", "lane", "metrics", "receipts", "route", "slots", "spool", "syslog", "tap"]),
    (
        "receive",
        &["config", "metrics", "pipeline", "receipts", "relp", "stop", "sys", "syslog", "systemd", "time", "tls"],
    ),
    (
        "forward",
        &[
            "batch", "config", "metrics", "names", "pipeline", "relp", "road", "slots", "stop", "sys", "syslog",
            "template", "time", "tls",
        ],
    ),
    (
        "shard",
        &[
            "config", "forward", "metrics", "names", "pipeline", "receive", "road", "spool", "stop", "syslog", "tap",
            "time", "tls",
        ],
    ),
    (
        "admin",
        &[
            "base64", "config", "forward", "harden", "metrics", "route", "shard", "spool", "syslog", "tap", "time",
            "tls",
        ],
    ),
    (
        "relay",
        &[
            "admin", "config", "forward", "harden", "metrics", "names", "receive", "road", "shard", "spool", "stop",
            "systemd", "time", "tls",
        ],
    ),
    ("probe", &["config", "forward", "names", "relay", "road", "route", "syslog", "template", "time", "tls"]),
    ("host", &["config", "receive", "sys", "time"]),
    (
        "cli",
        &[
            "admin", "base64", "batch", "config", "forward", "harden", "host", "metrics", "pipeline", "probe",
            "receive", "relay", "route", "spool", "sys", "syslog", "systemd", "template", "tls",
        ],
    ),
];

/// The modules that only compute: octets in, octets out.
const PURE: &[&str] = &["syslog", "posix", "relp", "route", "template", "batch", "receipts", "lane"];

/// Where alone a crate may be named.
const CRATES: &[(&str, &[&str])] = &[
    ("anyhow", &["cli"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("crossterm", &["cli"]),
    ("hickory_resolver", &["names"]),
    ("flate2", &["forward"]),
    ("hyper", &["admin", "forward", "road"]),
    ("hyper_util", &["admin", "forward", "road"]),
    ("landlock", &["harden"]),
    ("libc", &["harden", "receive", "sys"]),
    ("metrics_exporter_prometheus", &["metrics"]),
    ("nix", &["config", "harden"]),
    ("ratatui", &["cli"]),
    ("rcgen", &["cli"]),
    ("saphyr_parser", &["config"]),
    ("seccompiler", &["harden"]),
    ("serde_yaml", &["config"]),
    ("sled", &["spool"]),
    ("socket2", &["receive", "road", "sys", "systemd"]),
    ("x509_parser", &["tls"]),
    ("tracing_subscriber", &["cli", "config"]),
];

/// A file of `src`.
struct File {
    /// Relative to `src`.
    path: String,
    /// As it is.
    text: String,
    /// Without comments and without what stands in literals.
    code: String,
}

impl File {
    /// The module directly under the crate that it belongs to; empty for `lib.rs` and `main.rs`.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        if first == "lib" || first == "main" { "" } else { first }
    }

    /// Whether it is compiled for tests only.
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs")
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All of `src`.
fn files() -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = read(&path);
                let path = path.strip_prefix(root().join("src")).expect("inside").display().to_string();
                found.push(File { path, code: code(&text), text });
            }
        }
    }
    assert!((60..500).contains(&found.len()), "looked at {} files", found.len());
    let modules: BTreeSet<&str> = found.iter().map(File::module).collect();
    for (module, _) in BORDERS {
        assert!(modules.contains(module), "no file of {module}: the list of borders is out of date");
    }
    found
}

/// Rust without its comments and without what stands between quotes.
fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::new();
    let mut at = 0;
    while let Some(char) = chars.get(at) {
        let rest = &chars[at..];
        let skipped = match char {
            '/' if rest.get(1) == Some(&'/') => rest.iter().take_while(|char| **char != '\n').count(),
            '/' if rest.get(1) == Some(&'*') => 2 + find(&rest[2..], "*/") + 2,
            '"' => string_length(rest),
            'r' if !code.ends_with(|last: char| last.is_alphanumeric() && last != 'b') => raw_string_length(rest),
            '\'' => char_length(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(*char);
        }
        at += skipped.max(1);
    }
    code
}

fn find(chars: &[char], what: &str) -> usize {
    let what: Vec<char> = what.chars().collect();
    chars.windows(what.len()).position(|window| window == what).unwrap_or(chars.len())
}

/// Length of the literal that begins here, quotes included.
fn string_length(rest: &[char]) -> usize {
    let mut at = 1;
    while let Some(char) = rest.get(at) {
        match char {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// The same of `r"…"`, `r#"…"#`; 0 where none begins here.
fn raw_string_length(rest: &[char]) -> usize {
    let hashes = rest.iter().skip(1).take_while(|char| **char == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let begins = hashes + 2;
    begins + find(&rest[begins..], &end) + end.len()
}

/// The same of `'c'`; 0 where it is a lifetime.
fn char_length(rest: &[char]) -> usize {
    match rest {
        [_, '\\', _, more @ ..] => 3 + find(more, "'") + 1,
        [_, _, '\'', ..] => 3,
        _ => 0,
    }
}

fn has_word(code: &str, word: &str) -> bool {
    let is_part = |char: char| char.is_alphanumeric() || char == '_';
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

/// Which of our modules a file names: `crate::a`, `crate::{a, b::c}`.
fn names(code: &str) -> BTreeSet<String> {
    let path = Regex::new(r"\bcrate::(?:(\w+)|\{([^;]*)\};)").expect("a regex");
    let mut names = BTreeSet::new();
    for found in path.captures_iter(code) {
        if let Some(name) = found.get(1) {
            names.insert(name.as_str().to_owned());
        }
        let mut depth = 0;
        let group = found.get(2).map_or("", |group| group.as_str());
        // Only what stands directly in the group: `{a, b::{c, d}}` names a and b.
        let flat: String = group
            .chars()
            .filter(|char| {
                depth += i32::from(*char == '{') - i32::from(*char == '}');
                depth == 0
            })
            .collect();
        let firsts = flat.split(',').filter_map(|item| item.split("::").next()).map(str::trim);
        names.extend(firsts.filter(|first| !first.is_empty()).map(str::to_owned));
    }
    names
}

#[test]
fn modules_name_only_what_lies_below_them() {
    let borders: BTreeMap<&str, &[&str]> = BORDERS.iter().copied().collect();
    let (mut crossings, mut wrong) = (0, Vec::new());
    for file in files().iter().filter(|file| !file.module().is_empty() && !file.is_test()) {
        let Some(allowed) = borders.get(file.module()) else {
            panic!("{}: a new module; say in BORDERS what it may name", file.path);
        };
        for name in names(&file.code).iter().filter(|name| *name != file.module()) {
            crossings += 1;
            if !allowed.contains(&name.as_str()) {
                wrong.push(format!("{} names crate::{name}", file.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(crossings > 60, "saw {crossings} only");
}

#[test]
fn borders_point_one_way_and_keep_both_ends_apart() {
    let order: Vec<&str> = BORDERS.iter().map(|(module, _)| *module).collect();
    for (at, (module, allowed)) in BORDERS.iter().enumerate() {
        for name in *allowed {
            let place = order.iter().position(|known| known == name).unwrap_or_else(|| panic!("no module {name}"));
            assert!(place < at, "{module} may name {name}, which lies above it");
        }
    }
    let allowed = |module: &str| BORDERS.iter().find(|(name, _)| *name == module).expect("a module").1;
    assert!(!allowed("receive").contains(&"forward") && !allowed("forward").contains(&"receive"));
    for pure in ["syslog", "relp", "route", "template"] {
        assert!(!allowed(pure).contains(&"config") && !allowed(pure).contains(&"metrics"), "{pure}");
    }
}

#[test]
fn meaning_is_pure() {
    const ABSENT: &[&str] = &[
        "tokio",
        "sled",
        "tracing",
        "metrics",
        "hyper",
        "rustls",
        "socket2",
        "libc",
        "crossbeam_channel",
        "fs",
        "thread",
        "process",
        "env",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "SystemTime",
        "async",
        "await",
    ];
    let files = files();
    let pure: Vec<&File> = files.iter().filter(|file| PURE.contains(&file.module()) && !file.is_test()).collect();
    assert!(pure.len() >= 20, "looked at {} files", pure.len());
    for file in pure {
        // The compiler's environment: the version.
        let code = file.code.replace("env!", "");
        let named: Vec<&&str> = ABSENT.iter().filter(|word| has_word(&code, word)).collect();
        assert!(named.is_empty(), "{} names {named:?}", file.path);
    }
}

#[test]
fn a_configuration_opens_no_socket_and_writes_nothing() {
    const ABSENT: &[&str] = &[
        "tokio",
        "socket2",
        "libc",
        "ClientConfig",
        "ServerConfig",
        "hyper",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "UnixListener",
        "os::unix",
        "fs::write",
        "create",
        "create_new",
        "OpenOptions",
        "remove_file",
        "set_permissions",
    ];
    let files = files();
    let config: Vec<&File> = files.iter().filter(|file| file.module() == "config").collect();
    assert!(config.len() >= 12, "looked at {} files", config.len());
    for file in config {
        let named: Vec<&&str> = ABSENT.iter().filter(|word| has_word(&file.code, word)).collect();
        assert!(named.is_empty(), "{} names {named:?}", file.path);
    }
}

#[test]
fn crates_are_named_where_they_belong() {
    let crates = CRATES
        .iter()
        .map(|(krate, places)| (Regex::new(&format!(r"\b{krate}::|\buse {krate}\b")).expect("a regex"), krate, places));
    let crates: Vec<_> = crates.collect();
    for file in files().iter().filter(|file| !file.module().is_empty() && !file.is_test()) {
        for (named, krate, places) in &crates {
            let here = named.is_match(&file.code);
            assert!(!here || places.contains(&file.module()), "{} names {krate}, which is for {places:?}", file.path);
        }
    }
}

#[test]
fn only_one_file_holds_unsafe_code() {
    let files = files();
    let holds: Vec<&str> =
        files.iter().filter(|file| has_word(&file.code, "unsafe")).map(|file| file.path.as_str()).collect();
    assert_eq!(holds, ["sys.rs"]);
    let sys = files.iter().find(|file| file.path == "sys.rs").expect("sys.rs");
    let blocks = Regex::new(r"\bunsafe\b").expect("a regex").find_iter(&sys.code).count();
    assert_eq!(sys.text.matches("// SAFETY: ").count(), blocks, "each block says why it is sound");
}

#[test]
fn a_key_is_exposed_only_where_it_is_written() {
    let files = files();
    let exposing: BTreeSet<&str> =
        files.iter().filter(|file| file.code.contains(".expose()")).map(|file| file.path.as_str()).collect();
    let allowed = BTreeSet::from([
        // Render it; and look for those that a sender put into a message.
        "forward/render.rs",
        "forward/https/body.rs",
        // Puts it into a header.
        "forward/https.rs",
        // Shows the admin server's token to it.
        "admin/client.rs",
        // Encrypts with it.
        "spool/cipher.rs",
        // Compares those that it made up.
        "cli/demo.rs",
    ]);
    assert_eq!(exposing, allowed);
}

#[test]
fn every_queue_has_a_bound_and_nothing_is_left_half_done() {
    const ABSENT: &[&str] = &[
        r"\bunbounded",
        r"\btodo!",
        r"\bunimplemented!",
        r"\bdbg!",
        r"\bprintln!",
        r"\beprintln!",
        r"\bprint!",
        r"\beprint!",
        r"thread::sleep",
        r"sync::mpsc",
    ];
    let patterns: Vec<Regex> = ABSENT.iter().map(|pattern| Regex::new(pattern).expect("a regex")).collect();
    for file in files().iter().filter(|file| !file.is_test()) {
        for pattern in &patterns {
            // tokio's has a bound; std's has none.
            let code = file.code.replace("tokio::sync::mpsc", "");
            assert!(!pattern.is_match(&code), "{} holds {pattern}", file.path);
        }
        assert!(!file.text.contains("FIXME") && !file.text.contains("XXX"), "{}", file.path);
    }
}

#[test]
fn files_are_short_and_named_after_their_module() {
    let files = files();
    for file in &files {
        let lines = file.text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines, at most {LINES_MAX}: split it by phase", file.path);
        assert!(!file.path.ends_with("mod.rs"), "{}: a module's file stands beside its folder", file.path);
        assert!(file.text.starts_with("//! ") || file.is_test(), "{} does not say what it is for", file.path);
    }
}

/// Dependencies of Cargo.toml and rows of docs/DEPENDENCIES.md: those that ship, those of tests.
fn dependencies(text: &str, heads: [&str; 2], row: &str) -> [BTreeSet<String>; 2] {
    let row = Regex::new(row).expect("a regex");
    heads.map(|head| {
        let section = text.lines().skip_while(|line| *line != head).skip(1);
        let rows = section.take_while(|line| !line.starts_with('[') && !line.starts_with("## "));
        rows.filter_map(|line| Some(row.captures(line)?.get(1)?.as_str().to_owned())).collect()
    })
}

fn manifest_dependencies() -> [BTreeSet<String>; 2] {
    let manifest = read(&root().join("Cargo.toml"));
    dependencies(&manifest, ["[dependencies]", "[dev-dependencies]"], r"^([A-Za-z0-9_-]+) *=")
}

#[test]
fn every_dependency_is_listed_with_its_reason() {
    let [ships, tests] = manifest_dependencies();
    assert!(ships.len() > 25 && !tests.is_empty(), "{ships:?} {tests:?}");
    let list = read(&root().join("docs/DEPENDENCIES.md"));
    let heads = ["## What ships", "## What tests and benchmarks need"];
    let listed = dependencies(&list, heads, r"^\| `([^`]+)` \| [^|]{5,} \| [^|]{5,} \|$");
    assert_eq!(listed, [ships, tests], "docs/DEPENDENCIES.md (left) and Cargo.toml (right)");
}

/// Named in the manifest to choose the version that another crate gets.
const OF_OTHERS: [&str; 1] = ["idna_adapter"];

#[test]
fn every_dependency_that_ships_is_used() {
    let files = files();
    for dependency in &manifest_dependencies()[0] {
        let name = dependency.replace('-', "_");
        let is_named = files.iter().any(|file| has_word(&file.code, &name));
        assert_eq!(is_named, !OF_OTHERS.contains(&name.as_str()), "whether something in src names {name}");
    }
}

#[test]
fn the_reader_of_code_sees_neither_comments_nor_literals() {
    let text = "let a = \"b // \\\" c\"; // d\n/* e */ let 'f: g = 'h' + '\\'' + r#\"i \" j\"# + br\"k\"; for_l(\"\");";
    let seen: String = code(text).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(seen, "let a = ; let 'f: g = + + + b; for_l();");
    let named = names("use crate::a::B; use crate::{c, d::{e, f}, g::H}; crate::i::j();");
    assert_eq!(named.into_iter().collect::<String>(), "acdgi");
}
