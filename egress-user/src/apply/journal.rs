//! The durable list of what is to be applied. While it is there, applying has begun and must be
//! completed; without it, the workspace is as it was.
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::model::Plan;

const PLAN: &str = "plan.json";

/// Writes `plan` below `store`; it is on disk when this returns.
///
/// # Errors
/// Those of the calls; there is no list then.
pub fn write(store: &Path, plan: &Plan) -> io::Result<()> {
    let fresh = store.join("plan.new");
    let mut file = File::create(&fresh)?;
    file.write_all(&serde_json::to_vec(plan)?)?;
    file.sync_all()?;
    fs::rename(&fresh, store.join(PLAN))?;
    File::open(store)?.sync_all()
}

/// The list of a run that was cut off while it applied; none if it had not begun.
///
/// # Errors
/// When it cannot be read.
pub fn read(store: &Path) -> io::Result<Option<Plan>> {
    match fs::read(store.join(PLAN)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::{Kind, Reason};
    use super::super::model::{Change, Outcome, Planned, Step, What};
    use super::super::path::RelPath;
    use super::*;

    #[test]
    fn a_list_comes_back_whole_and_half_of_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        fs::write(dir.path().join("plan.new"), "{\"chan").unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
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
                outcome: Outcome::Refused,
                reason: Some(Reason::Io("no space".into())),
            }],
            steps: vec![Planned {
                of: 0,
                step: Step::Place { path },
            }],
        };
        write(dir.path(), &plan).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(plan));
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
        let mut numbers = crate::mutate::Numbers::new(11);
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
