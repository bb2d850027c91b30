//! The seccomp filter of the relay process. The filter allows only the system calls that serving
//! needs.
//!
//! Claims: relay-bug
use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// Installs the filter permanently. A system call that is not on the list fails with `EPERM`.
///
/// # Order
/// Call this after privileges are dropped and the runtime is built, and before the first byte of
/// the command is read.
///
/// # Errors
/// Fails if the kernel has no seccomp, or rejects the filter.
pub(super) fn install() -> Result<(), seccompiler::Error> {
    apply_filter(&filter()?)
}

/// Returns the digest of the filter.
///
/// # Errors
/// Fails if the filter cannot be compiled.
pub fn digest() -> Result<String, seccompiler::Error> {
    Ok(egress_sys::filter::digest([&filter()?]))
}

fn filter() -> Result<BpfProgram, seccompiler::Error> {
    let filter = SeccompFilter::new(
        rules()?,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        PLAIN.iter().map(|&call| (call, Vec::new())).collect();
    // The relay opens TCP sockets only to connect to the mediator. The kernel programs on the relay's cgroup check the
    // address.
    let mut sockets = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for protocol in [0, libc::IPPROTO_TCP] {
            sockets.push(SeccompRule::new(vec![
                is(0, family)?,
                masked(1, 0xf, libc::SOCK_STREAM)?,
                is(2, protocol)?,
            ])?);
        }
    }
    rules.insert(libc::SYS_socket, sockets);
    // The relay cannot map executable memory or make memory executable.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(
            call,
            vec![SeccompRule::new(vec![masked(2, libc::PROT_EXEC, 0)?])?],
        );
    }
    rules.insert(
        libc::SYS_ioctl,
        vec![SeccompRule::new(vec![wide(1, FIONBIO)?])?],
    );
    let descriptor_flags = [
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_DUPFD_CLOEXEC,
    ];
    let fcntl = descriptor_flags
        .into_iter()
        .map(|command| SeccompRule::new(vec![is(1, command)?]).map_err(Into::into))
        .collect::<Result<_, seccompiler::Error>>()?;
    rules.insert(libc::SYS_fcntl, fcntl);
    Ok(rules)
}

fn is(argument: u8, value: i32) -> Result<SeccompCondition, seccompiler::Error> {
    let value = u64::from(value.cast_unsigned());
    Ok(SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        value,
    )?)
}

fn masked(argument: u8, mask: i32, value: i32) -> Result<SeccompCondition, seccompiler::Error> {
    let operation = SeccompCmpOp::MaskedEq(u64::from(mask.cast_unsigned()));
    let value = u64::from(value.cast_unsigned());
    Ok(SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        operation,
        value,
    )?)
}

fn wide(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::Error> {
    Ok(SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        value,
    )?)
}

/// From `<asm-generic/ioctls.h>`. The libc crate is not used, because its type differs between C libraries.
const FIONBIO: u64 = 0x5421;

/// System calls that are allowed with any arguments.
const PLAIN: &[i64] = &[
    // Open sockets.
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    // Waiting.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_ctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_getrandom,
    // Signals and exit, including exit by a panic.
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];
