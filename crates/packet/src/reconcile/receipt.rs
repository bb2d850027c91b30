//! The compared members of one receipt.

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Receipt<'a> {
    pub(super) transport: &'a str,
    pub(super) target: &'a str,
    pub(super) verdict: &'a str,
    pub(super) id: &'a str,
    pub(super) layer: &'a str,
    pub(super) phase: &'a str,
    pub(super) method: &'a str,
    pub(super) pattern: &'a str,
    pub(super) time: &'a str,
    pub(super) action_type: &'a str,
    pub(super) side_effects: &'a str,
    pub(super) reversibility: &'a str,
    pub(super) policy_hash: &'a str,
    pub(super) principal: &'a str,
    /// Whether a delegation is signed. No mediator signs one.
    pub(super) is_delegated: bool,
}
