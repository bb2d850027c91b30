//! Compares the recorders of a run: the requests of the relay in the flow log, the receipts of the mediator, and the
//! kernel's counts on both sides of the mediator.
//!
//! No receipt names the client's process or connection, so requests and actions are paired by the members that both
//! have. A record without its counterpart is a loss, and a difference is a [`Disagreement`]. `docs/reconciliation.md`
//! describes the differences that each comparison finds, and differences that no comparison can find.
mod answers;
mod beats;
mod circumstances;
mod disagreement;
mod form;
mod inside_tls;
mod kernel;
mod numbers;
mod outcome;
mod pairing;
mod receipt;
mod receipts;
mod requests;
mod result;
mod tally;
mod target;
#[cfg(test)]
mod tests;
mod times;
mod twins;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use answers::confirmed;
pub use circumstances::{Circumstances, Writer};
pub use disagreement::Disagreement;
use egress_policy::allowed::Allowed;
use kernel::{DNS, IN_BUFFERS, Kernel, Opened};
use pairing::Pairing;
pub use receipts::Receipts;
use receipts::{Actions, Ending};
use requests::Asked;
pub use result::Reconciliation;
use target::Path;
use times::{Span, Tolerance, millis, unix_millis};

use super::clock::ClockSteps;
use super::format::{RelayVerdict, Row};
use super::joined::nanos;

/// The state of the comparison. The comparison reads the flow log row by row.
#[derive(Debug, Default)]
pub(super) struct Reconciler {
    asked: Asked,
    kernel: Kernel,
    /// Times from the first heartbeat to the last row.
    times: Span,
    steps: ClockSteps,
    clock_set_ms: u64,
    unknown: u64,
    relay: BTreeMap<String, u64>,
}

impl Reconciler {
    pub(super) fn see(&mut self, row: &Row) {
        match row {
            Row::Kernel(row) => self.kernel.attempt(row),
            Row::KernelRepeats(row) => self.kernel.repeats(row),
            Row::KernelClose(row) => self.kernel.close(row),
            Row::KernelCloseTotal(row) => self.kernel.close_total(row),
            Row::KernelMediator(row) => self.kernel.mediator(row),
            Row::KernelMediatorTotal(row) => self.kernel.mediator_total(row),
            Row::Relay(row) => {
                self.clock(&row.ts);
                let is_unknown = matches!(row.verdict, RelayVerdict::Unknown(_));
                self.unknown = self.unknown.saturating_add(u64::from(is_unknown));
                let word = if is_unknown {
                    "unknown"
                } else {
                    row.verdict.as_str()
                };
                tally::one(&mut self.relay, word.to_owned());
                self.kernel.relay(row);
                self.asked.see(row);
            }
            Row::Supervisor(row) => {
                self.steps.see(Some(&row.event), nanos(&row.ts));
                self.clock(&row.ts);
            }
            Row::End(row) => {
                self.clock(&row.ts);
                self.steps.see(None, nanos(&row.ts));
                self.steps.state(row.clock_set_ms);
                self.clock_set_ms = self.clock_set_ms.max(row.clock_set_ms);
            }
            // The hooks denied these destinations before anything was sent, and no receipt names an
            // address.
            Row::KernelMediatorDenied(_)
            | Row::KernelMediatorDeniedRepeats(_)
            | Row::Resolver(_)
            | Row::Unix(_)
            | Row::UnixRepeats(_)
            | Row::DnsAnswer(_) => {}
            Row::Unknown(_) => self.unknown = self.unknown.saturating_add(1),
        }
        if let Some(attempts) = row.attempts() {
            self.kernel.count(attempts.verdict, attempts.count);
        }
    }

    /// Notes the time of a row that is written as soon as it is made.
    fn clock(&mut self, text: &str) {
        if let Some(now) = millis(text) {
            self.times.see(now);
        }
    }

    /// Compares the rows with the receipts.
    pub(super) fn finish(
        self,
        receipts: &Receipts,
        around: Circumstances,
        allowed: &Allowed,
    ) -> Reconciliation {
        let mut receipts = receipts.clone();
        receipts.finish();
        let mut result = Reconciliation {
            asked: self.asked.count,
            refused: self.asked.refused.clone(),
            clock_set: Duration::from_millis(self.clock_set_ms),
            relay: self.relay,
            ..Reconciliation::default()
        };
        let tolerance = Tolerance::new(self.steps.set_ms());
        result.disagree(Disagreement::UnknownRow, self.unknown);
        result.disagree(Disagreement::ReusedId, receipts.reused);
        result.disagree(Disagreement::Repeated, receipts.repeated);
        result.disagree(Disagreement::UnknownVerdict, receipts.unknown_verdicts);
        result.disagree(Disagreement::UnknownVerdict, receipts.impossible_outcomes);
        // Pipelock with sessions signs each decision in both versions.
        let apart = match (receipts.twins.count, around.writer) {
            (0, Writer::Pipelock) => receipts.twins.decisions,
            (0, Writer::Builtin | Writer::OldPipelock) => 0,
            _ => receipts.twins.apart(around.is_closed, tolerance),
        };
        result.disagree(Disagreement::TwinsDiffer, apart);
        let apart = tolerance.beyond((0, 0), (0, receipts.entry_apart));
        result.disagree(Disagreement::EntryTime, apart);
        if let Some(run) = self.times.range {
            // The mediator opens its session before the first row.
            let whole = (run.0.saturating_sub(around.preparation), run.1);
            let written = around.written.map_or(whole, |(first, last)| {
                (unix_millis(first), unix_millis(last))
            });
            let signed = receipts.times.range.unwrap_or(run);
            let apart = tolerance
                .beyond(whole, written)
                .max(tolerance.beyond(run, signed));
            result.disagree(Disagreement::OutsideRun, apart);
            let (of_receipts, of_rows) = (receipts.times.went_back, self.times.went_back);
            let back = tolerance.went_back(around.writer, of_receipts, of_rows);
            result.disagree(Disagreement::TimeWentBack, back);
        }
        if around.has_witness {
            let signed = by_ending(&receipts);
            let asked = &self.asked;
            compare_connections(around, &self.kernel, asked, &receipts, &signed, &mut result);
        }
        if around.writer == Writer::Builtin {
            result.disagree(Disagreement::Repeated, receipts.second_intents);
            result.disagree(
                Disagreement::UnknownVerdict,
                receipts.outcomes_without_numbers,
            );
            let both = by_ending(&receipts).remove(&Ending::DeniedLater);
            result.disagree(Disagreement::AllowedAndDenied, both.unwrap_or(0));
        }
        let mut asked = self.asked;
        result.disagree(
            Disagreement::NotInPolicy,
            outside_policy(&asked, &receipts, allowed),
        );
        result.disagree(
            Disagreement::DeniedThoughListed,
            receipts.denied_though_listed(allowed),
        );
        result.disagree(Disagreement::OtherForm, receipts.misclassified);
        result.disagree(Disagreement::OtherForm, around.forms.other_summary);
        if around.writer == Writer::Builtin {
            result.disagree(Disagreement::OtherForm, receipts.unlike_builtin);
            result.disagree(Disagreement::OtherForm, around.forms.unlike_recorder);
            let unlike = receipts.beats.unlike(allowed.heartbeat());
            result.disagree(Disagreement::OtherForm, unlike);
            result.disagree(Disagreement::Heartbeats, receipts.beats.apart(tolerance));
            // A mediator that closed its session has signed the end of every action.
            let open = by_ending(&receipts).remove(&Ending::Open).unwrap_or(0);
            result.disagree(
                Disagreement::OtherForm,
                if around.is_closed { open } else { 0 },
            );
        }
        if around.writer != Writer::Builtin {
            result.disagree(Disagreement::OtherForm, receipts.unlike_pipelock);
            result.disagree(
                Disagreement::UnknownVerdict,
                receipts.outcomes_with_status_0,
            );
        }
        if around.writer == Writer::Pipelock {
            result.disagree(Disagreement::OtherForm, receipts.unlike_sessions);
            result.disagree(Disagreement::OtherForm, receipts.without_intent);
        }
        frames(around, (&asked, &receipts), allowed, &mut result);
        intercepted(around, &mut asked, &mut receipts, &mut result);
        Pairing {
            writer: around.writer,
            redacts: around.redacts,
            shortest_secret: Path::shortest_secret(allowed.has_patterns()),
            tolerance,
            asked,
            actions: receipts.actions,
            hidden: receipts.hidden,
            result: &mut result,
        }
        .finish();
        self.kernel.finish(around.has_witness, &mut result);
        result
    }
}

fn by_ending(receipts: &Receipts) -> BTreeMap<Ending, u64> {
    let mut endings: BTreeMap<Ending, u64> = BTreeMap::new();
    for actions in receipts.actions.values().chain(receipts.hidden.values()) {
        for (ending, count) in &actions.endings {
            tally::some(&mut endings, *ending, *count);
        }
    }
    endings
}

/// Compares the mediator's connections in the kernel's rows with the receipts.
fn compare_connections(
    around: Circumstances,
    kernel: &Kernel,
    asked: &Asked,
    receipts: &Receipts,
    signed: &BTreeMap<Ending, u64>,
    result: &mut Reconciliation,
) {
    let sum = |opened: Opened, one: &Opened| Opened {
        established: opened.established.saturating_add(one.established),
        bytes: opened.bytes.saturating_add(one.bytes),
    };
    let opened = kernel.opened.values().fold(Opened::default(), sum);
    let all = receipts.actions.values().chain(receipts.hidden.values());
    let bytes = all.fold(0_u64, |sum, actions| sum.saturating_add(actions.bytes));
    let most = IN_BUFFERS
        .saturating_mul(opened.established.max(1))
        .saturating_add(opened.bytes);
    result.disagree(Disagreement::MoreThanKernel, bytes.saturating_sub(most));
    if around.writer != Writer::Builtin {
        // Pipelock follows redirects, keeps connections, and tries several addresses at once, so the number of its
        // connections is not compared.
        let allowed = signed
            .iter()
            .filter(|(ending, _)| **ending != Ending::Denied)
            .fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        // An older Pipelock does not sign requests that failed.
        let unsigned = match around.writer {
            Writer::OldPipelock => asked.not_through(),
            Writer::Builtin | Writer::Pipelock => 0,
        };
        let of_requests = kernel.of_requests().map(|(_, one)| one);
        let of_requests = of_requests.fold(Opened::default(), sum);
        if allowed == 0 && of_requests.bytes > 0 {
            let surplus = of_requests.established.saturating_sub(unsigned);
            result.disagree(Disagreement::DeniedWithBytes, surplus);
        } else if around.writer == Writer::Pipelock {
            let count = beyond_allowed_ports(kernel, receipts);
            result.disagree(Disagreement::DeniedWithBytes, count);
        }
        return;
    }
    // The built-in mediator establishes at most one connection for each allowed action, and does not reuse connections.
    let mut by_port: BTreeMap<u16, (u64, u64)> = BTreeMap::new();
    for (target, actions) in &receipts.actions {
        let count = |ending| actions.endings.get(&ending).copied().unwrap_or(0);
        let needed = count(Ending::Complete)
            .saturating_add(count(Ending::Cut))
            .saturating_add(count(Ending::NotAnswered));
        let possible = needed
            .saturating_add(count(Ending::CutSilent))
            .saturating_add(count(Ending::Open));
        let port = by_port.entry(target.port.unwrap_or_default()).or_default();
        port.0 = port.0.saturating_add(needed);
        port.1 = port.1.saturating_add(possible);
    }
    for port in kernel.opened.keys() {
        by_port.entry(*port).or_default();
    }
    for (port, (needed, possible)) in by_port {
        let established = kernel.opened.get(&port).map_or(0, |one| one.established);
        // The mediator also queries a name server without a request.
        let surplus = established.saturating_sub(possible);
        result.disagree(
            Disagreement::MoreConnections,
            if port == DNS { 0 } else { surplus },
        );
        let lacking = needed.saturating_sub(established);
        result.disagree(Disagreement::NoConnection, lacking);
    }
}

/// Counts the connections of a Pipelock to ports for which no action is signed as allowed but which carried bytes.
/// Returns 0 if Pipelock made requests itself, because it may have followed a redirect to such a port, and if an
/// allowed action has a redacted host.
fn beyond_allowed_ports(kernel: &Kernel, receipts: &Receipts) -> u64 {
    let allowed = |actions: &Actions| actions.endings.keys().any(|one| *one != Ending::Denied);
    let mut targets = receipts
        .actions
        .iter()
        .filter(|(_, actions)| allowed(actions))
        .map(|(target, _)| target);
    let mut ports = BTreeSet::new();
    let fetches = targets.any(|target| {
        ports.insert(target.port.unwrap_or_default());
        matches!(target.transport.as_str(), "forward" | "fetch")
    });
    if fetches || receipts.hidden.values().any(allowed) {
        return 0;
    }
    kernel
        .of_requests()
        .filter(|(port, one)| !ports.contains(*port) && one.bytes > 0)
        .fold(0_u64, |sum, (_, one)| sum.saturating_add(one.established))
}

/// Counts hosts that are not on the allow-list, but were reached or signed as allowed.
fn outside_policy(asked: &Asked, receipts: &Receipts, allowed: &Allowed) -> u64 {
    let reached = asked
        .requests
        .iter()
        .filter(|(_, requests)| requests.through() > 0);
    let signed = receipts.actions.iter().filter(|(_, actions)| {
        actions
            .endings
            .keys()
            .any(|ending| *ending != Ending::Denied)
    });
    let hosts: BTreeSet<&str> = reached
        .map(|(target, _)| target.host.as_str())
        .chain(signed.map(|(target, _)| target.host.as_str()))
        .filter(|host| !allowed.allows(host))
        .collect();
    u64::try_from(hosts.len()).unwrap_or(u64::MAX)
}

/// Checks that each receipt of a message belongs to a `WebSocket` that was requested. The built-in mediator does not
/// sign messages.
fn frames(
    around: Circumstances,
    (asked, receipts): (&Asked, &Receipts),
    allowed: &Allowed,
    result: &mut Reconciliation,
) {
    let shortest_secret = Path::shortest_secret(allowed.has_patterns());
    for (socket, (count, denied)) in &receipts.frames {
        let opened = asked.requests.iter().filter(|(target, _)| {
            let socket = socket.as_ref();
            socket.is_some_and(|socket| {
                *target == socket || target.is_partial_of(socket, shortest_secret)
            })
        });
        let opened = opened.fold(0_u64, |sum, (_, requests)| {
            sum.saturating_add(requests.count())
        });
        if around.writer == Writer::Builtin || opened == 0 {
            result.disagree(Disagreement::Frames, *count);
        } else {
            // A denied message ends its WebSocket.
            result.disagree(Disagreement::Frames, denied.saturating_sub(opened));
        }
    }
}

/// Checks that the relay requested a tunnel to the host of each receipt of a request inside TLS. Such a receipt is
/// counted in `said_alone`, because only the mediator reads the request. With an older Pipelock, it also replaces the
/// missing receipt of the tunnel.
fn intercepted(
    around: Circumstances,
    asked: &mut Asked,
    receipts: &mut Receipts,
    result: &mut Reconciliation,
) {
    let mut inside: BTreeMap<String, u64> = BTreeMap::new();
    receipts.actions.retain(|target, actions| {
        if target.transport != inside_tls::INTERCEPT {
            return true;
        }
        tally::some(&mut inside, target.host.clone(), actions.count());
        false
    });
    if !around.intercepts {
        let count = inside
            .values()
            .fold(0_u64, |sum, count| sum.saturating_add(*count));
        result.disagree(Disagreement::Intercepted, count);
        return;
    }
    for (host, count) in inside {
        let mut tunnels = 0_u64;
        for (target, requests) in &mut asked.requests {
            if target.transport != "connect" || target.host != host {
                continue;
            }
            tunnels = tunnels.saturating_add(requests.count());
            if around.writer != Writer::OldPipelock {
                continue;
            }
            // Tunnels with their own receipt are paired like other requests.
            let own = receipts.actions.get(target).map_or(0, Actions::count);
            let without = requests.count().saturating_sub(own);
            pairing::take(&mut requests.fates, without);
            result.receipted = result.receipted.saturating_add(without);
        }
        if tunnels == 0 {
            result.unasked = result.unasked.saturating_add(count);
        } else {
            result.said_alone = result.said_alone.saturating_add(count);
        }
    }
}
