//! Opens files by handle. With a handle, a file system finds an inode without a name.
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::raw;

/// `MAX_HANDLE_SZ` of `<linux/fcntl.h>`.
const MOST: usize = 128;

/// `struct file_handle` with room for the longest handle.
#[repr(C)]
struct FileHandle {
    length: u32,
    kind: i32,
    bytes: [u8; MOST],
}

/// Opens the inode with the handle `bytes` on the file system of `mount`, as an `O_PATH`
/// descriptor.
///
/// # Errors
/// Returns `ESTALE` if the inode no longer exists, or another error of `open_by_handle_at(2)`.
pub fn open(mount: &impl AsFd, kind: u8, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut handle = FileHandle {
        length: u32::try_from(bytes.len()).map_err(io::Error::other)?,
        kind: i32::from(kind),
        bytes: [0; MOST],
    };
    let room = handle.bytes.get_mut(..bytes.len());
    room.ok_or(io::ErrorKind::InvalidInput)?
        .copy_from_slice(bytes);
    let flags = raw::sign_extended(libc::O_PATH | libc::O_CLOEXEC);
    let arguments = [raw::fd(mount), raw::pointer(&raw mut handle), flags];
    // SAFETY: `handle` has the kernel's layout, and the length of `bytes` fits into it (checked
    // above). The call returns a new descriptor.
    unsafe { raw::open(libc::SYS_open_by_handle_at, arguments) }
}
