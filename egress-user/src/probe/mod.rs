//! Tries, as the agent and inside its cage, what the boundary says it refuses.
//!
//! The results are facts of this run: `denied` means that the attempt was made here and failed.
pub mod model;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};

use model::{Outcome, ProbeResult};

/// An address of the documentation range: no packet to it leaves, and none would be answered.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 53));
/// Where a container engine listens.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// Names of all probes, in the order of the results.
pub const NAMES: [&str; 10] = [
    "raw_socket_ipv4",
    "raw_socket_ipv6",
    "packet_socket",
    "vsock_socket",
    "mptcp_socket",
    "dns_udp",
    "udp",
    "interface_other_than_lo",
    "route",
    "docker_socket",
];

/// Makes every attempt.
pub fn all() -> Vec<ProbeResult> {
    let udp = |port| {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?
            .send_to(b"egress", SocketAddr::new(ELSEWHERE, port))
            .map(|sent| format!("sent {sent} bytes"))
    };
    vec![
        result(
            "raw_socket_ipv4",
            socket(Domain::IPV4, Type::RAW, Protocol::ICMPV4),
        ),
        result(
            "raw_socket_ipv6",
            socket(Domain::IPV6, Type::RAW, Protocol::ICMPV6),
        ),
        result(
            "packet_socket",
            socket(Domain::PACKET, Type::RAW, Protocol::from(0)),
        ),
        result(
            "vsock_socket",
            socket(Domain::VSOCK, Type::STREAM, Protocol::from(0)),
        ),
        result(
            "mptcp_socket",
            socket(Domain::IPV4, Type::STREAM, Protocol::MPTCP),
        ),
        result("dns_udp", udp(53)),
        result("udp", udp(443)),
        result("interface_other_than_lo", other_interface()),
        result("route", route()),
        result("docker_socket", unix_socket(Path::new(DOCKER_SOCKET))),
    ]
}

fn result(name: &str, attempt: io::Result<String>) -> ProbeResult {
    let (outcome, detail) = match attempt {
        Ok(reached) => (Outcome::Reachable, reached),
        Err(error) => (Outcome::Denied, error.to_string()),
    };
    ProbeResult {
        name: name.to_owned(),
        outcome,
        detail,
        control: None,
    }
}

fn socket(domain: Domain, kind: Type, protocol: Protocol) -> io::Result<String> {
    Socket::new(domain, kind, Some(protocol)).map(|_| String::from("socket made"))
}

fn unix_socket(path: &Path) -> io::Result<String> {
    UnixStream::connect(path).map(|_| format!("connected to {}", path.display()))
}

/// Names an interface that is not `lo`.
fn other_interface() -> io::Result<String> {
    first_in("/proc/net/dev", 2, |line| {
        let name = line.split_once(':')?.0.trim();
        (name != "lo").then_some(name)
    })
}

/// Names a route of the IPv4 table, which is empty with nothing but loopback.
fn route() -> io::Result<String> {
    first_in("/proc/net/route", 1, |line| Some(line.trim()))
}

/// What `pick` finds first in a table of the kernel, after `heading` lines. A table that cannot be
/// read proves nothing, and is told like a hole.
fn first_in(path: &str, heading: usize, pick: impl Fn(&str) -> Option<&str>) -> io::Result<String> {
    let table = match std::fs::read_to_string(path) {
        Ok(table) => table,
        Err(error) => return Ok(format!("cannot read {path}: {error}")),
    };
    match table.lines().skip(heading).find_map(pick) {
        Some(found) => Ok(found.to_owned()),
        None => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{path} has none"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_that_cannot_be_read_shows_nothing_closed() {
        let outcome = |attempt| result("x", attempt).outcome;
        let absent = first_in("/proc/net/no-such-table", 0, |line| Some(line));
        assert_eq!(outcome(absent), Outcome::Reachable);
        let empty = first_in("/proc/self/stat", 1, |_| None);
        assert_eq!(outcome(empty), Outcome::Denied);
    }
}
