//! Whether the flow log shows that the enforcement was in place from the start of the agent to its
//! end, and that nothing was lost.
use std::collections::BTreeSet;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::measured::Measured;
use crate::receipt::json::Node;

/// Reasons that are kept; more of the same say nothing new.
const KEPT: usize = 10;
/// Heartbeats may be late by this many times their interval: the machine may be busy.
const LATE_FACTOR: i64 = 3;

/// Reads the rows as they pass by.
#[derive(Debug)]
pub(super) struct Unbroken {
    links: BTreeSet<u64>,
    programs: usize,
    beats: u64,
    last_beat: Option<OffsetDateTime>,
    gone: Option<OffsetDateTime>,
    ended: bool,
    reasons: Vec<String>,
}

impl Unbroken {
    pub(super) fn new(measured: &Measured) -> Self {
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

    pub(super) fn see(&mut self, row: &Node<'_>) {
        if self.ended {
            self.say("rows follow the end of the flow log");
        }
        let source = row.member_text("source");
        let event = row.member_text("event");
        if source != "supervisor" || !matches!(event, "heartbeat" | "agent_gone" | "end") {
            let is_attempt = source == "kernel";
            if is_attempt && self.beats == 0 {
                self.say("attempts stand before the first heartbeat");
            }
            return;
        }
        self.beat(row, event);
        let time = OffsetDateTime::parse(row.member_text("ts"), &Rfc3339).ok();
        match (time, self.last_beat) {
            (None, _) => self.say("a heartbeat has no time"),
            (Some(now), Some(before)) if event == "heartbeat" => {
                let interval = row.member_unsigned("interval_s").unwrap_or(0);
                let most = i64::try_from(interval)
                    .unwrap_or(i64::MAX)
                    .saturating_mul(LATE_FACTOR);
                let passed = now.unix_timestamp().saturating_sub(before.unix_timestamp());
                if !(0..=most).contains(&passed) {
                    self.say(format!("no heartbeat for {passed} s"));
                }
            }
            (Some(_), _) => {}
        }
        self.last_beat = time.or(self.last_beat);
        match event {
            "agent_gone" => self.gone = time,
            "end" => self.ended = true,
            _ if self.gone.is_some() => self.say("a heartbeat follows the agent's end"),
            _ => {}
        }
    }

    /// One look at the enforcement.
    fn beat(&mut self, row: &Node<'_>, event: &str) {
        if row.member_unsigned("beat") != Some(self.beats) {
            self.say(format!("heartbeat {} is missing", self.beats));
        }
        self.beats = row
            .member_unsigned("beat")
            .unwrap_or(self.beats)
            .saturating_add(1);
        let seen: BTreeSet<u64> = row
            .member("links")
            .and_then(Node::items)
            .unwrap_or_default()
            .iter()
            .filter_map(Node::unsigned)
            .collect();
        if seen != self.links || seen.len() < self.programs || self.programs == 0 {
            self.say(format!(
                "{} of {} kernel programs were attached at a heartbeat",
                seen.intersection(&self.links).count(),
                self.programs
            ));
        }
        for (member, what) in [
            ("unconfined", "processes of the agent without its filter"),
            ("ring_full", "kernel events lost: the ring buffer was full"),
            ("malformed", "kernel events that could not be read"),
            (
                "relay_denied",
                "calls refused to the relay by its own gates",
            ),
        ] {
            let is_due = member != "malformed" || event == "end";
            match row.member_unsigned(member) {
                Some(0) => {}
                Some(count) => self.say(format!("{count} {what}")),
                None if is_due => self.say(format!("a heartbeat does not count {what}")),
                None => {}
            }
        }
        if event != "heartbeat" && row.member_unsigned("processes") != Some(0) {
            self.say("a process of the agent was left after its end");
        }
    }

    /// What is missing, in words; nothing when the enforcement was unbroken. `close` is the time of
    /// the last receipt.
    pub(super) fn finish(mut self, close: &str) -> Vec<String> {
        if self.beats == 0 {
            self.say("the flow log has no heartbeats");
        }
        let close = OffsetDateTime::parse(close, &Rfc3339).ok();
        match (self.gone, close) {
            (None, _) => self.say("the flow log does not show the agent's end"),
            (Some(gone), Some(close)) if gone > close => {
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
