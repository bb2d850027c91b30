//! Probes of socket families and protocols, and of ways to reach an address without the relay.
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use egress_sys::netdev;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, SockaddrIn, sendmsg};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::model::Observation;
use super::scene::{Scene, Side};
use super::tried::{Tried, reached, refused};

/// An address of a documentation range (RFC 5737). The controls assign the address to the loopback
/// device of their namespace.
pub(super) const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
/// An IPv6 address of a documentation range (RFC 3849), used in the same way.
pub(super) const ELSEWHERE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x203, 0, 0, 0, 0, 0x53);
/// The address of cloud metadata services. These services hold a machine's credentials.
pub(super) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The IPv6 address of cloud metadata services.
pub(super) const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// An address that no interface has.
const OWN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);
/// Ports on which the controls listen, over UDP and TCP.
pub(super) const PORTS: [u16; 4] = [22, 53, 443, 853];
/// Port of the metadata service.
pub(super) const METADATA_PORT: u16 = 80;
/// How long to wait for a connection that is not established at once, in milliseconds. Loopback
/// connections are established at once.
const CONNECTED_WITHIN_MS: u16 = 100;

const DCCP: Type = Type::DCCP;

fn socket(domain: Domain, kind: Type, protocol: i32) -> Tried {
    Socket::new(domain, kind, Some(Protocol::from(protocol)))?;
    reached("a socket was created")
}

/// Opens a socket of the family `domain`. Outside, the socket is opened only if opening it does not load a module.
fn family(scene: &Scene, protocol: &str, domain: i32, kind: Type) -> Tried {
    if scene.side == Side::Outside
        && let Err(why) = scene.has_protocol(protocol)
    {
        return Ok(Observation::Absent(why));
    }
    socket(Domain::from(domain), kind, 0)
}

/// Opens an IP socket of a protocol that may be a module. The kernel would load the module before the kernel programs
/// check the socket, so the probe does not try a protocol that is not loaded.
fn protocol(scene: &Scene, name: &str, kind: Type, number: i32) -> Tried {
    match scene.has_protocol(name) {
        Err(why) => Ok(Observation::Absent(why)),
        Ok(()) => socket(Domain::IPV4, kind, number),
    }
}

pub(super) fn raw_socket_ipv4(_: &Scene) -> Tried {
    socket(Domain::IPV4, Type::RAW, libc::IPPROTO_ICMP)
}

pub(super) fn raw_socket_ipv6(_: &Scene) -> Tried {
    socket(Domain::IPV6, Type::RAW, libc::IPPROTO_ICMPV6)
}

pub(super) fn packet_socket(_: &Scene) -> Tried {
    socket(Domain::PACKET, Type::RAW, 0).or_else(|_| socket(Domain::PACKET, Type::DGRAM, 0))
}

pub(super) fn vsock_socket(scene: &Scene) -> Tried {
    family(scene, "AF_VSOCK", libc::AF_VSOCK, Type::STREAM)
}

pub(super) fn alg_socket(scene: &Scene) -> Tried {
    family(scene, "ALG", libc::AF_ALG, Type::SEQPACKET)
}

pub(super) fn xdp_socket(scene: &Scene) -> Tried {
    family(scene, "XDP", libc::AF_XDP, Type::RAW)
}

pub(super) fn mptcp_socket(scene: &Scene) -> Tried {
    protocol(scene, "MPTCP", Type::STREAM, libc::IPPROTO_MPTCP)
}

pub(super) fn sctp_socket(scene: &Scene) -> Tried {
    protocol(scene, "SCTP", Type::STREAM, libc::IPPROTO_SCTP)
}

pub(super) fn dccp_socket(scene: &Scene) -> Tried {
    protocol(scene, "DCCP", DCCP, libc::IPPROTO_DCCP)
}

pub(super) fn udplite_socket(scene: &Scene) -> Tried {
    protocol(scene, "UDP-Lite", Type::DGRAM, libc::IPPROTO_UDPLITE)
}

pub(super) fn icmp_socket(_: &Scene) -> Tried {
    socket(Domain::IPV4, Type::DGRAM, libc::IPPROTO_ICMP)
        .or_else(|_| socket(Domain::IPV6, Type::DGRAM, libc::IPPROTO_ICMPV6))
}

/// Tries to open a socket of each family except the families that the filter allows.
pub(super) fn other_families(scene: &Scene) -> Tried {
    /// A number above the highest socket family of any kernel. The kernel rejects numbers that it
    /// does not have.
    const FAMILIES: i32 = 64;
    let works = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ];
    let mut refused = io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
    for family in (0..FAMILIES).filter(|family| !works.contains(family)) {
        // A socket of another family could load a module into the host's kernel.
        if scene.side == Side::Outside && scene.loads_modules && family != libc::AF_PACKET {
            continue;
        }
        for kind in [Type::STREAM, Type::DGRAM, Type::RAW, Type::SEQPACKET] {
            match socket(Domain::from(family), kind, 0) {
                Ok(_) => return reached(format!("a socket of family {family} was created")),
                Err(error) => refused = error,
            }
        }
    }
    Err(refused)
}

/// Tries to open a socket of each netlink protocol except `NETLINK_ROUTE`.
pub(super) fn netlink_beyond_route(scene: &Scene) -> Tried {
    const PROTOCOLS: i32 = 32;
    let known: Vec<i32> = if scene.side == Side::Outside && scene.loads_modules {
        let table = fs::read_to_string("/proc/net/netlink")?;
        let second = |line: &str| line.split_ascii_whitespace().nth(1)?.parse().ok();
        table.lines().filter_map(second).collect()
    } else {
        (0..PROTOCOLS).collect()
    };
    let mut refused = io::Error::from_raw_os_error(libc::EPROTONOSUPPORT);
    for protocol in known.into_iter().filter(|one| *one != libc::NETLINK_ROUTE) {
        match socket(Domain::from(libc::AF_NETLINK), Type::RAW, protocol) {
            Ok(_) => {
                return reached(format!(
                    "a socket of netlink protocol {protocol} was created"
                ));
            }
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Adds an address to `lo`, as an example of a change to the network.
pub(super) fn network_change(_: &Scene) -> Tried {
    netdev::add_to_loopback(OWN.into())?;
    reached(format!("lo has the address {OWN}"))
}

fn sent(bytes: usize, to: SocketAddr) -> Tried {
    reached(format!("sent {bytes} bytes to {to}"))
}

/// Opens a socket for sending. Each datagram contains the name of its probe.
fn sender() -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
}

pub(super) fn udp_sendto(_: &Scene) -> Tried {
    let to = SocketAddr::from((ELSEWHERE, 443));
    sent(sender()?.send_to(b"udp_sendto", to)?, to)
}

pub(super) fn udp_sendmsg(_: &Scene) -> Tried {
    let socket = sender()?;
    let [a, b, c, d] = ELSEWHERE.octets();
    let to = SockaddrIn::new(a, b, c, d, 443);
    let payload = [io::IoSlice::new(b"udp_sendmsg")];
    let bytes = sendmsg(
        socket.as_raw_fd(),
        &payload,
        &[],
        MsgFlags::empty(),
        Some(&to),
    )?;
    sent(bytes, (ELSEWHERE, 443).into())
}

pub(super) fn udp_connected(_: &Scene) -> Tried {
    let to = SocketAddr::from((ELSEWHERE, 443));
    let socket = sender()?;
    socket.connect(to)?;
    sent(socket.send(b"udp_connected")?, to)
}

pub(super) fn udp_ipv6(scene: &Scene) -> Tried {
    let to = SocketAddr::from((ELSEWHERE_V6, 443));
    let attempt = || {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        sent(socket.send_to(b"udp_ipv6", to)?, to)
    };
    by_ipv6(scene, attempt())
}

/// Treats some errors of an IPv6 control as a missing target, because a control receives these errors only on a machine
/// without IPv6.
fn by_ipv6(scene: &Scene, tried: Tried) -> Tried {
    tried.or_else(|error| match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL | libc::ENETUNREACH | libc::ENOPROTOOPT)
            if scene.side == Side::Outside =>
        {
            Ok(Observation::Absent(format!(
                "this machine has no IPv6: {error}"
            )))
        }
        _ => Err(error),
    })
}

pub(super) fn dns_udp(_: &Scene) -> Tried {
    let to = SocketAddr::from((ELSEWHERE, 53));
    sent(sender()?.send_to(b"dns_udp", to)?, to)
}

/// Probes with an IPv6 destination.
pub(super) const BY_IPV6: [&str; 3] = ["udp_ipv6", "direct_tcp_ipv6", "metadata_ipv6"];

/// Probes whose control succeeds when a datagram arrives.
pub(super) const DATAGRAMS: [&str; 5] = [
    "udp_sendto",
    "udp_sendmsg",
    "udp_connected",
    "udp_ipv6",
    "dns_udp",
];

fn tcp(address: IpAddr, port: u16) -> Tried {
    let to = SocketAddr::new(address, port);
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if to.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    connected(&socket, to, socket.connect(&SockAddr::from(to)))
}

/// Turns the outcome of `connect(2)` into a result. The source port shows later which listener received the connection.
/// Only an error that the kernel returns before it sends anything is a denial. A reset is an answer from another
/// machine or socket.
fn connected(socket: &Socket, to: SocketAddr, outcome: io::Result<()>) -> Tried {
    let in_progress = |error: &io::Error| error.raw_os_error() == Some(libc::EINPROGRESS);
    let outcome = match outcome {
        Err(error) if in_progress(&error) => {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut fds, PollTimeout::from(CONNECTED_WITHIN_MS))? == 0 {
                return no_local_listener(to);
            }
            socket.take_error()?.map_or(Ok(()), Err)
        }
        other => other,
    };
    match outcome {
        Ok(()) => {
            let from = socket.local_addr()?.as_socket();
            Ok(Observation::Connected {
                from: from.map_or(0, |from| from.port()),
                to: to.to_string(),
            })
        }
        Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => no_local_listener(to),
        Err(error) => Err(error),
    }
}

/// Returns the result for a SYN that left and got a reset or no answer. No listener here received the connection.
#[expect(
    clippy::unnecessary_wraps,
    reason = "callers return this value as a Tried"
)]
fn no_local_listener(to: SocketAddr) -> Tried {
    Ok(Observation::Connected {
        from: 0,
        to: to.to_string(),
    })
}

pub(super) fn dns_tcp(_: &Scene) -> Tried {
    tcp(ELSEWHERE.into(), 53)
}

pub(super) fn dns_tls(_: &Scene) -> Tried {
    tcp(ELSEWHERE.into(), 853)
}

pub(super) fn direct_tcp_ipv4(_: &Scene) -> Tried {
    tcp(ELSEWHERE.into(), 443)
}

pub(super) fn direct_tcp_ipv6(scene: &Scene) -> Tried {
    by_ipv6(scene, tcp(ELSEWHERE_V6.into(), 443))
}

pub(super) fn direct_tcp_mapped(scene: &Scene) -> Tried {
    by_ipv6(scene, tcp(ELSEWHERE.to_ipv6_mapped().into(), 443))
}

pub(super) fn direct_tcp_ssh(_: &Scene) -> Tried {
    tcp(ELSEWHERE.into(), 22)
}

pub(super) fn direct_tcp_fast_open(_: &Scene) -> Tried {
    const FAST_OPEN: i32 = 0x2000_0000; // MSG_FASTOPEN
    let to = SocketAddr::from((ELSEWHERE, 443));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    let sent = socket.send_to_with_flags(b"x", &SockAddr::from(to), FAST_OPEN);
    connected(&socket, to, sent.map(drop))
}

pub(super) fn metadata_ipv4(_: &Scene) -> Tried {
    tcp(METADATA.into(), METADATA_PORT)
}

pub(super) fn metadata_ipv6(scene: &Scene) -> Tried {
    by_ipv6(scene, tcp(METADATA_V6.into(), METADATA_PORT))
}

/// Finds an interface other than `lo`.
pub(super) fn interface_other_than_lo(scene: &Scene) -> Tried {
    first_in(scene, "/proc/net/dev", 2, |line| {
        let name = line.split_once(':')?.0.trim();
        (name != "lo").then_some(name)
    })
}

/// Finds a route in the IPv4 table. The table is empty if loopback is the only interface.
pub(super) fn route(scene: &Scene) -> Tried {
    first_in(scene, "/proc/net/route", 1, |line| Some(line.trim()))
}

/// Returns the first match of `pick` in a table of the kernel, after `heading` lines. If the table cannot be read, the
/// probe proves nothing.
fn first_in(
    scene: &Scene,
    path: &str,
    heading: usize,
    pick: impl Fn(&str) -> Option<&str>,
) -> Tried {
    let table = fs::read_to_string(path);
    let Ok(table) = table else {
        return Ok(Observation::Broken(format!("cannot read {path}")));
    };
    let none = format!("{path} has no entry of this kind");
    match table.lines().skip(heading).find_map(pick) {
        Some(found) => reached(found),
        None if scene.side == Side::Outside => Ok(Observation::Absent(none)),
        None => refused(none),
    }
}
