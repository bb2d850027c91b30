//! Tests the output and the exit statuses of `egress`, as a shell receives them.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "the tests start the program that they test"
)]
use std::fs;
use std::io::Read;
use std::process::{Command, Output, Stdio};

use super::support::{chain, write_packet};

fn egress(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_egress"));
    command.args(words).output().expect("start egress")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = egress(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = text(&output.stdout);
        for word in ["verify", "keygen", "require-grade"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        assert!(!script.contains("sudo-driver"), "{shell}: {script}");
    }
    assert_eq!(egress(&["completions", "tcsh"]).status.code(), Some(64));
    let page = text(&egress(&["man"]).stdout);
    assert!(page.contains(".TH egress 1"), "{page}");
    let directory = tempfile::tempdir().expect("make a directory");
    let out = directory.path().join("man1");
    let named = out.to_string_lossy();
    assert_eq!(egress(&["man", "--out", &named]).status.code(), Some(0));
    let page = fs::read_to_string(out.join("egress-verify.1")).expect("read the page");
    assert!(page.contains("Exit status"), "{page}");
    assert!(out.join("egress-policy-suggest.1").is_file());
    assert!(!out.join("egress-action.1").exists());
}

/// A reader of the output that stops early does not make the packet invalid. The control is the same command with a
/// reader that reads everything.
#[test]
fn a_closed_pipe_does_not_change_the_exit_status() {
    let directory = tempfile::tempdir().expect("make a directory");
    let chain = chain(4, 3);
    write_packet(directory.path(), &chain);
    let path = directory.path().to_string_lossy().into_owned();
    let key = chain.key_hex();
    let status = |words: &[&str], wanted: &str, reads: bool| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_egress"))
            .args(words)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start egress");
        let mut output = child.stdout.take().expect("take the pipe");
        let mut read = String::new();
        if reads {
            output.read_to_string(&mut read).expect("read the output");
            assert!(read.contains(wanted), "{read}");
        }
        drop(output);
        child.wait().expect("wait for egress").code()
    };
    let verify = ["verify", &path, "--key", &key];
    for (words, wanted) in [
        (verify.as_slice(), "VALID"),
        (&["policy", "schema"], "api_allowlist"),
    ] {
        for reads in [true, false] {
            assert_eq!(status(words, wanted, reads), Some(0), "{words:?}");
        }
    }
}

#[test]
fn mistakes_with_keys_are_named() {
    let directory = tempfile::tempdir().expect("make a directory");
    let chain = chain(4, 3);
    write_packet(directory.path(), &chain);
    let packet = directory.path().to_string_lossy().into_owned();
    let key = directory.path().join("signer.key");
    let private = key.to_string_lossy().into_owned();
    assert_eq!(
        egress(&["keygen", "--out", &private]).status.code(),
        Some(0)
    );

    let again = egress(&["keygen", "--out", &private]);
    assert_eq!(again.status.code(), Some(64));
    let said = text(&again.stderr);
    assert!(said.contains("destroys the existing key"), "{said}");

    let output = egress(&["verify", &packet, "--key", &private]);
    assert_eq!(output.status.code(), Some(64));
    let said = text(&output.stderr);
    assert!(said.contains("this is a private key"), "{said}");
    assert!(
        !said.contains(&fs::read_to_string(&key).expect("read the key")),
        "{said}"
    );
}

/// The caller's directory may have a policy, because the recommended commands write one.
#[test]
fn a_directory_above_the_packet_is_recognised() {
    let directory = tempfile::tempdir().expect("make a directory");
    let chain = chain(4, 3);
    let below = directory.path().join("pipelock-audit-packet");
    fs::create_dir(&below).expect("make a directory");
    write_packet(&below, &chain);
    let path = |name: &str| directory.path().join(name);
    let above = directory.path().to_string_lossy().into_owned();
    let verified = |options: &[&str]| {
        let key = chain.key_hex();
        let output = egress(&[&["verify", &above, "--key", &key], options].concat());
        assert_eq!(output.status.code(), Some(1));
        text(&output.stdout)
    };
    fs::write(path("policy.yaml"), "mode: strict\n").expect("write a policy");
    let hint = format!(
        "hint: this directory has no packet.json; the packet may be in a directory below it: egress verify {}\n",
        below.display()
    );
    for options in [&[][..], &["--require-grade", "unproven"]] {
        assert_eq!(verified(options), hint, "{options:?}");
    }
    // Another file of a packet shows that this directory has lost its `packet.json`.
    fs::write(path("flows.jsonl"), "").expect("write a file");
    let said = verified(&[]);
    assert!(
        said.contains("other files of a packet are present"),
        "{said}"
    );
    assert!(said.ends_with(&hint), "{said}");
    fs::remove_file(path("flows.jsonl")).expect("remove the file");
    // There are two packets, so `egress verify` suggests neither.
    fs::create_dir(path("other")).expect("make a directory");
    write_packet(&path("other"), &chain);
    let said = verified(&[]);
    assert!(said.contains("[evidence.empty]"), "{said}");
    assert!(!said.contains("in a directory below it"), "{said}");
}
