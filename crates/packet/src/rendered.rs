//! Renders the pages for people. The writer of a packet renders them, and a verifier renders them again.
//!
//! The pages contain only data of the packet, so a verifier detects a page that states anything else.
use pipelock_receipts::findings::{Finding, Findings, Place};
use pipelock_receipts::report::{EvidenceReport, EvidenceVerdict};

use super::boundary::BoundaryReport;
use super::format::boundary::BoundaryDocument;
use super::model::Packet;
use super::names::{REPORT_FILE, SUMMARY_FILE, VERIFIER_FILE};
use super::shown::Shown;
use super::verifier_text::{self, About};
use super::{html, rules, summary};

/// The version of egress, as in `boundary.json`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The data of the pages.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The packet.
    pub packet: &'a Packet,
    /// SHA-256 of `packet.json`, lowercase hex.
    pub packet_sha256: &'a str,
    /// The check of the receipts.
    pub report: &'a EvidenceReport,
    /// The verdict of the receipts for the keys that the writer of the packet pinned.
    pub verdict: EvidenceVerdict,
    /// Check of the boundary.
    pub boundary: &'a BoundaryReport,
}

/// The pages of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    /// `summary.md`.
    pub summary: String,
    /// `verifier.txt`.
    pub verifier: String,
    /// `report.html`.
    pub report: String,
}

/// The pages that a packet contains.
#[derive(Debug, Clone, Copy, Default)]
pub struct Found<'a> {
    /// `summary.md`.
    pub summary: Option<&'a [u8]>,
    /// `verifier.txt`.
    pub verifier: Option<&'a [u8]>,
    /// `report.html`.
    pub report: Option<&'a [u8]>,
}

/// Renders the pages of a packet.
pub fn render(source: &Source<'_>) -> Pages {
    let Source {
        packet,
        packet_sha256,
        report,
        verdict,
        boundary,
    } = *source;
    let nothing = BoundaryDocument::default();
    let shown = Shown {
        packet,
        report,
        boundary_document: boundary.boundary_document.as_ref().unwrap_or(&nothing),
        graded: &boundary.as_written,
        allowed: &boundary.allowed,
        activity: &boundary.activity,
        held_back: &boundary.held_back,
        packet_sha256,
    };
    let mut findings: Vec<Finding> = report.findings.clone();
    findings.extend(boundary.findings.iter().cloned());
    // When the page is written, the packet is not yet signed.
    let unsigned = BoundaryReport {
        graded: boundary.as_written.clone(),
        signer: None,
        ..boundary.clone()
    };
    let about = About {
        packet,
        boundary_document: boundary.boundary_document.as_ref(),
        identity: None,
        is_packet_signed: None,
    };
    Pages {
        summary: summary::render(&shown),
        verifier: verifier_text::render(verdict, report, &findings, Some(&unsigned), Some(&about)),
        report: html::render(&shown),
    }
}

/// Compares the pages of a packet with the pages that this version renders. Pages of another
/// version are not compared, and a finding reports that.
pub fn check(source: &Source<'_>, found: &Found<'_>, findings: &mut Findings) {
    let version = source.boundary.boundary_document.as_ref();
    let version = version.map_or("", |boundary_document| {
        boundary_document.egress.version.as_str()
    });
    if version != VERSION {
        let expected = format!("a packet of egress {VERSION}");
        findings.add(
            &rules::NOT_RENDERED,
            Place::in_file(SUMMARY_FILE),
            expected,
            version,
        );
        return;
    }
    let pages = render(source);
    for (file, found, rendered) in [
        (SUMMARY_FILE, found.summary, pages.summary),
        (VERIFIER_FILE, found.verifier, pages.verifier),
        (REPORT_FILE, found.report, pages.report),
    ] {
        match found {
            None => findings.add(
                &rules::RENDERED,
                Place::in_file(file),
                "the page",
                "no such file",
            ),
            Some(bytes) if bytes != rendered.as_bytes() => {
                let (expected, found) = first_difference(&rendered, bytes);
                findings.add(&rules::RENDERED, Place::in_file(file), expected, found);
            }
            Some(_) => {}
        }
    }
}

fn first_difference(rendered: &str, found: &[u8]) -> (String, String) {
    let found = String::from_utf8_lossy(found);
    let mut lines = found.lines();
    for line in rendered.lines() {
        match lines.next() {
            Some(other) if other == line => {}
            Some(other) => return (line.to_owned(), other.to_owned()),
            None => return (line.to_owned(), String::from("the end")),
        }
    }
    let more = lines.next().unwrap_or("different line ends");
    (String::from("the end"), more.to_owned())
}
