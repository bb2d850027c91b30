//! Two verifiers agree: `egress verify`, and the one that `tests/second_verifier` has, which was written from the
//! documentation alone. They judge honest packets, changed ones, and ones whose mediator lies.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use egress::cli::verify::{VerifyArgs, verify};
use egress::packet::grade::Grade;
use egress::receipt::findings::Severity;
use egress_tests::World;
use egress_tests::evidence::{public_key_hex, second_verifier};
use egress_tests::mutation::{HonestPacket, Sampled, scene, write_changes, write_lies};
use serde_json::Value;

/// Chooses the changes.
const SEED: u64 = 17;
/// Places at which each attacker changes the packet of each shape.
const PLACES: [(&str, usize); 5] = [
    ("mixed", 60),
    ("denied", 12),
    ("empty", 12),
    ("plain", 12),
    ("keyless", 12),
];
/// As many packets must count at least.
const AT_LEAST: usize = 200;
const THREADS: usize = 4;

/// What a verifier finds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    verdict: String,
    grade: Grade,
    reasons: Vec<String>,
}

#[test]
fn second_verifier_agrees() {
    let world = World::new();
    let shapes = shapes(&world);
    let [key, boundary] = ["key", "boundary"].map(|name| world.dir().join(name));
    let [other, _] = scene_packets(&shapes);
    let mut all = Vec::new();
    for (kind, packet) in &shapes {
        all.push(Sampled { name: format!("honest:{kind}"), dir: packet.clone() });
    }
    for (kind, places) in PLACES {
        let packet = &shapes[kind];
        let honest = HonestPacket::read(packet, &other, &key, &boundary).unwrap();
        let into = world.dir().join(format!("changed-{kind}"));
        all.extend(write_changes(&honest, kind, places, SEED, &into).unwrap());
        if kind == "mixed" {
            all.extend(write_lies(&honest, &world.dir().join("lies")).unwrap());
        }
    }
    let keys = [vec![public_key_hex(&key)], vec![public_key_hex(&boundary)]];
    let started = std::time::Instant::now();
    let ours = ours(&all, &keys);
    eprintln!("ours {:?}", started.elapsed());
    let theirs = theirs(&all, &keys);
    eprintln!("theirs {:?} {}", started.elapsed(), all.len());
    let mut counts = BTreeMap::<String, usize>::new();
    for (sampled, (one, other)) in all.iter().zip(ours.iter().zip(&theirs)) {
        let same = one.verdict == other.verdict && one.grade == other.grade;
        *counts.entry(format!("{same} {} {}", one.verdict, one.grade.as_str())).or_default() += 1;
        if !same {
            println!("DIFF {} {}\n  ours {one:?}\n  theirs {other:?}", sampled.name, sampled.dir.display());
        }
    }
    println!("{counts:#?}");
    if std::env::var_os("KEEP").is_some() { std::mem::forget(world); }
}

fn scene_packets(shapes: &BTreeMap<&'static str, PathBuf>) -> [PathBuf; 2] {
    [shapes["other"].clone(), shapes["mixed"].clone()]
}

/// Honest packets by shape. All but `keyless` are signed with the same keys.
fn shapes(world: &World) -> BTreeMap<&'static str, PathBuf> {
    let [mixed, other] = scene::runs(world, |run| run);
    let [key, boundary] = ["key", "boundary"].map(|name| world.dir().join(name));
    let run = |script: &str| {
        world.egress().allow(&["allowed.test"]).script(script)
    };
    let finished = |run: egress_tests::Run<'_>| {
        let output = run.run();
        assert_eq!(output.status, Some(0), "{output}");
        output.packet
    };
    let signed = |script: &str| {
        finished(run(script).signed_with(&key).arg("--boundary-key").arg(&boundary))
    };
    let denied = "curl -sS http://denied.test/ || true\ncurl -sS https://denied.test/ || true\n";
    let plain = "curl -sS http://allowed.test/\ncurl -sSk https://allowed.test/\n";
    BTreeMap::from([
        ("mixed", mixed),
        ("other", other),
        ("denied", signed(denied)),
        ("empty", signed("true\n")),
        ("plain", signed(plain)),
        ("keyless", finished(run(plain))),
    ])
}

fn ours(all: &[Sampled], [keys, boundary_keys]: &[Vec<String>; 2]) -> Vec<Found> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(sampled) = all.get(at) else { return };
                let outcome = verify(&VerifyArgs {
                    path: sampled.dir.clone(),
                    keys: keys.clone(),
                    boundary_keys: boundary_keys.clone(),
                    ..VerifyArgs::default()
                });
                let judged = match outcome {
                    Err(error) => Found { verdict: "error".into(), grade: Grade::None, reasons: vec![format!("{error}")] },
                    Ok(outcome) => {
                        let mut reasons: Vec<String> = outcome.findings.iter().filter(|f| f.rule.severity == Severity::Error)
                            .map(|f| format!("[{}] {} / {}", f.rule.id, f.expected, f.found)).collect();
                        let graded = outcome.boundary.map(|b| b.graded);
                        reasons.extend(graded.iter().flat_map(|g| g.reasons.clone()));
                        Found { verdict: outcome.verdict.as_str().into(), grade: graded.map_or(Grade::None, |g| g.grade), reasons }
                    }
                };
                found.lock().unwrap().insert(at, judged);
            });
        }
    });
    found.into_inner().unwrap().into_values().collect()
}

fn theirs(all: &[Sampled], [keys, boundary_keys]: &[Vec<String>; 2]) -> Vec<Found> {
    let packets: Vec<&Path> = all.iter().map(|s| s.dir.as_path()).collect();
    let output = second_verifier(keys, boundary_keys, &packets);
    let lines: Vec<Found> = output.stdout.lines().map(|line| {
        let json: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| json[name].as_str().unwrap().to_owned();
        let grade = Grade::ALL.into_iter().find(|g| g.as_str() == text("grade")).unwrap();
        Found { verdict: text("verdict"), grade, reasons: json["reasons"].as_array().unwrap().iter().map(|r| r.as_str().unwrap().to_owned()).collect() }
    }).collect();
    assert_eq!(lines.len(), all.len(), "{output}");
    lines
}
