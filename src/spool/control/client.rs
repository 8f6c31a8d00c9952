//! The operator's end of the socket.

use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::serve::{ANSWER_TIMEOUT, Question, address};
use super::{Answer, Line, Op};

/// Longer than a relay takes to say that its disk does not answer: it waits twice.
const PATIENCE: Duration = Duration::from_secs(ANSWER_TIMEOUT.as_secs() * 2 + 10);

/// Asks the relay that holds the spool in `dir`.
///
/// # Errors
/// Nobody listens, the connection broke, or what came is no answer. What the relay itself could not do is
/// [`Answer::Failed`].
pub fn ask(dir: &Path, op: Op) -> io::Result<Answer> {
    let (path, _dir) = address(dir)?;
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let is_listing = matches!(op, Op::List { .. });
    let is_drop = matches!(op, Op::Drop { .. });
    let octets = match &op {
        Op::Import { plain, .. } => plain.len(),
        _ => 0,
    };
    let mut question = Question { op, octets };
    let plain = match &mut question.op {
        Op::Import { plain, .. } => std::mem::take(plain),
        _ => Vec::new(),
    };
    let mut text = serde_json::to_vec(&question)?;
    text.push(b'\n');
    text.extend_from_slice(&plain);
    // A relay that refuses the question may have closed before it read all of it; its reason is what counts.
    let sent = stream.write_all(&text).and_then(|()| stream.shutdown(Shutdown::Write));
    let (mut blocks, mut dropped, mut stat) = (Vec::new(), Vec::new(), None);
    for line in BufReader::new(stream).lines() {
        match serde_json::from_str(&line?)? {
            Line::Block(block) => blocks.push(block),
            Line::Dropped(one) => dropped.push(one),
            Line::Stat(found) => stat = Some(found),
            Line::Failed(why) => return Ok(Answer::Failed(why)),
            Line::Done => {
                return Ok(match stat {
                    Some(stat) => Answer::Stat(stat),
                    None if is_listing => Answer::Blocks(blocks),
                    None if is_drop => Answer::Dropped(dropped),
                    None => Answer::Done,
                });
            }
        }
    }
    sent?;
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the relay hung up without an answer"))
}
