//! Rows about what the gates on the mediator's own sockets refused: connections and datagrams to the machine itself, to
//! its platform, or into networks that are not public. What repeats is folded as the command's attempts are.
use std::io;

use audit_packet::denied::Denied;
use audit_packet::format::rows::{MediatorDeniedRepeatsRow, MediatorDeniedRow};
use audit_packet::format::{Exactly, Row};
use egress_common::verdict::Verdict;
use egress_sys::clock;

use super::log::FlowLog;
use super::seen::{Dial, FOLDED, Repeats};
use super::words::protocol_name;
use crate::bpf::events::Event;

impl FlowLog {
    /// Takes one refusal.
    pub(super) fn dial(&mut self, event: &Event) -> io::Result<()> {
        // Resolvers that sort addresses are not attempts.
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
        if self.dials.len() < FOLDED || self.dials.contains_key(&kind) {
            let seen = self.dials.entry(kind).or_insert(Repeats {
                count: 0,
                first_ns: event.ktime_ns,
                last_ns: event.ktime_ns,
            });
            seen.count += 1;
            seen.last_ns = event.ktime_ns;
            if seen.count > 1 {
                return Ok(());
            }
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

    /// Writes the counts of what was folded.
    pub(super) fn finish_dials(&mut self) -> io::Result<()> {
        let mut folded: Vec<(Dial, Repeats)> = std::mem::take(&mut self.dials)
            .into_iter()
            .filter(|(_, seen)| seen.count > 1)
            .collect();
        folded.sort_unstable();
        for ((hook, verdict, reason, protocol, addr, port), seen) in folded {
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
