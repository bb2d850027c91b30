//! `egress run`: from what was typed to a checked [`Plan`], and from its end to an exit status.
use std::ffi::OsString;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, FromArgMatches, ValueEnum};
use egress_common::names::DEFAULT_PROXY_PORT;

use super::binding::Binding;
use super::driven::{DrivenArgs, Report};
use super::exit;
use super::failure::{self, Form};
use super::route::route;
use super::variables::Variables;
use super::{named, pipelock, print};
use crate::run::emit::Emitted;
use crate::run::error::RunError;
use crate::run::leavings::{self, Reach};
use crate::run::packet_dir::PacketDir;
use crate::run::plan::{
    CallerPolicy, Diagnostics, DnsMode, Input, Layers, Limits, MediatorChoice, Mode, Plan, Shares,
    WorkspaceMode, most_memory,
};
use crate::run::probes;
use crate::run::supervise::block_signals;

/// Exit statuses and the policy, for `--help`.
const HELP: &str = "\
Policy (Pipelock YAML):
  version: 1
  mode: strict
  api_allowlist: [api.example.com, \"*.example.org\"]

Exit status: the command's own, or
  64   what was typed or named is wrong       123  evidence or time stamp invalid or missing
  124  --timeout was over                     125  the machine, the boundary or the mediator failed
  126  the command cannot be executed         127  the command was not found";

/// Runs a command behind the boundary and writes an Audit Packet.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct RunArgs {
    /// Policy (Pipelock YAML); without one nothing may be reached
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Whether the command's network is closed; `audit` only records what would be
    #[arg(long, value_enum, default_value_t = Mode::Enforce)]
    mode: Mode,
    /// Working directory and workspace of the command
    #[arg(long, value_name = "DIR", default_value = ".")]
    workdir: PathBuf,
    /// Directory that the packet is written to; replaced whole
    #[arg(long, value_name = "DIR", default_value = "pipelock-audit-packet")]
    packet_dir: PathBuf,
    /// How the command sees the workspace
    #[arg(long, value_enum, default_value_t = WorkspaceMode::Apply)]
    workspace: WorkspaceMode,
    /// With --workspace apply, apply no change to this path or below it; repeatable
    #[arg(long = "protect", value_name = "PATH")]
    protected: Vec<PathBuf>,
    /// Who judges and signs
    #[arg(long, value_enum, default_value_t = Mediator::Builtin)]
    mediator: Mediator,
    #[command(flatten)]
    pipelock: pipelock::Options,
    /// Private key that signs the receipts; without one a key is made for this run alone
    #[arg(long, value_name = "FILE")]
    signer_private_key: Option<PathBuf>,
    /// Public key that must belong to the private one: 64 hex digits, key text, or a file
    #[arg(long, value_name = "HEX|TEXT|FILE", requires = "signer_private_key")]
    signer_public_key: Option<String>,
    /// Private key that signs what the boundary says of itself; without one a key is made for this
    /// run alone. `egress verify --boundary-key` wants its public half
    #[arg(long, value_name = "FILE")]
    boundary_key: Option<PathBuf>,
    /// Name of the agent in every receipt
    #[arg(long, value_name = "NAME", default_value = "egress-agent")]
    pub(super) agent_identity: String,
    #[command(flatten)]
    binding: Binding,
    /// Exit with 123 unless the evidence is valid under a key that was given
    #[arg(long)]
    require_trusted: bool,
    /// Allow connections to one more port than 80 and 443; repeatable
    #[arg(long = "allow-port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    allowed_ports: Vec<u16>,
    /// Let the command use this one Unix socket of the host; the packet shows it; repeatable
    #[arg(long = "allow-unix", value_name = "PATH")]
    allowed_sockets: Vec<PathBuf>,
    /// Whether names resolve for the command
    #[arg(long, value_enum, default_value_t = DnsMode::Synthetic)]
    dns: DnsMode,
    #[command(flatten)]
    variables: Variables,
    /// End the command after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: Option<u64>,
    /// Processes and threads of the command at a time; never more than a quarter of what the machine can have
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(16..=4_194_304))]
    max_processes: u64,
    /// Memory of the command, its scratch space included [default: seven eighths of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_memory: Option<u64>,
    /// Open files of one process; never more than a sixteenth of what the machine can have
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u64).range(64..=1_048_576))]
    max_open_files: u64,
    /// Each of /tmp, /var/tmp, /dev/shm and the home
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = size)]
    max_scratch: u64,
    /// Receipts and flow log; a run that needs more ends with 125
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size)]
    max_evidence: u64,
    /// Explicit proxy port inside the boundary
    #[arg(long, value_name = "PORT", env = "EGRESS_PROXY_PORT", default_value_t = DEFAULT_PROXY_PORT,
          value_parser = clap::value_parser!(u16).range(1024..))]
    proxy_port: u16,
    /// Run though this probe finds the boundary open, or proves nothing; the packet shows it; repeatable
    #[arg(long = "accept-risk", value_name = "PROBE")]
    accepted_risks: Vec<String>,
    /// Run this script with bash; it must lie in the working directory
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Show what the kernel programs say of themselves
    #[arg(long)]
    debug: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    driven: DrivenArgs,
    /// Command and arguments, or with --script the script's arguments
    #[arg(
        last = true,
        value_name = "COMMAND",
        required_unless_present = "script"
    )]
    command: Vec<OsString>,
}

/// Who judges and signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mediator {
    /// The allow-list mediator inside this binary.
    Builtin,
    /// A real Pipelock.
    Pipelock,
}

/// Runs it. Returns the exit status.
pub fn run(args: RunArgs, inherited: Vec<String>) -> u8 {
    let json = args.json;
    let told = |failure: &Failure, report: Option<&Report>| {
        let Failure(error, hint, status) = failure;
        if let Some(report) = report {
            report.write(&failure::as_json(error.as_ref(), *hint, *status));
        }
        failure::tell(Form::of(json), error.as_ref(), *hint, *status)
    };
    let report = match args.driven.report() {
        Ok(report) => report,
        Err(error) => return told(&Failure(error, None, exit::USAGE), None),
    };
    match execute(args, inherited) {
        Ok(emitted) => {
            print::run_result(&emitted, json);
            report.write(&print::whole_result(&emitted));
            exit::of(emitted.outcome())
        }
        Err(failure) => told(&failure, Some(&report)),
    }
}

/// A failure, what can be done about it, and its exit status.
struct Failure(anyhow::Error, Option<&'static str>, u8);

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let hint = error.hint();
        Self(error.into(), hint, exit::FAILED)
    }
}

fn execute(args: RunArgs, inherited: Vec<String>) -> Result<Emitted, Failure> {
    let plan = plan(args, inherited).map_err(|error| Failure(error, None, exit::USAGE))?;
    if let Some(warning) = plan.layers.warning() {
        print::warning(&warning);
    }
    match &plan.mediator {
        _ if plan.mode == Mode::Audit => print::audit(),
        MediatorChoice::Builtin if plan.policy.path.is_none() => print::no_policy(),
        MediatorChoice::Builtin => {}
        MediatorChoice::Pipelock(_) => pipelock::tell(&plan.policy),
    }
    // Before anything starts a thread: all of them inherit the mask.
    block_signals().map_err(|error| Failure(error.into(), None, exit::FAILED))?;
    // A caller that is not root learns that from the run itself.
    if nix::unistd::geteuid().is_root() {
        print::swept(&leavings::sweep(Reach::Runs)?);
    }
    Ok(crate::run::execute(plan)?)
}

/// Fails on options that do not go together, or name what there is not.
fn possible(args: &RunArgs) -> anyhow::Result<()> {
    if args.mode == Mode::Audit {
        ensure!(
            args.mediator == Mediator::Builtin,
            "--mode audit has no mediator: leave out --mediator"
        );
        ensure!(
            !args.require_trusted,
            "--mode audit has no receipts: leave out --require-trusted"
        );
    }
    for name in &args.accepted_risks {
        ensure!(
            probes::names().any(|known| known == name),
            "--accept-risk {name}: there is no such probe; the probes are {}",
            probes::names().collect::<Vec<_>>().join(", ")
        );
    }
    Ok(())
}

fn plan(args: RunArgs, inherited: Vec<String>) -> anyhow::Result<Plan> {
    let shown = args.workdir.display().to_string();
    let workdir = args
        .workdir
        .canonicalize()
        .with_context(|| format!("cannot use working directory {shown}"))?;
    ensure!(
        workdir.is_dir(),
        "working directory {shown} is no directory"
    );
    ensure!(
        workdir != Path::new("/"),
        "the working directory cannot be /: name the directory the command may write"
    );
    ensure!(
        workdir.to_str().is_some(),
        "the path of the working directory is not UTF-8"
    );

    possible(&args)?;
    let (command, script_basename, argument_count) = command(&args, &workdir)?;
    let mut masked = Vec::new();
    let (mediator, policy) = mediator(&args)?;
    masked.extend(policy.path.as_deref().map(Path::canonicalize).transpose()?);
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
    let environment = args.driven.environment()?;
    let named = |wanted: &str| {
        let found = environment.iter().find(|(name, _)| name == wanted);
        found.and_then(|(_, path)| Path::new(path).canonicalize().ok())
    };
    // The runner keeps tokens there, and the event that started the workflow, which is for the command.
    masked.extend(named("RUNNER_TEMP"));
    let shown = named("GITHUB_EVENT_PATH").into_iter().collect();
    let limits = limits(&args)?;
    let layers = Layers::from_environment()?;
    let keys = named::Keys {
        private: args.signer_private_key.as_deref(),
        public: args.signer_public_key.as_deref(),
        boundary: args.boundary_key.as_deref(),
    };
    let (signer, boundary_key) = named::signers(keys, layers.warning().is_some())?;
    let mut packet = PacketDir::hold(&args.packet_dir)?;
    if let Some(owner) = args.driven.packet_owner {
        packet.belongs_to(owner.uid, owner.gid);
    }
    ensure!(
        !workdir.starts_with(packet.path()),
        "the packet directory {} holds the working directory; name another one",
        packet.path().display()
    );
    let protected = protected(&args, &workdir, &mediator, &policy)?;
    Ok(Plan {
        mode: args.mode,
        progress: print::progress(args.json),
        diagnostics: args.debug.then_some(Diagnostics(&print::KERNEL_LOG)),
        command,
        script_basename,
        argument_count,
        protected,
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
        timeout: args.timeout.map(Duration::from_secs),
        accepted_risks: args.accepted_risks,
        masked,
        shown,
        input: if args.driven.driven {
            Input::Lifeline
        } else {
            Input::Caller
        },
        environment,
        exceptions: args.variables.checked()?,
        layers,
        inherited,
    })
}

/// A run in `workdir` with everything as it is by default, for the sake of its probes: none of them
/// stops it, and what there is to see is theirs. No packet comes of it.
pub(super) fn trial(workdir: &Path) -> anyhow::Result<Plan> {
    let command = RunArgs::augment_args(clap::Command::new("egress run"));
    let packet = format!("/run/egress-doctor-{}", std::process::id());
    let mut words = vec![OsString::from("egress run"), "--workdir".into()];
    words.push(workdir.into());
    let fixed = ["--json", "--workspace", "read-only", "--packet-dir"];
    words.extend(fixed.map(OsString::from));
    words.push(packet.into());
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

/// A number of bytes: digits, and K, M, G or T for powers of 1024. None may be so small that nothing
/// would run.
fn size(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 64 << 10;
    let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let unit = units.iter().find(|(unit, _)| text.ends_with(*unit));
    let (digits, shift) = match unit {
        Some((unit, shift)) => (text.trim_end_matches(*unit), *shift),
        None => (text, 0),
    };
    let number: u64 = digits
        .parse()
        .map_err(|error| format!("{error}; give digits, and K, M, G or T"))?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| (LEAST..=1 << 50).contains(bytes))
        .ok_or_else(|| String::from("give at least 64K, and at most 1024T"))
}

/// What no change is applied to: the paths that the caller protects, and whatever decides by what the next
/// run is judged, signed and carried out, if it is named as this one was.
fn protected(
    args: &RunArgs,
    workdir: &Path,
    mediator: &MediatorChoice,
    policy: &CallerPolicy,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut named = vec![std::env::current_exe()?, args.packet_dir.clone()];
    let files = [&args.config, &args.signer_private_key, &args.boundary_key];
    named.extend(files.into_iter().flatten().cloned());
    named.extend(args.binding.files().iter().cloned());
    if let MediatorChoice::Pipelock(choice) = mediator {
        named.extend(pipelock::files(policy, choice));
    }
    for path in &args.protected {
        named.push(protectable(workdir, path)?);
    }
    let mut found = Vec::new();
    for path in &named {
        let route = route(path)
            .with_context(|| format!("cannot follow {} by its links", path.display()))?;
        found.extend(route.into_iter().filter(|part| part.starts_with(workdir)));
    }
    Ok(found)
}

/// A path to protect, absolute. It need not exist; it must lie in the workspace and say so without
/// `..`, or protecting it would mean nothing.
fn protectable(workdir: &Path, path: &Path) -> anyhow::Result<PathBuf> {
    let absolute: PathBuf = workdir.join(path).components().collect();
    let shown = path.display();
    ensure!(
        !absolute
            .components()
            .any(|part| part == std::path::Component::ParentDir),
        "--protect {shown}: name it without .."
    );
    ensure!(
        absolute != workdir && absolute.starts_with(workdir),
        "--protect {shown}: it does not lie in the working directory"
    );
    Ok(absolute)
}

/// A socket of the host to be opened: its one true path, and nothing that the workspace holds.
fn socket(workdir: &Path, path: &Path) -> anyhow::Result<PathBuf> {
    let shown = path.display();
    ensure!(
        path.is_absolute(),
        "--allow-unix {shown}: name it by its absolute path"
    );
    let real = path
        .canonicalize()
        .with_context(|| format!("--allow-unix {shown}: there is no such socket"))?;
    ensure!(
        real == path,
        "--allow-unix {shown}: it is reached through a link; name {}",
        real.display()
    );
    ensure!(
        path.to_str().is_some(),
        "--allow-unix {shown}: its path is not UTF-8"
    );
    ensure!(
        std::fs::symlink_metadata(path)?.file_type().is_socket(),
        "--allow-unix {shown}: it is no socket"
    );
    ensure!(
        !path.starts_with(workdir),
        "--allow-unix {shown}: it lies in the working directory"
    );
    Ok(real)
}

/// The words to execute, the name that the packet shows, and how many arguments follow it.
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
        "script {shown} lies outside the working directory {}",
        workdir.display()
    );
    ensure!(path.is_file(), "script {shown} is no file");
    let mut words = vec![OsString::from("bash"), path.clone().into_os_string()];
    words.extend(args.command.iter().cloned());
    Ok((words, base(&path), u64::try_from(args.command.len())?))
}

/// Who judges, and by which policy: both are looked at before anything is started.
fn mediator(args: &RunArgs) -> anyhow::Result<(MediatorChoice, CallerPolicy)> {
    let policy = named::policy(args.config.as_deref())?;
    let choice = match args.mediator {
        Mediator::Builtin => {
            args.pipelock.refuse()?;
            named::check_builtin(&policy, &args.agent_identity)?;
            MediatorChoice::Builtin
        }
        Mediator::Pipelock => MediatorChoice::Pipelock(args.pipelock.choose(&policy)?),
    };
    Ok((choice, policy))
}
