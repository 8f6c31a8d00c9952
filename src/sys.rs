//! The few kernel calls that no library wraps safely: batched datagram reads, unacknowledged bytes, kernel drops, holes in
//! files, files that this process was started with, what the process has used.
//!
//! The only module where `unsafe` is allowed. Each function is safe to call: it owns or borrows all memory that it
//! hands to the kernel, for the whole call.
#![expect(unsafe_code, reason = "system calls without a safe wrapper; see each SAFETY comment")]

use std::ffi::{CString, c_int, c_uint};
use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use tokio::io::unix::AsyncFd;

/// One datagram that a batch received.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// Its octets, as many as fitted the slot.
    pub bytes: &'a [u8],
    /// It was larger than the slot: the kernel cut it.
    pub truncated: bool,
    /// The sender's address; `None` for unix sockets.
    pub peer: Option<IpAddr>,
}

/// Octets of a datagram that lie in the dense part of a batch's memory: nearly all syslog datagrams fit, so that a batch
/// of 64 stays within 128 KiB of cache.
const HEAD_BYTES: usize = 2048;

/// What the process has used so far: getrusage(2). Times in microseconds, memory in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in the program.
    pub user_us: u64,
    /// Processor time in the kernel.
    pub system_us: u64,
    /// The most that was resident.
    pub resident_kib_max: u64,
    /// Page faults without reading, and with.
    pub faults: [u64; 2],
    /// Blocks of 512 octets read and written.
    pub blocks: [u64; 2],
    /// Context switches, voluntary and others.
    pub switches: [u64; 2],
}

/// What the process has used so far.
///
/// # Errors
/// What the kernel says; it has no reason to.
pub fn usage() -> io::Result<Usage> {
    let mut raw = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes one rusage to where it is told to, which is memory for one.
    let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, raw.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zeroes is a valid rusage (plain numbers), and the kernel has filled it in besides.
    let raw = unsafe { raw.assume_init() };
    let us = |time: libc::timeval| (time.tv_sec as u64) * 1_000_000 + time.tv_usec as u64;
    Ok(Usage {
        user_us: us(raw.ru_utime),
        system_us: us(raw.ru_stime),
        resident_kib_max: raw.ru_maxrss as u64,
        faults: [raw.ru_minflt as u64, raw.ru_majflt as u64],
        blocks: [raw.ru_inblock as u64, raw.ru_oublock as u64],
        switches: [raw.ru_nvcsw as u64, raw.ru_nivcsw as u64],
    })
}

/// Buffers for receiving many datagrams in one system call. One serves any number of sockets, one after another.
pub struct DatagramBatch {
    /// The beginnings of all datagrams, [`HEAD_BYTES`] each.
    heads: Vec<u8>,
    /// What goes beyond, `tail_bytes` each. Left as the allocator gives it: zeroing it would make megabytes resident that
    /// no datagram may ever touch.
    tails: Vec<MaybeUninit<u8>>,
    tail_bytes: usize,
    addresses: Vec<libc::sockaddr_storage>,
    headers: Vec<libc::mmsghdr>,
    /// What the headers point at, themselves pointing at heads and tails: wired up anew for each call.
    vectors: Vec<[libc::iovec; 2]>,
    received: usize,
    /// Where a large datagram's two parts are put together.
    whole: Vec<u8>,
}

impl DatagramBatch {
    /// Room for up to `slots` datagrams.
    pub fn new(slots: usize) -> Self {
        // SAFETY: sockaddr_storage is plain data for which all zeroes is a valid value (family 0, unspecified).
        let address = unsafe { mem::zeroed::<libc::sockaddr_storage>() };
        // SAFETY: mmsghdr is plain data; zeroed means no buffers, no control data and no flags.
        let header = unsafe { mem::zeroed::<libc::mmsghdr>() };
        Self {
            heads: vec![0; slots * HEAD_BYTES],
            tails: Vec::new(),
            tail_bytes: 1,
            addresses: vec![address; slots],
            headers: vec![header; slots],
            vectors: vec![[vector(std::ptr::null_mut(), 0); 2]; slots],
            received: 0,
            whole: Vec::new(),
        }
    }

    /// Receives what waits in the socket's queue, without blocking; returns the count (`recvmmsg(2)`). No more than
    /// `datagrams` of up to `bytes_max` octets each.
    ///
    /// # Errors
    /// `WouldBlock` when nothing waits; otherwise what the kernel says.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, datagrams: usize, bytes_max: usize) -> io::Result<usize> {
        self.received = 0;
        let slots = datagrams.min(self.headers.len());
        self.wire(slots, bytes_max.saturating_sub(HEAD_BYTES).max(1));
        // SAFETY: each of the first `slots` headers points at two iovecs, those at one head and one tail, and at one
        // address: all of them live in vectors of `self`, borrowed mutably and left alone since `wire` and for the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                slots as libc::c_uint,
                // An int with glibc, an unsigned one with musl.
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        self.received = usize::try_from(count).unwrap_or(0);
        if count < 0 { Err(io::Error::last_os_error()) } else { Ok(self.received) }
    }

    /// Points the first `slots` headers at their buffers.
    fn wire(&mut self, slots: usize, tail_bytes: usize) {
        self.tail_bytes = tail_bytes;
        let tails = slots * tail_bytes;
        if self.tails.len() < tails {
            // Not `resize`: nothing of the old one is needed.
            self.tails = Box::new_uninit_slice(tails).into_vec();
        }
        let Self { heads, tails, addresses, headers, vectors, .. } = self;
        let parts = heads.chunks_exact_mut(HEAD_BYTES).zip(tails.chunks_exact_mut(tail_bytes));
        let slots = headers.iter_mut().zip(vectors).zip(addresses).zip(parts).take(slots);
        for (((header, vectors), address), (head, tail)) in slots {
            *vectors = [vector(head.as_mut_ptr().cast(), head.len()), vector(tail.as_mut_ptr().cast(), tail.len())];
            // A unix socket's sender has no address, and what the last call left here would pass for it.
            address.ss_family = libc::AF_UNSPEC as libc::sa_family_t;
            header.msg_hdr.msg_name = (&raw mut *address).cast();
            // The kernel writes the length of each address over the size of its buffer.
            header.msg_hdr.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = vectors.as_mut_ptr();
            // A size_t with glibc, an int with musl.
            header.msg_hdr.msg_iovlen = vectors.len() as _;
        }
    }

    /// Gives memory back that large datagrams have made resident, if there were any since the last call.
    pub fn trim(&mut self) {
        if self.whole.capacity() > 0 {
            self.received = 0;
            self.whole = Vec::new();
            self.tails = Vec::new();
        }
    }

    /// Calls `take` with each datagram of the last [`Self::receive`], in order of arrival.
    pub fn for_each(&mut self, mut take: impl FnMut(Datagram<'_>)) {
        let Self { heads, tails, tail_bytes, addresses, headers, received, whole, .. } = self;
        let parts = heads.chunks_exact(HEAD_BYTES).zip(tails.chunks_exact(*tail_bytes));
        for (((head, tail), address), header) in parts.zip(&*addresses).zip(&*headers).take(*received) {
            let length = header.msg_len as usize;
            let bytes = match head.get(..length) {
                Some(bytes) => bytes,
                None => {
                    whole.clear();
                    whole.extend_from_slice(head);
                    let tail = tail.get(..length - HEAD_BYTES).unwrap_or_default();
                    // SAFETY: the kernel has written `length` octets: the whole head, and then these.
                    whole.extend_from_slice(unsafe { tail.assume_init_ref() });
                    &*whole
                }
            };
            let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            take(Datagram { bytes, truncated, peer: ip_of(address) });
        }
    }
}

fn vector(iov_base: *mut libc::c_void, iov_len: usize) -> libc::iovec {
    libc::iovec { iov_base, iov_len }
}

fn ip_of(address: &libc::sockaddr_storage) -> Option<IpAddr> {
    match i32::from(address.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the kernel wrote a sockaddr_in, which is smaller than the storage.
            let v4 = unsafe { &*(&raw const *address).cast::<libc::sockaddr_in>() };
            Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for sockaddr_in6.
            let v6 = unsafe { &*(&raw const *address).cast::<libc::sockaddr_in6>() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).to_canonical())
        }
        _ => None,
    }
}

/// Registers a socket with the runtime's reactor.
pub fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd stays open, and its number the same, for as long as it lives, and AsyncFd keeps it.
    unsafe { AsyncFd::register(socket) }.map_err(|error| error.into_parts().1)
}

/// Whether a message was refused because no datagram holds it (`EMSGSIZE`, `udp(7)`).
pub fn is_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// Bytes of a TCP socket's send queue that the peer's kernel has not acknowledged (`SIOCOUTQ`, `tcp(7)`).
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut queued: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (the same number as SIOCOUTQ) writes one int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut queued) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(u64::try_from(queued).unwrap_or(0)) }
}

/// Datagrams that the kernel dropped on this socket since it was opened (`SO_MEMINFO`, `SK_MEMINFO_DROPS`).
pub fn kernel_drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    /// `SK_MEMINFO_DROPS` and the count of values, `linux/sock_diag.h`.
    const DROPS: usize = 8;
    let mut values = [0_u32; 9];
    let mut size = mem::size_of_val(&values) as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes into `values`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(values.get(DROPS).copied().unwrap_or(0)) }
}

/// Asks for a receive buffer of `bytes`: beyond `net.core.rmem_max` where we may (`SO_RCVBUFFORCE`, needs
/// `CAP_NET_ADMIN`), else as much as the kernel gives. Returns what it gave (it doubles what it is asked for, to
/// account for its own overhead).
pub fn grow_receive_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    let wanted = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    for option in [libc::SO_RCVBUFFORCE, libc::SO_RCVBUF] {
        // SAFETY: the option's value is one int, borrowed for the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const wanted).cast(),
                mem::size_of_val(&wanted) as libc::socklen_t,
            )
        };
        if result == 0 {
            break;
        }
    }
    socket2::SockRef::from(&socket).recv_buffer_size()
}

/// Has the allocator give memory back to the kernel ten milliseconds after it was freed, and not a second after: what a
/// shard allocates and another thread frees, at a gigabyte a second, is tens of megabytes in a second. To be called before
/// other threads start.
pub fn return_freed_memory_soon() {
    /// `mi_option_purge_delay` of mimalloc.h, in versions 2 and 3; the crate names only some of the options.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    const MILLISECONDS: libc::c_long = 10;
    // SAFETY: sets a number; no other thread is there yet.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, MILLISECONDS) }
}

/// The files from number 3 on that whoever started this process has opened for it (`sd_listen_fds(3)`), closed from now on
/// where it starts another program. The caller knows from the environment that they are there; an error for each that is
/// not. Gives them once: later calls find none.
pub fn inherited_files(count: u16) -> Vec<io::Result<OwnedFd>> {
    static GIVEN: AtomicBool = AtomicBool::new(false);
    /// `SD_LISTEN_FDS_START`
    const FIRST: c_int = 3;
    if GIVEN.swap(true, Relaxed) {
        return Vec::new();
    }
    let take = |number: c_int| {
        // SAFETY: takes numbers only, and answers EBADF to one that is no open file.
        if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it is open, was opened for this process, and is given away here and once only.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    };
    (FIRST..FIRST + c_int::from(count)).map(take).collect()
}

/// Microseconds of the kernel's monotonic clock, which a service manager compares with its own.
pub fn monotonic_us() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is ours, and large enough. This clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

/// Raises the limit of open files to the hard limit, so that thousands of connections need no `ulimit`. Returns the
/// limit in force.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = open_files()?;
    let before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: setrlimit reads one rlimit.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0;
    Ok(if raised { limit.rlim_max } else { before })
}

static DATA_SYNCS: AtomicU64 = AtomicU64::new(0);

/// `fdatasync(2)` under the name of `sync_file_range(2)`: what sled calls where it means to be safe from a power cut. The
/// real one writes neither metadata nor the drive's cache; a program's own definition wins over the C library's.
// SAFETY: no other definition of the name is linked in but the C library's, whose signature this is.
#[unsafe(no_mangle)]
pub extern "C" fn sync_file_range(file: c_int, _offset: i64, _bytes: i64, _flags: c_uint) -> c_int {
    DATA_SYNCS.fetch_add(1, Relaxed);
    // SAFETY: takes any number, and answers EBADF to those that are no open file.
    unsafe { libc::fdatasync(file) }
}

/// How often [`sync_file_range`] was called: shows whether a library's calls come here.
pub fn data_syncs() -> u64 {
    DATA_SYNCS.load(Relaxed)
}

/// Gives the disk back what `bytes` octets from `offset` take of a file; they read as zeroes afterwards. Its length stays.
///
/// # Errors
/// What `fallocate(2)` says: not every file system can.
pub fn punch_hole(file: BorrowedFd<'_>, offset: u64, bytes: u64) -> io::Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: takes numbers only.
    let done = unsafe { libc::fallocate(file.as_raw_fd(), mode, offset as libc::off_t, bytes as libc::off_t) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Where data begins at or after `offset`, holes left out; `None` where there is none up to the end. Moves the file's
/// position.
///
/// # Errors
/// What `lseek(2)` says.
pub fn seek_data(file: BorrowedFd<'_>, offset: u64) -> io::Result<Option<u64>> {
    // SAFETY: takes numbers only.
    let at = unsafe { libc::lseek(file.as_raw_fd(), offset as libc::off_t, libc::SEEK_DATA) };
    if at >= 0 {
        return Ok(Some(at as u64));
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENXIO) { Ok(None) } else { Err(error) }
}

/// Octets that an ordinary process may still write to the file system of `path` (`statvfs(3)`).
///
/// # Errors
/// What the kernel says.
pub fn disk_free(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: statvfs is plain data for which all zeroes is a valid value.
    let mut stat = unsafe { mem::zeroed::<libc::statvfs>() };
    // SAFETY: reads a string that ends with NUL, writes one statvfs.
    if unsafe { libc::statvfs(path.as_ptr(), &mut stat) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((stat.f_bavail as u64).saturating_mul(stat.f_frsize as u64))
}

/// What the kernel knows of the clock's quality: adjtimex(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockState {
    /// Something (chrony, ntpd, systemd-timesyncd, the hypervisor) keeps it in step.
    pub is_synchronised: bool,
    /// By how many microseconds it may be wrong at most.
    pub error_max_us: u64,
}

/// How well the clock is kept. Changes nothing.
///
/// # Errors
/// What the kernel says; some sandboxes forbid the call.
pub fn clock_state() -> io::Result<ClockState> {
    // SAFETY: timex is plain data for which all zeroes is a valid value: no mode, nothing to change.
    let mut state = unsafe { mem::zeroed::<libc::timex>() };
    // SAFETY: reads and writes one timex.
    if unsafe { libc::adjtimex(&raw mut state) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ClockState {
        is_synchronised: state.status & libc::STA_UNSYNC == 0,
        error_max_us: u64::try_from(state.maxerror).unwrap_or(u64::MAX),
    })
}

/// The hard limit of open files, which [`raise_open_files`] goes up to.
///
/// # Errors
/// What the kernel says; it has no reason to.
pub fn open_files_max() -> io::Result<u64> {
    Ok(open_files()?.rlim_max)
}

fn open_files() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes one rlimit.
    let done = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if done != 0 { Err(io::Error::last_os_error()) } else { Ok(limit) }
}

/// Whether this process may write to what is at `path`: `faccessat(2)` with its effective user.
///
/// # Errors
/// Why not.
pub fn may_write(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: reads a string that ends with NUL.
    let done = unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::W_OK, libc::AT_EACCESS) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn received(batch: &mut DatagramBatch) -> Vec<(Vec<u8>, bool, Option<IpAddr>)> {
        let mut all = Vec::new();
        batch.for_each(|datagram| all.push((datagram.bytes.to_vec(), datagram.truncated, datagram.peer)));
        all
    }

    #[test]
    fn one_batch_serves_sockets_of_all_kinds_in_turn() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let inet = UdpSocket::bind((loopback, 0)).unwrap();
        let (unix, unix_sender) = UnixDatagram::pair().unwrap();
        let (small, large) = (vec![b's'; 10], (0..30_000).map(|at| at as u8).collect::<Vec<_>>());
        let mut batch = DatagramBatch::new(4);
        for _ in 0..2 {
            for datagram in [&small, &large, &large, &small] {
                inet.send_to(datagram, inet.local_addr().unwrap()).unwrap();
                unix_sender.send(datagram).unwrap();
            }
            assert_eq!(batch.receive(inet.as_fd(), 3, 64 * 1024).unwrap(), 3);
            let whole = |bytes: &Vec<u8>, peer| (bytes.clone(), false, peer);
            let inet_peer = Some(loopback);
            assert_eq!(
                received(&mut batch),
                [whole(&small, inet_peer), whole(&large, inet_peer), whole(&large, inet_peer)]
            );
            assert_eq!(batch.receive(inet.as_fd(), 3, 64 * 1024).unwrap(), 1);
            // More of another size than ever before; a peer of the last call is none of this one's.
            assert_eq!(batch.receive(unix.as_fd(), 9, 256 * 1024).unwrap(), 4);
            let all = [whole(&small, None), whole(&large, None), whole(&large, None), whole(&small, None)];
            assert_eq!(received(&mut batch), all);
            batch.trim();
            assert_eq!(received(&mut batch), []);
            assert_eq!(batch.tails.capacity(), 0);
        }
        unix_sender.send(&large).unwrap();
        assert_eq!(batch.receive(unix.as_fd(), 1, 10_000).unwrap(), 1);
        assert_eq!(received(&mut batch), [(large[..10_000].to_vec(), true, None)]);
        let nothing = batch.receive(unix.as_fd(), 1, 10_000).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(received(&mut batch), []);
    }
}
