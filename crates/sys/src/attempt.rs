//! System calls that the probes try. Each function returns the kernel's answer.
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use nix::sys::ptrace;
use nix::unistd::Pid;

use crate::raw;

/// Creates an `io_uring` with one entry.
///
/// # Errors
/// Returns the error of `io_uring_setup(2)`.
pub fn io_uring() -> io::Result<OwnedFd> {
    // `struct io_uring_params` has 120 bytes, all zero for the defaults.
    let mut parameters = [0_u64; 15];
    let arguments = [1, raw::pointer(parameters.as_mut_ptr())];
    // SAFETY: the kernel reads and writes the 120 bytes of `parameters`, and returns a new descriptor.
    unsafe { raw::open(libc::SYS_io_uring_setup, arguments) }
}

/// Creates a BPF array with one element.
///
/// # Errors
/// Returns the error of `bpf(2)`.
pub fn bpf_map() -> io::Result<OwnedFd> {
    const MAP_CREATE: usize = 0;
    // map_type BPF_MAP_TYPE_ARRAY, key_size, value_size, max_entries.
    let attributes: [u32; 4] = [2, 4, 8, 1];
    let arguments = [
        MAP_CREATE,
        raw::pointer(&raw const attributes),
        size_of_val(&attributes),
    ];
    // SAFETY: the kernel reads the 16 bytes of `attributes`, and returns a new descriptor.
    unsafe { raw::open(libc::SYS_bpf, arguments) }
}

/// Opens the CPU clock of the calling process as a performance event.
///
/// # Errors
/// Returns the error of `perf_event_open(2)`.
pub fn perf_event() -> io::Result<OwnedFd> {
    const CLOEXEC: usize = 8; // PERF_FLAG_FD_CLOEXEC
    // The first version of `struct perf_event_attr` has 64 bytes: type PERF_TYPE_SOFTWARE, size, config
    // PERF_COUNT_SW_CPU_CLOCK.
    let mut attributes = [0_u32; 16];
    attributes[..2].copy_from_slice(&[1, 64]);
    let none = raw::sign_extended(-1);
    let arguments = [raw::pointer(&raw const attributes), 0, none, none, CLOEXEC];
    // SAFETY: the kernel reads the 64 bytes of `attributes`, the other arguments are numbers, and the call returns a
    // new descriptor.
    unsafe { raw::open(libc::SYS_perf_event_open, arguments) }
}

/// Creates a descriptor that handles page faults in user space.
///
/// # Errors
/// Returns the error of `userfaultfd(2)`.
pub fn userfaultfd() -> io::Result<OwnedFd> {
    // SAFETY: the call takes one number and returns a new descriptor. No memory is registered with
    // the descriptor.
    unsafe { raw::open(libc::SYS_userfaultfd, [raw::sign_extended(libc::O_CLOEXEC)]) }
}

/// Creates the keyring of the calling process.
///
/// # Errors
/// Returns the error of `keyctl(2)`.
pub fn keyring() -> io::Result<()> {
    const GET_KEYRING_ID: usize = 0;
    const PROCESS_KEYRING: i32 = -2;
    let arguments = [GET_KEYRING_ID, raw::sign_extended(PROCESS_KEYRING), 1];
    // SAFETY: this operation takes numbers only.
    unsafe { raw::call(libc::SYS_keyctl, arguments) }.map(drop)
}

/// Reads the kernel log and returns the number of bytes read.
///
/// # Errors
/// Returns the error of `syslog(2)`.
pub fn kernel_log() -> io::Result<usize> {
    const READ_ALL: usize = 3;
    let mut buffer = [0_u8; 256];
    let arguments = [READ_ALL, raw::pointer(buffer.as_mut_ptr()), buffer.len()];
    // SAFETY: the kernel writes at most the given length into `buffer`.
    unsafe { raw::call(libc::SYS_syslog, arguments) }
}

/// Calls `getpid` through the system call entry of 32-bit programs. A kernel without this entry kills the process.
///
/// # Errors
/// Returns the kernel's error, or `Unsupported` on architectures without this entry.
pub fn call_32bit() -> io::Result<i64> {
    #[cfg(target_arch = "x86_64")]
    {
        let mut number: i64 = 20;
        // SAFETY: the call takes no argument and does not write to memory. The registers that some kernels
        // do not preserve are listed as outputs.
        unsafe {
            std::arch::asm!("int 0x80", inout("rax") number, out("r8") _, out("r9") _,
                out("r10") _, out("r11") _, options(nostack));
        }
        match i32::try_from(number) {
            Ok(errno @ ..0) => Err(io::Error::from_raw_os_error(-errno)),
            _ => Ok(number),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    Err(io::ErrorKind::Unsupported.into())
}

/// Calls `getpid` as x32 programs do.
///
/// # Errors
/// Returns `ENOSYS` if the kernel lacks x32, or `Unsupported` on other architectures.
pub fn call_x32() -> io::Result<usize> {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: the call takes no argument.
        unsafe { raw::call(0x4000_0000 | libc::SYS_getpid, []) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    Err(io::ErrorKind::Unsupported.into())
}

/// Becomes the tracer of `pid` without stopping it.
///
/// # Errors
/// Returns the error of `ptrace(2)`.
pub fn seize(pid: i32) -> io::Result<()> {
    Ok(ptrace::seize(Pid::from_raw(pid), ptrace::Options::empty())?)
}

/// Lets the parent trace the calling process. The process then stops after its next `execve`.
///
/// # Errors
/// Returns the error of `ptrace(2)`.
pub fn trace_me() -> io::Result<()> {
    Ok(ptrace::traceme()?)
}

/// A System V segment of one page that every user may read. Dropping this removes the segment.
#[derive(Debug)]
pub struct SharedSegment(i32);

impl SharedSegment {
    /// Creates a segment of one page under the System V `key`.
    ///
    /// # Errors
    /// Returns the error of `shmget(2)`.
    pub fn create(key: i32) -> io::Result<Self> {
        let flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o666;
        segment(key, 4096, flags).map(Self)
    }
}

impl Drop for SharedSegment {
    fn drop(&mut self) {
        // SAFETY: `IPC_RMID` does not read a structure.
        unsafe { libc::shmctl(self.0, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

/// Looks up the segment with the key `key`.
///
/// # Errors
/// Returns the error of `shmget(2)`.
pub fn shared_segment(key: i32) -> io::Result<()> {
    segment(key, 0, 0).map(drop)
}

fn segment(key: i32, size: usize, flags: i32) -> io::Result<i32> {
    // SAFETY: the call takes numbers only.
    match unsafe { libc::shmget(key, size, flags) } {
        -1 => Err(io::Error::last_os_error()),
        id => Ok(id),
    }
}

/// Unlocks a pseudoterminal and returns the path of its terminal.
///
/// # Errors
/// Returns the error of `ioctl(2)`.
pub fn unlock_terminal(master: &impl AsFd) -> io::Result<PathBuf> {
    rustix::pty::unlockpt(master)?;
    let path = rustix::pty::ptsname(master, Vec::new())?;
    Ok(OsString::from_vec(path.into_bytes()).into())
}

/// Pushes one byte of input to the process that reads from `terminal`.
///
/// # Errors
/// Returns the error of the `TIOCSTI` request of `ioctl(2)`.
pub fn push_input(terminal: &impl AsFd) -> io::Result<()> {
    let (terminal, byte) = (terminal.as_fd().as_raw_fd(), b'x');
    // SAFETY: `TIOCSTI` reads one byte.
    match unsafe { libc::ioctl(terminal, libc::TIOCSTI, &raw const byte) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
