//! Counts the objects that a run could leave behind.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The objects on this machine of the kinds that a run creates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Cgroups whose name starts with `egress-`.
    pub cgroups: BTreeSet<PathBuf>,
    /// Mounts of the initial mount namespace that mention `egress`.
    pub mounts: BTreeSet<String>,
    /// Namespaces with at least one process, by kind and number.
    pub namespaces: BTreeSet<String>,
    /// Command lines of the running processes of the binary, with the process ids.
    pub processes: BTreeSet<String>,
    /// Directories of runs.
    pub runs: BTreeSet<PathBuf>,
}

/// The state directory of all runs.
const RUN_DIR: &str = "/run/egress";

impl Census {
    /// Counts the objects on the machine. The counts include objects of other tests that run at the same time, so the
    /// result is only useful with [`Census::left_by`].
    pub fn take() -> Self {
        let mut census = Self::default();
        if let Some(root) = cgroup_root() {
            cgroups(&root, &mut census.cgroups);
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        census.mounts = mounts
            .lines()
            .filter(|line| line.contains("egress"))
            .map(str::to_owned)
            .collect();
        for entry in fs::read_dir(RUN_DIR).into_iter().flatten().flatten() {
            // Directories that all runs share have a word as their name, not a run id.
            let name = entry.file_name();
            if name.as_encoded_bytes().iter().any(u8::is_ascii_digit) {
                census.runs.insert(entry.path());
            }
        }
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let dir = process.path();
            let is_process = process
                .file_name()
                .to_str()
                .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
            if !is_process {
                continue;
            }
            for kind in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
                if let Ok(link) = fs::read_link(dir.join("ns").join(kind)) {
                    census
                        .namespaces
                        .insert(link.to_string_lossy().into_owned());
                }
            }
            if let Some(line) = command_line(&dir) {
                census.processes.insert(line);
            }
        }
        census
    }

    /// Returns the objects that exist now and were not in `before`.
    #[must_use]
    pub fn left_by(&self, before: &Self) -> Self {
        fn new<T: Ord + Clone>(after: &BTreeSet<T>, before: &BTreeSet<T>) -> BTreeSet<T> {
            after.difference(before).cloned().collect()
        }
        Self {
            cgroups: new(&self.cgroups, &before.cgroups),
            mounts: new(&self.mounts, &before.mounts),
            namespaces: new(&self.namespaces, &before.namespaces),
            processes: new(&self.processes, &before.processes),
            runs: new(&self.runs, &before.runs),
        }
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Returns the id and the command line of a process of a program named `egress`.
fn command_line(dir: &Path) -> Option<String> {
    let comm = fs::read_to_string(dir.join("comm")).ok()?;
    if !comm.trim_end().starts_with("egress") {
        return None;
    }
    let line = fs::read(dir.join("cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    let id = dir.file_name()?.to_string_lossy().into_owned();
    Some(format!("{id} {}", line.trim_end()))
}

/// Returns the mount point of the cgroup v2 hierarchy.
pub(crate) fn cgroup_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

fn cgroups(dir: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().starts_with("egress-") {
            found.insert(entry.path());
        }
        cgroups(&entry.path(), found);
    }
}
