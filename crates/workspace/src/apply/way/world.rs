//! The possible meanings of a path: its entry in the host's workspace, and its entry in the file
//! view.
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, fstat};

use crate::apply::judge::{self, Kind, Reason, is_git_name};
use crate::apply::layer::{LowerHalf, Relation, is_redirected, is_whiteout, relate};
use crate::apply::path::RelPath;
use crate::apply::tree;

/// The maximum memory for cached paths, in bytes. A full cache is emptied. The limit is needed
/// because the command can create the longest possible paths and lead links through any number of
/// them.
const MOST_CACHED: usize = 64 << 20;
/// The maximum memory for the paths of all links and directories below a directory, in bytes.
const LONGEST_PATHS: usize = 512 << 20;

/// Both layers of the file view.
#[derive(Debug)]
pub(super) struct LayeredTree<'a> {
    upper: &'a OwnedFd,
    root: &'a OwnedFd,
    cache: RefCell<Cache>,
}

/// Entries that were already looked up, by path.
#[derive(Debug, Default)]
struct Cache {
    nodes: BTreeMap<RelPath, Rc<Node>>,
    bytes: usize,
}

/// The entries at a path without links, in the workspace and in the file view.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Whether the file view has a directory of the upper layer there.
    upper: bool,
    /// The place of the directory's lower half in the workspace.
    lower: Option<RelPath>,
    /// Whether the path may be a directory.
    pub(super) directory: bool,
    /// Whether the path may be something other than a link.
    pub(super) plain: Plain,
    /// Why no link may lead to the path: it may be a git directory or inside one, or it is on
    /// another file system.
    pub(super) closed: Option<Reason>,
    pub(super) links: Vec<Link>,
}

/// Whether a path may be something other than a link.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    /// The path is a link, both in the workspace and in the file view.
    No,
    /// The path may be something other than a link.
    #[default]
    Yes,
    /// The file view has a directory where the workspace has a link.
    Replaced,
}

/// A possible link at a path.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) target: Vec<u8>,
    /// Whether the workspace lacks the same link at this path.
    pub(super) new: bool,
}

impl<'a> LayeredTree<'a> {
    /// Returns the file view of `root`, with the changes in `upper`.
    pub(super) fn new(upper: &'a OwnedFd, root: &'a OwnedFd) -> Self {
        Self {
            upper,
            root,
            cache: RefCell::default(),
        }
    }

    /// Bytes of the cached paths.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        let cache = self.cache.borrow();
        cache.nodes.keys().map(|path| path.0.len()).sum()
    }

    /// Whether the workspace has a link at `path`.
    ///
    /// # Errors
    /// Fails if the directory cannot be read.
    pub(super) fn was_link(&self, path: &RelPath) -> io::Result<bool> {
        let (parent, name) = path.split();
        match HeldEntry::of(self.root, &parent, name) {
            Err(error) if error.raw_os_error() == Some(libc::EXDEV) => Ok(false),
            entry => Ok(entry?.is_some_and(|entry| tree::kind(&entry.stat) == Kind::Symlink)),
        }
    }

    /// Finds the entries at `path`.
    ///
    /// # Errors
    /// Fails if a directory on the path cannot be read.
    pub(super) fn node(&self, path: &RelPath) -> io::Result<Rc<Node>> {
        if let Some(node) = self.cache.borrow().nodes.get(path) {
            return Ok(Rc::clone(node));
        }
        let node = Rc::new(if path.0.is_empty() {
            self.top()?
        } else {
            match self.look(path) {
                Err(error) if error.raw_os_error() == Some(libc::EXDEV) => Node {
                    closed: Some(Reason::OtherFileSystem),
                    ..Node::default()
                },
                found => found?,
            }
        });
        let mut cache = self.cache.borrow_mut();
        cache.bytes += path.0.len() + size_of::<Node>();
        if cache.bytes > MOST_CACHED {
            *cache = Cache::default();
        }
        cache.nodes.insert(path.clone(), Rc::clone(&node));
        Ok(node)
    }

    fn top(&self) -> io::Result<Node> {
        Ok(Node {
            upper: true,
            lower: Some(RelPath::default()),
            directory: true,
            closed: is_git(&[self.root, self.upper])?.then_some(Reason::GitDirectory),
            ..Node::default()
        })
    }

    fn look(&self, path: &RelPath) -> io::Result<Node> {
        let (parent, name) = path.split();
        let above = self.node(&parent)?;
        let mut node = Node {
            closed: above.closed.clone(),
            ..Node::default()
        };
        let mut dirs = Vec::new();
        let before = HeldEntry::of(self.root, &parent, name)?;
        let before = before
            .map(|entry| entry.take(name, &mut dirs))
            .transpose()?;
        let fresh = if above.upper {
            HeldEntry::of(self.upper, &parent, name)?
        } else {
            None
        };
        let half = || -> io::Result<Option<LowerHalf>> {
            let Some(path) = above.lower.clone() else {
                return Ok(None);
            };
            Ok(found(tree::beneath(self.root, &path, OFlag::O_RDONLY))?
                .map(|dir| LowerHalf { dir, path }))
        };
        let after = match fresh {
            Some(entry) if is_whiteout(&entry.dir, name, &entry.stat)? => None,
            Some(entry) => {
                if tree::kind(&entry.stat) == Kind::Directory {
                    node.upper = true;
                    let half = half()?;
                    node.lower = match relate(&entry.dir, name, self.root, half.as_ref())? {
                        Relation::Alone => None,
                        Relation::Over(lower) => Some(lower.path),
                        Relation::Redirected { from, .. } => Some(from),
                    };
                }
                Some(entry.take(name, &mut dirs)?)
            }
            None => match &above.lower {
                Some(lower) => {
                    let entry = HeldEntry::of(self.root, lower, name)?;
                    let directory = |entry: &HeldEntry| tree::kind(&entry.stat) == Kind::Directory;
                    if entry.as_ref().is_some_and(directory) {
                        node.lower = Some(lower.join(name));
                    }
                    entry.map(|entry| entry.take(name, &mut dirs)).transpose()?
                }
                None => None,
            },
        };
        if let Some(lower) = &node.lower {
            dirs.extend(found(tree::beneath(self.root, lower, OFlag::O_RDONLY))?);
        }
        node.directory = !dirs.is_empty();
        if is_git_name(name.as_bytes()) || is_git(&dirs.iter().collect::<Vec<_>>())? {
            node.closed = Some(Reason::GitDirectory);
        }
        let (before, after) = (before.flatten(), after.flatten());
        let is_directory = node.upper || node.lower.is_some();
        node.plain = match (&before, &after) {
            (Some(_), Some(_)) => Plain::No,
            (Some(_), None) if is_directory => Plain::Replaced,
            (Some(_) | None, _) => Plain::Yes,
        };
        if let Some(target) = after {
            let new = before.as_ref() != Some(&target);
            node.links.push(Link { target, new });
        }
        if let Some(target) = before
            && node.links.iter().all(|link| link.new)
        {
            node.links.push(Link { target, new: false });
        }
        Ok(node)
    }
}

/// An entry, with its parent directory.
struct HeldEntry {
    dir: OwnedFd,
    stat: FileStat,
}

impl HeldEntry {
    fn of(root: &OwnedFd, parent: &RelPath, name: &OsStr) -> io::Result<Option<Self>> {
        let Some(dir) = found(tree::beneath(root, parent, OFlag::O_RDONLY))? else {
            return Ok(None);
        };
        let stat = found(tree::stat(&dir, name))?.flatten();
        match stat {
            Some(stat) if stat.st_dev != fstat(&dir)?.st_dev => {
                Err(io::Error::from_raw_os_error(libc::EXDEV))
            }
            stat => Ok(stat.map(|stat| Self { dir, stat })),
        }
    }

    /// Returns the target if the entry is a link. Appends the entry to `dirs` if it is a directory.
    fn take(self, name: &OsStr, dirs: &mut Vec<OwnedFd>) -> io::Result<Option<Vec<u8>>> {
        match tree::kind(&self.stat) {
            Kind::Symlink => Ok(Some(readlinkat(&self.dir, name)?.as_bytes().to_vec())),
            Kind::Directory => {
                dirs.push(tree::open_dir(&self.dir, name)?);
                Ok(None)
            }
            Kind::Device | Kind::Fifo | Kind::File | Kind::Socket => Ok(None),
        }
    }
}

/// Turns errors that mean "no entry can exist there" into `None`.
fn found<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Whether git may treat the union of these directories as a git directory.
fn is_git(dirs: &[&OwnedFd]) -> io::Result<bool> {
    let mut failed = None;
    let is = judge::is_git_directory(|name| {
        dirs.iter().any(|dir| {
            tree::stat(*dir, OsStr::from_bytes(name))
                .unwrap_or_else(|error| {
                    failed = Some(error);
                    None
                })
                .is_some()
        })
    });
    failed.map_or(Ok(is), Err)
}

/// The entries found below a directory.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Paths of all symbolic links.
    pub(super) links: Vec<RelPath>,
    /// Paths of all directories, each after its parent.
    pub(super) directories: Vec<RelPath>,
    /// Whether the overlay records another name for a directory.
    pub(super) moved: bool,
}

/// Finds all links and directories below `root` on its file system, up to the depth at which
/// changes are applied.
///
/// # Errors
/// Fails if a directory cannot be read, or if the paths exceed the memory limit.
pub(super) fn find(root: &OwnedFd) -> io::Result<Found> {
    let device = fstat(root)?.st_dev;
    let mut seen = Found::default();
    let mut open = vec![RelPath::default()];
    let mut left = LONGEST_PATHS;
    let mut take = |path: &RelPath| {
        let bytes = path.0.len() + size_of::<RelPath>();
        left.checked_sub(bytes)
            .map(|after| left = after)
            .ok_or_else(|| {
                io::Error::other(
                    "the workspace has too many links and directories to check (512 MiB of paths)",
                )
            })
    };
    while let Some(path) = open.pop() {
        let Some(dir) = found(tree::beneath(root, &path, OFlag::O_RDONLY))? else {
            continue;
        };
        for name in tree::list(&dir)? {
            let Some(stat) = tree::stat(&dir, &name)? else {
                continue;
            };
            let path = path.join(&name);
            match tree::kind(&stat) {
                _ if judge::depth(&path).is_err() || stat.st_dev != device => {}
                Kind::Symlink => {
                    take(&path)?;
                    seen.links.push(path);
                }
                Kind::Directory => {
                    take(&path)?;
                    seen.moved |= is_redirected(&dir, &name)?;
                    seen.directories.push(path.clone());
                    open.push(path);
                }
                Kind::Device | Kind::Fifo | Kind::File | Kind::Socket => {}
            }
        }
    }
    Ok(seen)
}
