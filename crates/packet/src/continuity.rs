//! Checks that the flow log shows continuous enforcement from the start of the command to its end, without lost events.
//!
//! Claims: boundary-throughout
use std::collections::BTreeSet;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::format::boundary::BoundaryDocument;
use super::format::rows::BeatRow;
use super::format::{BeatEvent, Row};
use super::noted::Noted;

/// The longest interval between heartbeats that a log may state, s. With a longer interval, a log would not show
/// continuous enforcement.
const LONGEST_INTERVAL: u64 = 60;
/// Two heartbeats may be up to this many intervals apart, because the machine may be busy.
const LATE_FACTOR: i64 = 3;

/// The state of the check. The check reads the rows one by one.
#[derive(Debug)]
pub(super) struct Continuity {
    links: BTreeSet<u64>,
    programs: usize,
    beats: u64,
    last_beat: Option<OffsetDateTime>,
    gone: Option<OffsetDateTime>,
    ended: bool,
    noted: Noted,
}

impl Continuity {
    pub(super) fn new(boundary_document: &BoundaryDocument) -> Self {
        Self {
            links: boundary_document
                .programs
                .links
                .iter()
                .map(|link| u64::from(link.id))
                .collect(),
            programs: boundary_document.programs.attached.len(),
            beats: 0,
            last_beat: None,
            gone: None,
            ended: false,
            noted: Noted::default(),
        }
    }

    pub(super) fn see(&mut self, row: &Row) {
        if self.ended {
            self.noted.add("rows follow the end of the flow log");
        }
        match row {
            Row::Supervisor(row) if row.event == BeatEvent::Heartbeat => {
                self.beat(row);
                self.time(row, true);
                if self.gone.is_some() {
                    self.noted.add_first("order", || {
                        format!("heartbeat {} follows the end of the command", row.beat)
                    });
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
                self.noted
                    .add("there are attempts before the first heartbeat");
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

    /// Reads the time of a check of the enforcement. Notes an invalid time, a time before the previous check, and, if
    /// `is_prompt`, a late check.
    fn time(&mut self, row: &BeatRow, is_prompt: bool) -> Option<OffsetDateTime> {
        let beat = row.beat;
        let time = OffsetDateTime::parse(&row.ts, &Rfc3339).ok();
        match (time, self.last_beat) {
            (None, _) => self
                .noted
                .add_first("time", || format!("heartbeat {beat} has no valid time")),
            (Some(now), Some(before)) => {
                let interval = row.interval_s.get();
                if interval == 0 || interval > LONGEST_INTERVAL {
                    self.noted.add_first("interval", || {
                        format!(
                            "heartbeat {beat} states an interval of {interval} s between heartbeats; \
                             1 s to {LONGEST_INTERVAL} s are allowed"
                        )
                    });
                }
                let interval = interval.min(LONGEST_INTERVAL);
                let most = i64::try_from(interval)
                    .unwrap_or(i64::MAX)
                    .saturating_mul(LATE_FACTOR);
                let passed = now.unix_timestamp().saturating_sub(before.unix_timestamp());
                if passed < 0 {
                    let back = passed.unsigned_abs();
                    self.noted.add(format!(
                        "the clock was set back: heartbeat {beat} is {back} s earlier than the previous heartbeat"
                    ));
                } else if passed > most && is_prompt {
                    self.noted.add(format!(
                        "no heartbeat for {passed} s before heartbeat {beat}"
                    ));
                }
            }
            (Some(_), None) => {}
        }
        self.last_beat = time.or(self.last_beat);
        time
    }

    fn beat(&mut self, row: &BeatRow) {
        if row.beat != self.beats {
            self.noted
                .add(format!("heartbeat {} is missing", self.beats));
        }
        self.beats = row.beat.saturating_add(1);
        let seen: BTreeSet<u64> = row.links.iter().copied().collect();
        let is_whole = seen == self.links && seen.len() == row.links.len();
        if !is_whole {
            self.noted.add_first("links", || {
                let expected = self.links.len();
                let attached = seen.intersection(&self.links).count();
                let others = row.links.len().saturating_sub(attached);
                format!(
                    "heartbeat {}: {attached} of {expected} expected kernel links were attached; \
                     other or repeated links: {others}",
                    row.beat
                )
            });
        }
        if self.links.len() < self.programs || self.programs == 0 {
            let links = self.links.len();
            self.noted.add(format!(
                "boundary.json lists {} kernel programs and {links} links; a run has at least one program, and a \
                 link for each",
                self.programs
            ));
        }
        for (count, what) in [
            (
                row.unconfined,
                "processes of the command without the system call filters",
            ),
            (
                row.ring_full,
                "kernel events lost because the ring buffer was full",
            ),
            (
                row.relay_denied,
                "calls of the relay that the kernel programs denied",
            ),
        ] {
            self.none(count, what);
        }
    }

    fn none(&mut self, count: u64, what: &str) {
        if count > 0 {
            self.noted.add(format!("{count} {what}"));
        }
    }

    fn nobody(&mut self, row: &BeatRow) {
        if row.processes > 0 {
            self.noted
                .add("a process of the command was still running after the command ended");
        }
    }

    /// Returns the reasons why the enforcement was not continuous. `close` is the time at which the
    /// receipts were closed, or `None` if they were not closed.
    pub(super) fn finish(mut self, close: Option<&str>) -> Vec<String> {
        if self.beats == 0 {
            self.noted.add("the flow log has no heartbeats");
        }
        let closed = close.map(|close| OffsetDateTime::parse(close, &Rfc3339));
        match (self.gone, closed) {
            (None, _) => self
                .noted
                .add("the flow log does not show the end of the command"),
            (Some(_), Some(Err(_))) => self
                .noted
                .add("the close of the receipts has no valid time"),
            (Some(gone), Some(Ok(close))) if gone > close => {
                self.noted
                    .add("the receipts were closed before the end of the command");
            }
            (Some(_), _) => {}
        }
        if !self.ended {
            self.noted
                .add("the flow log has no last row, so its end was cut off");
        }
        self.noted.into_reasons()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::format::boundary::{Link, Program, Programs};
    use pipelock_receipts::json::{MAX_DEPTH, parse};

    const CLOSE: &str = "2026-11-24T10:00:09Z";

    fn boundary_document() -> BoundaryDocument {
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

    /// Returns a check of the enforcement after `second` seconds.
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
        let mut continuity = Continuity::new(&boundary_document());
        for row in rows {
            continuity.see(&Row::read(&parse(&row.to_string(), MAX_DEPTH).unwrap()));
        }
        continuity.finish(close)
    }

    #[test]
    fn complete_log_has_no_reasons() {
        assert_eq!(reasons(&sound(), Some(CLOSE)), Vec::<String>::new());
        assert_eq!(reasons(&sound(), None), Vec::<String>::new());
    }

    /// Claims: grade-caps, compare-heartbeats
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
            (cut(2), "does not show the end of the command"),
            (cut(3), "has no last row"),
            (Vec::new(), "has no heartbeats"),
            (late(4), "no heartbeat for 4 s"),
            (
                with(1, "ts", json!("2026-11-24T09:00:00Z")),
                "heartbeat 1 is 3600 s earlier than the previous heartbeat",
            ),
            (with(1, "ts", json!("yesterday")), "has no valid time"),
            (
                with(1, "unconfined", json!(2)),
                "2 processes of the command without the system call filters",
            ),
            (with(1, "unconfined", json!(null)), "heartbeat 1 is missing"),
            (with(1, "links", json!([])), "heartbeat 1: 0 of 1 expected"),
            (
                with(1, "links", json!([5, 6])),
                "other or repeated links: 1",
            ),
            (
                with(1, "links", json!([5, 5])),
                "other or repeated links: 1",
            ),
            (with(3, "ring_full", json!(7)), "7 kernel events lost"),
            (
                with(3, "malformed", json!(1)),
                "1 kernel events that could not",
            ),
            (with(2, "relay_denied", json!(1)), "1 calls of the relay"),
            (
                with(2, "processes", json!(1)),
                "a process of the command was still running",
            ),
            (before, "attempts before the first heartbeat"),
            (after, "rows follow the end"),
        ] {
            let said = reasons(&rows, Some(CLOSE));
            assert!(
                said.iter().any(|said| said.contains(reason)),
                "{reason}: {said:?}"
            );
        }
        // A heartbeat that is late by exactly the factor is accepted.
        assert_eq!(reasons(&late(3), Some(CLOSE)), Vec::<String>::new());
    }

    #[test]
    fn agent_outlives_no_close() {
        let early = reasons(&sound(), Some("2026-11-24T10:00:01Z"));
        assert_eq!(
            early,
            ["the receipts were closed before the end of the command"]
        );
        let unknown = reasons(&sound(), Some("some day"));
        assert_eq!(unknown, ["the close of the receipts has no valid time"]);
    }
}
