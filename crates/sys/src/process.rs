//! Starts and ends processes.
//!
//! Claims: core-dump, relay-only, terminal-keys
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socketpair};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{ForkResult, Pid};
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{fd, raw};

/// A child of this process that is waited for through its pidfd.
#[derive(Debug)]
pub struct Child {
    /// Process id in this pid namespace.
    pub pid: Pid,
    /// The pidfd, which becomes readable when the child has ended.
    pub pidfd: OwnedFd,
}

impl Child {
    /// Opens the pidfd of a forked child.
    ///
    /// # Errors
    /// Returns the error of `pidfd_open(2)`.
    pub fn of(pid: Pid) -> io::Result<Self> {
        let number =
            rustix::process::Pid::from_raw(pid.as_raw()).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(number, PidfdFlags::empty())?;
        Ok(Self { pid, pidfd })
    }

    /// Sends a signal. A child that has already ended is not an error.
    pub fn signal(&self, signal: Signal) {
        if let Some(signal) = rustix::process::Signal::from_named_raw(signal as i32) {
            drop(pidfd_send_signal(&self.pidfd, signal).map_err(io::Error::from));
        }
    }

    /// Takes the exit status if the child has ended.
    ///
    /// # Errors
    /// Returns `ECHILD` if the status was already taken.
    pub fn try_wait(&self) -> io::Result<Option<WaitStatus>> {
        self.status(WaitPidFlag::empty())
    }

    /// Waits up to `timeout_ms` milliseconds for the child to end, without taking its status.
    ///
    /// # Errors
    /// Returns `ECHILD` if the status was already taken.
    pub fn peek(&self, timeout_ms: u16) -> io::Result<Option<WaitStatus>> {
        self.poll(timeout_ms)?;
        self.status(WaitPidFlag::WNOWAIT)
    }

    /// Waits up to `timeout_ms` milliseconds for the child to end, and takes its status.
    ///
    /// # Errors
    /// Returns the error of `poll(2)` or `waitid(2)`.
    pub fn wait_for(&self, timeout_ms: u16) -> io::Result<Option<WaitStatus>> {
        self.poll(timeout_ms)?;
        self.try_wait()
    }

    fn poll(&self, timeout_ms: u16) -> io::Result<()> {
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(timeout_ms))?;
        Ok(())
    }

    fn status(&self, more: WaitPidFlag) -> io::Result<Option<WaitStatus>> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | more;
        let status = waitid(Id::PIDFd(self.pidfd.as_fd()), flags)?;
        Ok((status != WaitStatus::StillAlive).then_some(status))
    }

    /// Whether one of the child's threads runs, waits for a processor, or waits for a disk.
    ///
    /// # Errors
    /// Fails if the child's directory in `/proc` cannot be read. The directory exists until the child is waited for.
    pub fn is_at_work(&self) -> io::Result<bool> {
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid))? {
            // A thread may end at any time.
            let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else {
                continue;
            };
            // The thread's name, which may contain anything, is in parentheses before the state.
            let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
            if state.is_some_and(|state| state.starts_with(['R', 'D'])) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Describes how a process ended, for error messages.
pub fn describe_end(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, status) => format!("exit status {status}"),
        WaitStatus::Signaled(_, signal, _) => format!("signal {signal}"),
        WaitStatus::Stopped(..)
        | WaitStatus::PtraceEvent(..)
        | WaitStatus::PtraceSyscall(_)
        | WaitStatus::Continued(_)
        | WaitStatus::StillAlive => String::from("an unexpected wait status"),
    }
}

/// Namespaces and cgroup of a new process.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// `CLONE_NEW*` flags. Other flags are rejected.
    pub namespaces: u64,
    /// The cgroup v2 directory in which the process is created.
    pub cgroup: BorrowedFd<'a>,
}

/// Fails unless the calling thread is the only thread of its process. Only the calling thread could then start another
/// one. After a fork of such a process, the child cannot wait for a lock that another thread held.
pub(crate) fn alone() -> io::Result<()> {
    let threads = std::fs::read_dir("/proc/self/task")?.take(2).count();
    if threads == 1 {
        return Ok(());
    }
    Err(io::Error::other("the process has more than one thread"))
}

/// Starts this same binary with `args` in `placement`. The process gets only the descriptors in `keep` in addition to
/// the standard streams, an environment with just `LOCALDOMAIN`, and no blocked signals. The process leads a new
/// session without a terminal, so that the caller's terminal does not send signals to it.
///
/// # Errors
/// Returns the error of `clone3(2)` or `execve(2)`. Also fails if this process has more than one
/// thread.
pub fn spawn_self(
    args: &[CString],
    placement: Placement<'_>,
    keep: &[BorrowedFd<'_>],
    stdio: [BorrowedFd<'_>; 3],
) -> io::Result<Child> {
    let become_stage = || -> io::Result<Infallible> {
        nix::unistd::setsid()?;
        for (number, fd) in (0..).zip(stdio) {
            redirect(&fd, number)?;
        }
        fd::cloexec_from(3)?;
        keep.iter().try_for_each(fd::keep_over_exec)?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        // The setting keeps the C library from adding the host's search domains to a name.
        let environment: [&CStr; 1] = [c"LOCALDOMAIN=."];
        Ok(nix::unistd::execve(c"/proc/self/exe", args, &environment)?)
    };
    let (ours, theirs) = report_pair()?;
    let Some(child) = clone(placement)? else {
        let Err(error) = become_stage();
        report(&theirs, &error);
        exit_now(127)
    };
    drop(theirs);
    // A successful exec closes the other end.
    let reported = fd::receive(&ours, MsgFlags::empty())?;
    match errno(&reported.bytes) {
        None => Ok(child),
        Some(error) => {
            waitid(Id::PIDFd(child.pidfd.as_fd()), WaitPidFlag::WEXITED)?;
            Err(error)
        }
    }
}

/// Calls `make` in a child process in `cgroup`, and returns the socket that `make` creates. A
/// socket always belongs to the cgroup of the process that created it.
///
/// # Errors
/// Returns the error of `clone3(2)` or of `make`. Also fails if this process has more than one
/// thread.
pub fn made_in_cgroup(
    cgroup: BorrowedFd<'_>,
    make: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<OwnedFd> {
    let placement = Placement {
        namespaces: 0,
        cgroup,
    };
    let (ours, theirs) = report_pair()?;
    let Some(child) = clone(placement)? else {
        match make().and_then(|made| fd::send_with_fds(&theirs, b"made", &[made.as_fd()])) {
            Ok(()) => exit_now(0),
            Err(error) => report(&theirs, &error),
        }
        exit_now(1)
    };
    drop(theirs);
    let status = waitid(Id::PIDFd(child.pidfd.as_fd()), WaitPidFlag::WEXITED)?;
    let fd::Received { bytes, mut fds } = fd::receive(&ours, MsgFlags::empty())?;
    fds.pop().ok_or_else(|| {
        errno(&bytes).unwrap_or_else(|| {
            let end = describe_end(status);
            io::Error::other(format!("the child in the cgroup ended with {end}"))
        })
    })
}

/// Creates the socket pair on which a child reports why it failed.
fn report_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    Ok(pair)
}

fn report(socket: &OwnedFd, error: &io::Error) {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    // If sending fails, the parent has ended and needs no report.
    drop(fd::send_with_fds(socket, &errno.to_ne_bytes(), &[]));
}

/// Returns the error that a child reported, if any.
fn errno(report: &[u8]) -> Option<io::Error> {
    let errno = i32::from_ne_bytes(report.try_into().ok()?);
    Some(io::Error::from_raw_os_error(errno))
}

/// Clones the process as `fork(2)` does. Returns `None` in the child.
fn clone(placement: Placement<'_>) -> io::Result<Option<Child>> {
    /// `CLONE_INTO_CGROUP`, a flag that does not fit into the type of the other flags.
    const INTO_CGROUP: u64 = 1 << 33;
    const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    alone()?;
    let number = |number: i32| u64::try_from(number).map_err(io::Error::other);
    // Other flags would make the child share this process's memory or descriptors.
    if placement.namespaces & !number(NAMESPACES)? != 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut pidfd: libc::c_int = -1;
    let mut arguments = libc::clone_args {
        flags: placement.namespaces | number(libc::CLONE_PIDFD)? | INTO_CGROUP,
        pidfd: raw::pointer(&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: number(libc::SIGCHLD)?,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: number(placement.cgroup.as_raw_fd())?,
    };
    let block = [
        raw::pointer(&raw mut arguments),
        size_of::<libc::clone_args>(),
    ];
    // SAFETY: `arguments` is a block of the given size, and the kernel writes a descriptor to `pidfd`. The child has
    // its own memory, since `CLONE_VM` is not among the flags (checked), and without a stack it continues here, as
    // after fork(2). This thread is the only one (checked), so no lock of the C library is held in the child.
    let pid = unsafe { raw::call(libc::SYS_clone3, block) }?;
    if pid == 0 {
        return Ok(None);
    }
    Ok(Some(Child {
        pid: Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?),
        // SAFETY: with `CLONE_PIDFD` the kernel has just created this descriptor.
        pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
    }))
}

/// Forks this process. Returns `None` in the child.
///
/// # Errors
/// Returns the error of `fork(2)`. Also fails if this process has more than one
/// thread.
pub fn fork() -> io::Result<Option<Pid>> {
    alone()?;
    // SAFETY: this thread is the only one (checked), so the child may run any code.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Forks a process that keeps only `kept` and the standard streams. The child calls `work` with
/// `given` and exits with status 0 if that succeeds.
///
/// # Errors
/// Returns the errors of [`fork`].
pub fn fork_with<T: Serialize + DeserializeOwned>(
    kept: OwnedFd,
    given: &T,
    work: fn(OwnedFd, T) -> io::Result<()>,
) -> io::Result<Pid> {
    let given = serde_json::to_vec(given)?;
    if let Some(child) = fork()? {
        return Ok(child);
    }
    // SAFETY: `work` is a function without captures, and its argument is parsed from text, so
    // `kept` is its only object of this process. `work` runs in a single thread (`fork`), and this
    // function does not return, so no other object is used or dropped.
    let closed = unsafe { fd::close_others(&kept) };
    let done = closed.and_then(|()| work(kept, serde_json::from_slice(&given)?));
    exit_now(i32::from(done.is_err()))
}

/// Sets the core file limit to one byte, so that no memory of this process is written to disk. With
/// a limit of 0, the kernel would still start the program in `core_pattern`, as root and outside of
/// any boundary (core(5)). A limit of one byte prevents that.
pub fn disable_core_dumps() {
    for bytes in [1, 0] {
        // A limit of 0 that was inherited cannot be raised.
        if setrlimit(Resource::RLIMIT_CORE, bytes, bytes).is_ok() {
            return;
        }
    }
}

/// Ends the calling process at once, without running exit handlers.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes a number and does not return.
    unsafe { libc::_exit(status) }
}

/// Replaces standard stream `number` with the open descriptor `fd`.
///
/// # Errors
/// Returns the error of `dup2(2)`, or `EINVAL` for a number that is not a standard stream.
pub fn redirect(fd: &impl AsFd, number: i32) -> io::Result<()> {
    match number {
        0 => dup2_stdin(fd)?,
        1 => dup2_stdout(fd)?,
        2 => dup2_stderr(fd)?,
        _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
    Ok(())
}

/// Restores the default disposition of `signal`.
///
/// # Errors
/// Returns the error of `signal(2)`.
pub fn default_signal(signal: Signal) -> nix::Result<()> {
    // SAFETY: no handler is installed, and a previous one is no longer called.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }?;
    Ok(())
}

/// Limits every file that this process writes to `most` bytes. A longer write fails with `EFBIG`.
///
/// # Errors
/// Returns the error of `setrlimit(2)` or `signal(2)`.
pub fn limit_files(most: u64) -> io::Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: the signal is ignored, so no function is called when it arrives.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
    Ok(setrlimit(Resource::RLIMIT_FSIZE, most, most)?)
}
