//! Finds directories that the command moved. Judges which entries may leave a place or appear at
//! one.
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::readlinkat;
use nix::sys::stat::FileStat;

use super::entry::{Move, Scan, UpperDir, UpperEntry};
use crate::apply::judge::{self, Kind, Reason, Zone};
use crate::apply::layer::{LowerHalf, Origin, Relation, origin, relate};
use crate::apply::path::RelPath;
use crate::apply::tree::{self, Identity};

impl Scan<'_> {
    /// Finds the moved directories and judges whether they may leave their place.
    pub(super) fn find_moves(&mut self, upper: &OwnedFd, lower: &LowerHalf) -> io::Result<()> {
        self.find_moves_in(upper, &RelPath::default(), Some(lower))?;
        // The parent of a directory that cannot move cannot move either.
        let stuck: Vec<RelPath> = self
            .moves
            .iter()
            .filter(|(_, moved)| moved.verdict.is_err())
            .map(|(from, _)| from.clone())
            .collect();
        for mut path in stuck {
            while !path.0.is_empty() {
                path = path.split().0;
                if let Some(moved) = self.moves.get_mut(&path)
                    && moved.verdict.is_ok()
                {
                    moved.verdict = Err(Reason::HeldBack);
                }
            }
        }
        Ok(())
    }

    fn find_moves_in(
        &mut self,
        upper: &OwnedFd,
        path: &RelPath,
        lower: Option<&LowerHalf>,
    ) -> io::Result<()> {
        for name in tree::list(upper)? {
            let Some(stat) = tree::stat(upper, &name)? else {
                continue;
            };
            if tree::kind(&stat) != Kind::Directory {
                continue;
            }
            let path = path.join(&name);
            if judge::depth(&path).is_err() {
                continue;
            }
            let inner = match relate(upper, &name, self.root, lower)? {
                Relation::Alone => None,
                Relation::Over(lower) => Some(lower),
                Relation::Redirected { from, dir } => {
                    let verdict = self.may_move(&from, dir.as_ref(), &path)?;
                    let slot = self.slot();
                    let moved = Move {
                        slot,
                        verdict,
                        placed: false,
                    };
                    self.moves.insert(from.clone(), moved);
                    dir.map(|dir| LowerHalf { dir, path: from })
                }
            };
            self.find_moves_in(&tree::open_dir(upper, &name)?, &path, inner.as_ref())?;
        }
        Ok(())
    }

    fn may_move(
        &self,
        from: &RelPath,
        dir: Option<&OwnedFd>,
        to: &RelPath,
    ) -> io::Result<Result<Identity, Reason>> {
        let Some(dir) = dir else {
            return Ok(Err(Reason::ChangedMeanwhile));
        };
        if self.impossible.contains(from) {
            return Ok(Err(Reason::HeldBack));
        }
        if from
            .components()
            .chain(to.components())
            .any(judge::is_git_name)
        {
            return Ok(Err(Reason::GitDirectory));
        }
        for path in [from, to] {
            if let Err(reason) = self.rules.protected.check(path, false) {
                return Ok(Err(reason));
            }
        }
        if let Err(reason) = self.may_leave(dir, from, Zone::Plain, Some(to))? {
            return Ok(Err(reason));
        }
        Ok(Ok(Identity::of(&nix::sys::stat::fstat(dir)?)))
    }

    /// Whether everything below a directory of the workspace may be taken away. With `to`, the
    /// directory must also be allowed to move to `to`.
    pub(super) fn may_leave(
        &self,
        dir: &OwnedFd,
        path: &RelPath,
        zone: Zone,
        to: Option<&RelPath>,
    ) -> io::Result<Result<(), Reason>> {
        let device = nix::sys::stat::fstat(dir)?.st_dev;
        for name in tree::list(dir)? {
            let Some(stat) = tree::stat(dir, &name)? else {
                continue;
            };
            let kind = tree::kind(&stat);
            let path = path.join(&name);
            let to = to.map(|to| to.join(&name));
            if let Err(reason) = [Some(&path), to.as_ref()]
                .into_iter()
                .flatten()
                .try_for_each(judge::depth)
            {
                return Ok(Err(reason));
            }
            if stat.st_dev != device {
                return Ok(Err(Reason::OtherFileSystem));
            }
            if self
                .moves
                .get(&path)
                .is_some_and(|moved| moved.verdict.is_err())
            {
                return Ok(Err(Reason::HeldBack));
            }
            if tree::changed_at(&stat) > self.rules.began {
                return Ok(Err(Reason::ChangedMeanwhile));
            }
            let judged = self
                .rules
                .protected
                .check(&path, false)
                .and_then(|()| Ok(zone.entry(name.as_bytes(), kind, false)?));
            if judged.is_err() {
                return Ok(judged);
            }
            if let Some(to) = &to {
                let now = self.rules.protected.check(to, false);
                if now.is_err() {
                    return Ok(now);
                }
                if kind == Kind::Symlink {
                    let target = readlinkat(dir, name.as_os_str())?;
                    let target = target.as_bytes();
                    let there = self.ways.judge(to, target)?;
                    // A link of the host may lead anywhere, and an absolute path leads to the same
                    // place after the move.
                    let same =
                        target.first() == Some(&b'/') && there == self.ways.judge(&path, target)?;
                    if there.is_err() && !same {
                        return Ok(there);
                    }
                }
            }
            if kind == Kind::Directory {
                let zone = zone.child(name.as_bytes(), false);
                let inner = tree::open_dir(dir, &name)?;
                let judged = self.may_leave(&inner, &path, zone, to.as_ref())?;
                if judged.is_err() {
                    return Ok(judged);
                }
            }
        }
        Ok(Ok(()))
    }

    /// Whether an entry may be placed where the workspace has none. An entry may not appear if the
    /// command changed a copy of the entry and the host has since removed or changed the original.
    /// If the command only renamed the entry, the original in the lower layer is unchanged.
    pub(super) fn may_appear(
        &self,
        place: &UpperDir<'_>,
        entry: &UpperEntry<'_>,
    ) -> io::Result<Result<(), Reason>> {
        if entry.old.is_some() {
            return Ok(Ok(()));
        }
        Ok(match origin(place.upper, entry.name, self.root)? {
            Origin::Gone => Err(Reason::ChangedMeanwhile),
            Origin::There(stat) if tree::changed_at(&stat) > self.rules.began => {
                Err(Reason::ChangedMeanwhile)
            }
            Origin::There(_) | Origin::Unknown => Ok(()),
        })
    }

    /// Whether the workspace's entry at this path may be taken away.
    pub(super) fn may_replace(
        &self,
        place: &UpperDir<'_>,
        entry: &UpperEntry<'_>,
        old: &FileStat,
    ) -> io::Result<Result<(), Reason>> {
        if tree::kind(old) != Kind::Directory {
            return Ok(if tree::changed_at(old) > self.rules.began {
                Err(Reason::ChangedMeanwhile)
            } else {
                Ok(())
            });
        }
        let Some(lower) = place.lower else {
            return Ok(Ok(()));
        };
        let name = entry.name.as_bytes();
        if let Err(rule) = place.zone.entry(name, Kind::Directory, false) {
            return Ok(Err(rule.into()));
        }
        let dir = tree::open_dir(&lower.dir, entry.name)?;
        let path = lower.path.join(entry.name);
        self.may_leave(&dir, &path, place.zone.child(name, false), None)
    }
}
