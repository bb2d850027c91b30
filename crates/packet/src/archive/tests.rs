//! Tests an archive that the `tar` program made, and altered copies of it. The archive has long names, a file with
//! holes, a hard link, a directory, and a symbolic link.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the numbers of the test are small"
)]
use super::*;
use crate::format::changes::{ChangeReason, ChangeRule};

/// Returns a header with its sum.
fn header(name: &str, kind: u8, stored: u64, link: &str) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    let (mode, owner): (&[u8], &[u8]) = match kind {
        b'5' => (b"0000755\0", b""),
        b'2' => (b"0000777\0", b""),
        b'1' => (b"0100644\0", b""),
        b'K' | b'L' => (b"0000644\0", b"0000000\0"),
        _ => (b"0100644\0", b"\x80\0\0\0\x70\0\0\x04"),
    };
    if matches!(kind, b'0' | b'S') {
        put(329, b"0000000\0");
        put(337, b"0000000\0");
    }
    put(100, mode);
    put(108, owner);
    put(116, owner);
    put(136, b"00000000000\0");
    put(124, format!("{stored:011o}\0").as_bytes());
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar  \0");
    summed(block)
}

fn summed(mut block: [u8; BLOCK]) -> [u8; BLOCK] {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// Returns a file of 3,000 bytes, with a map of 5 extents. Only the 1,024 bytes from offset 1,024 are not a hole.
fn sparse(name: &str) -> Vec<u8> {
    let mut block = header(name, b'S', 1_024, "");
    let put = |block: &mut [u8; BLOCK], at: usize, number: u64| {
        block[at..at + 12].copy_from_slice(format!("{number:011o}\0").as_bytes());
    };
    for (place, at) in [1_024, 1_280, 1_536, 1_792].into_iter().enumerate() {
        put(&mut block, 386 + place * 24, at);
        put(&mut block, 398 + place * 24, 256);
    }
    block[482] = 1;
    put(&mut block, 483, 3_000);
    let mut more = [0; BLOCK];
    put(&mut more, 0, 3_000);
    put(&mut more, 12, 0);
    [summed(block).as_slice(), &more, &[7; 1_024]].concat()
}

fn change(path: &str, kind: EntryKind) -> Change {
    Change {
        path: path.to_owned(),
        change: WhatChanged::Created,
        kind,
        outcome: ChangeOutcome::Refused,
        reason: Some(ChangeReason::Rule(ChangeRule::Github)),
        ..Change::default()
    }
}

fn file(path: &str, content: &[u8]) -> Change {
    Change {
        mode: Some("0644".into()),
        size: u64::try_from(content.len()).ok(),
        sha256: Some(hex::encode(Sha256::digest(content)).into()),
        ..change(path, EntryKind::File)
    }
}

fn sound() -> (Vec<u8>, Vec<Change>) {
    let long = format!("dir/{}", "n".repeat(200));
    let mut with_holes = vec![0; 3_000];
    with_holes[1_024..2_048].fill(7);
    let applied = Change {
        outcome: ChangeOutcome::Applied,
        ..file("applied", b"x")
    };
    let link = Change {
        target: Some("../a//b".into()),
        ..change("link", EntryKind::Symlink)
    };
    let deleted = Change {
        change: WhatChanged::Deleted,
        ..change("deleted", EntryKind::File)
    };
    let reduced = Change {
        reduced: true,
        ..file(".git/config", b"reduced")
    };
    let changes = vec![
        change("dir", EntryKind::Directory),
        file(&long, b"content"),
        applied,
        change("pipe", EntryKind::Fifo),
        file("holes", &with_holes),
        file("other", b"content"),
        link,
        deleted,
        reduced,
    ];
    let archive = [
        header("dir", b'5', 0, "").to_vec(),
        header("././@LongLink", b'L', 205, "").to_vec(),
        padded(format!("{long}\0").as_bytes()),
        header("dir/nnn", b'0', 7, "").to_vec(),
        padded(b"content"),
        sparse("holes"),
        header("././@LongLink", b'K', 205, "").to_vec(),
        padded(format!("{long}\0").as_bytes()),
        header("other", b'1', 0, "dir/nnn").to_vec(),
        header("link", b'2', 0, "../a/b").to_vec(),
        header(".git/config", b'0', 4, "").to_vec(),
        padded(b"full"),
        vec![0; 2 * BLOCK],
    ];
    (archive.concat(), changes)
}

fn found(archive: &[u8], changes: &[Change]) -> Option<String> {
    differs(&mut &*archive, changes).unwrap()
}

#[test]
fn archive_of_the_changes_has_nothing_to_say() {
    let (archive, changes) = sound();
    assert_eq!(found(&archive, &changes), None);
}

#[test]
fn every_byte_of_the_archive_counts() {
    let (archive, changes) = sound();
    for at in 0..archive.len() {
        let mut changed = archive.clone();
        changed[at] ^= 1;
        // The text of a discarded configuration is not compared, because `changes.json` describes the reduced one.
        let is_reduced = at / BLOCK == archive.len() / BLOCK - 3 && at % BLOCK < 4;
        assert_eq!(
            found(&changed, &changes).is_some(),
            !is_reduced,
            "byte {at}"
        );
    }
    for length in [0, BLOCK, archive.len() - BLOCK, archive.len() - 1] {
        assert!(found(&archive[..length], &changes).is_some(), "{length}");
    }
    let longer = [archive.as_slice(), &[0; BLOCK]].concat();
    assert!(found(&longer, &changes).is_some());
}

type Break = fn(&mut Vec<Change>);

#[test]
fn every_difference_is_named() {
    let breaks: [(&str, Break); 9] = [
        ("another entry", |changes| drop(changes.remove(0))),
        ("an entry without a change", |changes| drop(changes.pop())),
        ("no such entry", |changes| changes.push(file("more", b""))),
        ("another length or digest", |changes| {
            changes[1].size = Some(8);
        }),
        ("another length or digest", |changes| {
            changes[4].sha256 = Some("00".repeat(32).into());
        }),
        ("another target", |changes| {
            changes[6].target = Some("/a/b".into());
        }),
        ("another kind", |changes| changes[0].kind = EntryKind::File),
        ("another mode", |changes| {
            changes[1].mode = Some("0600".into());
        }),
        ("another mode", |changes| {
            changes[5].mode = Some("0755".into());
        }),
    ];
    for (expected, spoil) in breaks {
        let (archive, mut changes) = sound();
        spoil(&mut changes);
        let found = found(&archive, &changes).unwrap_or_default();
        assert!(found.contains(expected), "{expected}: {found}");
    }
}

/// The writer removes the set-user-ID bit of a file if another name of the file was applied.
#[test]
fn archive_may_lack_the_bit_that_applying_removed() {
    let (archive, mut changes) = sound();
    changes[1].mode = Some("4644".into());
    assert_eq!(found(&archive, &changes), None);
}

#[test]
fn fields_that_the_writer_does_not_set_are_named() {
    let (archive, changes) = sound();
    let places: [(usize, usize, &[u8]); 7] = [
        (0, 100, b"0000777\0"),
        (0, 108, b"0000001\0"),
        (0, 136, b"00000000001\0"),
        (0, 265, b"root"),
        (1, 136, b"00000000001\0"),
        (3, 100, b"0104755\0"),
        (3, 329, b"0000001\0"),
    ];
    for (entry, at, bytes) in places {
        let mut changed = archive.clone();
        let begin = entry * BLOCK;
        changed[begin + at..begin + at + bytes.len()].copy_from_slice(bytes);
        let block: [u8; BLOCK] = changed[begin..begin + BLOCK].try_into().unwrap();
        changed[begin..begin + BLOCK].copy_from_slice(&summed(block));
        assert!(found(&changed, &changes).is_some(), "{entry} {at}");
    }
}
