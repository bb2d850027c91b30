//! Runs the example agent behind the boundary, in a world of the demo's own, and has its packet
//! verified by all who can.
//!
//! `cargo xtask demo` builds what it needs, says where things are, and starts it.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the demo shows what happens"
)]

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use egress_tests::evidence::{Reference, public_key_hex, verify};
use egress_tests::{Output, World};
use serde_json::Value;

const AGENT: &str = include_str!("../../agents/demo.sh");

const POLICY: &str = "\
mode: strict
api_allowlist:
  - allowed.test
";

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: egress-demo DIRECTORY");
        return ExitCode::from(64);
    };
    match demo(&dir) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

/// Whether everyone was satisfied.
fn demo(dir: &std::path::Path) -> io::Result<bool> {
    fs::create_dir_all(dir)?;
    let world = World::new();
    let key = dir.join("signing.key");
    let arguments: [&OsStr; 4] = [
        "keygen".as_ref(),
        "--force".as_ref(),
        "--out".as_ref(),
        key.as_os_str(),
    ];
    let made = world.tool(arguments);
    if !made.success() {
        eprintln!("egress keygen: {made}");
        return Ok(false);
    }

    heading("the policy");
    print!("{POLICY}");
    heading("the agent, behind the boundary");
    let run = world
        .egress()
        .config(POLICY)
        .signed_with(&key)
        .packet_dir(&dir.join("packet"))
        .script(AGENT)
        .run();
    print!("{}", run.stdout);
    heading("egress says");
    print!("{}", run.stderr);
    if !run.success() {
        eprintln!("egress run: {run}");
        return Ok(false);
    }

    let hex = public_key_hex(&key);
    let packet = run.packet.as_os_str();
    let evidence = run.packet.join("evidence.jsonl");
    let mut all = true;
    for (name, output) in [
        (
            "egress verify",
            verify(&[packet, "--key".as_ref(), hex.as_ref()]),
        ),
        (
            "pipelock-verifier-rs audit-packet",
            Reference::Rust.packet(&run.packet, &hex),
        ),
        (
            "pipelock-verifier-rs chain",
            Reference::Rust.chain(&evidence, &hex),
        ),
        (
            "pipelock-verify (Python)",
            Reference::Python.chain(&evidence, &hex),
        ),
    ] {
        all &= show(name, &output);
    }
    let packet = run.json("packet.json");
    let verdict = packet.pointer("/verifier/verdict");
    println!(
        "\nverdict: {}",
        verdict.and_then(Value::as_str).unwrap_or("none")
    );
    println!("packet:  {}", run.packet.display());
    println!("key:     {}.pub", key.display());
    Ok(all)
}

fn heading(text: &str) {
    println!("\n== {text}");
}

/// Prints what a verifier said; whether it was satisfied.
fn show(name: &str, output: &Output) -> bool {
    heading(name);
    print!("{}{}", output.stdout, output.stderr);
    let status = output.status.map_or_else(
        || "ended by a signal".to_owned(),
        |status| format!("exit status {status}"),
    );
    println!("({status})");
    output.success()
}
