//! Writes an uncompressed tar of the changes that were not applied, as the command left them. The tar needs little more
//! space than these changes, because holes are left out and additional names of a file become links to the first name.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::OFlag;

use super::judge::Kind;
use super::model::{Change, ChangeOutcome, Plan, What};
use super::path::RelPath;
use super::tree;

/// Writes to the tar `out` the created and modified entries of `upper` whose change in `plan` was not applied. Returns
/// the number of entries in the tar. Devices, sockets and named pipes appear only in the list of changes.
///
/// # Errors
/// Fails if an entry cannot be read or the tar cannot be written.
pub fn write(upper: &OwnedFd, plan: &Plan, out: &mut File) -> io::Result<usize> {
    let mut builder = tar::Builder::new(&mut *out);
    let mut entries = 0;
    let mut names = BTreeMap::new();
    for change in &plan.changes {
        let made = matches!(change.change, What::Created | What::Modified);
        if change.outcome != ChangeOutcome::Applied
            && made
            && append(&mut builder, upper, change, &mut names)?
        {
            entries += 1;
        }
    }
    builder.finish()?;
    drop(builder);
    out.rewind()?;
    Ok(entries)
}

fn append(
    builder: &mut tar::Builder<&mut File>,
    upper: &OwnedFd,
    change: &Change,
    names: &mut BTreeMap<u64, RelPath>,
) -> io::Result<bool> {
    let path = Path::new(change.path.as_os_str());
    let (parent, name) = change.path.split();
    match change.kind {
        Kind::File => {
            let dir = tree::beneath(upper, &parent, OFlag::O_RDONLY)?;
            let mut file = tree::open_file(&dir, name)?;
            let meta = file.metadata()?;
            if let Some(first) = names.get(&meta.ino()) {
                let mut header = header(tar::EntryType::Link, meta.mode());
                builder.append_link(&mut header, path, Path::new(first.as_os_str()))?;
                return Ok(true);
            }
            builder.append_file(path, &mut file)?;
            if meta.nlink() > 1 {
                names.insert(meta.ino(), change.path.clone());
            }
        }
        Kind::Directory => {
            let mut header = header(tar::EntryType::Directory, 0o755);
            builder.append_data(&mut header, path, io::empty())?;
        }
        Kind::Symlink => {
            let mut header = header(tar::EntryType::Symlink, 0o777);
            let target = change.target.as_ref().map(RelPath::as_os_str);
            builder.append_link(&mut header, path, Path::new(target.unwrap_or_default()))?;
        }
        Kind::Device | Kind::Fifo | Kind::Socket => return Ok(false),
    }
    Ok(true)
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header
}
