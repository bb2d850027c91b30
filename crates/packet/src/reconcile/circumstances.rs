//! The facts about a run that change how its records are compared.
use pipelock_receipts::form::EntryForms;
use pipelock_receipts::report::EvidenceReport;
use time::OffsetDateTime;

use crate::format::boundary::{BoundaryDocument, Step};

/// The kernel program that counts bytes.
const WITNESS: &str = "mediator_sockops";

/// The kind of mediator that signed the receipts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Writer {
    /// The built-in mediator, which signs an intent and an outcome for each allowed action.
    Builtin,
    /// A Pipelock whose receipts have sessions (3.x).
    Pipelock,
    /// An older Pipelock. An older Pipelock signs an action only if the action was denied or ended without an error,
    /// and does not sign the port of a tunnel.
    #[default]
    OldPipelock,
}

/// The facts of one run.
#[expect(clippy::struct_excessive_bools, reason = "four independent facts")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Kind of the mediator.
    pub writer: Writer,
    /// Whether the mediator opens TLS.
    pub intercepts: bool,
    /// Whether the mediator redacts secrets in targets by its own rules.
    pub redacts: bool,
    /// Whether the kernel programs of the run count bytes.
    pub has_witness: bool,
    /// Whether the mediator closed its session, and therefore had time to sign every receipt.
    pub is_closed: bool,
    /// First and last time that an entry of the evidence states.
    pub written: Option<(OffsetDateTime, OffsetDateTime)>,
    /// Numbers of entries of the evidence whose form is not that of a writer.
    pub forms: EntryForms,
    /// Time from the start of the run to the command, ms. The mediator opens its session in this time.
    pub preparation: i64,
}

impl Circumstances {
    /// Reads the facts from `boundary.json`. Without that document, the returned facts make the
    /// comparison expect as little as possible.
    pub fn of(boundary_document: Option<&BoundaryDocument>, report: &EvidenceReport) -> Self {
        let session = report.session.as_ref();
        let written = report.written;
        let is_closed = session.is_some_and(|session| !session.close_reason.is_empty());
        let writer = if session.is_some() {
            Writer::Pipelock
        } else {
            Writer::OldPipelock
        };
        let Some(boundary_document) = boundary_document else {
            return Self {
                writer,
                redacts: true,
                is_closed,
                written,
                forms: report.forms,
                ..Self::default()
            };
        };
        let mediator = &boundary_document.mediator;
        let mut programs = boundary_document.programs.attached.iter();
        Self {
            writer: if mediator.is_builtin() {
                Writer::Builtin
            } else {
                writer
            },
            intercepts: boundary_document.tls_interception.is_some(),
            redacts: mediator.pipelock().is_some_and(|facts| facts.redact),
            has_witness: programs.any(|program| program.name == WITNESS),
            is_closed,
            written,
            forms: report.forms,
            preparation: preparation(boundary_document),
        }
    }
}

/// Returns the time from the start of the run to the first step of the command, ms.
fn preparation(boundary_document: &BoundaryDocument) -> i64 {
    let executed = Step::CommandExecuted.as_str();
    let mut marks = boundary_document.timeline.iter();
    let mark = marks.find(|mark| mark.step.as_str() == executed);
    mark.map_or(0, |mark| {
        i64::try_from(mark.at_us / 1000).unwrap_or(i64::MAX)
    })
}
