//! Prepares runs with the Pipelock under test, and runs verifiers on their packets.
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use egress_tests::aftermath::{SOON, runs};
pub(crate) use egress_tests::agents::NO_PROXY;
use egress_tests::evidence::{Reference, public_key_hex, second_verifier, verify};
use egress_tests::{Output, Run, RunOutput, World};
use serde_json::Value;

/// Returns the path of the Pipelock under test.
pub(crate) fn pipelock() -> PathBuf {
    std::env::var_os("PIPELOCK_BIN").map_or_else(
        || panic!("PIPELOCK_BIN is not set: use cargo xtask test --real-pipelock"),
        PathBuf::from,
    )
}

/// Returns a run with the Pipelock under test and the policy `yaml`, signed with the world's keys.
pub(crate) fn with<'a>(world: &'a World, yaml: &str) -> Run<'a> {
    signed(world, without_policy(world).config(yaml))
}

/// Signs a run with the world's keys.
pub(crate) fn signed<'a>(world: &World, run: Run<'a>) -> Run<'a> {
    let [key, boundary] = ["key", "boundary"].map(|name| {
        let path = world.dir().join(name);
        if !path.exists() {
            world.key(name);
        }
        path
    });
    run.signed_with(&key).arg("--boundary-key").arg(&boundary)
}

/// Returns a run with the Pipelock under test and no other option.
pub(crate) fn without_policy(world: &World) -> Run<'_> {
    by(world, &pipelock())
}

/// Returns a run with the Pipelock at the path `pipelock` and no other option.
pub(crate) fn by<'a>(world: &'a World, pipelock: &Path) -> Run<'a> {
    world
        .egress()
        .arg("--mediator")
        .arg("pipelock")
        .arg("--pipelock-bin")
        .arg(pipelock)
        .limit(Duration::from_mins(3))
}

/// Returns a policy that allows these names.
pub(crate) fn allow(names: &[&str]) -> String {
    format!("mode: strict\napi_allowlist: {names:?}\n")
}

/// Returns the facts about Pipelock in boundary.json.
pub(crate) fn facts(run: &RunOutput) -> Value {
    let boundary = run.json("boundary.json");
    boundary.pointer("/mediator/pipelock").unwrap().clone()
}

/// Returns whether this Pipelock opens and closes sessions, as 3.1 and later do.
pub(crate) fn has_sessions(run: &RunOutput) -> bool {
    facts(run).get("left_out").unwrap() == &Value::Array(Vec::new())
}

/// Returns why the record is incomplete, as JSON text.
pub(crate) fn reasons(run: &RunOutput) -> String {
    run.json("boundary.json")
        .get("incomplete")
        .unwrap()
        .to_string()
}

/// Returns the receipts of version 1 in the packet.
pub(crate) fn receipts(run: &RunOutput) -> Vec<Value> {
    receipts_of(&run.packet)
}

/// Returns the receipts of version 1 in a packet directory.
pub(crate) fn receipts_of(packet: &Path) -> Vec<Value> {
    let text = fs::read_to_string(packet.join("evidence.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line.get("type").unwrap() == "action_receipt")
        .map(|line| line.pointer("/detail/action_record").unwrap().clone())
        .collect()
}

/// Returns the targets of receipts with this verdict. Outcomes are left out.
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

/// Exit statuses of three verifiers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdicts {
    /// `egress verify` on the packet.
    pub(crate) ours: i32,
    /// `pipelock verify-receipt --chain`.
    pub(crate) own: i32,
    /// The published verifier on the chain. This verifier never accepts the end as proven if there are receipts of
    /// version 2.
    pub(crate) published: i32,
}

impl Verdicts {
    /// Statuses if no receipt is missing. For 3.1 and later, the end is proven as well.
    pub(crate) fn whole(has_sessions: bool) -> Self {
        Self {
            ours: if has_sessions { 0 } else { 3 },
            ..Self::PREFIX
        }
    }

    /// Statuses if the existing receipts are valid, but receipts at the end may be missing.
    pub(crate) const PREFIX: Self = Self {
        ours: 3,
        own: 0,
        published: 3,
    };
}

/// Fails unless all verifiers accept the evidence, and also accept the boundary if the receipts bind it.
#[track_caller]
pub(crate) fn assert_verified(world: &World, run: &RunOutput) {
    let has_sessions = has_sessions(run);
    assert_verdicts(world, &run.packet, Verdicts::whole(has_sessions));
    let grade = grade(world, &run.packet);
    let wanted = if has_sessions {
        "kernel_enforced"
    } else {
        "kernel_observed"
    };
    assert_eq!(grade, wanted, "{run}");
}

/// Fails unless `egress verify`, Pipelock's own verifier, and the published one return these statuses for a packet.
#[track_caller]
pub(crate) fn assert_verdicts(world: &World, packet: &Path, wanted: Verdicts) {
    let ours = reviewed(world, packet, &[]);
    assert_eq!(ours.status, Some(wanted.ours), "ours: {ours}");
    let hex = public_key_hex(&world.dir().join("key"));
    let own = own_verifier(world, packet, &hex);
    assert_eq!(own.status, Some(wanted.own), "its own: {own}");
    let published = Reference::Rust.chain(&packet.join("evidence.jsonl"), &hex);
    assert_eq!(published.status, Some(wanted.published), "{published}");
}

/// Runs `egress verify` on the packet with both keys pinned.
pub(crate) fn reviewed(world: &World, packet: &Path, more: &[&str]) -> Output {
    let [key, boundary] = ["key", "boundary"].map(|name| public_key_hex(&world.dir().join(name)));
    let mut args = vec![
        packet.as_os_str(),
        "--key".as_ref(),
        key.as_ref(),
        "--boundary-key".as_ref(),
        boundary.as_ref(),
    ];
    args.extend(more.iter().map(|text| OsStr::new(*text)));
    verify(&args)
}

/// Returns the grade of the boundary.
pub(crate) fn grade(world: &World, packet: &Path) -> String {
    let output = reviewed(world, packet, &["--json"]);
    let result: Value = serde_json::from_str(&output.stdout).unwrap();
    let grade = result.pointer("/boundary/grade").and_then(Value::as_str);
    grade.unwrap_or_else(|| panic!("{output}")).to_owned()
}

/// Fails unless the second verifier finds the same grade.
#[track_caller]
pub(crate) fn assert_second_agrees(world: &World, packet: &Path) {
    let [key, boundary] = ["key", "boundary"].map(|name| public_key_hex(&world.dir().join(name)));
    let second = second_verifier(&key, &boundary, &[packet]);
    let found: Value = serde_json::from_str(&second.stdout).unwrap();
    let found = found.get("grade").and_then(Value::as_str);
    assert_eq!(found, Some(grade(world, packet).as_str()), "{second}");
}

/// Runs `pipelock verify-receipt` on the packet's evidence.
fn own_verifier(world: &World, packet: &Path, hex: &str) -> Output {
    let dir = world.dir().join("chain");
    drop(fs::remove_dir_all(&dir));
    fs::create_dir(&dir).unwrap();
    let evidence = packet.join("evidence.jsonl");
    let text = fs::read_to_string(&evidence).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let session = first.get("session_id").unwrap().as_str().unwrap();
    fs::copy(&evidence, dir.join(format!("evidence-{session}-0.jsonl"))).unwrap();
    world.runner([
        pipelock().as_os_str(),
        "verify-receipt".as_ref(),
        "--chain".as_ref(),
        dir.as_os_str(),
        "--key".as_ref(),
        hex.as_ref(),
    ])
}

/// Returns how many different policies the receipts about actions name.
pub(crate) fn policies(receipts: &[Value]) -> usize {
    let of_decisions = receipts
        .iter()
        .filter(|receipt| receipt.get("transport").unwrap() != "receipt_session");
    let hashes: BTreeSet<_> = of_decisions
        .map(|receipt| receipt.get("policy_hash").unwrap().as_str().unwrap())
        .collect();
    hashes.len()
}

/// Fails if a run has left a directory in the world's own state directory.
#[track_caller]
pub(crate) fn assert_nothing_left(world: &World) {
    let left: Vec<_> = runs(world);
    assert!(left.is_empty(), "{left:?}");
}
