//! Checks the times of the built-in mediator's heartbeats.
use std::time::Duration;

use pipelock_receipts::check::Seen;

use super::times::{Tolerance, millis};

/// The heartbeats of all sessions.
#[derive(Debug, Clone, Default)]
pub(super) struct Beats {
    /// Intervals that the sessions state, in s. An interval that repeats the previous one is left out.
    intervals: Vec<u64>,
    /// Interval of the last session, in ms.
    interval: i64,
    /// Time of the last session record, Unix ms.
    last: Option<i64>,
    /// The longest time by which a heartbeat, or the close, is later or earlier than the interval requires, in ms.
    apart: i64,
}

impl Beats {
    /// Reads one session record of version 1.
    pub(super) fn see(&mut self, seen: &Seen<'_>) {
        if let Some(seconds) = seen.heartbeat_seconds() {
            if self.intervals.last() != Some(&seconds) {
                self.intervals.push(seconds);
            }
            self.interval = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        }
        let now = millis(seen.text("timestamp"));
        if let (Some(last), Some(now)) = (self.last, now) {
            let late = now.saturating_sub(last).saturating_sub(self.interval);
            let apart = match seen.session_kind() {
                "heartbeat" => i64::try_from(late.unsigned_abs()).unwrap_or(i64::MAX),
                // A session may close at any time before its next heartbeat.
                "close" => late,
                _ => 0,
            };
            self.apart = self.apart.max(apart);
        }
        self.last = now;
    }

    /// Returns how far the heartbeats are from the times at which the mediator writes them, in s.
    pub(super) fn apart(&self, tolerance: Tolerance) -> u64 {
        tolerance.beyond((0, 0), (0, self.apart))
    }

    /// Returns how often the sessions change to an interval other than that of the policy.
    pub(super) fn unlike(&self, policy: Option<Duration>) -> u64 {
        let Some(expected) = policy.map(|policy| policy.as_secs().max(1)) else {
            return 0;
        };
        let other = self.intervals.iter().filter(|one| **one != expected);
        u64::try_from(other.count()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use pipelock_receipts::chain::Trust;
    use pipelock_receipts::check::{EvidenceFile, check_evidence_visiting};
    use serde_json::{Value, json};

    use super::*;

    fn record(kind: &str, time: &str) -> Value {
        let (name, facts) = match kind {
            "session_open" => ("open", json!({"heartbeat_seconds": 60})),
            "session_close" => ("close", json!({})),
            _ => ("heartbeat", json!({"heartbeat_time": time})),
        };
        let control = json!({"kind": kind, name: facts});
        json!({"timestamp": time, "session_control": control})
    }

    /// Returns the time by which the heartbeats of a session are apart, in s.
    fn apart(records: &[(&str, &str)], clock_set_ms: u64) -> u64 {
        let mut lines = String::new();
        for (seq, (kind, time)) in records.iter().enumerate() {
            let entry = json!({
                "v": 2, "seq": seq, "ts": time, "session_id": "proxy", "type": "action_receipt",
                "prev_hash": "genesis", "hash": "00", "detail": {"action_record": record(kind, time)},
            });
            lines.push_str(&entry.to_string());
            lines.push('\n');
        }
        let file = EvidenceFile {
            name: "evidence.jsonl",
            bytes: lines.as_bytes(),
        };
        let mut beats = Beats::default();
        check_evidence_visiting(&[file], &Trust::default(), &mut |seen| beats.see(seen));
        for (seconds, changes) in [(60, 0), (61, 1)] {
            let policy = Some(Duration::from_secs(seconds));
            assert_eq!(beats.unlike(policy), changes, "{seconds}");
        }
        assert_eq!(beats.unlike(None), 0);
        beats.apart(Tolerance::new(clock_set_ms))
    }

    #[test]
    fn heartbeats_keep_their_interval() {
        let open = ("session_open", "2026-11-24T10:00:00Z");
        let beat = |time| ("heartbeat", time);
        let close = |time| ("session_close", time);
        let (first, second) = ("2026-11-24T10:01:00Z", "2026-11-24T10:02:10Z");
        for (records, expected) in [
            (vec![open, close("2026-11-24T10:00:03Z")], 0),
            (vec![open, beat(first), beat(second), close(second)], 0),
            // The second heartbeat is missing.
            (vec![open, beat(first), beat("2026-11-24T10:03:00Z")], 60),
            // All heartbeats are missing.
            (vec![open, close("2026-11-24T10:05:00Z")], 240),
            // A heartbeat that nothing required.
            (vec![open, beat("2026-11-24T10:00:01Z")], 59),
            (vec![open, beat(first), beat(first)], 60),
        ] {
            assert_eq!(apart(&records, 0), expected, "{records:?}");
            assert_eq!(apart(&records, 300_000), 0, "{records:?}");
        }
    }
}
