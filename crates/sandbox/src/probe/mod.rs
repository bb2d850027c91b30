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
use tried::Tried;

/// One probe.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Its name, on the command line and in the packet.
    pub name: &'static str,
    attempt: fn(&Scene) -> Tried,
    apart: Apart,
    /// Its control is made in the host's namespaces, for that is where what it aims at is.
    on_host: bool,
}

/// Whether an attempt is made in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Apart {
    Never,
    /// Where it succeeds: the kernel keeps it waiting then, which several can do at a time.
    Outside,
    /// It may kill its process, or change what later ones meet.
    Always,
}

const fn spare(name: &'static str, attempt: fn(&Scene) -> Tried) -> Probe {
    Probe {
        name,
        attempt,
        apart: Apart::Never,
        on_host: false,
    }
}

const fn apart(name: &'static str, attempt: fn(&Scene) -> Tried) -> Probe {
    Probe {
        apart: Apart::Always,
        ..spare(name, attempt)
    }
}

const fn slow(name: &'static str, attempt: fn(&Scene) -> Tried) -> Probe {
    Probe {
        apart: Apart::Outside,
        ..spare(name, attempt)
    }
}

const fn host(name: &'static str, attempt: fn(&Scene) -> Tried) -> Probe {
    Probe {
        on_host: true,
        ..spare(name, attempt)
    }
}

const fn host_apart(name: &'static str, attempt: fn(&Scene) -> Tried) -> Probe {
    Probe {
        on_host: true,
        ..apart(name, attempt)
    }
}

/// All probes, in the order of the results.
pub const PROBES: [Probe; 88] = [
    spare("raw_socket_ipv4", network::raw_socket_ipv4),
    spare("raw_socket_ipv6", network::raw_socket_ipv6),
    slow("packet_socket", network::packet_socket),
    spare("vsock_socket", network::vsock_socket),
    spare("alg_socket", network::alg_socket),
    spare("xdp_socket", network::xdp_socket),
    slow("other_families", network::other_families),
    spare("netlink_beyond_route", network::netlink_beyond_route),
    spare("network_change", network::network_change),
    spare("mptcp_socket", network::mptcp_socket),
    spare("sctp_socket", network::sctp_socket),
    spare("dccp_socket", network::dccp_socket),
    spare("udplite_socket", network::udplite_socket),
    spare("icmp_socket", network::icmp_socket),
    spare("udp_sendto", network::udp_sendto),
    spare("udp_sendmsg", network::udp_sendmsg),
    spare("udp_connected", network::udp_connected),
    spare("udp_ipv6", network::udp_ipv6),
    spare("dns_udp", network::dns_udp),
    spare("dns_tcp", network::dns_tcp),
    spare("dns_tls", network::dns_tls),
    spare("direct_tcp_ipv4", network::direct_tcp_ipv4),
    spare("direct_tcp_ipv6", network::direct_tcp_ipv6),
    spare("direct_tcp_mapped", network::direct_tcp_mapped),
    spare("direct_tcp_fast_open", network::direct_tcp_fast_open),
    spare("direct_tcp_ssh", network::direct_tcp_ssh),
    spare("metadata_ipv4", network::metadata_ipv4),
    spare("metadata_ipv6", network::metadata_ipv6),
    host("interface_other_than_lo", network::interface_other_than_lo),
    host("route", network::route),
    spare("io_uring", kernel::io_uring),
    spare("bpf", kernel::bpf),
    slow("perf_event_open", kernel::perf_event_open),
    spare("userfaultfd", kernel::userfaultfd),
    spare("keyctl", kernel::keyctl),
    apart("syscall_32bit", kernel::syscall_32bit),
    apart("syscall_x32", kernel::syscall_x32),
    apart("user_namespace", privilege::user_namespace),
    apart("enter_namespace", privilege::enter_namespace),
    apart("mount_file_system", privilege::mount_file_system),
    apart("become_root", privilege::become_root),
    apart("setuid_file", privilege::setuid_file),
    apart("file_capability", privilege::file_capability),
    apart("sudo", privilege::sudo),
    host_apart("ptrace_init", privilege::ptrace_init),
    host("memory_init", privilege::memory_init),
    host_apart("ptrace_supervisor", privilege::ptrace_supervisor),
    host("memory_supervisor", privilege::memory_supervisor),
    host_apart("ptrace_mediator", privilege::ptrace_mediator),
    host("memory_mediator", privilege::memory_mediator),
    host_apart("ptrace_relay", privilege::ptrace_relay),
    host("memory_relay", privilege::memory_relay),
    host_apart("leave_cgroup", privilege::leave_cgroup),
    apart("inherited_descriptors", privilege::inherited_descriptors),
    spare("docker_socket", files::docker_socket),
    spare("podman_socket", files::podman_socket),
    spare("containerd_socket", files::containerd_socket),
    spare("buildkit_socket", files::buildkit_socket),
    spare("dbus_socket", files::dbus_socket),
    spare("systemd_socket", files::systemd_socket),
    spare("resolved_socket", files::resolved_socket),
    spare("journal_socket", files::journal_socket),
    spare("nscd_socket", files::nscd_socket),
    spare("snapd_socket", files::snapd_socket),
    spare("ssh_agent_socket", files::ssh_agent_socket),
    spare("gpg_agent_socket", files::gpg_agent_socket),
    host("host_path_sockets", files::host_path_sockets),
    host("host_fifo", files::host_fifo),
    host("abstract_socket", files::abstract_socket),
    host("sysv_shared_memory", files::sysv_shared_memory),
    host("posix_shared_memory", files::posix_shared_memory),
    host("signing_key_read", files::signing_key_read),
    host("signing_key_write", files::signing_key_write),
    host("config_read", files::config_read),
    host("config_write", files::config_write),
    host("evidence_read", files::evidence_read),
    host("evidence_write", files::evidence_write),
    host("packet_read", files::packet_read),
    host("packet_write", files::packet_write),
    host("runner_command_files", files::runner_command_files),
    host("runner_tokens", files::runner_tokens),
    spare("sys_write", kernel::sys_write),
    spare("proc_sys_write", kernel::proc_sys_write),
    spare("cgroupfs", kernel::cgroupfs),
    spare("tracefs", kernel::tracefs),
    spare("dmesg", kernel::dmesg),
    spare("device_nodes", kernel::device_nodes),
    apart("terminal_input", kernel::terminal_input),
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
    match (probe.attempt)(scene) {
        Ok(attempt) => attempt,
        Err(error) if scene.side == Side::Outside && kernel_lacks(&error) => {
            Attempt::Absent(format!("this kernel has none: {error}"))
        }
        Err(error) => Attempt::Refused(error.to_string()),
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
