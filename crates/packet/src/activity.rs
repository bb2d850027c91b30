//! Collects the traffic that the pages show: which program used which destination, when, and with how many bytes. The
//! flow log has this traffic, except requests inside TLS, which are only in the receipts. The writer of a packet and
//! its verifier use the same code.
//!
//! Each destination that the pages list has its own entry, and all others share one. Every other list has a limit, so
//! the memory use is limited even for a long log.
use std::collections::{BTreeMap, BTreeSet};

use egress_policy::natural;
use pipelock_receipts::findings::visible;

use super::format::boundary::{BoundaryDocument, Denied};
use super::format::rows::RelayRow;
use super::format::{KernelReason, MediatorVerdict, Row, Tried};
use super::joined::nanos;
use super::listing::{LISTED, allowed_in_order, in_order, place};
use super::model::Packet;
use super::reconcile::Receipts;

#[cfg(test)]
mod tests;

/// Number of equal parts of the run in a time line.
pub(super) const PARTS: u32 = 96;
/// Name for programs that are counted together because there are too many of them.
pub(super) const OTHERS: &str = "(others)";
/// Maximum number of programs, in total and per destination.
const PROGRAMS: usize = 40;
/// Maximum number of executables, and of process ids, per program.
const EXECUTABLES: usize = 4;
const PROCESSES: usize = 64;
/// Maximum number of different requests.
const REQUESTS: usize = 1_000;
/// Maximum number of name servers.
const NAME_SERVERS: usize = 16;
const MAX_CHARACTERS: usize = 300;

/// Attempts, their bytes, and their times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) count: u64,
    /// Bytes from the command, including the heads of requests.
    pub(super) sent: u64,
    /// Bytes to the command.
    pub(super) received: u64,
    /// First and last time, Unix ns.
    pub(super) times: Option<(i128, i128)>,
    /// One bit for each part of the run in which there was traffic. The lowest bit is the first part.
    pub(super) parts: u128,
}

impl Traffic {
    pub(super) fn add(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.sent = self.sent.saturating_add(other.sent);
        self.received = self.received.saturating_add(other.received);
        self.parts |= other.parts;
        self.times = match (self.times, other.times) {
            (Some(one), Some(two)) => Some((one.0.min(two.0), one.1.max(two.1))),
            (one, two) => one.or(two),
        };
    }
}

/// The traffic between a program and a destination, by result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Talk {
    pub(super) allowed: Traffic,
    /// Denied attempts, and answers that look like denials.
    pub(super) denied: Traffic,
}

impl Talk {
    pub(super) fn add(&mut self, other: &Self) {
        self.allowed.add(&other.allowed);
        self.denied.add(&other.denied);
    }

    /// Returns the number of all attempts.
    pub(super) fn count(&self) -> u64 {
        self.allowed.count.saturating_add(self.denied.count)
    }

    /// Returns the bytes that the command sent.
    pub(super) fn sent(&self) -> u64 {
        self.allowed.sent.saturating_add(self.denied.sent)
    }

    fn of(traffic: Traffic, is_denied: bool) -> Self {
        let mut talk = Self::default();
        *(if is_denied {
            &mut talk.denied
        } else {
            &mut talk.allowed
        }) = traffic;
        talk
    }
}

/// The programs that used a destination, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Destination(pub(super) BTreeMap<String, Talk>);

impl Destination {
    pub(super) fn talk(&self) -> Talk {
        self.0.values().fold(Talk::default(), |mut sum, talk| {
            sum.add(talk);
            sum
        })
    }
}

/// A program, by the name of its processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) executables: BTreeSet<String>,
    /// Process ids, up to a limit.
    pub(super) processes: BTreeSet<u64>,
    pub(super) talk: Talk,
}

impl Program {
    /// Whether there may be more processes than the listed ones.
    pub(super) fn is_cut(&self) -> bool {
        self.processes.len() >= PROCESSES
    }
}

/// A method and a URL that the relay or the mediator could read. Equal requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Request {
    /// Method and URL.
    pub(super) target: String,
    /// Whether the request was inside TLS that the mediator opened, so that only the mediator could read it.
    pub(super) is_inside_tls: bool,
}

/// The traffic of a run, as the pages show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activity {
    /// Start and end of the run, Unix ns.
    pub(super) span: Option<(i128, i128)>,
    pub(super) destinations: BTreeMap<String, Destination>,
    /// Traffic of all destinations without an entry in `destinations`.
    pub(super) others: Talk,
    pub(super) programs: BTreeMap<String, Program>,
    pub(super) requests: BTreeMap<Request, Talk>,
    /// Number of requests that are not in `requests`.
    pub(super) more_requests: u64,
    /// The caller's name servers in an audit. A boundary answers their queries itself, so they are not denials.
    name_servers: BTreeSet<String>,
}

/// The caller of an attempt.
#[derive(Clone, Copy, Default)]
struct Caller<'r> {
    process: &'r str,
    executable: Option<&'r str>,
    pid: Option<u64>,
}

impl Request {
    /// Returns the kind of connection in which the request could be read.
    pub(super) const fn read_in(&self) -> &'static str {
        if self.is_inside_tls {
            "opened TLS"
        } else {
            "plain HTTP"
        }
    }
}

impl Activity {
    /// Returns the requests that sent the most bytes, and the number of all other requests.
    pub(super) fn requests_in_order(&self, most: usize) -> (Vec<(&Request, &Talk)>, u64) {
        let mut requests: Vec<(&Request, &Talk)> = self.requests.iter().collect();
        requests.sort_by(|(a, a_talk), (b, b_talk)| {
            let by_bytes = b_talk.sent().cmp(&a_talk.sent());
            by_bytes.then_with(|| natural::compare(&a.target, &b.target))
        });
        let rest = requests.iter().skip(most);
        let rest = rest.fold(self.more_requests, |sum, (_, talk)| {
            sum.saturating_add(talk.count())
        });
        requests.truncate(most);
        (requests, rest)
    }

    /// Returns an activity without traffic, with an entry for each destination that the pages list.
    pub fn new(boundary_document: &BoundaryDocument, packet: Option<&Packet>) -> Self {
        let denied = in_order(&boundary_document.denied).into_iter();
        let denied = denied.take(LISTED).map(|row| row.attempt.target());
        let allowed = allowed_in_order(boundary_document).into_iter();
        let allowed = allowed.take(LISTED).map(|row| place(&row.host, row.port));
        let run = packet.map(|packet| &packet.run);
        let span = run.and_then(|run| {
            let start = nanos(&run.started_at)?;
            let end = nanos(run.completed_at.as_deref()?)?;
            (start < end).then_some((start, end))
        });
        Self {
            span,
            destinations: denied
                .chain(allowed)
                .map(|target| (target, Destination::default()))
                .collect(),
            ..Self::default()
        }
    }

    /// Counts a row of the flow log.
    pub fn see(&mut self, row: &Row) {
        let single = |ts: &str| nanos(ts).map(|at| (at, at));
        match row {
            Row::Relay(row) => self.relay(row),
            Row::Kernel(one) => {
                let caller = Caller {
                    process: &one.process,
                    executable: one.exe.as_deref(),
                    pid: Some(one.pid),
                };
                self.attempt(row.attempts(), caller, || single(&one.ts));
            }
            Row::Unix(one) => {
                let caller = Caller {
                    process: &one.process,
                    executable: one.exe.as_deref(),
                    pid: Some(one.pid),
                };
                self.attempt(row.attempts(), caller, || single(&one.ts));
            }
            Row::KernelRepeats(one) => {
                let caller = Caller {
                    process: &one.process,
                    ..Caller::default()
                };
                self.attempt(row.attempts(), caller, || {
                    nanos(&one.first).zip(nanos(&one.last))
                });
            }
            Row::UnixRepeats(one) => {
                let caller = Caller {
                    process: &one.process,
                    ..Caller::default()
                };
                self.attempt(row.attempts(), caller, || {
                    nanos(&one.first).zip(nanos(&one.last))
                });
            }
            Row::KernelMediatorDenied(row) if row.verdict == MediatorVerdict::Denied => {
                let traffic = self.traffic(1, single(&row.ts));
                let name = target(&row.dst, row.port, &row.protocol);
                self.count(&[&name], Caller::default(), traffic, true);
            }
            Row::KernelMediatorDeniedRepeats(row) if row.verdict == MediatorVerdict::Denied => {
                let times = nanos(&row.first).zip(nanos(&row.last));
                let traffic = self.traffic(row.count.saturating_sub(1), times);
                let name = target(&row.dst, row.port, &row.protocol);
                self.count(&[&name], Caller::default(), traffic, true);
            }
            Row::DnsAnswer(row) if row.trusted && self.name_servers.len() < NAME_SERVERS => {
                self.name_servers.insert(row.server.to_string());
            }
            Row::DnsAnswer(_)
            | Row::KernelMediatorDenied(_)
            | Row::KernelMediatorDeniedRepeats(_)
            | Row::KernelClose(_)
            | Row::KernelCloseTotal(_)
            | Row::KernelMediator(_)
            | Row::KernelMediatorTotal(_)
            | Row::Resolver(_)
            | Row::Supervisor(_)
            | Row::End(_)
            | Row::Unknown(_) => {}
        }
    }

    /// Adds the requests inside TLS that the mediator signed.
    pub(super) fn with_inside_tls(mut self, receipts: &Receipts) -> Self {
        for (target, allowed, denied) in receipts.inside_tls() {
            for (count, is_denied) in [(allowed, false), (denied, true)] {
                let traffic = Traffic {
                    count,
                    ..Traffic::default()
                };
                self.request(&target, true, Talk::of(traffic, is_denied));
            }
        }
        self
    }

    fn relay(&mut self, row: &RelayRow) {
        let is_denied = row.denial().is_some();
        if !is_denied && !row.went_through() {
            return;
        }
        let end = nanos(&row.ts);
        let duration = i128::from(row.duration_us).saturating_mul(1_000);
        let times = end.map(|end| (end.saturating_sub(duration), end));
        let traffic = Traffic {
            sent: row.bytes_up.saturating_add(row.head_bytes),
            received: row.bytes_down,
            ..self.traffic(1, times)
        };
        let address = row.orig_dst.map(|dst| dst.ip().to_string());
        let host = row
            .host
            .as_deref()
            .or(address.as_deref())
            .unwrap_or_default();
        let caller = Caller {
            process: &row.process,
            executable: row.exe.as_deref(),
            pid: row.pid.map(u64::from),
        };
        let port = row.port.unwrap_or_default();
        let name = if is_denied {
            target(host, port, &row.protocol)
        } else {
            place(host, port)
        };
        self.count(&[&name], caller, traffic, is_denied);
        if let Some(target) = row.target.as_deref()
            && !target.starts_with("CONNECT ")
        {
            self.request(target, false, Talk::of(traffic, is_denied));
        }
    }

    fn attempt(
        &mut self,
        attempts: Option<Tried<'_>>,
        caller: Caller<'_>,
        times: impl FnOnce() -> Option<(i128, i128)>,
    ) {
        let Some(tried) = attempts else {
            return;
        };
        let is_dns = tried.reason == KernelReason::Dns.as_str();
        let is_denied = match tried.verdict {
            "would_deny" if is_dns && self.name_servers.contains(tried.place) => return,
            "denied" | "would_deny" | "unreachable" => true,
            "would_redirect" => false,
            _ => return,
        };
        let traffic = self.traffic(tried.count, times());
        let of = |host: &str| {
            if is_denied {
                target(host, tried.port, tried.protocol)
            } else {
                place(host, tried.port)
            }
        };
        let unspecified = matches!(tried.place, "::" | "0.0.0.0");
        let address = of(if unspecified { "" } else { tried.place });
        let name = tried.name.map(of);
        // The address may have received its name after this attempt.
        let places = [name.as_deref().unwrap_or(&address), &address];
        self.count(&places, caller, traffic, is_denied);
    }

    /// Returns traffic without bytes.
    fn traffic(&self, count: u64, times: Option<(i128, i128)>) -> Traffic {
        Traffic {
            count,
            times,
            parts: times.map_or(0, |(first, last)| self.parts(first, last)),
            ..Traffic::default()
        }
    }

    /// Returns the bits of the parts of the run between two times.
    fn parts(&self, first: i128, last: i128) -> u128 {
        let Some((start, end)) = self.span else {
            return 0;
        };
        let part = |at: i128| {
            let passed = at.saturating_sub(start).saturating_mul(i128::from(PARTS));
            let part = passed.checked_div(end.saturating_sub(start)).unwrap_or(0);
            u32::try_from(part.clamp(0, i128::from(PARTS.saturating_sub(1)))).unwrap_or(0)
        };
        let (first, last) = (part(first), part(last));
        let up_to = u128::MAX
            .checked_shr(127_u32.saturating_sub(last))
            .unwrap_or(0);
        up_to & u128::MAX.checked_shl(first).unwrap_or(0)
    }

    /// Counts traffic for the first of `places` that has an entry.
    fn count(&mut self, places: &[&str], caller: Caller<'_>, traffic: Traffic, is_denied: bool) {
        let talk = Talk::of(traffic, is_denied);
        let process = short(caller.process);
        let known = places
            .iter()
            .find(|place| self.destinations.contains_key(**place));
        match known.and_then(|place| self.destinations.get_mut(*place)) {
            Some(destination) => entry(&mut destination.0, &process).add(&talk),
            None => self.others.add(&talk),
        }
        let program = entry(&mut self.programs, &process);
        program.talk.add(&talk);
        if let Some(executable) = caller.executable
            && program.executables.len() < EXECUTABLES
        {
            program.executables.insert(short(executable));
        }
        if let Some(pid) = caller.pid
            && program.processes.len() < PROCESSES
        {
            program.processes.insert(pid);
        }
    }

    fn request(&mut self, target: &str, is_inside_tls: bool, talk: Talk) {
        if talk.count() == 0 {
            return;
        }
        let request = Request {
            target: short(target),
            is_inside_tls,
        };
        if self.requests.len() < REQUESTS || self.requests.contains_key(&request) {
            self.requests.entry(request).or_default().add(&talk);
        } else {
            self.more_requests = self.more_requests.saturating_add(talk.count());
        }
    }
}

/// Returns the entry of a program, or the shared entry for a program beyond the limit.
fn entry<'m, T: Default>(programs: &'m mut BTreeMap<String, T>, process: &str) -> &'m mut T {
    let is_kept = programs.len() < PROGRAMS || programs.contains_key(process);
    let name = if is_kept { process } else { OTHERS };
    programs.entry(name.to_owned()).or_default()
}

/// Returns a destination in the form of [`Denied::target`].
fn target(host: &str, port: u16, protocol: &str) -> String {
    let denied = Denied {
        destination: host.to_owned(),
        port,
        protocol: protocol.to_owned(),
        ..Denied::default()
    };
    denied.target()
}

fn short(text: &str) -> String {
    visible(text).chars().take(MAX_CHARACTERS).collect()
}
