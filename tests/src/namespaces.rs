//! Namespaces that are kept alive only by descriptors, so that the kernel removes them however the test ends.
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::{panic, process, thread};

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace, with its own mount namespace if needed.
#[derive(Debug)]
pub(crate) struct Namespaces {
    net: OwnedFd,
    mount: Option<OwnedFd>,
}

impl Namespaces {
    /// Creates a network namespace with only a loopback interface, which is down.
    pub(crate) fn new_net() -> io::Result<Self> {
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(Self {
                net: current("net")?,
                mount: None,
            })
        })
    }

    /// Creates a network namespace like [`Self::new_net`], and a mount namespace with a copy of this process's mounts.
    /// `prepare` then changes the mounts from inside.
    pub(crate) fn new_net_and_mount(
        prepare: impl FnOnce() -> io::Result<()> + Send,
    ) -> io::Result<Self> {
        on_a_thread(|| {
            // A thread shares its working directory and root with other threads. The thread must stop sharing them
            // before it can have its own mounts.
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
            prepare()?;
            Ok(Self {
                net: current("net")?,
                mount: Some(current("mnt")?),
            })
        })
    }

    /// Runs `work` on a thread inside the namespaces. Processes that `work` starts are inside as well.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            self.enter().expect("enter the namespaces of the test");
            work()
        })
    }

    /// Moves the calling thread into the namespaces permanently.
    pub(crate) fn enter(&self) -> io::Result<()> {
        setns(&self.net, CloneFlags::CLONE_NEWNET)?;
        if let Some(mount) = &self.mount {
            unshare(CloneFlags::CLONE_FS)?;
            setns(mount, CloneFlags::CLONE_NEWNS)?;
        }
        Ok(())
    }

    /// Returns a path of the network namespace for other programs. The path is valid as long as this process runs.
    pub(crate) fn net_path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.net.as_raw_fd())
    }
}

/// Runs `work` on a new thread, because namespaces belong to threads.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(payload) => panic::resume_unwind(payload),
    })
}

fn current(kind: &str) -> io::Result<OwnedFd> {
    File::open(format!("/proc/thread-self/ns/{kind}")).map(OwnedFd::from)
}
