//! What `boundary.json` and the receipts say of the mediator, as far as it changes what is expected.
use pipelock_receipts::session::SessionFacts;

use crate::format::boundary::BoundaryDocument;

/// The program whose presence shows that the kernel counted the bytes of a run.
const WITNESS: &str = "mediator_sockops";

/// Who signed, as far as it changes what is expected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Writer {
    /// The built-in mediator: an intent and an outcome for each action, always.
    Builtin,
    /// A Pipelock whose receipts have sessions (3.x).
    Pipelock,
    /// An older one: it signs an action only when it ended well, and no port of a tunnel.
    #[default]
    OldPipelock,
}

/// The circumstances of one run.
#[expect(
    clippy::struct_excessive_bools,
    reason = "four facts that do not depend on each other"
)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Who signed.
    pub writer: Writer,
    /// The mediator opens TLS.
    pub intercepts: bool,
    /// The mediator replaces parts of targets that hold secrets by a rule of its own.
    pub redacts: bool,
    /// The kernel programs of the run count bytes.
    pub has_witness: bool,
    /// The mediator closed its session: it had the time to sign everything.
    pub is_closed: bool,
}

impl Circumstances {
    /// What `boundary.json` says; without it, what may be expected of the least that could have been there.
    pub fn of(measured: Option<&BoundaryDocument>, session: Option<&SessionFacts>) -> Self {
        let is_closed = session.is_some_and(|session| !session.close_reason.is_empty());
        let writer = if session.is_some() {
            Writer::Pipelock
        } else {
            Writer::OldPipelock
        };
        let Some(measured) = measured else {
            return Self {
                writer,
                redacts: true,
                is_closed,
                ..Self::default()
            };
        };
        let mediator = &measured.mediator;
        let mut programs = measured.programs.attached.iter();
        Self {
            writer: if mediator.is_builtin() {
                Writer::Builtin
            } else {
                writer
            },
            intercepts: measured.tls_interception.is_some(),
            redacts: mediator.pipelock().is_some_and(|facts| facts.redact),
            has_witness: programs.any(|program| program.name == WITNESS),
            is_closed,
        }
    }
}
