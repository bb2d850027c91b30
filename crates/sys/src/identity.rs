//! The identity that a thread has towards file systems.
use std::io;

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::thread::set_thread_groups;

/// Does `work` on a thread that is `uid`:`gid` for every access to files, without supplementary groups. The
/// kernel takes the capabilities that override permissions away with a uid other than 0
/// (capabilities(7), "Effect of user ID changes on capabilities"). Other threads stay as they are, and this one ends.
///
/// # Errors
/// When the kernel refuses, or `work` panics.
pub fn acting_as<T: Send>(uid: u32, gid: u32, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let started = || {
        assume(Uid::from_raw(uid), Gid::from_raw(gid))?;
        Ok(work())
    };
    std::thread::scope(|scope| scope.spawn(started).join()).unwrap_or_else(|_| {
        Err(io::Error::other(
            "the thread with another identity panicked",
        ))
    })
}

fn assume(uid: Uid, gid: Gid) -> io::Result<()> {
    // The C library's function changes all threads; the system call changes the caller alone.
    set_thread_groups(&[])?;
    setfsgid(gid);
    setfsuid(uid);
    // Both give the old value and no error: asking for an id that is none reads it back.
    let none = u32::MAX;
    if setfsgid(Gid::from_raw(none)) != gid || setfsuid(Uid::from_raw(none)) != uid {
        return Err(io::Error::other("the kernel kept another file system id"));
    }
    Ok(())
}
