//! Namespaces without names: held by descriptors, so the kernel removes them whatever ends the test.
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::{panic, process, thread};

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace, and a mount namespace if it has one of its own.
#[derive(Debug)]
pub(crate) struct Namespaces {
    net: OwnedFd,
    mount: Option<OwnedFd>,
}

impl Namespaces {
    /// A network namespace with nothing but a loopback interface that is down.
    pub(crate) fn new_net() -> io::Result<Self> {
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(Self {
                net: current("net")?,
                mount: None,
            })
        })
    }

    /// The same with a copy of this process's mounts, which `prepare` changes from the inside.
    pub(crate) fn new_net_and_mount(
        prepare: impl FnOnce() -> io::Result<()> + Send,
    ) -> io::Result<Self> {
        on_a_thread(|| {
            // A thread shares its working directory and root with the others until it says otherwise,
            // and may not have mounts of its own before.
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
            prepare()?;
            Ok(Self {
                net: current("net")?,
                mount: Some(current("mnt")?),
            })
        })
    }

    /// Runs `work` on a thread inside; a process that it starts is inside as well.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            self.enter().expect("enter the namespaces of the test");
            work()
        })
    }

    /// Moves the calling thread inside, for good.
    pub(crate) fn enter(&self) -> io::Result<()> {
        setns(&self.net, CloneFlags::CLONE_NEWNET)?;
        if let Some(mount) = &self.mount {
            unshare(CloneFlags::CLONE_FS)?;
            setns(mount, CloneFlags::CLONE_NEWNS)?;
        }
        Ok(())
    }

    /// A path by which another program finds the network namespace while this process lives.
    pub(crate) fn net_path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.net.as_raw_fd())
    }
}

/// Namespaces belong to threads: `work` gets one that ends with it.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(payload) => panic::resume_unwind(payload),
    })
}

fn current(kind: &str) -> io::Result<OwnedFd> {
    File::open(format!("/proc/thread-self/ns/{kind}")).map(OwnedFd::from)
}
