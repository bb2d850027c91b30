//! Detaches the kernel programs from a running command, in order to test the other layers without them. The product
//! never does this.
#![expect(
    unsafe_code,
    reason = "no crate here wraps the calls of bpf(2) on links of other processes"
)]
use std::fs;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

use crate::census::cgroup_root;
use crate::command::Running;

// include/uapi/linux/bpf.h, `enum bpf_cmd`.
const LINK_GET_FD_BY_ID: libc::c_int = 30;
const LINK_GET_NEXT_ID: libc::c_int = 31;
const LINK_DETACH: libc::c_int = 34;

impl Running {
    /// Detaches every kernel program from the cgroups of this program's descendants, and returns their number.
    ///
    /// # Panics
    /// Panics if the programs cannot be found or detached.
    pub fn detach_links(&self) -> usize {
        let cgroups: Vec<u64> = self
            .cgroups()
            .iter()
            .map(|dir| fs::metadata(dir).expect("read a cgroup").ino())
            .collect();
        let mut detached = 0;
        let mut id = 0;
        while let Some(next) = next_link(id).expect("list links") {
            id = next;
            // A link may disappear between the two calls.
            let Ok(link) = open(id) else { continue };
            if cgroup_of(&link).is_some_and(|cgroup| cgroups.contains(&cgroup)) {
                detach(&link).expect("detach a link");
                detached += 1;
            }
        }
        detached
    }

    /// Returns the processes that this program started, directly or through others.
    pub fn descendants(&self) -> Vec<Pid> {
        descendants(&self.pid().to_string())
            .iter()
            .filter_map(|process| process.parse().ok())
            .map(Pid::from_raw)
            .collect()
    }

    /// Returns the cgroups of this program's descendants, except its own.
    ///
    /// # Panics
    /// Panics if there is no version 2 hierarchy.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let root = cgroup_root().expect("a version 2 hierarchy");
        let own = cgroup(&root, &self.pid().to_string());
        let mut found: Vec<PathBuf> = descendants(&self.pid().to_string())
            .iter()
            .filter_map(|process| cgroup(&root, process))
            .filter(|dir| Some(dir) != own.as_ref())
            .collect();
        found.sort();
        found.dedup();
        found
    }
}

/// Returns the process ids below `ancestor`, from /proc.
fn descendants(ancestor: &str) -> Vec<String> {
    let parents: Vec<(String, String)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name of the process, in parentheses, may contain any character.
            let (_, fields) = stat.rsplit_once(") ")?;
            let parent = fields.split(' ').nth(1)?.to_owned();
            Some((entry.file_name().to_string_lossy().into_owned(), parent))
        })
        .collect();
    let mut found = vec![ancestor.to_owned()];
    let mut at = 0;
    while let Some(parent) = found.get(at).cloned() {
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(process, _)| process.clone()),
        );
        at += 1;
    }
    found.split_off(1)
}

fn cgroup(root: &Path, process: &str) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(root.join(path))
}

/// `union bpf_attr`. The calls in this file use its first words and require that the other words are zero.
#[repr(C, align(8))]
struct Attributes([u32; 32]);

impl Attributes {
    fn new(first: u32) -> Self {
        let mut words = [0; 32];
        words[0] = first;
        Self(words)
    }
}

/// Returns the link with the next higher id.
fn next_link(id: u32) -> nix::Result<Option<u32>> {
    let mut attributes = Attributes::new(id);
    match bpf(LINK_GET_NEXT_ID, &mut attributes) {
        Ok(_) => Ok(Some(attributes.0[1])),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn open(id: u32) -> nix::Result<OwnedFd> {
    let fd = bpf(LINK_GET_FD_BY_ID, &mut Attributes::new(id))?;
    // SAFETY: the kernel created this descriptor for this call, and nothing else uses it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn detach(link: &OwnedFd) -> nix::Result<()> {
    let fd = link.as_raw_fd().cast_unsigned();
    bpf(LINK_DETACH, &mut Attributes::new(fd)).map(drop)
}

/// Returns the id of the cgroup of a link, or `None` for links of other kinds.
fn cgroup_of(link: &OwnedFd) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd())).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("cgroup_id:"))?;
    line.trim().parse().ok()
}

fn bpf(command: libc::c_int, attributes: &mut Attributes) -> nix::Result<i32> {
    // SAFETY: the attributes are valid for reads and writes of the size that is passed, and none of the
    // three commands takes a pointer in them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw mut *attributes,
            size_of::<Attributes>(),
        )
    };
    Errno::result(result).map(|value| i32::try_from(value).unwrap_or(i32::MAX))
}
