//! Operators that change several parts of a node together: any element of a list, a list and its number, or two words.
use super::json::Json;
use super::packet::OF_THE_CHAIN;

/// Reasons of the relay, which its rows state as free text.
const RELAY_REASONS: [&str; 12] = [
    "client_hello",
    "client_silent",
    "idle",
    "loopback",
    "malformed_target",
    "name_mismatch",
    "no_answer",
    "not_a_proxy_request",
    "not_tls",
    "not_tls_or_http",
    "port_not_allowed",
    "stopped",
];

/// Returns every version of a list in which one element is removed or repeated, or exchanged with the next one.
pub(super) fn of_list(items: &[Json]) -> Vec<(String, Json)> {
    let mut all = Vec::new();
    let version = |change: &dyn Fn(&mut Vec<Json>)| {
        let mut items = items.to_vec();
        change(&mut items);
        Json::Array(items)
    };
    for (at, item) in items.iter().enumerate() {
        let removed = version(&|items| drop(items.remove(at)));
        all.push((format!("element_removed={at}"), removed));
        let twice = version(&|items| items.insert(at, item.clone()));
        all.push((format!("element_twice={at}"), twice));
        if at + 1 < items.len() {
            let swapped = version(&|items| items.swap(at, at + 1));
            all.push((format!("element_swapped={at}"), swapped));
        }
    }
    all
}

/// Returns versions of an object in which a list is shorter and a number next to it agrees, or in which one number is
/// larger and the next one is smaller by the same amount. Leaves out numbers that depend on the position in a chain.
pub(super) fn of_numbers(members: &[(String, Json)]) -> Vec<(String, Json)> {
    let number = |value: &Json| match value {
        Json::Leaf(raw) => raw.parse::<i64>().ok(),
        Json::Array(_) | Json::Object(_) => None,
    };
    let numbers: Vec<(usize, i64)> = members
        .iter()
        .enumerate()
        .filter(|(_, (name, _))| !OF_THE_CHAIN.contains(&name.as_str()))
        .filter_map(|(at, (_, value))| Some((at, number(value)?)))
        .collect();
    let name = |at: usize| members.get(at).map_or("", |(name, _)| name.as_str());
    let put = |changes: Vec<(usize, Json)>| {
        let mut members = members.to_vec();
        for (at, value) in changes {
            if let Some((_, there)) = members.get_mut(at) {
                *there = value;
            }
        }
        Json::Object(members)
    };
    let mut all = Vec::new();
    for (at, (list, value)) in members.iter().enumerate() {
        let Json::Array(items) = value else { continue };
        let Some((_, rest)) = items.split_last() else {
            continue;
        };
        for (counted, number) in &numbers {
            let by = if name(*counted).ends_with("left_out") {
                1
            } else {
                -1
            };
            let shorter = (at, Json::Array(rest.to_vec()));
            let version = put(vec![shorter, (*counted, Json::number(number + by))]);
            all.push((format!("shorter={list},{}", name(*counted)), version));
        }
    }
    for pair in numbers.windows(2) {
        if let [(one, more), (other, less)] = pair {
            let changes = vec![
                (*one, Json::number(more.saturating_add(1))),
                (*other, Json::number(less.saturating_sub(1))),
            ];
            all.push((
                format!("moved={},{}", name(*other), name(*one)),
                put(changes),
            ));
        }
    }
    all
}

/// Returns versions of an object with other words for `verdict` and `reason` together. The two lists have the words of
/// its format.
pub(super) fn of_verdict(
    object: &Json,
    verdicts: &[String],
    reasons: &[String],
) -> Vec<(String, Json)> {
    if object.member("verdict").is_none() || object.member("reason").is_none() {
        return Vec::new();
    }
    let relay = RELAY_REASONS.map(str::to_owned);
    let reasons = if reasons.is_empty() { &relay } else { reasons };
    let pairs = verdicts
        .iter()
        .flat_map(|verdict| reasons.iter().map(move |reason| (verdict, reason)));
    pairs
        .map(|(verdict, reason)| {
            let mut version = object.clone();
            version.set("verdict", Json::string(verdict));
            version.set("reason", Json::string(reason));
            (format!("both={verdict},{reason}"), version)
        })
        .collect()
}
