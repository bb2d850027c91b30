//! The Pipelock under test in the hands of somebody who rewrites its receipts at its end, with its own key.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use egress_tests::liar::Lie;
use egress_tests::trial::{assert_lies_are_named, policy};
use egress_tests::{Run, World};

use crate::support::{allow, has_sessions, pipelock, with};

/// The program that lies, which this crate builds.
const LIAR: &str = env!("CARGO_BIN_EXE_egress-liar");

#[test]
fn lies_of_pipelock_are_named() {
    let world = World::new();
    let run = with(&world, &allow(&["allowed.test"])).script("true").run();
    let has_sessions = has_sessions(&run);
    if has_sessions {
        assert_lies_are_named("kernel_enforced", |lie| lie.with_sessions, lying);
    } else {
        assert_lies_are_named("kernel_observed", |lie| lie.without_sessions, lying);
    }
}

/// A run whose Pipelock tells this lie.
fn lying<'w>(world: &'w World, lie: &Lie) -> Run<'w> {
    let program = wrapped(world.dir(), lie);
    let run = world.egress().config(&policy(lie)).arg("--mediator");
    let run = run.arg("pipelock").arg("--pipelock-bin").arg(program);
    run.limit(Duration::from_mins(3))
}

/// A program that is Pipelock to whoever starts it, and tells this lie at its end. It lies in the world's
/// directory with all that it starts, where the mediator's own user can reach it.
fn wrapped(dir: &Path, lie: &Lie) -> PathBuf {
    let [liar, real] = [("egress-liar", LIAR.into()), ("pipelock", pipelock())].map(
        |(name, from): (_, PathBuf)| {
            let to = dir.join(name);
            if !to.exists() {
                fs::copy(from, &to).unwrap();
            }
            to.display().to_string()
        },
    );
    let path = dir.join(format!("pipelock-{}", lie.name));
    let script = format!("#!/bin/sh\nexec {liar} {real} {} \"$@\"\n", lie.name);
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}
