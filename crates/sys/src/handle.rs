//! Files by their handle: what a file system knows an inode by when no name leads to it.
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `MAX_HANDLE_SZ` of `<linux/fcntl.h>`.
const MOST: usize = 128;

/// `struct file_handle` with room for any handle.
#[repr(C)]
struct FileHandle {
    length: libc::c_uint,
    kind: libc::c_int,
    bytes: [u8; MOST],
}

/// Opens, as a place only, the inode that `bytes` stands for on the mount of `mount`.
///
/// # Errors
/// `ESTALE` when there is no such inode any more, and the others of `open_by_handle_at(2)`.
pub fn open(mount: &impl AsFd, kind: u8, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut handle = FileHandle {
        length: u32::try_from(bytes.len()).map_err(io::Error::other)?,
        kind: i32::from(kind),
        bytes: [0; MOST],
    };
    let room = handle.bytes.get_mut(..bytes.len());
    room.ok_or(io::ErrorKind::InvalidInput)?
        .copy_from_slice(bytes);
    // SAFETY: a valid descriptor, a block laid out as the kernel's whose length is within it, and flags.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_fd().as_raw_fd(),
            &raw mut handle,
            libc::O_PATH | libc::O_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call just made this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) })
}
