//! Compares the two recorders: what the relay asked the mediator, in the flow log, and what the
//! mediator signed.
//!
//! No receipt names the client, so both sides are compared by transport and host: as many requests
//! as actions, or a named reason. What has neither is a loss. Kernel and relay name each connection
//! alike, so one that the kernel redirected is looked for among the relay's rows; those that the log holds
//! as a number alone are compared by number.
use std::collections::{BTreeMap, BTreeSet};

use crate::receipt::check::Seen;
use crate::receipt::json::Node;
use crate::receipt::target_host;

type Key = (String, String);

/// The actions that the receipts sign, by transport and host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipts {
    seen: BTreeSet<String>,
    actions: BTreeMap<Key, u64>,
    /// Actions whose target was redacted, by transport.
    hidden: BTreeMap<String, u64>,
}

impl Receipts {
    /// Takes one receipt. An intent and its outcome are one action, as are the frames of a socket.
    pub fn see(&mut self, seen: &Seen<'_>) {
        if !seen.is_session {
            let [transport, target, id, layer] =
                ["transport", "target", "action_id", "layer"].map(|name| seen.text(name));
            self.add(transport, target, id, layer);
        }
    }

    fn add(&mut self, transport: &str, target: &str, id: &str, layer: &str) {
        let is_frame =
            transport == "websocket" && matches!(layer, "ws_protocol" | "dlp" | "response_scan");
        if is_frame || !self.seen.insert(format!("{transport} {id}")) {
            return;
        }
        let count = match target_host(target) {
            Some(host) => self
                .actions
                .entry((transport.to_owned(), host))
                .or_default(),
            None => self.hidden.entry(transport.to_owned()).or_default(),
        };
        *count = count.saturating_add(1);
    }
}

/// What the comparison says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciliation {
    /// Requests and tunnels that the mediator was asked for.
    pub asked: u64,
    /// Those that have a receipt.
    pub receipted: u64,
    /// Those that have none, by the reason that the relay saw.
    pub without_receipt: BTreeMap<String, u64>,
    /// Those that went through and have none: a loss.
    pub unsigned: u64,
    /// Receipts that no request of the relay explains: a loss.
    pub unasked: u64,
    /// Connections that the kernel redirected and no row of the relay shows: a loss.
    pub unseen: u64,
    /// Connections that the relay refused without asking, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Attempts by the kernel's verdict.
    pub kernel: BTreeMap<String, u64>,
}

/// Requests of one transport to one host.
#[derive(Debug, Default)]
struct Asked {
    through: u64,
    /// Reasons of the ones that did not go through.
    others: Vec<String>,
}

/// Which rows there are of a connection.
#[derive(Debug, Default)]
struct Rows {
    /// The kernel's: that it was redirected.
    redirected: bool,
    /// The kernel's: that it went to the explicit proxy.
    proxy: bool,
    /// One of the relay's or more.
    served: bool,
}

/// Reads the flow log as it passes by.
#[derive(Debug, Default)]
pub(super) struct Reconciler {
    asked: BTreeMap<Key, Asked>,
    /// Connections by cookie and time. Either row may come first.
    connections: BTreeMap<(u64, u64), Rows>,
    /// Redirected connections that the kernel's rows only count.
    redirected_more: u64,
    /// Connections that the relay took and could not tell whose they were.
    nameless: u64,
    result: Reconciliation,
}

impl Reconciler {
    pub(super) fn see(&mut self, row: &Node<'_>) {
        match row.member_text("source") {
            "kernel" => {
                self.kernel(row, 1);
                if let Some(connection) = connection(row) {
                    match row.member_text("verdict") {
                        "redirected" => self.rows(connection).redirected = true,
                        "proxy" => self.rows(connection).proxy = true,
                        _ => {}
                    }
                }
            }
            // The first of them is a row of its own.
            "kernel_repeats" => {
                let count = row.member_unsigned("count").unwrap_or(0);
                let more = count.saturating_sub(1);
                self.kernel(row, more);
                if row.member_text("verdict") == "redirected" {
                    self.redirected_more = self.redirected_more.saturating_add(more);
                }
            }
            "relay" => self.relay(row),
            _ => {}
        }
    }

    fn rows(&mut self, connection: (u64, u64)) -> &mut Rows {
        self.connections.entry(connection).or_default()
    }

    fn kernel(&mut self, row: &Node<'_>, count: u64) {
        let verdict = row.member_text("verdict").to_owned();
        let counted = self.result.kernel.entry(verdict).or_default();
        *counted = counted.saturating_add(count);
    }

    fn relay(&mut self, row: &Node<'_>) {
        let reason = match (row.member_text("reason"), row.member_unsigned("status")) {
            ("", Some(status)) => format!("status {status}"),
            (reason, Some(status)) => format!("{reason}, status {status}"),
            (reason, None) => reason.to_owned(),
        };
        match connection(row) {
            Some(connection) => self.rows(connection).served = true,
            None => self.nameless = self.nameless.saturating_add(1),
        }
        let transport = row.member_text("transport");
        if transport.is_empty() {
            let counted = self.result.refused.entry(reason).or_default();
            *counted = counted.saturating_add(1);
            return;
        }
        self.result.asked = self.result.asked.saturating_add(1);
        let host = row.member_text("host").trim_end_matches('.').to_lowercase();
        let asked = self.asked.entry((transport.to_owned(), host)).or_default();
        if row.member_text("verdict") == "forwarded" {
            asked.through = asked.through.saturating_add(1);
        } else {
            asked.others.push(reason);
        }
    }

    /// Compares with the receipts.
    pub(super) fn finish(self, receipts: &Receipts) -> Reconciliation {
        let mut result = self.result;
        let of = |is: fn(&Rows) -> bool| {
            count(self.connections.values().filter(|rows| is(rows)).count())
        };
        let missing = of(|rows| rows.redirected && !rows.served);
        let unnamed = of(|rows| rows.served && !rows.redirected && !rows.proxy);
        result.unseen = missing
            .saturating_add(self.redirected_more.saturating_sub(unnamed))
            .saturating_sub(self.nameless);
        let mut actions = receipts.actions.clone();
        let mut hidden = receipts.hidden.clone();
        // A receipt of an intercepted request stands for its tunnel, which has none of its own.
        let intercepted: BTreeSet<String> = actions
            .keys()
            .filter(|(transport, _)| transport == "intercept")
            .map(|(_, host)| host.clone())
            .collect();
        for ((transport, host), asked) in self.asked {
            if transport == "connect" && intercepted.contains(&host) {
                let all = asked.through.saturating_add(count(asked.others.len()));
                result.receipted = result.receipted.saturating_add(all);
                actions.remove(&(String::from("intercept"), host.clone()));
                actions.remove(&(transport, host));
                continue;
            }
            let mut signed = take(&mut actions, &transport, &host);
            let wanted = asked.through.saturating_add(count(asked.others.len()));
            let open = hidden.entry(transport.clone()).or_default();
            let from_hidden = wanted.saturating_sub(signed).min(*open);
            *open = open.saturating_sub(from_hidden);
            signed = signed.saturating_add(from_hidden);
            result.unasked = result.unasked.saturating_add(signed.saturating_sub(wanted));
            result.receipted = result.receipted.saturating_add(signed.min(wanted));
            // What went through is served first: only what is left then has no receipt.
            result.unsigned = result
                .unsigned
                .saturating_add(asked.through.saturating_sub(signed));
            let left = signed.saturating_sub(asked.through);
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            for reason in asked.others.into_iter().skip(left) {
                let counted = result.without_receipt.entry(reason).or_default();
                *counted = counted.saturating_add(1);
            }
        }
        let extra = actions.into_values().chain(hidden.into_values());
        result.unasked = extra.fold(result.unasked, u64::saturating_add);
        result
    }
}

/// The actions of a host. Names are kept as written by some mediators, with a final dot.
fn take(actions: &mut BTreeMap<Key, u64>, transport: &str, host: &str) -> u64 {
    let mut remove = |host: String| actions.remove(&(transport.to_owned(), host)).unwrap_or(0);
    remove(host.to_owned()).saturating_add(remove(format!("{host}.")))
}

/// What kernel and relay call one connection.
fn connection(row: &Node<'_>) -> Option<(u64, u64)> {
    let cookie = row.member_unsigned("cookie").filter(|cookie| *cookie != 0);
    cookie.zip(row.member_unsigned("connect_ns"))
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

impl Reconciliation {
    /// What is lost, in words; it lowers the grade.
    pub fn losses(&self) -> Vec<String> {
        [
            (
                self.unsigned,
                "requests went through of which no receipt was signed",
            ),
            (
                self.unasked,
                "receipts stand for nothing that the relay asked",
            ),
            (
                self.unseen,
                "redirected connections are in no row of the relay",
            ),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::json::{MAX_DEPTH, parse};

    /// Receipts as transport, target, action id, layer; rows as transport, host, verdict, reason.
    fn compared(receipts: &[[&str; 4]], rows: &[[&str; 4]]) -> Reconciliation {
        let mut signed = Receipts::default();
        for [transport, target, id, layer] in receipts {
            signed.add(transport, target, id, layer);
        }
        let mut reconciler = Reconciler::default();
        for [transport, host, verdict, reason] in rows {
            let text = serde_json::json!({
                "source": "relay", "transport": transport, "host": host, "verdict": verdict, "reason": reason,
            })
            .to_string();
            reconciler.see(&parse(&text, MAX_DEPTH).unwrap());
        }
        reconciler.finish(&signed)
    }

    #[test]
    fn requests_and_actions_are_paired() {
        let both = compared(
            &[
                // An intent and its outcome; the port may be written or not.
                ["connect", "https://a.test:443/", "1", ""],
                ["connect", "https://a.test:443/", "1", "outcome"],
                ["connect", "https://A.test/", "2", ""],
                ["forward", "http://b.test/x", "3", "allowlist"],
                ["forward", "[redacted-target]", "4", "core_dlp"],
                ["websocket", "ws://c.test/", "5", "ws_protocol"],
                ["websocket", "ws://c.test/", "6", "session_close"],
                ["intercept", "https://d.test:443/1", "7", ""],
                ["intercept", "https://d.test:443/2", "8", ""],
            ],
            &[
                ["connect", "a.test", "forwarded", ""],
                ["connect", "a.test", "forwarded", ""],
                ["forward", "b.test", "blocked", "allowlist"],
                ["forward", "e.test", "blocked", "core_dlp"],
                ["websocket", "c.test", "forwarded", ""],
                ["connect", "d.test", "forwarded", ""],
            ],
        );
        assert_eq!((both.asked, both.receipted), (6, 6));
        assert_eq!(both.losses(), Vec::<String>::new());
        assert!(both.without_receipt.is_empty());
    }

    #[test]
    fn redirected_connections_are_looked_for_in_the_relays_rows() {
        let unseen = |rows: &[serde_json::Value]| {
            let mut reconciler = Reconciler::default();
            for row in rows {
                reconciler.see(&parse(&row.to_string(), MAX_DEPTH).unwrap());
            }
            let both = reconciler.finish(&Receipts::default());
            assert_eq!(both.losses().len(), usize::from(both.unseen > 0));
            both.unseen
        };
        let kernel = |verdict: &str, cookie: u64, at: u64| serde_json::json!({"source": "kernel", "verdict": verdict, "cookie": cookie, "connect_ns": at});
        let relay = |cookie: u64, at: u64| {
            serde_json::json!({
                "source": "relay", "cookie": cookie, "connect_ns": at, "verdict": "refused", "reason": "silent",
            })
        };
        let redirected = kernel("redirected", 7, 1);
        assert_eq!(unseen(&[redirected.clone(), relay(7, 1), relay(7, 1)]), 0);
        assert_eq!(unseen(&[relay(7, 1), redirected.clone()]), 0);
        // Another connection of the same socket is another connection.
        assert_eq!(unseen(&[redirected.clone(), relay(7, 2)]), 1);
        assert_eq!(unseen(std::slice::from_ref(&redirected)), 1);
        assert_eq!(unseen(&[redirected.clone(), relay(8, 1)]), 1);
        // One that the relay could not name accounts for one, and no more.
        let second = kernel("redirected", 9, 5);
        assert_eq!(unseen(&[redirected.clone(), second, relay(0, 0)]), 1);
        assert_eq!(unseen(&[redirected.clone(), relay(0, 0)]), 0);
        // What the log only counts is compared by number: the first of three has a row of its own.
        let more =
            serde_json::json!({"source": "kernel_repeats", "verdict": "redirected", "count": 3});
        let rows = [redirected.clone(), relay(7, 1), more.clone()];
        assert_eq!(unseen(&rows), 2);
        let rows = [&rows[..], &[relay(8, 1), relay(8, 1)]].concat();
        assert_eq!(unseen(&rows), 1);
        assert_eq!(unseen(&[&rows[..], &[relay(9, 1)]].concat()), 0);
        // One to the explicit proxy is none of them.
        assert_eq!(
            unseen(&[&rows[..], &[kernel("proxy", 9, 1), relay(9, 1)]].concat()),
            1
        );
        // What the kernel refused never came to the relay.
        assert_eq!(unseen(&[kernel("denied", 7, 1), kernel("local", 8, 1)]), 0);
    }

    #[test]
    fn every_loss_is_counted_and_none_is_hidden() {
        let lost = compared(
            &[
                ["connect", "https://a.test:443/", "1", ""],
                ["forward", "http://never.test/", "2", ""],
                ["forward", "[redacted-target]", "3", ""],
            ],
            &[
                ["connect", "a.test", "forwarded", ""],
                ["connect", "a.test", "forwarded", ""],
                ["connect", "b.test", "failed", "mediator_closed"],
                ["", "c.test", "refused", "port_not_allowed"],
            ],
        );
        assert_eq!((lost.asked, lost.receipted), (3, 1));
        assert_eq!((lost.unsigned, lost.unasked), (1, 2));
        assert_eq!(lost.without_receipt["mediator_closed"], 1);
        assert_eq!(lost.refused["port_not_allowed"], 1);
        assert_eq!(lost.losses().len(), 2);
    }
}
