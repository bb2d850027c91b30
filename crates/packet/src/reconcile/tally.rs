//! Counts by key.
use std::collections::BTreeMap;

/// Different sizes that one target keeps apart.
const MOST_SIZES: usize = 4096;

/// Counts one more of `key`.
pub(super) fn one<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K) {
    some(counts, key, 1);
}

/// Counts `count` more of `key`.
pub(super) fn some<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, count: u64) {
    let counted = counts.entry(key).or_default();
    *counted = counted.saturating_add(count);
}

/// Counts one more of `size`, unless it would be one size too many to keep apart; tells whether it was counted.
pub(super) fn size<K: Ord>(sizes: &mut BTreeMap<K, u64>, size: K) -> bool {
    let is_kept = sizes.len() < MOST_SIZES || sizes.contains_key(&size);
    if is_kept {
        one(sizes, size);
    }
    is_kept
}
