//! Connections to ports of the boundary's own loopback on which nothing listened. For example, a command makes such a
//! connection when it tries to reach a service of the host on loopback.
use std::collections::{BTreeMap, BTreeSet};

use audit_packet::format::boundary::Denied;
use egress_common::verdict::Reason;

use super::words::{process_name, protocol_name};
use crate::bpf::events::Event;

/// Kinds of refused connections that are counted. The command chooses ports and process names.
const KINDS: usize = 1024;

/// The refused connections, and the ports on which something listened.
#[derive(Debug, Default)]
pub(super) struct Loopback {
    refused: BTreeMap<Denied, u64>,
    served: BTreeSet<u16>,
}

impl Loopback {
    /// Counts a connection to loopback.
    pub(super) fn count(&mut self, event: &Event) {
        if event.reason != Reason::NothingListens {
            self.served.insert(event.port);
            return;
        }
        let refused = Denied {
            destination: event.addr.to_string(),
            port: event.port,
            protocol: protocol_name(event.protocol),
            reason: event.reason.label().to_owned(),
            process: process_name(&event.comm),
        };
        if self.refused.len() < KINDS || self.refused.contains_key(&refused) {
            *self.refused.entry(refused).or_default() += 1;
        }
    }

    /// Returns the refused connections with their counts. Connections to a port on which something listened at another
    /// time are left out, because the command started its server late, or only for the other address family.
    pub(super) fn unserved(&self) -> impl Iterator<Item = (Denied, u64)> {
        let refused = self.refused.iter();
        let unserved = refused.filter(|(denied, _)| !self.served.contains(&denied.port));
        unserved.map(|(denied, count)| (denied.clone(), *count))
    }
}
