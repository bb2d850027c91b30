//! Support for tests of the workspace in which changes are stored separately while the command runs.
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::run::{Run, RunOutput};
use crate::world::World;

/// Returns a run whose changes are applied at its end.
pub fn apply(world: &World) -> Run<'_> {
    world.egress().allow(&[]).arg("--workspace").arg("apply")
}

/// Fails unless the command printed `DONE` at its end, and the run left nothing beside its workspace.
///
/// # Panics
/// Panics if the command did not run to its end, or something was left.
#[track_caller]
pub fn assert_ran(run: &RunOutput) {
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stdout.ends_with("DONE\n"), "{run}");
    assert_eq!(stores(&run.workdir), Vec::<PathBuf>::new(), "{run}");
}

/// Lists the directories with changes beside the workspace.
///
/// # Panics
/// Panics if the directories cannot be listed.
pub fn stores(workdir: &Path) -> Vec<PathBuf> {
    fs::read_dir(workdir.parent().expect("a parent"))
        .expect("read a workspace")
        .map(|entry| entry.expect("read an entry").path())
        .filter(|path| {
            path.file_name()
                .expect("read a workspace")
                .as_bytes()
                .starts_with(b".egress-")
        })
        .collect()
}

/// Returns all changes that the packet lists.
///
/// # Panics
/// Panics if the packet does not list changes.
pub fn changes(run: &RunOutput) -> Vec<Value> {
    let document = run.json("changes.json");
    let changes = document.get("changes").and_then(Value::as_array);
    changes.expect("a list of changes").clone()
}

/// Returns the outcome and the reason of the change at `path`.
///
/// # Panics
/// Panics if there is no such change.
#[track_caller]
pub fn outcome(run: &RunOutput, path: &str) -> (String, String) {
    let all = changes(run);
    let change = all
        .iter()
        .find(|change| change.get("path").and_then(Value::as_str) == Some(path))
        .unwrap_or_else(|| panic!("no change at {path}: {all:#?}\n{run}"));
    let text = |name: &str| {
        let text = change.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    (text("outcome"), text("reason"))
}

/// Fails unless the change at `path` was refused for `reason`.
///
/// # Panics
/// Panics if the change is missing or has another outcome or reason.
#[track_caller]
pub fn assert_refused(run: &RunOutput, path: &str, reason: &str) {
    let refused = (String::from("refused"), reason.to_owned());
    assert_eq!(outcome(run, path), refused, "{path}: {run}");
}

/// One file or directory: path, mode, owner, and content or link target.
pub type Listed = (Vec<u8>, u32, u32, Vec<u8>);

/// Lists all files and directories below `dir`.
///
/// # Panics
/// Panics if a file or a directory cannot be read.
pub fn listing(dir: &Path) -> Vec<Listed> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).expect("read a workspace") {
            let path = entry.expect("read an entry").path();
            let meta = fs::symlink_metadata(&path).expect("read a workspace");
            let content = if meta.is_dir() {
                open.push(path.clone());
                Vec::new()
            } else if meta.is_symlink() {
                fs::read_link(&path)
                    .expect("read a workspace")
                    .as_os_str()
                    .as_bytes()
                    .to_vec()
            } else {
                fs::read(&path).expect("read a workspace")
            };
            let name = path
                .strip_prefix(dir)
                .expect("read a workspace")
                .as_os_str()
                .as_bytes();
            found.push((name.to_vec(), meta.mode(), meta.uid(), content));
        }
    }
    found.sort();
    found
}

/// Waits until the command of a run in `workdir` has created `name`. Until the end of the run, only root can read the
/// file, which is in the directory with the changes. Returns the directory with the changes.
///
/// # Panics
/// Panics if the file does not appear in time.
#[track_caller]
pub fn wait_for_change(workdir: &Path, name: &str) -> PathBuf {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(store) = stores(workdir).first()
            && store.join("upper").join(name).exists()
        {
            return store.clone();
        }
        assert!(Instant::now() < deadline, "{name} never came");
        thread::sleep(Duration::from_millis(5));
    }
}
