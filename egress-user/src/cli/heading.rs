//! The headings under which `egress run --help` groups its options.
pub(super) const NETWORK: &str = "Network";
pub(super) const MEDIATOR: &str = "Mediator";
pub(super) const WORKSPACE: &str = "Workspace";
pub(super) const EVIDENCE: &str = "Keys and evidence";
pub(super) const ENVIRONMENT: &str = "Environment";
pub(super) const LIMITS: &str = "Limits";
