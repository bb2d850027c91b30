//! `Verified → Emitted`: the packet is written, whole or not at all, and read back.
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use audit_packet::attest;
use audit_packet::boundary::{Attestation, BoundaryFiles, BoundaryReport, PolicyFile, judge};
use audit_packet::build::{PacketInputs, build};
use audit_packet::denied::{self, Attempts};
use audit_packet::grade::Graded;
use audit_packet::model::{Packet, PacketVerdict, Provider, Run, ScannerConfig, Verifier};
use audit_packet::reconcile;
use audit_packet::rendered::{self, Source};
use audit_packet::stream::{FileDigest, Stream};
use audit_packet::timestamp::Stamp;
use audit_packet::{
    ATTESTATION_FILE, BOUNDARY_FILE, CAPSULE_FILE, CHANGES_ARCHIVE, CHANGES_FILE, EVIDENCE_FILE,
    FLOWS_FILE, IDENTITY_FILE, PACKET_FILE, POLICY_FILE, REPORT_FILE, SUMMARY_FILE, VERIFIER_FILE,
};
use ed25519_dalek::VerifyingKey;
use egress_policy::allowed::Allowed;
use egress_sandbox::probe::model::ProbeResult;
use egress_sys::clock;
use egress_workspace::apply::Recovered;
use egress_workspace::apply::model::Change;
use pipelock_receipts::check::MAX_DOCUMENT_BYTES;
use pipelock_receipts::report::Report;

use super::collect::Collected;
use super::digest::sha256;
use super::ending::Ending;
use super::error::RunError;
use super::notices;
use super::plan::Mode;
use super::record;
use super::verify::Verified;

/// What a finished run comes down to; the first that applies, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// The machine, the boundary or the mediator failed while the command ran.
    BoundaryFailed,
    /// The command ran; its evidence is invalid or missing, or the time stamp that was asked for is.
    EvidenceUnsound,
    /// The time-out ended the command.
    TimedOut,
    /// The command's own exit status, or 126 or 127 when it could not be executed.
    Command(u8),
}

/// A finished run. The only value with an [`RunOutcome`].
#[derive(Debug)]
pub struct Emitted {
    outcome: RunOutcome,
    /// How the agent ended.
    pub ending: Ending,
    /// The first word of the command.
    pub command: String,
    /// Where the packet is.
    pub packet_path: PathBuf,
    /// SHA-256 of `packet.json`, lowercase hex.
    pub packet_sha256: String,
    /// The packet.
    pub packet: Packet,
    /// Whether the network was closed.
    pub mode: Mode,
    /// The summary for people, Markdown.
    pub summary: String,
    /// How far the packet shows the boundary.
    pub graded: Graded,
    /// The check of the evidence.
    pub report: Report,
    /// Refused destinations with how often.
    pub denied: Attempts,
    /// Answers that look like a denial and that no receipt confirms, the same.
    pub answered: Attempts,
    /// What people should know beyond the verdict.
    pub notices: Vec<String>,
    /// The time stamp over the attestation, if one was asked for and given.
    pub stamp: Option<Stamp>,
    /// Why the record is not complete.
    pub incomplete: Vec<String>,
    /// What the probes found open, or could not prove closed, and the caller accepted.
    pub accepted: Vec<ProbeResult>,
    /// What the agent changed in the workspace, where that was kept apart.
    pub changes: Option<Vec<Change>>,
    /// What was done about killed runs before this one.
    pub recovered: Vec<Recovered>,
}

impl Verified {
    /// Writes the packet.
    ///
    /// # Errors
    /// When it cannot be written or reads back differently.
    pub fn emit(mut self) -> Result<Emitted, RunError> {
        let packet_path = self.run.plan.packet.path().to_path_buf();
        self.write(&packet_path).map_err(|source| {
            let kept = match self.run.dir.keep() {
                Ok(Some(kept)) => format!("the evidence is kept in {}", kept.display()),
                Ok(None) => String::from("there is no evidence"),
                Err(error) => format!("the evidence could not be kept either: {error}"),
            };
            RunError::Packet {
                path: packet_path,
                kept,
                source,
            }
        })
    }

    fn write(&mut self, packet_path: &Path) -> io::Result<Emitted> {
        self.confirm_denials();
        let mut packet = build(inputs(&self.run), &self.report);
        if self.run.plan.mode == Mode::Audit {
            packet.verifier = unverified(packet.verifier);
        }
        let mut text = serde_json::to_vec_pretty(&packet)?;
        text.push(b'\n');
        let packet_sha256 = sha256(&text);
        let mut notices = notices::of(&self.run);
        let measured = record::boundary(&self.run, &notices)?;
        let changes = record::changes(&self.run)?;
        let boundary = self.judge(&packet, &measured, changes.as_deref());
        let pages = rendered::render(&Source {
            packet: &packet,
            packet_sha256: &packet_sha256,
            report: &self.report,
            verdict: self.report.verdict,
            boundary: &boundary,
        });
        let summary = pages.summary;
        let accepted = self
            .run
            .measured
            .probes
            .accepted(&self.run.plan.accepted_risks);
        let mut files = vec![
            (BOUNDARY_FILE, measured),
            (EVIDENCE_FILE, self.run.evidence_bytes()),
            (IDENTITY_FILE, self.run.plan.identity.clone()),
            (FLOWS_FILE, std::mem::take(&mut self.run.flows)),
            (POLICY_FILE, self.run.policy.yaml.clone().into_bytes()),
            (REPORT_FILE, pages.report.into_bytes()),
            (SUMMARY_FILE, summary.clone().into_bytes()),
            (VERIFIER_FILE, pages.verifier.into_bytes()),
            (PACKET_FILE, text),
        ];
        if let Some(capsule) = self.run.capsule.take() {
            files.insert(1, (CAPSULE_FILE, capsule.bytes));
        }
        if let Some(changes) = changes {
            files.insert(1, (CHANGES_FILE, changes));
        }
        let mut digests: Vec<FileDigest> = files
            .iter()
            .map(|(name, bytes)| FileDigest::of(name, bytes))
            .collect();
        if let Some(workspace) = &mut self.run.workspace
            && let Some(mut archive) = workspace.archive.take()
        {
            archive.rewind()?;
            let mut stream = Stream::new(&mut archive, u64::MAX);
            stream.hash_rest()?;
            digests.push(stream.digest(CHANGES_ARCHIVE));
            stream.rewind()?;
            drop(stream);
            self.run.plan.packet.attach(CHANGES_ARCHIVE, archive);
        }
        let attestation = self.attest(&digests, &boundary.graded)?;
        files.push((ATTESTATION_FILE, attestation.clone()));
        self.run.plan.packet.replace(&files)?;
        read_back(packet_path, &packet_sha256)?;
        let (outcome, stamp) = self.stamp(&attestation, &mut notices);
        let command = self.run.plan.command.first().cloned().unwrap_or_default();
        Ok(Emitted {
            outcome,
            ending: self.run.ending.clone(),
            command: command.to_string_lossy().into_owned(),
            packet_path: packet_path.to_path_buf(),
            packet_sha256,
            packet,
            mode: self.run.plan.mode,
            summary,
            graded: boundary.graded,
            report: self.report.clone(),
            denied: std::mem::take(&mut self.run.denied),
            answered: std::mem::take(&mut self.run.answered),
            notices,
            stamp,
            incomplete: std::mem::take(&mut self.run.incomplete),
            accepted,
            changes: self.run.workspace.take().map(|one| one.plan.changes),
            recovered: std::mem::take(&mut self.run.recovered),
        })
    }

    /// Takes answers that look like a denial off the list of denials, unless the receipts confirm them.
    fn confirm_denials(&mut self) {
        let allowed = Allowed::read(&self.run.policy.yaml).unwrap_or_default();
        let all = std::mem::take(&mut self.run.denied);
        let (answers, mut denied) = all
            .into_iter()
            .partition(|(denied, _)| denied.answered_with().is_some());
        let (signed, mut unclear) = reconcile::confirmed(answers, &self.receipts, &allowed);
        denied.extend(signed);
        denied::sort(&mut denied);
        denied::sort(&mut unclear);
        (self.run.denied, self.run.answered) = (denied, unclear);
    }

    /// The signature over all other files.
    fn attest(&self, digests: &[FileDigest], graded: &Graded) -> io::Result<Vec<u8>> {
        let predicate = attest::Predicate {
            run_id: self.run.dir.id().to_owned(),
            tool: concat!("egress-", env!("CARGO_PKG_VERSION")).to_owned(),
            verdict: self.report.verdict.as_str().to_owned(),
            grade: graded.grade.as_str().to_owned(),
        };
        let key = &self.run.plan.boundary_key.key;
        Ok(attest::sign(digests, predicate, key)?)
    }

    /// What the run comes down to, and its time stamp if one was asked for. The packet is on the disk by now: an authority
    /// that takes its time, or never answers, cannot cost it.
    fn stamp(&self, attestation: &[u8], notices: &mut Vec<String>) -> (RunOutcome, Option<Stamp>) {
        let (outcome, plan) = (self.outcome(), &self.run.plan);
        let Some(authority) = &plan.timestamp else {
            return (outcome, None);
        };
        match authority.stamp(attestation, &plan.packet) {
            Ok(stamp) => (outcome, Some(stamp)),
            Err(error) => {
                notices.push(format!(
                    "the packet has no time stamp of {}: {error}",
                    authority.shown()
                ));
                (outcome.without_stamp(), None)
            }
        }
    }

    /// What the packet will show of the boundary, by the same code that `egress verify` is. A key that
    /// the caller named is pinned.
    fn judge(&self, packet: &Packet, measured: &[u8], changes: Option<&[u8]>) -> BoundaryReport {
        let boundary = &self.run.plan.boundary_key;
        let files = BoundaryFiles {
            boundary: Some(measured),
            flows: Some(Ok(Stream::of(&self.run.flows))),
            capsule: self.run.capsule.as_ref().map(|one| one.bytes.as_slice()),
            identity: Some(&self.run.plan.identity),
            policy: Some(PolicyFile {
                bytes: self.run.policy.yaml.as_bytes(),
                read: Allowed::read,
            }),
            changes,
            attestation: Attestation::Pending {
                pinned: boundary.pinned,
            },
        };
        let key = boundary.key.verifying_key();
        let keys: &[VerifyingKey] = if boundary.pinned { &[key] } else { &[] };
        judge(files, Some(packet), &self.report, &self.receipts, keys)
    }

    fn outcome(&self) -> RunOutcome {
        match &self.run.ending {
            Ending::Failed(_) => RunOutcome::BoundaryFailed,
            _ if self.run.helper_failed => RunOutcome::BoundaryFailed,
            // An audit has no evidence, and says so everywhere.
            _ if !self.is_sound() && self.run.plan.mode == Mode::Enforce => {
                RunOutcome::EvidenceUnsound
            }
            Ending::TimedOut => RunOutcome::TimedOut,
            Ending::Exited(status) | Ending::NotExecuted(status) => {
                u8::try_from(*status).map_or(RunOutcome::BoundaryFailed, RunOutcome::Command)
            }
        }
    }
}

impl RunOutcome {
    /// The same without a time stamp that was asked for: it is a part of the evidence.
    fn without_stamp(self) -> Self {
        match self {
            Self::BoundaryFailed => self,
            Self::EvidenceUnsound | Self::TimedOut | Self::Command(_) => Self::EvidenceUnsound,
        }
    }
}

impl Emitted {
    /// What the run comes down to.
    pub fn outcome(&self) -> RunOutcome {
        self.outcome
    }
}

fn inputs(run: &Collected) -> PacketInputs {
    let policy = &run.plan.policy;
    PacketInputs {
        packet_id: Some(format!("egress-{}", run.dir.id())),
        generated_at: clock::now_rfc3339(),
        run: identity(run),
        config_path: policy
            .path
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned()),
        runtime_config_path: Some(
            run.dir
                .path()
                .join(POLICY_FILE)
                .to_string_lossy()
                .into_owned(),
        ),
        config_snapshot_sha256: Some(sha256(run.policy.yaml.as_bytes())),
        scanner_config_snapshot: Some(scanner_config(run)),
        posture: record::posture(run),
    }
}

/// What scanned. How many patterns a real Pipelock has, it does not say.
fn scanner_config(run: &Collected) -> ScannerConfig {
    let known = |value| run.pipelock.is_none().then_some(value);
    ScannerConfig {
        mode: Some(run.policy.mode.clone()),
        dlp_patterns_count: known(0),
        response_patterns_count: known(0),
        ssrf_enabled: run.pipelock.is_none().then_some(true),
        redaction_enabled: run.pipelock.is_none().then_some(false),
        flight_recorder_enabled: Some(true),
    }
}

/// The verifier's part of an audit's packet.
fn unverified(verifier: Verifier) -> Verifier {
    Verifier {
        verdict: PacketVerdict::Error,
        trusted: false,
        signer_key: None,
        error: Some(String::from(
            "audit mode: nothing was enforced, and there are no receipts",
        )),
        ..verifier
    }
}

/// Who ran it, from the provider's own variables where there is one.
fn identity(run: &Collected) -> Run {
    let variable = |name: &str| {
        let found = run
            .plan
            .environment
            .iter()
            .find(|(key, _)| key.to_str() == Some(name));
        found
            .and_then(|(_, value)| value.to_str())
            .map(str::to_owned)
            .filter(|text| !text.is_empty())
    };
    let on_github = variable("GITHUB_ACTIONS").as_deref() == Some("true");
    let github = |name: &str| if on_github { variable(name) } else { None };
    let provider = match (on_github, variable("CI")) {
        (true, _) => Provider::GithubActions,
        (false, Some(_)) => Provider::SelfHosted,
        (false, None) => Provider::Local,
    };
    let agent_exit_code = match &run.ending {
        Ending::Exited(status) | Ending::NotExecuted(status) => Some(i64::from(*status)),
        Ending::TimedOut | Ending::Failed(_) => None,
    };
    Run {
        provider,
        repository: github("GITHUB_REPOSITORY"),
        workflow: github("GITHUB_WORKFLOW"),
        run_id: github("GITHUB_RUN_ID"),
        run_attempt: github("GITHUB_RUN_ATTEMPT"),
        git_ref: github("GITHUB_REF"),
        sha: github("GITHUB_SHA"),
        agent_identity: run.plan.agent_identity.clone(),
        started_at: run.started_at.clone(),
        completed_at: Some(run.completed_at.clone()),
        agent_exit_code,
    }
}

fn read_back(dir: &Path, wanted: &str) -> io::Result<()> {
    let written = egress_files::read(&dir.join(PACKET_FILE), MAX_DOCUMENT_BYTES)?;
    if sha256(&written) == wanted {
        Ok(())
    } else {
        Err(io::Error::other(
            "packet.json reads back differently from what was written",
        ))
    }
}
