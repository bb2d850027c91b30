//! `egress verify` and `egress keygen` on files: packets, directories, single receipts, statuses.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

use std::fs;
use std::path::Path;

use super::support::{Chain, SESSION, chain, write_packet};
use audit_packet::grade::Grade;
use audit_packet::{EVIDENCE_FILE, FLOWS_FILE, PACKET_FILE, POLICY_FILE};
use egress::cli::exit;
use egress::cli::keygen::{self, KeygenArgs};
use egress::cli::verify::{self, VerifyArgs, VerifyOutcome, status};
use pipelock_receipts::check::MAX_DOCUMENT_BYTES;

fn args(path: &Path, chain: &Chain) -> VerifyArgs {
    VerifyArgs {
        path: path.to_owned(),
        keys: vec![chain.key_hex()],
        ..VerifyArgs::default()
    }
}

fn check(args: &VerifyArgs) -> (u8, VerifyOutcome) {
    let outcome = verify::verify(args).unwrap();
    (status(&outcome, args), outcome)
}

fn first(outcome: &VerifyOutcome) -> &'static str {
    outcome
        .findings
        .first()
        .map_or("", |finding| finding.rule.id)
}

/// Replaces text in a file of the packet.
fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Claims: verify-anywhere, grade-none*
#[test]
fn a_packet_is_valid_by_directory_and_by_file() {
    let directory = tempfile::tempdir().unwrap();
    let chain = chain(4, 3);
    write_packet(directory.path(), &chain);
    for path in [
        directory.path().to_owned(),
        directory.path().join(PACKET_FILE),
    ] {
        let (code, outcome) = check(&args(&path, &chain));
        assert_eq!(
            (code, outcome.findings.as_slice()),
            (exit::SUCCESS, [].as_slice())
        );
        let boundary = outcome.boundary.as_ref().unwrap();
        assert_eq!(boundary.flows.as_ref().unwrap().lines, 2);
        assert_eq!(boundary.graded.grade, Grade::None);
        assert_eq!(verify::run(&args(&path, &chain)), exit::SUCCESS);
    }
    let unpinned = VerifyArgs {
        keys: Vec::new(),
        ..args(directory.path(), &chain)
    };
    assert_eq!(check(&unpinned).0, exit::INVALID);
    let allowed = VerifyArgs {
        allow_unpinned: true,
        ..unpinned
    };
    assert_eq!(check(&allowed).0, exit::SUCCESS);
}

#[test]
fn every_lie_of_a_packet_is_named() {
    let chain = chain(4, 3);
    let root = chain.closed.root_hash.clone();
    let key = chain.key_hex();
    for (from, to, rule) in [
        ("\"ci-agent\"", "\"other\"", "packet.identity"),
        ("\"trusted\": true", "\"trusted\": false", "packet.rule"),
        (
            "\"verdict\": \"valid\"",
            "\"verdict\": \"excellent\"",
            "packet.schema",
        ),
        ("\"allow\": ", "\"allow\": 1", "packet.rule"),
        ("\"final_seq\": ", "\"final_seq\": 1", "packet.root"),
        (root.as_str(), "00", "packet.root"),
        (key.as_str(), &"1".repeat(64), "packet.signer"),
        (
            "\"config_snapshot_sha256\": \"",
            "\"config_snapshot_sha256\": \"0",
            "packet.policy",
        ),
        ("\"connect\": ", "\"connect\": 1", "packet.display"),
        (
            "\"verifier\": \"verifier.txt\"",
            "\"verifier\": \"other.txt\"",
            "packet.artifact",
        ),
        ("\"evidence.jsonl\"", "\"../evidence.jsonl\"", "packet.path"),
        ("\"evidence.jsonl\"", "\"missing.jsonl\"", "packet.evidence"),
        (
            "\"evidence.jsonl\"",
            "\"evidence.jsonl/\"",
            "packet.evidence",
        ),
        ("\"posture\"", "\"extra\": 1, \"posture\"", "packet.schema"),
        (
            "\"posture\"",
            "\"packet_id\": null, \"posture\"",
            "packet.schema",
        ),
        ("\"posture\"", "\"posture\": {}, \"posture\"", "packet.json"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        write_packet(directory.path(), &chain);
        edit(&directory.path().join(PACKET_FILE), from, to);
        let (code, outcome) = check(&args(directory.path(), &chain));
        assert_eq!(code, exit::INVALID, "{from}");
        let named = outcome
            .findings
            .iter()
            .any(|finding| finding.rule.id == rule);
        assert!(named, "{from}: {}", first(&outcome));
    }
}

#[test]
fn a_packet_is_an_object_of_its_own_directory() {
    let chain = chain(4, 3);
    let directory = tempfile::tempdir().unwrap();
    write_packet(directory.path(), &chain);
    let path = directory.path().join(PACKET_FILE);
    let text = fs::read(&path).unwrap();
    assert_eq!(check(&args(&path, &chain)).0, exit::SUCCESS);
    // A lenient reader would read the same values from an array.
    let mut packet: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let artifacts = &packet["artifacts"];
    let values = ["packet", "summary", "evidence", "verifier"].map(|name| artifacts[name].clone());
    packet["artifacts"] = values.to_vec().into();
    fs::write(&path, packet.to_string()).unwrap();
    let (code, outcome) = check(&args(&path, &chain));
    assert_eq!((code, first(&outcome)), (exit::INVALID, "packet.schema"));
    // The file is a link to a file outside the directory.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("packet"), &text).unwrap();
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("packet"), &path).unwrap();
    assert_eq!(verify::run(&args(&path, &chain)), exit::CANNOT_READ);
}

/// Claims: policy-shown*
#[test]
fn edits_of_the_files_beside_a_packet_are_named() {
    let chain = chain(2, 0);
    for (file, from, to, rule) in [
        (POLICY_FILE, "strict", "audit", "packet.policy"),
        (FLOWS_FILE, "start", "stop", "flows.hash"),
        (EVIDENCE_FILE, "host1", "host2", "receipt.signature"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        write_packet(directory.path(), &chain);
        edit(&directory.path().join(file), from, to);
        let (code, outcome) = check(&args(directory.path(), &chain));
        assert_eq!((code, first(&outcome)), (exit::INVALID, rule), "{file}");
    }
    // packet.json and the receipts state the hash of the policy.
    let directory = tempfile::tempdir().unwrap();
    write_packet(directory.path(), &chain);
    edit(&directory.path().join(POLICY_FILE), "strict", "audit");
    let (_, outcome) = check(&args(directory.path(), &chain));
    let policies = outcome.findings.iter();
    let policies = policies.filter(|finding| finding.rule.id == "packet.policy");
    let stated: Vec<&str> = policies.map(|finding| finding.found.as_str()).collect();
    let of_receipts = stated.iter().filter(|found| found.ends_with("in receipts"));
    assert_eq!((stated.len(), of_receipts.count()), (2, 1), "{stated:?}");
}

#[cfg(unix)]
#[test]
fn evidence_outside_the_packet_is_refused() {
    use std::os::unix::fs::symlink;
    let chain = chain(1, 0);
    let outside = tempfile::tempdir().unwrap();
    let directory = tempfile::tempdir().unwrap();
    write_packet(directory.path(), &chain);
    let evidence = directory.path().join(EVIDENCE_FILE);
    let moved = outside.path().join(EVIDENCE_FILE);
    fs::rename(&evidence, &moved).unwrap();
    symlink(&moved, &evidence).unwrap();
    let (code, outcome) = check(&args(directory.path(), &chain));
    assert_eq!((code, first(&outcome)), (exit::INVALID, "packet.evidence"));
    // A link to a file inside the directory is accepted.
    fs::remove_file(&evidence).unwrap();
    fs::rename(&moved, directory.path().join("real.jsonl")).unwrap();
    symlink("real.jsonl", &evidence).unwrap();
    assert_eq!(check(&args(directory.path(), &chain)).0, exit::SUCCESS);
}

#[test]
fn file_that_is_too_long_makes_the_packet_invalid() {
    let chain = chain(4, 3);
    for name in [PACKET_FILE, POLICY_FILE, "summary.md", "attestation.json"] {
        let directory = tempfile::tempdir().unwrap();
        write_packet(directory.path(), &chain);
        let length = MAX_DOCUMENT_BYTES + 1;
        let file = fs::File::create(directory.path().join(name)).unwrap();
        file.set_len(length).unwrap();
        let (code, outcome) = check(&args(directory.path(), &chain));
        assert_eq!((code, first(&outcome)), (exit::INVALID, "packet.size"));
        let finding = outcome.findings.first().unwrap();
        assert_eq!(finding.place.file.as_deref(), Some(name));
        assert_eq!(
            finding.expected,
            format!("at most {MAX_DOCUMENT_BYTES} bytes")
        );
        assert_eq!(finding.found, format!("{length} bytes"));
    }
}

#[test]
fn run_of_an_unsigned_packet_is_printed_as_unsigned() {
    let directory = tempfile::tempdir().unwrap();
    let chain = chain(4, 3);
    write_packet(directory.path(), &chain);
    let args = args(directory.path(), &chain);
    let text = verify::printed(&check(&args).1, &args);
    let line = "identity:    not signed by a pinned key\n";
    assert!(text.contains(line), "{text}");
}

#[test]
fn evidence_files_are_taken_in_the_order_of_their_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let chain = chain(6, 0);
    for (from, to) in [(0, 2), (2, 10), (10, chain.lines.len())] {
        let lines = chain.lines.get(from..to).unwrap().concat();
        let name = format!("evidence-{SESSION}-{from}.jsonl");
        fs::write(directory.path().join(name), lines).unwrap();
    }
    fs::write(directory.path().join("writer.lock"), "").unwrap();
    assert_eq!(check(&args(directory.path(), &chain)).0, exit::SUCCESS);
    let second = directory.path().join(format!("evidence-{SESSION}-2.jsonl"));
    fs::remove_file(second).unwrap();
    let (code, outcome) = check(&args(directory.path(), &chain));
    assert_eq!((code, first(&outcome)), (exit::INVALID, "entry.seq"));
}

#[test]
fn files_about_a_boundary_count_only_as_a_whole_packet() {
    let chain = chain(4, 3);
    let whole = tempfile::tempdir().unwrap();
    write_packet(whole.path(), &chain);
    let boundary = pipelock_receipts::keys::generate().unwrap();
    let pinned = |path: &Path| VerifyArgs {
        boundary_keys: vec![hex::encode(boundary.verifying_key().to_bytes())],
        ..args(path, &chain)
    };
    let graded = |path: &Path| VerifyArgs {
        require_grade: Some(Grade::Unproven),
        ..args(path, &chain)
    };
    // A single evidence file is accepted unless the caller requires a packet.
    let evidence = whole.path().join(EVIDENCE_FILE);
    assert_eq!(check(&args(&evidence, &chain)).0, exit::SUCCESS);
    for args in [pinned(&evidence), graded(&evidence)] {
        let (code, outcome) = check(&args);
        assert_eq!((code, first(&outcome)), (exit::INVALID, "packet.missing"));
    }
    // A packet without packet.json is not accepted as a directory of evidence.
    fs::remove_file(whole.path().join(PACKET_FILE)).unwrap();
    fs::rename(
        &evidence,
        whole.path().join(format!("evidence-{SESSION}-0.jsonl")),
    )
    .unwrap();
    for args in [
        args(whole.path(), &chain),
        pinned(whole.path()),
        graded(whole.path()),
    ] {
        let (code, outcome) = check(&args);
        assert_eq!((code, first(&outcome)), (exit::INVALID, "packet.missing"));
    }
    // Without the other files of a packet, the directory counts as a directory of evidence.
    for name in [FLOWS_FILE, POLICY_FILE, "verifier.txt", "summary.md"] {
        let path = whole.path().join(name);
        if path.exists() {
            fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(check(&args(whole.path(), &chain)).0, exit::SUCCESS);
    assert_eq!(check(&pinned(whole.path())).0, exit::INVALID);
}

#[test]
fn an_unsigned_identity_meets_no_expectation() {
    let chain = chain(4, 3);
    let directory = tempfile::tempdir().unwrap();
    write_packet(directory.path(), &chain);
    let identity =
        r#"{"schema_version":"egress.identity.v0","provider":"local","repository":"a/b"}"#;
    fs::write(directory.path().join("identity.json"), identity).unwrap();
    assert_eq!(check(&args(directory.path(), &chain)).0, exit::SUCCESS);
    let expecting = VerifyArgs {
        expect: vec![(String::from("repository"), String::from("a/b"))],
        ..args(directory.path(), &chain)
    };
    let (code, outcome) = check(&expecting);
    assert_eq!(
        (code, first(&outcome)),
        (exit::INVALID, "identity.unsigned")
    );
    let rules: Vec<&str> = outcome.findings.iter().map(|one| one.rule.id).collect();
    assert!(!rules.contains(&"identity.expected"), "{rules:?}");
    // A value that differs is reported as well.
    fs::write(
        directory.path().join("identity.json"),
        identity.replace("a/b", "c/d"),
    )
    .unwrap();
    assert_eq!(first(&check(&expecting).1), "identity.expected");
    // The other error is the cause, so only that error is reported.
    fs::write(directory.path().join("identity.json"), identity).unwrap();
    edit(&directory.path().join(EVIDENCE_FILE), "host1", "host2");
    assert_eq!(first(&check(&expecting).1), "receipt.signature");
}

#[test]
fn a_packet_without_an_identity_meets_no_expectation() {
    let chain = chain(4, 3);
    let directory = tempfile::tempdir().unwrap();
    write_packet(directory.path(), &chain);
    let expecting = VerifyArgs {
        expect: vec![(String::from("repository"), String::from("a/b"))],
        nonce: Some(String::from("0011223344556677")),
        ..args(directory.path(), &chain)
    };
    let (code, outcome) = check(&expecting);
    assert_eq!(code, exit::INVALID);
    let found: Vec<&str> = outcome
        .findings
        .iter()
        .map(|one| one.found.as_str())
        .collect();
    assert_eq!(found, ["no nonce", "no repository"]);
}

/// Only a time that a pinned key signed counts.
#[test]
fn an_age_needs_a_signed_time() {
    let chain = chain(4, 3);
    let directory = tempfile::tempdir().unwrap();
    write_packet(directory.path(), &chain);
    let aged = VerifyArgs {
        max_age: Some(std::time::Duration::from_hours(24 * 365 * 500)),
        allow_unpinned: true,
        ..args(directory.path(), &chain)
    };
    assert_eq!(check(&aged).0, exit::SUCCESS);
    let unpinned = VerifyArgs {
        keys: Vec::new(),
        ..aged
    };
    let (code, outcome) = check(&unpinned);
    assert_eq!((code, first(&outcome)), (exit::INVALID, "packet.age"));
    let found = outcome.findings.first().map(|one| one.found.as_str());
    assert_eq!(found, Some("no time that a pinned key signed"));
    let evidence = VerifyArgs {
        path: directory.path().join(EVIDENCE_FILE),
        keys: vec![chain.key_hex()],
        ..unpinned
    };
    let (_, outcome) = check(&evidence);
    let found = outcome.findings.first().map(|one| one.found.as_str());
    assert_eq!((first(&outcome), found), ("packet.age", Some("no packet")));
}

#[test]
fn age_of_a_packet_is_limited_in_both_directions() {
    let chain = chain(4, 3);
    let directory = tempfile::tempdir().unwrap();
    write_packet(directory.path(), &chain);
    let packet = directory.path().join(PACKET_FILE);
    let made: serde_json::Value = serde_json::from_slice(&fs::read(&packet).unwrap()).unwrap();
    let aged = |seconds: u64| VerifyArgs {
        max_age: Some(std::time::Duration::from_secs(seconds)),
        ..args(directory.path(), &chain)
    };
    let rule = |args: &VerifyArgs| first(&check(args).1);
    let dated = |year: &str| {
        let mut dated = made.clone();
        dated["generated_at"] = format!("{year}-01-01T00:00:00Z").into();
        dated["run"]["started_at"] = dated["generated_at"].clone();
        dated["run"]["completed_at"] = dated["generated_at"].clone();
        fs::write(&packet, dated.to_string()).unwrap();
    };
    dated("2020");
    assert_eq!(rule(&aged(3_600)), "packet.age");
    assert_eq!(rule(&aged(3_600 * 24 * 365 * 500)), "");
    dated("2999");
    assert_eq!(rule(&aged(3_600)), "packet.age");
    let (code, outcome) = check(&args(directory.path(), &chain));
    assert_eq!((code, first(&outcome)), (exit::SUCCESS, "packet.future"));
}

#[test]
fn statuses_distinguish_prefix_emptiness_and_bad_arguments() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("evidence.jsonl");
    let chain = chain(1, 0);
    fs::write(&path, chain.lines.get(..3).unwrap().concat()).unwrap();
    let prefix = args(&path, &chain);
    assert_eq!(verify::run(&prefix), exit::END_UNPROVEN);
    assert_eq!(
        verify::run(&VerifyArgs {
            allow_prefix: true,
            ..args(&path, &chain)
        }),
        exit::SUCCESS
    );
    fs::write(&path, "").unwrap();
    assert_eq!(verify::run(&prefix), exit::INVALID);
    assert_eq!(
        verify::run(&args(&directory.path().join("absent"), &chain)),
        exit::CANNOT_READ
    );
    let short_key = VerifyArgs {
        keys: vec!["00".repeat(32)],
        ..args(&path, &chain)
    };
    assert_eq!(verify::run(&short_key), exit::USAGE);
    let no_file = VerifyArgs {
        keys: vec![String::from("no-such-file")],
        ..args(&path, &chain)
    };
    assert_eq!(verify::run(&no_file), exit::CANNOT_READ);
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(verify::run(&args(empty.path(), &chain)), exit::INVALID);
}

#[test]
fn a_generated_key_signs_and_verifies() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("id_ed25519");
    let generate = |force| {
        keygen::run(&KeygenArgs {
            out: Some(out.clone()),
            force,
            json: true,
            ..KeygenArgs::default()
        })
    };
    assert_eq!(generate(false), exit::SUCCESS);
    assert_eq!(generate(false), exit::USAGE);
    assert_eq!(generate(true), exit::SUCCESS);
    let key = pipelock_receipts::keys::load_private(&out).unwrap();
    let chain = super::support::chain_with(&key, 1, 0);
    let path = directory.path().join("evidence.jsonl");
    fs::write(&path, chain.bytes()).unwrap();
    let public = directory.path().join("id_ed25519.pub");
    let args = VerifyArgs {
        path,
        keys: vec![public.to_string_lossy().into_owned()],
        json: true,
        ..VerifyArgs::default()
    };
    assert_eq!(verify::run(&args), exit::SUCCESS);
}
