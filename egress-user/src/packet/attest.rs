//! `attestation.json`: one signature over all other files of a packet.
//!
//! A DSSE envelope around an in-toto Statement v1 whose subjects are the files with their SHA-256,
//! signed by the boundary's key. Readers of the ecosystem verify it with that key alone.
use std::collections::BTreeMap;

use super::{ATTESTATION_FILE, rules};
use crate::receipt::findings::{Finding, Findings, Place, Rule};
use crate::receipt::json::{MAX_DEPTH, parse_bytes};
use crate::receipt::keys::parse_public;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

/// Type of the payload.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Type of the statement.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// Type of what it states.
pub const PREDICATE: &str = "urn:egress:audit-packet:v0";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    keyid: String,
    sig: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

/// What the signer states beside the digests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Predicate {
    /// Id of the run.
    pub run_id: String,
    /// The program, with its version.
    pub tool: String,
    /// Verdict of the receipts when the packet was made.
    pub verdict: String,
    /// Grade of the boundary when the packet was made.
    pub grade: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    name: String,
    digest: BTreeMap<String, String>,
}

/// Signs the digests of `files`: name and lowercase hex SHA-256, and the `predicate`.
///
/// # Errors
/// Never in practice: everything here has a JSON form.
pub fn sign(
    files: &[(String, String)],
    predicate: Predicate,
    key: &SigningKey,
) -> Result<Vec<u8>, serde_json::Error> {
    let subject = files
        .iter()
        .map(|(name, sha256)| Subject {
            name: name.clone(),
            digest: BTreeMap::from([(String::from("sha256"), sha256.clone())]),
        })
        .collect();
    let payload = serde_json::to_vec(&Statement {
        kind: String::from(STATEMENT),
        subject,
        predicate_type: String::from(PREDICATE),
        predicate,
    })?;
    let signature = key.sign(&signed_bytes(&payload));
    let mut text = serde_json::to_vec_pretty(&Envelope {
        payload: STANDARD.encode(&payload),
        payload_type: String::from(PAYLOAD_TYPE),
        signatures: vec![EnvelopeSignature {
            keyid: hex::encode(key.verifying_key().to_bytes()),
            sig: STANDARD.encode(signature.to_bytes()),
        }],
    })?;
    text.push(b'\n');
    Ok(text)
}

/// The pre-authentication encoding of DSSE v1.
fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        payload.len()
    )
    .into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// What the check of an attestation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationReport {
    /// The key whose signature holds, lowercase hex.
    pub signer: Option<String>,
    /// What its holder states, if a signature holds.
    pub predicate: Option<Predicate>,
    /// Whether that key is pinned.
    pub is_trusted: bool,
    /// Whether the signature holds and every file is what was signed.
    pub holds: bool,
    /// Most telling first.
    pub findings: Vec<Finding>,
}

/// Checks an attestation against the packet's other `files`, all of them: name and SHA-256. Without
/// pinned `keys` the signature is checked under the key that the envelope names.
pub fn check(bytes: &[u8], files: &[(String, String)], keys: &[VerifyingKey]) -> AttestationReport {
    let mut findings = Findings::default();
    let mut signer = None;
    let mut predicate = None;
    match read(bytes, keys) {
        Ok((statement, key)) => {
            signer = Some(hex::encode(key.to_bytes()));
            compare(&statement, files, &mut findings);
            predicate = Some(statement.predicate);
        }
        Err((rule, found)) => findings.add(rule, place(), "a signature over all files", found),
    }
    let holds = !findings.has_errors();
    AttestationReport {
        is_trusted: signer.is_some() && !keys.is_empty(),
        holds: signer.is_some() && holds,
        signer,
        predicate,
        findings: findings.into_ranked().0,
    }
}

type Refusal = (&'static Rule, String);

fn read(bytes: &[u8], keys: &[VerifyingKey]) -> Result<(Statement, VerifyingKey), Refusal> {
    let form = |text: String| (&rules::ATTESTATION_FORM, text);
    parse_bytes(bytes, MAX_DEPTH).map_err(|error| form(error.to_string()))?;
    let envelope: Envelope =
        serde_json::from_slice(bytes).map_err(|error| form(error.to_string()))?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(form(envelope.payload_type));
    }
    let payload = STANDARD
        .decode(&envelope.payload)
        .map_err(|error| form(error.to_string()))?;
    let message = signed_bytes(&payload);
    let key = envelope
        .signatures
        .iter()
        .find_map(|signature| signed_by(signature, &message, keys))
        .ok_or_else(|| {
            let ids = envelope.signatures.iter().map(|one| one.keyid.as_str());
            let ids = ids.collect::<Vec<_>>().join(" ");
            (&rules::ATTESTATION_SIGNATURE, ids)
        })?;
    parse_bytes(&payload, MAX_DEPTH).map_err(|error| form(error.to_string()))?;
    let statement: Statement =
        serde_json::from_slice(&payload).map_err(|error| form(error.to_string()))?;
    if statement.kind != STATEMENT || statement.predicate_type != PREDICATE {
        return Err(form(format!(
            "{} {}",
            statement.kind, statement.predicate_type
        )));
    }
    Ok((statement, key))
}

/// The key under which a signature holds: a pinned one, or without any the one that it names.
fn signed_by(
    signature: &EnvelopeSignature,
    message: &[u8],
    keys: &[VerifyingKey],
) -> Option<VerifyingKey> {
    let bytes: [u8; 64] = STANDARD.decode(&signature.sig).ok()?.try_into().ok()?;
    let bytes = Signature::from_bytes(&bytes);
    let holds = |key: &VerifyingKey| key.verify_strict(message, &bytes).is_ok();
    if keys.is_empty() {
        parse_public(&signature.keyid).ok().filter(holds)
    } else {
        keys.iter().copied().find(holds)
    }
}

/// The subjects are the files: each once, with its digest, none missing, none besides.
fn compare(statement: &Statement, files: &[(String, String)], findings: &mut Findings) {
    let mut left: BTreeMap<&str, &str> = files
        .iter()
        .map(|(name, sha256)| (name.as_str(), sha256.as_str()))
        .collect();
    for subject in &statement.subject {
        let stated = subject
            .digest
            .get("sha256")
            .map_or("no sha256", String::as_str);
        match left.remove(subject.name.as_str()) {
            Some(actual) if actual == stated => {}
            Some(actual) => {
                let found = format!("{} {actual}", subject.name);
                findings.add(&rules::ATTESTATION_DIGEST, place(), stated, found);
            }
            None => {
                let name = subject.name.as_str();
                findings.add(&rules::ATTESTATION_MISSING, place(), name, "no such file");
            }
        }
    }
    for name in left.into_keys() {
        findings.add(&rules::ATTESTATION_EXTRA, place(), "no other file", name);
    }
}

fn place() -> Place {
    Place {
        file: Some(String::from(ATTESTATION_FILE)),
        ..Place::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::receipt::keys::generate;

    fn files(names: &[(&str, &str)]) -> Vec<(String, String)> {
        names
            .iter()
            .map(|(name, digest)| (String::from(*name), digest.repeat(32)))
            .collect()
    }

    fn ids(report: &AttestationReport) -> Vec<&'static str> {
        report
            .findings
            .iter()
            .map(|finding| finding.rule.id)
            .collect()
    }

    #[test]
    fn every_difference_of_the_files_is_found() {
        let key = generate().unwrap();
        let keys = [key.verifying_key()];
        let signed = files(&[("flows.jsonl", "ab"), ("packet.json", "cd")]);
        let bytes = sign(&signed, Predicate::default(), &key).unwrap();
        let report = check(&bytes, &signed, &keys);
        assert!(
            report.holds && report.is_trusted && report.findings.is_empty(),
            "{report:?}"
        );
        let unpinned = check(&bytes, &signed, &[]);
        assert!(unpinned.holds && !unpinned.is_trusted);
        assert_eq!(unpinned.signer, report.signer);
        for (others, rule) in [
            (
                files(&[("flows.jsonl", "ab"), ("packet.json", "ce")]),
                "attestation.digest",
            ),
            (files(&[("flows.jsonl", "ab")]), "attestation.missing"),
            (
                files(&[("flows.jsonl", "ab"), ("packet.json", "cd"), ("x", "00")]),
                "attestation.extra",
            ),
        ] {
            let report = check(&bytes, &others, &keys);
            assert_eq!(ids(&report), [rule]);
            assert!(!report.holds);
        }
    }

    #[test]
    fn no_byte_of_the_envelope_can_be_changed() {
        let key = generate().unwrap();
        let keys = [key.verifying_key()];
        let signed = files(&[("packet.json", "cd")]);
        let bytes = sign(&signed, Predicate::default(), &key).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let report = check(&changed, &signed, &keys);
            // The key's id is a hint, and white space between members means nothing.
            let same: bool = serde_json::from_slice::<Value>(&changed).is_ok_and(|mut value| {
                let mut original: Value = serde_json::from_slice(&bytes).unwrap();
                for value in [&mut value, &mut original] {
                    if let Some(id) = value.pointer_mut("/signatures/0/keyid") {
                        *id = Value::Null;
                    }
                }
                value == original
            });
            assert_eq!(report.holds, same, "byte {at}");
        }
        let other = [generate().unwrap().verifying_key()];
        assert_eq!(
            ids(&check(&bytes, &signed, &other)),
            ["attestation.signature"]
        );
    }
}
