//! Two bpf(2) commands, for attach types that the loader library does not support.
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::raw;

/// `BPF_PROG_LOAD`.
const PROG_LOAD: usize = 5;
/// `BPF_LINK_CREATE`.
const LINK_CREATE: usize = 28;
/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`.
const CGROUP_SOCK_ADDR: u32 = 18;
/// Size of `prog_name`, including the final NUL.
const NAME_BYTES: usize = 16;

/// The start of `union bpf_attr` for `BPF_PROG_LOAD`. The kernel reads the missing fields as zero.
#[repr(C)]
#[derive(Default)]
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

/// Loads a program of the same kind as `cgroup/connect4` for another attach type. An instruction is
/// 8 bytes long.
///
/// # Errors
/// Returns `EINVAL` if the kernel lacks the attach type, or the error of the verifier.
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
    let attributes = ProgLoad {
        prog_type: CGROUP_SOCK_ADDR,
        insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        insns: raw::pointer(instructions) as u64,
        license: raw::pointer(license.as_ptr()) as u64,
        prog_name,
        expected_attach_type: attach_type,
        ..ProgLoad::default()
    };
    let arguments = [
        PROG_LOAD,
        raw::pointer(&raw const attributes),
        size_of::<ProgLoad>(),
    ];
    // SAFETY: `attributes` is a block of the given size in the layout of this command. The block
    // points to `insn_cnt` whole instructions and to a string with its NUL, both borrowed. The call
    // returns a new descriptor.
    unsafe { raw::open(libc::SYS_bpf, arguments) }
}

/// Attaches a program to a cgroup. The attachment lasts while the returned link is open.
///
/// # Errors
/// Returns the error of the `BPF_LINK_CREATE` command of bpf(2).
pub fn link(program: &impl AsFd, cgroup: &impl AsFd, attach_type: u32) -> io::Result<OwnedFd> {
    let number = |fd: &dyn AsRawFd| u32::try_from(fd.as_raw_fd()).map_err(io::Error::other);
    // The start of `union bpf_attr` for this command: prog_fd, target_fd, attach_type, flags.
    let attributes = [
        number(&program.as_fd())?,
        number(&cgroup.as_fd())?,
        attach_type,
        0,
    ];
    let arguments = [
        LINK_CREATE,
        raw::pointer(&raw const attributes),
        size_of_val(&attributes),
    ];
    // SAFETY: the kernel reads the 16 bytes of `attributes`, which hold numbers only, and returns a new descriptor.
    unsafe { raw::open(libc::SYS_bpf, arguments) }
}
