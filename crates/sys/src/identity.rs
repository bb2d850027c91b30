//! The identity that the calling thread has towards file systems.
use std::io;

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

/// Makes the calling thread `uid`:`gid` for every access to files, without supplementary groups. The
/// kernel takes the capabilities that override permissions away with a uid other than 0
/// (capabilities(7), "Effect of user ID changes on capabilities"). Other threads stay as they are.
///
/// # Order
/// On a thread that does nothing else and ends.
///
/// # Errors
/// When the kernel refuses.
pub fn assume_on_this_thread(uid: u32, gid: u32) -> io::Result<()> {
    // The C library's function changes all threads; the system call changes the caller alone.
    // SAFETY: a length of zero, so that the pointer is not read.
    if unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setfsgid(gid);
    setfsuid(uid);
    // Both give the old value and no error: asking for an id that is none reads it back.
    let none = u32::MAX;
    if setfsgid(Gid::from_raw(none)) != gid || setfsuid(Uid::from_raw(none)) != uid {
        return Err(io::Error::other("the kernel kept another file system id"));
    }
    Ok(())
}
