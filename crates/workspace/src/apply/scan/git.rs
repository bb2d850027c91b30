//! Detects whether a directory is, or becomes, a git directory, and which new repositories the
//! command may leave.
//!
//! Claims: new-repository
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use super::entry::{UpperDir, UpperEntry};
use crate::apply::git_index::{self, MOST_BYTES};
use crate::apply::judge::{self, GIT_MAKERS, Kind, Reason, Zone};
use crate::apply::layer::{LowerHalf, is_redirected, is_whiteout};
use crate::apply::new_repository::{self, Reduced};
use crate::apply::tree::{self, read_short};

/// Length of an object id in a repository without configuration, in bytes.
const HASH_LENGTH: usize = 20;

/// The end of the names of git's sample hooks. git runs no hook whose name has this end.
const SAMPLE: &[u8] = b".sample";

/// The `description` that `git init` writes.
const DESCRIPTION: &[u8] =
    b"Unnamed repository; edit this file 'description' to name the repository.\n";

/// The maximum length of an `info/exclude` that counts as a template, in bytes. git's own has 240.
const LONGEST_EXCLUDE: u64 = 4096;

/// Whether the command's entries turn this directory into a repository.
pub(super) fn makes_git_directory(
    place: &UpperDir<'_>,
    names: &[std::ffi::OsString],
) -> io::Result<bool> {
    let is_maker = |name: &std::ffi::OsString| GIT_MAKERS.contains(&name.as_bytes());
    if !matches!(place.zone, Zone::Plain | Zone::Data) || !names.iter().any(is_maker) {
        return Ok(false);
    }
    let mut failed = None;
    let is = judge::is_git_directory(|name| {
        let name = OsStr::from_bytes(name);
        let there = (|| -> io::Result<bool> {
            if let Some(stat) = tree::stat(place.upper, name)? {
                return Ok(!is_whiteout(place.upper, name, &stat)?);
            }
            match place.lower {
                Some(lower) => Ok(tree::stat(&lower.dir, name)?.is_some()),
                None => Ok(false),
            }
        })();
        there.unwrap_or_else(|error| {
            failed = Some(error);
            true
        })
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(is),
    }
}

/// Judges the index that the command left in a git directory.
pub(super) fn index(
    place: &UpperDir<'_>,
    entry: &UpperEntry<'_>,
) -> io::Result<Result<(), Reason>> {
    let read = |file| read_short(file, MOST_BYTES);
    let Some(bytes) = read(tree::open_file(place.upper, entry.name)?)? else {
        return Ok(Err(Reason::GitIndex));
    };
    if place.zone == Zone::NewGit {
        let hash = reduced(place)?.map_or(HASH_LENGTH, |reduced| reduced.hash_length);
        return Ok(judged(&bytes, hash));
    }
    // The host's configuration decides. A worktree uses the configuration of its repository.
    let config = place.lower.and_then(|lower| {
        let paths = ["config", "../../config"].map(OsStr::new);
        paths
            .iter()
            .find_map(|path| tree::open_file(&lower.dir, path).ok())
    });
    // If the configuration is missing or too long, the index must have the shorter hashes.
    let config = config.map(read).transpose()?.flatten().unwrap_or_default();
    Ok(judged(&bytes, git_index::hash_length(&config)))
}

fn judged(index: &[u8], hash: usize) -> Result<(), Reason> {
    if git_index::is_plain(index, hash) {
        Ok(())
    } else {
        Err(Reason::GitIndex)
    }
}

/// Reads and reduces the configuration of a new repository. Returns `None` if the configuration is missing, not a
/// regular file, or too long. Such a configuration is not applied.
pub(super) fn reduced(place: &UpperDir<'_>) -> io::Result<Option<Reduced>> {
    let name = OsStr::new("config");
    match tree::stat(place.upper, name)? {
        Some(stat) if tree::kind(&stat) == Kind::File => {}
        Some(_) | None => return Ok(None),
    }
    let file = tree::open_file(place.upper, name)?;
    let bytes = read_short(file, new_repository::MOST_BYTES)?;
    Ok(bytes.map(|bytes| Reduced::of(&bytes)))
}

/// Whether the entry is the `.git` of a repository that the command created and may leave. Other
/// spellings of the name are refused, because git does not make them.
pub(super) fn is_new_repository(place: &UpperDir<'_>, entry: &UpperEntry<'_>) -> bool {
    place.zone == Zone::Plain
        && place.may_have_repository
        && entry.name == ".git"
        && entry.old.is_none()
}

/// Whether the entry is one that `git init` copies from its templates and that has no effect:
/// sample hooks, the text in `description`, the comments in `info/exclude`, or an empty directory.
/// Such an entry of a new repository is neither applied nor listed, because nothing is lost.
pub(super) fn is_template(place: &UpperDir<'_>, entry: &UpperEntry<'_>) -> io::Result<bool> {
    if !matches!(place.zone, Zone::NewGit | Zone::NewHooks) || entry.old.is_some() {
        return Ok(false);
    }
    let name = entry.name.as_bytes();
    match (place.zone, tree::kind(&entry.stat), name) {
        (Zone::NewHooks, Kind::File, _) => Ok(name.ends_with(SAMPLE)),
        (Zone::NewGit, Kind::File, b"description") => {
            let length = DESCRIPTION.len() as u64;
            let file = tree::open_file(place.upper, entry.name)?;
            let text = read_short(file, length)?;
            Ok(text.is_some_and(|text| text == DESCRIPTION))
        }
        (Zone::NewGit, Kind::Directory, b"branches" | b"hooks" | b"info") => {
            // A directory that had another name also contains entries that are not in the upper layer.
            if is_redirected(place.upper, entry.name)? {
                return Ok(false);
            }
            let dir = tree::open_dir(place.upper, entry.name)?;
            for below in tree::list(&dir)? {
                if !is_template_in(name, &dir, &below)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Whether `name` is a template in the directory `parent` of a git directory.
fn is_template_in(parent: &[u8], dir: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let is_file = tree::stat(dir, name)?.is_some_and(|stat| tree::kind(&stat) == Kind::File);
    match (parent, name.as_bytes()) {
        (b"hooks", name) => Ok(is_file && name.ends_with(SAMPLE)),
        (b"info", b"exclude") if is_file => {
            let is_comment = |line: &[u8]| line.is_empty() || line.starts_with(b"#");
            let text = read_short(tree::open_file(dir, name)?, LONGEST_EXCLUDE)?;
            Ok(text.is_some_and(|text| text.split(|byte| *byte == b'\n').all(is_comment)))
        }
        _ => Ok(false),
    }
}

/// Whether a new repository may be in the directory `entry` of `place`: the host does not have the
/// directory, or has it outside of every repository.
pub(super) fn may_have_repository(
    place: &UpperDir<'_>,
    entry: &UpperEntry<'_>,
    lower: Option<&LowerHalf>,
) -> io::Result<bool> {
    let host = place
        .lower
        .map(|lower| tree::stat(&lower.dir, entry.name))
        .transpose()?;
    match (host, lower) {
        // The host has no entry of this name, whatever the command did with its own entries.
        (Some(None), _) => Ok(true),
        (None | Some(Some(_)), None) => Ok(place.may_have_repository),
        (None | Some(Some(_)), Some(lower)) => {
            Ok(place.may_have_repository && !has_repository(&lower.dir)?)
        }
    }
}

/// Whether a directory of the workspace is a work tree or a git directory.
pub(super) fn has_repository(dir: &OwnedFd) -> io::Result<bool> {
    let has_git = tree::list(dir)?
        .iter()
        .any(|name| judge::is_git_name(name.as_bytes()));
    Ok(has_git || looks_like_git(dir)?)
}

/// Whether a directory of the workspace already is a git directory.
pub(super) fn looks_like_git(dir: &OwnedFd) -> io::Result<bool> {
    let mut failed = None;
    let is = judge::is_git_directory(|name| {
        tree::stat(dir, OsStr::from_bytes(name))
            .unwrap_or_else(|error| {
                failed = Some(error);
                None
            })
            .is_some()
    });
    failed.map_or(Ok(is), Err)
}
