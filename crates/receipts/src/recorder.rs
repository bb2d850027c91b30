//! Turns events into the lines of a flight-recorder file: receipts, the outer hash chain around them, signed
//! checkpoints, and the records that prove the end (evidence protocol, sections 1 and 2).
//!
//! A method that succeeds returns complete lines, each with its LF, in the order in which the caller must write them. A
//! method that fails changes nothing. A line that was returned is already in the chain, so the run must end if the
//! caller cannot write it. The caller passes in times and identifiers, because this module does not use clocks, random
//! numbers, or files.
use std::collections::BTreeSet;

use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::canonical::ObjectWriter;
use super::record::{
    Action, ActionType, GENESIS, Open, Phase, Posture, ReceiptVerdict, Record, Transport, control,
};

/// Length of the longest line that the published verifiers read, without its LF.
pub const MAX_LINE_BYTES: usize = 1 << 20;
const SESSION_ACTOR: &str = "pipelock";

/// The parameters of a session.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// `proxy.run.` and 32 lowercase hex digits. The file is `evidence-<this>-0.jsonl`.
    pub recorder_session: String,
    /// 32 lowercase hex digits, repeated in every receipt.
    pub run_nonce: String,
    /// 32 lowercase hex digits, random for each open.
    pub open_nonce: String,
    /// The actor of the decisions.
    pub actor: String,
    /// SHA-256 of the runtime policy, lowercase hex.
    pub policy_hash: String,
    /// Planned seconds between heartbeats.
    pub heartbeat_seconds: u64,
    /// The hashes of the posture capsule that the session binds.
    pub posture: Posture,
    /// Number of entries between signed checkpoints. With 0, the only checkpoint is at the end. Pipelock's default is
    /// 1000.
    pub checkpoint_interval: u64,
}

/// The time of an event, and a new `UUIDv7` for its receipt.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// RFC 3339 in UTC with `Z` and at most nine fraction digits, without trailing zeros.
    pub time: &'a str,
    /// `UUIDv7` of a session record.
    pub id: &'a str,
}

/// The last lines of a closed session, and the numbers that identify its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The last lines: `session_close` receipt, `transcript_root`, final checkpoint.
    pub lines: Vec<u8>,
    /// Number of receipts in the chain.
    pub receipt_count: u64,
    /// Sequence number of the last receipt.
    pub final_seq: u64,
    /// Hash of the last receipt, lowercase hex.
    pub root_hash: String,
}

/// The reason why an event could not be recorded. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecorderError {
    /// A required text is empty.
    #[error("{field} of a receipt is empty")]
    Empty {
        /// Wire name of the member.
        field: &'static str,
    },
    /// The line would be longer than verifiers accept.
    #[error("the entry has {bytes} bytes, which is more than the limit of {MAX_LINE_BYTES}")]
    TooLong {
        /// Length of the entry.
        bytes: usize,
    },
    /// An outcome names an action without an open intent. Verifiers reject a chain with this outcome.
    #[error("the outcome of action {action_id} has no open intent")]
    NoIntent {
        /// Identifier of the action.
        action_id: String,
    },
    /// An intent names an action that already has an intent.
    #[error("action {action_id} already has an intent")]
    SecondIntent {
        /// Identifier of the action.
        action_id: String,
    },
}

/// The writer of one session. A session is one receipt chain in one outer chain.
#[derive(Debug)]
pub struct Recorder {
    key: SigningKey,
    signer_key: String,
    config: SessionConfig,
    entries: Entries,
    receipts: u64,
    head: String,
    beats: u64,
    start_time: String,
    open_intents: BTreeSet<String>,
}

/// The state of the outer chain that the next entry needs.
#[derive(Debug, Clone)]
struct Entries {
    next_seq: u64,
    head: String,
    since_checkpoint: u64,
}

impl Recorder {
    /// Opens a session and returns the line of its `session_open`.
    ///
    /// # Errors
    /// Fails if a text of `config` is empty, or the line is too long.
    pub fn open(
        key: SigningKey,
        config: SessionConfig,
        at: Moment<'_>,
    ) -> Result<(Self, Vec<u8>), RecorderError> {
        for (field, text) in [
            ("recorder_session", &config.recorder_session),
            ("run_nonce", &config.run_nonce),
            ("open_nonce", &config.open_nonce),
            ("actor", &config.actor),
            ("policy_hash", &config.policy_hash),
        ] {
            require(field, text)?;
        }
        let signer_key = hex::encode(key.verifying_key().to_bytes());
        let open = Open {
            run_nonce: &config.run_nonce,
            open_nonce: &config.open_nonce,
            recorder_session: &config.recorder_session,
            policy_hash: &config.policy_hash,
            signer_key_epoch: &signer_key,
            heartbeat_seconds: config.heartbeat_seconds,
            posture: &config.posture,
        };
        let genesis = open.genesis_hash();
        let control = open.control(&genesis);
        let mut recorder = Self {
            key,
            signer_key,
            config,
            entries: Entries {
                next_seq: 0,
                head: String::from(GENESIS),
                since_checkpoint: 0,
            },
            receipts: 0,
            head: genesis,
            beats: 0,
            start_time: String::from(at.time),
            open_intents: BTreeSet::new(),
        };
        let line = recorder.session_receipt("pipelock://session/open", &control, at)?;
        Ok((recorder, line))
    }

    /// Records a decision about an action, made at `time`: a denial, an intent, or an outcome.
    ///
    /// # Errors
    /// Fails if the target or the identifier is empty, the line is too long, an intent is repeated,
    /// or an outcome has no intent.
    pub fn action(&mut self, action: &Action<'_>, time: &str) -> Result<Vec<u8>, RecorderError> {
        let known = self.open_intents.contains(action.action_id);
        match action.phase {
            Some(Phase::Intent) if known => {
                return Err(RecorderError::SecondIntent {
                    action_id: String::from(action.action_id),
                });
            }
            Some(Phase::Outcome) if !known => {
                return Err(RecorderError::NoIntent {
                    action_id: String::from(action.action_id),
                });
            }
            Some(Phase::Intent | Phase::Outcome) | None => {}
        }
        let actor = self.config.actor.clone();
        let lines = self.receipt(action, &actor, time, None)?;
        match action.phase {
            Some(Phase::Intent) => {
                self.open_intents.insert(String::from(action.action_id));
            }
            Some(Phase::Outcome) => {
                self.open_intents.remove(action.action_id);
            }
            None => {}
        }
        Ok(lines)
    }

    /// Records a heartbeat. Pipelock writes the first heartbeat right after the open.
    ///
    /// # Errors
    /// Fails if the identifier is empty.
    pub fn heartbeat(&mut self, at: Moment<'_>) -> Result<Vec<u8>, RecorderError> {
        let beat = self.beats.saturating_add(1);
        let control = control("heartbeat", "heartbeat", |heartbeat| {
            heartbeat
                .string("run_nonce", &self.config.run_nonce)
                .string("open_nonce", &self.config.open_nonce)
                .number("beat", beat)
                .string("chain_head", &self.head)
                .number("chain_seq_head", self.receipts.saturating_sub(1))
                .string("heartbeat_time", at.time)
                .number("fsync_errors_gated", 0)
                .number("durability_blocks", 0);
        });
        let lines = self.session_receipt("pipelock://session/heartbeat", &control, at)?;
        self.beats = beat;
        Ok(lines)
    }

    /// Returns a signed checkpoint, which authenticates every entry so far. The recorder also adds a checkpoint by
    /// itself after `checkpoint_interval` entries.
    pub fn checkpoint(&mut self, time: &str) -> Vec<u8> {
        let entry_count = self.entries.since_checkpoint;
        let first_seq = self.entries.next_seq.saturating_sub(entry_count);
        let last_seq = self.entries.next_seq.saturating_sub(1);
        let signature = self.key.sign(self.entries.head.as_bytes());
        let mut detail = String::with_capacity(256);
        ObjectWriter::new(&mut detail)
            .number("entry_count", entry_count)
            .number("first_seq", first_seq)
            .number("last_seq", last_seq)
            .string("signature", &hex::encode(signature.to_bytes()))
            .end();
        let summary = format!("checkpoint: {entry_count} entries [seq {first_seq}-{last_seq}]");
        let mut line = Vec::with_capacity(640);
        self.entries.push(
            &mut line,
            &NewEntry {
                ts: time,
                session_id: &self.config.recorder_session,
                kind: "checkpoint",
                event_kind: "checkpoint",
                transport: "",
                summary: &summary,
                detail: &detail,
            },
        );
        self.entries.since_checkpoint = 0;
        line
    }

    /// Closes the session with a `session_close` receipt, a `transcript_root`, and a last checkpoint. `reason` is
    /// `graceful_shutdown` for a clean stop.
    ///
    /// # Errors
    /// Fails if the reason or the identifier is empty. The recorder is dropped even then.
    pub fn close(mut self, reason: &str, at: Moment<'_>) -> Result<Closed, RecorderError> {
        require("close_reason", reason)?;
        let final_seq = self.receipts;
        let receipt_count = final_seq.saturating_add(1);
        let control = control("session_close", "close", |close| {
            close
                .string("run_nonce", &self.config.run_nonce)
                .string("open_nonce", &self.config.open_nonce)
                .number("final_seq", final_seq)
                .string("root_hash", &self.head)
                .number("receipt_count", receipt_count)
                .string("close_reason", reason)
                .number("fsync_errors_gated", 0)
                .number("durability_blocks", 0);
        });
        // No checkpoint is allowed between the close and the transcript root.
        self.config.checkpoint_interval = 0;
        let mut lines = self.session_receipt("pipelock://session/close", &control, at)?;
        let mut detail = String::with_capacity(320);
        ObjectWriter::new(&mut detail)
            .string("session_id", &self.config.recorder_session)
            .number("final_seq", final_seq)
            .string("root_hash", &self.head)
            .number("receipt_count", receipt_count)
            .string("start_time", &self.start_time)
            .string("end_time", at.time)
            .end();
        let short: String = self.head.chars().take(16).collect();
        let summary = format!("transcript_root: {receipt_count} receipts, root={short}");
        self.entries.push(
            &mut lines,
            &NewEntry {
                ts: at.time,
                session_id: &self.config.recorder_session,
                kind: "transcript_root",
                event_kind: "transcript_root",
                transport: "",
                summary: &summary,
                detail: &detail,
            },
        );
        lines.extend(self.checkpoint(at.time));
        Ok(Closed {
            lines,
            receipt_count,
            final_seq,
            root_hash: self.head,
        })
    }

    /// Returns the sequence number of the next entry. If a new file starts with this entry, the
    /// name of the file contains this number.
    pub fn next_seq(&self) -> u64 {
        self.entries.next_seq
    }

    /// Returns the number of intents without an outcome.
    pub fn open_intents(&self) -> usize {
        self.open_intents.len()
    }

    /// Returns the public key of the receipts, lowercase hex.
    pub fn signer_key(&self) -> &str {
        &self.signer_key
    }

    fn session_receipt(
        &mut self,
        target: &str,
        control: &str,
        at: Moment<'_>,
    ) -> Result<Vec<u8>, RecorderError> {
        let action = Action {
            action_id: at.id,
            action_type: ActionType::Unclassified,
            verdict: ReceiptVerdict::Allow,
            phase: None,
            transport: Transport::ReceiptSession,
            target,
            method: "",
            layer: "",
            pattern: "",
            request_id: "",
        };
        self.receipt(&action, SESSION_ACTOR, at.time, Some(control))
    }

    /// Signs one receipt, puts it into an entry, and adds a checkpoint if one is due.
    fn receipt(
        &mut self,
        action: &Action<'_>,
        actor: &str,
        time: &str,
        session_control: Option<&str>,
    ) -> Result<Vec<u8>, RecorderError> {
        require("action_id", action.action_id)?;
        require("target", action.target)?;
        require("timestamp", time)?;
        let record = Record {
            action: *action,
            actor,
            timestamp: time,
            policy_hash: &self.config.policy_hash,
            run_nonce: &self.config.run_nonce,
            chain_prev_hash: &self.head,
            chain_seq: self.receipts,
            session_control,
        };
        let (receipt, hash) = record.sign(&self.key, &self.signer_key);
        let kind = action.action_type.as_str();
        let transport = action.transport.as_str();
        let summary = format!("receipt: {} {kind} {transport}", action.verdict.as_str());
        let mut entries = self.entries.clone();
        let mut lines = Vec::with_capacity(receipt.len().saturating_add(512));
        entries.push(
            &mut lines,
            &NewEntry {
                ts: time,
                session_id: &self.config.recorder_session,
                kind: "action_receipt",
                event_kind: kind,
                transport,
                summary: &summary,
                detail: &receipt,
            },
        );
        if lines.len() > MAX_LINE_BYTES {
            return Err(RecorderError::TooLong { bytes: lines.len() });
        }
        self.entries = entries;
        self.head = hash;
        self.receipts = self.receipts.saturating_add(1);
        if self.config.checkpoint_interval > 0
            && self.entries.since_checkpoint >= self.config.checkpoint_interval
        {
            lines.extend(self.checkpoint(time));
        }
        Ok(lines)
    }
}

/// An entry that is not yet in the chain.
struct NewEntry<'a> {
    ts: &'a str,
    session_id: &'a str,
    kind: &'a str,
    event_kind: &'a str,
    transport: &'a str,
    summary: &'a str,
    detail: &'a str,
}

impl Entries {
    /// Appends the line of `entry` to `lines` and makes it the head of the chain.
    fn push(&mut self, lines: &mut Vec<u8>, entry: &NewEntry<'_>) {
        let seq = self.next_seq.to_string();
        let hash = entry_hash(&[
            "2",
            &seq,
            entry.ts,
            entry.session_id,
            "",
            entry.kind,
            entry.event_kind,
            entry.transport,
            entry.summary,
            entry.detail,
            "",
            &self.head,
        ]);
        let mut text = String::with_capacity(entry.detail.len().saturating_add(512));
        ObjectWriter::new(&mut text)
            .number("v", 2)
            .raw("seq", &seq)
            .string("ts", entry.ts)
            .string("session_id", entry.session_id)
            .string("type", entry.kind)
            .optional("event_kind", entry.event_kind)
            .string("transport", entry.transport)
            .string("summary", entry.summary)
            .raw("detail", entry.detail)
            .string("prev_hash", &self.head)
            .string("hash", &hash)
            .end();
        lines.extend_from_slice(text.as_bytes());
        lines.push(b'\n');
        self.head = hash;
        self.next_seq = self.next_seq.saturating_add(1);
        self.since_checkpoint = self.since_checkpoint.saturating_add(1);
    }
}

/// Computes the hash of the outer chain over the parts, joined by one zero byte (section 1.2).
pub(crate) fn entry_hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            hasher.update([0]);
        }
        hasher.update(part.as_bytes());
    }
    hex::encode(hasher.finalize())
}

fn require(field: &'static str, text: &str) -> Result<(), RecorderError> {
    if text.is_empty() {
        Err(RecorderError::Empty { field })
    } else {
        Ok(())
    }
}
