//! The values that a run keeps from its start until its packet is written.
use std::path::PathBuf;

use audit_packet::format::boundary::{Environment, TlsInterception};
use egress_sandbox::sockets::Opened;
use egress_sandbox::view::LeftOut;
use egress_workspace::apply::Recovered;
use egress_workspace::credentials::Found;
use egress_workspace::users::UserLease;

use super::cache::Cache;
use super::plan::Plan;
use super::probes::Probed;
use super::state::RunDir;
use super::timeline::Timeline;

/// The values that each step passes on to the next as a whole. The fields are dropped in this order, so that the run's
/// directory outlives the objects that its files describe.
#[derive(Debug)]
pub(super) struct RunContext {
    /// The run's user ids.
    pub(super) users: UserLease,
    /// Changes that killed runs had left beside the workspace, and how this run handled them.
    pub(super) recovered: Vec<Recovered>,
    /// Keeps the cache locked.
    pub(super) _cache: Option<Cache>,
    /// The properties of the boundary that are recorded.
    pub(super) measured: Measured,
    /// The times of the steps.
    pub(super) timeline: Timeline,
    /// The run's directory.
    pub(super) dir: RunDir,
    /// The caller's plan.
    pub(super) plan: Plan,
}

/// The properties of the boundary that are known when it is closed.
#[derive(Debug)]
pub(super) struct Measured {
    /// Whether IPv6 works on loopback.
    pub(super) ipv6: bool,
    /// Host mounts that the file view does not contain.
    pub(super) left_out: Vec<LeftOut>,
    /// Names of the command's environment variables.
    pub(super) environment: Environment,
    /// Links of the boundary's namespaces, `name:[inode]`.
    pub(super) namespaces: Vec<String>,
    /// The results of the probes.
    pub(super) probes: Probed,
    /// Host sockets that the command may use.
    pub(super) opened: Vec<Opened>,
    /// Paths that are hidden from the command.
    pub(super) masked: Vec<PathBuf>,
    /// Credentials that were found and hidden.
    pub(super) credentials: Found,
    /// The authority that intercepts TLS, and the files in which programs find it.
    pub(super) trusted: Option<TlsInterception>,
}
