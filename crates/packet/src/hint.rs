//! Hints about denied attempts: the settings that would allow an attempt, or the reason why no setting does. The output
//! of a run, the pages, and `egress policy suggest` share this code.
//!
//! A real Pipelock does not report that its allow-list denied a host, so this code evaluates the list again. The
//! command chose the host and the path of an attempt. A hint therefore spells a host as the policy parser accepts it,
//! and contains a path only if the path does not need quotes.
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use egress_policy::allowed::Allowed;
use egress_policy::{Host, natural};

use super::format::boundary::{Denied, MEDIATED, NOT_RESOLVED};

mod sockets;

pub use sockets::SERVICES;

/// Maximum number of hosts in one block.
const MAX_LINES: usize = 100;

const ONLY_TLS_AND_HTTP: &str = "only TLS and HTTP leave the boundary";
const ONLY_SOCKETS: &str = "only TLS and HTTP leave the boundary; --allow-unix opens the Unix socket of a service on this machine";

/// The condition under which a line of `trusted_domains` allows an attempt.
pub const IF_PRIVATE: &str =
    "if the name resolves to a private network; any other address needs ssrf.ip_allowlist";
/// The note about a denial of a host that the list contains. Pipelock 2.x does not report the reason.
const NO_REASON: &str = "Pipelock reports no reason, and the allow-list contains the host name; the name may not \
                         resolve or may lead to a private address, or a scan may have denied the request";

/// The note about a request that does not name a host in a form that the relay accepts.
const NO_HOST: &str = "the request must name a host without percent-encoding and without a user name, and CONNECT also \
                       needs a port";

/// The settings of the run that decide which attempts are denied.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// The policy.
    pub allowed: &'a Allowed,
    /// The ports that the run allows.
    pub ports: &'a [u16],
}

/// The settings that would allow an attempt. If no setting would allow it, all members except `note` are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hint {
    /// A line of `api_allowlist`.
    pub host: Option<String>,
    /// A port for `--allow-port`.
    pub port: Option<u16>,
    /// A line of `trusted_domains`.
    pub trusted: Option<String>,
    /// A line of `ssrf.ip_allowlist`.
    pub range: Option<String>,
    /// A path for `--allow-unix`.
    pub socket: Option<String>,
    /// A condition of the settings, or the reason why no setting allows the attempt.
    pub note: Option<Cow<'static, str>>,
}

impl Hint {
    /// Returns the hint for a denied attempt.
    pub fn of(denied: &Denied, settings: Settings<'_>) -> Self {
        let note = |note| Self {
            note: Some(Cow::Borrowed(note)),
            ..Self::default()
        };
        let range = || Self {
            range: single(&denied.destination),
            ..Self::default()
        };
        let is_mediated = MEDIATED.contains(&denied.protocol.as_str());
        // An origin may have written the answer, but a denial by the mediator is more likely.
        match denied.claimed().unwrap_or(&denied.reason) {
            "dns_to_other_resolver" => note("the boundary has its own resolver"),
            "udp" => note("UDP does not leave the boundary"),
            "protocol" | "socket_type" => note("only TCP leaves the boundary"),
            "nothing_listens" | "loopback" => note(
                "the command has its own loopback; --allow-unix opens the Unix socket of a service on this machine",
            ),
            "not_in_the_boundary" => {
                let (socket, note) = sockets::advice(&denied.destination);
                Self {
                    socket,
                    note: Some(note),
                    ..Self::default()
                }
            }
            "malformed_target" | "malformed_host" | "malformed_url"
                if denied.destination.is_empty() =>
            {
                note(NO_HOST)
            }
            "not_tls_or_http" | "client_silent" => note(no_way(&denied.protocol)),
            "own_address" | "not_public" => range(),
            "platform_address" => note("services of the cloud platform are never reachable"),
            NOT_RESOLVED => note("the name does not resolve on this machine"),
            "port_not_allowed" if denied.protocol == "tcp" => Self {
                port: Some(denied.port),
                ..Self::default()
            },
            "port_not_allowed" if !is_mediated => note(no_way(&denied.protocol)),
            "port_not_allowed" => Self::of_list(denied, settings),
            reason if is_list(denied, reason) && is_mediated => Self::of_list(denied, settings),
            reason if reason.starts_with("ssrf_metadata") => {
                note("services of the cloud platform are never reachable")
            }
            "ssrf:ssrf_own_address" => match range() {
                Self { range: None, .. } => note(
                    "the name resolves to this machine's own address; add that address to ssrf.ip_allowlist to allow it",
                ),
                hint => hint,
            },
            "ssrf:ssrf_internal_address" => Self::of_private(denied, settings),
            // Pipelock has one reason for a private address and for a name that does not resolve.
            reason if reason.starts_with("ssrf:") => note(
                "the name does not resolve, or resolves to a private address, which trusted_domains or ssrf.ip_allowlist allows",
            ),
            _ => Self::default(),
        }
    }

    /// Returns the hint that follows from the list and the ports.
    fn of_list(denied: &Denied, settings: Settings<'_>) -> Self {
        let says_list = denied.claims("allowlist") || denied.reason.starts_with("allowlist");
        // Without a policy, only the reason is known.
        let is_missing = match settings.allowed.mode() {
            Some(_) => !settings.allowed.allows(&denied.destination),
            None => says_list,
        };
        let host = spelled(&denied.destination).filter(|_| is_missing);
        let is_closed = denied.port != 0 && !settings.ports.contains(&denied.port);
        let is_unexplained = denied.reason == "mediator_403"
            && settings.allowed.lists_name(&denied.destination)
            && !is_closed;
        Self {
            host,
            port: is_closed.then_some(denied.port),
            note: is_unexplained.then_some(Cow::Borrowed(NO_REASON)),
            ..Self::default()
        }
    }

    /// Returns the hint for a name that leads to an address that is not public.
    fn of_private(denied: &Denied, settings: Settings<'_>) -> Self {
        let list = Self::of_list(denied, settings);
        let is_name = matches!(Host::parse(&denied.destination), Ok(Host::Name(_)));
        if !is_name {
            let range = single(&denied.destination);
            return Self { range, ..list };
        }
        Self {
            trusted: spelled(&denied.destination),
            note: Some(Cow::Borrowed(IF_PRIVATE)),
            ..list
        }
    }

    /// Returns the settings in one line, if there are any.
    pub fn settings(&self) -> Option<String> {
        let list = |key: &str, line: &Option<String>| {
            let line = line.as_ref()?;
            Some(format!("{key}: [\"{line}\"]"))
        };
        let range = self.range.as_ref();
        let settings: Vec<String> = [
            list("api_allowlist", &self.host),
            list("trusted_domains", &self.trusted),
            range.map(|range| format!("ssrf: {{ip_allowlist: [\"{range}\"]}}")),
            self.port.map(|port| format!("--allow-port {port}")),
            self.socket
                .as_ref()
                .map(|path| format!("--allow-unix {path}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!settings.is_empty()).then(|| settings.join(" and "))
    }

    /// Returns the hint as the end of a line about a denial. Without a hint, the text is empty.
    pub fn in_words(&self) -> String {
        match (self.settings(), self.note.as_deref()) {
            (Some(settings), None) => format!("allow it: {settings}"),
            (Some(settings), Some(note)) => format!("allow it: {settings}, {note}"),
            (None, Some(note)) => note.to_owned(),
            (None, None) => String::new(),
        }
    }
}

/// Whether the mediator's allow-list may be the reason for the denial. Pipelock 2.x does not report a reason.
fn is_list(denied: &Denied, reason: &str) -> bool {
    reason == "allowlist"
        || reason.starts_with("allowlist:")
        || matches!(reason, "mediator_403" | "answered_403") && denied.claimed().is_none()
}

/// Returns the note for a protocol that cannot leave the boundary.
fn no_way(protocol: &str) -> &'static str {
    match protocol {
        "postgresql" | "redis" | "raw" => ONLY_SOCKETS,
        _ => ONLY_TLS_AND_HTTP,
    }
}

/// Returns the only spelling of a host, if the text is a host.
fn spelled(text: &str) -> Option<String> {
    Some(Host::parse(text).ok()?.plain())
}

/// Returns the range that contains only this address.
fn single(text: &str) -> Option<String> {
    let address: IpAddr = text.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    Some(format!("{address}/{bits}"))
}

/// The settings of many hints, as text to paste.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    /// The lines of the policy.
    pub policy: String,
    /// The options of `egress run`.
    pub options: String,
}

impl Block {
    /// Returns the settings of several hints, or `None` if the line about one attempt already shows all of them.
    /// `left_out` is the number of denied destinations without a hint here, because the packet does not list them.
    pub fn of<'h>(hints: impl IntoIterator<Item = &'h Hint>, left_out: u64) -> Option<Self> {
        let hints: BTreeSet<&Hint> = hints
            .into_iter()
            .filter(|hint| hint.settings().is_some())
            .collect();
        if hints.len() < 2 {
            return None;
        }
        let lines = |of: fn(&Hint) -> Option<&String>| {
            let mut lines: Vec<&str> = hints
                .iter()
                .filter_map(|hint| of(hint))
                .map(String::as_str)
                .collect();
            lines.sort_by(|a, b| natural::compare(a, b));
            lines.dedup();
            lines
        };
        let mut policy = String::new();
        // The setting for a destination that is left out is unknown, so these destinations are counted only once.
        let mut uncounted = left_out;
        let mut section = |head: &str, lines: &[&str]| {
            if lines.is_empty() {
                return;
            }
            policy.push_str(head);
            policy.push('\n');
            let indent = if head.contains('\n') { "    " } else { "  " };
            for line in lines.iter().take(MAX_LINES) {
                let _infallible = writeln!(policy, "{indent}- \"{line}\"");
            }
            let rest = lines.len().saturating_sub(MAX_LINES);
            let unlisted = std::mem::take(&mut uncounted);
            let rest = u64::try_from(rest).unwrap_or(u64::MAX);
            let rest = rest.saturating_add(unlisted);
            if rest > 0 {
                let up_to = if unlisted > 0 { "up to " } else { "" };
                let _infallible = writeln!(
                    policy,
                    "{indent}# and {up_to}{rest} more: egress policy suggest"
                );
            }
        };
        section("api_allowlist:", &lines(|hint| hint.host.as_ref()));
        section("trusted_domains:", &lines(|hint| hint.trusted.as_ref()));
        section("ssrf:\n  ip_allowlist:", &lines(|hint| hint.range.as_ref()));
        let ports: BTreeSet<u16> = hints.iter().filter_map(|hint| hint.port).collect();
        let ports = ports.iter().map(|port| format!("--allow-port {port}"));
        let sockets = lines(|hint| hint.socket.as_ref());
        let sockets = sockets.iter().map(|path| format!("--allow-unix {path}"));
        let options: Vec<String> = ports.chain(sockets).take(MAX_LINES).collect();
        Some(Self {
            policy,
            options: options.join(" "),
        })
    }
}

#[cfg(test)]
mod tests;
