//! What holds for any text that is given for rsyslog's configuration: for the fuzzer and for the property tests. Panics
//! where it does not hold.

use std::sync::Arc;

use super::notes::Notes;
use super::{RANK, meaning, parse};
use crate::config::report::{Mistakes, Position};

/// For fuzzing: a file's octets. Includes are not followed.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let file: Arc<str> = Arc::from("fuzz.conf");
    let lines = text.lines().count() + 1;
    let check = |at: &Position| assert!(at.line <= lines && (at.line == 0) == (at.column == 0), "{at}");
    match parse::parse(&text, &file, RANK) {
        Err(mistake) => {
            check(&mistake.at);
            assert!(!mistake.message.is_empty() && mistake.at.line > 0, "{mistake}");
        }
        Ok(statements) => {
            statements.iter().for_each(|statement| check(&statement.at));
            let at = Position { rank: RANK, file, line: 0, column: 0 };
            let mut mistakes = Mistakes::default();
            let foreign = meaning(&statements, &at, true, Notes::default(), &mut mistakes);
            foreign.notes.iter().for_each(|note| check(&note.at));
            mistakes.0.iter().for_each(|mistake| check(&mistake.at));
        }
    }
}
