//! `egress policy`: makes, checks, and describes policies. `suggest` prints the allow-list that a run needed, from its
//! packet.
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use audit_packet::FLOWS_FILE;
use clap::{Args, Subcommand};

use super::exit;
use super::failure::{self, Form};
use super::files::Folder;
use crate::ci_commands::{harmless, harmless_json};
use crate::suggest::suggest;

mod check;

pub use check::CheckArgs;

/// Exit statuses, for `--help`.
const HELP: &str = "\
Example:
  egress run --mode audit -- ./agent.sh
  egress policy suggest pipelock-audit-packet > policy.yaml

Exit status:
  0   the policy is on standard output
  1   the flow log is broken, or no allow-list is possible
  2   the flow log cannot be read
  64  an argument is wrong";

/// Subcommands of `egress policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Print the smallest allow-list that permits everything a run connected to
    Suggest(SuggestArgs),
    /// Check a policy without a run, and print what it allows
    Check(CheckArgs),
    /// Print the JSON Schema of policies, for editors
    Schema,
}

/// Arguments of `egress policy suggest`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct SuggestArgs {
    /// Packet directory of a run, in either mode
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

fn suggested(args: &SuggestArgs) -> u8 {
    let fail = |error: &anyhow::Error, status| {
        failure::report(Form::of(args.json), error.as_ref(), None, status)
    };
    let flows = match flow_log(&args.packet) {
        Ok(flows) => flows,
        Err(error) => return fail(&error, exit::CANNOT_READ),
    };
    let found = match suggest(flows) {
        Ok(found) => found,
        Err(error) => return fail(&error.into(), exit::INVALID),
    };
    let written = if args.json {
        serde_json::to_value(&found)
            .map_err(io::Error::from)
            .and_then(|value| writeln!(io::stdout(), "{}", harmless_json(&value)))
    } else {
        io::stdout().write_all(harmless(&found.as_yaml()).as_bytes())
    };
    match written {
        Ok(()) => exit::SUCCESS,
        Err(_) => exit::CANNOT_READ,
    }
}

fn flow_log(packet: &Path) -> anyhow::Result<File> {
    Folder::hold(packet)
        .and_then(|folder| folder.open(FLOWS_FILE, u64::MAX))
        .with_context(|| format!("cannot read {} of packet {}", FLOWS_FILE, packet.display()))
}
