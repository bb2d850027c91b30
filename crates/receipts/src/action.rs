//! Reads one version 1 receipt and rebuilds the text that was signed (evidence protocol, sections 2.1 to 2.4).
use sha2::{Digest, Sha256};

use super::canonical::{ObjectWriter, push_compact};
use super::entry::Problem;
use super::json::Node;
use super::record::SIGNATURE_PREFIX;
use super::rules;
use super::schema::{ACTION_RECORD, canonical};
use super::time_text;

const ACTION_TYPES: [&str; 9] = [
    "read",
    "derive",
    "write",
    "delegate",
    "authorize",
    "spend",
    "commit",
    "actuate",
    "unclassified",
];

/// A receipt that matches the schema.
#[derive(Debug)]
pub(crate) struct Receipt<'n, 'a> {
    pub(crate) record: &'n Node<'a>,
    /// The signed message: SHA-256 of the canonical record.
    pub(crate) message: [u8; 32],
    pub(crate) signature: [u8; 64],
    /// Public key of the signer, 64 lowercase hex digits.
    pub(crate) signer_key: &'n str,
    /// The receipt's hash, lowercase hex.
    pub(crate) hash: String,
}

impl<'n, 'a> Receipt<'n, 'a> {
    pub(crate) fn read(detail: &'n Node<'a>) -> Result<Self, Problem> {
        let members = detail
            .members()
            .ok_or_else(|| Problem::new(&rules::RECEIPT_FORM, "an object", detail.raw))?;
        if detail.member("redacted").is_some() && detail.member("action_record").is_none() {
            return Err(Problem::new(
                &rules::REWRITTEN,
                "the receipt",
                "a redaction notice",
            ));
        }
        let record = required(detail, "action_record")?;
        if record.member("redacted_fields").is_some() {
            let fields = record.member("redacted_fields").map_or("", |node| node.raw);
            return Err(Problem::new(&rules::REWRITTEN, "the signed text", fields));
        }
        for (name, _) in members {
            if !matches!(
                name.as_ref(),
                "version" | "action_record" | "signature" | "signer_key" | "ext"
            ) {
                return Err(Problem::new(
                    &rules::RECEIPT_FORM,
                    "no other member",
                    name.as_ref(),
                ));
            }
        }
        if required(detail, "version")?.raw != "1" {
            return Err(value("version", "1", detail));
        }
        let mut text = String::with_capacity(record.raw.len().saturating_add(64));
        canonical(record, ACTION_RECORD, &mut text)
            .map_err(|misfit| Problem::new(&rules::RECEIPT_FORM, misfit.member, misfit.problem))?;
        check_values(record)?;
        let signature_text = required(detail, "signature")?.text().unwrap_or("");
        let signer_key = required(detail, "signer_key")?.text().unwrap_or("");
        let signature = signature_bytes(signature_text)?;
        if !is_hex(signer_key, 64) {
            return Err(Problem::new(
                &rules::SIGNATURE_FORM,
                "signer_key: 64 lowercase hex digits",
                signer_key,
            ));
        }
        let message = Sha256::digest(text.as_bytes()).into();
        let hash = receipt_hash(&text, signature_text, signer_key, detail.member("ext"));
        Ok(Self {
            record,
            message,
            signature,
            signer_key,
            hash,
        })
    }

    /// Returns the string member `name` of the record, or "" if there is none.
    pub(crate) fn text(&self, name: &str) -> &'n str {
        self.record.member_text(name)
    }

    /// Returns the receipt's sequence number in its chain.
    pub(crate) fn seq(&self) -> u64 {
        self.record.member_unsigned("chain_seq").unwrap_or(0)
    }
}

/// Hashes the compact text of a receipt. The members of a receipt have a fixed order.
fn receipt_hash(record: &str, signature: &str, signer_key: &str, ext: Option<&Node<'_>>) -> String {
    let mut text = String::with_capacity(record.len().saturating_add(320));
    let mut object = ObjectWriter::new(&mut text);
    object
        .number("version", 1)
        .raw("action_record", record)
        .string("signature", signature)
        .string("signer_key", signer_key);
    if let Some(ext) = ext {
        push_compact(object.name("ext"), ext.raw);
    }
    object.end();
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// Checks the values that Pipelock's own verifiers check, and the form of the time.
fn check_values(record: &Node<'_>) -> Result<(), Problem> {
    if record.member_unsigned("version") != Some(1) {
        return Err(value("version", "1", record));
    }
    for name in [
        "action_id",
        "action_type",
        "timestamp",
        "target",
        "verdict",
        "transport",
        "chain_prev_hash",
    ] {
        if record.member_text(name).is_empty() {
            return Err(Problem::new(
                &rules::RECEIPT_VALUE,
                format!("{name}: a non-empty string"),
                "nothing",
            ));
        }
    }
    if !ACTION_TYPES.contains(&record.member_text("action_type")) {
        return Err(value("action_type", "a known type", record));
    }
    if !time_text::is_rfc3339(record.member_text("timestamp")) {
        return Err(value("timestamp", "RFC 3339", record));
    }
    for name in ["key_transition", "session_control"] {
        if record.member(name).is_some_and(Node::is_null) {
            return Err(value(name, "an object or absent", record));
        }
    }
    Ok(())
}

/// Decodes the text of a signature.
pub(crate) fn signature_bytes(text: &str) -> Result<[u8; 64], Problem> {
    let wrong = || {
        Problem::new(
            &rules::SIGNATURE_FORM,
            "signature: ed25519: and 128 hex digits",
            text,
        )
    };
    let digits = text.strip_prefix(SIGNATURE_PREFIX).ok_or_else(wrong)?;
    let mut bytes = [0; 64];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_error| wrong())?;
    Ok(bytes)
}

/// Whether `text` is exactly `length` lowercase hex digits.
pub(crate) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn required<'n, 'a>(node: &'n Node<'a>, name: &str) -> Result<&'n Node<'a>, Problem> {
    node.member(name)
        .ok_or_else(|| Problem::new(&rules::RECEIPT_FORM, name, "missing"))
}

fn value(name: &str, expected: &str, node: &Node<'_>) -> Problem {
    let found = node.member(name).map_or("nothing", |node| node.raw);
    Problem::new(&rules::RECEIPT_VALUE, format!("{name}: {expected}"), found)
}
