//! System calls that a relay never makes, refused by the kernel (seccomp).
//!
//! A list of what is refused, and not of what is allowed: which calls a C library, an allocator or a kernel's newest
//! fast path makes is their affair and changes with each of their versions, and one call that such a list lacks would stop a
//! relay on somebody's machine that no test has seen. What is refused here is what an intruder needs next: other programs,
//! other processes' memory, namespaces and mounts, kernel code, other users, memory that is written and then run.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Refused whatever their arguments are.
const NEVER: &[libc::c_long] = &[
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes' memory and files.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // Namespaces, mounts, roots.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // Files by number, devices, watching all of a file system.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_mknodat,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    // The kernel itself, and its roomiest ways in.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_syslog,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_vhangup,
    libc::SYS_personality,
    // Other users: whom this process is to be it is by now.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
];

/// What only this processor has of the same.
#[cfg(target_arch = "x86_64")]
const NEVER_HERE: &[libc::c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_mknod,
    libc::SYS_uselib,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_kexec_file_load,
];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_HERE: &[libc::c_long] = &[
    // kexec_file_load, of which not every C library knows the number.
    294,
];

/// Set in the number of a call of x32, the 32-bit world of x86-64: the same calls by other numbers.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

/// Calls that only x32 has, `execve` among them.
#[cfg(target_arch = "x86_64")]
const X32_ONLY: std::ops::RangeInclusive<i64> = 512..=547;

/// The filters, to be installed in this order: what is refused is answered with EPERM, and `clone3` with ENOSYS: its
/// arguments cannot be looked at, and C libraries take `clone` then.
///
/// # Errors
/// When nobody has written filters for this processor.
pub(super) fn filters() -> Result<[BpfProgram; 2], BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = |rules, errno: libc::c_int| -> Result<BpfProgram, BackendError> {
        let refuse = SeccompAction::Errno(errno.unsigned_abs());
        SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()
    };
    Ok([
        filter(refused()?, libc::EPERM)?,
        filter(BTreeMap::from([(number(libc::SYS_clone3), Vec::new())]), libc::ENOSYS)?,
    ])
}

/// By number: when a call is refused; always where there is no rule.
fn refused() -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in NEVER.iter().chain(NEVER_HERE) {
        rules.insert(number(*call), Vec::new());
    }
    #[cfg(target_arch = "x86_64")]
    {
        let native: Vec<i64> = rules.keys().copied().collect();
        let besides = [libc::SYS_clone, libc::SYS_clone3, libc::SYS_socket, libc::SYS_mmap, libc::SYS_mprotect];
        for call in native.into_iter().chain(besides.map(number)).chain(X32_ONLY) {
            rules.insert(call | X32, Vec::new());
        }
    }
    rules.insert(number(libc::SYS_clone), vec![no_thread()?]);
    rules.insert(number(libc::SYS_socket), vec![odd_family()?]);
    rules.insert(number(libc::SYS_ioctl), terminal_input()?);
    for call in [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
        rules.insert(number(call), vec![written_and_run()?]);
    }
    Ok(rules)
}

#[allow(clippy::unnecessary_cast, reason = "a long has 32 bits elsewhere")]
fn number(call: libc::c_long) -> i64 {
    call as i64
}

/// A new process, and no thread of this one.
fn no_thread() -> Result<SeccompRule, BackendError> {
    let flag = u64::from(libc::CLONE_THREAD.unsigned_abs());
    SeccompRule::new(vec![condition(0, SeccompCmpOp::MaskedEq(flag), 0)?])
}

/// A socket that is neither IP, nor unix, nor the C library's question for the machine's addresses (netlink).
fn odd_family() -> Result<SeccompRule, BackendError> {
    let usual = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let other = |family: libc::c_int| condition(0, SeccompCmpOp::Ne, u64::from(family.unsigned_abs()));
    SeccompRule::new(usual.into_iter().map(other).collect::<Result<_, _>>()?)
}

/// Memory that can be written and run.
fn written_and_run() -> Result<SeccompRule, BackendError> {
    let both = u64::from((libc::PROT_WRITE | libc::PROT_EXEC).unsigned_abs());
    SeccompRule::new(vec![condition(2, SeccompCmpOp::MaskedEq(both), both)?])
}

/// Typing into the terminal that the process was started from.
#[allow(clippy::unnecessary_cast, reason = "C libraries differ on the type of a request")]
fn terminal_input() -> Result<Vec<SeccompRule>, BackendError> {
    let rule = |request| SeccompRule::new(vec![condition(1, SeccompCmpOp::Eq, request)?]);
    Ok(vec![rule(libc::TIOCSTI as u64)?, rule(libc::TIOCLINUX as u64)?])
}

fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `BPF_MAXINSNS`: the kernel takes no longer program.
    const INSTRUCTIONS_MAX: usize = 4096;

    #[test]
    fn filters_are_made_and_are_no_longer_than_the_kernel_takes() {
        for filter in filters().unwrap() {
            assert!((4..INSTRUCTIONS_MAX).contains(&filter.len()), "{} instructions", filter.len());
        }
    }

    #[test]
    fn each_call_is_listed_once() {
        let listed = NEVER.len() + NEVER_HERE.len();
        let distinct: std::collections::BTreeSet<_> = NEVER.iter().chain(NEVER_HERE).collect();
        assert_eq!(distinct.len(), listed);
    }
}
