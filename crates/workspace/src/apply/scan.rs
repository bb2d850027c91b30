//! Reads the overlay's upper layer and judges each change, without writing to either layer.
//!
//! Claims: read-changes
mod entry;
mod git;
mod moves;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::readlinkat;
use nix::sys::stat::FileStat;

use super::content::{self, Digests};
use super::judge::{self, GIT_MAKERS, Kind, Reason, Zone};
use super::layer::{LowerHalf, Relation, is_whiteout, relate};
use super::model::{Change, Changes, Plan, Planned, Step, What};
use super::path::RelPath;
use super::tree::{self, Identity};
use super::way::Ways;
pub use entry::Rules;
use entry::{Scan, UpperDir, UpperEntry};
use git::{looks_like_git, makes_git_directory};

/// The permission bits of a file whose content was replaced.
pub const REWRITTEN_MODE: u32 = 0o644;

/// The maximum number of passes over the changes. Another pass follows when a directory cannot move
/// after all, because that may keep other directories in place. After so many passes, no directory
/// moves.
const MOST_PASSES: usize = 8;

/// Judges everything in `upper`, the upper layer over `root`, the workspace.
///
/// # Errors
/// Fails if a directory cannot be read. After an error, no change may be applied.
pub fn scan(upper: &OwnedFd, root: &OwnedFd, rules: &Rules<'_>) -> io::Result<Plan> {
    let ways = Ways::of(rules.workspace, rules.protected, upper, root)?;
    let mut impossible = BTreeSet::new();
    for pass in 1.. {
        let mut scan = Scan {
            rules,
            root,
            ways: &ways,
            moves: BTreeMap::new(),
            impossible: &impossible,
            slots: 0,
            digests: Digests::on(upper)?,
            changes: Changes::default(),
            moved_out: Vec::new(),
            steps: Vec::new(),
            rewritten: Vec::new(),
        };
        let lower = || -> io::Result<LowerHalf> {
            Ok(LowerHalf {
                dir: tree::open_dir(root, OsStr::new("."))?,
                path: RelPath::default(),
            })
        };
        scan.find_moves(upper, &lower()?)?;
        scan.workspace_itself(upper)?;
        let zone = Zone::Plain.child(b"", looks_like_git(root)?);
        let place = UpperDir {
            upper,
            path: &RelPath::default(),
            lower: Some(&lower()?),
            zone,
            may_have_repository: !rules.is_in_repository && !git::has_repository(root)?,
            held: None,
        };
        scan.directory(&place)?;
        // If the new place of a directory was refused, the directory and its parents stay where
        // they were.
        let failed: Vec<RelPath> = scan
            .moves
            .iter()
            .filter(|(_, moved)| moved.verdict.is_ok() && !moved.placed)
            .map(|(from, _)| from.clone())
            .collect();
        if failed.is_empty() {
            return Ok(scan.into_plan());
        }
        if pass < MOST_PASSES {
            impossible.extend(failed);
        } else {
            impossible.extend(scan.moves.into_keys());
        }
    }
    Err(io::Error::other(
        "cannot find a consistent set of directory moves after repeated checks",
    ))
}

impl Scan<'_> {
    /// Reports changed permissions of the workspace itself. Only the caller may change these
    /// permissions.
    fn workspace_itself(&mut self, upper: &OwnedFd) -> io::Result<()> {
        let is = nix::sys::stat::fstat(upper)?;
        let was = nix::sys::stat::fstat(self.root)?;
        if is.st_mode != was.st_mode && tree::changed_at(&was) <= self.rules.began {
            let mut change = Change::of(RelPath::default(), What::Modified, &is);
            change.refuse(Reason::WorkspaceItself);
            self.changes.push(change)?;
        }
        Ok(())
    }

    fn directory(&mut self, place: &UpperDir<'_>) -> io::Result<()> {
        let names = tree::list(place.upper)?;
        let makers = makes_git_directory(place, &names)?;
        for name in &names {
            let Some(stat) = tree::stat(place.upper, name)? else {
                continue;
            };
            let old = match place.lower {
                Some(lower) => tree::stat(&lower.dir, name)?,
                None => None,
            };
            let gone = place.lower.is_some_and(|lower| {
                self.moves
                    .get(&lower.path.join(name))
                    .is_some_and(|moved| moved.verdict.is_ok())
            });
            let mut held = place.held.cloned();
            if held.is_none() && makers && GIT_MAKERS.contains(&name.as_bytes()) {
                held = Some(Reason::LooksLikeGitDirectory);
            }
            let entry = UpperEntry {
                name,
                path: place.path.join(name),
                stat,
                old: old.filter(|_| !gone),
                held,
            };
            let gone = is_whiteout(place.upper, name, &stat)?;
            if !gone && git::is_template(place, &entry)? {
                continue;
            }
            if let Err(reason) = judge::depth(&entry.path) {
                let what = if gone { What::Deleted } else { What::Created };
                let mut change = Change::of(entry.path, what, &stat);
                change.refuse(reason);
                self.changes.push(change)?;
            } else if gone {
                self.whiteout(place, &entry)?;
            } else if tree::kind(&stat) == Kind::Directory {
                self.subdirectory(place, &entry)?;
            } else {
                self.file(place, &entry)?;
            }
        }
        Ok(())
    }

    fn whiteout(&mut self, place: &UpperDir<'_>, entry: &UpperEntry<'_>) -> io::Result<()> {
        let Some(old) = &entry.old else {
            return Ok(());
        };
        let kind = tree::kind(old);
        let mut change = Change::deleted(entry.path.clone(), old);
        let judged = match &entry.held {
            Some(held) => Err(held.clone()),
            None => self
                .rules
                .protected
                .check(&entry.path, false)
                .and_then(|()| Ok(place.zone.entry(entry.name.as_bytes(), kind, false)?)),
        };
        let judged = match judged {
            Ok(()) => self.may_replace(place, entry, old)?,
            refused @ Err(_) => refused,
        };
        match judged {
            Ok(()) => {
                let step = self.take_out(&entry.path, old);
                self.push(change, [step])?;
            }
            Err(reason) => {
                change.refuse(reason);
                self.changes.push(change)?;
            }
        }
        Ok(())
    }

    fn subdirectory(&mut self, place: &UpperDir<'_>, entry: &UpperEntry<'_>) -> io::Result<()> {
        let upper = tree::open_dir(place.upper, entry.name)?;
        let name = entry.name.as_bytes();
        let relation = relate(place.upper, entry.name, self.root, place.lower)?;
        let (lower, held) = match relation {
            Relation::Over(lower) if entry.old.is_some() => {
                let judged = self.judge(place, entry, Kind::Directory, true).err();
                let held = entry.held.clone().or(judged);
                self.merged(place, entry, &lower, held.as_ref())?;
                (Some(lower), held)
            }
            Relation::Over(_) | Relation::Alone => (None, self.made(place, entry)?),
            Relation::Redirected { from, dir } => {
                let held = self.moved(place, entry, &from)?;
                (dir.map(|dir| LowerHalf { dir, path: from }), held)
            }
        };
        let git = match &lower {
            Some(lower) => looks_like_git(&lower.dir)?,
            None => false,
        };
        let zone = if git::is_new_repository(place, entry) {
            Zone::NewGit
        } else {
            place.zone.child(name, git)
        };
        self.directory(&UpperDir {
            upper: &upper,
            path: &entry.path,
            lower: lower.as_ref(),
            zone,
            may_have_repository: git::may_have_repository(place, entry, lower.as_ref())?,
            held: held.as_ref(),
        })
    }

    /// Judges the permissions and attributes of a directory that existed before.
    fn merged(
        &mut self,
        place: &UpperDir<'_>,
        entry: &UpperEntry<'_>,
        lower: &LowerHalf,
        held: Option<&Reason>,
    ) -> io::Result<()> {
        let Some(old) = &entry.old else {
            return Ok(());
        };
        let same = entry.stat.st_mode == old.st_mode
            && content::user_attributes(place.upper, entry.name)?
                == content::user_attributes(&lower.dir, OsStr::new("."))?;
        if same {
            return Ok(());
        }
        let mut change = Change::of(entry.path.clone(), What::Modified, &entry.stat);
        // Creating and deleting entries also changes a directory's ctime, so the ctime does not
        // show whether the host changed the directory itself.
        let meanwhile = tree::changed_at(old) > self.rules.began;
        let reason = held
            .cloned()
            .or(meanwhile.then_some(Reason::ChangedMeanwhile));
        let Some(reason) = reason else {
            let step = finish(entry);
            self.push(change, [step])?;
            return Ok(());
        };
        change.refuse(reason);
        self.changes.push(change)?;
        Ok(())
    }

    /// Judges a new directory. Returns the reason if no entry in the directory may be applied.
    fn made(&mut self, place: &UpperDir<'_>, entry: &UpperEntry<'_>) -> io::Result<Option<Reason>> {
        let mut change = Change::of(entry.path.clone(), What::Created, &entry.stat);
        let judged = match self.judge_place(place, entry, Kind::Directory)? {
            Ok(()) => self.may_appear(place, entry)?,
            refused @ Err(_) => refused,
        };
        match judged {
            Ok(()) => {
                let out = entry.old.map(|old| self.take_out(&entry.path, &old));
                let path = entry.path.clone();
                let steps = [Step::MakeDirectory { path }, finish(entry)];
                self.push(change, out.into_iter().chain(steps))?;
                Ok(None)
            }
            Err(reason) => {
                change.refuse(reason.clone());
                self.changes.push(change)?;
                Ok(Some(if reason == Reason::NewGitDirectory {
                    reason
                } else {
                    Reason::HeldBack
                }))
            }
        }
    }

    /// Judges a renamed directory. Returns the reason if no entry in the directory may be applied.
    fn moved(
        &mut self,
        place: &UpperDir<'_>,
        entry: &UpperEntry<'_>,
        from: &RelPath,
    ) -> io::Result<Option<Reason>> {
        let mut change = Change::of(entry.path.clone(), What::Moved, &entry.stat);
        change.from = Some(from.clone());
        let judged = match self.moves.get(from).map(|moved| moved.verdict.clone()) {
            Some(Ok(identity)) => self
                .judge_place(place, entry, Kind::Directory)?
                .map(|()| identity),
            Some(Err(reason)) => Err(reason),
            None => Err(Reason::HeldBack),
        };
        match judged {
            Ok(identity) => {
                let out = entry.old.map(|old| self.take_out(&entry.path, &old));
                let slot = match self.moves.get_mut(from) {
                    Some(moved) => {
                        moved.placed = true;
                        moved.slot
                    }
                    None => 0,
                };
                let of = self.changes.list.len();
                let step = Step::TakeOut {
                    path: from.clone(),
                    slot,
                    identity,
                };
                self.moved_out.push(Planned { of, step });
                let put = Step::PutBack {
                    slot,
                    from: from.clone(),
                    path: entry.path.clone(),
                };
                self.push(change, out.into_iter().chain([put, finish(entry)]))?;
                Ok(None)
            }
            Err(reason) => {
                change.refuse(reason);
                self.changes.push(change)?;
                Ok(Some(Reason::HeldBack))
            }
        }
    }

    fn file(&mut self, place: &UpperDir<'_>, entry: &UpperEntry<'_>) -> io::Result<()> {
        let kind = tree::kind(&entry.stat);
        let what = if entry.old.is_some() {
            What::Modified
        } else {
            What::Created
        };
        let mut change = Change::of(entry.path.clone(), what, &entry.stat);
        if kind == Kind::File {
            let file = tree::open_file(place.upper, entry.name)?;
            change.sha256 = self.digests.of(file, &entry.stat)?;
            change.setid_dropped = entry.stat.st_mode & 0o6000 != 0;
        }
        if kind == Kind::Symlink {
            let target = readlinkat(place.upper, entry.name)?;
            change.target = Some(RelPath(target.as_bytes().to_vec()));
        }
        if let (Some(old), Some(lower)) = (&entry.old, place.lower)
            && content::is_same(
                place.upper,
                &lower.dir,
                entry.name,
                &entry.stat,
                old,
                &change,
            )?
        {
            return Ok(());
        }
        let mut judged = self.judge_place(place, entry, kind)?;
        if let (Ok(()), Some(target)) = (&judged, &change.target) {
            judged = self.ways.judge(&entry.path, &target.0)?;
        }
        if judged.is_ok() && matches!(place.zone, Zone::Git | Zone::NewGit) && entry.name == "index"
        {
            judged = git::index(place, entry)?;
        }
        if judged.is_ok() {
            judged = self.may_appear(place, entry)?;
        }
        if judged.is_ok() && place.zone == Zone::NewGit && entry.name == "config" {
            match git::reduced(place)? {
                Some(reduced) => self.rewrite(&mut change, reduced.text)?,
                None => judged = Err(Reason::GitDirectory),
            }
        }
        if let Err(reason) = judged {
            change.refuse(reason);
            self.changes.push(change)?;
            return Ok(());
        }
        let path = entry.path.clone();
        match &entry.old {
            Some(old) if tree::kind(old) != Kind::Directory => {
                let step = Step::Exchange {
                    path,
                    fresh: entry.stat.st_ino,
                    identity: Identity::of(old),
                };
                self.push(change, [step])?;
            }
            Some(old) => {
                let out = self.take_out(&entry.path, old);
                self.push(change, [out, Step::Place { path }])?;
            }
            None => self.push(change, [Step::Place { path }])?,
        }
        Ok(())
    }

    /// Judges an entry, and the entry that the new one would replace.
    fn judge_place(
        &self,
        place: &UpperDir<'_>,
        entry: &UpperEntry<'_>,
        kind: Kind,
    ) -> io::Result<Result<(), Reason>> {
        if let Some(held) = &entry.held {
            return Ok(Err(held.clone()));
        }
        let judged = self
            .judge(place, entry, kind, false)
            .and_then(|()| self.ways.check(&entry.path));
        match (&judged, &entry.old) {
            (Ok(()), Some(old)) => self.may_replace(place, entry, old),
            _ => Ok(judged),
        }
    }

    fn judge(
        &self,
        place: &UpperDir<'_>,
        entry: &UpperEntry<'_>,
        kind: Kind,
        merged: bool,
    ) -> Result<(), Reason> {
        judge::kind(kind)?;
        // A new directory at a free place does not remove protected entries below it.
        let harmless = merged || (kind == Kind::Directory && entry.old.is_none());
        self.rules.protected.check(&entry.path, harmless)?;
        if kind == Kind::Directory && git::is_new_repository(place, entry) {
            return Ok(());
        }
        Ok(place.zone.entry(entry.name.as_bytes(), kind, merged)?)
    }

    /// Replaces the content of a changed file with `text`.
    fn rewrite(&mut self, change: &mut Change, text: String) -> io::Result<()> {
        change.reduced = true;
        change.size = u64::try_from(text.len()).ok();
        change.sha256 = Some(content::sha256(text.as_bytes())?);
        change.mode = Some(format!("{REWRITTEN_MODE:04o}"));
        change.setid_dropped = false;
        self.rewritten.push((change.path.clone(), text));
        Ok(())
    }

    fn take_out(&mut self, path: &RelPath, old: &FileStat) -> Step {
        Step::TakeOut {
            path: path.clone(),
            slot: self.slot(),
            identity: Identity::of(old),
        }
    }

    fn slot(&mut self) -> u64 {
        self.slots += 1;
        self.slots
    }

    fn push(&mut self, change: Change, steps: impl IntoIterator<Item = Step>) -> io::Result<()> {
        let of = self.changes.list.len();
        self.changes.push(change)?;
        self.steps
            .extend(steps.into_iter().map(|step| Planned { of, step }));
        Ok(())
    }

    /// Builds the plan. Directories that move are taken out first, inner ones before outer ones, so
    /// that their former paths are still valid.
    fn into_plan(mut self) -> Plan {
        self.moved_out
            .sort_by_key(|planned| Reverse(planned.step.path().depth()));
        self.moved_out.append(&mut self.steps);
        Plan {
            changes: self.changes.list,
            steps: self.moved_out,
            rewritten: self.rewritten,
        }
    }
}

fn finish(entry: &UpperEntry<'_>) -> Step {
    Step::FinishDirectory {
        path: entry.path.clone(),
        mode: entry.stat.st_mode & 0o1777,
        modified: (entry.stat.st_mtime, entry.stat.st_mtime_nsec),
    }
}
