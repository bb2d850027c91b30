//! `Verified → Emitted`: writes the packet, whole or not at all, and reads `packet.json` back.
//!
//! Claims: read-new-packet
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use audit_packet::attest;
use audit_packet::boundary::{Attestation, BoundaryFiles, BoundaryReport, PolicyFile, judge};
use audit_packet::build::{PacketInputs, build};
use audit_packet::denied::{Attempts, in_natural_order};
use audit_packet::format::boundary::Denied;
use audit_packet::grade::Graded;
use audit_packet::model::{Packet, PacketVerdict, Provider, Run, ScannerConfig, Verifier};
use audit_packet::reconcile::{self, Receipts};
use audit_packet::rendered::{self, Source};
use audit_packet::stream::{FileDigest, Stream};
use audit_packet::{
    ATTESTATION_FILE, BOUNDARY_FILE, CAPSULE_FILE, CHANGES_ARCHIVE, CHANGES_FILE, EVIDENCE_FILE,
    FLOWS_FILE, IDENTITY_FILE, PACKET_FILE, POLICY_FILE, REPORT_FILE, SUMMARY_FILE, VERIFIER_FILE,
};
use ed25519_dalek::VerifyingKey;
use egress_policy::allowed::Allowed;
use egress_sandbox::probe::model::ProbeResult;
use egress_sys::clock;
use egress_timestamp::Stamp;
use egress_workspace::apply::Recovered;
use egress_workspace::apply::model::Change;
use pipelock_receipts::check::MAX_DOCUMENT_BYTES;
use pipelock_receipts::report::{EvidenceReport, EvidenceVerdict};

use super::closed_home::ClosedHome;
use super::digest::sha256;
use super::ending::Ending;
use super::error::RunError;
use super::facts::RunFacts;
use super::notice::Notice;
use super::notices;
use super::plan::Mode;
use super::record;
use super::verify::Verified;

/// The result of a finished run. If several results apply, the first one in this list counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// The machine, the boundary, or the mediator failed while the command ran.
    BoundaryFailed,
    /// The command ran, but its evidence or the requested time stamp is invalid or missing.
    EvidenceUnsound,
    /// The command was ended by the timeout.
    TimedOut,
    /// The command's own exit status, or 126 or 127 if it could not be executed.
    Command(u8),
}

/// A finished run. Only this value has a [`RunOutcome`].
#[derive(Debug)]
pub struct Emitted {
    outcome: RunOutcome,
    /// How the command ended.
    pub ending: Ending,
    /// The caller's closed home, if the command was not executed because its program or its interpreter is there.
    pub hiding_home: Option<ClosedHome>,
    /// Whether `--require-trusted` fails this run only because the caller gave no key for the receipts.
    pub lacks_signer_key: bool,
    /// The first word of the command.
    pub command: String,
    /// The working directory.
    pub workdir: PathBuf,
    /// The packet directory.
    pub packet_path: PathBuf,
    /// SHA-256 of `packet.json`, lowercase hex.
    pub packet_sha256: String,
    /// The packet.
    pub packet: Packet,
    /// The run's `--mode`.
    pub mode: Mode,
    /// The summary for people, in Markdown.
    pub summary: String,
    /// The grade of the boundary, with its reasons.
    pub graded: Graded,
    /// The check of the evidence.
    pub report: EvidenceReport,
    /// The hosts that the policy allows.
    pub allowed: Allowed,
    /// The ports that the run allows.
    pub open_ports: Vec<u16>,
    /// Denied destinations with their counts.
    pub denied: Attempts,
    /// Number of attempts that the relay or the kernel denied, so that the mediator did not judge them.
    pub denied_elsewhere: u64,
    /// Answers that look like a denial and that no receipt confirms, with their counts.
    pub answered: Attempts,
    /// Notices for the caller.
    pub notices: Vec<Notice>,
    /// The time stamp over the attestation, if one was requested and received.
    pub stamp: Option<Stamp>,
    /// Reasons why the record is not complete. Empty if the record is complete.
    pub incomplete: Vec<String>,
    /// Probes that succeeded or are inconclusive, and that the caller accepted.
    pub accepted: Vec<ProbeResult>,
    /// The command's changes to the workspace, if they were stored separately.
    pub changes: Option<Vec<Change>>,
    /// How this run handled the changes of killed runs.
    pub recovered: Vec<Recovered>,
}

impl Emitted {
    /// Returns the result of the run.
    pub fn outcome(&self) -> RunOutcome {
        self.outcome
    }
}

impl RunOutcome {
    /// Returns the result of the run if a requested time stamp is missing. A requested time stamp is a part of the
    /// evidence.
    fn without_stamp(self) -> Self {
        match self {
            Self::BoundaryFailed => self,
            Self::EvidenceUnsound | Self::TimedOut | Self::Command(_) => Self::EvidenceUnsound,
        }
    }
}

impl Verified {
    /// Writes the packet.
    ///
    /// # Errors
    /// Fails if the packet cannot be written, or `packet.json` does not read back as it was written.
    pub fn emit(self) -> Result<Emitted, RunError> {
        let (receipts, report, run) = self.into_parts();
        let mut emission = Emission {
            receipts,
            report,
            run,
        };
        let path = emission.run.context.plan.packet.path().to_path_buf();
        emission.write(&path).map_err(|source| {
            let kept = match emission.run.context.dir.keep() {
                Ok(Some(kept)) => format!("the evidence is kept in {}", kept.display()),
                Ok(None) => String::from("there is no evidence"),
                Err(error) => format!("the evidence could not be kept either: {error}"),
            };
            RunError::Packet { path, kept, source }
        })
    }
}

/// Returns the number of all attempts.
fn sum(attempts: &[(Denied, u64)]) -> u64 {
    let counts = attempts.iter().map(|(_, count)| *count);
    counts.fold(0, u64::saturating_add)
}

/// The parts of a verified run, from which the packet is built.
struct Emission {
    receipts: Receipts,
    report: EvidenceReport,
    run: RunFacts,
}

impl Emission {
    fn write(&mut self, packet_path: &Path) -> io::Result<Emitted> {
        let denied_elsewhere = self.confirm_denials();
        let mut packet = build(inputs(&self.run), &self.report);
        if let Some(why) = self.run.unverified {
            packet.verifier = unverified(packet.verifier, why);
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
        let run = &mut self.run;
        let mut files = vec![
            (BOUNDARY_FILE, measured),
            (EVIDENCE_FILE, evidence_bytes(run)),
            (IDENTITY_FILE, run.context.plan.identity.clone()),
            (FLOWS_FILE, std::mem::take(&mut run.flows)),
            (POLICY_FILE, run.policy.yaml.clone().into_bytes()),
            (REPORT_FILE, pages.report.into_bytes()),
            (SUMMARY_FILE, summary.clone().into_bytes()),
            (VERIFIER_FILE, pages.verifier.into_bytes()),
            (PACKET_FILE, text),
        ];
        if let Some(capsule) = run.capsule.take() {
            files.insert(1, (CAPSULE_FILE, capsule.bytes));
        }
        if let Some(changes) = changes {
            files.insert(1, (CHANGES_FILE, changes));
        }
        let mut digests: Vec<FileDigest> = files
            .iter()
            .map(|(name, bytes)| FileDigest::of(name, bytes))
            .collect();
        if let Some(workspace) = &mut run.workspace
            && let Some(mut archive) = workspace.archive.take()
        {
            archive.rewind()?;
            let mut stream = Stream::new(&mut archive, u64::MAX);
            stream.hash_rest()?;
            digests.push(stream.digest(CHANGES_ARCHIVE));
            stream.rewind()?;
            drop(stream);
            run.context.plan.packet.attach(CHANGES_ARCHIVE, archive);
        }
        let attestation = self.attest(&digests, &boundary.graded)?;
        files.push((ATTESTATION_FILE, attestation.clone()));
        self.run.context.plan.packet.replace(&files)?;
        read_back(packet_path, &packet_sha256)?;
        let (outcome, stamp) = self.stamp(&attestation, &mut notices);
        let lacks_signer_key = self.lacks_signer_key();
        let run = &mut self.run;
        let context = &mut run.context;
        let probes = &context.measured.probes;
        let command = context.plan.command.first().cloned().unwrap_or_default();
        let hiding_home = match &run.ending {
            Ending::NotExecuted(why) => {
                let home = context.plan.closed_home.as_ref();
                home.filter(|home| home.hides(why, &command, &context.plan.workdir))
                    .cloned()
            }
            Ending::Exited(_) | Ending::TimedOut | Ending::Failed(_) => None,
        };
        Ok(Emitted {
            outcome,
            ending: run.ending.clone(),
            hiding_home,
            lacks_signer_key,
            command: command.to_string_lossy().into_owned(),
            workdir: context.plan.workdir.clone(),
            packet_path: packet_path.to_path_buf(),
            packet_sha256,
            packet,
            mode: context.plan.mode,
            summary,
            graded: boundary.graded,
            report: self.report.clone(),
            allowed: boundary.allowed,
            open_ports: context.plan.open_ports(),
            denied: std::mem::take(&mut run.denied),
            denied_elsewhere,
            answered: std::mem::take(&mut run.answered),
            notices,
            stamp,
            incomplete: std::mem::take(&mut run.incomplete),
            accepted: probes.accepted(&context.plan.accepted_risks),
            changes: run.workspace.take().map(|one| one.plan.changes),
            recovered: std::mem::take(&mut context.recovered),
        })
    }

    /// Removes answers that look like a denial from the denials, unless the receipts confirm them. Returns the number of
    /// attempts that the relay or the kernel denied.
    fn confirm_denials(&mut self) -> u64 {
        let allowed = Allowed::read(&self.run.policy.yaml).unwrap_or_default();
        let all = std::mem::take(&mut self.run.denied);
        let (answers, mut denied) = all
            .into_iter()
            .partition(|(denied, _)| denied.answered_with().is_some());
        let (signed, mut unclear) = reconcile::confirmed(answers, &self.receipts, &allowed);
        // The mediator denied the attempts that receipts confirm, and those that the relay reports as blocked.
        let elsewhere = sum(&denied).saturating_sub(self.blocked());
        denied.extend(signed);
        in_natural_order(&mut denied, |(denied, count)| (denied, *count));
        in_natural_order(&mut unclear, |(denied, count)| (denied, *count));
        (self.run.denied, self.run.answered) = (denied, unclear);
        elsewhere
    }

    /// Returns the number of requests that the relay reports as denied by the mediator.
    fn blocked(&self) -> u64 {
        let verdicts = &self.run.counts.by_relay_verdict;
        verdicts.get("blocked").copied().unwrap_or_default()
    }

    /// Signs the digests of all other files of the packet except the time stamp, and returns the bytes of
    /// `attestation.json`.
    fn attest(&self, digests: &[FileDigest], graded: &Graded) -> io::Result<Vec<u8>> {
        let context = &self.run.context;
        let predicate = attest::Predicate {
            run_id: context.dir.id().to_owned(),
            tool: concat!("egress-", env!("CARGO_PKG_VERSION")).to_owned(),
            verdict: self.report.verdict.as_str().to_owned(),
            grade: graded.grade.as_str().to_owned(),
        };
        Ok(attest::sign(
            digests,
            predicate,
            &context.plan.boundary_key.key,
        )?)
    }

    /// Returns the result of the run, and its time stamp if one was requested. The packet is already on the disk, so a
    /// slow or silent authority cannot prevent its writing.
    fn stamp(&self, attestation: &[u8], notices: &mut Vec<Notice>) -> (RunOutcome, Option<Stamp>) {
        let (outcome, plan) = (self.outcome(), &self.run.context.plan);
        let Some(authority) = &plan.timestamp else {
            return (outcome, None);
        };
        match authority.stamp(attestation, &plan.packet) {
            Ok(stamp) => (outcome, Some(stamp)),
            Err(error) => {
                let text = format!(
                    "the packet has no time stamp from {}: {error}",
                    authority.shown()
                );
                notices.push(Notice::general(text));
                (outcome.without_stamp(), None)
            }
        }
    }

    /// Grades the boundary with the same code as `egress verify`. Only a key that the caller supplied is trusted.
    fn judge(&self, packet: &Packet, measured: &[u8], changes: Option<&[u8]>) -> BoundaryReport {
        let run = &self.run;
        let signer = &run.context.plan.boundary_key;
        let files = BoundaryFiles {
            boundary: Some(measured),
            flows: Some(Ok(Stream::of(&run.flows))),
            capsule: run.capsule.as_ref().map(|one| one.bytes.as_slice()),
            identity: Some(&run.context.plan.identity),
            policy: Some(PolicyFile {
                bytes: run.policy.yaml.as_bytes(),
                read: Allowed::read,
            }),
            changes,
            archive: None,
            attestation: Attestation::Pending {
                pinned: signer.pinned,
            },
        };
        let key = signer.key.verifying_key();
        let keys: &[VerifyingKey] = if signer.pinned { &[key] } else { &[] };
        judge(files, Some(packet), &self.report, &self.receipts, keys)
    }

    fn outcome(&self) -> RunOutcome {
        match &self.run.ending {
            Ending::Failed(_) => RunOutcome::BoundaryFailed,
            _ if self.run.helper_failed => RunOutcome::BoundaryFailed,
            _ if !self.is_sound() => RunOutcome::EvidenceUnsound,
            Ending::TimedOut => RunOutcome::TimedOut,
            Ending::Exited(_) | Ending::NotExecuted(_) => self
                .run
                .ending
                .status()
                .and_then(|status| u8::try_from(status).ok())
                .map_or(RunOutcome::BoundaryFailed, RunOutcome::Command),
        }
    }

    /// Returns whether the evidence is not trusted, although `--require-trusted` requires it, because the caller gave
    /// no key. A run with disabled layers does not use the caller's key.
    fn lacks_signer_key(&self) -> bool {
        let plan = &self.run.context.plan;
        plan.require_trusted
            && !plan.signer.pinned
            && plan.layers.warning().is_none()
            && self.run.unverified.is_none()
            && self.report.verdict == EvidenceVerdict::SelfConsistentOnly
    }

    /// Returns whether the evidence exists and is valid. A run without evidence counts as sound, because its
    /// packet states that there is no evidence.
    fn is_sound(&self) -> bool {
        self.run.unverified.is_some()
            || match self.report.verdict {
                EvidenceVerdict::Valid => true,
                EvidenceVerdict::SelfConsistentOnly => !self.run.context.plan.require_trusted,
                EvidenceVerdict::Invalid | EvidenceVerdict::Error => false,
            }
    }
}

/// Returns all evidence files, one after the other, byte for byte.
fn evidence_bytes(run: &RunFacts) -> Vec<u8> {
    let files = run.evidence.iter();
    files.flat_map(|(_, bytes)| bytes.iter().copied()).collect()
}

fn inputs(run: &RunFacts) -> PacketInputs {
    let policy = &run.context.plan.policy;
    PacketInputs {
        packet_id: Some(format!("egress-{}", run.context.dir.id())),
        generated_at: clock::now_rfc3339(),
        run: identity(run),
        config_path: policy
            .path
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned()),
        runtime_config_path: Some(
            run.context
                .dir
                .path()
                .join(POLICY_FILE)
                .to_string_lossy()
                .into_owned(),
        ),
        config_snapshot_sha256: Some(sha256(run.policy.yaml.as_bytes())),
        scanner_config_snapshot: Some(ScannerConfig {
            mode: Some(run.policy.mode.clone()),
            ..run.mediator.scanner.clone()
        }),
        posture: record::posture(run),
    }
}

/// Returns the verifier's part of a packet without receipts.
fn unverified(verifier: Verifier, why: &str) -> Verifier {
    Verifier {
        verdict: PacketVerdict::Error,
        trusted: false,
        signer_key: None,
        error: Some(why.to_owned()),
        ..verifier
    }
}

/// Describes the run with the variables of the CI system, if there is one.
fn identity(run: &RunFacts) -> Run {
    let variable = |name: &str| {
        let found = run
            .context
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
    let agent_exit_code = run.ending.status().map(i64::from);
    Run {
        provider,
        repository: github("GITHUB_REPOSITORY"),
        workflow: github("GITHUB_WORKFLOW"),
        run_id: github("GITHUB_RUN_ID"),
        run_attempt: github("GITHUB_RUN_ATTEMPT"),
        git_ref: github("GITHUB_REF"),
        sha: github("GITHUB_SHA"),
        agent_identity: run.context.plan.agent_identity.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: read-new-packet*
    #[test]
    fn packet_reads_back_if_it_is_one_short_regular_file_of_the_same_digest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(PACKET_FILE);
        let wanted = sha256(b"{}");
        std::fs::write(&path, "{}").unwrap();
        read_back(dir.path(), &wanted).unwrap();
        let error = |dir: &Path| read_back(dir, &wanted).unwrap_err().to_string();
        std::fs::write(&path, "[]").unwrap();
        assert!(error(dir.path()).contains("reads back differently"));
        let long = std::fs::File::create(&path).unwrap();
        long.set_len(MAX_DOCUMENT_BYTES + 1).unwrap();
        assert!(error(dir.path()).contains("is longer than"));
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(error(dir.path()).contains("not a regular file"));
    }
}
