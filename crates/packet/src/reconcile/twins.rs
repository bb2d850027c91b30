//! Compares the two versions in which a Pipelock signs each decision.
use std::collections::HashMap;

use pipelock_receipts::check::Seen;

use super::receipt::digest;
use super::times::{Tolerance, millis, widen};

/// Action types of version 2 receipts.
const FRAME: &str = "websocket_frame";
const REQUEST: &str = "http_request";
/// Layer of a denial by the kill switch. Version 2 receipts name this source; all others name the scanner.
const KILL_SWITCH: &str = "kill_switch";
const SCANNER: &str = "scanner";

/// The receipts of both versions with the same members.
#[derive(Debug, Clone, Copy, Default)]
struct Twin {
    /// Number of version 1 receipts minus version 2 receipts.
    rest: i64,
    /// Times of the version 1 receipts, and of the version 2 receipts.
    times: [Option<(i64, i64)>; 2],
}

/// The receipts of both versions, by the digest of the members that both have.
#[derive(Debug, Clone, Default)]
pub(super) struct Twins {
    by_members: HashMap<u128, Twin>,
    /// Numbers of version 1 receipts of decisions and of version 2 receipts.
    pub(super) decisions: u64,
    pub(super) count: u64,
}

impl Twins {
    /// Counts one receipt. A version 1 receipt is counted by the members that its version 2 receipt has.
    pub(super) fn see(&mut self, seen: &Seen<'_>) {
        let [transport, target, verdict] =
            ["transport", "target", "verdict"].map(|name| seen.text(name));
        let policy = seen.of_receipt("policy_hash");
        let policy = policy.strip_prefix("sha256:").unwrap_or(policy);
        let (action, source) = if seen.is_twin {
            (seen.text("action_type"), seen.text("winning_source"))
        } else {
            let is_socket = transport == "websocket";
            let is_switch = seen.text("layer") == KILL_SWITCH;
            (
                if is_socket { FRAME } else { REQUEST },
                if is_switch { KILL_SWITCH } else { SCANNER },
            )
        };
        let members = [
            transport,
            target,
            verdict,
            seen.rule(),
            policy,
            action,
            source,
        ];
        let time = millis(seen.of_receipt("timestamp"));
        self.add(&members, time, seen.is_twin);
    }

    pub(super) fn add(&mut self, members: &[&str], time: Option<i64>, is_twin: bool) {
        let twin = self.by_members.entry(digest(members)).or_default();
        let [first, second] = &mut twin.times;
        let times = if is_twin {
            twin.rest = twin.rest.saturating_sub(1);
            self.count = self.count.saturating_add(1);
            second
        } else {
            twin.rest = twin.rest.saturating_add(1);
            self.decisions = self.decisions.saturating_add(1);
            first
        };
        if let Some(now) = time {
            widen(times, (now, now));
        }
    }

    /// Counts the receipts of one version without an equal receipt of the other version. A killed mediator may not have
    /// written the last receipts, so the numbers must be equal only if the session `is_closed`.
    pub(super) fn apart(&self, is_closed: bool, tolerance: Tolerance) -> u64 {
        let of = |is: fn(&i64) -> bool| {
            let rests = self.by_members.values().map(|twin| twin.rest).filter(is);
            rests.fold(0_u64, |sum, rest| sum.saturating_add(rest.unsigned_abs()))
        };
        let without_first = of(|rest| *rest < 0);
        let without_second = of(|rest| *rest > 0);
        let twins = self.by_members.values();
        let elsewhen = twins.filter(|twin| match twin.times {
            [Some(first), Some(second)] => {
                !(tolerance.contains(first, second)
                    && (!is_closed || tolerance.contains(second, first)))
            }
            _ => false,
        });
        let elsewhen = u64::try_from(elsewhen.count()).unwrap_or(u64::MAX);
        let without = if is_closed {
            without_first.max(without_second)
        } else {
            without_first
        };
        without.saturating_add(elsewhen)
    }
}
