//! Finds where a redirected connection wanted to go. The only place that knows how.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use egress_common::abi::{SLOT_PROXY, SLOT_REDIRECTED, SLOTS, Slot, address};

use super::report::{Origin, Reporter};

/// The address family on the wire; each has an array of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4, also when the agent's socket is `AF_INET6` with a mapped address.
    V4,
    /// IPv6.
    V6,
}

/// Where slots are read from: the kernel's arrays, or a test's.
pub trait SlotSource: Send + Sync + 'static {
    /// The slot of a local port of the agent.
    fn read(&self, family: Family, port: u16) -> Slot;
}

/// The arrays of both families.
#[derive(Debug)]
pub struct MappedSlots {
    /// Connections that are IPv4 on the wire.
    pub v4: crate::sys::slots::SlotArray,
    /// Connections that are IPv6 on the wire.
    pub v6: crate::sys::slots::SlotArray,
}

impl SlotSource for MappedSlots {
    fn read(&self, family: Family, port: u16) -> Slot {
        match family {
            Family::V4 => self.v4.read(port),
            Family::V6 => self.v6.read(port),
        }
    }
}

/// A connection that is not served, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Discarded {
    pub(super) origin: Origin,
    pub(super) reason: &'static str,
}

impl Discarded {
    /// Makes the one report of it.
    pub(super) async fn report(self, reporter: &Reporter) {
        let flow = reporter.flow(self.origin, "raw").await;
        if self.reason == RESET {
            flow.failed(self.reason);
        } else {
            flow.refused(self.reason);
        }
    }
}

/// The connection was gone before it could be served.
const RESET: &str = "reset";

/// The lookup, and what it has served on each port.
pub(super) struct OriginalDestinations {
    slots: Box<dyn SlotSource>,
    served_v4: Mutex<Vec<Served>>,
    served_v6: Mutex<Vec<Served>>,
}

/// Cookie and connect time of the last connection served on a port.
type Served = (u64, u64);

impl std::fmt::Debug for OriginalDestinations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OriginalDestinations")
            .finish_non_exhaustive()
    }
}

impl OriginalDestinations {
    pub(super) fn new(slots: Box<dyn SlotSource>) -> Self {
        let none = || Mutex::new(vec![(0, 0); SLOTS as usize]);
        Self {
            slots,
            served_v4: none(),
            served_v6: none(),
        }
    }

    /// The original destination of an accepted connection from `peer`, at most once.
    ///
    /// `is_open` asks whether the connection still exists, and is called after the slot was read: as
    /// long as it does, its port cannot be another connection's, so the slot is its own.
    pub(super) fn take(
        &self,
        peer: SocketAddr,
        is_open: impl FnOnce() -> bool,
    ) -> Result<(Origin, SocketAddr), Discarded> {
        let discard = |origin, reason| Err(Discarded { origin, reason });
        let Some(family) = family_of(peer) else {
            return discard(Origin::default(), "peer_address");
        };
        let slot = self.slots.read(family, peer.port());
        if slot.kind != SLOT_REDIRECTED {
            return discard(Origin::default(), "no_slot");
        }
        // No hook writes a port over 65,535; a value that is none names nothing.
        let Ok(port) = u16::try_from(slot.port) else {
            return discard(Origin::default(), "no_slot");
        };
        let orig_dst = SocketAddr::new(Ipv6Addr::from(address(slot.addr)).to_canonical(), port);
        let origin = Origin {
            cookie: slot.cookie,
            connect_ns: slot.connect_ns,
            orig_dst: Some(orig_dst),
        };
        let served = match family {
            Family::V4 => &self.served_v4,
            Family::V6 => &self.served_v6,
        };
        let mut served = served.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = served.get_mut(usize::from(peer.port())) else {
            return discard(Origin::default(), "no_slot");
        };
        if *last == (slot.cookie, slot.connect_ns) {
            return discard(Origin::default(), "stale_slot");
        }
        if !is_open() {
            // Not consumed: the slot may already be that of the port's next connection.
            return discard(origin, RESET);
        }
        *last = (slot.cookie, slot.connect_ns);
        Ok((origin, orig_dst))
    }

    /// What is known of a connection to the explicit proxy port: its cookie, if there is one.
    pub(super) fn of_proxy(&self, peer: SocketAddr) -> Result<Origin, Discarded> {
        let Some(family) = family_of(peer) else {
            return Err(Discarded {
                origin: Origin::default(),
                reason: "peer_address",
            });
        };
        let slot = self.slots.read(family, peer.port());
        if slot.kind != SLOT_PROXY {
            return Ok(Origin::default());
        }
        Ok(Origin {
            cookie: slot.cookie,
            connect_ns: slot.connect_ns,
            orig_dst: None,
        })
    }
}

/// A slot is written only for a socket bound to exactly these addresses; 127.0.0.2 has none of its
/// own and would be given that of 127.0.0.1.
fn family_of(peer: SocketAddr) -> Option<Family> {
    match peer.ip().to_canonical() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => Some(Family::V4),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Some(Family::V6),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use egress_common::abi::{SLOT_EMPTY, SLOT_LOCAL, halves};

    use super::*;
    use crate::sys::slots::EMPTY;

    struct Fixed(u32);

    impl SlotSource for Fixed {
        fn read(&self, family: Family, port: u16) -> Slot {
            let addr = match family {
                Family::V4 => Ipv4Addr::new(198, 18, 0, 1).to_ipv6_mapped(),
                Family::V6 => "2001:db8::1".parse().unwrap(),
            };
            let cookie = if port == 0 { 0 } else { 7 };
            Slot {
                cookie,
                connect_ns: 9,
                addr: halves(addr.into()),
                port: 80,
                kind: self.0,
                ..EMPTY
            }
        }
    }

    fn taken(kind: u32, peers: &[&str]) -> Vec<String> {
        let table = OriginalDestinations::new(Box::new(Fixed(kind)));
        peers
            .iter()
            .map(|peer| match table.take(peer.parse().unwrap(), || true) {
                Ok((origin, at)) => format!("{} {at}", origin.cookie),
                Err(discarded) => discarded.reason.to_owned(),
            })
            .collect()
    }

    #[test]
    fn a_slot_is_served_once_and_only_to_its_own_peer() {
        assert_eq!(
            taken(
                SLOT_REDIRECTED,
                &[
                    "127.0.0.1:5000",
                    "127.0.0.1:5000",
                    "[::ffff:127.0.0.1]:5001",
                    "[::1]:5000",
                    "127.0.0.2:5002",
                    "192.0.2.1:5003",
                    "[::2]:5004",
                ]
            ),
            [
                "7 198.18.0.1:80",
                "stale_slot",
                "7 198.18.0.1:80",
                "7 [2001:db8::1]:80",
                "peer_address",
                "peer_address",
                "peer_address"
            ]
        );
        for kind in [SLOT_EMPTY, SLOT_LOCAL, SLOT_PROXY, 9] {
            assert_eq!(taken(kind, &["127.0.0.1:5000"]), ["no_slot"]);
        }
    }

    #[test]
    fn a_reset_connection_does_not_consume_the_slot() {
        let table = OriginalDestinations::new(Box::new(Fixed(SLOT_REDIRECTED)));
        let peer = "127.0.0.1:5000".parse().unwrap();
        assert_eq!(table.take(peer, || false).unwrap_err().reason, "reset");
        assert!(table.take(peer, || true).is_ok());
    }
}
