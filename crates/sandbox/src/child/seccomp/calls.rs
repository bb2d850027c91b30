//! The table of system calls: decisions on some older calls, and a decision on each newer call. [`super::filters`] also
//! denies some arguments of calls that are not in the table.
//!
//! `docs/system-calls.md` contains the same table; a test compares the two.
//!
//! Claims: calls, new-calls

/// The filter's answer to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The filter allows the call.
    Allowed,
    /// The answer depends on the arguments; [`super::filters`] has the rules.
    Arguments,
    /// The call returns `ENOSYS`. Programs then fall back to the older calls.
    Missing,
    /// The call returns `EPERM`, because programs have no fallback for it.
    Refused,
}

/// The decision on one call.
#[derive(Debug)]
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "the test of the documentation reads names and reasons"
    )
)]
pub(super) struct Call {
    /// Name without `SYS_`.
    pub(super) name: &'static str,
    /// Number on this architecture, or `None` if the architecture does not have the call.
    pub(super) number: Option<i64>,
    pub(super) answer: Answer,
    /// The reason, as the documentation prints it.
    pub(super) why: &'static str,
}

/// The first number that stands for the same call on x86-64 and on 64-bit Arm. Every number from this one to [`NEWEST`] has a
/// row.
pub(super) const SHARED: i64 = 424;
/// The newest call with a row. Calls that a newer kernel adds do not exist for the command until they are reviewed.
pub(super) const NEWEST: i64 = 471;
/// The newest call among the architecture's own numbers. No call has a number between it and
/// [`SHARED`].
pub(super) const NEWEST_OWN: i64 = if cfg!(target_arch = "x86_64") {
    336 // uprobe and uretprobe: the kernel itself inserts these calls into a traced process.
} else {
    294 // kexec_file_load
};

const fn call(name: &'static str, number: i64, answer: Answer, why: &'static str) -> Call {
    let number = Some(number);
    Call {
        name,
        number,
        answer,
        why,
    }
}

/// Builds the row of a call that only x86-64 has.
const fn x86(name: &'static str, number: i64, answer: Answer, why: &'static str) -> Call {
    let number = if cfg!(target_arch = "x86_64") {
        Some(number)
    } else {
        None
    };
    Call {
        name,
        number,
        answer,
        why,
    }
}

/// The libc crate defines this number only for some C libraries (`<asm/unistd.h>`).
const KEXEC_FILE_LOAD: i64 = if cfg!(target_arch = "x86_64") {
    320
} else {
    294
};

use Answer::{Allowed, Arguments, Missing, Refused};

const MOUNTS: &str = "creates or changes mounts, which belong to the boundary";
const IO_URING: &str = "io_uring operations, including those on sockets, bypass the filters";
const KEYS: &str =
    "kernel keys can outlive the command, and all users of the machine share their table";
const MACHINE: &str =
    "acts on the machine, not only on the command; most uses require a capability";
const FANOTIFY: &str = "reports how other programs use files";
const QUOTAS: &str = "file system quotas belong to the machine";
const HANDLES: &str = "handles open files without passing through their directories";
const LANDLOCK: &str =
    "only removes rights from the caller; programs sandbox themselves with Landlock";
const FUTEX: &str = "waits and wakes on the caller's own memory";
const STATMOUNT: &str = "returns the properties of the mount with a given ID; programs fall back to `/proc/self/mountinfo`";
const LISTMOUNT: &str = "lists the IDs of mounts; programs fall back to `/proc/self/mountinfo`";
const XATTR_AT: &str = "does the same as the older call, with a path below a directory descriptor";
const OWN_PROCESS: &str = "reaches only processes that the command can see, with the rights that kill(2) or ptrace(2) requires";

/// The decisions on older calls that the filters deny always or by their arguments, and on every call from [`SHARED`]
/// to [`NEWEST`].
pub(super) const CALLS: &[Call] = &[
    call("acct", libc::SYS_acct, Refused, MACHINE),
    call("add_key", libc::SYS_add_key, Refused, KEYS),
    call(
        "adjtimex",
        libc::SYS_adjtimex,
        Refused,
        "reads or adjusts the clock of the machine; an adjustment also requires a capability",
    ),
    call(
        "bpf",
        libc::SYS_bpf,
        Refused,
        "loads kernel programs; the boundary uses such programs",
    ),
    call(
        "chroot",
        libc::SYS_chroot,
        Refused,
        "replaces the root directory, which belongs to the boundary",
    ),
    call(
        "clock_adjtime",
        libc::SYS_clock_adjtime,
        Refused,
        "reads or adjusts a clock of the machine; an adjustment also requires a capability",
    ),
    call("clock_settime", libc::SYS_clock_settime, Refused, MACHINE),
    call("delete_module", libc::SYS_delete_module, Refused, MACHINE),
    call("fanotify_init", libc::SYS_fanotify_init, Refused, FANOTIFY),
    call("fanotify_mark", libc::SYS_fanotify_mark, Refused, FANOTIFY),
    call("finit_module", libc::SYS_finit_module, Refused, MACHINE),
    call("init_module", libc::SYS_init_module, Refused, MACHINE),
    call(
        "io_setup",
        libc::SYS_io_setup,
        Missing,
        "all users share one table (`fs.aio-max-nr`), which has no limit for one user; databases and nginx work without io_setup",
    ),
    call(
        "kcmp",
        libc::SYS_kcmp,
        Refused,
        "compares kernel objects of two processes",
    ),
    call("kexec_file_load", KEXEC_FILE_LOAD, Refused, MACHINE),
    call("kexec_load", libc::SYS_kexec_load, Refused, MACHINE),
    call("keyctl", libc::SYS_keyctl, Refused, KEYS),
    call("lookup_dcookie", libc::SYS_lookup_dcookie, Refused, MACHINE),
    x86(
        "modify_ldt",
        154,
        Missing,
        "creates segments for 16-bit and 32-bit code, which the filters kill at its first system call; some kernels do not have modify_ldt",
    ),
    call("mount", libc::SYS_mount, Refused, MOUNTS),
    call(
        "name_to_handle_at",
        libc::SYS_name_to_handle_at,
        Refused,
        HANDLES,
    ),
    call(
        "open_by_handle_at",
        libc::SYS_open_by_handle_at,
        Refused,
        HANDLES,
    ),
    call(
        "perf_event_open",
        libc::SYS_perf_event_open,
        Refused,
        "measures the machine and the kernel",
    ),
    call(
        "personality",
        libc::SYS_personality,
        Arguments,
        "allows the query and the values that setarch(8), linux32, and debuggers set: fixed addresses, another `uname`",
    ),
    call("pivot_root", libc::SYS_pivot_root, Refused, MOUNTS),
    call("quotactl", libc::SYS_quotactl, Refused, QUOTAS),
    call("reboot", libc::SYS_reboot, Refused, MACHINE),
    call("request_key", libc::SYS_request_key, Refused, KEYS),
    call(
        "sethostname",
        libc::SYS_sethostname,
        Refused,
        "changes the host name of the boundary; also requires a capability",
    ),
    call("setns", libc::SYS_setns, Refused, "enters other namespaces"),
    call("settimeofday", libc::SYS_settimeofday, Refused, MACHINE),
    call("swapoff", libc::SYS_swapoff, Refused, MACHINE),
    call("swapon", libc::SYS_swapon, Refused, MACHINE),
    call(
        "syslog",
        libc::SYS_syslog,
        Refused,
        "reads or clears the kernel log of the machine",
    ),
    call("umount2", libc::SYS_umount2, Refused, MOUNTS),
    call(
        "userfaultfd",
        libc::SYS_userfaultfd,
        Refused,
        "can stop the kernel in the middle of a copy; some exploits rely on this",
    ),
    call(
        "vhangup",
        libc::SYS_vhangup,
        Refused,
        "hangs up the caller's terminal; also requires a capability",
    ),
    // One row for each shared number.
    call("pidfd_send_signal", 424, Allowed, OWN_PROCESS),
    call("io_uring_setup", 425, Missing, IO_URING),
    call("io_uring_enter", 426, Missing, IO_URING),
    call("io_uring_register", 427, Missing, IO_URING),
    call("open_tree", 428, Refused, MOUNTS),
    call("move_mount", 429, Refused, MOUNTS),
    call("fsopen", 430, Refused, MOUNTS),
    call("fsconfig", 431, Refused, MOUNTS),
    call("fsmount", 432, Refused, MOUNTS),
    call("fspick", 433, Refused, MOUNTS),
    call("pidfd_open", 434, Allowed, OWN_PROCESS),
    call(
        "clone3",
        435,
        Missing,
        "its flags are in memory, where a filter cannot read them; libraries fall back to clone",
    ),
    call(
        "close_range",
        436,
        Allowed,
        "closes the caller's own descriptors",
    ),
    call(
        "openat2",
        437,
        Missing,
        "its mode is in memory, where a filter cannot read it; programs fall back to openat",
    ),
    call("pidfd_getfd", 438, Allowed, OWN_PROCESS),
    call(
        "faccessat2",
        439,
        Allowed,
        "checks the caller's access to a file",
    ),
    call(
        "process_madvise",
        440,
        Refused,
        "advises the kernel about the memory of another process, for example to page it out",
    ),
    call(
        "epoll_pwait2",
        441,
        Allowed,
        "does the same as epoll_pwait, with a finer timeout",
    ),
    call("mount_setattr", 442, Refused, MOUNTS),
    call("quotactl_fd", 443, Refused, QUOTAS),
    call("landlock_create_ruleset", 444, Allowed, LANDLOCK),
    call("landlock_add_rule", 445, Allowed, LANDLOCK),
    call("landlock_restrict_self", 446, Allowed, LANDLOCK),
    call(
        "memfd_secret",
        447,
        Missing,
        "removes its pages from the kernel's direct map, which slows down the whole machine and prevents hibernation",
    ),
    call("process_mrelease", 448, Allowed, OWN_PROCESS),
    call("futex_waitv", 449, Allowed, FUTEX),
    call(
        "set_mempolicy_home_node",
        450,
        Allowed,
        "sets where the caller's own memory is placed, like mbind(2)",
    ),
    call(
        "cachestat",
        451,
        Missing,
        "shows which files other users read; on older kernels, cachestat works with any file that the caller can open",
    ),
    call(
        "fchmodat2",
        452,
        Arguments,
        "a set-user-id or set-group-id mode is denied, as for chmod",
    ),
    call(
        "map_shadow_stack",
        453,
        Allowed,
        "maps a shadow stack, which only protects the caller; makecontext(3) of the C library needs the call",
    ),
    call("futex_wake", 454, Allowed, FUTEX),
    call("futex_wait", 455, Allowed, FUTEX),
    call("futex_requeue", 456, Allowed, FUTEX),
    call("statmount", 457, Missing, STATMOUNT),
    call("listmount", 458, Missing, LISTMOUNT),
    call(
        "lsm_get_self_attr",
        459,
        Allowed,
        "reads the same data as `/proc/self/attr`",
    ),
    call(
        "lsm_set_self_attr",
        460,
        Missing,
        "changes the label by which security modules judge the caller; only logins and container engines need the call",
    ),
    call(
        "lsm_list_modules",
        461,
        Allowed,
        "names the kernel's security modules",
    ),
    call(
        "mseal",
        462,
        Allowed,
        "makes mappings of the caller's own memory unchangeable",
    ),
    call("setxattrat", 463, Allowed, XATTR_AT),
    call("getxattrat", 464, Allowed, XATTR_AT),
    call("listxattrat", 465, Allowed, XATTR_AT),
    call("removexattrat", 466, Allowed, XATTR_AT),
    call("open_tree_attr", 467, Refused, MOUNTS),
    call(
        "file_getattr",
        468,
        Allowed,
        "reads flags of a file, like lsattr(1)",
    ),
    call(
        "file_setattr",
        469,
        Missing,
        "changes the quota of a file and the case sensitivity of names in a directory; the older ioctl requests for this are denied",
    ),
    call("listns", 470, Missing, "lists namespaces of the machine"),
    call(
        "rseq_slice_yield",
        471,
        Allowed,
        "ends the caller's own time slice",
    ),
];

/// Returns the numbers of all calls that get `answer`.
pub(super) fn answered(answer: Answer) -> impl Iterator<Item = i64> {
    CALLS
        .iter()
        .filter(move |call| call.answer == answer)
        .filter_map(|call| call.number)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn each_shared_number_is_decided_once() {
        let shared: Vec<i64> = CALLS
            .iter()
            .filter_map(|call| call.number.filter(|number| *number >= SHARED))
            .collect();
        assert_eq!(shared, (SHARED..=NEWEST).collect::<Vec<_>>());
        let mut own: Vec<i64> = CALLS.iter().filter_map(|call| call.number).collect();
        let all = own.len();
        own.sort_unstable();
        own.dedup();
        assert_eq!(own.len(), all, "a call has two rows");
        assert!(
            !own.iter()
                .any(|number| (NEWEST_OWN + 1..SHARED).contains(number))
        );
    }

    #[test]
    fn numbers_are_those_of_the_c_library() {
        // Calls for which the table contains a literal number although libc defines a name.
        for (name, number) in [
            ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
            ("io_uring_register", libc::SYS_io_uring_register),
            ("open_tree", libc::SYS_open_tree),
            ("fspick", libc::SYS_fspick),
            ("clone3", libc::SYS_clone3),
            ("openat2", libc::SYS_openat2),
            ("process_madvise", libc::SYS_process_madvise),
            ("mount_setattr", libc::SYS_mount_setattr),
            ("quotactl_fd", libc::SYS_quotactl_fd),
            ("landlock_restrict_self", libc::SYS_landlock_restrict_self),
            #[cfg(target_arch = "x86_64")]
            ("modify_ldt", libc::SYS_modify_ldt),
        ] {
            let row = CALLS.iter().find(|call| call.name == name).unwrap();
            assert_eq!(row.number, Some(number), "{name}");
        }
    }

    /// Claims: denied-calls, add-call
    #[test]
    fn documentation_has_the_table() {
        let mut table = String::from("| call | number | answer | reason |\n|---|---|---|---|\n");
        for call in CALLS {
            let number = call.number.filter(|number| *number >= SHARED);
            let number = number.map_or_else(|| String::from("–"), |number| number.to_string());
            let answer = match call.answer {
                Allowed => "allowed",
                Arguments => "by its arguments",
                Missing => "`ENOSYS`",
                Refused => "`EPERM`",
            };
            let (name, why) = (call.name, call.why);
            writeln!(table, "| `{name}` | {number} | {answer} | {why} |").unwrap();
        }
        let docs = include_str!("../../../../../docs/system-calls.md");
        assert!(
            docs.contains(&table),
            "docs/system-calls.md needs this table:\n{table}"
        );
        let newest = format!("above {NEWEST}");
        assert!(
            docs.contains(&newest),
            "docs/system-calls.md does not contain `{newest}`"
        );
    }
}
