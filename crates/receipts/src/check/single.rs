//! Checks one receipt without a chain.
use super::super::action::Receipt;
use super::super::chain::Trust;
use super::super::entry::Problem;
use super::super::evidence::EvidenceReceipt;
use super::super::findings::Place;
use super::super::json::{MAX_DEPTH, Node, parse_bytes};
use super::super::record::GENESIS;
use super::super::report::{End, EvidenceReport};
use super::super::rules;
use super::checker::Checker;

/// Checks the form and the signature of one receipt. There is no chain to check.
pub fn check_receipt(bytes: &[u8], trust: &Trust) -> EvidenceReport {
    let mut checker = Checker::new(trust, false);
    let place = Place::default();
    match parse_bytes(bytes, MAX_DEPTH) {
        Err(error) => {
            let findings = &mut checker.context.findings;
            findings.add(
                &rules::LINE_JSON,
                place,
                "one JSON object",
                error.to_string(),
            );
        }
        Ok(node) => checker.single(&node, &place),
    }
    let mut report = {
        checker.context.queue.flush(&mut checker.context.findings);
        checker.into_report()
    };
    report.end = End::Unproven("a single receipt has no end");
    report
}

impl Checker<'_> {
    fn single(&mut self, node: &Node<'_>, place: &Place) {
        if node.member("record_type").is_some() {
            match EvidenceReceipt::read(node) {
                Ok(receipt) => {
                    // A single receipt starts at its own sequence number.
                    let alone = EvidenceReceipt {
                        seq: 0,
                        prev_hash: GENESIS,
                        ..receipt
                    };
                    self.evidence.push(alone, place, &mut self.context);
                }
                Err(problem) => self.add(problem, place),
            }
            return;
        }
        if node.member("type").is_some() && node.member("detail").is_some() {
            let problem = Problem::new(&rules::RECEIPT_FORM, "a receipt", "a recorder entry");
            self.add(problem, place);
            return;
        }
        if let Some(record) = node.member("action_record") {
            self.counts.count(record);
            record
                .member_text("timestamp")
                .clone_into(&mut self.first_time);
            self.last_time.clone_from(&self.first_time);
        }
        match Receipt::read(node) {
            Ok(receipt) => self.actions.push_single(&receipt, place, &mut self.context),
            Err(problem) => self.add(problem, place),
        }
    }
}
