//! The run's own directory, `/run/egress/<run>`: removed at the end, kept by a run that is killed.
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

use super::error::RunError;

/// Where all runs of a machine keep their state.
pub const STATE_DIR: &str = "/run/egress";

/// The directory of one run.
#[derive(Debug)]
pub struct RunDir {
    id: String,
    path: PathBuf,
}

impl RunDir {
    /// Makes `<state>/<id>` with the stage's mount point in it.
    ///
    /// # Errors
    /// When the state directory cannot be made or is not root's.
    pub fn create(id: &str) -> Result<Self, RunError> {
        let state = Path::new(STATE_DIR);
        let made = make_dir(state, 0o755).and_then(|()| {
            let path = state.join(id);
            DirBuilder::new().mode(0o711).create(&path)?;
            DirBuilder::new().mode(0o700).create(path.join("stage"))?;
            Ok(path)
        });
        let path = made.map_err(|source| RunError::State {
            path: state.join(id),
            source,
        })?;
        Ok(Self {
            id: id.to_owned(),
            path,
        })
    }

    /// The run's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Mount point of the view under construction, in the boundary's mount namespace only.
    pub fn stage(&self) -> PathBuf {
        self.path.join("stage")
    }

    /// The mediator's evidence directory, made for its user.
    ///
    /// # Errors
    /// Those of `mkdir(2)` and `chown(2)`.
    pub fn make_evidence(&self, owner: u32) -> io::Result<PathBuf> {
        let path = self.evidence();
        DirBuilder::new().mode(0o750).create(&path)?;
        chown(&path, Some(owner), Some(owner))?;
        Ok(path)
    }

    /// Where the evidence is.
    pub fn evidence(&self) -> PathBuf {
        self.path.join("evidence")
    }

    /// A log file for a helper's standard error.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn log(&self, process: &str) -> io::Result<File> {
        File::create(self.path.join(format!("{process}.log")))
    }

    /// The last lines of a helper's log, for a message.
    pub fn log_tail(&self, process: &str) -> String {
        let text = fs::read(self.path.join(format!("{process}.log"))).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(5)..)
            .unwrap_or_default()
            .join("; ")
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // `egress doctor` reports what could not be removed.
        if std::env::var_os("EGRESS_KEEP").is_none() {
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            use std::os::unix::fs::MetadataExt;
            let meta = fs::symlink_metadata(path)?;
            if meta.is_dir() && meta.uid() == 0 && meta.mode() & 0o022 == 0 {
                Ok(())
            } else {
                Err(io::Error::other(
                    "it exists and is not a directory that only root can write",
                ))
            }
        }
        done => done,
    }
}

/// Random hex digits, two for each byte.
///
/// # Errors
/// When the kernel has no randomness, which leaves nothing safe to do.
pub fn random_hex<const BYTES: usize>() -> io::Result<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(hex::encode(bytes))
}
