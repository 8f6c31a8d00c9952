//! A thread for calls that may never return.
//!
//! sled waits for its own writers without a limit, and after an error of the disk for one that has given up. The spool's
//! thread must not wait with it.

use std::time::Duration;
use std::{io, thread};

use crossbeam_channel as channel;

/// A call that takes longer will not return: a disk that is only slow answers within the kernel's own limit, which is
/// 30 seconds a request with nearly all drivers.
const LIMIT: Duration = Duration::from_secs(30);

/// Such as go through the whole index may take so many times as long.
pub(super) const WHOLE: u32 = 20;

type Call = Box<dyn FnOnce() + Send>;

/// See the module. Dropped, its thread ends behind the call that it is at, if that ever returns.
#[derive(Debug)]
pub(super) struct Caller {
    calls: channel::Sender<Call>,
    limit: Duration,
}

impl Caller {
    pub(super) fn start() -> io::Result<Self> {
        let (calls, calls_rx) = channel::bounded::<Call>(1);
        let run = move || calls_rx.into_iter().for_each(|call| call());
        thread::Builder::new().name("spool-index".into()).spawn(run)?;
        Ok(Self { calls, limit: LIMIT })
    }

    /// Makes the call, which must not panic, and waits for it, `times` as long as for most. `None` where it does not
    /// return: all further ones would wait behind it then.
    pub(super) fn call<T: Send + 'static>(&self, times: u32, call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, done_rx) = channel::bounded(1);
        let call = move || {
            // Nobody waits where it took too long.
            let _gone = done.send(call());
        };
        self.calls.send_timeout(Box::new(call), self.limit).ok()?;
        done_rx.recv_timeout(self.limit * times).ok()
    }

    /// From now on no call returns.
    #[cfg(test)]
    pub(super) fn stall(&mut self) {
        self.limit = Duration::from_millis(50);
        let stalled = self.call(1, || {
            loop {
                thread::park();
            }
        });
        assert_eq!(stalled, None::<()>);
    }
}
