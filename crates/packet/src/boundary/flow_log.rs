//! Reads the flow log of a packet, and holds it to what the packet states of it.
use std::io;

use pipelock_receipts::findings::{Findings, Place};
use pipelock_receipts::json::Node;
use pipelock_receipts::report::EvidenceReport;

use super::super::continuity::Continuity;
use super::super::counted::Counted;
use super::super::flows::{FlowReport, check_flows};
use super::super::format::Row;
use super::super::format::boundary::BoundaryDocument;
use super::super::grade::{Caps, Grade};
use super::super::joined::Joined;
use super::super::names::FLOWS_FILE;
use super::super::reconcile::Reconciler;
use super::super::rules;
use super::super::stream::{FileDigest, Stream};
use super::files::BoundaryFiles;

/// What became of the flow log.
#[derive(Default)]
pub(super) struct FlowLog {
    /// The check of its chain, if its rows were read.
    pub(super) flows: Option<FlowReport>,
    /// What was read of it, if it is there.
    digest: Option<FileDigest>,
    /// Breaks in the enforcement.
    pub(super) unbroken: Vec<String>,
    /// Its rows, to be compared with the receipts.
    pub(super) reconciler: Reconciler,
    /// Its rows, counted.
    pub(super) counted: Counted,
    /// Its rows, held against each other.
    pub(super) joined: Joined,
}

impl FlowLog {
    /// Checks the chain of the flow log and looks for breaks in the enforcement. A log without a digest that is stated
    /// of it is hashed, and its rows are not read.
    pub(super) fn read(
        files: &mut BoundaryFiles<'_>,
        measured: Option<&BoundaryDocument>,
        report: &EvidenceReport,
        findings: &mut Findings,
        caps: &mut Caps,
    ) -> Self {
        let stated = [
            measured.map(|measured| measured.flows.sha256.as_str()),
            files.attestation.sha256(FLOWS_FILE),
        ];
        let log = Self::stream(files.flows.take(), stated, measured, report, findings);
        if let Some(measured) = measured {
            log.check_identity(measured, findings, caps);
        }
        if let Some(digest) = &log.digest {
            files.attestation.read(digest.clone());
        }
        log
    }

    fn stream(
        stream: Option<Result<Stream<'_>, String>>,
        stated: [Option<&str>; 2],
        measured: Option<&BoundaryDocument>,
        report: &EvidenceReport,
        findings: &mut Findings,
    ) -> Self {
        let mut done = Self::default();
        let mut stream = match stream {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => {
                done.refuse(error, findings);
                return done;
            }
            None => {
                done.unbroken = vec![String::from("there is no flow log")];
                return done;
            }
        };
        let nothing = BoundaryDocument::default();
        let mut continuity = Continuity::new(measured.unwrap_or(&nothing));
        let (reconciler, counted, joined) =
            (&mut done.reconciler, &mut done.counted, &mut done.joined);
        let read = is_stated(&mut stream, &stated).and_then(|is_stated| {
            let visit = &mut |node: &Node<'_>| {
                let row = Row::read(node);
                continuity.see(&row);
                reconciler.see(&row);
                counted.see(node, &row);
                joined.see(&row);
            };
            is_stated
                .then(|| check_flows(&mut stream, visit))
                .transpose()
        });
        done.digest = Some(stream.digest(FLOWS_FILE));
        match read {
            Err(error) => done.refuse(error.to_string(), findings),
            Ok(flows) => {
                // Without a close the last receipt is only the agent's last action.
                let is_closed = report
                    .session
                    .as_ref()
                    .is_some_and(|session| !session.close_reason.is_empty());
                let close = is_closed.then_some(report.last_time.as_str());
                if flows.is_some() {
                    done.unbroken = continuity.finish(close);
                }
                done.flows = flows;
            }
        }
        done
    }

    /// `flows.jsonl` is the log whose digest, head and length `boundary.json` states.
    fn check_identity(
        &self,
        measured: &BoundaryDocument,
        findings: &mut Findings,
        caps: &mut Caps,
    ) {
        let Some(digest) = &self.digest else {
            caps.cap(Grade::Unproven, "flows.jsonl is missing");
            return;
        };
        // That it was not read to its end has been said.
        if digest.size.is_none() {
            return;
        }
        let stated = &measured.flows;
        let mut compare = |stated: &str, actual: &str| {
            if stated != actual {
                findings.add(
                    &rules::BOUNDARY_FLOWS,
                    Place::in_file(FLOWS_FILE),
                    stated,
                    actual,
                );
            }
        };
        compare(&stated.sha256, &digest.sha256);
        if let Some(flows) = &self.flows {
            compare(&stated.head, &flows.head);
            compare(&stated.rows.to_string(), &flows.lines.to_string());
        }
    }

    /// The log cannot be read.
    fn refuse(&mut self, why: String, findings: &mut Findings) {
        findings.add(
            &rules::BOUNDARY_FLOWS,
            Place::in_file(FLOWS_FILE),
            "a flow log",
            why.as_str(),
        );
        self.digest = Some(FileDigest::none(FLOWS_FILE, why));
    }
}

/// Whether the file has all digests that are stated of it; if so, it is at its start again.
fn is_stated(stream: &mut Stream<'_>, stated: &[Option<&str>]) -> io::Result<bool> {
    if stated.iter().all(Option::is_none) {
        return Ok(true);
    }
    stream.hash_rest()?;
    let actual = stream.digest(FLOWS_FILE).sha256;
    let is_stated = stated.iter().flatten().all(|stated| *stated == actual);
    if is_stated {
        stream.rewind()?;
    }
    Ok(is_stated)
}
