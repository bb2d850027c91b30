//! Looks up the original destination of a redirected connection. Only this module of the relay reads the slots.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use egress_common::abi::{SLOT_PROXY, SLOT_REDIRECTED, SLOTS, Slot, address};

use super::report::{Origin, Reporter};

/// The array that holds the slot of a connection. A slot is the entry in which the kernel programs record the original
/// destination of a connection. Each listener has its own array, because connections to different listeners can have
/// the same local port at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotTable {
    /// Redirected connections that are IPv4 on the wire, even if the command's socket is `AF_INET6` with a mapped
    /// address.
    V4,
    /// Redirected connections that are IPv6 on the wire.
    V6,
    /// Connections to the explicit proxy port, which are IPv4 on the wire.
    Proxy,
}

/// Source of slots: the kernel's arrays, or arrays of a test.
pub trait SlotSource: Send + Sync + 'static {
    /// Returns the slot of a local port of the command.
    fn read(&self, table: SlotTable, port: u16) -> Slot;
}

/// The arrays that the kernel programs write.
#[derive(Debug)]
pub struct MappedSlots {
    /// Redirected connections that are IPv4 on the wire.
    pub v4: egress_sys::slots::SlotArray,
    /// Redirected connections that are IPv6 on the wire.
    pub v6: egress_sys::slots::SlotArray,
    /// Connections to the explicit proxy port.
    pub proxy: egress_sys::slots::SlotArray,
}

impl SlotSource for MappedSlots {
    fn read(&self, table: SlotTable, port: u16) -> Slot {
        match table {
            SlotTable::V4 => self.v4.read(port),
            SlotTable::V6 => self.v6.read(port),
            SlotTable::Proxy => self.proxy.read(port),
        }
    }
}

/// A connection that is not served, with its reason word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Discarded {
    pub(super) origin: Origin,
    pub(super) reason: &'static str,
}

impl Discarded {
    /// Reports a flow of protocol `raw`: failed after a reset, otherwise denied.
    pub(super) async fn report(self, reporter: &Reporter) {
        let flow = reporter.flow(self.origin, "raw").await;
        if self.reason == RESET {
            flow.failed(self.reason);
        } else {
            flow.refused(self.reason);
        }
    }
}

/// Reason word for a connection that was closed before it could be served.
const RESET: &str = "reset";

/// Looks up original destinations, and remembers the last connection that was served on each port.
pub(super) struct OriginalDestinations {
    slots: Box<dyn SlotSource>,
    served_v4: Mutex<Vec<Served>>,
    served_v6: Mutex<Vec<Served>>,
    served_proxy: Mutex<Vec<Served>>,
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
            served_proxy: none(),
        }
    }

    /// Returns the original destination of an accepted connection from `peer`, at most once.
    ///
    /// `is_open` returns whether the connection still exists, and is called after the slot was
    /// read. While the connection exists, no other connection can have its port, so the slot
    /// belongs to this connection.
    pub(super) fn take(
        &self,
        peer: SocketAddr,
        is_open: impl FnOnce() -> bool,
    ) -> Result<(Origin, SocketAddr), Discarded> {
        let table = match family_of(peer) {
            Some(Family::V4) => SlotTable::V4,
            Some(Family::V6) => SlotTable::V6,
            None => return discard("peer_address"),
        };
        let (slot, orig_dst) = self.consume(table, SLOT_REDIRECTED, peer.port(), is_open)?;
        Ok((origin(slot, Some(orig_dst)), orig_dst))
    }

    /// Returns the origin of a connection from `peer` to the explicit proxy port, at most once and by the rules of
    /// [`Self::take`]. A connection without a slot is not served.
    pub(super) fn take_proxy(
        &self,
        peer: SocketAddr,
        is_open: impl FnOnce() -> bool,
    ) -> Result<Origin, Discarded> {
        if family_of(peer) != Some(Family::V4) {
            return discard("peer_address");
        }
        let (slot, _) = self.consume(SlotTable::Proxy, SLOT_PROXY, peer.port(), is_open)?;
        Ok(origin(slot, None))
    }

    /// Returns the slot of a local port and its destination, if the slot was not used before.
    fn consume(
        &self,
        table: SlotTable,
        kind: u32,
        port: u16,
        is_open: impl FnOnce() -> bool,
    ) -> Result<(Slot, SocketAddr), Discarded> {
        let slot = self.slots.read(table, port);
        // No kernel program writes a port above 65,535, so a slot with a higher port is invalid.
        let (true, Ok(to_port)) = (slot.kind == kind, u16::try_from(slot.port)) else {
            return discard("no_slot");
        };
        let to = SocketAddr::new(Ipv6Addr::from(address(slot.addr)).to_canonical(), to_port);
        let served = match table {
            SlotTable::V4 => &self.served_v4,
            SlotTable::V6 => &self.served_v6,
            SlotTable::Proxy => &self.served_proxy,
        };
        let mut served = served.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = served.get_mut(usize::from(port)) else {
            return discard("no_slot");
        };
        if *last == (slot.cookie, slot.connect_ns) {
            return discard("stale_slot");
        }
        if !is_open() {
            // The slot is not marked as used, because it may already belong to the next connection on this port.
            return Err(Discarded {
                origin: origin(slot, (kind == SLOT_REDIRECTED).then_some(to)),
                reason: RESET,
            });
        }
        *last = (slot.cookie, slot.connect_ns);
        Ok((slot, to))
    }
}

/// Returns the error for a connection without a valid slot.
fn discard<T>(reason: &'static str) -> Result<T, Discarded> {
    Err(Discarded {
        origin: Origin::default(),
        reason,
    })
}

fn origin(slot: Slot, orig_dst: Option<SocketAddr>) -> Origin {
    Origin {
        cookie: slot.cookie,
        connect_ns: slot.connect_ns,
        orig_dst,
    }
}

/// The address family on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// Returns the family of a peer on `127.0.0.1` or `::1`, the only addresses for which slots are written. A peer on
/// 127.0.0.2 would otherwise get the slot of 127.0.0.1.
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
    use egress_sys::slots::EMPTY;

    struct Fixed(u32);

    impl SlotSource for Fixed {
        fn read(&self, table: SlotTable, port: u16) -> Slot {
            let addr = match table {
                SlotTable::V4 => Ipv4Addr::new(198, 18, 0, 1).to_ipv6_mapped(),
                SlotTable::V6 => "2001:db8::1".parse().unwrap(),
                SlotTable::Proxy => Ipv4Addr::LOCALHOST.to_ipv6_mapped(),
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

    /// Claims: slot-once*
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

    /// Connections to both listeners from one local port.
    struct Both(u64);

    impl SlotSource for Both {
        fn read(&self, table: SlotTable, _: u16) -> Slot {
            let (kind, connect_ns) = match table {
                SlotTable::V4 | SlotTable::V6 => (SLOT_REDIRECTED, 1),
                SlotTable::Proxy => (SLOT_PROXY, 2),
            };
            Slot {
                cookie: self.0,
                connect_ns,
                port: 80,
                kind,
                ..EMPTY
            }
        }
    }

    /// Claims: slot-by-listener, slot-once, slot-required
    #[test]
    fn connection_to_the_proxy_has_its_own_slot_and_none_is_served_without() {
        let peer = "127.0.0.1:5000".parse().unwrap();
        let reason = |taken: Result<Origin, Discarded>| taken.map_or_else(|no| no.reason, |_| "");
        let table = OriginalDestinations::new(Box::new(Both(7)));
        // The lookup for the proxy neither uses nor consumes the slot of the redirected connection
        // from the same port.
        let taken = table.take_proxy(peer, || true).unwrap();
        assert_eq!(
            (taken.cookie, taken.connect_ns, taken.orig_dst),
            (7, 2, None)
        );
        assert_eq!(reason(table.take_proxy(peer, || true)), "stale_slot");
        assert_eq!(table.take(peer, || true).unwrap().0.connect_ns, 1);
        for peer in ["127.0.0.2:5000", "[::1]:5000", "192.0.2.1:5000"] {
            let taken = table.take_proxy(peer.parse().unwrap(), || true);
            assert_eq!(reason(taken), "peer_address");
        }
        for kind in [SLOT_EMPTY, SLOT_LOCAL, SLOT_REDIRECTED, 9] {
            let table = OriginalDestinations::new(Box::new(Fixed(kind)));
            assert_eq!(reason(table.take_proxy(peer, || true)), "no_slot");
        }
        let table = OriginalDestinations::new(Box::new(Fixed(SLOT_PROXY)));
        let reset = table.take_proxy(peer, || false).unwrap_err();
        assert_eq!((reset.reason, reset.origin.cookie), ("reset", 7));
        assert!(table.take_proxy(peer, || true).is_ok());
    }
}
