//! `attestation.json`: one signature over the digests of all other files of a packet, except the time stamp.
//!
//! The file is a DSSE envelope around an in-toto Statement v1. The subjects of the statement are
//! the files with their SHA-256, and the boundary key signs the statement. Other in-toto tools
//! can verify the file with the boundary key alone.
//!
//! Claims: files-attested
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use pipelock_receipts::findings::{Finding, Findings, Place, Rule};
use pipelock_receipts::json::read_document;
use pipelock_receipts::keys::parse_public;
use serde::{Deserialize, Serialize};

use super::names::ATTESTATION_FILE;
use super::rules;
use super::stream::FileDigest;

#[cfg(test)]
mod tests;

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// Type of the predicate.
pub const PREDICATE: &str = "urn:egress:audit-packet:v0";

/// The DSSE envelope of a packet.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Envelope {
    /// The statement, in base64.
    payload: String,
    /// `application/vnd.in-toto+json`.
    #[serde(rename = "payloadType")]
    payload_type: String,
    /// The signatures. egress writes one signature.
    signatures: Vec<EnvelopeSignature>,
}

/// A signature over the pre-authentication encoding of the payload.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    /// Public key of the signer, 64 lowercase hex digits.
    keyid: String,
    /// Ed25519 signature, in base64.
    sig: String,
}

/// The in-toto statement in the envelope.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Statement {
    /// `https://in-toto.io/Statement/v1`.
    #[serde(rename = "_type")]
    kind: String,
    /// Every other file of the packet, except the time stamp.
    subject: Vec<Subject>,
    /// `urn:egress:audit-packet:v0`.
    #[serde(rename = "predicateType")]
    predicate_type: String,
    /// The statements of the signer about the run.
    predicate: Predicate,
}

/// The statements of the signer about the run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Predicate {
    /// Id of the run.
    pub run_id: String,
    /// Name and version of the program.
    pub tool: String,
    /// Verdict of the receipts when the packet was made.
    pub verdict: String,
    /// Grade of the boundary when the packet was made.
    pub grade: String,
}

/// A file of the packet.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct Subject {
    /// Name of the file in the directory of the packet.
    name: String,
    /// Digest of the file.
    digest: SubjectDigest,
    /// Size of the file. Packets of earlier versions have no size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations>,
}

/// The digest of a file. A digest of another algorithm is an error, because it would not be compared.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct SubjectDigest {
    /// SHA-256, lowercase hex. An absent digest matches no file.
    #[serde(default)]
    sha256: String,
}

/// The annotations of a file in the statement.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Annotations {
    /// Size of the file in bytes, which limits the amount that a verifier reads.
    size: Option<u64>,
}

impl Subject {
    fn sha256(&self) -> &str {
        &self.digest.sha256
    }

    fn size(&self) -> Option<u64> {
        self.annotations.as_ref()?.size
    }
}

/// Signs the digests and sizes of `files`, and the `predicate`.
///
/// # Errors
/// Returns no error in practice, because every value has a JSON form.
pub fn sign(
    files: &[FileDigest],
    predicate: Predicate,
    key: &SigningKey,
) -> Result<Vec<u8>, serde_json::Error> {
    let subject = files
        .iter()
        .map(|file| Subject {
            name: file.name.clone(),
            digest: SubjectDigest {
                sha256: file.sha256.clone(),
            },
            annotations: file.size.map(|size| Annotations { size: Some(size) }),
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

/// Returns the signed bytes: the pre-authentication encoding of DSSE v1.
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

/// The result of the check of an attestation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationReport {
    /// Public key of the valid signature, lowercase hex.
    pub signer: Option<String>,
    /// Statements of the signer, if a signature is valid.
    pub predicate: Option<Predicate>,
    /// Whether the signer is pinned.
    pub is_trusted: bool,
    /// Whether the signature is valid, and the files are exactly the signed files, with their digests and sizes.
    pub holds: bool,
    /// Findings, causes before their consequences.
    pub findings: Vec<Finding>,
}

/// Checks an attestation against `files`, which are all other files of the packet except the time stamp. Without pinned
/// `keys`, the signature is checked with the key that the envelope names.
pub fn check(bytes: &[u8], files: &[FileDigest], keys: &[VerifyingKey]) -> AttestationReport {
    open(bytes, keys).check(files)
}

/// Checks the signature of an attestation before any file is read.
pub fn open(bytes: &[u8], keys: &[VerifyingKey]) -> Opened {
    let signed = read(bytes, keys);
    let subjects = signed.iter().flat_map(|(statement, _)| &statement.subject);
    let subjects = subjects.map(|subject| {
        let stated = (subject.sha256().to_owned(), subject.size());
        (subject.name.clone(), stated)
    });
    Opened {
        subjects: subjects.collect(),
        signed,
        is_pinned: !keys.is_empty(),
    }
}

/// An attestation whose signature is checked and whose files are not checked yet.
#[derive(Debug)]
pub struct Opened {
    signed: Result<(Statement, VerifyingKey), Refusal>,
    subjects: BTreeMap<String, (String, Option<u64>)>,
    is_pinned: bool,
}

impl Opened {
    /// Whether a pinned key signed the attestation.
    pub fn is_trusted(&self) -> bool {
        self.is_pinned && self.signed.is_ok()
    }

    /// Whether a valid signature covers this file.
    pub fn names(&self, file: &str) -> bool {
        self.subjects.contains_key(file)
    }

    /// Returns the signed SHA-256 of a file, if a signature is valid.
    pub fn sha256(&self, file: &str) -> Option<&str> {
        self.subjects.get(file).map(|(sha256, _)| sha256.as_str())
    }

    /// Returns the signed size of a file in bytes, if a signature is valid and the attestation has sizes.
    pub fn size(&self, file: &str) -> Option<u64> {
        self.subjects.get(file)?.1
    }

    /// Compares the files with the signed digests.
    pub fn check(self, files: &[FileDigest]) -> AttestationReport {
        let mut findings = Findings::default();
        let mut signer = None;
        let mut predicate = None;
        match self.signed {
            Ok((statement, key)) => {
                signer = Some(hex::encode(key.to_bytes()));
                compare(&statement, files, &mut findings);
                predicate = Some(statement.predicate);
            }
            Err((rule, found)) => findings.add(
                rule,
                Place::in_file(ATTESTATION_FILE),
                "a signature over all files",
                found,
            ),
        }
        let holds = !findings.has_errors();
        AttestationReport {
            is_trusted: signer.is_some() && self.is_pinned,
            holds: signer.is_some() && holds,
            signer,
            predicate,
            findings: findings.into_ranked().0,
        }
    }
}

type Refusal = (&'static Rule, String);

fn read(bytes: &[u8], keys: &[VerifyingKey]) -> Result<(Statement, VerifyingKey), Refusal> {
    let form = |text: String| (&rules::ATTESTATION_FORM, text);
    let envelope: Envelope = read_document(bytes).map_err(form)?;
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
    let statement: Statement = read_document(&payload).map_err(form)?;
    if statement.kind != STATEMENT || statement.predicate_type != PREDICATE {
        return Err(form(format!(
            "{} {}",
            statement.kind, statement.predicate_type
        )));
    }
    Ok((statement, key))
}

/// Returns the key of a valid signature: a pinned key, or the key that the envelope names if no key
/// is pinned.
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

/// Checks that the subjects are exactly the files, each once and with its digest and size.
fn compare(statement: &Statement, files: &[FileDigest], findings: &mut Findings) {
    let mut left: BTreeMap<&str, &FileDigest> = files
        .iter()
        .map(|file| (file.name.as_str(), file))
        .collect();
    for subject in &statement.subject {
        let name = subject.name.as_str();
        let Some(file) = left.remove(name) else {
            findings.add(
                &rules::ATTESTATION_MISSING,
                Place::in_file(ATTESTATION_FILE),
                name,
                "no such file",
            );
            continue;
        };
        let has_size = subject.size().is_none() || subject.size() == file.size;
        if file.sha256 != subject.sha256() {
            let found = format!("{name} {}", file.sha256);
            findings.add(
                &rules::ATTESTATION_DIGEST,
                Place::in_file(ATTESTATION_FILE),
                subject.sha256(),
                found,
            );
        } else if !has_size {
            let size = |size: Option<u64>| format!("{} bytes", size.unwrap_or(0));
            let found = format!("{name} {}", size(file.size));
            findings.add(
                &rules::ATTESTATION_DIGEST,
                Place::in_file(ATTESTATION_FILE),
                size(subject.size()),
                found,
            );
        }
    }
    for name in left.into_keys() {
        findings.add(
            &rules::ATTESTATION_EXTRA,
            Place::in_file(ATTESTATION_FILE),
            "no other file",
            name,
        );
    }
}
