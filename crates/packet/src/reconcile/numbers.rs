//! Compares the numbers and the times of the requests to one target with the numbers and times in the receipts.
use std::collections::BTreeMap;

use super::circumstances::Writer;
use super::disagreement::Disagreement;
use super::kernel::IN_BUFFERS;
use super::receipts::Actions;
use super::requests::Requests;
use super::result::Reconciliation;
use super::tally;
use super::target::Target;
use super::times::Tolerance;

/// Bytes that the buffers between relay and mediator can hold when a request ends normally.
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
    // The mediator wrote the layer in an answer if no origin can have written the answer.
    let is_tunnel = target.transport == "connect";
    if writer == Writer::Builtin || writer == Writer::Pipelock && is_tunnel {
        let other = missing(&requests.layers, &actions.layers);
        result.disagree(Disagreement::OtherLayer, other);
    }
    if actions.bytes < least_bytes(writer, target, requests, connections) {
        result.disagree(Disagreement::FewerBytes, 1);
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
    if actions.bytes > most_bytes(target, requests, connections) {
        result.disagree(Disagreement::MoreBytes, 1);
    }
    let other = other_statuses(writer, &target.transport, requests, actions);
    result.disagree(Disagreement::OtherStatus, other);
    let is_tunnel = match target.transport.as_str() {
        "forward" => false,
        "connect" | "websocket" => true,
        _ => return,
    };
    // By how many bytes the size in the relay's row may be below and above the signed size. Pipelock counts fewer bytes
    // than the relay.
    let slack = match writer {
        Writer::OldPipelock => return,
        _ if !is_tunnel => (0, 0),
        Writer::Builtin => (TUNNEL_SLACK, TUNNEL_SLACK),
        Writer::Pipelock => (TUNNEL_SLACK, u64::MAX),
    };
    let counts_both = is_tunnel || writer == Writer::Builtin;
    // The status that is signed for a tunnel or a WebSocket need not be that of its row.
    let signed = by_status(
        !is_tunnel,
        actions.sizes.iter().map(|(size, count)| (*size, *count)),
    );
    let seen = by_status(!is_tunnel, sizes(counts_both, requests));
    let other = signed.iter().fold(0_u64, |sum, (status, signed)| {
        let none = BTreeMap::new();
        sum.saturating_add(unmatched(signed, seen.get(status).unwrap_or(&none), slack))
    });
    result.disagree(
        Disagreement::OtherBytes,
        other.saturating_sub(requests.without_size),
    );
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
            let as_opened = [&actions.statuses, &actions.cut_with]
                .into_iter()
                .filter_map(|statuses| statuses.get(&TUNNEL_OPEN))
                .fold(0_u64, |sum, count| sum.saturating_add(*count));
            let most = requests.count().saturating_sub(requests.not_opened);
            let cut = except(&actions.cut_with, TUNNEL_OPEN).saturating_sub(not_opened);
            except(&actions.statuses, TUNNEL_OPEN)
                .saturating_add(cut)
                .saturating_add(as_opened.saturating_sub(most))
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

/// Returns the minimum number of bytes that a mediator must have counted. A mediator may not have read all of an upload
/// or of a tunnel that was cut, and Pipelock does not count all bytes of a tunnel.
fn least_bytes(writer: Writer, target: &Target, requests: &Requests, connections: u64) -> u64 {
    let (up, down) = requests.through_bytes;
    let (up_cut, down_cut) = requests.cut_bytes;
    let both = up.saturating_add(down);
    let slack = TUNNEL_SLACK.saturating_mul(connections);
    match (writer, target.transport.as_str()) {
        (Writer::Builtin, "connect" | "websocket") => {
            let cut = up_cut.saturating_add(down_cut);
            both.saturating_add(cut)
                .saturating_sub(IN_BUFFERS.saturating_mul(requests.cut))
                .saturating_sub(slack)
        }
        (Writer::Builtin, "forward") => {
            let answers = down.saturating_add(down_cut).saturating_sub(slack);
            let uploads = IN_BUFFERS.saturating_mul(connections);
            answers.max(both.saturating_sub(uploads))
        }
        (Writer::Pipelock, "forward") => down.saturating_sub(slack),
        _ => 0,
    }
}

/// Returns the maximum number of bytes that a mediator may have counted. If a request did not end normally, the relay
/// may not have read all bytes that the mediator sent. A Pipelock answers a fetch with a document that it builds from
/// the page, and counts the bytes of the page.
fn most_bytes(target: &Target, requests: &Requests, connections: u64) -> u64 {
    let cut = match target.transport.as_str() {
        "fetch" => connections,
        _ => requests.without_size,
    };
    requests
        .bytes
        .saturating_add(IN_BUFFERS.saturating_mul(cut))
        .saturating_add(TUNNEL_SLACK.saturating_mul(connections))
}

/// Returns the status, the size, and the number of the requests that ended normally. The size counts the bytes of both
/// directions, or only of the answers.
fn sizes(counts_both: bool, requests: &Requests) -> impl Iterator<Item = ((u16, u64), u64)> {
    let sizes = requests.sizes.iter();
    sizes.map(move |((status, up, down), count)| {
        let up = if counts_both { *up } else { 0 };
        ((*status, up.saturating_add(*down)), *count)
    })
}

/// Groups sizes by status, or puts all of them under the status 0.
fn by_status(
    is_by_status: bool,
    sizes: impl Iterator<Item = ((u16, u64), u64)>,
) -> BTreeMap<u16, BTreeMap<u64, u64>> {
    let mut groups: BTreeMap<u16, BTreeMap<u64, u64>> = BTreeMap::new();
    for ((status, size), count) in sizes {
        let status = if is_by_status { status } else { 0 };
        tally::some(groups.entry(status).or_default(), size, count);
    }
    groups
}

/// Counts the sizes in `signed` that have no counterpart in `seen`. A counterpart is at most `below` smaller and at
/// most `above` larger.
fn unmatched(
    signed: &BTreeMap<u64, u64>,
    seen: &BTreeMap<u64, u64>,
    (below, above): (u64, u64),
) -> u64 {
    let mut seen = seen.iter().map(|(size, count)| (*size, *count)).peekable();
    let mut alone = 0_u64;
    for (size, count) in signed {
        let mut wanted = *count;
        while wanted > 0
            && let Some((there, left)) = seen.peek_mut()
            && *there <= size.saturating_add(above)
        {
            if there.saturating_add(below) >= *size {
                let both = wanted.min(*left);
                wanted = wanted.saturating_sub(both);
                *left = left.saturating_sub(both);
                if *left > 0 {
                    break;
                }
            }
            seen.next();
        }
        alone = alone.saturating_add(wanted);
    }
    alone
}

/// Counts the entries of `signed` that are not in `seen`.
fn missing<K: Ord>(signed: &BTreeMap<K, u64>, seen: &BTreeMap<K, u64>) -> u64 {
    signed.iter().fold(0_u64, |sum, (key, count)| {
        let there = seen.get(key).copied().unwrap_or(0);
        sum.saturating_add(count.saturating_sub(there))
    })
}
