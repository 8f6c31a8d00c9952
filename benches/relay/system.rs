//! What only the kernel's own calls can do: the one file of the benches with `unsafe` in it.
#![expect(
    unsafe_code,
    reason = "libc: sendmmsg, CPU clocks, affinity and limits have no safe wrapper among our dependencies"
)]

use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// CPU time that a process and its threads, ended ones included, have used: user + system, to the nanosecond
/// (`/proc/PID/stat` counts in ticks of 10 ms).
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is a valid place for the result.
    let code = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut clock) };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as above.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Keeps this process and those it starts on `count` cores, the first that it may use. Returns how many it got.
pub fn keep_to_cores(count: usize) -> io::Result<usize> {
    // SAFETY: a cpu_set_t is a bit array, all zeros is the empty set.
    let (mut allowed, mut chosen): (libc::cpu_set_t, libc::cpu_set_t) = unsafe { mem::zeroed() };
    // SAFETY: `allowed` is as large as we say.
    if unsafe { libc::sched_getaffinity(0, mem::size_of_val(&allowed), &raw mut allowed) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut taken = 0;
    for core in 0..libc::CPU_SETSIZE as usize {
        // SAFETY: `core` is below CPU_SETSIZE.
        unsafe {
            if taken < count && libc::CPU_ISSET(core, &allowed) {
                libc::CPU_SET(core, &mut chosen);
                taken += 1;
            }
        }
    }
    // SAFETY: `chosen` is as large as we say.
    if unsafe { libc::sched_setaffinity(0, mem::size_of_val(&chosen), &raw const chosen) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(taken)
}

/// Raises the soft limit of open files to the hard one.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result, and is only read by the second call.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// Lets this thread's sleeps end within a microsecond of their time (the default is 50 later).
pub fn sharpen_sleep() {
    // SAFETY: PR_SET_TIMERSLACK takes a number and touches no memory of ours. Failing it, sleeps are only longer.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000_u64, 0, 0, 0) };
}

/// Asks a process to stop, as its service manager would.
pub fn terminate(pid: u32) {
    // SAFETY: the caller names a child that it has not waited for yet, so the number cannot be another's.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
}

/// Datagrams of equal length in one block of memory, sent many a system call.
pub struct Datagrams {
    bytes: Box<[u8]>,
    len: usize,
    headers: Box<[libc::mmsghdr]>,
    // The headers point into these.
    _vectors: Box<[libc::iovec]>,
}

impl Datagrams {
    /// A block of `bytes.len() / len` datagrams.
    pub fn new(bytes: Vec<u8>, len: usize) -> Self {
        let mut bytes = bytes.into_boxed_slice();
        let mut vectors: Box<[libc::iovec]> = bytes
            .chunks_exact_mut(len)
            .map(|datagram| libc::iovec { iov_base: datagram.as_mut_ptr().cast(), iov_len: len })
            .collect();
        let headers = vectors
            .iter_mut()
            .map(|vector| {
                // SAFETY: an mmsghdr of zeros is one without address, data and control block.
                let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
                header.msg_hdr.msg_iov = vector;
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        Self { bytes, len, headers, _vectors: vectors }
    }

    /// The datagram at `index`, to be changed in place.
    pub fn get_mut(&mut self, index: usize) -> &mut [u8] {
        let from = index * self.len;
        &mut self.bytes[from..from + self.len]
    }

    /// Sends the first `count` over a connected socket.
    pub fn send(&mut self, socket: &impl AsRawFd, count: usize) -> io::Result<()> {
        let mut from = 0;
        while from < count {
            let rest = &mut self.headers[from..count];
            // SAFETY: `rest` holds valid headers; what they point to lives in boxes that `self` owns and never moves.
            let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
            match sent {
                -1 => {
                    let error = io::Error::last_os_error();
                    // The relay's port is not there for a moment: an ICMP answer to an earlier datagram.
                    if error.kind() != io::ErrorKind::ConnectionRefused && error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
                sent => from += sent as usize,
            }
        }
        Ok(())
    }
}
