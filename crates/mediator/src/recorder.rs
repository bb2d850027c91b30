//! The I/O of the receipt recorder: appends lines, makes them durable, and stops the service when
//! that fails.
//!
//! Lines are appended under one lock, in the order in which they were signed. A separate thread calls `fdatasync`. A
//! call makes durable every intent that was appended before it, so requests that arrive together share one call.
//! [`Intent`] writes the outcome when it is dropped, so an intent has no outcome only if the process was killed or the
//! outcome could not be written. The first failure is final, because the chain cannot continue after a line that was
//! signed and not written.
//!
//! Claims: decisions-signed
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use ed25519_dalek::SigningKey;
use egress_sys::clock;
use pipelock_receipts::record::{Action, ActionType, Phase, ReceiptVerdict, Transport};
use pipelock_receipts::recorder::{Closed, Moment, Recorder, RecorderError, SessionConfig};
use thiserror::Error;
use tokio::sync::watch;
use uuid::Uuid;

use super::meter::Meter;
use super::store::{EvidenceFile, Store};

/// Why evidence cannot be written. No further request may be served.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the evidence cannot be written: {cause}")]
pub struct EvidenceError {
    cause: String,
    /// Whether the file system or the quota is full.
    is_full: bool,
}

impl EvidenceError {
    /// Returns the next step for the user, as the end of a message. The text is empty unless the file system or the
    /// quota is full.
    pub(super) fn advice(&self) -> &'static str {
        if self.is_full {
            "; free space on the file system of the evidence directory"
        } else {
            ""
        }
    }
}

/// The facts about a request that are in its receipt, whatever the decision is.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Transport of the request.
    pub transport: Transport,
    /// Kind of the action.
    pub action_type: ActionType,
    /// HTTP method, `CONNECT`, or `WS`.
    pub method: String,
    /// Redacted URL of the destination.
    pub target: String,
    /// Id of the request, such as `req-1`.
    pub request_id: String,
}

/// Writer of the session's evidence. All connections share this writer.
pub struct Ledger {
    state: Mutex<LedgerState>,
    store: Box<dyn Store>,
    max_entries_per_file: Option<u64>,
    progress: watch::Sender<Progress>,
    stopping: AtomicBool,
    sync_thread: Mutex<Option<SyncThread>>,
}

struct LedgerState {
    recorder: Option<Recorder>,
    session: String,
    file: Arc<dyn EvidenceFile>,
    /// Sequence number of the first entry in the current file.
    file_start: u64,
    /// Number of appends so far.
    appended: u64,
}

/// Number of durable appends, or the final error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Progress {
    durable: u64,
    failed: Option<EvidenceError>,
}

struct SyncThread {
    wake: Sender<()>,
    handle: JoinHandle<()>,
}

impl Ledger {
    /// Creates the first evidence file and writes `session_open` durably.
    ///
    /// # Errors
    /// Fails if the file cannot be created or written, or the recorder rejects the session's
    /// texts.
    pub fn open(
        store: Box<dyn Store>,
        key: SigningKey,
        config: SessionConfig,
        max_entries_per_file: Option<u64>,
    ) -> Result<Arc<Self>, EvidenceError> {
        let session = config.recorder_session.clone();
        let file = store.create(&file_name(&session, 0))?;
        let (recorder, lines) = Recorder::open(
            key,
            config,
            Moment {
                time: &clock::now_rfc3339(),
                id: &new_id(),
            },
        )?;
        file.append(&lines)?;
        file.sync()?;
        let state = LedgerState {
            recorder: Some(recorder),
            session,
            file,
            file_start: 0,
            appended: 1,
        };
        let (progress, _) = watch::channel(Progress {
            durable: 1,
            failed: None,
        });
        let ledger = Arc::new(Self {
            state: Mutex::new(state),
            store,
            max_entries_per_file,
            progress,
            stopping: AtomicBool::new(false),
            sync_thread: Mutex::new(None),
        });
        ledger.start_sync_thread()?;
        Ok(ledger)
    }

    fn start_sync_thread(self: &Arc<Self>) -> io::Result<()> {
        let (wake, woken) = channel();
        let ledger = Arc::downgrade(self);
        let handle = thread::Builder::new()
            .name(String::from("evidence-sync"))
            .spawn(move || {
                sync_loop(&woken, || {
                    if let Some(ledger) = ledger.upgrade() {
                        ledger.sync_now();
                    }
                });
            })?;
        *lock(&self.sync_thread) = Some(SyncThread { wake, handle });
        Ok(())
    }

    /// Records durably that an action will happen.
    ///
    /// # Errors
    /// Fails if the receipt cannot be made durable. The action must not happen after such an
    /// error.
    pub async fn intent(self: &Arc<Self>, facts: Facts) -> Result<Intent, EvidenceError> {
        let action_id = new_id();
        let mine = self.append(|recorder, time| {
            recorder.action(&allow(&facts, &action_id, Phase::Intent, ""), time)
        })?;
        let intent = Intent {
            ledger: Some(Arc::clone(self)),
            action_id,
            facts,
            meter: Arc::default(),
            status: 0,
        };
        self.request_sync();
        let mut progress = self.progress.subscribe();
        let reached = progress
            .wait_for(|progress| progress.durable >= mine || progress.failed.is_some())
            .await
            .map_err(|_gone| closed())?
            .clone();
        match reached.failed {
            None => Ok(intent),
            Some(error) => Err(error),
        }
    }

    /// Records that a request was denied.
    ///
    /// # Errors
    /// Fails if the receipt cannot be written.
    pub fn block(&self, facts: &Facts, layer: &str, pattern: &str) -> Result<(), EvidenceError> {
        let action = Action {
            action_id: &new_id(),
            action_type: facts.action_type,
            verdict: ReceiptVerdict::Block,
            phase: None,
            transport: facts.transport,
            target: &facts.target,
            method: &facts.method,
            layer,
            pattern,
            request_id: &facts.request_id,
        };
        self.append(|recorder, time| recorder.action(&action, time))?;
        Ok(())
    }

    /// Records that the session is alive.
    ///
    /// # Errors
    /// Fails if the receipt cannot be written.
    pub fn heartbeat(&self) -> Result<(), EvidenceError> {
        self.append(|recorder, time| {
            let id = new_id();
            recorder.heartbeat(Moment { time, id: &id })
        })?;
        self.request_sync();
        Ok(())
    }

    /// Notes that the service stops. Intents that are dropped or broken off from now on record `shutdown`.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Returns the final error, if evidence can no longer be written.
    pub fn failed(&self) -> Option<EvidenceError> {
        self.progress.borrow().failed.clone()
    }

    /// Waits until evidence can no longer be written, and returns the error.
    pub async fn failure(&self) -> EvidenceError {
        let mut progress = self.progress.subscribe();
        loop {
            if let Some(error) = progress.borrow_and_update().failed.clone() {
                return error;
            }
            if progress.changed().await.is_err() {
                // This cannot happen, because `self` holds the sender.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Closes the session durably. After this call, nothing can be recorded.
    ///
    /// # Errors
    /// Fails if an earlier receipt or one of the last lines cannot be written.
    pub fn close(&self, reason: &str) -> Result<Closed, EvidenceError> {
        let thread = lock(&self.sync_thread).take();
        if let Some(SyncThread { wake, handle }) = thread {
            drop(wake);
            // The file is synced again below, so a panic in the thread does not matter here.
            drop(handle.join());
        }
        let mut state = lock(&self.state);
        if let Some(error) = self.failed() {
            return Err(error);
        }
        let recorder = state.recorder.take().ok_or_else(closed)?;
        let time = clock::now_rfc3339();
        let id = new_id();
        let result = recorder
            .close(
                reason,
                Moment {
                    time: &time,
                    id: &id,
                },
            )
            .map_err(EvidenceError::from)
            .and_then(|end| {
                state.file.append(&end.lines)?;
                state.file.sync()?;
                Ok(end)
            });
        drop(state);
        result.inspect_err(|error| self.fail(error.clone()))
    }

    /// Signs and appends lines. Returns the number of the append.
    fn append(
        &self,
        sign: impl FnOnce(&mut Recorder, &str) -> Result<Vec<u8>, RecorderError>,
    ) -> Result<u64, EvidenceError> {
        let mut state = lock(&self.state);
        if let Some(error) = self.failed() {
            return Err(error);
        }
        let result = self.append_locked(&mut state, sign);
        drop(state);
        result.inspect_err(|error| self.fail(error.clone()))
    }

    fn append_locked(
        &self,
        state: &mut LedgerState,
        sign: impl FnOnce(&mut Recorder, &str) -> Result<Vec<u8>, RecorderError>,
    ) -> Result<u64, EvidenceError> {
        let recorder = state.recorder.as_mut().ok_or_else(closed)?;
        let next_seq = recorder.next_seq();
        let in_file = next_seq.saturating_sub(state.file_start);
        if self
            .max_entries_per_file
            .is_some_and(|most| in_file >= most)
        {
            // The old file must be complete before the new one starts. A wait for the disk is acceptable here, because
            // a new file is rare.
            state.file.sync()?;
            let name = file_name(&state.session, next_seq);
            state.file = self.store.create(&name)?;
            state.file_start = next_seq;
        }
        let lines = sign(recorder, &clock::now_rfc3339())?;
        state.file.append(&lines)?;
        state.appended = state.appended.saturating_add(1);
        Ok(state.appended)
    }

    fn request_sync(&self) {
        let gone = lock(&self.sync_thread)
            .as_ref()
            .is_none_or(|thread| thread.wake.send(()).is_err());
        if gone {
            self.fail(failure("the thread that syncs the file has ended"));
        }
    }

    fn sync_now(&self) {
        let (file, appended) = {
            let state = lock(&self.state);
            (Arc::clone(&state.file), state.appended)
        };
        match file.sync() {
            Ok(()) => self.progress.send_modify(|progress| {
                progress.durable = progress.durable.max(appended);
            }),
            Err(error) => self.fail(error.into()),
        }
    }

    fn fail(&self, error: EvidenceError) {
        self.progress.send_modify(|progress| {
            progress.failed.get_or_insert(error);
        });
    }
}

/// A recorded action that has not ended.
///
/// The meter of an intent counts the bytes of the action, so that the outcome includes all bytes
/// however the action ends. An intent that is dropped without [`Intent::finish`] records `aborted`,
/// or `shutdown` during a stop.
pub struct Intent {
    ledger: Option<Arc<Ledger>>,
    action_id: String,
    facts: Facts,
    meter: Arc<Meter>,
    status: u16,
}

impl Intent {
    /// Returns the meter that counts the action's bytes.
    pub(super) fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    /// Sets the status of the answer for the outcome.
    pub(super) fn status(&mut self, status: u16) {
        self.status = status;
    }

    /// Records the outcome with a status and a reason.
    pub fn finish(mut self, status: u16, reason: &str) {
        self.status = status;
        self.end(reason);
    }

    /// Records the outcome of an action whose status is already set.
    pub(super) fn finish_as(mut self, reason: &str) {
        self.end(reason);
    }

    /// Records that the action was aborted for `reason`, or because of the shutdown if the service is stopping.
    pub fn break_off(mut self, reason: &str) {
        let reason = self.stop_or(reason);
        self.end(reason);
    }

    fn stop_or<'a>(&self, reason: &'a str) -> &'a str {
        let stopping = self
            .ledger
            .as_ref()
            .is_some_and(|ledger| ledger.stopping.load(Ordering::Relaxed));
        if stopping { "shutdown" } else { reason }
    }

    fn end(&mut self, reason: &str) {
        let Some(ledger) = self.ledger.take() else {
            return;
        };
        let (status, bytes) = (self.status, self.meter.end());
        let pattern = format!("status={status} bytes={bytes} reason={reason}");
        let action = allow(&self.facts, &self.action_id, Phase::Outcome, &pattern);
        // No request waits for a durable outcome, so no sync is requested here. A sync would delay the sync of the next
        // intent. If the append fails, the ledger keeps the error and stops the service. The evidence then has an
        // intent without an outcome, which a verification finds.
        drop(ledger.append(|recorder, time| recorder.action(&action, time)));
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        let reason = self.stop_or("aborted");
        self.end(reason);
    }
}

fn allow<'a>(facts: &'a Facts, action_id: &'a str, phase: Phase, pattern: &'a str) -> Action<'a> {
    Action {
        action_id,
        action_type: facts.action_type,
        verdict: ReceiptVerdict::Allow,
        phase: Some(phase),
        transport: facts.transport,
        target: &facts.target,
        method: &facts.method,
        layer: if phase == Phase::Outcome {
            "outcome"
        } else {
            ""
        },
        pattern,
        request_id: &facts.request_id,
    }
}

fn sync_loop(woken: &Receiver<()>, sync: impl Fn()) {
    while woken.recv().is_ok() {
        // The next sync serves all requests that have arrived until now.
        while woken.try_recv().is_ok() {}
        sync();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<io::Error> for EvidenceError {
    fn from(error: io::Error) -> Self {
        Self {
            cause: error.to_string(),
            is_full: matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
        }
    }
}

impl From<RecorderError> for EvidenceError {
    fn from(error: RecorderError) -> Self {
        failure(&error.to_string())
    }
}

fn failure(cause: &str) -> EvidenceError {
    EvidenceError {
        cause: cause.to_owned(),
        is_full: false,
    }
}

fn closed() -> EvidenceError {
    failure("the session is closed")
}

fn new_id() -> String {
    Uuid::now_v7().to_string()
}

fn file_name(session: &str, first_seq: u64) -> String {
    format!("evidence-{session}-{first_seq}.jsonl")
}
