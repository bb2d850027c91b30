//! Chains for the tests, signed with a key that is generated at run time.
#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]
use std::fs;
use std::path::{Path, PathBuf};

use audit_packet::activity::Activity;
use audit_packet::build::{PacketInputs, build};
use audit_packet::flows::FlowChain;
use audit_packet::format::boundary::BoundaryDocument;
use audit_packet::grade::{Grade, Graded};
use audit_packet::held_back::HeldBack;
use audit_packet::model::{
    BrowserProxyStatus, DnsUdpStatus, DockerSocketStatus, Packet, Posture as PacketPosture,
    Provider, RawSocketStatus, Run, ScannerConfig, WebSocketFrameScanning,
};
use audit_packet::shown::Shown;
use audit_packet::{
    EVIDENCE_FILE, FLOWS_FILE, PACKET_FILE, POLICY_FILE, SUMMARY_FILE, VERIFIER_FILE, summary,
    verifier_text,
};
use egress_policy::allowed::Allowed;
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{EvidenceFile, check_evidence};
use pipelock_receipts::keys;
use pipelock_receipts::record::{Action, ActionType, Phase, Posture, ReceiptVerdict, Transport};
use pipelock_receipts::recorder::{Closed, Moment, Recorder, SessionConfig};
use pipelock_receipts::report::EvidenceReport;
use sha2::{Digest, Sha256};

/// Returns the directory of the corpora, which are not part of the repository. Tests that need the corpora are ignored
/// unless the caller requests them.
pub(crate) fn corpora() -> PathBuf {
    let shared = std::env::var_os("EGRESS_SHARED")
        .expect("EGRESS_SHARED is not set to the directory of the corpora");
    let path = Path::new(&shared).join("corpora");
    assert!(
        path.join("cases.json").is_file(),
        "EGRESS_SHARED names a directory without corpora/cases.json"
    );
    path
}

/// Recorder session of the test chains.
pub(crate) const SESSION: &str = "proxy.run.0123456789abcdef0123456789abcdef";
/// Policy of the test chains.
pub(crate) const POLICY: &str = "mode: strict\napi_allowlist: [host1.test]\n";

/// A finished session.
pub(crate) struct Chain {
    /// The lines of the file, each with its LF.
    pub(crate) lines: Vec<Vec<u8>>,
    /// The last lines and the counts that the recorder returned when it closed the session.
    pub(crate) closed: Closed,
    /// The signing key.
    pub(crate) key: ed25519_dalek::SigningKey,
}

impl Chain {
    /// Returns the whole file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.lines.concat()
    }

    /// Returns the public key.
    pub(crate) fn key_hex(&self) -> String {
        hex::encode(self.key.verifying_key().to_bytes())
    }
}

/// Returns a time that is `step` seconds after an arbitrary start.
pub(crate) fn time(step: u64) -> String {
    format!("2026-11-24T10:{:02}:{:02}.5Z", step / 60 % 60, step % 60)
}

/// Returns a version 7 UUID.
pub(crate) fn id(step: u64) -> String {
    format!("01a20d10-da40-7c63-bb84-{step:012x}")
}

/// Returns the configuration of a test session.
pub(crate) fn config(checkpoint_interval: u64) -> SessionConfig {
    SessionConfig {
        recorder_session: String::from(SESSION),
        run_nonce: "ab".repeat(16),
        open_nonce: "cd".repeat(16),
        actor: String::from("ci-agent"),
        policy_hash: hex::encode(Sha256::digest(POLICY)),
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

/// Returns a complete session with `actions` allowed actions (intent and outcome), a denial after every third action,
/// and a heartbeat after every tenth action.
pub(crate) fn chain(actions: u64, checkpoint_interval: u64) -> Chain {
    let key = keys::generate().unwrap();
    chain_with(&key, actions, checkpoint_interval)
}

/// Returns the session of [`chain`], signed with `key`.
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
            verdict: ReceiptVerdict::Allow,
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
                verdict: ReceiptVerdict::Block,
                phase: None,
                transport: Transport::Forward,
                // The built-in mediator writes targets in this form.
                target: "http://refused.test/[redacted-value]?[query 3 0123456789abcdef]",
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

/// Returns the packet that a run would write for a chain.
pub(crate) fn packet_for(report: &EvidenceReport) -> Packet {
    let inputs = PacketInputs {
        packet_id: None,
        generated_at: time(1900),
        run: Run {
            provider: Provider::Local,
            repository: None,
            workflow: None,
            run_id: None,
            run_attempt: None,
            git_ref: None,
            sha: None,
            agent_identity: String::from("ci-agent"),
            started_at: time(0),
            completed_at: Some(time(1800)),
            agent_exit_code: Some(0),
        },
        config_path: None,
        runtime_config_path: Some(String::from("/run/egress/policy.yaml")),
        config_snapshot_sha256: Some(hex::encode(Sha256::digest(POLICY))),
        scanner_config_snapshot: Some(ScannerConfig {
            mode: Some(String::from("strict")),
            ..ScannerConfig::default()
        }),
        posture: PacketPosture {
            enforcement_mode: String::from("linux_netns_ebpf"),
            runner_os: String::from("Linux"),
            runner_arch: Some(String::from("X64")),
            raw_socket_status: RawSocketStatus::Denied,
            docker_socket_status: DockerSocketStatus::Absent,
            dns_udp_status: DnsUdpStatus::Denied,
            browser_proxy_status: BrowserProxyStatus::Forced,
            websocket_frame_scanning: WebSocketFrameScanning::ExplicitWsProxyPathRequired,
            network_namespace: None,
            agent_user: None,
            agent_uid: Some(65533),
            host_user: None,
            host_uid: None,
            host_ip: None,
            agent_ip: None,
            proxy_url: None,
            script_basename: Some(String::from("agent.sh")),
            script_arg_count: Some(0),
            unsupported_paths: vec![String::from("ssh_egress")],
        },
    };
    build(inputs, report)
}

/// Writes a packet directory.
pub(crate) fn write_packet(directory: &Path, chain: &Chain) -> Packet {
    let bytes = chain.bytes();
    let file = EvidenceFile {
        name: EVIDENCE_FILE,
        bytes: &bytes,
    };
    let trust = Trust {
        keys: vec![chain.key.verifying_key()],
    };
    let report = check_evidence(&[file], &trust);
    let packet = packet_for(&report);
    let mut flows = FlowChain::new();
    let mut lines = Vec::new();
    for event in ["start", "stop"] {
        let fields = serde_json::json!({ "event": event });
        lines.extend(flows.line(fields.as_object().unwrap()));
    }
    let graded = Graded {
        grade: Grade::None,
        reasons: Vec::new(),
    };
    let summary = summary::render(&Shown {
        packet: &packet,
        report: &report,
        boundary_document: &BoundaryDocument::default(),
        graded: &graded,
        allowed: &Allowed::default(),
        activity: &Activity::default(),
        held_back: &HeldBack::default(),
        packet_sha256: "",
    });
    let text = verifier_text::render(report.verdict, &report, &report.findings, None, None);
    for (name, content) in [
        (EVIDENCE_FILE, bytes.as_slice()),
        (PACKET_FILE, packet.to_json().unwrap().as_bytes()),
        (SUMMARY_FILE, summary.as_bytes()),
        (VERIFIER_FILE, text.as_bytes()),
        (POLICY_FILE, POLICY.as_bytes()),
        (FLOWS_FILE, &lines),
    ] {
        fs::write(directory.join(name), content).unwrap();
    }
    packet
}
