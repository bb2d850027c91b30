//! The agent's system call filters.
//!
//! The families and calls that no cgroup hook sees are refused here: every socket family but
//! `AF_UNIX`, `AF_INET`, `AF_INET6` and `NETLINK_ROUTE`, new namespaces, set-user-id and set-group-id modes, whatever
//! takes from a table that all users of the machine share and no limit divides, every call of another ABI (i386, x32),
//! every call that is newer than the last one that somebody decided about, and the calls of `calls`. Calls that
//! programs probe for answer `ENOSYS`, so that they fall back; the rest answers `EPERM`.
use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

mod calls;

use calls::{Answer, NEWEST, NEWEST_OWN, SHARED};

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

/// Requests of `ioctl`: TIOCSTI and TIOCLINUX push input into a terminal, TIOCSETD has the kernel load a line
/// discipline; `FS_IOC_SETFLAGS` and `FS_IOC_FSSETXATTR` change what a directory takes for one name, and whose quota
/// a file counts for (`<linux/fs.h>`).
const IOCTLS: [u64; 5] = [0x5412, 0x541c, 0x5423, 0x4008_6602, 0x401c_5820];
/// Level and number of socket options that fill a table of the machine: `SO_ATTACH_FILTER` and
/// `SO_ATTACH_REUSEPORT_CBPF` (`net.core.bpf_jit_limit`), `IPV6_FLOWLABEL_MGR` (4,096 labels for all).
const OPTIONS: [(u64, u64); 3] = [(1, 26), (1, 51), (41, 32)];
/// What `personality` may be given: the query, and `PER_LINUX` or `PER_LINUX32` with `ADDR_NO_RANDOMIZE` and `UNAME26`.
const PERSONALITIES: [u64; 9] = [
    0xffff_ffff,
    0,
    0x8,
    0x2_0000,
    0x2_0008,
    0x4_0000,
    0x4_0008,
    0x6_0000,
    0x6_0008,
];
/// `MFD_HUGETLB`: a file of the machine's pool of huge pages. Chromium probes with every flag, and takes `EPERM` for an
/// answer.
const HUGE_FILE: u64 = 0x4;
/// Calls that take from that pool directly, their flags and the flag. They answer `ENOMEM`, as a machine without such a
/// pool does: no user's share of it is limited.
const HUGE_PAGES: [(libc::c_long, u8, u64); 2] =
    [(libc::SYS_mmap, 3, 0x4_0000), (libc::SYS_shmget, 2, 0o4000)];

/// The filters, in the order in which they are installed. All of them are asked on each call. An
/// audit's let every socket family through.
///
/// # Errors
/// When a filter does not compile, which no input can cause.
pub fn filters(is_audit: bool) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let unconditional = |answer| {
        calls::answered(answer)
            .map(|call| (call, Vec::new()))
            .collect()
    };
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = unconditional(Answer::Refused);
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
    let requests = IOCTLS.map(|request| rule(vec![condition(1, SeccompCmpOp::Eq, request)?]));
    refused.insert(
        libc::SYS_ioctl,
        requests.into_iter().collect::<Result<_, _>>()?,
    );
    let options = OPTIONS.map(|(level, option)| {
        rule(vec![
            condition(1, SeccompCmpOp::Eq, level)?,
            condition(2, SeccompCmpOp::Eq, option)?,
        ])
    });
    refused.insert(
        libc::SYS_setsockopt,
        options.into_iter().collect::<Result<_, _>>()?,
    );
    let personas = PERSONALITIES.map(|one| condition(0, SeccompCmpOp::Ne, one));
    let none_of_them = personas.into_iter().collect::<Result<_, _>>()?;
    refused.insert(libc::SYS_personality, vec![rule(none_of_them)?]);
    refused.insert(
        libc::SYS_memfd_create,
        vec![rule(vec![masked(1, HUGE_FILE)?])?],
    );
    let mut huge_pages = BTreeMap::new();
    for (call, flags, bit) in HUGE_PAGES {
        huge_pages.insert(call, vec![rule(vec![masked(flags, bit)?])?]);
    }

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
        reviewed(NEWEST_OWN, SHARED, NEWEST),
        compile(unconditional(Answer::Missing), libc::ENOSYS, arch)?,
        compile(refused, libc::EPERM, arch)?,
        compile(huge_pages, libc::ENOMEM, arch)?,
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

/// Answers `ENOSYS` to numbers that nobody has decided about: above `newest`, and between the architecture's own and
/// the `shared` ones. The first are those of newer kernels, and the x32 calls of x86-64, which `seccompiler` does not
/// tell from native ones (same audit architecture, bit 30 of the number set). i386 calls kill the process: the other
/// filters check the architecture first.
fn reviewed(own: i64, shared: i64, newest: i64) -> BpfProgram {
    const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
    const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const ALLOW: u32 = 0x7fff_0000; // SECCOMP_RET_ALLOW
    const ERRNO: u32 = 0x0005_0000; // SECCOMP_RET_ERRNO
    let op = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    // One that is no number of a call lets none through.
    let number = |number: i64| u32::try_from(number).unwrap_or_default();
    vec![
        op(LOAD_WORD, 0, 0, 0), // seccomp_data.nr
        op(JUMP_GREATER, 3, 0, number(newest)),
        op(JUMP_AT_LEAST, 1, 0, number(shared)),
        op(JUMP_GREATER, 1, 0, number(own)),
        op(RETURN, 0, 0, ALLOW),
        op(RETURN, 0, 0, ERRNO | libc::ENOSYS.unsigned_abs()),
    ]
}

/// Digest of the filters.
///
/// # Errors
/// As [`filters`].
pub fn digest(is_audit: bool) -> Result<String, seccompiler::BackendError> {
    Ok(egress_sys::filter::digest(&filters(is_audit)?))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::errno::Errno;
    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    /// The kernel's answer to a call that exists, on a thread that may make none above `newest`.
    fn answered_below(newest: i64) -> [Option<Errno>; 2] {
        let attempt = || memfd_create(c"x", MFdFlags::empty()).err();
        thread::spawn(move || {
            let before = attempt();
            nix::sys::prctl::set_no_new_privs().unwrap();
            seccompiler::apply_filter(&reviewed(newest, newest + 1, newest)).unwrap();
            [before, attempt()]
        })
        .join()
        .unwrap()
    }

    #[test]
    fn call_above_the_newest_reviewed_one_does_not_exist() {
        let call = libc::SYS_memfd_create;
        assert_eq!(answered_below(call - 1), [None, Some(Errno::ENOSYS)]);
        assert_eq!(answered_below(call), [None, None]);
    }

    /// What the program returns for a number: enough of classic BPF for the filter of numbers.
    fn run(program: &BpfProgram, number: u32) -> u32 {
        let mut at = 0;
        loop {
            let op = &program[at];
            let jumps = match op.code {
                0x20 => 0,
                0x25 if number > op.k => op.jt,
                0x35 if number >= op.k => op.jt,
                0x25 | 0x35 => op.jf,
                0x06 => return op.k,
                other => panic!("{other:#x}"),
            };
            at += 1 + usize::from(jumps);
        }
    }

    #[test]
    fn numbers_that_nobody_decided_about_do_not_exist() {
        let filters = filters(false).unwrap();
        let answer = |number: i64| run(&filters[0], u32::try_from(number).unwrap());
        for number in [0, NEWEST_OWN, SHARED, NEWEST] {
            assert_eq!(answer(number), 0x7fff_0000, "{number}");
        }
        let newer = [
            NEWEST_OWN + 1,
            SHARED - 1,
            NEWEST + 1,
            0x4000_0000 + 39,
            0xffff_ffff,
        ];
        for number in newer {
            assert_eq!(answer(number), 0x0005_0026, "{number}");
        }
    }
}
