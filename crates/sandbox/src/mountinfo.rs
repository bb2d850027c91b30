//! Reads `/proc/self/mountinfo` (proc(5)).
//!
//! Claims: private-mounts
use std::ffi::OsString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The fields of one line of mountinfo that egress uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The kernel's id of the mount.
    pub id: u64,
    /// The mount point, as seen by this process.
    pub target: PathBuf,
    /// The directory of the file system that is mounted.
    pub root: PathBuf,
    /// The file system type, such as `ext4`.
    pub fstype: String,
    /// Options of the file system. The mount has its own options.
    pub options: String,
}

impl Mount {
    /// Returns the reason if the file system decides for each process whether the process may read a file, so that
    /// owner and mode do not determine which processes may read it. An overlay reads such a file system with the rights
    /// of root, which mounted the overlay, so the file system would decide about root instead of the command.
    pub fn judges_by_process(&self) -> Option<&'static str> {
        let has = |wanted: &str| self.options.split(',').any(|option| option == wanted);
        let kerberos = || self.options.contains("sec=krb5");
        match self.fstype.as_str() {
            "afs" | "coda" => {
                Some("its server decides for each process whether it may read a file")
            }
            "cifs" | "smb3" if has("multiuser") => {
                Some("its server decides for each process whether it may read a file")
            }
            "9p" if has("access=user") => {
                Some("its server decides for each process whether it may read a file")
            }
            "nfs" | "nfs4" if kerberos() => {
                Some("its server decides for each process whether it may read a file")
            }
            fuse if (fuse == "fuse" || fuse == "fuseblk" || fuse.starts_with("fuse."))
                && !(has("allow_other") && has("default_permissions")) =>
            {
                Some(
                    "FUSE without allow_other and default_permissions decides for each process \
                    whether it may read a file",
                )
            }
            _ => None,
        }
    }
}

/// Reads all mounts of this process's namespace, in the kernel's order.
///
/// # Errors
/// Fails if the file cannot be read or one of its lines cannot be parsed.
pub fn read() -> io::Result<Vec<Mount>> {
    let text = egress_sys::kernel_file::bytes("/proc/self/mountinfo")?;
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            parse(line).ok_or_else(|| {
                let line = String::from_utf8_lossy(line).into_owned();
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("cannot parse the line {line:?} of /proc/self/mountinfo"),
                )
            })
        })
        .collect()
}

/// Whether a lookup of the mount point reaches `mount`. The result is false if a later mount covers
/// `mount`.
pub fn is_visible(mount: &Mount) -> bool {
    let Ok(file) = nix::fcntl::open(
        &mount.target,
        nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    ) else {
        return false;
    };
    let path = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    let Ok(info) = std::fs::read_to_string(path) else {
        return false;
    };
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    id.and_then(|id| id.trim().parse().ok()) == Some(mount.id)
}

pub(super) fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let root = unescape(fields.nth(2)?);
    let target = unescape(fields.next()?);
    // Optional fields end with a single hyphen; the type follows it.
    fields.find(|field| *field == b"-")?;
    let fstype = String::from_utf8(fields.next()?.to_vec()).ok()?;
    let options = String::from_utf8_lossy(fields.nth(1)?).into_owned();
    Some(Mount {
        id,
        target: PathBuf::from(OsString::from_vec(target)),
        root: PathBuf::from(OsString::from_vec(root)),
        fstype,
        options,
    })
}

/// Undoes the kernel's octal escapes of space, tab, newline, and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if byte == b'\\' => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        out.push(octal.unwrap_or(byte));
        rest = tail
            .get(if octal.is_some() { 3 } else { 0 }..)
            .unwrap_or_default();
    }
    out
}

/// Returns the mount point of the cgroup v2 tree, such as `/sys/fs/cgroup` or `/sys/fs/cgroup/unified`.
///
/// # Errors
/// Returns `NotFound` if no cgroup v2 tree is mounted.
pub fn cgroup2_root(mounts: &[Mount]) -> io::Result<&Path> {
    mounts
        .iter()
        .find(|mount| mount.fstype == "cgroup2" && is_visible(mount))
        .map(|mount| mount.target.as_path())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup v2 tree is mounted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_escapes_and_optional_fields_is_read() {
        let line =
            br"36 35 98:0 /mnt1 /mnt\0402\134x rw,noatime master:1 shared:2 - ext3 /dev/root rw";
        assert_eq!(
            parse(line),
            Some(Mount {
                id: 36,
                target: PathBuf::from(r"/mnt 2\x"),
                root: PathBuf::from("/mnt1"),
                fstype: String::from("ext3"),
                options: String::from("rw"),
            })
        );
        assert_eq!(parse(b"36 35 98:0 /"), None);
    }

    #[test]
    fn file_systems_that_judge_by_process_are_recognized() {
        let judges = |fstype: &str, options: &str| {
            let line = format!("1 2 0:3 / /mnt rw - {fstype} source rw,{options}");
            parse(line.as_bytes())
                .unwrap()
                .judges_by_process()
                .is_some()
        };
        for (fstype, options) in [
            ("fuse", "user_id=0,group_id=0"),
            ("fuse.sshfs", "user_id=0,group_id=0,allow_other"),
            ("fuse.rclone", "user_id=0,group_id=0,default_permissions"),
            ("fuseblk", "user_id=0"),
            ("cifs", "vers=3.1.1,multiuser,sec=krb5"),
            ("nfs4", "vers=4.2,sec=krb5p,clientaddr=192.0.2.1"),
            ("9p", "access=user,trans=virtio"),
            ("afs", "x"),
        ] {
            assert!(judges(fstype, options), "{fstype} {options}");
        }
        for (fstype, options) in [
            (
                "fuse.fuse-overlayfs",
                "user_id=0,default_permissions,allow_other",
            ),
            ("fusectl", "x"),
            ("virtiofs", "x"),
            ("cifs", "vers=3.1.1,sec=ntlmssp"),
            ("nfs4", "vers=4.2,sec=sys"),
            ("9p", "access=client"),
            ("ext4", "errors=remount-ro"),
        ] {
            assert!(!judges(fstype, options), "{fstype} {options}");
        }
    }

    #[test]
    fn a_line_that_was_spoilt_is_none_or_another_line() {
        let sound =
            br"36 35 98:0 /mnt1 /mnt\040\134x rw,noatime master:1 shared:2 - ext3 /dev/root rw,x=y";
        let words: [&[u8]; 5] = [b" - ", b"\\", b"\\777", b" ", b"\xff"];
        let mut numbers = egress_test_support::mutate::Numbers::new(12);
        for _ in 0..20_000 {
            if let Some(mount) = parse(&numbers.mutated(&[sound], &words)) {
                assert!(mount.judges_by_process().is_none() || mount.fstype != "ext3");
            }
        }
    }
}
