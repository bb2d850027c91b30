//! The agent's system call filters.
//!
//! The families and calls that no cgroup hook sees are refused here: every socket family but
//! `AF_UNIX`, `AF_INET`, `AF_INET6` and `NETLINK_ROUTE`, `io_uring` (its sockets bypass this filter), new
//! namespaces, mounts, bpf, keys, set-user-id and set-group-id modes, and every call of another ABI (i386, x32). Calls that programs
//! probe for at start answer `ENOSYS`, so that they fall back; the rest answers `EPERM`.
use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

/// Calls that answer `ENOSYS`.
const NOT_IMPLEMENTED: [libc::c_long; 5] = [
    // Their flags and modes lie in memory, out of a filter's sight; libraries fall back to clone and openat.
    libc::SYS_clone3,
    libc::SYS_openat2,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Calls that answer `EPERM`.
const REFUSED: [libc::c_long; 42] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kcmp,
    SYS_KEXEC_FILE_LOAD,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// `CLONE_NEW*` flags that `clone` and `unshare` may not carry.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Set-user-id and set-group-id bits of a mode: in the workspace such a file would give its owner's
/// rights, root's perhaps, to any user of the host.
const GIVING_BITS: [u64; 2] = [0o4000, 0o2000];
/// Flags of `open` that make it read its mode: `O_CREAT`, and the bit of `O_TMPFILE` that is its own.
const MAKING_FLAGS: [u64; 2] = [0o100, 0o20_000_000];
/// `fchmodat2`, which the libc crate does not name everywhere.
const SYS_FCHMODAT2: libc::c_long = 452;
/// libc has it with some C libraries only (`<asm/unistd.h>`).
const SYS_KEXEC_FILE_LOAD: libc::c_long = if cfg!(target_arch = "x86_64") {
    320
} else {
    294
};
/// Calls with a mode, and which argument it is.
const WITH_MODE: &[(libc::c_long, u8)] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, 1),
    (libc::SYS_fchmod, 1),
    (libc::SYS_fchmodat, 2),
    (SYS_FCHMODAT2, 2),
    (libc::SYS_mknodat, 2),
];
/// Calls that open, and which argument their flags are; the mode comes next.
const OPENING: &[(libc::c_long, u8)] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 1),
    (libc::SYS_openat, 2),
];

/// The limit on core dumps, as an argument.
const CORE: u64 = libc::RLIMIT_CORE as u64;

/// First number of the x32 calls on x86-64; no call of any other ABI reaches it.
const X32_SYSCALL_BIT: u32 = 0x4000_0000;

/// The filters, in the order in which they are installed. All of them are asked on each call. An
/// audit's let every socket family through.
///
/// # Errors
/// When a filter does not compile, which no input can cause.
pub fn filters(is_audit: bool) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let unconditional =
        |calls: &[libc::c_long]| calls.iter().map(|call| (*call, Vec::new())).collect();
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = unconditional(&REFUSED);
    refused.insert(libc::SYS_unshare, namespace_rules()?);
    refused.insert(libc::SYS_clone, namespace_rules()?);
    for (call, mode) in WITH_MODE {
        let rules = GIVING_BITS.map(|bit| rule(vec![masked(*mode, bit)?]));
        refused.insert(*call, rules.into_iter().collect::<Result<_, _>>()?);
    }
    for (call, flags) in OPENING {
        let mut rules = Vec::new();
        for flag in MAKING_FLAGS {
            for bit in GIVING_BITS {
                rules.push(rule(vec![masked(*flags, flag)?, masked(flags + 1, bit)?])?);
            }
        }
        refused.insert(*call, rules);
    }
    // TIOCSTI and TIOCLINUX push input into a terminal; TIOCSETD has the kernel load a line discipline.
    let ioctls: [u64; 3] = [0x5412, 0x541c, 0x5423];
    let terminal = ioctls.map(|request| rule(vec![condition(1, SeccompCmpOp::Eq, request)?]));
    refused.insert(
        libc::SYS_ioctl,
        terminal.into_iter().collect::<Result<_, _>>()?,
    );

    // A limit of 1 is what keeps the kernel from handing a dump to a program of the host (core(5)), and 0 is
    // not. Programs that want no dumps set 0, and some end when they cannot: to them it seems done.
    let core = |resource| rule(vec![condition(resource, SeccompCmpOp::Eq, CORE)?]);
    let changing = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
    let limits = BTreeMap::from([
        (libc::SYS_setrlimit, vec![core(0)?]),
        (
            libc::SYS_prlimit64,
            vec![rule(vec![condition(1, SeccompCmpOp::Eq, CORE)?, changing])?],
        ),
    ]);
    let sockets = BTreeMap::from([
        (libc::SYS_socket, family_rules()?),
        (libc::SYS_socketpair, family_rules()?),
    ]);
    let mut filters = vec![
        foreign_abi(),
        compile(unconditional(&NOT_IMPLEMENTED), libc::ENOSYS, arch)?,
        compile(refused, libc::EPERM, arch)?,
        compile(limits, 0, arch)?,
    ];
    if !is_audit {
        filters.push(compile(sockets, libc::EAFNOSUPPORT, arch)?);
    }
    Ok(filters)
}

/// Installs [`filters`] on the calling thread, for good.
///
/// # Order
/// After `no_new_privs`, as the last step before `execve`.
///
/// # Errors
/// Those of `seccomp(2)`.
pub fn install(is_audit: bool) -> Result<(), Box<dyn std::error::Error>> {
    for filter in filters(is_audit)? {
        seccompiler::apply_filter(&filter)?;
    }
    Ok(())
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    errno: i32,
    arch: TargetArch,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, answer, arch)?.try_into()
}

fn condition(
    arg: u8,
    op: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(arg, SeccompCmpArgLen::Dword, op, value)
}

/// Matches an argument that has all bits of `mask`.
fn masked(arg: u8, mask: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    condition(arg, SeccompCmpOp::MaskedEq(mask), mask)
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(conditions)
}

/// Matches a call whose first argument carries any of the namespace flags.
fn namespace_rules() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    NAMESPACES
        .iter()
        .map(|flag| u64::from(flag.unsigned_abs()))
        // CLONE_NEWTIME shares its bit with the exit signal of clone; unshare alone knows it, and
        // it needs a capability.
        .map(|flag| rule(vec![condition(0, SeccompCmpOp::MaskedEq(flag), flag)?]))
        .collect()
}

/// Matches every family that is not on the list, and every netlink protocol but ROUTE.
fn family_rules() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let families = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ];
    let others = families
        .iter()
        .map(|family| condition(0, SeccompCmpOp::Ne, u64::from(family.unsigned_abs())))
        .collect::<Result<_, _>>()?;
    let netlink = vec![
        condition(
            0,
            SeccompCmpOp::Eq,
            u64::from(libc::AF_NETLINK.unsigned_abs()),
        )?,
        condition(
            2,
            SeccompCmpOp::Ne,
            u64::from(libc::NETLINK_ROUTE.unsigned_abs()),
        )?,
    ];
    Ok(vec![rule(others)?, rule(netlink)?])
}

/// Answers `ENOSYS` to the x32 calls of x86-64, which `seccompiler` does not tell from native ones
/// (same audit architecture, bit 30 of the number set). i386 calls kill the process: the other
/// filters check the architecture first.
fn foreign_abi() -> BpfProgram {
    const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_GE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const ALLOW: u32 = 0x7fff_0000; // SECCOMP_RET_ALLOW
    const ERRNO: u32 = 0x0005_0000; // SECCOMP_RET_ERRNO
    let op = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        op(LOAD_WORD, 0, 0, 0), // seccomp_data.nr
        op(JUMP_GE, 0, 1, X32_SYSCALL_BIT),
        op(RETURN, 0, 0, ERRNO | libc::ENOSYS.unsigned_abs()),
        op(RETURN, 0, 0, ALLOW),
    ]
}

/// Digest of the filters.
///
/// # Errors
/// As [`filters`].
pub fn digest(is_audit: bool) -> Result<String, seccompiler::BackendError> {
    Ok(crate::sys::filter::digest(&filters(is_audit)?))
}
