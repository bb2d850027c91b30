//! Opens what is verified: regular files only, and in a directory none that lies outside it.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use audit_packet::stream::too_large;
use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};

/// Files of one directory.
const MAX_FILES: usize = 4096;

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

/// A directory that is held: whatever happens to its path, the files are those of one directory.
#[derive(Debug)]
pub(super) struct Folder {
    dir: Dir,
}

impl Folder {
    /// Holds the directory.
    ///
    /// # Errors
    /// Those of opening it.
    pub(super) fn hold(path: &Path) -> io::Result<Self> {
        let dir = Dir::open_ambient_dir(path, ambient_authority())?;
        Ok(Self { dir })
    }

    /// Opens a regular file of at most `most` bytes. Links are followed as long as they stay inside.
    ///
    /// # Errors
    /// When it is no such file, too large, or lies outside the directory.
    pub(super) fn open(&self, name: &str, most: u64) -> io::Result<File> {
        self.open_following(name, most, FollowSymlinks::Yes)
    }

    /// Opens a regular file, and follows no link.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub(super) fn open_itself(&self, name: &str) -> io::Result<File> {
        self.open_following(name, u64::MAX, FollowSymlinks::No)
    }

    fn open_following(&self, name: &str, most: u64, follow: FollowSymlinks) -> io::Result<File> {
        // A trailing slash would let a file pass for a directory.
        if name.ends_with('/') {
            return Err(irregular());
        }
        let mut options = OpenOptions::new();
        // Opening a FIFO waits for its writer otherwise.
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

    /// Whether there is anything of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.dir.symlink_metadata(name).is_ok()
    }

    /// The names in the directory that are `wanted`, each with whether it is a regular file.
    ///
    /// # Errors
    /// Those of reading the directory, and when it holds too many.
    pub(super) fn list(&self, wanted: fn(&str) -> bool) -> io::Result<BTreeMap<String, bool>> {
        let mut names = BTreeMap::new();
        for entry in self.dir.entries()? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if wanted(&name) {
                names.insert(name, entry.file_type()?.is_file());
            }
            if names.len() > MAX_FILES {
                return Err(io::Error::other("too many files"));
            }
        }
        Ok(names)
    }
}
