//! Builds the plan of the boundary's init: the contents of the file view, and the command.
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use egress_sandbox::child::protocol::{Resources, StagePlan};
use egress_sandbox::limits::{Caps, Limits};
use egress_sandbox::sockets::{self, Opened};
use egress_sandbox::view::{PlacedFile, TmpfsLimits};
use egress_workspace::users::{self, UserLease};
use nix::sys::stat::fstat;

use super::cache::Cache;
use super::environment::{self, AGENT_HOME};
use super::error::{RunError, system};
use super::plan::{DnsMode, Plan, WorkspaceMode};
use super::state::RunDir;
use super::streams::Streams;
use super::workspace::MountedWorkspace;

/// Size limit of `/run` in bytes. A smaller limit of the other scratch space applies to `/run` as well.
const RUN_BYTES: u64 = 64 << 20;

/// Files that a command with the host's network keeps. These files are copied, because they may be links into a
/// directory that is private in the file view.
const NETWORK_FILES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// Creates the mounts of the host sockets that the caller opened.
///
/// # Errors
/// Fails if a socket no longer exists, or cannot be mounted.
pub(super) fn open_sockets(plan: &Plan, agent: u32) -> Result<Vec<Opened>, RunError> {
    let paths = plan.allowed_sockets.iter();
    let opened = paths.map(|path| sockets::open(path, agent)).collect();
    system("open a socket of the host", opened)
}

/// The parts of init's plan, in addition to the caller's plan. [`stage_plan`] is the only constructor of a plan, so
/// that no plan can lack limits or show a hidden credential.
pub(super) struct Parts<'a> {
    pub(super) dir: &'a RunDir,
    pub(super) users: &'a UserLease,
    pub(super) workspace: &'a MountedWorkspace,
    /// The cache that the caller keeps between runs.
    pub(super) cache: Option<&'a Cache>,
    /// Mounts of host sockets.
    pub(super) opened: &'a [Opened],
    pub(super) streams: &'a Streams,
    /// The command's limits.
    pub(super) caps: &'a Caps,
    /// The command's environment, `NAME=value`.
    pub(super) environment: Vec<Vec<u8>>,
    /// Paths that are hidden from the command.
    pub(super) masked: Vec<PathBuf>,
    /// Files through which programs trust the authority that intercepts TLS.
    pub(super) trusted: Vec<PlacedFile>,
    /// Whether the command keeps the host's network namespace.
    pub(super) keeps_host_network: bool,
}

/// Builds the plan of the boundary's init.
///
/// # Errors
/// Fails if the host's name, or one of the [`NETWORK_FILES`], cannot be read.
pub(super) fn stage_plan(plan: &Plan, parts: Parts<'_>) -> Result<StagePlan, RunError> {
    let Parts {
        dir,
        users,
        workspace,
        cache,
        opened,
        streams,
        caps,
        environment,
        masked,
        trusted,
        keeps_host_network,
    } = parts;
    let hostname = system(
        "read the host name",
        nix::unistd::gethostname().map_err(Into::into),
    )?;
    let hostname = hostname
        .to_string_lossy()
        .split('.')
        .next()
        .unwrap_or_default()
        .to_owned();
    let dns = plan.dns == DnsMode::Synthetic;
    let mut files = files(users.agent, &hostname, dns);
    if keeps_host_network {
        for file in &mut files {
            if NETWORK_FILES
                .iter()
                .any(|path| file.path == Path::new(path))
            {
                file.content = system("read the caller's files", fs::read(&file.path))?;
            }
        }
    }
    files.extend(trusted);
    Ok(StagePlan {
        stage_dir: dir.stage(),
        agent: users.agent,
        files,
        hostname,
        home: PathBuf::from(AGENT_HOME),
        limits: TmpfsLimits {
            scratch_bytes: plan.limits.scratch,
            run_bytes: plan.limits.scratch.min(RUN_BYTES),
        },
        join: caps.join(),
        resources: resources(&plan.limits, caps),
        workspace: (plan.workdir.clone(), workspace.tree.as_raw_fd()),
        store: system(
            "read the store of the workspace's changes",
            workspace
                .store
                .as_ref()
                .filter(|_| plan.workspace != WorkspaceMode::Copy)
                .map(|store| Ok((store.path().to_path_buf(), fstat(store.held())?.st_ino)))
                .transpose(),
        )?,
        tools: plan.tools.clone(),
        cache: cache.map(|cache| cache.tree.as_raw_fd()),
        sockets: opened
            .iter()
            .map(|one| (one.path.clone(), one.tree.as_raw_fd()))
            .collect(),
        masked,
        policy: plan.policy.shown.clone(),
        covered: workspace.covered.clone(),
        shown: plan.shown.clone(),
        command_files: environment::command_files(&plan.environment)
            .map(str::to_owned)
            .collect(),
        audit: keeps_host_network,
        dns,
        proxy_port: plan.proxy_port,
        stdio: streams.agents().map(|ends| ends.map(|end| end.as_raw_fd())),
        workdir: plan.workdir.clone(),
        command: plan
            .command
            .iter()
            .map(|word| word.as_bytes().to_vec())
            .collect(),
        environment,
        layers: plan.layers,
    })
}

/// Returns the resource limits of the command's processes.
fn resources(limits: &Limits, caps: &Caps) -> Resources {
    Resources {
        processes: limits.processes,
        open_files: limits.open_files,
        data: caps.limits_data().then_some(limits.memory),
    }
}

/// Returns the files that replace host files in the file view.
fn files(agent: u32, hostname: &str, dns: bool) -> Vec<PlacedFile> {
    let own = if hostname.is_empty() || hostname == "localhost" {
        String::new()
    } else {
        format!(" {hostname}")
    };
    let hosts =
        format!("127.0.0.1 localhost{own}\n::1 localhost ip6-localhost ip6-loopback{own}\n");
    // `search .` prevents the C library from trying the host's domain for every name.
    let resolver = if dns {
        "nameserver 127.0.0.1\nsearch .\n"
    } else {
        "# names do not resolve here\nnameserver 127.0.0.1\nsearch .\n"
    };
    let switch = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n\
                  networks: files\nprotocols: files\nservices: files\n";
    [
        ("/etc/passwd", users::passwd(agent, AGENT_HOME)),
        ("/etc/group", users::group(agent)),
        ("/etc/hosts", hosts),
        ("/etc/hostname", format!("{hostname}\n")),
        ("/etc/resolv.conf", resolver.to_owned()),
        ("/etc/nsswitch.conf", switch.to_owned()),
    ]
    .map(|(path, content)| PlacedFile {
        path: PathBuf::from(path),
        content: content.into_bytes(),
    })
    .into()
}
