//! Starting and ending processes.
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

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
        // SAFETY: pidfd_open takes two integers.
        let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let number = i32::try_from(number).map_err(io::Error::other)?;
        Ok(Self {
            pid,
            // SAFETY: pidfd_open has just made this descriptor.
            pidfd: unsafe { OwnedFd::from_raw_fd(number) },
        })
    }

    /// Sends a signal; a child that has already ended is no error.
    pub fn signal(&self, signal: Signal) {
        // SAFETY: pidfd_send_signal takes a descriptor, an int, a null siginfo and no flags.
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal as libc::c_int,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
    }

    /// Takes the exit status if it has ended.
    ///
    /// # Errors
    /// `ECHILD` when the status was already taken.
    pub fn try_wait(&self) -> io::Result<Option<WaitStatus>> {
        use nix::sys::wait::{Id, WaitPidFlag, waitid};
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
        let status = waitid(Id::PIDFd(self.pidfd.as_fd()), flags)?;
        Ok((status != WaitStatus::StillAlive).then_some(status))
    }

    /// Waits up to `timeout_ms` milliseconds for its end and leaves its status to be taken.
    ///
    /// # Errors
    /// `ECHILD` when the status was already taken.
    pub fn peek(&self, timeout_ms: u16) -> io::Result<Option<WaitStatus>> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use nix::sys::wait::{Id, WaitPidFlag, waitid};
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(timeout_ms))?;
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
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

    /// Waits up to `timeout` milliseconds for its end.
    ///
    /// # Errors
    /// Those of `poll(2)` and `waitid(2)`.
    pub fn wait_for(&self, timeout_ms: u16) -> io::Result<Option<WaitStatus>> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(timeout_ms))?;
        self.try_wait()
    }
}

/// Namespaces and placement of a new process.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// `CLONE_NEW*` flags.
    pub namespaces: u64,
    /// cgroup v2 directory that it is born in.
    pub cgroup: BorrowedFd<'a>,
}

/// Starts this same binary again as `args`, in `placement`, with `keep` as its only descriptors
/// beyond the standard ones, an empty environment and no blocked signals.
///
/// # Order
/// While this process has one thread: the child runs code of this process between clone and exec.
///
/// # Errors
/// Those of `clone3(2)`; a failed exec ends the child with status 127.
pub fn spawn_self(
    args: &[CString],
    placement: Placement<'_>,
    keep: &[BorrowedFd<'_>],
    stdio: [BorrowedFd<'_>; 3],
) -> io::Result<Child> {
    let path = c"/proc/self/exe";
    // A name stands for itself: the C library must not try the host's search domains on it.
    let environment = [c"LOCALDOMAIN=."];
    if let Some(child) = clone(placement)? {
        return Ok(child);
    }
    let failed = become_stage(path, args, &environment, keep, stdio);
    exit_now(if failed { 127 } else { 126 })
}

/// Has a child that is born in `cgroup` make one descriptor for this process, which shares its table
/// with it: a socket belongs to the cgroup of the process that made it, for its whole life.
///
/// # Order
/// While this process has one thread: the child runs code of this process.
///
/// # Errors
/// Those of `clone3(2)`, or when the child could not make it.
pub fn made_in_cgroup(
    cgroup: BorrowedFd<'_>,
    make: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<OwnedFd> {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    // The exit status says which descriptor it became; this much fits into one.
    const FAILED: i32 = 255;
    let placement = Placement {
        namespaces: u64::try_from(libc::CLONE_FILES).unwrap_or_default(),
        cgroup,
    };
    let Some(child) = clone(placement)? else {
        let status = match make().map(IntoRawFd::into_raw_fd) {
            Ok(fd) if fd < FAILED => fd,
            Ok(_) | Err(_) => FAILED,
        };
        exit_now(status);
    };
    let status = waitid(Id::PIDFd(child.pidfd.as_fd()), WaitPidFlag::WEXITED)?;
    if let WaitStatus::Exited(_, fd) = status
        && fd != FAILED
    {
        // SAFETY: the child opened this descriptor in the table that it shared with this process
        // and is gone; nothing else knows of it.
        return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    Err(io::Error::other(format!(
        "a child in another cgroup could not make it: {status:?}"
    )))
}

/// A fork-like clone; `None` in the child.
fn clone(placement: Placement<'_>) -> io::Result<Option<Child>> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all-zero is a valid clone_args.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = placement.namespaces | clone_flags();
    arguments.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    arguments.exit_signal = u64::try_from(libc::SIGCHLD).unwrap_or_default();
    arguments.cgroup = u64::try_from(placement.cgroup.as_raw_fd()).unwrap_or_default();
    // SAFETY: a fork-like clone3 (no CLONE_VM, no stack) with a valid argument block of the given
    // size; this process has one thread (the callers' precondition), so the child may run any code.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(Child {
            pid: Pid::from_raw(i32::try_from(pid).unwrap_or(-1)),
            // SAFETY: CLONE_PIDFD made the kernel store a fresh descriptor here.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        })),
    }
}

fn clone_flags() -> u64 {
    u64::try_from(libc::CLONE_PIDFD).unwrap_or_default() | u64::from(CLONE_INTO_CGROUP_LOW) << 32
}

/// `CLONE_INTO_CGROUP` is bit 33.
const CLONE_INTO_CGROUP_LOW: u8 = 2;

/// The child's half of [`spawn_self`]: returns only when the exec failed.
fn become_stage(
    path: &std::ffi::CStr,
    args: &[CString],
    environment: &[&std::ffi::CStr],
    keep: &[BorrowedFd<'_>],
    stdio: [BorrowedFd<'_>; 3],
) -> bool {
    for (number, fd) in (0..).zip(stdio) {
        // SAFETY: dup2 takes two descriptor numbers; `fd` is open for the length of the borrow.
        if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 {
            return true;
        }
    }
    if super::fd::cloexec_from(3).is_err() {
        return true;
    }
    if keep.iter().any(|fd| super::fd::keep_over_exec(fd).is_err()) {
        return true;
    }
    if sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).is_err() {
        return true;
    }
    nix::unistd::execve(path, args, environment).is_err()
}

/// Sets the core file limit to one byte, so that no memory of this process reaches a disk. With none at all
/// the kernel would still start the program that `core_pattern` names, as root outside of any boundary
/// (core(5)); one byte is its sign not to.
pub fn disable_core_dumps() {
    for bytes in [1, 0] {
        let limit = libc::rlimit {
            rlim_cur: bytes,
            rlim_max: bytes,
        };
        // SAFETY: setrlimit reads one rlimit.
        let done = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) };
        // Where a limit of none came with this process, it may not be raised.
        if done == 0 {
            return;
        }
    }
}

/// Forks a process of one thread. `None` in the child.
///
/// # Order
/// While this process has one thread.
///
/// # Errors
/// Those of `fork(2)`.
pub fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the caller has one thread (documented), so the child may run any code.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Some(child)),
        nix::unistd::ForkResult::Child => Ok(None),
    }
}

/// Ends the calling process at once, without exit handlers.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit does not return and touches nothing.
    unsafe { libc::_exit(status) }
}

/// Makes standard stream `number` the open descriptor `fd`.
///
/// # Errors
/// Those of `dup2(2)`.
pub fn redirect(fd: i32, number: i32) -> io::Result<()> {
    // SAFETY: dup2 takes two descriptor numbers; replacing a standard stream closes nothing that
    // a Rust object owns.
    if unsafe { libc::dup2(fd, number) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives `signal` its default disposition.
///
/// # Errors
/// Those of `signal(2)`.
pub fn default_signal(signal: Signal) -> nix::Result<()> {
    // SAFETY: no handler function is installed.
    unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl) }?;
    Ok(())
}
