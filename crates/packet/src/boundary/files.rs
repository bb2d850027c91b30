//! The files that speak of the boundary, as the caller hands them over.
use egress_policy::allowed::Allowed;

use super::super::stream::Stream;
use super::attested::Attestation;

/// The files that speak of the boundary; each may be absent.
#[derive(Debug, Default)]
pub struct BoundaryFiles<'a> {
    /// `boundary.json`.
    pub boundary: Option<&'a [u8]>,
    /// `flows.jsonl`, or why it cannot be had.
    pub flows: Option<Result<Stream<'a>, String>>,
    /// `posture-capsule.json`.
    pub capsule: Option<&'a [u8]>,
    /// `identity.json`.
    pub identity: Option<&'a [u8]>,
    /// `policy.yaml`.
    pub policy: Option<PolicyFile<'a>>,
    /// `changes.json`.
    pub changes: Option<&'a [u8]>,
    /// `attestation.json`.
    pub attestation: Attestation,
}

/// Reads a policy, or says in words why it is none. A reader of YAML is the caller's.
pub type ReadPolicy = fn(&str) -> Result<Allowed, String>;

/// The policy of the run, and who reads it.
#[derive(Debug, Clone, Copy)]
pub struct PolicyFile<'a> {
    /// The bytes that the capsule's `config_hash` is of.
    pub bytes: &'a [u8],
    /// `egress_policy::allowed::Allowed::read`.
    pub read: ReadPolicy,
}
