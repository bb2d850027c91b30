//! Brings up the loopback device of a fresh network namespace and gives it addresses.
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;

const IFNAMSIZ: usize = libc::IFNAMSIZ;

// `<linux/sockios.h>`; libc has them in another type than its own ioctl takes, where that is musl's.
const SIOCSIFFLAGS: libc::Ioctl = 0x8914;
const SIOCSIFADDR: libc::Ioctl = 0x8916;
const SIOCSIFNETMASK: libc::Ioctl = 0x891c;

fn interface_request(name: &[u8]) -> libc::ifreq {
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request
        .ifr_name
        .iter_mut()
        .zip(name.iter().take(IFNAMSIZ - 1))
    {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request
}

fn ioctl<T>(socket: &UdpSocket, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: each caller passes the argument structure that the request is defined for.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), request, std::ptr::from_mut(argument)) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn sockaddr_in(address: Ipv4Addr) -> libc::sockaddr {
    let address = libc::sockaddr_in {
        sin_family: 2, // AF_INET
        sin_port: 0,
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(address.octets()),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: sockaddr and sockaddr_in are both 16 plain bytes (netdevice(7)).
    unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address) }
}

/// Sets `lo` up: 127.0.0.1 and `::1` appear by themselves.
///
/// # Errors
/// Those of `ioctl(SIOCSIFFLAGS)`; see netdevice(7).
pub fn loopback_up() -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut request = interface_request(b"lo");
    let up = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = i16::try_from(up).unwrap_or_default();
    ioctl(&socket, SIOCSIFFLAGS, &mut request)
}

/// Adds an IPv4 address to `lo`, /32, under the alias of this number.
///
/// # Errors
/// Those of `ioctl(SIOCSIFADDR)`.
pub fn add_loopback_v4(alias: u8, address: Ipv4Addr) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut request = interface_request(format!("lo:{alias}").as_bytes());
    request.ifr_ifru.ifru_addr = sockaddr_in(address);
    ioctl(&socket, SIOCSIFADDR, &mut request)?;
    request.ifr_ifru.ifru_netmask = sockaddr_in(Ipv4Addr::BROADCAST);
    ioctl(&socket, SIOCSIFNETMASK, &mut request)
}

/// `struct in6_ifreq` of `<linux/ipv6.h>`.
#[repr(C)]
struct In6Request {
    address: [u8; 16],
    prefix_length: u32,
    interface: i32,
}

/// Adds an IPv6 address to `lo`, /128.
///
/// # Errors
/// `EAFNOSUPPORT` on a kernel without IPv6, `EACCES` or `EPERM` where it is disabled.
pub fn add_loopback_v6(address: Ipv6Addr) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    let mut request = In6Request {
        address: address.octets(),
        prefix_length: 128,
        interface: 1,
    };
    ioctl(&socket, SIOCSIFADDR, &mut request)
}
