//! Reads what was typed, makes a checked plan, prints results and errors. The only place that
//! prints, and the only one that uses `anyhow`.
#[cfg(target_os = "linux")]
pub mod action;
pub mod authorities;
#[cfg(target_os = "linux")]
mod binding;
#[cfg(target_os = "linux")]
pub mod doctor;
#[cfg(target_os = "linux")]
pub mod driven;
pub mod exit;
pub mod failure;
mod files;
pub mod keygen;
#[cfg(target_os = "linux")]
mod named;
#[cfg(target_os = "linux")]
mod pipelock;
pub mod policy;
#[cfg(target_os = "linux")]
pub mod print;
#[cfg(target_os = "linux")]
mod route;
#[cfg(target_os = "linux")]
pub mod run;
#[cfg(target_os = "linux")]
mod variables;
pub mod verify;

use clap::{Parser, Subcommand};

use failure::Form;

/// Runs an agent behind a kernel-enforced boundary and proves what it saw.
#[derive(Debug, Parser)]
#[command(name = "egress", version, about, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command behind the boundary and write an Audit Packet
    #[cfg(target_os = "linux")]
    Run(Box<run::RunArgs>),
    /// Check an Audit Packet, evidence files or one receipt
    Verify(verify::VerifyArgs),
    /// Say what this machine lacks for a run, and what killed runs left
    #[cfg(target_os = "linux")]
    Doctor(doctor::DoctorArgs),
    /// Run one step of a workflow, from the inputs of the action
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    Action {
        /// Which step
        #[arg(value_enum)]
        step: action::Step,
    },
    /// Find the policy that a command needs
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Make a signing key
    Keygen(keygen::KeygenArgs),
}

const EXAMPLES: &str = "\
Examples:
  egress keygen --out signer.key
  egress run --config policy.yaml --signer-private-key signer.key -- ./agent.sh
  egress verify pipelock-audit-packet --key signer.key.pub

`egress run` needs root; `egress doctor` says what else a machine lacks for it.";

/// Parses the command line and runs it. Returns the exit status. `inherited` are the descriptors
/// that the caller left open.
#[cfg_attr(
    not(target_os = "linux"),
    expect(unused_variables, reason = "a run alone records them")
)]
pub fn main(inherited: Vec<String>) -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            return refused(&error);
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
    }
}

/// Prints what was asked for, or what is wrong with what was typed.
fn refused(error: &clap::Error) -> u8 {
    let words = std::env::args_os().skip(1);
    let asks_for_json = words
        .take_while(|word| word != "--")
        .any(|word| word == "--json");
    if error.use_stderr() && asks_for_json {
        let text = error.to_string();
        let first = text.split("\n\n").next().unwrap_or_default();
        let words: Vec<&str> = first.split_whitespace().skip(1).collect();
        let told = anyhow::Error::msg(words.join(" "));
        return failure::tell(Form::Json, told.as_ref(), Some("see --help"), exit::USAGE);
    }
    // A closed output is no reason for another status.
    drop(error.print());
    if error.use_stderr() {
        exit::USAGE
    } else {
        exit::SUCCESS
    }
}
