//! The two verifiers agree: `egress verify`, and the verifier in `tests/second_verifier`, which was written from the
//! documentation alone. The two verifiers verify honest packets, changed packets, and packets of a mediator that lies.
#![expect(
    clippy::expect_used,
    reason = "a packet that cannot be made or judged fails the test"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use audit_packet::denied::in_natural_order;
use audit_packet::format::boundary::Denied;
use audit_packet::grade::Grade;
use egress::cli::verify::{VerifyArgs, verify};
use egress_tests::evidence::{public_key_hex, python, second_verifier};
use egress_tests::mutation::{HonestPacket, Sampled, is_named, scene, write_changes, write_lies};
use egress_tests::{Run, World};
use pipelock_receipts::findings::Severity;
use serde_json::Value;

/// Number of places at which each attacker changes a packet of each kind, unless the caller of the tests chooses
/// another number.
const PLACES: [(&str, usize); 5] = [
    ("mixed", 45),
    ("denied", 8),
    ("empty", 8),
    ("plain", 8),
    ("keyless", 8),
];
/// Minimum number of packets that must have the same verdict and grade.
const AT_LEAST: usize = 200;
/// Minimum number of packets that must have each of these grades, because two verifiers that reject everything also
/// agree.
const OF_A_GRADE: usize = 20;
const THREADS: usize = 4;

/// The rules that the second verifier does not check, each with the reason. `tests/second_verifier/README.md` lists
/// these rules too.
const NOT_CHECKED: [(&str, &str); 1] = [(
    "packet.rendered",
    "only the program that wrote a page can write it again",
)];
/// The rule that is broken whenever any other rule is broken, because the predicate of a changed packet states the
/// grade of the honest packet.
const PREDICATE: &str = "attestation.predicate";
/// Each of these reasons for a lower grade states only that the packet has findings.
const CONSEQUENCES: [&str; 2] = [
    "the files of the packet about the boundary are inconsistent",
    "the packet is invalid (see the errors)",
];

/// The result of one verifier for one packet.
#[derive(Clone, Debug)]
struct Found {
    verdict: String,
    grade: Grade,
    /// The rules of the errors. For the second verifier, `reasons` contains these rules as well.
    rules: Vec<&'static str>,
    reasons: Vec<String>,
}

impl Found {
    fn is_same(&self, other: &Self) -> bool {
        self.verdict == other.verdict && self.grade == other.grade
    }

    /// Returns whether each error concerns a rule that the second verifier does not check, or follows from such an
    /// error.
    fn is_beyond(&self) -> bool {
        let causes: Vec<&str> = self
            .rules
            .iter()
            .copied()
            .filter(|rule| *rule != PREDICATE)
            .collect();
        let is_excused = |rule: &str| NOT_CHECKED.iter().any(|(excused, _)| *excused == rule);
        let follows = |reason: &String| CONSEQUENCES.contains(&reason.as_str());
        !causes.is_empty() && causes.into_iter().all(is_excused) && self.reasons.iter().all(follows)
    }
}

/// Claims: grade-unproven
#[test]
fn second_verifier_agrees_with_egress_verify() {
    let world = World::new();
    let packets = packets(&world);
    let keys = ["key", "boundary"].map(|name| public_key_hex(&world.dir().join(name)));
    let ours = by_egress(&packets, &keys);
    let theirs = by_second(&packets, &keys);

    let mut agreed = BTreeMap::<(&str, &str), usize>::new();
    let mut beyond = 0;
    let mut different = String::new();
    for ((packet, ours), theirs) in packets.iter().zip(&ours).zip(&theirs) {
        if ours.is_same(theirs) {
            let found = (ours.verdict.as_str(), ours.grade.as_str());
            *agreed.entry(found).or_default() += 1;
        } else if ours.is_beyond() {
            beyond += 1;
        } else {
            let higher = if theirs.grade > ours.grade {
                " HIGHER"
            } else {
                ""
            };
            writeln!(
                different,
                "{}{higher}:\n  {ours:?}\n  {theirs:?}",
                packet.name
            )
            .expect("write to memory");
        }
    }
    println!(
        "{agreed:#?}\nbeyond the second verifier: {beyond} of {}",
        packets.len()
    );
    assert!(different.is_empty(), "the verifiers differ:\n{different}");
    if is_named() {
        return;
    }
    let count: usize = agreed.values().sum();
    assert!(count >= AT_LEAST, "{agreed:?}");
    for found in [
        ("valid", "kernel_enforced"),
        ("valid", "kernel_observed"),
        ("invalid", "unproven"),
    ] {
        let count = agreed.get(&found).copied().unwrap_or_default();
        assert!(count >= OF_A_GRADE, "{found:?}: {agreed:?}");
    }
}

/// Produces honest packets, changed packets, and packets of a mediator that lies.
fn packets(world: &World) -> Vec<Sampled> {
    let [mixed, other] = scene::runs(world, |run| run);
    let [key, boundary] = ["key", "boundary"].map(|name| world.dir().join(name));
    let shapes: BTreeMap<&str, PathBuf> = shapes(world, &key, &boundary)
        .into_iter()
        .chain([("mixed", mixed), ("other", other.clone())])
        .collect();
    let mut all: Vec<Sampled> = shapes
        .iter()
        .map(|(kind, dir)| Sampled {
            name: format!("{kind}:honest"),
            dir: dir.clone(),
        })
        .collect();
    for (kind, places) in PLACES {
        let packet = shapes.get(kind).expect("a shape of this name");
        let honest = HonestPacket::read(packet, &other, &key, &boundary).expect("a packet");
        let into = world.dir().join(format!("changed-{kind}"));
        all.extend(write_changes(&honest, kind, places, &into).expect("changed packets"));
        if kind == "mixed" {
            let into = world.dir().join("lies");
            all.extend(write_lies(&honest, &into).expect("packets with lies"));
        }
    }
    all
}

/// Produces packets of kinds other than `mixed`. All packets except the packet without keys are signed with the same
/// keys.
fn shapes(world: &World, key: &Path, boundary: &Path) -> [(&'static str, PathBuf); 4] {
    let packet = |run: Run<'_>| {
        let output = run.run();
        assert_eq!(output.status, Some(0), "{output}");
        output.packet
    };
    let run = |script: &str| world.egress().allow(&["allowed.test"]).script(script);
    let signed = |script: &str| {
        let run = run(script).signed_with(key);
        packet(run.arg("--boundary-key").arg(boundary))
    };
    let denied = "curl -sS http://denied.test/ || true\ncurl -sS https://denied.test/ || true\n";
    let plain = "curl -sS http://allowed.test/\ncurl -sSk https://allowed.test/\n";
    [
        ("denied", signed(denied)),
        ("empty", signed("true\n")),
        ("plain", signed(plain)),
        ("keyless", packet(run(plain))),
    ]
}

/// The two verifiers sort destinations in the same natural order.
#[test]
fn natural_order_is_the_same_in_both_verifiers() {
    let texts = [
        "h10.test",
        "h2.test",
        "",
        "h01.test",
        "h1.test",
        "10.0.0.10",
        "10.0.0.2",
        "a",
        "h",
        "h1",
        "h1.test:80",
        "h010",
        "h10a9",
        "h10a10",
        "\u{e4}2",
        "2001:db8::10",
        "2001:db8::9",
    ]
    .map(String::from);
    let mut rows = texts.clone().map(|destination| Denied {
        destination,
        ..Denied::default()
    });
    let code = "import json, sys; sys.path.insert(0, sys.argv[1]); from counted import natural
print(json.dumps(sorted(json.loads(sys.argv[2]), key=natural)))";
    let input = serde_json::to_string(&texts).expect("JSON");
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/second_verifier");
    let output = python(&["-c", code, dir, &input]);
    let by_second: Vec<String> = serde_json::from_str(&output.stdout).expect("a list");
    in_natural_order(&mut rows, |row| (row, 1));
    let texts: Vec<String> = rows.into_iter().map(|row| row.destination).collect();
    assert_eq!(by_second, texts, "{output}");
}

fn by_egress(packets: &[Sampled], [key, boundary]: &[String; 2]) -> Vec<Found> {
    let next = AtomicUsize::new(0);
    let all = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(packet) = packets.get(at) else {
                        return;
                    };
                    let found = found(&VerifyArgs {
                        path: packet.dir.clone(),
                        keys: vec![key.clone()],
                        boundary_keys: vec![boundary.clone()],
                        ..VerifyArgs::default()
                    });
                    all.lock().expect("no thread has failed").insert(at, found);
                }
            });
        }
    });
    let all = all.into_inner().expect("no thread has failed");
    all.into_values().collect()
}

fn found(args: &VerifyArgs) -> Found {
    let outcome = match verify(args) {
        Ok(outcome) => outcome,
        Err(error) => {
            return Found {
                verdict: String::from("error"),
                grade: Grade::None,
                rules: Vec::new(),
                reasons: vec![error.to_string()],
            };
        }
    };
    let errors = outcome.findings.iter();
    let errors = errors.filter(|finding| finding.rule.severity == Severity::Error);
    let graded = outcome.boundary.as_ref().map(|boundary| &boundary.graded);
    Found {
        verdict: outcome.verdict.as_str().to_owned(),
        grade: graded.map_or(Grade::None, |graded| graded.grade),
        rules: errors.map(|finding| finding.rule.id).collect(),
        reasons: graded.map_or_else(Vec::new, |graded| graded.reasons.clone()),
    }
}

fn by_second(packets: &[Sampled], keys: &[String; 2]) -> Vec<Found> {
    let share = packets.len().div_ceil(THREADS).max(1);
    thread::scope(|scope| {
        let shares: Vec<_> = packets
            .chunks(share)
            .map(|share| scope.spawn(|| of_second(share, keys)))
            .collect();
        let each = shares.into_iter();
        each.flat_map(|share| share.join().expect("no thread has failed"))
            .collect()
    })
}

fn of_second(packets: &[Sampled], [key, boundary]: &[String; 2]) -> Vec<Found> {
    let dirs: Vec<&Path> = packets.iter().map(|packet| packet.dir.as_path()).collect();
    let output = second_verifier(key, boundary, &dirs);
    assert!(matches!(output.status, Some(0 | 1)), "{output}");
    let lines: Vec<Value> = output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON object a line"))
        .collect();
    assert_eq!(lines.len(), packets.len(), "{output}");
    let found = |(line, dir): (Value, &Path)| {
        let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
        assert_eq!(Path::new(text("path")), dir, "another packet");
        let grade = Grade::ALL
            .into_iter()
            .find(|grade| grade.as_str() == text("grade"));
        let reasons = line.get("reasons").and_then(Value::as_array);
        let reasons = reasons.into_iter().flatten().filter_map(Value::as_str);
        Found {
            verdict: text("verdict").to_owned(),
            grade: grade.expect("a grade"),
            rules: Vec::new(),
            reasons: reasons.map(str::to_owned).collect(),
        }
    };
    lines.into_iter().zip(dirs).map(found).collect()
}
