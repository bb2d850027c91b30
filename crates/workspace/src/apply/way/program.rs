//! Decides whether a link outside of the workspace leads to a program of the system, as the links
//! of a Python virtual environment do.
//!
//! Only root can change the path to such a program or the program itself. A later step that does not run as root
//! therefore cannot change the program through the link.
//!
//! Claims: program-links
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{AT_FDCWD, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, fstat};

use crate::apply::judge::Kind;
use crate::apply::path::RelPath;
use crate::apply::tree;

/// The directories of the system's programs. A link must name one of them.
const DIRECTORIES: [&[u8]; 6] = [
    b"/bin",
    b"/sbin",
    b"/usr/bin",
    b"/usr/sbin",
    b"/usr/local/bin",
    b"/usr/local/sbin",
];

/// The maximum number of links on the path, as in the kernel.
const MOST_LINKS: usize = 40;

/// The maximum number of names on the path.
const MOST_NAMES: usize = 1000;

/// Whether `target`, an absolute path on the host, is a program of the system outside of
/// `workspace`, and `link` is a name of that program.
///
/// # Errors
/// Fails if a directory or link cannot be read.
pub(super) fn is_of_system(link: &RelPath, target: &[u8], workspace: &Path) -> io::Result<bool> {
    let Some(slash) = target.iter().rposition(|byte| *byte == b'/') else {
        return Ok(false);
    };
    let (directory, named) = target.split_at(slash);
    let named = named.get(1..).unwrap_or_default();
    if !DIRECTORIES.contains(&directory) || !is_same_program(link.split().1.as_bytes(), named) {
        return Ok(false);
    }
    let root = tree::open_dir(&AT_FDCWD, OsStr::new("/"))?;
    let found = resolved(&root, target)?;
    Ok(found.is_some_and(|path| {
        let path = Path::new("/").join(OsStr::from_bytes(&path.0));
        !path.starts_with(workspace)
    }))
}

/// Whether two names differ only in the version at their end, as `python` and `python3.11` do. If
/// a step that runs as root writes to a link, the link therefore at least has the program's name.
fn is_same_program(one: &[u8], other: &[u8]) -> bool {
    let stem = |name: &[u8]| {
        let is_version = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
        let end = name.iter().rposition(|byte| !is_version(byte));
        end.map_or(0, |end| end + 1)
    };
    let (one, other) = (one.get(..stem(one)), other.get(..stem(other)));
    one == other && one.is_some_and(|name| !name.is_empty())
}

/// Resolves all links of `path` below `root`. Returns the path of the program that it leads to, if
/// there is one and only root can change any part of the path.
fn resolved(root: &OwnedFd, path: &[u8]) -> io::Result<Option<RelPath>> {
    if !only_root_writes(&fstat(root)?) {
        return Ok(None);
    }
    // The directories from the root to the current one, each with its path.
    let mut open: Vec<(RelPath, OwnedFd)> = vec![(RelPath::default(), root.try_clone()?)];
    let mut rest: Vec<Vec<u8>> = names(path);
    let (mut links, mut looked_up) = (0, 0);
    while let Some(name) = rest.pop() {
        looked_up += 1;
        let Some((at, dir)) = open.last().filter(|_| looked_up <= MOST_NAMES) else {
            return Ok(None);
        };
        if name == b".." {
            if open.len() > 1 {
                open.pop();
            }
            continue;
        }
        let name = OsStr::from_bytes(&name);
        let stat = match tree::stat(dir, name) {
            Ok(Some(stat)) => stat,
            Ok(None) => return Ok(None),
            // The command chose the name.
            Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => return Ok(None),
            Err(error) => return Err(error),
        };
        match tree::kind(&stat) {
            Kind::Symlink if stat.st_uid == 0 && links < MOST_LINKS => {
                links += 1;
                let target = readlinkat(dir, name)?;
                if target.as_bytes().first() == Some(&b'/') {
                    open.truncate(1);
                }
                rest.extend(names(target.as_bytes()));
            }
            Kind::Directory if only_root_writes(&stat) => {
                let below = (at.join(name), tree::open_dir(dir, name)?);
                open.push(below);
            }
            Kind::File => {
                let is_program = only_root_writes(&stat) && stat.st_mode & 0o005 == 0o005;
                return Ok((rest.is_empty() && is_program).then(|| at.join(name)));
            }
            Kind::Device | Kind::Directory | Kind::Fifo | Kind::Socket | Kind::Symlink => {
                return Ok(None);
            }
        }
    }
    Ok(None)
}

/// Returns the names of a path, with the first one last.
fn names(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/').rev();
    let names = names.filter(|name| !matches!(*name, b"" | b"."));
    names.map(<[u8]>::to_vec).collect()
}

/// Whether root owns the entry and nobody else may write to it. An access list that lets another
/// user write also shows in the bits of the group, which are then its mask (`acl(5)`).
fn only_root_writes(stat: &FileStat) -> bool {
    stat.st_uid == 0 && stat.st_mode & 0o022 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: program-links
    #[test]
    fn programs_of_the_system_are_found_through_the_links_of_root() {
        let is = |link: &str, target: &str, workspace: &str| {
            let link = RelPath(link.as_bytes().to_vec());
            is_of_system(&link, target.as_bytes(), Path::new(workspace)).unwrap()
        };
        assert!(is("v/bin/sh", "/bin/sh", "/w"));
        assert!(is("v/bin/sh", "/usr/bin/sh", "/w"));
        for (link, target, workspace) in [
            ("log", "/bin/sh", "/w"),
            ("sh", "/bin/sh/x", "/w"),
            ("sh", "/bin/sh", "/usr"),
            ("sh", "/usr/../bin/sh", "/w"),
            ("sh", "/proc/self/root/bin/sh", "/w"),
            ("bin", "/usr/bin", "/w"),
            ("passwd", "/etc/passwd", "/w"),
            ("null", "/dev/null", "/w"),
            ("nothing", "/bin/nothing", "/w"),
        ] {
            assert!(!is(link, target, workspace), "{link} -> {target}");
        }
    }

    /// Claims: program-links
    #[test]
    fn names_of_a_program_differ_in_the_version_only() {
        for (one, other) in [
            ("python3", "python3"),
            ("python", "python3.11"),
            ("python3.11", "python3"),
        ] {
            assert!(is_same_program(one.as_bytes(), other.as_bytes()), "{one}");
        }
        for (one, other) in [
            ("log", "python3"),
            ("3.11", "python3"),
            ("3", "4"),
            ("", ""),
            ("sh", "bash"),
        ] {
            assert!(!is_same_program(one.as_bytes(), other.as_bytes()), "{one}");
        }
    }
}
