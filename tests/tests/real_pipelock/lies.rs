//! The receipts of the Pipelock under test are rewritten after it has ended, and signed with its own key.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use egress_tests::liar::{Lie, TRUTH};
use egress_tests::trial::{assert_lies_are_named, policy};
use egress_tests::{Run, World};

use crate::support::{allow, by, has_sessions, pipelock, with};

/// The program that lies, which this crate builds.
const LIAR: &str = env!("CARGO_BIN_EXE_egress-liar");

#[test]
fn lies_of_pipelock_are_named() {
    let world = World::new();
    let run = with(&world, &allow(&["allowed.test"])).script("true").run();
    let has_sessions = has_sessions(&run);
    if has_sessions {
        assert_lies_are_named("kernel_enforced", |lie| lie.with_sessions, tells);
    } else {
        assert_lies_are_named("kernel_observed", |lie| lie.without_sessions, tells);
    }
}

#[test]
fn the_truth_about_requests_at_the_same_time_changes_no_byte() {
    let world = World::new();
    let run = lying(&world, TRUTH)
        .config(&allow(&["allowed.test"]))
        .signed_with(&world.key("key"))
        .script(
            "seq 200 | xargs -P 16 -I{} curl -sS -o /dev/null -w '%{http_code}\\n' http://allowed.test/bytes/{} | sort | uniq -c",
        )
        .run();
    // A liar that changes a byte ends with an error, and the run then fails.
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(run.stdout.trim(), "200 200", "{run}");
}

fn tells<'w>(world: &'w World, lie: &Lie) -> Run<'w> {
    lying(world, lie.name).config(&policy(lie))
}

/// Returns a run whose Pipelock tells the lie `lie`.
pub(crate) fn lying<'w>(world: &'w World, lie: &str) -> Run<'w> {
    by(world, &wrapped(world.dir(), lie))
}

/// Writes a program that behaves like Pipelock and tells `lie` at its end. The program and everything that it starts
/// are in the world's directory, so that the mediator's user can execute them.
fn wrapped(dir: &Path, lie: &str) -> PathBuf {
    let [liar, real] = [("egress-liar", LIAR.into()), ("pipelock", pipelock())].map(
        |(name, from): (_, PathBuf)| {
            let to = dir.join(name);
            if !to.exists() {
                fs::copy(from, &to).unwrap();
            }
            to.display().to_string()
        },
    );
    let path = dir.join(format!("pipelock-{lie}"));
    let script = format!("#!/bin/sh\nexec {liar} {real} {lie} \"$@\"\n");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}
