//! The individual mounts that make up the file view.
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

use super::step::Step;

/// Flags of the new file systems in the file view, except those in `/dev`.
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
    .at("mount a tmpfs on", at)
}

pub(super) fn bind(from: &Path, to: &Path) -> io::Result<()> {
    let none: Option<&str> = None;
    mount(Some(from), to, none, MsFlags::MS_BIND, none).at("bind a file to", to)
}

pub(super) fn bind_read_only(from: &Path, to: &Path) -> io::Result<()> {
    bind(from, to)?;
    let none: Option<&str> = None;
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(none, to, none, SAFE | read_only, none).at("make read-only", to)
}

/// Mounts `layer` over `lower`. Both layers are passed as descriptors, because the command can read its list of mounts,
/// which would contain the paths of the layers.
pub(super) fn overlay(layer: &Path, lower: &Path, at: &Path) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let layer = open(layer, flags, Mode::empty()).at("open", layer)?;
    let lower = open(lower, flags, Mode::empty()).at("open", lower)?;
    let options = format!(
        "lowerdir=/proc/self/fd/{}:/proc/self/fd/{}",
        layer.as_raw_fd(),
        lower.as_raw_fd()
    );
    mount(
        Some("overlay"),
        at,
        Some("overlay"),
        SAFE | MsFlags::MS_RDONLY,
        Some(options.as_str()),
    )
    .at("mount an overlay on", at)
}
