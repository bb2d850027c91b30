//! The `egress` command. With a hidden first argument, which is read before the command line is parsed, the program
//! becomes one of the processes of a run.
#![forbid(unsafe_code)]
use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if let Some(status) = stage() {
        return ExitCode::from(status);
    }
    ExitCode::from(egress::cli::main(inherited_descriptors()))
}

/// Runs the process that the hidden first argument selects, and returns its exit status. Returns `None` for every other
/// argument.
#[cfg(target_os = "linux")]
fn stage() -> Option<u8> {
    let mut args = std::env::args_os().skip(1);
    let name = args.next()?;
    let entry: fn(i32, i32) -> u8 = match name.to_str()? {
        "__init" => egress_sandbox::child::enter::main,
        "__mediator" => egress_mediator::main,
        "__pipelock" => egress_pipelock::main,
        "__relay" => egress_relay::main,
        _ => return None,
    };
    let mut number = || args.next()?.to_str()?.parse().ok();
    match (number(), number()) {
        (Some(plan), Some(control)) => Some(entry(plan, control)),
        _ => Some(egress::cli::exit::USAGE),
    }
}

/// Lists the descriptors that the caller left open, for the packet. Marks all except the standard streams so that no
/// process that this process starts inherits them.
fn inherited_descriptors() -> Vec<String> {
    #[cfg(target_os = "linux")]
    if let (Ok(open), Ok(())) = (egress_sys::fd::inherited(), egress_sys::fd::cloexec_from(3)) {
        return open
            .into_iter()
            .map(|(number, target)| format!("{number}: {target}"))
            .collect();
    }
    Vec::new()
}
