//! The command line as shells, `man` and people meet it: all of it comes from one definition.
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

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::installed;

fn forebay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forebay")).args(arguments).output().unwrap()
}

/// What it prints, which is all that it does.
#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let output = forebay(arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The definition, complete, and every command of it: its words from `forebay` on.
fn commands() -> Vec<(Vec<String>, clap::Command)> {
    let mut root = forebay::cli::definition();
    root.build();
    let mut found = Vec::new();
    let mut open = vec![(vec!["forebay".to_owned()], root)];
    while let Some((words, command)) = open.pop() {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let words = words.iter().cloned().chain([sub.get_name().to_owned()]).collect();
            open.push((words, sub.clone()));
        }
        found.push((words, command));
    }
    assert!(found.len() >= 14, "{} commands", found.len());
    found
}

#[test]
fn every_command_and_every_option_says_what_it_is_for() {
    let mut options = 0;
    for (words, command) in commands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(about.len() > 10, "{}: {about:?}", words.join(" "));
        for argument in command.get_arguments() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.len() > 5, "{} {}: {help:?}", words.join(" "), argument.get_id());
            options += 1;
        }
    }
    assert!(options > 40, "{options} options");
}

/// The script for a shell, in a file.
fn script(shell: &str, folder: &Path) -> PathBuf {
    let file = folder.join(shell);
    std::fs::write(&file, printed(&["completions", shell])).unwrap();
    file
}

#[test]
fn bash_completes_commands_options_and_values() {
    let Some(bash) = installed("bash") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = script("bash", folder.path());
    let checked = Command::new(&bash).arg("-n").arg(&file).output().unwrap();
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
    // As bash calls it: the command, the word to complete, the word before it.
    let complete = |line: &[&str]| -> Vec<String> {
        let last = line.len() - 1;
        let ask = format!(
            "source {} && complete -p forebay >&2 && COMP_WORDS=({}) COMP_CWORD={last} && _forebay forebay '{}' '{}'; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file.display(),
            line.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
            line[last],
            line[last - 1]
        );
        let output = Command::new(&bash).args(["--norc", "-c", &ask]).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains("-F _forebay"), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    };
    assert_eq!(complete(&["forebay", "che"]), ["check"]);
    assert_eq!(complete(&["forebay", "check", "--conn"]), ["--connect"]);
    assert_eq!(complete(&["forebay", "run", "--log-format", ""]), ["text", "json"]);
    assert_eq!(complete(&["forebay", "completions", "zs"]), ["zsh"]);
    // Everything that there is.
    for (words, command) in commands() {
        let line: Vec<&str> = words.iter().map(String::as_str).chain([""]).collect();
        let offered = complete(&line);
        let names = command.get_subcommands().map(|sub| sub.get_name().to_owned());
        let options = command.get_arguments().filter(|argument| !argument.is_hide_set());
        let options = options.filter_map(|argument| argument.get_long()).map(|long| format!("--{long}"));
        for wanted in names.chain(options) {
            assert!(offered.contains(&wanted), "{words:?}: no {wanted} in {offered:?}");
        }
    }
}

#[test]
fn other_shells_take_their_scripts() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["zsh", "fish"] {
        let file = script(shell, folder.path());
        let Some(executable) = installed(shell) else { continue };
        let checked = Command::new(executable).arg("-n").arg(&file).output().unwrap();
        assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
    }
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let text = printed(&["completions", shell]);
        for word in ["completions", "connect", "send-test"] {
            assert!(text.contains(word), "{shell}: no {word}");
        }
    }
    assert_eq!(forebay(&["completions", "csh"]).status.code(), Some(64));
}

#[test]
fn there_is_a_manual_page_for_every_command_and_man_has_nothing_to_say_against_it() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    assert_eq!(printed(&["man", pages.to_str().unwrap()]), "");
    let man = installed("man").filter(|_| installed("groff").is_some());
    for (words, command) in commands() {
        let page = pages.join(format!("{}.1", words.join("-")));
        let text = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(text.contains(".TH ") && text.contains(".SH NAME"), "{text}");
        for long in command.get_arguments().filter_map(|argument| argument.get_long()) {
            let roff = long.replace('-', "\\-");
            assert!(text.contains(&format!("\\-\\-{roff}")), "{}: no --{long}", page.display());
        }
        if let Some(man) = &man {
            let mut command = Command::new(man);
            command.args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"]).arg(&page);
            let checked = command.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80").output().unwrap();
            assert!(checked.status.success() && checked.stderr.is_empty(), "{}: {checked:?}", page.display());
            assert!(checked.stdout.len() > 200);
        }
    }
    if let Some(mandoc) = installed("mandoc") {
        let checked =
            Command::new(mandoc).args(["-T", "lint", "-W", "error"]).arg(pages.join("forebay.1")).output().unwrap();
        assert!(checked.status.success(), "{checked:?}");
    }
    let printed = printed(&["man"]);
    assert!(printed.contains(".SH NAME") && printed.contains("forebay"), "{printed}");
    let failed = forebay(&["man", "/proc/nowhere"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&failed.stderr).contains("cannot write manual pages in /proc/nowhere"),
        "{failed:?}"
    );
}
