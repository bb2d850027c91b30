//! Counts by key.
use std::collections::BTreeMap;

/// Maximum number of different sizes that are kept for one target.
const MOST_SIZES: usize = 4096;

pub(super) fn one<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K) {
    some(counts, key, 1);
}

pub(super) fn some<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, count: u64) {
    let counted = counts.entry(key).or_default();
    *counted = counted.saturating_add(count);
}

/// Adds one to the count of `size`, unless there would be too many different sizes. Returns whether
/// `size` was counted.
pub(super) fn size<K: Ord>(sizes: &mut BTreeMap<K, u64>, size: K) -> bool {
    let is_kept = sizes.len() < MOST_SIZES || sizes.contains_key(&size);
    if is_kept {
        one(sizes, size);
    }
    is_kept
}
