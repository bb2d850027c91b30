//! Limits on what the agent takes of the machine: processes and memory by the kernel's controllers,
//! of cgroup v2 where the run's cgroup has them, of v1 where they are bound to that; elsewhere by
//! resource limits, which hold for each process or user.
//!
//! Without memory, the kernel kills one process, not the whole cgroup (`memory.oom.group` is not set): the command's
//! processes before init, whose end would end all others. Files in `/tmp` and other private directories are memory that
//! no end of a process frees. If they use all of it, the run ends with the command, or with init and exit status 125.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::cgroup::{self, RunCgroups, has};
use super::mountinfo::{self, Mount};
use super::shares::{Shares, total_memory};

/// What a run may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Processes and threads of the agent at a time.
    pub processes: u64,
    /// Memory of the agent, its scratch space included, bytes.
    pub memory: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Each of the private directories that can be written, bytes.
    pub scratch: u64,
    /// Receipts and flow log together, bytes.
    pub evidence: u64,
    /// Of the tables that all users of the machine share.
    pub shares: Shares,
}

/// Which part of the kernel holds a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Holder {
    /// The agent's cgroup, for all its processes together.
    Unified,
    /// A cgroup of its own in the controller's tree.
    Legacy(PathBuf),
    /// A resource limit.
    Resource,
}

/// Where the limits of a run are held, before anything is made.
#[derive(Debug)]
pub struct Places {
    pids: Holder,
    memory: Holder,
    /// The caller's own cgroup, and the one that the run's will be in: limits between them hold for
    /// the run as well.
    between: (PathBuf, PathBuf),
}

/// The limits of a run, in force for who joins. Cgroups that were made for them go when dropped.
#[derive(Debug)]
pub struct Caps {
    pids: Held,
    memory: Held,
}

#[derive(Debug)]
struct Held {
    holder: Holder,
    /// Where its counters are.
    dir: PathBuf,
}

/// What is known of one limit at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// What held it.
    pub held_by: &'static str,
    /// How often it was met; `None` where nothing counts that.
    pub times: Option<u64>,
}

/// What is known at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Processes that could not be started.
    pub processes: Reached,
    /// Processes that were ended for lack of memory.
    pub memory: Reached,
}

impl Places {
    /// Finds out where the limits of run `id` can be held, whose cgroup is to be at `run`.
    ///
    /// # Errors
    /// When the machine's mounts cannot be read.
    pub fn find(run: &Path, id: &str) -> io::Result<Self> {
        let mounts = mountinfo::read()?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let parent = run.parent().unwrap_or(run);
        let place = |controller: &str| {
            if has(&parent.join("cgroup.subtree_control"), controller) {
                return Holder::Unified;
            }
            match legacy(&mounts, &own, controller) {
                Some(dir) => Holder::Legacy(dir.join(cgroup::name(id))),
                None => Holder::Resource,
            }
        };
        let root = mountinfo::cgroup2_root(&mounts)?;
        Ok(Self {
            pids: place("pids"),
            memory: place("memory"),
            between: (cgroup::own(root, &own), parent.to_path_buf()),
        })
    }

    /// Cgroups that will be made beside the run's own.
    pub fn made(&self) -> Vec<&Path> {
        [&self.pids, &self.memory]
            .into_iter()
            .filter_map(|holder| match holder {
                Holder::Legacy(path) => Some(path.as_path()),
                Holder::Unified | Holder::Resource => None,
            })
            .collect()
    }

    /// Makes them and sets the limits.
    ///
    /// # Errors
    /// When a cgroup cannot be made, or refuses its limit.
    pub fn set(self, limits: &Limits, cgroups: &RunCgroups) -> io::Result<Caps> {
        self.set_at(limits, cgroups.run.path(), cgroups.agent.path())
    }

    fn set_at(self, limits: &Limits, run: &Path, agent: &Path) -> io::Result<Caps> {
        let between = self.between.clone();
        let held = |holder: Holder| {
            let dir = match &holder {
                Holder::Legacy(path) => path.clone(),
                Holder::Unified | Holder::Resource => agent.to_path_buf(),
            };
            Held { holder, dir }
        };
        for (holder, controller) in [(&self.pids, "+pids"), (&self.memory, "+memory")] {
            match holder {
                Holder::Unified => put(run, "cgroup.subtree_control", controller)?,
                Holder::Legacy(path) => fs::create_dir(path)?,
                Holder::Resource => {}
            }
        }
        let caps = Caps {
            pids: held(self.pids),
            memory: held(self.memory),
        };
        if caps.pids.holder != Holder::Resource {
            let most = lowest(&between, "pids.max", limits.processes);
            put(&caps.pids.dir, "pids.max", &most.to_string())?;
        }
        let bytes = lowest(&between, "memory.max", limits.memory).to_string();
        match caps.memory.holder {
            Holder::Unified => {
                put(&caps.memory.dir, "memory.max", &bytes)?;
                // There is none where the kernel keeps no account of swap.
                put_if_there(&caps.memory.dir, "memory.swap.max", "0")?;
            }
            Holder::Legacy(_) => {
                put(&caps.memory.dir, "memory.limit_in_bytes", &bytes)?;
                put_if_there(&caps.memory.dir, "memory.memsw.limit_in_bytes", &bytes)?;
                // Without a limit of its own this memory is in no account of this version. A little less than
                // the run's share: the kernel lets a group exceed this limit by what sockets cannot do without.
                let tcp = (limits.shares.tcp_bytes / 8 * 7).to_string();
                put_if_there(&caps.memory.dir, "memory.kmem.tcp.limit_in_bytes", &tcp)?;
            }
            Holder::Resource => {}
        }
        Ok(caps)
    }
}

impl Caps {
    /// Files that the first process of the agent writes itself to, for all that it starts. It has one
    /// thread; to move a thread the kernel need not wait, with the lock of all cgroups in its hand,
    /// until no processor knows the process where it was.
    pub fn join(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = [&self.pids, &self.memory]
            .into_iter()
            .filter(|held| matches!(held.holder, Holder::Legacy(_)))
            .map(|held| held.dir.join("tasks"))
            .collect();
        files.dedup();
        files
    }

    /// Whether each process gets a limit of its own on its data, for want of a better one.
    pub fn limits_data(&self) -> bool {
        self.memory.holder == Holder::Resource
    }

    /// What was reached.
    ///
    /// # Errors
    /// When a counter cannot be read.
    pub fn report(&self) -> io::Result<Report> {
        let (events, word) = match self.memory.holder {
            Holder::Unified => ("memory.events", "oom_kill"),
            Holder::Legacy(_) | Holder::Resource => ("memory.oom_control", "oom_kill"),
        };
        Ok(Report {
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

impl Held {
    fn reached(&self, events: &str, word: &str, resource: &'static str) -> io::Result<Reached> {
        let held_by = match self.holder {
            Holder::Unified => "cgroup v2",
            Holder::Legacy(_) => "cgroup v1",
            Holder::Resource => {
                return Ok(Reached {
                    held_by: resource,
                    times: None,
                });
            }
        };
        let text = fs::read_to_string(self.dir.join(events))?;
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
            if let Holder::Legacy(path) = &held.holder {
                // What stays is found by its note in the run's directory.
                drop(cgroup::remove_dir(path));
            }
        }
    }
}

/// The lowest limit of the cgroups from the first up to, and without, the second.
fn lowest((from, to): &(PathBuf, PathBuf), name: &str, asked: u64) -> u64 {
    from.ancestors()
        .take_while(|dir| dir.starts_with(to) && *dir != to)
        .filter_map(|dir| fs::read_to_string(dir.join(name)).ok()?.trim().parse().ok())
        .fold(asked, u64::min)
}

fn put(dir: &Path, name: &str, value: &str) -> io::Result<()> {
    let path = dir.join(name);
    fs::write(&path, value).map_err(|error| {
        let path = path.display();
        io::Error::new(
            error.kind(),
            format!("cannot write {value} to {path}: {error}"),
        )
    })
}

fn put_if_there(dir: &Path, name: &str, value: &str) -> io::Result<()> {
    if dir.join(name).exists() {
        put(dir, name, value)
    } else {
        Ok(())
    }
}

/// The caller's own cgroup in the v1 tree of a controller.
fn legacy(mounts: &[Mount], own: &str, controller: &str) -> Option<PathBuf> {
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
    // A container may see a part of the tree only, and its own path from the top all the same.
    let below = Path::new(path).strip_prefix(&mount.root).ok();
    let dir = below.map_or_else(|| mount.target.clone(), |below| mount.target.join(below));
    Some(if dir.is_dir() {
        dir
    } else {
        mount.target.clone()
    })
}

/// Seven eighths of the machine's memory: the rest is for what keeps the agent.
///
/// # Errors
/// When `/proc/meminfo` has no total.
pub fn most_memory() -> io::Result<u64> {
    Ok(total_memory()? / 8 * 7)
}

#[cfg(test)]
mod tests {
    use super::super::cgroup::nearest;
    use super::*;

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

    #[test]
    fn limits_of_cgroup_2_are_the_agents_group_and_its_counters_are_read() {
        // Plain files stand in for the kernel's: it has these controllers in one version at a time.
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        fs::create_dir(&agent).unwrap();
        fs::write(agent.join("memory.swap.max"), "max").unwrap();
        let places = Places {
            pids: Holder::Unified,
            memory: Holder::Unified,
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
        let found = |root| legacy(&[mount(root)], own, "memory");
        assert_eq!(found("/top"), Some(target.join("a/b")));
        // One that is not below the mount, or not to be seen: the mount itself.
        assert_eq!(found("/other"), Some(target.clone()));
        assert_eq!(found("/"), Some(target.clone()));
        assert_eq!(legacy(&[mount("/top")], own, "pids"), None);
        assert!(most_memory().unwrap() > 1 << 28);
    }
}
