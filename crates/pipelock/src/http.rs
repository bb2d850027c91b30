//! Sends a GET request over the host's loopback with limits on time and size.
use std::io::{self, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// Size limit of an answer.
const BYTES: u64 = 4 << 20;

/// The kernel program on the mediator's cgroup. The program admits only connections from the relay
/// and from recorded ports.
pub trait Gate: std::fmt::Debug {
    /// Admits connections from this loopback port, or stops admitting them.
    ///
    /// # Errors
    /// Fails if the kernel's map cannot be written.
    fn note(&mut self, port: u16, may_call: bool) -> io::Result<()>;
}

/// Sends the request and returns the status and the body of the answer.
pub(super) fn get(
    address: SocketAddrV4,
    path: &str,
    within: Duration,
    gate: &mut dyn Gate,
) -> io::Result<(u16, Vec<u8>)> {
    let deadline = Instant::now() + within;
    let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.bind(&SocketAddrV4::new(*address.ip(), 0).into())?;
    let local = socket.local_addr()?.as_socket_ipv4();
    let port = local.map(|local| local.port()).unwrap_or_default();
    gate.note(port, true)?;
    // While the socket is bound to the port, no other process can connect from this port.
    let answer = socket
        .connect_timeout(&SocketAddr::V4(address).into(), within)
        .and_then(|()| ask(&socket.try_clone()?.into(), address, path, within, deadline));
    gate.note(port, false)?;
    answer
}

fn ask(
    mut stream: &TcpStream,
    address: SocketAddrV4,
    path: &str,
    within: Duration,
    deadline: Instant,
) -> io::Result<(u16, Vec<u8>)> {
    stream.set_write_timeout(Some(within))?;
    // With HTTP/1.0, the answer is not chunked and ends with the connection.
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
