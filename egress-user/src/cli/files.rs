//! Opens the files that are verified: regular files only, and never through a link that points outside their directory.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::Context;
use audit_packet::stream::too_large;
use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};

/// Maximum number of files that one directory may list.
const MAX_FILES: usize = 4096;

/// Size limit of a policy file.
const POLICY_BYTES: u64 = 1 << 20;

/// Reads the text of a policy file.
///
/// # Errors
/// Fails if the file cannot be read, is too long, or is not UTF-8. The error text names the file.
pub(super) fn read_policy(path: &Path) -> anyhow::Result<String> {
    egress_files::read(path, POLICY_BYTES)
        .and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other))
        .with_context(|| format!("cannot read policy {}", path.display()))
}

fn irregular() -> io::Error {
    io::Error::other("not a regular file")
}

/// Reads a file of at most `most` bytes.
pub(super) fn read_all(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(too_large(most));
    }
    Ok(bytes)
}

/// A directory that is held open, so that all files come from the same directory even if its path is replaced.
#[derive(Debug)]
pub(super) struct Folder {
    dir: Dir,
}

impl Folder {
    /// Opens the directory.
    ///
    /// # Errors
    /// Fails if `path` cannot be opened as a directory.
    pub(super) fn hold(path: &Path) -> io::Result<Self> {
        let dir = Dir::open_ambient_dir(path, ambient_authority())?;
        Ok(Self { dir })
    }

    /// Opens a regular file of at most `most` bytes. Follows links that stay inside the directory.
    ///
    /// # Errors
    /// Fails if the file does not exist, is not a regular file, is too large, or is outside the directory.
    pub(super) fn open(&self, name: &str, most: u64) -> io::Result<File> {
        self.open_following(name, most, FollowSymlinks::Yes)
    }

    /// Opens a regular file of any size without following a link.
    ///
    /// # Errors
    /// Fails if the file does not exist, is a link, or is not a regular file.
    pub(super) fn open_itself(&self, name: &str) -> io::Result<File> {
        self.open_following(name, u64::MAX, FollowSymlinks::No)
    }

    fn open_following(&self, name: &str, most: u64, follow: FollowSymlinks) -> io::Result<File> {
        // With a trailing slash, the name would be opened as a directory.
        if name.ends_with('/') {
            return Err(irregular());
        }
        let mut options = OpenOptions::new();
        // Without O_NONBLOCK, opening a FIFO waits for a writer.
        options.read(true).nonblock(true).follow(follow);
        let file = self.dir.open_with(name, &options)?.into_std();
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(irregular());
        }
        if metadata.len() > most {
            return Err(too_large(most));
        }
        Ok(file)
    }

    /// Returns the size of a file.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        Some(self.dir.metadata(name).ok()?.len())
    }

    /// Returns whether anything with this name exists in the directory.
    pub(super) fn has(&self, name: &str) -> bool {
        self.dir.symlink_metadata(name).is_ok()
    }

    /// Lists the names for which `wanted` returns true. The result maps each name to whether the file is a regular
    /// file.
    ///
    /// # Errors
    /// Fails if the directory cannot be read, or has too many such names.
    pub(super) fn list(&self, wanted: fn(&str) -> bool) -> io::Result<BTreeMap<String, bool>> {
        let mut names = BTreeMap::new();
        for entry in self.dir.entries()? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if wanted(&name) {
                names.insert(name, entry.file_type()?.is_file());
            }
            if names.len() > MAX_FILES {
                return Err(io::Error::other(format!("more than {MAX_FILES} files")));
            }
        }
        Ok(names)
    }
}
