use super::examples::{secrets, some};
use super::*;

fn percent(text: &str) -> String {
    let escapes = text.bytes().map(|byte| format!("%{byte:02x}"));
    escapes.collect::<Vec<_>>().concat()
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for three in text.as_bytes().chunks(3) {
        let mut bits = 0_usize;
        for at in 0..3 {
            bits = bits << 8 | usize::from(three.get(at).copied().unwrap_or_default());
        }
        for digit in 0..=three.len() {
            out.push(char::from(DIGITS[bits >> (18 - 6 * digit) & 63]));
        }
    }
    out
}

/// Claims: crate-policy
#[test]
fn every_kind_of_secret_is_recognized_in_every_spelling() {
    for secret in secrets() {
        let once = percent(&secret);
        for text in [
            secret.clone(),
            format!("({secret})"),
            format!("file.{secret}"),
            once.clone(),
            once.replace('%', "%25"),
            base64(&secret),
            hex::encode(&secret),
        ] {
            assert!(is_secret(&text), "{secret}: {text}");
        }
    }
    // White space and dots do not hide a secret.
    assert!(is_secret(&format!("AKIA%20{}", some(16))));
    assert!(is_secret(&format!("AKIA.{}", some(16))));
    assert!(is_secret(&format!("postgres://user:{}@db/x", some(8))));
    assert!(is_secret(&format!("/search;token={}", some(8))));
}

#[test]
fn there_is_an_example_of_every_kind() {
    let secrets = secrets();
    for prefix in tokens::prefixes() {
        let is_there = secrets.iter().any(|secret| secret.starts_with(prefix));
        assert!(is_there, "no example starts with {prefix}");
    }
}

#[test]
fn tokens_are_recognized_in_any_case_and_inside_a_word() {
    let key = format!("AKIA{}", some(16));
    for text in [
        key.to_lowercase(),
        format!("x{key}"),
        format!("monkey_{key}"),
    ] {
        assert!(is_secret(&text), "{text}");
        assert!(!is_credential(&text.to_lowercase()), "{text}");
    }
    // The number of a card needs its check digit, and a bank account needs its country.
    assert!(!is_secret("4111-1111-1111-1112"));
    assert!(!is_secret("GB29NWBK60161331926818"));
    assert!(!is_secret("ZZ29NWBK60161331926819"));
    let key: String = ["5HueCGU8rMjxEXxiPuD5BDku", "4MkFqeZyd4dZ1jvhTVqvbTLvyTK"].concat();
    assert!(!is_secret(&key));
}

/// Paths of package registries, forges, mirrors, and object stores, as clients request them.
const PATHS: &[&str] = &[
    "/simple/scikit-learn/",
    "/packages/5a/9c/1b8d0f7e2c3a4b5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3/numpy-2.1.3-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "/@babel/core/-/core-7.26.0.tgz",
    "/@types%2fnode",
    "/npm_modules/sk-learn-contrib-packages",
    "/api/v1/crates/serde/1.0.217/download",
    "/se/rd/serde_json",
    "/github.com/stretchr/testify/@v/v1.10.0.zip",
    "/golang.org/x/net/@v/v0.0.0-20240115123456-abcdef012345.mod",
    "/maven2/org/apache/commons/commons-lang3/3.17.0/commons-lang3-3.17.0.jar.sha512",
    "/v3-flatcontainer/newtonsoft.json/13.0.3/newtonsoft.json.13.0.3.nupkg",
    "/ubuntu/dists/noble-updates/main/binary-amd64/by-hash/SHA256/3f9a07c5e1b84d263f9a07c5e1b84d263f9a07c5e1b84d263f9a07c5e1b84d26",
    "/debian/pool/main/o/openssl/libssl3t64_3.4.0-2_amd64.deb",
    "/v2/library/debian/blobs/sha256:8f2a07c5e1b84d263f9a07c5e1b84d263f9a07c5e1b84d263f9a07c5e1b84d26",
    "/v2/library/debian/manifests/sha256:8f2a07c5e1b84d263f9a07c5e1b84d263f9a07c5e1b84d263f9a07c5e1b84d26",
    "/rust-lang/rust/commit/90b35a6239c3d8bdabc530a6a0816f7ff89a0aaf",
    "/owner/repo/archive/refs/tags/v2024.05.01-rc.1.tar.gz",
    "/owner/repo/releases/download/v1.2.3/tool-x86_64-unknown-linux-musl.tar.gz",
    "/repos/owner/repo/actions/runs/12345678901/artifacts",
    "/123e4567-e89b-12d3-a456-426614174000/file",
    "/item/00000000-0000-4000-8000-000000000000",
    "/assets/index-BxT9qLmZ.js",
    "/assets/app.3f9a07c5e1b84d26.chunk.js",
    "/_next/static/chunks/4bd1b696-5dfc4f2d9dd4a1a7.js",
    "/files/dGhpcyBpcyBhIGxvbmcgYW5kIGhhcm1sZXNzIGZpbGUgbmFtZSBpbiBiYXNlNjQ",
    "/o/47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
    "/cache/z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg_SpIdNs6c5H0NE8XYXysP-DGNKHfuwvY7kxvUdBeoGlODJ6-SfaPg",
    "/risk-assessment-of-the-year-2026",
    "/wiki/Southeast_Asia",
    "/2024/05/17/how-to-write-a-parser-in-an-afternoon-without-regrets",
    "/articles/1700000000000000/comments",
    "/users/175928847299117063",
    "/maps/@52.5200066,13.404954,17z",
    "/search;page=2;sort=asc",
    "/key-value-store/monkey-business/task-9e107d9d372bb6826bd81d3542a419d6",
    "/tokens=all/password=",
    "/https://web.archive.test/web/20240115123456/http://a.test:8080/x",
    "/bots/123:x",
    "/eyJ",
    "/pypi-packages-of-the-day",
    "/100%",
    "/caf%C3%A9/%E6%97%A5%E6%9C%AC",
];

#[test]
fn ordinary_paths_are_shown() {
    for path in PATHS {
        for segment in path.split('/') {
            assert!(!is_secret(segment), "{segment} of {path}");
        }
        assert!(!is_secret(path), "{path}");
    }
}

#[test]
fn hashes_and_random_names_are_rarely_taken_for_secrets() {
    use sha2::{Digest, Sha256, Sha512};
    let mut hidden = Vec::new();
    for number in 0..2_000_u32 {
        let long = Sha512::digest(number.to_le_bytes());
        let short = Sha256::digest(number.to_le_bytes());
        let digits = hex::encode(short);
        let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
        let uuid = [
            part(0, 8),
            part(8, 12),
            part(12, 16),
            part(16, 20),
            part(20, 32),
        ]
        .join("-");
        for name in [
            part(0, 64).to_owned(),
            part(0, 40).to_owned(),
            part(0, 32).to_owned(),
            uuid,
            base64(&hex::encode(long)),
            format!("app.{}.js", part(0, 8)),
        ] {
            if is_secret(&name) {
                hidden.push(name);
            }
        }
    }
    assert!(hidden.len() <= 4, "{} of 12000: {hidden:?}", hidden.len());
}

#[test]
fn a_hostile_path_is_checked_in_bounded_time() {
    for piece in [
        "sk-",
        "eyJ",
        "M",
        "5",
        "1-",
        "%25",
        "=",
        "://:",
        "secret",
        "K.",
        "-----begin ",
    ] {
        let began = std::time::Instant::now();
        let _ = is_secret(&piece.repeat(CHECKED));
        let taken = began.elapsed();
        println!("{piece}: {taken:?}");
        assert!(
            taken < std::time::Duration::from_secs(5),
            "{piece}: {taken:?}"
        );
    }
}
