//! Exposes the readers of `/proc`, only for `fuzz/`.
use std::path::{Path, PathBuf};

use super::cgroup;
use super::mountinfo::{self, Mount};

/// Reads one line of `/proc/self/mountinfo`.
pub fn mount(line: &[u8]) -> Option<Mount> {
    mountinfo::parse(line)
}

/// Reads the text of `/proc/self/cgroup`.
pub fn own_cgroup(root: &Path, text: &str) -> PathBuf {
    cgroup::own_cgroup(root, text)
}
