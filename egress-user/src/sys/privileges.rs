//! Gives up every privilege of a helper process, and reads back that it did.
use std::io;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, getppid, setgroups, setresgid, setresuid};

/// Becomes `uid`:`gid` for good: no supplementary groups, an empty bounding set, no capabilities,
/// `no_new_privs`, and death with the parent.
///
/// # Order
/// After everything that needs root is open; before the first byte from the agent is read.
///
/// # Errors
/// When a call fails, when a capability is left, or when `parent` is no longer the parent
/// (it died before the death signal was armed).
pub fn drop_to(uid: u32, gid: u32, parent: Pid) -> io::Result<()> {
    if uid == 0 || gid == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "refusing to keep uid or gid 0",
        ));
    }
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
pub fn clear_bounding_set() -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: PR_CAPBSET_READ takes one integer and no pointer.
        let held = unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) };
        if held < 0 {
            return Ok(()); // EINVAL: past the last capability of this kernel.
        }
        // SAFETY: PR_CAPBSET_DROP takes one integer and no pointer.
        if held == 1 && unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Reads `/proc/self/status` and fails unless every capability set is empty and `no_new_privs` is on.
fn check_dropped() -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map_or("", str::trim)
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        if field(set) != "0000000000000000" {
            return Err(io::Error::other(format!(
                "{set} {} is not empty",
                field(set)
            )));
        }
    }
    if field("NoNewPrivs:") != "1" {
        return Err(io::Error::other("no_new_privs did not stick"));
    }
    Ok(())
}
