//! Compares the numbers and the times of the requests to one target with the numbers and times in the receipts.
use std::collections::BTreeMap;

use super::circumstances::Writer;
use super::disagreement::Disagreement;
use super::kernel::IN_BUFFERS;
use super::receipts::{Actions, Ending};
use super::requests::{Fate, Requests};
use super::result::Reconciliation;
use super::tally;
use super::target::Target;
use super::times::Tolerance;

/// Bytes that the buffers between relay and mediator can hold when one side closes a tunnel abruptly.
const TUNNEL_SLACK: u64 = 16 << 10;
/// Status of a tunnel that was opened.
const TUNNEL_OPEN: u16 = 200;
/// Codes with which a Pipelock closes a WebSocket: after a normal end, and because of a message or an address.
const CLOSE_NORMAL: u16 = 1000;
const CLOSE_BY_POLICY: u16 = 1008;

/// Compares the status, the bytes, the layers, and the times of one target.
pub(super) fn compare(
    writer: Writer,
    target: &Target,
    requests: &Requests,
    actions: &Actions,
    tolerance: Tolerance,
    result: &mut Reconciliation,
) {
    compare_signed(writer, target, requests, actions, tolerance, result);
    let connections = requests.count().max(actions.count());
    if writer == Writer::Builtin {
        let other = missing(&requests.layers, &actions.layers);
        result.disagree(Disagreement::OtherLayer, other);
    }
    let (least, slack) = least_bytes(writer, target, requests);
    if actions
        .bytes
        .saturating_add(slack.saturating_mul(connections))
        < least
    {
        result.disagree(Disagreement::FewerBytes, 1);
    }
    let complete = actions.endings.get(&Ending::Complete).copied().unwrap_or(0);
    let is_whole =
        complete == requests.forwarded() && complete == connections && actions.sized == complete;
    let apart = actions.bytes.abs_diff(requests.bytes);
    if writer == Writer::Builtin
        && matches!(target.transport.as_str(), "connect" | "websocket")
        && is_whole
        && apart > TUNNEL_SLACK.saturating_mul(connections)
    {
        result.disagree(Disagreement::OtherBytes, connections);
    }
}

/// Compares the receipts for one target with requests to it. The requests may include requests that are not signed for
/// this target.
pub(super) fn compare_signed(
    writer: Writer,
    target: &Target,
    requests: &Requests,
    actions: &Actions,
    tolerance: Tolerance,
    result: &mut Reconciliation,
) {
    if let (Some(asked), Some(mut signed), Some(decided)) =
        (requests.times, actions.times, actions.decided)
    {
        // A busy Pipelock signs the receipts that follow a decision late. A busy Pipelock also
        // continues to scan after the relay dropped a request.
        signed.1 = match writer {
            Writer::Builtin => signed.1,
            Writer::Pipelock | Writer::OldPipelock if requests.given_up > 0 => asked.1,
            Writer::Pipelock | Writer::OldPipelock => decided.1,
        };
        if !tolerance.contains(asked, signed) || !tolerance.allows_back(actions.went_back) {
            result.disagree(Disagreement::OtherTime, 1);
        }
    }
    let connections = requests.count().max(actions.count());
    let most = IN_BUFFERS
        .saturating_mul(connections)
        .saturating_add(requests.bytes);
    if actions.bytes > most {
        result.disagree(Disagreement::MoreBytes, 1);
    }
    let other = other_statuses(writer, &target.transport, requests, actions);
    result.disagree(Disagreement::OtherStatus, other);
    let is_forward = target.transport == "forward";
    if is_forward && let Some(sizes) = comparable_sizes(writer, requests) {
        let not_through = requests.count().saturating_sub(requests.of(Fate::Through));
        let other = missing(&actions.sizes, &sizes);
        result.disagree(Disagreement::OtherBytes, other.saturating_sub(not_through));
    }
}

/// Counts the signed statuses of one target that contradict the statuses of its requests.
fn other_statuses(writer: Writer, transport: &str, requests: &Requests, actions: &Actions) -> u64 {
    let except = |statuses: &BTreeMap<u16, u64>, expected: u16| {
        let other = statuses.iter().filter(|(status, _)| **status != expected);
        other.fold(0_u64, |sum, (_, count)| sum.saturating_add(*count))
    };
    let unseen = |statuses: &[&BTreeMap<u16, u64>]| {
        let mut all = BTreeMap::new();
        for (status, count) in statuses.iter().copied().flatten() {
            tally::some(&mut all, *status, *count);
        }
        missing(&all, &requests.statuses).saturating_sub(requests.without_status)
    };
    match (transport, writer) {
        ("forward", _) | ("websocket", Writer::Builtin) => {
            unseen(&[&actions.statuses, &actions.cut_with, &actions.failed_with])
        }
        ("connect", _) => {
            let opened = requests.statuses.get(&TUNNEL_OPEN).copied().unwrap_or(0);
            let not_opened = requests.count().saturating_sub(opened);
            let cut = except(&actions.cut_with, TUNNEL_OPEN).saturating_sub(not_opened);
            except(&actions.statuses, TUNNEL_OPEN)
                .saturating_add(cut)
                .saturating_add(unseen(&[&actions.failed_with]))
        }
        // A Pipelock signs the code with which it closes the WebSocket.
        ("websocket", Writer::Pipelock) => except(&actions.statuses, CLOSE_NORMAL)
            .saturating_add(except(&actions.cut_with, CLOSE_BY_POLICY)),
        // The status of a complete fetch is in the body of the answer.
        ("fetch", Writer::Pipelock) => unseen(&[&actions.cut_with, &actions.failed_with]),
        _ => 0,
    }
}

/// Returns the minimum number of bytes that a mediator must have counted, and the tolerance for
/// each connection. A mediator may not have read all of an upload, and Pipelock does not count all
/// bytes of a tunnel.
fn least_bytes(writer: Writer, target: &Target, requests: &Requests) -> (u64, u64) {
    let (up, down) = requests.through_bytes;
    let both = up.saturating_add(down);
    match (writer, target.transport.as_str()) {
        (Writer::Builtin, "connect" | "websocket") => (both, TUNNEL_SLACK),
        (Writer::Builtin, "forward") if up > IN_BUFFERS => (both, IN_BUFFERS),
        (Writer::Builtin | Writer::Pipelock, "forward") => (down, TUNNEL_SLACK),
        _ => (0, 0),
    }
}

/// Returns the sizes of the requests that went through, as the mediator counts them. The built-in
/// mediator adds both directions, and Pipelock counts the answer. Returns `None` if the sizes are
/// unknown.
fn comparable_sizes(writer: Writer, requests: &Requests) -> Option<BTreeMap<u64, u64>> {
    let mut sizes = BTreeMap::new();
    for ((up, down), count) in &requests.sizes {
        let size = match writer {
            Writer::Builtin => up.saturating_add(*down),
            Writer::Pipelock => *down,
            Writer::OldPipelock => return None,
        };
        tally::some(&mut sizes, size, *count);
    }
    Some(sizes)
}

/// Counts the entries of `signed` that are not in `seen`.
fn missing<K: Ord>(signed: &BTreeMap<K, u64>, seen: &BTreeMap<K, u64>) -> u64 {
    signed.iter().fold(0_u64, |sum, (key, count)| {
        let there = seen.get(key).copied().unwrap_or(0);
        sum.saturating_add(count.saturating_sub(there))
    })
}
