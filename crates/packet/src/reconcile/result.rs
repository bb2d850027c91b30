//! What the comparison says.
use std::collections::BTreeMap;
use std::time::Duration;

use super::disagreement::Disagreement;
use super::tally;

/// The two recorders and the kernel compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciliation {
    /// Requests and tunnels that the mediator was asked for.
    pub asked: u64,
    /// Those that have a receipt.
    pub receipted: u64,
    /// Those that have none, by the reason that the relay saw.
    pub without_receipt: BTreeMap<String, u64>,
    /// Those that went through and have none: a loss.
    pub unsigned: u64,
    /// Receipts that no request of the relay explains: a loss.
    pub unasked: u64,
    /// Connections that the kernel redirected and no row of the relay shows: a loss.
    pub unseen: u64,
    /// Connections that the relay refused without asking, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Attempts by the kernel's verdict.
    pub kernel: BTreeMap<String, u64>,
    /// By how much the system clock was set during the run.
    pub clock_set: Duration,
    /// Rows of the relay by verdict.
    pub relay: BTreeMap<String, u64>,
    /// What the recorders contradict each other in, and how often.
    pub disagreements: BTreeMap<Disagreement, u64>,
    /// Receipts that no second recorder can confirm: requests inside TLS that the mediator opened.
    pub said_alone: u64,
}

impl Reconciliation {
    pub(super) fn disagree(&mut self, what: Disagreement, count: u64) {
        if count > 0 {
            tally::some(&mut self.disagreements, what, count);
        }
    }

    /// What is lost or contradicted, in words; it lowers the grade.
    pub fn losses(&self) -> Vec<String> {
        let losses = [
            (
                self.unsigned,
                "requests went through of which no receipt was signed",
            ),
            (
                self.unasked,
                "receipts stand for nothing that the relay asked",
            ),
            (
                self.unseen,
                "redirected connections are in no row of the relay",
            ),
        ];
        let disagreements = self.disagreements.iter();
        losses
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .chain(disagreements.map(|(what, count)| (*count, what.says())))
            .map(|(count, what)| format!("{count} {what}"))
            .collect()
    }
}
