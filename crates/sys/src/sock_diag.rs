//! Lists sockets with their owner and memory (`sock_diag(7)`).
use std::fs::File;
use std::io;
use std::net::SocketAddrV4;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::SockProtocol;

use super::netlink::{Netlink, attribute, field};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `TCP_LISTEN`, as a bit in a set of states.
const LISTENING: u32 = 1 << 10;
/// `TCP_ESTABLISHED`, `TCP_SYN_RECV`, and `TCP_CLOSE_WAIT`: connections that the process at this end
/// has not closed, even if the other end has.
const OPEN: u32 = 1 << 1 | 1 << 3 | 1 << 8;
/// Offsets of the port, the address and the user id in an `inet_diag_msg`.
const PORT_AT: usize = 4;
const ADDRESS_AT: usize = 8;
const UID_AT: usize = 64;
/// Length of an `inet_diag_msg`.
const MESSAGE: usize = 72;
/// `INET_DIAG_SKMEMINFO`.
const MEMORY: u16 = 7;
/// `SK_MEMINFO_RMEM_ALLOC`, `SK_MEMINFO_FWD_ALLOC`, `SK_MEMINFO_WMEM_QUEUED`.
const HELD: [usize; 3] = [0, 4, 5];

/// Returns the user id of the TCP socket that listens at exactly `address` in the network namespace
/// of the calling thread.
///
/// # Errors
/// Returns the error of the netlink socket, or `InvalidData` if an answer is truncated.
pub fn listener_uid(address: SocketAddrV4) -> io::Result<Option<u32>> {
    let uids = uids_at(address, LISTENING)?;
    Ok(uids.last().copied())
}

/// Returns the number of connections to `address` that the listening process has not closed,
/// including connections that it has not accepted yet.
///
/// # Errors
/// Returns the error of the netlink socket, or `InvalidData` if an answer is truncated.
pub fn open_connections(address: SocketAddrV4) -> io::Result<usize> {
    Ok(uids_at(address, OPEN)?.len())
}

/// Returns the user ids of the sockets at exactly `address` in one of these states.
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

/// Opens a netlink socket that lists the sockets of another network namespace.
///
/// # Errors
/// Returns the error of `setns(2)` or of the netlink socket.
pub fn open_in(namespace: File) -> io::Result<Netlink> {
    // Only the calling thread enters a namespace, and this thread ends.
    let opened = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        open()
    });
    opened.join().unwrap_or_else(|_| {
        Err(io::Error::other(
            "the thread in the network namespace panicked",
        ))
    })
}

/// Returns the kernel memory of a namespace's TCP sockets in bytes, as the kernel accounts for it.
///
/// # Errors
/// Returns the error of the netlink socket, or `InvalidData` if an answer is truncated.
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

/// Returns the memory of one socket: received, pre-allocated, and waiting to be sent. A socket
/// without the memory attribute, as in `TIME_WAIT`, uses none.
pub(super) fn memory_of(body: &[u8]) -> io::Result<u64> {
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

/// Builds an `inet_diag_req_v2` for all TCP sockets of a family in `states`, with the attributes in
/// `extensions`.
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
        // The same port at another address is a different socket.
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
        // Only root can enter a namespace, even its own.
        let netlink = open_in(namespace).or_else(|_| open()).unwrap();
        let before = tcp_memory(&netlink).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        sender.set_nonblocking(true).unwrap();
        let sent = sender.write(&vec![1; 1 << 20]).unwrap() as u64;
        assert!(sent > 100_000, "{sent}");
        // Other tests have sockets too, but never a megabyte of memory.
        let more = tcp_memory(&netlink).unwrap() - before;
        assert!(more >= sent, "{more} for {sent}");
    }
}
