//! Reads the records of the kernel in an overlay's upper layer
//! (Documentation/filesystems/overlayfs.rst in the kernel's sources).
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use egress_sys::{entry_xattr as xattr, handle};
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::stat::FileStat;

use super::judge::Kind;
use super::path::RelPath;
use super::tree;

/// Prefix of the overlay's own attributes.
pub const OWN_ATTRIBUTES: &[u8] = b"trusted.overlay.";
const WHITEOUT: &CStr = c"trusted.overlay.whiteout";
const OPAQUE: &CStr = c"trusted.overlay.opaque";
const REDIRECT: &CStr = c"trusted.overlay.redirect";
const ORIGIN: &CStr = c"trusted.overlay.origin";

/// Whether an entry marks its name as deleted: a character device 0:0, or an empty file with an
/// attribute.
///
/// # Errors
/// Fails if the attributes cannot be read.
pub fn is_whiteout(dir: &impl AsFd, name: &OsStr, stat: &FileStat) -> io::Result<bool> {
    if stat.st_mode & libc::S_IFMT == libc::S_IFCHR {
        return Ok(stat.st_rdev == 0);
    }
    Ok(tree::kind(stat) == Kind::File
        && stat.st_size == 0
        && xattr::value(dir, name, WHITEOUT)?.is_some())
}

/// Whether the directory `name` of `upper` covers a directory that had another name.
///
/// # Errors
/// Fails if the attributes cannot be read.
pub fn is_redirected(upper: &impl AsFd, name: &OsStr) -> io::Result<bool> {
    Ok(xattr::value(upper, name, REDIRECT)?.is_some())
}

/// What happened to the entry of the lower layer from which an entry of the upper layer was copied.
#[derive(Debug)]
pub enum Origin {
    /// The entry is not a copy, or the kernel recorded no origin (`trusted.overlay.origin`). The
    /// kernel records none for a file with several names, for a file that the command replaced, and
    /// on file systems without handles. Reading the origin requires `CAP_DAC_READ_SEARCH`. If the
    /// host removed a file without an origin during the run, applying changes restores the file.
    Unknown,
    /// No name leads to the original, so the host removed it.
    Gone,
    /// The original still has the same name or another name. If the original changed after the
    /// store was created, the host changed it. Otherwise, the command renamed the original.
    There(FileStat),
}

/// Finds the original of the entry `name` of `upper`, on the mount of `root`.
///
/// # Errors
/// Fails if the recorded origin cannot be read, or opening it fails.
pub fn origin(upper: &impl AsFd, name: &OsStr, root: &impl AsFd) -> io::Result<Origin> {
    // struct ovl_fb in the kernel's fs/overlayfs/overlayfs.h: version, magic, length, flags, type of
    // the handle, UUID of the file system, the handle.
    const MAGIC: u8 = 0xfb;
    const UUID: usize = 16;
    let noted = xattr::value(upper, name, ORIGIN)?.unwrap_or_default();
    let [0, MAGIC, _length, _flags, kind, rest @ ..] = noted.as_slice() else {
        return Ok(Origin::Unknown);
    };
    let bytes = rest.get(UUID..).unwrap_or_default();
    let found = match handle::open(root, *kind, bytes) {
        Ok(found) => nix::sys::stat::fstat(found)?,
        Err(error) => {
            return match error.raw_os_error() {
                Some(libc::ESTALE) => Ok(Origin::Gone),
                Some(libc::EPERM | libc::EOPNOTSUPP) => Ok(Origin::Unknown),
                _ => Err(error),
            };
        }
    };
    // A process may hold a file that no longer has a name.
    Ok(if found.st_nlink == 0 {
        Origin::Gone
    } else {
        Origin::There(found)
    })
}

/// The directory of the lower layer that a directory of the upper layer covers.
#[derive(Debug)]
pub struct LowerHalf {
    /// The open directory.
    pub dir: OwnedFd,
    /// Path of the directory in the workspace before any change is applied.
    pub path: RelPath,
}

/// How a directory of the upper layer relates to the lower layer.
#[derive(Debug)]
pub enum Relation {
    /// The directory shows nothing of the lower layer.
    Alone,
    /// The directory covers the lower directory with the same name.
    Over(LowerHalf),
    /// The directory covers a lower directory that had another name.
    Redirected {
        /// The path of that lower directory.
        from: RelPath,
        /// That lower directory, unless it no longer exists.
        dir: Option<OwnedFd>,
    },
}

/// Relates the directory `name` of `upper` to the layer below. The root of that layer is `root`.
///
/// # Errors
/// Fails if the attributes cannot be read.
pub fn relate(
    upper: &impl AsFd,
    name: &OsStr,
    root: &impl AsFd,
    lower: Option<&LowerHalf>,
) -> io::Result<Relation> {
    if let Some(value) = xattr::value(upper, name, REDIRECT)? {
        // An absolute path starts at the root of the layer; a relative path starts at the parent's
        // lower half.
        let from = match value.strip_prefix(b"/") {
            Some(path) => Some(RelPath(path.to_vec())),
            None => lower.map(|lower| {
                use std::os::unix::ffi::OsStrExt;
                lower.path.join(OsStr::from_bytes(&value))
            }),
        };
        return Ok(match from {
            Some(from) => Relation::Redirected {
                dir: tree::beneath(root, &from, OFlag::O_RDONLY).ok(),
                from,
            },
            None => Relation::Alone,
        });
    }
    if xattr::value(upper, name, OPAQUE)?.as_deref() == Some(b"y") {
        return Ok(Relation::Alone);
    }
    let Some(lower) = lower else {
        return Ok(Relation::Alone);
    };
    match tree::stat(&lower.dir, name)? {
        Some(stat) if tree::kind(&stat) == Kind::Directory => Ok(Relation::Over(LowerHalf {
            dir: tree::open_dir(&lower.dir, name)?,
            path: lower.path.join(name),
        })),
        Some(_) | None => Ok(Relation::Alone),
    }
}
