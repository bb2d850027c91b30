//! Finds the files in which widely used tools keep credentials, and private keys of egress.
//!
//! An earlier run may have written everything in the workspace. The search therefore has limits, and follows a link only
//! into the tree in which it found the link.
//!
//! Claims: credential-files, own-keys, read-credentials
use std::ffi::OsString;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::git_directory::resolved;
use super::git_files::{Files, Treatment};
use super::known_files::{begin_with, matches};
use super::reach::Reach;

/// Lengths of files that may be a private key of egress. The text of a key has 117 bytes, with room for other line
/// breaks.
const KEY_LENGTHS: RangeInclusive<u64> = 116..=128;
/// The maximum number of files whose length is read.
const MOST_MEASURED: usize = 50_000;
/// The maximum number of directories that are listed for a `*` in a known path, and of names in one of them.
const MOST_LISTED: usize = 200;
/// The directory in which homes usually are, and the maximum number of homes in it that are searched.
const HOMES: (&str, usize) = ("/home", 100);
/// The home of root.
const ROOT_HOME: &str = "/root";

/// Returns the homes of the machine: the caller's, root's, and those in `/home`, up to a limit.
///
/// # Errors
/// Fails if `/home` cannot be listed.
pub fn homes(reach: &Reach, caller: Option<&Path>) -> io::Result<Vec<PathBuf>> {
    let (dir, most) = HOMES;
    let mut homes: Vec<PathBuf> = caller.map(Path::to_path_buf).into_iter().collect();
    homes.extend(resolved(Path::new(ROOT_HOME)));
    if let Some(dir) = resolved(Path::new(dir)) {
        let names = reach.list(&dir, most)?;
        homes.extend(
            names
                .into_iter()
                .filter_map(|(name, _)| resolved(&dir.join(name))),
        );
    }
    homes.sort_unstable();
    homes.dedup();
    homes.retain(|home| home.parent().is_some());
    Ok(homes)
}

/// The remaining limits of the search.
#[derive(Debug)]
pub struct KnownSearch {
    measured: usize,
    listed: usize,
    /// Whether a limit was reached.
    pub cut_short: bool,
}

impl KnownSearch {
    /// Starts a search.
    pub fn new() -> Self {
        Self {
            measured: MOST_MEASURED,
            listed: MOST_LISTED,
            cut_short: false,
        }
    }

    /// Adds to `files` the known files and the keys of `dir`, which contains `names`. A link must lead below `bound`, if
    /// there is one.
    ///
    /// # Errors
    /// Fails if a directory cannot be listed, or if a file cannot be inspected.
    pub fn directory(
        &mut self,
        reach: &Reach,
        files: &mut Files,
        (dir, names): (&Path, &[(OsString, bool)]),
        bound: Option<&Path>,
    ) -> io::Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        for (name, _) in names {
            for (rest, content) in begin_with(name) {
                for path in self.below(reach, dir.join(name), rest)? {
                    let is_bound =
                        |path: &PathBuf| bound.is_none_or(|bound| path.starts_with(bound));
                    if let Some(path) = resolved(&path).filter(is_bound) {
                        files.add(&path, Treatment::Known(content));
                    }
                }
            }
        }
        let mut single = names
            .iter()
            .filter(|(_, is_dir)| !is_dir)
            .map(|(name, _)| name);
        let most = self.measured;
        for (name, meta) in reach.inspect(dir, single.by_ref().take(most))? {
            self.measured -= 1;
            if u64::try_from(meta.st_size).is_ok_and(|size| KEY_LENGTHS.contains(&size)) {
                files.add(&dir.join(name), Treatment::Key);
            }
        }
        self.cut_short |= single.next().is_some();
        Ok(())
    }

    /// Returns the paths that the rest of a known path stands for, below `at`.
    fn below(&mut self, reach: &Reach, at: PathBuf, rest: &str) -> io::Result<Vec<PathBuf>> {
        let mut paths = vec![at];
        for pattern in rest.split('/').filter(|pattern| !pattern.is_empty()) {
            if !pattern.contains('*') {
                for path in &mut paths {
                    path.push(pattern);
                }
                continue;
            }
            let mut next = Vec::new();
            for path in paths {
                let Some(path) = resolved(&path) else {
                    continue;
                };
                if self.listed == 0 {
                    self.cut_short = true;
                    continue;
                }
                let names = reach.list(&path, MOST_LISTED)?;
                self.listed -= usize::from(!names.is_empty());
                self.cut_short |= names.len() == MOST_LISTED;
                let found = names.into_iter().filter(|(name, _)| matches(pattern, name));
                next.extend(found.map(|(name, _)| path.join(name)));
            }
            paths = next;
        }
        Ok(paths)
    }
}

impl Default for KnownSearch {
    fn default() -> Self {
        Self::new()
    }
}
