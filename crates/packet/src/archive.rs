//! Compares `workspace-changes.tar` with `changes.json`. The archive is read once, in the order of the changes and
//! block by block, so no whole file is in memory.
use std::collections::BTreeMap;
use std::io::{self, Read};

use egress_policy::path_text::unescape;
use sha2::{Digest as _, Sha256};

use super::format::changes::{Change, ChangeOutcome, EntryKind, WhatChanged};

mod header;
#[cfg(test)]
mod tests;

use header::{BLOCK, Entry, Extent, Extents, Header, Kind};

/// Maximum number of bytes of holes that are hashed, in total. The writer has the same limit.
const MOST_HOLES: u64 = 8 << 30;
/// Maximum length of a name and of the target of a link, in bytes. The writer does not archive longer paths.
const LONGEST_NAME: u64 = 8 << 10;

/// Length and digest of a file in the archive. The digest is `None` if the file has too many holes to hash it.
type Content = (u64, Option<String>);

/// Returns the first difference between the archive and the changes, or `None` if they match.
///
/// # Errors
/// Fails if the archive cannot be read.
pub(super) fn differs(archive: &mut impl Read, changes: &[Change]) -> io::Result<Option<String>> {
    let mut reader = Reader {
        archive,
        holes_left: MOST_HOLES,
    };
    let mut names: BTreeMap<Vec<u8>, Content> = BTreeMap::new();
    for change in changes.iter().filter(|change| is_kept(change)) {
        let Some(path) = unescape(&change.path) else {
            return Ok(Some(String::from("a path cannot be read")));
        };
        let shown = || format!("{}: ", change.path);
        let entry = match reader.entry()? {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(Some(shown() + "no such entry")),
            Err(why) => return Ok(Some(shown() + why)),
        };
        let name = entry.name.strip_suffix(b"/").unwrap_or(&entry.name);
        if name != path {
            return Ok(Some(shown() + "another entry is in its place"));
        }
        if !has_mode(change, &entry) {
            return Ok(Some(shown() + "the entry has another mode"));
        }
        let content = match (&change.kind, entry.kind) {
            (EntryKind::Directory, Kind::Directory) => continue,
            (EntryKind::Symlink, Kind::Symlink) => {
                let target = change.target.as_deref().and_then(unescape);
                if !is_same_target(&target.unwrap_or_default(), &entry.link) {
                    return Ok(Some(shown() + "the link has another target"));
                }
                continue;
            }
            (EntryKind::File, Kind::File) => {
                let content = reader.content(&entry)?;
                match content {
                    Ok(content) => content,
                    Err(why) => return Ok(Some(shown() + why)),
                }
            }
            (EntryKind::File, Kind::Link) => match names.get(&entry.link) {
                Some(content) => content.clone(),
                None => return Ok(Some(shown() + "the other name of the file is missing")),
            },
            _ => return Ok(Some(shown() + "the entry is of another kind")),
        };
        // The archive has the text that the command wrote, but `changes.json` describes the reduced configuration.
        if !change.reduced {
            let is_long = change.size.is_some_and(|size| size != content.0);
            let stated = change.sha256.as_deref();
            let is_other = content
                .1
                .as_deref()
                .zip(stated)
                .is_some_and(|(one, other)| one != other);
            if is_long || is_other {
                return Ok(Some(shown() + "the file has another length or digest"));
            }
        }
        names.insert(path, content);
    }
    match reader.entry()? {
        Ok(None) if reader.is_at_end()? => Ok(None),
        Ok(_) => Ok(Some(String::from("an entry without a change"))),
        Err(why) => Ok(Some(why.to_owned())),
    }
}

/// Whether the entry has the mode that the writer sets. The writer removes the bits above 0777 of a file if another name
/// of the file was applied. The change of a reduced configuration does not have the mode of the file in the archive.
fn has_mode(change: &Change, entry: &Entry) -> bool {
    const PERMISSIONS: u64 = 0o777;
    const ALL: u64 = 0o7777;
    const REGULAR: u64 = 0o100_000;
    match entry.kind {
        Kind::Directory => entry.mode == 0o755,
        Kind::Symlink => entry.mode == PERMISSIONS,
        Kind::File | Kind::Link => {
            let stated = change.mode.as_ref();
            let stated = stated.and_then(|mode| u64::from_str_radix(mode, 8).ok());
            let is_same = stated.is_none_or(|stated| {
                let (bits, kept) = (entry.mode & ALL, entry.mode & PERMISSIONS);
                bits & !stated == 0 && kept == stated & PERMISSIONS
            });
            entry.mode & !ALL == REGULAR && (change.reduced || is_same)
        }
        Kind::LongLink | Kind::LongName => true,
    }
}

/// Whether two targets are the same. The writer of the archive leaves out empty names and `.`.
fn is_same_target(one: &[u8], other: &[u8]) -> bool {
    let parts = |target: &[u8]| -> Vec<Vec<u8>> {
        let names = target.split(|byte| *byte == b'/');
        let names = names.filter(|name| !matches!(*name, b"" | b"."));
        names.map(<[u8]>::to_vec).collect()
    };
    one.starts_with(b"/") == other.starts_with(b"/") && parts(one) == parts(other)
}

/// Whether the archive must have an entry for this change.
pub(super) fn is_kept(change: &Change) -> bool {
    let is_made = matches!(change.change, WhatChanged::Created | WhatChanged::Modified);
    let has_entry = matches!(
        change.kind,
        EntryKind::Directory | EntryKind::File | EntryKind::Symlink
    );
    is_made && has_entry && change.outcome != ChangeOutcome::Applied
}

/// Reads the entries of an archive.
struct Reader<'a, R> {
    archive: &'a mut R,
    holes_left: u64,
}

impl<R: Read> Reader<'_, R> {
    fn block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        match self.archive.read_exact(&mut block) {
            Ok(()) => Ok(Some(block)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the header of the next entry, with its long names. Returns `None` at the end of the archive.
    fn entry(&mut self) -> io::Result<Result<Option<Entry>, &'static str>> {
        let (mut name, mut link) = (None, None);
        loop {
            let Some(block) = self.block()? else {
                return Ok(Err("the archive has no end"));
            };
            if block == [0; BLOCK] {
                let is_end = name.is_none() && link.is_none() && self.block()? == Some([0; BLOCK]);
                return Ok(if is_end {
                    Ok(None)
                } else {
                    Err("the archive has no end")
                });
            }
            let Some(header) = Header::parse(&block) else {
                return Ok(Err("the header of an entry is not that of a tar archive"));
            };
            let long = match header.kind {
                Kind::LongName => &mut name,
                Kind::LongLink => &mut link,
                Kind::File | Kind::Directory | Kind::Symlink | Kind::Link => {
                    let mut extents = Extents {
                        kept: header.extents,
                        is_cut: false,
                    };
                    if header.is_extended && !self.extents(&mut extents)? {
                        return Ok(Err("the map of a file with holes is not complete"));
                    }
                    if !extents.is_cut && !extents.fit(header.stored, header.length) {
                        return Ok(Err("the map of a file with holes contradicts its length"));
                    }
                    return Ok(Ok(Some(Entry {
                        kind: header.kind,
                        name: name.unwrap_or(header.name),
                        link: link.unwrap_or(header.link),
                        stored: header.stored,
                        length: header.length,
                        extents,
                        mode: header.mode,
                    })));
                }
            };
            if long.is_some() || header.stored > LONGEST_NAME {
                return Ok(Err("the name of an entry is too long"));
            }
            let mut text = Vec::new();
            let read = self.data(header.stored, &mut |bytes| text.extend_from_slice(bytes))?;
            if !read || text.pop() != Some(0) {
                return Ok(Err("the name of an entry is not complete"));
            }
            *long = Some(text);
        }
    }

    /// Reads further blocks of the map of a file with holes. Returns false if a block is missing or invalid.
    fn extents(&mut self, extents: &mut Extents) -> io::Result<bool> {
        loop {
            let Some(block) = self.block()? else {
                return Ok(false);
            };
            let Some((more, is_extended)) = header::extents_of_block(&block) else {
                return Ok(false);
            };
            extents.is_cut |= extents.kept.len() > header::MOST_EXTENTS;
            if !extents.is_cut {
                extents.kept.extend(more);
            }
            if !is_extended {
                return Ok(true);
            }
        }
    }

    /// Reads `length` bytes and the padding up to the next block. Returns false if bytes are missing or the padding is
    /// not zero.
    fn data(&mut self, length: u64, take: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let mut left = length;
        while left > 0 {
            let Some(block) = self.block()? else {
                return Ok(false);
            };
            let wanted = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
            let (bytes, padding) = block.split_at(wanted);
            take(bytes);
            if padding.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            left = left.saturating_sub(u64::try_from(wanted).unwrap_or(left));
        }
        Ok(true)
    }

    /// Reads the content of a file.
    fn content(&mut self, entry: &Entry) -> io::Result<Result<Content, &'static str>> {
        let incomplete = "the content of the file is not complete";
        let mut hash = Sha256::new();
        let holes = entry.length.saturating_sub(entry.stored);
        let is_hashed = match self.holes_left.checked_sub(holes) {
            Some(left) if !entry.extents.is_cut => {
                self.holes_left = left;
                true
            }
            Some(_) | None => false,
        };
        let mut at = 0_u64;
        let mut extents = entry.extents.kept.iter();
        let mut extent = extents.next().copied();
        let zeros = |hash: &mut Sha256, mut count: u64| {
            let zero = [0; BLOCK];
            while count > 0 && is_hashed {
                let length = usize::try_from(count).unwrap_or(BLOCK).min(BLOCK);
                hash.update(zero.get(..length).unwrap_or_default());
                count = count.saturating_sub(u64::try_from(length).unwrap_or(count));
            }
        };
        let read = self.data(entry.stored, &mut |mut bytes| {
            while let (false, Some(Extent { offset, length })) = (bytes.is_empty(), extent) {
                zeros(&mut hash, offset.saturating_sub(at));
                at = at.max(offset);
                let left = offset.saturating_add(length).saturating_sub(at);
                let take = usize::try_from(left)
                    .unwrap_or(bytes.len())
                    .min(bytes.len());
                let (now, later) = bytes.split_at(take);
                hash.update(now);
                at = at.saturating_add(u64::try_from(take).unwrap_or(0));
                bytes = later;
                if at >= offset.saturating_add(length) {
                    extent = extents.next().copied();
                }
            }
        })?;
        if !read {
            return Ok(Err(incomplete));
        }
        zeros(&mut hash, entry.length.saturating_sub(at));
        let digest = is_hashed.then(|| hex::encode(hash.finalize()));
        Ok(Ok((entry.length, digest)))
    }

    /// Whether nothing follows the end of the archive.
    fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.archive.read(&mut [0; 1])? == 0)
    }
}
