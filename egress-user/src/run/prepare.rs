//! `Plan → Prepared`: users, cgroups, the boundary's init with its view and sockets, and the gates.
//! When this returns the boundary is closed, and nothing in it runs yet.
//!
//! `--mode audit` takes the same steps through the same types, without the network namespace, the sockets, the probes,
//! the relay, and the mediator (`Entry::Absent`).
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use audit_packet::format::boundary::{Environment, TlsInterception};
use egress_common::abi::Config;
use egress_sandbox::cgroup::RunCgroups;
use egress_sandbox::child::protocol::Sockets;
use egress_sandbox::limits::Caps;
use egress_sandbox::sockets::Opened;
use egress_sandbox::view::LeftOut;
use egress_sys::privileges;
use egress_sys::process::Child;
use egress_workspace::apply::Recovered;
use egress_workspace::credentials::Found;
use egress_workspace::store::Store;
use egress_workspace::users::UserLease;

use super::agent_fds::AgentFds;
use super::environment::{self, AGENT_HOME, AgentEnvironment};
use super::error::{RunError, system};
use super::init::{Entered, Init};
use super::mediator::{Entry, entry};
use super::plan::{Mode, Plan};
use super::probes::{self, Controls, Probed};
use super::stage::{Mounts, Parts, open_sockets, stage_plan};
use super::state::{RunDir, STATE_DIR};
use super::stdio::Pipes;
use super::timeline::Timeline;
use super::trust::{self, Trust};
use super::workspace;
use crate::bpf::Gates;
use crate::bpf::events::Events;

/// What the boundary turned out to be, for the record.
#[derive(Debug)]
pub struct Measured {
    /// Whether IPv6 loopback is there.
    pub ipv6: bool,
    /// Host mounts that the agent does not see.
    pub left_out: Vec<LeftOut>,
    /// The agent's environment, names only.
    pub environment: Environment,
    /// Links of the boundary's namespaces, `name:[inode]`.
    pub namespaces: Vec<String>,
    /// What the probes found, before anything else ran.
    pub probes: Probed,
    /// Sockets of the host that the agent may use.
    pub opened: Vec<Opened>,
    /// Paths that were covered.
    pub masked: Vec<PathBuf>,
    /// Credentials that were found and hidden.
    pub credentials: Found,
    /// The authority that intercepts TLS, if there is one, and where programs find it.
    pub trusted: Option<TlsInterception>,
}

/// A closed boundary with nothing in it. Fields drop in this order: processes, then their cgroups,
/// then the gates, then the files.
#[derive(Debug)]
#[must_use = "nothing runs yet"]
pub struct Prepared {
    pub(super) init: Init,
    pub(super) controls: Option<Controls>,
    pub(super) cgroups: RunCgroups,
    pub(super) caps: Caps,
    pub(super) gates: Gates,
    pub(super) events: Events,
    pub(super) sockets: Option<Sockets<OwnedFd>>,
    pub(super) entry: Entry,
    pub(super) pipes: Pipes,
    pub(super) held: AgentFds,
    pub(super) users: UserLease,
    pub(super) store: Option<Store>,
    pub(super) recovered: Vec<Recovered>,
    pub(super) measured: Measured,
    pub(super) timeline: Timeline,
    pub(super) dir: RunDir,
    pub(super) plan: Plan,
}

/// The command's environment.
fn agents_environment(plan: &Plan, trust: &Trust) -> AgentEnvironment {
    environment::for_agent(
        &plan.environment,
        &plan.exceptions,
        Path::new(AGENT_HOME),
        &plan.workdir,
        (plan.mode == Mode::Enforce).then_some(plan.proxy_port),
        trust.record.as_ref().map(|_| Path::new(trust::BUNDLE)),
    )
}

/// Checks that the caller is root, and may what root of the machine may.
///
/// # Errors
/// If not.
pub(super) fn privileged() -> Result<(), RunError> {
    /// By their numbers (capabilities(7)).
    const NEEDED: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];
    if !nix::unistd::geteuid().is_root() {
        return Err(RunError::NotRoot);
    }
    let lacking = system("read the own capabilities", privileges::lacking(&NEEDED))?;
    if lacking.is_empty() {
        Ok(())
    } else {
        Err(RunError::Unprivileged(lacking))
    }
}

impl Plan {
    /// Closes the boundary.
    ///
    /// # Order
    /// While this process has one thread.
    ///
    /// # Errors
    /// When any part of the boundary cannot be put up; what was made is removed again.
    pub fn prepare(self) -> Result<Prepared, RunError> {
        let mut timeline = Timeline::start(self.progress);
        privileged()?;
        let dir = RunDir::create()?;
        let users = lease_users()?;
        let cgroups = dir.make_cgroups()?;
        let caps = dir.make_limits(&self.limits, &cgroups)?;
        timeline.mark("cgroups made");
        let entry = entry(&self, &dir, cgroups.mediator.as_fd())?;
        let mediator = system("read the mediator's address", entry.address())?;
        let recovered = workspace::recover(&self)?;
        let credentials = workspace::credentials(&self)?;
        let redactions = credentials.redactions.as_slice();
        let (store, tree) = workspace::mounted(&self, dir.id(), users.agent, redactions)?;
        let covered = workspace::covered(&self, redactions, users.agent)?;
        timeline.mark("workspace mapped");
        let pipes = system("make the agent's pipes", Pipes::new(users.agent))?;
        let opened = open_sockets(&self, users.agent)?;
        let mounts = Mounts {
            workspace: &tree,
            store: store.as_ref(),
            opened: &opened,
        };

        let mut trust = system("show Pipelock's authority", Trust::of(&self))?;
        let environment = agents_environment(&self, &trust);
        let masked = masked(&self, store.as_ref());
        let parts = Parts {
            dir: &dir,
            users: &users,
            mounts: &mounts,
            pipes: &pipes,
            caps: &caps,
            environment: environment.entries,
            masked: masked.clone(),
            covered,
            trusted: std::mem::take(&mut trust.files),
        };
        let stage = stage_plan(&self, parts)?;
        let mut init = Init::start(&stage, &cgroups, &passed(&mounts, &pipes), &dir)?;

        timeline.mark("init spawned");
        let mut controls = Controls::start(&self, &dir, &cgroups, &users)?;
        // init builds the view on the other core meanwhile.
        let mut config = config(&self, mediator);
        let mut gates = Gates::attach(config, &cgroups, self.layers, self.diagnostics)?;
        let mut events = gates.take_events()?;
        timeline.mark("gates attached");
        if let Some(controls) = &controls {
            controls.gates_are_attached();
        }
        let Entered {
            sockets,
            ipv6,
            left_out,
            held,
        } = init.expect_entered(&dir, self.mode)?;
        if !ipv6 {
            // Known only now, and programs are what they were loaded as: once more, for the few
            // machines where it is so.
            config.ipv6 = 0;
            gates = Gates::attach(config, &cgroups, self.layers, self.diagnostics)?;
            events = gates.take_events()?;
            timeline.mark("gates attached again");
        }
        timeline.mark("boundary closed");
        let inside = (&mut init, sockets.as_ref());
        let probes = probes::run(&self, &dir, inside, controls.as_mut(), &mut events)?;
        if self.mode == Mode::Enforce {
            timeline.mark("probes done");
        }
        let namespaces = system(
            "read the boundary's namespaces",
            namespace_links(&init.child),
        )?;
        Ok(Prepared {
            init,
            controls,
            cgroups,
            caps,
            gates,
            events,
            sockets,
            entry,
            pipes,
            held,
            users,
            store,
            recovered,
            measured: Measured {
                ipv6,
                left_out,
                environment: environment.record,
                namespaces,
                opened,
                masked,
                credentials,
                probes,
                trusted: trust.record,
            },
            timeline,
            dir,
            plan: self,
        })
    }
}

fn lease_users() -> Result<UserLease, RunError> {
    let state = Path::new(STATE_DIR);
    UserLease::acquire(state).map_err(|source| RunError::State {
        path: state.join("users"),
        source,
    })
}

/// What the agent must not see: what the caller named, and what the run itself uses.
fn masked(plan: &Plan, store: Option<&Store>) -> Vec<PathBuf> {
    let mut masked = plan.masked.clone();
    masked.push(plan.packet.path().to_path_buf());
    masked.extend(store.map(|store| store.path().to_path_buf()));
    masked
}

/// What the kernel programs are told, before it is known whether there is IPv6.
fn config(plan: &Plan, mediator: SocketAddr) -> Config {
    let mut config = Config::new(plan.proxy_port, true);
    if let SocketAddr::V4(address) = mediator {
        config.mediator_addr = address.ip().to_bits();
        config.mediator_port = address.port().into();
    }
    config.audit = u32::from(plan.mode == Mode::Audit);
    config.private =
        u32::from(egress_policy::opened::Opened::by(plan.policy.text.as_deref()).private);
    config
}

/// What init works with: the mounts, and its ends of the standard streams.
fn passed<'f>(mounts: &'f Mounts<'_>, pipes: &'f Pipes) -> Vec<BorrowedFd<'f>> {
    let mut passed = vec![mounts.workspace.as_fd()];
    passed.extend(pipes.agents());
    passed.extend(mounts.opened.iter().map(|one| one.tree.as_fd()));
    passed
}

fn namespace_links(init: &Child) -> std::io::Result<Vec<String>> {
    ["cgroup", "ipc", "mnt", "net", "pid", "uts"]
        .iter()
        .map(|name| {
            let link = std::fs::read_link(format!("/proc/{}/ns/{name}", init.pid))?;
            Ok(link.to_string_lossy().into_owned())
        })
        .collect()
}
