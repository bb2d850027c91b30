//! The length and the order of the lists on the pages.
use egress_policy::natural;

use super::denied::in_natural_order;
use super::format::boundary::{AllowedRow, BoundaryDocument, DeniedRow};

/// Number of rows that a page shows of each list.
pub(super) const LISTED: usize = 100;

/// Returns the rows with the most attempts first, and equally frequent rows in natural order.
pub(super) fn in_order(rows: &[DeniedRow]) -> Vec<&DeniedRow> {
    let mut rows: Vec<&DeniedRow> = rows.iter().collect();
    in_natural_order(&mut rows, |row| (&row.attempt, row.count));
    rows
}

/// Returns the allowed destinations. A destination that received more bytes from the command comes first, because an
/// allowed destination is a way out.
pub(super) fn allowed_in_order(boundary_document: &BoundaryDocument) -> Vec<&AllowedRow> {
    let hosts = &boundary_document.residual_channels.allowed_hosts;
    let rows = boundary_document.allowed.iter();
    let mut rows: Vec<(u64, &AllowedRow)> = rows
        .map(|row| {
            let through = hosts.get(&place(&row.host, row.port));
            (through.map_or(0, |through| through.bytes_up), row)
        })
        .collect();
    rows.sort_by(|(a_sent, a), (b_sent, b)| {
        let by_bytes = b_sent.cmp(a_sent);
        by_bytes
            .then_with(|| b.count.cmp(&a.count))
            .then_with(|| natural::compare(&a.host, &b.host))
            .then_with(|| a.port.cmp(&b.port))
    });
    rows.into_iter().map(|(_, row)| row).collect()
}

/// Returns host and port in one word, as `residual_channels` names a destination.
pub(super) fn place(host: &str, port: u16) -> String {
    format!("{host}:{port}")
}
