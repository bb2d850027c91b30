//! Reads the records of a run: rows of the flow log and receipts of the mediator.
use serde_json::Value;

use crate::run::RunOutput;

impl RunOutput {
    /// Returns the rows of the flow log in which each of `fields` has its value.
    ///
    /// # Panics
    /// Panics if there is no flow log.
    pub fn flows(&self, fields: &[(&str, &str)]) -> Vec<Value> {
        let mut rows = self.lines("flows.jsonl");
        rows.retain(|row| {
            fields.iter().all(|(name, value)| match row.get(*name) {
                Some(Value::String(text)) => text.as_str() == *value,
                Some(Value::Number(number)) => value.parse().ok() == number.as_u64(),
                _ => false,
            })
        });
        rows
    }

    /// Fails the test unless a row of the flow log has each of `fields`.
    ///
    /// # Panics
    /// Panics if no row has these fields. The message contains all rows of the log.
    #[track_caller]
    pub fn assert_flow(&self, fields: &[(&str, &str)]) {
        assert!(
            !self.flows(fields).is_empty(),
            "no row with {fields:?} among {:#?}\n{self}",
            self.lines("flows.jsonl")
        );
    }

    /// Returns the targets of the receipts with this verdict, in the order of the receipts. Receipts about the session
    /// are left out.
    ///
    /// # Panics
    /// Panics if there is no evidence.
    pub fn receipts(&self, verdict: &str) -> Vec<String> {
        let entries = self.lines("evidence.jsonl");
        let records = entries
            .iter()
            .filter_map(|entry| entry.pointer("/detail/action_record"));
        records
            .filter(|record| record.get("session_control").is_none())
            .filter(|record| record.get("verdict").and_then(Value::as_str) == Some(verdict))
            .filter_map(|record| Some(record.get("target")?.as_str()?.to_owned()))
            .collect()
    }

    /// Fails the test unless a receipt with this verdict has a target that contains `host`.
    ///
    /// # Panics
    /// Panics if there is no such receipt. The message contains the targets of all receipts.
    #[track_caller]
    pub fn assert_receipt(&self, verdict: &str, host: &str) {
        let targets = self.receipts(verdict);
        assert!(
            targets.iter().any(|target| target.contains(host)),
            "no receipt {verdict} for {host} among {targets:?}\n{self}"
        );
    }

    /// Returns the value of boundary.json at this JSON pointer.
    ///
    /// # Panics
    /// Panics if there is no such value.
    #[track_caller]
    pub fn boundary(&self, pointer: &str) -> Value {
        let document = self.json("boundary.json");
        let value = document.pointer(pointer).cloned();
        value.unwrap_or_else(|| panic!("boundary.json has no {pointer}: {document:#}"))
    }
}
