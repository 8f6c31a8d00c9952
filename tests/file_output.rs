//! The file output of a running relay: whole lines, each once, through rotation, full disks and other programs' hands.
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

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::collector::{Collector, message_of};
use support::disk::{Disk, or_skip};
use support::load::{Load, missing_and_duplicates, numbered};
use support::relay::{Relay, count};
use support::senders::send_tcp;
use support::waiting::{eventually, pause};
use tempfile::TempDir;

const INPUT: &str = "inputs: {lan: {listen: 'tcp://127.0.0.1:0'}}\n";
const ROUTE: &str = "routes: [{name: all, intake_key: key-of-all, output: copy}]\n";

/// A relay that writes a file, with more keys of its output in flow style.
fn copying(path: &Path, more: &str, rest: &str) -> Relay {
    let comma = if more.is_empty() { "" } else { ", " };
    let outputs = format!("outputs: {{copy: {{to: 'file://{}'{comma}{more}}}}}\n", path.display());
    Relay::start(&format!("{outputs}{INPUT}{ROUTE}{rest}"))
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.log");
    (folder, path)
}

/// What lies in all files of the folder, unpacked.
fn texts(folder: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let text = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = match path.extension().is_some_and(|ending| ending == "gz") {
            false => fs::read_to_string(&path).unwrap(),
            true => {
                let unpacked = Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
                assert!(unpacked.status.success(), "{unpacked:?}");
                String::from_utf8(unpacked.stdout).unwrap()
            }
        };
        (name, text)
    };
    files.map(text).collect()
}

/// How often each number has arrived; every line is a whole one.
#[track_caller]
fn numbers<'a>(texts: impl Iterator<Item = &'a str>) -> BTreeMap<u64, u64> {
    let mut numbers = BTreeMap::new();
    for line in texts.flat_map(|text| text.split_inclusive('\n')) {
        let whole = line.starts_with("<134>1 ") && line.ends_with(" to the wheel\n");
        let number = line.split_once(" n=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        assert!(whole && number.is_some(), "{line:?}");
        *numbers.entry(number.unwrap()).or_default() += 1;
    }
    numbers
}

/// Ends the load and the relay; every number is in the folder's files once, in a line of its own.
#[track_caller]
fn assert_each_once(load: Load, relay: &mut Relay, folder: &Path) {
    let sent = load.finish();
    relay.stop_clean();
    let texts = texts(folder);
    let (missing, duplicates) = missing_and_duplicates(&numbers(texts.values().map(String::as_str)), sent);
    assert!(missing.is_empty() && duplicates == 0, "of {sent}: missing {missing:?}, {duplicates} twice");
}

/// Waits until the load has sent so many more.
fn sends_on(load: &Load, messages: u64) {
    let goal = load.sent() + messages;
    eventually("messages to be sent", || if load.sent() >= goal { Ok(()) } else { Err(load.sent().to_string()) });
}

#[test]
fn the_last_line_is_duplicated_into_a_file_beside_the_intake() {
    let collector = Collector::start_plain();
    let (_folder, path) = folder();
    let mut relay = Relay::start(&format!(
        "outputs: {{sekoia: {{to: 'tcp://{}'}}, copy: {{to: 'file://{}'}}}}\n{INPUT}\
         routes: [{{name: all, intake_key: key-of-all, output: sekoia, continue: true}}, \
         {{name: copy, intake_key: key-of-copy, output: copy}}]\n",
        collector.address,
        path.display()
    ));
    send_tcp(relay.address("lan", "tcp"), (0..1_000).map(numbered).collect::<String>().as_bytes());
    let sent: Vec<String> = collector.wait_for(1_000).iter().map(|frame| message_of(frame).to_owned()).collect();
    let status = relay.status_when("all to be written", |status| count(status.route("copy"), "released") == 1_000);
    status.assert_balanced();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().map(message_of).collect::<Vec<_>>(), sent);
    assert!(
        text.starts_with("<134>1 ") && text.contains("[SEKOIA@53288 intake_key=\"***\"]") && !text.contains("key-of")
    );
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let output = status.output("copy");
    assert_eq!(output["to"], path.to_str().unwrap());
    assert_eq!(count(output, "written_messages"), 1_000);
    let octets = text.len() as u64;
    assert_eq!((count(output, "written_bytes"), count(output, "acknowledged_bytes")), (octets, octets));
    relay.stop_clean();
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn keys_stand_in_the_file_only_where_they_are_to() {
    let (folder, path) = folder();
    let revealing = folder.path().join("revealing.log");
    let mut relay = Relay::start(&format!(
        "outputs: {{masked: {{to: 'file://{}'}}, revealing: {{to: 'file://{}', reveal_keys: true}}}}\n{INPUT}routes:\n\
         - {{name: a, output: masked, continue: true, intake_key: secret-of-a-1234, template: '%intake_key% secret-of-b-1234%msg%'}}\n\
         - {{name: b, output: revealing, continue: true, intake_key: secret-of-b-1234, template: '%intake_key%%msg%\\n'}}\n\
         - {{name: c, output: masked, template: '[SEKOIA@53288 intake_key=\"secret-of-c-1234\"]%msg%\\n'}}\n",
        path.display(),
        revealing.display()
    ));
    send_tcp(relay.address("lan", "tcp"), b"<134>Nov 22 10:00:00 gate counter[7]: one\n");
    relay.stop_clean();
    let mut lines: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["*** *** one", "[SEKOIA@53288 intake_key=\"***\"] one"]);
    assert_eq!(fs::read_to_string(&revealing).unwrap(), "secret-of-b-1234 one\n");
}

#[test]
fn rotation_under_load_loses_no_line_and_cuts_none() {
    let (folder, path) = folder();
    let mut relay = copying(&path, "rotate: {size: 64KiB, keep: 1000}", "");
    let load = Load::start(relay.address("lan", "tcp"));
    sends_on(&load, 10_000);
    eventually("files to be compressed", || {
        let names: Vec<String> = texts_names(folder.path());
        let compressed = names.iter().filter(|name| name.ends_with(".gz")).count();
        if compressed >= 10 { Ok(()) } else { Err(format!("{names:?}")) }
    });
    assert_each_once(load, &mut relay, folder.path());
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        assert!(metadata.len() <= 64 * 1024, "{entry:?}: {}", metadata.len());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
}

fn texts_names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect()
}

#[test]
fn a_full_disk_makes_lines_wait_and_none_is_lost_or_cut() {
    let Some(disk) = or_skip(Disk::tmpfs(512 * 1024)) else { return };
    let path = disk.path().join("copy.log");
    let mut relay = copying(&path, "rotate: {size: off}", "");
    let load = Load::start(relay.address("lan", "tcp"));
    let line = relay.wait_for_log("cannot write the file");
    assert!(line["message"].as_str().unwrap().contains("No space left"), "{line}");
    let status = relay.status_when("it to be counted", |status| count(status.output("copy"), "broken_connections") > 0);
    assert_eq!(count(status.output("copy"), "connections"), 0);
    // Meanwhile the file holds whole lines.
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.is_empty());
    numbers([text.as_str()].into_iter());
    load.pause();
    relay.assert_idles(Duration::from_millis(500));
    disk.remount("size=64m");
    load.resume();
    relay.wait_for_log("the file is written again");
    sends_on(&load, 1_000);
    let warnings = relay.log_lines().iter().filter(|line| line["level"] == "WARN").count();
    assert!(warnings < 12, "{warnings} warnings");
    assert_each_once(load, &mut relay, &disk.path());
}

#[test]
fn with_a_spool_a_stop_leaves_there_what_a_full_disk_does_not_take() {
    let Some(disk) = or_skip(Disk::tmpfs(128 * 1024)) else { return };
    let (spool, path) = (tempfile::tempdir().unwrap(), disk.path().join("copy.log"));
    let rest = format!("spool: {{dir: {}, min_free: 0}}\n", spool.path().join("spool").display());
    let mut relay = copying(&path, "rotate: {size: off}", &rest);
    let load = Load::start(relay.address("lan", "tcp"));
    relay.wait_for_log("cannot write the file");
    sends_on(&load, 2_000);
    let sent = load.finish();
    relay.terminate();
    assert_eq!(relay.wait().code(), Some(0), "{}", relay.log_text());
    disk.remount("size=64m");
    let mut relay = copying(&path, "rotate: {size: off}", &rest);
    eventually("all to be written", || {
        let text = fs::read_to_string(&path).unwrap();
        let (missing, duplicates) = missing_and_duplicates(&numbers([text.as_str()].into_iter()), sent);
        assert_eq!(duplicates, 0);
        if missing.is_empty() { Ok(()) } else { Err(format!("of {sent}: {missing:?}")) }
    });
    relay.stop_clean();
}

#[test]
fn a_disk_that_hangs_holds_up_neither_the_shards_nor_the_stop() {
    let Some(disk) = or_skip(Disk::ext4(64 << 20)) else { return };
    let collector = Collector::start_plain();
    let mut relay = Relay::start(&format!(
        "outputs: {{sekoia: {{to: 'tcp://{}'}}, copy: {{to: 'file://{}'}}}}\n{INPUT}shutdown_timeout: 2s\n\
         routes: [{{name: all, intake_key: key-of-all, output: sekoia, continue: true}}, {{name: copy, intake_key: key-of-copy, output: copy}}]\n",
        collector.address,
        disk.path().join("copy.log").display()
    ));
    let load = Load::start(relay.address("lan", "tcp"));
    sends_on(&load, 500);
    let frozen = disk.freeze();
    sends_on(&load, 2_000);
    let sent = load.finish();
    eventually("the other output to have all", || {
        let (missing, _) = missing_and_duplicates(&collector.numbers(), sent);
        if missing.is_empty() { Ok(()) } else { Err(format!("of {sent}: {missing:?}")) }
    });
    relay.wait_for_log("the disk does not answer");
    let ordered = Instant::now();
    relay.terminate();
    relay.wait_for_log("not everything could be delivered in time");
    assert!(ordered.elapsed() < Duration::from_secs(10), "{:?}", ordered.elapsed());
    // A process whose thread hangs in the kernel ends when the disk answers, and not before.
    drop(frozen);
    assert_eq!(relay.wait().code(), Some(1));
}

#[test]
fn a_file_that_logrotate_moved_away_is_begun_anew() {
    let (folder, path) = folder();
    let mut relay = copying(&path, "rotate: {size: off}", "");
    let load = Load::start(relay.address("lan", "tcp"));
    for moved in ["moved-1", "moved-2"] {
        eventually("it to be written", || match fs::metadata(&path).map(|file| file.len()) {
            Ok(0) | Err(_) => Err("nothing is there".to_owned()),
            Ok(_) => Ok(()),
        });
        let inode = fs::metadata(&path).unwrap().ino();
        fs::rename(&path, folder.path().join(moved)).unwrap();
        eventually("a new one", || {
            let new = fs::metadata(&path).map_err(|error| error.to_string())?;
            assert_ne!(new.ino(), inode);
            Ok(())
        });
    }
    assert_each_once(load, &mut relay, folder.path());
}

#[test]
fn a_file_without_its_folder_is_said_and_written_once_the_folder_is_there() {
    let (folder, _) = folder();
    let path = folder.path().join("absent/copy.log");
    let mut relay = copying(&path, "", "");
    send_tcp(relay.address("lan", "tcp"), numbered(1).as_bytes());
    let line = relay.wait_for_log("its folder does not exist (forebay makes the file, not the folder)");
    assert_eq!(line["output"], "copy");
    let status = relay.status();
    assert_eq!(count(status.route("all"), "dropped"), 0);
    fs::create_dir(folder.path().join("absent")).unwrap();
    relay.status_when("it to be written", |status| count(status.route("all"), "released") == 1);
    relay.stop_clean();
}

#[test]
fn a_file_that_another_process_writes_is_left_to_it() {
    let (folder, path) = folder();
    let other = File::options().append(true).create(true).open(&path).unwrap();
    other.lock().unwrap();
    let mut relay = copying(&path, "", "");
    let load = Load::start(relay.address("lan", "tcp"));
    relay.wait_for_log("another process holds its lock");
    pause(Duration::from_millis(200));
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    drop(other);
    relay.wait_for_log("the file is written again");
    assert_each_once(load, &mut relay, folder.path());
}
