//! Whether the flow log shows that the enforcement was in place from the start of the agent to its
//! end, and that nothing was lost.
use std::collections::BTreeSet;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::format::boundary::BoundaryDocument;
use super::format::rows::BeatRow;
use super::format::{BeatEvent, Row};

/// Reasons that are kept; more of the same say nothing new.
const KEPT: usize = 10;
/// The longest interval between heartbeats that a log may claim, s: with a longer one nothing would be shown.
const LONGEST_INTERVAL: u64 = 60;
/// Heartbeats may be late by this many times their interval: the machine may be busy.
const LATE_FACTOR: i64 = 3;

/// Reads the rows as they pass by.
#[derive(Debug)]
pub(super) struct Continuity {
    links: BTreeSet<u64>,
    programs: usize,
    beats: u64,
    last_beat: Option<OffsetDateTime>,
    gone: Option<OffsetDateTime>,
    ended: bool,
    reasons: Vec<String>,
}

impl Continuity {
    pub(super) fn new(measured: &BoundaryDocument) -> Self {
        Self {
            links: measured
                .programs
                .links
                .iter()
                .map(|link| u64::from(link.id))
                .collect(),
            programs: measured.programs.attached.len(),
            beats: 0,
            last_beat: None,
            gone: None,
            ended: false,
            reasons: Vec::new(),
        }
    }

    fn say(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        if self.reasons.len() < KEPT && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    pub(super) fn see(&mut self, row: &Row) {
        if self.ended {
            self.say("rows follow the end of the flow log");
        }
        match row {
            Row::Supervisor(row) if row.event == BeatEvent::Heartbeat => {
                self.beat(row);
                self.time(row, true);
                if self.gone.is_some() {
                    self.say("a heartbeat follows the agent's end");
                }
            }
            Row::Supervisor(row) if row.event == BeatEvent::AgentGone => {
                self.beat(row);
                self.nobody(row);
                self.gone = self.time(row, true);
            }
            Row::End(end) => {
                let row = end.beat();
                self.beat(&row);
                self.none(end.malformed, "kernel events that could not be read");
                self.nobody(&row);
                self.time(&row, false);
                self.ended = true;
            }
            Row::Kernel(_) | Row::Unix(_) | Row::DnsAnswer(_) if self.beats == 0 => {
                self.say("attempts stand before the first heartbeat");
            }
            Row::Kernel(_)
            | Row::Unix(_)
            | Row::DnsAnswer(_)
            | Row::KernelRepeats(_)
            | Row::UnixRepeats(_)
            | Row::KernelClose(_)
            | Row::KernelCloseTotal(_)
            | Row::KernelMediator(_)
            | Row::KernelMediatorTotal(_)
            | Row::KernelMediatorDenied(_)
            | Row::KernelMediatorDeniedRepeats(_)
            | Row::Relay(_)
            | Row::Resolver(_)
            | Row::Supervisor(_)
            | Row::Unknown(_) => {}
        }
    }

    /// The time of a look. One that `is_prompt` follows the one before in time.
    fn time(&mut self, row: &BeatRow, is_prompt: bool) -> Option<OffsetDateTime> {
        let time = OffsetDateTime::parse(&row.ts, &Rfc3339).ok();
        match (time, self.last_beat) {
            (None, _) => self.say("a heartbeat has no time"),
            (Some(now), Some(before)) => {
                let interval = row.interval_s.get();
                if interval == 0 || interval > LONGEST_INTERVAL {
                    self.say(format!("heartbeats are {interval} s apart"));
                }
                let interval = interval.min(LONGEST_INTERVAL);
                let most = i64::try_from(interval)
                    .unwrap_or(i64::MAX)
                    .saturating_mul(LATE_FACTOR);
                let passed = now.unix_timestamp().saturating_sub(before.unix_timestamp());
                if passed < 0 {
                    let back = passed.unsigned_abs();
                    self.say(format!(
                        "the clock was set back: a heartbeat lies {back} s before the last one"
                    ));
                } else if passed > most && is_prompt {
                    self.say(format!("no heartbeat for {passed} s"));
                }
            }
            (Some(_), None) => {}
        }
        self.last_beat = time.or(self.last_beat);
        time
    }

    /// One look at the enforcement.
    fn beat(&mut self, row: &BeatRow) {
        if row.beat != self.beats {
            self.say(format!("heartbeat {} is missing", self.beats));
        }
        self.beats = row.beat.saturating_add(1);
        let seen: BTreeSet<u64> = row.links.iter().copied().collect();
        if seen != self.links || seen.len() < self.programs || self.programs == 0 {
            self.say(format!(
                "{} of {} kernel programs were attached at a heartbeat",
                seen.intersection(&self.links).count(),
                self.programs
            ));
        }
        for (count, what) in [
            (row.unconfined, "processes of the agent without its filter"),
            (
                row.ring_full,
                "kernel events lost: the ring buffer was full",
            ),
            (
                row.relay_denied,
                "calls refused to the relay by its own gates",
            ),
        ] {
            self.none(count, what);
        }
    }

    fn none(&mut self, count: u64, what: &str) {
        if count > 0 {
            self.say(format!("{count} {what}"));
        }
    }

    fn nobody(&mut self, row: &BeatRow) {
        if row.processes > 0 {
            self.say("a process of the agent was left after its end");
        }
    }

    /// What is missing, in words; nothing when the enforcement was unbroken. `close` is when
    /// the receipts were closed, if they were.
    pub(super) fn finish(mut self, close: Option<&str>) -> Vec<String> {
        if self.beats == 0 {
            self.say("the flow log has no heartbeats");
        }
        let closed = close.map(|close| OffsetDateTime::parse(close, &Rfc3339));
        match (self.gone, closed) {
            (None, _) => self.say("the flow log does not show the agent's end"),
            (Some(_), Some(Err(_))) => self.say("the close of the receipts has no time"),
            (Some(gone), Some(Ok(close))) if gone > close => {
                self.say("the receipts were closed before the agent was gone");
            }
            (Some(_), _) => {}
        }
        if !self.ended {
            self.say("the flow log has no last row: its end is cut off");
        }
        self.reasons
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::format::boundary::{Link, Program, Programs};
    use pipelock_receipts::json::{MAX_DEPTH, parse};

    const CLOSE: &str = "2026-11-24T10:00:09Z";

    fn measured() -> BoundaryDocument {
        BoundaryDocument {
            programs: Programs {
                attached: vec![Program {
                    name: "connect4".into(),
                    id: 1,
                    tag: "aa".into(),
                    attach_type: 10,
                }],
                links: vec![Link {
                    id: 5,
                    program_id: 1,
                    attach_type: 10,
                    cgroup_id: 7,
                }],
                ..Programs::default()
            },
            ..BoundaryDocument::default()
        }
    }

    /// A look at the enforcement, `second` seconds in.
    fn beat(event: &str, number: u64, second: u64) -> Value {
        json!({
            "source": "supervisor", "event": event, "beat": number, "interval_s": 1, "links": [5],
            "ts": format!("2026-11-24T10:00:{second:02}Z"), "unconfined": 0, "ring_full": 0, "malformed": 0,
            "relay_denied": 0, "processes": 0,
        })
    }

    fn sound() -> Vec<Value> {
        vec![
            beat("heartbeat", 0, 0),
            beat("heartbeat", 1, 1),
            beat("agent_gone", 2, 2),
            beat("end", 3, 3),
        ]
    }

    fn reasons(rows: &[Value], close: Option<&str>) -> Vec<String> {
        let mut continuity = Continuity::new(&measured());
        for row in rows {
            continuity.see(&Row::read(&parse(&row.to_string(), MAX_DEPTH).unwrap()));
        }
        continuity.finish(close)
    }

    #[test]
    fn unbroken_log_has_nothing_to_say() {
        assert_eq!(reasons(&sound(), Some(CLOSE)), Vec::<String>::new());
        assert_eq!(reasons(&sound(), None), Vec::<String>::new());
    }

    #[test]
    fn every_break_is_named() {
        let with = |at: usize, member: &str, value: Value| {
            let mut rows = sound();
            rows[at][member] = value;
            rows
        };
        let cut = |at: usize| {
            let mut rows = sound();
            rows.remove(at);
            rows
        };
        let late = |second: u64| {
            let mut rows = sound();
            for (row, more) in rows.iter_mut().skip(1).zip(0..) {
                row["ts"] = json!(format!("2026-11-24T10:00:{:02}Z", second + more));
            }
            rows
        };
        let before = {
            let mut rows = sound();
            rows.insert(0, json!({"source": "kernel", "verdict": "redirected"}));
            rows
        };
        let after = {
            let mut rows = sound();
            rows.push(json!({"source": "relay"}));
            rows
        };
        for (rows, reason) in [
            (cut(1), "heartbeat 1 is missing"),
            (cut(2), "does not show the agent's end"),
            (cut(3), "has no last row"),
            (Vec::new(), "has no heartbeats"),
            (late(4), "no heartbeat for 4 s"),
            (
                with(1, "ts", json!("2026-11-24T09:00:00Z")),
                "a heartbeat lies 3600 s before the last one",
            ),
            (with(1, "ts", json!("yesterday")), "has no time"),
            (
                with(1, "unconfined", json!(2)),
                "2 processes of the agent without its filter",
            ),
            (with(1, "unconfined", json!(null)), "heartbeat 1 is missing"),
            (with(1, "links", json!([])), "0 of 1 kernel programs"),
            (with(1, "links", json!([5, 6])), "1 of 1 kernel programs"),
            (with(3, "ring_full", json!(7)), "7 kernel events lost"),
            (
                with(3, "malformed", json!(1)),
                "1 kernel events that could not",
            ),
            (
                with(2, "relay_denied", json!(1)),
                "1 calls refused to the relay",
            ),
            (
                with(2, "processes", json!(1)),
                "a process of the agent was left",
            ),
            (before, "before the first heartbeat"),
            (after, "rows follow the end"),
        ] {
            let said = reasons(&rows, Some(CLOSE));
            assert!(
                said.iter().any(|said| said.contains(reason)),
                "{reason}: {said:?}"
            );
        }
        // Late by the factor is not too late.
        assert_eq!(reasons(&late(3), Some(CLOSE)), Vec::<String>::new());
    }

    #[test]
    fn agent_outlives_no_close() {
        let early = reasons(&sound(), Some("2026-11-24T10:00:01Z"));
        assert_eq!(
            early,
            ["the receipts were closed before the agent was gone"]
        );
        let unknown = reasons(&sound(), Some("some day"));
        assert_eq!(unknown, ["the close of the receipts has no time"]);
    }
}
