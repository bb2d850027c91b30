//! Looks up paths of sockets in the file view, as the command would, and never follows a path out of the file view.
//!
//! Claims: read-unix-paths
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use egress_sandbox::sockets::FileId;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::Pid;

/// The kind of socket that a path in the file view leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum AgentSocket {
    /// A socket of a process in the boundary.
    Own,
    /// A host socket that the caller opened for the command.
    Allowed,
    /// The command cannot connect at the path, because the path leads to no socket, or to a host socket that is only
    /// visible.
    None,
}

/// The root directory of the file view.
#[derive(Debug)]
pub(super) struct AgentRoot {
    root: OwnedFd,
    /// Keeps the mounts alive after the last process of the boundary has ended.
    _mounts: File,
    allowed: Vec<FileId>,
}

impl AgentRoot {
    /// Opens the root of process `pid`. `allowed` are the host sockets that the command may use.
    ///
    /// # Errors
    /// Fails if the process has ended.
    pub(super) fn of(pid: Pid, allowed: Vec<FileId>) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = format!("/proc/{pid}/root");
        let root = nix::fcntl::open(root.as_str(), flags, nix::sys::stat::Mode::empty())?;
        Ok(Self {
            root,
            _mounts: File::open(format!("/proc/{pid}/ns/mnt"))?,
            allowed,
        })
    }

    /// Returns the kind of socket that `path` leads to now. A relative path begins in the working directory of process
    /// `pid`.
    pub(super) fn socket(&self, path: &Path, pid: u32) -> AgentSocket {
        self.look_up(path, pid).unwrap_or(AgentSocket::None)
    }

    fn look_up(&self, path: &Path, pid: u32) -> io::Result<AgentSocket> {
        let path = if path.is_absolute() {
            path.to_path_buf()
        } else {
            // The link contains the path as the command sees it, because the command's mounts are not below the
            // supervisor's root.
            std::fs::read_link(format!("/proc/{pid}/cwd"))?.join(path)
        };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let file = File::from(openat2(&self.root, &path, how)?);
        let meta = file.metadata()?;
        if !meta.file_type().is_socket() {
            return Ok(AgentSocket::None);
        }
        if self.allowed.contains(&(meta.dev(), meta.ino())) {
            return Ok(AgentSocket::Allowed);
        }
        // The command cannot create anything on a read-only overlay, and no connection works through one.
        let of_overlay = fstatfs(&file)?.filesystem_type() == OVERLAYFS_SUPER_MAGIC;
        let read_only = fstatvfs(file.as_fd())?.flags().contains(FsFlags::ST_RDONLY);
        Ok(if of_overlay && read_only {
            AgentSocket::None
        } else {
            AgentSocket::Own
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Claims: read-unix-paths*
    #[test]
    fn only_a_socket_made_in_the_file_view_belongs_to_the_command() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        let _listener = UnixListener::bind(&own).unwrap();
        let open = |path: &Path| {
            nix::fcntl::open(path, OFlag::O_PATH, nix::sys::stat::Mode::empty()).unwrap()
        };
        let id = own.metadata().map(|meta| (meta.dev(), meta.ino())).unwrap();
        let inside = |allowed| AgentRoot {
            root: open(dir.path()),
            _mounts: File::open("/dev/null").unwrap(),
            allowed,
        };
        let pid = std::process::id();
        let view = inside(Vec::new());
        std::os::unix::fs::symlink("/own", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        for (path, wanted) in [
            ("/own", AgentSocket::Own),
            ("/../../own", AgentSocket::Own),
            ("/link", AgentSocket::Own),
            ("/file", AgentSocket::None),
            ("/out/passwd", AgentSocket::None),
            ("/absent", AgentSocket::None),
            ("", AgentSocket::None),
        ] {
            assert_eq!(view.socket(Path::new(path), pid), wanted, "{path}");
        }
        let opened = inside(vec![id]);
        assert_eq!(opened.socket(Path::new("/own"), pid), AgentSocket::Allowed);
    }
}
