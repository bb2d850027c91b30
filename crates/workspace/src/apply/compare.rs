//! Lists the command's changes in a copy of the workspace. None of the changes is applied.
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, fstat};

use super::content::{self, Digests};
use super::copy;
use super::judge::{self, Kind, Reason};
use super::model::{Change, Changes, Plan, What};
use super::path::RelPath;
use super::tree;
use crate::store::{self, COPY, Store};

/// A directory of the copy, with the workspace's directory at the same path.
struct Pair<'a> {
    copy: &'a OwnedFd,
    original: Option<&'a OwnedFd>,
    path: &'a RelPath,
    /// Whether a directory on the path changed. The directory at this path may then be a different
    /// directory that was moved here with its entries.
    may_be_other: bool,
}

struct Compare<'a> {
    /// Entries of the copy that changed after this time were changed by the command.
    copied: (i64, i64),
    /// Entries of the workspace that changed after this time were changed by the host.
    began: (i64, i64),
    /// Files whose content in the copy differs from the workspace by design.
    altered: &'a BTreeSet<RelPath>,
    digests: Digests,
    changes: Changes,
}

/// Compares the copy in `store` with the workspace. `altered` are files that differ in the copy by
/// design, until the command changes them. `set_back` is the largest amount by which the clock was
/// set back during the run. The recorded time of a change may be too early by this much.
///
/// An entry is listed if its `ctime` is later than the end of copying and it differs from the
/// workspace's entry. An entry that is missing from the copy and that the host changed during the
/// run is not listed.
///
/// # Errors
/// Fails if the copy or the workspace cannot be read.
pub fn compare(store: &Store, altered: &BTreeSet<RelPath>, set_back: Duration) -> io::Result<Plan> {
    let mut compare = Compare {
        copied: tree::earlier(copy::ended(store)?, set_back),
        began: tree::earlier(store.about().began, set_back),
        altered,
        digests: Digests::on(store.held())?,
        changes: Changes::default(),
    };
    compare.directory(&Pair {
        copy: &store.dir(COPY)?,
        original: Some(&store.workspace()?),
        path: &RelPath::default(),
        may_be_other: false,
    })?;
    for change in &mut compare.changes.list {
        change.refuse(Reason::WholeRun);
    }
    Ok(Plan {
        changes: compare.changes.list,
        steps: Vec::new(),
        rewritten: Vec::new(),
    })
}

impl Compare<'_> {
    fn directory(&mut self, pair: &Pair<'_>) -> io::Result<()> {
        let names = tree::list(pair.copy)?;
        for name in &names {
            if let Some(stat) = tree::stat(pair.copy, name)? {
                self.entry(pair, name, &stat)?;
            }
        }
        let Some(original) = pair.original else {
            return Ok(());
        };
        let device = fstat(original)?.st_dev;
        for name in tree::list(original)? {
            if names.binary_search(&name).is_ok() || store::is_name(&name) {
                continue;
            }
            let Some(stat) = tree::stat(original, &name)? else {
                continue;
            };
            // Entries of these kinds were not copied. An entry that changed during the run may have
            // appeared during the run.
            let kind = tree::kind(&stat);
            let left_out = matches!(kind, Kind::Device | Kind::Fifo | Kind::Socket)
                || stat.st_dev != device
                || tree::changed_at(&stat) > self.began;
            if !left_out {
                let path = pair.path.join(&name);
                self.changes.push(Change::deleted(path, &stat))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, pair: &Pair<'_>, name: &OsStr, stat: &FileStat) -> io::Result<()> {
        let path = pair.path.join(name);
        let kind = tree::kind(stat);
        let old = match pair.original {
            Some(original) => tree::stat(original, name)?.filter(|old| tree::kind(old) == kind),
            None => None,
        };
        let touched = tree::changed_at(stat) > self.copied;
        let what = old.map_or(What::Created, |_| What::Modified);
        let mut change = Change::of(path.clone(), what, stat);
        if judge::depth(&path).is_err() {
            self.changes.push(change)?;
            return Ok(());
        }
        if kind == Kind::Directory {
            let copy = tree::open_dir(pair.copy, name)?;
            let original = match (old, pair.original) {
                (Some(_), Some(original)) => Some(tree::open_dir(original, name)?),
                _ => None,
            };
            let here = OsStr::new(".");
            let same = match (&old, &original) {
                (Some(old), Some(original)) => {
                    !touched
                        || (mode(stat) == mode(old)
                            && content::user_attributes(&copy, here)?
                                == content::user_attributes(original, here)?)
                }
                _ => false,
            };
            if !same {
                self.changes.push(change)?;
            }
            return self.directory(&Pair {
                copy: &copy,
                original: original.as_ref(),
                path: &path,
                may_be_other: pair.may_be_other || touched,
            });
        }
        if old.is_some() && !touched && (!pair.may_be_other || self.altered.contains(&path)) {
            return Ok(());
        }
        if kind == Kind::File {
            let file = tree::open_file(pair.copy, name)?;
            change.sha256 = self.digests.of(file, stat)?;
        }
        if kind == Kind::Symlink {
            let target = readlinkat(pair.copy, name)?;
            change.target = Some(RelPath(target.as_bytes().to_vec()));
        }
        if let (Some(old), Some(original)) = (&old, pair.original) {
            let same = if kind == Kind::Symlink {
                readlinkat(original, name).ok() == readlinkat(pair.copy, name).ok()
            } else {
                // The copy has no set-user-id and set-group-id bits.
                let mut old = *old;
                old.st_mode &= !0o6000;
                content::is_same(pair.copy, original, name, stat, &old, &change)?
            };
            if same {
                return Ok(());
            }
        }
        self.changes.push(change)?;
        Ok(())
    }
}

fn mode(stat: &FileStat) -> u32 {
    stat.st_mode & 0o1777
}
