//! The bytes of sockets on both sides of the mediator, as the kernel counted them.
//!
//! Claims: read-kernel-events
use std::net::{IpAddr, Ipv6Addr};

use egress_common::abi::{
    self, TCP_CLOSE, TRAFFIC_COMMAND, TRAFFIC_DATAGRAM, TRAFFIC_MEDIATOR, address,
};
use zerocopy::FromBytes;

use super::error::MalformedEvent;

/// Bytes of one socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// Bytes that were sent, whether acknowledged or not, with SYN and FIN. This is an upper bound on the bytes that
    /// left the machine.
    pub sent: u64,
    /// Bytes that the peer acknowledged.
    pub acked: u64,
    /// Bytes that arrived in order.
    pub received: u64,
}

/// A closed connection of the command, with its byte counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    /// Kernel monotonic time, ns.
    pub ktime_ns: u64,
    /// Cookie of the socket.
    pub cookie: u64,
    /// Time of the connect call.
    pub connect_ns: u64,
    /// The bytes that the connection carried.
    pub carried: Carried,
}

/// One record about a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// A redirected or proxied connection of the command closed.
    Closed(Close),
    /// The mediator opened a connection, or one of its connections changed its state.
    Mediator(Connection),
    /// The mediator sent a datagram.
    Datagram(Connection),
}

/// A connection that the mediator opened, or a datagram that it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Kernel monotonic time of this record, ns.
    pub ktime_ns: u64,
    /// Cookie of the socket.
    pub cookie: u64,
    /// Time of the connect call, or of the datagram.
    pub connect_ns: u64,
    /// Destination; the unspecified address if the packet does not contain one.
    pub addr: IpAddr,
    /// Destination port; 0 if the packet does not contain one.
    pub port: u16,
    /// `IPPROTO_*`.
    pub protocol: u32,
    /// Whether the connection was ever established.
    pub established: bool,
    /// Whether the connection is closed.
    pub closed: bool,
    /// The bytes that the connection or the datagram has carried.
    pub carried: Carried,
}

impl TryFrom<&[u8]> for Traffic {
    type Error = MalformedEvent;

    fn try_from(bytes: &[u8]) -> Result<Self, MalformedEvent> {
        let raw = abi::Traffic::read_from_bytes(bytes)
            .ok()
            .ok_or(MalformedEvent)?;
        let carried = Carried {
            sent: raw.bytes_acked.saturating_add(raw.in_flight.into()),
            acked: raw.bytes_acked,
            received: raw.bytes_received,
        };
        let connection = Connection {
            ktime_ns: raw.ktime_ns,
            cookie: raw.cookie,
            connect_ns: raw.connect_ns,
            addr: Ipv6Addr::from(address(raw.addr)).to_canonical(),
            port: u16::try_from(raw.port).ok().ok_or(MalformedEvent)?,
            protocol: raw.protocol,
            established: raw.established != 0,
            closed: raw.kind == TRAFFIC_DATAGRAM || raw.state == TCP_CLOSE,
            carried,
        };
        match raw.kind {
            TRAFFIC_COMMAND => Ok(Self::Closed(Close {
                ktime_ns: raw.ktime_ns,
                cookie: raw.cookie,
                connect_ns: raw.connect_ns,
                carried,
            })),
            TRAFFIC_MEDIATOR => Ok(Self::Mediator(connection)),
            TRAFFIC_DATAGRAM => Ok(Self::Datagram(connection)),
            _ => Err(MalformedEvent),
        }
    }
}

#[cfg(test)]
mod tests {
    use egress_common::abi::{TCP_ESTABLISHED, halves};
    use zerocopy::IntoBytes;

    use super::*;

    fn raw(kind: u32, state: u32) -> abi::Traffic {
        abi::Traffic {
            ktime_ns: 3,
            cookie: 5,
            connect_ns: 2,
            addr: halves(0xffff_c633_6407),
            bytes_acked: u64::from(u32::MAX) + 7,
            bytes_received: 11,
            in_flight: 4,
            port: 443,
            kind,
            protocol: 6,
            state,
            established: 1,
        }
    }

    #[test]
    fn records_are_distinguished_by_kind() {
        let read = |raw: abi::Traffic| Traffic::try_from(raw.as_bytes());
        let carried = Carried {
            sent: u64::from(u32::MAX) + 11,
            acked: u64::from(u32::MAX) + 7,
            received: 11,
        };
        let closed = Traffic::Closed(Close {
            ktime_ns: 3,
            cookie: 5,
            connect_ns: 2,
            carried,
        });
        assert_eq!(read(raw(TRAFFIC_COMMAND, TCP_CLOSE)), Ok(closed));
        let connection = Connection {
            ktime_ns: 3,
            cookie: 5,
            connect_ns: 2,
            addr: "198.51.100.7".parse().unwrap(),
            port: 443,
            protocol: 6,
            established: true,
            closed: false,
            carried,
        };
        let open = Traffic::Mediator(connection);
        assert_eq!(read(raw(TRAFFIC_MEDIATOR, TCP_ESTABLISHED)), Ok(open));
        let connection = Connection {
            closed: true,
            ..connection
        };
        let closed = Traffic::Mediator(connection);
        assert_eq!(read(raw(TRAFFIC_MEDIATOR, TCP_CLOSE)), Ok(closed));
        let datagram = Traffic::Datagram(connection);
        assert_eq!(read(raw(TRAFFIC_DATAGRAM, 0)), Ok(datagram));
        assert_eq!(read(raw(4, 0)), Err(MalformedEvent));
        let port = abi::Traffic {
            port: 65_536,
            ..raw(TRAFFIC_MEDIATOR, TCP_CLOSE)
        };
        assert_eq!(read(port), Err(MalformedEvent));
        let bytes = raw(TRAFFIC_COMMAND, TCP_CLOSE);
        let bytes = bytes.as_bytes();
        assert_eq!(Traffic::try_from(&bytes[1..]), Err(MalformedEvent));
    }
}
