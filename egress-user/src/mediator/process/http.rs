//! One GET on the host's loopback, bounded in time and length.
use std::io::{self, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::sys::process::made_in_cgroup;

/// The longest answer that is read.
const BYTES: u64 = 4 << 20;

/// Status and body of the answer. The gate on the mediator lets only the relay's cgroup in, so that is
/// where the socket for its proxy port has to be made.
///
/// # Order
/// With a cgroup, while this process has one thread.
pub(super) fn get(
    address: SocketAddrV4,
    path: &str,
    within: Duration,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<(u16, Vec<u8>)> {
    let deadline = Instant::now() + within;
    let socket = || Socket::new(Domain::IPV4, Type::STREAM.cloexec(), Some(Protocol::TCP));
    let socket = match cgroup {
        Some(cgroup) => made_in_cgroup(cgroup, || socket().map(Into::into))?.into(),
        None => socket()?,
    };
    socket.connect_timeout(&SocketAddr::V4(address).into(), within)?;
    let mut stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(within))?;
    // HTTP/1.0: the answer comes in one piece and ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        stream.set_read_timeout(Some(left))?;
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        answer.extend(buffer.get(..length).unwrap_or_default());
        if u64::try_from(answer.len()).unwrap_or(u64::MAX) > BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the answer is too long",
            ));
        }
    }
    parse(&answer)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(answer).ok()? else {
        return None;
    };
    Some((response.code?, answer.get(head..)?.to_vec()))
}
