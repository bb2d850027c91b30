//! Detects whether a directory is, or becomes, a git directory.
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use super::entry::{UpperDir, UpperEntry};
use crate::apply::git_index::{self, MOST_BYTES};
use crate::apply::judge::{self, GIT_MAKERS, Reason, Zone};
use crate::apply::layer::is_whiteout;
use crate::apply::tree;

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
    let read = |file: File| -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read(tree::open_file(place.upper, entry.name)?)?;
    // The host's configuration counts. A worktree uses the configuration of its repository.
    let config = place.lower.and_then(|lower| {
        let paths = ["config", "../../config"].map(OsStr::new);
        paths
            .iter()
            .find_map(|path| tree::open_file(&lower.dir, path).ok())
    });
    let config = config.map(read).transpose()?.unwrap_or_default();
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= MOST_BYTES);
    let plain = fits && git_index::is_plain(&bytes, git_index::hash_length(&config));
    Ok(if plain { Ok(()) } else { Err(Reason::GitIndex) })
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
