//! The command line: parses it, makes a checked plan, and prints results and errors. No other module prints or uses
//! `anyhow`.
#[cfg(target_os = "linux")]
pub mod action;
pub mod authorities;
#[cfg(target_os = "linux")]
mod binding;
#[cfg(target_os = "linux")]
pub mod detail;
#[cfg(target_os = "linux")]
pub mod doctor;
pub mod exit;
pub mod failure;
mod files;
#[cfg(target_os = "linux")]
mod heading;
pub mod keygen;
#[cfg(target_os = "linux")]
mod keys_and_policy;
mod manual;
#[cfg(target_os = "linux")]
mod not_executed;
mod output;
#[cfg(target_os = "linux")]
mod pipelock;
pub mod policy;
#[cfg(target_os = "linux")]
pub mod print;
#[cfg(target_os = "linux")]
mod route;
#[cfg(target_os = "linux")]
pub mod run;
mod style;
#[cfg(target_os = "linux")]
pub mod sudo_driver;
#[cfg(target_os = "linux")]
mod variables;
pub mod verify;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

use failure::Form;

/// Run an AI agent behind a kernel boundary, and write signed evidence of its network traffic
#[derive(Debug, Parser)]
#[command(name = "egress", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command behind the boundary and write an Audit Packet
    #[cfg(target_os = "linux")]
    Run(Box<run::RunArgs>),
    /// Check an Audit Packet, evidence files, or one receipt
    Verify(verify::VerifyArgs),
    /// Check that this machine can run egress, and list what killed runs left behind
    #[cfg(target_os = "linux")]
    Doctor(doctor::DoctorArgs),
    /// Run one step of a workflow with the inputs of the GitHub action
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    Action {
        /// The step
        #[arg(value_enum)]
        step: action::Step,
    },
    /// Create a policy from the packet of a run, or check one
    #[command(subcommand, after_help = policy::EXAMPLES)]
    Policy(policy::PolicyCommand),
    /// Create signing keys
    Keygen(keygen::KeygenArgs),
    /// Print shell completions
    Completions(manual::CompletionsArgs),
    /// Write the manual pages
    Man(manual::ManArgs),
}

const EXAMPLES: &str = "\
Examples:
  egress keygen
  sudo egress run --config policy.yaml --signer-private-key ~/.config/egress/signer.key ./agent.sh
  egress verify pipelock-audit-packet --key ~/.config/egress/signer.key.pub

`egress run` needs root. `egress doctor` checks the other requirements of `egress run`.";

/// Parses and executes the command line, and returns the exit status. `inherited` lists the file descriptors that the
/// caller left open.
#[cfg_attr(
    not(target_os = "linux"),
    expect(unused_variables, reason = "only a run records them")
)]
pub fn main(inherited: Vec<String>) -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            return print_usage(&with_suggestion(error));
        }
    };
    match cli.command {
        #[cfg(target_os = "linux")]
        Command::Run(args) => run::run(*args, inherited),
        #[cfg(target_os = "linux")]
        Command::Doctor(args) => doctor::run(&args),
        #[cfg(target_os = "linux")]
        Command::Action { step } => action::run(step),
        Command::Verify(args) => verify::run(&args),
        Command::Policy(command) => policy::run(&command),
        Command::Keygen(args) => keygen::run(&args),
        Command::Completions(args) => manual::completions(&args, Cli::command()),
        Command::Man(args) => manual::man(&args, Cli::command()),
    }
}

/// Adds the most similar command to an error about an unknown command. The parser's own suggestions cover only longer
/// words, and miss swapped letters.
fn with_suggestion(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::InvalidSubcommand
        || error.get(ContextKind::SuggestedSubcommand).is_some()
    {
        return error;
    }
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let command = Cli::command();
    let near = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(clap::Command::get_name)
        .map(|name| (strsim::osa_distance(wrong, name), name))
        .min()
        .filter(|(distance, name)| distance * 3 <= name.len());
    if let Some((_, name)) = near {
        let names = ContextValue::Strings(vec![name.to_owned()]);
        error.insert(ContextKind::SuggestedSubcommand, names);
    }
    error
}

/// Prints the help or version that was requested, or the error in the command line. Returns the exit status.
fn print_usage(error: &clap::Error) -> u8 {
    let words = std::env::args_os().skip(1);
    let is_json = words
        .take_while(|word| word != "--")
        .any(|word| word == "--json");
    if error.use_stderr() && is_json {
        let text = error.to_string();
        let first = text.split("\n\n").next().unwrap_or_default();
        let words: Vec<&str> = first.split_whitespace().skip(1).collect();
        let error = anyhow::Error::msg(words.join(" "));
        return failure::report(Form::Json, error.as_ref(), Some("see --help"), exit::USAGE);
    }
    // A closed output does not change the exit status.
    drop(error.print());
    if error.use_stderr() {
        exit::USAGE
    } else {
        exit::SUCCESS
    }
}
