//! Creates and removes the run's directory, `/run/egress/<run>`. A run removes its directory at its end, but a killed
//! run leaves it behind.
//!
//! A run is alive as long as its supervisor holds the lock on `/run/egress/<run>/lock`, which the kernel releases when
//! the process ends. A directory gets its name after the lock was taken, and loses its name before anything in it is
//! removed: `.<run>` is a directory that is being created or removed. Names change only under the lock of the whole
//! state, `/run/egress/lock`.
//!
//! `/run` is in memory on most machines, so the evidence in it does not survive a power failure. The packet survives a
//! power failure, because `packet_dir` writes the packet through to the disk.
//!
//! Claims: read-relay-log
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use egress_sandbox::cgroup::{self, RunCgroups};
use egress_sandbox::limits::{Caps, Limits, Places};
use egress_sys::dir::hold;
use egress_workspace::clear::remove_tree;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::{RunError, system};

/// The directory with the state of all runs of a machine.
pub(super) const STATE_DIR: &str = "/run/egress";
/// Name of the supervisor's lock, in a run's directory.
const LOCK: &str = "lock";
/// Name of the file with the path of the run's cgroup, in a run's directory.
const CGROUP: &str = "cgroup";
/// Name of the file with the paths of further cgroups for the run's limits, one per line, in a run's directory.
const LIMITS: &str = "limits";
/// Name of the directory with the evidence of killed runs, in the state directory.
const KEPT: &str = "kept";
/// Files and directories of a killed run that are kept.
const EVIDENCE: [&str; 2] = ["evidence", "flows.jsonl"];
/// Bytes of a run's id. The name of a run has two digits for each byte.
const ID_BYTES: usize = 8;
/// Time for which other processes may lock the whole state.
const LOCKED_AT_MOST: Duration = Duration::from_secs(30);

/// The directory of one run.
#[derive(Debug)]
pub(super) struct RunDir {
    id: String,
    path: PathBuf,
    _alive: Flock<File>,
}

/// The lock on the names in the state directory.
#[derive(Debug)]
#[must_use = "the lock ends with this value"]
pub(super) struct StateLock {
    _lock: Flock<File>,
}

impl StateLock {
    /// Waits for the lock.
    ///
    /// # Errors
    /// Returns `TimedOut` if another process holds the lock for too long.
    pub(super) fn acquire(state: &Path) -> io::Result<Self> {
        let path = state.join(LOCK);
        let mut file = lock_file(&path)?;
        let deadline = Instant::now() + LOCKED_AT_MOST;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Self { _lock: lock }),
                Err((back, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file = back,
                Err((_, Errno::EWOULDBLOCK)) => {
                    let text = format!(
                        "another egress process holds the lock {} for too long",
                        path.display()
                    );
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Err((_, errno)) => return Err(errno.into()),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Returns whether `name` has the form of a run's id.
pub(super) fn is_run_id(name: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.len() == 2 * ID_BYTES && name.bytes().all(is_digit)
}

/// The owner of a run's directory.
#[derive(Debug)]
pub(super) enum Owner {
    /// A running supervisor.
    Alive,
    /// No process. The value holds the lock, so that no other process removes the directory.
    Dead(Flock<File>),
    /// The directory has no lock, so no run of this version created it.
    Unknown,
}

impl Owner {
    /// Tries the lock of the run's directory `path`.
    ///
    /// # Errors
    /// Fails if the lock's file cannot be opened or locked.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let options = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path.join(LOCK));
        let file = match options {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Unknown),
            other => other?,
        };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self::Dead(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(Self::Alive),
            Err((_, errno)) => Err(errno.into()),
        }
    }
}

impl RunDir {
    /// Creates the directory of a new run, and in it the mount point of the file view.
    ///
    /// # Errors
    /// Fails if the state directory cannot be created, or users other than root can write to it.
    pub(super) fn create() -> Result<Self, RunError> {
        let state = Path::new(STATE_DIR);
        Self::create_below(state).map_err(|source| RunError::State {
            path: state.to_path_buf(),
            source,
        })
    }

    fn create_below(state: &Path) -> io::Result<Self> {
        make_dir(state, 0o755)?;
        let id = random_hex::<ID_BYTES>()?;
        let lock = StateLock::acquire(state)?;
        let path = state.join(&id);
        let unnamed = state.join(format!(".{id}"));
        let made: io::Result<_> = (|| {
            DirBuilder::new().mode(0o711).create(&unnamed)?;
            DirBuilder::new()
                .mode(0o700)
                .create(unnamed.join("stage"))?;
            let alive = lock_file(&unnamed.join(LOCK))?;
            let alive = Flock::lock(alive, FlockArg::LockExclusiveNonblock)
                .map_err(|(_, errno)| io::Error::from(errno))?;
            fs::rename(&unnamed, &path)?;
            Ok(alive)
        })();
        if made.is_err() {
            // On a full file system, no file can be created, but files can still be removed.
            drop(fs::remove_dir_all(&unnamed));
        }
        drop(lock);
        Ok(Self {
            id,
            path,
            _alive: made?,
        })
    }

    /// Creates the run's cgroups. The path of the cgroups is noted first, so that the cgroups are found if this process
    /// is killed.
    ///
    /// # Errors
    /// Fails if no cgroup v2 tree is mounted, or it is not writable.
    pub(super) fn make_cgroups(&self) -> Result<RunCgroups, RunError> {
        let place = RunCgroups::place(&self.id).map_err(RunError::Cgroup)?;
        let note = self.path.join(CGROUP);
        let noted = fs::write(&note, place.as_os_str().as_bytes());
        noted.map_err(|source| RunError::State { path: note, source })?;
        let make = || {
            let cgroups = RunCgroups::create(place)?;
            cgroups.run.mark(&owner_mark(Path::new(STATE_DIR))?)?;
            Ok(cgroups)
        };
        make().map_err(RunError::Cgroup)
    }

    /// Sets the command's limits. The cgroups for the limits are noted first.
    ///
    /// # Errors
    /// Fails if a cgroup cannot be created, or the kernel rejects a limit.
    pub(super) fn make_limits(
        &self,
        limits: &Limits,
        cgroups: &RunCgroups,
    ) -> Result<Caps, RunError> {
        let make = || {
            let places = Places::find(cgroups.run.path(), &self.id)?;
            let mut note = Vec::new();
            for path in places.made() {
                note.extend_from_slice(path.as_os_str().as_bytes());
                note.push(b'\n');
            }
            fs::write(self.path.join(LIMITS), note)?;
            places.set(limits, cgroups)
        };
        system("set the command's limits", make())
    }

    /// Moves the evidence to `/run/egress/kept`. Returns `None` if there is no evidence.
    ///
    /// # Errors
    /// Fails if a directory cannot be created, or a file cannot be moved.
    pub(super) fn keep(&self) -> io::Result<Option<PathBuf>> {
        keep(Path::new(STATE_DIR), &self.path, &self.id)
    }

    /// Returns the run's id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Returns the directory's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the mount point on which the file view is built, in the boundary's mount namespace only.
    pub(super) fn stage(&self) -> PathBuf {
        self.path.join("stage")
    }

    /// Creates the mediator's evidence directory.
    ///
    /// # Errors
    /// Fails if the directory cannot be created or given to the user `owner`.
    pub(super) fn make_evidence(&self, owner: u32) -> io::Result<PathBuf> {
        let path = self.evidence();
        DirBuilder::new().mode(0o750).create(&path)?;
        chown(&path, Some(owner), Some(owner))?;
        Ok(path)
    }

    /// Returns the path of the evidence directory.
    pub(super) fn evidence(&self) -> PathBuf {
        self.path.join("evidence")
    }

    /// Creates a log file for the standard error of a process.
    ///
    /// # Errors
    /// Fails if the file cannot be created.
    pub(super) fn log(&self, process: &str) -> io::Result<File> {
        File::create(self.path.join(format!("{process}.log")))
    }

    /// Returns the last lines of a process's log, for an error.
    pub(super) fn log_tail(&self, process: &str) -> String {
        tail(&self.path.join(format!("{process}.log")))
    }
}

/// Returns the last lines of a file, from at most its last 16 KiB.
fn tail(path: &Path) -> String {
    const MOST: u64 = 16 << 10;
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
        let mut text = Vec::new();
        file.take(MOST).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines
        .get(lines.len().saturating_sub(5)..)
        .unwrap_or_default()
        .join("; ")
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // If the cgroup still exists, the directory remains, so that `egress doctor` and the next run find the cgroup
        // and report the paths that could not be removed.
        let cgroup_stays = cgroup_of(&self.path).is_some_and(|path| path.exists());
        if !cgroup_stays && std::env::var_os("EGRESS_KEEP").is_none() {
            let lock = StateLock::acquire(Path::new(STATE_DIR));
            drop(lock.and_then(|_lock| remove(&self.path)));
        }
    }
}

/// Returns a text that distinguishes this state directory from the state directories of other file systems and
/// containers.
///
/// # Errors
/// Fails if the directory does not exist.
pub(super) fn owner_mark(state: &Path) -> io::Result<String> {
    let meta = fs::symlink_metadata(state)?;
    Ok(format!("{}:{}", meta.dev(), meta.ino()))
}

/// Returns the cgroup that a run noted, if the cgroup has the name of the run.
pub(super) fn cgroup_of(run: &Path) -> Option<PathBuf> {
    let text = fs::read(run.join(CGROUP)).ok()?;
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(&text));
    let id = run.file_name()?.to_str()?;
    let is_its = path.is_absolute() && path.file_name()?.to_str()? == cgroup::name(id);
    is_its.then_some(path)
}

/// Removes the cgroups of a run's limits. These cgroups are empty when the run's own cgroup is empty.
///
/// # Errors
/// Fails if the note cannot be read, or a cgroup cannot be removed.
pub(super) fn remove_limits(run: &Path) -> io::Result<()> {
    let text = match fs::read(run.join(LIMITS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let id = run.file_name().unwrap_or_default().to_string_lossy();
    for line in text.split(|byte| *byte == b'\n') {
        let path = Path::new(std::ffi::OsStr::from_bytes(line));
        if path.is_absolute() && path.file_name() == Some(cgroup::name(&id).as_ref()) {
            cgroup::remove_dir(path)?;
        }
    }
    Ok(())
}

/// Removes a run's directory. The directory is renamed first, so that no half-removed directory has the name of a run.
///
/// # Order
/// Call this while the [`StateLock`] is held.
///
/// # Errors
/// Fails if the directory cannot be renamed, or a file cannot be removed.
pub(super) fn remove(run: &Path) -> io::Result<()> {
    let name = run.file_name().unwrap_or_default().to_string_lossy();
    let unnamed = run.with_file_name(format!(".{name}"));
    fs::rename(run, &unnamed)?;
    clear(&unnamed)
}

/// Removes a directory below the state directory. The directory may be very deep, because the mediator can write to it.
///
/// # Errors
/// Fails if a file cannot be removed.
pub(super) fn clear(path: &Path) -> io::Result<()> {
    let no_name = || io::Error::other("it has no name");
    let (parent, name) = path.parent().zip(path.file_name()).ok_or_else(no_name)?;
    remove_tree(&hold(&parent.canonicalize()?)?, name)
}

/// Moves the record of a run to `<state>/kept/<id>`, which only root can read. Returns `None` if there is no record.
///
/// # Errors
/// Fails if a directory cannot be created, or a file cannot be moved.
pub(super) fn keep(state: &Path, run: &Path, id: &str) -> io::Result<Option<PathBuf>> {
    if EVIDENCE.iter().all(|name| is_void(&run.join(name))) {
        return Ok(None);
    }
    let all = state.join(KEPT);
    make_dir(&all, 0o700)?;
    let kept = all.join(id);
    make_dir(&kept, 0o700)?;
    for name in EVIDENCE {
        match fs::rename(run.join(name), kept.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(Some(kept))
}

/// Returns whether a file or a directory is empty or missing.
fn is_void(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => {
            fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
        }
        Ok(meta) => meta.len() == 0,
        Err(_) => true,
    }
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let meta = fs::symlink_metadata(path)?;
            if meta.is_dir() && meta.uid() == 0 && meta.mode() & 0o022 == 0 {
                // An earlier version created the directory with a mode that the caller's umask had reduced.
                if meta.mode() & mode == mode {
                    Ok(())
                } else {
                    fs::set_permissions(path, Permissions::from_mode(mode))
                }
            } else {
                Err(io::Error::other(
                    "it exists, and is not a directory that only root can write to",
                ))
            }
        }
        done => done,
    }
}

/// Returns random hex digits, two for each byte.
///
/// # Errors
/// Fails if the kernel provides no random bytes.
pub(super) fn random_hex<const BYTES: usize>() -> io::Result<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use egress_sys::dir::open_dir;
    use nix::sys::stat::{Mode, mkdirat};

    use super::*;

    #[test]
    fn directory_of_a_run_is_removed_however_deep_it_is() {
        let state = tempfile::tempdir_in("/dev/shm").unwrap();
        let run = state.path().join("run");
        fs::create_dir_all(run.join("evidence")).unwrap();
        let mut at = hold(&run.join("evidence")).unwrap();
        // The tree has more levels than a process can have descriptors or a path can have bytes.
        for _ in 0..30_000 {
            mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            at = open_dir(&at, OsStr::new("d")).unwrap();
        }
        drop(at);
        remove(&run).unwrap();
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    }

    /// Claims: read-relay-log
    #[test]
    fn the_end_of_a_log_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.log");
        let long = "x".repeat(1 << 20);
        fs::write(&path, format!("{long}\none\ntwo\n")).unwrap();
        let shown = tail(&path);
        assert!(shown.ends_with("x; one; two"), "{shown}");
        let kept = shown.matches('x').count();
        assert_eq!(kept, (16 << 10) - "\none\ntwo\n".len());
        assert_eq!(tail(&dir.path().join("none")), "");
    }
}
