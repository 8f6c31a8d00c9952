//! Power cuts: a child writes to a disk and says what is safe; the disk is cut off; another child says what is left.
//!
//! A child is this test program itself, run with one test's name and [`ORDER`] in its environment. It speaks in lines on
//! its standard output, a pipe, which no cut reaches:
//! `a LANE SEQ` a block was written; `s` everything written and released so far is safe; `w` everything written is;
//! `r LANE SEQ` it is about to be released; `e` blocks may be evicted from now on; `f LANE SEQ` found again, whole;
//! `x WORDS` found damaged; `i` the index was made anew; `o` opened; `.` the end was reached.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::waiting::{pause, within};

/// In a child's environment: what it has to do, in words of its own.
pub const ORDER: &str = "FOREBAY_TEST_POWER_ORDER";
/// In a child's environment: the folder to use.
pub const FOLDER: &str = "FOREBAY_TEST_POWER_FOLDER";
/// How a child ends that was refused by its disk, as it should be after a cut.
pub const REFUSED: i32 = 3;
/// A child that has not ended so long after a cut hangs; one that looks has not looked through it.
const END_MAX: Duration = Duration::from_secs(20);

/// Which block: its lane, its sequence number.
pub type Block = (usize, u64);

/// What is known to be on the disk.
#[derive(Debug, Default)]
pub struct Books {
    /// Written and not known to be safe: may be there after a cut, or not.
    pub loose: BTreeSet<Block>,
    /// Safe, and not released: must be there.
    pub safe: BTreeSet<Block>,
    /// Released, or about to be: may be there or not.
    pub leaving: BTreeSet<Block>,
    /// Released and synced: must not come back.
    pub gone: BTreeSet<Block>,
    /// Some of the oldest blocks may be missing: it evicts. Which is not checked by [`Self::compare`].
    pub evicting: bool,
    /// It opened.
    pub opened: bool,
    /// It came to its end.
    pub ended: bool,
    /// Syncs that were answered.
    pub syncs: u64,
    /// What was found, in order.
    pub found: Vec<Block>,
    /// What was found and is not what was written.
    pub damaged: Vec<String>,
    /// The index was made anew.
    pub rebuilt: bool,
    /// What else was said.
    pub said: String,
}

impl Books {
    /// Enters one line of a child's.
    fn enter(&mut self, line: &str) {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "a" => {
                self.loose.insert(block(rest));
            }
            "r" => {
                let block = block(rest);
                self.loose.remove(&block);
                self.safe.remove(&block);
                self.leaving.insert(block);
            }
            "s" | "w" => {
                self.syncs += 1;
                self.safe.append(&mut self.loose);
                if kind == "s" {
                    self.gone.append(&mut self.leaving);
                }
            }
            "e" => self.evicting = true,
            "f" => self.found.push(block(rest)),
            "x" => self.damaged.push(rest.to_owned()),
            "i" => self.rebuilt = true,
            "o" => self.opened = true,
            "." => self.ended = true,
            // What the test harness prints itself.
            _ => {}
        }
    }

    /// Compares what `after` the cut was found with what must be there. The error tells the fault.
    pub fn compare(&self, after: &Self) -> Result<(), String> {
        self.find_fault(after).map_err(|why| format!("{why}; it said: {}", after.said))
    }

    fn find_fault(&self, after: &Self) -> Result<(), String> {
        if !after.opened || !after.ended {
            return Err("it did not open, or not come to its end".to_owned());
        }
        if let Some(first) = after.damaged.first() {
            return Err(format!("damaged: {first}"));
        }
        let found: BTreeSet<Block> = after.found.iter().copied().collect();
        if found.len() != after.found.len() || !is_in_order(&after.found) {
            return Err("a lane is out of order, or holds a block twice".to_owned());
        }
        // What may be gone of the oldest is for the caller to judge.
        let lost: Vec<&Block> = self.safe.difference(&found).take(5).collect();
        if !lost.is_empty() && !self.evicting {
            let (last, newest) =
                (self.safe.iter().max_by_key(|block| block.1), found.iter().max_by_key(|block| block.1));
            return Err(format!(
                "lost, of {} that were safe: {lost:?} …; the newest safe one is {last:?}, the newest found {newest:?}",
                self.safe.len()
            ));
        }
        let back: Vec<&Block> = self.gone.intersection(&found).take(5).collect();
        if !back.is_empty() && !after.rebuilt {
            return Err(format!("came back after their release was synced: {back:?} …"));
        }
        let known = |block: &&Block| {
            self.safe.contains(block)
                || self.loose.contains(block)
                || self.leaving.contains(block)
                || self.gone.contains(block)
        };
        // Written, and cut off before it could be told: at most one of a lane.
        let untold = found.iter().filter(|block| !known(block)).count();
        if untold > 1 { Err(format!("{untold} blocks that nobody wrote")) } else { Ok(()) }
    }

    /// What is known when the next child starts: all that was found, and nothing else.
    pub fn next(after: &Self) -> Self {
        Self { safe: after.found.iter().copied().collect(), ..Self::default() }
    }
}

fn block(text: &str) -> Block {
    let (lane, seq) = text.split_once(' ').unwrap_or_else(|| panic!("no block: {text}"));
    (lane.parse().unwrap(), seq.parse().unwrap())
}

fn is_in_order(blocks: &[Block]) -> bool {
    let mut last: BTreeMap<usize, u64> = BTreeMap::new();
    blocks.iter().all(|(lane, seq)| last.insert(*lane, *seq).is_none_or(|last| last < *seq))
}

/// Says a line, in a child. Unbuffered: what was said is out when this returns.
pub fn say(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    // One write each, so that no half of a line is ever read; and a line of its own, whatever the test harness has begun.
    out.write_all(format!("\n{line}\n").as_bytes()).and_then(|()| out.flush()).expect("the parent listens");
}

/// A running child.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Running {
    fn start(test: &str, order: &str, folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(ORDER, order)
            .env(FOLDER, folder)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        // Read at once: a child must not wait for us while it has something safe to tell.
        let (lines_tx, lines) = mpsc::channel();
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| lines_tx.send(line)));
        Self { child, lines }
    }

    fn signal(&self, name: &str) {
        super::disk::run("kill", &[&format!("-{name}"), &self.child.id().to_string()]).unwrap();
    }

    /// Its end, and the last of what it said on its standard error. `None`: it hangs, and was killed.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut errors = self.child.stderr.take().unwrap();
        let reader = thread::spawn(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut errors, &mut text).map(|_| text).unwrap_or_default()
        });
        let ended = within(END_MAX, || self.child.try_wait().unwrap().ok_or_else(String::new));
        drop(self.child.kill());
        drop(self.child.wait());
        let text = reader.join().unwrap();
        let tail = text.lines().filter(|line| !line.starts_with("note:") && !line.is_empty()).take(3);
        (ended.ok().map(|status| status.code().unwrap_or(-1)), tail.collect::<Vec<_>>().join("; "))
    }
}

/// How a cut is made.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// So long after the child's start, or after it has opened.
    pub after: Duration,
    /// While it opens, perhaps: it is not waited for.
    pub while_opening: bool,
    /// The child stands still at the cut: no answer of the dead disk's can be mistaken for one of the living. Else it goes
    /// on, and has to end by itself in the way of [`REFUSED`].
    pub still: bool,
}

/// Runs the child `test` with `order` on the mounted `disk`, enters what it says into `books`, cuts the power, unmounts. The
/// error tells what the child did wrong.
pub fn cut_under_load(disk: &Disk, test: &str, order: &str, cut: Cut, books: &mut Books) -> Result<(), String> {
    let folder = disk.path().join("spool");
    let mut child = Running::start(test, order, &folder);
    let opened = |books: &mut Books| {
        child.lines.try_iter().for_each(|line| books.enter(&line));
        if books.opened { Ok(()) } else { Err("the writer does not open".to_owned()) }
    };
    if !cut.while_opening {
        within(END_MAX, || opened(books))?;
    }
    pause(cut.after);
    if let Some(status) = child.child.try_wait().unwrap() {
        return Err(format!("the writer ended before the cut, with {status}: {}", child.end().1));
    }
    if cut.still {
        child.signal("STOP");
        disk.cut();
        child.signal("KILL");
    } else {
        child.lines.try_iter().for_each(|line| books.enter(&line));
        disk.cut();
    }
    let (code, errors) = child.end();
    // An fdatasync that is under way while this file system is shut down may say that all is well, and nothing is: what is
    // called safe from here on does not count.
    let counts = |line: &String| cut.still || !matches!(line.as_str(), "s" | "w");
    child.lines.iter().filter(counts).for_each(|line| books.enter(&line));
    disk.unmount();
    match code {
        _ if cut.still => Ok(()),
        Some(REFUSED) => Ok(()),
        Some(code) => Err(format!("the writer ended with {code} after the cut: {errors}")),
        None => Err("the writer hangs after the cut".to_owned()),
    }
}

/// Mounts `disk` again and lets the child `test` with `order` say what it finds.
pub fn look(disk: &Disk, test: &str, order: &str) -> Result<Books, String> {
    disk.mount()?;
    let mut books = Books::default();
    let mut child = Running::start(test, order, &disk.path().join("spool"));
    let began = Instant::now();
    let (code, errors) = child.end();
    child.lines.iter().for_each(|line| books.enter(&line));
    match code {
        Some(0) => {
            books.said = errors;
            Ok(books)
        }
        Some(code) => Err(format!("ended with {code}: {errors}")),
        None => Err(format!("still looking after {:?}", began.elapsed())),
    }
}

/// `len` octets that only this block has: what is read again can be compared.
pub fn content(block: Block, len: usize, out: &mut Vec<u8>) {
    out.clear();
    let mut state = (block.0 as u64 + 1) << 48 ^ block.1.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while out.len() < len {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
}
