//! The times at which a run reaches its steps, for `boundary.json` and the benchmarks.
use std::time::Instant;

use audit_packet::format::boundary::Mark;

use super::wall_clock::WallClock;

/// Receives the name of each step.
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

    /// Returns all steps so far, in order.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }
}
