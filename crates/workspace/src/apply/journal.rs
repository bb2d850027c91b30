//! The durable plan of the changes to apply. If the plan exists, applying has started and must be
//! completed. If it does not exist, the workspace is unchanged.
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::fsync;

use super::model::Plan;
use super::tree;

const PLAN: &str = "plan.json";
const FRESH: &str = "plan.new";

/// Writes `plan` below `store`. The plan is on disk when this function returns.
///
/// # Errors
/// Returns the error of the failed system call. After an error, no plan exists.
pub fn write(store: &OwnedFd, plan: &Plan) -> io::Result<()> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(store, FRESH, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    file.write_all(&serde_json::to_vec(plan)?)?;
    file.sync_all()?;
    renameat(store, FRESH, store, PLAN)?;
    Ok(fsync(store)?)
}

/// Reads the plan of a run that was killed while it applied changes. Returns `None` if applying had
/// not started.
///
/// # Errors
/// Fails if the plan cannot be read or parsed.
pub fn read(store: &OwnedFd) -> io::Result<Option<Plan>> {
    let mut text = Vec::new();
    match tree::open_file(store, OsStr::new(PLAN)) {
        Ok(mut file) => file.read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(serde_json::from_slice(&text)?))
}

#[cfg(test)]
mod tests {
    use nix::fcntl::AT_FDCWD;

    use super::super::judge::{Kind, Reason};
    use super::super::model::{Change, ChangeOutcome, Planned, Step, What};
    use super::super::path::RelPath;
    use super::*;

    /// Claims: changes-listed
    #[test]
    fn a_list_comes_back_whole_and_half_of_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = tree::open_dir(&AT_FDCWD, dir.path().as_os_str()).unwrap();
        assert_eq!(read(&store).unwrap(), None);
        std::fs::write(dir.path().join(FRESH), "{\"chan").unwrap();
        assert_eq!(read(&store).unwrap(), None);
        std::fs::remove_file(dir.path().join(FRESH)).unwrap();
        let path = RelPath(vec![b'a', 0xff, b'\n']);
        let plan = Plan {
            changes: vec![Change {
                path: path.clone(),
                change: What::Created,
                kind: Kind::File,
                from: None,
                mode: Some("0644".into()),
                size: Some(1),
                sha256: None,
                target: None,
                setid_dropped: false,
                reduced: false,
                outcome: ChangeOutcome::Refused,
                reason: Some(Reason::Io("no space".into())),
            }],
            steps: vec![Planned {
                of: 0,
                step: Step::Place { path },
            }],
            rewritten: Vec::new(),
        };
        write(&store, &plan).unwrap();
        assert_eq!(read(&store).unwrap(), Some(plan));
    }

    #[test]
    fn a_list_that_was_spoilt_is_an_error_or_another_list() {
        let sound = br#"{"changes":[{"path":"a\\xff","change":"created","kind":"file","outcome":"applied"}],"steps":[{"of":0,"step":{"place":{"path":"a"}}}]}"#;
        let words: [&[u8]; 6] = [
            b"../../etc",
            b"\\x",
            b"[[[[",
            b"18446744073709551616",
            b"\"of\":7,",
            b"\0",
        ];
        let mut numbers = egress_test_support::mutate::Numbers::new(11);
        let mut read_back = 0;
        for _ in 0..20_000 {
            let bytes = numbers.mutated(&[sound], &words);
            if let Ok(plan) = serde_json::from_slice::<Plan>(&bytes) {
                let text = serde_json::to_vec(&plan).unwrap();
                assert_eq!(serde_json::from_slice::<Plan>(&text).unwrap(), plan);
                read_back += 1;
            }
        }
        assert!(read_back > 50, "{read_back}");
    }
}
