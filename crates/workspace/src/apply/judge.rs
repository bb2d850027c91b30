//! What of an agent's changes may reach the workspace. Pure: paths and kinds in, a reason out.
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::path::RelPath;
use crate::store;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A device node.
    Device,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A regular file.
    File,
    /// A socket.
    Socket,
    /// A symbolic link.
    Symlink,
}

/// Why a change is not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A host process changed the same thing meanwhile.
    ChangedMeanwhile,
    /// Device node.
    Device,
    /// Named pipe.
    Fifo,
    /// Something in a git directory that is not data of the repository.
    GitDirectory,
    /// A git index with names that lead into a git directory or out of the workspace, or that cannot be read.
    GitIndex,
    /// `.github` at the top.
    Github,
    /// The directory that holds it was not applied.
    HeldBack,
    /// The call failed: its error.
    Io(String),
    /// `HEAD` with `objects` and `refs`: git takes a directory that holds them for a repository.
    LooksLikeGitDirectory,
    /// A directory named `.git`, or a file that points to one, which was not there before.
    NewGitDirectory,
    /// The owner of the workspace may not do it.
    NotPermitted,
    /// Another file system is mounted there.
    OtherFileSystem,
    /// A symbolic link that points outside of the workspace.
    PointsOutside,
    /// The packet directory, what the run keeps from the agent or rests on, or what `--protect` names.
    Protected,
    /// Socket.
    Socket,
    /// Deeper than a program can name it, or than can be read without limit; what is in it is not listed.
    TooDeep,
    /// The run was not one whose changes are applied: `--workspace discard`, or its boundary failed.
    WholeRun,
    /// Permissions of the workspace itself.
    WorkspaceItself,
}

/// Where a directory stands with regard to git.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// In no git directory.
    Plain,
    /// A git directory itself: `.git`, a bare repository, `modules/<name>`, `worktrees/<name>`.
    Git,
    /// `modules` and what leads to the git directories in it.
    Modules,
    /// `worktrees`.
    Worktrees,
    /// `objects`.
    Objects,
    /// `objects/info`.
    ObjectsInfo,
    /// `refs`, `logs`, and below `objects`: files and directories of any name.
    Data,
    /// Everything else in a git directory: nothing is applied.
    Closed,
}

/// Files of a git directory that are data: the allow-list. A list of what is dangerous would have to
/// know commondir, config.worktree, hooks, and whatever the next version of git reads.
const GIT_FILES: [&[u8]; 7] = [
    b"COMMIT_EDITMSG",
    b"FETCH_HEAD",
    b"HEAD",
    b"ORIG_HEAD",
    b"index",
    b"packed-refs",
    b"shallow",
];

/// Names that make a directory a repository in the eyes of git, or tell it what to run there.
pub const GIT_MAKERS: [&[u8]; 6] = [
    b"HEAD",
    b"commondir",
    b"config",
    b"hooks",
    b"objects",
    b"refs",
];

/// Whether a file system may take `name` for `.git`.
pub fn is_git_name(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b".git")
}

/// Whether a directory with entries of these names is a git directory to git
/// (`is_git_directory` in its setup.c).
pub fn is_git_directory(mut has: impl FnMut(&[u8]) -> bool) -> bool {
    has(b"HEAD") && (has(b"commondir") || (has(b"objects") && has(b"refs")))
}

impl Zone {
    /// Judges a change of the entry `name` in a directory of this zone. `merged` is a directory that
    /// was there before and still is the same one.
    ///
    /// # Errors
    /// Why it is not applied.
    pub fn entry(self, name: &[u8], kind: Kind, merged: bool) -> Result<(), Reason> {
        if is_git_name(name) {
            return if merged && self == Self::Plain {
                Ok(())
            } else {
                Err(Reason::NewGitDirectory)
            };
        }
        let allowed = match self {
            Self::Plain => true,
            Self::Git => match name {
                b"objects" | b"refs" | b"logs" => kind == Kind::Directory,
                b"modules" | b"worktrees" => merged,
                _ => {
                    kind == Kind::File && (GIT_FILES.contains(&name) || name.starts_with(b"MERGE_"))
                }
            },
            Self::Modules | Self::Worktrees => merged,
            Self::ObjectsInfo
                if name.eq_ignore_ascii_case(b"alternates")
                    || name.eq_ignore_ascii_case(b"http-alternates") =>
            {
                false
            }
            Self::Objects | Self::ObjectsInfo | Self::Data => {
                matches!(kind, Kind::File | Kind::Directory)
            }
            Self::Closed => false,
        };
        if allowed {
            Ok(())
        } else {
            Err(Reason::GitDirectory)
        }
    }

    /// The zone of the directory `name` in a directory of this zone. `git` says that it is a git
    /// directory in the workspace as the host has it.
    #[must_use]
    pub fn child(self, name: &[u8], git: bool) -> Self {
        match self {
            Self::Plain if git || is_git_name(name) => Self::Git,
            Self::Plain => Self::Plain,
            Self::Git => match name {
                b"objects" => Self::Objects,
                b"refs" | b"logs" => Self::Data,
                b"modules" => Self::Modules,
                b"worktrees" => Self::Worktrees,
                _ => Self::Closed,
            },
            Self::Modules if git => Self::Git,
            Self::Modules => Self::Modules,
            Self::Worktrees => Self::Git,
            Self::Objects if name.eq_ignore_ascii_case(b"info") => Self::ObjectsInfo,
            Self::Objects | Self::ObjectsInfo | Self::Data => Self::Data,
            Self::Closed => Self::Closed,
        }
    }
}

/// Names that a path may have, and its length in bytes. A program makes more with relative calls than any
/// path can name (4,095 bytes); each level holds descriptors of who reads it.
const MOST_LEVELS: usize = 256;
const LONGEST_PATH: usize = 3072;

/// Judges how deep a path is.
///
/// # Errors
/// When it is too deep.
pub fn depth(path: &RelPath) -> Result<(), Reason> {
    if path.0.len() > LONGEST_PATH || path.depth() > MOST_LEVELS {
        Err(Reason::TooDeep)
    } else {
        Ok(())
    }
}

/// Kinds that are never applied.
///
/// # Errors
/// For these.
pub fn kind(kind: Kind) -> Result<(), Reason> {
    match kind {
        Kind::Device => Err(Reason::Device),
        Kind::Fifo => Err(Reason::Fifo),
        Kind::Socket => Err(Reason::Socket),
        Kind::Directory | Kind::File | Kind::Symlink => Ok(()),
    }
}

/// Paths that no change may touch.
#[derive(Debug, Clone, Default)]
pub struct Protected {
    paths: BTreeSet<RelPath>,
}

impl Protected {
    /// `paths` are absolute; those outside of `workspace` need no protection.
    pub fn new<'a>(workspace: &Path, paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let paths = paths
            .into_iter()
            .filter_map(|path| path.strip_prefix(workspace).ok())
            .map(|path| RelPath(path.as_os_str().as_bytes().to_vec()))
            .filter(|path| !path.0.is_empty())
            .collect();
        Self { paths }
    }

    /// Judges a change at `path`. `merged` as for [`Zone::entry`]: what is below it is judged by
    /// itself.
    ///
    /// # Errors
    /// Why it is not applied.
    pub fn check(&self, path: &RelPath, merged: bool) -> Result<(), Reason> {
        let top = path.components().next().unwrap_or_default();
        if top.eq_ignore_ascii_case(b".github") {
            return Err(Reason::Github);
        }
        // The stores of all workspaces in this one, too.
        if path
            .components()
            .any(|name| store::is_name(OsStr::from_bytes(name)))
        {
            return Err(Reason::Protected);
        }
        let hit = path.is_within_any(&self.paths) || (!merged && path.holds_any(&self.paths));
        if hit { Err(Reason::Protected) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath(text.as_bytes().to_vec())
    }

    /// Judges `text` as a new file, through all directories on the way, of which `git` are git
    /// directories already.
    fn judged(text: &str, kind: Kind, git: &[&str]) -> Result<(), Reason> {
        let whole = path(text);
        Protected::default().check(&whole, false)?;
        let (mut zone, mut at) = (Zone::Plain, RelPath::default());
        let names: Vec<&[u8]> = whole.components().collect();
        let (last, dirs) = names.split_last().unwrap();
        for name in dirs {
            zone.entry(name, Kind::Directory, true)?;
            at = at.join(OsStr::from_bytes(name));
            zone = zone.child(name, git.iter().any(|git| path(git) == at));
        }
        zone.entry(last, kind, false)
    }

    #[test]
    fn data_of_a_repository_is_applied() {
        for name in [
            ".git/HEAD",
            ".git/index",
            ".git/objects/ab/cdef",
            ".git/objects/pack/pack-1.pack",
            ".git/objects/info/commit-graphs/graph",
            ".git/refs/heads/topic",
            ".git/logs/refs/heads/topic",
            ".git/packed-refs",
            ".git/MERGE_HEAD",
            ".git/COMMIT_EDITMSG",
            ".git/modules/sub/HEAD",
            ".git/modules/a/b/objects/ab/cd",
            ".git/worktrees/topic/index",
            "src/main.rs",
            ".gitignore",
            ".gitmodules",
            "docs/.github/x",
        ] {
            let git = [".git/modules/sub", ".git/modules/a/b"];
            assert_eq!(judged(name, Kind::File, &git), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_git_would_run_or_follow_is_refused() {
        for name in [
            ".git/config",
            ".git/config.worktree",
            ".git/commondir",
            ".git/hooks/post-checkout",
            ".git/info/attributes",
            ".git/info/exclude",
            ".git/objects/info/alternates",
            ".git/objects/info/Alternates",
            ".git/index.lock",
            ".git/gitdir",
            ".git/something-new",
            ".git/modules/sub/config",
            ".git/modules/sub/hooks/x",
            ".git/modules/new",
            ".git/worktrees/topic/commondir",
            ".git/worktrees/topic/config.worktree",
            ".git/worktrees/topic/gitdir",
            ".git",
            ".GIT",
            "vendor/.git",
            ".git/refs/.git",
            "bare.git/config",
            "bare.git/hooks/x",
            ".github/workflows/x.yml",
            ".GitHub/x",
        ] {
            let git = [".git/modules/sub", "bare.git"];
            assert!(judged(name, Kind::File, &git).is_err(), "{name}");
        }
        for name in [".git/HEAD", ".git/refs/heads/x", ".git/objects"] {
            assert!(judged(name, Kind::Symlink, &[]).is_err(), "{name}");
        }
    }

    #[test]
    fn a_repository_is_told_by_the_names_that_git_looks_for() {
        let has = |names: &'static [&'static str]| {
            is_git_directory(|name| names.iter().any(|other| other.as_bytes() == name))
        };
        assert!(has(&["HEAD", "objects", "refs"]));
        assert!(has(&["HEAD", "commondir"]));
        assert!(!has(&["HEAD", "objects"]));
        assert!(!has(&["objects", "refs", "config"]));
    }

    #[test]
    fn protected_paths_hold_at_below_and_above() {
        let workspace = Path::new("/w");
        let kept = [Path::new("/w/out/packet"), Path::new("/elsewhere")];
        let protected = Protected::new(workspace, kept);
        assert!(protected.check(&path("out/packet"), false).is_err());
        assert!(protected.check(&path("out/packet/x"), false).is_err());
        assert!(protected.check(&path("out"), false).is_err());
        assert_eq!(protected.check(&path("out"), true), Ok(()));
        assert_eq!(protected.check(&path("out/other"), false), Ok(()));
        assert_eq!(protected.check(&path("out/packets"), false), Ok(()));
    }
}
