//! Probes that try to become another user, to create or enter a namespace, to reach another process, or to leave the
//! cgroup.
use std::ffi::{CStr, CString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use egress_sys::process::Child;
use egress_sys::{attempt, fd, process, xattr};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Gid, Pid, Uid, geteuid, setgroups, setresgid, setresuid};

use super::model::Observation;
use super::scene::{Scene, Side, Target};
use super::tried::{Tried, reached, refused};

/// The user id of `nobody`, with which a control executes a program.
const NOBODY: u32 = 65_534;
/// Programs that do nothing. A copy of such a program can be given privileges.
const IDLE: [&str; 2] = ["/bin/true", "/usr/bin/true"];
/// A copy that is set-user-id root.
const SETUID: &str = "/tmp/.egress-setuid";
/// A copy with a file capability.
const CAPABLE: &str = "/tmp/.egress-capability";

/// Programs that would grant privileges, for as long as this value lives.
#[derive(Debug)]
#[must_use = "they are removed when this is dropped"]
pub struct PrivilegedPrograms(());

impl PrivilegedPrograms {
    /// Creates the programs in the calling process's /tmp, as root. A program that cannot be
    /// created stays missing.
    pub fn place() -> Self {
        let place = || -> io::Result<()> {
            let idle = IDLE.iter().find(|path| Path::new(path).exists());
            let idle = idle.ok_or(io::ErrorKind::NotFound)?;
            fs::copy(idle, SETUID)?;
            fs::set_permissions(SETUID, Permissions::from_mode(0o4755))?;
            fs::copy(idle, CAPABLE)?;
            fs::set_permissions(CAPABLE, Permissions::from_mode(0o755))?;
            // struct vfs_cap_data, revision 2: effective, permitted CAP_NET_BIND_SERVICE.
            let words: [u32; 5] = [0x0200_0001, 1 << 10, 0, 0, 0];
            let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
            xattr::set(&File::open(CAPABLE)?, c"security.capability", &bytes)
        };
        // The probe and its control report a missing program themselves.
        drop(place());
        Self(())
    }
}

impl Drop for PrivilegedPrograms {
    fn drop(&mut self) {
        for path in [SETUID, CAPABLE] {
            drop(fs::remove_file(path));
        }
    }
}

/// The effective user of a program and whether the program had a capability, or why it could not
/// gain privileges.
type Rights = Result<(u32, bool), Observation>;

/// The time within which a program that does nothing must end.
const ENDED_WITHIN_MS: u16 = 100;
/// Interval between two checks of the program's state.
const CHECK_EVERY_MS: u16 = 1;

/// Executes a program, and returns its effective user and whether it had a capability.
fn rights(program: &CStr, arguments: &[&CStr]) -> io::Result<(u32, bool)> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let Some(child) = process::fork()? else {
        drop(reader);
        let errno = match execute(program, arguments) {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        drop(File::from(writer).write_all(&errno.to_ne_bytes()));
        process::exit_now(127);
    };
    drop(writer);
    // The read returns the error of `execve`, or the end of the pipe if `execve` succeeded and
    // closed the child's end.
    let mut errno = [0; 4];
    let failed = nix::unistd::read(&reader, &mut errno)? == errno.len();
    let program = Child::of(child)?;
    let mut waited = 0;
    let last = loop {
        let ended = program.peek(CHECK_EVERY_MS)?.is_some();
        let held = privileges_in(&fs::read_to_string(format!("/proc/{child}/status"))?);
        waited += CHECK_EVERY_MS;
        // The wait stops at the first sign of privilege; otherwise the last state counts.
        if ended || waited > ENDED_WITHIN_MS || matches!(held, Some((0, _) | (_, true))) {
            break held;
        }
    };
    program.signal(Signal::SIGKILL);
    program.wait_for(ENDED_WITHIN_MS)?;
    if failed {
        return Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)));
    }
    last.ok_or_else(|| {
        io::Error::other("/proc does not show the user and capabilities of the program")
    })
}

/// Reads the effective user from the text of `/proc/PID/status`, and whether the process has a capability.
fn privileges_in(status: &str) -> Option<(u32, bool)> {
    let word = |name: &str, number: usize| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().nth(number)
    };
    let user = word("Uid:", 1)?.parse().ok()?;
    let capabilities = u64::from_str_radix(word("CapPrm:", 0)?, 16).ok()?;
    Some((user, capabilities != 0))
}

/// Executes the program as an unprivileged user.
fn execute(program: &CStr, arguments: &[&CStr]) -> io::Result<()> {
    if geteuid().is_root() {
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        setgroups(&[])?;
        setresgid(group, group, group)?;
        setresuid(user, user, user)?;
    }
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    for stream in 0..3 {
        process::redirect(&null, stream)?;
    }
    let environment: [&CStr; 0] = [];
    nix::unistd::execve(program, arguments, &environment)?;
    Ok(())
}

/// Returns the reason if `program` cannot gain privileges outside. Inside, returns `None`.
fn why_no_gain(scene: &Scene, program: &str) -> Option<Observation> {
    use nix::sys::statvfs::{FsFlags, statvfs};
    if scene.side == Side::Inside {
        return None;
    }
    let nosuid = || statvfs(program).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOSUID));
    let why = if nix::sys::prctl::get_no_new_privs().is_ok_and(|on| on) {
        String::from("the caller itself has no_new_privs")
    } else if !Path::new(program).exists() {
        format!("there is no {program}")
    } else if nosuid() {
        format!("{program} is on a nosuid mount")
    } else {
        return None;
    };
    Some(Observation::Absent(why))
}

fn gain(scene: &Scene, program: &str, arguments: &[&CStr]) -> io::Result<Rights> {
    if let Some(absent) = why_no_gain(scene, program) {
        return Ok(Err(absent));
    }
    let path = CString::new(program).map_err(io::Error::other)?;
    rights(&path, arguments).map(Ok)
}

pub(super) fn setuid_file(scene: &Scene) -> Tried {
    as_root(gain(scene, SETUID, &[c"true"])?)
}

fn as_root(gained: Rights) -> Tried {
    match gained {
        Err(none) => Ok(none),
        Ok((0, _)) => reached("the program ran as root"),
        Ok((user, _)) => refused(format!("the program ran as user {user}")),
    }
}

pub(super) fn file_capability(scene: &Scene) -> Tried {
    match gain(scene, CAPABLE, &[c"true"])? {
        Err(absent) => Ok(absent),
        Ok((_, true)) => reached("the program had a capability"),
        Ok((_, false)) => refused("the program had no capability"),
    }
}

pub(super) fn sudo(scene: &Scene) -> Tried {
    const SUDO: &str = "/usr/bin/sudo";
    let given = fs::metadata(SUDO).is_ok_and(|meta| meta.mode() & 0o4000 != 0 && meta.uid() == 0);
    if scene.side == Side::Outside && !given {
        return Ok(Observation::Absent(format!(
            "{SUDO} does not exist or is not set-user-id root"
        )));
    }
    as_root(gain(scene, SUDO, &[c"sudo", c"-h"])?)
}

pub(super) fn become_root(_: &Scene) -> Tried {
    let root = Uid::from_raw(0);
    setresuid(root, root, root)?;
    reached("the process is root")
}

pub(super) fn user_namespace(scene: &Scene) -> Tried {
    match unshare(CloneFlags::CLONE_NEWUSER) {
        Err(Errno::ENOSPC) if scene.side == Side::Outside => Ok(Observation::Absent(String::from(
            "user.max_user_namespaces is 0",
        ))),
        other => {
            other?;
            reached("a user namespace was created")
        }
    }
}

pub(super) fn enter_namespace(_: &Scene) -> Tried {
    setns(File::open("/proc/self/ns/uts")?, CloneFlags::CLONE_NEWUTS)?;
    reached("a namespace was entered")
}

pub(super) fn mount_file_system(_: &Scene) -> Tried {
    let none: Option<&str> = None;
    // /tmp is not used, because other probes use files there at the same time.
    let at = "/var/tmp";
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), none)?;
    umount2(at, MntFlags::MNT_DETACH)?;
    reached("a tmpfs was mounted")
}

fn trace(target: Target) -> Tried {
    attempt::seize(target.visible()?)?;
    // The end of this process stops the tracing.
    reached(format!("process {} is traced", target.pid))
}

fn memory(target: Target) -> Tried {
    let path = format!("/proc/{}/mem", target.visible()?);
    OpenOptions::new().read(true).write(true).open(&path)?;
    reached(format!("{path} was opened"))
}

pub(super) fn ptrace_init(scene: &Scene) -> Tried {
    trace(scene.targets.init)
}

pub(super) fn ptrace_supervisor(scene: &Scene) -> Tried {
    trace(scene.targets.supervisor)
}

pub(super) fn ptrace_mediator(scene: &Scene) -> Tried {
    trace(scene.targets.mediator)
}

pub(super) fn ptrace_relay(scene: &Scene) -> Tried {
    trace(scene.targets.relay)
}

pub(super) fn memory_init(scene: &Scene) -> Tried {
    memory(scene.targets.init)
}

pub(super) fn memory_supervisor(scene: &Scene) -> Tried {
    memory(scene.targets.supervisor)
}

pub(super) fn memory_mediator(scene: &Scene) -> Tried {
    memory(scene.targets.mediator)
}

pub(super) fn memory_relay(scene: &Scene) -> Tried {
    memory(scene.targets.relay)
}

/// Moves this process to the parent of the run's cgroup.
pub(super) fn leave_cgroup(scene: &Scene) -> Tried {
    let path = scene.cgroup.join("cgroup.procs");
    OpenOptions::new()
        .write(true)
        .open(&path)?
        .write_all(b"0")?;
    reached(format!("the process is in {}", scene.cgroup.display()))
}

/// Leaves a descriptor open and checks whether an executed program has it. Inside, the probe first sets close-on-exec
/// on all descriptors from 3 up, as the process that becomes the command does.
pub(super) fn inherited_descriptors(scene: &Scene) -> Tried {
    let planted = File::open("/dev/null")?;
    let idle = IDLE.iter().find(|path| Path::new(path).exists());
    let idle = idle.ok_or_else(|| io::Error::other("there is no program to execute"))?;
    let idle = CString::new(*idle).map_err(io::Error::other)?;
    let close = scene.side == Side::Inside;
    let Some(child) = process::fork()? else {
        let execute = || -> io::Result<()> {
            fd::keep_over_exec(&planted)?;
            if close {
                fd::cloexec_from(3)?;
            }
            attempt::trace_me()?;
            let environment: [&CStr; 0] = [];
            nix::unistd::execve(&idle, &[c"true"], &environment)?;
            Ok(())
        };
        process::exit_now(i32::from(execute().is_err()));
    };
    let open = descriptors_at_exec(child);
    // The result is known, so the program can be killed.
    let killed = kill(child, Signal::SIGKILL);
    let ended = waitid(Id::Pid(child), WaitPidFlag::WEXITED);
    drop(killed.and(ended).map_err(io::Error::from));
    let open = open?;
    if open.is_empty() {
        refused("the program has no inherited descriptor")
    } else {
        reached(format!(
            "the program has the descriptors {}",
            open.join(", ")
        ))
    }
}

/// Descriptors from 3 up in a child that stops after its `execve`.
fn descriptors_at_exec(child: Pid) -> io::Result<Vec<String>> {
    use nix::sys::wait::WaitStatus;
    let status = nix::sys::wait::waitpid(child, None)?;
    if !matches!(status, WaitStatus::Stopped(..)) {
        let end = process::describe_end(status);
        return Err(io::Error::other(format!("the program ended with {end}")));
    }
    let mut open = Vec::new();
    for entry in fs::read_dir(format!("/proc/{child}/fd"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !matches!(name.as_str(), "0" | "1" | "2") {
            open.push(name);
        }
    }
    Ok(open)
}
