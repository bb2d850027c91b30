//! The files of a packet about the boundary, as the caller passes them.
use egress_policy::allowed::Allowed;

use super::super::stream::Stream;
use super::attested::Attestation;

/// The files about the boundary. Any of these files may be absent.
#[derive(Debug, Default)]
pub struct BoundaryFiles<'a> {
    /// `boundary.json`.
    pub boundary: Option<&'a [u8]>,
    /// `flows.jsonl`, or the reason why it cannot be read.
    pub flows: Option<Result<Stream<'a>, String>>,
    /// `posture-capsule.json`.
    pub capsule: Option<&'a [u8]>,
    /// `identity.json`.
    pub identity: Option<&'a [u8]>,
    /// `policy.yaml`.
    pub policy: Option<PolicyFile<'a>>,
    /// `changes.json`.
    pub changes: Option<&'a [u8]>,
    /// `workspace-changes.tar`, or the reason why it cannot be read. The caller opens it only if the attestation names
    /// it.
    pub archive: Option<Result<Stream<'a>, String>>,
    /// `attestation.json`.
    pub attestation: Attestation,
}

/// A function that reads a policy, or returns the reason why it is not valid. The caller provides this function,
/// because this crate does not read YAML.
pub type ReadPolicy = fn(&str) -> Result<Allowed, String>;

/// The policy of the run, and the function that reads it.
#[derive(Debug, Clone, Copy)]
pub struct PolicyFile<'a> {
    /// Content of the file. The digest of the content is `config_hash` of the capsule.
    pub bytes: &'a [u8],
    /// `egress_policy::allowed::Allowed::read`.
    pub read: ReadPolicy,
}
