use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io;

thread_local! {
    /// Places where the process may be made to die, as this thread came by them.
    static CAME_BY: RefCell<BTreeSet<&'static str>> = RefCell::default();

    /// By point: how often it fails yet, and with which error number.
    static ARMED: RefCell<HashMap<&'static str, (usize, i32)>> = RefCell::default();
}

/// An error number that is none: the point panics.
pub(in crate::spool) const PANICS: i32 = 0;

/// Makes `name` fail `times` times on this thread.
pub(in crate::spool) fn arm(name: &'static str, times: usize, errno: i32) {
    ARMED.with_borrow_mut(|armed| armed.insert(name, (times, errno)));
}

/// No point fails any more.
pub(in crate::spool::store) fn disarm() {
    ARMED.with_borrow_mut(HashMap::clear);
}

pub(super) fn came_by(name: &'static str) {
    CAME_BY.with_borrow_mut(|names| names.insert(name));
}

/// All places that this thread came by.
pub(in crate::spool::store) fn all_came_by() -> BTreeSet<&'static str> {
    CAME_BY.with_borrow(Clone::clone)
}

pub(super) fn fail_here(name: &'static str) -> io::Result<()> {
    ARMED.with_borrow_mut(|armed| match armed.get_mut(name) {
        Some((times, errno)) if *times > 0 => {
            *times -= 1;
            assert_ne!(*errno, PANICS, "as the test wants it");
            Err(io::Error::from_raw_os_error(*errno))
        }
        _ => Ok(()),
    })
}
