//! The processes of a run, as the host sees them.
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::Running;

/// A process. The start time distinguishes the process from a later process with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    id: i32,
    /// Clock ticks from the boot of the machine to the start of the process.
    started: u64,
}

/// Kinds of namespaces that a run creates.
const KINDS: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];

/// Waits until `holds` returns true, for at most `limit`.
///
/// # Panics
/// Panics with `what` if `holds` still returns false after `limit`.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

impl Process {
    pub(crate) fn with_id(id: i32) -> Option<Self> {
        let started = stat(id)?.get(19)?.parse().ok()?;
        Some(Self { id, started })
    }

    /// Returns the process id.
    pub fn id(self) -> i32 {
        self.id
    }

    /// Returns whether the process exists and is not a zombie.
    pub fn lives(self) -> bool {
        Self::with_id(self.id) == Some(self) && self.state() != Some('Z')
    }

    /// Returns the state, as ps(1) shows it.
    pub fn state(self) -> Option<char> {
        stat(self.id)?.first()?.chars().next()
    }

    /// Returns the argument at `index`. Index 0 is the program.
    pub fn argument(self, index: usize) -> Option<Vec<u8>> {
        let line = fs::read(format!("/proc/{}/cmdline", self.id)).ok()?;
        line.split(|byte| *byte == 0).nth(index).map(<[u8]>::to_vec)
    }

    /// Sends a signal to the process.
    ///
    /// # Panics
    /// Panics if the process has already ended.
    pub fn signal(self, signal: Signal) {
        assert!(self.lives(), "{self:?} has ended already");
        kill(Pid::from_raw(self.id), signal).expect("signal a process");
    }

    /// Returns the namespaces of the process.
    pub fn namespaces(self) -> BTreeSet<String> {
        KINDS
            .iter()
            .filter_map(|kind| fs::read_link(format!("/proc/{}/ns/{kind}", self.id)).ok())
            .map(|link| link.to_string_lossy().into_owned())
            .collect()
    }

    /// Returns the namespaces of the process, each with a descriptor that holds it open.
    pub(crate) fn held_namespaces(self) -> BTreeMap<String, File> {
        let hold = |kind: &&str| {
            let held = File::open(format!("/proc/{}/ns/{kind}", self.id)).ok()?;
            let name = fs::read_link(format!("/proc/self/fd/{}", held.as_raw_fd())).ok()?;
            Some((name.to_string_lossy().into_owned(), held))
        };
        KINDS.iter().filter_map(hold).collect()
    }

    /// Returns every process on the machine.
    ///
    /// # Panics
    /// Panics if there is no /proc.
    pub fn all() -> Vec<Self> {
        let entries = fs::read_dir("/proc").expect("list processes");
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(Self::with_id)
            .collect()
    }

    /// Returns the processes in a cgroup and below it.
    pub fn in_cgroup(dir: &Path) -> Vec<Self> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.extend(Self::in_cgroup(&entry.path()));
            }
        }
        let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        found.extend(
            text.lines()
                .filter_map(|id| Self::with_id(id.parse().ok()?)),
        );
        found
    }
}

impl Running {
    /// Returns the process of the running program.
    ///
    /// # Panics
    /// Panics if the program has ended.
    pub fn process(&self) -> Process {
        Process::with_id(self.pid().as_raw()).expect("a running program")
    }

    /// Returns the child process whose first argument is `stage`, such as `__relay`.
    ///
    /// # Panics
    /// Panics if there is no such child.
    pub fn helper(&self, stage: &str) -> Process {
        let found = self.find_helper(stage);
        found.unwrap_or_else(|| panic!("no {stage} below process {}", self.pid()))
    }

    /// Returns the child process whose first argument is `stage`, if it already exists.
    pub fn find_helper(&self, stage: &str) -> Option<Process> {
        let parent = self.pid().as_raw().to_string();
        let is_it = |process: &Process| {
            process.argument(1).as_deref() == Some(stage.as_bytes())
                && stat(process.id).is_some_and(|stat| stat.get(1) == Some(&parent))
        };
        Process::all().into_iter().find(is_it)
    }
}

/// Returns the fields of /proc/ID/stat from the third one on, which is the state. The second field is the name, which
/// may contain any character.
fn stat(id: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}
