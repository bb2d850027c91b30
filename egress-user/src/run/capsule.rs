//! Builds the run's posture capsule: the properties of the closed boundary, signed before the mediator starts, so that
//! the mediator's first receipt can bind them.
//!
//! Claims: boundary-first
use std::time::Duration;

use audit_packet::IDENTITY_FILE;
use audit_packet::format::boundary::Program;
use audit_packet::posture::NO_WAY_OUT;
use ed25519_dalek::SigningKey;
use egress_sandbox::child::seccomp;
use egress_sandbox::probe::model::{ProbeOutcome, all_denied};
use egress_sys::clock;
use egress_workspace::users::AGENT_NAME;
use pipelock_receipts::capsule::{self, Claims, ContainLaunch, Containment, KernelRule, Signed};
use time::OffsetDateTime;

use super::context::RunContext;
use super::digest::sha256;
use super::error::{RunError, system};

/// Validity of the capsule of a run without a timeout. The time of every receipt must be within the validity.
const LONGEST: Duration = Duration::from_hours(30 * 24);
/// Time that a run may take beyond its timeout.
const AFTER_TIMEOUT: Duration = Duration::from_hours(1);

/// The statements of the capsule about the boundary.
#[derive(Debug)]
pub(super) struct Measurement {
    containment: Containment,
    launch: ContainLaunch,
    lasts: Duration,
}

impl Measurement {
    /// Describes the closed boundary with its attached kernel `programs`.
    ///
    /// # Errors
    /// Fails if the command's seccomp filter cannot be built.
    pub(super) fn of(context: &RunContext, programs: &[Program]) -> Result<Self, RunError> {
        let plan = &context.plan;
        let probes = &context.measured.probes;
        let agent = context.users.agent;
        let rules: Vec<KernelRule<'_>> = programs
            .iter()
            .map(|program| KernelRule {
                name: &program.name,
                attach_type: program.attach_type,
                tag: &program.tag,
            })
            .collect();
        let filter = seccomp::digest(false).map_err(std::io::Error::other);
        let filter = system("build the command's seccomp filter", filter)?;
        let is_closed = |probe: &egress_sandbox::probe::model::ProbeResult| {
            matches!(
                probe.outcome,
                ProbeOutcome::Denied | ProbeOutcome::NotApplicable
            )
        };
        Ok(Self {
            containment: Containment {
                mode: capsule::MODE.to_owned(),
                boundary_verified: probes.results.iter().all(is_closed),
                probe_refused_direct_egress: all_denied(&probes.results, &NO_WAY_OUT),
                kernel_rule_hash: capsule::kernel_rule_hash(&rules, &filter),
                target_uid: agent.to_string(),
            },
            launch: ContainLaunch {
                launcher: String::from("egress"),
                agent_user: AGENT_NAME.to_owned(),
                target_uid: agent.to_string(),
                proxy_port: i64::from(plan.proxy_port),
                env_vars: Some(vec![String::from(IDENTITY_FILE)]),
                env_sha256: sha256(&plan.identity),
                ..ContainLaunch::default()
            },
            lasts: plan
                .timeout
                .map_or(LONGEST, |timeout| timeout + AFTER_TIMEOUT),
        })
    }

    /// Signs the statements for a run under the policy `yaml`.
    pub(super) fn sign(&self, yaml: &str, key: &SigningKey) -> Signed {
        let now = OffsetDateTime::now_utc();
        let claims = Claims {
            generated_at: clock::rfc3339(now),
            expires_at: clock::rfc3339(now + self.lasts),
            config_hash: sha256(yaml.as_bytes()),
            containment: self.containment.clone(),
            launch: Some(self.launch.clone()),
        };
        capsule::sign(claims, key)
    }
}
