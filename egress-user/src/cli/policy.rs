//! `egress policy`: makes, checks, and describes policies. `suggest` prints a policy that allows what a run did, from
//! the packet of the run.
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use audit_packet::format::boundary::BoundaryDocument;
use audit_packet::hint::Settings;
use audit_packet::{BOUNDARY_FILE, FLOWS_FILE, POLICY_FILE};
use clap::{Args, Subcommand};
use egress_policy::allowed::Allowed;
use pipelock_receipts::check::MAX_DOCUMENT_BYTES;

use super::exit;
use super::failure::{self, Form};
use super::files::{Folder, read_all};
use super::output;
use crate::ci_commands::{harmless, harmless_json};
use crate::suggest::{Suggestion, suggest};

mod check;

pub use check::CheckArgs;

/// Examples, for `--help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  egress policy suggest pipelock-audit-packet > policy.yaml
  egress policy check policy.yaml
  egress policy schema > policy.schema.json";

/// An example and the exit statuses of `egress policy schema`, for `--help`.
const SCHEMA_HELP: &str = "\
Example:
  egress policy schema > policy.schema.json

Exit status:
  0   the schema is on standard output
  2   standard output cannot be written
  64  an argument is wrong";

/// Exit statuses, for `--help`.
const HELP: &str = "\
Example:
  sudo egress run --mode audit -- ./agent.sh
  egress policy suggest pipelock-audit-packet > policy.yaml

Exit status:
  0   the policy is on standard output
  1   the flow log is broken, or the allow-list would be too long
  2   the flow log cannot be read, or standard output cannot be written
  64  an argument is wrong";

/// Subcommands of `egress policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Print a policy that allows what a run did, from the packet of the run
    Suggest(SuggestArgs),
    /// Check a policy without a run, and print what it allows
    Check(CheckArgs),
    /// Print the JSON Schema of policies, for editors
    #[command(after_help = SCHEMA_HELP)]
    Schema,
}

/// Arguments of `egress policy suggest`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct SuggestArgs {
    /// Packet directory of a run with --mode enforce or audit
    #[arg(value_name = "PACKET")]
    packet: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Executes the subcommand and returns the exit status.
pub fn run(command: &PolicyCommand) -> u8 {
    match command {
        PolicyCommand::Suggest(args) => suggested(args),
        PolicyCommand::Check(args) => check::run(args),
        PolicyCommand::Schema => check::schema(),
    }
}

/// A suggestion with the version of its JSON, which `docs/schema/output.schema.json` describes.
#[derive(serde::Serialize)]
struct Versioned<'a> {
    schema_version: &'static str,
    #[serde(flatten)]
    found: &'a Suggestion,
}

fn suggested(args: &SuggestArgs) -> u8 {
    let fail = |error: &anyhow::Error, status| {
        failure::report(Form::of(args.json), error.as_ref(), None, status)
    };
    let (flows, allowed, ports, is_audit) = match read(&args.packet) {
        Ok(read) => read,
        Err(error) => return fail(&error, exit::CANNOT_READ),
    };
    let settings = Settings {
        allowed: &allowed,
        ports: &ports,
    };
    let found = match suggest(flows, settings, is_audit) {
        Ok(found) => found,
        Err(error) => return fail(&error.into(), exit::INVALID),
    };
    let written = if args.json {
        serde_json::to_value(Versioned {
            schema_version: "egress.policy-suggest.v1",
            found: &found,
        })
        .map_err(io::Error::from)
        .and_then(|value| output::line(&harmless_json(&value)))
    } else {
        output::write(harmless(&found.as_yaml()).as_bytes())
    };
    written.map_or(exit::CANNOT_READ, |()| exit::SUCCESS)
}

/// Returns the flow log, the policy, and the open ports of a packet, and whether the packet is from an audit. Only the
/// flow log must exist, because the other values only improve the hints.
fn read(packet: &Path) -> anyhow::Result<(File, Allowed, Vec<u16>, bool)> {
    let what = || format!("cannot read {} of packet {}", FLOWS_FILE, packet.display());
    let folder = Folder::hold(packet).with_context(what)?;
    let flows = folder.open(FLOWS_FILE, u64::MAX).with_context(what)?;
    let bytes = |name| {
        let file = folder.open(name, MAX_DOCUMENT_BYTES).ok()?;
        read_all(file, MAX_DOCUMENT_BYTES).ok()
    };
    let policy = bytes(POLICY_FILE).and_then(|bytes| String::from_utf8(bytes).ok());
    let allowed = policy.and_then(|text| Allowed::read(&text).ok());
    let document = bytes(BOUNDARY_FILE).and_then(|bytes| BoundaryDocument::read(&bytes).ok());
    let is_audit = document.as_ref().is_some_and(BoundaryDocument::is_audit);
    let ports = document.map_or_else(|| vec![80, 443], |document| document.allowed_ports);
    Ok((flows, allowed.unwrap_or_default(), ports, is_audit))
}
