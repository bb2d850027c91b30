//! Reads `changes.json` once for the checks and for the pages.
use pipelock_receipts::json::{MAX_DEPTH, parse_bytes};

use super::format::changes::ChangesDocument;
use super::format::deviations;

/// `changes.json`, and the parts of it that this version does not write.
#[derive(Debug)]
pub(super) struct ReadChanges {
    /// The document, if it can be read.
    pub(super) document: Option<ChangesDocument>,
    /// Deviations from the form that this version writes.
    pub(super) deviations: Vec<String>,
}

impl ReadChanges {
    pub(super) fn read(bytes: &[u8]) -> Self {
        let read = parse_bytes(bytes, MAX_DEPTH)
            .map_err(|error| error.to_string())
            .and_then(|node| {
                let document: ChangesDocument = node.typed().map_err(|error| error.to_string())?;
                let found = deviations(&document, &node, &[]);
                Ok((document, found))
            });
        match read {
            Ok((document, deviations)) => Self {
                document: Some(document),
                deviations,
            },
            Err(error) => Self {
                document: None,
                deviations: vec![error],
            },
        }
    }
}
