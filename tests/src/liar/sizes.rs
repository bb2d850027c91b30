//! Lies about the bytes of individual actions.
use std::collections::BTreeMap;

use super::hosts::SECOND;
use super::tales::{allowed, change, is_outcome};
use super::testimony::{Receipt, Testimony};

/// Returns the bytes of a tunnel that ended normally.
fn of_tunnel(receipt: &Receipt) -> Option<u64> {
    let pattern = receipt.text("pattern");
    let (_, rest) = pattern.split_once("bytes=")?;
    let (bytes, reason) = rest.split_once(' ')?;
    let is_tunnel = receipt.text("transport") == "connect" && is_outcome(receipt);
    let is_whole = is_tunnel && reason == "reason=complete";
    bytes.parse().ok().filter(|_| is_whole)
}

/// Changes the bytes of each tunnel that ended normally.
fn change_tunnels(testimony: &mut Testimony, bytes: impl Fn(&Receipt, u64) -> u64) {
    for receipt in testimony.decisions_mut() {
        if let Some(old) = of_tunnel(receipt) {
            let new = bytes(receipt, old);
            let pattern = format!("status=200 bytes={new} reason=complete");
            receipt.set("pattern", &pattern);
        }
    }
}

pub(super) fn bytes_of_tunnels_a_little_off(testimony: &mut Testimony) {
    change_tunnels(testimony, |_, old| old + 1000);
}

pub(super) fn bytes_of_tunnels_inflated(testimony: &mut Testimony) {
    change_tunnels(testimony, |_, old| old + 1_000_000);
}

/// Signs that all tunnels to one destination carried the same number of bytes. The sum is not changed.
pub(super) fn bytes_of_tunnels_averaged(testimony: &mut Testimony) {
    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for receipt in testimony.receipts() {
        if let Some(bytes) = of_tunnel(receipt) {
            let (sum, count) = sums.entry(receipt.text("target")).or_default();
            *sum += bytes;
            *count += 1;
        }
    }
    change_tunnels(testimony, |receipt, old| {
        sums.get(&receipt.text("target"))
            .map_or(old, |(sum, count)| sum / count)
    });
}

/// Signs that a request was cut after its answer, and that the answer had more bytes.
pub(super) fn request_as_cut_with_more_bytes(testimony: &mut Testimony) {
    let action = allowed(testimony, "forward", SECOND);
    change(testimony, &action, |receipt| {
        if is_outcome(receipt) {
            receipt.set("pattern", "status=200 bytes=10000000 reason=reset");
        }
    });
}
