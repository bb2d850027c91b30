//! Collects the actions in the receipts.
use std::collections::{BTreeMap, HashMap};

use egress_policy::allowed::Allowed;
use pipelock_receipts::check::Seen;

use super::beats::Beats;
use super::form;
use super::outcome::{COMPLETE, OutcomeReceipt};
use super::receipt::{CLOSE_LAYER, FRAME_LAYERS, Receipt, digest};
use super::tally;
use super::target::Target;
use super::times::{Span, millis, widen};
use super::twins::Twins;

const VERDICTS: [&str; 7] = [
    "allow", "ask", "block", "forward", "redirect", "strip", "warn",
];
/// Layer of a denial by the allow-list.
pub(super) const ALLOW_LIST: &str = "allowlist";
/// Transport of a tunnel.
const TUNNEL: &str = "connect";
/// Transports whose allowed actions begin with an intent, if the mediator signs intents.
const WITH_INTENTS: [&str; 4] = ["connect", "fetch", "forward", "websocket"];

/// The signed end of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    /// The action was denied before the mediator connected.
    Denied,
    /// The action was allowed, and denied later because of an address or the answer of the origin.
    DeniedLater,
    /// The action was allowed, but the origin was not reached.
    NotReached,
    /// The action was allowed, but the origin did not answer.
    NotAnswered,
    /// The action was allowed, and cut after the origin had answered.
    Cut,
    /// The action was allowed, and cut before the origin had answered.
    CutSilent,
    /// The action was allowed, and the end of the action was not signed.
    Open,
    /// The action was allowed, and ended normally.
    Complete,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Actions {
    pub(super) endings: BTreeMap<Ending, u64>,
    /// Statuses of actions that ended normally.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Statuses of actions that were cut after the origin had answered.
    pub(super) cut_with: BTreeMap<u16, u64>,
    /// Statuses of actions that did not reach their origin, or that the origin did not answer, and of tunnels that were
    /// denied later.
    pub(super) failed_with: BTreeMap<u16, u64>,
    pub(super) layers: BTreeMap<String, u64>,
    /// Status and bytes of actions that ended normally, up to a limit. Beyond the limit, only sums are compared.
    pub(super) sizes: BTreeMap<(u16, u64), u64>,
    pub(super) bytes: u64,
    /// Times of all receipts.
    pub(super) times: Option<(i64, i64)>,
    /// Times of the first receipt of each action. The first receipt states the decision.
    pub(super) decided: Option<(i64, i64)>,
    /// The largest time by which a receipt is earlier than the first receipt of its action, in ms.
    pub(super) went_back: i64,
}

impl Actions {
    pub(super) fn count(&self) -> u64 {
        self.endings
            .values()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    fn add(&mut self, action: &Open) {
        let ending = action.ending();
        tally::one(&mut self.endings, ending);
        if let Some(layer) = &action.denied_by {
            tally::one(&mut self.layers, layer.clone());
        }
        if let (Some(times), Some(first)) = (action.times, action.decided) {
            widen(&mut self.times, times);
            widen(&mut self.decided, (first, first));
            self.went_back = self.went_back.max(first.saturating_sub(times.0));
        }
        let Some(outcome) = &action.outcome else {
            return;
        };
        self.bytes = self.bytes.saturating_add(outcome.bytes.unwrap_or(0));
        let statuses = match ending {
            Ending::Complete => &mut self.statuses,
            Ending::Cut => &mut self.cut_with,
            Ending::NotReached | Ending::NotAnswered => &mut self.failed_with,
            Ending::DeniedLater if action.transport == TUNNEL => &mut self.failed_with,
            Ending::Denied | Ending::DeniedLater | Ending::CutSilent | Ending::Open => return,
        };
        if let Some(status) = outcome.status {
            tally::one(statuses, status);
        }
        if ending == Ending::Complete
            && let Some(bytes) = outcome.bytes
        {
            tally::size(&mut self.sizes, (outcome.status.unwrap_or(0), bytes));
        }
    }
}

/// The decision about an action. An outcome does not undo a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Allowed,
    Denied,
    DeniedLater,
}

/// An action that may have further receipts.
#[derive(Debug, Clone)]
struct Open {
    target: Option<Target>,
    transport: String,
    facts: u128,
    decision: Decision,
    /// Layer of the first denial.
    denied_by: Option<String>,
    has_intent: bool,
    outcome: Option<OutcomeReceipt>,
    /// Time of the first receipt.
    decided: Option<i64>,
    times: Option<(i64, i64)>,
}

impl Open {
    fn ending(&self) -> Ending {
        match self.decision {
            Decision::Denied => return Ending::Denied,
            Decision::DeniedLater => return Ending::DeniedLater,
            Decision::Allowed => {}
        }
        match &self.outcome {
            None if self.has_intent => Ending::Open,
            // Without intents, a receipt is written only if the action was denied or ended without an error.
            None => Ending::Complete,
            Some(outcome) if outcome.reason == COMPLETE => Ending::Complete,
            Some(outcome) if outcome.is_not_reached() => Ending::NotReached,
            Some(outcome) if outcome.is_not_answered() => Ending::NotAnswered,
            Some(outcome) if outcome.status.is_none_or(|status| status == 0) => Ending::CutSilent,
            Some(_) => Ending::Cut,
        }
    }
}

/// An action that has ended.
#[derive(Debug, Clone, Copy)]
struct Ended {
    facts: u128,
    /// Whether the close that may still follow is a denial.
    close: Option<bool>,
}

/// The signed actions, and the contradictions among the receipts.
#[derive(Debug, Clone, Default)]
pub struct Receipts {
    open: HashMap<String, Open>,
    /// Ended actions by the digests of their ids.
    ended: HashMap<u128, Ended>,
    pub(super) actions: BTreeMap<Target, Actions>,
    /// Actions without a readable target, by transport: the host was redacted, or the target is not a URL.
    pub(super) hidden: BTreeMap<String, Actions>,
    /// Denials by the allow-list, by host.
    off_list: BTreeMap<String, u64>,
    /// For each `WebSocket` target, the number of messages with a receipt, and how many of them the mediator denied.
    /// Each denied message ends its `WebSocket`. The target is `None` if its host was redacted or it is not a URL.
    pub(super) frames: BTreeMap<Option<Target>, (u64, u64)>,
    /// Number of receipts that the built-in mediator does not write.
    pub(super) unlike_builtin: u64,
    /// Number of receipts that no Pipelock writes, and number of other receipts that no Pipelock with sessions writes.
    pub(super) unlike_pipelock: u64,
    pub(super) unlike_sessions: u64,
    /// Number of receipts whose action type or side effects do not match the method.
    pub(super) misclassified: u64,
    /// Number of receipts that reuse the id of a different action.
    pub(super) reused: u64,
    /// Number of receipts of actions that had already ended.
    pub(super) repeated: u64,
    /// Number of receipts with a verdict that no mediator uses.
    pub(super) unknown_verdicts: u64,
    /// Number of outcomes that no mediator writes.
    pub(super) impossible_outcomes: u64,
    /// Number of outcomes that a mediator may write although they leave out a number.
    pub(super) outcomes_without_numbers: u64,
    /// Number of outcomes with the status 0, which only the built-in mediator writes.
    pub(super) outcomes_with_status_0: u64,
    /// Number of actions that begin with neither an intent nor a denial, and of closes of `WebSocket`s that follow no
    /// outcome.
    pub(super) without_intent: u64,
    /// Number of actions with a second intent before their end.
    pub(super) second_intents: u64,
    pub(super) times: Span,
    /// The largest time between a receipt and the entry that contains it, in ms.
    pub(super) entry_apart: i64,
    pub(super) twins: Twins,
    pub(super) beats: Beats,
}

impl Receipts {
    /// Reads one receipt of either version.
    pub fn see(&mut self, seen: &Seen<'_>) {
        let times = [seen.of_receipt("timestamp"), seen.entry_time()].map(millis);
        if let [Some(signed), Some(written)] = times {
            let apart = i64::try_from(signed.abs_diff(written)).unwrap_or(i64::MAX);
            self.entry_apart = self.entry_apart.max(apart);
        }
        if seen.is_session {
            if !seen.is_twin {
                self.beats.see(seen);
            }
            if !seen.is_twin && !form::is_session(seen) {
                self.misclassified = self.misclassified.saturating_add(1);
            } else if !seen.is_twin && !form::is_builtin_session(seen) {
                self.unlike_builtin = self.unlike_builtin.saturating_add(1);
            }
            return;
        }
        self.twins.see(seen);
        if seen.is_twin {
            return;
        }
        let receipt = Receipt {
            transport: seen.text("transport"),
            target: seen.text("target"),
            verdict: seen.text("verdict"),
            id: seen.text("action_id"),
            layer: seen.text("layer"),
            phase: seen.text("decision_phase"),
            method: seen.text("method"),
            pattern: seen.text("pattern"),
            time: seen.text("timestamp"),
            action_type: seen.text("action_type"),
            side_effects: seen.text("side_effect_class"),
            reversibility: seen.text("reversibility"),
            policy_hash: seen.text("policy_hash"),
            principal: seen.text("principal"),
            is_delegated: seen.has("delegation_chain"),
        };
        self.add(&receipt);
    }

    pub(super) fn add(&mut self, receipt: &Receipt<'_>) {
        let time = millis(receipt.time);
        if let Some(now) = time {
            self.times.see(now);
        }
        if !VERDICTS.contains(&receipt.verdict) {
            self.unknown_verdicts = self.unknown_verdicts.saturating_add(1);
        }
        let target = Target::of_receipt(receipt.transport, receipt.method, receipt.target);
        let verdict = receipt.verdict.trim();
        let is_denial = ["block", "ask"]
            .iter()
            .any(|word| verdict.eq_ignore_ascii_case(word));
        self.form(receipt);
        if receipt.transport == "websocket" && FRAME_LAYERS.contains(&receipt.layer) {
            let (count, denied) = self.frames.entry(target).or_default();
            *count = count.saturating_add(1);
            *denied = denied.saturating_add(u64::from(is_denial));
            return;
        }
        // A receipt with the layer `session_close` reports the end of a WebSocket. A Pipelock without outcomes signs it
        // at the end of every open WebSocket. A Pipelock with outcomes signs it after the outcome, if a message was
        // denied or redacted. Its verdict is about the messages, so it does not deny the action.
        let is_close = receipt.transport == "websocket" && receipt.layer == CLOSE_LAYER;
        let facts = digest(&[receipt.transport, receipt.target, receipt.method]);
        let id = digest(&[receipt.id]);
        if !self.open.contains_key(receipt.id)
            && let Some(was) = self.ended.get_mut(&id)
        {
            let is_same = was.facts == facts;
            let is_end = is_same && is_close && was.close.take() == Some(is_denial);
            self.repeated = self.repeated.saturating_add(u64::from(is_same && !is_end));
            self.reused = self.reused.saturating_add(u64::from(!is_same));
            return;
        }
        // A denial after an intent is not counted, because the mediator denied the target of a redirect.
        if is_denial
            && receipt.layer == ALLOW_LIST
            && !self.open.contains_key(receipt.id)
            && let Some(target) = &target
        {
            tally::one(&mut self.off_list, target.host.clone());
        }
        let is_intent = receipt.phase == "intent";
        let is_first = !self.open.contains_key(receipt.id);
        let has_intents = WITH_INTENTS.contains(&receipt.transport);
        if is_close || is_first && has_intents && !is_denial && !is_intent {
            self.without_intent = self.without_intent.saturating_add(1);
        }
        let action = self
            .open
            .entry(receipt.id.to_owned())
            .or_insert_with(|| Open {
                target,
                transport: receipt.transport.to_owned(),
                facts,
                decision: if is_denial && !is_close {
                    Decision::Denied
                } else {
                    Decision::Allowed
                },
                denied_by: None,
                has_intent: false,
                outcome: None,
                decided: time,
                times: None,
            });
        if action.facts != facts {
            self.reused = self.reused.saturating_add(1);
            return;
        }
        if is_denial && action.decision == Decision::Allowed && !is_close {
            action.decision = Decision::DeniedLater;
        }
        if is_denial && !is_close && action.denied_by.is_none() {
            action.denied_by = Some(receipt.layer.to_owned());
        }
        if is_intent && action.has_intent {
            self.second_intents = self.second_intents.saturating_add(1);
        }
        action.has_intent |= is_intent;
        if let Some(now) = time {
            widen(&mut action.times, (now, now));
        }
        let is_outcome = receipt.phase == "outcome";
        if is_outcome {
            let outcome = OutcomeReceipt::read(receipt.pattern);
            let [impossible, without, zero] = outcome.faults();
            // A tunnel that was denied later never opened, so it carried no bytes.
            let is_closed_tunnel =
                receipt.transport == TUNNEL && action.decision == Decision::DeniedLater;
            let carries = is_closed_tunnel && outcome.bytes.unwrap_or(0) > 0;
            let [impossible, without, zero] = [impossible || carries, without, zero].map(u64::from);
            self.impossible_outcomes = self.impossible_outcomes.saturating_add(impossible);
            self.outcomes_without_numbers = self.outcomes_without_numbers.saturating_add(without);
            self.outcomes_with_status_0 = self.outcomes_with_status_0.saturating_add(zero);
            action.outcome = Some(outcome);
        }
        if (is_outcome || !action.has_intent)
            && let Some(action) = self.open.remove(receipt.id)
        {
            let outcome = action.outcome.as_ref();
            let close = outcome.and_then(OutcomeReceipt::close_is_denial);
            self.ended.insert(id, Ended { facts, close });
            self.fold(&action);
        }
    }

    fn fold(&mut self, action: &Open) {
        let actions = match &action.target {
            Some(target) => self.actions.entry(target.clone()).or_default(),
            None => self.hidden.entry(action.transport.clone()).or_default(),
        };
        actions.add(action);
    }

    /// Counts receipts whose form does not match the built-in mediator, a Pipelock, or any mediator.
    fn form(&mut self, receipt: &Receipt<'_>) {
        if receipt.action_type.is_empty() {
            return;
        }
        if !form::is_builtin(receipt) {
            self.unlike_builtin = self.unlike_builtin.saturating_add(1);
        }
        if !form::is_pipelock(receipt) {
            self.unlike_pipelock = self.unlike_pipelock.saturating_add(1);
        } else if !form::is_of_sessions(receipt) {
            self.unlike_sessions = self.unlike_sessions.saturating_add(1);
        }
        let has_class = matches!(receipt.transport, "forward" | "connect");
        if has_class && !form::is_classified(receipt) || !form::has_method(receipt) {
            self.misclassified = self.misclassified.saturating_add(1);
        }
    }

    /// Returns the number of receipts in which the allow-list denied this host.
    pub fn denials_by_list(&self, host: &str) -> u64 {
        let host = Target::host_of(host);
        self.off_list.get(&host).copied().unwrap_or(0)
    }

    /// Returns the largest number of requests to this host that the mediator itself may have answered with this status:
    /// actions that are signed as denied, or as cut with this status. Actions without a readable target count as well.
    pub fn denials(&self, host: &str, status: u16) -> u64 {
        let host = Target::host_of(host);
        let of_host = self
            .actions
            .iter()
            .filter(|(target, _)| target.host == host);
        let all = of_host
            .map(|(_, actions)| actions)
            .chain(self.hidden.values());
        all.fold(0_u64, |sum, actions| {
            let cut = actions.cut_with.get(&status).copied().unwrap_or(0);
            [Ending::Denied, Ending::DeniedLater]
                .iter()
                .filter_map(|ending| actions.endings.get(ending))
                .fold(sum.saturating_add(cut), |sum, count| {
                    sum.saturating_add(*count)
                })
        })
    }

    /// Counts denials that name the allow-list although the host is on the allow-list. Mediators
    /// always deny addresses and the names of the machine itself, so denials of these are not
    /// counted.
    pub(super) fn denied_though_listed(&self, allowed: &Allowed) -> u64 {
        self.off_list
            .iter()
            .filter(|(host, _)| allowed.lists_name(host))
            .fold(0_u64, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Ends the actions without a signed outcome.
    pub(super) fn finish(&mut self) {
        for action in std::mem::take(&mut self.open).into_values() {
            self.fold(&action);
        }
    }
}
