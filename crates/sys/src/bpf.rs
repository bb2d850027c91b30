//! The two bpf(2) commands for program kinds that the loader's library does not know.
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `BPF_PROG_LOAD`.
const PROG_LOAD: libc::c_int = 5;
/// `BPF_LINK_CREATE`.
const LINK_CREATE: libc::c_int = 28;
/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`.
const CGROUP_SOCK_ADDR: u32 = 18;
/// Bytes of `prog_name`, the final NUL among them.
const NAME_BYTES: usize = 16;

/// The start of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes what is not given for zero.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME_BYTES],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The start of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attr` is a block of the size given, laid out as the command wants it; what it points to
    // lives as long as the borrows that its two callers hold.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attr),
            size_of::<T>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call just made this descriptor, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Loads a program of the kind of `cgroup/connect4` for another attach type. An instruction is 8 bytes.
///
/// # Errors
/// `EINVAL` where the kernel does not know the attach type; those of the verifier.
pub fn load_sock_addr<I: Copy>(
    name: &str,
    attach_type: u32,
    instructions: &[I],
    license: &CStr,
) -> io::Result<OwnedFd> {
    const { assert!(size_of::<I>() == 8) };
    let mut prog_name = [0; NAME_BYTES];
    for (to, byte) in prog_name.iter_mut().take(NAME_BYTES - 1).zip(name.bytes()) {
        *to = byte;
    }
    bpf(
        PROG_LOAD,
        &ProgLoad {
            prog_type: CGROUP_SOCK_ADDR,
            insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
            insns: instructions.as_ptr().addr() as u64,
            license: license.as_ptr().addr() as u64,
            log_level: 0,
            log_size: 0,
            log_buf: 0,
            kern_version: 0,
            prog_flags: 0,
            prog_name,
            prog_ifindex: 0,
            expected_attach_type: attach_type,
        },
    )
}

/// Attaches a program to a cgroup for as long as the returned link is open.
///
/// # Errors
/// Those of bpf(2), `BPF_LINK_CREATE`.
pub fn link(program: &impl AsFd, cgroup: &impl AsFd, attach_type: u32) -> io::Result<OwnedFd> {
    let number = |fd: &dyn AsRawFd| u32::try_from(fd.as_raw_fd()).map_err(io::Error::other);
    bpf(
        LINK_CREATE,
        &LinkCreate {
            prog_fd: number(&program.as_fd())?,
            target_fd: number(&cgroup.as_fd())?,
            attach_type,
            flags: 0,
        },
    )
}
