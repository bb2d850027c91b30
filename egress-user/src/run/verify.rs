//! `Collected → Verified`: the evidence is checked, with the verdict inside, good or bad.
use super::collect::Collected;

/// A run whose evidence was checked.
#[derive(Debug)]
#[must_use = "no packet is written yet"]
pub struct Verified {
    pub(super) collected: Collected,
}

impl Collected {
    /// Checks.
    pub fn verify(self) -> Verified {
        Verified { collected: self }
    }
}
