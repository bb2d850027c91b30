//! Translates the codes of denials, and of changes that were not applied, into words.
use super::format::boundary::{Denied, NOT_RESOLVED};
use super::format::changes::{ChangeReason, ChangeRule};

/// Returns the reason for a denial as a sentence without its full stop, or `None` if the code is unknown.
pub(super) fn of_denial(denied: &Denied) -> Option<&'static str> {
    let reason = denied.claimed().unwrap_or(&denied.reason);
    Some(match reason {
        "udp" => "UDP does not leave the boundary",
        "dns_to_other_resolver" => {
            "The boundary resolves names itself, so other name servers are denied"
        }
        "protocol" => "The protocol cannot leave the boundary",
        "socket_type" => "Sockets of this type cannot leave the boundary",
        "control_port" => "The port belongs to the relay",
        "ipv6_unavailable" => "This machine has no IPv6 for the boundary",
        "nothing_listens" => "Nothing listens there on the command's own loopback",
        "internal" => "The kernel program could not read data that it needs, so it denied the call",
        "not_in_the_boundary" => "The command cannot reach a socket with this path",
        "own_address" | "ssrf:ssrf_own_address" => "The address belongs to this machine",
        "platform_address" => "The address belongs to a service of the cloud platform",
        "not_public" | "ssrf:ssrf_internal_address" => "The address is not public",
        "port_not_allowed" => "The run does not allow the port",
        "not_tls_or_http" => "The traffic is neither TLS nor HTTP",
        "not_tls" => "A tunnel may only carry TLS",
        "client_silent" => "The command sent nothing, so the relay could not identify the protocol",
        "client_hello" | "client_hello_timeout" => "The relay could not read the TLS handshake",
        "encrypted_client_hello" => "The TLS handshake hides the name of the server",
        "name_mismatch" | "sni_mismatch" => {
            "The request or the TLS handshake names a host other than that of the connection"
        }
        "client_closed" => "The command closed the connection before it sent a whole request",
        "h2c" => "HTTP/2 without TLS cannot be judged",
        "no_slot" | "stale_slot" | "peer_address" => "The kernel has no record of this connection",
        "unknown_synthetic" => "The address is a synthetic address that belongs to no host name",
        "not_a_proxy_request" | "connect_not_to_proxy" => {
            "The request does not fit the port on which it arrived"
        }
        "scheme_not_allowed" => "The mediator does not carry this scheme",
        "parse_error" | "allowlist:parse_error" => "The mediator could not read the host name",
        NOT_RESOLVED => "The name does not resolve on this machine",
        "mediator_unreachable" | "mediator_timeout" => "The mediator did not answer the request",
        "mediator_502" | "upstream_failed" => {
            "The destination could not be reached or did not send a valid answer"
        }
        "mediator_503" => "The mediator could not accept the request",
        "mediator_403" | "answered_403" => "The mediator denied the request",
        "answered_429" => "The mediator denied the request, because its limit was reached",
        "answered_503" => "The mediator could not judge the request",
        _ => return of_family(reason),
    })
}

/// Returns the words for reasons that name a layer of the mediator, or a malformed request.
fn of_family(reason: &str) -> Option<&'static str> {
    const MALFORMED: [&str; 24] = [
        "bare_cr",
        "bare_lf",
        "connect_with_body",
        "connection_names_framing",
        "control_byte",
        "head_too_large",
        "http10_keep_alive",
        "http_version",
        "incomplete_head",
        "length_and_transfer_encoding",
        "malformed_chunk",
        "malformed_head",
        "malformed_host",
        "malformed_length",
        "malformed_query",
        "malformed_target",
        "malformed_upgrade",
        "malformed_url",
        "no_host",
        "obs_fold",
        "trailer_fields",
        "transfer_encoding",
        "two_hosts",
        "two_lengths",
    ];
    let layer = reason.split(':').next().unwrap_or_default();
    Some(match layer {
        "allowlist" => "The allow-list does not contain the destination",
        "ssrf_metadata" => "The address belongs to a service of the cloud platform",
        "ssrf" => "The name does not resolve, or resolves to a private address",
        "dlp" => "The request contains data that the policy does not let out",
        "blocklist" => "The policy denies the destination",
        "rate_limit" | "ratelimit" => "The limit of requests was reached",
        "response_scan" => "The answer contains text that the policy denies",
        _ if MALFORMED.contains(&reason) => "The request is malformed or ambiguous",
        _ => return None,
    })
}

/// Returns the meaning of a word of `posture.unsupported_paths`. An unknown word is returned as it is.
pub(super) fn of_path(path: &str) -> String {
    if let Some(socket) = path.strip_prefix("unix:") {
        return format!("The command may use the host's Unix socket {socket}");
    }
    let words = match path {
        "everything" => "Nothing is enforced, because the run is an audit",
        "mcp_transports" => "MCP messages inside the boundary are not judged",
        "nested_docker" => "A container engine of the host may be reachable",
        "non_proxy_browser_egress" => "A browser may reach destinations without the mediator",
        "plain_http_content" => "Plain HTTP goes through tunnels, so its content is not judged",
        "service_containers" => "Service containers may be reachable without the mediator",
        "sibling_steps" => "Other steps of the job are outside the boundary",
        "ssh_egress" => "SSH may reach destinations without the mediator",
        _ => return path.to_owned(),
    };
    format!("{words} ({path})")
}

/// Returns the reason why a change was not applied.
pub fn of_change(reason: &ChangeReason) -> &str {
    match reason {
        ChangeReason::Rule(rule) => of_rule(rule),
        ChangeReason::Error { io } => io,
    }
}

pub(super) fn of_rule(rule: &ChangeRule) -> &str {
    match rule {
        ChangeRule::ChangedMeanwhile => "a host process changed the same path during the run",
        ChangeRule::Configuration => "configuration that can run code later",
        ChangeRule::Device => "device node",
        ChangeRule::Fifo => "named pipe",
        ChangeRule::GitDirectory => "git hooks and other files that git may run",
        ChangeRule::GitIndex => {
            "this git index cannot be parsed, or lists a path in a git directory or outside the workspace"
        }
        ChangeRule::Github => "GitHub runs files in .github",
        ChangeRule::HeldBack => {
            "the change to a directory above or below this path was not applied"
        }
        ChangeRule::LooksLikeGitDirectory => "the directory would become a git repository",
        ChangeRule::NewGitDirectory => {
            "new git directory that would hide a repository, or new file that names a git directory"
        }
        ChangeRule::NotPermitted => {
            "the owner of the workspace is not permitted to make this change"
        }
        ChangeRule::OtherFileSystem => "another file system is mounted at this path",
        ChangeRule::PointsOutside => "the link points outside the workspace",
        ChangeRule::Protected => "protected",
        ChangeRule::Socket => "socket",
        ChangeRule::TooDeep => "too deep",
        ChangeRule::WholeRun => "no change of this run is applied",
        ChangeRule::WorkspaceItself => "permissions of the workspace directory itself",
        ChangeRule::Unknown(word) => word,
    }
}
