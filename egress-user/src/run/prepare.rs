//! `Plan → Prepared`: leases the user ids, creates the cgroups, starts the boundary's init with its file view and
//! sockets, and attaches the kernel programs. At the end, the boundary is closed, the probes have been judged, and no
//! code of the command has run.
//!
//! `--mode audit` takes the same steps, with the exceptions in `run/enforcement/audit.rs`.
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use egress_common::abi::Config;
use egress_sandbox::probe::model::ProbeResult;
use egress_sandbox::sockets::Opened;
use egress_sys::privileges;
use egress_sys::process::Child;
use egress_workspace::store::Store;
use egress_workspace::users::UserLease;

use super::boundary::Boundary;
use super::cache::{self, Cache};
use super::context::{Measured, RunContext};
use super::enforcement::{self, NetworkSetup};
use super::environment::{self, AGENT_HOME, AgentEnvironment};
use super::error::{RunError, system};
use super::init::Init;
use super::plan::Plan;
use super::stage::{Parts, open_sockets, stage_plan};
use super::state::{RunDir, STATE_DIR};
use super::streams::Streams;
use super::timeline::Timeline;
use super::trust::{self, Trust};
use super::workspace;
use crate::bpf::Gates;

/// A closed boundary in which nothing runs except init.
#[derive(Debug)]
#[must_use = "nothing runs yet"]
pub struct Prepared {
    boundary: Boundary,
    network: Box<dyn NetworkSetup>,
    streams: Streams,
    context: RunContext,
}

impl Prepared {
    /// Returns the results of the probes, and opens the boundary again.
    pub fn into_probe_results(self) -> Vec<ProbeResult> {
        self.context.measured.probes.results
    }

    /// Returns the fields of this value. Variables drop in reverse order, so the boundary comes last.
    pub(super) fn into_parts(self) -> (RunContext, Streams, Box<dyn NetworkSetup>, Boundary) {
        (self.context, self.streams, self.network, self.boundary)
    }
}

/// Checks that this process is not root of another user namespace than the host's. The kernel lets such a root neither
/// load the kernel programs nor create the state directory.
///
/// # Errors
/// Returns [`RunError::UserNamespace`] if this process is root in another user namespace.
pub fn on_host() -> Result<(), RunError> {
    /// The first user namespace (`PROC_USER_INIT_INO` in the kernel's `include/linux/proc_ns.h`).
    const HOST: &str = "user:[4026531837]";
    // Without /proc, later steps fail and report the cause.
    let namespace = std::fs::read_link("/proc/self/ns/user");
    let is_other = namespace.is_ok_and(|namespace| namespace != Path::new(HOST));
    if is_other && nix::unistd::geteuid().is_root() {
        return Err(RunError::UserNamespace);
    }
    Ok(())
}

/// Checks that this process is root and has the capabilities of root on the host.
///
/// # Errors
/// Returns [`RunError::NotRoot`] if this process is not root, [`RunError::UserNamespace`] if it is root only in a user
/// namespace, or [`RunError::Unprivileged`] with the missing capabilities.
pub(super) fn privileged() -> Result<(), RunError> {
    /// Numbers of the capabilities (capabilities(7)).
    const NEEDED: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];
    if !nix::unistd::geteuid().is_root() {
        return Err(RunError::NotRoot);
    }
    on_host()?;
    let lacking = system(
        "read the capabilities of this process",
        privileges::lacking(&NEEDED),
    )?;
    if lacking.is_empty() {
        Ok(())
    } else {
        Err(RunError::Unprivileged(lacking))
    }
}

impl Plan {
    /// Closes the boundary and runs the probes.
    ///
    /// # Order
    /// Call this while the process has a single thread.
    ///
    /// # Errors
    /// Fails if a part of the boundary cannot be set up, or a probe shows that the boundary is open. Everything that
    /// was created is removed.
    pub fn prepare(self) -> Result<Prepared, RunError> {
        let mut timeline = Timeline::start(self.progress);
        privileged()?;
        let dir = RunDir::create()?;
        let users = lease_users()?;
        let cgroups = dir.make_cgroups()?;
        let caps = dir.make_limits(&self.limits, &cgroups)?;
        timeline.mark("cgroups made");
        let mut network = enforcement::setup(&self, &dir, cgroups.mediator.as_fd())?;
        let mediator = system("read the mediator's address", network.mediator_address())?;
        let is_open = network.keeps_host_network();
        let workspace = workspace::mount(&self, dir.id(), users.agent)?;
        timeline.mark("workspace mapped");
        let cache = open_cache(&self, users.agent)?;
        let streams = Streams::new(&self, users.agent);
        let mut streams = system("create the command's pipes", streams)?;
        let opened = open_sockets(&self, users.agent)?;
        let trust = system(
            "add Pipelock's authority to the file view",
            network.trust(&self),
        )?;
        let environment = agents_environment(&self, &trust, is_open);
        let masked = masked(&self, workspace.store.as_ref());
        let parts = Parts {
            dir: &dir,
            users: &users,
            workspace: &workspace,
            cache: cache.as_ref(),
            opened: &opened,
            streams: &streams,
            caps: &caps,
            environment: environment.entries,
            masked: masked.clone(),
            trusted: trust.files,
            keeps_host_network: is_open,
        };
        let stage = stage_plan(&self, parts)?;
        let mut init = Init::start(
            &stage,
            &cgroups,
            &passed(&workspace.tree, cache.as_ref(), &opened, &streams),
            &dir,
        )?;

        timeline.mark("init spawned");
        network.start_controls(&self, &dir, &cgroups, &users)?;
        // Meanwhile init builds the file view on another CPU.
        let config = config(&self, mediator, is_open);
        let mut gates = Gates::attach(config, &cgroups, self.layers, self.diagnostics)?;
        timeline.mark("gates attached");
        network.gates_are_attached();
        let entered = init.expect_entered(&dir)?;
        streams.take_master(entered.terminal)?;
        // An audit is recorded as if it had its own network namespace, in which IPv6 would work.
        let ipv6 = entered.sockets.ipv6 || is_open;
        if !ipv6 {
            // Init detects whether IPv6 works while the programs are being loaded, and the configuration of loaded
            // programs cannot change. On a machine without IPv6, the programs are therefore loaded again.
            let config = Config { ipv6: 0, ..config };
            gates = Gates::attach(config, &cgroups, self.layers, self.diagnostics)?;
            timeline.mark("gates attached again");
        }
        let mut events = gates.take_events()?;
        timeline.mark("boundary closed");
        let probes = network.probe(&mut init, entered.sockets, &mut events, &dir)?;
        probes.judge_for(&self)?;
        if !is_open {
            timeline.mark("probes done");
        }
        let namespaces = system(
            "read the boundary's namespaces",
            namespace_links(&init.child),
        )?;
        let measured = Measured {
            ipv6,
            left_out: entered.left_out,
            environment: environment.record,
            namespaces,
            opened,
            masked,
            credentials: workspace.credentials,
            probes,
            trusted: trust.record,
        };
        Ok(Prepared {
            boundary: Boundary {
                init,
                cgroups,
                caps,
                gates,
                events,
                agent_fds: entered.agent_fds,
                store: workspace.store,
            },
            network,
            streams,
            context: RunContext {
                _cache: cache,
                users,
                recovered: workspace.recovered,
                measured,
                timeline,
                dir,
                plan: self,
            },
        })
    }
}

fn open_cache(plan: &Plan, agent: u32) -> Result<Option<Cache>, RunError> {
    let cache = plan.cache.as_deref().map(|path| {
        cache::open(path, agent).map_err(|source| RunError::Cache {
            path: path.to_path_buf(),
            source,
        })
    });
    cache.transpose()
}

fn lease_users() -> Result<UserLease, RunError> {
    let state = Path::new(STATE_DIR);
    UserLease::acquire(state).map_err(|source| RunError::State {
        path: state.join("users"),
        source,
    })
}

/// Returns the command's environment. If the command does not use the host's network, the environment names the
/// explicit proxy.
fn agents_environment(plan: &Plan, trust: &Trust, is_open: bool) -> AgentEnvironment {
    environment::for_agent(
        &plan.environment,
        toolchains(plan).as_deref(),
        &plan.exceptions,
        Path::new(AGENT_HOME),
        &plan.workdir,
        (!is_open).then_some(plan.proxy_port),
        trust.record.as_ref().map(|_| Path::new(trust::BUNDLE)),
    )
}

/// Returns the caller's Rust toolchains, if the command may read them.
fn toolchains(plan: &Plan) -> Option<PathBuf> {
    environment::toolchains(&plan.environment, plan.caller_home.as_deref(), &plan.tools)
}

/// Returns the paths that are hidden from the command: the paths in the plan, and the files of the run itself.
fn masked(plan: &Plan, store: Option<&Store>) -> Vec<PathBuf> {
    let mut masked = plan.masked.clone();
    masked.push(plan.packet.path().to_path_buf());
    masked.extend(plan.cache.clone());
    masked.extend(store.map(|store| store.path().to_path_buf()));
    masked
}

/// Returns the configuration of the kernel programs, on the assumption that IPv6 works.
fn config(plan: &Plan, mediator: SocketAddr, is_open: bool) -> Config {
    let mut config = Config::new(plan.proxy_port, true);
    if let SocketAddr::V4(address) = mediator {
        config.mediator_addr = address.ip().to_bits();
        config.mediator_port = address.port().into();
    }
    config.audit = u32::from(is_open);
    config.private =
        u32::from(egress_policy::opened::Opened::by(plan.policy.text.as_deref()).private);
    config
}

/// Returns the descriptors that init inherits: the mounts, and its ends of the standard streams.
fn passed<'f>(
    workspace: &'f OwnedFd,
    cache: Option<&'f Cache>,
    opened: &'f [Opened],
    streams: &'f Streams,
) -> Vec<BorrowedFd<'f>> {
    let mut passed = vec![workspace.as_fd()];
    passed.extend(streams.agents().into_iter().flatten());
    passed.extend(cache.map(|cache| cache.tree.as_fd()));
    passed.extend(opened.iter().map(|one| one.tree.as_fd()));
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
