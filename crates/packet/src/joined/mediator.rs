//! Checks the rows about the mediator's connections. The kernel programs recorded these connections.
use std::net::IpAddr;

use egress_policy::allowed::Allowed;

use super::super::format::MediatorProtocol;
use super::super::format::boundary::BoundaryDocument;
use super::super::format::rows::MediatorRow;
use super::{DNS, Joined, nanos};

impl Joined {
    pub(super) fn mediator(&mut self, row: &MediatorRow, at: i128) {
        let opened = nanos(&row.opened).unwrap_or(0);
        self.offsets
            .insert(opened.saturating_sub(i128::from(row.connect_ns)));
        self.require_each("mediator's end", opened <= at, || {
            format!(
                "connection {} of the mediator ended before its start",
                row.cookie
            )
        });
        let address = row.dst.parse::<IpAddr>().ok();
        self.require(
            address.is_some(),
            "a connection of the mediator has no valid address",
        );
        let is_udp = row.protocol == MediatorProtocol::Udp;
        let is_question = !is_udp || matches!(row.port, 0 | DNS);
        self.require(is_question, "a datagram of the mediator is not a DNS query");
        self.carried(is_udp, row.bytes_sent, row.bytes_acked, row.bytes_received);
        if let Some(address) = address.filter(|_| !is_udp && row.port != DNS) {
            self.dialed.insert((address, row.port));
        }
    }

    /// Checks that the mediator has no connection that its kernel programs deny on every machine. Connections to port
    /// 53 are not checked, because name servers may have any address.
    pub(super) fn denied_to_the_mediator(
        &mut self,
        boundary_document: &BoundaryDocument,
        allowed: &Allowed,
    ) {
        let Some(opened) = allowed.opened() else {
            return;
        };
        for (address, port) in std::mem::take(&mut self.dialed) {
            let opens_port = boundary_document.allowed_ports.contains(&port);
            self.require(
                !opened.denies(address, opens_port),
                "the mediator has a connection that its kernel programs deny",
            );
        }
    }
}
