//! Runs for the tests of the pages: any number of destinations, with any text in every place that a command or the
//! evidence can fill.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
use audit_packet::activity::Activity;
use audit_packet::format::Row;
use audit_packet::format::boundary::{
    AllowedRow, AttestationKey, BoundaryDocument, Control, Denied, DeniedRow, Probe, ProbeOutcome,
    Probes,
};
use audit_packet::format::changes::ChangesDocument;
use audit_packet::format::rows::{AttemptRow, RelayRow};
use audit_packet::format::words::{RelayVerdict, Transport};
use audit_packet::grade::{Grade, Graded};
use audit_packet::held_back::HeldBack;
use audit_packet::model::Packet;
use audit_packet::shown::Shown;
use audit_packet::{html, summary};
use egress_policy::allowed::Allowed;
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{EvidenceFile, check_evidence};
use pipelock_receipts::report::EvidenceReport;
use serde_json::json;

use super::support::{chain, packet_for};

/// A name with markup, character references, and control and format characters.
pub(crate) const HOSTILE: &str = "</td><script src=//evil.test/x>alert(1)</script><img src=x onerror=alert(1)>\
    \"'`&lt;&#x3c;</style>{{x}}\u{202e}\u{200b}\u{0}\u{1b}[2J\n<!--";

/// A run, as the pages receive it.
pub(crate) struct PageRun {
    pub(crate) packet: Packet,
    pub(crate) document: BoundaryDocument,
    pub(crate) graded: Graded,
    pub(crate) held_back: HeldBack,
    pub(crate) allowed: Allowed,
    /// The key of the receipts and of the boundary.
    pub(crate) key: String,
    report: EvidenceReport,
    rows: Vec<Row>,
    sha256: String,
}

impl PageRun {
    /// Returns a run with `count` denied and `count` allowed destinations, in which every text contains `text`.
    pub(crate) fn new(count: u16, text: &str) -> Self {
        let chain = chain(4, 2);
        let bytes = chain.bytes();
        let file = EvidenceFile {
            name: "evidence.jsonl",
            bytes: &bytes,
        };
        let trust = Trust {
            keys: vec![chain.key.verifying_key()],
        };
        let report = check_evidence(&[file], &trust);
        let mut packet = packet_for(&report);
        let own = || String::from(text);
        packet.run.agent_identity = own();
        packet.run.repository = Some(own());
        packet.run.workflow = Some(own());
        packet.run.sha = Some(own());
        packet.run.started_at = String::from("2026-11-24T10:00:00Z");
        packet.run.completed_at = Some(String::from("2026-11-24T10:00:30Z"));
        packet.posture.script_basename = Some(own());
        packet.posture.unsupported_paths = vec![own()];
        packet.verifier.error = Some(own());
        let through = json!({"requests": 2, "bytes_up": 3, "bytes_down": 5, "head_bytes": 13, "target_bytes": 8});
        let channels = json!({
            "allowed_hosts": {text: through}, "other_hosts": through, "blocked": through, "names": 11, "name_bytes": 13,
        });
        let key = hex::encode(chain.key.verifying_key().to_bytes());
        let mut document = BoundaryDocument {
            probes: Probes {
                results: vec![Probe {
                    name: own().into(),
                    outcome: ProbeOutcome::Denied,
                    detail: own().into(),
                    control: Control {
                        succeeded: true,
                        detail: own().into(),
                    },
                }],
                ..Probes::default()
            },
            residual_channels: serde_json::from_value(channels).unwrap(),
            notices: vec![own().into()],
            incomplete: vec![own().into()],
            attestation: AttestationKey {
                key: key.clone().into(),
                pinned: true,
            },
            packet_directory: own().into(),
            answered: vec![DeniedRow {
                count: 1,
                attempt: attempt(text, text, text),
            }],
            ..BoundaryDocument::default()
        };
        document.workspace.changes = serde_json::from_value(
            json!({"applied": 1, "refused": 3, "conflicts": 0, "discarded": 0}),
        )
        .unwrap();
        let changes: ChangesDocument = serde_json::from_value(json!({
            "schema_version": "egress.changes.v0", "mode": "apply", "changes": [
                {"path": "out", "change": "created", "kind": "file", "outcome": "applied"},
                {"path": text, "change": "created", "kind": "symlink", "outcome": "refused", "target": text,
                    "reason": "points_outside"},
                {"path": text, "change": "moved", "kind": "directory", "outcome": "refused", "from": text,
                    "reason": {"io": text}},
                {"path": ".github/workflows/x.yml", "change": "created", "kind": "file", "outcome": "refused",
                    "reason": "github"},
            ],
        }))
        .unwrap();
        let mut run = Self {
            packet,
            document,
            graded: Graded {
                grade: Grade::KernelObserved,
                reasons: vec![own()],
            },
            held_back: HeldBack::of(Some(&changes)),
            allowed: Allowed::default(),
            key,
            report,
            rows: Vec::new(),
            sha256: own(),
        };
        for number in 1..=count {
            run.allow(&format!("h{number}.{text}"), text);
            run.deny(&format!("d{number}.{text}"), text);
            run.deny_datagram(&format!("u{number}.{text}"), text);
        }
        run
    }

    /// Adds an allowed destination with two requests.
    fn allow(&mut self, host: &str, process: &str) {
        self.document.allowed.push(AllowedRow {
            host: host.into(),
            port: 80,
            count: 2,
        });
        for (second, pid) in [(1, 101), (20, 102)] {
            self.rows.push(Row::Relay(Box::new(RelayRow {
                ts: format!("2026-11-24T10:00:{second:02}Z").into(),
                host: Some(host.into()),
                port: Some(80),
                protocol: "http".into(),
                transport: Some(Transport::Forward),
                target: Some(format!("GET http://{host}/path?[query 3 00]").into()),
                verdict: RelayVerdict::Forwarded,
                bytes_up: 1_000,
                head_bytes: 24,
                bytes_down: 5_000_000,
                duration_us: 500_000,
                process: process.to_owned(),
                exe: Some(format!("/usr/bin/{process}").into()),
                pid: Some(pid),
                ..RelayRow::default()
            })));
        }
    }

    /// Adds a destination that the mediator denied.
    pub(crate) fn deny(&mut self, host: &str, process: &str) {
        self.document.denied.push(DeniedRow {
            count: 1,
            attempt: attempt(host, process, "allowlist:not_in_allowlist"),
        });
        self.rows.push(Row::Relay(Box::new(RelayRow {
            ts: "2026-11-24T10:00:10Z".into(),
            host: Some(host.into()),
            port: Some(443),
            protocol: "connect".into(),
            transport: Some(Transport::Connect),
            target: Some(format!("CONNECT {host}:443").into()),
            verdict: RelayVerdict::Blocked,
            reason: String::from("allowlist:not_in_allowlist"),
            process: process.to_owned(),
            pid: Some(103),
            ..RelayRow::default()
        })));
    }

    /// Adds a destination that the kernel denied.
    fn deny_datagram(&mut self, host: &str, process: &str) {
        self.document.denied.push(DeniedRow {
            count: 1,
            attempt: Denied {
                port: 53,
                protocol: String::from("udp"),
                reason: String::from("dns_to_other_resolver"),
                ..attempt(host, process, "")
            },
        });
        self.rows.push(Row::Kernel(AttemptRow {
            ts: "2026-11-24T10:00:11Z".into(),
            verdict: "denied".into(),
            reason: "dns_to_other_resolver".into(),
            protocol: "udp".into(),
            dst: "192.0.2.1".into(),
            name: Some(host.into()),
            port: 53,
            process: process.to_owned(),
            pid: 104,
            ..AttemptRow::default()
        }));
    }

    fn shown<T>(&self, show: impl FnOnce(&Shown<'_>) -> T) -> T {
        let mut activity = Activity::new(&self.document, Some(&self.packet));
        for row in &self.rows {
            activity.see(row);
        }
        show(&Shown {
            packet: &self.packet,
            report: &self.report,
            boundary_document: &self.document,
            graded: &self.graded,
            allowed: &self.allowed,
            activity: &activity,
            held_back: &self.held_back,
            packet_sha256: &self.sha256,
        })
    }

    pub(crate) fn report(&self) -> String {
        self.shown(html::render)
    }

    pub(crate) fn summary(&self) -> String {
        self.shown(summary::render)
    }
}

fn attempt(host: &str, process: &str, reason: &str) -> Denied {
    Denied {
        destination: host.to_owned(),
        port: 443,
        protocol: String::from("connect"),
        reason: reason.to_owned(),
        process: process.to_owned(),
    }
}
