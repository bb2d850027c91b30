//! Builds the file view: the file system as the command sees it. The file view consists of read-only overlays over the
//! host's files, private tmpfs where programs write, a private /dev, /proc, and /sys, and the workspace at its own
//! path.
//!
//! An overlay has its own inodes, so the command cannot reach a path socket or FIFO of the host through it. Each host
//! mount that is in the file view gets an overlay, whose top layer holds the files that differ from the host
//! (`/etc/passwd`, `/etc/resolv.conf` …). Nothing is therefore bind-mounted over a path that may be a link. The top
//! layer also holds copies of single files over which the host has mounts, and its directories have the owners and
//! modes of the host's directories. Without these owners, modes, and copies, the file view would show files that a host
//! mount or a mode hides. If the host replaces a file during the run, the file view may still show the old content.
//!
//! Claims: path-sockets, private-mounts, setuid, inner-mounts, run-files, table-pseudoterminals, limit-scratch
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Component, Path, PathBuf};

use egress_sys::dir;
use egress_workspace::credentials::Shown;
use mounts::{SAFE, bind_read_only, overlay, tmpfs};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

use super::mountinfo::{self, Mount};
use step::{Step, if_present, make, own, place};

mod devices;
pub mod home;
mod mounts;
mod step;

/// Size limits of the private tmpfs, in bytes.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct TmpfsLimits {
    /// Limit for each of `/tmp`, `/var/tmp`, `/dev/shm`, and the home directory.
    pub scratch_bytes: u64,
    /// Limit for `/run`.
    pub run_bytes: u64,
}

/// A file that replaces a host file in the file view.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct PlacedFile {
    /// Absolute path of the file.
    pub path: PathBuf,
    /// Content of the file.
    pub content: Vec<u8>,
}

/// A host mount that is not in the file view, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LeftOut {
    /// The mount point on the host.
    pub path: PathBuf,
    /// Why the file view does not contain the mount.
    pub why: String,
}

/// Directories that are private to the file view. Host mounts at or below them are ignored.
const PRIVATE: [&str; 6] = ["/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp"];
/// File system types whose mounts do not contain files of the host.
const PSEUDO: [&str; 16] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "mqueue",
    "nsfs",
    "proc",
    "rpc_pipefs",
    "sysfs",
    "tracefs",
];
/// Private tmpfs in which the command can write, in addition to its home.
pub const SCRATCH: [&str; 4] = ["/dev/shm", "/run", "/tmp", "/var/tmp"];
/// Directory of the files that replace the CI runner's command files.
pub const COMMAND_FILES: &str = "/run/command-files";
/// Size limit of all command files together, in bytes.
pub const COMMAND_FILES_BYTES: u64 = 8 << 20;
/// The largest file, in bytes, that is copied into the file view because the host has a mount over it.
const LARGEST_COPY: u64 = 1 << 20;
/// Size limit of the tmpfs over a masked directory, in bytes. A GitHub event file must fit into it.
const MASK_BYTES: u64 = 32 << 20;

/// A file view under construction, inside the boundary's own mount namespace.
#[derive(Debug)]
pub struct View {
    stage: PathBuf,
    root: PathBuf,
    /// Host mount points with the directories of their top layers, outermost first.
    layers: Vec<(PathBuf, PathBuf)>,
}

impl View {
    /// Starts a file view below `stage`, an empty directory on which a tmpfs for the layers is
    /// mounted.
    ///
    /// # Errors
    /// Returns the error of `mount(2)` or `mkdir(2)`, with the path.
    pub fn begin(stage: &Path) -> io::Result<Self> {
        tmpfs(stage, 0o700, 16 << 20, None)?;
        let root = stage.join("root");
        make(&root, 0o755)?;
        Ok(Self {
            stage: stage.to_path_buf(),
            root,
            layers: Vec::new(),
        })
    }

    /// Mounts the overlays: one over `/`, and one over each other visible mount of the host that can be the lower layer
    /// of an overlay. Their top layers hold `files` and the directories that the file view needs.
    ///
    /// # Errors
    /// Fails if `/` cannot be the lower layer of an overlay. Other mounts that cannot be a lower layer are left out
    /// and returned.
    pub fn overlay_host(
        &mut self,
        files: &[PlacedFile],
        dirs: &[PathBuf],
    ) -> io::Result<Vec<LeftOut>> {
        let mut left_out = Vec::new();
        let mut covered = Vec::new();
        let mut mounts: Vec<Mount> = mountinfo::read()?
            .into_iter()
            .filter(|mount| !PRIVATE.iter().any(|dir| mount.target.starts_with(dir)))
            .filter(mountinfo::is_visible)
            .collect();
        mounts.sort_by_key(|mount| mount.target.components().count());
        let (trees, single): (Vec<Mount>, Vec<Mount>) =
            mounts.into_iter().partition(|mount| mount.target.is_dir());
        for (number, mount) in trees.into_iter().enumerate() {
            if PSEUDO.contains(&mount.fstype.as_str()) {
                covered.push(mount.target);
                continue;
            }
            if let Some(why) = mount.judges_by_process() {
                if mount.target == Path::new("/") {
                    return Err(io::Error::other(format!(
                        "the root file system cannot be part of the file view: {why}"
                    )));
                }
                covered.push(mount.target.clone());
                left_out.push(LeftOut {
                    path: mount.target,
                    why: why.to_owned(),
                });
                continue;
            }
            let layer = self.stage.join(format!("layer{number}"));
            directory_like(&mount.target, &layer)?;
            self.layers.push((mount.target, layer));
        }
        for mount in single {
            let why = self.copy_file(&mount)?.to_owned();
            let path = mount.target;
            left_out.push(LeftOut { path, why });
        }
        for file in files {
            let path = self.in_layer(&file.path)?;
            place(&path, &file.content, 0o644)?;
        }
        for dir in PRIVATE
            .iter()
            .map(PathBuf::from)
            .chain(dirs.iter().cloned())
        {
            let path = self.in_layer(&dir)?;
            if if_present(path.metadata(), &path)?.is_none() {
                make(&path, 0o755)?;
            }
        }
        let layers = std::mem::take(&mut self.layers);
        for (target, layer) in &layers {
            let inside = self.inside(target);
            let done = if inside.is_dir() {
                overlay(layer, target, &inside)
            } else {
                Err(io::Error::other(
                    "its mount point does not exist in the file view",
                ))
            };
            match done {
                Err(error) if target != Path::new("/") => {
                    covered.push(target.clone());
                    left_out.push(LeftOut {
                        path: target.clone(),
                        why: error.to_string(),
                    });
                }
                other => other?,
            }
        }
        self.layers = layers;
        // The files below a host mount that is left out must not become visible.
        for target in covered {
            let inside = self.inside(&target);
            let meta = if_present(inside.metadata(), &inside)?;
            if meta.is_some_and(|meta| meta.is_dir()) {
                tmpfs(&inside, 0o755, 1 << 20, None)?;
            }
        }
        Ok(left_out)
    }

    /// Puts a copy of a host file into the top layer. If the file cannot be copied, an empty file without permissions
    /// takes its place. Without the copy or the empty file, the overlay would show the file below the mount, although
    /// the mount may exist to hide that file. Returns a text that states whether the file was copied or hidden.
    fn copy_file(&self, mount: &Mount) -> io::Result<&'static str> {
        let path = &mount.target;
        let placed = self.in_layer(path)?;
        let meta = path.metadata().at("inspect", path)?;
        if meta.is_file() && meta.len() <= LARGEST_COPY && mount.judges_by_process().is_none() {
            place(&placed, &fs::read(path).at("read", path)?, 0)?;
            own(&placed, &meta, 0o777)?;
            Ok("a mount over a single file; the file view has a copy of it")
        } else {
            place(&placed, &[], 0)?;
            Ok("a mount over a single file; the file view hides it")
        }
    }

    /// Returns the place of `path` in the top layer of the mount that covers it. Missing parents
    /// are created.
    fn in_layer(&self, path: &Path) -> io::Result<PathBuf> {
        // A directory in a top layer would hide a symbolic link of the host, so links are resolved
        // first.
        let parent = path.parent().unwrap_or(path);
        let linked = if_present(parent.canonicalize(), parent)?;
        let parent = linked.unwrap_or_else(|| parent.to_path_buf());
        let path = path
            .file_name()
            .map_or_else(|| parent.clone(), |name| parent.join(name));
        let (target, layer) = self
            .layers
            .iter()
            .rfind(|(target, _)| path.starts_with(target))
            .ok_or_else(|| io::Error::other("the root file system has no layer"))?;
        let below = path.strip_prefix(target).map_err(io::Error::other)?;
        let (mut host, mut placed) = (target.clone(), layer.clone());
        for component in below.parent().into_iter().flat_map(Path::components) {
            host.push(component);
            placed.push(component);
            directory_like(&host, &placed)?;
        }
        Ok(layer.join(below))
    }

    /// Creates an empty directory outside of the file view, for a mount that only other mounts use.
    ///
    /// # Errors
    /// Returns the error of `mkdir(2)`, with the path.
    pub fn scratch(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.stage.join(name);
        make(&path, 0o700)?;
        Ok(path)
    }

    /// Returns where the command's absolute `path` is now, while the file view is under
    /// construction.
    pub fn inside(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Mounts the private directories: /run, /tmp, /var/tmp, /dev, /proc, /sys, and the command's home directory.
    ///
    /// # Errors
    /// Returns the error of `mount(2)`, with the path. If sysfs cannot be mounted, /sys is an empty
    /// directory.
    pub fn private_mounts(&self, limits: TmpfsLimits, home: &Path, agent: u32) -> io::Result<()> {
        let scratch = limits.scratch_bytes;
        tmpfs(
            &self.inside(Path::new("/run")),
            0o755,
            limits.run_bytes,
            None,
        )?;
        let lock = self.inside(Path::new("/run/lock"));
        make(&lock, 0o1777)?;
        tmpfs(&self.inside(Path::new("/tmp")), 0o1777, scratch, None)?;
        tmpfs(&self.inside(Path::new("/var/tmp")), 0o1777, scratch, None)?;
        tmpfs(&self.inside(home), 0o700, scratch, Some(agent))?;
        self.devices(scratch)?;
        let none: Option<&str> = None;
        let proc = self.inside(Path::new("/proc"));
        mount(
            Some("proc"),
            &proc,
            Some("proc"),
            SAFE | MsFlags::MS_NOEXEC,
            none,
        )
        .at("mount a proc on", &proc)?;
        let sys = self.inside(Path::new("/sys"));
        let read_only = SAFE | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
        if mount(Some("sysfs"), &sys, Some("sysfs"), read_only, none).is_err() {
            // If the kernel does not permit a sysfs, /sys is an empty, read-only directory.
            mount(
                Some("none"),
                &sys,
                Some("tmpfs"),
                read_only,
                Some("size=4k,mode=555"),
            )
            .at("mount a tmpfs on", &sys)?;
        }
        Ok(())
    }

    /// Creates the files that replace the CI runner's command files, as empty files in a directory that the command
    /// cannot change.
    ///
    /// # Errors
    /// Returns the error of `mount(2)`, `write(2)`, or `chown(2)`, with the path.
    pub fn command_files(&self, names: &[String], agent: u32) -> io::Result<()> {
        let dir = self.inside(Path::new(COMMAND_FILES));
        make(&dir, 0o755)?;
        tmpfs(&dir, 0o755, COMMAND_FILES_BYTES, None)?;
        for name in names {
            let file = dir.join(name);
            place(&file, &[], 0o644)?;
            chown(&file, Some(agent), Some(agent)).at("change the owner of", &file)?;
        }
        Ok(())
    }

    /// Opens directories of the file view, so that the supervisor can inspect them after the
    /// command has ended.
    ///
    /// # Errors
    /// Returns the error of `open(2)`, with the path.
    pub fn hold(&self, paths: &[PathBuf]) -> io::Result<Vec<OwnedFd>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        paths
            .iter()
            .map(|path| open(&self.inside(path), flags, Mode::empty()).at("open", path))
            .collect()
    }

    /// Makes `path` a directory that the command can enter. A directory on the way that is closed to the command
    /// (`/root`, `/home/user` at 0750) is covered with an empty directory, and a missing one is created. The new
    /// directories belong to root and have mode 0755.
    ///
    /// # Errors
    /// Returns the error of `mkdir(2)` or `mount(2)`, with the path. Also fails if a component is
    /// not a directory.
    pub fn skeleton(&self, path: &Path) -> io::Result<PathBuf> {
        let mut at = PathBuf::from("/");
        for component in path.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            at.push(name);
            let inside = self.inside(&at);
            match if_present(fs::symlink_metadata(&inside), &at)? {
                Some(meta) if meta.is_dir() && meta.mode() & 0o001 != 0 => {}
                Some(meta) if meta.is_dir() => tmpfs(&inside, 0o755, 1 << 20, None)?,
                Some(_) => {
                    return Err(io::Error::other(format!(
                        "{} is not a directory in the file view",
                        at.display()
                    )));
                }
                None => make(&inside, 0o755)?,
            }
        }
        Ok(self.inside(path))
    }

    /// Covers the run's own files (keys, policy, packet, run directory) wherever they are visible. A file is covered
    /// with an unreadable empty file. A directory is covered with a directory that holds only copies of the `shown`
    /// files below it.
    ///
    /// # Errors
    /// Returns the error of `mount(2)` or of copying a file, with the path.
    pub fn mask<'p>(
        &self,
        paths: impl IntoIterator<Item = &'p PathBuf>,
        shown: &[PathBuf],
    ) -> io::Result<()> {
        let empty_file = self.stage.join("mask");
        place(&empty_file, &[], 0)?;
        for path in paths {
            let inside = self.inside(path);
            let Some(meta) = if_present(fs::symlink_metadata(&inside), path)? else {
                continue;
            };
            if meta.is_dir() {
                tmpfs(&inside, 0o755, MASK_BYTES, None)?;
                for file in shown.iter().filter(|file| file.starts_with(path)) {
                    let copy = self.inside(file);
                    if let Some(parent) = copy.parent() {
                        DirBuilder::new()
                            .recursive(true)
                            .mode(0o755)
                            .create(parent)
                            .at("create", parent)?;
                    }
                    let content = egress_files::read(file, MASK_BYTES).at("read", file)?;
                    fs::write(&copy, content).at("write", &copy)?;
                }
            } else {
                bind_read_only(&empty_file, &inside)?;
            }
        }
        Ok(())
    }

    /// Covers host files in the file view with read-only replacements.
    ///
    /// # Errors
    /// Returns the error of `mount(2)` or of writing the replacement, with the path.
    pub fn cover(&self, files: &[(PathBuf, Shown)]) -> io::Result<()> {
        for (number, (path, shown)) in files.iter().enumerate() {
            let inside = self.inside(path);
            let meta = if_present(fs::symlink_metadata(&inside), path)?;
            if !meta.is_some_and(|meta| meta.is_file()) {
                continue;
            }
            let file = self.stage.join(format!("shown{number}"));
            shown.write(&file).at("write", &file)?;
            bind_read_only(&file, &inside)?;
        }
        Ok(())
    }

    /// Makes a file of the workspace read-only. The file keeps its content, owner, and times, so git treats it as
    /// unchanged. The kernel does not remove or rename a mount point, so no other file can take its place.
    ///
    /// # Errors
    /// Returns the error of `open_tree(2)`, `mount_setattr(2)`, or `move_mount(2)`, with the path. Also fails if the
    /// path now contains a link.
    pub fn make_read_only(&self, path: &Path) -> io::Result<()> {
        let inside = self.inside(path);
        // A mask may already hide a directory above the file.
        let Some(file) = if_present(dir::find(&inside), path)? else {
            return Ok(());
        };
        let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        let tree = egress_sys::mount::open_tree(&file).at("copy the mount of", path)?;
        egress_sys::mount::set_attributes(&tree, attributes, None).at("make read-only", path)?;
        egress_sys::mount::cover(&tree, &file).at("bind a file to", path)
    }

    /// Makes the file view the root directory and removes the host's tree from this mount
    /// namespace.
    ///
    /// # Errors
    /// Returns the error of `pivot_root(2)`.
    pub fn enter(self) -> io::Result<()> {
        egress_sys::mount::pivot_into(&self.root)
    }
}

/// Creates the directory `at` unless it exists. A directory in a layer determines owner and mode of the directory in
/// the file view. The directory therefore gets the owner and the mode of `host` if `host` exists.
fn directory_like(host: &Path, at: &Path) -> io::Result<()> {
    if if_present(at.metadata(), at)?.is_some() {
        return Ok(());
    }
    make(at, 0o755)?;
    match if_present(host.metadata(), host)? {
        Some(meta) => own(at, &meta, 0o1777),
        None => Ok(()),
    }
}
