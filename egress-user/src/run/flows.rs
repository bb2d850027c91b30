//! Writes `flows.jsonl`, whose rows are hash-chained, from the kernel's records and the relay's reports. Only the
//! supervisor writes the file.
//!
//! Repeated attempts are folded: the first one gets a row at once, and one row at the end has the count of all of them.
mod callers;
mod dials;
mod dns;
mod log;
mod loopback;
mod seen;
mod unix;
mod witness;
mod words;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use audit_packet::denied::OTHERS;
use audit_packet::format::boundary::Denied;
use audit_packet::format::rows::{AttemptRow, EndRow, RelayRow, RepeatsRow, ResolverRow};
use audit_packet::format::{Exactly, Row};
use callers::Caller;
use egress_common::decide::IPPROTO_TCP;
use egress_common::names::{SYNTHETIC_V4, SYNTHETIC_V6};
use egress_common::verdict::{Hook, Reason, Verdict};
use egress_pipelock::LetThrough;
use egress_relay::plan::{FlowReport, NameReport};
use egress_sys::clock;
pub(super) use log::{FlowCounts, FlowLog};
use seen::{FOLDED, FoldKey, Repeats};
use words::{process_name, protocol_name};

use crate::bpf::events::{Event, Text};

/// Maximum number of redirected connections that get their own row. Later connections are folded like all other
/// attempts.
const ROWS_IN_FULL: u64 = 20_000;

/// Maximum number of kinds of denied attempts that are counted separately. All others share one count.
const DENIED: usize = 65_536;

impl FlowLog {
    /// Writes one record from the kernel.
    ///
    /// # Errors
    /// Fails if the row cannot be written.
    pub(super) fn kernel(&mut self, event: &Event) -> io::Result<()> {
        if event.hook.is_of_mediator() {
            return self.dial(event);
        }
        let event = &self.with_resolver_verdict(*event);
        *self
            .counts
            .by_verdict
            .entry(event.verdict.label().to_owned())
            .or_default() += 1;
        match event.verdict {
            Verdict::Redirect | Verdict::Proxy => {
                let caller = Caller::of(event.pid, &event.comm);
                let key = (event.cookie, event.ktime_ns);
                self.callers.add(key, caller.clone());
                self.full_rows += 1;
                if self.full_rows <= ROWS_IN_FULL {
                    return self.kernel_row(event, &caller);
                }
            }
            Verdict::Deny | Verdict::WouldDeny if !self.is_own_resolver(event) => {
                let denied = Denied {
                    destination: self.destination(event),
                    port: event.port,
                    protocol: protocol_name(event.protocol),
                    reason: event.reason.label().to_owned(),
                    process: process_name(&event.comm),
                };
                self.count_denied(denied);
            }
            Verdict::WouldRedirect => {
                let to = (self.destination(event), event.port);
                *self.allowed.entry(to).or_default() += 1;
            }
            Verdict::Local if event.protocol == IPPROTO_TCP => self.loopback.count(event),
            Verdict::Local | Verdict::Probe | Verdict::Deny | Verdict::WouldDeny => {}
        }
        let key = FoldKey {
            hook: event.hook,
            verdict: event.verdict,
            reason: event.reason,
            protocol: event.protocol,
            addr: event.addr,
            port: event.port,
            comm: event.comm,
        };
        let is_folded = self.folded.len() < FOLDED || self.folded.contains_key(&key);
        if is_folded && !Repeats::count(&mut self.folded, key, event.ktime_ns) {
            return Ok(());
        }
        self.kernel_row(event, &Caller::of(event.pid, &event.comm))
    }

    /// In an audit, counts a UDP connect as a probe if a name server has just returned its destination. Resolvers make
    /// such connects to sort addresses. In enforce mode, such addresses are synthetic and the attempt is a probe as
    /// well.
    fn with_resolver_verdict(&self, mut event: Event) -> Event {
        let is_connect = matches!(event.hook, Hook::Connect4 | Hook::Connect6);
        if event.verdict == Verdict::WouldDeny
            && event.reason == Reason::Udp
            && is_connect
            && self.names.contains_key(&event.addr)
        {
            event.verdict = Verdict::Probe;
        }
        event
    }

    /// Returns whether a DNS query in audit mode goes to one of the caller's name servers. In enforce mode, this query
    /// would go to the stub resolver.
    fn is_own_resolver(&self, event: &Event) -> bool {
        event.reason == Reason::Dns && self.answers.servers.contains(&event.addr)
    }

    /// Sets the name servers whose answers are trusted.
    pub(super) fn trust_name_servers(&mut self, servers: Vec<IpAddr>) {
        self.answers.servers = servers;
    }

    /// Writes one record with a text: a DNS answer or a use of a Unix address.
    ///
    /// # Errors
    /// Fails if the row cannot be written.
    pub(super) fn text(&mut self, text: &Text) -> io::Result<()> {
        match text {
            Text::Unix(event) => self.unix(event),
            Text::Dns(answer) => self.dns(answer),
        }
    }

    /// Closes the root of the file view. Call this function after the last record of the command.
    pub(super) fn leave_agent_root(&mut self) {
        self.agent_root = None;
    }

    /// Counts a record that could not be parsed.
    pub(super) fn malformed(&mut self) {
        self.counts.malformed += 1;
    }

    /// Writes the relay's report of one request or tunnel.
    ///
    /// # Errors
    /// Fails if the row cannot be written.
    pub(super) fn relay(&mut self, flow: &FlowReport) -> io::Result<()> {
        *self
            .counts
            .by_relay_verdict
            .entry(flow.verdict.clone())
            .or_default() += 1;
        let key = (flow.cookie, flow.connect_ns);
        let caller = self.callers.known.get(&key).cloned();
        let pid = caller.as_ref().map(|caller| caller.pid);
        let Caller { process, exe, .. } = caller.unwrap_or_default();
        // The row does not contain the length of the whole target, because that length would reveal more about a query
        // than the length of the query itself.
        let row = RelayRow {
            ts: clock::now_rfc3339().into(),
            cookie: flow.cookie,
            connect_ns: flow.connect_ns,
            orig_dst: flow.orig_dst,
            host: flow.host.as_deref().map(Into::into),
            port: flow.port,
            protocol: flow.protocol.as_str().into(),
            transport: flow.transport.as_deref().map(Into::into),
            target: flow.target.as_deref().map(Into::into),
            verdict: flow.verdict.as_str().into(),
            reason: flow.reason.clone(),
            claimed: flow.claimed.clone(),
            status: flow.status,
            bytes_up: flow.bytes_up,
            bytes_down: flow.bytes_down,
            head_bytes: flow.head_bytes,
            duration_us: flow.duration_us,
            pid,
            process: process.clone(),
            exe: exe.map(Into::into),
        };
        self.counts.residual.row(&row, flow.target_bytes);
        self.let_through += u64::from(row.was_let_through());
        if let Some(reason) = row.denial() {
            let address = flow
                .orig_dst
                .map(|dst| dst.ip().to_string())
                .unwrap_or_default();
            let denied = Denied {
                destination: flow.host.clone().unwrap_or(address),
                port: flow.port.unwrap_or_default(),
                protocol: flow.protocol.clone(),
                reason,
                process,
            };
            self.count_denied(denied);
        } else if let (Some(host), Some(port)) = (&flow.host, flow.port)
            && row.went_through()
        {
            *self.allowed.entry((host.clone(), port)).or_default() += 1;
        }
        self.row(&Row::Relay(Box::new(row)))
    }

    /// Writes a name from a query to the stub resolver.
    ///
    /// # Errors
    /// Fails if the row cannot be written.
    pub(super) fn name(&mut self, name: &NameReport) -> io::Result<()> {
        self.counts.names += 1;
        self.counts.residual.name(&name.name);
        if let Some(address) = name.address {
            self.names.insert(address, name.name.clone());
            if let Some(twin) = twin(address) {
                self.names.insert(twin.into(), name.name.clone());
            }
        }
        self.row(&Row::Resolver(ResolverRow {
            ts: clock::now_rfc3339().into(),
            name: name.name.clone(),
            address: name.address.map(|address| address.to_string().into()),
            reason: name.reason.as_str().into(),
        }))
    }

    /// Writes the counts of folded rows and the `last` row, and makes the log durable.
    ///
    /// # Errors
    /// Fails if a row cannot be written.
    pub(super) fn finish(&mut self, last: Option<EndRow>) -> io::Result<()> {
        for (key, seen) in Repeats::take(&mut self.folded) {
            self.row(&Row::KernelRepeats(RepeatsRow {
                ts: clock::now_rfc3339().into(),
                hook: key.hook.label().into(),
                verdict: key.verdict.label().into(),
                reason: key.reason.label().into(),
                protocol: protocol_name(key.protocol).into(),
                dst: key.addr.to_string().into(),
                port: key.port,
                name: self.names.get(&key.addr).map(Into::into),
                process: process_name(&key.comm),
                count: seen.count,
                first: self.wall_time(seen.first_ns),
                last: self.wall_time(seen.last_ns),
            }))?;
        }
        self.finish_unix()?;
        self.finish_witness()?;
        self.finish_dials()?;
        if let Some(last) = last {
            self.row(&Row::End(last))?;
        }
        self.file.sync_all()
    }

    /// Returns the kinds of denied attempts with their counts.
    pub(super) fn denied(&self) -> &BTreeMap<Denied, u64> {
        &self.denied
    }

    /// Returns the connections to ports of the boundary's loopback on which nothing ever listened, with their counts.
    pub(super) fn unserved(&self) -> impl Iterator<Item = (Denied, u64)> {
        self.loopback.unserved()
    }

    /// Returns host, port, and number of the requests and tunnels that went through, or of the connections in an audit.
    pub(super) fn allowed(&self) -> impl Iterator<Item = (String, u16, u64)> {
        let rows = self.allowed.iter();
        rows.map(|((host, port), count)| (host.clone(), *port, *count))
    }

    /// Returns how many requests and tunnels the mediator must have allowed.
    pub(super) fn let_through(&self) -> LetThrough {
        let forwarded = self.counts.by_relay_verdict.get("forwarded");
        LetThrough {
            forwarded: forwarded.copied().unwrap_or_default(),
            begun: self.let_through,
        }
    }

    fn count_denied(&mut self, denied: Denied) {
        if self.denied.len() < DENIED || self.denied.contains_key(&denied) {
            *self.denied.entry(denied).or_default() += 1;
        } else {
            let rest = Denied {
                destination: String::from(OTHERS),
                port: 0,
                protocol: String::new(),
                reason: String::new(),
                process: String::new(),
            };
            *self.denied.entry(rest).or_default() += 1;
        }
    }

    fn destination(&self, event: &Event) -> String {
        if event.addr.is_unspecified() {
            return String::new();
        }
        self.names
            .get(&event.addr)
            .cloned()
            .unwrap_or_else(|| event.addr.to_string())
    }

    fn kernel_row(&mut self, event: &Event, caller: &Caller) -> io::Result<()> {
        self.row(&Row::Kernel(AttemptRow {
            ts: self.wall_time(event.ktime_ns),
            hook: event.hook.label().into(),
            verdict: event.verdict.label().into(),
            reason: event.reason.label().into(),
            protocol: protocol_name(event.protocol).into(),
            sock_type: event.sock_type.into(),
            family: event.family.into(),
            dst: event.addr.to_string().into(),
            port: event.port,
            name: self.names.get(&event.addr).map(Into::into),
            pid: caller.pid.into(),
            uid: event.uid.into(),
            process: caller.process.clone(),
            exe: caller.exe.as_deref().map(Into::into),
            cookie: event.cookie,
            connect_ns: event.ktime_ns,
            count: Exactly::VALUE,
        }))
    }
}

/// Returns the synthetic IPv6 address for the host name of a synthetic IPv4 address. Both addresses contain the same
/// number.
fn twin(address: IpAddr) -> Option<Ipv6Addr> {
    let IpAddr::V4(address) = address else {
        return None;
    };
    let number = address
        .to_bits()
        .checked_sub(Ipv4Addr::from(SYNTHETIC_V4.0).to_bits())?;
    Some(Ipv6Addr::from_bits(
        Ipv6Addr::from(SYNTHETIC_V6.0).to_bits() | u128::from(number),
    ))
}
