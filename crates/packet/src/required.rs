//! The probes, namespaces, and kernel programs that a packet of this version must have.
use super::format::boundary::BoundaryDocument;

/// The probes in the order in which they are run.
pub const PROBES: [&str; 88] = [
    "raw_socket_ipv4",
    "raw_socket_ipv6",
    "packet_socket",
    "vsock_socket",
    "alg_socket",
    "xdp_socket",
    "other_families",
    "netlink_beyond_route",
    "network_change",
    "mptcp_socket",
    "sctp_socket",
    "dccp_socket",
    "udplite_socket",
    "icmp_socket",
    "udp_sendto",
    "udp_sendmsg",
    "udp_connected",
    "udp_ipv6",
    "dns_udp",
    "dns_tcp",
    "dns_tls",
    "direct_tcp_ipv4",
    "direct_tcp_ipv6",
    "direct_tcp_mapped",
    "direct_tcp_fast_open",
    "direct_tcp_ssh",
    "metadata_ipv4",
    "metadata_ipv6",
    "interface_other_than_lo",
    "route",
    "io_uring",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "keyctl",
    "syscall_32bit",
    "syscall_x32",
    "user_namespace",
    "enter_namespace",
    "mount_file_system",
    "become_root",
    "setuid_file",
    "file_capability",
    "sudo",
    "ptrace_init",
    "memory_init",
    "ptrace_supervisor",
    "memory_supervisor",
    "ptrace_mediator",
    "memory_mediator",
    "ptrace_relay",
    "memory_relay",
    "leave_cgroup",
    "inherited_descriptors",
    "docker_socket",
    "podman_socket",
    "containerd_socket",
    "buildkit_socket",
    "dbus_socket",
    "systemd_socket",
    "resolved_socket",
    "journal_socket",
    "nscd_socket",
    "snapd_socket",
    "ssh_agent_socket",
    "gpg_agent_socket",
    "host_path_sockets",
    "host_fifo",
    "abstract_socket",
    "sysv_shared_memory",
    "posix_shared_memory",
    "signing_key_read",
    "signing_key_write",
    "config_read",
    "config_write",
    "evidence_read",
    "evidence_write",
    "packet_read",
    "packet_write",
    "runner_command_files",
    "runner_tokens",
    "sys_write",
    "proc_sys_write",
    "cgroupfs",
    "tracefs",
    "dmesg",
    "device_nodes",
    "terminal_input",
];

/// Probes whose connection the kernel redirects to the relay, and of these the probes that need IPv6.
const REDIRECTED: [&str; 3] = ["direct_tcp_ipv4", "direct_tcp_ssh", "metadata_ipv4"];
const REDIRECTED_IPV6: [&str; 3] = ["direct_tcp_ipv6", "direct_tcp_mapped", "metadata_ipv6"];

/// Returns the number of probes whose connection arrived at the relay. The kernel counts these connections as well.
pub(super) fn redirected(boundary_document: &BoundaryDocument) -> u64 {
    let by_ipv6 = REDIRECTED_IPV6.iter().filter(|_| boundary_document.ipv6);
    let all = REDIRECTED.iter().chain(by_ipv6);
    let held = all.filter(|name| boundary_document.is_denied(name));
    u64::try_from(held.count()).unwrap_or(u64::MAX)
}

/// The kinds of namespaces of the command, in the kernel's words.
pub const NAMESPACES: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];

/// The kernel programs that record the use of host sockets. Their hooks exist since Linux 6.7.
pub const OPTIONAL_PROGRAMS: [&str; 2] = ["agent_unix_connect", "agent_unix_sendmsg"];

/// Probes that apply to every machine with an enforced boundary, and probes that apply if the boundary has IPv6.
const APPLICABLE: [&str; 1] = ["bpf"];
const APPLICABLE_WITH_IPV6: [&str; 3] = ["udp_ipv6", "direct_tcp_ipv6", "metadata_ipv6"];

/// Whether the probe applies, according to other members of the document.
pub(super) fn applies(boundary_document: &BoundaryDocument, name: &str) -> bool {
    APPLICABLE.contains(&name) || (boundary_document.ipv6 && APPLICABLE_WITH_IPV6.contains(&name))
}

/// The kernel programs that enforcement needs. Other programs only record, or need a newer kernel.
pub const PROGRAMS: [&str; 23] = [
    "agent_connect4",
    "agent_connect6",
    "agent_getpeername4",
    "agent_getpeername6",
    "agent_sendmsg4",
    "agent_sendmsg6",
    "agent_skb_egress",
    "agent_sock_create",
    "agent_sockops",
    "mediator_connect4",
    "mediator_connect6",
    "mediator_sendmsg4",
    "mediator_sendmsg6",
    "mediator_skb_egress",
    "mediator_skb_ingress",
    "mediator_sock_create",
    "mediator_sockops",
    "relay_connect4",
    "relay_connect6",
    "relay_sendmsg4",
    "relay_sendmsg6",
    "relay_sock_create",
    "relay_sockops",
];
