//! What a run was asked to do, checked: nothing in here has touched the machine yet.
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use ed25519_dalek::SigningKey;

use super::packet_dir::PacketDir;
pub use super::timeline::Progress;
pub use super::timestamp::Authority as TimestampAuthority;
pub use crate::bpf::Diagnostics;
pub use egress_pipelock::Authority;
pub use egress_relay::plan::PlainHttp;
pub use egress_sandbox::layers::Layers;
pub use egress_sandbox::limits::{Limits, most_memory};
pub use egress_sandbox::shares::Shares;

/// Whether names resolve inside the boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DnsMode {
    /// A stub resolver gives each name its own synthetic address. No query is sent upstream.
    Synthetic,
    /// Names do not resolve. Only programs that use the proxy variables work.
    Deny,
}

impl DnsMode {
    /// The word on the command line.
    pub fn label(self) -> &'static str {
        match self {
            Self::Synthetic => "synthetic",
            Self::Deny => "deny",
        }
    }
}

/// Whether the boundary's network is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// All network traffic goes through the mediator.
    Enforce,
    /// The command uses the host's network. Nothing is denied and there are no receipts. What would be denied is
    /// recorded.
    Audit,
}

impl Mode {
    /// The word on the command line.
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
    /// Changes are stored separately. At the end, those that the rules allow are applied.
    Apply,
    /// The command works in a copy, which is removed at the end with all changes.
    Copy,
    /// The command writes to the directory itself. Changes take effect at once.
    Direct,
    /// Changes are stored separately. At the end, they are moved to an archive beside the packet.
    Discard,
    /// The command cannot write to the workspace.
    ReadOnly,
}

impl WorkspaceMode {
    /// The word on the command line.
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

/// The caller's policy, already found to be one.
#[derive(Debug, Default)]
pub struct CallerPolicy {
    /// The file it was read from; without one the list is empty.
    pub path: Option<PathBuf>,
    /// Its text.
    pub text: Option<String>,
}

/// Who judges and signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediatorChoice {
    /// The allow-list mediator inside this binary.
    Builtin,
    /// A real Pipelock.
    Pipelock(PipelockChoice),
}

impl MediatorChoice {
    /// Returns the authority with which the mediator intercepts TLS, if it does.
    pub(super) fn authority(&self) -> Option<&Authority> {
        match self {
            Self::Builtin => None,
            Self::Pipelock(choice) => choice.authority.as_ref(),
        }
    }
}

/// Which Pipelock, and what it gets besides its policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelockChoice {
    /// The program, as it was named or found.
    pub binary: PathBuf,
    /// Roots that it trusts for TLS of its own, instead of the system's.
    pub roots: Option<PathBuf>,
    /// How plain HTTP is asked of it.
    pub plain_http: PlainHttp,
    /// Intercepts TLS, if the caller's policy wants that.
    pub authority: Option<Authority>,
}

/// A key that signs.
#[derive(Debug)]
pub struct Signer {
    /// The private half.
    pub key: SigningKey,
    /// The file that it was read from, if the caller named one.
    pub path: Option<PathBuf>,
    /// Whether the caller named it: only then can a verdict be `valid`.
    pub pinned: bool,
}

/// What the caller says of single variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exceptions {
    /// Passed on though a rule keeps them back.
    pub pass: Vec<String>,
    /// Kept back though no rule does.
    pub drop: Vec<String>,
}

/// What the caller's standard input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// What the command reads.
    Caller,
    /// A pipe whose end asks for the end of the run; the command reads nothing.
    Lifeline,
}

/// One checked run.
#[derive(Debug)]
#[must_use = "nothing was run"]
pub struct Plan {
    /// Whether the network is closed.
    pub mode: Mode,
    /// Command and arguments.
    pub command: Vec<OsString>,
    /// Base name of the script, or of the command, for the packet.
    pub script_basename: String,
    /// How many arguments follow it.
    pub argument_count: u64,
    /// Working directory and workspace, absolute and without links.
    pub workdir: PathBuf,
    /// How the command sees it.
    pub workspace: WorkspaceMode,
    /// Absolute paths that no change is applied to.
    pub protected: Vec<PathBuf>,
    /// The caller's policy.
    pub policy: CallerPolicy,
    /// Where the packet goes, held open.
    pub packet: PacketDir,
    /// Judges and signs.
    pub mediator: MediatorChoice,
    /// Signs the receipts.
    pub signer: Signer,
    /// Signs what the boundary says of itself: the posture capsule and the attestation.
    pub boundary_key: Signer,
    /// Actor of the receipts.
    pub agent_identity: String,
    /// `identity.json`: which run this is, and what the caller bound to it.
    pub identity: Vec<u8>,
    /// Stamps the packet's attestation, if that was asked for.
    pub timestamp: Option<TimestampAuthority>,
    /// Exit with 123 unless the verdict is `valid`.
    pub require_trusted: bool,
    /// Ports beyond 80 and 443.
    pub allowed_ports: Vec<u16>,
    /// Sockets of the host that the command may use: absolute, without links.
    pub allowed_sockets: Vec<PathBuf>,
    /// Names inside the boundary.
    pub dns: DnsMode,
    /// Explicit proxy port inside the boundary.
    pub proxy_port: u16,
    /// What the agent may take of the machine.
    pub limits: Limits,
    /// Ends the agent after this long.
    pub timeout: Option<Duration>,
    /// Who is told of each step that the run reaches, if anybody.
    pub progress: Option<Progress>,
    /// Where the kernel programs' diagnostics go, if they are wanted.
    pub diagnostics: Option<Diagnostics>,
    /// Probes that may fail: the run goes on, and the packet shows it.
    pub accepted_risks: Vec<String>,
    /// Files and directories that the agent must not see, beyond those of the run itself.
    pub masked: Vec<PathBuf>,
    /// Files that it may read all the same, though they lie in such a directory.
    pub shown: Vec<PathBuf>,
    /// What the caller's standard input is.
    pub input: Input,
    /// The caller's environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Variables of it that are treated otherwise than by the rules.
    pub exceptions: Exceptions,
    /// Layers of the boundary: all of them, but in a test of the layers.
    pub layers: Layers,
    /// Descriptors that the caller left open for this process: their targets.
    pub inherited: Vec<String>,
}

impl Plan {
    /// All ports that the command may ask for, in order.
    pub(super) fn open_ports(&self) -> Vec<u16> {
        let mut ports = vec![80, 443];
        ports.extend(&self.allowed_ports);
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}
