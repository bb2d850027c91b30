//! Chains for the tests, signed with a key made at run time.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test binary uses a part of it"
)]
use egress::receipt::keys;
use egress::receipt::record::{Action, ActionType, Phase, Posture, Transport, Verdict};
use egress::receipt::recorder::{Closed, Moment, Recorder, SessionConfig};

/// Recorder session of the test chains.
pub(crate) const SESSION: &str = "proxy.run.0123456789abcdef0123456789abcdef";
/// Policy hash of the test chains.
pub(crate) const POLICY_HASH: &str =
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A finished session.
pub(crate) struct Chain {
    /// The lines of the file, each with its LF.
    pub(crate) lines: Vec<Vec<u8>>,
    /// What the recorder says about the end.
    pub(crate) closed: Closed,
    /// The signing key.
    pub(crate) key: ed25519_dalek::SigningKey,
}

impl Chain {
    /// The whole file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.lines.concat()
    }

    /// The public key.
    pub(crate) fn key_hex(&self) -> String {
        hex::encode(self.key.verifying_key().to_bytes())
    }
}

/// A time `seconds` and `nanos` after an arbitrary start.
pub(crate) fn time(step: u64) -> String {
    format!("2026-11-24T10:{:02}:{:02}.5Z", step / 60 % 60, step % 60)
}

/// A version 7 identifier.
pub(crate) fn id(step: u64) -> String {
    format!("01a20d10-da40-7c63-bb84-{step:012x}")
}

/// The configuration of a test session.
pub(crate) fn config(checkpoint_interval: u64) -> SessionConfig {
    SessionConfig {
        recorder_session: String::from(SESSION),
        run_nonce: "ab".repeat(16),
        open_nonce: "cd".repeat(16),
        actor: String::from("ci-agent"),
        policy_hash: String::from(POLICY_HASH),
        heartbeat_seconds: 60,
        posture: Posture {
            capsule_sha256: "11".repeat(32),
            signer_key_id: "22".repeat(32),
            containment_nonce: "33".repeat(64),
            contained_uid: String::from("65533"),
        },
        checkpoint_interval,
    }
}

/// A clean session with `actions` allowed actions (intent and outcome), a refusal after every
/// third, and a heartbeat after every tenth.
pub(crate) fn chain(actions: u64, checkpoint_interval: u64) -> Chain {
    let key = keys::generate().unwrap();
    chain_with(&key, actions, checkpoint_interval)
}

/// [`chain`] with a given key.
pub(crate) fn chain_with(
    key: &ed25519_dalek::SigningKey,
    actions: u64,
    checkpoint_interval: u64,
) -> Chain {
    let at = time(0);
    let (mut recorder, first) = Recorder::open(
        key.clone(),
        config(checkpoint_interval),
        Moment {
            time: &at,
            id: &id(0),
        },
    )
    .unwrap();
    let mut bytes = first;
    bytes.extend(
        recorder
            .heartbeat(Moment {
                time: &at,
                id: &id(1),
            })
            .unwrap(),
    );
    for step in 1..=actions {
        let at = time(step);
        let request = format!("req-{step}");
        let action_id = id(step * 16);
        let target = format!("https://host{step}.test:443/?q=<&>\u{e9}\u{2028}\"\\");
        let action = Action {
            action_id: &action_id,
            action_type: ActionType::Read,
            verdict: Verdict::Allow,
            phase: Some(Phase::Intent),
            transport: Transport::Connect,
            target: &target,
            method: "CONNECT",
            layer: "",
            pattern: "",
            request_id: &request,
        };
        bytes.extend(recorder.action(&action, &at).unwrap());
        let outcome = Action {
            phase: Some(Phase::Outcome),
            layer: "outcome",
            pattern: "status=200 bytes=5 reason=complete",
            ..action
        };
        bytes.extend(recorder.action(&outcome, &at).unwrap());
        if step % 3 == 0 {
            let block_id = id(step * 16 + 1);
            let block = Action {
                action_id: &block_id,
                action_type: ActionType::for_method("POST"),
                verdict: Verdict::Block,
                phase: None,
                transport: Transport::Forward,
                target: "http://refused.test/",
                method: "POST",
                layer: "allowlist",
                pattern: "domain not in allowlist: refused.test",
                ..action
            };
            bytes.extend(recorder.action(&block, &at).unwrap());
        }
        if step % 10 == 0 {
            bytes.extend(
                recorder
                    .heartbeat(Moment {
                        time: &at,
                        id: &id(step * 16 + 2),
                    })
                    .unwrap(),
            );
        }
    }
    let at = time(actions + 1);
    let closed = recorder
        .close(
            "graceful_shutdown",
            Moment {
                time: &at,
                id: &id(2),
            },
        )
        .unwrap();
    bytes.extend(&closed.lines);
    let lines = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    Chain {
        lines,
        closed,
        key: key.clone(),
    }
}
