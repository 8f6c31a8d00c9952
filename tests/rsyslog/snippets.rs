//! Every snippet that Sekoia publishes or published, read with what its reader would fill in: it loads, or the report says
//! which construct is in the way. What comes of each is written in `expected.txt`; the snippets themselves are not part of
//! this repository, and of their names and conditions only checksums.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use forebay::config::{self, Config, Note, Reading, Source};
use regex::Regex;

use super::{assert_imports_as, with_files, write};

/// Where the snippets are, where somebody has them.
fn source() -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/facts/sekoia-rsyslog-snippets.txt");
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            println!("skipped: {}: {error}", path.display());
            None
        }
    }
}

/// A snippet: its name, and its files' texts, which are read one after the other.
struct Snippet {
    name: String,
    text: String,
}

/// The sections of the collection, by the letter before the dot.
fn section<'t>(text: &'t str, letter: &str) -> &'t str {
    let begin = text.find(&format!("= {letter}. ")).expect("a section");
    let rest = &text[begin..];
    let rest = &rest[rest.find('\n').unwrap()..];
    rest.find("\n================").map_or(rest, |end| &rest[..end])
}

fn current(text: &str) -> Vec<Snippet> {
    let head = Regex::new(r"(?m)^### (A\d+)  \[.*\]$").unwrap();
    let section = section(text, "A");
    let heads: Vec<_> = head.captures_iter(section).collect();
    let ends = heads.iter().skip(1).map(|head| head.get(0).unwrap().start()).chain([section.len()]);
    heads
        .iter()
        .zip(ends)
        .map(|(head, end)| Snippet {
            name: head[1].to_owned(),
            text: section[head.get(0).unwrap().end()..end].trim_start_matches('\n').to_owned(),
        })
        .collect()
}

/// One filter line a snippet; a line that opens a block has an action and a `}` put behind it.
fn history(text: &str) -> Vec<Snippet> {
    let (lines, standard) = section(text, "B").split_once("--- B-legacy").expect("both parts");
    let filters = lines.lines().filter(|line| !line.trim().is_empty());
    let close = |line: &str| match line.trim_end() {
        line if line.ends_with("{ ... }") => line.replace("{ ... }", "{ stop }"),
        line if line.ends_with('{') => format!("{line}\n/var/log/a\n}}"),
        line => line.to_owned(),
    };
    let mut all: Vec<Snippet> = filters
        .enumerate()
        .map(|(index, line)| Snippet { name: format!("B{}", index + 1), text: close(line) + "\n" })
        .collect();
    let standard = standard.split_once('\n').unwrap().1;
    let standard = &standard[..standard.find("\n(The legacy").unwrap()];
    all.push(Snippet { name: "B-legacy".to_owned(), text: standard.to_owned() });
    all
}

/// The Forwarder's files, rendered as its script does: with TLS in or not, RELP out or not, debugging or not.
fn forwarder(text: &str) -> Vec<Snippet> {
    let section = section(text, "C");
    let file = |name: &str| {
        let (_, rest) = section.split_once(&format!("--- {name} ---\n")).expect(name);
        &rest[..rest.find("\n--- ").unwrap_or(rest.len())]
    };
    let main = file("rsyslog.conf").replace("{{ env['DISK_SPACE'] }}", "32g");
    let mut all = Vec::new();
    for (name, template, relp, debug) in [
        ("C-plain", "template.j2", false, false),
        ("C-relp", "template.j2", true, false),
        ("C-debug", "template.j2", false, true),
        ("C-tls", "template_tls.j2", false, false),
        ("C-tls-relp", "template_tls.j2", true, false),
        ("C-stats", "stats_template.j2", false, false),
    ] {
        let body = rendered(file(template), relp, debug);
        all.push(Snippet { name: name.to_owned(), text: format!("{main}\n{body}") });
    }
    all
}

/// As much of Jinja as the templates use.
fn rendered(template: &str, relp: bool, debug: bool) -> String {
    let mut open: Vec<bool> = Vec::new();
    let mut out = String::new();
    for line in template.lines() {
        let tag = line.trim();
        if tag.starts_with("{% if ") {
            open.push(if tag.contains("RELP_OUTPUT") { relp } else { debug });
        } else if tag.starts_with("{% else ") {
            let last = open.last_mut().unwrap();
            *last = !*last;
        } else if tag.starts_with("{% endif ") {
            open.pop();
        } else if open.iter().all(|shown| *shown) {
            out.extend([line, "\n"]);
        }
    }
    let variable = Regex::new(r"\{\{(.*?)\}\}").unwrap();
    let value = |found: &regex::Captures<'_>| {
        let what = found[1].trim().to_owned();
        let known = [
            ("protocol", "tcp"),
            ("port", "20516"),
            ("name", "mill"),
            ("intake_key", "abcdefgh12345678"),
            ("queue_size", "10000"),
            ("('relp.'", "relp.intake.sekoia.io"),
            ("endpoint", "intake.sekoia.io"),
            ("tls_", "server"),
        ];
        let found = known.iter().find(|(begin, _)| what.starts_with(begin));
        found.unwrap_or_else(|| panic!("no value for {what}")).1.to_owned()
    };
    variable.replace_all(&out, value).into_owned()
}

fn unmerged(text: &str) -> Vec<Snippet> {
    let section = section(text, "D");
    let (_, rest) = section.split_once("--- D1").unwrap();
    let (first, rest) = rest.split_once("--- D2").unwrap();
    let first = first.split_once('\n').unwrap().1;
    let first = &first[..first.find("\nEOF").unwrap() + 1];
    let begin = rest.find("    input(type=").unwrap();
    let end = rest.find("\n    }\n").unwrap() + "\n    }\n".len();
    let with = |more: &str| rest[begin..end].replace("StreamDriver=\"gtls\"", &format!("StreamDriver=\"gtls\" {more}"));
    vec![
        Snippet { name: "D1".to_owned(), text: first.to_owned() },
        Snippet { name: "D2".to_owned(), text: rest[begin..end].to_owned() },
        Snippet {
            name: "D3".to_owned(),
            text: with(
                "action.resumeRetryCount=\"-1\" action.resumeInterval=\"30\" KeepAlive=\"on\" KeepAlive.Probes=\"3\" \
                 KeepAlive.Interval=\"30\" KeepAlive.Time=\"120\"",
            )
            .replace("%msg:R,ERE,1,FIELD:^[ \\t]*(.*)$--end%", "%rawmsg-after-pri%"),
        },
    ]
}

/// What a reader fills in. Files of the machine are those of `directory`.
fn filled(text: &str, directory: &str) -> String {
    let here_documents = Regex::new(r"(?s)<<\\EOM >\S+\n(.*?)\nEOM").unwrap();
    let text = match here_documents.is_match(text) {
        // A script that writes files: what it writes.
        true => here_documents.captures_iter(text).map(|found| found[1].to_owned()).collect::<Vec<_>>().join("\n"),
        false => text.lines().filter(|line| !line.starts_with("$ vi ")).collect::<Vec<_>>().join("\n"),
    };
    let mut text = text;
    for (placeholder, value) in [
        ("<Concentrator_FQDN_or_IP>", "192.0.2.10"),
        ("<Remote_Port>", "20514"),
        ("<ip of the log concentrator>", "192.0.2.10"),
        ("<ip to the concentrator>", "192.0.2.10"),
        ("<log concentrator ip>", "192.0.2.10"),
        ("<port>", "20514"),
        ("<concentrator-ip-address>", "192.0.2.10"),
        ("<concentrator-port>", "20514"),
        ("port=\"PORT\"", "port=\"20517\""),
        ("YOUR_INTAKE_PORT", "20518"),
        ("im$PROTOCOL", "imtcp"),
        ("\"$PORT\"", "\"20519\""),
        ("/etc/rsyslog.d/*.conf", "DIRECTORY/rsyslog.d/*.conf"),
        ("/extended_conf/*.conf", "DIRECTORY/extended_conf/*.conf"),
        ("/certs/", "DIRECTORY/certs/"),
    ] {
        text = text.replace(placeholder, value);
    }
    with_its_template(&text.replace("DIRECTORY", directory)) + "\n"
}

/// A line whose template stands elsewhere, with one.
fn with_its_template(text: &str) -> String {
    let named = Regex::new(";(SEKOIAIO\\w+)").unwrap();
    let missing = named.captures(text).filter(|found| !text.contains(&format!("name=\"{}\"", &found[1])));
    let own = missing.map(|found| {
        format!(
            "template(name=\"{}\" type=\"string\" string=\"%msg% intake_key=\\\"abcdefgh12345678\\\"\\n\")\n",
            &found[1]
        )
    });
    own.unwrap_or_default() + text
}

/// What comes of a snippet, without what differs from machine to machine.
fn outcome(snippet: &Snippet, directory: &Path) -> String {
    let here = directory.to_str().unwrap();
    let file = write(directory, "snippet.conf", &filled(&snippet.text, here));
    let mut out = format!("{}\n", snippet.name);
    let files = [file];
    let told = match config::load(&with_files(&files, false), &|_| None) {
        Ok(loaded) => {
            assert_imports_as(&loaded, &files);
            shown(&loaded.config, &loaded.notes)
        }
        Err(report)
            if report.mistakes().iter().all(|mistake| ["inputs", "routes"].contains(&mistake.path.as_str())) =>
        {
            // A part of a configuration: what is missing stands elsewhere.
            match config::load(&beside_ours(&files), &|_| None) {
                Ok(loaded) => format!("  a part, beside ours\n{}", shown(&loaded.config, &loaded.notes)),
                Err(report) => refused(&report.to_string()),
            }
        }
        Err(report) => refused(&report.to_string()),
    };
    out.push_str(&told.replace(&format!("{here}/"), ""));
    out
}

fn beside_ours(files: &[PathBuf]) -> Source {
    let text =
        "inputs: {ours: {listen: 'tcp://127.0.0.1:1514'}}\nroutes: [{program: ours, discard: true}]\n".to_owned();
    let base = Source::Text { name: "base.yaml".to_owned(), text };
    Source::Rsyslog { base: Some(Box::new(base)), files: files.to_vec(), strict: false }
}

fn refused(report: &str) -> String {
    report.lines().fold(String::new(), |out, line| out + "  refused: " + line + "\n")
}

fn checksum(text: &str) -> String {
    format!("{:08x}", crc32fast::hash(text.as_bytes()))
}

fn shown(config: &Config, notes: &[Note]) -> String {
    let mut out = String::new();
    let listens = config.inputs.iter().flat_map(|input| input.listen.iter().map(move |listen| (input, listen)));
    // Whether there is IPv6 differs from machine to machine.
    for (input, listen) in listens.filter(|(_, listen)| !listen.to_string().contains("[::]")) {
        writeln!(out, "  input {}: {listen}", input.name).unwrap();
    }
    for output in &config.outputs {
        let tls = if output.tls.is_some() { "tls " } else { "" };
        writeln!(out, "  output {}: {} {tls}{}", output.name, output.protocol.name(), output.address()).unwrap();
    }
    let summary = config.summary();
    let routes = summary.lines().skip_while(|line| !line.starts_with("routes")).skip(1);
    let theirs = Regex::new(r"^(\d+\. )(.*?)(: (?:when )?)(.*)( → .*)$").unwrap();
    for route in routes.take_while(|line| *line != "spool") {
        let checked = |found: &regex::Captures<'_>| {
            format!("{}{}{}{}{}", &found[1], checksum(&found[2]), &found[3], checksum(&found[4]), &found[5])
        };
        writeln!(out, "  {}", theirs.replace(route.trim(), checked)).unwrap();
    }
    if let Some(spool) = &config.spool {
        writeln!(out, "  spool {} of {}", spool.dir.display(), spool.max_size).unwrap();
    }
    for note in notes.iter().filter(|note| note.reading == Reading::Unsupported) {
        writeln!(out, "  {note}").unwrap();
    }
    out
}

#[test]
fn each_snippet_of_sekoias_documentation_loads_or_is_told_why_not() {
    let Some(text) = source() else { return };
    let directory = tempfile::tempdir().unwrap();
    for folder in ["rsyslog.d", "extended_conf"] {
        std::fs::create_dir(directory.path().join(folder)).unwrap();
    }
    for file in ["certs/server.crt", "certs/server.key"] {
        write(directory.path(), file, "a file that is there");
    }
    let snippets: Vec<Snippet> =
        [current(&text), history(&text), forwarder(&text), unmerged(&text)].into_iter().flatten().collect();
    assert!(snippets.len() > 95, "{} snippets", snippets.len());
    let found = snippets.iter().map(|snippet| outcome(snippet, directory.path())).collect::<Vec<_>>().join("\n");
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rsyslog/expected.txt");
    if std::env::var_os("FOREBAY_BLESS").is_some() {
        std::fs::write(&expected, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&expected).unwrap_or_default();
    let differing = expected.lines().zip(found.lines()).find(|(expected, found)| expected != found);
    assert!(expected == found, "the first difference: {differing:?}\n{found}");
}
