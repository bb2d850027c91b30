//! The result of the comparison.
use std::collections::BTreeMap;
use std::time::Duration;

use super::disagreement::Disagreement;
use super::tally;

/// The result of the comparison of relay, mediator, and kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciliation {
    /// Number of requests that the relay sent to the mediator, including tunnels.
    pub asked: u64,
    /// Number of requests with a receipt.
    pub receipted: u64,
    /// Number of requests without a receipt, by the reason in the relay's row.
    pub without_receipt: BTreeMap<String, u64>,
    /// Number of requests that went through without a receipt. Each such request is a loss.
    pub unsigned: u64,
    /// Number of receipts that no request explains. Each such receipt is a loss.
    pub unasked: u64,
    /// Number of redirected connections without a row of the relay. Each such connection is a loss.
    pub unseen: u64,
    /// Connections that the relay denied without a request to the mediator, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Number of attempts by the kernel's verdict.
    pub kernel: BTreeMap<String, u64>,
    /// The amount by which the system clock was set during the run.
    pub clock_set: Duration,
    /// Number of rows of the relay by verdict.
    pub relay: BTreeMap<String, u64>,
    /// Number of disagreements by kind.
    pub disagreements: BTreeMap<Disagreement, u64>,
    /// Number of receipts that no second recorder can confirm. These receipts are for requests
    /// inside TLS that the mediator opened, so only the mediator can read the requests.
    pub said_alone: u64,
}

impl Reconciliation {
    pub(super) fn disagree(&mut self, what: Disagreement, count: u64) {
        if count > 0 {
            tally::some(&mut self.disagreements, what, count);
        }
    }

    /// Describes the losses and the disagreements. Each of them lowers the grade.
    pub fn losses(&self) -> Vec<String> {
        let losses = [
            (self.unsigned, "requests went through without a receipt"),
            (self.unasked, "receipts belong to no request of the relay"),
            (
                self.unseen,
                "redirected connections have no row of the relay",
            ),
        ];
        let disagreements = self.disagreements.iter();
        losses
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .chain(disagreements.map(|(what, count)| (*count, what.text())))
            .map(|(count, what)| format!("{count} {what}"))
            .collect()
    }
}
