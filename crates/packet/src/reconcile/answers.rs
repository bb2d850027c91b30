//! Compares answers that look like a denial with the denials in the receipts.
use std::collections::BTreeMap;

use egress_policy::allowed::Allowed;

use super::receipts::{ALLOW_LIST, Receipts};
use crate::denied::Attempts;

/// Returns the answers that the receipts confirm, and the other answers. Each signed denial confirms one answer.
/// Answers that name the layer are compared first, because they are more specific.
pub fn confirmed(
    answers: Attempts,
    receipts: &Receipts,
    allowed: &Allowed,
) -> (Attempts, Attempts) {
    let mut answers = answers;
    answers.sort_by_key(|(answer, _)| (answer.claimed().is_none(), answer.clone()));
    // Number of denials of each host that have confirmed an answer: the denials by the allow-list,
    // and all denials.
    let mut used: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut denied = Vec::new();
    let mut unclear = Vec::new();
    for (answer, count) in answers {
        let host = answer.destination.as_str();
        let by_list = answer.claims(ALLOW_LIST);
        let (of_list, of_all) = used.entry(host.to_owned()).or_default();
        let left = match answer.answered_with() {
            Some(_) if by_list && allowed.lists_name(host) => 0,
            Some(_) if by_list => receipts.denials_by_list(host).saturating_sub(*of_list),
            Some(status) => receipts.denials(host, status).saturating_sub(*of_all),
            None => 0,
        };
        let signed = count.min(left);
        *of_all = of_all.saturating_add(signed);
        if by_list {
            *of_list = of_list.saturating_add(signed);
        }
        for (list, count) in [
            (&mut denied, signed),
            (&mut unclear, count.saturating_sub(signed)),
        ] {
            if count > 0 {
                list.push((answer.clone(), count));
            }
        }
    }
    (denied, unclear)
}
