//! Checks that a git index contains only names that git itself accepts in an index.
//!
//! git trusts its index. `git checkout .` writes `.git/hooks/post-checkout` or `../x` if the index
//! contains that name. Every part of an index must therefore be parsed (gitformat-index(5)), or the
//! index is rejected.
//!
//! Claims: read-git-index
use std::collections::BTreeMap;

use super::judge::is_git_name;

/// The longest accepted index, in bytes; a million files take about 100 MB. The same limit applies
/// to the names of the index when they are written out. Version 4 omits the part that a name shares
/// with the previous name, so a short index can hold terabytes of names.
pub const MOST_BYTES: u64 = 256 << 20;

/// Returns the length of an object id in the index: SHA-1, or SHA-256 if `config`, the repository's
/// configuration, selects it.
pub fn hash_length(config: &[u8]) -> usize {
    let config = config.to_ascii_lowercase();
    let holds = |word: &[u8]| config.windows(word.len()).any(|part| part == word);
    if holds(b"objectformat") && holds(b"sha256") {
        32
    } else {
        20
    }
}

/// Whether all names in `index` are below the work tree and outside of git directories.
pub fn is_plain(index: &[u8], hash: usize) -> bool {
    usize::try_from(MOST_BYTES).is_ok_and(|most| read(index, hash, most).is_some())
}

/// Reads an index whose names have at most `most` bytes in total.
fn read(index: &[u8], hash: usize, most: usize) -> Option<()> {
    let mut rest = Rest(index);
    let version = match rest.take(4)? {
        b"DIRC" => rest.number()?,
        _ => return None,
    };
    let entries = rest.number()?;
    let mut starts = BTreeMap::new();
    let mut name = Vec::new();
    let mut left = most;
    for number in 0..entries {
        let start = index.len() - rest.0.len();
        let (fresh, kept) = entry(&mut rest, version, hash, &name)?;
        left = left.checked_sub(fresh.len())?;
        if !is_plain_name(&fresh) {
            return None;
        }
        starts.insert(start, (number, kept));
        name = fresh;
    }
    let end = index.len() - rest.0.len();
    extensions(rest, hash, entries, end, &starts)
}

/// Reads the name of the next entry. Also returns the length of the part that the name shares with
/// the previous name.
fn entry(
    rest: &mut Rest<'_>,
    version: u32,
    hash: usize,
    before: &[u8],
) -> Option<(Vec<u8>, usize)> {
    const STAT: usize = 40;
    const EXTENDED: u16 = 0x4000;
    const LENGTH: u16 = 0x0fff;
    rest.take(STAT + hash)?;
    let flags = rest.short()?;
    let mut taken = STAT + hash + 2;
    if flags & EXTENDED != 0 {
        if version < 3 {
            return None;
        }
        rest.short()?;
        taken += 2;
    }
    let kept = match version {
        2 | 3 => 0,
        4 => before.len().checked_sub(rest.varint()?)?,
        _ => return None,
    };
    let mut name = before.get(..kept)?.to_vec();
    let length = rest.0.iter().position(|byte| *byte == 0)?;
    name.extend_from_slice(rest.take(length)?);
    // git uses the length in the flags if the length fits there.
    if name.len().min(usize::from(LENGTH)) != usize::from(flags & LENGTH) {
        return None;
    }
    if version == 4 {
        rest.take(1)?;
    } else {
        // One to eight NUL bytes follow, so that the next entry starts at a multiple of eight bytes
        // from this entry.
        taken += length;
        let padding = rest.take(8 - taken % 8)?;
        if padding.iter().any(|byte| *byte != 0) {
            return None;
        }
    }
    Some((name, kept))
}

/// Reads the extensions after the entries. Two extensions contain the positions of entries and extensions, for
/// multi-threaded readers. The positions must be correct, because otherwise such a reader would read a different index.
fn extensions(
    mut rest: Rest<'_>,
    hash: usize,
    entries: u32,
    end: usize,
    starts: &BTreeMap<usize, (u32, usize)>,
) -> Option<()> {
    const EOIE: &[u8] = b"EOIE";
    let eoie = 8 + 4 + hash;
    let tail = rest.0.len().checked_sub(hash)?;
    let expected = tail
        .checked_sub(eoie)
        .filter(|at| rest.0.get(*at..).is_some_and(|last| last.starts_with(EOIE)));
    let length = rest.0.len();
    let mut found = None;
    while rest.0.len() > hash {
        let at = length - rest.0.len();
        let name = rest.take(4)?;
        let size = rest.number()?;
        let mut inside = Rest(rest.take(usize::try_from(size).ok()?)?);
        match name {
            b"EOIE" => {
                if usize::try_from(inside.number()?).ok()? != end || inside.0.len() != hash {
                    return None;
                }
                found = Some(at);
            }
            b"IEOT" => blocks(&mut inside, entries, starts)?,
            // This extension moves the entries to another file.
            b"link" => return None,
            // git skips unknown extensions whose name starts with a capital letter. git must
            // support `sdir`, although that name starts with a small letter.
            [b'A'..=b'Z', ..] | b"sdir" => {}
            _ => return None,
        }
    }
    (rest.0.len() == hash && expected == found).then_some(())
}

/// Checks the blocks of entries: each must start at an entry with a full name.
fn blocks(
    inside: &mut Rest<'_>,
    entries: u32,
    starts: &BTreeMap<usize, (u32, usize)>,
) -> Option<()> {
    if inside.number()? != 1 {
        return None;
    }
    let mut next = 0;
    while !inside.0.is_empty() {
        let at = usize::try_from(inside.number()?).ok()?;
        let count = inside.number()?;
        if starts.get(&at) != Some(&(next, 0)) {
            return None;
        }
        next = next.checked_add(count)?;
    }
    (next == entries).then_some(())
}

/// Applies the checks of git's `verify_path` to a name.
fn is_plain_name(name: &[u8]) -> bool {
    // A directory of a sparse index ends with a slash.
    let name = name.strip_suffix(b"/").unwrap_or(name);
    name.split(|byte| *byte == b'/')
        .all(|part| !matches!(part, b"" | b"." | b"..") && !is_git_name(part))
}

/// The bytes that have not been read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// Reads a number in the variable-length format that packs use for offsets.
    fn varint(&mut self) -> Option<usize> {
        let [mut byte] = self.take(1)?.try_into().ok()?;
        let mut value = usize::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            [byte] = self.take(1)?.try_into().ok()?;
            value = value.checked_add(1)?.checked_mul(128)? | usize::from(byte & 0x7f);
        }
        Some(value)
    }
}

#[cfg(test)]
#[path = "git_index/tests.rs"]
mod tests;
