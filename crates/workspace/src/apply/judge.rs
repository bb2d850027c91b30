//! The rules that decide which of the command's changes may reach the workspace. This module does not access files, and
//! uses only paths and kinds.
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use egress_policy::configuration::{self, Pattern};
use egress_policy::git_zone::{self, GitRule};
pub use egress_policy::git_zone::{Kind, Zone, is_git_name};

use super::path::RelPath;
use crate::store;

/// Why a change is not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A host process changed the same entry during the run.
    ChangedMeanwhile,
    /// The entry is configuration of an agent or a CI system, other than `.github`, and
    /// `--allow-change` does not name it.
    Configuration,
    /// The entry is a device node.
    Device,
    /// The entry is a named pipe.
    Fifo,
    /// The entry is in a git directory and is not data of the repository.
    GitDirectory,
    /// A git index cannot be parsed, or it contains names that lead into a git directory or out of
    /// the workspace.
    GitIndex,
    /// The entry is `.github` at the top of the workspace, or inside `.github`, and
    /// `--allow-change` does not name it.
    Github,
    /// The change to a directory above or below the entry was not applied.
    HeldBack,
    /// A system call failed with this error.
    Io(String),
    /// The entry is part of a directory that git would mistake for a repository, with `HEAD`,
    /// `objects` and `refs`.
    LooksLikeGitDirectory,
    /// The entry is a new file named `.git`, which points to a git directory, or a new directory
    /// named `.git` that hides a repository of the host.
    NewGitDirectory,
    /// The owner of the workspace lacks the permission.
    NotPermitted,
    /// Another file system is mounted at the path of the entry.
    OtherFileSystem,
    /// A symbolic link points outside of the workspace.
    PointsOutside,
    /// The entry is the packet directory, a file of the run that the command must not change, or a
    /// `--protect` path.
    Protected,
    /// The entry is a socket.
    Socket,
    /// The path of the entry is too long or too deep to be handled. Entries below this path are not
    /// listed.
    TooDeep,
    /// No change of this run is applied, because of `--workspace discard` or `copy`, or because the run's boundary
    /// failed.
    WholeRun,
    /// The change is to the permissions of the workspace itself.
    WorkspaceItself,
}

impl From<GitRule> for Reason {
    fn from(rule: GitRule) -> Self {
        match rule {
            GitRule::GitDirectory => Self::GitDirectory,
            GitRule::NewGitDirectory => Self::NewGitDirectory,
        }
    }
}

/// Names that make a directory a repository for git, or control the programs that git runs there.
pub const GIT_MAKERS: [&[u8]; 6] = [
    b"HEAD",
    b"commondir",
    b"config",
    b"hooks",
    b"objects",
    b"refs",
];

/// Whether git treats a directory with these names as a git directory (`is_git_directory` in its
/// setup.c).
pub fn is_git_directory(mut has: impl FnMut(&[u8]) -> bool) -> bool {
    has(b"HEAD") && (has(b"commondir") || (has(b"objects") && has(b"refs")))
}

/// Judges the depth of a path.
///
/// # Errors
/// Returns [`Reason::TooDeep`] when the path is too long or too deep.
pub fn depth(path: &RelPath) -> Result<(), Reason> {
    if git_zone::is_too_deep(&path.0) {
        Err(Reason::TooDeep)
    } else {
        Ok(())
    }
}

/// Judges the kind of an entry.
///
/// # Errors
/// Returns the reason for devices, named pipes, and sockets, because no such entry is ever applied.
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
    /// Patterns for the configuration of agents and CI systems to which changes are applied.
    allowed: Vec<Pattern>,
}

impl Protected {
    /// Collects absolute `paths`. Paths outside of `workspace` are skipped, because changes cannot
    /// reach them. The configuration of agents and CI systems is protected as well, except what
    /// `allowed` covers.
    pub fn new<'a>(
        workspace: &Path,
        paths: impl IntoIterator<Item = &'a Path>,
        allowed: Vec<Pattern>,
    ) -> Self {
        let paths = paths
            .into_iter()
            .filter_map(|path| path.strip_prefix(workspace).ok())
            .map(|path| RelPath(path.as_os_str().as_bytes().to_vec()))
            .filter(|path| !path.0.is_empty())
            .collect();
        Self { paths, allowed }
    }

    /// Judges a change at `path`. `merged` has the same meaning as in [`Zone::entry`]. The entries
    /// of a merged directory are judged individually.
    ///
    /// # Errors
    /// Returns the reason why the change is not applied.
    pub fn check(&self, path: &RelPath, merged: bool) -> Result<(), Reason> {
        let leads_to_allowed = || self.allowed.iter().any(|one| one.reaches_below(&path.0));
        self.configuration(path)
            .or_else(|reason| (merged && leads_to_allowed()).then_some(()).ok_or(reason))?;
        self.named(path, merged)
    }

    /// Judges a path at which a link ends. Later steps may change it and everything below it.
    ///
    /// # Errors
    /// Returns the reason why the link is not applied.
    pub fn check_end(&self, path: &RelPath) -> Result<(), Reason> {
        self.configuration(path)?;
        self.named(path, true)
    }

    fn configuration(&self, path: &RelPath) -> Result<(), Reason> {
        if !configuration::holds(&path.0) || self.allowed.iter().any(|one| one.covers(&path.0)) {
            return Ok(());
        }
        let top = path.components().next().unwrap_or_default();
        Err(if top.eq_ignore_ascii_case(b".github") {
            Reason::Github
        } else {
            Reason::Configuration
        })
    }

    fn named(&self, path: &RelPath, merged: bool) -> Result<(), Reason> {
        // The check also covers the stores of other workspaces inside this one.
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

    /// Judges `text` as a new file, through all directories on its path. The directories in `git`
    /// are existing git directories.
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
        Ok(zone.entry(last, kind, false)?)
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

    /// Claims: git-directories*, add-change-rule
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

    /// Claims: new-repository
    #[test]
    fn hooks_of_a_new_repository_are_refused() {
        let hooks = Zone::NewGit.child(b"hooks", false);
        assert_eq!(hooks, Zone::NewHooks);
        for name in ["pre-commit", "pre-commit.sample"] {
            let judged = hooks.entry(name.as_bytes(), Kind::File, false);
            assert_eq!(judged, Err(GitRule::GitDirectory), "{name}");
        }
        assert_eq!(hooks.child(b"x", false), Zone::Closed);
        assert_eq!(Zone::Git.child(b"hooks", false), Zone::Closed);
    }

    /// Claims: git-directories
    #[test]
    fn a_repository_is_recognized_by_the_names_that_git_looks_for() {
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
        let protected = Protected::new(workspace, kept, Vec::new());
        assert!(protected.check(&path("out/packet"), false).is_err());
        assert!(protected.check(&path("out/packet/x"), false).is_err());
        assert!(protected.check(&path("out"), false).is_err());
        assert_eq!(protected.check(&path("out"), true), Ok(()));
        assert_eq!(protected.check(&path("out/other"), false), Ok(()));
        assert_eq!(protected.check(&path("out/packets"), false), Ok(()));
    }

    /// Claims: configuration-protected
    #[test]
    fn allowed_configuration_opens_no_more_than_it_names() {
        let allowed = vec![".claude/commands/*.md".parse().unwrap()];
        let protected = Protected::new(Path::new("/w"), [], allowed);
        let refused = Err(Reason::Configuration);
        assert_eq!(
            protected.check(&path(".claude/commands/x.md"), false),
            Ok(())
        );
        assert_eq!(
            protected.check(&path(".claude/settings.json"), false),
            refused
        );
        assert_eq!(
            protected.check(&path(".claude/commands/x.sh"), false),
            refused
        );
        // The directories on the way may be created, but not replaced, and no link may end at them.
        assert_eq!(protected.check(&path(".claude"), true), Ok(()));
        assert_eq!(protected.check(&path(".claude/commands"), true), Ok(()));
        assert_eq!(protected.check(&path(".claude"), false), refused);
        assert_eq!(protected.check_end(&path(".claude/commands")), refused);
        assert_eq!(protected.check_end(&path(".claude/commands/x.md")), Ok(()));
        assert_eq!(protected.check(&path(".github"), true), Err(Reason::Github));
    }
}
