//! The checked options of a run. When a plan exists, the packet directory and the directory of `--cache` exist, and
//! nothing else on the machine has been changed.
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use ed25519_dalek::SigningKey;

use super::closed_home::ClosedHome;
use super::packet_dir::PacketDir;
pub use super::timeline::Progress;
pub use super::timestamp::Authority as TimestampAuthority;
pub use crate::bpf::Diagnostics;
pub use egress_pipelock::Authority;
pub use egress_relay::plan::PlainHttp;
pub use egress_sandbox::layers::Layers;
pub use egress_sandbox::limits::{Limits, most_memory};
pub use egress_sandbox::shares::Shares;
pub use egress_workspace::apply::configuration::Pattern;

/// Whether names resolve inside the boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DnsMode {
    /// A stub resolver gives each name its own synthetic address. No query is sent upstream.
    Synthetic,
    /// Names do not resolve. Only programs that use the proxy variables work.
    Deny,
}

impl DnsMode {
    /// Returns the value of `--dns`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Synthetic => "synthetic",
            Self::Deny => "deny",
        }
    }
}

/// The route of the command's network traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// All network traffic goes through the mediator.
    Enforce,
    /// The command uses the host's network. Nothing is denied and there are no receipts. Connections are recorded, and so
    /// are attempts that every policy denies.
    Audit,
}

impl Mode {
    /// Returns the value of `--mode`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

/// How the command sees the workspace, and what happens to its changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WorkspaceMode {
    /// Changes are stored separately. At the end, the changes that the rules allow are applied.
    Apply,
    /// The command works in a copy, which is removed at the end with all changes.
    Copy,
    /// The command writes to the directory itself. Changes take effect at once.
    Direct,
    /// Changes are stored separately. At the end, none is applied, and the packet contains an archive of them.
    Discard,
    /// The command cannot write to the workspace.
    ReadOnly,
}

impl WorkspaceMode {
    /// Returns the value of `--workspace`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Copy => "copy",
            Self::Direct => "direct",
            Self::Discard => "discard",
            Self::ReadOnly => "read-only",
        }
    }
}

/// The caller's policy, which is valid.
#[derive(Debug, Default)]
pub struct CallerPolicy {
    /// The policy file. Without a policy file, the allow-list is empty.
    pub path: Option<PathBuf>,
    /// The text of the policy.
    pub text: Option<String>,
    /// The policy file without links, if it is in the workspace and the command may read it.
    pub shown: Option<PathBuf>,
}

/// The mediator, which judges the traffic and signs the receipts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediatorChoice {
    /// The allow-list mediator inside this binary.
    Builtin,
    /// A real Pipelock.
    Pipelock(PipelockChoice),
}

impl MediatorChoice {
    /// Returns the authority with which the mediator intercepts TLS, or `None` if the mediator does not intercept TLS.
    pub(super) fn authority(&self) -> Option<&Authority> {
        match self {
            Self::Builtin => None,
            Self::Pipelock(choice) => choice.authority.as_ref(),
        }
    }
}

/// A real Pipelock with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelockChoice {
    /// The binary, as the caller named it or as it was found on PATH.
    pub binary: PathBuf,
    /// Root certificates for Pipelock's own TLS connections, in place of the system's.
    pub roots: Option<PathBuf>,
    /// How plain HTTP is sent to Pipelock.
    pub plain_http: PlainHttp,
    /// The authority that intercepts TLS, if the caller's policy has one.
    pub authority: Option<Authority>,
}

/// A signing key.
#[derive(Debug)]
pub struct Signer {
    /// The private key.
    pub key: SigningKey,
    /// The file of the key, if the caller supplied one.
    pub path: Option<PathBuf>,
    /// Whether the caller supplied the key. Only then can the verdict be `valid`.
    pub pinned: bool,
}

/// The caller's exceptions from the rules for variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exceptions {
    /// Variables that are passed although a rule removes them.
    pub pass: Vec<String>,
    /// Variables that are removed although no rule removes them.
    pub drop: Vec<String>,
}

/// The use of the caller's standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The command reads standard input.
    Caller,
    /// The run ends when standard input ends. The command reads nothing.
    Lifeline,
}

/// The plan of a run.
#[derive(Debug)]
#[must_use = "nothing was run"]
pub struct Plan {
    /// The route of the command's network traffic.
    pub mode: Mode,
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// Base name of the command or the script, for the packet.
    pub script_basename: String,
    /// Number of arguments of the command or the script.
    pub argument_count: u64,
    /// The working directory, which is the workspace: absolute, without links.
    pub workdir: PathBuf,
    /// How the command sees the workspace.
    pub workspace: WorkspaceMode,
    /// Absolute paths to which no change is applied.
    pub protected: Vec<PathBuf>,
    /// Changes to the configuration of agents and CI systems that are applied.
    pub allowed_changes: Vec<Pattern>,
    /// The caller's policy.
    pub policy: CallerPolicy,
    /// The packet directory, held open.
    pub packet: PacketDir,
    /// The mediator.
    pub mediator: MediatorChoice,
    /// The key that signs the receipts.
    pub signer: Signer,
    /// The key that signs the posture capsule and the attestation.
    pub boundary_key: Signer,
    /// The actor in the receipts.
    pub agent_identity: String,
    /// The bytes of `identity.json`, which identifies the run and contains the values that the caller bound to it.
    pub identity: Vec<u8>,
    /// The authority that stamps the attestation, if a time stamp was requested.
    pub timestamp: Option<TimestampAuthority>,
    /// Whether the exit status is 123 unless the verdict is `valid`.
    pub require_trusted: bool,
    /// Allowed ports beyond 80 and 443.
    pub allowed_ports: Vec<u16>,
    /// Host sockets that the command may use: absolute paths without links.
    pub allowed_sockets: Vec<PathBuf>,
    /// How host names resolve in the boundary.
    pub dns: DnsMode,
    /// Port of the explicit proxy in the boundary.
    pub proxy_port: u16,
    /// The command's resource limits.
    pub limits: Limits,
    /// Time after which the command is ended.
    pub timeout: Option<Duration>,
    /// Receives the name of each step, if the caller wants to see them.
    pub progress: Option<Progress>,
    /// Receives the diagnostics of the kernel programs, if the caller wants to see them.
    pub diagnostics: Option<Diagnostics>,
    /// Probes that may succeed or be inconclusive without ending the run.
    pub accepted_risks: Vec<String>,
    /// The caller's home, without links.
    pub caller_home: Option<PathBuf>,
    /// Directories of programs in the caller's home that the command may read, although the home is closed.
    pub tools: Vec<PathBuf>,
    /// The caller's home, if the command cannot enter it.
    pub closed_home: Option<ClosedHome>,
    /// The directory of the cache that the caller keeps between runs: absolute, without links.
    pub cache: Option<PathBuf>,
    /// Files and directories that are hidden from the command, in addition to the files of the run itself.
    pub masked: Vec<PathBuf>,
    /// Files that the command may read although their directories are hidden.
    pub shown: Vec<PathBuf>,
    /// Files, and directories with files, that are shown although they may hold credentials: absolute, without links.
    pub shown_credentials: Vec<PathBuf>,
    /// The use of the caller's standard input.
    pub input: Input,
    /// Whether the command gets a terminal, whose bytes are passed on between it and the caller's terminal.
    pub terminal: bool,
    /// The caller's environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Exceptions from the rules for the environment.
    pub exceptions: Exceptions,
    /// Layers of the boundary. Only tests of the layers leave one out.
    pub layers: Layers,
    /// Targets of the descriptors that this process inherited.
    pub inherited: Vec<String>,
}

impl Plan {
    /// Returns all ports that the command may connect to, in order.
    pub(super) fn open_ports(&self) -> Vec<u16> {
        let mut ports = vec![80, 443];
        ports.extend(&self.allowed_ports);
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}
