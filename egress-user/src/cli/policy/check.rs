//! `egress policy check` and `egress policy schema`: check a policy, and describe the language for editors.
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use egress_policy::check::{self, Checked};
use pipelock_receipts::findings::visible;
use serde_json::json;

use crate::ci_commands::{harmless, harmless_json};
use crate::cli::exit;
use crate::cli::failure::{self, Form};
use crate::cli::files::read_policy;
use crate::cli::output;

/// Version of the JSON.
const JSON_VERSION: &str = "egress.policy-check.v1";
/// `docs/schema/policy.schema.json`, which `cargo xtask schemas` writes and `cargo xtask lint` checks.
const SCHEMA: &str = include_str!("../../../../docs/schema/policy.schema.json");

/// An example and the exit statuses, for `--help`.
const HELP: &str = "\
Example:
  egress policy check policy.yaml

Exit status:
  0   the policy can be used
  64  the policy cannot be read or used, or an argument is wrong";

/// Arguments of `egress policy check`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct CheckArgs {
    /// Policy file (Pipelock YAML)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The mediator that will use the policy. With pipelock, most keys are checked only when a run starts
    #[arg(long, value_enum, default_value_t = Reader::Builtin)]
    mediator: Reader,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The mediator that reads the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Reader {
    /// The mediator inside this binary.
    Builtin,
    /// A real Pipelock.
    Pipelock,
}

/// Checks a policy, prints what it allows, and returns the exit status.
pub(super) fn run(args: &CheckArgs) -> u8 {
    let checked = match checked(args) {
        Ok(checked) => checked,
        Err(error) => {
            return failure::report(Form::of(args.json), error.as_ref(), None, exit::USAGE);
        }
    };
    let text = if args.json {
        harmless_json(&as_json(args.mediator, &checked))
    } else {
        harmless(&as_text(args, &checked))
    };
    written(&text)
}

/// Prints the JSON Schema of the policy and returns the exit status.
pub(super) fn schema() -> u8 {
    written(SCHEMA)
}

fn written(text: &str) -> u8 {
    output::line(text).map_or(exit::CANNOT_READ, |()| exit::SUCCESS)
}

fn checked(args: &CheckArgs) -> anyhow::Result<Checked> {
    let shown = args.file.display();
    let text = read_policy(&args.file)?;
    let checked = match args.mediator {
        Reader::Builtin => check::builtin(&text),
        Reader::Pipelock => check::pipelock(&text),
    };
    checked.with_context(|| format!("policy {shown} cannot be used"))
}

fn as_json(mediator: Reader, checked: &Checked) -> serde_json::Value {
    json!({
        "schema_version": JSON_VERSION,
        "mediator": match mediator {
            Reader::Builtin => "builtin",
            Reader::Pipelock => "pipelock",
        },
        "mode": checked.mode,
        "is_enforced": checked.is_enforced,
        "hosts": checked.hosts,
        "ports": [80, 443],
        "ip_allowlist": checked.ip_allowlist,
        "trusted_domains": checked.trusted_domains,
        "warnings": checked.warnings,
    })
}

fn as_text(args: &CheckArgs, checked: &Checked) -> String {
    let mut text = format!("policy {}: ", visible(&args.file.display().to_string()));
    text.push_str(match args.mediator {
        Reader::Builtin => "the built-in mediator accepts it\n",
        Reader::Pipelock => "egress accepts it; Pipelock checks its own keys when a run starts\n",
    });
    let mut row = |name: &str, value: &str| {
        text.extend([&format!("{name:<9} "), value, "\n"]);
    };
    let mode = if checked.is_enforced {
        "only the destinations below can be reached"
    } else {
        "every destination can be reached, unless Pipelock's own scans deny it"
    };
    row("mode", &format!("{}: {mode}", visible(&checked.mode)));
    let rows = |name, hosts: &[String], row: &mut dyn FnMut(&str, &str)| {
        for (number, host) in hosts.iter().enumerate() {
            let name = if number == 0 { name } else { "" };
            let note = match host.strip_prefix("*.") {
                Some(parent) => format!(" ({} and every name below it)", visible(parent)),
                None => String::new(),
            };
            row(name, &format!("{}{note}", visible(host)));
        }
    };
    if checked.hosts.is_empty() {
        row("hosts", "none");
    }
    rows("hosts", &checked.hosts, &mut row);
    row("ports", "80, 443, and those of egress run --allow-port");
    rows("ranges", &checked.ip_allowlist, &mut row);
    rows("private", &checked.trusted_domains, &mut row);
    for warning in &checked.warnings {
        row("warning", &visible(&warning.to_string()));
    }
    text
}
