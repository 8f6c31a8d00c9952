//! Points where tests make the disk fail or the process die. Nothing of it is in a release build.

use std::io;

/// Fails here where a test on this thread has said so.
#[cfg(test)]
pub(super) fn point(name: &'static str) -> io::Result<()> {
    tests::fail_here(name)
}

/// Never fails: only tests make it.
#[cfg(not(test))]
#[inline]
pub(super) const fn point(_name: &'static str) -> io::Result<()> {
    Ok(())
}

/// Ends the process as if it were killed, where the environment says so.
#[cfg(any(test, feature = "crash-points"))]
pub(super) fn crash(name: &'static str) {
    #[cfg(test)]
    tests::came_by(name);
    if std::env::var_os("FOREBAY_CRASH_AT").is_some_and(|at| at == name) {
        std::process::abort();
    }
}

/// Does nothing: only builds for tests do.
#[cfg(not(any(test, feature = "crash-points")))]
#[inline]
pub(super) const fn crash(_name: &'static str) {}

#[cfg(test)]
pub(super) mod tests;
