//! Writes the rows about connections and datagrams that the kernel programs on the mediator's own sockets denied: to
//! the machine itself, to its platform, or to networks that are not public. Repeated denials are folded, as the
//! command's repeated attempts are.
use std::io;

use audit_packet::format::boundary::Denied;
use audit_packet::format::rows::{MediatorDeniedRepeatsRow, MediatorDeniedRow};
use audit_packet::format::{Exactly, Row};
use egress_common::verdict::Verdict;
use egress_sys::clock;

use super::log::FlowLog;
use super::seen::{FOLDED, Repeats};
use super::words::protocol_name;
use crate::bpf::events::Event;

impl FlowLog {
    /// Writes one denial.
    pub(super) fn dial(&mut self, event: &Event) -> io::Result<()> {
        // A connect with which a resolver only sorts addresses is not an attempt.
        if event.verdict == Verdict::Deny {
            let denied = Denied {
                destination: event.addr.to_string(),
                port: event.port,
                protocol: protocol_name(event.protocol),
                reason: event.reason.label().to_owned(),
                process: String::new(),
            };
            self.count_denied(denied);
        }
        let (hook, verdict, reason) = (event.hook, event.verdict, event.reason);
        let kind = (
            hook,
            verdict,
            reason,
            event.protocol,
            event.addr,
            event.port,
        );
        let is_folded = self.dials.len() < FOLDED || self.dials.contains_key(&kind);
        if is_folded && !Repeats::count(&mut self.dials, kind, event.ktime_ns) {
            return Ok(());
        }
        self.row(&Row::KernelMediatorDenied(MediatorDeniedRow {
            ts: self.wall_time(event.ktime_ns),
            hook: hook.label().into(),
            verdict: verdict.label().into(),
            reason: reason.label().into(),
            protocol: protocol_name(event.protocol).into(),
            dst: event.addr.to_string().into(),
            port: event.port,
            cookie: event.cookie,
            connect_ns: event.ktime_ns,
            count: Exactly::VALUE,
        }))
    }

    /// Writes the counts of folded rows.
    pub(super) fn finish_dials(&mut self) -> io::Result<()> {
        for ((hook, verdict, reason, protocol, addr, port), seen) in Repeats::take(&mut self.dials)
        {
            self.row(&Row::KernelMediatorDeniedRepeats(
                MediatorDeniedRepeatsRow {
                    ts: clock::now_rfc3339().into(),
                    hook: hook.label().into(),
                    verdict: verdict.label().into(),
                    reason: reason.label().into(),
                    protocol: protocol_name(protocol).into(),
                    dst: addr.to_string().into(),
                    port,
                    count: seen.count,
                    first: self.wall_time(seen.first_ns),
                    last: self.wall_time(seen.last_ns),
                },
            ))?;
        }
        Ok(())
    }
}
