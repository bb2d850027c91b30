//! The single mounts that a view is made of.
use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};

/// What every mount of a view has.
pub(super) const SAFE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

pub(super) fn tmpfs(at: &Path, mode: u32, bytes: u64, owner: Option<u32>) -> io::Result<()> {
    let owner = owner.map_or_else(String::new, |id| format!(",uid={id},gid={id}"));
    let options = format!("mode={mode:o},size={bytes}{owner}");
    mount(
        Some("tmpfs"),
        at,
        Some("tmpfs"),
        SAFE,
        Some(options.as_str()),
    )
    .map_err(|error| named(at, error))
}

pub(super) fn bind(from: &Path, to: &Path) -> io::Result<()> {
    let none: Option<&str> = None;
    mount(Some(from), to, none, MsFlags::MS_BIND, none).map_err(|error| named(to, error))
}

pub(super) fn bind_read_only(from: &Path, to: &Path) -> io::Result<()> {
    bind(from, to)?;
    let none: Option<&str> = None;
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(none, to, none, SAFE | read_only, none).map_err(|error| named(to, error))
}

pub(super) fn overlay(layer: &Path, lower: &Path, at: &Path) -> io::Result<()> {
    let escaped = |path: &Path| -> io::Result<String> {
        let path = path
            .to_str()
            .ok_or_else(|| io::Error::other("its path is not UTF-8"))?;
        Ok(path
            .replace('\\', "\\\\")
            .replace(':', "\\:")
            .replace(',', "\\,"))
    };
    let options = format!("lowerdir={}:{}", escaped(layer)?, escaped(lower)?);
    mount(
        Some("overlay"),
        at,
        Some("overlay"),
        SAFE | MsFlags::MS_RDONLY,
        Some(options.as_str()),
    )
    .map_err(|error| named(at, error))
}

fn named(at: &Path, error: nix::errno::Errno) -> io::Error {
    io::Error::other(format!(
        "cannot mount on {}: {}",
        at.display(),
        error.desc()
    ))
}
