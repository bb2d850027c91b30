//! The process of the command: drops its privileges and then becomes the command.
//!
//! `Staged --drop_privileges--> Dropped --exec--> Result<Infallible, NotExecuted>`: each step consumes
//! the previous value, so no step can be skipped.
//!
//! Claims: not-root, setuid, table-signals, table-real-time, table-processes
use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use egress_sys::privileges::Enforced;
use egress_sys::{fd, handover, privileges, process};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::Pid;

use super::protocol::{Resources, StagePlan};
use super::refused::NotExecuted;
use super::seccomp;
use crate::layers::Layer;

/// A forked child of init that still has init's privileges.
#[must_use = "the command is not running yet"]
#[derive(Debug)]
pub struct Staged(());

/// The same process after it dropped its privileges.
#[must_use = "the command is not running yet"]
#[derive(Debug)]
pub struct Dropped {
    enforced: Enforced,
}

impl Staged {
    /// Sets the command's limits, standard streams, and working directory, and starts a new session. A `terminal`
    /// becomes the standard streams and the controlling terminal of the session.
    ///
    /// # Errors
    /// Returns the error of the first system call that fails.
    pub fn begin(plan: &StagePlan, terminal: Option<&OwnedFd>) -> io::Result<Self> {
        go_before_init()?;
        limit(&plan.resources)?;
        nix::unistd::setsid()?;
        for (number, inherited) in (0..).zip(plan.stdio.into_iter().flatten()) {
            process::redirect(&handover::inherited(inherited)?, number)?;
        }
        if let Some(terminal) = terminal {
            egress_sys::terminal::control(terminal)?;
            (0..3).try_for_each(|number| process::redirect(terminal, number))?;
        }
        std::env::set_current_dir(&plan.workdir)?;
        process::disable_core_dumps();
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        Ok(Self(()))
    }

    /// Returns a process in which the probes can run. The process keeps init's standard streams.
    pub fn probe() -> Self {
        Self(())
    }

    /// Permanently becomes the command's user and installs the filters.
    ///
    /// # Errors
    /// Fails if a step fails, or if the kernel reports values other than those requested.
    pub fn drop_privileges(self, plan: &StagePlan) -> io::Result<Dropped> {
        let Self(()) = self;
        privileges::drop_to(plan.agent, plan.agent, Pid::from_raw(1))?;
        let filtered = plan.layers.has(Layer::Seccomp);
        if filtered {
            seccomp::install(plan.audit).map_err(|error| io::Error::other(error.to_string()))?;
        }
        let enforced = privileges::status()?;
        let wanted = Enforced {
            no_new_privs: true,
            seccomp_mode: if filtered { 2 } else { 0 },
            seccomp_filters: enforced.seccomp_filters,
            capabilities: 0,
            uid: plan.agent,
        };
        if enforced != wanted {
            return Err(io::Error::other(format!(
                "the privileges of the process are not the requested ones; the kernel reports {enforced}"
            )));
        }
        Ok(Dropped { enforced })
    }
}

/// Makes the kernel kill this process and its children before init when memory runs out. If the kernel killed init,
/// every process of the boundary would end.
fn go_before_init() -> io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", "1000")
}

/// Sets limits for this process and all its children. A lower existing limit stays, because raising a limit requires a
/// capability that root in a container may lack.
fn limit(resources: &Resources) -> io::Result<()> {
    lower_all(resources, getrlimit, setrlimit)
}

fn lower_all(
    resources: &Resources,
    get: impl Fn(Resource) -> nix::Result<(u64, u64)>,
    mut set: impl FnMut(Resource, u64, u64) -> nix::Result<()>,
) -> io::Result<()> {
    let mut lower = |resource, most: u64| {
        let (soft, hard) = get(resource)?;
        set(resource, soft.min(most), hard.min(most))
    };
    lower(Resource::RLIMIT_NPROC, resources.processes)?;
    lower(Resource::RLIMIT_NOFILE, resources.open_files)?;
    for (resource, most) in FIXED {
        lower(resource, most)?;
    }
    if let Some(data) = resources.data {
        lower(Resource::RLIMIT_DATA, data)?;
    }
    Ok(())
}

/// Limits that do not depend on the machine. These limits bound what one user can take from tables of the kernel, and
/// rule out a real-time or raised priority, with which a process could take a processor from all other processes. The
/// caller's own limits may be higher than the limits of a login, or unlimited. Each POSIX timer counts as a pending
/// signal.
const FIXED: [(Resource, u64); 5] = [
    (Resource::RLIMIT_SIGPENDING, 16_384),
    (Resource::RLIMIT_MSGQUEUE, 409_600),
    (Resource::RLIMIT_MEMLOCK, 8 << 20),
    (Resource::RLIMIT_RTPRIO, 0),
    (Resource::RLIMIT_NICE, 0),
];

impl Dropped {
    /// Returns the privileges that the kernel reports for this process.
    pub fn enforced(&self) -> &Enforced {
        &self.enforced
    }

    /// Becomes the command. Returns only if no candidate could be executed.
    ///
    /// # Errors
    /// Returns the reason why the command could not be executed.
    pub fn exec(self, plan: &StagePlan) -> Result<Infallible, NotExecuted> {
        let Self { enforced: _ } = self;
        let [argv, envp, candidates] = prepared(plan).map_err(NotExecuted::before)?;
        let mut why = NotExecuted::NotFound { closed: Vec::new() };
        for candidate in candidates {
            let Err(errno) = nix::unistd::execve(&candidate, &argv, &envp);
            why.add(Path::new(OsStr::from_bytes(candidate.as_bytes())), errno);
        }
        Err(why)
    }
}

/// Returns the arguments, the environment, and the paths to try.
fn prepared(plan: &StagePlan) -> Result<[Vec<CString>; 3], Errno> {
    // Rust ignores SIGPIPE, but shell pipelines expect the default.
    process::default_signal(Signal::SIGPIPE)?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    fd::cloexec_from(3).or(Err(Errno::EBADF))?;
    let (argv, envp) = (c_strings(&plan.command)?, c_strings(&plan.environment)?);
    Ok([argv, envp, candidates(plan)?])
}

fn c_strings(bytes: &[Vec<u8>]) -> Result<Vec<CString>, Errno> {
    bytes
        .iter()
        .map(|text| CString::new(text.as_slice()).ok().ok_or(Errno::EINVAL))
        .collect()
}

/// Returns the paths to try, as execvp(3) does with the command's own PATH. Empty entries of PATH are skipped.
fn candidates(plan: &StagePlan) -> Result<Vec<CString>, Errno> {
    let name = plan.command.first().ok_or(Errno::EINVAL)?;
    let as_c = |path: &[u8]| CString::new(path).ok().ok_or(Errno::EINVAL);
    if name.contains(&b'/') {
        return Ok(vec![as_c(name)?]);
    }
    let path = plan
        .environment
        .iter()
        .find_map(|entry| entry.strip_prefix(b"PATH=".as_slice()));
    let path = path.unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
    path.split(|byte| *byte == b':')
        .filter(|dir| !dir.is_empty())
        .map(|dir| {
            as_c(
                Path::new(OsStr::from_bytes(dir))
                    .join(OsStr::from_bytes(name))
                    .as_os_str()
                    .as_bytes(),
            )
        })
        .collect()
}

/// Returns the description of an `errno`.
pub fn describe(errno: i32) -> &'static str {
    Errno::from_raw(errno).desc()
}

/// The hidden first argument that makes this binary the boundary's init.
pub const STAGE: &CStr = c"__init";

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: table-real-time*, table-signals, table-processes
    #[test]
    fn limits_of_a_caller_without_limits_are_lowered() {
        let resources = Resources {
            processes: 100,
            open_files: 64,
            data: Some(1 << 20),
        };
        let lowered = |soft, hard| {
            let mut set = Vec::new();
            let get = |_| Ok((soft, hard));
            lower_all(&resources, get, |resource, soft, hard| {
                set.push((resource, soft, hard));
                Ok(())
            })
            .unwrap();
            set
        };
        let wanted = [
            (Resource::RLIMIT_NPROC, 100),
            (Resource::RLIMIT_NOFILE, 64),
            (Resource::RLIMIT_SIGPENDING, 16_384),
            (Resource::RLIMIT_MSGQUEUE, 400 << 10),
            (Resource::RLIMIT_MEMLOCK, 8 << 20),
            (Resource::RLIMIT_RTPRIO, 0),
            (Resource::RLIMIT_NICE, 0),
            (Resource::RLIMIT_DATA, 1 << 20),
        ];
        let all = lowered(u64::MAX, u64::MAX);
        assert_eq!(all, wanted.map(|(resource, most)| (resource, most, most)));
        // A lower limit of the caller stays.
        assert!(
            lowered(0, 1)
                .iter()
                .all(|(_, soft, hard)| (*soft, *hard) <= (0, 1))
        );
    }
}
