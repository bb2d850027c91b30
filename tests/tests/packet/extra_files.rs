//! Files that a program adds to a packet after the run, such as those of a file manager.
use std::fs;

use egress_tests::World;
use serde_json::Value;

#[test]
fn added_files_are_named_as_the_only_difference() {
    let world = World::new();
    let (signer, boundary) = (world.key("signer.key"), world.key("boundary.key"));
    let run = world
        .egress()
        .allow(&[])
        .signed_with(&signer)
        .arg("--boundary-key")
        .arg(&boundary)
        .script("true")
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    let public = |key: &std::path::Path| format!("{}.pub", key.display());
    let verify = |options: &[&str]| {
        let mut words = vec!["verify".to_owned(), run.packet.display().to_string()];
        words.extend(["--key".to_owned(), public(&signer)]);
        words.extend(["--boundary-key".to_owned(), public(&boundary)]);
        words.extend(options.iter().map(|word| (*word).to_owned()));
        world.tool(&words)
    };
    let add = |name: &str| fs::write(run.packet.join(name), "x").unwrap();
    // The control: the packet is valid.
    let verified = verify(&["--require-grade", "kernel_enforced"]);
    assert_eq!(verified.status, Some(0), "{verified}");
    assert!(!verified.stdout.contains("hint:"), "{verified}");

    add(".DS_Store");
    let verified = verify(&["--require-grade", "kernel_enforced"]);
    assert_eq!(verified.status, Some(1), "{verified}");
    let hint = "hint: everything that was signed is unchanged; the only difference is that the following file was \
        added: .DS_Store (made by the macOS Finder). Remove it and verify again\n";
    assert!(verified.stdout.ends_with(hint), "{verified}");
    let printed: Value = serde_json::from_str(&verify(&["--json"]).stdout).unwrap();
    assert_eq!(printed["findings"][0]["rule"], "attestation.extra");
    assert_eq!(printed["findings"][0]["found"], ".DS_Store");

    for number in 0..7 {
        add(&format!("note-{number}"));
    }
    let verified = verify(&[]);
    assert!(
        verified
            .stdout
            .contains("files were added: .DS_Store (made by the macOS Finder), note-0, note-1, note-2, note-3, and 3 more."),
        "{verified}"
    );

    // If anything else differs, added files are not the only difference.
    let summary = run.packet.join("summary.md");
    let text = fs::read_to_string(&summary).unwrap();
    fs::write(&summary, format!("{text}x")).unwrap();
    let verified = verify(&[]);
    assert_eq!(verified.status, Some(1), "{verified}");
    assert!(
        !verified.stdout.contains("the only difference"),
        "{verified}"
    );
}
