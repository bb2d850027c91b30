//! Runs the example agent behind the boundary in network namespaces of the demo, and verifies the packet of the run.
//! Then the demo changes a copy of the packet and shows that the verification of the copy fails.
//!
//! `cargo xtask demo` builds and starts this program.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the demo prints its steps"
)]

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use egress_tests::evidence::{Reference, public_key_hex, verify};
use egress_tests::{Output, World};

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

/// Runs the demo and returns whether it succeeded.
fn demo(dir: &Path) -> io::Result<bool> {
    fs::create_dir_all(dir)?;
    let world = World::new();
    let [signer, boundary] = ["signer.key", "boundary.key"].map(|name| dir.join(name));
    for key in [&signer, &boundary] {
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
    }

    heading("the policy");
    print!("{POLICY}");
    heading("the agent, behind the boundary");
    let run = world
        .egress()
        .config(POLICY)
        .signed_with(&signer)
        .arg("--boundary-key")
        .arg(&boundary)
        .packet_dir(&dir.join("packet"))
        .script(AGENT)
        .run();
    print!("{}", run.stdout);
    heading("egress run reports");
    print!("{}", run.stderr);
    if !run.success() {
        eprintln!("egress run: {run}");
        return Ok(false);
    }

    let keys = [&signer, &boundary].map(|key| key.with_extension("key.pub"));
    heading("egress verify, with both public keys");
    let mut all_well = show(&pinned(&run.packet, &keys)) == Some(0);
    all_well &= published(&run.packet, &public_key_hex(&signer));

    heading(
        "egress verify, on a copy in which evidence.jsonl names harmless.test instead of denied.test",
    );
    let copy = dir.join("tampered");
    tamper(&run.packet, &copy)?;
    let mut output = pinned(&copy, &keys);
    // Only the findings differ from the report on the original.
    output.stdout = lines_from(&output.stdout, &["verdict:", "error:"]);
    let rejected = show(&output) == Some(1);
    if !rejected {
        eprintln!("egress verify did not reject the tampered packet");
    }

    println!("\npacket:      {}", run.packet.display());
    println!("report:      {}", run.packet.join("report.html").display());
    let [signer, boundary] = &keys;
    println!("public keys: {} (receipts)", signer.display());
    println!("             {} (boundary)", boundary.display());
    Ok(all_well && rejected)
}

/// Verifies a packet with both public keys and requires the highest grade, as a reviewer would.
fn pinned(packet: &Path, [signer, boundary]: &[PathBuf; 2]) -> Output {
    verify(&[
        packet.as_os_str(),
        "--key".as_ref(),
        signer.as_os_str(),
        "--boundary-key".as_ref(),
        boundary.as_os_str(),
        "--require-grade".as_ref(),
        "kernel_enforced".as_ref(),
    ])
}

/// Runs the published verifiers that are installed, and returns whether all of them accept the packet.
fn published(packet: &Path, key: &str) -> bool {
    let evidence = packet.join("evidence.jsonl");
    let mut all_well = true;
    if Reference::Rust.is_installed() {
        heading("pipelock-verifier-rs audit-packet");
        all_well &= show(&Reference::Rust.packet(packet, key)) == Some(0);
        heading("pipelock-verifier-rs chain");
        all_well &= show(&Reference::Rust.chain(&evidence, key)) == Some(0);
    }
    if Reference::Python.is_installed() {
        heading("pipelock-verify (Python)");
        all_well &= show(&Reference::Python.chain(&evidence, key)) == Some(0);
    }
    all_well
}

/// Copies a packet to `copy` and renames the denied destination in its receipts.
fn tamper(packet: &Path, copy: &Path) -> io::Result<()> {
    if copy.exists() {
        fs::remove_dir_all(copy)?;
    }
    fs::create_dir(copy)?;
    for entry in fs::read_dir(packet)? {
        let entry = entry?;
        fs::copy(entry.path(), copy.join(entry.file_name()))?;
    }
    let evidence = copy.join("evidence.jsonl");
    let text = fs::read_to_string(&evidence)?;
    let tampered = text.replace("denied.test", "harmless.test");
    if tampered == text {
        return Err(io::Error::other(
            "evidence.jsonl does not name the denied destination",
        ));
    }
    fs::write(&evidence, tampered)
}

/// Returns the lines of `text` that start with one of `starts`.
fn lines_from(text: &str, starts: &[&str]) -> String {
    text.split_inclusive('\n')
        .filter(|line| starts.iter().any(|start| line.starts_with(start)))
        .collect()
}

fn heading(text: &str) {
    println!("\n== {text}");
}

/// Prints the output of a verifier and returns its exit status.
fn show(output: &Output) -> Option<i32> {
    print!("{}{}", output.stdout, output.stderr);
    match output.status {
        Some(status) => println!("(exit status {status})"),
        None => println!("(ended by a signal)"),
    }
    output.status
}
