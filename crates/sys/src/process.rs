//! Starting and ending processes.
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
    /// Its process id in this namespace.
    pub pid: Pid,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
}

impl Child {
    /// A child that was forked.
    ///
    /// # Errors
    /// Those of `pidfd_open(2)`.
    pub fn of(pid: Pid) -> io::Result<Self> {
        let number =
            rustix::process::Pid::from_raw(pid.as_raw()).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(number, PidfdFlags::empty())?;
        Ok(Self { pid, pidfd })
    }

    /// Sends a signal; a child that has already ended is no error.
    pub fn signal(&self, signal: Signal) {
        if let Some(signal) = rustix::process::Signal::from_named_raw(signal as i32) {
            drop(pidfd_send_signal(&self.pidfd, signal).map_err(io::Error::from));
        }
    }

    /// Takes the exit status if it has ended.
    ///
    /// # Errors
    /// `ECHILD` when the status was already taken.
    pub fn try_wait(&self) -> io::Result<Option<WaitStatus>> {
        self.status(WaitPidFlag::empty())
    }

    /// Waits up to `timeout_ms` milliseconds for its end and leaves its status to be taken.
    ///
    /// # Errors
    /// `ECHILD` when the status was already taken.
    pub fn peek(&self, timeout_ms: u16) -> io::Result<Option<WaitStatus>> {
        self.poll(timeout_ms)?;
        self.status(WaitPidFlag::WNOWAIT)
    }

    /// Waits up to `timeout_ms` milliseconds for its end, and takes its status.
    ///
    /// # Errors
    /// Those of `poll(2)` and `waitid(2)`.
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

    /// Whether one of its threads runs, waits for a processor, or waits for a disk.
    ///
    /// # Errors
    /// Those of `/proc`, where a process that is not waited for keeps its place.
    pub fn is_at_work(&self) -> io::Result<bool> {
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid))? {
            // A thread may end at any time.
            let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else {
                continue;
            };
            // The name of the thread, which may hold anything, is in parentheses before the state.
            let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
            if state.is_some_and(|state| state.starts_with(['R', 'D'])) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Namespaces and placement of a new process.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// `CLONE_NEW*` flags, and no others.
    pub namespaces: u64,
    /// cgroup v2 directory that it is born in.
    pub cgroup: BorrowedFd<'a>,
}

/// Fails unless the calling thread is the only one of its process. No other can start meanwhile, as only this one could
/// start it. What a single thread does after a fork needs no lock that another thread may hold.
pub(crate) fn alone() -> io::Result<()> {
    let threads = std::fs::read_dir("/proc/self/task")?.take(2).count();
    if threads == 1 {
        return Ok(());
    }
    Err(io::Error::other("the process has more than one thread"))
}

/// Starts this same binary again as `args`, in `placement`, with `keep` as its only descriptors
/// beyond the standard ones, an empty environment and no blocked signals.
///
/// # Errors
/// Those of `clone3(2)` and `execve(2)`, and while this process has more than one thread.
pub fn spawn_self(
    args: &[CString],
    placement: Placement<'_>,
    keep: &[BorrowedFd<'_>],
    stdio: [BorrowedFd<'_>; 3],
) -> io::Result<Child> {
    let become_stage = || -> io::Result<Infallible> {
        for (number, fd) in (0..).zip(stdio) {
            redirect(&fd, number)?;
        }
        fd::cloexec_from(3)?;
        keep.iter().try_for_each(fd::keep_over_exec)?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        // A name stands for itself: the C library must not try the host's search domains on it.
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
    // The exec closes the other end.
    let reported = fd::receive(&ours, MsgFlags::empty())?;
    match errno(&reported.bytes) {
        None => Ok(child),
        Some(error) => {
            waitid(Id::PIDFd(child.pidfd.as_fd()), WaitPidFlag::WEXITED)?;
            Err(error)
        }
    }
}

/// Has a child that is born in `cgroup` make a socket for this process: a socket belongs to the cgroup of the process
/// that made it, for its whole life.
///
/// # Errors
/// Those of `clone3(2)`, those of `make`, and while this process has more than one thread.
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
        let ended = || io::Error::other(format!("the child in the cgroup ended with {status:?}"));
        errno(&bytes).unwrap_or_else(ended)
    })
}

/// Both ends of the socket on which a child reports why it failed.
fn report_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    Ok(pair)
}

fn report(socket: &OwnedFd, error: &io::Error) {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    // A parent that is gone needs no report.
    drop(fd::send_with_fds(socket, &errno.to_ne_bytes(), &[]));
}

/// The error that a child has reported.
fn errno(report: &[u8]) -> Option<io::Error> {
    let errno = i32::from_ne_bytes(report.try_into().ok()?);
    Some(io::Error::from_raw_os_error(errno))
}

/// A fork-like clone; `None` in the child.
fn clone(placement: Placement<'_>) -> io::Result<Option<Child>> {
    /// `CLONE_INTO_CGROUP`, which does not fit into the type of the others.
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
    // Other flags would have the child share this process's memory or descriptors.
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
    // SAFETY: `arguments` is a block of the given size, and the kernel writes a descriptor to `pidfd`. The child has its own
    // memory, since `CLONE_VM` is not among the flags (checked), and without a stack it goes on here, as after fork(2).
    // This thread is the only one (checked), so no lock of the C library is held in the child.
    let pid = unsafe { raw::call(libc::SYS_clone3, block) }?;
    if pid == 0 {
        return Ok(None);
    }
    Ok(Some(Child {
        pid: Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?),
        // SAFETY: with `CLONE_PIDFD` the kernel has just made this descriptor.
        pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
    }))
}

/// Forks this process. `None` in the child.
///
/// # Errors
/// Those of `fork(2)`, and while this process has more than one thread.
pub fn fork() -> io::Result<Option<Pid>> {
    alone()?;
    // SAFETY: this thread is the only one (checked), so the child may run any code.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Forks a process that keeps no descriptor of this one but `kept` and the standard streams. It does `work` with `given`,
/// and ends with status 0 when that succeeds.
///
/// # Errors
/// Those of [`fork`].
pub fn fork_with<T: Serialize + DeserializeOwned>(
    kept: OwnedFd,
    given: &T,
    work: fn(OwnedFd, T) -> io::Result<()>,
) -> io::Result<Pid> {
    let given = serde_json::to_vec(given)?;
    if let Some(child) = fork()? {
        return Ok(child);
    }
    // SAFETY: `work` is a function without captures, and what it is given was text, so it has no object of this process
    // but `kept`. It runs alone (`fork`), and this function does not return: no other object is used or dropped.
    let closed = unsafe { fd::close_others(&kept) };
    let done = closed.and_then(|()| work(kept, serde_json::from_slice(&given)?));
    exit_now(i32::from(done.is_err()))
}

/// Sets the core file limit to one byte, so that no memory of this process reaches a disk. With none at all
/// the kernel would still start the program that `core_pattern` names, as root outside of any boundary
/// (core(5)); one byte is its sign not to.
pub fn disable_core_dumps() {
    for bytes in [1, 0] {
        // Where a limit of none came with this process, it may not be raised.
        if setrlimit(Resource::RLIMIT_CORE, bytes, bytes).is_ok() {
            return;
        }
    }
}

/// Ends the calling process at once, without exit handlers.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes a number and does not return.
    unsafe { libc::_exit(status) }
}

/// Makes standard stream `number` the open descriptor `fd`.
///
/// # Errors
/// Those of `dup2(2)`, and `EINVAL` for a number that is no standard stream's.
pub fn redirect(fd: &impl AsFd, number: i32) -> io::Result<()> {
    match number {
        0 => dup2_stdin(fd)?,
        1 => dup2_stdout(fd)?,
        2 => dup2_stderr(fd)?,
        _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
    Ok(())
}

/// Gives `signal` its default disposition.
///
/// # Errors
/// Those of `signal(2)`.
pub fn default_signal(signal: Signal) -> nix::Result<()> {
    // SAFETY: no handler is installed, and one that was is not called any more.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }?;
    Ok(())
}

/// Lets no file that this process writes get longer than `most` bytes: to write more is an error then (`EFBIG`).
///
/// # Errors
/// Those of `setrlimit(2)`.
pub fn limit_files(most: u64) -> io::Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: nothing is called when the signal comes.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
    Ok(setrlimit(Resource::RLIMIT_FSIZE, most, most)?)
}
