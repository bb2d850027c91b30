//! Stops Pipelock in an order that does not lose receipts. The relay has closed its connections before Pipelock is
//! stopped. The supervisor waits until Pipelock has finished its scans and written its receipts. After that, the
//! supervisor reads Pipelock's counters and sends a signal.
use std::io;
use std::time::{Duration, Instant};

use egress_sys::sock_diag;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use serde::Deserialize;
use serde_json::Value;

use super::facts::Facts;
use super::start::{Pipelock, how};
use super::{binary, http};

/// Time for receipts to be written, and additional time for each connection that closed.
const DRAIN: Duration = Duration::from_millis(500);
const DRAIN_EACH: Duration = Duration::from_millis(10);
/// Time for which a request may wait without using a processor. Pipelock takes at most five seconds
/// to look up a name. During that time, Pipelock does not detect that its client has closed.
const WAITS_AT_MOST: Duration = Duration::from_secs(6);
/// Total time to drain.
const DRAIN_AT_MOST: Duration = Duration::from_mins(1);
/// Number of consecutive checks in which a Pipelock that intercepts TLS must be idle. One check is not enough, because
/// a thread may pause for a moment. Other Pipelocks need one check, because only with interception can a request
/// outlive its connection, inside HTTP/2.
const IDLE_LOOKS: u32 = 3;
/// Interval between two checks.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Time for Pipelock to exit. An idle Pipelock takes about 35 ms.
const END_WITHIN: Duration = Duration::from_secs(3);
/// Time to wait for a heartbeat. egress sets the interval of the heartbeats to 60 s unless the caller sets one.
const HEARTBEAT_WITHIN: Duration = Duration::from_secs(63);
/// Number of entries with which Pipelock closes its session, before the last checkpoint.
const CLOSING_ENTRIES: u64 = 2;
/// Time for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Line that Pipelock prints when everything is written.
const STOPPED: &str = "Pipelock stopped.";
/// Type of the last entry of a session that ended normally.
const LAST_ENTRY: &str = "checkpoint";

/// Numbers of actions that Pipelock allowed, as counted in the relay's flows.
#[derive(Debug, Clone, Copy)]
pub struct LetThrough {
    /// Actions that ended normally. Each such action must have a receipt.
    pub forwarded: u64,
    /// All actions that were started. A Pipelock without intents writes a receipt for a cut action
    /// only if it did not detect that the action was cut.
    pub begun: u64,
}

/// The result of stopping Pipelock.
#[derive(Debug)]
pub struct Ended {
    /// The record for `boundary.json`.
    pub facts: Facts,
    /// The gaps in the evidence, one text for each.
    pub incomplete: Vec<String>,
    /// Whether Pipelock failed while it was stopped.
    pub failed: bool,
}

/// Work that Pipelock has not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owed {
    /// Number of allowed actions without a receipt.
    actions: u64,
    /// Number of intents without an outcome.
    intents: u64,
    /// Number of version 1 receipts without the same receipt in version 2.
    twins: u64,
    /// Number of the relay's connections that Pipelock has not closed. Pipelock closes a connection
    /// when it has finished the request. The relay has already ended.
    requests: u64,
}

impl Owed {
    fn is_nothing(self) -> bool {
        (self.actions, self.intents, self.twins, self.requests) == (0, 0, 0, 0)
    }

    /// Returns whether there are requests without any receipt. A request with a receipt may stay
    /// open, because Pipelock ends a tunnel or WebSocket only when the origin ends it.
    fn has_undecided(self) -> bool {
        self.requests > self.intents.max(self.actions)
    }

    /// Returns how long to wait for progress while Pipelock is idle.
    fn patience(self, tunnels: u64) -> Duration {
        let each = tunnels.max(self.actions).max(self.intents).max(self.twins);
        let each = u32::try_from(each).unwrap_or(u32::MAX).min(10_000);
        let receipts = DRAIN + DRAIN_EACH.saturating_mul(each);
        if self.has_undecided() {
            receipts.max(WAITS_AT_MOST)
        } else {
            receipts
        }
    }
}

/// Why Pipelock is stopped before it has finished.
#[derive(Debug)]
enum Undone {
    /// Receipts are missing, and no request is left that could produce them.
    Missing(String),
    /// Requests are left, and Pipelock may still write receipts for them.
    Requests { count: u64, is_at_work: bool },
}

/// The members of `/stats` that are checked. Versions before 3.2 have no `receipts`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stats {
    receipts: Receipts,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Receipts {
    emit_failures: Value,
    required_blocks: Value,
}

impl Pipelock {
    /// Returns the number of open tunnels.
    ///
    /// # Errors
    /// Fails if `/metrics` cannot be read, or does not contain the number.
    pub fn tunnels(&mut self) -> io::Result<u64> {
        let gate = self.gate.as_mut();
        let (_, body) = http::get(self.metrics, "/metrics", ANSWER_WITHIN, gate)?;
        String::from_utf8_lossy(&body)
            .lines()
            .find_map(|line| line.strip_prefix("pipelock_active_tunnels "))
            .and_then(|count| count.trim().parse::<f64>().ok())
            .filter(|count| *count >= 0.0)
            .and_then(|count| format!("{count:.0}").parse().ok())
            .ok_or_else(|| io::Error::other("/metrics has no pipelock_active_tunnels"))
    }

    /// Stops Pipelock. `tunnels` is the number of tunnels before the relay closed its connections.
    /// `allowed` contains the relay's numbers for the whole run.
    pub fn end(mut self, given: &std::path::Path, tunnels: u64, allowed: LetThrough) -> Ended {
        let mut incomplete = Vec::new();
        let mut notes = Vec::new();
        let mut failed = false;
        let is_gone = self.child.peek(0).ok().flatten().is_some();
        let mut killed = false;
        if !is_gone {
            let undone = self.drain(tunnels, allowed).err();
            incomplete.extend(self.missing_receipts().err());
            // When Pipelock closes its session, it does not wait for open requests. A receipt that Pipelock writes
            // after the close makes the evidence invalid, as a forgery would. A Pipelock that writes a session and has
            // open requests is therefore killed.
            let is_left = matches!(undone, Some(Undone::Requests { .. }));
            killed = is_left && self.tally.bound.is_some();
            if !killed {
                self.leave_room_for_checkpoint();
            }
            self.child.signal(if killed {
                Signal::SIGKILL
            } else {
                Signal::SIGTERM
            });
            failed = killed
                && !matches!(
                    undone,
                    Some(Undone::Requests {
                        is_at_work: true,
                        ..
                    })
                );
            let end = if killed {
                "killed before it closed its session"
            } else {
                "stopped"
            };
            incomplete.extend(undone.map(|undone| match undone {
                Undone::Missing(text) => text,
                Undone::Requests { count, is_at_work } => {
                    let state = match (is_at_work, count) {
                        (true, 0) => String::from("at work"),
                        (true, count) => format!("at work on {count} requests"),
                        (false, count) => format!("waiting on {count} requests"),
                    };
                    format!("Pipelock was still {state}, and was {end}")
                }
            }));
        }
        let status = self.wait_end();
        match status {
            Ok(Some(WaitStatus::Exited(_, 0))) => {}
            // The kill was recorded above.
            Ok(Some(WaitStatus::Signaled(_, Signal::SIGKILL, _))) if killed => {}
            Ok(Some(status)) => {
                failed = true;
                incomplete.push(format!("Pipelock ended abnormally{}", how(&status)));
            }
            Ok(None) => {
                killed = true;
                self.child.signal(Signal::SIGKILL);
                let complete = self.has_finished();
                let seconds = END_WITHIN.as_secs();
                let text = format!("Pipelock did not end within {seconds} seconds and was killed");
                match (self.child.wait_for(1000), complete) {
                    (Ok(Some(_)), true) => {
                        notes.push(format!("{text}; its evidence was complete by then"));
                    }
                    (Ok(Some(_)), false) => {
                        failed = true;
                        incomplete.push(text);
                    }
                    (Ok(None) | Err(_), _) => {
                        failed = true;
                        incomplete.push(format!("{text}, but Pipelock still runs"));
                    }
                }
            }
            Err(error) => {
                failed = true;
                incomplete.push(format!("cannot wait for Pipelock's end: {error}"));
            }
        }
        let read = self.tally.read_on(&self.files.evidence);
        if let Err(error) = read {
            incomplete.push(format!("cannot read Pipelock's evidence: {error}"));
        }
        let policy = self.policy().clone();
        let facts = Facts {
            given: given.to_path_buf(),
            binary_sha256: self.digest(),
            version: self.version(),
            roots_sha256: binary::digest(&self.files.roots).ok(),
            posture: self.binding(),
            raised: policy.raised,
            redact: policy.redact,
            left_out: policy.left_out,
            notices: policy.notices,
            allowed: [allowed.begun, self.tally.allowed],
            killed,
            notes,
        };
        Ended {
            facts,
            incomplete,
            failed,
        }
    }

    /// Waits until Pipelock has no request and no tunnel, is idle, and has written a receipt for every allowed action.
    /// The timeout restarts with each new receipt and while Pipelock works, up to a total time, so that neither a slow
    /// disk nor a long scan loses a receipt.
    fn drain(&mut self, tunnels: u64, allowed: LetThrough) -> Result<(), Undone> {
        let end = Instant::now() + DRAIN_AT_MOST;
        let mut last = None;
        let mut deadline = Instant::now();
        let mut idle = 0;
        let looks = if self.intercepts { IDLE_LOOKS } else { 1 };
        loop {
            self.log.drain();
            let owed = self.owed(allowed).map_err(Undone::Missing)?;
            let is_at_work = self.child.is_at_work().unwrap_or_default();
            idle = if is_at_work { 0 } else { idle + 1 };
            // The supervisor requests the number of tunnels last, because Pipelock is not idle while it answers.
            let is_done = owed.is_nothing() && idle >= looks;
            if is_done && matches!(self.tunnels(), Ok(0)) {
                return Ok(());
            }
            let now = Instant::now();
            if is_at_work || last != Some(owed) {
                last = Some(owed);
                deadline = end.min(now + owed.patience(tunnels));
            }
            if now >= deadline {
                if is_at_work || owed.has_undecided() {
                    return Err(Undone::Requests {
                        count: owed.requests,
                        is_at_work,
                    });
                }
                // A cut action may have no receipt, so only actions that ended normally count as
                // missing here.
                let signed = allowed.forwarded.saturating_sub(self.tally.allowed);
                return match (self.tunnels(), signed, owed.intents, owed.twins) {
                    (Ok(0), 0, 0, 0) => Ok(()),
                    (open, due, intents, twins) => {
                        Err(Undone::Missing(still_due(open, due, intents, twins)))
                    }
                };
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits for a heartbeat if the entries that close the session would fill the last evidence file. Pipelock 3.2 then
    /// closes the file before it writes its last checkpoint, and leaves out this checkpoint. Without the checkpoint, the
    /// end of the evidence is not proven.
    fn leave_room_for_checkpoint(&mut self) {
        let most = self.policy().entries_per_file;
        let deadline = Instant::now() + HEARTBEAT_WITHIN;
        while self.tally.bound.is_some()
            && most.is_some_and(|most| {
                most > 1 && (self.tally.in_last_file + CLOSING_ENTRIES).is_multiple_of(most)
            })
            && Instant::now() < deadline
            && self.child.peek(0).ok().flatten().is_none()
            && self.tally.read_on(&self.files.evidence).is_ok()
        {
            self.log.drain();
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn owed(&mut self, allowed: LetThrough) -> Result<Owed, String> {
        self.tally
            .read_on(&self.files.evidence)
            .map_err(|error| format!("cannot read Pipelock's evidence: {error}"))?;
        let requests = sock_diag::open_connections(self.proxy)
            .map_err(|error| format!("cannot list Pipelock's connections: {error}"))?;
        Ok(Owed {
            actions: allowed.begun.saturating_sub(self.tally.allowed),
            intents: u64::try_from(self.tally.open).unwrap_or_default(),
            twins: self.tally.missing_twins(),
            requests: u64::try_from(requests).unwrap_or(u64::MAX),
        })
    }

    /// Returns an error if Pipelock's own counters show receipts that it could not write.
    fn missing_receipts(&mut self) -> Result<(), String> {
        let gate = self.gate.as_mut();
        let (_, body) = http::get(self.metrics, "/stats", ANSWER_WITHIN, gate)
            .map_err(|error| format!("cannot read Pipelock's /stats: {error}"))?;
        let stats: Stats = serde_json::from_slice(&body)
            .map_err(|error| format!("cannot parse Pipelock's /stats: {error}"))?;
        let counters = [
            ("emit_failures", stats.receipts.emit_failures),
            ("required_blocks", stats.receipts.required_blocks),
        ];
        for (name, value) in counters {
            let is_empty = match &value {
                Value::Null => true,
                Value::Array(items) => items.is_empty(),
                Value::Object(members) => members.is_empty(),
                Value::Number(number) => number.as_u64() == Some(0),
                Value::Bool(_) | Value::String(_) => false,
            };
            if !is_empty {
                return Err(format!("Pipelock could not write receipts: {name} {value}"));
            }
        }
        Ok(())
    }

    /// Waits for the process to end, and reads its log while it waits.
    fn wait_end(&mut self) -> io::Result<Option<WaitStatus>> {
        let deadline = Instant::now() + END_WITHIN;
        loop {
            self.log.drain();
            let status = self.child.wait_for(10)?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
        }
    }

    /// Returns whether a Pipelock that does not exit has written everything. Returns true if the last entry closes the
    /// session, or if there is no entry and Pipelock printed that it has stopped.
    fn has_finished(&mut self) -> bool {
        if self.tally.read_on(&self.files.evidence).is_err() {
            return false;
        }
        match self.tally.last.as_deref() {
            Some(last) => last == LAST_ENTRY,
            None => self.log.ends_with_line(STOPPED),
        }
    }
}

/// Describes the unfinished work of a Pipelock that is stopped.
fn still_due(open: io::Result<u64>, due: u64, intents: u64, twins: u64) -> String {
    match (open, due, intents) {
        (Err(error), _, _) => format!("cannot read Pipelock's open tunnels: {error}"),
        (Ok(0), 0, 0) => format!("{twins} decisions have no version 2 receipt"),
        (Ok(0), 0, intents) => format!("{intents} intents have no outcome"),
        (Ok(0), due, _) => format!("{due} allowed actions have no receipt"),
        (Ok(open), due, _) => format!(
            "{open} tunnels were open and {due} allowed actions had no receipt when Pipelock was \
             stopped"
        ),
    }
}
