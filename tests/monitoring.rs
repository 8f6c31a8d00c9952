//! What watches the relay: alerts, recording rules and the dashboard, held against a real Prometheus that scrapes a real
//! relay, against the list of metrics, and against the pages that they send people to.
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

#[path = "support/harness.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use forebay::metrics;
use regex::Regex;
use serde_json::Value;
use tempfile::TempDir;

use support::certificates::Certificates;
use support::collector::Collector;
use support::intake::{Answer, Intake};
use support::relay::Relay;
use support::rsyslogd::listening_port;
use support::senders::*;
use support::waiting::{PATIENCE, eventually};
use support::{installed, installed_in_ci};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rules of a file: name and body, whether they record or alert.
fn rules(path: &str) -> Vec<(String, Value)> {
    let file: Value = serde_yaml::from_str(&read(path)).expect("YAML");
    let groups = file["groups"].as_array().expect("groups");
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone());
    let name = |rule: &Value| rule["alert"].as_str().or(rule["record"].as_str()).expect("a name").to_owned();
    rules.map(|rule| (name(&rule), rule)).collect()
}

fn alerts() -> Vec<(String, Value)> {
    let alerts = rules("deploy/prometheus/alerts.yml");
    assert!(alerts.len() > 15, "{}", alerts.len());
    alerts
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/forebay.json")).expect("JSON")
}

fn panels(dashboard: &Value) -> Vec<Value> {
    let all = dashboard["panels"].as_array().expect("panels");
    let inner = all.iter().flat_map(|panel| panel["panels"].as_array().cloned().unwrap_or_default());
    all.iter().cloned().chain(inner).collect()
}

/// Panel and query of all targets.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for panel in panels(dashboard) {
        let title = panel["title"].as_str().expect("a title").to_owned();
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((title.clone(), target["expr"].as_str().expect("a query").to_owned()));
        }
    }
    assert!(queries.len() > 50, "{}", queries.len());
    queries
}

/// A query as Grafana would ask it with everything chosen. The windows are wide: a busy machine scrapes when it can.
fn filled_in(query: &str) -> String {
    let windows = query.replace("$__rate_interval", "5m").replace("$__range", "5m");
    let filled = ["$instance", "$input", "$route"].iter().fold(windows, |query, name| query.replace(name, ".*"));
    assert!(!filled.contains('$'), "an unknown variable in {query}");
    filled
}

/// Every name of ours in `text` is a metric, or a part of a histogram.
fn assert_names_exist(place: &str, text: &str, more: &[String]) {
    let known: BTreeSet<&str> = metrics::described().map(|metric| metric.name).collect();
    let name = Regex::new(r"(?:[a-z_]+:)?forebay_[a-z_]+(?::[a-z0-9_]+)?").expect("a regex");
    let mut named = 0;
    for found in name.find_iter(text).map(|found| found.as_str()) {
        let bare = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| found.strip_suffix(suffix));
        let exists = known.contains(found) || bare.is_some_and(|bare| known.contains(bare));
        assert!(exists || more.iter().any(|rule| rule == found), "{place}: no metric and no rule is named {found}");
        named += 1;
    }
    assert!(named > 0 || text.contains("up{"), "{place} names no metric of ours: {text}");
}

#[test]
fn promtool_takes_rules_alerts_and_the_example_and_their_unit_tests_pass() {
    let Some(promtool) = installed_in_ci("promtool") else { return };
    for arguments in [
        &["check", "rules", "rules.yml", "alerts.yml"][..],
        &["check", "config", "prometheus.yml"],
        &["test", "rules", "alerts.test.yml"],
    ] {
        let ran =
            Command::new(&promtool).args(arguments).current_dir(root().join("deploy/prometheus")).output().unwrap();
        let said = [ran.stdout, ran.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(ran.status.success() && said.contains("SUCCESS"), "{arguments:?}:\n{said}");
    }
}

#[test]
fn every_alert_is_tested_to_fire_and_not_to() {
    let file: Value = serde_yaml::from_str(&read("deploy/prometheus/alerts.test.yml")).expect("YAML");
    let mut tested: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for test in file["tests"].as_array().expect("tests") {
        for expected in test["alert_rule_test"].as_array().expect("expectations") {
            let fires = !expected["exp_alerts"].as_array().expect("a list").is_empty();
            let alert = expected["alertname"].as_str().expect("a name").to_owned();
            tested.entry(alert).or_default()[usize::from(fires)] += 1;
        }
    }
    for (alert, _) in alerts() {
        let [not, fires] = tested.remove(&alert).unwrap_or_default();
        assert!(not > 0 && fires > 0, "{alert} is tested {fires} times to fire and {not} times not to");
    }
    assert!(tested.is_empty(), "no such alerts: {:?}", tested.keys());
}

#[test]
fn every_alert_says_what_is_wrong_what_to_do_and_where_the_rest_is() {
    let recorded: Vec<String> = rules("deploy/prometheus/rules.yml").into_iter().map(|(name, _)| name).collect();
    let mut runbooks = BTreeSet::new();
    for (name, alert) in alerts() {
        assert_names_exist(&name, alert["expr"].as_str().expect("an expression"), &recorded);
        let severity = alert["labels"]["severity"].as_str().expect("a severity");
        assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
        let annotation = |key: &str| alert["annotations"][key].as_str().unwrap_or_else(|| panic!("{name}: no {key}"));
        assert!(annotation("summary").contains("$labels.instance"), "{name}: whose?");
        assert!(annotation("description").len() > 100, "{name}: {}", annotation("description"));
        let (page, anchor) = annotation("runbook").split_once('#').expect("a heading");
        assert!(headings(page).contains(&anchor.to_owned()), "{name}: {page} has no heading {anchor}");
        assert!(runbook_says(page, anchor).contains(&name), "{page}#{anchor} does not name {name}");
        runbooks.insert(anchor.to_owned());
    }
    for (name, rule) in rules("deploy/prometheus/rules.yml") {
        assert_names_exist(&name, rule["expr"].as_str().expect("an expression"), &recorded);
    }
    assert!(runbooks.len() > 10, "{runbooks:?}");
}

#[test]
fn the_list_of_alerts_is_the_one_that_is_shipped() {
    let row = Regex::new(r"(?m)^\| (Forebay\w+) \| (\w+) \|").expect("a regex");
    let text = read("docs/METRICS.md");
    let listed: Vec<_> = row.captures_iter(&text).map(|found| (found[1].to_owned(), found[2].to_owned())).collect();
    let severity = |alert: &Value| alert["labels"]["severity"].as_str().expect("a severity").to_owned();
    let shipped: Vec<_> = alerts().into_iter().map(|(name, alert)| (name, severity(&alert))).collect();
    assert_eq!(listed, shipped, "docs/METRICS.md (left) and deploy/prometheus/alerts.yml (right)");
}

/// The headings of a page as links name them.
fn headings(page: &str) -> Vec<String> {
    read(page).lines().filter(|line| line.starts_with("## ")).map(slug).collect()
}

fn slug(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
    kept.map(|char| if char == ' ' { '-' } else { char }).collect()
}

/// What stands below a heading.
fn runbook_says(page: &str, anchor: &str) -> String {
    let text = read(page);
    let sections = text.split("\n## ").filter(|section| slug(section.lines().next().unwrap_or_default()) == anchor);
    sections.collect()
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    let panels = panels(&dashboard);
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    let mut taken: BTreeMap<(u64, u64), String> = BTreeMap::new();
    for panel in &panels {
        let title = panel["title"].as_str().expect("a title").to_owned();
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}: an id twice");
        assert!(titles.insert(title.clone()), "{title}: a title twice");
        let place = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        assert!(place("x") + place("w") <= 24, "{title}: wider than the page");
        for (x, y) in (0..place("w")).flat_map(|x| (0..place("h")).map(move |y| (x, y))) {
            let other = taken.insert((place("x") + x, place("y") + y), title.clone());
            assert!(other.is_none(), "{title} lies on {other:?}");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 10), "{title}: no description");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string() || panel["type"] == "state-timeline", "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().expect("targets");
        let names: BTreeSet<_> = targets.iter().map(|target| target["refId"].as_str().expect("a name")).collect();
        assert_eq!(names.len(), targets.len(), "{title}: a refId twice");
        for target in targets {
            assert_names_exist(&title, target["expr"].as_str().expect("a query"), &[]);
        }
    }
    let text = format!("{}{:?}", Value::from(panels), dashboard["templating"]);
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let names: Vec<&str> = variables.iter().map(|variable| variable["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["datasource", "instance", "input", "route"]);
    for name in names {
        assert!(text.contains(&format!("${name}")) || text.contains(&format!("${{{name}}}")), "{name} is not used");
    }
    for variable in variables.iter().filter(|variable| variable["type"] == "query") {
        let (asked, shown) = (&variable["query"]["query"], &variable["definition"]);
        assert_eq!(asked, shown);
        assert_names_exist("a variable", asked.as_str().expect("a query"), &[]);
    }
}

/// A running Prometheus that scrapes one relay every second, with our rules and alerts. Dropping it ends it.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Prometheus {
    fn start(program: &Path, relay: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| root().join("deploy/prometheus").join(name).display().to_string();
        // The example, but for its pace, its target and where its rules lie.
        let example = read("deploy/prometheus/prometheus.yml");
        let edits = [
            ("scrape_interval: 15s", "scrape_interval: 1s".to_owned()),
            ("evaluation_interval: 15s", "evaluation_interval: 1s".to_owned()),
            ("127.0.0.1:9514", relay.to_string()),
            ("- rules.yml", format!("- {}", file("rules.yml"))),
            ("- alerts.yml", format!("- {}", file("alerts.yml"))),
        ];
        let configuration = edits.iter().fold(example, |text, (from, to)| {
            assert!(text.contains(from), "the example says {from} no more");
            text.replace(from, to)
        });
        let path = folder.path().join("prometheus.yml");
        std::fs::write(&path, configuration).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new(program)
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--log.level=warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let port = listening_port("prometheus", process.id());
        Self { process, address: SocketAddr::from(([127, 0, 0, 1], port)), folder }
    }

    /// What its API answers with; an error is its own words.
    fn ask(&self, path: &str) -> Result<Value, String> {
        let mut stream = TcpStream::connect(self.address).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // HTTP/1.0: the body ends with the connection, in one piece.
        write!(stream, "GET /api/v1/{path} HTTP/1.0\r\n\r\n").map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
        let body = answer.split_once("\r\n\r\n").map_or(answer.as_str(), |(_, body)| body);
        let body: Value = serde_json::from_str(body).map_err(|_| answer.clone())?;
        if body["status"] == "success" { Ok(body["data"].clone()) } else { Err(body.to_string()) }
    }

    /// How many series a query finds that have a number now.
    fn count(&self, query: &str) -> Result<usize, String> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.ask(&format!("query?query={escaped}"))?;
        let found = data["result"].as_array().expect("a list");
        Ok(found.iter().filter(|series| series["value"][1].as_str().is_some_and(|value| value != "NaN")).count())
    }

    /// Waits until the query finds something; a query that is none fails at once.
    #[track_caller]
    fn finds(&self, place: &str, query: &str) {
        eventually(&format!("{place}: data for {query}"), || match self.count(query) {
            Ok(0) => Err("no data".to_owned()),
            Ok(_) => Ok(()),
            Err(error) if error.contains("bad_data") => panic!("{place}: {query}: {error}"),
            Err(error) => Err(error),
        });
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log"));
            println!("prometheus's log:\n{}", log.unwrap_or_default());
        }
    }
}

/// A relay with everything that has a metric: inputs of all kinds, TLS in and out, RELP, HTTPS, a file and a spool.
struct Site {
    relay: Relay,
    certificates: Certificates,
    collector: Collector,
    intake: Intake,
    _folder: TempDir,
}

impl Site {
    fn start() -> Self {
        let certificates = Certificates::new();
        let (collector, folder) = (Collector::start(&certificates), tempfile::tempdir().unwrap());
        let intake = Intake::start(&certificates, |_| Answer::Take);
        let path = |name: &str| -> PathBuf { folder.path().join(name) };
        let relay = Relay::start(&format!(
            "inputs:\n  lan: {{listen: ['udp://127.0.0.1:0', 'tcp://127.0.0.1:0'], max_message_size: 480, oversize: reject}}\n  \
             dmz: {{listen: 'tls://127.0.0.1:0', tls: {{{}}}}}\n  relay: {{listen: 'relp+tcp://127.0.0.1:0'}}\n\
             outputs:\n  sekoia: {{{}}}\n  web: {{{}}}\n  copy: {{to: 'file://{}'}}\n\
             routes:\n  - {{name: noise, program: noise, discard: true}}\n  \
             - {{name: copy, program: app, output: copy, intake_key: key-of-copy, continue: true}}\n  \
             - {{name: apps, program: app, output: sekoia, intake_key: key-of-apps}}\n  \
             - {{name: web, program: nginx, output: web, intake_key: key-of-web}}\n\
             spool: {{dir: {}, min_free: 0, durability: always, sync: every_batch}}\n",
            certificates.input_tls(),
            collector.output(&certificates, ""),
            intake.output(&certificates, ""),
            path("copy.log").display(),
            path("spool").display(),
        ));
        Self { relay, certificates, collector, intake, _folder: folder }
    }

    /// Messages over all that listens, for each end that a message can have without something being broken.
    fn send(&self) {
        let of = |program: &str| format!("<13>Nov 22 10:00:00 gate {program}: the water stands high\n");
        let mixed = ["noise", "app", "nginx", "stranger"].map(of).concat();
        send_udp(self.relay.address("lan", "udp"), &[&of("app"), &of("nginx"), &of("stranger")]);
        send_tcp(
            self.relay.address("lan", "tcp"),
            format!("{mixed}{}{}", of("app").trim_end(), "~".repeat(600) + "\n").as_bytes(),
        );
        let config = self.certificates.client_config(None);
        let mut sender = connect_tls(self.relay.address("dmz", "tls"), config).unwrap();
        sender.write_all(mixed.as_bytes()).unwrap();
        finish_tls(sender);
    }
}

#[test]
fn a_real_prometheus_takes_every_rule_and_finds_data_for_every_query_of_the_dashboard() {
    let Some(program) = installed_in_ci("prometheus") else { return };
    let mut site = Site::start();
    let prometheus = Prometheus::start(&program, site.relay.admin());
    // Rates need what was counted between two scrapes.
    prometheus.finds("the first scrape", "up{job=\"forebay\"} == 1");
    site.send();
    site.collector.wait_for(3);
    site.intake.wait_for("key-of-web", 3);

    let dashboard = dashboard();
    for (panel, query) in queries(&dashboard) {
        prometheus.finds(&panel, &filled_in(&query));
    }
    for (name, _) in rules("deploy/prometheus/rules.yml") {
        prometheus.finds("rules.yml", &name);
    }
    let all = alerts().len() + rules("deploy/prometheus/rules.yml").len();
    eventually("all rules to be evaluated and the right ones to fire", || {
        let data = prometheus.ask("rules")?;
        let groups = data["groups"].as_array().expect("groups").clone();
        let rules: Vec<Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect();
        assert_eq!(rules.len(), all);
        if let Some(sick) = rules.iter().find(|rule| rule["health"] != "ok") {
            return Err(sick.to_string());
        }
        let firing = rules.iter().filter(|rule| rule["state"] == "firing");
        let firing: Vec<&str> = firing.filter_map(|rule| rule["name"].as_str()).collect();
        // It was sent a message that is too long; but for that a relay that works as it should alarms nobody.
        if firing == ["ForebayMessagesRejected"] { Ok(()) } else { Err(format!("{firing:?} fire")) }
    });
    drop(prometheus);
    site.relay.stop_clean();
}

#[test]
fn a_query_that_is_none_is_told_from_one_without_data() {
    let Some(program) = installed("prometheus") else { return };
    let relay = Relay::start("inputs: {lan: {listen: 'udp://127.0.0.1:0'}}\nroutes: [{discard: true}]\n");
    let prometheus = Prometheus::start(&program, relay.admin());
    prometheus.finds("the first scrape", "up");
    assert_eq!(prometheus.count("forebay_no_such_metric").unwrap(), 0);
    assert!(prometheus.count("sum(forebay_ready").unwrap_err().contains("bad_data"));
    assert!(std::panic::catch_unwind(|| assert_names_exist("here", "forebay_no_such_metric", &[])).is_err());
}
