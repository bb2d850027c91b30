use super::*;

/// Builds an index of these names, followed by the extensions.
fn index(version: u32, hash: usize, names: &[&str], extensions: &[u8]) -> Vec<u8> {
    let mut out = b"DIRC".to_vec();
    out.extend(version.to_be_bytes());
    out.extend(u32::try_from(names.len()).unwrap().to_be_bytes());
    let mut before: &[u8] = b"";
    for name in names {
        let name = name.as_bytes();
        let start = out.len();
        out.extend(vec![7; 40 + hash]);
        let length = u16::try_from(name.len().min(0xfff)).unwrap();
        let extended = if version == 3 { 0x4000 } else { 0 };
        out.extend((length | extended).to_be_bytes());
        if version == 3 {
            out.extend([0x20, 0]);
        }
        if version == 4 {
            let same = before.iter().zip(name).take_while(|(a, b)| a == b).count();
            out.push(u8::try_from(before.len() - same).unwrap());
            out.extend(&name[same..]);
            out.push(0);
        } else {
            out.extend(name);
            out.extend(vec![0; 8 - (out.len() - start) % 8]);
        }
        before = name;
    }
    out.extend(extensions);
    out.extend(vec![9; hash]);
    out
}

fn extension(name: &[u8], inside: &[u8]) -> Vec<u8> {
    let size = u32::try_from(inside.len()).unwrap();
    [name, &size.to_be_bytes(), inside].concat()
}

const GOOD: [&str; 5] = [
    ".gitignore",
    "a",
    "a.git/b",
    "src/long/name.rs",
    "x/.github/y",
];

#[test]
fn what_git_writes_is_taken_in_every_version() {
    for version in [2, 3, 4] {
        for hash in [20, 32] {
            let tree = extension(b"TREE", b"whatever");
            assert!(is_plain(&index(version, hash, &GOOD, &tree), hash));
            assert!(is_plain(&index(version, hash, &[], &[]), hash));
        }
    }
    let long = "n/".repeat(3000) + "n";
    assert!(is_plain(&index(2, 20, &[&long], &[]), 20));
    assert!(is_plain(
        &index(3, 20, &["sparse/"], &extension(b"sdir", b"")),
        20
    ));
}

/// Claims: read-git-index, git-indexes
#[test]
fn names_that_lead_elsewhere_are_refused_in_every_version() {
    for name in [
        ".git/hooks/post-checkout",
        ".GIT/config",
        "sub/.git/config",
        ".git",
        "../evil",
        "a/../../evil",
        "/etc/evil",
        "a//b",
        "./a",
        "a/.",
        "",
        "/",
    ] {
        for version in [2, 3, 4] {
            for names in [&[name] as &[&str], &["a", name], &[name, "z"]] {
                let bytes = index(version, 20, names, &[]);
                assert!(!is_plain(&bytes, 20), "{version} {names:?}");
            }
        }
    }
}

/// Claims: read-git-index, git-indexes*
#[test]
fn an_index_that_another_reader_would_read_otherwise_is_refused() {
    let plain = index(2, 20, &GOOD, &[]);
    let end = u32::try_from(plain.len() - 20).unwrap();
    let at = |offset: u32, count: u32| [offset.to_be_bytes(), count.to_be_bytes()].concat();
    let blocks =
        |all: &[Vec<u8>]| extension(b"IEOT", &[&[0, 0, 0, 1], all.concat().as_slice()].concat());
    let eoie = |offset: u32| {
        extension(
            b"EOIE",
            &[&offset.to_be_bytes(), [5; 20].as_slice()].concat(),
        )
    };
    let with = |extensions: &[Vec<u8>]| is_plain(&index(2, 20, &GOOD, &extensions.concat()), 20);
    assert!(with(&[blocks(&[at(12, 5)]), eoie(end)]));
    assert!(with(&[blocks(&[at(12, 1), at(12 + 80, 4)]), eoie(end)]));
    for wrong in [
        // Blocks that do not start at entries, or do not cover all of them.
        vec![blocks(&[at(13, 5)]), eoie(end)],
        vec![blocks(&[at(12, 4)]), eoie(end)],
        vec![blocks(&[at(12, 1), at(12, 4)]), eoie(end)],
        vec![blocks(&[at(end, 5)]), eoie(end)],
        // Extensions at another place.
        vec![eoie(end + 8)],
        vec![eoie(end), extension(b"TREE", b"x")],
        // A tail that resembles an extension.
        vec![extension(b"TREE", &eoie(12))],
        vec![extension(b"link", &[0; 20])],
        vec![extension(b"what", b"")],
        vec![b"TREE".to_vec()],
        vec![extension(b"TREE", b"x"), vec![0]],
    ] {
        assert!(!with(&wrong), "{wrong:?}");
    }
    // A name that ends before or after its stated length.
    let mut short = plain.clone();
    short[12 + 61] -= 1;
    assert!(!is_plain(&short, 20));
    assert!(!is_plain(&plain, 32));
    for cut in 0..plain.len() {
        assert!(!is_plain(&plain[..cut], 20), "{cut}");
    }
}

#[test]
fn names_that_share_their_beginnings_are_limited_in_all() {
    let long = "a".repeat(1000);
    let bytes = index(4, 20, &[long.as_str(); 100], &[]);
    assert!(bytes.len() < 10_000);
    assert!(read(&bytes, 20, 100_000).is_some());
    assert!(read(&bytes, 20, 99_999).is_none());
}

#[test]
fn the_length_of_hashes_is_the_repositorys() {
    assert_eq!(hash_length(b"[core]\n\tbare = false\n"), 20);
    assert_eq!(hash_length(b"[extensions]\n\tobjectFormat = sha256\n"), 32);
}
