//! Parses the headers of a tar archive in the GNU format, which the writer of a packet uses.

/// Length of a block of the archive, in bytes.
pub(super) const BLOCK: usize = 512;
/// Maximum number of extents of one file that are kept. The content of a file with more extents is not compared.
pub(super) const MOST_EXTENTS: usize = 1 << 20;

/// Length of an extent in a map, in bytes: its offset and its length.
const EXTENT: usize = 24;
/// Length of a number in a map, in bytes.
const NUMBER: usize = 12;

/// A part of a file that is not a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The parts of a file that are not holes.
#[derive(Debug)]
pub(super) struct Extents {
    pub(super) kept: Vec<Extent>,
    /// Whether there are more extents than are kept.
    pub(super) is_cut: bool,
}

impl Extents {
    /// Whether the extents are in order, end within `length`, and have `stored` bytes in total.
    pub(super) fn fit(&self, stored: u64, length: u64) -> bool {
        let (mut at, mut sum) = (0_u64, 0_u64);
        for extent in &self.kept {
            let Some(end) = extent.offset.checked_add(extent.length) else {
                return false;
            };
            // If a file ends with a hole, the writer ends its map with an empty extent. Any other empty extent is
            // invalid.
            let is_empty = extent.length == 0 && end != length;
            if extent.offset < at || end > length || is_empty {
                return false;
            }
            (at, sum) = (end, sum.saturating_add(extent.length));
        }
        sum == stored
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    /// Another name of a file that is already in the archive.
    Link,
    LongLink,
    LongName,
    Symlink,
}

/// An entry with its long names.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    /// Number of bytes of the content in the archive.
    pub(super) stored: u64,
    /// Number of bytes of the file.
    pub(super) length: u64,
    pub(super) extents: Extents,
    /// The type and the permission bits.
    pub(super) mode: u64,
}

/// The header of an entry.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) stored: u64,
    pub(super) length: u64,
    pub(super) extents: Vec<Extent>,
    /// Whether further blocks of the map follow.
    pub(super) is_extended: bool,
    /// The type and the permission bits.
    pub(super) mode: u64,
}

impl Header {
    /// Parses a header. Returns `None` if the block does not have the form that the writer uses.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Option<Self> {
        if block.get(257..265) != Some(b"ustar  \0") || number(block.get(148..156)?)? != sum(block)
        {
            return None;
        }
        let stored = number(block.get(124..136)?)?;
        let is_sparse = block.get(156) == Some(&b'S');
        let kind = match block.get(156)? {
            b'0' | b'S' => Kind::File,
            b'1' => Kind::Link,
            b'2' => Kind::Symlink,
            b'5' => Kind::Directory,
            b'K' => Kind::LongLink,
            b'L' => Kind::LongName,
            _ => return None,
        };
        let mode = number(block.get(100..108)?)?;
        if !has_plain_fields(block, kind, is_sparse)? {
            return None;
        }
        let has_content = matches!(kind, Kind::File | Kind::LongLink | Kind::LongName);
        if stored > 0 && !has_content {
            return None;
        }
        let (extents, is_extended, length) = if is_sparse {
            let extents = map(block.get(386..482)?)?;
            let length = number(block.get(483..495)?)?;
            (extents, *block.get(482)? != 0, length)
        } else {
            let whole = Extent {
                offset: 0,
                length: stored,
            };
            (vec![whole], false, stored)
        };
        Some(Self {
            kind,
            name: text(block.get(..100)?),
            link: text(block.get(157..257)?),
            stored,
            length,
            extents,
            is_extended,
            mode,
        })
    }
}

/// Whether the other fields have the values of the writer. Only a file has an owner and a time, and the number 0 for the
/// device. No entry has names of an owner, or other times.
fn has_plain_fields(block: &[u8; BLOCK], kind: Kind, is_sparse: bool) -> Option<bool> {
    let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let (uid, gid) = (block.get(108..116)?, block.get(116..124)?);
    let time = number(block.get(136..148)?)?;
    let is_owned = match kind {
        Kind::File => true,
        Kind::LongLink | Kind::LongName => number(uid)? == 0 && number(gid)? == 0 && time == 0,
        Kind::Directory | Kind::Link | Kind::Symlink => is_zero(uid) && is_zero(gid) && time == 0,
    };
    let device = block.get(329..345)?;
    let is_device = match kind {
        Kind::File => device.iter().all(|byte| matches!(byte, 0 | b'0')),
        Kind::Directory | Kind::Link | Kind::LongLink | Kind::LongName | Kind::Symlink => {
            is_zero(device)
        }
    };
    let rest = block.get(if is_sparse { 495..512 } else { 386..512 })?;
    let is_empty = is_zero(block.get(265..329)?) && is_zero(block.get(345..386)?) && is_zero(rest);
    Some(is_owned && is_device && is_empty)
}

/// Returns the extents of a further block of a map, and whether another block follows.
pub(super) fn extents_of_block(block: &[u8; BLOCK]) -> Option<(Vec<Extent>, bool)> {
    let (places, rest) = block.split_at_checked(504)?;
    let (is_extended, padding) = rest.split_first()?;
    let is_padded = padding.iter().all(|byte| *byte == 0) && *is_extended < 2;
    is_padded.then_some(())?;
    Some((map(places)?, *is_extended != 0))
}

/// Returns the extents of a map. The map ends at the first empty place.
fn map(bytes: &[u8]) -> Option<Vec<Extent>> {
    let is_used = |place: &&[u8]| place.first() != Some(&0);
    let places = bytes.chunks_exact(EXTENT);
    let used = places.clone().take_while(is_used);
    let mut unused = places.skip_while(is_used).flatten();
    unused.all(|byte| *byte == 0).then_some(())?;
    used.map(|place| {
        let (offset, length) = place.split_at_checked(NUMBER)?;
        Some(Extent {
            offset: number(offset)?,
            length: number(length)?,
        })
    })
    .collect()
}

/// Returns the checksum of a header: the sum of its bytes, with spaces in place of the checksum field.
fn sum(block: &[u8; BLOCK]) -> u64 {
    let places = block.iter().enumerate();
    let bytes = places.map(|(place, byte)| {
        if (148..156).contains(&place) {
            b' '
        } else {
            *byte
        }
    });
    bytes.fold(0, |sum, byte| u64::saturating_add(sum, byte.into()))
}

/// Reads an octal number, or a binary number if the first bit is set.
fn number(bytes: &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    if *first == 0x80 {
        let (high, low) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
        let low: [u8; 8] = low.try_into().ok()?;
        return high
            .iter()
            .all(|byte| *byte == 0)
            .then(|| u64::from_be_bytes(low));
    }
    let digits = bytes.trim_ascii_start();
    let end = digits.iter().position(|byte| matches!(byte, 0 | b' '));
    let (digits, rest) = digits.split_at_checked(end.unwrap_or(digits.len()))?;
    let is_empty = rest.iter().all(|byte| matches!(byte, 0 | b' '));
    let text = str::from_utf8(digits).ok()?;
    let is_octal = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    (is_empty && is_octal)
        .then(|| u64::from_str_radix(text, 8).ok())
        .flatten()
}

/// Returns the bytes before the first NUL.
fn text(bytes: &[u8]) -> Vec<u8> {
    bytes
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default()
        .to_vec()
}
