//! Runs of a caller with a strict umask.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use egress_tests::{RunOutput, World, binary};

fn mode(path: &Path) -> Option<u32> {
    let metadata = fs::metadata(path).ok()?;
    Some(metadata.permissions().mode() & 0o777)
}

/// Returns the line of the result with the grade.
fn grade(run: &RunOutput) -> String {
    let mut lines = run.stderr.lines();
    let found = lines.find(|line| line.starts_with("egress: boundary"));
    found.unwrap_or_default().to_owned()
}

#[test]
fn umask_of_the_caller_changes_only_the_modes_of_the_packet() {
    let world = World::builder().own_state().build();
    let start = |umask: &str| {
        let path = world.dir().join(format!("umask-{umask}"));
        let script = format!(
            "#!/bin/bash\numask {umask}\nexec {} \"$@\"\n",
            binary().display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        world.egress().binary(&path).allow(&[])
    };
    // A run of an earlier version may have created the state directory with this mode.
    fs::set_permissions(world.state(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut grades = Vec::new();
    for (umask, directory, file) in [
        ("022", 0o755, 0o644),
        ("027", 0o750, 0o640),
        ("077", 0o700, 0o600),
    ] {
        for workspace in [None, Some("copy")] {
            let run = start(umask);
            let run = match workspace {
                Some(mode) => run.arg("--workspace").arg(mode),
                None => run,
            };
            // The command always has the same umask.
            let run = run.command(["bash", "-c", "umask"]).run();
            assert_eq!(run.status, Some(0), "{umask}: {run}");
            assert_eq!(run.stdout, "0022\n", "{umask}: {run}");
            assert_eq!(mode(&run.packet), Some(directory), "{umask}: {run}");
            let packet = run.packet.join("packet.json");
            assert_eq!(mode(&packet), Some(file), "{umask}: {run}");
            grades.push(grade(&run));
        }
    }
    assert!(!grades[0].is_empty(), "{grades:?}");
    assert!(grades.iter().all(|other| *other == grades[0]), "{grades:?}");
    assert_eq!(mode(&world.state()), Some(0o755));
}
