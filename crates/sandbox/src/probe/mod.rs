//! Tries, as the agent and inside its cage, what the boundary says it refuses; and outside, in
//! namespaces that are thrown away, shows that the same attempt could have succeeded.
//!
//! The results are facts of this run. One piece of code makes an attempt on both sides: what differs
//! is who makes it and where. `denied` means that it failed inside and succeeded outside.
pub mod control;
mod files;
mod kernel;
pub mod model;
mod network;
mod privilege;
pub mod scene;
mod tried;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use egress_sys::process;
use model::Attempt;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
pub use privilege::Gifts;
use scene::{Scene, Side};
use tried::{
    CALL, DEVICE, FILE, LISTENER, NAMESPACE, PROCESS, Refusals, SEGMENT, SEND, SEND_V6, SOCKET,
    TERMINAL, Tried, is_refusal,
};

/// One probe.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Its name, on the command line and in the packet.
    pub name: &'static str,
    refusals: Refusals,
    attempt: fn(&Scene) -> Tried,
    apart: Apart,
    /// Its control is made in the host's namespaces, for that is where what it aims at is.
    on_host: bool,
}

/// Whether an attempt is made in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Apart {
    Never,
    /// Where it succeeds. The kernel takes 7 ms to release a packet socket, to open the first performance event, or to
    /// move a process between cgroups, so these attempts are made side by side.
    Outside,
    /// It may kill its process, or change what later ones meet.
    Always,
}

const fn spare(name: &'static str, refusals: Refusals, attempt: fn(&Scene) -> Tried) -> Probe {
    Probe {
        name,
        refusals,
        attempt,
        apart: Apart::Never,
        on_host: false,
    }
}

const fn apart(name: &'static str, refusals: Refusals, attempt: fn(&Scene) -> Tried) -> Probe {
    Probe {
        apart: Apart::Always,
        ..spare(name, refusals, attempt)
    }
}

const fn slow(name: &'static str, refusals: Refusals, attempt: fn(&Scene) -> Tried) -> Probe {
    Probe {
        apart: Apart::Outside,
        ..spare(name, refusals, attempt)
    }
}

const fn host(name: &'static str, refusals: Refusals, attempt: fn(&Scene) -> Tried) -> Probe {
    Probe {
        on_host: true,
        ..spare(name, refusals, attempt)
    }
}

const fn host_apart(name: &'static str, refusals: Refusals, attempt: fn(&Scene) -> Tried) -> Probe {
    Probe {
        on_host: true,
        ..apart(name, refusals, attempt)
    }
}

/// All probes, in the order of the results.
pub const PROBES: [Probe; 88] = [
    spare("raw_socket_ipv4", SOCKET, network::raw_socket_ipv4),
    spare("raw_socket_ipv6", SOCKET, network::raw_socket_ipv6),
    slow("packet_socket", SOCKET, network::packet_socket),
    spare("vsock_socket", SOCKET, network::vsock_socket),
    spare("alg_socket", SOCKET, network::alg_socket),
    spare("xdp_socket", SOCKET, network::xdp_socket),
    slow("other_families", SOCKET, network::other_families),
    spare(
        "netlink_beyond_route",
        SOCKET,
        network::netlink_beyond_route,
    ),
    spare("network_change", SOCKET, network::network_change),
    spare("mptcp_socket", SOCKET, network::mptcp_socket),
    spare("sctp_socket", SOCKET, network::sctp_socket),
    spare("dccp_socket", SOCKET, network::dccp_socket),
    spare("udplite_socket", SOCKET, network::udplite_socket),
    spare("icmp_socket", SOCKET, network::icmp_socket),
    spare("udp_sendto", SEND, network::udp_sendto),
    spare("udp_sendmsg", SEND, network::udp_sendmsg),
    spare("udp_connected", SEND, network::udp_connected),
    spare("udp_ipv6", SEND_V6, network::udp_ipv6),
    spare("dns_udp", SEND, network::dns_udp),
    spare("dns_tcp", SEND, network::dns_tcp),
    spare("dns_tls", SEND, network::dns_tls),
    spare("direct_tcp_ipv4", SEND, network::direct_tcp_ipv4),
    spare("direct_tcp_ipv6", SEND_V6, network::direct_tcp_ipv6),
    spare("direct_tcp_mapped", SEND_V6, network::direct_tcp_mapped),
    spare("direct_tcp_fast_open", SEND, network::direct_tcp_fast_open),
    spare("direct_tcp_ssh", SEND, network::direct_tcp_ssh),
    spare("metadata_ipv4", SEND, network::metadata_ipv4),
    spare("metadata_ipv6", SEND_V6, network::metadata_ipv6),
    host(
        "interface_other_than_lo",
        FILE,
        network::interface_other_than_lo,
    ),
    host("route", FILE, network::route),
    spare("io_uring", CALL, kernel::io_uring),
    spare("bpf", CALL, kernel::bpf),
    slow("perf_event_open", CALL, kernel::perf_event_open),
    spare("userfaultfd", CALL, kernel::userfaultfd),
    spare("keyctl", CALL, kernel::keyctl),
    apart("syscall_32bit", CALL, kernel::syscall_32bit),
    apart("syscall_x32", CALL, kernel::syscall_x32),
    apart("user_namespace", NAMESPACE, privilege::user_namespace),
    apart("enter_namespace", CALL, privilege::enter_namespace),
    apart("mount_file_system", CALL, privilege::mount_file_system),
    apart("become_root", CALL, privilege::become_root),
    apart("setuid_file", FILE, privilege::setuid_file),
    apart("file_capability", FILE, privilege::file_capability),
    apart("sudo", FILE, privilege::sudo),
    host_apart("ptrace_init", PROCESS, privilege::ptrace_init),
    host("memory_init", PROCESS, privilege::memory_init),
    host_apart("ptrace_supervisor", PROCESS, privilege::ptrace_supervisor),
    host("memory_supervisor", PROCESS, privilege::memory_supervisor),
    host_apart("ptrace_mediator", PROCESS, privilege::ptrace_mediator),
    host("memory_mediator", PROCESS, privilege::memory_mediator),
    host_apart("ptrace_relay", PROCESS, privilege::ptrace_relay),
    host("memory_relay", PROCESS, privilege::memory_relay),
    host_apart("leave_cgroup", FILE, privilege::leave_cgroup),
    apart(
        "inherited_descriptors",
        FILE,
        privilege::inherited_descriptors,
    ),
    spare("docker_socket", LISTENER, files::docker_socket),
    spare("podman_socket", LISTENER, files::podman_socket),
    spare("containerd_socket", LISTENER, files::containerd_socket),
    spare("buildkit_socket", LISTENER, files::buildkit_socket),
    spare("dbus_socket", LISTENER, files::dbus_socket),
    spare("systemd_socket", LISTENER, files::systemd_socket),
    spare("resolved_socket", LISTENER, files::resolved_socket),
    spare("journal_socket", LISTENER, files::journal_socket),
    spare("nscd_socket", LISTENER, files::nscd_socket),
    spare("snapd_socket", LISTENER, files::snapd_socket),
    spare("ssh_agent_socket", LISTENER, files::ssh_agent_socket),
    spare("gpg_agent_socket", LISTENER, files::gpg_agent_socket),
    host("host_path_sockets", LISTENER, files::host_path_sockets),
    host("host_fifo", LISTENER, files::host_fifo),
    host("abstract_socket", LISTENER, files::abstract_socket),
    host("sysv_shared_memory", SEGMENT, files::sysv_shared_memory),
    host("posix_shared_memory", FILE, files::posix_shared_memory),
    host("signing_key_read", FILE, files::signing_key_read),
    host("signing_key_write", FILE, files::signing_key_write),
    host("config_read", FILE, files::config_read),
    host("config_write", FILE, files::config_write),
    host("evidence_read", FILE, files::evidence_read),
    host("evidence_write", FILE, files::evidence_write),
    host("packet_read", FILE, files::packet_read),
    host("packet_write", FILE, files::packet_write),
    host("runner_command_files", FILE, files::runner_command_files),
    host("runner_tokens", FILE, files::runner_tokens),
    spare("sys_write", FILE, kernel::sys_write),
    spare("proc_sys_write", FILE, kernel::proc_sys_write),
    spare("cgroupfs", FILE, kernel::cgroupfs),
    spare("tracefs", FILE, kernel::tracefs),
    spare("dmesg", CALL, kernel::dmesg),
    spare("device_nodes", DEVICE, kernel::device_nodes),
    apart("terminal_input", TERMINAL, kernel::terminal_input),
];

/// What one process found.
pub type Found = Vec<(String, Attempt)>;

/// Makes every attempt inside.
///
/// # Errors
/// Those of `fork(2)` and `pipe(2)`.
///
/// # Order
/// As the agent: its user, its filters, its view. While this process has one thread.
pub fn inside(scene: &Scene) -> io::Result<Found> {
    make(scene, &PROBES.iter().collect::<Vec<_>>())
}

/// A process that makes attempts.
struct Maker<'p> {
    pid: Pid,
    heard: OwnedFd,
    probes: Vec<&'p Probe>,
    apart: bool,
}

/// Makes the attempts of `probes`: those that are made apart all at a time.
fn make(scene: &Scene, probes: &[&Probe]) -> io::Result<Found> {
    let (apart, together): (Vec<_>, Vec<_>) = probes.iter().partition(|one| match one.apart {
        Apart::Never => false,
        Apart::Outside => scene.side == Side::Outside,
        Apart::Always => true,
    });
    let mut makers = Vec::new();
    for one in apart {
        makers.push(start(scene, vec![one], true)?);
    }
    makers.push(start(scene, together, false)?);
    let mut found = Found::new();
    for maker in makers {
        finish(maker, &mut found)?;
    }
    Ok(found)
}

fn start<'p>(scene: &Scene, probes: Vec<&'p Probe>, apart: bool) -> io::Result<Maker<'p>> {
    let (heard, told) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let Some(pid) = process::fork()? else {
        drop(heard);
        let mut told = File::from(told);
        let mut all_told = true;
        for probe in probes {
            let attempt = attempt(scene, probe);
            let mut line = serde_json::to_vec(&(probe.name, attempt)).unwrap_or_default();
            line.push(b'\n');
            all_told &= told.write_all(&line).is_ok();
        }
        process::exit_now(i32::from(!all_told));
    };
    Ok(Maker {
        pid,
        heard,
        probes,
        apart,
    })
}

/// Takes what a process found. An attempt that it was killed for, by the kernel's filter, was refused;
/// one that it never told of was not made.
fn finish(maker: Maker<'_>, found: &mut Found) -> io::Result<()> {
    let mut text = Vec::new();
    File::from(maker.heard).read_to_end(&mut text)?;
    let status = waitpid(maker.pid, None)?;
    let mut told: Found = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(serde_json::from_slice)
        .collect::<Result<_, _>>()?;
    for probe in maker.probes.iter().skip(told.len()) {
        let killed_by = if let WaitStatus::Signaled(_, signal, _) = status {
            maker.apart.then_some(signal)
        } else {
            None
        };
        let attempt = match (killed_by, probe.name) {
            (Some(Signal::SIGSYS), _) => {
                Attempt::Refused(String::from("the process was killed by SIGSYS"))
            }
            (Some(Signal::SIGSEGV), "syscall_32bit") => {
                Attempt::Absent(String::from("this kernel has no such entry"))
            }
            _ => Attempt::Broken(format!("its process ended with {status:?}")),
        };
        told.push((probe.name.to_owned(), attempt));
    }
    found.append(&mut told);
    Ok(())
}

fn attempt(scene: &Scene, probe: &Probe) -> Attempt {
    outcome(scene.side, (probe.attempt)(scene), probe.refusals)
}

/// What an attempt met, by the errors that are a refusal.
fn outcome(side: Side, tried: Tried, refusals: Refusals) -> Attempt {
    match tried {
        Ok(attempt) => attempt,
        Err(error) if side == Side::Outside && kernel_lacks(&error) => {
            Attempt::Absent(format!("this kernel has none: {error}"))
        }
        Err(error) if is_refusal(&error, refusals) => Attempt::Refused(error.to_string()),
        Err(error) => Attempt::Broken(format!("it failed by itself: {error}")),
    }
}

/// Whether an error says that the kernel was built without something.
fn kernel_lacks(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || matches!(
            error.raw_os_error(),
            Some(
                libc::ENOSYS
                    | libc::EAFNOSUPPORT
                    | libc::EPROTONOSUPPORT
                    | libc::ESOCKTNOSUPPORT
                    | libc::ENODEV
            )
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_fails_by_itself_is_not_refused() {
        let met = |errno: i32| {
            let error = io::Error::from_raw_os_error(errno);
            outcome(Side::Inside, Err(error), SOCKET)
        };
        assert!(matches!(met(libc::EPERM), Attempt::Refused(_)));
        for errno in [libc::EMFILE, libc::ENOMEM, libc::EINVAL] {
            assert!(matches!(met(errno), Attempt::Broken(_)), "{errno}");
        }
        let other = outcome(Side::Inside, Err(io::Error::other("a defect")), SOCKET);
        assert!(matches!(other, Attempt::Broken(_)));
    }
}
