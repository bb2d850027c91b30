//! Reserves ports on the host's loopback for Pipelock before it listens there.
//!
//! The supervisor binds a socket to each port and does not listen. The kernel then does not assign the port to another
//! process that binds to port 0. Pipelock can still bind the port, because both sockets set `SO_REUSEADDR`. A process
//! that binds to exactly this port with `SO_REUSEADDR` can still take it first. [`start`](super::start) therefore
//! checks the owner of the socket.
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// One reserved port.
#[derive(Debug)]
pub struct HeldPort {
    address: SocketAddrV4,
    _socket: Socket,
}

impl HeldPort {
    fn any() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
        // The option is set after the bind. If the option were set before, the kernel could choose
        // a port that another process has reserved in the same way.
        socket.set_reuse_address(true)?;
        let address = socket
            .local_addr()?
            .as_socket_ipv4()
            .ok_or_else(|| io::Error::other("an IPv4 socket has no IPv4 address"))?;
        Ok(Self {
            address,
            _socket: socket,
        })
    }

    /// Returns the address of the port.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }
}

/// The ports of one Pipelock.
#[derive(Debug)]
pub struct Ports {
    /// Port of the proxy, `/fetch`, `/ws`, and `/health`.
    pub proxy: HeldPort,
    /// Port of `/metrics` and `/stats`.
    pub metrics: HeldPort,
    /// Port of the kill switch. Its token is random for each run.
    pub kill_switch: HeldPort,
}

impl Ports {
    /// Reserves three ports that the kernel chooses.
    ///
    /// # Errors
    /// Fails if no port or descriptor is free.
    pub fn hold() -> io::Result<Self> {
        Ok(Self {
            proxy: HeldPort::any()?,
            metrics: HeldPort::any()?,
            kill_switch: HeldPort::any()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn held_port_accepts_a_listener_and_is_not_given_to_others() {
        let port = HeldPort::any().unwrap();
        // The library sets SO_REUSEADDR, as Go does.
        let listener = TcpListener::bind(port.address()).unwrap();
        assert_eq!(listener.local_addr().unwrap(), port.address().into());
        assert!(TcpListener::bind(port.address()).is_err());
        let plain = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert!(
            plain
                .bind(&SocketAddr::from(port.address()).into())
                .is_err()
        );
    }
}
