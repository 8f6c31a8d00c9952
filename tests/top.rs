//! `forebay top` against a running relay: as text, and in a real terminal (tmux).
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

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tempfile::TempDir;

use support::relay::remove_own_variables;
use support::senders::send_tcp;
use support::waiting::{eventually, pause};
use support::{Bench, installed};

#[path = "support/harness.rs"]
mod support;

const ROUTES: &str = "inputs: {lan: {listen: 'tcp://127.0.0.1:0'}}\n\
     routes:\n\
     - {name: web, program: nginx, intake_key: secret-of-web-0001}\n\
     - {name: noise, program: cron, discard: true}\n";

/// Somebody who sends as long as this lives.
struct Sender {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sender {
    fn start(bench: &Bench) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (to, over) = (bench.relay.address("lan", "tcp"), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            while !over.load(Relaxed) {
                let lines = ["nginx", "nginx", "cron", "stranger"]
                    .map(|program| format!("<13>Nov 22 10:11:12 gate {program}: x\n"));
                send_tcp(to, lines.concat().as_bytes());
                pause(Duration::from_millis(20));
            }
        });
        Self { ends, thread: Some(thread) }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn forebay(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    remove_own_variables(&mut command);
    command.args(arguments).output().unwrap()
}

#[test]
fn one_look_is_printed_as_text() {
    let bench = Bench::start(ROUTES);
    let _sender = Sender::start(&bench);
    let admin = bench.relay.admin().to_string();
    let text = eventually("a look with rates", || {
        let output = forebay(&["top", "--once", "--admin", &admin]);
        let (text, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(0), "{said}");
        let is_seen = text.contains("\nnginx ") && text.contains("\nstranger ") && text.contains("\n127.0.0.1 ");
        if is_seen { Ok(text) } else { Err(text) }
    });
    let row = |begins: &str| -> Vec<String> {
        let line =
            text.lines().find(|line| line.starts_with(begins)).unwrap_or_else(|| panic!("no {begins} in {text}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert!(text.starts_with(&format!("forebay {} at http://{admin}, up ", env!("CARGO_PKG_VERSION"))), "{text}");
    assert_eq!((row("web ")[7].as_str(), row("noise ")[7].as_str()), ("sekoia", "(discards)"));
    let share: f64 = row("nginx ")[2].trim_end_matches('%').parse().unwrap();
    assert!((40.0..=60.0).contains(&share), "two of four: {text}");
    assert_eq!(row("stranger ").last().unwrap(), "100%", "the sampled one comes first");
    assert!(!text.contains("secret-of") && !text.contains('\x1b'), "{text}");
}

#[test]
fn without_a_terminal_or_a_relay_it_says_what_to_do() {
    let output = forebay(&["top", "--admin", "127.0.0.1:1"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(said.contains("forebay top --once"), "{said}");
    let output = forebay(&["top", "--once", "--admin", "127.0.0.1:1"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.starts_with("cannot connect to http://127.0.0.1:1") && said.contains("--admin URL"), "{said}");
}

/// A terminal.
struct Tmux {
    program: PathBuf,
    folder: TempDir,
}

impl Tmux {
    /// Runs `command` in one of 120 by 30; `None` where there is no tmux.
    fn start(command: &str) -> Option<Self> {
        let tmux = Self { program: installed("tmux")?, folder: tempfile::tempdir().unwrap() };
        let size = ["-x", "120", "-y", "30"];
        let output = tmux.ask(&[&["new-session", "-d"], &size[..], &[command]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(tmux)
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        remove_own_variables(&mut command);
        command.arg("-S").arg(self.folder.path().join("tmux")).args(["-f", "/dev/null"]).args(arguments);
        command.env_remove("TMUX").env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8").output().unwrap()
    }

    fn press(&self, keys: &[&str]) {
        assert!(self.ask(&[&["send-keys"], keys].concat()).status.success());
    }

    fn screen(&self) -> String {
        String::from_utf8(self.ask(&["capture-pane", "-p"]).stdout).unwrap()
    }

    /// The screen once `holds` is true of it.
    #[track_caller]
    fn screen_when(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        eventually(what, || {
            let screen = self.screen();
            if holds(&screen) { Ok(screen) } else { Err(format!("\n{screen}")) }
        })
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.ask(&["kill-server"]);
    }
}

/// Runs top, and says afterwards how it ended and whether the terminal is as it was.
fn shell(admin: &str) -> String {
    format!(
        "before=$(stty -g); '{}' top --interval 0.2 --admin {admin}; echo \"ended with $?\"; \
         test \"$(stty -g)\" = \"$before\" && echo restored; exec cat",
        env!("CARGO_BIN_EXE_forebay")
    )
}

/// The row of a table whose first word is `name`.
fn row<'a>(screen: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let rows = screen.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.into_iter().find(|row| row.first() == Some(&name))
}

fn has_rate(screen: &str, name: &str) -> bool {
    row(screen, name).and_then(|row| row.get(1)?.parse::<f64>().ok()).is_some_and(|rate| rate > 0.0)
}

#[test]
fn in_a_terminal_it_shows_rates_obeys_keys_and_leaves_it_as_it_was() {
    let bench = Bench::start(ROUTES);
    let _sender = Sender::start(&bench);
    let Some(tmux) = Tmux::start(&shell(&bench.relay.admin().to_string())) else { return };
    tmux.screen_when("rates", |screen| ["lan", "web", "noise", "sekoia"].iter().all(|name| has_rate(screen, name)));
    tmux.press(&["3"]);
    tmux.screen_when("programs", |screen| has_rate(screen, "nginx") && screen.contains("that arrived in the last"));
    tmux.press(&["/", "s", "t", "r", "Enter"]);
    tmux.screen_when("the filter", |screen| has_rate(screen, "stranger") && row(screen, "nginx").is_none());
    tmux.press(&["Escape"]);
    tmux.press(&["4"]);
    tmux.screen_when("peers", |screen| has_rate(screen, "127.0.0.1"));
    tmux.press(&["5"]);
    tmux.screen_when("unmatched programs", |screen| has_rate(screen, "stranger"));
    tmux.press(&["?"]);
    tmux.screen_when("help", |screen| screen.contains("sorts by the next column"));
    tmux.ask(&["resize-window", "-x", "50", "-y", "12"]);
    tmux.press(&["Escape", "1"]);
    tmux.screen_when("the new size", |screen| row(screen, "route").is_some() && !screen.contains("listens"));
    tmux.ask(&["resize-window", "-x", "120", "-y", "30"]);
    tmux.press(&["q"]);
    tmux.screen_when("the end", |screen| screen.contains("ended with 0") && screen.contains("restored"));
    assert!(!tmux.screen().contains("routes"), "nothing of it is left:\n{}", tmux.screen());
}

#[test]
fn a_relay_that_goes_away_is_told_of_and_waited_for() {
    let mut bench = Bench::start(&format!("{ROUTES}shutdown_timeout: 5s\n"));
    let admin = bench.relay.admin();
    let Some(tmux) = Tmux::start(&shell(&admin.to_string())) else { return };
    tmux.screen_when("the relay", |screen| row(screen, "web").is_some());
    bench.relay.stop_clean();
    tmux.screen_when("the trouble", |screen| screen.contains("no answer, what is shown is old"));
    assert!(row(&tmux.screen(), "web").is_some(), "{}", tmux.screen());
    tmux.press(&["q"]);
    tmux.screen_when("the end", |screen| screen.contains("ended with 0") && screen.contains("restored"));
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    let bench = Bench::start(ROUTES);
    let admin = bench.relay.admin().to_string();
    let Some(tmux) = Tmux::start(&shell(&admin)) else { return };
    tmux.screen_when("the relay", |screen| row(screen, "web").is_some());
    let shell: u32 =
        String::from_utf8(tmux.ask(&["display", "-p", "#{pane_pid}"]).stdout).unwrap().trim().parse().unwrap();
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    let top = children.split_whitespace().next().expect("the shell's child");
    assert!(Command::new("kill").args(["-TERM", top]).status().unwrap().success());
    tmux.screen_when("the end", |screen| screen.contains("ended with 0") && screen.contains("restored"));
}
