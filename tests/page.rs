//! The admin server's page, in a real browser: what it shows of a real relay, on a desk and on a phone, in light and dark,
//! and that nothing a sender says becomes a part of it.
//!
//! `FOREBAY_PICTURES=docs/images cargo test --test page pictures` makes the README's pictures anew.
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

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tempfile::TempDir;

use support::browser::Browser;
use support::certificates::Certificates;
use support::collector::Collector;
use support::installed_in_ci;
use support::intake::{Answer, Intake};
use support::relay::{Relay, count};
use support::senders::*;
use support::waiting::{PATIENCE, pause, within};

const DESK: [u32; 2] = [1280, 900];
const PHONE: [u32; 2] = [390, 844];

/// A relay as somebody may run it: several routes to two outputs over TLS, one of them with a spool in between.
struct Site {
    relay: Relay,
    certificates: Certificates,
    _collector: Collector,
    _intake: Intake,
    _folder: TempDir,
}

impl Site {
    fn start() -> Self {
        Self::with(Certificates::new(), "")
    }

    /// `more` routes, ahead of the others.
    fn with(certificates: Certificates, more: &str) -> Self {
        let (collector, folder) = (Collector::start(&certificates), tempfile::tempdir().unwrap());
        let intake = Intake::start(&certificates, |_| Answer::Take);
        let key = |name: &str| format!("{name:0<32}");
        let relay = Relay::start(&format!(
            "inputs:\n  lan: {{listen: ['udp://127.0.0.1:0', 'tcp://127.0.0.1:0']}}\n  \
             dmz: {{listen: 'tls://127.0.0.1:0', tls: {{{}}}}}\n\
             outputs:\n  sekoia: {{{}}}\n  sekoia-https: {{{}}}\n  archive: {{to: 'file://{}'}}\n\
             routes:\n{more}  - {{name: noise, program: CRON, discard: true}}\n  \
             - {{name: unbound, program: 'unbound*', output: sekoia, intake_key: {}}}\n  \
             - {{name: web, program: [nginx, haproxy], output: sekoia, intake_key: {}}}\n  \
             - {{name: linux, program: [sshd, sudo], output: sekoia-https, intake_key: {}}}\n\
             spool: {{dir: {}, min_free: 0, max_size: 1GiB}}\n",
            certificates.input_tls(),
            collector.output(&certificates, ""),
            intake.output(&certificates, ""),
            folder.path().join("archive.log").display(),
            key("unbound"),
            key("web"),
            key("linux"),
            folder.path().join("spool").display(),
        ));
        Self { relay, certificates, _collector: collector, _intake: intake, _folder: folder }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.relay.admin())
    }

    fn lan(&self) -> SocketAddr {
        self.relay.address("lan", "tcp")
    }
}

/// One of several programs, whose share of all messages differs.
fn message(number: u64) -> String {
    let program = match number % 20 {
        0..8 => "unbound",
        8..13 => "nginx",
        13..15 => "haproxy",
        15..17 => "sshd",
        17 => "sudo",
        18 => "CRON",
        _ => "dhcpd",
    };
    format!("<13>Nov 22 10:00:00 gate {program}[{number}]: the water stands at {number}\n")
}

/// Senders at an uneven pace, until told to stop.
struct Traffic {
    goes_on: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    senders: Vec<JoinHandle<()>>,
}

impl Traffic {
    fn start(to: SocketAddr) -> Self {
        let (goes_on, sent) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let sender = |offset: u64| {
            let (goes_on, sent) = (Arc::clone(&goes_on), Arc::clone(&sent));
            thread::spawn(move || {
                let mut stream = connect(to);
                let mut number = offset;
                while goes_on.load(Relaxed) {
                    let burst = 20 + (number / 500) % 40;
                    let text: String = (number..number + burst).map(message).collect();
                    stream.write_all(text.as_bytes()).unwrap();
                    number += burst;
                    sent.fetch_add(burst, Relaxed);
                    pause(Duration::from_millis(25));
                }
                finish(stream);
            })
        };
        let senders = (0..3).map(|nth| sender(nth * 7)).collect();
        Self { goes_on, sent, senders }
    }

    /// Ends it; how many messages were sent.
    fn stop(self) -> u64 {
        self.goes_on.store(false, Relaxed);
        for sender in self.senders {
            sender.join().unwrap();
        }
        self.sent.load(Relaxed)
    }
}

/// The cell of a table in the page: of the row that begins with `row`, under `column`.
fn cell(table: &str, row: &str, column: &str) -> String {
    format!(
        "(() => {{ for (const tr of document.querySelectorAll('#{table} tbody tr')) if (tr.cells[0].textContent === '{row}') \
         for (const td of tr.cells) if (td.dataset.label === '{column}') return td.textContent; return null; }})()"
    )
}

const TEXT: &str = "document.body.innerText";

#[test]
fn the_page_shows_what_the_relay_counts() {
    let Some(chromium) = installed_in_ci("chromium") else { return };
    let mut site = Site::start();
    let mut browser = Browser::start(&chromium);
    browser.show_as(DESK, false, "light");
    browser.open(&site.url());
    let traffic = Traffic::start(site.lan());
    browser.wait_until(&format!("/[1-9]/.test({})", cell("routes", "web", "in /s")), TEXT);
    browser.wait_until("document.querySelector('.tile path.line').getAttribute('d').length > 20", TEXT);
    let sent = traffic.stop();
    let english = |number: u64| {
        let digits = number.to_string();
        let groups: Vec<&str> =
            digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
        groups.join(",")
    };
    browser.wait_until(&format!("{} === '{}'", cell("inputs", "lan", "received"), english(sent)), TEXT);
    let status = site.relay.status_when("all to be sent", |status| {
        let is_sent =
            |route: &str| count(status.route(route), "in_flight") + count(status.route(route), "released") > 0;
        ["unbound", "web", "linux"].into_iter().all(is_sent) && count(status.route("linux"), "waiting") == 0
    });
    for (route, column, key) in
        [("web", "taken", "routed"), ("noise", "taken", "discarded"), ("linux", "taken", "routed")]
    {
        let expected = english(count(status.route(route), key));
        browser.wait_until(&format!("{} === '{expected}'", cell("routes", route, column)), TEXT);
    }
    let unmatched = english(count(status.input("lan"), "unmatched"));
    browser.wait_until(&format!("{} === '{unmatched}'", cell("programs", "dhcpd", "messages")), TEXT);
    browser
        .wait_until("[...document.querySelectorAll('.verdict')].every((one) => one.textContent === 'balance')", TEXT);
    let shown = browser.look(TEXT).as_str().unwrap().to_owned();
    for words in
        ["Messages of input lan have no route", "over ten years", "of 1.0 GiB", "ready", "archive", "udp://127.0.0.1"]
    {
        assert!(shown.contains(words), "the page does not say {words}:\n{shown}");
    }
    // Another version's answer may have less, or other things, and any number of routes.
    browser.look("for (const status of [{}, { routes: null, inputs: [{}], outputs: [{ name: 'x', to: {} }], spool: {}, http: {} }]) { remember(status); show(status); }");
    browser.look("show({ ready: true, routes: Array.from({ length: 4096 }, (_, nth) => ({ name: 'route-' + nth, routed: nth })) })");
    assert_eq!(browser.look("document.querySelectorAll('#routes tbody tr').length"), 300);
    assert_eq!(browser.look("document.querySelector('#routes caption').textContent"), "and 3796 more in /status");
    assert_eq!(browser.complaints(), Vec::<String>::new());

    site.relay.stop_clean();
    browser.wait_until("document.body.innerText.includes('The relay does not answer since')", TEXT);
    assert_eq!(browser.look("document.querySelector('main').className"), "stale");
}

#[test]
fn what_a_sender_calls_itself_is_text_and_runs_nothing() {
    let Some(chromium) = installed_in_ci("chromium") else { return };
    let site = Site::start();
    // As much markup as a program's name can hold: it ends at a blank, a slash, a colon and a bracket.
    let names = ["<u>hostile", "\"><svg><b", "<img\u{c}src=x", "<script>pwned=1"];
    for name in names {
        send_tcp(site.lan(), format!("<13>1 2026-11-22T10:00:00Z gate {name} - - - a test\n").as_bytes());
    }
    let mut browser = Browser::start(&chromium);
    browser.open(&site.url());
    browser.wait_until(&format!("{} === '1'", cell("programs", "<u>hostile", "messages")), TEXT);
    browser.wait_until("document.querySelectorAll('#programs tbody tr').length === 4", TEXT);
    assert_eq!(browser.look("document.querySelectorAll('#programs :is(u, b, img, svg, script)').length"), 0);
    assert_eq!(browser.look("document.querySelectorAll('script').length"), 1);
    assert_eq!(browser.complaints(), Vec::<String>::new());

    // And if it were not: the policy lets no other script run, no style in, nothing out.
    browser.look(
        "{ const script = document.createElement('script'); script.textContent = 'window.pwned = 1'; document.body.append(script); \
         const box = document.createElement('div'); document.body.append(box); box.innerHTML = '<img src=x onerror=\"pwned = 1\">'; \
         fetch('http://127.0.0.1:9/').catch(() => { window.refused = 1; }); }",
    );
    browser.wait_until("window.refused === 1", "document.title");
    assert_eq!(browser.look("typeof window.pwned"), "undefined");
    let complaints = browser.complaints().join("\n");
    for directive in ["script-src", "img-src", "connect-src"] {
        assert!(complaints.contains(directive), "nothing was refused by {directive}:\n{complaints}");
    }
}

#[test]
fn what_is_wrong_stands_at_the_top() {
    let Some(chromium) = installed_in_ci("chromium") else { return };
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let relay = Relay::start(&format!(
        "memory: {{max: 24MiB}}\noutputs: {{down: {{to: 'tcp://{nobody}'}}}}\n\
         inputs: {{lan: {{listen: ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0']}}}}\nroutes: [{{name: all, intake_key: k1}}]\n"
    ));
    let mut browser = Browser::start(&chromium);
    browser.open(&format!("http://{}/", relay.admin()));
    browser.wait_until("document.title === 'all well · forebay'", TEXT);
    let flood: String = (0..200).map(|number| message(number).replace("water", &"~".repeat(800))).collect();
    let flood: Vec<&str> = flood.lines().collect();
    relay.status_when("datagrams to be dropped", |status| {
        send_udp(relay.address("lan", "udp"), &flood);
        count(status.route("all"), "dropped") > 100
    });
    for words in ["Output down has no connection: attempts fail (connect)", "Route all has lost", "(queue_full)"] {
        browser.wait_until(&format!("document.getElementById('problems').innerText.includes('{words}')"), TEXT);
    }
    assert_eq!(browser.look("document.title"), "trouble · forebay");
}

/// The contrast of each colour of text with what it stands on, as WCAG 2 reckons it; the least of them.
const CONTRAST: &str = "(() => {
    const style = getComputedStyle(document.documentElement);
    const light = (name) => {
        const hex = style.getPropertyValue(name).trim().slice(1), wide = hex.length === 3 ? [...hex].map((digit) => digit + digit).join('') : hex;
        const [red, green, blue] = [0, 2, 4].map((at) => parseInt(wide.slice(at, at + 2), 16) / 255).map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const contrast = (one, other) => { const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b); return (bright + 0.05) / (dark + 0.05); };
    const pairs = ['--text', '--soft', '--accent', '--good', '--warn', '--bad'].flatMap((name) => [[name, '--card'], [name, '--ground']]);
    pairs.push(['--good', '--good-ground'], ['--warn', '--warn-ground'], ['--bad', '--bad-ground']);
    return Math.min(...pairs.map(([one, other]) => contrast(one, other)));
})()";

#[test]
fn the_page_fits_a_phone_and_can_be_read_in_light_and_dark() {
    let Some(chromium) = installed_in_ci("chromium") else { return };
    let site = Site::start();
    let config = site.certificates.client_config(None);
    let mut sender = connect_tls(site.relay.address("dmz", "tls"), config).unwrap();
    sender.write_all((0..100).map(message).collect::<String>().as_bytes()).unwrap();
    finish_tls(sender);
    let mut browser = Browser::start(&chromium);
    let mut grounds = Vec::new();
    let sizes = [DESK, DESK, PHONE, [320, 640], [820, 1180], [1024, 768]];
    for (nth, size) in sizes.into_iter().enumerate() {
        let (scheme, is_phone) = (["light", "dark"][nth % 2], (2..5).contains(&nth));
        browser.show_as(size, is_phone, scheme);
        browser.open(&site.url());
        browser.wait_until(&format!("{} === '100'", cell("inputs", "dmz", "received")), TEXT);
        let width = browser.look("document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(width <= u64::from(size[0]), "{width} wide on {size:?}");
        let contrast = browser.look(CONTRAST).as_f64().unwrap();
        assert!(contrast >= 4.5, "{scheme}: a contrast of {contrast}");
        grounds.push(browser.look("getComputedStyle(document.body).backgroundColor").to_string());
    }
    // Turn about.
    assert!(grounds.iter().step_by(2).all(|ground| *ground == grounds[0]), "{grounds:?}");
    assert!(
        grounds.iter().skip(1).step_by(2).all(|ground| *ground == grounds[1]) && grounds[0] != grounds[1],
        "{grounds:?}"
    );
    let unnamed = browser.look("[...document.querySelectorAll('table')].filter((table) => !document.getElementById(table.getAttribute('aria-labelledby'))).length");
    assert_eq!(unnamed, 0);
    assert_eq!(browser.look("[...document.querySelectorAll('th')].filter((th) => th.scope !== 'col').length"), 0);
}

#[test]
fn the_page_comes_with_headers_that_shut_everything_else_out() {
    let relay = Relay::start("inputs: {lan: {listen: 'udp://127.0.0.1:0'}}\nroutes: [{discard: true}]\n");
    let mut stream = TcpStream::connect(relay.admin()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && body.starts_with("<!doctype html>"), "{head}");
    for header in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; script-src 'sha256-",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
    ] {
        assert!(head.contains(header), "no {header} in\n{head}");
    }
}

/// Only when asked for: nothing is asserted of how it looks.
#[test]
fn pictures() {
    let Some(folder) = std::env::var_os("FOREBAY_PICTURES").map(PathBuf::from) else {
        println!("skipped: FOREBAY_PICTURES does not say where to put pictures");
        return;
    };
    let Some(chromium) = installed_in_ci("chromium") else { return };
    let audit = "  - {name: audit, program: sudo, output: archive, template: '%msg%\\n'}\n";
    let mut certificates = Certificates::new();
    // The authority of the tests gives them two thousand years.
    let two_months = std::time::SystemTime::now() + Duration::from_secs(61 * 86_400);
    certificates.server =
        certificates.issue("dated", &["localhost", "127.0.0.1"], |params| params.not_after = two_months.into());
    let site = Site::with(certificates, audit);
    let traffic = Traffic::start(site.lan());
    let mut browser = Browser::start(&chromium);
    browser.open(&site.url());
    // Longer than other waits last: it is the past that the pictures show.
    let past =
        within(PATIENCE * 3, || match browser.look("typeof samples === 'undefined' ? 0 : samples.length").as_u64() {
            Some(some) if some > 22 => Ok(()),
            some => Err(format!("{some:?}")),
        });
    past.expect("some past");
    for (name, size, is_phone, scheme) in
        [("light", DESK, false, "light"), ("dark", DESK, false, "dark"), ("phone", PHONE, true, "dark")]
    {
        browser.show_as(size, is_phone, scheme);
        // Laid out and painted.
        browser.wait_until("document.getElementById('badge').textContent !== 'asking'", TEXT);
        if !is_phone {
            let whole = browser.look("document.documentElement.scrollHeight").as_u64().unwrap();
            browser.show_as([size[0], whole as u32], is_phone, scheme);
        }
        std::fs::write(folder.join(format!("status-{name}.png")), browser.picture()).unwrap();
    }
    traffic.stop();
}
