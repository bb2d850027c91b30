//! Changes every field of every file of a packet, once for each attacker who could have made the change. The mediator
//! is the built-in one.
#![expect(
    clippy::expect_used,
    reason = "a test without an honest packet has failed"
)]

use std::ffi::OsStr;

use audit_packet::grade::Grade;
use egress_tests::evidence::verify;
use egress_tests::mutation::{By, HonestPacket, Receipts, assert_seen, not_rejected, scene};
use egress_tests::{Output, World};

/// Produces an honest packet, and the packet of another run.
fn honest(world: &World) -> HonestPacket {
    let [packet, other] = scene::runs(world, |run| run);
    let [key, boundary] = ["key", "boundary"].map(|name| world.dir().join(name));
    HonestPacket::read(&packet, &other, &key, &boundary).expect("an honest packet")
}

#[test]
fn changes_of_a_packet_of_the_builtin_mediator_are_seen() {
    let world = World::new();
    let honest = honest(&world);
    assert_seen(&honest, By::Builtin, Grade::KernelEnforced);
}

/// Claims: differences*
#[test]
fn boundary_that_contradicts_another_file_is_rejected_even_when_signed() {
    let world = World::new();
    let honest = honest(&world);
    for name in [
        // The document claims an audit, but the rest of the packet is from an enforced run.
        "/mode:word=audit",
        // The document claims that there was no stub resolver, but the flow log contains names that the resolver
        // answered.
        "/dns:word=deny",
        // All numbers of the object are removed.
        "/probes/counts:empty",
        "/workspace/changes:empty",
    ] {
        let name = format!("boundary:boundary.json:{name}");
        assert_eq!(not_rejected(&honest, &name), Vec::<String>::new());
    }
}

/// An attacker without the pinned keys can write a packet in which no file contradicts another. The identity in a
/// packet therefore counts only if a pinned key signed the identity.
#[test]
fn forged_identity_meets_no_expectation() {
    let world = World::new();
    let honest = honest(&world);
    let [key, boundary] = ["key.pub", "boundary.pub"].map(|name| world.dir().join(name));
    let [key, boundary] = [
        ["--key".as_ref(), key.as_os_str()],
        ["--boundary-key".as_ref(), boundary.as_os_str()],
    ];
    let old: &[&str] = &["--expect", "build=17", "--nonce", "0123456789abcdef"];
    let new: &[&str] = &["--expect", "build=18"];
    let unpinned = [OsStr::new("--allow-unpinned"), OsStr::new("--json")];
    let verified = |name: &str, keys: &[&OsStr], wanted: &[&str]| {
        let dir = world.dir().join(name);
        let wanted: Vec<&OsStr> = wanted.iter().map(OsStr::new).collect();
        verify(&[&[dir.as_os_str()], unpinned.as_slice(), keys, &wanted].concat())
    };
    let forge = |name: &str, to: &str, receipts: Receipts| {
        let dir = world.dir().join(name);
        std::fs::create_dir(&dir).expect("make a directory");
        honest.write_forged_identity(&dir, "17", to, receipts);
    };
    let accepted = |output: &Output| assert_eq!(output.status, Some(0), "{output}");
    let unsigned = |output: &Output| {
        assert_eq!(output.status, Some(1), "{output}");
        assert!(output.stdout.contains("identity.unsigned"), "{output}");
    };
    std::fs::create_dir(world.dir().join("honest")).expect("make a directory");
    honest.write_edited(&world.dir().join("honest"), "summary.md", "", "");
    forge("forged", "18", Receipts::Forged);
    forge("unbound", "18", Receipts::Unbound);

    // The receipts of the honest packet bind the capsule, so either pinned key is enough to trust its identity. Without
    // a pinned key, the identity is not trusted.
    accepted(&verified("honest", &key, old));
    accepted(&verified("honest", &boundary, old));
    unsigned(&verified("honest", &[], old));
    // The control: without an expectation, the forged packets are consistent.
    accepted(&verified("forged", &[], &[]));
    unsigned(&verified("forged", &[], new));
    accepted(&verified("unbound", &key, &[]));
    unsigned(&verified("unbound", &key, new));
    // The page shows a person which run the packet is from, and whether a pinned key signed the identity.
    let page = |keys: &[&OsStr], packet: &str| {
        let dir = world.dir().join(packet);
        verify(&[&[dir.as_os_str()], keys].concat()).stdout
    };
    let text = page(&boundary, "honest");
    for line in [
        "identity:    signed by a pinned key\n",
        "provider:    github_actions\n",
        "repository:  acme/widgets\n",
        "nonce:       0123456789abcdef\n",
        "bind:        build=17\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let text = page(&key, "unbound");
    let line = "identity:    not signed by a pinned key\n";
    assert!(text.contains(line), "{text}");
    // The age of a forged packet is measured from a time that a pinned key signed.
    let aged: &[&str] = &["--max-age", "1h"];
    accepted(&verified("honest", &boundary, aged));
    accepted(&verified("unbound", &key, aged));
    let output = verified("forged", &[], aged);
    assert!(
        output.status == Some(1) && output.stdout.contains("packet.age"),
        "{output}"
    );
    // Another error is the cause, so the verifier does not report the identity as unsigned.
    for name in ["forged", "unbound"] {
        let output = verified(name, &boundary, new);
        assert_eq!(output.status, Some(1), "{output}");
        assert!(!output.stdout.contains("identity.unsigned"), "{output}");
    }
}

/// These edits do not contradict any digest or signature.
///
/// Claims: compare-repeated, compare-statements*, compare-pages, compare-counts*
#[test]
fn pages_and_statements_that_do_not_fit_are_named_even_when_signed() {
    let world = World::new();
    let honest = honest(&world);
    let [key, boundary] = ["key.pub", "boundary.pub"].map(|name| world.dir().join(name));
    let dir = world.dir().join("edited");
    std::fs::create_dir(&dir).expect("make a directory");
    let verified = |file: &str, from: &str, to: &str| {
        honest.write_edited(&dir, file, from, to);
        verify(&[
            dir.as_os_str(),
            "--json".as_ref(),
            "--key".as_ref(),
            key.as_ref(),
            "--boundary-key".as_ref(),
            boundary.as_ref(),
        ])
    };
    let sound = verified("summary.md", "", "");
    assert_eq!(sound.status, Some(0), "{sound}");
    let page = verified("summary.md", "kernel_enforced", "unpinned");
    let version = verified("boundary.json", "\"version\": \"", "\"version\": \"9");
    // A member of packet.json that repeats another file, and a number that the rows show.
    let repeated = verified("packet.json", "\"agent_uid\": 1", "\"agent_uid\": 2");
    let counted = verified("boundary.json", "\"name_bytes\": ", "\"name_bytes\": 1");
    for (output, rule, place) in [
        (page, "packet.rendered", "summary.md"),
        (version, "packet.statement", "version"),
        (repeated, "packet.statement", "agent_uid"),
        (counted, "packet.statement", "names of"),
    ] {
        assert_eq!(output.status, Some(1), "{rule}: {output}");
        let named = format!("\"rule\":\"{rule}\"");
        let stdout = output.stdout.replace(": ", ":");
        assert!(stdout.contains(&named), "{rule}: {output}");
        assert!(stdout.contains(place), "{place}: {output}");
        assert!(!sound.stdout.contains(rule), "{rule}: {sound}");
    }
}

/// Claims: closes-counted, compare-counts, grade-unproven*
#[test]
fn closes_that_do_not_add_up_lower_the_grade_even_when_signed() {
    let world = World::new();
    let honest = honest(&world);
    let dir = world.dir().join("edited");
    std::fs::create_dir(&dir).expect("make a directory");
    for (digit, is_lower) in [("", false), ("1", true)] {
        let to = format!("\"closes_seen\": {digit}");
        honest.write_edited(&dir, "boundary.json", "\"closes_seen\": ", &to);
        let judged = egress_tests::Judged::new(
            &dir,
            &world.dir().join("key"),
            &world.dir().join("boundary"),
        );
        let found = judged
            .reasons()
            .contains(&"counters: connections of the command have no close".to_owned());
        assert_eq!(found, is_lower, "{judged}");
        // The attestation states the grade before the edit, so it contradicts the edited files.
        let grade = if is_lower {
            "unproven"
        } else {
            "kernel_enforced"
        };
        assert_eq!(judged.grade(), grade, "{judged}");
    }
}
