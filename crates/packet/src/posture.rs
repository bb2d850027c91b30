//! Derives the words of `packet.json` about the boundary from the probes. The supervisor writes the words, and the
//! check of a packet compares them.
use super::as_stated;
use super::model::{
    AUDIT_ENFORCEMENT, BrowserProxyStatus, DnsUdpStatus, DockerSocketStatus, Posture,
    RawSocketStatus, WebSocketFrameScanning,
};

/// Probes that search for an interface or a route other than loopback.
pub const NO_WAY_OUT: [&str; 2] = ["interface_other_than_lo", "route"];
/// Probes that connect to a destination directly. If the connection of one of these probes ends at the relay, the probe
/// counts as denied.
const REDIRECTED: [&str; 4] = [
    "direct_tcp_ipv4",
    "direct_tcp_mapped",
    "direct_tcp_fast_open",
    "direct_tcp_ssh",
];
/// Probes that try to send a datagram out of the boundary.
const NO_DATAGRAM: [&str; 4] = ["udp_sendto", "udp_sendmsg", "udp_connected", "dns_udp"];
/// Probes for a container engine.
const NO_ENGINE: [&str; 5] = [
    "docker_socket",
    "podman_socket",
    "containerd_socket",
    "buildkit_socket",
    "host_path_sockets",
];
/// Probes for sockets that send packets of any content.
const NO_RAW: [&str; 3] = ["raw_socket_ipv4", "raw_socket_ipv6", "packet_socket"];

/// Ways out that Pipelock lists as not enforced. A way leaves the list only if all of its probes in this run were
/// denied. A way without a probe always stays.
const UNSUPPORTED: [(&str, &[&[&str]]); 6] = [
    ("mcp_transports", &[]),
    ("nested_docker", &[&NO_ENGINE]),
    (
        "non_proxy_browser_egress",
        &[&NO_WAY_OUT, &REDIRECTED, &NO_DATAGRAM],
    ),
    ("service_containers", &[&NO_WAY_OUT, &REDIRECTED]),
    ("sibling_steps", &[]),
    ("ssh_egress", &[&NO_WAY_OUT, &REDIRECTED]),
];

/// The facts that decide the words, in addition to the probes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The run was an audit, in which nothing was enforced.
    pub is_audit: bool,
    /// The mediator was the built-in one.
    pub is_builtin: bool,
    /// Plain HTTP went through tunnels.
    pub tunnels_plain_http: bool,
    /// Host sockets that the caller opened.
    pub opened: Vec<String>,
}

/// The words that follow from the probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// `posture.enforcement_mode`.
    pub enforcement_mode: String,
    /// `posture.raw_socket_status`.
    pub raw_socket: RawSocketStatus,
    /// Whether `posture.docker_socket_status` may be `denied` or `absent`. Otherwise it is `unknown`.
    pub docker_is_closed: bool,
    /// `posture.dns_udp_status`.
    pub dns_udp: DnsUdpStatus,
    /// `posture.browser_proxy_status`.
    pub browser_proxy: BrowserProxyStatus,
    /// `posture.websocket_frame_scanning`.
    pub websocket_frames: WebSocketFrameScanning,
    /// `posture.unsupported_paths`.
    pub unsupported_paths: Vec<String>,
}

impl Words {
    /// Derives the words. `denied` returns whether a probe was denied.
    pub fn of(denied: impl Fn(&str) -> bool, facts: &Facts) -> Self {
        let all = |names: &[&str]| names.iter().all(|name| denied(name));
        let no_way_out = all(&NO_WAY_OUT);
        let redirected = all(&REDIRECTED);
        let netns = if no_way_out { "_netns" } else { "" };
        let gates = if redirected { "_ebpf_cgroup" } else { "" };
        let mut unsupported_paths: Vec<String> = UNSUPPORTED
            .iter()
            .filter(|(_, needed)| needed.is_empty() || !needed.iter().all(|names| all(names)))
            .map(|(path, _)| (*path).to_owned())
            .collect();
        if facts.is_audit {
            unsupported_paths.push(String::from("everything"));
        }
        if facts.tunnels_plain_http {
            unsupported_paths.push(String::from("plain_http_content"));
        }
        unsupported_paths.extend(facts.opened.iter().map(|path| format!("unix:{path}")));
        Self {
            enforcement_mode: if facts.is_audit {
                AUDIT_ENFORCEMENT.to_owned()
            } else {
                format!("linux{netns}{gates}")
            },
            raw_socket: if all(&NO_RAW) {
                RawSocketStatus::Denied
            } else {
                RawSocketStatus::Unknown
            },
            docker_is_closed: all(&["docker_socket"]),
            dns_udp: if all(&["dns_udp"]) {
                DnsUdpStatus::Denied
            } else {
                DnsUdpStatus::Unknown
            },
            browser_proxy: if no_way_out && redirected {
                BrowserProxyStatus::Forced
            } else {
                BrowserProxyStatus::Unknown
            },
            // The built-in mediator does not scan content. Pipelock scans frames that arrive through `/ws`, but not
            // `wss://`.
            websocket_frames: if facts.is_builtin {
                WebSocketFrameScanning::Off
            } else {
                WebSocketFrameScanning::ExplicitWsProxyPathRequired
            },
            unsupported_paths,
        }
    }

    /// Returns the members of `posture` that differ, as `(member, stated, derived)`.
    pub fn differences(&self, posture: &Posture) -> Vec<(&'static str, String, String)> {
        let docker_fits = match posture.docker_socket_status {
            DockerSocketStatus::Denied | DockerSocketStatus::Absent => self.docker_is_closed,
            DockerSocketStatus::Unknown => !self.docker_is_closed,
            DockerSocketStatus::Allowed | DockerSocketStatus::Masked => false,
        };
        let all = [
            (
                "posture.enforcement_mode",
                posture.enforcement_mode.clone(),
                self.enforcement_mode.clone(),
            ),
            (
                "posture.raw_socket_status",
                as_stated(&posture.raw_socket_status),
                as_stated(&self.raw_socket),
            ),
            (
                "posture.dns_udp_status",
                as_stated(&posture.dns_udp_status),
                as_stated(&self.dns_udp),
            ),
            (
                "posture.browser_proxy_status",
                as_stated(&posture.browser_proxy_status),
                as_stated(&self.browser_proxy),
            ),
            (
                "posture.websocket_frame_scanning",
                as_stated(&posture.websocket_frame_scanning),
                as_stated(&self.websocket_frames),
            ),
            (
                "posture.unsupported_paths",
                posture.unsupported_paths.join(" "),
                self.unsupported_paths.join(" "),
            ),
        ];
        let mut different: Vec<_> = all
            .into_iter()
            .filter(|(_, stated, derived)| stated != derived)
            .collect();
        if !docker_fits {
            let derived = if self.docker_is_closed {
                "denied or absent"
            } else {
                "unknown"
            };
            different.push((
                "posture.docker_socket_status",
                as_stated(&posture.docker_socket_status),
                derived.to_owned(),
            ));
        }
        different
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 6] = [
        "mcp_transports",
        "nested_docker",
        "non_proxy_browser_egress",
        "service_containers",
        "sibling_steps",
        "ssh_egress",
    ];

    fn unsupported(denied: impl Fn(&str) -> bool) -> Vec<String> {
        Words::of(denied, &Facts::default()).unsupported_paths
    }

    #[test]
    fn path_is_unsupported_until_every_probe_of_it_was_refused() {
        assert_eq!(unsupported(|_| false), ALL);
        assert_eq!(unsupported(|_| true), ["mcp_transports", "sibling_steps"]);
        assert_eq!(
            unsupported(|name| name != "route"),
            [
                "mcp_transports",
                "non_proxy_browser_egress",
                "service_containers",
                "sibling_steps",
                "ssh_egress"
            ]
        );
        assert_eq!(
            unsupported(|name| name != "podman_socket"),
            ["mcp_transports", "nested_docker", "sibling_steps"]
        );
    }

    #[test]
    fn people_read_the_meaning_of_every_path() {
        let facts = Facts {
            is_audit: true,
            tunnels_plain_http: true,
            opened: vec![String::from("/run/x.sock")],
            ..Facts::default()
        };
        for path in Words::of(|_| false, &facts).unsupported_paths {
            let words = crate::reasons::of_path(&path);
            assert_ne!(words, path);
            let name = path.strip_prefix("unix:").unwrap_or(&path);
            assert!(words.contains(name), "{words}");
        }
        assert_eq!(
            crate::reasons::of_path("mcp_transports"),
            "MCP messages inside the boundary are not judged (mcp_transports)"
        );
        assert_eq!(crate::reasons::of_path("<b>"), "<b>");
    }

    #[test]
    fn every_probe_that_a_word_needs_is_required() {
        let needed = UNSUPPORTED
            .iter()
            .flat_map(|(_, groups)| groups.iter().copied().flatten());
        for name in needed.chain(&NO_RAW) {
            assert!(crate::required::PROBES.contains(name), "{name}");
        }
    }
}
