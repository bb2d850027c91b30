//! Tests the boundary from inside. A probe runs as the command and tries something that the boundary must deny. The
//! control of a probe tries the same thing from outside, in temporary namespaces or in those of the host, to show that
//! the probe could have succeeded.
//!
//! The results hold for this run only. The same code runs on both sides; only the user and the
//! place differ. `denied` means that the probe failed inside and the control succeeded outside.
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
pub use files::SERVICES;
use model::Observation;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
pub use privilege::PrivilegedPrograms;
use scene::{Scene, Side};
use tried::{
    CALL, DEVICE, FILE, LISTENER, NAMESPACE, PROCESS, Refusals, SEGMENT, SEND, SEND_V6, SOCKET,
    TERMINAL, Tried, is_refusal,
};

/// A probe, with everything needed to run it and its control.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// The name of the probe on the command line and in the packet.
    pub name: &'static str,
    refusals: Refusals,
    run: fn(&Scene) -> Tried,
    own_process: OwnProcess,
    /// Whether the control runs in the host's namespaces, because its target exists only there.
    on_host: bool,
}

/// Whether a probe runs in a separate process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnProcess {
    Never,
    /// Only outside, because only the control succeeds. The kernel takes about 7 ms to release a packet socket or to
    /// open the first performance event, so these controls run in parallel.
    Outside,
    /// Always, because the probe may kill its process or change the results of later probes.
    Always,
}

/// Returns a probe that runs in the same process as others.
const fn in_process(name: &'static str, refusals: Refusals, run: fn(&Scene) -> Tried) -> Probe {
    Probe {
        name,
        refusals,
        run,
        own_process: OwnProcess::Never,
        on_host: false,
    }
}

/// Returns a probe that always runs in a separate process.
const fn in_own_process(name: &'static str, refusals: Refusals, run: fn(&Scene) -> Tried) -> Probe {
    Probe {
        own_process: OwnProcess::Always,
        ..in_process(name, refusals, run)
    }
}

/// Returns a probe whose control runs in a separate process, in parallel with others.
const fn parallel_outside(
    name: &'static str,
    refusals: Refusals,
    run: fn(&Scene) -> Tried,
) -> Probe {
    Probe {
        own_process: OwnProcess::Outside,
        ..in_process(name, refusals, run)
    }
}

/// Returns a probe whose control runs in the host's namespaces.
const fn on_host(name: &'static str, refusals: Refusals, run: fn(&Scene) -> Tried) -> Probe {
    Probe {
        on_host: true,
        ..in_process(name, refusals, run)
    }
}

/// Returns a probe that always runs in a separate process, and whose control runs in the host's
/// namespaces.
const fn on_host_in_own_process(
    name: &'static str,
    refusals: Refusals,
    run: fn(&Scene) -> Tried,
) -> Probe {
    Probe {
        on_host: true,
        ..in_own_process(name, refusals, run)
    }
}

/// All probes, in the order of the results.
pub const PROBES: [Probe; 88] = [
    in_process("raw_socket_ipv4", SOCKET, network::raw_socket_ipv4),
    in_process("raw_socket_ipv6", SOCKET, network::raw_socket_ipv6),
    parallel_outside("packet_socket", SOCKET, network::packet_socket),
    in_process("vsock_socket", SOCKET, network::vsock_socket),
    in_process("alg_socket", SOCKET, network::alg_socket),
    in_process("xdp_socket", SOCKET, network::xdp_socket),
    parallel_outside("other_families", SOCKET, network::other_families),
    in_process(
        "netlink_beyond_route",
        SOCKET,
        network::netlink_beyond_route,
    ),
    in_process("network_change", SOCKET, network::network_change),
    in_process("mptcp_socket", SOCKET, network::mptcp_socket),
    in_process("sctp_socket", SOCKET, network::sctp_socket),
    in_process("dccp_socket", SOCKET, network::dccp_socket),
    in_process("udplite_socket", SOCKET, network::udplite_socket),
    in_process("icmp_socket", SOCKET, network::icmp_socket),
    in_process("udp_sendto", SEND, network::udp_sendto),
    in_process("udp_sendmsg", SEND, network::udp_sendmsg),
    in_process("udp_connected", SEND, network::udp_connected),
    in_process("udp_ipv6", SEND_V6, network::udp_ipv6),
    in_process("dns_udp", SEND, network::dns_udp),
    in_process("dns_tcp", SEND, network::dns_tcp),
    in_process("dns_tls", SEND, network::dns_tls),
    in_process("direct_tcp_ipv4", SEND, network::direct_tcp_ipv4),
    in_process("direct_tcp_ipv6", SEND_V6, network::direct_tcp_ipv6),
    in_process("direct_tcp_mapped", SEND_V6, network::direct_tcp_mapped),
    in_process("direct_tcp_fast_open", SEND, network::direct_tcp_fast_open),
    in_process("direct_tcp_ssh", SEND, network::direct_tcp_ssh),
    in_process("metadata_ipv4", SEND, network::metadata_ipv4),
    in_process("metadata_ipv6", SEND_V6, network::metadata_ipv6),
    on_host(
        "interface_other_than_lo",
        FILE,
        network::interface_other_than_lo,
    ),
    on_host("route", FILE, network::route),
    in_process("io_uring", CALL, kernel::io_uring),
    in_process("bpf", CALL, kernel::bpf),
    parallel_outside("perf_event_open", CALL, kernel::perf_event_open),
    in_process("userfaultfd", CALL, kernel::userfaultfd),
    in_process("keyctl", CALL, kernel::keyctl),
    in_own_process("syscall_32bit", CALL, kernel::syscall_32bit),
    in_own_process("syscall_x32", CALL, kernel::syscall_x32),
    in_own_process("user_namespace", NAMESPACE, privilege::user_namespace),
    in_own_process("enter_namespace", CALL, privilege::enter_namespace),
    in_own_process("mount_file_system", CALL, privilege::mount_file_system),
    in_own_process("become_root", CALL, privilege::become_root),
    in_own_process("setuid_file", FILE, privilege::setuid_file),
    in_own_process("file_capability", FILE, privilege::file_capability),
    in_own_process("sudo", FILE, privilege::sudo),
    on_host_in_own_process("ptrace_init", PROCESS, privilege::ptrace_init),
    on_host("memory_init", PROCESS, privilege::memory_init),
    on_host_in_own_process("ptrace_supervisor", PROCESS, privilege::ptrace_supervisor),
    on_host("memory_supervisor", PROCESS, privilege::memory_supervisor),
    on_host_in_own_process("ptrace_mediator", PROCESS, privilege::ptrace_mediator),
    on_host("memory_mediator", PROCESS, privilege::memory_mediator),
    on_host_in_own_process("ptrace_relay", PROCESS, privilege::ptrace_relay),
    on_host("memory_relay", PROCESS, privilege::memory_relay),
    on_host_in_own_process("leave_cgroup", FILE, privilege::leave_cgroup),
    in_own_process(
        "inherited_descriptors",
        FILE,
        privilege::inherited_descriptors,
    ),
    in_process("docker_socket", LISTENER, files::docker_socket),
    in_process("podman_socket", LISTENER, files::podman_socket),
    in_process("containerd_socket", LISTENER, files::containerd_socket),
    in_process("buildkit_socket", LISTENER, files::buildkit_socket),
    in_process("dbus_socket", LISTENER, files::dbus_socket),
    in_process("systemd_socket", LISTENER, files::systemd_socket),
    in_process("resolved_socket", LISTENER, files::resolved_socket),
    in_process("journal_socket", LISTENER, files::journal_socket),
    in_process("nscd_socket", LISTENER, files::nscd_socket),
    in_process("snapd_socket", LISTENER, files::snapd_socket),
    in_process("ssh_agent_socket", LISTENER, files::ssh_agent_socket),
    in_process("gpg_agent_socket", LISTENER, files::gpg_agent_socket),
    on_host("host_path_sockets", LISTENER, files::host_path_sockets),
    on_host("host_fifo", LISTENER, files::host_fifo),
    on_host("abstract_socket", LISTENER, files::abstract_socket),
    on_host("sysv_shared_memory", SEGMENT, files::sysv_shared_memory),
    on_host("posix_shared_memory", FILE, files::posix_shared_memory),
    on_host("signing_key_read", FILE, files::signing_key_read),
    on_host("signing_key_write", FILE, files::signing_key_write),
    on_host("config_read", FILE, files::config_read),
    on_host("config_write", FILE, files::config_write),
    on_host("evidence_read", FILE, files::evidence_read),
    on_host("evidence_write", FILE, files::evidence_write),
    on_host("packet_read", FILE, files::packet_read),
    on_host("packet_write", FILE, files::packet_write),
    on_host("runner_command_files", FILE, files::runner_command_files),
    on_host("runner_tokens", FILE, files::runner_tokens),
    in_process("sys_write", FILE, kernel::sys_write),
    in_process("proc_sys_write", FILE, kernel::proc_sys_write),
    in_process("cgroupfs", FILE, kernel::cgroupfs),
    in_process("tracefs", FILE, kernel::tracefs),
    in_process("dmesg", CALL, kernel::dmesg),
    in_process("device_nodes", DEVICE, kernel::device_nodes),
    in_own_process("terminal_input", TERMINAL, kernel::terminal_input),
];

/// The results of one process, each with the name of its probe.
pub type Found = Vec<(String, Observation)>;

/// Runs every probe inside the boundary.
///
/// # Errors
/// Returns the error of `fork(2)` or `pipe(2)`, or of a result that cannot be read.
///
/// # Order
/// Call this in a process with the command's user, filters, and file view, while the process has one thread.
pub fn inside(scene: &Scene) -> io::Result<Found> {
    run_probes(scene, &PROBES.iter().collect::<Vec<_>>())
}

/// A process that runs probes.
struct ProbeProcess<'p> {
    pid: Pid,
    results: OwnedFd,
    probes: Vec<&'p Probe>,
    own_process: bool,
}

/// Runs `probes`. Probes that need a separate process run in parallel.
fn run_probes(scene: &Scene, probes: &[&Probe]) -> io::Result<Found> {
    let (separate, together): (Vec<_>, Vec<_>) =
        probes.iter().partition(|probe| match probe.own_process {
            OwnProcess::Never => false,
            OwnProcess::Outside => scene.side == Side::Outside,
            OwnProcess::Always => true,
        });
    let mut children = Vec::new();
    for probe in separate {
        children.push(start(scene, vec![probe], true)?);
    }
    children.push(start(scene, together, false)?);
    let mut found = Found::new();
    for child in children {
        finish(child, &mut found)?;
    }
    Ok(found)
}

fn start<'p>(
    scene: &Scene,
    probes: Vec<&'p Probe>,
    own_process: bool,
) -> io::Result<ProbeProcess<'p>> {
    let (results, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let Some(pid) = process::fork()? else {
        drop(results);
        let mut writer = File::from(writer);
        let mut all_written = true;
        for probe in probes {
            let result = run_probe(scene, probe);
            let mut line = serde_json::to_vec(&(probe.name, result)).unwrap_or_default();
            line.push(b'\n');
            all_written &= writer.write_all(&line).is_ok();
        }
        process::exit_now(i32::from(!all_written));
    };
    Ok(ProbeProcess {
        pid,
        results,
        probes,
        own_process,
    })
}

/// Reads the results of a process. A probe counts as denied if a filter killed its separate process with SIGSYS. A
/// probe whose process ended without a result in another way proves nothing.
fn finish(child: ProbeProcess<'_>, found: &mut Found) -> io::Result<()> {
    let mut text = Vec::new();
    File::from(child.results).read_to_end(&mut text)?;
    let status = waitpid(child.pid, None)?;
    let mut received: Found = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(serde_json::from_slice)
        .collect::<Result<_, _>>()?;
    for probe in child.probes.iter().skip(received.len()) {
        let killed_by = if let WaitStatus::Signaled(_, signal, _) = status {
            child.own_process.then_some(signal)
        } else {
            None
        };
        let result = match (killed_by, probe.name) {
            (Some(Signal::SIGSYS), _) => {
                Observation::Refused(String::from("the kernel killed the process with SIGSYS"))
            }
            (Some(Signal::SIGSEGV), "syscall_32bit") => {
                Observation::Absent(String::from("this kernel has no 32-bit system call entry"))
            }
            _ => {
                let end = process::describe_end(status);
                Observation::Broken(format!("the process ended with {end} and without a result"))
            }
        };
        received.push((probe.name.to_owned(), result));
    }
    found.append(&mut received);
    Ok(())
}

fn run_probe(scene: &Scene, probe: &Probe) -> Observation {
    classify(scene.side, (probe.run)(scene), probe.refusals)
}

/// Classifies the result of a probe. `refusals` are the errors that count as denied.
fn classify(side: Side, tried: Tried, refusals: Refusals) -> Observation {
    match tried {
        Ok(observation) => observation,
        Err(error) if side == Side::Outside && kernel_lacks(&error) => {
            Observation::Absent(format!("this kernel does not support the call: {error}"))
        }
        Err(error) if is_refusal(&error, refusals) => Observation::Refused(error.to_string()),
        Err(error) => Observation::Broken(format!(
            "the probe failed for a reason other than the boundary: {error}"
        )),
    }
}

/// Whether an error means that the kernel was built without a feature.
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

    /// Claims: probes-side-by-side
    #[test]
    fn an_attempt_that_fails_by_itself_is_not_refused() {
        let met = |errno: i32| {
            let error = io::Error::from_raw_os_error(errno);
            classify(Side::Inside, Err(error), SOCKET)
        };
        assert!(matches!(met(libc::EPERM), Observation::Refused(_)));
        for errno in [libc::EMFILE, libc::ENOMEM, libc::EINVAL] {
            assert!(matches!(met(errno), Observation::Broken(_)), "{errno}");
        }
        let other = classify(Side::Inside, Err(io::Error::other("a defect")), SOCKET);
        assert!(matches!(other, Observation::Broken(_)));
    }
}
