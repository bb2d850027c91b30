//! Changes the identity with which a thread accesses file systems.
use std::io;

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::thread::set_thread_groups;

/// Runs `work` on a thread that accesses files as `uid`:`gid`, without supplementary groups. With a
/// uid other than 0, the kernel removes the capabilities that override permissions
/// (capabilities(7), "Effect of user ID changes on capabilities"). Other threads keep their
/// identity, and this thread ends.
///
/// # Errors
/// Fails if the kernel does not change the identity, or if `work` panics.
pub fn acting_as<T: Send>(uid: u32, gid: u32, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let started = || {
        assume(Uid::from_raw(uid), Gid::from_raw(gid))?;
        Ok(work())
    };
    std::thread::scope(|scope| scope.spawn(started).join()).unwrap_or_else(|_| {
        Err(io::Error::other(
            "the thread that accesses files as another user panicked",
        ))
    })
}

fn assume(uid: Uid, gid: Gid) -> io::Result<()> {
    // The C library's function changes all threads; the system call changes only the caller.
    set_thread_groups(&[])?;
    setfsgid(gid);
    setfsuid(uid);
    // `setfsgid` and `setfsuid` return the previous id and never an error. A call with an invalid id returns the
    // current id.
    let none = u32::MAX;
    if setfsgid(Gid::from_raw(none)) != gid || setfsuid(Uid::from_raw(none)) != uid {
        return Err(io::Error::other(
            "the kernel did not change the file system user or group id",
        ));
    }
    Ok(())
}
