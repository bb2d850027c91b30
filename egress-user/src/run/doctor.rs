//! Checks whether this machine can run egress, in a temporary run that does not start a command.
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};

use egress_common::abi::Config;
use egress_common::names::{ADDRCONFIG_V6, DEFAULT_PROXY_PORT};
use egress_sandbox::cgroup::RunCgroups;
use egress_sandbox::layers::Layers;
use egress_sandbox::probe::model::{ProbeOutcome, ProbeResult};
use egress_sandbox::view::View;
use egress_sys::{netdev, process};
use egress_workspace::users::UserLease;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::RunError;
use super::prepare::privileged;
use super::state::{RunDir, STATE_DIR};
use crate::bpf::Gates;

/// The oldest kernel that is tested.
const TESTED: (u32, u32) = (6, 1);
/// The oldest kernel that has every feature a run needs.
const AIMED_AT: (u32, u32) = (5, 15);

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// The result.
    pub state: CheckState,
    /// What was found.
    pub seen: String,
    /// The next step for the user.
    pub todo: Option<String>,
}

/// The possible results of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// A run works.
    Ok,
    /// A run works with restrictions.
    Warning,
    /// No run works.
    Missing,
    /// The check was not run, because an earlier check failed.
    Untried,
}

impl Check {
    fn ok(name: &'static str, seen: impl Into<String>) -> Self {
        Self {
            name,
            state: CheckState::Ok,
            seen: seen.into(),
            todo: None,
        }
    }

    fn warning(name: &'static str, seen: impl Into<String>, todo: &str) -> Self {
        Self {
            state: CheckState::Warning,
            todo: Some(todo.to_owned()),
            ..Self::ok(name, seen)
        }
    }

    fn missing(name: &'static str, seen: impl Into<String>, todo: &str) -> Self {
        Self {
            state: CheckState::Missing,
            todo: Some(todo.to_owned()),
            ..Self::ok(name, seen)
        }
    }

    fn untried(name: &'static str) -> Self {
        Self {
            state: CheckState::Untried,
            ..Self::ok(name, "not tried")
        }
    }

    fn failed(name: &'static str, error: &RunError) -> Self {
        Self::missing(name, error.on_one_line(), error.hint().unwrap_or_default())
    }
}

/// Summarizes the results of the probes.
pub fn probed(results: &Result<Vec<ProbeResult>, String>) -> Check {
    let name = "probes";
    let results = match results {
        Ok(results) => results,
        Err(error) => {
            return Check::missing(
                name,
                error.clone(),
                "a run on this machine fails with the same error",
            );
        }
    };
    let with = |outcome: ProbeOutcome| results.iter().filter(move |one| one.outcome == outcome);
    let open = with(ProbeOutcome::Reachable).chain(with(ProbeOutcome::ControlFailed));
    let seen = format!(
        "{} denied, {} not applicable, {} reachable, {} without a control",
        with(ProbeOutcome::Denied).count(),
        with(ProbeOutcome::NotApplicable).count(),
        with(ProbeOutcome::Reachable).count(),
        with(ProbeOutcome::ControlFailed).count()
    );
    let open: Vec<&str> = open.map(|one| one.name.as_str()).collect();
    if open.is_empty() {
        return Check::ok(name, seen);
    }
    let todo = format!(
        "a run on this machine needs --accept-risk for each of these probes: {}",
        open.join(", ")
    );
    Check::missing(name, seen, &todo)
}

/// Returns the check for a machine on which the probes could not be run.
pub fn not_probed() -> Check {
    Check::untried("probes")
}

/// Checks everything that a run in `workdir` needs.
///
/// # Order
/// Call this while the process has one thread, because the checks fork.
pub fn examine(workdir: &Path) -> Vec<Check> {
    let root = root();
    let is_root = root.state == CheckState::Ok;
    let mut checks = vec![root, kernel()];
    if !is_root {
        let rest = ["state", "cgroup", "bpf", "overlay", "ipv6", "workspace"];
        checks.extend(rest.map(Check::untried));
        return checks;
    }
    match RunDir::create() {
        Ok(dir) => {
            checks.push(Check::ok("state", STATE_DIR));
            checks.extend(gates(&dir));
            checks.extend(inside(&dir));
            checks.push(idmap(workdir));
        }
        Err(error) => {
            checks.push(Check::failed("state", &error));
            let rest = ["cgroup", "bpf", "overlay", "ipv6", "workspace"];
            checks.extend(rest.map(Check::untried));
        }
    }
    checks
}

fn root() -> Check {
    match privileged() {
        Ok(()) => Check::ok("root", "uid 0"),
        Err(error) => Check::failed("root", &error),
    }
}

fn kernel() -> Check {
    let name = nix::sys::utsname::uname();
    let release = name.map_or_else(
        |errno| errno.to_string(),
        |name| name.release().to_string_lossy().into_owned(),
    );
    match version(&release) {
        Some(version) if version >= TESTED => Check::ok("kernel", release),
        Some(version) if version >= AIMED_AT => Check::warning(
            "kernel",
            release,
            "egress is tested on Linux 6.1 and later; if this kernel lacks something, the run reports it",
        ),
        _ => Check::missing("kernel", release, "use Linux 6.1 or later"),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Checks the cgroups of a run, and the kernel programs that are attached to them.
fn gates(dir: &RunDir) -> [Check; 2] {
    let cgroups = match dir.make_cgroups() {
        Ok(cgroups) => cgroups,
        Err(error) => return [Check::failed("cgroup", &error), Check::untried("bpf")],
    };
    [cgroup(&cgroups), bpf(&cgroups)]
}

fn cgroup(cgroups: &RunCgroups) -> Check {
    let below = cgroups.run.path().parent().unwrap_or(Path::new("/"));
    match cgroups.run.kill() {
        Ok(()) => Check::ok("cgroup", format!("below {}", below.display())),
        Err(error) => Check::missing(
            "cgroup",
            format!("cgroup.kill: {error}"),
            "use Linux 6.1 or later",
        ),
    }
}

fn bpf(cgroups: &RunCgroups) -> Check {
    match Gates::attach(
        Config::new(DEFAULT_PROXY_PORT, true),
        cgroups,
        Layers::default(),
        None,
    ) {
        Ok(gates) => Check::ok(
            "bpf",
            format!("{} programs attached", gates.programs().len()),
        ),
        Err(error) => Check::failed("bpf", &error.into()),
    }
}

/// What a child process found in its own namespaces.
#[derive(Debug, Serialize, Deserialize)]
struct Inside {
    /// Host mounts that the file view cannot contain.
    overlay: Result<Vec<PathBuf>, ViewProblem>,
    ipv6: Result<(), String>,
}

/// The reason why a child process has no file view.
#[derive(Debug, Serialize, Deserialize)]
enum ViewProblem {
    /// The kernel denied new namespaces.
    Namespaces(String),
    /// The file view could not be built in the new namespaces.
    Overlay(String),
}

impl ViewProblem {
    /// Returns the failed check, with a hint that fits the problem.
    fn into_check(self) -> Check {
        match self {
            Self::Namespaces(error) => Check::missing("overlay", error, PRIVILEGED),
            Self::Overlay(error) => Check::missing("overlay", error, OVERLAY),
        }
    }
}

const OVERLAY: &str = "load overlayfs (modprobe overlay), or put / on a file system that overlayfs supports as a \
                       lower layer";
const PRIVILEGED: &str = "run egress as root outside a container, or in a privileged container";

/// Checks the file view, and IPv6 in a network namespace.
fn inside(dir: &RunDir) -> [Check; 2] {
    let stage = dir.stage();
    let found = in_child(|| try_inside(&stage));
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let check = Check::missing("overlay", error.to_string(), PRIVILEGED);
            return [check, Check::untried("ipv6")];
        }
    };
    let overlay = match found.overlay {
        Ok(left_out) if left_out.is_empty() => {
            Check::ok("overlay", "every host mount is in the file view")
        }
        Ok(left_out) => {
            let paths: Vec<_> = left_out.iter().map(|path| path.to_string_lossy()).collect();
            Check::ok(
                "overlay",
                format!("not in the file view: {}", paths.join(", ")),
            )
        }
        Err(problem) => problem.into_check(),
    };
    let ipv6 = match found.ipv6 {
        Ok(()) => Check::ok("ipv6", "::1 can be bound"),
        Err(error) => Check::warning(
            "ipv6",
            error,
            "without ::1, host names have no IPv6 addresses, and IPv6 connections are denied",
        ),
    };
    [overlay, ipv6]
}

fn try_inside(stage: &Path) -> Inside {
    let separate = || -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        Ok(())
    };
    if let Err(error) = separate() {
        let error = format!("namespaces: {error}");
        return Inside {
            overlay: Err(ViewProblem::Namespaces(error.clone())),
            ipv6: Err(error),
        };
    }
    let view = View::begin(stage).and_then(|mut view| view.overlay_host(&[], &[]));
    let ipv6 = netdev::loopback_up()
        .and_then(|()| netdev::add_to_loopback(Ipv6Addr::from(ADDRCONFIG_V6).into()))
        .and_then(|()| TcpListener::bind((Ipv6Addr::LOCALHOST, 0)));
    Inside {
        overlay: view
            .map(|left_out| left_out.into_iter().map(|left| left.path).collect())
            .map_err(|error| ViewProblem::Overlay(error.to_string())),
        ipv6: ipv6.map(drop).map_err(|error| error.to_string()),
    }
}

/// Checks the idmapped mount in which the command's user owns the files that the caller owns.
fn idmap(workdir: &Path) -> Check {
    let users = UserLease::acquire(Path::new(STATE_DIR));
    match users.and_then(|users| {
        egress_workspace::mapped(workdir, users.agent, egress_workspace::Access::ReadWrite)
    }) {
        Ok(_) => Check::ok("workspace", format!("{} can be mapped", workdir.display())),
        Err(source) => {
            let path = workdir.to_path_buf();
            Check::failed("workspace", &RunError::Workspace { path, source })
        }
    }
}

/// Runs `work` in a forked child. The namespaces of the child end with the child.
fn in_child<T: Serialize + DeserializeOwned>(work: impl FnOnce() -> T) -> io::Result<T> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let Some(child) = process::fork()? else {
        drop(reader);
        let text = serde_json::to_vec(&work()).map_err(io::Error::from);
        let written = text.and_then(|text| File::from(writer).write_all(&text));
        process::exit_now(i32::from(written.is_err()));
    };
    drop(writer);
    let mut text = Vec::new();
    let read = File::from(reader).read_to_end(&mut text);
    nix::sys::wait::waitpid(child, None)?;
    read?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(version("5.15-rc1"), Some((5, 15)));
        assert!(version("6.18.0").is_some_and(|version| version >= TESTED));
        assert_eq!(version("unknown"), None);
    }
}
