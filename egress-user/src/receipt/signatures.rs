//! Checks many signatures, in parallel when there are enough of them.
//!
//! Only `verify_strict`: batch verification accepts other signatures, so it never makes a verdict.
use std::num::NonZero;
use std::thread;

use ed25519_dalek::{Signature, VerifyingKey};

use super::findings::{Findings, Place, Rule};

/// Jobs that are collected before they are checked.
const BATCH: usize = 4096;
/// Bytes of messages that are collected; hostile receipts can be a megabyte each.
const BATCH_BYTES: usize = 8 << 20;
/// Fewer jobs than this are not worth a thread.
const PARALLEL_FROM: usize = 64;
/// More threads than this bring nothing.
const MAX_THREADS: usize = 8;

/// One signature to check.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) key: VerifyingKey,
    pub(crate) message: Vec<u8>,
    pub(crate) signature: [u8; 64],
    pub(crate) rule: &'static Rule,
    pub(crate) place: Place,
}

impl Job {
    fn holds(&self) -> bool {
        let signature = Signature::from_bytes(&self.signature);
        self.key.verify_strict(&self.message, &signature).is_ok()
    }
}

/// Signatures that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    jobs: Vec<Job>,
    bytes: usize,
}

impl Queue {
    /// Adds a signature; checks all when many have gathered.
    pub(crate) fn push(&mut self, job: Job, findings: &mut Findings) {
        self.bytes = self.bytes.saturating_add(job.message.len());
        self.jobs.push(job);
        if self.jobs.len() >= BATCH || self.bytes >= BATCH_BYTES {
            self.flush(findings);
        }
    }

    /// Checks what waits and reports what does not hold.
    pub(crate) fn flush(&mut self, findings: &mut Findings) {
        let jobs = std::mem::take(&mut self.jobs);
        self.bytes = 0;
        let threads = if jobs.len() < PARALLEL_FROM {
            1
        } else {
            thread::available_parallelism()
                .map_or(1, NonZero::get)
                .min(MAX_THREADS)
        };
        let share = jobs.len().div_ceil(threads).max(1);
        let bad: Vec<&Job> = if threads == 1 {
            jobs.iter().filter(|job| !job.holds()).collect()
        } else {
            thread::scope(|scope| {
                let handles: Vec<_> = jobs
                    .chunks(share)
                    .map(|chunk| {
                        (
                            chunk,
                            scope.spawn(move || {
                                chunk.iter().filter(|job| !job.holds()).collect::<Vec<_>>()
                            }),
                        )
                    })
                    .collect();
                handles
                    .into_iter()
                    // A thread that did not finish proves nothing: all its signatures count as bad.
                    .flat_map(|(chunk, handle)| {
                        handle.join().unwrap_or_else(|_| chunk.iter().collect())
                    })
                    .collect()
            })
        };
        for job in bad {
            findings.add(
                job.rule,
                job.place.clone(),
                "a signature that holds",
                "one that does not",
            );
        }
    }
}
