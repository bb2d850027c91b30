//! Gives up every privilege of a helper process, and reads back that it did.
use std::io;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, getppid, setgroups, setresgid, setresuid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, capabilities, capability_is_in_bounding_set, remove_capability_from_bounding_set,
};
use serde::{Deserialize, Serialize};

use crate::process::alone;

/// What holds for a process, as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enforced {
    /// `NoNewPrivs`.
    pub no_new_privs: bool,
    /// `Seccomp` mode: 2 is a filter.
    pub seccomp_mode: u8,
    /// `Seccomp_filters`: how many.
    pub seccomp_filters: u32,
    /// Effective, permitted, inheritable, bounding and ambient sets, or-ed; 0 is none.
    pub capabilities: u64,
    /// Real, effective, saved and file system user id, which are all the same.
    pub uid: u32,
}

/// Becomes `uid`:`gid` for good: no supplementary groups, an empty bounding set, no capabilities,
/// `no_new_privs`, and death with the parent.
///
/// # Order
/// After everything that needs root is open; before the first byte from the agent is read.
///
/// # Errors
/// When a call fails, when a capability is left, when this process has more than one thread (others would keep theirs),
/// or when `parent` is no longer the parent (it died before the death signal was armed).
pub fn drop_to(uid: u32, gid: u32, parent: Pid) -> io::Result<()> {
    if uid == 0 || gid == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "refusing to keep uid or gid 0",
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
    // Changing ids clears the death signal, so it is armed last, and the parent compared after.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        return Err(io::Error::other(
            "the supervisor ended while this process was starting",
        ));
    }
    check_dropped()
}

/// Empties the capability bounding set, so that no file capability or setuid binary gives one back.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`.
fn clear_bounding_set() -> io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            // Past the last capability of this kernel.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Fails unless every capability set is empty and `no_new_privs` is on.
fn check_dropped() -> io::Result<()> {
    let status = status()?;
    if status.capabilities != 0 || !status.no_new_privs {
        return Err(io::Error::other(format!("privileges are left: {status:?}")));
    }
    Ok(())
}

/// What the kernel says of the calling process (`/proc/self/status`, proc(5)).
///
/// # Errors
/// When the file cannot be read or lacks a field.
pub fn status() -> io::Result<Enforced> {
    parse(&std::fs::read_to_string("/proc/self/status")?)
}

/// The same of another process; `None` when there is no such process any more. One whose words
/// cannot be understood has given up nothing. Its name, which is among them, may be any bytes.
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

/// Names of those of `wanted`, by their numbers (capabilities(7)), that the calling process does not hold.
///
/// # Errors
/// Those of `capget(2)`.
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
        _ => return Err(io::Error::other(format!("user ids differ: {uids:?}"))),
    };
    Ok(Enforced {
        no_new_privs: number("NoNewPrivs:")? == 1,
        seccomp_mode: u8::try_from(number("Seccomp:")?).unwrap_or(u8::MAX),
        // Older than Linux 5.9 does not count them.
        seccomp_filters: number("Seccomp_filters:").unwrap_or_default(),
        capabilities,
        uid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &[u8] = b"Name:\tx\nUid:\t7\t7\t7\t7\nGid:\t7\t7\t7\t7\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t5\n";

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

    #[test]
    fn what_cannot_be_understood_is_not_taken_for_dropped() {
        let whole = parse(std::str::from_utf8(SOUND).unwrap()).unwrap();
        assert_eq!(
            (whole.capabilities, whole.no_new_privs, whole.uid),
            (0, true, 7)
        );
        let words: [&[u8]; 5] = [b"\n", b"\t8", b"f", b"CapEff:\t1\n", b"-1"];
        let mut numbers = crate::mutate::Numbers::new(13);
        for _ in 0..20_000 {
            let bytes = numbers.mutated(&[SOUND], &words);
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(enforced) = parse(&text)
                && enforced == whole
            {
                // Each set is there, and is nothing.
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
