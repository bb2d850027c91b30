//! Opens files for root that the command of an earlier run may have created or named.
//!
//! Every file in the workspace may be read, because the command has the rights of the workspace's owner there. Outside
//! of the workspace, only files that any user may read are opened. Directories of programs in a closed home count as if
//! no directory above them were closed. A name that leads to any other file outside of the workspace, such as a private
//! file of root, is ignored.
//!
//! Claims: git-includes
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use egress_sys::dir::find;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};

/// Permission of other users to read a file or list a directory.
const MAY_READ: u32 = 0o004;
/// Permission of other users to traverse a directory.
const MAY_PASS: u32 = 0o001;

/// The files that may be read: the files of a workspace, held by descriptor, and public files of
/// the machine.
#[derive(Debug)]
pub struct Reach {
    workspace: PathBuf,
    root: OwnedFd,
    /// Directories in a closed home that the file view shows.
    tools: Vec<(PathBuf, OwnedFd)>,
}

/// A regular file that was read.
#[derive(Debug)]
pub struct Found {
    /// Content of the file, up to the requested length.
    pub text: Vec<u8>,
    /// Metadata of the file.
    pub meta: Metadata,
}

impl Reach {
    /// Opens `workspace` and the directories of programs `tools`, which are paths without links.
    ///
    /// # Errors
    /// Returns the error of `openat2(2)`. Directories of programs that cannot be opened are left out.
    pub fn of(workspace: &Path, tools: &[PathBuf]) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let held = |path: &PathBuf| Some((path.clone(), find(path).ok()?));
        Ok(Self {
            workspace: workspace.to_path_buf(),
            root: open(workspace, flags, Mode::empty())?,
            tools: tools.iter().filter_map(held).collect(),
        })
    }

    /// Returns the path of the workspace.
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// Reads the regular file at `path`, up to `most` bytes and one more. The path contains no
    /// links. Returns `None` if no such file exists or the command could not read it.
    ///
    /// # Errors
    /// Fails if the file cannot be opened or read.
    pub fn read(&self, path: &Path, most: u64) -> io::Result<Option<Found>> {
        let Some(place) = self.place(path)? else {
            return Ok(None);
        };
        let meta = File::from(place.try_clone()?).metadata()?;
        if !meta.is_file() {
            return Ok(None);
        }
        // The file is opened through its `O_PATH` descriptor, because such a descriptor cannot be
        // read itself. Opening through the descriptor does not look up the path again.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
        let mut text = Vec::new();
        file.take(most + 1).read_to_end(&mut text)?;
        Ok(Some(Found { text, meta }))
    }

    /// Lists at most `most` names in the directory at `path`, sorted, and whether each is a
    /// directory. The list is empty if no such directory exists or the command could not list it.
    ///
    /// # Errors
    /// Fails if the directory cannot be opened or listed.
    pub fn list(&self, path: &Path, most: usize) -> io::Result<Vec<(OsString, bool)>> {
        let Some(place) = self.place(path)? else {
            return Ok(Vec::new());
        };
        if !File::from(place.try_clone()?).metadata()?.is_dir() {
            return Ok(Vec::new());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut names = Vec::new();
        for entry in Dir::openat(&place, ".", flags, Mode::empty())?.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() == most {
                break;
            }
            let is_dir = match entry.file_type() {
                Some(kind) => kind == nix::dir::Type::Directory,
                None => path
                    .join(OsStr::from_bytes(name))
                    .symlink_metadata()
                    .is_ok_and(|meta| meta.is_dir()),
            };
            names.push((OsStr::from_bytes(name).to_os_string(), is_dir));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Returns the metadata of those `names` in the directory at `path` that are regular files. The
    /// list is empty if no such directory exists or the command could not list it.
    ///
    /// # Errors
    /// Fails if the directory cannot be opened, or if a file cannot be inspected.
    pub fn inspect<'n>(
        &self,
        path: &Path,
        names: impl Iterator<Item = &'n OsString>,
    ) -> io::Result<Vec<(&'n OsString, FileStat)>> {
        let Some(place) = self.place(path)? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for name in names {
            match fstatat(&place, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(meta) if meta.st_mode & libc::S_IFMT == libc::S_IFREG => {
                    found.push((name, meta));
                }
                Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(found)
    }

    /// Whether `path` is a directory.
    ///
    /// # Errors
    /// Fails if the path cannot be opened or inspected.
    pub fn is_dir(&self, path: &Path) -> io::Result<bool> {
        match self.place(path)? {
            Some(place) => Ok(File::from(place).metadata()?.is_dir()),
            None => Ok(false),
        }
    }

    /// Opens `path` as an `O_PATH` descriptor.
    fn place(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        let shown = || {
            let mut tools = self.tools.iter();
            tools.find_map(|(tools, held)| Some((held, path.strip_prefix(tools).ok()?)))
        };
        let opened = if let Ok(below) = path.strip_prefix(&self.workspace) {
            self.inside(below)
        } else if let Some((held, below)) = shown() {
            held.try_clone().and_then(|held| public(held, below))
        } else if let Ok(below) = path.strip_prefix("/") {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            open("/", flags, Mode::empty())
                .map_err(io::Error::from)
                .and_then(|root| public(root, below))
        } else {
            return Ok(None);
        };
        match opened {
            Ok(place) => Ok(place),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn inside(&self, below: &Path) -> io::Result<Option<OwnedFd>> {
        let below = if below.as_os_str().is_empty() {
            Path::new(".")
        } else {
            below
        };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_SYMLINKS
                    | ResolveFlag::RESOLVE_NO_XDEV,
            );
        Ok(Some(openat2(&self.root, below, how)?))
    }
}

/// Opens `path` below the directory `place`, if any user could open it.
fn public(mut place: OwnedFd, path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    for component in path.components() {
        match component {
            Component::Normal(name) if mode(&place)? & MAY_PASS != 0 => {
                place = openat(place.as_fd(), name, flags, Mode::empty())?;
            }
            Component::Normal(_)
            | Component::RootDir
            | Component::CurDir
            | Component::ParentDir
            | Component::Prefix(_) => return Ok(None),
        }
    }
    Ok((mode(&place)? & MAY_READ != 0).then_some(place))
}

fn mode(place: &OwnedFd) -> io::Result<u32> {
    Ok(fstat(place)?.st_mode)
}

/// Whether the error means that the path leads to nothing readable. Any program may have written
/// the path.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
        || matches!(
            error.raw_os_error(),
            Some(
                libc::ENOENT
                    | libc::ENOTDIR
                    | libc::ELOOP
                    | libc::EXDEV
                    | libc::EACCES
                    | libc::ENAMETOOLONG
                    | libc::EINVAL
            )
        )
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::unistd::mkfifo;

    use super::*;

    /// Claims: git-credentials, git-includes
    #[test]
    fn nothing_is_followed_and_nothing_private_is_read_outside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let open = |path: &Path, mode: u32| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        open(&root, 0o755);
        let workspace = root.join("w");
        fs::create_dir_all(workspace.join("d")).unwrap();
        let reach = Reach::of(&workspace, &[]).unwrap();
        let read = |path: &Path| reach.read(path, 3).unwrap().map(|found| found.text);
        for (name, mode) in [
            ("w/own", 0o600),
            ("w/d/own", 0o600),
            ("open", 0o644),
            ("own", 0o640),
        ] {
            fs::write(root.join(name), "text").unwrap();
            open(&root.join(name), mode);
        }
        // The additional byte shows that the file is longer than `most`.
        for (name, seen) in [
            ("w/own", true),
            ("w/d/own", true),
            ("open", true),
            ("own", false),
        ] {
            assert_eq!(
                read(&root.join(name)),
                seen.then(|| b"text".to_vec()),
                "{name}"
            );
        }
        fs::create_dir(root.join("closed")).unwrap();
        fs::write(root.join("closed/open"), "text").unwrap();
        open(&root.join("closed"), 0o750);
        symlink(&workspace, root.join("link")).unwrap();
        symlink("own", workspace.join("link")).unwrap();
        symlink("d", workspace.join("dir")).unwrap();
        mkfifo(&workspace.join("pipe"), Mode::from_bits_truncate(0o600)).unwrap();
        for name in [
            "closed/open",
            "link/own",
            "w/link",
            "w/dir/own",
            "w/pipe",
            "w/d",
            "w/none",
            "w/own/x",
            "w/../open",
        ] {
            assert_eq!(read(&root.join(name)), None, "{name}");
        }
        assert_eq!(read(Path::new("/dev/zero")), None);
        assert_eq!(read(Path::new("relative")), None);
        assert_eq!(read(Path::new("/nul\0byte")), None);
        assert_eq!(read(&Path::new("/").join("x".repeat(300))), None);
        assert_eq!(reach.list(&workspace, 2).unwrap().len(), 2);
        assert_eq!(reach.list(&root.join("closed"), 9).unwrap(), []);
        assert!(
            reach
                .list(&workspace, 9)
                .unwrap()
                .contains(&("d".into(), true))
        );
        assert!(
            reach
                .list(&workspace, 9)
                .unwrap()
                .contains(&("dir".into(), false))
        );
    }
}
