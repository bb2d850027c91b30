//! Writes the evidence of the stand-in. The evidence is a valid chain except for the fault.
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use egress_policy::runtime::policy_hash;
use egress_sys::clock::now_rfc3339;
use pipelock_receipts::capsule::Capsule;
use pipelock_receipts::keys::load_private;
use pipelock_receipts::record::{Action, ActionType, Phase, Posture, ReceiptVerdict, Transport};
use pipelock_receipts::recorder::{Moment, Recorder, SessionConfig};

use crate::{Config, Fault};

/// Nonce of the session, which is a part of the file names.
const NONCE: &str = "00112233445566778899aabbccddeeff";
/// Number of lines in a file before the stand-in starts the next one, if it rotates files.
const ROTATE: u64 = 4;

/// The evidence directory and the state of its files.
#[derive(Debug)]
pub(crate) struct Ledger {
    fault: Fault,
    dir: PathBuf,
    state: Mutex<LedgerState>,
}

#[derive(Debug)]
struct LedgerState {
    recorder: Option<Recorder>,
    lines: u64,
    first: u64,
    actions: u64,
}

impl Ledger {
    pub(crate) fn open(config: &Config) -> Result<Self, String> {
        let key = config.text("/flight_recorder/signing_key_path")?;
        let key = load_private(key.as_ref()).map_err(|error| error.to_string())?;
        let proof = std::env::var_os("PIPELOCK_POSTURE_PROOF").ok_or("no posture proof")?;
        let capsule = std::fs::read(proof).map_err(|error| error.to_string())?;
        let posture = match config.fault {
            Fault::NotBound => Posture::default(),
            _ => Capsule::parse(&capsule)?.posture(),
        };
        let session = SessionConfig {
            recorder_session: format!("proxy.run.{NONCE}"),
            run_nonce: NONCE.to_owned(),
            open_nonce: NONCE.to_owned(),
            actor: config.text("/default_agent_identity")?.to_owned(),
            policy_hash: policy_hash(&config.yaml),
            heartbeat_seconds: 60,
            posture,
            checkpoint_interval: 1000,
        };
        let at = Moment {
            time: &now_rfc3339(),
            id: &id(0),
        };
        let (recorder, lines) =
            Recorder::open(key, session, at).map_err(|error| error.to_string())?;
        let ledger = Self {
            fault: config.fault,
            dir: config.text("/flight_recorder/dir")?.into(),
            state: Mutex::new(LedgerState {
                recorder: (config.fault != Fault::Old).then_some(recorder),
                lines: 0,
                first: 0,
                actions: 0,
            }),
        };
        if config.fault != Fault::Old {
            ledger.append(&mut ledger.state(), &lines)?;
        }
        Ok(ledger)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, LedgerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an intent, and an outcome after `work`.
    pub(crate) fn allow(&self, target: &str, work: impl FnOnce()) -> Result<(), String> {
        let action = {
            let mut state = self.state();
            state.actions += 1;
            let action = id(state.actions);
            self.record(&mut state, target, &action, Phase::Intent)?;
            action
        };
        work();
        self.record(&mut self.state(), target, &action, Phase::Outcome)
    }

    fn record(
        &self,
        state: &mut LedgerState,
        target: &str,
        action_id: &str,
        phase: Phase,
    ) -> Result<(), String> {
        let (layer, pattern) = match phase {
            Phase::Intent => ("", ""),
            Phase::Outcome => ("outcome", "status=200 bytes=0 reason=complete"),
        };
        let action = Action {
            action_id,
            action_type: ActionType::Read,
            verdict: ReceiptVerdict::Allow,
            phase: Some(phase),
            transport: Transport::Forward,
            target,
            method: "GET",
            layer,
            pattern,
            request_id: "1",
        };
        let Some(recorder) = &mut state.recorder else {
            return Ok(());
        };
        let lines = recorder
            .action(&action, &now_rfc3339())
            .map_err(|error| error.to_string())?;
        self.append(state, &lines)
    }

    /// Closes the session.
    pub(crate) fn close(&self) -> Result<(), String> {
        let mut state = self.state();
        let Some(recorder) = state.recorder.take() else {
            return Ok(());
        };
        let at = Moment {
            time: &now_rfc3339(),
            id: &id(0xffff),
        };
        let closed = recorder
            .close("shutdown", at)
            .map_err(|error| error.to_string())?;
        let mut lines = closed.lines;
        if self.fault == Fault::TornLine {
            lines.truncate(lines.len() - 20);
        }
        self.append(&mut state, &lines)
    }

    fn append(&self, state: &mut LedgerState, lines: &[u8]) -> Result<(), String> {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if self.fault == Fault::Rotates && state.lines >= ROTATE {
                state.first += state.lines;
                state.lines = 0;
            }
            let name = format!("evidence-proxy.run.{NONCE}-{}.jsonl", state.first);
            let written = self.file(&name).and_then(|mut file| file.write_all(line));
            written.map_err(|error| error.to_string())?;
            state.lines += 1;
        }
        Ok(())
    }

    fn file(&self, name: &str) -> std::io::Result<File> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.dir.join(name))
    }
}

/// Returns a `UUIDv7` with an arbitrary time.
fn id(number: u64) -> String {
    format!("01a20dfd-0000-7000-8000-{number:012x}")
}
