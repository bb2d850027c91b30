//! Sockets as the kernel lists them: whose they are, and what memory they hold (`sock_diag(7)`).
use std::fs::File;
use std::io;
use std::net::SocketAddrV4;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::SockProtocol;

use super::netlink::{Netlink, attribute, field};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `TCP_LISTEN`, as a set of states.
const LISTENING: u32 = 1 << 10;
/// `TCP_ESTABLISHED`, `TCP_SYN_RECV` and `TCP_CLOSE_WAIT`: connections that the process at this end has not closed, also
/// when the other end has.
const OPEN: u32 = 1 << 1 | 1 << 3 | 1 << 8;
/// Where in an `inet_diag_msg` the port, the address and the user id of a socket are.
const PORT_AT: usize = 4;
const ADDRESS_AT: usize = 8;
const UID_AT: usize = 64;
/// Length of an `inet_diag_msg`.
const MESSAGE: usize = 72;
/// `INET_DIAG_SKMEMINFO`.
const MEMORY: u16 = 7;
/// `SK_MEMINFO_RMEM_ALLOC`, `SK_MEMINFO_FWD_ALLOC`, `SK_MEMINFO_WMEM_QUEUED`.
const HELD: [usize; 3] = [0, 4, 5];

/// The user id that the TCP socket which listens at exactly `address` belongs to, in the network
/// namespace of the calling thread.
///
/// # Errors
/// Those of the netlink socket, and an answer that is cut short.
pub fn listener_uid(address: SocketAddrV4) -> io::Result<Option<u32>> {
    let uids = uids_at(address, LISTENING)?;
    Ok(uids.last().copied())
}

/// How many connections to `address` the process that listens there has not closed. Those that it has yet to accept are
/// among them.
///
/// # Errors
/// Those of the netlink socket, and an answer that is cut short.
pub fn open_connections(address: SocketAddrV4) -> io::Result<usize> {
    Ok(uids_at(address, OPEN)?.len())
}

/// The user ids of the sockets at exactly `address` that are in one of these states.
fn uids_at(address: SocketAddrV4, states: u32) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    let request = request(libc::AF_INET, 0, states);
    open()?.list(BY_FAMILY, &request, |body| {
        if u16::from_be_bytes(field(body, PORT_AT)?) == address.port()
            && field::<4>(body, ADDRESS_AT)? == address.ip().octets()
        {
            found.push(u32::from_ne_bytes(field(body, UID_AT)?));
        }
        Ok(())
    })?;
    Ok(found)
}

/// A socket that lists the sockets of another network namespace.
///
/// # Errors
/// Those of `setns(2)` and of the netlink socket.
pub fn open_in(namespace: File) -> io::Result<Netlink> {
    // A thread enters a namespace for itself alone, and this one ends.
    let opened = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        open()
    });
    opened
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
}

/// Bytes that the TCP sockets of a namespace hold in the kernel, as it accounts them.
///
/// # Errors
/// Those of the netlink socket, and an answer that is cut short.
pub fn tcp_memory(netlink: &Netlink) -> io::Result<u64> {
    let mut total = 0;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let request = request(family, 1 << (MEMORY - 1), !0);
        netlink.list(BY_FAMILY, &request, |body| {
            total += memory_of(body)?;
            Ok(())
        })?;
    }
    Ok(total)
}

/// What one socket holds: received, allocated ahead, and waiting to be sent. One that has no attribute
/// of its memory, as in `TIME_WAIT`, has none.
fn memory_of(body: &[u8]) -> io::Result<u64> {
    let attributes = body.get(MESSAGE..).unwrap_or_default();
    let Some(value) = attribute(attributes, MEMORY)? else {
        return Ok(0);
    };
    let number = |at: usize| Ok(u64::from(u32::from_ne_bytes(field(value, 4 * at)?)));
    HELD.into_iter().map(number).sum()
}

fn open() -> io::Result<Netlink> {
    Netlink::open(SockProtocol::NetlinkSockDiag)
}

/// `inet_diag_req_v2`: all TCP sockets of a family in one of the states, with the attributes that
/// `extensions` names.
fn request(family: libc::c_int, extensions: u8, states: u32) -> Vec<u8> {
    const ID: usize = 48;
    let family = u8::try_from(family).unwrap_or_default();
    let protocol = u8::try_from(libc::IPPROTO_TCP).unwrap_or_default();
    let mut bytes = vec![family, protocol, extensions, 0];
    bytes.extend(states.to_ne_bytes());
    bytes.extend([0; ID]);
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn listener_is_found_as_long_as_it_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
            panic!("an IPv4 address");
        };
        let me = nix::unistd::geteuid().as_raw();
        assert_eq!(listener_uid(address).unwrap(), Some(me));
        // The same port of another address is somebody else's.
        let other = SocketAddrV4::new([127, 0, 0, 9].into(), address.port());
        assert_eq!(listener_uid(other).unwrap(), None);
        drop(listener);
        assert_eq!(listener_uid(address).unwrap(), None);
    }

    #[test]
    fn connection_counts_until_the_process_that_listens_closes_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
            panic!("an IPv4 address");
        };
        assert_eq!(open_connections(address).unwrap(), 0);
        let client = TcpStream::connect(address).unwrap();
        assert_eq!(open_connections(address).unwrap(), 1);
        let (accepted, _) = listener.accept().unwrap();
        drop(client);
        assert_eq!(open_connections(address).unwrap(), 1);
        drop(accepted);
        assert_eq!(open_connections(address).unwrap(), 0);
    }

    #[test]
    fn memory_is_what_the_sockets_hold() {
        let namespace = File::open("/proc/self/ns/net").unwrap();
        // Only root enters a namespace, its own too.
        let netlink = open_in(namespace).or_else(|_| open()).unwrap();
        let before = tcp_memory(&netlink).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        sender.set_nonblocking(true).unwrap();
        let sent = sender.write(&vec![1; 1 << 20]).unwrap() as u64;
        assert!(sent > 100_000, "{sent}");
        // Other tests have sockets, too: never a megabyte.
        let more = tcp_memory(&netlink).unwrap() - before;
        assert!(more >= sent, "{more} for {sent}");
    }
}
