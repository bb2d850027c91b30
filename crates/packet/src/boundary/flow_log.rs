//! Reads the flow log of a packet, and compares the log with the packet's statements about it.
use std::io;

use pipelock_receipts::findings::{Findings, Place};
use pipelock_receipts::json::Node;
use pipelock_receipts::report::EvidenceReport;

use super::super::activity::Activity;
use super::super::continuity::Continuity;
use super::super::counted::Counted;
use super::super::flows::{FlowReport, check_flows};
use super::super::format::Row;
use super::super::format::boundary::BoundaryDocument;
use super::super::grade::{Caps, Grade};
use super::super::joined::Joined;
use super::super::model::Packet;
use super::super::names::FLOWS_FILE;
use super::super::reconcile::Reconciler;
use super::super::rules;
use super::super::stream::{FileDigest, Stream};
use super::files::BoundaryFiles;

/// The results of reading the flow log.
#[derive(Default)]
pub(super) struct FlowLog {
    /// Check of the chain, if the rows were read.
    pub(super) flows: Option<FlowReport>,
    digest: Option<FileDigest>,
    /// Reasons why the enforcement was not continuous.
    pub(super) breaks: Vec<String>,
    /// The comparison of the rows with the receipts.
    pub(super) reconciler: Reconciler,
    pub(super) counted: Counted,
    /// The comparison of the rows with each other.
    pub(super) joined: Joined,
    /// The traffic for the pages.
    pub(super) activity: Activity,
}

impl FlowLog {
    /// Checks the chain of the flow log and searches for breaks in the enforcement. If the log does
    /// not have the stated digest, the log is hashed and its rows are not read.
    pub(super) fn read(
        files: &mut BoundaryFiles<'_>,
        boundary_document: Option<&BoundaryDocument>,
        packet: Option<&Packet>,
        report: &EvidenceReport,
        findings: &mut Findings,
        caps: &mut Caps,
    ) -> Self {
        let stated = [
            boundary_document.map(|boundary_document| boundary_document.flows.sha256.as_str()),
            files.attestation.sha256(FLOWS_FILE),
        ];
        let log = Self::stream(
            files.flows.take(),
            stated,
            (boundary_document, packet),
            report,
            findings,
        );
        if let Some(boundary_document) = boundary_document {
            log.check_identity(boundary_document, findings, caps);
        }
        if let Some(digest) = &log.digest {
            files.attestation.read(digest.clone());
        }
        log
    }

    fn stream(
        stream: Option<Result<Stream<'_>, String>>,
        stated: [Option<&str>; 2],
        (boundary_document, packet): (Option<&BoundaryDocument>, Option<&Packet>),
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
                done.breaks = vec![String::from("there is no flow log")];
                return done;
            }
        };
        let nothing = BoundaryDocument::default();
        let boundary_document = boundary_document.unwrap_or(&nothing);
        let mut continuity = Continuity::new(boundary_document);
        done.activity = Activity::new(boundary_document, packet);
        let (reconciler, counted, joined, activity) = (
            &mut done.reconciler,
            &mut done.counted,
            &mut done.joined,
            &mut done.activity,
        );
        let read = is_stated(&mut stream, &stated).and_then(|is_stated| {
            let visit = &mut |node: &Node<'_>| {
                let row = Row::read(node);
                continuity.see(&row);
                reconciler.see(&row);
                counted.see(node, &row);
                joined.see(&row);
                activity.see(&row);
            };
            is_stated
                .then(|| check_flows(&mut stream, visit))
                .transpose()
        });
        done.digest = Some(stream.digest(FLOWS_FILE));
        match read {
            Err(error) => done.refuse(error.to_string(), findings),
            Ok(flows) => {
                // Without a close, the time of the last receipt is only that of the last action.
                let is_closed = report
                    .session
                    .as_ref()
                    .is_some_and(|session| !session.close_reason.is_empty());
                let close = is_closed.then_some(report.last_time.as_str());
                if flows.is_some() {
                    done.breaks = continuity.finish(close);
                }
                done.flows = flows;
            }
        }
        done
    }

    /// Checks that `flows.jsonl` is the log whose digest, head, and length `boundary.json` states.
    fn check_identity(
        &self,
        boundary_document: &BoundaryDocument,
        findings: &mut Findings,
        caps: &mut Caps,
    ) {
        let Some(digest) = &self.digest else {
            caps.cap(Grade::Unproven, "flows.jsonl is missing");
            return;
        };
        // A finding already reports that the log was not read to its end.
        if digest.size.is_none() {
            return;
        }
        let stated = &boundary_document.flows;
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

    fn refuse(&mut self, why: String, findings: &mut Findings) {
        findings.add(
            &rules::BOUNDARY_FLOWS,
            Place::in_file(FLOWS_FILE),
            "a readable flow log",
            why.as_str(),
        );
        self.digest = Some(FileDigest::none(FLOWS_FILE, why));
    }
}

/// Whether the file has every stated digest. If it does, rewinds the file to its start.
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
