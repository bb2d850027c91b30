//! The command's system call filters.
//!
//! The filters deny what the cgroup hooks do not check:
//!
//! - every socket family except `AF_UNIX`, `AF_INET`, `AF_INET6`, and `NETLINK_ROUTE`, unless the run is an audit;
//! - new namespaces;
//! - set-user-id and set-group-id modes;
//! - calls that use up a table that all users of the machine share without a per-user limit;
//! - some arguments of `ioctl`, `setsockopt`, and `personality`;
//! - every call of another ABI (i386, x32);
//! - every call that is newer than the last reviewed call;
//! - the calls in `calls`.
//!
//! Most denied calls return `ENOSYS` if programs fall back when the call is missing, and `EPERM` otherwise. A socket of
//! another family returns `EAFNOSUPPORT`, and a request for huge pages returns `ENOMEM`. A change of the core dump
//! limit has no effect but appears to succeed. An i386 call kills the process.
//!
//! Claims: other-protocols, families, calls, new-calls, core-dump, setuid-left, table-kernel-objects, table-huge-pages, table-filters
use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

mod calls;

use calls::{Answer, NEWEST, NEWEST_OWN, SHARED};

/// `CLONE_NEW*` flags that are denied for `clone` and `unshare`.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Set-user-id and set-group-id bits of a mode. A file in the workspace with one of these bits
/// would give its owner's privileges, possibly root's, to any user of the host.
const SET_ID_BITS: [u64; 2] = [0o4000, 0o2000];
/// Flags with which `open` uses its mode: `O_CREAT`, and the bit that only `O_TMPFILE` has.
const CREATING_FLAGS: [u64; 2] = [0o100, 0o20_000_000];
/// `fchmodat2`, which the libc crate does not define for every target.
const SYS_FCHMODAT2: libc::c_long = 452;
/// Calls with a mode, and the index of the mode argument.
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
/// Calls that open files, and the index of the argument with the flags. The mode is the next
/// argument.
const OPENING: &[(libc::c_long, u8)] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 1),
    (libc::SYS_openat, 2),
];

/// The core dump limit, as a system call argument.
const CORE: u64 = libc::RLIMIT_CORE as u64;

/// Denied requests of `ioctl`. TIOCSTI and TIOCLINUX push input into a terminal, and TIOCSETD makes
/// the kernel load a line discipline. `FS_IOC_SETFLAGS` and `FS_IOC_FSSETXATTR` (`<linux/fs.h>`)
/// change two properties: whether the names in a directory are case-sensitive, and the quota toward
/// which a file counts.
const IOCTLS: [u64; 5] = [0x5412, 0x541c, 0x5423, 0x4008_6602, 0x401c_5820];
/// Level and number of socket options that fill a shared table of the machine: `SO_ATTACH_FILTER`
/// and `SO_ATTACH_REUSEPORT_CBPF` (`net.core.bpf_jit_limit`), and `IPV6_FLOWLABEL_MGR` (4,096
/// labels for all).
const OPTIONS: [(u64, u64); 3] = [(1, 26), (1, 51), (41, 32)];
/// Permitted arguments of `personality`: the query, and `PER_LINUX` or `PER_LINUX32`, each with or without
/// `ADDR_NO_RANDOMIZE` and `UNAME26`.
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
/// `MFD_HUGETLB`, a flag of `memfd_create` that takes memory from the machine's pool of huge pages.
/// Chromium tests every flag of the call and accepts `EPERM`.
const HUGE_FILE: u64 = 0x4;
/// Calls that allocate from the pool of huge pages directly, the index of the argument with their flags, and the flag.
/// The calls return `ENOMEM`, as on a machine without a pool of huge pages, because no limit divides the pool among
/// users.
const HUGE_PAGES: [(libc::c_long, u8, u64); 2] =
    [(libc::SYS_mmap, 3, 0x4_0000), (libc::SYS_shmget, 2, 0o4000)];

/// Compiles the filters, in the order in which [`install`] installs them. The kernel runs all
/// filters for each call. The filters of an audit allow every socket family.
///
/// # Errors
/// Fails if a filter does not compile, which would be a bug.
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
        let rules = SET_ID_BITS.map(|bit| rule(vec![masked(*mode, bit)?]));
        refused.insert(*call, rules.into_iter().collect::<Result<_, _>>()?);
    }
    for (call, flags) in OPENING {
        let mut rules = Vec::new();
        for flag in CREATING_FLAGS {
            for bit in SET_ID_BITS {
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

    // A limit of 1 keeps the kernel from passing a dump to a program of the host (core(5)); a limit
    // of 0 does not. Programs that want no dumps set the limit to 0, and some programs exit if that
    // fails. The filter therefore makes the call appear to succeed.
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

/// Permanently installs [`filters`] on the calling thread.
///
/// # Order
/// Call this after `no_new_privs` is set and after all system calls that the filters deny.
///
/// # Errors
/// Fails if a filter cannot be compiled, or if `seccomp(2)` fails.
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

/// Matches an argument in which all bits of `mask` are set.
fn masked(arg: u8, mask: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    condition(arg, SeccompCmpOp::MaskedEq(mask), mask)
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(conditions)
}

/// Matches a call whose first argument has any of the namespace flags.
fn namespace_rules() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    NAMESPACES
        .iter()
        .map(|flag| u64::from(flag.unsigned_abs()))
        // CLONE_NEWTIME shares its bit with the exit signal of clone. Only `unshare` accepts CLONE_NEWTIME, which
        // requires a capability.
        .map(|flag| rule(vec![condition(0, SeccompCmpOp::MaskedEq(flag), flag)?]))
        .collect()
}

/// Matches every family that is not listed, and every netlink protocol except ROUTE.
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

/// Builds the filter that returns `ENOSYS` for unreviewed numbers. Unreviewed numbers are the numbers above `newest`,
/// and the numbers between the architecture's `own` numbers and the `shared` numbers. Numbers above `newest` include
/// calls of newer kernels and the x32 calls of x86-64. `seccompiler` does not distinguish x32 calls from native calls
/// (same audit architecture, bit 30 of the number set). An i386 call kills the process, because the other filters check
/// the architecture first.
fn reviewed(own: i64, shared: i64, newest: i64) -> BpfProgram {
    const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
    const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const ALLOW: u32 = 0x7fff_0000; // SECCOMP_RET_ALLOW
    const ERRNO: u32 = 0x0005_0000; // SECCOMP_RET_ERRNO
    let op = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    // A number that does not fit into 32 bits becomes 0, so that no call passes.
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

/// Computes the digest of the filters.
///
/// # Errors
/// Returns the errors of [`filters`].
pub fn digest(is_audit: bool) -> Result<String, seccompiler::BackendError> {
    Ok(egress_sys::filter::digest(&filters(is_audit)?))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::errno::Errno;
    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    /// Returns the kernel's answers to an existing call, before and after filtering all numbers
    /// above `newest`.
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

    /// Returns the program's answer to a call number. Implements the part of classic BPF that the number filter uses.
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

    /// Claims: denied-calls, new-calls*
    #[test]
    fn calls_without_a_decision_do_not_exist() {
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
