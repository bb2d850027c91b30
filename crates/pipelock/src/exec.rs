//! The process `egress __pipelock`: drops the privileges that Pipelock does not need, and executes Pipelock.
use std::ffi::{CString, OsString};
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use egress_sys::{handover, privileges, process};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use serde::{Deserialize, Serialize};

use super::resolver;

/// The hidden first argument.
pub(super) const STAGE: &std::ffi::CStr = c"__pipelock";
/// Exit status of a process that could not execute Pipelock, as in a shell.
const NOT_EXECUTED: u8 = 127;
/// A mount without source, type, or data.
const NONE: Option<&str> = None;

/// The plan of the process, as JSON in an inherited memory file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExecPlan {
    /// User and group id of Pipelock, `pipelock-host` in the packet.
    pub(super) id: u32,
    /// The copy of the Pipelock binary.
    pub(super) binary: PathBuf,
    /// Arguments of Pipelock.
    pub(super) arguments: Vec<OsString>,
    /// The whole environment of Pipelock.
    pub(super) environment: Vec<(String, PathBuf)>,
    /// File that replaces the machine's resolver configuration, if the machine has one.
    pub(super) resolver: Option<PathBuf>,
}

/// Executes Pipelock. An error is printed to standard error, because standard error is Pipelock's
/// log.
pub fn main(plan_fd: RawFd, _unused: RawFd) -> u8 {
    let error = match become_pipelock(plan_fd) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    drop(writeln!(io::stderr(), "cannot start Pipelock: {error}"));
    NOT_EXECUTED
}

fn become_pipelock(plan_fd: RawFd) -> io::Result<std::convert::Infallible> {
    let parent = nix::unistd::getppid();
    let plan: ExecPlan = handover::read_plan(plan_fd)?;
    let (_soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    process::disable_core_dumps();
    make_executable(&plan.binary)?;
    if let Some(resolver) = &plan.resolver {
        mount(Some(resolver), resolver::PATH, NONE, MsFlags::MS_BIND, NONE)?;
    }
    nix::unistd::chdir("/")?;
    umask(Mode::from_bits_truncate(0o077));
    privileges::drop_to(plan.id, plan.id, parent)?;

    let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::other);
    let path = text(plan.binary.as_os_str().as_bytes())?;
    let mut arguments = vec![c"pipelock".to_owned()];
    for argument in &plan.arguments {
        arguments.push(text(argument.as_bytes())?);
    }
    let mut environment = Vec::new();
    for (name, value) in &plan.environment {
        let entry = [name.as_bytes(), b"=", value.as_os_str().as_bytes()].concat();
        environment.push(text(&entry)?);
    }
    Ok(nix::unistd::execve(&path, &arguments, &environment)?)
}

/// Mounts the copy read-only and executable over itself, because `/run` is often mounted `noexec`. The mount namespace
/// belongs to this process and ends with it.
fn make_executable(binary: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)?;
    mount(Some(binary), binary, NONE, MsFlags::MS_BIND, NONE)?;
    let flags = MsFlags::MS_REMOUNT
        | MsFlags::MS_BIND
        | MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV;
    mount(NONE, binary, NONE, flags, NONE)?;
    Ok(())
}
