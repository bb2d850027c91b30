//! The hash chain of `flows.jsonl`.
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Writes chained rows.
#[derive(Debug, Clone)]
pub struct FlowChain {
    seq: u64,
    prev: String,
}

impl Default for FlowChain {
    fn default() -> Self {
        Self::new()
    }
}

impl FlowChain {
    /// An empty chain.
    pub fn new() -> Self {
        Self {
            seq: 0,
            prev: String::from("genesis"),
        }
    }

    /// One row as a line ending in LF.
    pub fn line(&mut self, fields: Map<String, Value>) -> Vec<u8> {
        let mut row = Map::new();
        row.insert("seq".into(), self.seq.into());
        row.insert("prev_hash".into(), self.prev.clone().into());
        row.extend(fields);
        let text = Value::Object(row).to_string();
        let mut hash = Sha256::new();
        hash.update(self.prev.as_bytes());
        hash.update([0]);
        hash.update(text.as_bytes());
        let hash = hex::encode(hash.finalize());
        let mut line = text.into_bytes();
        line.pop();
        line.extend_from_slice(format!(",\"hash\":\"{hash}\"}}\n").as_bytes());
        self.seq += 1;
        self.prev = hash;
        line
    }
}
