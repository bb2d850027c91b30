//! The rules that decide whether a change in a git directory of the workspace is applied, and the longest path of a
//! change. The rules do not read files.
use serde::{Deserialize, Serialize};

/// The kind of an entry.
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

/// Why a change in a git directory is not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitRule {
    /// The entry is in a git directory and is not data of the repository.
    GitDirectory,
    /// The entry is a new `.git`.
    NewGitDirectory,
}

/// How git uses a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// The directory is outside every git directory.
    Plain,
    /// The directory is a git directory: `.git`, a bare repository, `modules/<name>`,
    /// `worktrees/<name>`.
    Git,
    /// The directory is the `.git` of a repository that the command created. Only settings of its `config` that cannot
    /// run code are applied.
    NewGit,
    /// The directory is `hooks` in the `.git` of a repository that the command created. Changes in this directory are
    /// not applied.
    NewHooks,
    /// The directory is `modules`, or a directory between `modules` and the git directories in
    /// `modules`.
    Modules,
    /// The directory is `worktrees`.
    Worktrees,
    /// The directory is `objects`.
    Objects,
    /// The directory is `objects/info`.
    ObjectsInfo,
    /// The directory is `refs` or `logs`, or is below one of these or below `objects`. Files and directories in it may
    /// have any name.
    Data,
    /// Another directory inside a git directory. Changes in such a directory are not applied.
    Closed,
}

/// The files of a git directory that count as data. The list names what is allowed, because a list of what is denied
/// would also need commondir, config.worktree, hooks, and everything that future versions of git read.
const GIT_FILES: [&[u8]; 7] = [
    b"COMMIT_EDITMSG",
    b"FETCH_HEAD",
    b"HEAD",
    b"ORIG_HEAD",
    b"index",
    b"packed-refs",
    b"shallow",
];

/// Whether a file system may treat `name` as `.git`.
pub fn is_git_name(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b".git")
}

impl Zone {
    /// Judges a change of the entry `name` in a directory of this zone. `merged` is true for a
    /// directory that existed before and is still the same directory.
    ///
    /// # Errors
    /// Returns the reason why the change is not applied.
    pub fn entry(self, name: &[u8], kind: Kind, merged: bool) -> Result<(), GitRule> {
        if is_git_name(name) {
            return if merged && self == Self::Plain {
                Ok(())
            } else {
                Err(GitRule::NewGitDirectory)
            };
        }
        let allowed = match self {
            Self::Plain => true,
            Self::NewGit if name == b"config" => kind == Kind::File,
            Self::Git | Self::NewGit => match name {
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
            Self::Closed | Self::NewHooks => false,
        };
        if allowed {
            Ok(())
        } else {
            Err(GitRule::GitDirectory)
        }
    }

    /// Returns the zone of the directory `name` in a directory of this zone. `git` is true if the
    /// host's workspace has a git directory there.
    #[must_use]
    pub fn child(self, name: &[u8], git: bool) -> Self {
        match self {
            Self::Plain if git || is_git_name(name) => Self::Git,
            Self::Plain => Self::Plain,
            Self::NewGit if name == b"hooks" => Self::NewHooks,
            Self::Git | Self::NewGit => match name {
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
            Self::Closed | Self::NewHooks => Self::Closed,
        }
    }
}

/// The maximum number of names in a path, and the maximum number of bytes. With relative calls, the
/// command can create deeper directories than a path can name (4,095 bytes). Reading each level
/// takes a descriptor.
const MOST_LEVELS: usize = 256;
const LONGEST_PATH: usize = 3072;

/// Whether a path has too many names or bytes.
pub fn is_too_deep(path: &[u8]) -> bool {
    let names = path.split(|byte| *byte == b'/');
    let levels = names.filter(|name| !name.is_empty()).count();
    path.len() > LONGEST_PATH || levels > MOST_LEVELS
}
