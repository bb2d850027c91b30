//! Probes of the host's files, sockets, and shared memory.
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

use egress_sys::attempt;
use nix::unistd::{AccessFlags, access};
use socket2::{Domain, SockAddr, Socket, Type};

use super::model::Observation;
use super::scene::{Owned, Scene, Side};
use super::tried::{Tried, reached, refused};

/// Names of probes, each with the paths at which a service of the host may listen.
pub const SERVICES: [(&str, &[&str]); 10] = [
    (
        "docker_socket",
        &["/var/run/docker.sock", "/run/docker.sock"],
    ),
    (
        "podman_socket",
        &["/run/podman/podman.sock", "/run/user/0/podman/podman.sock"],
    ),
    (
        "containerd_socket",
        &[
            "/run/containerd/containerd.sock",
            "/run/docker/containerd/containerd.sock",
            "/run/crio/crio.sock",
        ],
    ),
    ("buildkit_socket", &["/run/buildkit/buildkitd.sock"]),
    ("dbus_socket", &["/run/dbus/system_bus_socket"]),
    (
        "systemd_socket",
        &["/run/systemd/private", "/run/systemd/notify"],
    ),
    (
        "resolved_socket",
        &["/run/systemd/resolve/io.systemd.Resolve"],
    ),
    (
        "journal_socket",
        &[
            "/run/systemd/journal/stdout",
            "/run/systemd/journal/socket",
            "/run/systemd/journal/dev-log",
            "/dev/log",
        ],
    ),
    ("nscd_socket", &["/run/nscd/socket", "/var/run/nscd/socket"]),
    (
        "snapd_socket",
        &["/run/snapd.socket", "/run/snapd-snap.socket"],
    ),
];

/// Connects to the first of `paths` that accepts a connection.
fn path_socket<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Tried {
    let mut refused = io::Error::from_raw_os_error(libc::ENOENT);
    for path in paths {
        let path = path.as_ref();
        let address = SockAddr::unix(path)?;
        for kind in [Type::STREAM, Type::DGRAM, Type::SEQPACKET] {
            let socket = Socket::new(Domain::UNIX, kind, None)?;
            socket.set_nonblocking(true)?;
            match socket.connect(&address) {
                Ok(()) => return reached(format!("connected to {}", path.display())),
                // A full backlog means that a process listens.
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                    return reached(format!("{} has a listener", path.display()));
                }
                Err(error) if error.raw_os_error() == Some(libc::EPROTOTYPE) => refused = error,
                // The error of a missing path is less informative than a denial.
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => {
                    refused = error;
                    break;
                }
            }
        }
    }
    Err(refused)
}

fn service(name: &str) -> Tried {
    let paths = SERVICES.iter().find(|(service, _)| *service == name);
    path_socket(paths.map_or(&[][..], |(_, paths)| paths))
}

pub(super) fn docker_socket(_: &Scene) -> Tried {
    service("docker_socket")
}

pub(super) fn podman_socket(_: &Scene) -> Tried {
    service("podman_socket")
}

pub(super) fn containerd_socket(_: &Scene) -> Tried {
    service("containerd_socket")
}

pub(super) fn buildkit_socket(_: &Scene) -> Tried {
    service("buildkit_socket")
}

pub(super) fn dbus_socket(_: &Scene) -> Tried {
    service("dbus_socket")
}

pub(super) fn systemd_socket(_: &Scene) -> Tried {
    service("systemd_socket")
}

pub(super) fn resolved_socket(_: &Scene) -> Tried {
    service("resolved_socket")
}

pub(super) fn journal_socket(_: &Scene) -> Tried {
    service("journal_socket")
}

pub(super) fn nscd_socket(_: &Scene) -> Tried {
    service("nscd_socket")
}

pub(super) fn snapd_socket(_: &Scene) -> Tried {
    service("snapd_socket")
}

pub(super) fn ssh_agent_socket(scene: &Scene) -> Tried {
    path_socket(&scene.ssh_agent)
}

pub(super) fn gpg_agent_socket(scene: &Scene) -> Tried {
    path_socket(&scene.gpg_agent)
}

/// Connects to the path socket that the control process created. Inside, the probe also tries the paths of sockets to
/// which host processes are bound.
pub(super) fn host_path_sockets(scene: &Scene) -> Tried {
    let others: &[PathBuf] = match scene.side {
        Side::Inside => &scene.host_sockets,
        Side::Outside => &[],
    };
    path_socket(std::iter::once(&scene.socket).chain(others))
}

pub(super) fn host_fifo(scene: &Scene) -> Tried {
    OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&scene.fifo)?;
    reached(format!("{} has a reader", scene.fifo.display()))
}

pub(super) fn abstract_socket(scene: &Scene) -> Tried {
    let address = SocketAddr::from_abstract_name(&scene.abstract_name)?;
    UnixStream::connect_addr(&address)?;
    reached("connected")
}

pub(super) fn sysv_shared_memory(scene: &Scene) -> Tried {
    attempt::shared_segment(scene.shm_key)?;
    reached("a shared memory segment of the host was found")
}

pub(super) fn posix_shared_memory(scene: &Scene) -> Tried {
    File::open(&scene.shm_file)?;
    reached("a file of the host's /dev/shm was opened")
}

/// Opens `owned` for reading. A different, empty file or directory at the path counts as a denial.
fn read(owned: Option<&Owned>, absent: &str) -> Tried {
    let Some(owned) = owned else {
        return Ok(Observation::Absent(absent.to_owned()));
    };
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(&owned.path)?;
    let meta = file.metadata()?;
    let holds_something = if meta.is_dir() {
        fs::read_dir(&owned.path)?.next().is_some()
    } else {
        meta.len() > 0
    };
    if owned.is(&meta) || holds_something {
        reached(format!("{} was opened", owned.path.display()))
    } else {
        refused("a different, empty file or directory is at this path")
    }
}

/// Opens `owned` for writing; for a directory, opens a new unnamed file in it. Nothing is written.
fn write(owned: Option<&Owned>, absent: &str) -> Tried {
    let Some(owned) = owned else {
        return Ok(Observation::Absent(absent.to_owned()));
    };
    let path = &owned.path;
    let meta = fs::metadata(path)?;
    if meta.is_dir() {
        let unnamed = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .mode(0o600)
            .open(path);
        match unnamed {
            // If the file system has no unnamed files, the permissions of the directory are checked
            // instead.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT)
                ) =>
            {
                access(path, AccessFlags::W_OK)?;
            }
            other => drop(other?),
        }
    } else {
        OpenOptions::new().write(true).open(path)?;
    }
    if owned.is(&meta) {
        reached(format!("{} was opened for writing", path.display()))
    } else {
        refused("a file or directory of the boundary is at this path")
    }
}

const NO_KEY: &str = "the caller supplied no key file; the key is in the supervisor's memory";
const NO_CONFIG: &str = "the caller supplied no policy";
const SHOWS_CONFIG: &str = "the built-in mediator's policy holds no secrets, so the command may read the policy in its workspace; config_write shows whether the command can change it";
const NO_DIRECTORY: &str = "the directory does not exist";

pub(super) fn signing_key_read(scene: &Scene) -> Tried {
    read(scene.signing_key.as_ref(), NO_KEY)
}

pub(super) fn signing_key_write(scene: &Scene) -> Tried {
    write(scene.signing_key.as_ref(), NO_KEY)
}

pub(super) fn config_read(scene: &Scene) -> Tried {
    if scene.shows_config {
        return Ok(Observation::Absent(SHOWS_CONFIG.to_owned()));
    }
    read(scene.config.as_ref(), NO_CONFIG)
}

pub(super) fn config_write(scene: &Scene) -> Tried {
    match (&scene.config, scene.side) {
        // The file view has its own inodes, so a shown policy that can be opened for writing counts whatever its inode
        // is.
        (Some(config), Side::Inside) if scene.shows_config => {
            let path = &config.path;
            OpenOptions::new().write(true).open(path)?;
            reached(format!("{} was opened for writing", path.display()))
        }
        (config, _) => write(config.as_ref(), NO_CONFIG),
    }
}

pub(super) fn evidence_read(scene: &Scene) -> Tried {
    read(scene.evidence.as_ref(), NO_DIRECTORY)
}

pub(super) fn evidence_write(scene: &Scene) -> Tried {
    write(scene.evidence.as_ref(), NO_DIRECTORY)
}

pub(super) fn packet_read(scene: &Scene) -> Tried {
    read(scene.packet.as_ref(), NO_DIRECTORY)
}

pub(super) fn packet_write(scene: &Scene) -> Tried {
    write(scene.packet.as_ref(), NO_DIRECTORY)
}

pub(super) fn runner_command_files(scene: &Scene) -> Tried {
    let mut last = write(
        scene.command_files.first(),
        "the caller has no command files",
    );
    for file in &scene.command_files {
        last = write(Some(file), "");
        if matches!(last, Ok(Observation::Reached(_))) {
            break;
        }
    }
    last
}

pub(super) fn runner_tokens(scene: &Scene) -> Tried {
    let has = |name: &&String| scene.environment.contains(name);
    match (scene.tokens.iter().find(has), scene.tokens.is_empty()) {
        (Some(name), _) => reached(format!("{name} is in the environment")),
        (None, true) => Ok(Observation::Absent(String::from(
            "the caller has no token of the runner",
        ))),
        (None, false) => refused("no token is in the environment"),
    }
}
