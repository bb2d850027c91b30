//! The output of `egress verify --json` matches `docs/schema/verify.schema.json` for every kind of input.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test whose output cannot be read has failed"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use egress_tests::evidence::public_key_hex;
use egress_tests::{Output, RunOutput, World};
use jsonschema::Validator;
use serde_json::{Value, json};

struct Schema(Validator);

impl Schema {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/verify.schema.json");
        let schema: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        jsonschema::meta::validate(&schema).unwrap();
        Self(jsonschema::validator_for(&schema).unwrap())
    }

    /// Returns the errors that the schema reports about `value`.
    fn errors(&self, value: &Value) -> Vec<String> {
        let errors = self.0.iter_errors(value);
        errors
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect()
    }

    /// Parses the output of a command. Fails unless the output matches the schema and states the exit status.
    #[track_caller]
    fn checked(&self, output: &Output) -> Value {
        let value: Value = serde_json::from_str(&output.stdout)
            .unwrap_or_else(|error| panic!("not one JSON object: {error}: {output}"));
        let errors = self.errors(&value);
        assert!(errors.is_empty(), "{errors:#?}: {output}");
        assert_eq!(value["exit"].as_i64(), output.status.map(i64::from));
        value
    }
}

/// Copies the packet and changes the copy.
fn changed(world: &World, run: &RunOutput, name: &str, change: impl FnOnce(&Path)) -> PathBuf {
    let copy = world.dir().join(name);
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(&run.packet).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    change(&copy);
    copy
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} in {}", path.display());
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Removes the lines that contain `part`.
fn without(path: &Path, part: &str) {
    let text = fs::read_to_string(path).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.contains(part)).collect();
    assert!(kept.len() < text.lines().count(), "{part}");
    fs::write(path, format!("{}\n", kept.join("\n"))).unwrap();
}

/// Removes the attestation and edits a file. With the attestation, the verifier would not read the file, because its
/// digest differs.
fn unattested(dir: &Path, file: &str, from: &str, to: &str) {
    fs::remove_file(dir.join("attestation.json")).unwrap();
    edit(&dir.join(file), from, to);
}

/// Name of the copy, the change, and the rule that the change breaks.
type Change = (&'static str, fn(&Path), &'static str);

/// Changes that break many different rules.
const CHANGES: [Change; 22] = [
    (
        "no-json",
        |dir| fs::write(dir.join("packet.json"), "{").unwrap(),
        "packet.json",
    ),
    (
        "nonce",
        |dir| {
            let identity =
                r#"{"schema_version":"egress.identity.v0","provider":"local","nonce":"Not Hex"}"#;
            fs::write(dir.join("identity.json"), identity).unwrap();
        },
        "identity.bound",
    ),
    (
        "no-schema",
        |dir| edit(&dir.join("packet.json"), "\"posture\"", "\"other\""),
        "packet.schema",
    ),
    (
        "no-evidence",
        |dir| fs::remove_file(dir.join("evidence.jsonl")).unwrap(),
        "packet.evidence",
    ),
    (
        "empty",
        |dir| fs::write(dir.join("evidence.jsonl"), "").unwrap(),
        "packet.count",
    ),
    (
        "torn",
        |dir| {
            let path = dir.join("evidence.jsonl");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 30]).unwrap();
        },
        "file.torn",
    ),
    (
        "receipt",
        |dir| edit(&dir.join("evidence.jsonl"), "\"allow\"", "\"block\""),
        "receipt.signature",
    ),
    (
        "closes",
        // The digest of the file differs from the attestation, so its rows are not read.
        |dir| without(&dir.join("flows.jsonl"), "\"source\":\"kernel_close\""),
        "boundary.flows",
    ),
    (
        "unstated",
        |dir| {
            fs::remove_file(dir.join("attestation.json")).unwrap();
            fs::remove_file(dir.join("boundary.json")).unwrap();
            without(&dir.join("flows.jsonl"), "\"source\":\"relay\"");
        },
        "flows.link",
    ),
    (
        "no-flows",
        |dir| fs::remove_file(dir.join("flows.jsonl")).unwrap(),
        "attestation.missing",
    ),
    (
        "no-boundary",
        |dir| fs::remove_file(dir.join("boundary.json")).unwrap(),
        "attestation.missing",
    ),
    (
        "no-capsule",
        |dir| fs::remove_file(dir.join("posture-capsule.json")).unwrap(),
        "attestation.missing",
    ),
    (
        "no-attestation",
        |dir| fs::remove_file(dir.join("attestation.json")).unwrap(),
        "attestation.none",
    ),
    (
        "identity",
        |dir| fs::write(dir.join("identity.json"), "{}").unwrap(),
        "identity.form",
    ),
    (
        "other-identity",
        |dir| edit(&dir.join("identity.json"), "\"7\"", "\"8\""),
        "identity.bound",
    ),
    (
        "other-programs",
        |dir| {
            unattested(
                dir,
                "boundary.json",
                "\"agent_connect4\"",
                "\"agent_other\"",
            );
        },
        "boundary.rules",
    ),
    (
        "no-measurements",
        |dir| unattested(dir, "boundary.json", "{", "["),
        "boundary.form",
    ),
    (
        "no-statement",
        |dir| fs::write(dir.join("attestation.json"), "{}").unwrap(),
        "attestation.form",
    ),
    (
        "verdict",
        |dir| {
            let packet = dir.join("packet.json");
            edit(
                &packet,
                "\"verdict\": \"valid\"",
                "\"verdict\": \"invalid\"",
            );
            edit(&packet, "\"trusted\": true", "\"trusted\": false");
        },
        "packet.verdict",
    ),
    (
        "inline",
        |dir| {
            edit(
                &dir.join("packet.json"),
                "\"posture\"",
                "\"receipts\": [{\"chain_seq\": 99}], \"posture\"",
            );
        },
        "packet.receipts",
    ),
    (
        "early",
        |dir| {
            edit(
                &dir.join("packet.json"),
                "\"generated_at\": \"20",
                "\"generated_at\": \"19",
            );
        },
        "packet.time",
    ),
    (
        "more",
        |dir| symlink("packet.json", dir.join("more")).unwrap(),
        "attestation.extra",
    ),
];

/// A run that is signed with two keys, with its packet.
struct Subject {
    world: World,
    run: RunOutput,
    pin: String,
    boundary_pin: String,
}

impl Subject {
    fn new() -> Self {
        let world = World::new();
        let (key, boundary) = (world.key("key"), world.key("boundary"));
        let run = world
            .egress()
            .allow(&["allowed.test"])
            .signed_with(&key)
            .arg("--boundary-key")
            .arg(&boundary)
            .arg("--bind")
            .arg("ticket=7")
            .arg("--nonce")
            .arg("00112233445566ff")
            .script(
                "curl -sS http://allowed.test/ http://denied.test/ >/dev/null
                 curl -s http://denied.test:8080/; true",
            )
            .run();
        assert_eq!(run.status, Some(0), "{run}");
        Self {
            pin: public_key_hex(&key),
            boundary_pin: public_key_hex(&boundary),
            world,
            run,
        }
    }

    fn packet(&self) -> &str {
        self.run.packet.to_str().unwrap()
    }

    /// Runs `egress verify --json` with both keys pinned.
    fn verify(&self, path: &str, more: &[&str]) -> Output {
        let pins = ["--key", &self.pin, "--boundary-key", &self.boundary_pin];
        let args = ["verify", "--json", path].into_iter().chain(pins);
        self.world.tool(args.chain(more.iter().copied()))
    }
}

/// Claims: add-member
#[test]
fn output_about_a_sound_packet_fits_the_schema() {
    let (schema, subject) = (Schema::read(), Subject::new());
    let value = schema.checked(&subject.verify(subject.packet(), &[]));
    assert_eq!(value["verdict"], "valid", "{value:#}");
    assert_eq!(value["boundary"]["grade"], "kernel_enforced", "{value:#}");
    assert_eq!(value["identity"]["bind"]["ticket"], "7", "{value:#}");
    assert_eq!(value["boundary"]["identity_signed"], true, "{value:#}");
    assert_eq!(value["unmet_grade"], Value::Null, "{value:#}");
    assert_eq!(value["findings"], Value::Array(Vec::new()), "{value:#}");
    let unpinned = subject.world.tool(["verify", "--json", subject.packet()]);
    let unpinned = schema.checked(&unpinned);
    assert_eq!(unpinned["verdict"], "self_consistent_only");
    assert_eq!(unpinned["boundary"]["identity_signed"], false);

    // The control: the schema rejects an output from which a member is removed or to which one is added.
    for member in value.as_object().unwrap().keys() {
        let mut less = value.clone();
        less.as_object_mut().unwrap().remove(member);
        assert!(!schema.errors(&less).is_empty(), "without {member}");
        let mut other = value.clone();
        other[member] = json!([{"unknown": 1}]);
        assert!(
            !schema.errors(&other).is_empty(),
            "{member} of another type"
        );
    }
    for pointer in ["", "/boundary", "/boundary/reconciliation", "/run"] {
        let mut more = value.clone();
        more.pointer_mut(pointer).unwrap()["unknown"] = Value::Null;
        assert!(!schema.errors(&more).is_empty(), "one more in {pointer:?}");
    }
}

#[test]
fn output_about_a_broken_packet_fits_the_schema() {
    let (schema, subject) = (Schema::read(), Subject::new());
    for (name, change, rule) in CHANGES {
        let copy = changed(&subject.world, &subject.run, name, change);
        let value = schema.checked(&subject.verify(copy.to_str().unwrap(), &[]));
        assert_ne!(value["exit"], 0, "{name}: {value:#}");
        let findings = value["findings"].as_array().unwrap();
        let is_named = findings.iter().any(|finding| finding["rule"] == rule);
        assert!(is_named, "{name}: {value:#}");
        if name == "unstated" {
            let both = &value["boundary"]["reconciliation"];
            assert!(both["unasked"].as_u64() > Some(0), "{value:#}");
        }
    }
    for more in [
        ["--expect", "commit=none"],
        ["--nonce", "ffffffffffffffff"],
        ["--max-age", "0s"],
    ] {
        let value = schema.checked(&subject.verify(subject.packet(), &more));
        assert_eq!(value["exit"], 1, "{more:?}: {value:#}");
    }
    let audit = subject.world.egress().arg("--mode").arg("audit");
    let audit = audit.script("true").run();
    let value = schema.checked(&subject.verify(audit.packet.to_str().unwrap(), &[]));
    assert_eq!(value["findings"][0]["rule"], "packet.audit_mode");
}

/// Covers evidence without a packet (complete, cut off, and empty), and single receipts.
#[test]
fn output_about_other_subjects_fits_the_schema() {
    let (schema, subject) = (Schema::read(), Subject::new());
    let (world, pin) = (&subject.world, subject.pin.as_str());
    let text = fs::read_to_string(subject.run.packet.join("evidence.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let first: Value = serde_json::from_str(lines[0]).unwrap();
    let receipt = first["detail"].to_string();
    let forged = receipt.replace("\"allow\"", "\"block\"");
    let prefix = format!("{}\n", lines[..lines.len() - 3].join("\n"));
    for (name, content, kind, exit) in [
        ("evidence.jsonl", text.as_str(), "evidence", 0),
        ("prefix.jsonl", &prefix, "evidence", 3),
        ("empty.jsonl", "", "evidence", 1),
        ("receipt.json", &receipt, "receipt", 0),
        ("forged.json", &forged, "receipt", 1),
        ("nothing.json", "null", "receipt", 1),
        ("unreadable.jsonl", "\u{0}\u{1b}[31m\n", "evidence", 1),
    ] {
        let path = world.dir().join(name);
        fs::write(&path, content).unwrap();
        let path = path.to_str().unwrap();
        let value = schema.checked(&world.tool(["verify", "--json", path, "--key", pin]));
        assert_eq!(value["subject"], kind, "{name}: {value:#}");
        assert_eq!(value["exit"], exit, "{name}: {value:#}");
    }
    let directory = world.dir().join("directory");
    fs::create_dir(&directory).unwrap();
    let session = first["session_id"].as_str().unwrap();
    fs::write(directory.join(format!("evidence-{session}-0.jsonl")), &text).unwrap();
    let path = directory.to_str().unwrap();
    let value = schema.checked(&world.tool(["verify", "--json", path, "--key", pin]));
    assert_eq!(value["exit"], 0, "{value:#}");
    let args = [
        "verify",
        "--json",
        path,
        "--require-grade",
        "kernel_enforced",
    ];
    let value = schema.checked(&world.tool(args));
    assert_eq!(value["findings"][0]["rule"], "packet.missing", "{value:#}");
    assert_eq!(value["unmet_grade"], "kernel_enforced", "{value:#}");
}

/// Covers commands that fail before anything is verified.
#[test]
fn output_about_a_failure_fits_the_schema() {
    let (schema, subject) = (Schema::read(), Subject::new());
    let (world, packet) = (&subject.world, subject.packet());
    let nowhere = world.dir().join("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    let large = world.dir().join("large.json");
    fs::File::create(&large).unwrap().set_len(9 << 20).unwrap();
    let zeros = "00".repeat(32);
    for (args, exit) in [
        (vec![nowhere], 2),
        (vec!["/dev/null"], 2),
        (vec![packet, "--key", nowhere], 2),
        (vec![large.to_str().unwrap()], 2),
        (vec![packet, "--key", &zeros], 64),
        (vec![packet, "--boundary-key", "00"], 2),
        (vec![packet, "--require-grade", "best"], 64),
        (vec![packet, "--max-age", "soon"], 64),
        (vec![], 64),
    ] {
        let all = ["verify", "--json"].into_iter().chain(args.iter().copied());
        let value = schema.checked(&world.tool(all));
        assert_eq!(value["exit"], exit, "{args:?}: {value:#}");
        assert_eq!(value["schema_version"], "egress.failure.v1", "{args:?}");
    }
}
