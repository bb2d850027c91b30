//! Suggests an allow-list from a run's flow log: the hosts and ports that the run used or tried to use, without those
//! that no allow-list can permit.
//!
//! The log contains names, paths, and process names that the command chose. A host name enters the list only in
//! the spelling that the policy parser accepts. Every other text is escaped and goes into a comment.
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::net::IpAddr;

use audit_packet::flows::check_flows;
use audit_packet::format::boundary::Denied;
use audit_packet::format::rows::{DnsAnswerRow, RelayRow};
use audit_packet::format::{self, RelayVerdict, Tried};
use audit_packet::hint::{Hint, Settings};
use egress_policy::ssrf::SsrfGuard;
use egress_policy::{Host, natural};
use pipelock_receipts::findings::Finding;
use serde::Serialize;

mod text;

/// Maximum number of hosts on a list. A longer list would be too long to review.
const MAX_HOSTS: usize = 4096;
/// Maximum number of ports in addition to 80 and 443.
const MAX_PORTS: usize = 64;
/// Maximum number of kinds of denied attempts that are listed as comments.
const MAX_LEFT_OUT: usize = 256;
/// Maximum number of processes that are named in one row.
const MAX_PROCESSES: usize = 16;
/// Ports that need no option.
const USUAL_PORTS: [u16; 2] = [80, 443];

/// Reason for an address without a known name.
const ADDRESS: &str = "address_without_name";
/// Reason for a query to another resolver.
const DNS: &str = "dns_to_other_resolver";

/// Reason for a connection to a port of loopback on which nothing listened.
const NOTHING_LISTENS: &str = "nothing_listens";
/// Reason for a connection to the host's loopback.
const LOOPBACK: &str = "loopback";

/// The reason why there is no suggestion.
#[derive(Debug, thiserror::Error)]
pub enum SuggestError {
    /// The flow log was changed or is damaged.
    #[error("the flow log was changed or is damaged ({}: {}); get an unchanged copy of the packet", .0.place, .0.rule.problem)]
    Broken(Box<Finding>),
    /// The flow log cannot be read to its end.
    #[error("cannot read the flow log")]
    Read(#[source] io::Error),
    /// The suggested list would be too long.
    #[error(
        "the command connected to more than {limit} {what}, which is too many for a useful allow-list"
    )]
    TooMany {
        /// The kind of destinations.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// A suggested allow-list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Suggestion {
    /// Rows of the list.
    pub rows: Vec<Row>,
    /// Ports to allow in addition to 80 and 443.
    pub allow_ports: BTreeSet<u16>,
    /// Attempts that the list does not allow.
    pub left_out: Vec<LeftOut>,
    /// Number of further attempts that the list does not allow.
    pub more_left_out: u64,
}

/// One row of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Host name or address.
    pub host: String,
    /// Ports of the host.
    pub ports: BTreeSet<u16>,
    /// Whether another host name has the same address, so that the command may have used that name instead.
    pub shares_address: bool,
    /// Whether the name resolved to an internal address, which no allow-list permits.
    pub internal_address: bool,
    /// Whether the run denied the name because it resolves to an address that is not public, so that the name must be in
    /// `trusted_domains` as well.
    pub trusted: bool,
    /// Number of uses, and their processes.
    #[serde(flatten)]
    pub uses: Uses,
}

/// One kind of attempt that the list does not allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The attempt.
    #[serde(flatten)]
    pub attempt: Attempt,
    /// The setting that would let the attempt through, or the reason why no setting does. Empty if no setting affects
    /// the attempt.
    pub hint: String,
    /// Number of uses, and their processes.
    #[serde(flatten)]
    pub uses: Uses,
}

/// An attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Attempt {
    /// Reason in the flow log, or `address_without_name`.
    pub reason: String,
    /// Protocol.
    pub protocol: String,
    /// Host, address, or path. Empty if there is none.
    pub target: String,
    /// Port. 0 if there is none.
    pub port: u16,
}

/// The uses of a host, or the attempts of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Uses {
    /// Number of uses.
    pub count: u64,
    /// Number of uses by process name.
    pub processes: BTreeMap<String, u64>,
}

impl Uses {
    fn add(&mut self, process: &str, count: u64) {
        self.count = self.count.saturating_add(count);
        let process = if process.is_empty() { "?" } else { process };
        if self.processes.len() < MAX_PROCESSES || self.processes.contains_key(process) {
            let of_process = self.processes.entry(process.to_owned()).or_default();
            *of_process = of_process.saturating_add(count);
        }
    }

    fn add_all(&mut self, other: &Self) {
        let before = self.count;
        for (process, count) in &other.processes {
            self.add(process, *count);
        }
        self.count = before.saturating_add(other.count);
    }
}

/// Suggests a list from the flow log of a run, with or without `--mode audit`. `settings` are the settings of the run.
/// In an audit, loopback is the host's, and a service that listens on it cannot be reached from inside a boundary.
///
/// # Errors
/// Fails if the log cannot be read, its chain is broken, or the list would be too long.
pub fn suggest(
    mut flows: impl Read,
    settings: Settings<'_>,
    is_audit: bool,
) -> Result<Suggestion, SuggestError> {
    let mut seen = Seen::with(settings, is_audit);
    let report = check_flows(&mut flows, &mut |row| seen.row(&format::Row::read(row)))
        .map_err(SuggestError::Read)?;
    if let Some(finding) = report.findings.into_iter().next() {
        return Err(SuggestError::Broken(Box::new(finding)));
    }
    seen.into_suggestion()
}

/// The uses of one host.
#[derive(Debug, Default)]
struct Need {
    ports: BTreeSet<u16>,
    shares_address: bool,
    internal_address: bool,
    trusted: bool,
    uses: Uses,
}

/// The facts collected from the rows.
#[derive(Debug)]
struct Seen<'s> {
    settings: Settings<'s>,
    is_audit: bool,
    /// Ports of loopback on which something listened.
    served: BTreeSet<u16>,
    /// Names by address, from answers by the caller's own name servers.
    names: BTreeMap<IpAddr, BTreeSet<String>>,
    servers: BTreeSet<IpAddr>,
    /// Connections in audit mode.
    connects: BTreeMap<(IpAddr, u16), Uses>,
    /// Hosts of requests to the mediator, including those that audit mode only records.
    hosts: BTreeMap<String, Need>,
    left_out: BTreeMap<Attempt, Uses>,
}

impl<'s> Seen<'s> {
    fn with(settings: Settings<'s>, is_audit: bool) -> Self {
        Self {
            settings,
            is_audit,
            served: BTreeSet::new(),
            names: BTreeMap::new(),
            servers: BTreeSet::new(),
            connects: BTreeMap::new(),
            hosts: BTreeMap::new(),
            left_out: BTreeMap::new(),
        }
    }

    fn row(&mut self, row: &format::Row) {
        if let format::Row::DnsAnswer(row) = row {
            self.answer(row);
        } else if let format::Row::Relay(row) = row {
            self.relay(row);
        } else if let Some(tried) = row.attempts() {
            self.attempts(tried);
        } else if matches!(row, format::Row::Unknown(_)) {
            let one = Tried {
                count: 1,
                ..Tried::default()
            };
            self.leave_out(one, "", "malformed");
        }
    }

    fn answer(&mut self, row: &DnsAnswerRow) {
        if !row.trusted {
            return;
        }
        self.servers.extend(address(&row.server));
        let Ok(Host::Name(name)) = Host::parse(row.name.as_deref().unwrap_or_default()) else {
            return;
        };
        for address in row.addresses.iter().filter_map(|text| address(text)) {
            self.names.entry(address).or_default().insert(name.clone());
        }
    }

    fn attempts(&mut self, tried: Tried<'_>) {
        let (dst, reason) = (tried.place, tried.reason);
        let to = address(dst);
        match (tried.verdict, to) {
            ("would_redirect", Some(to)) => {
                let uses = self.connects.entry((to, tried.port)).or_default();
                uses.add(tried.process, tried.count);
            }
            ("local", Some(_)) if tried.protocol == "tcp" && tried.port != 0 => {
                let is_refused = reason == NOTHING_LISTENS;
                if !is_refused {
                    self.served.insert(tried.port);
                }
                if is_refused != self.is_audit {
                    let reason = if is_refused { reason } else { LOOPBACK };
                    self.leave_out(tried, dst, reason);
                }
            }
            ("would_redirect", None) => self.leave_out(tried, dst, "malformed"),
            // Attempts that the kernel denied, or would have denied.
            ("would_deny" | "denied" | "unreachable", _) => {
                // Only queries to name servers are listed by address.
                let name = tried.name.filter(|_| reason != DNS);
                let is_nowhere = to.is_some_and(|to| to.is_unspecified());
                let target = name.unwrap_or(if is_nowhere { "" } else { dst });
                self.leave_out(tried, target, reason);
            }
            _ => {}
        }
    }

    fn relay(&mut self, row: &RelayRow) {
        let tried = Tried {
            protocol: &row.protocol,
            port: row.port.unwrap_or_default(),
            process: &row.process,
            count: 1,
            ..Tried::default()
        };
        let named = row.host.as_deref().unwrap_or_default();
        // The mediator most likely wrote the answer. If an origin wrote the answer, the origin is already on the list.
        let claimed = row.claimed.as_deref().filter(|claimed| !claimed.is_empty());
        let is_answer = row.verdict == RelayVerdict::Answered;
        let reason = claimed.filter(|_| is_answer).unwrap_or(&row.reason);
        // A request that was cut off had been allowed.
        let went_through = match row.verdict {
            RelayVerdict::Forwarded => true,
            RelayVerdict::Unfinished => row.bytes_up > 0 || row.bytes_down > 0,
            RelayVerdict::Answered => claimed.is_none(),
            RelayVerdict::Refused
            | RelayVerdict::Blocked
            | RelayVerdict::Failed
            | RelayVerdict::Unknown(_) => false,
        };
        let hint = self.hint(&Attempt {
            reason: row.denial().unwrap_or_else(|| reason.to_owned()),
            protocol: row.protocol.to_string(),
            target: named.to_owned(),
            port: row.port.unwrap_or_default(),
        });
        let is_trusted = hint.trusted.is_some();
        let by_list = is_trusted || hint.host.is_some() || hint.port.is_some();
        let host = match (Host::parse(named), went_through) {
            // An address can only be allowed by a row of the policy.
            (Ok(Host::Ip(address)), true) => address.to_string(),
            (Ok(Host::Name(name)), true) => name,
            (Ok(Host::Name(name)), _) if by_list => name,
            (Ok(Host::Ip(address)), _) if by_list => {
                return self.leave_out(tried, &address.to_string(), ADDRESS);
            }
            _ => {
                let asked = row.orig_dst.map(|dst| dst.to_string()).unwrap_or_default();
                let target = if named.is_empty() { &asked } else { named };
                let reason = if reason.is_empty() {
                    row.verdict.as_str()
                } else {
                    reason
                };
                return self.leave_out(tried, target, reason);
            }
        };
        let need = self.hosts.entry(host).or_default();
        need.ports.extend(row.port);
        need.trusted |= is_trusted && !went_through;
        need.uses.add(tried.process, tried.count);
    }

    fn hint(&self, attempt: &Attempt) -> Hint {
        let denied = Denied {
            destination: attempt.target.clone(),
            port: attempt.port,
            protocol: attempt.protocol.clone(),
            reason: attempt.reason.clone(),
            process: String::new(),
        };
        Hint::of(&denied, self.settings)
    }

    fn leave_out(&mut self, tried: Tried<'_>, target: &str, reason: &str) {
        let attempt = Attempt {
            reason: reason.to_owned(),
            protocol: tried.protocol.to_owned(),
            target: target.to_owned(),
            port: tried.port,
        };
        let uses = self.left_out.entry(attempt).or_default();
        uses.add(tried.process, tried.count);
    }

    fn into_suggestion(mut self) -> Result<Suggestion, SuggestError> {
        self.join_names()?;
        let most = |what, limit| SuggestError::TooMany { what, limit };
        if self.hosts.len() > MAX_HOSTS {
            return Err(most("hosts", MAX_HOSTS));
        }
        // Queries to the caller's own name servers are not needed, because the boundary has its own resolver.
        let servers = std::mem::take(&mut self.servers);
        let served = std::mem::take(&mut self.served);
        self.left_out.retain(|attempt, _| {
            let is_dns = attempt.reason == DNS;
            let is_served = attempt.reason == NOTHING_LISTENS && served.contains(&attempt.port);
            let is_own = is_dns && address(&attempt.target).is_some_and(|at| servers.contains(&at));
            !is_own && !is_served
        });
        let ports = self.hosts.values().flat_map(|need| need.ports.iter());
        let allow_ports: BTreeSet<u16> = ports
            .copied()
            .filter(|port| !USUAL_PORTS.contains(port))
            .collect();
        if allow_ports.len() > MAX_PORTS {
            return Err(most("ports", MAX_PORTS));
        }
        let left_out: Vec<_> = std::mem::take(&mut self.left_out).into_iter().collect();
        let (left_out, more) = left_out.split_at(left_out.len().min(MAX_LEFT_OUT));
        let mut left_out: Vec<LeftOut> = left_out
            .iter()
            .map(|(attempt, uses)| LeftOut {
                hint: self.hint(attempt).in_words(),
                attempt: attempt.clone(),
                uses: uses.clone(),
            })
            .collect();
        left_out.sort_by(|LeftOut { attempt: a, .. }, LeftOut { attempt: b, .. }| {
            let by_reason = a.reason.cmp(&b.reason);
            by_reason
                .then_with(|| natural::compare(&a.target, &b.target))
                .then_with(|| a.cmp(b))
        });
        let mut rows: Vec<Row> = self
            .hosts
            .into_iter()
            .map(|(host, need)| Row {
                host,
                ports: need.ports,
                shares_address: need.shares_address,
                internal_address: need.internal_address,
                trusted: need.trusted,
                uses: need.uses,
            })
            .collect();
        rows.sort_by(|a, b| natural::compare(&a.host, &b.host));
        let more = more.iter().map(|(_, uses)| uses.count);
        Ok(Suggestion {
            rows,
            allow_ports,
            left_out,
            more_left_out: more.fold(0, u64::saturating_add),
        })
    }

    /// Replaces the addresses of an audit with all of their names.
    fn join_names(&mut self) -> Result<(), SuggestError> {
        let mut ports = BTreeSet::new();
        for ((to, port), uses) in std::mem::take(&mut self.connects) {
            let Some(names) = self.names.get(&to) else {
                let attempt = Attempt {
                    reason: String::from(ADDRESS),
                    protocol: String::from("tcp"),
                    target: to.to_string(),
                    port,
                };
                self.left_out.entry(attempt).or_default().add_all(&uses);
                continue;
            };
            ports.insert(port);
            for (what, count, limit) in [
                ("hosts", self.hosts.len().max(names.len()), MAX_HOSTS),
                // This limit only bounds the time. The limit of ports is checked at the end.
                (
                    "ports",
                    ports.len(),
                    MAX_PORTS.saturating_add(USUAL_PORTS.len()),
                ),
            ] {
                if count > limit {
                    return Err(SuggestError::TooMany { what, limit });
                }
            }
            for name in names {
                let need = self.hosts.entry(name.clone()).or_default();
                need.ports.insert(port);
                need.shares_address |= names.len() > 1;
                let host = Host::Name(name.clone());
                let judged = SsrfGuard::default().check(&host, to, |_| false);
                need.internal_address |= judged.is_err();
                need.uses.add_all(&uses);
            }
        }
        Ok(())
    }
}

fn address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests;
