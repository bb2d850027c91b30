//! Probes of system calls that bypass the boundary's hooks, and of the kernel's own file systems
//! and devices.
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use egress_sys::attempt;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::model::Observation;
use super::scene::{Scene, Side};
use super::tried::{Tried, reached, refused};

pub(super) fn io_uring(scene: &Scene) -> Tried {
    let off = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    if scene.side == Side::Outside && off.is_ok_and(|off| off.trim() == "2") {
        let why = String::from("kernel.io_uring_disabled is 2");
        return Ok(Observation::Absent(why));
    }
    attempt::io_uring()?;
    reached("an io_uring was created")
}

pub(super) fn bpf(_: &Scene) -> Tried {
    attempt::bpf_map()?;
    reached("a BPF map was created")
}

pub(super) fn perf_event_open(_: &Scene) -> Tried {
    attempt::perf_event()?;
    reached("a performance event was opened")
}

pub(super) fn userfaultfd(_: &Scene) -> Tried {
    attempt::userfaultfd()?;
    reached("a userfaultfd was created")
}

pub(super) fn keyctl(_: &Scene) -> Tried {
    attempt::keyring()?;
    reached("a keyring was created")
}

pub(super) fn syscall_32bit(_: &Scene) -> Tried {
    reached(format!("getpid returned {}", attempt::call_32bit()?))
}

pub(super) fn syscall_x32(_: &Scene) -> Tried {
    reached(format!("getpid returned {}", attempt::call_x32()?))
}

pub(super) fn dmesg(_: &Scene) -> Tried {
    reached(format!(
        "{} bytes of the kernel log were read",
        attempt::kernel_log()?
    ))
}

/// Opens the first of `paths` that can be opened for writing. Nothing is written.
fn writable(paths: &[&str]) -> Tried {
    let mut refused = io::Error::from_raw_os_error(libc::ENOENT);
    for path in paths {
        match OpenOptions::new().write(true).open(path) {
            Ok(_) => return reached(format!("{path} was opened for writing")),
            // The error of a missing path is less informative than a denial.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

pub(super) fn sys_write(_: &Scene) -> Tried {
    writable(&[
        "/sys/class/net/lo/mtu",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/ksm/run",
        "/sys/power/state",
    ])
}

pub(super) fn proc_sys_write(_: &Scene) -> Tried {
    writable(&[
        "/proc/sys/net/ipv4/ip_unprivileged_port_start",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger",
    ])
}

/// Reads directories on which a file system of the kernel may be mounted. The probe succeeds if one
/// of them has an entry.
fn entries(paths: &[&str]) -> Tried {
    let mut met = refused("the directory is empty");
    for path in paths {
        match fs::read_dir(path).map(|mut entries| entries.next().is_some()) {
            Ok(true) => return reached(format!("{path} was read")),
            Ok(false) => {}
            Err(error) => met = Err(error),
        }
    }
    met
}

pub(super) fn cgroupfs(_: &Scene) -> Tried {
    entries(&["/sys/fs/cgroup"])
}

/// Mount points of tracefs and debugfs.
pub(super) const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug"];

pub(super) fn tracefs(_: &Scene) -> Tried {
    entries(&TRACEFS)
}

/// Opens device nodes that the command must not use: nodes of the host, and a node that the probe creates itself.
pub(super) fn device_nodes(_: &Scene) -> Tried {
    let made = Path::new("/tmp/.egress-kmsg");
    let kernel_log = makedev(1, 11);
    let mode = Mode::from_bits_truncate(0o600);
    let opened = mknod(made, SFlag::S_IFCHR, mode, kernel_log)
        .map_err(io::Error::from)
        .and_then(|()| {
            let opened = File::open(made);
            fs::remove_file(made)?;
            opened
        });
    let Err(mut refused) = opened else {
        return reached("a device node of the kernel log was created and opened");
    };
    for path in [
        "/dev/kmsg",
        "/dev/mem",
        "/dev/port",
        "/dev/fuse",
        "/dev/kvm",
        "/dev/net/tun",
        "/dev/vhost-net",
        "/dev/vhost-vsock",
        "/dev/loop-control",
        "/dev/loop0",
        "/dev/sda",
        "/dev/vda",
        "/dev/nvme0n1",
    ] {
        match File::open(path) {
            Ok(_) => return reached(format!("{path} was opened")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Opens a new terminal through the master at `path`, and returns the master and the path of the
/// terminal. The caller tries two paths, because a mount on the host may cover one of them.
fn new_terminal(path: &str) -> io::Result<(File, PathBuf)> {
    let master = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(path)?;
    let terminal = attempt::unlock_terminal(&master)?;
    Ok((master, terminal))
}

/// Pushes input into a terminal. The terminal belongs to a new session, so no process reads the
/// input.
pub(super) fn terminal_input(_: &Scene) -> Tried {
    // Closing the terminal would kill this process with SIGHUP before it has reported its result.
    let mut hangup = SigSet::empty();
    hangup.add(Signal::SIGHUP);
    hangup.thread_block()?;
    nix::unistd::setsid()?;
    let (_master, path) = new_terminal("/dev/ptmx").or_else(|_| new_terminal("/dev/pts/ptmx"))?;
    // The first terminal that a session leader opens becomes the session's controlling terminal.
    let terminal = OpenOptions::new().read(true).write(true).open(path)?;
    attempt::push_input(&terminal)?;
    reached("a byte of input was pushed")
}
