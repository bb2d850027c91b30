//! Changes every field of every file of a packet, as every attacker who may have changed it, with the built-in
//! mediator.
#![expect(
    clippy::expect_used,
    reason = "a test without an honest packet has failed"
)]

use audit_packet::grade::Grade;
use egress_tests::World;
use egress_tests::evidence::verify;
use egress_tests::mutation::{By, HonestPacket, assert_seen, not_rejected, scene};

/// Makes an honest packet, and the packet of another run.
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

#[test]
fn boundary_that_contradicts_another_file_is_rejected_even_when_signed() {
    let world = World::new();
    let honest = honest(&world);
    for name in [
        // The document claims an audit, but the rest of the packet is from an enforced run.
        "/mode:word=audit",
        // Objects whose numbers were all removed.
        "/probes/counts:empty",
        "/workspace/changes:empty",
    ] {
        let name = format!("boundary:boundary.json:{name}");
        assert_eq!(not_rejected(&honest, &name), Vec::<String>::new());
    }
}

/// No digest and no signature reveals these edits.
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
    for (output, rule) in [(page, "packet.rendered"), (version, "packet.statement")] {
        assert_eq!(output.status, Some(1), "{rule}: {output}");
        let named = format!("\"rule\":\"{rule}\"");
        let stdout = output.stdout.replace(": ", ":");
        assert!(stdout.contains(&named), "{rule}: {output}");
        assert!(!sound.stdout.contains(rule), "{rule}: {sound}");
    }
}
