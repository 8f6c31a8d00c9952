//! What is drawn of a state, in a terminal that is none.

use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::keys::{Then, press};
use super::state::{State, View};
use super::status::{Sample, Status};
use super::view::{draw, plain};

/// Two seconds of a relay, `grown` of them: 200 messages a second, of which some find no connection and some are dropped.
fn status(grown: u64) -> Status {
    let json = serde_json::json!({
        "version": "9.9.9", "ready": true, "shards": 2, "uptime_seconds": 100 + 2 * grown, "new_in_a_later_version": {},
        "inputs": [
            {"name": "lan", "listening": ["tcp://0.0.0.0:514"], "connections": 12, "received": 400 * grown,
             "received_bytes": 68_000 * grown, "unmatched": 20 * grown, "discarded": 10 * grown},
            {"name": "dmz", "connections": 1, "blocked_connections": 1, "received": 0, "kernel_dropped": 3},
        ],
        "routes": [
            {"name": "web", "output": "sekoia", "routed": 300 * grown, "released": 300 * grown, "waiting": 5},
            {"name": "auth", "output": "backup", "routed": 70 * grown, "waiting": 12_345, "oldest_waiting_seconds": 125,
             "dropped": 4 * grown, "dropped_by_reason": {"queue_full": 4 * grown, "shutdown": 0}},
            {"name": "noise", "discard": true, "discarded": 10 * grown},
        ],
        "outputs": [
            {"name": "sekoia", "to": "intake.sekoia.io:10514", "connections": 2, "written_messages": 300 * grown},
            {"name": "backup", "to": "10.0.0.9:601", "connections": 0, "failed_connects": grown},
        ],
        "spool": {"state": "ready", "disk_bytes": 5_000_000, "max_bytes": 10_000_000_000_u64},
        "unmatched_programs": [{"program": "stranger", "messages": 20 * grown}, {"program": "", "messages": 1}],
    });
    serde_json::from_value(json).unwrap()
}

fn sample() -> Sample {
    let json = serde_json::json!({
        "seconds": 1.0, "passed": 2_000, "sampled": 1_000,
        "programs": [{"name": "nginx", "messages": 700, "bytes": 70_000}, {"name": "sshd", "messages": 300, "bytes": 9_000, "unmatched": 30}],
        "peers": [{"name": "192.0.2.7", "messages": 1_000, "bytes": 79_000}],
    });
    serde_json::from_value(json).unwrap()
}

/// A relay that has been asked twice, two seconds apart.
fn known() -> State {
    let mut state = State::new("http://127.0.0.1:9514".to_owned());
    let began = Instant::now();
    state.learn(status(1), began);
    state.learn(status(2), began + Duration::from_secs(2));
    state
}

fn drawn(state: &State, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, Instant::now())).unwrap();
    terminal
}

/// The lines on the screen.
fn lines(terminal: &Terminal<TestBackend>) -> Vec<String> {
    let buffer = terminal.backend().buffer();
    let width = usize::from(buffer.area.width);
    let rows = buffer.content.chunks(width).map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
    rows.map(|row| row.trim_end().to_owned()).collect()
}

fn line<'a>(lines: &'a [String], begins: &str) -> &'a str {
    let found = lines.iter().find(|line| line.starts_with(begins));
    found.unwrap_or_else(|| panic!("no line begins with {begins}:\n{}", lines.join("\n")))
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn type_keys(state: &mut State, keys: &str) -> Then {
    let mut then = Then::GoOn;
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            '\t' => KeyCode::Tab,
            '\x08' => KeyCode::Backspace,
            key => KeyCode::Char(key),
        };
        then = press(state, KeyEvent::new(code, KeyModifiers::NONE));
    }
    then
}

#[test]
fn the_overview_shows_rates_backlogs_and_what_is_wrong() {
    let terminal = drawn(&known(), 120, 30);
    let lines = lines(&terminal);
    assert!(
        lines[0].starts_with("forebay 9.9.9 at http://127.0.0.1:9514  up 1m44s  2 shards  spool ready, 5.00M of 10.0G"),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].starts_with("in 200/s  out 150/s  waiting 12.3k  on disk 0  oldest 2m05s  lost 11"),
        "{}",
        lines[1]
    );
    line(&lines, "! route auth drops 2.0/s (queue_full)");
    line(&lines, "! output backup has no connection, and messages wait for it");
    assert_eq!(
        words(line(&lines, "lan ")),
        ["lan", "200", "34.0k", "12", "0", "0", "10", "5.0", "0", "tcp://0.0.0.0:514"]
    );
    assert_eq!(words(line(&lines, "dmz ")), ["dmz", "0", "0", "1", "1", "0", "0", "0", "3"]);
    assert_eq!(words(line(&lines, "web ")), ["web", "150", "150", "5", "0", "-", "0", "sekoia"]);
    assert_eq!(words(line(&lines, "auth ")), ["auth", "35", "0", "12.3k", "0", "2m05s", "8", "backup"]);
    assert_eq!(words(line(&lines, "noise ")), ["noise", "5.0", "0", "0", "0", "-", "0", "(discards)"]);
    assert_eq!(words(line(&lines, "sekoia ")), ["sekoia", "150", "0", "2", "0", "0", "intake.sekoia.io:10514"]);
    let row = lines.iter().position(|line| line.starts_with("auth ")).unwrap();
    let red = (0..120_u16).filter(|x| terminal.backend().buffer()[(*x, row as u16)].fg == Color::Red).count();
    assert!(red > 0, "what is being dropped is red");
}

#[test]
fn every_size_of_a_terminal_is_drawn_in() {
    let mut state = known();
    state.learn_sample(Ok(sample()));
    for view in View::ALL {
        state.show(view);
        for (width, height) in [(1, 1), (10, 3), (30, 6), (40, 10), (60, 15), (80, 24), (250, 80)] {
            let shown = lines(&drawn(&state, width, height)).join("\n");
            let is_small = width < 30 || height < 6;
            assert!(is_small || shown.contains("q quit"), "{width}x{height}:\n{shown}");
        }
    }
    state.has_help = true;
    for (width, height) in [(30, 6), (80, 24)] {
        assert!(lines(&drawn(&state, width, height)).join("\n").contains("keys"), "{width}x{height}");
    }
}

#[test]
fn a_narrow_terminal_keeps_what_matters_most() {
    let lines = lines(&drawn(&known(), 44, 24));
    assert_eq!(words(line(&lines, "route ")), ["route", "in/s", "out/s", "dropped"]);
    assert_eq!(words(line(&lines, "auth ")), ["auth", "35", "0", "8"]);
}

#[test]
fn programs_and_peers_are_estimated_and_say_so() {
    let mut state = known();
    type_keys(&mut state, "3");
    assert!(lines(&drawn(&state, 100, 24)).join("\n").contains("programs: looking…"));
    state.learn_sample(Ok(sample()));
    state.learn_sample(Ok(sample()));
    let programs = lines(&drawn(&state, 100, 24));
    line(&programs, "programs, sampled: 2000 of 4000 messages that arrived in the last 2s");
    assert_eq!(words(line(&programs, "nginx ")), ["nginx", "1400", "70.0%", "140k", "100", "0%"]);
    assert_eq!(words(line(&programs, "sshd ")), ["sshd", "600", "30.0%", "18.0k", "30", "10%"]);
    type_keys(&mut state, "4");
    assert_eq!(
        words(line(&lines(&drawn(&state, 100, 24)), "192.0.2.7 ")),
        ["192.0.2.7", "2000", "100.0%", "158k", "79", "0%"]
    );
    state.learn_sample(Err("4 taps are open already".to_owned()));
    line(&lines(&drawn(&state, 100, 24)), "peers: 4 taps are open already");
    type_keys(&mut state, "5");
    let unmatched = lines(&drawn(&state, 100, 24));
    assert_eq!(words(line(&unmatched, "stranger ")), ["stranger", "10", "40"]);
    assert_eq!(words(line(&unmatched, "(none) ")), ["(none)", "0", "1"]);
}

#[test]
fn keys_sort_filter_pause_and_quit() {
    let mut state = known();
    let order = |state: &State| -> Vec<String> {
        let lines = lines(&drawn(state, 120, 30));
        let names = lines.iter().filter_map(|line| line.split(' ').next());
        names.filter(|name| ["web", "auth", "noise"].contains(name)).map(str::to_owned).collect()
    };
    assert_eq!(order(&state), ["web", "auth", "noise"], "as the configuration has them");
    type_keys(&mut state, "s");
    assert_eq!(order(&state), ["auth", "noise", "web"]);
    type_keys(&mut state, "r");
    assert_eq!(order(&state), ["web", "noise", "auth"]);
    type_keys(&mut state, "rsss");
    assert_eq!(order(&state), ["auth", "web", "noise"], "by what waits");
    type_keys(&mut state, "/nOix\x08");
    assert_eq!((order(&state), state.is_filtering), (vec!["noise".to_owned()], true));
    assert_eq!(type_keys(&mut state, "q\x08\n"), Then::GoOn, "a letter of the filter");
    line(&lines(&drawn(&state, 120, 30)), "/nOi  q quit");
    type_keys(&mut state, "\x1b ");
    line(&lines(&drawn(&state, 120, 30)), "paused  q quit");
    state.learn(status(50), Instant::now());
    assert!(lines(&drawn(&state, 120, 30))[1].starts_with("in 200/s"), "paused");
    type_keys(&mut state, " ?");
    assert!(lines(&drawn(&state, 120, 30)).join("\n").contains("shows rows with a text only"));
    assert_eq!(type_keys(&mut state, "?"), Then::GoOn);
    assert_eq!(type_keys(&mut state, "\t\t"), Then::GoOn);
    assert_eq!(state.view, View::Programs);
    assert_eq!(type_keys(&mut state, "q"), Then::Quit);
    assert_eq!(press(&mut state, KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Then::Quit);
}

#[test]
fn what_is_long_is_scrolled_and_ends_at_its_end() {
    let mut state = known();
    let programs = (0..50).map(|n| serde_json::json!({"name": format!("p{n:02}"), "messages": 1}));
    let json =
        serde_json::json!({"seconds": 1.0, "passed": 50, "sampled": 50, "programs": programs.collect::<Vec<_>>()});
    state.learn_sample(Ok(serde_json::from_value(json).unwrap()));
    type_keys(&mut state, "3");
    line(&lines(&drawn(&state, 80, 20)), "programs, all 50 messages that arrived in the last 1s  1 to 12 of 50");
    type_keys(&mut state, "jjk");
    assert!(lines(&drawn(&state, 80, 20)).iter().any(|line| line.starts_with("p01")));
    assert!(!lines(&drawn(&state, 80, 20)).iter().any(|line| line.starts_with("p00")));
    type_keys(&mut state, "G");
    let end = lines(&drawn(&state, 80, 20));
    assert!(
        end.iter().any(|line| line.contains("39 to 50 of 50")) && end.iter().any(|line| line.starts_with("p49")),
        "{end:?}"
    );
    type_keys(&mut state, "g");
    assert!(lines(&drawn(&state, 80, 20)).iter().any(|line| line.starts_with("p00")));
}

#[test]
fn a_relay_that_is_gone_is_said_and_what_is_shown_stays() {
    let mut state = State::new("unix:///run/admin.sock".to_owned());
    line(&lines(&drawn(&state, 80, 20)), "forebay at unix:///run/admin.sock: asking…");
    state.miss("cannot connect".to_owned(), Instant::now());
    line(&lines(&drawn(&state, 80, 20)), "no answer (0s): cannot connect");
    let mut state = known();
    state.miss("cannot connect".to_owned(), Instant::now());
    let shown = lines(&drawn(&state, 80, 24));
    line(&shown, "no answer, what is shown is old (0s): cannot connect");
    line(&shown, "web ");
    state.learn(status(3), Instant::now());
    assert!(!lines(&drawn(&state, 80, 24)).join("\n").contains("no answer"));
}

#[test]
fn nothing_that_a_sender_chose_reaches_the_terminal_raw() {
    let mut state = known();
    let json = serde_json::json!({"seconds": 1.0, "passed": 1, "sampled": 1, "programs": [{"name": "a\u{1b}[2Jb\n", "messages": 1}]});
    state.learn_sample(Ok(serde_json::from_value(json).unwrap()));
    type_keys(&mut state, "3");
    line(&lines(&drawn(&state, 80, 20)), "a?[2Jb?");
    assert!(plain(&state, 80).contains("\na?[2Jb?  "));
}
