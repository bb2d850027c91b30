//! The posture capsule: a signed statement about the boundary, made before any traffic.
//! `session_open` signs the hash of the capsule (behavior of Pipelock, last section).
//!
//! [`sign`] makes a capsule, [`check`] compares a capsule with the session that binds it, and
//! [`kernel_rule_hash`] defines `containment.kernel_rule_hash`.
//!
//! Claims: boundary-first
use std::collections::BTreeMap;
use std::time::Duration;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::action::is_hex;
use super::canonical::push_string;
use super::findings::{Finding, Findings, Place, Rule};
use super::json::read_document;
use super::keys::parse_public;
use super::record::Posture;
use super::rules;
use super::session::SessionFacts;
use super::time_text::is_normal;
use model::Evidence;
pub use model::{Capsule, ContainLaunch, Containment};

pub mod model;
#[cfg(test)]
mod tests;

/// The only supported schema version.
pub const SCHEMA_VERSION: &str = "1";
/// The word for the mechanism that encloses the command. Pipelock defines other words for other
/// mechanisms.
pub const MODE: &str = "kernel_ebpf_cgroup";

/// The statements of a new capsule.
#[derive(Debug, Clone)]
pub struct Claims {
    /// Current time, RFC 3339 in UTC, fraction without trailing zeros.
    pub generated_at: String,
    /// A time after the end of the run, in the same form.
    pub expires_at: String,
    /// SHA-256 of the runtime policy, lowercase hex.
    pub config_hash: String,
    /// The measured boundary.
    pub containment: Containment,
    /// The launch of the command, with the digest of `identity.json`.
    pub launch: Option<ContainLaunch>,
}

/// A signed capsule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The content of `posture-capsule.json`: the canonical text and a line end.
    pub bytes: Vec<u8>,
    /// The hashes that `session_open` binds.
    pub posture: Posture,
}

/// Makes and signs a capsule.
pub fn sign(claims: Claims, key: &SigningKey) -> Signed {
    let capsule = Capsule {
        schema_version: String::from(SCHEMA_VERSION),
        generated_at: claims.generated_at,
        expires_at: claims.expires_at,
        tool_version: concat!("egress-", env!("CARGO_PKG_VERSION")).to_owned(),
        config_hash: claims.config_hash,
        evidence: Evidence {
            containment: Some(claims.containment),
            contain_launch: claims.launch,
            ..Evidence::default()
        },
        signature: String::new(),
        signer_key_id: hex::encode(key.verifying_key().to_bytes()),
    };
    let signature = key.sign(capsule.signed_text().as_bytes());
    let capsule = Capsule {
        signature: hex::encode(signature.to_bytes()),
        ..capsule
    };
    let mut bytes = capsule.canonical().into_bytes();
    bytes.push(b'\n');
    Signed {
        bytes,
        posture: capsule.posture(),
    }
}

impl Capsule {
    /// Parses the JSON text of a capsule.
    ///
    /// # Errors
    /// Returns a description of the first member that is unknown, missing, duplicate, or of another
    /// case or type.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        read_document(bytes)
    }

    /// Returns the canonical text of the whole capsule.
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        push_sorted(&mut text, &json!(self));
        text
    }

    /// Returns the hashes that `session_open` binds.
    pub fn posture(&self) -> Posture {
        let containment = self.evidence.containment.as_ref();
        Posture {
            capsule_sha256: hex::encode(Sha256::digest(self.canonical())),
            signer_key_id: self.signer_key_id.clone(),
            containment_nonce: self.signature.clone(),
            contained_uid: containment.map_or_else(String::new, |one| one.target_uid.clone()),
        }
    }

    /// Returns the canonical text that is signed.
    fn signed_text(&self) -> String {
        let mut value = json!(self);
        if let Value::Object(members) = &mut value {
            members.remove("signature");
            members.remove("signer_key_id");
        }
        let mut text = String::new();
        push_sorted(&mut text, &value);
        text
    }

    fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        let mut signature = [0; 64];
        is_hex(&self.signature, 128)
            && hex::decode_to_slice(&self.signature, &mut signature).is_ok()
            && key
                .verify_strict(
                    self.signed_text().as_bytes(),
                    &Signature::from_bytes(&signature),
                )
                .is_ok()
    }
}

/// Appends a compact value. Members are sorted by the bytes of their names, and strings are escaped as Go does.
fn push_sorted(out: &mut String, value: &Value) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
        Value::String(text) => push_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_sorted(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let sorted: BTreeMap<&String, &Value> = members.iter().collect();
            out.push('{');
            for (index, (name, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_string(out, name);
                out.push(':');
                push_sorted(out, value);
            }
            out.push('}');
        }
    }
}

/// One kernel program of the boundary.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct KernelRule<'a> {
    /// Name in the kernel object.
    pub name: &'a str,
    /// Number of the hook (`enum bpf_attach_type`).
    pub attach_type: u32,
    /// Digest of the instructions as the kernel reports it, 16 hex digits.
    pub tag: &'a str,
}

/// Returns the hash of the kernel programs and of the command's system call filter. The hash can be computed from
/// `boundary.json`, as the lowercase hex SHA-256 of the canonical text of
/// `{"programs":[{"attach_type":N,"name":S,"tag":S},…],"seccomp_sha256":S,"version":1}`. The programs are sorted by
/// name, attach type, and tag. `seccomp_sha256` is the digest of the command's seccomp filter.
pub fn kernel_rule_hash(programs: &[KernelRule<'_>], seccomp_sha256: &str) -> String {
    let mut programs = programs.to_vec();
    programs.sort_unstable();
    let rules = json!({"programs": programs, "seccomp_sha256": seccomp_sha256, "version": 1});
    let mut text = String::new();
    push_sorted(&mut text, &rules);
    hex::encode(Sha256::digest(text))
}

/// The facts that a capsule is compared with.
#[derive(Debug, Clone, Copy)]
pub struct Against<'a> {
    /// Pinned keys of the boundary. Without a pinned key, no signer is trusted.
    pub keys: &'a [VerifyingKey],
    /// Facts of `session_open`, if there is one.
    pub session: Option<&'a SessionFacts>,
    /// Time of the first receipt.
    pub first_time: &'a str,
    /// Time of the last receipt.
    pub last_time: &'a str,
    /// The amount by which the system clock was set during the run. A receipt may be earlier than
    /// the capsule by this much.
    pub clock_set: Duration,
}

/// The result of the check of a capsule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapsuleReport {
    /// The capsule, if it could be read.
    pub capsule: Option<Capsule>,
    /// Whether a pinned key signed the capsule.
    pub is_trusted: bool,
    /// Whether `session_open` contains the hashes of exactly this capsule.
    pub is_bound: bool,
    /// Findings, causes before their consequences.
    pub findings: Vec<Finding>,
}

/// Checks a capsule: form, signature, signer, window, and the hashes that the session binds.
pub fn check(bytes: &[u8], file: &str, against: Against<'_>) -> CapsuleReport {
    let mut findings = Findings::default();
    let place = Place::in_file(file);
    let mut add = |rule: &'static Rule, expected: &str, found: &str| {
        findings.add(rule, place.clone(), expected, found);
    };
    let capsule = match Capsule::parse(bytes) {
        Ok(capsule) => capsule,
        Err(error) => {
            add(
                &rules::CAPSULE_FORM,
                "a capsule that matches the schema",
                &error,
            );
            return CapsuleReport {
                capsule: None,
                is_trusted: false,
                is_bound: false,
                findings: findings.into_ranked().0,
            };
        }
    };
    if capsule.schema_version != SCHEMA_VERSION {
        add(
            &rules::CAPSULE_FORM,
            "schema_version 1",
            &capsule.schema_version,
        );
    }
    let key = parse_public(&capsule.signer_key_id)
        .ok()
        .filter(|_| is_hex(&capsule.signer_key_id, 64));
    let is_signed = key.is_some_and(|key| capsule.is_signed_by(&key));
    if !is_signed {
        add(
            &rules::CAPSULE_SIGNATURE,
            "a signature by signer_key_id",
            &capsule.signature,
        );
    }
    let is_pinned = key.is_some_and(|key| against.keys.contains(&key));
    if !against.keys.is_empty() && !is_pinned {
        add(
            &rules::CAPSULE_SIGNER,
            "a pinned boundary key",
            &capsule.signer_key_id,
        );
    }
    check_window(&capsule, &against, &mut add);
    let is_bound = check_binding(&capsule, against.session, &mut add);
    CapsuleReport {
        capsule: Some(capsule),
        is_trusted: is_signed && is_pinned,
        is_bound,
        findings: findings.into_ranked().0,
    }
}

/// Checks that the times of the receipts are between `generated_at` and `expires_at`.
fn check_window(
    capsule: &Capsule,
    against: &Against<'_>,
    add: &mut impl FnMut(&'static Rule, &str, &str),
) {
    let (from, until) = (&capsule.generated_at, &capsule.expires_at);
    for time in [from, until] {
        if !is_normal(time) {
            add(
                &rules::CAPSULE_FORM,
                "a time in RFC 3339, UTC, without trailing zeros",
                time,
            );
        }
    }
    let window = format!("from {from} to {until}");
    let order = |one: &str, other: &str| instant(one).zip(instant(other)).map(|(a, b)| a <= b);
    if order(from, until) != Some(true) {
        add(&rules::CAPSULE_WINDOW, "an end after the start", &window);
    }
    let earliest = instant(from)
        .and_then(|from| from.checked_sub(time::Duration::try_from(against.clock_set).ok()?));
    for time in [against.first_time, against.last_time] {
        let is_begun = earliest
            .zip(instant(time))
            .is_some_and(|(from, time)| from <= time);
        let is_inside = is_begun && order(time, until) == Some(true);
        if !time.is_empty() && !is_inside {
            add(&rules::CAPSULE_WINDOW, &window, time);
        }
    }
}

fn instant(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// Checks that `session_open` binds this capsule: its hash, its signer, its signature, and its user id. Returns whether
/// all of these match.
fn check_binding(
    capsule: &Capsule,
    session: Option<&SessionFacts>,
    add: &mut impl FnMut(&'static Rule, &str, &str),
) -> bool {
    let bound = session.filter(|session| !session.posture_capsule_sha256.is_empty());
    let Some(session) = bound else {
        add(
            &rules::CAPSULE_UNBOUND,
            "a session_open that binds the capsule",
            "none",
        );
        return false;
    };
    let own = capsule.posture();
    let mut is_bound = true;
    for (rule, own, bound) in [
        (
            &rules::CAPSULE_HASH,
            &own.capsule_sha256,
            &session.posture_capsule_sha256,
        ),
        (
            &rules::CAPSULE_KEY_ID,
            &own.signer_key_id,
            &session.posture_signer_key_id,
        ),
        (
            &rules::CAPSULE_NONCE,
            &own.containment_nonce,
            &session.containment_nonce,
        ),
        (
            &rules::CAPSULE_UID,
            &own.contained_uid,
            &session.contained_uid,
        ),
    ] {
        if own != bound {
            is_bound = false;
            add(rule, own, bound);
        }
    }
    is_bound
}
