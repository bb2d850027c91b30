//! Leases the user ids of a run, under a lock, from a range that systemd does not allocate.
//!
//! Claims: table-per-user
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

/// First id of the range: 1879048192 to 2147483647 is unused by systemd's allocation
/// (<https://systemd.io/UIDS-GIDS/>, "Summary") and below the ids that some programs read as negative.
const FIRST_ID: u32 = 1_879_048_192;
/// Number of ids for each run.
const IDS_PER_RUN: u32 = 4;
/// The maximum number of runs at a time on one machine.
const SLOTS: u32 = 1_024;

/// Name of the command's user inside the boundary.
pub const AGENT_NAME: &str = "pipelock-agent";

/// Three users for one run. No other run gets these users until this value is dropped.
#[derive(Debug)]
pub struct UserLease {
    /// User and group id of `pipelock-agent`.
    pub agent: u32,
    /// User and group id of `pipelock-host`.
    pub host: u32,
    /// User and group id of `pipelock-relay`.
    pub relay: u32,
    _lock: Flock<File>,
}

impl UserLease {
    /// Takes the first free slot below `state` (`/run/egress`). A slot is skipped while a process
    /// still has one of its ids, because a process that another run left is not trusted.
    ///
    /// # Errors
    /// Fails if the lock files cannot be created or all slots are taken.
    pub fn acquire(state: &Path) -> io::Result<Self> {
        let dir = state.join("users");
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        let in_use = live_uids()?;
        for slot in 0..SLOTS {
            let base = FIRST_ID + slot * IDS_PER_RUN;
            if in_use
                .iter()
                .any(|uid| (base..base + IDS_PER_RUN).contains(uid))
            {
                continue;
            }
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(dir.join(slot.to_string()))?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    return Ok(Self {
                        agent: base,
                        host: base + 1,
                        relay: base + 2,
                        _lock: lock,
                    });
                }
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => {}
                Err((_, error)) => return Err(error.into()),
            }
        }
        Err(io::Error::other(format!(
            "all {SLOTS} sets of user ids are used by other runs; wait until one ends, or end leftover processes with these ids"
        )))
    }
}

/// Returns the fourth id of a run whose command has the user id `agent`. No process ever has this
/// id, so only root can access files of this id, even where a mount exchanges the ids of the
/// command and the workspace's owner.
pub fn nobody(agent: u32) -> u32 {
    agent.saturating_add(IDS_PER_RUN - 1)
}

/// Returns the real user ids of all processes that are in the reserved range.
fn live_uids() -> io::Result<Vec<u32>> {
    use std::os::unix::fs::MetadataExt;
    let mut uids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        if !entry
            .file_name()
            .as_encoded_bytes()
            .iter()
            .all(u8::is_ascii_digit)
        {
            continue;
        }
        // A process that has ended since the listing does not matter.
        if let Ok(meta) = entry.metadata()
            && meta.uid() >= FIRST_ID
        {
            uids.push(meta.uid());
        }
    }
    Ok(uids)
}

/// Returns the text of `/etc/passwd` inside the boundary. No user except the command's could log in.
pub fn passwd(agent: u32, home: &str) -> String {
    format!(
        "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n\
         {AGENT_NAME}:x:{agent}:{agent}:{AGENT_NAME}:{home}:/bin/bash\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    )
}

/// Returns the text of `/etc/group` inside the boundary.
pub fn group(agent: u32) -> String {
    format!("root:x:0:\ntty:x:5:\n{AGENT_NAME}:x:{agent}:\nnogroup:x:65534:\n")
}
