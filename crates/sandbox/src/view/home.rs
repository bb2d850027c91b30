//! The parts of home directories in the file view: programs in the caller's home, and a cache in the command's home.
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use egress_sys::dir::find;
use egress_sys::mount::{move_mount, open_tree};

use super::View;
use super::step::{Step, make};

/// Directories in the command's home in which package managers keep downloaded files, and the names of these
/// directories in the cache. Other package managers use `~/.cache`, which is the cache itself.
pub const CACHES: [(&str, &str); 7] = [
    (".cargo", "cargo"),
    (".gradle", "gradle"),
    (".m2", "m2"),
    (".npm", "npm"),
    (".nuget", "nuget"),
    (".yarn", "yarn"),
    ("go", "go"),
];

impl View {
    /// Shows directories of the host at their own paths, even if a directory above them is closed to the command.
    /// Directories that the file view does not contain are skipped.
    ///
    /// # Errors
    /// Returns the error of `open_tree(2)` or `move_mount(2)`, with the path.
    pub fn show(&self, dirs: &[PathBuf]) -> io::Result<()> {
        let mut trees = Vec::new();
        // All directories are opened before the first directory above one of them is covered.
        for dir in dirs {
            match find(&self.inside(dir)) {
                Ok(held) => trees.push((dir, open_tree(&held).at("clone the mount of", dir)?)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).at("find", dir),
            }
        }
        for (dir, tree) in trees {
            move_mount(&tree, &self.skeleton(dir)?).at("show", dir)?;
        }
        Ok(())
    }

    /// Mounts the cache at `~/.cache`, and links to it from the directories that package managers use.
    ///
    /// # Errors
    /// Returns the error of `move_mount(2)` or `symlink(2)`, with the path.
    pub fn cache(&self, home: &Path, tree: &OwnedFd) -> io::Result<()> {
        let home = self.inside(home);
        let at = home.join(".cache");
        make(&at, 0o755)?;
        move_mount(tree, &at).at("mount the cache on", &at)?;
        for (link, name) in CACHES {
            let link = home.join(link);
            symlink(Path::new(".cache").join(name), &link).at("create the symbolic link", &link)?;
        }
        Ok(())
    }
}
