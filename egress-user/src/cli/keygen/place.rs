//! Where `egress keygen` writes keys, and as which user.
//!
//! Claims: keys-outside
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Name of egress's directory in a configuration directory.
const OWN: &str = "egress";

/// Why a place for a key is not used.
#[derive(Debug, Error)]
pub(super) enum PlaceError {
    /// The caller has no configuration directory.
    #[error("neither XDG_CONFIG_HOME nor HOME names a directory for the keys")]
    NoHome,
    /// The directory cannot be created.
    #[error("cannot create {}", path.display())]
    Create {
        /// Path of the directory.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The place is in a git work tree.
    #[error("{} is in the git work tree {}, where a command could read the private key, and git could commit the key",
            path.display(), tree.display())]
    WorkTree {
        /// The place of the key.
        path: PathBuf,
        /// The top of the work tree.
        tree: PathBuf,
    },
}

/// The caller's key directory.
#[derive(Debug)]
pub(super) struct KeyDir {
    path: PathBuf,
    /// The user who called `sudo`.
    #[cfg(target_os = "linux")]
    owner: Option<(u32, u32)>,
}

impl KeyDir {
    /// Finds the directory in the home of the user who called `sudo`, or in the caller's configuration directory.
    pub(super) fn find() -> Result<Self, PlaceError> {
        #[cfg(target_os = "linux")]
        if let Some((home, owner)) = sudo_caller() {
            let path = home.join(".config").join(OWN);
            return Ok(Self {
                path,
                owner: Some(owner),
            });
        }
        let named = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        let config = named
            .filter(|path| path.is_absolute())
            .or_else(|| Some(std::env::home_dir()?.join(".config")))
            .filter(|path| path.is_absolute())
            .ok_or(PlaceError::NoHome)?;
        Ok(Self {
            path: config.join(OWN),
            #[cfg(target_os = "linux")]
            owner: None,
        })
    }

    /// Creates the directory if it does not exist, and calls `work` with its path. Both steps run as the user who
    /// called `sudo`.
    pub(super) fn with<T: Send>(
        &self,
        work: impl FnOnce(&Path) -> T + Send,
    ) -> Result<T, PlaceError> {
        let path = &self.path;
        let make = || make_private(path).map(|()| work(path));
        #[cfg(target_os = "linux")]
        let made = match self.owner {
            Some((uid, gid)) => {
                egress_sys::identity::acting_as(uid, gid, make).and_then(|made| made)
            }
            None => make(),
        };
        #[cfg(not(target_os = "linux"))]
        let made = make();
        let path = path.clone();
        made.map_err(|source| PlaceError::Create { path, source })
    }
}

/// Creates a directory that only its owner can enter, and the directories above it.
fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Returns the home, the user, and the group of the user who called `sudo`.
#[cfg(target_os = "linux")]
fn sudo_caller() -> Option<(PathBuf, (u32, u32))> {
    use nix::unistd::{Uid, User};
    let uid = std::env::var("SUDO_UID").ok()?.parse().ok()?;
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = User::from_uid(Uid::from_raw(uid)).ok()??;
    Some((user.dir, (uid, user.gid.as_raw())))
}

/// Checks a place that the caller chose. Returns a warning if a run in the current directory would show the place to
/// its command.
pub(super) fn check(out: &Path, in_workspace: bool) -> Result<Option<String>, PlaceError> {
    let parent = out.parent().filter(|path| !path.as_os_str().is_empty());
    // If the directory does not exist, writing the key fails with a better error.
    let Ok(parent) = parent.unwrap_or(Path::new(".")).canonicalize() else {
        return Ok(None);
    };
    let tree = parent
        .ancestors()
        .find(|dir| dir.join(".git").symlink_metadata().is_ok());
    if let (Some(tree), false) = (tree, in_workspace) {
        let (path, tree) = (out.to_path_buf(), tree.to_path_buf());
        return Err(PlaceError::WorkTree { path, tree });
    }
    let current = std::env::current_dir()
        .and_then(|dir| dir.canonicalize())
        .ok();
    let is_inside = current.is_some_and(|dir| dir.parent().is_some() && parent.starts_with(dir));
    Ok((is_inside || tree.is_some()).then(|| {
        format!(
            "{} may become part of a workspace; keep keys where no command works, such as in the directory that \
             `egress keygen` uses without --out",
            out.display()
        )
    }))
}
