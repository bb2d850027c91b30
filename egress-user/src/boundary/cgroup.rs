//! The cgroups of a run: `egress-<run>` with `agent`, `relay` and `mediator` below it.
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::mountinfo;

/// One cgroup v2 directory; killed and removed when dropped.
#[derive(Debug)]
pub struct CgroupGuard {
    path: PathBuf,
    dir: File,
}

/// How long a killed cgroup may take to become empty.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);

impl CgroupGuard {
    fn create(path: PathBuf) -> io::Result<Self> {
        fs::create_dir(&path)?;
        let dir = File::open(&path)?;
        Ok(Self { path, dir })
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
        fs::write(self.path.join("cgroup.kill"), "1")
    }

    /// Whether any process, zombies aside, is in it or below it.
    ///
    /// # Errors
    /// When `cgroup.events` cannot be read.
    pub fn is_populated(&self) -> io::Result<bool> {
        Ok(fs::read_to_string(self.path.join("cgroup.events"))?.contains("populated 1"))
    }

    /// Waits until no process is left.
    ///
    /// # Errors
    /// `TimedOut` when one still is after five seconds.
    pub fn wait_empty(&self) -> io::Result<()> {
        let deadline = Instant::now() + EMPTY_WITHIN;
        while self.is_populated()? {
            if Instant::now() > deadline {
                let path = self.path.display();
                let text = format!("processes in {path} outlived cgroup.kill by 5 s");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

impl AsFd for CgroupGuard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Drop for CgroupGuard {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; `egress doctor` reports what is left.
        if self.is_populated().unwrap_or(false) {
            drop(self.kill());
            drop(self.wait_empty());
        }
        // The exit of the last process and the removal race for some microseconds.
        for _ in 0..50 {
            match fs::remove_dir(&self.path) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(()) | Err(_) => return,
            }
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
    /// Makes the directories, below the caller's own cgroup, so that whoever ends the caller's
    /// service ends the run with it.
    ///
    /// # Errors
    /// When no cgroup v2 tree is mounted or it is not writable.
    pub fn create(run_id: &str) -> io::Result<Self> {
        let mounts = mountinfo::read()?;
        let root = mountinfo::cgroup2_root(&mounts)?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .unwrap_or_default();
        // A path of `/..` shows that the caller's cgroup lies outside its cgroup namespace.
        let base = if own.starts_with("..") {
            root.to_path_buf()
        } else {
            root.join(own)
        };
        let run = CgroupGuard::create(base.join(format!("egress-{run_id}")))?;
        let below = |name: &str| CgroupGuard::create(run.path.join(name));
        Ok(Self {
            agent: below("agent")?,
            relay: below("relay")?,
            mediator: below("mediator")?,
            run,
        })
    }
}
