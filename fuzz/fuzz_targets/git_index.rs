//! The git index: an accepted index contains no name inside a git directory, and a truncated index is not accepted.
#![no_main]
use egress_workspace::apply::git_index::{hash_length, is_plain};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let hash = hash_length(data);
    assert!(hash == 20 || hash == 32);
    for hash in [20, 32] {
        if is_plain(data, hash) {
            for length in data.len().saturating_sub(7)..data.len() {
                assert!(!is_plain(&data[..length], hash), "cut to {length}");
            }
            // Position of the first name, if the entry has no extended flags.
            let entry = data.get(12..).unwrap_or_default();
            if data[7] != 4
                && data[8..12] != [0; 4]
                && let Some(name) = entry.get(42 + hash..)
                && entry[40 + hash] & 0x40 == 0
            {
                assert!(!name.starts_with(b".git/") && !name.starts_with(b"../"));
            }
        }
    }
});
