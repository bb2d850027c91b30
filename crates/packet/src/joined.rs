//! Compares rows of the flow log that describe the same connection (by cookie and time) or the same name (by address).
//! Also compares the wall time and the monotonic time in the kernel's rows. Rows that contradict each other cap the
//! grade.
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use egress_policy::allowed::Allowed;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::as_stated;
use super::clock::ClockSteps;
use super::format::boundary::BoundaryDocument;
use super::format::rows::{RelayRow, ResolverRow};
use super::format::{BeatEvent, MediatorProtocol, RelayVerdict, ResolverReason, Row, Transport};
use super::noted::Noted;

mod alike;
mod attempt;
mod ending;
mod mediator;
mod request;
#[cfg(test)]
mod tests;

use alike::Alike;

/// The maximum time between an event and its record, in ns. A busy machine writes late.
const RECORDED_WITHIN: i128 = 15_000_000_000;
/// The maximum time by which a row may be earlier than the previous row, in ns, if both rows were written as soon as
/// they were made.
const AT_ONCE: i128 = 1_000_000_000;
/// The port of name servers.
const DNS: u16 = 53;

/// A connection, as the kernel recorded its connect call.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Made {
    at: i128,
    dst: Option<SocketAddr>,
    is_proxy: bool,
    caller: Caller,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Caller {
    pid: Option<u64>,
    program: Program,
}

/// The names of a process and of its executable. Many connections share one value.
type Program = Rc<(String, String)>;

/// The compared members of a row of the relay. The type is small, because there is one value for
/// each request.
#[derive(Debug)]
struct Served {
    connection: (u64, u64),
    orig_dst: Option<SocketAddr>,
    caller: Caller,
    start: i128,
}

/// The end of a request that only some runs can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RareEnd {
    /// An answer that looked like a denial.
    Answered,
    /// A denial of a request other than a tunnel, which the relay recognized by its mark.
    MarkedDenial,
    /// A denial without the name of a layer.
    WithoutLayer,
    /// The relay cut a request with an answer because it stopped, before the end of the command was recorded.
    StoppedEarly,
}

/// The state of the comparison. The comparison reads the rows one by one.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// Differences between wall time and the kernel's monotonic time, ns.
    offsets: BTreeSet<i128>,
    made: BTreeMap<(u64, u64), Made>,
    served: Vec<Served>,
    programs: BTreeSet<Program>,
    names: BTreeMap<String, Option<u64>>,
    named: Vec<(String, IpAddr)>,
    first_of: BTreeMap<Alike, BTreeSet<i128>>,
    repeats: Vec<(Alike, i128)>,
    uids: BTreeSet<u64>,
    /// Ports of the attempts to the explicit proxy.
    proxies: BTreeSet<i64>,
    /// Time of the last row that is written as soon as it is made, and the largest step back between two such rows, ns.
    last_written: Option<i128>,
    went_back: i128,
    /// First and last time of the supervisor's rows. `others` has those of all other rows.
    beats: Option<(i128, i128)>,
    /// Time at which no process of the command was left.
    gone: Option<i128>,
    others: Option<(i128, i128)>,
    clock: ClockSteps,
    /// Whether the kernel redirected a connection to an IPv6 address, and whether it denied an attempt because the
    /// relay has no IPv6 listener.
    has_ipv6: bool,
    lacks_ipv6: bool,
    /// Whether the command used a socket that the caller opened.
    has_opened: bool,
    /// Destinations of the mediator's TCP connections.
    dialed: BTreeSet<(IpAddr, u16)>,
    /// Whether the relay sent requests without TLS through tunnels. Contains both values if it did so with some of them.
    plain_by_tunnel: BTreeSet<bool>,
    /// Ports of requests that the relay denied for another reason than their port.
    other_denied_ports: BTreeSet<u16>,
    /// Kinds of ends that only some runs can have.
    ends: BTreeSet<RareEnd>,
    /// Connections that ended because the relay denied them.
    denied: BTreeSet<(u64, u64)>,
    noted: Noted,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RunTimes {
    pub(super) first: Option<i128>,
    /// Time at which no process of the command was left.
    pub(super) gone: Option<i128>,
    pub(super) last: Option<i128>,
    /// The maximum time between two records of one event, in ns.
    pub(super) slack: i128,
    /// The largest amount by which the clock may have been set, according to the rows, in ns. A suspension of the
    /// machine counts as such an amount.
    pub(super) shown: i128,
}

/// Reads the time of a row, Unix ns.
pub(super) fn nanos(text: &str) -> Option<i128> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(time.unix_timestamp_nanos())
}

fn widen(range: &mut Option<(i128, i128)>, now: i128) {
    let (first, last) = range.unwrap_or((now, now));
    *range = Some((first.min(now), last.max(now)));
}

/// Returns the number of a synthetic address. The number is the same for both families.
fn number_of(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => u64::from(address.to_bits() & 0x0001_ffff),
        IpAddr::V6(address) => u64::try_from(address.to_bits() & u128::from(u64::MAX)).unwrap_or(0),
    }
}

impl Joined {
    fn require(&mut self, holds: bool, reason: impl Into<String>) {
        if !holds {
            self.noted.add(reason);
        }
    }

    /// Requires a condition of each row. Only the first row that breaks `condition` has a reason.
    fn require_each(
        &mut self,
        condition: &'static str,
        holds: bool,
        reason: impl FnOnce() -> String,
    ) {
        if !holds {
            self.noted.add_first(condition, reason);
        }
    }

    pub(super) fn see(&mut self, row: &Row) {
        let at = nanos(row.ts()).unwrap_or(0);
        match row {
            Row::Supervisor(row) => {
                if row.event == BeatEvent::AgentGone {
                    self.gone = Some(at);
                }
                self.clock.see(Some(&row.event), nanos(&row.ts));
                return self.looked(at);
            }
            Row::End(row) => {
                self.clock.see(None, nanos(&row.ts));
                self.clock.state(row.clock_set_ms);
                return self.looked(at);
            }
            Row::Unknown(_) => return,
            Row::Kernel(row) => self.attempt(row, at),
            Row::Unix(row) => self.unix(row, at),
            Row::KernelRepeats(row) => {
                self.ipv6(&row.verdict, &row.reason, &row.dst);
                self.name(row.name.as_deref(), &row.dst);
                self.repeats(row.into(), &row.first, &row.last);
            }
            Row::UnixRepeats(row) => self.repeats(row.into(), &row.first, &row.last),
            Row::KernelMediatorDeniedRepeats(row) => {
                self.repeats(row.into(), &row.first, &row.last);
            }
            Row::KernelMediator(row) => self.mediator(row, at),
            Row::KernelMediatorTotal(row) => {
                let is_udp = row.protocol == MediatorProtocol::Udp;
                self.carried(is_udp, row.bytes_sent, row.bytes_acked, row.bytes_received);
            }
            Row::KernelCloseTotal(row) => {
                self.carried(false, row.bytes_sent, row.bytes_acked, row.bytes_received);
            }
            Row::KernelMediatorDenied(row) => {
                self.first_of.entry(row.into()).or_default().insert(at);
                self.offsets
                    .insert(at.saturating_sub(i128::from(row.connect_ns)));
                let fits = row.dst.parse::<IpAddr>().is_ok();
                self.require(fits, "a denial of the mediator has no valid address");
            }
            Row::KernelClose(row) => {
                self.carried(false, row.bytes_sent, row.bytes_acked, row.bytes_received);
                let made = self
                    .made
                    .get(&(row.cookie, row.connect_ns))
                    .map(|made| made.at);
                self.require_each("end", made.is_none_or(|made| made <= at), || {
                    format!("connection {} ended before its start", row.cookie)
                });
            }
            Row::Relay(row) => {
                self.written(at);
                self.relay(row, at);
            }
            Row::Resolver(row) => {
                self.written(at);
                self.resolved(row);
            }
            Row::DnsAnswer(_) => {}
        }
        widen(&mut self.others, at);
    }

    fn looked(&mut self, at: i128) {
        widen(&mut self.beats, at);
        self.written(at);
    }

    /// Reads repeated attempts. The first of these attempts has its own row.
    fn repeats(&mut self, alike: Alike, first: &str, last: &str) {
        let [first, last] = [first, last].map(|time| nanos(time).unwrap_or(0));
        self.repeats.push((alike, first));
        self.require(first <= last, "a repeated attempt ended before its start");
        widen(&mut self.others, first);
        widen(&mut self.others, last);
    }

    /// Checks that acknowledged bytes do not exceed sent bytes. Also checks that a datagram has no acknowledged and no
    /// received bytes, because the kernel does not record an answer to a datagram.
    fn carried(&mut self, is_udp: bool, sent: u64, acked: u64, received: u64) {
        self.require(acked <= sent, "more bytes were acknowledged than sent");
        let fits = !is_udp || (acked == 0 && received == 0);
        self.require(
            fits,
            "a datagram of the mediator has acknowledged or received bytes",
        );
    }

    /// Checks a name of the stub resolver, which reports each name once.
    fn resolved(&mut self, row: &ResolverRow) {
        let address = row.address.as_deref().map(str::parse::<IpAddr>);
        let number = address.and_then(Result::ok).map(number_of);
        let has_reason = row.reason != ResolverReason::None;
        let name = &row.name;
        self.require_each("answer", number.is_none() == has_reason, || {
            let parts = if has_reason {
                "both an address and a reason"
            } else {
                "neither an address nor a reason"
            };
            format!("the row of the stub resolver about {name} has {parts}")
        });
        let is_new = self.names.insert(name.clone(), number).is_none();
        self.require_each("once", is_new, || {
            format!("the stub resolver has two rows about {name}")
        });
    }

    /// Notes the time of a row that is written as soon as it is made.
    fn written(&mut self, at: i128) {
        let back = self.last_written.map_or(0, |last| last.saturating_sub(at));
        self.went_back = self.went_back.max(back);
        self.last_written = Some(at);
    }

    fn relay(&mut self, row: &RelayRow, at: i128) {
        let by = row.asked().unwrap_or("nothing");
        let asked = &row.transport;
        let verdict = row.verdict.as_str();
        let is_asked = match row.verdict {
            RelayVerdict::Forwarded | RelayVerdict::Blocked | RelayVerdict::Answered => {
                asked.is_some()
            }
            RelayVerdict::Refused => asked.is_none(),
            RelayVerdict::Failed | RelayVerdict::Unfinished | RelayVerdict::Unknown(_) => true,
        };
        self.require(
            is_asked,
            format!("a row of the relay is {verdict}, but its transport is {by}"),
        );
        let is_through = row.verdict == RelayVerdict::Forwarded;
        let has_reason = row.reason.is_empty() == is_through;
        self.require(
            has_reason,
            format!(
                "a row of the relay is {verdict} with the reason {:?}",
                row.reason
            ),
        );
        // The status of plain HTTP through a tunnel comes from the origin.
        let is_plain = row.is_plain_http();
        let status = match (asked, &row.verdict) {
            (Some(Transport::Connect), RelayVerdict::Forwarded) if !is_plain => {
                row.status == Some(200)
            }
            (_, RelayVerdict::Forwarded | RelayVerdict::Answered) => row.status.is_some(),
            _ => true,
        };
        self.require(
            status,
            format!(
                "a row of the relay is {verdict} with the status {}",
                as_stated(&row.status)
            ),
        );
        let spoken = match asked {
            Some(Transport::Forward | Transport::Fetch) => row.protocol == "http",
            Some(Transport::Websocket) => row.protocol == "websocket",
            Some(Transport::Connect) => is_plain || matches!(&*row.protocol, "tls" | "connect"),
            Some(Transport::Unknown(_)) | None => true,
        };
        self.require(
            spoken,
            format!(
                "a row of the relay has the protocol {} and the transport {by}",
                row.protocol
            ),
        );
        self.request(row);
        self.ending(row);
        let lasted = i128::from(row.duration_us).saturating_mul(1_000);
        let caller = Caller {
            pid: row.pid.map(u64::from),
            program: self.program(&row.process, row.exe.as_deref()),
        };
        match row.connection() {
            Some(connection) => self.served.push(Served {
                connection,
                orig_dst: row.orig_dst,
                caller,
                start: at.saturating_sub(lasted),
            }),
            None => self.require(
                caller == Caller::default(),
                "a row of the relay has a process but no connection",
            ),
        }
        widen(&mut self.others, at.saturating_sub(lasted));
    }

    /// Returns the shared copy of these names.
    fn program(&mut self, process: &str, exe: Option<&str>) -> Program {
        let program = Rc::new((process.to_owned(), exe.unwrap_or_default().to_owned()));
        if let Some(known) = self.programs.get(&program) {
            return Rc::clone(known);
        }
        self.programs.insert(Rc::clone(&program));
        program
    }

    pub(super) fn times(&self) -> RunTimes {
        RunTimes {
            first: self.beats.map(|(first, _)| first),
            gone: self.gone,
            last: self.beats.map(|(_, last)| last),
            slack: RECORDED_WITHIN.saturating_add(self.clock.set()),
            shown: self.clock.shown(),
        }
    }

    /// Returns the number of connections in the rows of the relay. A connection can have many rows.
    pub(super) fn connections(&self) -> u64 {
        let all = self.served.iter();
        let mut all: Vec<(u64, u64)> = all.map(|served| served.connection).collect();
        all.sort_unstable();
        all.dedup();
        u64::try_from(all.len()).unwrap_or(u64::MAX)
    }

    /// Returns the contradictions. `proxy_port` is the port of the explicit proxy, if the capsule states it. `allowed` is
    /// the policy.
    pub(super) fn finish(
        mut self,
        boundary_document: &BoundaryDocument,
        proxy_port: Option<i64>,
        allowed: &Allowed,
    ) -> Vec<String> {
        let clock_set = self.clock.set();
        self.denied_to_the_mediator(boundary_document, allowed);
        self.as_configured(boundary_document);
        self.denials(boundary_document);
        self.stopped();
        let fits = if boundary_document.ipv6 {
            !self.lacks_ipv6
        } else {
            !self.has_ipv6
        };
        self.require(fits, "attempts contradict the statement about IPv6");
        let is_opened = !self.has_opened || !boundary_document.allowed_unix.is_empty();
        self.require(
            is_opened,
            "the command used a host socket that the caller opened, but the caller opened none",
        );
        let is_elsewhere = |port: &i64| proxy_port.is_some_and(|proxy| proxy != *port);
        let is_there = !self.proxies.iter().any(is_elsewhere);
        self.require(
            is_there,
            "an attempt to reach the explicit proxy has another port",
        );
        let is_one = self.offsets.len() <= 1;
        self.require(is_one, "the times of kernel rows follow different clocks");
        let back = self.went_back.saturating_sub(clock_set);
        self.require(back <= AT_ONCE, "the times of rows go back");
        if let (Some((from, until)), Some((first, last))) = (self.beats, self.others) {
            let slack = RECORDED_WITHIN.saturating_add(clock_set);
            let is_within =
                first >= from.saturating_sub(slack) && last <= until.saturating_add(slack);
            self.require(is_within, "rows are outside the time of the heartbeats");
        }
        let others = self
            .uids
            .iter()
            .any(|uid| *uid != boundary_document.agent.uid);
        self.require(
            !others,
            "attempts were made by a user other than the command's",
        );
        for (name, address) in std::mem::take(&mut self.named) {
            let is_given = self.names.get(&name) == Some(&Some(number_of(address)));
            self.require(
                is_given,
                format!("the stub resolver did not assign the address of an attempt to {name}"),
            );
        }
        for (alike, first) in std::mem::take(&mut self.repeats) {
            let is_there = self
                .first_of
                .get(&alike)
                .is_some_and(|times| times.contains(&first));
            self.require(
                is_there,
                "a repeated attempt has no row for the first attempt",
            );
        }
        for served in std::mem::take(&mut self.served) {
            let Some(made) = self.made.get(&served.connection).cloned() else {
                continue;
            };
            let (cookie, _) = served.connection;
            let dst = made.dst.filter(|_| !made.is_proxy);
            self.require_each("destination", served.orig_dst == dst, || {
                format!("the relay's row for connection {cookie} has another destination than the kernel's row")
            });
            // The relay's row may be written before the kernel's record is read.
            let is_caller = served.caller.pid.is_none() || served.caller == made.caller;
            let is_nobody = served.caller.pid.is_some() || served.caller == Caller::default();
            self.require_each("process", is_caller && is_nobody, || {
                format!("the relay's row for connection {cookie} has another process than the kernel's row")
            });
            let slack = RECORDED_WITHIN.saturating_add(clock_set);
            let is_later = served.start >= made.at.saturating_sub(slack);
            self.require_each("start", is_later, || {
                format!("the relay's row for connection {cookie} begins before the connection")
            });
        }
        self.noted.into_reasons()
    }
}
