//! Checks what the relay can have sent for a request, and the reason for which it denied one.
use super::super::format::boundary::BoundaryDocument;
use super::super::format::rows::{PORT_NOT_ALLOWED, RelayRow};
use super::super::format::{RelayVerdict, Transport};
use super::Joined;

/// Maximum number of bytes of the head that the relay sends. A client's head has at most 64 KiB, and the relay encodes
/// a byte of it with at most three bytes and adds a few fields.
const LONGEST_HEAD: u64 = 256 << 10;
/// Minimum number of bytes of a head: the shortest method and URL, and the other bytes of the first line.
const SHORTEST_HEAD: u64 = 16;
/// Start of the text in place of a secret.
const REDACTED: &str = "[redacted-";
/// Reasons that the relay has before it determines the destination.
const WITHOUT_DESTINATION: [&str; 5] = [
    "loopback",
    "no_slot",
    "peer_address",
    "stale_slot",
    "unknown_synthetic",
];
/// Reasons for which a connection can fail before the relay sends a request.
const WITHOUT_REQUEST: [&str; 3] = ["client_closed", "reset", "stopped"];
/// Reason with which the relay denies a connection to its proxy port that is not a request to a proxy.
const NO_PROXY_REQUEST: &str = "not_a_proxy_request";

impl Joined {
    /// Checks one row of the relay.
    pub(super) fn request(&mut self, row: &RelayRow) {
        self.require(
            row.transport.is_none() || target_matches_row(row),
            "a row of the relay has a target that does not name its host and port",
        );
        match row.transport {
            Some(Transport::Forward) => {
                self.plain_by_tunnel.insert(false);
            }
            Some(Transport::Connect) if row.is_plain_http() => {
                self.plain_by_tunnel.insert(true);
            }
            Some(Transport::Unknown(_)) => return,
            Some(_) => {}
            None => {
                let fits = match row.verdict {
                    RelayVerdict::Unfinished => false,
                    RelayVerdict::Failed => WITHOUT_REQUEST.contains(&row.reason.as_str()),
                    RelayVerdict::Forwarded
                    | RelayVerdict::Refused
                    | RelayVerdict::Blocked
                    | RelayVerdict::Answered
                    | RelayVerdict::Unknown(_) => true,
                };
                self.require(
                    fits,
                    format!(
                        "a request that was not sent is {} with the reason {}",
                        row.verdict, row.reason
                    ),
                );
                let is_blank = row.target.is_none()
                    && row.status.is_none()
                    && row.claimed.is_none()
                    && (row.bytes_up, row.bytes_down, row.head_bytes) == (0, 0, 0);
                self.require(
                    is_blank,
                    "a row of the relay has no transport, but a target, an answer, or bytes",
                );
            }
        }
        if row.transport.is_some() {
            self.require(
                has_possible_head(row),
                format!(
                    "a request with the transport {} and the protocol {} has a head of {} bytes",
                    row.asked().unwrap_or_default(),
                    row.protocol,
                    row.head_bytes
                ),
            );
        }
        let is_placed = row.host.is_some();
        let has_port = row.port.is_some() == is_placed;
        let is_same = row
            .orig_dst
            .is_none_or(|dst| row.port.is_none_or(|port| port == dst.port()));
        // Only a connection to the proxy port can request a tunnel with CONNECT.
        let is_proxied = row.protocol == "connect" || row.reason == NO_PROXY_REQUEST;
        self.require(
            has_port && is_same && !(is_proxied && row.orig_dst.is_some()),
            "a row of the relay has another port than its connection",
        );
        if row.verdict == RelayVerdict::Refused {
            self.require(
                is_denied_for(&row.reason, &row.protocol),
                format!(
                    "the relay denied the protocol {} for the reason {}",
                    row.protocol, row.reason
                ),
            );
            let is_unplaced = WITHOUT_DESTINATION.contains(&row.reason.as_str());
            let fits = if is_placed {
                !is_unplaced
            } else {
                is_unplaced || row.orig_dst.is_none()
            };
            self.require(
                fits,
                "the relay denied a destination that it had not determined",
            );
            let is_last = !matches!(&*row.protocol, "http" | "h2c")
                || (row.reason == PORT_NOT_ALLOWED && row.orig_dst.is_some());
            if is_last && let Some(connection) = row.connection() {
                let is_first = self.denied.insert(connection);
                self.require(is_first, "the relay denied a connection twice");
            }
            if row.reason != PORT_NOT_ALLOWED {
                self.other_denied_ports.extend(row.port);
            }
        }
    }

    /// Compares the rows of the relay with the statements about the mediator and about the ports.
    pub(super) fn as_configured(&mut self, boundary_document: &BoundaryDocument) {
        let is_other = !boundary_document.mediator.tunnels_plain_http();
        let fits = !self.plain_by_tunnel.contains(&is_other);
        self.require(
            fits,
            "requests without TLS went to the mediator in another way than boundary.json states",
        );
        let ports = std::mem::take(&mut self.other_denied_ports);
        let is_allowed = ports
            .iter()
            .all(|port| boundary_document.allowed_ports.contains(port));
        self.require(
            is_allowed,
            "the relay denied a request to a port that is not allowed for another reason",
        );
    }
}

/// Whether the relay can have sent a head of this length. The relay does not count the head with which it opens a
/// tunnel.
fn has_possible_head(row: &RelayRow) -> bool {
    let is_tunnel = row.transport == Some(Transport::Connect);
    if is_tunnel && !row.is_plain_http() {
        return row.head_bytes == 0;
    }
    if row.head_bytes == 0 {
        // A status comes from the mediator, which therefore received the head. In a tunnel, the status may be that of
        // the mediator's answer to CONNECT.
        let is_open = row.verdict == RelayVerdict::Forwarded;
        return if is_tunnel {
            !is_open
        } else {
            row.status.is_none()
        };
    }
    let target = row.target.as_deref().unwrap_or_default();
    let shown = [target.find('?'), target.find(REDACTED)];
    let shown = shown.into_iter().flatten().min().unwrap_or(target.len());
    let least = if row.transport == Some(Transport::Forward) {
        u64::try_from(shown).unwrap_or(u64::MAX).max(SHORTEST_HEAD)
    } else {
        SHORTEST_HEAD
    };
    (least..=LONGEST_HEAD).contains(&row.head_bytes)
}

/// Whether the relay can deny this protocol for this reason. All reasons that have no line of their own are reasons of
/// HTTP requests.
fn is_denied_for(reason: &str, protocol: &str) -> bool {
    match reason {
        "loopback" | "unknown_synthetic" | "not_a_proxy_request" | PORT_NOT_ALLOWED => true,
        "no_slot" | "peer_address" | "stale_slot" => protocol == "raw",
        "client_silent" => matches!(protocol, "client_silent" | "connect"),
        "client_hello" | "client_hello_timeout" | "encrypted_client_hello" => {
            matches!(protocol, "tls" | "connect")
        }
        "name_mismatch" => matches!(protocol, "tls" | "connect" | "http"),
        "not_tls" => protocol == "connect",
        "not_tls_or_http" => !matches!(
            protocol,
            "tls" | "http" | "client_silent" | "connect" | "websocket"
        ),
        _ => matches!(protocol, "http" | "h2c"),
    }
}

/// Whether the target of a request names the host and port of its row.
fn target_matches_row(row: &RelayRow) -> bool {
    let (Some(target), Some(host), Some(port)) = (&row.target, &row.host, row.port) else {
        return false;
    };
    let Some((method, url)) = target.split_once(' ') else {
        return false;
    };
    let authority = if method == "CONNECT" {
        url
    } else {
        let Some((_, rest)) = url.split_once("://") else {
            return false;
        };
        rest.split(['/', '?', '#']).next().unwrap_or_default()
    };
    let is_method = method
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_lowercase());
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let with_port = |host: &str| {
        authority
            .strip_prefix(host)
            .is_some_and(|rest| match rest.strip_prefix(':') {
                Some(digits) => digits.parse() == Ok(port),
                None => rest.is_empty() && method != "CONNECT",
            })
    };
    is_method
        && (with_port(bare) || with_port(&format!("[{bare}]")) || authority.contains("[redacted-"))
}
