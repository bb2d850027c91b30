//! The relay's process: takes over its sockets, gives up its privileges, then serves.
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Pid, getppid};
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;

use super::limits::Limits;
use super::orig_dst::MappedSlots;
use super::plan::{RelayPlan, Report};
use super::seccomp;
use super::serve::{Config, Sockets, serve};
use crate::sys::handover::{inherited, read_plan, send_message};
use crate::sys::privileges::drop_to;
use crate::sys::slots::SlotArray;

/// Runs `egress __relay PLAN_FD CONTROL_FD` and returns the process's exit status.
///
/// What goes wrong before it serves is sent as [`Report::Failed`].
pub fn main(plan_fd: RawFd, control_fd: RawFd) -> u8 {
    let parent = getppid();
    let Ok(control) = inherited(control_fd) else {
        return 1; // There is nobody to tell.
    };
    match run(plan_fd, &control, parent) {
        Ok(()) => 0,
        Err(error) => {
            let failed = Report::Failed {
                error: format!("the relay cannot serve: {error}"),
            };
            if send_message(&control, &failed).is_err() {
                // The supervisor sees the exit status.
            }
            1
        }
    }
}

fn run(plan_fd: RawFd, control: &OwnedFd, parent: Pid) -> io::Result<()> {
    let plan: RelayPlan = read_plan(plan_fd)?;
    let slots = Box::new(MappedSlots {
        v4: SlotArray::map(&inherited(plan.slots_v4_fd)?)?,
        v6: SlotArray::map(&inherited(plan.slots_v6_fd)?)?,
    });
    let tcp = |fd| inherited(fd).map(TcpListener::from);
    let sockets = Sockets {
        transparent_v4: tcp(plan.listeners.transparent_v4)?,
        transparent_v6: plan.listeners.transparent_v6.map(tcp).transpose()?,
        proxy_v4: tcp(plan.listeners.proxy_v4)?,
        dns_udp: plan
            .listeners
            .dns_udp
            .map(inherited)
            .transpose()?
            .map(UdpSocket::from),
        dns_tcp: plan.listeners.dns_tcp.map(tcp).transpose()?,
    };
    let config = Config {
        mediator: plan.mediator,
        allowed_ports: plan.allowed_ports,
        ipv6: plan.ipv6,
        limits: fitted(Limits::default())?,
    };
    let flags = OFlag::from_bits_retain(fcntl(control, FcntlArg::F_GETFL)?);
    fcntl(control, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;

    drop_to(plan.uid, plan.gid, parent)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    seccomp::install().map_err(io::Error::other)?;
    runtime.block_on(async {
        // The type is for datagrams; a SOCK_SEQPACKET socket takes the same calls.
        let control = UnixDatagram::from_std(control.try_clone()?.into())?;
        let (reports, mut queue) = mpsc::channel(64);
        reports
            .send(Report::Ready)
            .await
            .map_err(io::Error::other)?;
        let sender = async {
            while let Some(report) = queue.recv().await {
                control.send(&serde_json::to_vec(&report)?).await?;
            }
            Ok::<_, io::Error>(())
        };
        let server = serve(config, sockets, slots, reports, closed(&control));
        // An error of the sender means that the supervisor is gone: then nobody records what goes
        // on, and the process ends with everything it serves.
        tokio::try_join!(server, sender).map(|_| ())
    })
}

/// Ends when the supervisor has shut its end down.
async fn closed(control: &UnixDatagram) {
    while matches!(control.recv(&mut [0; 64]).await, Ok(length) if length > 0) {}
}

/// Raises the limit of open descriptors, and serves no more connections than it allows: each has a
/// socket on either side, and idle ones to the mediator come on top.
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
