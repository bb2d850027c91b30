//! Drops the privileges of a helper process, and checks the result with the values that the kernel reports.
//!
//! Claims: not-root, read-proc
use std::fmt;
use std::io;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, getppid, setgroups, setresgid, setresuid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, capabilities, capability_is_in_bounding_set, remove_capability_from_bounding_set,
};
use serde::{Deserialize, Serialize};

use crate::kernel_file;
use crate::process::alone;

/// The privileges of a process, as the kernel reports them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enforced {
    /// `NoNewPrivs`: whether it is set.
    pub no_new_privs: bool,
    /// `Seccomp`: the mode, where 2 means that filters are installed.
    pub seccomp_mode: u8,
    /// `Seccomp_filters`: the number of filters.
    pub seccomp_filters: u32,
    /// Union of the effective, permitted, inheritable, bounding, and ambient sets; 0 means that all sets are empty.
    pub capabilities: u64,
    /// The user id. The real, effective, saved, and file system user ids are the same.
    pub uid: u32,
}

impl fmt::Display for Enforced {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "uid {}, capabilities {:#x}, no_new_privs {}, seccomp mode {} with {} filters",
            self.uid, self.capabilities, self.no_new_privs, self.seccomp_mode, self.seccomp_filters
        )
    }
}

/// Permanently becomes `uid`:`gid`, without supplementary groups or capabilities, with an empty
/// bounding set and `no_new_privs`. The kernel will kill the process when its parent dies.
///
/// # Order
/// Call this after everything that needs root is open, and before reading the first byte from the
/// command.
///
/// # Errors
/// Fails if a system call fails, a capability is left, the process has more than one thread
/// (other threads would keep their capabilities), or `parent` is no longer the parent because it
/// died before the death signal was armed.
pub fn drop_to(uid: u32, gid: u32, parent: Pid) -> io::Result<()> {
    if uid == 0 || gid == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "cannot drop privileges to uid 0 or gid 0",
        ));
    }
    alone()?;
    clear_bounding_set()?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    prctl::set_no_new_privs()?;
    prctl::set_dumpable(false)?;
    // Changing ids clears the death signal, so it is armed last and the parent is compared
    // afterwards.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        return Err(io::Error::other(
            "the supervisor ended while this process was starting",
        ));
    }
    check_dropped()
}

/// Empties the capability bounding set, so that no file capability or setuid binary can restore a
/// capability.
///
/// # Errors
/// Returns `EPERM` without `CAP_SETPCAP`.
fn clear_bounding_set() -> io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            // The number is above the last capability of this kernel.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Fails unless every capability set is empty and `no_new_privs` is set.
fn check_dropped() -> io::Result<()> {
    let status = status()?;
    if status.capabilities != 0 || !status.no_new_privs {
        return Err(io::Error::other(format!(
            "the process still has privileges: {status}"
        )));
    }
    Ok(())
}

/// Reads the privileges of the calling process (`/proc/self/status`, proc(5)).
///
/// # Errors
/// Fails if the file cannot be read or lacks a field.
pub fn status() -> io::Result<Enforced> {
    parse(&kernel_file::text("/proc/self/status")?)
}

/// Reads the privileges of another process. Returns `None` if the process no longer exists. If the
/// file cannot be parsed, the process counts as fully privileged. The file contains the process's
/// name, which may contain any bytes.
pub fn status_of(pid: u32) -> Option<Enforced> {
    let text = match std::fs::read(format!("/proc/{pid}/status")) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
            return None;
        }
        read => read.unwrap_or_default(),
    };
    Some(parse(&String::from_utf8_lossy(&text)).unwrap_or(Enforced {
        no_new_privs: false,
        seccomp_mode: 0,
        seccomp_filters: 0,
        capabilities: u64::MAX,
        uid: 0,
    }))
}

/// Names of the capabilities in `wanted` that the calling process lacks. `wanted` holds their
/// numbers (capabilities(7)) and names.
///
/// # Errors
/// Returns the error of `capget(2)`.
pub fn lacking(wanted: &[(u32, &'static str)]) -> io::Result<Vec<&'static str>> {
    let held = capabilities(None)?.effective.bits();
    let lacks = |number: u32| held.unbounded_shr(number) & 1 == 0;
    let missing = wanted.iter().filter(|(number, _)| lacks(*number));
    Ok(missing.map(|(_, name)| *name).collect())
}

fn parse(text: &str) -> io::Result<Enforced> {
    let field = |name: &str| {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name));
        value
            .map(str::trim)
            .ok_or_else(|| io::Error::other(format!("/proc/PID/status has no {name}")))
    };
    let number = |name: &str| field(name)?.parse::<u32>().map_err(io::Error::other);
    let mut capabilities = 0;
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        capabilities |= u64::from_str_radix(field(set)?, 16).map_err(io::Error::other)?;
    }
    let uids: Vec<&str> = field("Uid:")?.split_ascii_whitespace().collect();
    let uid = match uids.as_slice() {
        [first, rest @ ..] if rest.iter().all(|uid| uid == first) => {
            first.parse().map_err(io::Error::other)?
        }
        _ => {
            return Err(io::Error::other(format!(
                "the user ids of the process differ: {}",
                uids.join(" ")
            )));
        }
    };
    Ok(Enforced {
        no_new_privs: number("NoNewPrivs:")? == 1,
        seccomp_mode: u8::try_from(number("Seccomp:")?).unwrap_or(u8::MAX),
        // Kernels before Linux 5.9 do not count the filters.
        seccomp_filters: number("Seccomp_filters:").unwrap_or_default(),
        capabilities,
        uid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &[u8] = b"Name:\tx\nUid:\t7\t7\t7\t7\nGid:\t7\t7\t7\t7\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t5\n";

    /// Claims: read-proc
    #[test]
    fn process_with_a_name_of_any_bytes_is_seen() {
        let wanted = status().unwrap();
        for name in [c"plain", c"\xff\n\xc3"] {
            let name = name.to_owned();
            let found = std::thread::spawn(move || {
                prctl::set_name(&name).unwrap();
                status_of(nix::unistd::gettid().as_raw().cast_unsigned())
            });
            assert_eq!(found.join().unwrap().as_ref(), Some(&wanted));
        }
        assert_eq!(status_of(u32::MAX), None);
    }

    /// Claims: read-proc*
    #[test]
    fn what_cannot_be_understood_is_not_taken_for_dropped() {
        let whole = parse(std::str::from_utf8(SOUND).unwrap()).unwrap();
        assert_eq!(
            (whole.capabilities, whole.no_new_privs, whole.uid),
            (0, true, 7)
        );
        let words: [&[u8]; 5] = [b"\n", b"\t8", b"f", b"CapEff:\t1\n", b"-1"];
        let mut numbers = egress_test_support::mutate::Numbers::new(13);
        for _ in 0..20_000 {
            let bytes = numbers.mutated(&[SOUND], &words);
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(enforced) = parse(&text)
                && enforced == whole
            {
                // Each set is present and empty.
                for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
                    let line = text
                        .lines()
                        .find_map(|line| line.strip_prefix(set))
                        .unwrap();
                    assert!(
                        line.trim()
                            .bytes()
                            .all(|digit| digit == b'0' || digit == b'+'),
                        "{text}"
                    );
                }
            }
        }
    }
}
