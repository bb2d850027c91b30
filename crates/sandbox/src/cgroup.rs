//! The cgroups of a run: `egress-<run>` with `agent`, `relay`, and `mediator` below it.
use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use egress_sys::{kernel_file, xattr};

use super::mountinfo;

/// One cgroup v2 directory. Dropping the guard kills the processes in the cgroup and removes the directory.
#[derive(Debug)]
pub struct CgroupGuard {
    path: PathBuf,
    dir: File,
}

/// The extended attribute that records the owner of a cgroup.
const MARK: &CStr = c"trusted.egress.owner";
/// Prefix of the name of a run's cgroup.
const PREFIX: &str = "egress-";
/// The time within which a killed cgroup must become empty.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);

impl CgroupGuard {
    fn create(path: PathBuf) -> io::Result<Self> {
        fs::create_dir(&path)?;
        let dir = File::open(&path)?;
        Ok(Self { path, dir })
    }

    /// Marks the cgroup as belonging to `owner`, so that a later run can identify it.
    ///
    /// # Errors
    /// Returns the error of `fsetxattr(2)`.
    pub fn mark(&self, owner: &str) -> io::Result<()> {
        xattr::set(&self.dir, MARK, owner.as_bytes())
    }

    /// Returns the path of the cgroup's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Kills every process in the cgroup, including new forks.
    ///
    /// # Errors
    /// Returns `NotFound` before Linux 5.14, because older kernels lack `cgroup.kill`.
    pub fn kill(&self) -> io::Result<()> {
        kill(&self.path)
    }

    /// Whether this cgroup or a cgroup below it contains a process that is not a zombie.
    ///
    /// # Errors
    /// Fails if `cgroup.events` cannot be read.
    pub fn is_populated(&self) -> io::Result<bool> {
        is_populated(&self.path)
    }

    /// Ids of the processes in the cgroup, in the caller's pid namespace.
    ///
    /// # Errors
    /// Fails if `cgroup.procs` cannot be read.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        let list = kernel_file::text(self.path.join("cgroup.procs"))?;
        Ok(list.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Waits until no process is left.
    ///
    /// # Errors
    /// Returns `TimedOut` if a process is still left after five seconds. Also fails if `cgroup.events` cannot be read.
    pub fn wait_empty(&self) -> io::Result<()> {
        wait_empty(&self.path)
    }
}

fn kill(path: &Path) -> io::Result<()> {
    fs::write(path.join("cgroup.kill"), "1")
}

fn is_populated(path: &Path) -> io::Result<bool> {
    Ok(kernel_file::text(path.join("cgroup.events"))?.contains("populated 1"))
}

fn wait_empty(path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + EMPTY_WITHIN;
    while is_populated(path)? {
        if Instant::now() > deadline {
            let path = path.display();
            let text = format!("processes in {path} are still running 5 s after cgroup.kill");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

impl AsFd for CgroupGuard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Drop for CgroupGuard {
    fn drop(&mut self) {
        // `drop` cannot return an error. If killing fails, the run's directory and the cgroup stay,
        // and `egress doctor` reports both.
        if self.is_populated().unwrap_or(false) {
            drop(self.kill());
            drop(self.wait_empty());
        }
        drop(remove_dir(&self.path));
    }
}

/// Returns the caller's own cgroup below `root`, read from the text of `/proc/self/cgroup`.
pub(super) fn own_cgroup(root: &Path, text: &str) -> PathBuf {
    let own = text
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap_or_default()
        // Remove further slashes, because `join` would replace `root` with a path that begins with
        // a slash.
        .trim_start_matches('/');
    // With a path of `/..`, the caller's cgroup is outside its cgroup namespace.
    if own.starts_with("..") {
        root.to_path_buf()
    } else {
        root.join(own)
    }
}

/// Returns the nearest cgroup from `own` upward that delegates the pids and memory controllers, or `own` if no cgroup
/// delegates both.
pub(super) fn nearest<'p>(root: &Path, own: &'p Path) -> &'p Path {
    own.ancestors()
        .take_while(|dir| dir.starts_with(root))
        .find(|dir| {
            let list = dir.join("cgroup.subtree_control");
            lists_controller(&list, "pids") && lists_controller(&list, "memory")
        })
        .unwrap_or(own)
}

/// Whether the file `list` contains the name of the controller `word`.
pub(super) fn lists_controller(list: &Path, word: &str) -> bool {
    fs::read_to_string(list).is_ok_and(|text| text.split_whitespace().any(|one| one == word))
}

/// Returns the name of a run's cgroup: `egress-<run id>`.
pub fn name(run_id: &str) -> String {
    format!("{PREFIX}{run_id}")
}

/// Returns the run id in the name of a run's cgroup.
pub fn run_of(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)
}

/// Finds the cgroups of all runs that are marked with `owner`. The name alone is not enough, because runs with other
/// state directories, such as runs in containers, create cgroups with names of the same form.
///
/// # Errors
/// Fails if no cgroup v2 tree is mounted.
pub fn of_runs(owner: &str) -> io::Result<Vec<PathBuf>> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        // A cgroup that disappears during the search is skipped, because it no longer needs to be
        // removed.
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name();
            if name.to_str().and_then(run_of).is_some() {
                found.push(entry.path());
            } else {
                walk(&entry.path(), found);
            }
        }
    }
    let mounts = mountinfo::read()?;
    let mut found = Vec::new();
    walk(mountinfo::cgroup2_root(&mounts)?, &mut found);
    found.retain(|path| {
        let mark = File::open(path).ok().and_then(|dir| xattr::get(&dir, MARK));
        mark.as_deref() == Some(owner.as_bytes())
    });
    found.sort();
    Ok(found)
}

/// The treatment of processes that [`remove`] finds in a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupants {
    /// Kill the processes.
    Kill,
    /// Leave the processes alone, and do not remove the cgroup.
    Spare,
}

/// Removes a cgroup that is no longer in use, with all cgroups below it. A missing cgroup is not an
/// error.
///
/// # Errors
/// Fails if a process survives the kill, if the cgroup contains processes that must be spared, or if `path` is not a
/// cgroup.
pub fn remove(path: &Path, occupants: Occupants) -> io::Result<()> {
    use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
    let kind = match statfs(path) {
        Err(nix::errno::Errno::ENOENT) => return Ok(()),
        other => other?.filesystem_type(),
    };
    if kind != CGROUP2_SUPER_MAGIC {
        return Err(io::Error::other("the directory is not a cgroup"));
    }
    if is_populated(path)? {
        if occupants == Occupants::Spare {
            return Err(io::Error::other("the cgroup still contains processes"));
        }
        kill(path)?;
        wait_empty(path)?;
    }
    remove_below(path)
}

fn remove_below(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_below(&entry.path())?;
        }
    }
    remove_dir(path)
}

/// Removes an empty cgroup. `rmdir(2)` is retried for a second, because the last process takes some
/// microseconds to leave the cgroup, and longer on a busy machine.
///
/// # Errors
/// Returns the error of `rmdir(2)`. A missing directory is not an error.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    let mut left = 1_000;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && left > 0 => {
                left -= 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => return done,
        }
    }
}

/// The cgroups of one run. Fields are dropped in the order of their declaration, so the children
/// are dropped before the parent.
#[derive(Debug)]
pub struct RunCgroups {
    /// Contains the boundary's init, the probes, and the command.
    pub agent: CgroupGuard,
    /// Contains the relay.
    pub relay: CgroupGuard,
    /// Contains the mediator.
    pub mediator: CgroupGuard,
    /// The parent of the other three cgroups, `egress-<run>`.
    pub run: CgroupGuard,
}

impl RunCgroups {
    /// Returns the path for a run's cgroup. The path is below the nearest cgroup, from the caller's own upward, that
    /// delegates the pids and memory controllers. If there is no such cgroup, the path is below the caller's own
    /// cgroup. The caller's own cgroup cannot start to delegate controllers, because the cgroup contains this process.
    /// In either place, the run ends when this process ends or the caller's service ends.
    ///
    /// # Errors
    /// Fails if no cgroup v2 tree is mounted.
    pub fn place(run_id: &str) -> io::Result<PathBuf> {
        let mounts = mountinfo::read()?;
        let root = mountinfo::cgroup2_root(&mounts)?;
        let base = own_cgroup(root, &kernel_file::text("/proc/self/cgroup")?);
        Ok(nearest(root, &base).join(name(run_id)))
    }

    /// Creates the run's cgroup at `place` and the three cgroups below it.
    ///
    /// # Errors
    /// Fails if one of the directories cannot be created.
    pub fn create(place: PathBuf) -> io::Result<Self> {
        let run = CgroupGuard::create(place)?;
        let below = |name: &str| CgroupGuard::create(run.path.join(name));
        Ok(Self {
            agent: below("agent")?,
            relay: below("relay")?,
            mediator: below("mediator")?,
            run,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: cgroup-place
    #[test]
    fn own_cgroup_is_below_the_root_whatever_the_text_is() {
        let root = Path::new("/sys/fs/cgroup");
        for (text, below) in [
            ("1:name=systemd:/x\n0::/user.slice/a\n", "user.slice/a"),
            ("0::/\n", ""),
            ("0::/../other\n", ""),
            ("0:://etc\n", "etc"),
            ("", ""),
        ] {
            assert_eq!(own_cgroup(root, text), root.join(below), "{text:?}");
        }
    }
}
