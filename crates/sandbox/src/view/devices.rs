//! The private `/dev` of the file view.
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::View;
use super::mounts::{bind, tmpfs};
use super::step::{Step, make, place};

/// Devices of the host that the file view shows.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

impl View {
    /// Creates the private `/dev`, with a `/dev/shm` of at most `scratch` bytes.
    pub(super) fn devices(&self, scratch: u64) -> io::Result<()> {
        let dev = self.inside(Path::new("/dev"));
        mount(
            Some("tmpfs"),
            &dev,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
            Some("size=64k,mode=755"),
        )
        .at("mount a tmpfs on", &dev)?;
        for name in DEVICES {
            let node = dev.join(name);
            place(&node, &[], 0o644)?;
            bind(&Path::new("/dev").join(name), &node)?;
        }
        for (link, to) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "pts/ptmx"),
        ] {
            let link = dev.join(link);
            symlink(to, &link).at("create the symbolic link", &link)?;
        }
        let pts = dev.join("pts");
        make(&pts, 0o755)?;
        // A quarter of the 4,096 terminals that all users of the machine share.
        let options = "newinstance,ptmxmode=0666,mode=0620,gid=5,max=1024";
        mount(
            Some("devpts"),
            &pts,
            Some("devpts"),
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
            Some(options),
        )
        .at("mount a devpts on", &pts)?;
        let shm = dev.join("shm");
        make(&shm, 0o755)?;
        tmpfs(&shm, 0o1777, scratch, None)
    }
}
