//! Applies the accepted changes to the workspace, with the rights of the workspace's owner.
//!
//! Files are moved by renames within one mount, so content, holes, attributes, and hard links stay as the command made
//! them, and no file is ever half-written. Names are looked up without following links. After each rename, the replaced
//! entry is checked again, and an entry that is not the judged one is put back.
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;

use egress_sys::rename::{RenameFlags, rename};
use egress_sys::{entry_xattr as xattr, identity};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};

use super::content;
use super::judge::{Kind, Reason};
use super::layer::OWN_ATTRIBUTES;
use super::model::{ChangeOutcome, Plan, Step};
use super::path::RelPath;
use super::tree::{self, Identity};
use crate::store::{About, MOVED, Store, UPPER};

/// The directories on which the steps operate.
struct Places {
    upper: OwnedFd,
    moved: OwnedFd,
    root: OwnedFd,
    /// The directory that was opened last on each side. Consecutive steps are usually in the same
    /// directory.
    last: [Option<(RelPath, OwnedFd)>; 2],
    /// The entries that each change has taken out of the workspace so far, with their paths.
    taken: BTreeMap<usize, Vec<(u64, RelPath)>>,
    /// Entries that could not be put back.
    stranded: Vec<RelPath>,
}

#[derive(Clone, Copy)]
enum Side {
    Upper,
    Workspace,
}

/// Executes all steps of `plan`. If a step fails, the change that the step belongs to and all changes below the same
/// path are not applied. The other steps are still executed.
///
/// # Errors
/// Fails if the directories cannot be used at all, or if an entry that was taken out of the
/// workspace could not be put back. The store must then stay.
pub fn commit(store: &Store, plan: &mut Plan) -> io::Result<()> {
    let mut places = Places {
        upper: store.dir(UPPER)?,
        moved: store.dir(MOVED)?,
        root: store.workspace()?,
        last: [None, None],
        taken: BTreeMap::new(),
        stranded: Vec::new(),
    };
    let about = store.about();
    prepare(&mut places, about, plan)?;
    places.last = [None, None];
    identity::acting_as(about.uid, about.gid, || take_all(&mut places, plan))?;
    match places.stranded.first() {
        None => Ok(()),
        Some(path) => Err(io::Error::other(format!(
            "cannot put {} back into the workspace; it is kept in {}",
            path.text(),
            store.path().join(MOVED).display()
        ))),
    }
}

/// Gives the command's files to the workspace's owner, and removes set-user-id and set-group-id bits and POSIX ACLs.
/// This is done in the upper layer, which only root can enter.
///
/// The overlay copies up a hard-linked file of the host when the command writes to it, and this
/// breaks the link.
fn prepare(places: &mut Places, about: &About, plan: &Plan) -> io::Result<()> {
    let (owner, group) = (Uid::from_raw(about.uid), Gid::from_raw(about.gid));
    for dir in [&places.upper, &places.moved] {
        fchown(dir, Some(owner), Some(group))?;
        fchmod(dir, Mode::S_IRWXU)?;
    }
    let mut seen = BTreeSet::new();
    for planned in &plan.steps {
        let (path, moves) = match &planned.step {
            Step::Place { path } | Step::Exchange { path, .. } => (path, true),
            Step::FinishDirectory { path, .. } => (path, false),
            Step::TakeOut { .. } | Step::PutBack { .. } | Step::MakeDirectory { .. } => continue,
        };
        let (parent, name) = path.split();
        open_to_owner(
            places,
            if moves { &parent } else { path },
            &mut seen,
            owner,
            group,
        )?;
        if !moves {
            continue;
        }
        let dir = places.dir(Side::Upper, &parent)?;
        let Some(stat) = tree::stat(dir, name)? else {
            continue;
        };
        if matches!(planned.step, Step::Exchange { fresh, .. } if fresh != stat.st_ino) {
            continue;
        }
        let exchanged = |id: u32, new: u32| if id == about.agent { new } else { id };
        fchownat(
            dir,
            name,
            Some(Uid::from_raw(exchanged(stat.st_uid, about.uid))),
            Some(Gid::from_raw(exchanged(stat.st_gid, about.gid))),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )?;
        for attribute in xattr::names(dir, name)? {
            let text = attribute.to_bytes();
            if text.starts_with(OWN_ATTRIBUTES) || text.starts_with(b"system.posix_acl_") {
                xattr::remove(dir, name, &attribute)?;
            }
        }
        if tree::kind(&stat) == Kind::File && stat.st_mode & 0o6000 != 0 {
            let mode = Mode::from_bits_truncate(stat.st_mode & 0o777);
            fchmodat(dir, name, mode, FchmodatFlags::FollowSymlink)?;
        }
    }
    Ok(())
}

/// Lets the owner enter a directory of the upper layer and all its parents.
fn open_to_owner(
    places: &Places,
    path: &RelPath,
    seen: &mut BTreeSet<RelPath>,
    owner: Uid,
    group: Gid,
) -> io::Result<()> {
    let mut at = RelPath::default();
    for name in path.components() {
        use std::os::unix::ffi::OsStrExt;
        at = at.join(OsStr::from_bytes(name));
        if seen.insert(at.clone()) {
            let dir = tree::beneath(&places.upper, &at, OFlag::O_RDONLY)?;
            fchown(&dir, Some(owner), Some(group))?;
            fchmod(&dir, Mode::S_IRWXU)?;
        }
    }
    Ok(())
}

fn take_all(places: &mut Places, plan: &mut Plan) {
    let mut failed = BTreeSet::new();
    let finishing = |step: &Step| matches!(step, Step::FinishDirectory { .. });
    // Permissions and times of directories are set last, after all changes in the directories.
    let last = plan.steps.iter().rev().filter(|p| finishing(&p.step));
    let order = plan.steps.iter().map(|p| (p, false));
    for (planned, finish) in order.chain(last.map(|p| (p, true))) {
        let Some(change) = plan.changes.get_mut(planned.of) else {
            continue;
        };
        if change.outcome != ChangeOutcome::Applied {
            continue;
        }
        let path = planned.step.path();
        if path.is_within_any(&failed) || change.path.is_within_any(&failed) {
            change.refuse(Reason::HeldBack);
            places.undo(planned.of);
            continue;
        }
        let done = if finishing(&planned.step) && !finish {
            places.open_for_owner(path)
        } else {
            places.take(&planned.step)
        };
        if let Err(reason) = done {
            if change.kind == Kind::Directory {
                failed.insert(change.path.clone());
            }
            change.refuse(reason);
            places.undo(planned.of);
        } else if let Step::TakeOut { path, slot, .. } = &planned.step {
            let taken = places.taken.entry(planned.of).or_default();
            taken.push((*slot, path.clone()));
        }
    }
}

impl Places {
    /// Opens the directory at `path` on one side, or returns the directory that was opened last.
    fn dir(&mut self, side: Side, path: &RelPath) -> io::Result<&OwnedFd> {
        let (root, flags) = match side {
            Side::Upper => (&self.upper, OFlag::O_RDONLY),
            Side::Workspace => (&self.root, OFlag::O_PATH),
        };
        let [upper, workspace] = &mut self.last;
        let last = match side {
            Side::Upper => upper,
            Side::Workspace => workspace,
        };
        if last.as_ref().is_none_or(|(at, _)| at != path) {
            *last = Some((path.clone(), tree::beneath(root, path, flags)?));
        }
        match last {
            Some((_, dir)) => Ok(dir),
            None => Err(io::Error::other("no directory is open")),
        }
    }

    /// Opens the parent directory of `path` under a new descriptor, and returns it with the last
    /// name.
    fn parent(&mut self, side: Side, path: &RelPath) -> Result<(OwnedFd, OsString), Reason> {
        let (parent, name) = path.split();
        let dir = self
            .dir(side, &parent)
            .and_then(OwnedFd::try_clone)
            .map_err(|error| reason(&error))?;
        Ok((dir, name.to_os_string()))
    }

    /// Puts back the entries that a change has taken out, because the change is not applied.
    fn undo(&mut self, of: usize) {
        self.last = [None, None];
        for (slot, path) in self.taken.remove(&of).unwrap_or_default().into_iter().rev() {
            let slot = OsString::from(slot.to_string());
            if matches!(stat_entry(&self.moved, &slot), Ok(None)) {
                continue;
            }
            let back = self.parent(Side::Workspace, &path).and_then(|(dir, name)| {
                rename_new(&self.moved, &slot, &dir, &name).map_err(|errno| reason(&errno.into()))
            });
            if back.is_err() {
                self.stranded.push(path);
            }
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), Reason> {
        match step {
            Step::TakeOut {
                path,
                slot,
                identity,
            } => self.take_out(path, *slot, *identity),
            Step::PutBack { slot, path, .. } => self.put_back(*slot, path),
            Step::MakeDirectory { path } => self.make_directory(path),
            Step::FinishDirectory {
                path,
                mode,
                modified,
            } => self
                .finish(path, *mode, *modified)
                .map_err(|error| reason(&error)),
            Step::Place { path } => self.place(path),
            Step::Exchange {
                path,
                fresh,
                identity,
            } => self.exchange(path, *fresh, *identity),
        }
    }

    fn take_out(&mut self, path: &RelPath, slot: u64, identity: Identity) -> Result<(), Reason> {
        let slot = OsString::from(slot.to_string());
        if stat_entry(&self.moved, &slot)?.is_some() {
            return Ok(());
        }
        let (dir, name) = self.parent(Side::Workspace, path)?;
        self.last = [None, None];
        let mut done = rename_new(&dir, &name, &self.moved, &slot);
        if matches!(done, Err(Errno::EACCES | Errno::EPERM)) {
            // A directory that its owner has no permission to write to cannot be moved to another parent.
            let mode = Mode::S_IRWXU;
            let opened = fchmodat(&dir, name.as_os_str(), mode, FchmodatFlags::NoFollowSymlink);
            opened.map_err(|errno| reason(&errno.into()))?;
            done = rename_new(&dir, &name, &self.moved, &slot);
        }
        match done {
            Ok(()) => {}
            // The entry is already absent, as intended.
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(reason(&errno.into())),
        }
        let is = stat_entry(&self.moved, &slot)?.map(|stat| Identity::of(&stat));
        if is == Some(identity) {
            return Ok(());
        }
        if rename_new(&self.moved, &slot, &dir, &name).is_err() {
            self.stranded.push(path.clone());
        }
        Err(Reason::ChangedMeanwhile)
    }

    fn put_back(&mut self, slot: u64, path: &RelPath) -> Result<(), Reason> {
        let slot = OsString::from(slot.to_string());
        let (dir, name) = self.parent(Side::Workspace, path)?;
        if stat_entry(&self.moved, &slot)?.is_none() {
            return match stat_entry(&dir, &name)? {
                Some(_) => Ok(()),
                None => Err(Reason::ChangedMeanwhile),
            };
        }
        rename_new(&self.moved, &slot, &dir, &name).map_err(|errno| reason(&errno.into()))
    }

    fn make_directory(&mut self, path: &RelPath) -> Result<(), Reason> {
        let (dir, name) = self.parent(Side::Workspace, path)?;
        match mkdirat(&dir, name.as_os_str(), Mode::S_IRWXU) {
            Ok(()) => Ok(()),
            Err(Errno::EEXIST) => match stat_entry(&dir, &name)? {
                Some(stat) if tree::kind(&stat) == Kind::Directory => Ok(()),
                Some(_) | None => Err(Reason::ChangedMeanwhile),
            },
            Err(errno) => Err(reason(&errno.into())),
        }
    }

    /// Lets the owner write to a directory while its entries are applied.
    fn open_for_owner(&mut self, path: &RelPath) -> Result<(), Reason> {
        let (dir, name) = self.parent(Side::Workspace, path)?;
        let Some(stat) = stat_entry(&dir, &name)? else {
            return Err(Reason::ChangedMeanwhile);
        };
        if stat.st_mode & 0o700 == 0o700 {
            return Ok(());
        }
        let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777 | 0o700);
        fchmodat(&dir, name.as_os_str(), mode, FchmodatFlags::NoFollowSymlink)
            .map_err(|errno| reason(&errno.into()))
    }

    fn finish(&mut self, path: &RelPath, mode: u32, modified: (i64, i64)) -> io::Result<()> {
        let here = OsStr::new(".");
        let to = tree::beneath(&self.root, path, OFlag::O_RDONLY)?;
        let from = tree::beneath(&self.upper, path, OFlag::O_RDONLY)?;
        let wanted = content::user_attributes(&from, here)?;
        for attribute in content::user_attributes(&to, here)?.keys() {
            if !wanted.contains_key(attribute) {
                xattr::remove(&to, here, attribute)?;
            }
        }
        for (attribute, value) in &wanted {
            xattr::set(&to, here, attribute, value)?;
        }
        // A directory created in a setgid directory also has the bit, and keeps it.
        let set_gid = nix::sys::stat::fstat(&to)?.st_mode & 0o2000;
        fchmod(&to, Mode::from_bits_truncate(mode | set_gid))?;
        let (seconds, nanoseconds) = modified;
        futimens(
            &to,
            &TimeSpec::UTIME_OMIT,
            &TimeSpec::new(seconds, nanoseconds),
        )?;
        Ok(())
    }

    fn place(&mut self, path: &RelPath) -> Result<(), Reason> {
        let (from, name) = self.parent(Side::Upper, path)?;
        if stat_entry(&from, &name)?.is_none() {
            return Ok(());
        }
        let (to, _) = self.parent(Side::Workspace, path)?;
        rename_new(&from, &name, &to, &name).map_err(|errno| reason(&errno.into()))
    }

    fn exchange(&mut self, path: &RelPath, fresh: u64, identity: Identity) -> Result<(), Reason> {
        let (from, name) = self.parent(Side::Upper, path)?;
        if stat_entry(&from, &name)?.is_none_or(|stat| stat.st_ino != fresh) {
            return Ok(());
        }
        let (to, _) = self.parent(Side::Workspace, path)?;
        let swap = || {
            let name = name.as_os_str();
            rename(&from, name, &to, name, RenameFlags::EXCHANGE)
                .map_err(|errno| reason(&errno.into()))
        };
        swap()?;
        let was = stat_entry(&from, &name)?.map(|stat| Identity::of(&stat));
        if was == Some(identity) {
            return Ok(());
        }
        swap()?;
        Err(Reason::ChangedMeanwhile)
    }
}

/// Renames without replacing an existing entry.
fn rename_new(from: &OwnedFd, name: &OsStr, to: &OwnedFd, new: &OsStr) -> nix::Result<()> {
    rename(from, name, to, new, RenameFlags::NOREPLACE)
}

fn stat_entry(dir: &OwnedFd, name: &OsStr) -> Result<Option<nix::sys::stat::FileStat>, Reason> {
    tree::stat(dir, name).map_err(|error| reason(&error))
}

/// Returns the reason to record for a change when a system call failed with `error`.
fn reason(error: &io::Error) -> Reason {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => Reason::NotPermitted,
        Some(Errno::EEXIST | Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
            Reason::ChangedMeanwhile
        }
        Some(Errno::EXDEV) => Reason::OtherFileSystem,
        Some(_) | None => Reason::Io(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Claims: changes-put-back*
    #[test]
    fn what_is_not_the_judged_entry_is_put_back() {
        let place = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            fs::create_dir(place.path().join(name)).unwrap();
            OwnedFd::from(fs::File::open(place.path().join(name)).unwrap())
        };
        let mut places = Places {
            upper: open("upper"),
            moved: open("moved"),
            root: open("root"),
            last: [None, None],
            taken: BTreeMap::new(),
            stranded: Vec::new(),
        };
        let file = |name: &str| place.path().join(name);
        let read = |name: &str| fs::read_to_string(file(name)).unwrap();
        fs::write(file("upper/f"), "command").unwrap();
        fs::write(file("root/f"), "judged").unwrap();
        let stat = |dir: &OwnedFd| stat_entry(dir, OsStr::new("f")).unwrap().unwrap();
        let (fresh, judged) = (
            stat(&places.upper).st_ino,
            Identity::of(&stat(&places.root)),
        );
        let path = RelPath(b"f".to_vec());
        // The host writes the file after it was judged.
        fs::write(file("root/f"), "written by the host").unwrap();
        let changed = Err(Reason::ChangedMeanwhile);
        assert_eq!(places.exchange(&path, fresh, judged), changed);
        assert_eq!(places.take_out(&path, 1, judged), changed);
        assert_eq!(read("root/f"), "written by the host");
        assert_eq!(read("upper/f"), "command");
        assert!(places.stranded.is_empty());
        // The control: the judged entry is exchanged.
        let judged = Identity::of(&stat(&places.root));
        assert_eq!(places.exchange(&path, fresh, judged), Ok(()));
        assert_eq!(read("root/f"), "command");
    }
}
