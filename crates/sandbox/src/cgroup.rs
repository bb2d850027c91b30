//! The cgroups of a run: `egress-<run>` with `agent`, `relay` and `mediator` below it.
use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use egress_sys::xattr;

use super::mountinfo;

/// One cgroup v2 directory; killed and removed when dropped.
#[derive(Debug)]
pub struct CgroupGuard {
    path: PathBuf,
    dir: File,
}

/// Attribute that holds whose a cgroup is.
const MARK: &CStr = c"trusted.egress.owner";
/// Start of the name of a run's cgroup.
const PREFIX: &str = "egress-";
/// How long a killed cgroup may take to become empty.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);

impl CgroupGuard {
    fn create(path: PathBuf) -> io::Result<Self> {
        fs::create_dir(&path)?;
        let dir = File::open(&path)?;
        Ok(Self { path, dir })
    }

    /// Marks it as belonging to `owner`, for those who find it when the run is gone.
    ///
    /// # Errors
    /// Those of `fsetxattr(2)`.
    pub fn mark(&self, owner: &str) -> io::Result<()> {
        xattr::set(&self.dir, MARK, owner.as_bytes())
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Kills every process in it, new forks included.
    ///
    /// # Errors
    /// `NotFound` before Linux 5.14, which has no `cgroup.kill`.
    pub fn kill(&self) -> io::Result<()> {
        kill(&self.path)
    }

    /// Whether any process, zombies aside, is in it or below it.
    ///
    /// # Errors
    /// When `cgroup.events` cannot be read.
    pub fn is_populated(&self) -> io::Result<bool> {
        is_populated(&self.path)
    }

    /// Ids of the processes in it, as the caller's pid namespace has them.
    ///
    /// # Errors
    /// When the kernel's list cannot be read.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        let list = fs::read_to_string(self.path.join("cgroup.procs"))?;
        Ok(list.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Waits until no process is left.
    ///
    /// # Errors
    /// `TimedOut` when one still is after five seconds.
    pub fn wait_empty(&self) -> io::Result<()> {
        wait_empty(&self.path)
    }
}

fn kill(path: &Path) -> io::Result<()> {
    fs::write(path.join("cgroup.kill"), "1")
}

fn is_populated(path: &Path) -> io::Result<bool> {
    Ok(fs::read_to_string(path.join("cgroup.events"))?.contains("populated 1"))
}

fn wait_empty(path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + EMPTY_WITHIN;
    while is_populated(path)? {
        if Instant::now() > deadline {
            let path = path.display();
            let text = format!("processes in {path} outlived cgroup.kill by 5 s");
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
        // Nothing can be done about a failure here; the run's directory stays with the cgroup, and
        // `egress doctor` reports both.
        if self.is_populated().unwrap_or(false) {
            drop(self.kill());
            drop(self.wait_empty());
        }
        drop(remove_dir(&self.path));
    }
}

/// The caller's own cgroup below `root`, told by the text of `/proc/self/cgroup`.
pub(super) fn own(root: &Path, text: &str) -> PathBuf {
    let own = text
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap_or_default();
    // A path of `/..` shows that the caller's cgroup lies outside its cgroup namespace.
    if own.starts_with("..") {
        root.to_path_buf()
    } else {
        root.join(own)
    }
}

/// The nearest cgroup from `own` up that hands both controllers on; `own` where none does.
pub(super) fn nearest<'p>(root: &Path, own: &'p Path) -> &'p Path {
    own.ancestors()
        .take_while(|dir| dir.starts_with(root))
        .find(|dir| {
            let list = dir.join("cgroup.subtree_control");
            has(&list, "pids") && has(&list, "memory")
        })
        .unwrap_or(own)
}

/// Whether a list of controllers holds this one.
pub(super) fn has(list: &Path, word: &str) -> bool {
    fs::read_to_string(list).is_ok_and(|text| text.split_whitespace().any(|one| one == word))
}

/// Name of a run's cgroup.
pub fn name(run_id: &str) -> String {
    format!("{PREFIX}{run_id}")
}

/// The run whose cgroup has this name.
pub fn run_of(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)
}

/// All cgroups whose name is that of a run's and whose mark is `owner`: other state directories, as
/// containers have, make such names too.
///
/// # Errors
/// When no tree is mounted.
pub fn of_runs(owner: &str) -> io::Result<Vec<PathBuf>> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        // A cgroup that goes meanwhile is none that was left.
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

/// What becomes of processes in a cgroup that is to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupants {
    /// They end.
    Kill,
    /// They keep it from being removed.
    Spare,
}

/// Removes a cgroup that nobody holds any more, with all below it. One that is not there is no error.
///
/// # Errors
/// When a process in it outlives its kill or is to be spared, or when `path` is no cgroup.
pub fn remove(path: &Path, occupants: Occupants) -> io::Result<()> {
    use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
    let kind = match statfs(path) {
        Err(nix::errno::Errno::ENOENT) => return Ok(()),
        other => other?.filesystem_type(),
    };
    if kind != CGROUP2_SUPER_MAGIC {
        return Err(io::Error::other("it is no cgroup"));
    }
    if is_populated(path)? {
        if occupants == Occupants::Spare {
            return Err(io::Error::other("processes are in it"));
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

/// The exit of the last process and the removal race for some microseconds.
///
/// # Errors
/// Those of `rmdir(2)`; one that is not there is no error.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    let mut left = 50;
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

/// The cgroups of one run. Fields drop in this order: children before the parent.
#[derive(Debug)]
pub struct RunCgroups {
    /// Holds the boundary's init, the agent and all its children.
    pub agent: CgroupGuard,
    /// Holds the relay.
    pub relay: CgroupGuard,
    /// Holds the mediator.
    pub mediator: CgroupGuard,
    /// `egress-<run>` itself.
    pub run: CgroupGuard,
}

impl RunCgroups {
    /// Where the cgroup of a run belongs: below the caller's own, or below the nearest one above that
    /// hands the controllers for processes and memory on. The caller's own cannot begin to: it holds
    /// this process. Either way the run ends with this process, and so with the caller's service.
    ///
    /// # Errors
    /// When no cgroup v2 tree is mounted.
    pub fn place(run_id: &str) -> io::Result<PathBuf> {
        let mounts = mountinfo::read()?;
        let root = mountinfo::cgroup2_root(&mounts)?;
        let base = own(root, &fs::read_to_string("/proc/self/cgroup")?);
        Ok(nearest(root, &base).join(name(run_id)))
    }

    /// Makes the directories.
    ///
    /// # Errors
    /// When the tree is not writable.
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
