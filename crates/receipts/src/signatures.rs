//! Checks many signatures on other threads while the caller continues to read. The caller helps when the threads fall
//! behind.
//!
//! Each verdict is equal to the verdict of `verify_strict`. Batch verification is not used, because it accepts
//! signatures that `verify_strict` rejects.
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use ed25519_dalek::Signature;

use super::ed25519::{self, Key, Signed};
use super::findings::{Findings, Place, Rule};

const BATCH: usize = 64;
/// Size limit of the messages in a batch, in bytes, because a hostile receipt can be a megabyte long.
const BATCH_BYTES: usize = 1 << 20;
/// Maximum number of waiting batches per thread before the caller helps.
const WAITING: usize = 4;
/// Maximum number of threads. The caller does not read fast enough to keep more threads busy.
const MAX_THREADS: usize = 7;

#[derive(Debug)]
pub(crate) enum Message {
    /// The digest of a version 1 receipt.
    Digest([u8; 32]),
    /// The text of any other message.
    Text(Vec<u8>),
}

impl Message {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Digest(digest) => digest,
            Self::Text(text) => text,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) key: Arc<Key>,
    pub(crate) message: Message,
    pub(crate) signature: [u8; 64],
    pub(crate) rule: &'static Rule,
    pub(crate) place: Place,
}

/// The rule and the place of each invalid signature.
type Bad = Vec<(&'static Rule, Place)>;

/// Checks a batch. If the check panics, all signatures of the batch count as invalid.
fn check(jobs: &[Job]) -> Bad {
    let signed = |job| {
        let Job {
            key,
            message,
            signature,
            ..
        }: &Job = job;
        (
            key.as_ref(),
            message.bytes(),
            Signature::from_bytes(signature),
        )
    };
    let signed: Vec<Signed<'_>> = jobs.iter().map(signed).collect();
    let holds = catch_unwind(AssertUnwindSafe(|| ed25519::check(&signed)));
    let holds = holds.unwrap_or_else(|_panic| vec![false; jobs.len()]);
    let bad = jobs.iter().zip(holds).filter(|(_, holds)| !holds);
    bad.map(|(job, _)| (job.rule, job.place.clone())).collect()
}

/// The signatures that are not yet checked.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    jobs: Vec<Job>,
    bytes: usize,
    pool: Option<Pool>,
}

impl Queue {
    /// Adds a signature, and passes a full batch to the threads.
    pub(crate) fn push(&mut self, job: Job, findings: &mut Findings) {
        self.bytes = self.bytes.saturating_add(job.message.bytes().len());
        self.jobs.push(job);
        if self.jobs.len() >= BATCH || self.bytes >= BATCH_BYTES {
            self.bytes = 0;
            let jobs = std::mem::replace(&mut self.jobs, Vec::with_capacity(BATCH));
            let pool = self.pool.get_or_insert_with(Pool::start);
            pool.push(jobs);
            pool.report(findings);
        }
    }

    /// Waits until all signatures are checked, and reports the invalid ones.
    pub(crate) fn flush(&mut self, findings: &mut Findings) {
        let rest = std::mem::take(&mut self.jobs);
        if let Some(mut pool) = self.pool.take() {
            pool.push(rest);
            pool.finish();
            pool.report(findings);
        } else {
            add(check(&rest), findings);
        }
    }
}

fn add(bad: Bad, findings: &mut Findings) {
    for (rule, place) in bad {
        findings.add(rule, place, "a valid signature", "an invalid one");
    }
}

/// The threads, and the order in which their results are reported.
#[derive(Debug)]
struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    pushed: u64,
    reported: u64,
}

/// State that the threads and the caller share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<PoolState>,
    /// Signals that a batch is waiting, or that no more batches will come.
    waits: Condvar,
    /// Signals that a batch was checked.
    checked: Condvar,
}

#[derive(Debug, Default)]
struct PoolState {
    waiting: VecDeque<(u64, Vec<Job>)>,
    checked: BTreeMap<u64, Bad>,
    no_more: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a batch and keeps the result.
    fn check(&self, number: u64, jobs: &[Job]) {
        let bad = check(jobs);
        self.lock().checked.insert(number, bad);
        self.checked.notify_one();
    }

    /// Checks batches until no more will come. Each thread runs this function.
    fn work(&self) {
        loop {
            let mut state = self.lock();
            let next = loop {
                match state.waiting.pop_front() {
                    Some(next) => break next,
                    None if state.no_more => return,
                    None => {
                        state = self
                            .waits
                            .wait(state)
                            .unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            drop(state);
            self.check(next.0, &next.1);
        }
    }
}

impl Pool {
    /// Starts a thread for each processor except one. The caller uses that processor. If no thread
    /// starts, the caller checks everything.
    fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let others = thread::available_parallelism().map_or(0, |all| all.get().saturating_sub(1));
        let start = |_| {
            let shared = Arc::clone(&shared);
            thread::Builder::new().spawn(move || shared.work()).ok()
        };
        Self {
            threads: (0..others.min(MAX_THREADS)).filter_map(start).collect(),
            shared,
            pushed: 0,
            reported: 0,
        }
    }

    /// Queues a batch. If too many batches wait, the caller checks the oldest one.
    fn push(&mut self, jobs: Vec<Job>) {
        let mut state = self.shared.lock();
        state.waiting.push_back((self.pushed, jobs));
        self.pushed = self.pushed.saturating_add(1);
        let most = self.threads.len().saturating_mul(WAITING);
        let own = if state.waiting.len() > most {
            state.waiting.pop_front()
        } else {
            None
        };
        drop(state);
        self.shared.waits.notify_one();
        if let Some((number, jobs)) = own {
            self.shared.check(number, &jobs);
        }
    }

    /// Checks the waiting batches, and waits for the batches that the threads check.
    fn finish(&mut self) {
        loop {
            let next = self.shared.lock().waiting.pop_front();
            match next {
                Some((number, jobs)) => self.shared.check(number, &jobs),
                None => break,
            }
        }
        let due = self.pushed.saturating_sub(self.reported);
        let mut state = self.shared.lock();
        while u64::try_from(state.checked.len()).unwrap_or(u64::MAX) < due {
            state = self
                .shared
                .checked
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Reports results in the order of the signatures, so that every check of the same file has the
    /// same findings.
    fn report(&mut self, findings: &mut Findings) {
        loop {
            let next = self.shared.lock().checked.remove(&self.reported);
            let Some(bad) = next else {
                return;
            };
            self.reported = self.reported.saturating_add(1);
            add(bad, findings);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.no_more = true;
            state.waiting.clear();
        }
        self.shared.waits.notify_all();
        for thread in self.threads.drain(..) {
            // If a check panicked, the thread caught the panic and counted the signatures as invalid.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::Signer;

    use super::*;
    use crate::keys;

    static RULE: Rule = Rule::error("t.signature", 1, "a signature", "");

    #[test]
    fn every_bad_signature_is_found_in_its_place_and_no_good_one() {
        let key = keys::generate().unwrap();
        let mut queue = Queue::default();
        let mut findings = Findings::default();
        let wrong = [0, 63, 64, 777, 4999];
        for line in 0..5000_u64 {
            let message = line.to_be_bytes().to_vec();
            let mut signature = key.sign(&message).to_bytes();
            if wrong.contains(&line) {
                signature[5] ^= 1;
            }
            let job = Job {
                key: Arc::new(Key::new(key.verifying_key())),
                message: Message::Text(message),
                signature,
                rule: &RULE,
                place: Place {
                    line: Some(line),
                    ..Place::default()
                },
            };
            queue.push(job, &mut findings);
        }
        queue.flush(&mut findings);
        let (found, more) = findings.into_ranked();
        let lines: Vec<u64> = found
            .iter()
            .filter_map(|finding| finding.place.line)
            .collect();
        assert_eq!((lines.as_slice(), more), (wrong.as_slice(), 0));
    }
}
