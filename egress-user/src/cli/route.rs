//! Resolves a path and lists every link on the way.
use std::io;
use std::path::{Component, Path, PathBuf};

/// Maximum number of links that are followed, as in `path_resolution(7)`.
const MOST_LINKS: usize = 40;

/// Returns the links on the way to `path`, and as the last element the path to which `path` resolves. The resolved path
/// need not exist. A process that can replace one of these links, or a directory above a link, can make `path` lead
/// elsewhere later.
///
/// # Errors
/// Fails if the working directory was removed, or more than 40 links are on the way.
pub(super) fn route(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut at = PathBuf::new();
    let mut rest = std::path::absolute(path)?;
    loop {
        let mut parts = rest.components();
        let Some(part) = parts.next() else {
            found.push(at);
            return Ok(found);
        };
        let after = parts.as_path().to_path_buf();
        match part {
            Component::Prefix(_) | Component::CurDir => {}
            Component::RootDir => at = PathBuf::from("/"),
            Component::ParentDir => {
                at.pop();
            }
            Component::Normal(name) => {
                let next = at.join(name);
                if let Ok(target) = next.read_link() {
                    if found.len() == MOST_LINKS {
                        return Err(io::Error::other("too many links"));
                    }
                    found.push(next);
                    rest = target.join(after);
                    continue;
                }
                at = next;
            }
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Claims: protected-paths
    #[test]
    fn every_link_on_the_way_is_listed() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("a/real")).unwrap();
        fs::write(dir.join("a/real/file"), "").unwrap();
        symlink("a/real", dir.join("one")).unwrap();
        symlink(dir.join("one"), dir.join("a/two")).unwrap();
        symlink("../real/file", dir.join("a/real/three")).unwrap();
        let names = |path: &str| -> Vec<String> {
            let found = route(&dir.join(path)).unwrap();
            found
                .iter()
                .map(|path| path.strip_prefix(&dir).unwrap().display().to_string())
                .collect()
        };
        assert_eq!(names("a/real/file"), ["a/real/file"]);
        assert_eq!(
            names("a/two/three"),
            ["a/two", "one", "a/real/three", "a/real/file"]
        );
        assert_eq!(names("one/../none/x"), ["one", "a/none/x"]);
        symlink("around", dir.join("around")).unwrap();
        assert!(route(&dir.join("around")).is_err());
    }
}
