//! When each step of a run was reached, for boundary.json and the benchmarks.
use std::time::Instant;

use serde::Serialize;

/// Steps with their times since the start.
#[derive(Debug, Clone)]
pub struct Timeline {
    began: Instant,
    marks: Vec<Mark>,
}

/// One step that was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// Which.
    pub step: &'static str,
    /// When, microseconds since the run began.
    pub at_us: u64,
}

impl Timeline {
    /// Starts now.
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
            marks: Vec::new(),
        }
    }

    /// Notes that `step` was reached.
    pub fn mark(&mut self, step: &'static str) {
        let at_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.marks.push(Mark { step, at_us });
    }

    /// All steps so far, in order.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }
}
