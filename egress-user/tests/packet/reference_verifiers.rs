//! The published reference verifiers accept the evidence that the recorder writes, and accept its end as proven.
//!
//! `EGRESS_REF_VERIFIER_RS` names the binary of pipelock-verifier-rs 0.6.5 and
//! `EGRESS_REF_VERIFIER_PY` the console script of pipelock-verify 0.4.1.
#![allow(
    clippy::allow_attributes,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;

use super::support::{SESSION, chain, write_packet};

/// Returns the reference verifier that the environment variable names. If the variable is not set, the test is skipped,
/// or fails if all tests are required.
fn reference(variable: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(PathBuf::from(path));
    }
    assert_ne!(
        std::env::var_os("EGRESS_TEST_REQUIRE").as_deref(),
        Some(OsStr::new("all")),
        "{variable} is not set and EGRESS_TEST_REQUIRE=all"
    );
    println!("left out: {variable} does not name the reference verifier");
    None
}

/// Runs a verifier and returns its exit status and output.
#[expect(
    clippy::disallowed_methods,
    reason = "a test starts the reference verifiers"
)]
fn run(program: &PathBuf, arguments: &[&OsStr]) -> (Option<i32>, String) {
    let output = std::process::Command::new(program)
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn rust_reference_accepts_the_end_of_the_chain() {
    let Some(verifier) = reference("EGRESS_REF_VERIFIER_RS") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    for actions in [0, 1, 40] {
        let chain = chain(actions, 7);
        let path = directory.path().join(format!("evidence-{SESSION}-0.jsonl"));
        fs::write(&path, chain.bytes()).unwrap();
        let (code, text) = run(
            &verifier,
            &[
                "chain".as_ref(),
                path.as_ref(),
                "--key".as_ref(),
                chain.key_hex().as_ref(),
            ],
        );
        assert_eq!(code, Some(0), "{text}");
        assert!(!text.contains("UNPROVEN"), "{text}");
    }
}

#[test]
fn python_reference_accepts_the_chain() {
    let Some(verifier) = reference("EGRESS_REF_VERIFIER_PY") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let chain = chain(40, 7);
    let path = directory.path().join(format!("evidence-{SESSION}-0.jsonl"));
    fs::write(&path, chain.bytes()).unwrap();
    let (code, text) = run(
        &verifier,
        &[path.as_ref(), "--key".as_ref(), chain.key_hex().as_ref()],
    );
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("CHAIN VALID"), "{text}");
}

#[test]
fn rust_reference_accepts_the_packet() {
    let Some(verifier) = reference("EGRESS_REF_VERIFIER_RS") else {
        return;
    };
    for actions in [0, 1, 40] {
        let directory = tempfile::tempdir().unwrap();
        let chain = chain(actions, 7);
        write_packet(directory.path(), &chain);
        let key = chain.key_hex();
        let arguments: [&OsStr; 4] = [
            "audit-packet".as_ref(),
            directory.path().as_ref(),
            "--key".as_ref(),
            key.as_ref(),
        ];
        let (code, text) = run(&verifier, &arguments);
        assert_eq!(code, Some(0), "{text}");
    }
}
