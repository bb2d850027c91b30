//! Lies in entries and members that no other record depends on.
use super::testimony::{Item, Receipt, Testimony};

/// Adds an entry without a receipt, as a Pipelock writes one about a denial.
pub(super) fn decision_added(testimony: &mut Testimony) {
    let Some(receipt) = testimony.receipts().next() else {
        return;
    };
    let mut entry = receipt.entry.clone();
    entry.set("type", "decision");
    entry.set("summary", "block: allowlist");
    entry.set_raw("detail", r#"{"verdict":"block"}"#);
    testimony.items.insert(1, Item::Other(entry));
}

/// States a severity in each receipt of an action.
pub(super) fn severities_added(testimony: &mut Testimony) {
    for receipt in testimony.decisions_mut() {
        receipt.record.set("severity", "low");
    }
}

/// Adds a heartbeat directly after the open.
pub(super) fn heartbeat_invented(testimony: &mut Testimony) {
    let Some(mut beat) = testimony.receipts().next().cloned() else {
        return;
    };
    let Some(open) = beat.record.at(&["session_control", "open"]) else {
        return;
    };
    let [run, nonce] = ["run_nonce", "open_nonce"].map(|name| open.text(name));
    let time = beat.text("timestamp");
    let control = format!(
        r#"{{"kind":"heartbeat","heartbeat":{{"run_nonce":"{run}","open_nonce":"{nonce}","beat":1,"chain_head":"","chain_seq_head":0,"heartbeat_time":"{time}","fsync_errors_gated":0,"durability_blocks":0}}}}"#
    );
    replace(&mut beat, &control);
    testimony.items.insert(1, Item::Receipt(beat));
}

/// Makes a session record one with this control.
fn replace(receipt: &mut Receipt, control: &str) {
    let record = &mut receipt.record;
    record.set("target", "pipelock://session/heartbeat");
    record.set("chain_prev_hash", "");
    if let Ok(control) = super::tree::Tree::read(control)
        && let Some(there) = record.at_mut(&["session_control"])
    {
        *there = control;
    }
}
