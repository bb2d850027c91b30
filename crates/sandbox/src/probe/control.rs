//! Runs the controls: a root process outside the boundary tries the same things as the probes
//! inside. The process uses temporary namespaces where a control must not touch the host, and it
//! creates the targets for the probes inside.
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use egress_sys::attempt::SharedSegment;
use egress_sys::channel::Channel;
use egress_sys::{netdev, privileges, process};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, getpid};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::files::SERVICES;
use super::kernel::TRACEFS;
use super::model::Observation;
use super::network::{
    BY_IPV6, DATAGRAMS, ELSEWHERE, ELSEWHERE_V6, METADATA, METADATA_PORT, METADATA_V6, PORTS,
};
use super::scene::{Scene, Target, Targets};
use super::{Found, PROBES, PrivilegedPrograms, Probe, run_probes};

/// The time within which a socket must become bindable to a new address.
const BOUND_WITHIN: Duration = Duration::from_millis(100);
/// The interval between two calls of `bind(2)`.
const BOUND_AFTER: Duration = Duration::from_micros(200);

/// The message for which the control process waits before it runs the controls in the host's
/// namespaces.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct GatesAttached;

/// The control process's end of its socket.
pub type ControlsEnd = Channel<FromControls, GatesAttached>;

/// Messages from the control process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromControls {
    /// The targets for the probes inside exist.
    Ready {
        /// A process that runs as the mediator's user.
        mediator: Target,
        /// A process that runs as the relay's user.
        relay: Target,
    },
    /// The results of the controls.
    Made(Found),
    /// The controls could not run.
    Failed(String),
}

/// User ids of the stand-ins for the mediator and the relay. A stand-in is a process that is the target of a probe in
/// place of another process. The mediator and the relay need stand-ins because neither runs yet.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct StandIns {
    /// The mediator's user.
    pub mediator: u32,
    /// The relay's user.
    pub relay: u32,
}

/// Forks the control process. The control process runs the controls, waits until `channel` is
/// closed, and then removes everything that it created.
///
/// # Errors
/// Returns the error of `fork(2)`. Also fails if this process has more than one
/// thread.
pub fn start(channel: ControlsEnd, scene: &Scene, users: StandIns) -> io::Result<Pid> {
    let given = (scene.clone(), users);
    process::fork_with(channel.into(), &given, |channel, (scene, users)| {
        let channel = ControlsEnd::from(channel);
        controls(&channel, scene, users).inspect_err(|error| {
            let failed = FromControls::Failed(error.to_string());
            // If sending fails, the supervisor has ended and needs no message.
            drop(channel.send(&failed));
        })
    })
}

fn controls(channel: &ControlsEnd, mut scene: Scene, users: StandIns) -> io::Result<()> {
    let (released, hold) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let supervisor = stand_in(None, &released)?;
    let init = stand_in(None, &released)?;
    let mediator = stand_in(Some(users.mediator), &released)?;
    let relay = stand_in(Some(users.relay), &released)?;
    drop(released);
    let targets = HostTargets::place(&scene)?;
    channel.send(&FromControls::Ready { mediator, relay })?;
    // Stand-ins are used because a traced supervisor would be stopped by each signal that it
    // receives during the control.
    scene.targets = Targets {
        init,
        supervisor,
        mediator,
        relay,
    };

    let (on_host, spare): (Vec<_>, Vec<_>) = PROBES.iter().partition(|probe| probe.on_host);
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let Some(namespace_child) = process::fork()? else {
        drop(reader);
        let found = in_spare_namespaces(&scene, &spare);
        let text = serde_json::to_vec(&found.map_err(|error| error.to_string()));
        let is_sent = text.is_ok_and(|text| File::from(writer).write_all(&text).is_ok());
        process::exit_now(i32::from(!is_sent));
    };
    drop(writer);
    // One of these controls moves a process between cgroups. For this move, the kernel holds the global cgroup lock for
    // about 7 ms, and attaching the kernel programs would have to wait for that lock.
    let GatesAttached = channel.receive().map_err(io::Error::other)?.message;
    let mut found = run_probes(&scene, &on_host)?;
    let mut from_namespaces = Vec::new();
    File::from(reader).read_to_end(&mut from_namespaces)?;
    let from_namespaces: Result<Found, String> = serde_json::from_slice(&from_namespaces)?;
    found.append(&mut from_namespaces.map_err(io::Error::other)?);
    channel.send(&FromControls::Made(found))?;

    // The channel stays open until the probes inside have run.
    drop(channel.receive());
    drop((targets, hold));
    // This wait comes last, because releasing a process's namespaces takes as long as some of the
    // controls.
    nix::sys::wait::waitpid(namespace_child, None)?;
    for _ in 0..4 {
        nix::sys::wait::wait()?;
    }
    Ok(())
}

/// Forks a process in the caller's namespaces that does nothing until no process holds the other end of `held` open.
fn stand_in(user: Option<u32>, held: &OwnedFd) -> io::Result<Target> {
    let given = (user, getpid().as_raw());
    let held = held.try_clone()?;
    let child = process::fork_with(held, &given, |held, (user, parent): (Option<u32>, i32)| {
        if let Some(user) = user {
            privileges::drop_to(user, user, Pid::from_raw(parent))?;
        }
        nix::unistd::read(&held, &mut [0])?;
        Ok(())
    })?;
    Target::of(child.as_raw())
}

/// Targets of the probes in the host's namespaces, removed when dropped.
struct HostTargets {
    files: Vec<PathBuf>,
    _abstract: UnixListener,
    _socket: UnixListener,
    _fifo: File,
    _segment: Option<SharedSegment>,
}

impl HostTargets {
    fn place(scene: &Scene) -> io::Result<Self> {
        let every_user = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o666));
        let name = UnixAddress::from_abstract_name(&scene.abstract_name)?;
        let socket = UnixListener::bind(&scene.socket)?;
        every_user(&scene.socket)?;
        nix::unistd::mkfifo(&scene.fifo, Mode::from_bits_truncate(0o600))?;
        every_user(&scene.fifo)?;
        let mut files = vec![scene.socket.clone(), scene.fifo.clone()];
        // Without this file, the control fails and reports the reason.
        if File::create_new(&scene.shm_file).is_ok() {
            every_user(&scene.shm_file)?;
            files.push(scene.shm_file.clone());
        }
        let reader = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&scene.fifo)?;
        Ok(Self {
            files,
            _abstract: UnixListener::bind_addr(&name)?,
            _socket: socket,
            _fifo: reader,
            _segment: SharedSegment::create(scene.shm_key).ok(),
        })
    }
}

impl Drop for HostTargets {
    fn drop(&mut self) {
        for file in &self.files {
            drop(fs::remove_file(file));
        }
    }
}

/// Runs the remaining controls in mount, network, IPC, and UTS namespaces that end with this process.
fn in_spare_namespaces(scene: &Scene, probes: &[&Probe]) -> io::Result<Found> {
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS,
    )?;
    let network = Network::open()?;
    let services = files(scene)?;
    let privileged = PrivilegedPrograms::place();
    let found = run_probes(scene, probes)?;
    drop((services, privileged));
    network.settle(found)
}

/// Mounts a private /run, /tmp, and /sys, and creates the sockets of services.
fn files(scene: &Scene) -> io::Result<Vec<UnixListener>> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let tmpfs = |at: &Path| mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), none);
    tmpfs(Path::new("/run"))?;
    tmpfs(Path::new("/tmp"))?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none)?;
    mount(
        Some("cgroup2"),
        "/sys/fs/cgroup",
        Some("cgroup2"),
        MsFlags::empty(),
        none,
    )?;
    // A kernel without tracefs has nothing to mount.
    let [tracefs, _] = TRACEFS;
    let traced = mount(
        Some("tracefs"),
        tracefs,
        Some("tracefs"),
        MsFlags::empty(),
        none,
    );
    drop(traced.map_err(io::Error::from));
    let first = SERVICES.iter().filter_map(|(_, paths)| paths.first());
    let mut paths: Vec<&Path> = first.map(Path::new).collect();
    paths.extend(scene.ssh_agent.first().map(PathBuf::as_path));
    paths.extend(scene.gpg_agent.first().map(PathBuf::as_path));
    let mut listeners = Vec::new();
    for path in paths {
        let dir = path.parent().unwrap_or(path);
        // The private /run and /tmp are empty already. In other places, a tmpfs covers the
        // directory's own files.
        if dir.is_dir() && !dir.starts_with("/run") && !dir.starts_with("/var/run") {
            tmpfs(dir)?;
        } else {
            fs::create_dir_all(dir)?;
        }
        listeners.push(UnixListener::bind(path)?);
    }
    Ok(listeners)
}

/// Destinations of the network controls, on the loopback device of this namespace.
struct Network {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
    ipv6: bool,
}

impl Network {
    fn open() -> io::Result<Self> {
        netdev::loopback_up()?;
        netdev::add_to_loopback(ELSEWHERE.into())?;
        netdev::add_to_loopback(METADATA.into())?;
        fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0")?;
        let mut network = Self {
            tcp: Vec::new(),
            udp: Vec::new(),
            ipv6: false,
        };
        // Each listener binds to a single address, so that it receives only connections and packets to this address.
        network.listen(ELSEWHERE.into(), METADATA.into())?;
        // Without IPv6, an IPv6 control has no target.
        let v6 = netdev::add_to_loopback(ELSEWHERE_V6.into())
            .and_then(|()| netdev::add_to_loopback(METADATA_V6.into()))
            .and_then(|()| network.listen(ELSEWHERE_V6.into(), METADATA_V6.into()));
        network.ipv6 = v6.is_ok();
        Ok(network)
    }

    fn listen(&mut self, elsewhere: IpAddr, metadata: IpAddr) -> io::Result<()> {
        for port in PORTS {
            let address = SocketAddr::new(elsewhere, port);
            self.tcp.push(bound(address, Type::STREAM)?.into());
            self.udp.push(bound(address, Type::DGRAM)?.into());
        }
        let address = SocketAddr::new(metadata, METADATA_PORT);
        self.tcp.push(bound(address, Type::STREAM)?.into());
        Ok(())
    }

    /// Counts a connection or datagram as successful only if it arrived at a listener in this
    /// namespace.
    fn settle(self, found: Found) -> io::Result<Found> {
        let mut arrived = Vec::new();
        for listener in &self.tcp {
            while let Some((_, peer)) = waiting(listener.accept())? {
                arrived.push(peer.port());
            }
        }
        let mut datagrams = Vec::new();
        for socket in &self.udp {
            let mut buffer = [0; 64];
            while let Some(length) = waiting(socket.recv(&mut buffer))? {
                datagrams.push(buffer.get(..length).unwrap_or_default().to_vec());
            }
        }
        let came = |name: &str| datagrams.iter().any(|one| one == name.as_bytes());
        let settle = |(name, attempt): (String, Observation)| {
            let lost = DATAGRAMS.contains(&name.as_str()) && !came(&name);
            let attempt = if !self.ipv6 && BY_IPV6.contains(&name.as_str()) {
                Observation::Absent(String::from("this machine has no IPv6"))
            } else if lost && matches!(attempt, Observation::Reached(_)) {
                Observation::Refused(String::from("the datagram was sent and did not arrive"))
            } else {
                let lost =
                    |to| Observation::Refused(format!("a connection to {to} did not arrive"));
                attempt.settled(&arrived, Observation::Reached, lost)
            };
            (name, attempt)
        };
        Ok(found.into_iter().map(settle).collect())
    }
}

/// Turns the error for "no connection or datagram is waiting" into `None`.
fn waiting<T>(taken: io::Result<T>) -> io::Result<Option<T>> {
    match taken {
        Ok(one) => Ok(Some(one)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn bound(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM {
        Protocol::TCP
    } else {
        Protocol::UDP
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let mut left = BOUND_WITHIN;
    // A new IPv6 address can be used only after a kernel worker has processed it.
    while let Err(error) = socket.bind(&SockAddr::from(address)) {
        if left.is_zero() || error.kind() != io::ErrorKind::AddrNotAvailable {
            return Err(error);
        }
        left = left.saturating_sub(BOUND_AFTER);
        std::thread::sleep(BOUND_AFTER);
    }
    if kind == Type::STREAM {
        socket.listen(16)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}
