//! The relay process: takes over its sockets, drops its privileges, and serves.
//!
//! Claims: read-relay-log
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, RawFd};

use egress_sys::channel::Channel;
use egress_sys::handover::{inherited, read_plan};
use egress_sys::privileges::drop_to;
use egress_sys::process::limit_files;
use egress_sys::slots::SlotArray;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Pid, getppid};
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;

use super::limits::Limits;
use super::orig_dst::MappedSlots;
use super::plan::{Config, Listeners, RelayPlan, Report};
use super::report::Outgoing;
use super::seccomp;
use super::serve::{Sockets, serve};

/// The relay's end of its control socket. The relay receives no message on this socket, only the
/// end of the stream.
pub type Control = Channel<Report, ()>;

/// Runs `egress __relay PLAN_FD CONTROL_FD` and returns the process's exit status.
///
/// An error that occurs before the relay serves is sent as [`Report::Failed`].
pub fn main(plan_fd: RawFd, control_fd: RawFd) -> u8 {
    let parent = getppid();
    let Ok(control) = Control::inherited(control_fd) else {
        return 1; // Without the control socket, the error cannot be reported.
    };
    match run(plan_fd, &control, parent) {
        Ok(()) => 0,
        Err(StartError { step, source }) => {
            let error = format!("the relay cannot {step}: {source}");
            if control.send(&Report::Failed { error }).is_err() {
                // The supervisor still receives the exit status.
            }
            1
        }
    }
}

/// The step that failed, and its cause.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct StartError {
    step: &'static str,
    source: io::Error,
}

/// Adds the step to an error.
fn at(step: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError { step, source }
}

fn run(plan_fd: RawFd, control: &Control, parent: Pid) -> Result<(), StartError> {
    let relay = confine(plan_fd, control, parent)?;
    let served = relay.runtime.block_on(report_and_serve(
        relay.control,
        relay.config,
        relay.sockets,
        relay.slots,
    ));
    served.map_err(at("serve"))
}

/// The relay process after it has dropped its privileges and installed its filter. The process reads no bytes from the
/// command before this point, so an exploit of the relay gets only the rights that the process still has.
#[derive(Debug)]
#[must_use = "nothing is served yet"]
pub struct Confined {
    control: std::os::unix::net::UnixDatagram,
    config: Config,
    sockets: Sockets,
    slots: Box<MappedSlots>,
    runtime: tokio::runtime::Runtime,
}

impl Confined {
    /// Returns the address of the mediator.
    pub fn mediator(&self) -> SocketAddr {
        self.config.mediator
    }
}

/// Size limit of the log, the only file that the relay can write. The log is a memory file, so it uses memory of the
/// machine.
const LOG_BYTES: u64 = 1 << 20;

/// Takes over the resources of the plan, drops the privileges permanently, and installs the filter.
///
/// # Errors
/// Fails if a step fails. The process must then exit.
pub fn confine(plan_fd: RawFd, control: &Control, parent: Pid) -> Result<Confined, StartError> {
    let plan: RelayPlan = read_plan(plan_fd).map_err(at("read its plan"))?;
    let map = |fd| inherited(fd).and_then(|map| SlotArray::map(&map));
    let slots = Box::new(MappedSlots {
        v4: map(plan.slots_v4_fd).map_err(at("map the IPv4 slots"))?,
        v6: map(plan.slots_v6_fd).map_err(at("map the IPv6 slots"))?,
        proxy: map(plan.slots_proxy_fd).map_err(at("map the proxy's slots"))?,
    });
    let sockets = take_over(&plan.listeners).map_err(at("take over its sockets"))?;
    let config = Config {
        limits: fitted(Limits::default()).map_err(at("raise its limit on open descriptors"))?,
        ..plan.config
    };
    // The type is for datagrams, but a SOCK_SEQPACKET socket supports the same calls.
    let control = control
        .as_fd()
        .try_clone_to_owned()
        .map_err(at("copy its control socket"))?;
    let control = std::os::unix::net::UnixDatagram::from(control);
    control
        .set_nonblocking(true)
        .map_err(at("set up its control socket"))?;

    limit_files(LOG_BYTES).map_err(at("limit the size of its log"))?;
    drop_to(plan.uid, plan.gid, parent).map_err(at("drop its privileges"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(at("build its runtime"))?;
    seccomp::install()
        .map_err(io::Error::other)
        .map_err(at("install its filter"))?;
    Ok(Confined {
        control,
        config,
        sockets,
        slots,
        runtime,
    })
}

async fn report_and_serve(
    control: std::os::unix::net::UnixDatagram,
    config: Config,
    sockets: Sockets,
    slots: Box<MappedSlots>,
) -> io::Result<()> {
    let control = UnixDatagram::from_std(control)?;
    let (reports, mut queue) = mpsc::channel(64);
    reports
        .send(Outgoing::new(Report::Ready))
        .await
        .map_err(io::Error::other)?;
    let sender = async {
        while let Some(outgoing) = queue.recv().await {
            control
                .send(&serde_json::to_vec(outgoing.report())?)
                .await?;
            outgoing.sent();
        }
        Ok(())
    };
    let server = serve(config, sockets, slots, reports, closed(&control));
    // If sending fails, the supervisor no longer records flows. The process then exits, and all its connections close.
    tokio::try_join!(server, sender).map(|_| ())
}

fn take_over(listeners: &Listeners) -> io::Result<Sockets> {
    let tcp = |fd| inherited(fd).map(TcpListener::from);
    Ok(Sockets {
        transparent_v4: tcp(listeners.transparent_v4)?,
        transparent_v6: listeners.transparent_v6.map(tcp).transpose()?,
        proxy_v4: tcp(listeners.proxy_v4)?,
        dns_udp: listeners
            .dns_udp
            .map(inherited)
            .transpose()?
            .map(UdpSocket::from),
        dns_tcp: listeners.dns_tcp.map(tcp).transpose()?,
    })
}

/// Completes when the supervisor has shut down its end for writing, or when receiving fails.
async fn closed(control: &UnixDatagram) {
    while matches!(control.recv(&mut [0; 64]).await, Ok(length) if length > 0) {}
}

/// Raises the limit on open descriptors, and lowers the number of connections if the limit does not
/// allow them all. Each connection needs two sockets, and idle connections to the mediator need
/// more.
fn fitted(mut limits: Limits) -> io::Result<Limits> {
    const SPARE: u64 = 256;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = limits.connections as u64 * 2 + SPARE;
    let given = if setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted.max(hard)).is_ok() {
        wanted
    } else {
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(wanted), hard)?;
        hard.min(wanted)
    };
    let connections = usize::try_from(given.saturating_sub(SPARE) / 2).unwrap_or(usize::MAX);
    limits.connections = limits.connections.min(connections);
    Ok(limits)
}
