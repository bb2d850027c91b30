//! `egress`, with a built-in mediator that decides correctly, and then changes its receipts and signs them again.
//!
//! An entry `NAME.lie.test` in the allow-list names the lie, because the mediator receives the policy and almost
//! nothing else. Only the tests use this program, and no release contains it.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stderr,
    reason = "a failed test shows why a lie could not be told"
)]

use std::fs;
use std::io;
use std::process::ExitCode;

use egress_mediator::plan::MediatorPlan;
use pipelock_receipts::keys::signing_key_from_seed_hex;

#[path = "../../tests/src/liar/mod.rs"]
pub mod liar;

/// The suffix of the entry. The name of the lie comes before the suffix.
const SUFFIX: &str = ".lie.test";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let stage: fn(i32, i32) -> u8 = match words.first() {
        Some(&"__relay") => egress_relay::main,
        Some(&"__init") => egress_sandbox::child::enter::main,
        Some(&"__mediator") => lying,
        _ => return ExitCode::from(egress::cli::main(Vec::new())),
    };
    let number = |at: usize| words.get(at)?.parse().ok();
    match (number(1), number(2)) {
        (Some(plan), Some(control)) => ExitCode::from(stage(plan, control)),
        _ => ExitCode::FAILURE,
    }
}

/// Runs the real mediator to its end, and then changes the receipts as the lie requires.
fn lying(plan_fd: i32, control_fd: i32) -> u8 {
    // The mediator reads and closes its plan, so this program reads the plan through another descriptor.
    let plan = fs::read(format!("/proc/self/fd/{plan_fd}"));
    let status = egress_mediator::main(plan_fd, control_fd);
    let told: io::Result<()> = plan.and_then(|plan| {
        let plan: MediatorPlan = serde_json::from_slice(&plan)?;
        let key = signing_key_from_seed_hex(&plan.signing_seed_hex).map_err(io::Error::other)?;
        liar::tell(lie(&plan.policy_yaml), &plan.evidence_dir, &key)
    });
    if let Err(error) = told {
        eprintln!("lying_mediator: {error}");
        return 1;
    }
    status
}

/// Returns the lie that the policy names.
fn lie(policy: &str) -> &str {
    let mut words =
        policy.split(|letter: char| !letter.is_alphanumeric() && !"._".contains(letter));
    let lie = words.find_map(|word| word.strip_suffix(SUFFIX));
    lie.unwrap_or(liar::TRUTH)
}
