//! Tests functions that need a process with one thread. The usual test harness starts several
//! threads.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test")]
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use egress_sys::handover::send_message;
use egress_sys::process::{Placement, exit_now, fork, fork_with, made_in_cgroup, spawn_self};
use egress_sys::{fd, privileges};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socketpair};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, geteuid, getpid};

fn main() {
    forks();
    child_keeps_one_descriptor();
    // Only root can start a process in a cgroup.
    if geteuid().is_root() {
        socket_or_error_comes_from_the_cgroup();
        why_there_is_no_stage_is_reported();
    }
    more_threads_are_refused();
}

fn ended(child: Pid) -> WaitStatus {
    waitpid(child, None).unwrap()
}

fn forks() {
    let Some(child) = fork().unwrap() else {
        exit_now(7);
    };
    assert_eq!(ended(child), WaitStatus::Exited(child, 7));
}

fn child_keeps_one_descriptor() {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
    let other = File::open("/dev/null").unwrap();
    let given = (String::from("given"), other.as_raw_fd());
    let copy = theirs.try_clone().unwrap();
    let child = fork_with(copy, &given, |kept, (text, other): (String, i32)| {
        let is_open = |fd: i32| Path::new(&format!("/proc/self/fd/{fd}")).exists();
        send_message(&kept, &(text, is_open(kept.as_raw_fd()), is_open(other)))
    });
    let child = child.unwrap();
    let received = fd::receive(&ours, MsgFlags::empty()).unwrap();
    assert_eq!(received.bytes, br#"["given",true,false]"#);
    assert_eq!(ended(child), WaitStatus::Exited(child, 0));
    // `other` is still open in this process.
    assert!(other.metadata().is_ok());
    let failing = fork_with(theirs, &0, |_, _: i32| Err(io::Error::other("x"))).unwrap();
    assert_eq!(ended(failing), WaitStatus::Exited(failing, 1));
}

/// Returns the cgroup v2 of this process.
fn own_cgroup() -> File {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = own
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap();
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    let root = roots.iter().find(|root| root.join("cgroup.procs").exists());
    File::open(root.expect("cgroup v2 is mounted").join(path)).unwrap()
}

fn socket_or_error_comes_from_the_cgroup() {
    let cgroup = own_cgroup();
    let cgroup = cgroup.as_fd();
    let refused = made_in_cgroup(cgroup, || {
        TcpListener::bind("192.0.2.1:1").map(OwnedFd::from)
    });
    let there = TcpListener::bind("192.0.2.1:1").map(OwnedFd::from);
    assert_eq!(
        refused.unwrap_err().raw_os_error(),
        there.unwrap_err().raw_os_error()
    );
    let odd = made_in_cgroup(cgroup, || Err(io::Error::other("without a number")));
    assert_eq!(odd.unwrap_err().raw_os_error(), Some(libc::EIO));
    let gone = made_in_cgroup(cgroup, || exit_now(3));
    assert!(gone.unwrap_err().to_string().contains("exit status 3"));
    // With many open files, the descriptor has a high number in this process. The number must not
    // matter in the child.
    let _many: Vec<_> = (0..300).map(|_| File::open("/dev/null").unwrap()).collect();
    let parent = getpid();
    let made = made_in_cgroup(cgroup, || {
        assert_ne!(getpid(), parent);
        let socket = OwnedFd::from(TcpListener::bind("127.0.0.1:0")?);
        assert!(socket.as_raw_fd() > 254);
        Ok(socket)
    });
    assert!(
        TcpListener::from(made.unwrap())
            .local_addr()
            .unwrap()
            .port()
            > 0
    );
}

fn why_there_is_no_stage_is_reported() {
    let (cgroup, null) = (own_cgroup(), File::open("/dev/null").unwrap());
    let spawn = |argument: &str, namespaces: i32| {
        let placement = Placement {
            namespaces: namespaces.try_into().unwrap(),
            cgroup: cgroup.as_fd(),
        };
        let arguments = [CString::new(argument).unwrap()];
        spawn_self(&arguments, placement, &[], [null.as_fd(); 3])
    };
    // The kernel does not accept an argument of this length (execve(2)).
    let long = "x".repeat(1 << 20);
    assert_eq!(
        spawn(&long, 0).unwrap_err().raw_os_error(),
        Some(libc::E2BIG)
    );
    let shared = spawn(&long, libc::CLONE_VM | libc::CLONE_NEWNET);
    assert_eq!(shared.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

fn more_threads_are_refused() {
    std::thread::scope(|scope| {
        let (held, release) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || release.recv());
        let refusals = [
            fork().map(drop),
            fork_with(File::open("/dev/null").unwrap().into(), &0, |_, _: i32| {
                Ok(())
            })
            .map(drop),
            privileges::drop_to(65_534, 65_534, getpid()),
        ];
        for refusal in refusals {
            let error = refusal.unwrap_err().to_string();
            assert!(error.contains("more than one thread"), "{error}");
        }
        drop(held);
    });
}
