//! Reads what was typed, makes a checked plan, prints results and errors. The only place that
//! prints, and the only one that uses `anyhow`.
#[cfg(target_os = "linux")]
pub mod doctor;
pub mod exit;
pub mod keygen;
#[cfg(target_os = "linux")]
pub mod print;
#[cfg(target_os = "linux")]
pub mod run;
pub mod verify;

use clap::{Parser, Subcommand};

/// Runs an agent behind a kernel-enforced boundary and proves what it saw.
#[derive(Debug, Parser)]
#[command(name = "egress", version, about, max_term_width = 100)]
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
    /// Make a signing key
    Keygen(keygen::KeygenArgs),
}

/// Parses the command line and runs it. Returns the exit status. `inherited` are the descriptors
/// that the caller left open.
pub fn main(inherited: Vec<String>) -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed output is no reason for another status.
            drop(error.print());
            return if error.use_stderr() {
                exit::USAGE
            } else {
                exit::SUCCESS
            };
        }
    };
    match cli.command {
        #[cfg(target_os = "linux")]
        Command::Run(args) => run::run(*args, inherited),
        #[cfg(target_os = "linux")]
        Command::Doctor(args) => doctor::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Keygen(args) => keygen::run(&args),
    }
}
