//! `forebay explain`: what it says is what a running relay does, octet by octet; and it says it well.
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

#[allow(dead_code, reason = "what compares with rsyslogd uses the rest")]
#[path = "parity/corpus.rs"]
mod corpus;
#[path = "support/harness.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use support::certificates::Certificates;
use support::collector::Collector;
use support::intake::{Answer, Intake};
use support::relay::{Relay, remove_own_variables};
use support::relp::RelpServer;
use support::senders::{send_tcp, send_udp};
use support::waiting::eventually;

/// The key of the tests' routes: nothing that is printed may hold it.
const KEY: &str = "keyofexplain0123456789";

fn explain(args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    remove_own_variables(&mut command);
    command.arg("explain").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("its input");
    let input = input.to_vec();
    // It may answer before it has read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("written");
    for text in [&output.stdout, &output.stderr] {
        assert!(memchr::memmem::find(text, KEY.as_bytes()).is_none(), "a key is shown");
    }
    output
}

/// The objects that `--json` prints; the last one is the summary.
#[track_caller]
fn objects(args: &[&str], input: &[u8]) -> Vec<Value> {
    let output = explain(&[&["--json"], args].concat(), input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = output.stdout.split(|octet| *octet == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
}

/// The text that is printed for people.
#[track_caller]
fn page(args: &[&str], input: &[u8]) -> String {
    let output = explain(args, input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
        assert!(!line.contains('\u{1b}'), "colour without a terminal: {line}");
    }
    text
}

/// Octets as `--json` has them.
fn octets(value: &Value) -> Vec<u8> {
    match (value["text"].as_str(), value["base64"].as_str()) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(text)) => corpus::base64(text),
        _ => panic!("no octets: {value}"),
    }
}

/// Frames of our own that are odd in one way each.
fn own_frames() -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = [
        b"<34>Oct 11 22:14:15 gate su[7]: failed for ada".as_slice(),
        b"<34>1 2026-10-11T22:14:15.003Z gate su 7 ID [a b=\"c\"] \xef\xbb\xbffailed",
        b"<34>1 2026-10-11T22:14:15.003Z gate su 7 ID [SEKOIA@53288 intake_key=\"theirs\"][a b=\"c\"] x",
        b"no header at all",
        b"<999>Nov 22 10:11:12 gate app: text",
        b"<13>CEF:0|vendor|product|1|2|three|4|act=blocked",
        b"<13>date=2026-11-22 time=10:11:12 devname=fw",
        b"<134>Nov 22 10:11:12 gate app: tab\there, escape \x1b[31m, nul \0 end\n",
        b"<13>Nov 22 10:11:12 gate app: gr\xfcn and \xc3",
        b"<13>{\"a\": \"b\"}",
        b"<13>Feb 30 10:11:12 gate app: never",
        b"<13>1 yesterday gate app - - - unreadable",
        b"<13>Nov 22 10:11:12 gate app: holds keyofexplain0123456789 of ours",
        b"\xef\xbb\xbf<13>Nov 22 10:11:12 gate app: a mark",
        b"<13>",
        b"7",
    ]
    .map(<[u8]>::to_vec)
    .into();
    frames.push([b"<13>Nov 22 10:11:12 gate big: ".as_slice(), "é".repeat(200_000).as_bytes()].concat());
    frames
}

/// Our own frames and the corpus's.
fn frames() -> Vec<Vec<u8>> {
    let mut frames = own_frames();
    for name in ["cases.jsonl", "device_frames.jsonl", "nasty.jsonl"] {
        let Some(rows) = corpus::rows(name) else { continue };
        let found: Vec<Vec<u8>> = rows.iter().filter_map(corpus::frame).filter(|frame| !frame.is_empty()).collect();
        assert!(found.len() > 50, "{name}: {}", found.len());
        frames.extend(found);
    }
    frames
}

/// What only the moment of reception decides goes: each line begins with it, up to `|`.
fn without_reception(line: &[u8]) -> Vec<u8> {
    let text = without_keys(line);
    let Some(bar) = text.iter().position(|octet| *octet == b'|') else { panic!("no stamp: {}", text.escape_ascii()) };
    let stamp = text[4..bar].to_vec();
    let mut out = Vec::new();
    let mut last = 0;
    for at in memchr::memmem::find_iter(&text, &stamp) {
        out.extend_from_slice(&text[last..at]);
        out.extend_from_slice(b"RECEPTION");
        last = at + stamp.len();
    }
    out.extend_from_slice(&text[last..]);
    out
}

/// As `explain` hides keys; one of the templates prints a part of ours.
fn without_keys(octets: &[u8]) -> Vec<u8> {
    forebay::template::masked(octets, &[KEY.as_bytes(), &KEY.as_bytes()[..4]], b"****")
}

/// The template's text in front of what is compared, and all that a template can say of a message.
const RECEPTION: &str = "<13>%timegenerated:::date-rfc3339%|";
const FAQ: &str = "<%pri%>1 %timestamp:::date-rfc3339% %hostname% %app-name% %procid% LOG \
                   [SEKOIA@53288 intake_key=\"%intake_key%\"] %msg%\\n";
const ALL: &str = "%rawmsg%|%rawmsg-after-pri%|%syslogtag%|%programname%|%msgid%|%structured-data%|%pri-text%|%fromhost-ip%\
                   |%inputname%|%protocol-version%|%timestamp:::date-year%|%msg:1:20%|%intake_key:1:4%\
                   [SEKOIA@53288 own]\\n";

/// A configuration whose routes take everything three ways; `EXPLAIN` reads it as the relay does.
fn configuration(faq: &Collector, all: &Collector, folder: &Path) -> String {
    format!(
        "inputs:\n  counted: {{listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0'], framing: octet}}\n  \
         told_apart: {{listen: 'tcp://127.0.0.1:0'}}\n\
         outputs:\n  faq: {{to: 'tcp://{}'}}\n  all: {{to: 'tcp://{}'}}\n  file: {{to: 'file://{}/lines'}}\n\
         routes:\n  - {{name: faq, output: faq, continue: true, intake_key: {KEY}, template: '{RECEPTION}{FAQ}'}}\n  \
         - {{name: all, output: all, continue: true, intake_key: {KEY}, template: '{RECEPTION}{ALL}'}}\n  \
         - {{name: file, output: file, intake_key: {KEY}, template: '{RECEPTION}{FAQ}'}}\n",
        faq.address,
        all.address,
        folder.display()
    )
}

/// By output: what `explain` says is written, in order.
fn written(objects: &[Value]) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut written: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for sent in objects.iter().filter_map(|object| object["sent"].as_array()).flatten() {
        let (output, octets) = (sent["output"].as_str().expect("an output"), octets(&sent["written"]));
        written.entry(output.to_owned()).or_default().push(octets);
    }
    written
}

/// The message of an octet-counted frame, held to its real length.
fn counted(frame: &[u8], message_octets: usize) -> &[u8] {
    let at = frame.iter().position(|octet| *octet == b' ').expect("MSG-LEN");
    assert_eq!(frame[..at], *message_octets.to_string().as_bytes(), "MSG-LEN is that of what the relay sent");
    &frame[at + 1..]
}

#[test]
fn what_it_says_is_what_a_running_relay_sends_for_every_frame_of_the_corpus() {
    let (faq, all) = (Collector::start_plain(), Collector::start_plain());
    let folder = tempfile::tempdir().expect("a folder");
    let text = configuration(&faq, &all, folder.path());
    let file = folder.path().join("forebay.yaml");
    std::fs::write(&file, &text).expect("written");
    let relay = Relay::start(&text);
    let frames = frames();
    let counted_stream: Vec<u8> =
        frames.iter().flat_map(|frame| [format!("{} ", frame.len()).as_bytes(), frame].concat()).collect();
    // Whatever the decoder makes of octets that were never meant for it: it is the same one.
    let lines = frames.iter().filter(|frame| frame.len() < 9_000).flat_map(|frame| [frame, b"\n".as_slice()].concat());
    let lines: Vec<u8> = lines.collect();
    let mut expected: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    let mut messages = 0;
    for (input, stream) in [("counted", &counted_stream), ("told_apart", &lines)] {
        let objects = objects(&["-c", file.to_str().unwrap(), "--input", input], stream);
        let summary = &objects.last().expect("a summary")["summary"];
        assert!(summary["messages"].as_u64().unwrap() >= frames.len() as u64 / 2, "{summary}");
        messages += objects.iter().filter(|object| object["outcome"] == "forwarded").count();
        for (output, octets) in written(&objects) {
            expected.entry(output).or_default().extend(octets);
        }
        send_tcp(relay.address(input, "tcp"), stream);
        for collector in [&faq, &all] {
            drop(collector.wait_for(messages));
        }
    }
    assert!(messages > own_frames().len(), "{messages}");
    for (name, collector) in [("faq", &faq), ("all", &all)] {
        let received = collector.look(|seen| seen.frames.clone());
        assert_eq!(received.len(), expected[name].len());
        for (number, (theirs, ours)) in received.iter().zip(&expected[name]).enumerate() {
            let ours = without_reception(counted(ours, theirs.len()));
            let theirs = without_reception(theirs);
            assert!(ours == theirs, "{name}, {number}:\n{}\n{}", ours.escape_ascii(), theirs.escape_ascii());
        }
    }
    let lines = eventually("the file to be whole", || {
        let octets = std::fs::read(folder.path().join("lines")).map_err(|error| error.to_string())?;
        let lines: Vec<Vec<u8>> = octets.split_inclusive(|octet| *octet == b'\n').map(<[u8]>::to_vec).collect();
        if lines.len() >= messages { Ok(lines) } else { Err(format!("{} lines", lines.len())) }
    });
    assert_eq!(lines.len(), expected["file"].len());
    for (theirs, ours) in lines.iter().zip(&expected["file"]) {
        assert_eq!(
            without_reception(ours).escape_ascii().to_string(),
            without_reception(theirs).escape_ascii().to_string()
        );
    }
}

#[test]
fn what_it_says_of_a_datagram_is_what_a_running_relay_sends() {
    let (faq, all) = (Collector::start_plain(), Collector::start_plain());
    let folder = tempfile::tempdir().expect("a folder");
    let text = configuration(&faq, &all, folder.path());
    let file = folder.path().join("forebay.yaml");
    std::fs::write(&file, &text).expect("written");
    let relay = Relay::start(&text);
    for (number, datagram) in
        ["<13>Nov 22 10:11:12 gate app: one\nand two\n", "8 <13>text\0", "<13>{}"].iter().enumerate()
    {
        let objects = objects(&["-c", file.to_str().unwrap(), "--datagram"], datagram.as_bytes());
        assert_eq!(objects[0]["framing"], "datagram");
        send_udp(relay.address("counted", "udp"), &[datagram]);
        drop(faq.wait_for(number + 1));
        let theirs = faq.look(|seen| seen.frames[number].clone());
        let ours = &written(&objects)["faq"][0];
        assert_eq!(without_reception(counted(ours, theirs.len())), without_reception(&theirs));
    }
}

#[test]
fn what_it_says_of_relp_and_https_is_what_they_are_sent() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let server = {
        let heard = Arc::clone(&heard);
        RelpServer::start(move |_, mut session| {
            session.answer_open(b"200 OK\nrelp_version=0\nrelp_software=test\ncommands=syslog");
            let mut octets = Vec::new();
            // The message's own LF, then the command's.
            while !octets.ends_with(b"\n\n") {
                let mut octet = [0];
                session.stream.read_exact(&mut octet).expect("a command");
                octets.push(octet[0]);
            }
            *heard.lock().unwrap() = octets;
            session.say(b"2 rsp 6 200 OK\n");
            session.finish();
        })
    };
    let intake = Intake::start_plain(|_| Answer::Take);
    let certificates = Certificates::new();
    let text = format!(
        "inputs: {{lan: {{listen: 'tcp://127.0.0.1:0'}}}}\n\
         outputs:\n  relp: {{to: 'relp+tcp://{}'}}\n  web: {{{}}}\n\
         routes:\n  - {{name: relp, output: relp, continue: true, intake_key: {KEY}}}\n  \
         - {{name: web, output: web, intake_key: {KEY}}}\n",
        server.address,
        intake.output(&certificates, "")
    );
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("forebay.yaml");
    std::fs::write(&file, &text).expect("written");
    let relay = Relay::start(&text);
    let message = b"<34>1 2026-10-11T22:14:15.003Z gate su 7 ID - failed for ada\n";
    let objects = objects(&["-c", file.to_str().unwrap()], message);
    let written = written(&objects);
    send_tcp(relay.address("lan", "tcp"), message);
    let event = intake.wait_for(KEY, 1).remove(0);
    assert_eq!(written["web"][0], event.as_bytes());
    let of_web = &objects[0]["sent"][1];
    assert_eq!(of_web["request"], "POST /base/plain/batch");
    assert_eq!(of_web["headers"]["x-sekoiaio-intake-key"], "****");
    let command = eventually("the command", || {
        let octets = heard.lock().unwrap().clone();
        if octets.is_empty() { Err("nothing".to_owned()) } else { Ok(octets) }
    });
    assert_eq!(written["relp"][0], without_keys(&command));
    assert_eq!(objects[0]["sent"][0]["octets"], command.len());
}

/// A configuration with routes of every kind, in a file of `folder`.
fn with_routes(folder: &Path) -> String {
    let text = format!(
        "inputs:\n  lan: {{listen: 'udp://127.0.0.1:514', allow: [10.0.0.0/8]}}\n  \
         strict: {{listen: 'tcp://127.0.0.1:514', max_message_size: 480, oversize: reject}}\n\
         outputs: {{sekoia: {{region: fra1}}}}\n\
         routes:\n  - {{name: archive, severity: err..emerg, continue: true, intake_key: {KEY}}}\n  \
         - {{name: web, program: [nginx, haproxy], not: {{hostname: 'test-*'}}, intake_key: {KEY}, \
         template: '%rawmsg% %structured-data% [SEKOIA@53288 intake_key=\"%intake_key%\"]'}}\n  \
         - {{name: noise, program: CRON, discard: true}}\n  \
         - {{name: su, program: su, message: [ada, {{regex: 'b.b'}}], peer: 10.1.0.0/16, input: lan, intake_key: {KEY}}}\n"
    );
    let file = folder.join("forebay.yaml");
    std::fs::write(&file, text).expect("written");
    file.to_str().expect("text").to_owned()
}

fn kinds(object: &Value) -> Vec<&str> {
    object["remarks"].as_array().unwrap().iter().map(|remark| remark["kind"].as_str().unwrap()).collect()
}

#[test]
fn a_message_without_a_configuration_is_shown_with_the_template_of_the_faq() {
    let text = page(&["<34>Oct 11 22:14:15 gate su[7]: failed for ada"], b"");
    for line in [
        "Frame    a datagram; 46 octets",
        "Fields   RFC 3164",
        "  PRI                   0..4  34  auth.crit",
        "  HOSTNAME            20..24  gate",
        "  TAG                 25..31  su[7]:",
        "  program name        25..27  su",
        "  PROCID              28..29  7",
        "  MSG                 31..46  \" failed for ada\"",
        "  1 default: takes it, sends it to sekoia",
        "Sent     by route default to sekoia: syslog, intake.sekoia.io:10514",
    ] {
        assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
    }
    assert!(text.contains("gate su 7 LOG [SEKOIA@53288"), "{text}");
}

#[test]
fn each_condition_is_told_with_what_it_saw() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = with_routes(folder.path());
    let message = "<35>Nov 22 10:11:12 gate su: bob failed";
    let object = &objects(&["-c", &config, "--peer", "10.1.2.3", message], b"")[0];
    let names = |object: &Value| -> Vec<(String, Value)> {
        let routes = object["routes"].as_array().unwrap();
        routes.iter().map(|route| (route["route"].as_str().unwrap().to_owned(), route["matched"].clone())).collect()
    };
    let matched = |name: &str, value: Value| (name.to_owned(), value);
    let expected = [
        matched("archive", true.into()),
        matched("web", false.into()),
        matched("noise", false.into()),
        matched("su", true.into()),
    ];
    assert_eq!(names(object), expected);
    let of_su = object["routes"][3]["conditions"].as_array().unwrap();
    let asked: Vec<(&str, Vec<u8>)> =
        of_su.iter().map(|asked| (asked["condition"].as_str().unwrap(), octets(&asked["saw"]))).collect();
    assert_eq!(
        asked,
        [
            ("program", b"su".to_vec()),
            ("peer", b"10.1.2.3".to_vec()),
            ("input", b"lan".to_vec()),
            ("message", b" bob failed".to_vec())
        ]
    );
    let not = &object["routes"][1]["conditions"][1];
    assert_eq!((&not["condition"], &not["holds"]), (&"not".into(), &true.into()));
    assert_eq!(octets(&not["conditions"][0]["saw"]), b"gate");
    assert_eq!(object["sent"].as_array().unwrap().len(), 2);
    // The first that takes it ends the search.
    let object = &objects(&["-c", &config, "<30>nginx: x"], b"")[0];
    assert_eq!(object["routes"][2]["tried"], false);
    let text = page(&["-c", &config, "<30>nginx: x"], b"");
    assert!(text.contains("3 noise and 1 more: not tried, the message is taken"), "{text}");
    assert!(text.contains("\u{2713} program: nginx (of 2) \u{2014} saw \"nginx\""), "{text}");
    let text = page(&["-c", &config, "<30>postfix: x"], b"");
    assert!(text.contains("no route takes it: it is counted as unmatched"), "{text}");
}

/// Options, what is read, the outcome, kinds of remarks.
type OddRow<'r> = (&'r [&'r str], &'r [u8], &'r str, &'r [&'r str]);

#[test]
fn what_is_unusual_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = with_routes(folder.path());
    let lan = ["-c", &config];
    let strict = ["-c", &config, "--input", "strict"];
    let element = "<30>1 2026-11-22T10:11:12Z h nginx - - [sekoia@53288 intake_key=\"x\"][a b=\"c\"] m";
    let stopped = [b"<30>nginx: ".as_slice(), &[b'x'; 256_100]].concat();
    let rows: [OddRow<'_>; 8] = [
        (
            &lan,
            b"<30>Nov 22 10:11:12 h nginx: a\tb\0\n",
            "forwarded",
            &["control_characters", "trailing_nul", "year_guessed"],
        ),
        (&lan, element.as_bytes(), "forwarded", &["unfinished", "sekoia_element_removed"]),
        (&lan, b"<30>Nov 22 10:11:12 h CRON: x\n", "discarded", &["year_guessed"]),
        (&lan, b"30 <30>nginx: cut", "forwarded", &["unfinished", "no_timestamp", "no_hostname"]),
        (&lan, &stopped, "forwarded", &["oversize", "no_timestamp", "no_hostname", "over_sekoia_limit"]),
        (&strict, &stopped, "rejected_oversize", &["oversize", "no_timestamp", "no_hostname"]),
        (
            &["-c", &config, "--peer", "192.0.2.1"],
            b"<30>nginx: x\n",
            "rejected_peer",
            &["peer_not_allowed", "no_timestamp", "no_hostname"],
        ),
        (&["-c", &config, "--datagram"], b"\n", "no_message", &["no_message"]),
    ];
    for (args, input, outcome, expected) in rows {
        let object = &objects(args, input)[0];
        assert_eq!(object["outcome"], outcome, "{object}");
        assert_eq!(kinds(object), expected, "{}", &input.escape_ascii().to_string()[..input.len().min(80)]);
        drop(page(args, input));
    }
    let dropped = "<30>1 2026-11-22T10:11:12Z h app - - [a b=\"c\"] m";
    assert_eq!(kinds(&objects(&[dropped], b"")[0]), ["structured_data_dropped"]);
}

#[test]
fn a_file_of_many_is_summed_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = with_routes(folder.path());
    let log = folder.path().join("messages.log");
    let lines = "<30>1 2026-11-22T10:11:12Z h nginx - - - one\n\
                 <30>1 2026-11-22T10:11:12Z h postfix/smtpd - - - two\n\
                 47 <27>1 2026-11-22T10:11:12Z h nginx - - - th\nree\n\
                 <30>1 2026-11-22T10:11:12Z h CRON - - - four\n\
                 <30>1 2026-11-22T10:11:12Z h postfix/smtpd - - - five\n\
                 <30>cut";
    std::fs::write(&log, lines).expect("written");
    let log = log.to_str().unwrap();
    let text = page(&["-c", &config, log], b"");
    assert!(text.starts_with("6 messages, "), "{text}");
    let has =
        |words: &[&str]| text.lines().any(|line| line.split_whitespace().take(words.len()).eq(words.iter().copied()));
    for words in [
        ["forwarded", "2"].as_slice(),
        &["discarded", "1"],
        &["unmatched", "3"],
        &["archive", "1", "16.7%"],
        &["web", "2", "33.3%"],
        &["noise", "1"],
        &["su", "0", "0.0%"],
        &["postfix", "2"],
        &["control_characters", "1", "message", "3,", "line", "3,"],
        &["unfinished", "1", "message", "6,", "line", "7,"],
    ] {
        assert!(has(words), "no {words:?} in\n{text}");
    }
    let objects = objects(&["-c", &config], lines.as_bytes());
    assert_eq!(objects.len(), 7);
    let summary = &objects[6]["summary"];
    assert_eq!(summary["messages"], 6);
    assert_eq!(summary["outcomes"], serde_json::json!({"forwarded": 2, "discarded": 1, "unmatched": 3}));
    assert_eq!(summary["unmatched_programs"][0], serde_json::json!({"program": {"text": "postfix"}, "messages": 2}));
    let framings: Vec<&Value> = objects[..6].iter().map(|object| &object["framing"]).collect();
    assert_eq!(framings, ["lf", "lf", "octet_counting", "lf", "lf", "end_of_stream"]);
    let each = page(&["-c", &config, "--each", log], b"");
    assert_eq!(each.matches("Fields   ").count(), 6, "{each}");
    assert!(each.ends_with(&text), "the summary comes last");
}

#[test]
fn the_moment_of_reception_can_be_given() {
    let object = &objects(&["--received-at", "2027-01-01T00:00:01Z", "<13>Dec 31 23:59:59 h app: x"], b"")[0];
    assert_eq!(object["received_at"], "2027-01-01T00:00:01.000000Z");
    assert!(object["fields"]["timestamp"]["value"].as_str().unwrap().starts_with("2026-12-31T23:59:59"), "{object}");
    assert!(kinds(object).contains(&"year_guessed"));
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = with_routes(folder.path());
    let rows: [(&[&str], i32, &str); 5] = [
        (&["--peer", "gate", "x"], 64, "expected an address such as 10.1.0.7, or unix"),
        (&["-c", &config, "--input", "wan", "x"], 64, "no input has the name wan: expected one of lan, strict"),
        (&["--datagram", "--stream", "x"], 64, "cannot be used with"),
        (&["--received-at", "noon", "x"], 64, "expected an RFC 3339 stamp"),
        (&["-c", "/nonexistent.yaml", "x"], 78, "cannot be read"),
    ];
    for (args, code, said) in rows {
        let output = explain(args, b"");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(said) && output.stdout.is_empty(), "{args:?}: {text}");
    }
}

#[test]
fn the_examples_in_the_documents_print_what_they_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/COMMANDS.md")).expect("docs/COMMANDS.md");
    let mut examples = 0;
    for block in text.split("```console\n").skip(1).filter_map(|rest| rest.split_once("\n```")).map(|(block, _)| block)
    {
        let (line, said) = block.split_once('\n').expect("a command and what it prints");
        let Some(arguments) = line.strip_prefix("$ forebay explain ") else { continue };
        let script = format!("exec {} explain {arguments}", env!("CARGO_BIN_EXE_forebay"));
        let mut command = Command::new("sh");
        remove_own_variables(&mut command);
        for name in ["UNBOUND_INTAKE_KEY", "DEFAULT_INTAKE_KEY"] {
            command.env(name, format!("{KEY:0>32}"));
        }
        command.args(["-c", &script]).current_dir(root).env("TZ", "UTC");
        let output = command.output().expect("sh");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), said.trim_end(), "{line}");
        examples += 1;
    }
    assert_eq!(examples, 2);
}

#[test]
fn keys_need_not_be_at_hand() {
    let output = explain(&["-c", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/forebay.yaml"), "<30>unbound: x"], b"");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("stands in: DEFAULT_INTAKE_KEY, UNBOUND_INTAKE_KEY"), "{said}");
    let output = explain(&["/var/log/nothing.log"], b"");
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no file /var/log/nothing.log"));
}

#[test]
fn each_part_of_an_expression_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("forebay.yaml");
    let when = "$programname startswith \\\"un\\\" and ($msg contains \\\"AAAA\\\" or $syslogseverity <= 6)";
    let text = format!(
        "inputs: {{lan: {{listen: 'tcp://127.0.0.1:514'}}}}\noutputs: {{lines: {{to: 'tcp://127.0.0.1:9', framing: lf}}}}\n\
         routes: [{{name: dns, when: \"{when}\", intake_key: {KEY}}}]\n"
    );
    std::fs::write(&file, text).expect("written");
    let config = file.to_str().expect("text");
    let object = &objects(&["-c", config, "<30>Nov 22 10:11:12 h unbound: A IN"], b"")[0];
    let asked = &object["routes"][0]["conditions"][0];
    assert_eq!((&asked["condition"], &asked["holds"]), (&"when".into(), &true.into()), "{object}");
    let parts: Vec<(u64, &str, bool, bool)> = asked["parts"]
        .as_array()
        .expect("parts")
        .iter()
        .map(|part| {
            let (depth, text) = (part["depth"].as_u64().unwrap(), part["expression"].as_str().unwrap());
            (depth, text, part["holds"].as_bool().unwrap(), part["asked"].as_bool().unwrap())
        })
        .collect();
    assert!(parts.contains(&(1, "$programname startswith \"un\"", true, true)), "{parts:?}");
    assert!(parts.contains(&(2, "$msg contains \"AAAA\"", false, true)), "{parts:?}");
    // No MSG-LEN where the output's framing has none.
    assert_eq!(object["sent"][0]["octets"], object["sent"][0]["message_octets"]);
    assert!(octets(&object["sent"][0]["written"]).starts_with(b"<30>1 "));
    let text = page(&["-c", config, "<30>Nov 22 10:11:12 h nsd: A IN"], b"");
    assert!(text.contains("\u{2717} $programname startswith \"un\" \u{2014} saw \"nsd\""), "{text}");
    assert!(text.contains("(not asked)"), "{text}");
}
