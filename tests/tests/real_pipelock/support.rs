//! Runs with the Pipelock under test, and those who verify what they leave.
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use egress_tests::evidence::{Reference, public_key_hex, verify};
use egress_tests::{Run, RunOutput, World};
use serde_json::Value;

/// How long anything may take that ought to happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// What agents begin with that know of no proxy.
pub(crate) const NO_PROXY: &str =
    "unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy\n";

/// The Pipelock under test.
pub(crate) fn pipelock() -> PathBuf {
    std::env::var_os("PIPELOCK_BIN").map_or_else(
        || panic!("PIPELOCK_BIN is not set: use cargo xtask test --real-pipelock"),
        PathBuf::from,
    )
}

/// A run with it, under this policy, signed with the world's key.
pub(crate) fn with<'a>(world: &'a World, yaml: &str) -> Run<'a> {
    let key = world.dir().join("key");
    if !key.exists() {
        world.key("key");
    }
    without_policy(world).config(yaml).signed_with(&key)
}

/// A run with it and nothing else said.
pub(crate) fn without_policy(world: &World) -> Run<'_> {
    world
        .egress()
        .arg("--mediator")
        .arg("pipelock")
        .arg("--pipelock-bin")
        .arg(pipelock())
        .limit(Duration::from_mins(3))
}

/// A policy that allows these names.
pub(crate) fn allow(names: &[&str]) -> String {
    format!("mode: strict\napi_allowlist: {names:?}\n")
}

/// What the record says of the Pipelock.
pub(crate) fn facts(run: &RunOutput) -> Value {
    let boundary = run.json("boundary.json");
    boundary.pointer("/mediator/pipelock").unwrap().clone()
}

/// Whether it opens and closes sessions: 3.1 and later.
pub(crate) fn has_sessions(run: &RunOutput) -> bool {
    facts(run).get("left_out").unwrap() == &Value::Array(Vec::new())
}

/// Why the record is incomplete, as JSON text.
pub(crate) fn reasons(run: &RunOutput) -> String {
    run.json("boundary.json")
        .get("incomplete")
        .unwrap()
        .to_string()
}

/// Receipts of version 1 that the packet holds.
pub(crate) fn receipts(run: &RunOutput) -> Vec<Value> {
    run.lines("evidence.jsonl")
        .iter()
        .filter(|line| line.get("type").unwrap() == "action_receipt")
        .map(|line| line.pointer("/detail/action_record").unwrap().clone())
        .collect()
}

/// The targets of receipts with this verdict, without the outcomes.
pub(crate) fn targets(run: &RunOutput, verdict: &str) -> Vec<String> {
    receipts(run)
        .iter()
        .filter(|receipt| receipt.get("verdict").unwrap() == verdict)
        .filter(|receipt| receipt.get("transport").unwrap() != "receipt_session")
        .filter(|receipt| {
            receipt
                .get("decision_phase")
                .is_none_or(|phase| phase != "outcome")
        })
        .map(|receipt| receipt.get("target").unwrap().as_str().unwrap().to_owned())
        .collect()
}

/// Fails unless everybody who verifies evidence of this version accepts it: `egress verify`,
/// Pipelock's own verifier and the published one.
#[track_caller]
pub(crate) fn assert_verified(world: &World, run: &RunOutput) {
    let hex = public_key_hex(&world.dir().join("key"));
    let ours = verify(&[run.packet.as_os_str(), "--key".as_ref(), hex.as_ref()]);
    let is_whole = has_sessions(run);
    let wanted = if is_whole { 0 } else { 3 };
    assert_eq!(ours.status, Some(wanted), "{ours}\n{run}");

    let own = own_verifier(world, run, &hex);
    assert_eq!(own.status, Some(0), "{own}");
    let rust = Reference::Rust.chain(&run.packet.join("evidence.jsonl"), &hex);
    // It never takes an end as proven where version 2 receipts are there too.
    assert!(matches!(rust.status, Some(0 | 3)), "{rust}");
}

/// `pipelock verify-receipt` over the packet's evidence.
pub(crate) fn own_verifier(world: &World, run: &RunOutput, hex: &str) -> egress_tests::Output {
    let dir = world.dir().join("chain");
    drop(fs::remove_dir_all(&dir));
    fs::create_dir(&dir).unwrap();
    let session = run.lines("evidence.jsonl");
    let session = session.first().unwrap().get("session_id").unwrap();
    let name = format!("evidence-{}-0.jsonl", session.as_str().unwrap());
    fs::copy(run.packet.join("evidence.jsonl"), dir.join(name)).unwrap();
    world.runner([
        pipelock().as_os_str(),
        "verify-receipt".as_ref(),
        "--chain".as_ref(),
        dir.as_os_str(),
        "--key".as_ref(),
        hex.as_ref(),
    ])
}

/// Fails unless no run has left a directory in the world's own state.
#[track_caller]
pub(crate) fn assert_nothing_left(world: &World) {
    let left: Vec<_> = runs(&world.state());
    assert!(left.is_empty(), "{left:?}");
}

/// Directories of runs.
pub(crate) fn runs(state: &Path) -> Vec<PathBuf> {
    fs::read_dir(state)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("lock").exists())
        .collect()
}
