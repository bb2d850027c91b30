//! Limits the command's processes and memory with the kernel's cgroup controllers: the controllers of cgroup v2 if the
//! run's cgroup has them, and otherwise the controllers that are bound to cgroup v1. Without these controllers,
//! resource limits apply to each process or user instead.
//!
//! When memory runs out, the kernel kills one process instead of the whole cgroup, because `memory.oom.group` is not
//! set. The command's processes have the highest `oom_score_adj`, so that the kernel kills them before init. The end of
//! init would end all processes of the boundary. Files in `/tmp` and other private directories use memory that is not
//! freed when a process ends. If these files use all of the memory, the kernel kills the command or init, and the run
//! ends. If init was killed, the exit status is 125.
//!
//! Claims: limit-processes, limit-memory, table-memory, table-processes
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use egress_sys::kernel_file;
use serde::Serialize;

use super::cgroup::{self, RunCgroups, lists_controller};
use super::mountinfo::{self, Mount};
use super::shares::{Shares, total_memory};

/// The limits of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// The maximum number of the command's processes and threads at a time.
    pub processes: u64,
    /// The maximum memory of the command in bytes, including its scratch space.
    pub memory: u64,
    /// Maximum number of open files of one process.
    pub open_files: u64,
    /// Maximum size of each private writable directory, in bytes.
    pub scratch: u64,
    /// Maximum size of the receipts and the flow log together, in bytes.
    pub evidence: u64,
    /// The run's shares of the tables that all users of the machine share.
    pub shares: Shares,
}

/// The part of the kernel that enforces a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
enum LimitHolder {
    /// The command's cgroup, for all processes in it together.
    Unified,
    /// A separate cgroup in the tree of the cgroup v1 controller.
    Legacy(PathBuf),
    /// A resource limit, for each process or user.
    Resource,
}

/// The places where the limits of a run will be enforced, found before any cgroup is created.
#[derive(Debug)]
pub struct Places {
    pids: LimitHolder,
    memory: LimitHolder,
    /// The caller's own cgroup and the parent of the run's cgroup. Limits of the cgroups between
    /// the two also apply to the run.
    between: (PathBuf, PathBuf),
}

/// The limits of a run, in force for every process that joins. Dropping this removes the cgroups
/// that were created for the limits.
#[derive(Debug)]
pub struct Caps {
    pids: HeldLimit,
    memory: HeldLimit,
}

#[derive(Debug)]
struct HeldLimit {
    holder: LimitHolder,
    /// The cgroup directory with the counters of this limit.
    dir: PathBuf,
}

/// How often one limit was reached, and the mechanism that enforced it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// The mechanism that enforced the limit.
    pub held_by: &'static str,
    /// How often the limit was reached; `None` if the kernel does not count this.
    pub times: Option<u64>,
}

/// The limits that were reached by the end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitReport {
    /// Attempts to start a process that failed because of the limit.
    pub processes: Reached,
    /// Processes that were killed because memory ran out.
    pub memory: Reached,
}

impl Places {
    /// Finds where the limits of run `id` can be enforced. `run` is the path of the run's future cgroup.
    ///
    /// # Errors
    /// Fails if the machine's mounts or the caller's cgroups cannot be read.
    pub fn find(run: &Path, id: &str) -> io::Result<Self> {
        let mounts = mountinfo::read()?;
        let own = kernel_file::text("/proc/self/cgroup")?;
        let parent = run.parent().unwrap_or(run);
        let place = |controller: &str| {
            if lists_controller(&parent.join("cgroup.subtree_control"), controller) {
                return LimitHolder::Unified;
            }
            match v1_cgroup(&mounts, &own, controller) {
                Some(dir) => LimitHolder::Legacy(dir.join(cgroup::name(id))),
                None => LimitHolder::Resource,
            }
        };
        let root = mountinfo::cgroup2_root(&mounts)?;
        Ok(Self {
            pids: place("pids"),
            memory: place("memory"),
            between: (cgroup::own_cgroup(root, &own), parent.to_path_buf()),
        })
    }

    /// Cgroups that will be created in addition to the run's own.
    pub fn made(&self) -> Vec<&Path> {
        [&self.pids, &self.memory]
            .into_iter()
            .filter_map(|holder| match holder {
                LimitHolder::Legacy(path) => Some(path.as_path()),
                LimitHolder::Unified | LimitHolder::Resource => None,
            })
            .collect()
    }

    /// Creates the cgroups and sets the limits.
    ///
    /// # Errors
    /// Fails if a cgroup cannot be created or the kernel rejects a limit.
    pub fn set(self, limits: &Limits, cgroups: &RunCgroups) -> io::Result<Caps> {
        self.set_at(limits, cgroups.run.path(), cgroups.agent.path())
    }

    fn set_at(self, limits: &Limits, run: &Path, agent: &Path) -> io::Result<Caps> {
        let between = self.between.clone();
        let held = |holder: LimitHolder| {
            let dir = match &holder {
                LimitHolder::Legacy(path) => path.clone(),
                LimitHolder::Unified | LimitHolder::Resource => agent.to_path_buf(),
            };
            HeldLimit { holder, dir }
        };
        for (holder, controller) in [(&self.pids, "+pids"), (&self.memory, "+memory")] {
            match holder {
                LimitHolder::Unified => write_value(run, "cgroup.subtree_control", controller)?,
                LimitHolder::Legacy(path) => fs::create_dir(path)?,
                LimitHolder::Resource => {}
            }
        }
        let caps = Caps {
            pids: held(self.pids),
            memory: held(self.memory),
        };
        if caps.pids.holder != LimitHolder::Resource {
            let most = lowest(&between, "pids.max", limits.processes);
            write_value(&caps.pids.dir, "pids.max", &most.to_string())?;
        }
        let bytes = lowest(&between, "memory.max", limits.memory).to_string();
        match caps.memory.holder {
            LimitHolder::Unified => {
                write_value(&caps.memory.dir, "memory.max", &bytes)?;
                // The file is missing when the kernel does not account for swap.
                write_if_present(&caps.memory.dir, "memory.swap.max", "0")?;
            }
            LimitHolder::Legacy(_) => {
                write_value(&caps.memory.dir, "memory.limit_in_bytes", &bytes)?;
                write_if_present(&caps.memory.dir, "memory.memsw.limit_in_bytes", &bytes)?;
                // Cgroup v1 accounts for TCP memory only if TCP memory has its own limit. The limit is
                // slightly below the run's share, because the kernel lets a group exceed the limit
                // by the minimum that sockets need.
                let tcp = (limits.shares.tcp_bytes / 8 * 7).to_string();
                write_if_present(&caps.memory.dir, "memory.kmem.tcp.limit_in_bytes", &tcp)?;
            }
            LimitHolder::Resource => {}
        }
        Ok(caps)
    }
}

impl Caps {
    /// Files of cgroup v1 to which the boundary's init writes `0`, so that init and all its children are in the
    /// cgroups. Writing to `tasks` moves only the single thread of the process. Moving a whole process would hold the
    /// global cgroup lock for several milliseconds.
    pub fn join(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = [&self.pids, &self.memory]
            .into_iter()
            .filter(|held| matches!(held.holder, LimitHolder::Legacy(_)))
            .map(|held| held.dir.join("tasks"))
            .collect();
        files.dedup();
        files
    }

    /// Whether each process gets a limit on its data segment because no controller limits memory.
    pub fn limits_data(&self) -> bool {
        self.memory.holder == LimitHolder::Resource
    }

    /// Reads how often each limit was reached.
    ///
    /// # Errors
    /// Fails if a counter cannot be read.
    pub fn report(&self) -> io::Result<LimitReport> {
        let (events, word) = match self.memory.holder {
            LimitHolder::Unified => ("memory.events", "oom_kill"),
            LimitHolder::Legacy(_) | LimitHolder::Resource => ("memory.oom_control", "oom_kill"),
        };
        Ok(LimitReport {
            processes: self.pids.reached(
                "pids.events",
                "max",
                "RLIMIT_NPROC of the agent's user",
            )?,
            memory: self
                .memory
                .reached(events, word, "RLIMIT_DATA of each process")?,
        })
    }
}

impl HeldLimit {
    fn reached(&self, events: &str, word: &str, resource: &'static str) -> io::Result<Reached> {
        let held_by = match self.holder {
            LimitHolder::Unified => "cgroup v2",
            LimitHolder::Legacy(_) => "cgroup v1",
            LimitHolder::Resource => {
                return Ok(Reached {
                    held_by: resource,
                    times: None,
                });
            }
        };
        let text = kernel_file::text(self.dir.join(events))?;
        let times = text.lines().find_map(|line| {
            let (name, count) = line.split_once(' ')?;
            (name == word).then(|| count.trim().parse().ok())?
        });
        Ok(Reached { held_by, times })
    }
}

impl Drop for Caps {
    fn drop(&mut self) {
        for held in [&self.pids, &self.memory] {
            if let LimitHolder::Legacy(path) = &held.holder {
                // If removal fails, the run's directory still has an entry that names the cgroup.
                drop(cgroup::remove_dir(path));
            }
        }
    }
}

/// Returns the lowest of `requested` and the limits of the cgroups from `from` up to, but not including, `to`.
fn lowest((from, to): &(PathBuf, PathBuf), name: &str, requested: u64) -> u64 {
    from.ancestors()
        .take_while(|dir| dir.starts_with(to) && *dir != to)
        .filter_map(|dir| fs::read_to_string(dir.join(name)).ok()?.trim().parse().ok())
        .fold(requested, u64::min)
}

fn write_value(dir: &Path, name: &str, value: &str) -> io::Result<()> {
    let path = dir.join(name);
    fs::write(&path, value).map_err(|error| {
        let path = path.display();
        io::Error::new(
            error.kind(),
            format!("cannot write {value:?} to {path}: {error}"),
        )
    })
}

fn write_if_present(dir: &Path, name: &str, value: &str) -> io::Result<()> {
    if dir.join(name).exists() {
        write_value(dir, name, value)
    } else {
        Ok(())
    }
}

/// Returns the caller's own cgroup in the v1 tree of a controller.
fn v1_cgroup(mounts: &[Mount], own: &str, controller: &str) -> Option<PathBuf> {
    let mount = mounts.iter().find(|mount| {
        mount.fstype == "cgroup" && mount.options.split(',').any(|option| option == controller)
    })?;
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let path = fields.next()?;
        controllers
            .split(',')
            .any(|one| one == controller)
            .then_some(path)
    })?;
    // A container may have only a part of the tree, although the path of its cgroup starts at the root of the whole
    // tree.
    let below = Path::new(path).strip_prefix(&mount.root).ok();
    let dir = below.map_or_else(|| mount.target.clone(), |below| mount.target.join(below));
    Some(if dir.is_dir() {
        dir
    } else {
        mount.target.clone()
    })
}

/// Returns seven eighths of the machine's memory, in bytes. The rest is for the processes that
/// supervise the command.
///
/// # Errors
/// Fails if `/proc/meminfo` has no `MemTotal`.
pub fn most_memory() -> io::Result<u64> {
    Ok(total_memory()? / 8 * 7)
}

#[cfg(test)]
mod tests {
    use super::super::cgroup::nearest;
    use super::*;

    /// Claims: cgroup-place*, crate-sandbox
    #[test]
    fn nearest_group_with_the_controllers_is_taken_with_the_limits_on_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let own = root.join("slice/service/inner");
        fs::create_dir_all(&own).unwrap();
        for (path, controllers) in [
            ("", "cpu memory pids"),
            ("slice", "memory"),
            ("slice/service", ""),
        ] {
            fs::write(root.join(path).join("cgroup.subtree_control"), controllers).unwrap();
        }
        assert_eq!(nearest(root, &own), root);
        fs::write(root.join("slice/cgroup.subtree_control"), "memory pids").unwrap();
        assert_eq!(nearest(root, &own), root.join("slice"));
        assert_eq!(nearest(&root.join("slice/service"), &own), own);
        let between = (own.clone(), root.join("slice"));
        fs::write(own.join("memory.max"), "max\n").unwrap();
        fs::write(root.join("slice/service/memory.max"), "700\n").unwrap();
        fs::write(root.join("slice/memory.max"), "5\n").unwrap();
        assert_eq!(lowest(&between, "memory.max", 1000), 700);
        assert_eq!(lowest(&between, "memory.max", 600), 600);
    }

    /// Claims: cgroup-place
    #[test]
    fn limits_of_cgroup_2_are_the_agents_group_and_its_counters_are_read() {
        // This test uses plain files instead of the kernel's files, because a machine has each controller in only one
        // version.
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        fs::create_dir(&agent).unwrap();
        fs::write(agent.join("memory.swap.max"), "max").unwrap();
        let places = Places {
            pids: LimitHolder::Unified,
            memory: LimitHolder::Unified,
            between: (dir.path().into(), dir.path().into()),
        };
        let limits = Limits {
            processes: 100,
            memory: 1 << 26,
            open_files: 64,
            scratch: 1,
            evidence: 1,
            shares: Shares::of_machine().unwrap(),
        };
        let caps = places.set_at(&limits, dir.path(), &agent).unwrap();
        assert!(!caps.limits_data() && caps.join().is_empty());
        let read = |path: PathBuf| fs::read_to_string(path).unwrap();
        assert_eq!(read(dir.path().join("cgroup.subtree_control")), "+memory");
        for (file, value) in [
            ("pids.max", "100"),
            ("memory.max", "67108864"),
            ("memory.swap.max", "0"),
        ] {
            assert_eq!(read(agent.join(file)), value, "{file}");
        }
        fs::write(agent.join("pids.events"), "max 3\n").unwrap();
        fs::write(agent.join("memory.events"), "low 0\noom 9\noom_kill 2\n").unwrap();
        let report = caps.report().unwrap();
        let reached = |times| Reached {
            held_by: "cgroup v2",
            times: Some(times),
        };
        assert_eq!((report.processes, report.memory), (reached(3), reached(2)));
        fs::remove_file(agent.join("memory.events")).unwrap();
        assert!(caps.report().is_err());
    }

    /// Claims: cgroup-place
    #[test]
    fn own_group_of_a_controller_is_found_where_it_is_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().to_path_buf();
        fs::create_dir_all(target.join("a/b")).unwrap();
        let own = "9:name=systemd:/x\n4:cpu,memory:/top/a/b\n0::/\n";
        let mount = |root: &str| Mount {
            id: 0,
            target: target.clone(),
            root: root.into(),
            fstype: String::from("cgroup"),
            options: String::from("rw,cpu,memory"),
        };
        let found = |root| v1_cgroup(&[mount(root)], own, "memory");
        assert_eq!(found("/top"), Some(target.join("a/b")));
        // The mount itself is used if the path is not below the mount or not visible.
        assert_eq!(found("/other"), Some(target.clone()));
        assert_eq!(found("/"), Some(target.clone()));
        assert_eq!(v1_cgroup(&[mount("/top")], own, "pids"), None);
        assert!(most_memory().unwrap() > 1 << 28);
    }
}
