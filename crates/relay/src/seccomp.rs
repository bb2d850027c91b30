//! Leaves the relay's process the system calls that serving needs, and no other.
use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// Installs the filter for the rest of the process's life. What is not on the list fails with `EPERM`.
///
/// # Order
/// After privileges are dropped and the runtime is built; before the first byte of the agent is read.
///
/// # Errors
/// The kernel has no seccomp, or refuses the filter.
pub(super) fn install() -> Result<(), seccompiler::Error> {
    apply_filter(&filter()?)
}

/// Digest of the filter.
///
/// # Errors
/// The filter cannot be compiled.
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
    // TCP to the mediator; which address, the gate of the relay's cgroup decides.
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
    // Memory, but never memory to execute.
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

/// `<asm-generic/ioctls.h>`; the type that libc gives it differs between C libraries.
const FIONBIO: u64 = 0x5421;

/// Calls that are harmless with any argument.
const PLAIN: &[i64] = &[
    // Sockets that are open.
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
    // Signals and the end, by panic too.
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
