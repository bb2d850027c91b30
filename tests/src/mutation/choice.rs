//! Selects which changes are made.
use std::env;

use super::change::Change;
use super::units::Unit;

/// Variable with the number or the names of changes.
pub(super) const MUTATIONS_VARIABLE: &str = "EGRESS_MUTATIONS";
/// Variable with the seed of a sample.
pub(super) const SEED_VARIABLE: &str = "EGRESS_MUTATION_SEED";
/// Default seed of a sample.
pub(super) const SEED: u64 = 17;

/// Which changes are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// All changes.
    Full,
    /// A sample: some changes at each of this many places.
    Sample(usize),
    /// Changes whose names start with this text.
    Named(String),
}

impl Choice {
    /// Returns the caller's choice, or a sample of `usual` places.
    pub(super) fn made(usual: usize) -> Self {
        match env::var(MUTATIONS_VARIABLE) {
            Err(_) => Self::Sample(usual),
            Ok(text) if text == "full" => Self::Full,
            Ok(text) => text.parse().map_or(Self::Named(text), Self::Sample),
        }
    }
}

/// Returns the seed of the sample, which is the same in every run unless the caller sets another one.
pub(super) fn seed() -> u64 {
    env::var(SEED_VARIABLE).map_or(SEED, |text| text.parse().expect("a number as the seed"))
}

/// Returns the next number of a pseudorandom sequence (splitmix64).
fn shuffled(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Returns the chosen units.
pub(super) fn chosen(mut units: Vec<Unit>, choice: &Choice, seed: u64) -> Vec<Unit> {
    match choice {
        Choice::Full => {}
        Choice::Sample(count) => {
            units.sort_by_cached_key(|unit| rank(seed, &unit.name()));
            units.truncate(*count);
        }
        Choice::Named(name) => {
            units.retain(|unit| name.starts_with(&unit.name()) || unit.name().starts_with(name));
        }
    }
    units
}

/// Returns the rank of a name in the order that the seed determines. The rank is the same on every machine.
fn rank(seed: u64, name: &str) -> u64 {
    name.bytes().fold(shuffled(seed), |number, byte| {
        shuffled(number ^ u64::from(byte))
    })
}

/// Returns the changes of a unit in the order that the seed determines.
pub(super) fn in_order_of(
    seed: u64,
    unit: &Unit,
    mut changes: Vec<(String, Change)>,
) -> Vec<(String, Change)> {
    let name = unit.name();
    changes.sort_by_cached_key(|(operator, _)| rank(seed, &format!("{name}{operator}")));
    changes
}
