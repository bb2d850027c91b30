//! Single system calls that the probes try. Each gives back what the kernel said.
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    let number = i32::try_from(checked(result)?).map_err(io::Error::other)?;
    // SAFETY: the call has just made this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// `io_uring_setup(2)` with one entry.
///
/// # Errors
/// Those of the call.
pub fn io_uring() -> io::Result<OwnedFd> {
    // struct io_uring_params is 120 bytes, all zero for the defaults.
    let mut parameters = [0_u64; 15];
    // SAFETY: the kernel reads and writes the 120 bytes of `parameters`.
    descriptor(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) })
}

/// `bpf(2)`: an array of one number.
///
/// # Errors
/// Those of the call.
pub fn bpf_map() -> io::Result<OwnedFd> {
    const MAP_CREATE: libc::c_long = 0;
    // map_type BPF_MAP_TYPE_ARRAY, key_size, value_size, max_entries.
    let attributes: [u32; 4] = [2, 4, 8, 1];
    // SAFETY: the kernel reads the 16 bytes of `attributes`, whose size is given.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            MAP_CREATE,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    })
}

/// `perf_event_open(2)`: the CPU clock of the calling process.
///
/// # Errors
/// Those of the call.
pub fn perf_event() -> io::Result<OwnedFd> {
    const CLOEXEC: libc::c_long = 8; // PERF_FLAG_FD_CLOEXEC
    // struct perf_event_attr, first version, 64 bytes: type PERF_TYPE_SOFTWARE, size, config
    // PERF_COUNT_SW_CPU_CLOCK.
    let mut attributes = [0_u32; 16];
    attributes[0] = 1;
    attributes[1] = 64;
    // SAFETY: the kernel reads the 64 bytes of `attributes`; the rest are integers.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attributes.as_ptr(),
            0,
            -1,
            -1,
            CLOEXEC,
        )
    })
}

/// `userfaultfd(2)`.
///
/// # Errors
/// Those of the call.
pub fn userfaultfd() -> io::Result<OwnedFd> {
    // SAFETY: the call takes one integer.
    descriptor(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) })
}

/// `keyctl(2)`: the id of the process's keyring, which is made.
///
/// # Errors
/// Those of the call.
pub fn keyring() -> io::Result<()> {
    const GET_KEYRING_ID: libc::c_long = 0;
    const PROCESS_KEYRING: libc::c_long = -2;
    // SAFETY: the call takes integers here.
    checked(unsafe { libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, PROCESS_KEYRING, 1) })?;
    Ok(())
}

/// `syslog(2)`: the kernel's messages. Gives how many bytes were read.
///
/// # Errors
/// Those of the call.
pub fn kernel_log() -> io::Result<libc::c_long> {
    const READ_ALL: libc::c_long = 3;
    let mut buffer = [0_u8; 256];
    // SAFETY: the kernel writes at most the given length into `buffer`.
    let read = unsafe {
        libc::syscall(
            libc::SYS_syslog,
            READ_ALL,
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    };
    checked(read)
}

/// `getpid` through the entry of 32-bit programs. Returns only if the kernel answered.
///
/// # Errors
/// `Unsupported` where no such entry can be called.
pub fn call_32bit() -> io::Result<i64> {
    #[cfg(target_arch = "x86_64")]
    {
        let mut number: i64 = 20;
        // SAFETY: the call takes no argument and writes no memory; the registers that some kernels
        // do not keep are named.
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

/// `getpid` as x32 programs call it.
///
/// # Errors
/// `ENOSYS` where the kernel has no x32, `Unsupported` on other machines.
pub fn call_x32() -> io::Result<i64> {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: the call takes no argument.
        checked(unsafe { libc::syscall(0x4000_0000 | libc::SYS_getpid) })
    }
    #[cfg(not(target_arch = "x86_64"))]
    Err(io::ErrorKind::Unsupported.into())
}

/// `ptrace(2)`: becomes the tracer of `pid`, without stopping it.
///
/// # Errors
/// Those of the call.
pub fn seize(pid: i32) -> io::Result<()> {
    // SAFETY: PTRACE_SEIZE takes a process and no memory.
    checked(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) })?;
    Ok(())
}

/// `ptrace(2)`: lets the parent trace the calling process, which then stops after its next `execve`.
///
/// # Errors
/// Those of the call.
pub fn trace_me() -> io::Result<()> {
    // SAFETY: PTRACE_TRACEME takes nothing.
    checked(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) })?;
    Ok(())
}

/// `shmget(2)`: the segment of `key`.
///
/// # Errors
/// Those of the call.
pub fn shared_segment(key: i32) -> io::Result<i32> {
    // SAFETY: the call takes integers.
    let id = unsafe { libc::shmget(key, 0, 0) };
    checked(id.into())?;
    Ok(id)
}

/// A System V segment of one page that every user may read; removed when dropped.
#[derive(Debug)]
pub struct SharedSegment(i32);

impl SharedSegment {
    /// Makes it.
    ///
    /// # Errors
    /// Those of `shmget(2)`.
    pub fn create(key: i32) -> io::Result<Self> {
        // SAFETY: the call takes integers.
        let id = unsafe { libc::shmget(key, 4096, libc::IPC_CREAT | libc::IPC_EXCL | 0o666) };
        checked(id.into())?;
        Ok(Self(id))
    }
}

impl Drop for SharedSegment {
    fn drop(&mut self) {
        // SAFETY: IPC_RMID reads no structure.
        unsafe { libc::shmctl(self.0, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

/// Unlocks the slave of a pseudo-terminal and gives its number.
///
/// # Errors
/// Those of `ioctl(2)`.
pub fn unlock_terminal(master: &impl AsFd) -> io::Result<u32> {
    let master = master.as_fd().as_raw_fd();
    let (locked, mut number): (libc::c_int, libc::c_uint) = (0, 0);
    // SAFETY: TIOCSPTLCK reads one int.
    checked(unsafe { libc::ioctl(master, libc::TIOCSPTLCK, &raw const locked) }.into())?;
    // SAFETY: TIOCGPTN writes one unsigned int.
    checked(unsafe { libc::ioctl(master, libc::TIOCGPTN, &raw mut number) }.into())?;
    Ok(number)
}

/// `TIOCSTI`: one byte of input for whoever reads from `terminal`.
///
/// # Errors
/// Those of `ioctl(2)`.
pub fn push_input(terminal: &impl AsFd) -> io::Result<()> {
    let byte = b'x';
    let terminal = terminal.as_fd().as_raw_fd();
    // SAFETY: TIOCSTI reads one byte.
    checked(unsafe { libc::ioctl(terminal, libc::TIOCSTI, &raw const byte) }.into())?;
    Ok(())
}

/// Closes every descriptor from 3 up but `kept`.
///
/// # Order
/// In a forked process that touches no object with a descriptor but `kept` any more.
///
/// # Errors
/// Those of `close_range(2)`.
pub fn close_others(kept: &impl AsFd) -> io::Result<()> {
    let kept = u32::try_from(kept.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    for (first, last) in [(3, kept.saturating_sub(1)), (kept + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: the objects that own these descriptors are never touched again (documented).
            checked(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
    }
    Ok(())
}
