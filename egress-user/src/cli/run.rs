//! `egress run`: turns the command line into a checked [`Plan`], executes it, and returns the exit status.
//!
//! Claims: read-script
use std::ffi::OsString;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, FromArgMatches};
use egress_workspace::apply::configuration;

use super::exit;
use super::failure::{self, Form};
use super::route::route;
use super::sudo_driver::ResultFile;
use super::{keys_and_policy, pipelock, print, variables};
use crate::ci_commands::Obeyed;
use crate::run::emit::Emitted;
use crate::run::error::RunError;
use crate::run::packet_dir::PacketDir;
use crate::run::plan::{
    CallerPolicy, Diagnostics, Input, Layers, Limits, MediatorChoice, Mode, Plan, Shares,
    most_memory,
};
use crate::run::prepare::on_host;
use crate::run::probes;
use crate::run::stale_runs::{self, SweepReach};
use crate::run::supervise::block_signals;
use crate::run::umask;
use crate::variable::variable;

pub(super) mod args;
mod home;
mod tty;

use args::MediatorKind;
pub use args::RunArgs;

/// Executes `egress run`, prints the result, and returns the exit status.
pub fn run(args: RunArgs, inherited: Vec<String>) -> u8 {
    umask::replace();
    let (json, detail) = (args.json, args.detail.detail());
    let fail = |failure: &Failure, result_file: Option<&ResultFile>| {
        let Failure(error, hint, status) = failure;
        if let Some(result_file) = result_file {
            result_file.write(&failure::as_json(error.as_ref(), *hint, *status));
        }
        failure::report(Form::of(json), error.as_ref(), *hint, *status)
    };
    let result_file = match args.driven.result_file() {
        Ok(result_file) => result_file,
        Err(error) => return fail(&Failure(error, None, exit::USAGE), None),
    };
    match execute(args, inherited) {
        Ok(emitted) => {
            print::run_result(&emitted, json, detail);
            result_file.write(&print::whole_result(&emitted));
            exit::of(emitted.outcome())
        }
        Err(failure) => fail(&failure, Some(&result_file)),
    }
}

/// An error, its hint for the user, and its exit status.
struct Failure(anyhow::Error, Option<&'static str>, u8);

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let hint = error.hint();
        let status = if error.is_usage() {
            exit::USAGE
        } else {
            exit::FAILED
        };
        Self(error.into(), hint, status)
    }
}

fn execute(args: RunArgs, inherited: Vec<String>) -> Result<Emitted, Failure> {
    // Root of a user namespace often lacks access to the paths of the plan, which would hide this cause.
    on_host()?;
    let plan = plan(args, inherited).map_err(|error| Failure(error, None, exit::USAGE))?;
    if let Some(warning) = plan.layers.warning() {
        print::warning(&warning);
    }
    match &plan.mediator {
        _ if plan.mode == Mode::Audit => print::audit(),
        MediatorChoice::Builtin if plan.policy.path.is_none() => print::no_policy(),
        MediatorChoice::Builtin => {}
        MediatorChoice::Pipelock(_) => pipelock::warn(&plan.policy),
    }
    let text = plan.policy.text.as_deref().unwrap_or_default();
    for notice in egress_policy::notices::of_hosts(text) {
        print::warning(&notice.to_string());
    }
    if plan.mode == Mode::Enforce
        && let Some(warning) = variables::ignored_proxies(&plan.environment)
    {
        print::warning(&warning);
    }
    // The signals are blocked before any thread starts, so that every thread inherits the signal mask.
    block_signals().map_err(|error| Failure(error.into(), None, exit::FAILED))?;
    // Without root, the sweep would fail first. The run itself reports the missing privilege.
    if nix::unistd::geteuid().is_root() {
        print::swept(&stale_runs::sweep(SweepReach::Runs)?);
    }
    Ok(crate::run::execute(plan)?)
}

/// Checks that the options do not contradict each other and name only probes that exist.
fn check_options(args: &RunArgs) -> anyhow::Result<()> {
    if args.mode == Mode::Audit {
        ensure!(
            args.mediator == MediatorKind::Builtin,
            "--mode audit does not use a mediator; leave out --mediator"
        );
        ensure!(
            !args.require_trusted,
            "--mode audit does not write receipts; leave out --require-trusted"
        );
    }
    for name in &args.accepted_risks {
        ensure!(
            probes::names().any(|known| known == name),
            "--accept-risk {name}: no such probe; the probes are {}",
            probes::names().collect::<Vec<_>>().join(", ")
        );
    }
    Ok(())
}

/// Checks the working directory, and returns it without links.
fn workdir(args: &RunArgs) -> anyhow::Result<PathBuf> {
    let shown = args.workdir.display().to_string();
    let workdir = args
        .workdir
        .canonicalize()
        .with_context(|| format!("cannot use working directory {shown}"))?;
    ensure!(
        workdir.is_dir(),
        "working directory {shown} is not a directory"
    );
    ensure!(
        workdir != Path::new("/"),
        "the working directory cannot be /; use --workdir to name the directory that the command may write to"
    );
    ensure!(
        workdir.to_str().is_some(),
        "the path of working directory {shown} is not UTF-8; rename the directory"
    );
    Ok(workdir)
}

fn plan(args: RunArgs, inherited: Vec<String>) -> anyhow::Result<Plan> {
    let workdir = workdir(&args)?;
    check_options(&args)?;
    let (command, script_basename, argument_count) = command(&args, &workdir)?;
    let mut masked = Vec::new();
    let (mediator, mut policy) = mediator(&args)?;
    if let MediatorChoice::Pipelock(choice) = &mediator {
        masked.extend(choice.authority.iter().map(|one| one.key_path.clone()));
    }
    let private = [&args.signer_private_key, &args.boundary_key];
    masked.extend(
        private
            .into_iter()
            .flatten()
            .filter_map(|path| path.canonicalize().ok()),
    );
    let mut environment = args.driven.environment()?;
    let home = args.homes.find(&mut environment, &workdir);
    let path_in = |name| Path::new(variable(&environment, name)?).canonicalize().ok();
    // The runner keeps tokens in RUNNER_TEMP, so the directory is hidden. The directory also holds the event that
    // started the workflow, and the command may read this event.
    masked.extend(path_in("RUNNER_TEMP"));
    let shown = path_in("GITHUB_EVENT_PATH").into_iter().collect();
    match policy.path.as_deref().map(Path::canonicalize).transpose()? {
        Some(path) if may_read(&path, &mediator, &workdir, &masked) => policy.shown = Some(path),
        other => masked.extend(other),
    }
    let limits = limits(&args)?;
    let reads_commands = args.driven.driven || Obeyed::by(&environment).commands;
    let terminal = args.tty.decide(reads_commands)?;
    let layers = Layers::from_environment()?;
    let keys = keys_and_policy::Keys {
        private: args.signer_private_key.as_deref(),
        public: args.signer_public_key.as_deref(),
        boundary: args.boundary_key.as_deref(),
    };
    let (signer, boundary_key) = keys_and_policy::signers(keys, layers.warning().is_some())?;
    let mut packet = PacketDir::hold(&args.packet_dir)?;
    if let Some(owner) = args.driven.packet_owner {
        packet.belongs_to(owner.uid, owner.gid);
    }
    ensure!(
        !workdir.starts_with(packet.path()),
        "packet directory {} contains the working directory; choose another one with --packet-dir",
        packet.path().display()
    );
    let cache = args.homes.cache(&workdir, &environment)?;
    let protected = protected(&args, &workdir, &mediator, &policy)?;
    let shown_credentials = shown_credentials(&workdir, &args.shown_credentials)?;
    Ok(Plan {
        mode: args.mode,
        progress: print::progress(args.json, args.detail.detail()),
        diagnostics: args.debug.then_some(Diagnostics(&print::KERNEL_LOG)),
        command,
        script_basename,
        argument_count,
        protected,
        allowed_changes: args.allowed_changes,
        workspace: args.workspace,
        workdir: workdir.clone(),
        policy,
        packet,
        mediator,
        signer,
        boundary_key,
        agent_identity: args.agent_identity,
        timestamp: args.binding.timestamp()?,
        identity: args.binding.identity(&environment)?,
        require_trusted: args.require_trusted,
        allowed_ports: args.allowed_ports,
        allowed_sockets: args
            .allowed_sockets
            .iter()
            .map(|path| socket(&workdir, path))
            .collect::<anyhow::Result<_>>()?,
        dns: args.dns,
        proxy_port: args.proxy_port,
        limits,
        caller_home: home.path,
        tools: home.tools,
        closed_home: home.closed,
        cache,
        timeout: args.timeout.map(Duration::from_secs),
        accepted_risks: args.accepted_risks,
        masked,
        shown,
        shown_credentials,
        input: if args.driven.driven {
            Input::Lifeline
        } else {
            Input::Caller
        },
        terminal,
        environment,
        exceptions: args.variables.checked()?,
        layers,
        inherited,
    })
}

/// Returns the plan of a run in `workdir` with default options, for `egress doctor`, which only runs the probes. No
/// probe stops the run, and no packet is written.
pub(super) fn trial(workdir: &Path) -> anyhow::Result<Plan> {
    let command = RunArgs::augment_args(clap::Command::new("egress run"));
    let packet_dir = format!("/run/egress-doctor-{}", std::process::id());
    let mut words = vec![OsString::from("egress run"), "--workdir".into()];
    words.push(workdir.into());
    let fixed = [
        "--json",
        "--tty=never",
        "--workspace",
        "read-only",
        "--packet-dir",
    ];
    words.extend(fixed.map(OsString::from));
    words.push(packet_dir.into());
    for name in probes::names() {
        words.extend(["--accept-risk", name].map(OsString::from));
    }
    words.extend(["--", "true"].map(OsString::from));
    let args = RunArgs::from_arg_matches(&command.try_get_matches_from(words)?)?;
    plan(args, Vec::new())
}

fn limits(args: &RunArgs) -> std::io::Result<Limits> {
    let shares = Shares::of_machine()?;
    Ok(Limits {
        processes: args.max_processes.min(shares.processes),
        memory: args.max_memory.map_or_else(most_memory, Ok)?,
        open_files: args.max_open_files.min(shares.files_of_one()),
        scratch: args.max_scratch,
        evidence: args.max_evidence,
        shares,
    })
}

/// Whether the command may read the policy at `path`. Git reports a hidden file of a repository as changed, so a policy
/// in the workspace is shown if it holds no secrets. A Pipelock configuration may hold secrets.
fn may_read(path: &Path, mediator: &MediatorChoice, workdir: &Path, masked: &[PathBuf]) -> bool {
    *mediator == MediatorChoice::Builtin
        && path.starts_with(workdir)
        && !masked
            .iter()
            .any(|masked| path.starts_with(masked) && !workdir.starts_with(masked))
}

/// Returns the paths in the workspace to which no change is applied. These are the paths of `--protect`, every file
/// that decides how a later run with the same command line is judged, signed, or executed, and the files to which links
/// with protected names lead.
fn protected(
    args: &RunArgs,
    workdir: &Path,
    mediator: &MediatorChoice,
    policy: &CallerPolicy,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut named = this_program()?;
    named.push(args.packet_dir.clone());
    let files = [&args.config, &args.signer_private_key, &args.boundary_key];
    named.extend(files.into_iter().flatten().cloned());
    named.extend(args.binding.files().iter().cloned());
    if let MediatorChoice::Pipelock(choice) = mediator {
        named.extend(pipelock::files(policy, choice));
    }
    for path in &args.protected {
        named.push(protectable(workdir, path)?);
    }
    let is_allowed = |name: &str| {
        let path = name.as_bytes();
        args.allowed_changes.iter().any(|one| one.covers(path))
    };
    let links = configuration::NAMES.iter().filter(|name| !is_allowed(name));
    named.extend(
        links
            .map(|name| workdir.join(name))
            .filter(|path| path.is_symlink()),
    );
    let mut protected = Vec::new();
    for path in &named {
        let route = route(path)
            .with_context(|| format!("cannot resolve the links of {}", path.display()))?;
        protected.extend(route.into_iter().filter(|part| part.starts_with(workdir)));
    }
    Ok(protected)
}

/// Returns the path of this program's file, and the path by which the caller named it. The second path may be a link.
fn this_program() -> std::io::Result<Vec<PathBuf>> {
    let mut found = vec![std::env::current_exe()?];
    let name = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    if name.components().nth(1).is_some() {
        found.push(name);
    } else if let Some(dirs) = std::env::var_os("PATH") {
        let mut named = std::env::split_paths(&dirs).map(|dir| dir.join(&name));
        found.extend(named.find(|path| path.is_file()));
    }
    Ok(found)
}

/// Checks a path of `--protect` and returns it as an absolute path.
///
/// The path need not exist. The path must be in the workspace and contain no `..`, because otherwise the rule would not
/// match the path that the command writes.
fn protectable(workdir: &Path, path: &Path) -> anyhow::Result<PathBuf> {
    let absolute: PathBuf = workdir.join(path).components().collect();
    let shown = path.display();
    ensure!(
        !absolute
            .components()
            .any(|part| part == std::path::Component::ParentDir),
        "--protect {shown}: the path contains ..; write it without"
    );
    ensure!(
        absolute != workdir && absolute.starts_with(workdir),
        "--protect {shown}: the path is not in the working directory {}",
        workdir.display()
    );
    Ok(absolute)
}

/// Returns the paths of `--show-credential` without links. A relative path begins in the working directory.
fn shown_credentials(workdir: &Path, paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let found = paths.iter().map(|path| {
        let real = workdir.join(path).canonicalize();
        real.with_context(|| format!("--show-credential {}: cannot find the path", path.display()))
    });
    found.collect()
}

/// Checks a path of `--allow-unix`: an absolute path without links to a socket outside the workspace.
fn socket(workdir: &Path, path: &Path) -> anyhow::Result<PathBuf> {
    let shown = path.display();
    ensure!(
        path.is_absolute(),
        "--allow-unix {shown}: the path is not absolute; write the absolute path"
    );
    let real = path
        .canonicalize()
        .with_context(|| format!("--allow-unix {shown}: cannot find the socket"))?;
    ensure!(
        real == path,
        "--allow-unix {shown}: the path goes through a symbolic link; use {}",
        real.display()
    );
    ensure!(
        path.to_str().is_some(),
        "--allow-unix {shown}: the path is not UTF-8"
    );
    ensure!(
        std::fs::symlink_metadata(path)?.file_type().is_socket(),
        "--allow-unix {shown}: not a Unix socket"
    );
    ensure!(
        !path.starts_with(workdir),
        "--allow-unix {shown}: the socket is in the working directory; move it out"
    );
    Ok(real)
}

/// Returns the words to execute, the name that the packet shows, and the number of arguments of the command or the
/// script.
fn command(args: &RunArgs, workdir: &Path) -> anyhow::Result<(Vec<OsString>, String, u64)> {
    let base = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let Some(script) = &args.script else {
        let name = args
            .command
            .first()
            .map(|word| base(Path::new(word)))
            .unwrap_or_default();
        let count = u64::try_from(args.command.len().saturating_sub(1))?;
        return Ok((args.command.clone(), name, count));
    };
    let shown = script.display();
    let path = workdir
        .join(script)
        .canonicalize()
        .with_context(|| format!("cannot find script {shown}"))?;
    ensure!(
        path.starts_with(workdir),
        "script {shown} is outside the working directory {}",
        workdir.display()
    );
    ensure!(path.is_file(), "script {shown} is not a regular file");
    let mut words = vec![OsString::from("bash"), path.clone().into_os_string()];
    words.extend(args.command.iter().cloned());
    Ok((words, base(&path), u64::try_from(args.command.len())?))
}

/// Returns the mediator and the policy. The mediator and the policy are checked before anything starts.
fn mediator(args: &RunArgs) -> anyhow::Result<(MediatorChoice, CallerPolicy)> {
    let policy = keys_and_policy::policy(args.config.as_deref())?;
    let choice = match args.mediator {
        MediatorKind::Builtin => {
            args.pipelock.check_unused()?;
            keys_and_policy::check_builtin(&policy, &args.agent_identity)?;
            MediatorChoice::Builtin
        }
        MediatorKind::Pipelock => MediatorChoice::Pipelock(args.pipelock.choose(&policy)?),
    };
    Ok((choice, policy))
}
