//! What holds for any text as an expression and any frame: for the fuzzer and for the property tests. Panics where it does
//! not hold.

use super::{Expression, quoted};
use crate::route::view::View;
use crate::syslog::{Clock, Message, parse};

/// For fuzzing: an expression up to the first NUL, a frame after it.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let (source, frame) =
        data.iter().position(|octet| *octet == 0).map_or((data, [].as_slice()), |at| data.split_at(at));
    check(&String::from_utf8_lossy(source), frame.strip_prefix(b"\0").unwrap_or(frame));
}

/// A mistake lies inside the text. What compiles says the same however it is asked, and its parts are parts of it.
pub(super) fn check(text: &str, frame: &[u8]) {
    let expression = match Expression::parse(text) {
        Ok(expression) => expression,
        Err(error) => {
            assert!(text.is_char_boundary(error.at), "{text}: {error}");
            return;
        }
    };
    for warning in expression.warnings() {
        assert!(text.is_char_boundary(warning.at), "{text}: {warning:?}");
    }
    let clock = Clock { now_us: 1_767_225_600_000_000, year: 2026, month: 1, day: 1, offset_minutes: 0 };
    let fields = parse(frame, &clock);
    let message = Message { fields: &fields, raw: frame, received_at_us: clock.now_us, peer: None, input: "fuzz" };
    let holds = expression.matches(&message);
    match expression.holds_for_program(message.program_name()) {
        Some(known) => assert_eq!(known, holds, "{text}: known by the program"),
        None => assert_eq!(expression.holds_beyond_program(&View::new(&message)), holds, "{text}: beyond the program"),
    }
    let steps = expression.explain(&message);
    assert_eq!(steps.first().map(|step| step.holds), Some(holds), "{text}: explained");
    assert!(steps.iter().all(|step| text.get(step.start..).is_some_and(|rest| rest.starts_with(step.text))), "{text}");
    if !text.contains('\0') {
        let same = format!("{} == {}", quoted(text), quoted(text));
        assert_eq!(Expression::parse(&same).map(|same| same.matches(&message)), Ok(true), "{same}");
    }
}
