//! rsyslog's configuration, read as it is: Sekoia's snippets, what `import` prints, and the same octets as a real rsyslogd
//! sends with the same file.
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

#[path = "rsyslog/parity.rs"]
mod parity;
#[path = "rsyslog/snippets.rs"]
mod snippets;
#[path = "support/harness.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use forebay::config::{self, Keys, Loaded, Reading, Report, Source, import_rsyslog};
use proptest::prelude::*;

/// The least that a configuration needs besides rsyslog's.
const BASE: &str = "cores: 2\nadmin: {listen: off}\n";

fn load(source: &Source) -> Result<Loaded, Report> {
    config::load(source, &|_| None)
}

/// `rsyslog:` in a file that says nothing else of messages.
fn with_files(files: &[PathBuf], strict: bool) -> Source {
    let base = Source::Text { name: "base.yaml".to_owned(), text: BASE.to_owned() };
    Source::Rsyslog { base: Some(Box::new(base)), files: files.to_vec(), strict }
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    support::certificates::write_private(&path, text);
    path
}

/// Holds a loaded configuration to being the one that `import` prints.
#[track_caller]
fn assert_imports_as(loaded: &Loaded, files: &[PathBuf]) {
    let (text, _) = import_rsyslog(files, Keys::Found).unwrap_or_else(|report| panic!("{report}"));
    let source = Source::Text { name: "imported.yaml".to_owned(), text: format!("{text}\n{BASE}") };
    let imported = load(&source).unwrap_or_else(|report| panic!("{report}\n{text}"));
    assert_eq!(format!("{:#?}", imported.config), format!("{:#?}", loaded.config), "{text}");
    assert_eq!(imported.config.summary(), loaded.config.summary(), "{text}");
}

/// A concentrator's configuration, in two files.
const MAIN: &str = "\
# The concentrator of the mill.
module(load=\"imtcp\")
module(load=\"imklog\")
$MaxMessageSize 20k
$FileOwner root
$WorkDirectory /var/spool/rsyslog
input(type=\"imtcp\" address=\"127.0.0.1\" port=\"10514\" name=\"lan\" keepAlive=\"on\")
$IncludeConfig DIRECTORY/d/*.conf
*.*;auth,authpriv.none -/var/log/mill
";
const INCLUDED: &str = "\
template(name=\"Wheel\" type=\"string\" string=\"<%pri%>1 %timestamp:::date-rfc3339% %hostname% %app-name% %procid% LOG [SEKOIA@53288 intake_key=\\\"abcdefgh12345678\\\"] %msg%\\n\")
if $programname startswith 'wheel' then {
  action(type=\"omfwd\" protocol=\"tcp\" target=\"intake.sekoia.io\" port=\"10514\" TCP_Framing=\"octet-counted\"
    StreamDriver=\"gtls\" StreamDriverMode=\"1\" StreamDriverAuthMode=\"x509/name\" StreamDriverPermittedPeers=\"intake.sekoia.io\"
    action.resumeRetryCount=\"-1\" queue.type=\"LinkedList\" queue.filename=\"wheel\" queue.maxDiskSpace=\"1g\" Template=\"Wheel\")
  stop
}
";

fn mill(directory: &Path) -> PathBuf {
    write(directory, "d/10-wheel.conf", INCLUDED);
    write(directory, "rsyslog.conf", &MAIN.replace("DIRECTORY", directory.to_str().unwrap()))
}

#[test]
fn a_configuration_of_several_files_runs_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = mill(directory.path());
    let loaded = load(&with_files(std::slice::from_ref(&file), false)).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.warnings, []);
    let expected = "\
inputs
  lan: tcp://127.0.0.1:10514; framing auto; messages over 20KiB truncated; at most 10000 connections (1000 a peer)
outputs
  intake.sekoia.io-tls: tls://intake.sekoia.io:10514
  var-log-mill: file:///var/log/mill; begun anew never; intake keys masked
routes, the first that holds takes the message
";
    let summary = loaded.config.summary();
    let (head, _) = summary.split_once("  1. ").unwrap();
    let words = |text: &str| text.lines().map(|line| line.split(';').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(words(head), words(expected));
    assert!(summary.contains("at most 1GiB"), "{summary}");
    let notes: Vec<String> = loaded
        .notes
        .iter()
        .filter(|note| note.reading != Reading::Mapped)
        .map(|note| format!("{}: {}: {}", note.at.line, note.construct, note.reading.in_words()))
        .collect();
    assert_eq!(
        notes,
        [
            "3: module(load=\"imklog\"): not supported",
            "5: $FileOwner: no meaning here",
            "7: input(type=\"imtcp\") keepalive: no meaning here",
        ]
    );
    assert_imports_as(&loaded, &[file]);
}

#[test]
fn what_is_not_supported_is_a_mistake_where_that_is_wished() {
    let directory = tempfile::tempdir().unwrap();
    let file = mill(directory.path());
    let report = load(&with_files(std::slice::from_ref(&file), true)).expect_err("imklog");
    let expected = format!(
        "{}:3:1: module(load=\"imklog\"): not supported: the kernel's own messages are not read",
        file.display()
    );
    assert_eq!(report.to_string(), expected);
}

#[test]
fn rsyslogs_files_stand_beside_a_configuration_of_ours() {
    let directory = tempfile::tempdir().unwrap();
    mill(directory.path());
    let ours = "\
rsyslog: rsyslog.conf
inputs: {lan: {listen: 'udp://127.0.0.1:514'}}
outputs: {var-log-mill: {to: 'tcp://127.0.0.1:601'}}
routes: [{name: stop, program: noise, discard: true}, {name: Wheel, input: lan, output: var-log-mill, template: '%msg%'}]
spool: {dir: queue}
";
    let file = write(directory.path(), "forebay.yaml", ours);
    let loaded = load(&Source::File(file)).unwrap_or_else(|report| panic!("{report}"));
    let names = |all: Vec<&String>| all.into_iter().cloned().collect::<Vec<_>>();
    let config = &loaded.config;
    assert_eq!(names(config.inputs.iter().map(|input| &input.name).collect()), ["lan", "lan-2"]);
    assert_eq!(
        names(config.outputs.iter().map(|output| &output.name).collect()),
        ["var-log-mill", "intake.sekoia.io-tls", "var-log-mill-2"]
    );
    assert_eq!(
        names(config.routes.iter().map(|route| &route.name).collect()),
        ["stop", "Wheel", "Wheel-2", "var-log-mill"]
    );
    assert_eq!(config.routes[2].conditions.input, ["lan-2"]);
    assert_eq!(config.spool.as_ref().unwrap().dir, directory.path().join("queue"));
    let spool = loaded.notes.iter().find(|note| note.construct.contains("\"spool\"")).expect("a note of the spool");
    assert!(spool.message.ends_with("forebay.yaml:5:1 says it already"), "{spool}");
}

#[test]
fn mistakes_point_into_rsyslogs_files_and_show_no_key() {
    let directory = tempfile::tempdir().unwrap();
    let text = "\
input(type=\"imtcp\" address=\"127.0.0.1\" port=\"70000\")
template(name=\"t\" type=\"string\" string=\"%mgs% [SEKOIA@53288 intake_key=\\\"abcdefgh12345678\\\"]\\n\")
*.* @@<collector>:601;t
";
    let file = write(directory.path(), "r.conf", text);
    let report = load(&with_files(std::slice::from_ref(&file), false)).expect_err("mistakes").to_string();
    let lines: Vec<&str> = report.lines().collect();
    let at = |line: &str| format!("{}:{line}", file.display());
    assert!(lines[0].starts_with(&at("1:1: inputs.imtcp.listen[0]: ")), "{report}");
    assert!(lines.iter().any(|line| line.starts_with(&at("2:1: routes[0].template: unknown property"))), "{report}");
    assert!(lines.iter().any(|line| line.starts_with(&at("3:5: outputs.collector"))), "{report}");
    assert!(!report.contains("abcdefgh12345678"), "{report}");

    write(directory.path(), "r.conf", "*.* @@host;unknown\n");
    let report = load(&with_files(std::slice::from_ref(&file), false)).expect_err("a template").to_string();
    assert!(report.contains(&at("1:5: there is no template \"unknown\"")), "{report}");

    let missing = directory.path().join("missing*.conf");
    let report = load(&with_files(std::slice::from_ref(&missing), false)).expect_err("no file").to_string();
    assert!(report.ends_with("no such file") && report.contains("missing*.conf"), "{report}");
}

#[test]
fn includes_are_bounded_and_what_is_missing_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let text = format!(
        "include(file=\"{path}/none.conf\" mode=\"optional\")\ninclude(file=\"{path}/gone.conf\")\n$IncludeConfig {path}/none/*.conf\n\
         input(type=\"imtcp\" address=\"127.0.0.1\" port=\"1\")\n*.* /a\n"
    );
    let file = write(directory.path(), "r.conf", &text);
    let loaded = load(&with_files(std::slice::from_ref(&file), false)).unwrap_or_else(|report| panic!("{report}"));
    let unsupported: Vec<String> = loaded
        .notes
        .iter()
        .filter(|note| note.reading == Reading::Unsupported)
        .map(|note| format!("{}:{}", note.at.line, note.construct))
        .collect();
    assert_eq!(unsupported, [format!("2:include() {path}/gone.conf")]);

    write(directory.path(), "a.conf", &format!("$IncludeConfig {path}/b.conf\n"));
    let file = write(directory.path(), "b.conf", &format!("$IncludeConfig {path}/a.conf\n"));
    let report = load(&with_files(&[file], false)).expect_err("a circle").to_string();
    assert!(report.contains("files that include each other"), "{report}");
}

#[test]
fn import_can_leave_keys_to_the_environment() {
    let directory = tempfile::tempdir().unwrap();
    let file = mill(directory.path());
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        support::relay::remove_own_variables(&mut command);
        command.args(["import", "rsyslog"]).arg(&file).args(more).output().unwrap()
    };
    let found = run(&[]);
    assert!(found.status.success(), "{found:?}");
    let text = String::from_utf8(found.stdout).unwrap();
    assert!(text.contains("    intake_key: abcdefgh12345678\n"), "{text}");
    let comment = format!("#   {} line 5: $FileOwner has no equivalent: ", file.display());
    assert!(
        text.split_whitespace().collect::<Vec<_>>().join(" ").contains(comment.replace("   ", " ").trim()),
        "{text}"
    );
    assert!(String::from_utf8(found.stderr).unwrap().starts_with("warning: "), "imklog is told of");

    let left = run(&["--keys-from-environment"]);
    let text = String::from_utf8(left.stdout).unwrap();
    assert!(text.contains("    intake_key: ${WHEEL_INTAKE_KEY}\n#".trim_end_matches('#')), "{text}");
    assert!(text.contains("#   WHEEL_INTAKE_KEY\n") && !text.contains("abcdefgh12345678"), "{text}");
    let source = Source::Text { name: "imported.yaml".to_owned(), text: format!("{text}\n{BASE}") };
    let key = |name: &str| (name == "WHEEL_INTAKE_KEY").then(|| "abcdefgh12345678".to_owned());
    let imported = config::load(&source, &key).unwrap_or_else(|report| panic!("{report}"));
    let loaded = load(&with_files(&[file], false)).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(format!("{:#?}", imported.config), format!("{:#?}", loaded.config));
}

#[test]
fn check_reports_each_construct_of_files_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = mill(directory.path());
    let check = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        support::relay::remove_own_variables(&mut command);
        command.args(["check", "--rsyslog"]).arg(&file).args(more).output().unwrap()
    };
    let found = check(&[]);
    assert!(found.status.success(), "{found:?}");
    let told = String::from_utf8(found.stderr).unwrap();
    let at = |line: &str| format!("{}:{line}", file.display());
    for line in [
        format!("warning: {}", at("3:1: module(load=\"imklog\"): not supported: ")),
        format!("note: {}", at("5:1: $FileOwner: no meaning here: ")),
        format!("note: {}", at("7:1: input(type=\"imtcp\"): taken over: inputs.lan")),
    ] {
        assert!(told.lines().any(|each| each.starts_with(&line)), "no {line:?} in\n{told}");
    }
    let strict = check(&["--strict"]);
    assert_eq!(strict.status.code(), Some(78), "{strict:?}");
}

/// Pieces that configurations are made of.
fn piece() -> impl Strategy<Value = String> {
    let pieces = [
        "if",
        " then ",
        "else ",
        "{",
        "}",
        "(",
        ")",
        "stop\n",
        "~\n",
        "& ",
        "call r\n",
        "ruleset(name=\"r\") {",
        "ruleset(name=\"r\" queue.type=\"Disk\"",
        "input(type=\"imtcp\" port=\"514\")\n",
        "input(type=\"imudp\"",
        " ruleset=\"r\"",
        "action(type=\"omfwd\" target=\"h\"",
        "protocol=\"tcp\"",
        "template(name=\"t\" type=\"string\" string=\"%msg%\")\n",
        "$template u,\"<%pri%>%msg%\"\n",
        "*.* ",
        "auth,authpriv.*;*.!debug ",
        ":msg, !contains, \"x\" ",
        "@@(o)h:1;t\n",
        "@[::1]\n",
        "/var/log/a\n",
        "-/b;u\n",
        "$msg == 'x'",
        " and ",
        "not ",
        "$.a",
        "set $.a = 'x';",
        "set $!b = $msg;",
        "$ActionQueueFileName q\n",
        "$WorkDirectory /w\n",
        "# x\n",
        "/* ",
        "*/",
        "\"",
        "'",
        "\\",
        "\\\n",
        "[\"a\", \"b\"]",
        "\n",
        " ",
        ";",
        "é",
        "$IncludeConfig /nowhere\n",
        "foreach ($.i in $.l) do ",
        "module(load=\"mmjsonparse\")\n",
        "action(type=\"omfile\" file=\"/c\" template=\"RSYSLOG_FileFormat\")\n",
    ];
    prop_oneof![
        9 => proptest::sample::select(pieces.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{0,6}",
    ]
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_of_rsyslogs_language_panic(text in any::<String>()) {
        config::fuzz_rsyslog(text.as_bytes());
    }

    #[test]
    fn no_pieces_of_a_configuration_make_it_panic(pieces in proptest::collection::vec(piece(), 0..60)) {
        config::fuzz_rsyslog(pieces.concat().as_bytes());
    }
}
