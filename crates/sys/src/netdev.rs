//! Brings up the loopback device of a new network namespace and adds addresses to it
//! (rtnetlink(7)).
use std::io;
use std::net::IpAddr;

use nix::sys::socket::SockProtocol;

use super::netlink::{Netlink, push_address};

/// `RTM_SETLINK` and `RTM_NEWADDR`.
const SET_LINK: u16 = 19;
const NEW_ADDRESS: u16 = 20;
/// `IFA_ADDRESS` and `IFA_LOCAL`.
const ADDRESSES: [u16; 2] = [1, 2];
/// `lo` is interface 1 in every network namespace.
const LOOPBACK: u32 = 1;

/// Brings `lo` up. The kernel then adds 127.0.0.1 and `::1`.
///
/// # Errors
/// Returns the error of the netlink socket, or `EPERM` without `CAP_NET_ADMIN`.
pub fn loopback_up() -> io::Result<()> {
    let up = u32::try_from(libc::IFF_UP).map_err(io::Error::other)?;
    // `struct ifinfomsg`: family and type, index, flags, and the mask of changed flags.
    let body = [0, LOOPBACK, up, up].map(u32::to_ne_bytes).concat();
    Netlink::open(SockProtocol::NetlinkRoute)?.change(SET_LINK, &body)
}

/// Adds an address to `lo`, with a prefix length that covers only this address.
///
/// # Errors
/// Returns the error of the netlink socket, or `EPERM` without `CAP_NET_ADMIN`. For IPv6, returns
/// `EOPNOTSUPP` if the kernel lacks IPv6 and `EACCES` if IPv6 is disabled.
pub fn add_to_loopback(address: IpAddr) -> io::Result<()> {
    let (family, bits) = if address.is_ipv4() {
        (libc::AF_INET, 32)
    } else {
        (libc::AF_INET6, 128)
    };
    // `struct ifaddrmsg`: family, prefix length, flags, scope, index.
    let family = u8::try_from(family).map_err(io::Error::other)?;
    let mut body = vec![family, bits, 0, 0];
    body.extend(LOOPBACK.to_ne_bytes());
    for kind in ADDRESSES {
        push_address(&mut body, kind, address);
    }
    Netlink::open(SockProtocol::NetlinkRoute)?.change(NEW_ADDRESS, &body)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use nix::errno::Errno;
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// Whether there is a route to an address. Nothing is sent.
    fn has_route(address: IpAddr) -> bool {
        let any: IpAddr = if address.is_ipv4() {
            [0; 4].into()
        } else {
            [0; 16].into()
        };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.connect((address, 9)).is_ok()
    }

    #[test]
    fn addresses_are_there_when_the_device_is_up() {
        let parsed = |text: &str| text.parse::<IpAddr>().unwrap();
        let make = move || {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                // Only root can create a namespace.
                return assert_eq!(error, Errno::EPERM);
            }
            assert!(!has_route(parsed("127.0.0.1")));
            loopback_up().unwrap();
            assert!(has_route(parsed("127.0.0.1")));
            let has_v6 = UdpSocket::bind("[::1]:0").is_ok();
            for own in ["203.0.113.9", "2001:db8::9"].map(parsed) {
                if own.is_ipv6() && !has_v6 {
                    add_to_loopback(own).unwrap_err();
                    continue;
                }
                assert!(!has_route(own), "{own}");
                // Adding an address twice is not an error.
                add_to_loopback(own).unwrap();
                add_to_loopback(own).unwrap();
                assert!(has_route(own), "{own}");
            }
        };
        std::thread::spawn(make).join().unwrap();
    }
}
