//! The times at which a run reaches its steps, for `boundary.json` and the benchmarks.
use std::time::Instant;

use audit_packet::format::boundary::Mark;

use super::wall_clock::WallClock;

/// The name with which [`Progress`] receives a signal from the caller's terminal.
pub const INTERRUPTED: &str = "interrupted";

/// Receives the name of each step, and [`INTERRUPTED`].
#[derive(Debug, Clone, Copy)]
pub struct Progress(pub fn(&'static str));

/// Steps with their times since the start.
#[derive(Debug, Clone)]
pub struct Timeline {
    began: Instant,
    progress: Option<Progress>,
    marks: Vec<Mark>,
    /// Whether the system clock was set during the run.
    pub(super) clock: WallClock,
}

impl Timeline {
    /// Starts now.
    pub fn start(progress: Option<Progress>) -> Self {
        Self {
            began: Instant::now(),
            progress,
            marks: Vec::new(),
            clock: WallClock::start(),
        }
    }

    /// Records that `step` is reached.
    pub fn mark(&mut self, step: &'static str) {
        let at_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.marks.push(Mark {
            step: step.into(),
            at_us,
        });
        self.clock.read();
        if let Some(Progress(tell)) = self.progress {
            tell(step);
        }
    }

    /// Reports that a key of the caller's terminal, such as Ctrl-C, sent a signal. This is not a step of the run.
    pub fn interrupted(&self) {
        if let Some(Progress(tell)) = self.progress {
            tell(INTERRUPTED);
        }
    }

    /// Returns all steps so far, in order.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }
}
