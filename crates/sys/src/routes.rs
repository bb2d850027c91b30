//! Finds the machine's own addresses in its routing tables (rtnetlink(7)).
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::netlink::{Netlink, attribute, field, push_address};

/// `RTM_GETROUTE`.
const GET_ROUTE: u16 = 26;
/// `RT_TABLE_LOCAL`.
const LOCAL_TABLE: u8 = 255;
/// `RTA_DST`.
const DESTINATION: u16 = 1;
/// Offsets of the prefix length, the table and the kind in an `rtmsg`, and the length of an
/// `rtmsg`.
const BITS_AT: usize = 1;
const TABLE_AT: usize = 4;
const KIND_AT: usize = 7;
const ROUTE: usize = 12;
/// `RTN_LOCAL`, `RTN_BROADCAST`, and `RTN_ANYCAST`: routes whose packets also arrive at the machine itself.
const OWN: [u8; 3] = [2, 3, 4];

/// The routing tables of a network namespace.
#[derive(Debug)]
pub struct Routes(Netlink);

impl Routes {
    /// Opens the routing tables of the calling thread's namespace.
    ///
    /// # Errors
    /// Returns the error of `socket(2)`.
    pub fn open() -> io::Result<Self> {
        Netlink::open(SockProtocol::NetlinkRoute).map(Self)
    }

    /// Whether packets to `address` arrive at the machine itself, by the route that a new
    /// connection would take.
    ///
    /// # Errors
    /// Fails if the kernel returns an error other than the absence of a route.
    pub fn is_own(&self, address: IpAddr) -> io::Result<bool> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let mut body = route(address.is_ipv4(), bits, 0);
        push_address(&mut body, DESTINATION, address);
        match self.0.ask(GET_ROUTE, &body) {
            Ok(route) => Ok(OWN.contains(&kind(&route)?)),
            Err(error) if has_no_route(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns all addresses and prefixes that are the machine's own, with their prefix lengths.
    ///
    /// # Errors
    /// Fails if the kernel does not list its routes.
    pub fn own(&self) -> io::Result<Vec<(IpAddr, u8)>> {
        let mut own = Vec::new();
        for is_v4 in [true, false] {
            let listed = self
                .0
                .list(GET_ROUTE, &route(is_v4, 0, LOCAL_TABLE), |route| {
                    let table: [u8; 1] = field(route, TABLE_AT)?;
                    let [bits] = field(route, BITS_AT)?;
                    // A kernel that does not filter by table lists all tables.
                    if table == [LOCAL_TABLE] && OWN.contains(&kind(route)?) {
                        own.push((destination(route, is_v4)?, bits));
                    }
                    Ok(())
                });
            match listed {
                // The kernel has no IPv6.
                Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {}
                listed => listed?,
            }
        }
        Ok(own)
    }
}

/// Builds an `rtmsg` with family, prefix length, and table.
fn route(is_v4: bool, bits: u8, table: u8) -> Vec<u8> {
    let family = if is_v4 { libc::AF_INET } else { libc::AF_INET6 };
    let family = u8::try_from(family).unwrap_or_default();
    vec![family, bits, 0, 0, table, 0, 0, 0, 0, 0, 0, 0]
}

fn kind(route: &[u8]) -> io::Result<u8> {
    field(route, KIND_AT).map(|[kind]| kind)
}

/// Returns the destination of a route; `0.0.0.0` or `::` if the route has no destination.
pub(super) fn destination(route: &[u8], is_v4: bool) -> io::Result<IpAddr> {
    let attributes = route.get(ROUTE..).unwrap_or_default();
    if let Some(octets) = attribute(attributes, DESTINATION)? {
        return if is_v4 {
            field(octets, 0).map(|octets: [u8; 4]| octets.into())
        } else {
            field(octets, 0).map(|octets: [u8; 16]| octets.into())
        };
    }
    Ok(if is_v4 {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    })
}

/// Whether the error shows that a connection would fail for lack of a route as well.
fn has_no_route(error: &io::Error) -> bool {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
    matches!(
        errno,
        Errno::ENETUNREACH
            | Errno::EHOSTUNREACH
            | Errno::EACCES
            | Errno::EINVAL
            | Errno::EAFNOSUPPORT
            | Errno::EOPNOTSUPP
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: addresses-judged
    #[test]
    fn loopback_is_own_and_the_internet_is_not() {
        let routes = Routes::open().unwrap();
        let is_own = |text: &str| routes.is_own(text.parse().unwrap()).unwrap();
        assert!(is_own("127.0.0.1") && is_own("127.9.9.9"));
        assert!(!is_own("198.51.100.7") && !is_own("2001:db8::7"));
        let own = routes.own().unwrap();
        assert!(own.contains(&("127.0.0.0".parse().unwrap(), 8)), "{own:?}");
        assert!(own.contains(&("127.0.0.1".parse().unwrap(), 32)), "{own:?}");
        for (address, bits) in own {
            let is_whole = matches!((address, bits), (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128));
            assert!(!is_whole || routes.is_own(address).unwrap(), "{address}");
        }
    }

    #[test]
    fn answers_that_are_cut_short_are_errors() {
        let mut body = route(true, 32, LOCAL_TABLE);
        body.extend([8, 0, 1, 0, 192, 0, 2, 7]);
        assert_eq!(
            destination(&body, true).unwrap(),
            Ipv4Addr::new(192, 0, 2, 7)
        );
        for length in 13..body.len() {
            assert!(destination(&body[..length], true).is_err(), "{length}");
        }
        assert!(kind(&body[..7]).is_err());
    }
}
