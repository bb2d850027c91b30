//! The command line of `egress run`.
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use egress_common::names::DEFAULT_PROXY_PORT;

use crate::cli::binding::Binding;
use crate::cli::detail::DetailArgs;
use crate::cli::pipelock;
use crate::cli::sudo_driver::DrivenArgs;
use crate::cli::variables::Variables;
use crate::run::plan::{DnsMode, Mode, Pattern, WorkspaceMode};

use super::home::HomeArgs;
use super::tty::Tty;

use super::super::heading::{EVIDENCE, LIMITS, MEDIATOR, NETWORK, WORKSPACE};

/// Examples, the policy, and the exit statuses, for `--help`.
const HELP: &str = "\
Examples:
  sudo egress run --config policy.yaml ./agent.sh
  sudo egress run --config policy.yaml --signer-private-key ~/.config/egress/signer.key \\
    --boundary-key ~/.config/egress/boundary.key -- npm ci
  sudo egress run --mode audit ./agent.sh

Policy (Pipelock YAML):
  version: 1
  mode: strict
  api_allowlist: [api.example.com, \"*.example.org\"]

Exit status: that of the command (128 + N if signal N ended it), or
  64   an argument, or a file that it names, is wrong
  123  the evidence, or a requested time stamp, is invalid or missing
  124  --timeout ended the command
  125  the machine, the boundary, or the mediator failed
  126  the command cannot be executed
  127  the command was not found";

/// Arguments of `egress run`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct RunArgs {
    /// Policy file (Pipelock YAML). Without this option, the built-in mediator denies every destination
    #[arg(long, value_name = "FILE", help_heading = NETWORK)]
    pub(super) config: Option<PathBuf>,
    /// Whether the boundary is enforced
    #[arg(long, value_enum, default_value_t = Mode::Enforce, help_heading = NETWORK)]
    pub(super) mode: Mode,
    /// Working directory of the command, which is also its workspace
    #[arg(long, value_name = "DIR", default_value = ".", help_heading = WORKSPACE)]
    pub(super) workdir: PathBuf,
    /// Directory for the Audit Packet. An existing packet is replaced
    #[arg(long, value_name = "DIR", default_value = "pipelock-audit-packet", help_heading = EVIDENCE)]
    pub(super) packet_dir: PathBuf,
    /// How the command sees the workspace, and what happens to its changes
    #[arg(long, value_enum, default_value_t = WorkspaceMode::Apply, help_heading = WORKSPACE)]
    pub(super) workspace: WorkspaceMode,
    #[command(flatten)]
    pub(super) homes: HomeArgs,
    /// With --workspace apply, do not apply changes to this path or below it; repeatable
    #[arg(long = "protect", value_name = "PATH", help_heading = WORKSPACE)]
    pub(super) protected: Vec<PathBuf>,
    /// Show this file, or all files below this directory, although it may hold a credential; repeatable
    #[arg(long = "show-credential", value_name = "PATH", help_heading = WORKSPACE)]
    pub(super) shown_credentials: Vec<PathBuf>,
    /// With --workspace apply, apply changes to this configuration of agents or CI systems, such as AGENTS.md or
    /// '.claude/*.md', which is protected by default; repeatable
    #[arg(long = "allow-change", value_name = "PATTERN", help_heading = WORKSPACE)]
    pub(super) allowed_changes: Vec<Pattern>,
    /// The mediator that judges requests and signs receipts. A run never falls back to another mediator
    #[arg(long, value_enum, default_value_t = MediatorKind::Builtin, help_heading = MEDIATOR)]
    pub(super) mediator: MediatorKind,
    #[command(flatten)]
    pub(super) pipelock: pipelock::Options,
    /// Private key that signs the receipts. Without this option, a key is created for this run only
    #[arg(long, value_name = "FILE", help_heading = EVIDENCE)]
    pub(super) signer_private_key: Option<PathBuf>,
    /// Public key that must belong to --signer-private-key: 64 hex digits, key text, or a file
    #[arg(long, value_name = "HEX|TEXT|FILE", requires = "signer_private_key", help_heading = EVIDENCE)]
    pub(super) signer_public_key: Option<String>,
    /// Private key that signs the measurements of the boundary; its public half is for `egress verify --boundary-key`.
    /// Without this option, a key is created for this run only
    #[arg(long, value_name = "FILE", help_heading = EVIDENCE)]
    pub(super) boundary_key: Option<PathBuf>,
    /// Name of the agent in every receipt
    #[arg(long, value_name = "NAME", default_value = "egress-agent", help_heading = MEDIATOR)]
    pub(super) agent_identity: String,
    #[command(flatten)]
    pub(super) binding: Binding,
    /// Exit with 123 unless the evidence is valid under a key that you supply
    #[arg(long, help_heading = EVIDENCE)]
    pub(super) require_trusted: bool,
    /// Allow connections to this port in addition to 80 and 443; repeatable
    #[arg(long = "allow-port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..),
          help_heading = NETWORK)]
    pub(super) allowed_ports: Vec<u16>,
    /// Let the command use this Unix socket of the host (recorded in the packet; repeatable)
    #[arg(long = "allow-unix", value_name = "PATH", help_heading = NETWORK)]
    pub(super) allowed_sockets: Vec<PathBuf>,
    /// Whether host names resolve for the command
    #[arg(long, value_enum, default_value_t = DnsMode::Synthetic, help_heading = NETWORK)]
    pub(super) dns: DnsMode,
    #[command(flatten)]
    pub(super) variables: Variables,
    /// End the command after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800),
          help_heading = LIMITS)]
    pub(super) timeout: Option<u64>,
    /// Maximum number of processes and threads at a time, capped at a quarter of the machine's limit
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(16..=4_194_304),
          help_heading = LIMITS)]
    pub(super) max_processes: u64,
    /// Maximum memory of the command, including its scratch space [default: seven eighths of the machine's memory]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = LIMITS)]
    pub(super) max_memory: Option<u64>,
    /// Maximum number of open files of one process, capped at a sixteenth of the machine's limit
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u64).range(64..=1_048_576),
          help_heading = LIMITS)]
    pub(super) max_open_files: u64,
    /// Maximum size of each scratch space: /tmp, /var/tmp, /dev/shm, and the home directory
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = size, help_heading = LIMITS)]
    pub(super) max_scratch: u64,
    /// Maximum size of the receipts and of the flow log. A run that needs more exits with 125
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size, help_heading = LIMITS)]
    pub(super) max_evidence: u64,
    /// Port of the explicit proxy inside the boundary
    #[arg(long, value_name = "PORT", env = "EGRESS_PROXY_PORT", default_value_t = DEFAULT_PROXY_PORT,
          value_parser = clap::value_parser!(u16).range(1024..), help_heading = NETWORK)]
    pub(super) proxy_port: u16,
    /// Continue even if this probe fails or is inconclusive (recorded in the packet; repeatable)
    #[arg(long = "accept-risk", value_name = "PROBE")]
    pub(super) accepted_risks: Vec<String>,
    /// Whether the command gets a terminal [bare --tty: always]
    #[arg(short = 't', long, value_name = "WHEN", value_enum, num_args = 0..=1, require_equals = true,
          default_value_t = Tty::Auto, default_missing_value = "always")]
    pub(super) tty: Tty,
    /// Run this script with bash. The script must be in the working directory
    #[arg(long, value_name = "FILE")]
    pub(super) script: Option<PathBuf>,
    /// Print the messages of the kernel programs
    #[arg(long)]
    pub(super) debug: bool,
    #[command(flatten)]
    pub(super) detail: DetailArgs,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) driven: DrivenArgs,
    /// The command and its arguments; with --script, the arguments of the script. Put -- before a command that begins
    /// with a dash
    #[arg(
        trailing_var_arg = true,
        value_name = "COMMAND",
        required_unless_present = "script"
    )]
    pub(super) command: Vec<OsString>,
}

/// The mediator that judges requests and signs receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum MediatorKind {
    /// The allow-list mediator inside this binary.
    Builtin,
    /// A real Pipelock.
    Pipelock,
}

/// Parses a number of bytes: digits, and K, M, G, or T for powers of 1024. Rejects sizes with which nothing could run.
///
/// # Errors
/// Fails if the text does not have this form, or the number is out of range.
fn size(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 64 << 10;
    let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let (digits, shift) = units
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(*unit)?, *shift)))
        .unwrap_or((text, 0));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(String::from(
            "use digits and an optional K, M, G, or T, such as 512M",
        ));
    }
    // Digits that are not a `u64` are a number that is too large.
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| (LEAST..=1 << 50).contains(bytes))
        .ok_or_else(|| String::from("use at least 64K and at most 1024T"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_digits_and_at_most_one_unit() {
        for (text, bytes) in [
            ("65536", 64 << 10),
            ("64K", 64 << 10),
            ("512M", 512 << 20),
            ("2G", 2 << 30),
            ("1024T", 1 << 50),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "512MM", "512KM", "512m", "+512M", "2x", "1.5G"] {
            assert!(size(text).unwrap_err().contains("such as 512M"), "{text}");
        }
        for text in [
            "0",
            "63K",
            "1025T",
            "99999999999999999999",
            "99999999999999999T",
        ] {
            assert!(size(text).unwrap_err().contains("at least 64K"), "{text}");
        }
    }
}
