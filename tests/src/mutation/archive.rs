//! Changes the entries of the archive with the changed files.

/// Length of a block, in bytes.
const BLOCK: usize = 512;
/// Places of the fields in a header, in bytes.
const MODE: std::ops::Range<usize> = 100..108;
const SIZE: std::ops::Range<usize> = 124..136;
const TIME: std::ops::Range<usize> = 136..148;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const KIND: usize = 156;

/// Returns changed versions of an archive, each with the name of the change.
pub(super) fn changes(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (entries, end) = entries(archive);
    let version = |entries: &[Vec<u8>]| [entries.concat(), end.to_vec()].concat();
    let mut all = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let mut add = |name: &str, changed: Vec<Vec<u8>>| {
            all.push((format!("{name}={at}"), version(&changed)));
        };
        let with = |entry: Option<Vec<u8>>| {
            let mut entries = entries.clone();
            entries.splice(at..=at, entry);
            entries
        };
        add("entry_removed", with(None));
        let mut twice = entries.clone();
        twice.insert(at, entry.clone());
        add("entry_twice", twice);
        if at + 1 < entries.len() {
            let mut swapped = entries.clone();
            swapped.swap(at, at + 1);
            add("entry_swapped", swapped);
        }
        let header = |change: &dyn Fn(&mut [u8])| {
            let mut entry = entry.clone();
            change(&mut entry);
            sign(&mut entry);
            with(Some(entry))
        };
        for (name, bits) in [("mode_execute", 0o100), ("mode_setuid", 0o4000)] {
            let changed = header(&|entry| {
                let mode = number(entry, MODE) ^ bits;
                put(entry, MODE, mode);
            });
            add(name, changed);
        }
        let renamed = header(&|entry| {
            if let Some(byte) = entry.first_mut() {
                *byte ^= 1;
            }
        });
        add("renamed", renamed);
        let later = header(&|entry| put(entry, TIME, number(entry, TIME) + 1));
        add("later", later);
        let others = b"0125".iter().filter(|kind| entry.get(KIND) != Some(kind));
        for kind in others.copied() {
            let changed = header(&|entry| {
                if let Some(there) = entry.get_mut(KIND) {
                    *there = kind;
                }
            });
            add(&format!("kind_{}", char::from(kind)), changed);
        }
        let size = number(entry, SIZE);
        if size > 0 {
            let changed = header(&|entry| {
                if let Some(byte) = entry.get_mut(BLOCK) {
                    *byte ^= 1;
                }
            });
            add("content", changed);
            let shorter = header(&|entry| put(entry, SIZE, size - 1));
            add("size_without_content", shorter);
        }
        let mut longer = entry.clone();
        longer.truncate(BLOCK + usize::try_from(size).unwrap_or(0));
        longer.push(b'x');
        longer.resize(longer.len().next_multiple_of(BLOCK), 0);
        put(&mut longer, SIZE, size + 1);
        sign(&mut longer);
        add("longer", with(Some(longer)));
    }
    all
}

/// Returns the entries of the archive, each with its header and its content, and the end of the archive.
fn entries(archive: &[u8]) -> (Vec<Vec<u8>>, &[u8]) {
    let mut entries = Vec::new();
    let mut rest = archive;
    while rest.len() >= BLOCK && rest.first().is_some_and(|byte| *byte != 0) {
        let size = usize::try_from(number(rest, SIZE)).unwrap_or(0);
        let length = (BLOCK + size.next_multiple_of(BLOCK)).min(rest.len());
        let (entry, after) = rest.split_at(length);
        entries.push(entry.to_vec());
        rest = after;
    }
    (entries, rest)
}

/// Reads an octal number of a header.
fn number(header: &[u8], field: std::ops::Range<usize>) -> u64 {
    let digits = header.get(field).unwrap_or_default();
    let digits = digits.iter().filter(|byte| (b'0'..=b'7').contains(byte));
    digits.fold(0, |number, digit| number * 8 + u64::from(digit - b'0'))
}

fn put(header: &mut [u8], field: std::ops::Range<usize>, number: u64) {
    let digits = field.len() - 1;
    let text = format!("{number:0digits$o}\0");
    if let Some(there) = header.get_mut(field)
        && there.len() == text.len()
    {
        there.copy_from_slice(text.as_bytes());
    }
}

/// Computes the checksum of a header again.
fn sign(header: &mut [u8]) {
    if let Some(there) = header.get_mut(CHECKSUM) {
        there.fill(b' ');
    }
    let sum: u64 = header.iter().take(BLOCK).map(|byte| u64::from(*byte)).sum();
    let text = format!("{sum:06o}\0 ");
    if let Some(there) = header.get_mut(CHECKSUM) {
        there.copy_from_slice(text.as_bytes());
    }
}
