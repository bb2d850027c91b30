//! Pairs the requests of the relay with the signed actions, first by all members that both have, then by fewer.
use std::collections::BTreeMap;

use super::circumstances::Writer;
use super::disagreement::Disagreement;
use super::numbers::{compare, compare_signed};
use super::receipts::{Actions, Ending};
use super::requests::{Asked, Fate, Requests};
use super::result::Reconciliation;
use super::tally;
use super::target::{Path, Target};
use super::times::Tolerance;

impl Writer {
    /// Returns the possible endings of the action for a request with this fate, the most likely first.
    fn fitting(self, transport: &str, fate: Fate) -> &'static [Ending] {
        use Ending::{
            Complete, Cut, CutSilent, Denied, DeniedLater, NotAnswered, NotReached, Open,
        };
        let is_tunnel = transport == "connect";
        match (fate, self) {
            // Pipelock accepts a WebSocket before it connects to the origin, so an answer of 101
            // shows nothing.
            (Fate::Agreed, Self::Pipelock | Self::OldPipelock) => &[
                Complete,
                Cut,
                CutSilent,
                Open,
                DeniedLater,
                NotReached,
                NotAnswered,
            ],
            // The built-in mediator has the origin's answer, and states its status.
            (Fate::Agreed, Self::Builtin) => &[Complete, Cut, Open],
            // Pipelock does not sign the end of a WebSocket that its origin does not close.
            (Fate::Through, Self::Pipelock) if transport == "websocket" => &[Complete, Cut, Open],
            // Pipelock answers 200 to a fetch only at its end.
            (Fate::Through, Self::Pipelock) if transport == "fetch" => &[Complete],
            (Fate::Through, Self::Builtin | Self::Pipelock) => &[Complete, Cut],
            (Fate::Through, Self::OldPipelock) => &[Complete],
            // The built-in mediator has the origin's status before it passes the answer on.
            (Fate::Opened, Self::Builtin) => &[Cut, Complete, Open],
            (Fate::Opened, Self::Pipelock | Self::OldPipelock) if is_tunnel => {
                &[Cut, Open, Complete, CutSilent, NotAnswered]
            }
            // Pipelock may deny an answer that has begun.
            (Fate::Opened, Self::Pipelock | Self::OldPipelock) => {
                &[Cut, Open, Complete, CutSilent, NotAnswered, DeniedLater]
            }
            (Fate::Denied, Self::Builtin | Self::OldPipelock) => &[Denied],
            // No origin answers a CONNECT, and Pipelock signs the denial of an address that it resolves later.
            (Fate::Denied, Self::Pipelock) if is_tunnel => &[Denied, DeniedLater],
            (Fate::Denied, Self::Pipelock) => &[Denied, DeniedLater, NotReached, Cut, CutSilent],
            // The answer has the mark of the built-in mediator, which wrote it after it connected to the origin or
            // failed to connect. The mediator signs the status of its answer.
            (Fate::Failed, Self::Builtin) => &[NotReached, NotAnswered, Cut, Open],
            // No origin answers a CONNECT, and Pipelock answers 502 only if it cannot connect.
            (Fate::Failed, Self::Pipelock) if is_tunnel => &[NotReached, Open],
            (Fate::Answered, _) => &[
                Denied,
                DeniedLater,
                Cut,
                Complete,
                CutSilent,
                NotAnswered,
                NotReached,
                Open,
            ],
            (Fate::Other | Fate::Failed, _) => &[
                NotReached,
                NotAnswered,
                CutSilent,
                Cut,
                Open,
                DeniedLater,
                Denied,
                Complete,
            ],
        }
    }
}

/// The order in which requests are paired: requests that were let through, denied requests, and then requests with an
/// unclear result.
const ORDER: [Fate; 7] = [
    Fate::Through,
    Fate::Opened,
    Fate::Agreed,
    Fate::Denied,
    Fate::Failed,
    Fate::Answered,
    Fate::Other,
];

/// Number of fates at the start of [`ORDER`] with requests that were let through.
const LET_THROUGH: usize = 3;

/// The requests and the actions that are not yet paired.
pub(super) struct Pairing<'r> {
    pub(super) writer: Writer,
    /// Whether the mediator redacts targets by its own rules.
    pub(super) redacts: bool,
    /// Length of the shortest path that contains a secret.
    pub(super) shortest_secret: usize,
    pub(super) tolerance: Tolerance,
    pub(super) asked: Asked,
    pub(super) actions: BTreeMap<Target, Actions>,
    pub(super) hidden: BTreeMap<String, Actions>,
    pub(super) result: &'r mut Reconciliation,
}

impl Pairing<'_> {
    /// Pairs all requests and actions that match, and counts the remaining ones on both sides.
    pub(super) fn finish(mut self) {
        self.by_whole_target();
        self.by_visible_part();
        self.by_transport();
        self.by_host();
        self.leftover();
    }

    /// Pairs by the complete target, and compares the other members that both sides have.
    fn by_whole_target(&mut self) {
        let (hidden, known): (Vec<Target>, Vec<Target>) = self
            .asked
            .requests
            .keys()
            .cloned()
            .partition(|target| target.path == Path::Hidden);
        for target in known.iter().chain(&hidden) {
            if self.may_stand_for_another(target) {
                continue;
            }
            let (Some(requests), Some(actions)) = (
                self.asked.requests.get_mut(target),
                self.actions.get_mut(target),
            ) else {
                continue;
            };
            compare(
                self.writer,
                target,
                requests,
                actions,
                self.tolerance,
                self.result,
            );
            let paired = settle(self.writer, &target.transport, &ORDER, requests, actions);
            self.result.receipted = self.result.receipted.saturating_add(paired);
            let contradicted = contradicted(requests, actions);
            for (what, count) in contradicted {
                self.result.disagree(what, count);
                self.result.receipted = self.result.receipted.saturating_add(count);
            }
        }
    }

    /// Whether some requests or actions with this hidden path may be those of another target. The relay and a Pipelock
    /// recognize secrets by different rules, so each of them may hide a path that the other one shows.
    fn may_stand_for_another(&self, target: &Target) -> bool {
        if target.path != Path::Hidden || !self.redacts || self.writer == Writer::OldPipelock {
            return false;
        }
        let is_other = |other: &Target, count: u64| {
            count > 0 && other != target && other.may_be(target, self.shortest_secret)
        };
        let mut asked = self.asked.requests.iter();
        let mut signed = self.actions.iter();
        asked.any(|(other, requests)| is_other(other, requests.count()))
            || signed.any(|(other, actions)| is_other(other, actions.count()))
    }

    /// Pairs targets if one of the two sides hides a part. Requests that went through come first,
    /// because they must have a receipt.
    fn by_visible_part(&mut self) {
        self.compare_hidden_paths();
        let (first, rest) = ORDER.split_at(LET_THROUGH);
        for verdicts in [first, rest] {
            for (target, requests) in &mut self.asked.requests {
                if requests.count() == 0 {
                    continue;
                }
                for (signed, actions) in &mut self.actions {
                    if !may_leave_out(self.writer, self.redacts, signed) {
                        continue;
                    }
                    if target.is_partial_of(signed, self.shortest_secret) {
                        let paired =
                            settle(self.writer, &target.transport, verdicts, requests, actions);
                        self.result.receipted = self.result.receipted.saturating_add(paired);
                    }
                }
            }
        }
    }

    /// Compares each hidden path with all requests that it may stand for.
    fn compare_hidden_paths(&mut self) {
        if self.writer == Writer::OldPipelock || !self.redacts {
            return;
        }
        for (signed, actions) in &self.actions {
            if signed.path != Path::Hidden || actions.count() == 0 {
                continue;
            }
            let mut seen = Requests::default();
            for (target, requests) in &self.asked.requests {
                if requests.count() > 0 && target.may_be(signed, self.shortest_secret) {
                    seen.merge(requests);
                }
            }
            if seen.count() > 0 {
                compare_signed(
                    self.writer,
                    signed,
                    &seen,
                    actions,
                    self.tolerance,
                    self.result,
                );
            }
        }
    }

    /// Pairs actions with a hidden host by transport. Pipelock hides and denies a host that contains a secret.
    fn by_transport(&mut self) {
        let requests = self.asked.requests.iter_mut();
        let all = requests
            .map(|(target, requests)| (target.transport.as_str(), requests))
            .chain(
                self.asked
                    .nameless
                    .iter_mut()
                    .map(|(transport, requests)| (transport.as_str(), requests)),
            );
        for (transport, requests) in all {
            let Some(actions) = self.hidden.get_mut(transport) else {
                continue;
            };
            if !self.redacts {
                continue;
            }
            let (_, not_through) = ORDER.split_at(LET_THROUGH);
            let paired = settle(self.writer, transport, not_through, requests, actions);
            self.result.receipted = self.result.receipted.saturating_add(paired);
        }
    }

    /// Pairs the remaining requests and actions by host and transport. Each pair is a disagreement, because the
    /// mediator signed a target other than the one that the relay requested.
    fn by_host(&mut self) {
        let mut left: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (signed, actions) in &self.actions {
            tally::some(&mut left, signed.coarse(), actions.count());
        }
        let mut altered: BTreeMap<(String, String), u64> = BTreeMap::new();
        for (target, requests) in &mut self.asked.requests {
            let Some(count) = left.get_mut(&target.coarse()) else {
                continue;
            };
            let here = requests.count().min(*count);
            *count = count.saturating_sub(here);
            take(&mut requests.fates, here);
            self.result.receipted = self.result.receipted.saturating_add(here);
            self.result.disagree(Disagreement::OtherTarget, here);
            let (transport, host) = target.coarse();
            let key = (transport.to_owned(), host.to_owned());
            tally::some(&mut altered, key, here);
        }
        for (signed, actions) in &mut self.actions {
            let (transport, host) = signed.coarse();
            if let Some(rest) = altered.get_mut(&(transport.to_owned(), host.to_owned())) {
                let here = actions.count().min(*rest);
                *rest = rest.saturating_sub(here);
                take(&mut actions.endings, here);
            }
        }
    }

    fn leftover(self) {
        let result = self.result;
        let all = self.asked.requests.iter();
        let all = all.map(|(target, requests)| (target.transport.as_str(), requests));
        let nameless = self.asked.nameless.iter();
        let nameless = nameless.map(|(transport, requests)| (transport.as_str(), requests));
        for (transport, requests) in all.chain(nameless) {
            let mut through = requests.through();
            if self.writer == Writer::OldPipelock {
                // An older Pipelock signs only requests that ended without an error, and accepts a WebSocket before it
                // connects.
                let mut unsigned = requests
                    .of(Fate::Opened)
                    .saturating_add(requests.of(Fate::Agreed));
                if transport == "websocket" {
                    unsigned = through;
                }
                through = through.saturating_sub(unsigned);
                if unsigned > 0 {
                    let reason = String::from("cut, or agreed to before the dial");
                    tally::some(&mut result.without_receipt, reason, unsigned);
                }
            }
            result.unsigned = result.unsigned.saturating_add(through);
            // These mediators sign every denial before they answer, and an intent before they connect.
            if self.writer != Writer::OldPipelock {
                let answered = requests
                    .of(Fate::Denied)
                    .saturating_add(requests.of(Fate::Failed));
                result.disagree(Disagreement::DenialUnsigned, answered);
            }
            let mut others = requests.count().saturating_sub(requests.through());
            for (reason, count) in &requests.reasons {
                let here = others.min(*count);
                others = others.saturating_sub(here);
                if here > 0 {
                    tally::some(&mut result.without_receipt, reason.clone(), here);
                }
            }
        }
        let extra = self.actions.values().chain(self.hidden.values());
        for actions in extra {
            result.unasked = result.unasked.saturating_add(actions.count());
        }
    }
}

/// Whether this mediator may leave out the parts that are missing in this target. Only an older Pipelock leaves out the
/// port of a tunnel, and no mediator leaves out a scheme.
fn may_leave_out(writer: Writer, redacts: bool, signed: &Target) -> bool {
    let has_port = signed.port.is_some() || writer == Writer::OldPipelock;
    has_port && !signed.scheme.is_empty() && (redacts || signed.path != Path::Hidden)
}

/// Pairs requests of these fates with matching actions, and returns the number of pairs.
fn settle(
    writer: Writer,
    transport: &str,
    fates: &[Fate],
    requests: &mut Requests,
    actions: &mut Actions,
) -> u64 {
    let mut paired = 0_u64;
    for fate in fates {
        for ending in writer.fitting(transport, *fate) {
            let (Some(asked), Some(signed)) = (
                requests.fates.get_mut(fate),
                actions.endings.get_mut(ending),
            ) else {
                continue;
            };
            let both = (*asked).min(*signed);
            *asked = asked.saturating_sub(both);
            *signed = signed.saturating_sub(both);
            paired = paired.saturating_add(both);
        }
    }
    paired
}

/// Removes the rest of one target from both sides, because it does not match. Returns the kinds of
/// disagreement, and the count of each.
fn contradicted(requests: &mut Requests, actions: &mut Actions) -> [(Disagreement, u64); 3] {
    let both = requests.count().min(actions.count());
    let through = requests.through().min(both);
    let rest = both.saturating_sub(through);
    // `take` subtracts in the order of the fates, so requests that went through are removed first.
    let denied = requests.of(Fate::Denied).min(rest);
    take(&mut actions.endings, both);
    take(&mut requests.fates, both);
    [
        (Disagreement::ThroughButDenied, through),
        (Disagreement::DeniedButAllowed, denied),
        (Disagreement::FailedOtherwise, rest.saturating_sub(denied)),
    ]
}

/// Subtracts `wanted` from the counts in their order.
pub(super) fn take<K>(counts: &mut BTreeMap<K, u64>, mut wanted: u64) {
    for count in counts.values_mut() {
        let here = wanted.min(*count);
        *count = count.saturating_sub(here);
        wanted = wanted.saturating_sub(here);
    }
}
