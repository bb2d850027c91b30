//! Which changes the caller wants made.
use std::env;

use super::change::Change;
use super::units::Unit;

/// How many, or which.
pub(super) const MUTATIONS_VARIABLE: &str = "EGRESS_MUTATIONS";
/// Repeats a sample.
pub(super) const SEED_VARIABLE: &str = "EGRESS_MUTATION_SEED";
/// Seed of a sample.
pub(super) const SEED: u64 = 17;

/// Which changes are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// All.
    Full,
    /// Some of so many places.
    Sample(usize),
    /// Those whose names begin so.
    Named(String),
}

impl Choice {
    /// The caller's, or `usual` places.
    pub(super) fn made(usual: usize) -> Self {
        match env::var(MUTATIONS_VARIABLE) {
            Err(_) => Self::Sample(usual),
            Ok(text) if text == "full" => Self::Full,
            Ok(text) => text.parse().map_or(Self::Named(text), Self::Sample),
        }
    }
}

/// The seed of the sample: the same in every run, unless another one is asked for.
pub(super) fn seed() -> u64 {
    env::var(SEED_VARIABLE).map_or(SEED, |text| text.parse().expect("a number as the seed"))
}

/// The next of a sequence of numbers that look random (splitmix64).
fn shuffled(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The units that the caller chose.
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

/// Where a name stands in the order that the seed decides: its place among other names depends on no machine.
fn rank(seed: u64, name: &str) -> u64 {
    name.bytes().fold(shuffled(seed), |number, byte| {
        shuffled(number ^ u64::from(byte))
    })
}

/// The changes of a unit in an order that the seed decides.
pub(super) fn in_order_of(
    seed: u64,
    unit: &Unit,
    mut changes: Vec<(String, Change)>,
) -> Vec<(String, Change)> {
    let name = unit.name();
    changes.sort_by_cached_key(|(operator, _)| rank(seed, &format!("{name}{operator}")));
    changes
}
