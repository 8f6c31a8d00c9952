use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::*;
use crate::config::Rotate;

const FOREVER: Rotate = Rotate { size: None, age: None, keep: 3, compress: false };

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.log");
    (folder, path)
}

fn writer(path: &Path, rotate: Rotate) -> Writer {
    Writer::new("copy".to_owned(), Rotation::new(path.to_owned(), rotate))
}

#[track_caller]
fn write(writer: &mut Writer, text: &str) {
    let (written, outcome) = writer.write(text.as_bytes());
    outcome.unwrap();
    assert_eq!(written, text.len());
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

fn old(path: &Path, number: usize) -> PathBuf {
    PathBuf::from(format!("{}.{number}", path.display()))
}

#[test]
fn a_file_is_made_for_its_owner_alone_and_appended_to() {
    let (_folder, path) = folder();
    write(&mut writer(&path, FOREVER), "one\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    write(&mut writer(&path, FOREVER), "two\nthree\n");
    assert_eq!(text(&path), "one\ntwo\nthree\n");
}

#[test]
fn size_is_a_bound_lines_stay_whole_and_what_is_kept_is_the_newest() {
    let (folder, path) = folder();
    let mut writer = writer(&path, Rotate { size: Some(64), keep: 3, ..FOREVER });
    // One write crosses several files.
    let lines: String = (0..40).map(|number| format!("line {number:03}\n")).collect();
    write(&mut writer, &lines);
    let all: String = [3, 2, 1].map(|number| text(old(&path, number))).concat() + &text(&path);
    assert!(lines.ends_with(&all) && all.len() == 3 * 63 + 40 * 9 % 63, "{all}");
    assert!(all.starts_with("line "));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
}

#[test]
fn a_line_that_no_file_holds_has_one_of_its_own() {
    let (_folder, path) = folder();
    let mut writer = writer(&path, Rotate { size: Some(10), ..FOREVER });
    write(&mut writer, "a\nthis is far too long\nb\n");
    assert_eq!([2, 1].map(|number| text(old(&path, number))), ["a\n", "this is far too long\n"]);
    assert_eq!(text(&path), "b\n");
}

#[test]
fn nothing_old_stays_where_none_is_to_be_kept() {
    let (folder, path) = folder();
    let mut writer = writer(&path, Rotate { size: Some(4), keep: 0, compress: true, ..FOREVER });
    write(&mut writer, "one\ntwo\n");
    assert_eq!(text(&path), "two\n");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_old_file_is_followed_by_a_new_one() {
    let limit = Duration::from_secs(60);
    let (_folder, path) = folder();
    let rotation = Rotation::new(path, Rotate { age: Some(limit), ..FOREVER });
    let now = SystemTime::now();
    assert!(rotation.is_old(now - limit));
    assert!(!rotation.is_old(now));
    // The clock was set back.
    assert!(!rotation.is_old(now + limit));
}

#[test]
fn a_file_that_was_cut_by_others_goes_on_at_its_new_end() {
    let (_folder, path) = folder();
    let mut writer = writer(&path, Rotate { size: Some(8), ..FOREVER });
    write(&mut writer, "one\ntwo\n");
    fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    write(&mut writer, "tre\n");
    assert_eq!(text(&path), "tre\n");
    assert!(!old(&path, 1).exists());
}

#[test]
fn what_a_dying_process_left_of_a_line_stands_on_its_own() {
    let (_folder, path) = folder();
    fs::write(&path, "one\ntw").unwrap();
    write(&mut writer(&path, FOREVER), "two\n");
    assert_eq!(text(&path), "one\ntw\ntwo\n");
}

#[test]
fn a_rotation_that_cannot_be_done_stops_no_line() {
    let (_folder, path) = folder();
    // A folder in the way of the oldest cannot be removed as a file.
    fs::create_dir(old(&path, 3)).unwrap();
    let mut writer = writer(&path, Rotate { size: Some(4), ..FOREVER });
    write(&mut writer, "one\ntwo\n");
    assert_eq!(text(&path), "one\ntwo\n");
}

#[test]
fn why_a_file_cannot_be_written_is_said() {
    let (folder, path) = folder();
    let refused = |path: &Path| writer(path, FOREVER).write(b"one\n").1.unwrap_err().to_string();
    let absent = folder.path().join("absent/out.log");
    let expected = "its folder does not exist (forebay makes the file, not the folder)";
    assert_eq!(refused(&absent), format!("cannot open {}: {expected}", absent.display()));
    let is_folder = folder.path().display();
    assert_eq!(refused(folder.path()), format!("cannot write {is_folder}: it is no regular file"));
    assert_eq!(refused(Path::new("/dev/null")), "cannot write /dev/null: it is no regular file");
    let mut first = writer(&path, FOREVER);
    write(&mut first, "one\n");
    assert!(refused(&path).ends_with("another process holds its lock (a second forebay?)"));
    drop(first);
    write(&mut writer(&path, FOREVER), "two\n");
}

#[test]
fn old_files_are_compressed_behind_the_writers_back_and_keep_their_order() {
    let (folder, path) = folder();
    // Left by a run that had no time to compress it.
    fs::write(old(&path, 1), "left\n").unwrap();
    let mut rotation = Rotation::new(path.clone(), Rotate { keep: 5, compress: true, ..FOREVER });
    for number in 0..3 {
        fs::write(&path, format!("file {number}\n")).unwrap();
        rotation.rotate().unwrap();
    }
    let found = |number: usize| {
        let file = fs::File::open(format!("{}.{number}.gz", path.display())).ok()?;
        std::io::read_to_string(flate2::read::GzDecoder::new(file)).ok()
    };
    // The thread compresses, moves, removes: in the end there are four files.
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while fs::read_dir(folder.path()).unwrap().count() != 4 || (1..=4).any(|number| found(number).is_none()) {
        assert!(std::time::Instant::now() < deadline, "{:?}", fs::read_dir(folder.path()).unwrap().collect::<Vec<_>>());
        thread::yield_now();
    }
    let contents: Vec<String> = (1..=4).filter_map(found).collect();
    assert_eq!(contents, ["file 2\n", "file 1\n", "file 0\n", "left\n"]);
}

#[test]
fn a_file_that_fails_in_the_middle_of_a_line_is_cut_back() {
    let (_folder, path) = folder();
    let mut writer = writer(&path, FOREVER);
    write(&mut writer, "one\n");
    // What a failed write leaves.
    fs::File::options().append(true).open(&path).unwrap().write_all(b"tw").unwrap();
    writer.tear(4);
    write(&mut writer, "two\n");
    assert_eq!(text(&path), "one\ntwo\n");
}
